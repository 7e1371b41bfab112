"""What is removed while nobody looks, and what never is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest

from airflow_provider_azureml_classic.server.blobs.store import BlobStore
from airflow_provider_azureml_classic.server.models import janitor as janitor_module
from airflow_provider_azureml_classic.server.models.janitor import Janitor
from airflow_provider_azureml_classic.server.models.pins import Pins
from airflow_provider_azureml_classic.server.models.store import ModelStore
from airflow_provider_azureml_classic.server.settings import load_secrets
from airflow_provider_azureml_classic.server.state import history
from airflow_provider_azureml_classic.server.state.database import Database
from airflow_provider_azureml_classic.server.state.endpoint_store import Store
from airflow_provider_azureml_classic.server.state.engine import checked_url
from airflow_provider_azureml_classic.server.state.peers import Peers
from tests.support.postgres import Cluster
from tests.support.service import Clock, Service

CIPHER = "Y2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2M="


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of each kind."""
    url = f"sqlite:///{tmp_path / 'state.db'}"
    if request.param == "postgresql":
        url = checked_url(request.getfixturevalue("postgres").new_database())
    made = Database(url, CIPHER)
    yield made
    made.close()


@pytest.mark.slow
def test_a_pinned_model_stays(database: Database) -> None:
    """Of an endpoint or not: while it is pinned its file is not removed, afterwards it is."""
    pins = Pins(database, Peers(database))
    removed: list[str] = []
    with pins.pinned() as pin, pins.pinned() as another:
        pin("a" * 64)
        another("a" * 64)
        assert not pins.remove_unused("a" * 64, removed.append)
    assert pins.remove_unused("a" * 64, removed.append)
    assert removed == ["a" * 64]


@pytest.mark.slow
def test_pins_are_seen_by_the_others(postgres: Cluster) -> None:
    """Two servers: neither removes what the other has pinned, unless that one has ended."""
    url = checked_url(postgres.new_database())
    databases = [Database(url, CIPHER) for _ in range(2)]
    first, second = (Peers(one) for one in databases)
    mine, theirs = Pins(databases[0], first), Pins(databases[1], second)
    with mine.pinned() as pin:
        pin("a" * 64)
        assert not theirs.remove_unused("a" * 64, lambda _: None)
        first.close()
        assert theirs.remove_unused("a" * 64, lambda _: None)
    second.close()
    for one in databases:
        one.close()


def test_a_replaced_model_is_removed_at_the_second_look(
    service_dir: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader of a moment ago may still want its file: the first look only notes it; what the history keeps stays."""
    service = Service(service_dir, clock, monkeypatch)
    service.client.add_endpoint(service.scoring, "mine")
    for name in ("three", "ten"):
        assert service.patch("mine", {"RelativeLocation": f"models/{name}.ilearner"}).status == 200
    service.close()
    monkeypatch.setattr(janitor_module, "INTERVAL", 0.0)
    database = Database(service.settings.database_url, service.settings.cipher_key)
    store, models, peers = Store(database), ModelStore(service_dir / "models"), Peers(database)
    blobs = BlobStore(service_dir / "blobs", service.settings.account)
    janitor = Janitor(store, models, blobs, Pins(database, peers), peers, lambda: True)
    assert store.digests() == models.digests()
    monkeypatch.setattr(history, "KEPT_MODELS", 1)
    in_place = store.digests()
    assert in_place < models.digests()
    janitor.clean()
    assert in_place < models.digests()
    janitor.clean()
    assert in_place == models.digests()
    database.close()


def test_first_starts_at_once_have_the_same_secrets(tmp_path: Path) -> None:
    """Eight servers find no secrets in one folder: all end up with those of the fastest, and nothing else is there."""
    barrier = threading.Barrier(8)

    def start(_: int) -> object:
        barrier.wait()
        return load_secrets(tmp_path, {})

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(start, range(8)))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["secrets.json"]


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"token": "t"}', '{"token": null}', "[" * 100_000])
def test_damaged_secrets_are_not_made_anew(tmp_path: Path, content: str) -> None:
    """A new key would open nothing that is encrypted; the file stays as it is, to be looked at and restored."""
    path = tmp_path / "secrets.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"secrets\.json is damaged"):
        load_secrets(tmp_path, {})
    assert path.read_text() == content


def test_a_link_to_nowhere_is_no_first_start(tmp_path: Path) -> None:
    """Nothing can be written in its place, and what it led to may come back."""
    path = tmp_path / "secrets.json"
    for target in (path, tmp_path / "away"):
        path.symlink_to(target)
        with pytest.raises(OSError, match=r"secrets\.json"):
            load_secrets(tmp_path, {})
        path.unlink()


@pytest.mark.parametrize("value", [None, "", 5])
def test_no_secret_is_made_of_what_is_none(tmp_path: Path, value: object) -> None:
    """Of the file's members each is needed, unless a variable gives it."""
    whole = asdict(load_secrets(tmp_path, {}))
    path = tmp_path / "secrets.json"
    path.write_text(json.dumps({**whole, "token": value}))
    with pytest.raises(ValueError, match=r"it has no token\. Restore it, or give AZUREML_CLASSIC_TOKEN"):
        load_secrets(tmp_path, {})
    assert load_secrets(tmp_path, {"AZUREML_CLASSIC_TOKEN": "given"}).cipher_key == whole["cipher_key"]


def test_secrets_can_come_from_the_environment(tmp_path: Path) -> None:
    """Two folders, the same variables: the same secrets. One that cannot be used is named, not shown."""
    names = ("WORKSPACE", "TOKEN", "ACCOUNT_KEY", "CIPHER_KEY")
    given = {f"AZUREML_CLASSIC_{name}": value for name, value in zip(names, ("w", "t", "a2V5", CIPHER), strict=True)}
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    assert len({load_secrets(folder, given) for folder in folders}) == 1
    for name in ("AZUREML_CLASSIC_ACCOUNT_KEY", "AZUREML_CLASSIC_CIPHER_KEY"):
        with pytest.raises(ValueError, match=name) as refused:
            load_secrets(tmp_path, {name: "not-usable"})
        assert "not-usable" not in str(refused.value)


SCRATCH = """
import sys, tempfile
from airflow_provider_azureml_classic.server.folders import scratch_folder
with scratch_folder() as folder:
    tempfile.mkdtemp()
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_temporary_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    """By the next one that starts; those of a living one stay, and one that ends removes its own."""
    # Not below the test's own folder, whose path is long.
    base = Path(tempfile.mkdtemp(prefix="scratch-"))

    def start() -> tuple[subprocess.Popen[str], Path]:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRATCH],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(base)},
        )
        assert process.stdout is not None
        return process, Path(process.stdout.readline().strip())

    (killed, first), (living, second) = start(), start()
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert len(list(first.iterdir())) == 2
    third = start()
    assert {path.name for path in base.iterdir()} == {second.name, third[1].name}
    for process in (living, third[0]):
        process.communicate("")
    assert list(base.iterdir()) == []
    base.rmdir()
