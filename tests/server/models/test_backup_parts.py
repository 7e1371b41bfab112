"""Backups of a small directory that is made by hand: what is in them, what is refused, and in which words."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_azureml_classic import __version__
from airflow_provider_azureml_classic.server.blobs.store import BLOCKS_FOLDER, TEMPORARY_FOLDER
from airflow_provider_azureml_classic.server.models import backup
from airflow_provider_azureml_classic.server.models.backup import back_up, main, restore
from airflow_provider_azureml_classic.server.models.store import TRASH


def digest_of(content: bytes) -> str:
    """Its SHA-256."""
    return sha256(content).hexdigest()


def model(content: bytes) -> str:
    """Name of a model's file."""
    return f"{digest_of(content)}.ilearner"


A, B = digest_of(b"a"), digest_of(b"b")
MODELS = {f"models/{model(content)}" for content in (b"a", b"b", b"c")}
OTHERS = {"state.db", "secrets.json", "database.json"}
BLOBS = {"blobs/data/a.csv", f"blobs/data/{TEMPORARY_FOLDER}"}


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A directory whose endpoints have two models, one of them in the trash; another model is nobody's."""
    folder = tmp_path / "data dir"
    for name, content in {
        f"models/{model(b'a')}": b"a",
        f"models/{TRASH}/{model(b'b')}": b"b",
        f"models/{model(b'c')}": b"c",
        "models/.me-1": b"half",
        "blobs/data/a.csv": b"1",
        f"blobs/data/{TEMPORARY_FOLDER}": b"a blob of this name",
        f"blobs/{TEMPORARY_FOLDER}/x": b"half",
        f"blobs/{BLOCKS_FOLDER}/x": b"a block",
        "secrets.json": b"s",
        "database.json": b"d",
        "lock": b"",
        "notes.txt": b"somebody's",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    with closing(sqlite3.connect(folder / "state.db")) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE resources (digest)")
        database.executemany("INSERT INTO resources VALUES (?)", [(A,), (B,), (A,)])
        database.commit()
    return folder


def names(folder: Path) -> set[str]:
    """All files of a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("options", "left_out"),
    [
        ([], set()),
        (["--without-blobs"], BLOBS),
        (["--without-database"], {"state.db"}),
        (["--without-blobs", "--without-database"], {"state.db", *BLOBS}),
    ],
)
def test_what_a_backup_has_comes_back(data_dir: Path, tmp_path: Path, options: list[str], left_out: set[str]) -> None:
    """Models of the trash among the others, nothing that is half written; only its owner may read any of it."""
    copy, again = tmp_path / "new" / "er" / "copy", tmp_path / "again"
    told = main(["backup", *options, "--data-dir", str(data_dir), str(copy)])
    files = (MODELS | OTHERS | BLOBS) - left_out
    assert told == f"{copy} has 3 models, {len(files)} files in all, and every key: keep it under lock."
    assert names(copy) == {*files, "backup.json"}
    contents = json.loads((copy / "backup.json").read_text())
    assert contents == {"version": __version__, "files": {n: digest_of((copy / n).read_bytes()) for n in files}}
    assert list(contents["files"]) == sorted(files)
    again.mkdir()
    told = main(["restore", "--data-dir", str(again), str(copy)])
    assert told.startswith(f"{again} has the {len(files)} files of {copy}. Start the server with it.")
    assert ("pg_restore" in told) is ("state.db" in left_out)
    assert told.endswith("it.") is ("state.db" not in left_out)
    assert names(again) == files
    assert all((again / name).read_bytes() == (copy / name).read_bytes() for name in files)
    for folder in (copy, again):
        assert {path.stat().st_mode & 0o777 for path in [folder, *folder.rglob("*")] if path.is_dir()} == {0o700}
        assert {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()} == {0o600}
    assert {path.name for path in tmp_path.iterdir()} == {"data dir", "new", "again"}
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]


def test_without_options_all_is_copied(data_dir: Path, tmp_path: Path) -> None:
    """Blobs and database; the copy of the database is one file."""
    back_up(data_dir, tmp_path / "copy")
    assert names(tmp_path / "copy") == {*MODELS, *OTHERS, *BLOBS, "backup.json"}
    with closing(sqlite3.connect(tmp_path / "copy" / "state.db")) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert database.execute("SELECT count(*) FROM resources").fetchone() == (3,)


def test_what_a_directory_lacks_is_left_out(data_dir: Path, tmp_path: Path) -> None:
    """One of an earlier version remembers no database, and secrets may come from the environment."""
    for name in ("secrets.json", "database.json"):
        (data_dir / name).unlink()
    shutil.rmtree(data_dir / "blobs")
    back_up(data_dir, tmp_path / "copy")
    assert names(tmp_path / "copy") == {*MODELS, "state.db", "backup.json"}


@pytest.mark.parametrize(
    ("command", "meaning"),
    [("backup", "copy the data directory, while the server runs"), ("restore", "put a copy back")],
)
def test_the_commands_say_what_they_take(command: str, meaning: str, capsys: pytest.CaptureFixture[str]) -> None:
    """And take nothing less."""
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert text.startswith(f"usage: azureml-classic-server {command} [-h] --data-dir DIR")
    assert f"BACKUP {meaning} positional" in text
    assert "BACKUP folder of the copy" in text
    assert ("--without-blobs" in text, "--without-database" in text) == ((command == "backup",) * 2)
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = capsys.readouterr().out
    assert "Copies of a data directory that fit together" in text
    assert meaning in text
    for arguments, lacking in (
        ([command, "b"], "--data-dir"),
        ([command, "--data-dir", "d"], "BACKUP"),
        ([], "command"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
        assert f"the following arguments are required: {lacking}" in capsys.readouterr().err


def damaged(path: Path) -> None:
    """It has other bytes."""
    path.write_bytes(b"x")


def folder(path: Path) -> None:
    """A folder lies in its place."""
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [damaged, Path.unlink, folder])
@pytest.mark.parametrize(("content", "lacks"), [(b"a", True), (b"b", True), (b"c", False)])
def test_a_model_that_is_not_whole(
    data_dir: Path, tmp_path: Path, content: bytes, lacks: bool, damage: Callable[[Path], object]
) -> None:
    """One in place is named, and nothing is left; one that nobody has is left out."""
    (path,) = data_dir.rglob(model(content))
    damage(path)
    if lacks:
        words = (
            f"1 of 2 models in place are missing or damaged in {data_dir}/models, the first is {digest_of(content)}. "
        )
        with pytest.raises(ValueError, match=words):
            back_up(data_dir, tmp_path / "copy")
        assert [path.name for path in tmp_path.iterdir()] == ["data dir"]
    else:
        back_up(data_dir, tmp_path / "copy")
        assert names(tmp_path / "copy" / "models") == {model(b"a"), model(b"b")}


def test_a_model_is_looked_for_again(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few times while one is lacking that an endpoint has, and once if none is."""
    copied, tries = backup._copied, list[str]()

    def late(path: Path, copy: Path) -> bool:
        tries.append(path.stem)
        return (
            tries.count(path.stem) > backup._PASSES - 1 and copied(path, copy) if path.stem == A else copied(path, copy)
        )

    monkeypatch.setattr(backup, "_copied", late)
    back_up(data_dir, tmp_path / "copy", blobs=False)
    assert (tries.count(A), tries.count(B), len(tries)) == (backup._PASSES, 1, backup._PASSES + 2)
    monkeypatch.setattr(backup, "_copied", lambda path, copy: tries.append(path.stem) or False)
    tries.clear()
    back_up(data_dir, tmp_path / "other", database=False)
    assert len(tries) == 3


def test_a_model_may_be_removed_before_it_is_copied(tmp_path: Path) -> None:
    """It is looked for in the other folder then."""
    assert not backup._copied(tmp_path / model(b"a"), tmp_path / "copy")
    assert list(tmp_path.iterdir()) == []


def test_a_blob_may_be_deleted_meanwhile(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are copied."""
    files = backup._files

    def gone(folder: Path) -> list[Path]:
        paths = files(folder)
        (data_dir / "blobs" / "data" / "a.csv").unlink(missing_ok=True)
        return paths

    monkeypatch.setattr(backup, "_files", gone)
    back_up(data_dir, tmp_path / "copy")
    assert names(tmp_path / "copy" / "blobs") == {f"data/{TEMPORARY_FOLDER}"}


def test_a_database_that_is_none(data_dir: Path, tmp_path: Path) -> None:
    """It is named, and why."""
    for content, words in (
        (b"x" * 4096, "cannot be copied: file is not a database"),
        (b"", "cannot be copied: no such table"),
    ):
        (data_dir / "state.db").write_bytes(content)
        for left in data_dir.glob("state.db-*"):
            left.unlink()
        with pytest.raises(ValueError, match=f"The database {data_dir}/state.db {words}"):
            back_up(data_dir, tmp_path / "copy")


def test_a_damaged_database_is_in_no_backup(data_dir: Path, tmp_path: Path) -> None:
    """Its index says something else than its table."""
    with closing(sqlite3.connect(data_dir / "state.db")) as database:
        database.execute("CREATE INDEX i ON resources (digest)")
        database.execute("PRAGMA writable_schema=ON")
        database.execute("UPDATE sqlite_master SET sql = 'CREATE INDEX i ON resources (digest DESC)' WHERE name = 'i'")
        database.commit()
    with pytest.raises(ValueError, match=r"state.db is damaged: .+\. Use an older backup\."):
        back_up(data_dir, tmp_path / "copy")


@pytest.mark.parametrize("name", ["state.db", "lock", "secrets.json", "database.json"])
def test_a_data_directory_is_known_by_any_of_its_files(tmp_path: Path, name: str) -> None:
    """One without a database is told of PostgreSQL."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / name).touch()
    with pytest.raises(
        ValueError, match="no such table" if name == "state.db" else "has no state.db. The database is not"
    ):
        back_up(folder, tmp_path / "copy")


def test_what_is_no_data_directory(tmp_path: Path) -> None:
    """A wrong folder is called that; the right one may be below."""
    (tmp_path / "lock").mkdir()
    for folder, words in ((tmp_path, "has no data of a server in it"), (tmp_path / "none", "is not a folder")):
        said = f"{folder} {words}. Name the folder that the server was started with, its --data-dir."
        with pytest.raises(ValueError, match=f"^{said}$"):
            back_up(folder, tmp_path / "copy")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "lock").touch()
    with pytest.raises(ValueError, match=f" Is it {tmp_path}/data\\?$"):
        back_up(tmp_path, tmp_path / "copy")


def test_where_something_is_nothing_is_put(data_dir: Path, tmp_path: Path) -> None:
    """An empty folder is nothing, a file is something."""
    for name in ("file", "full", "empty"):
        (tmp_path / name).touch() if name == "file" else (tmp_path / name).mkdir()
    (tmp_path / "full" / "x").touch()
    for name in ("file", "full"):
        with pytest.raises(ValueError, match=f"{name} is there already, and not empty"):
            back_up(data_dir, tmp_path / name)
    back_up(data_dir, tmp_path / "empty")


def test_damaged_files_of_a_backup_are_counted(data_dir: Path, tmp_path: Path) -> None:
    """The first is named, and nothing is put back."""
    back_up(data_dir, tmp_path / "copy")
    (tmp_path / "copy" / "state.db").write_bytes(b"x")
    (tmp_path / "copy" / "secrets.json").unlink()
    with pytest.raises(ValueError, match=r"2 files of .*copy are missing or damaged, the first is secrets\.json\."):
        restore(tmp_path / "copy", tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "contents", [None, "", "[]", "{}", '{"files": 1}', '{"files": []}', '{"files": null}', b"\xff"], ids=repr
)
def test_what_is_no_backup(tmp_path: Path, contents: Any) -> None:
    """A folder without its list, or none at all."""
    source = tmp_path / "copy"
    with pytest.raises(ValueError, match="is no backup: it is not a folder"):
        restore(source, tmp_path / "new")
    source.mkdir()
    if contents is not None:
        (source / "backup.json").write_bytes(contents if isinstance(contents, bytes) else contents.encode())
    with pytest.raises(ValueError, match=r"is no backup: its backup\.json is missing or damaged"):
        restore(source, tmp_path / "new")


@pytest.mark.parametrize("name", ["/outside", "../outside", "models/../../outside"])
def test_a_backup_names_no_file_outside(tmp_path: Path, name: str) -> None:
    """Whoever wrote it writes nothing elsewhere."""
    source = tmp_path / "copy"
    source.mkdir()
    (source / "backup.json").write_text(json.dumps({"files": {name: digest_of(b"")}}))
    with pytest.raises(ValueError, match=re.escape(f"is no backup: it names the file {name!r}.")):
        restore(source, tmp_path / "new")
    assert not (tmp_path / "new").exists()
