"""Backups that fit together, made while the server runs, and put back whole or not at all."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.server.__main__ import USAGE, main
from airflow_provider_azureml_classic.server.models import backup
from airflow_provider_azureml_classic.server.models.store import TRASH
from tests.support.service import Clock, Service


@pytest.fixture
def copied(service: Service, scorer: Endpoint, tmp_path: Path) -> Path:
    """A backup of a running service whose endpoint ``mine`` answers 10."""
    assert service.patch("mine", BlobReference("models/ten.ilearner")).status == 200
    (service.settings.data_dir / "secrets.json").write_text("{}")
    service.blobs.set_headers("models", "ten.ilearner", lambda *_: {"x-ms-meta-till": "4"})
    assert main(["backup", "--data-dir", str(service.settings.data_dir), str(tmp_path / "copy")]) == 0
    return tmp_path / "copy"


def test_it_comes_back(
    service: Service, scorer: Endpoint, copied: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was live at the backup is live after it is restored, whatever was changed and lost in between."""
    service.patch("mine", BlobReference("models/twenty.ilearner"))
    service.close()
    folder = service.settings.data_dir
    shutil.rmtree(folder)
    assert main(["restore", "--data-dir", str(folder), str(copied)]) == 0
    assert {path.stat().st_mode & 0o077 for path in folder.rglob("*") if path.is_file()} == {0}
    again = Service(folder, clock, monkeypatch)
    try:
        assert again.slope(scorer) == 10
        assert again.read_blob("models/twenty.ilearner").startswith(b"PK")
        assert (folder / "secrets.json").read_text() == "{}"
        sha256 = again.blobs.properties("models", "ten.ilearner").sha256
        assert again.blobs.headers("models", "ten.ilearner", sha256) == {"x-ms-meta-till": "4"}
    finally:
        again.close()


@pytest.mark.slow
def test_it_fits_together_while_everything_changes(service: Service, scorer: Endpoint, tmp_path: Path) -> None:
    """Backups beside updates and removals: each has every model that its database names."""
    ended = threading.Event()

    def update() -> None:
        for n in range(10_000):
            if ended.is_set():
                return
            service.patch("mine", BlobReference(f"models/{('ten', 'twenty', 'three')[n % 3]}.ilearner"))
            for digest in service.models.digests() - service.store.digests_in_place():
                service.models.remove(digest)

    thread = threading.Thread(target=update, daemon=True)
    thread.start()
    try:
        for n in range(5):
            backup.back_up(service.settings.data_dir, tmp_path / f"copy{n}")
    finally:
        ended.set()
        thread.join(60)
    assert len(list(tmp_path.glob("copy*/backup.json"))) == 5


@pytest.mark.parametrize("back", [False, True], ids=["to the trash", "and back"])
def test_a_model_that_moves_while_it_is_looked_for_is_found(
    service: Service, scorer: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, back: bool
) -> None:
    """Each time just before it would be copied: from the models to the trash, and from there back."""
    models = service.settings.data_dir / "models"
    (trash := models / TRASH).mkdir(exist_ok=True)
    [digest, *_] = service.store.digests_in_place()
    places, moves = [models / f"{digest}.ilearner", trash / f"{digest}.ilearner"], []
    copy = backup.copy_file

    def moved(source: Path, target: Path) -> None:
        if Path(source) == places[0] and len(moves) <= back:
            moves.append(source)
            places[0].rename(places[1])
            places.reverse()
        copy(source, target)

    monkeypatch.setattr(backup, "copy_file", moved)
    backup.back_up(service.settings.data_dir, tmp_path / "copy")
    assert len(moves) == 1 + back
    assert (tmp_path / "copy" / "models" / f"{digest}.ilearner").exists()


def cut(path: Path) -> None:
    """The first half of a file."""
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [cut, Path.unlink], ids=["cut", "deleted"])
@pytest.mark.parametrize("pattern", ["state.db", "models/*", "blobs/models/ten.ilearner", "secrets.json"])
def test_a_damaged_backup_is_not_put_back(copied: Path, tmp_path: Path, pattern: str, damage: Callable) -> None:
    """Each file is compared first; nothing is left where it should have gone."""
    damage(next(copied.glob(pattern)))
    with pytest.raises(ValueError, match="missing or damaged"):
        backup.restore(copied, tmp_path / "new")
    assert not [path for path in tmp_path.iterdir() if "new" in path.name]


def test_a_damaged_model_is_in_no_backup(service: Service, scorer: Endpoint, tmp_path: Path) -> None:
    """A copy that could not be served is none: the message names the model, and no folder is left."""
    for path in (service.settings.data_dir / "models").glob("*.ilearner"):
        cut(path)
    with pytest.raises(ValueError, match="models in place are missing or damaged"):
        backup.back_up(service.settings.data_dir, tmp_path / "copy")
    assert not [path for path in tmp_path.iterdir() if "copy" in path.name]


def test_a_wrong_folder_is_named(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is no data directory is called that, with a guess at the right one, and nothing is said of PostgreSQL."""
    none, quickstart = tmp_path / "none", tmp_path / "quick"
    (quickstart / "data").mkdir(parents=True)
    (quickstart / "data" / "lock").touch()
    for folder, wanted in (
        (none, "is not a folder"),
        (tmp_path, "has no data of a server in it"),
        (quickstart, f"Is it {quickstart / 'data'}?"),
    ):
        assert main(["backup", "--data-dir", str(folder), str(tmp_path / "b")]) == USAGE
        told = capsys.readouterr().err
        assert (wanted in told, "PostgreSQL" in told) == (True, False), told
    assert main(["restore", "--data-dir", str(tmp_path / "new"), str(none)]) == USAGE
    assert "is no backup: it is not a folder." in capsys.readouterr().err
    (copied / backup.CONTENTS).unlink()
    assert main(["restore", "--data-dir", str(tmp_path / "new"), str(copied)]) == USAGE
    assert "backup.json is missing" in capsys.readouterr().err


def test_what_is_there_is_not_overwritten(
    service: Service, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither a backup nor a data directory; and a folder without a database says what PostgreSQL needs."""
    folder = str(service.settings.data_dir)
    assert main(["backup", "--data-dir", folder, str(copied)]) == USAGE
    assert main(["restore", "--data-dir", folder, str(copied)]) == USAGE
    assert capsys.readouterr().err.count("is there already, and not empty") == 2
    used = tmp_path / "used"
    used.mkdir()
    (used / "lock").touch()
    assert main(["backup", "--data-dir", str(used), str(tmp_path / "b")]) == USAGE
    assert "pg_dump" in capsys.readouterr().err
    assert main(["backup", "--data-dir", folder, str(tmp_path / "b"), "--without-database", "--without-blobs"]) == 0
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == [
        "backup.json",
        "database.json",
        "models",
        "secrets.json",
    ]


def test_no_folder_is_copied_into_itself(service: Service, copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A backup in the data directory would be part of the next one, and a directory in a backup of it."""
    folder = service.settings.data_dir
    assert main(["backup", "--data-dir", str(folder), str(folder / "blobs" / "b")]) == USAGE
    assert main(["restore", "--data-dir", str(copied / "new"), str(copied)]) == USAGE
    assert capsys.readouterr().err.count("Name a folder outside it") == 2
    assert not (folder / "blobs" / "b").exists()


@pytest.mark.parametrize("name", ["state.db", "state.db-journal"])
def test_what_would_be_waited_for_is_no_database(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """A FIFO in the place of one of its files is refused by its name, and nothing is left."""
    folder = tmp_path / "data"
    folder.mkdir()
    for file in ("lock", "state.db"):
        (folder / file).touch()
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    assert main(["backup", "--data-dir", str(folder), str(tmp_path / "b")]) == USAGE
    assert f"{name}" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
