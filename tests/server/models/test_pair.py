"""Database and data directory: which belong together, what a start says of the others, and that nothing is removed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from airflow_provider_azureml_classic.server import service as service_module
from airflow_provider_azureml_classic.server.folders import LOCK, in_use
from airflow_provider_azureml_classic.server.models import janitor as janitor_module
from airflow_provider_azureml_classic.server.models import store as store_module
from airflow_provider_azureml_classic.server.models.janitor import Janitor
from airflow_provider_azureml_classic.server.models.pair import REMEMBERED, Pair, _remembered, check_database_file
from airflow_provider_azureml_classic.server.models.store import ModelStore
from airflow_provider_azureml_classic.server.state.database import Database
from airflow_provider_azureml_classic.server.state.tables import identity
from tests.support.service import Clock, Service, declaration

CIPHER = "Y2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2M="
Start = Callable[..., Service]


class Kept(Janitor):
    """The last one that was started."""

    last: Janitor

    def start(self) -> None:
        """Begin, but clean only when a test does."""
        Kept.last = self

    def close(self) -> None:
        """Nothing runs."""


def models_in(data_dir: Path) -> set[str]:
    """Names of all model files, wherever in a data directory."""
    return {path.name for path in (data_dir / "models").rglob("*.ilearner")}


@pytest.fixture
def start(clock: Clock, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Start:
    """Starts services; those that do start are stopped at the end."""

    def started(data_dir: Path, *, adopt: bool = False) -> Service:
        service = Service(data_dir, clock, monkeypatch, adopt=adopt)
        request.addfinalizer(service.close)
        return service

    monkeypatch.setattr(janitor_module, "INTERVAL", 0.0)
    monkeypatch.setattr(service_module, "Janitor", Kept)
    return started


@pytest.fixture
def other_dir(service_dir: Path, tmp_path: Path) -> Path:
    """Another server's data directory, with models of its own."""
    declaration(tmp_path, "Line", "Other Line")
    shutil.copytree(service_dir, tmp_path / "other")
    with closing(sqlite3.connect(tmp_path / "other" / "state.db")) as database:
        database.execute("UPDATE identity SET id = 'another'")
        database.commit()
    (tmp_path / "other" / REMEMBERED).write_text('{"id": "another", "database": "elsewhere"}')
    return tmp_path / "other"


def forget(data_dir: Path) -> None:
    """Make it one of a version that remembered nothing."""
    (data_dir / REMEMBERED).unlink()


def refused(start: Start, data_dir: Path, said: str) -> None:
    """It does not start, says why and how to go on, and removes nothing."""
    before = models_in(data_dir)
    with pytest.raises(ValueError, match=said) as caught:
        start(data_dir)
    assert "--adopt" in str(caught.value)
    assert models_in(data_dir) == before
    assert before


def test_a_directory_remembers_its_database(service_dir: Path) -> None:
    """The database has the same id."""
    remembered = json.loads((service_dir / REMEMBERED).read_text())
    with closing(sqlite3.connect(service_dir / "state.db")) as database:
        assert database.execute("SELECT id FROM identity").fetchall() == [(remembered["id"],)]
    assert remembered["database"].endswith("state.db")
    assert (service_dir / REMEMBERED).stat().st_mode & 0o777 == 0o600


def test_another_database_is_refused(start: Start, service_dir: Path, other_dir: Path) -> None:
    """Its endpoints have other models; both are named."""
    shutil.copy(other_dir / "state.db", service_dir / "state.db")
    refused(start, service_dir, r"was used with the database .*state\.db \(id \w+\), and this one is .*\(id another\)")


@pytest.mark.slow
@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("forgotten", [False, True])
def test_a_missing_or_empty_database_is_refused(start: Start, service_dir: Path, empty: bool, forgotten: bool) -> None:
    """No new one is made where there was one, by a directory's memory or its models."""
    for path in service_dir.glob("state.db*"):
        path.unlink()
    if empty:
        (service_dir / "state.db").touch()
    if forgotten:
        forget(service_dir)
    refused(start, service_dir, r"state\.db is missing or empty, and .* Restore the database")
    assert not (service_dir / "state.db").exists() or empty
    start(service_dir, adopt=True)
    assert models_in(service_dir)


def test_a_missing_database_of_models_elsewhere_is_refused(service_dir: Path) -> None:
    """The models may be in a storage account: the directory remembers all the same."""
    shutil.rmtree(service_dir / "models")
    url = f"sqlite:///{service_dir / 'state.db'}"
    check_database_file(service_dir, url)
    (service_dir / "state.db").unlink()
    with pytest.raises(ValueError, match="Restore the database"):
        check_database_file(service_dir, url)
    forget(service_dir)
    check_database_file(service_dir, url)


@pytest.mark.slow
def test_a_new_database_beside_models_is_refused(start: Start, service_dir: Path, tmp_path: Path) -> None:
    """One that knows no model does not become the database of a directory that has some."""
    fresh = tmp_path / "fresh" / "data"
    fresh.parent.mkdir()
    declaration(fresh.parent, "Line", "Other Line")
    start(fresh)
    with closing(sqlite3.connect(fresh / "state.db")) as database:
        database.execute("DELETE FROM resources")
        database.commit()
    shutil.copy(fresh / "state.db", service_dir / "state.db")
    forget(service_dir)
    refused(start, service_dir, "knows no model. Give the database that was used with this directory")


def test_a_pair_of_an_earlier_version_is_taken_if_it_is_whole(start: Start, service_dir: Path) -> None:
    """Nothing is remembered, and each endpoint's model is there: from now on it is."""
    forget(service_dir)
    start(service_dir)
    assert (service_dir / REMEMBERED).exists()


def test_a_pair_of_an_earlier_version_is_refused_if_a_model_is_missing(start: Start, service_dir: Path) -> None:
    """The endpoint and its model are named; whoever knows better says so."""
    forget(service_dir)
    service = Service(service_dir, Clock(), pytest.MonkeyPatch())
    digest = service.app._workspace._store.endpoint_named(service.scoring, "default").resources[0].digest
    service.close()
    forget(service_dir)
    (service_dir / "models" / f"{digest}.ilearner").unlink()
    refused(start, service_dir, f"1 of 2 models .* endpoint 'default' has {digest}")
    start(service_dir, adopt=True)
    assert (service_dir / REMEMBERED).exists()


def test_a_pair_is_adopted(start: Start, service_dir: Path, other_dir: Path) -> None:
    """Whoever says so gets what he says, and the next start needs no word."""
    shutil.copy(other_dir / "state.db", service_dir / "state.db")
    first = start(service_dir, adopt=True)
    first._stack.close()
    start(service_dir)


@pytest.mark.slow
def test_the_command_says_it(service_dir: Path) -> None:
    """As a program: status 2, one sentence, nothing removed."""
    before = models_in(service_dir)
    for path in service_dir.glob("state.db*"):
        path.unlink()
    command = [sys.executable, "-m", "airflow_provider_azureml_classic.server", "--data-dir", str(service_dir)]
    done = subprocess.run([*command, "--port", "0"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("azureml-classic-server: ")
    assert "--adopt" in done.stderr
    assert models_in(service_dir) == before


# -- what is removed ---------------------------------------------------------------------------------------------------


def unused(service: Service) -> str:
    """Put a model into a service's folder that no endpoint has; returns its digest."""
    digest = hashlib.sha256(b"x").hexdigest()
    (service.settings.data_dir / "models" / f"{digest}.ilearner").write_bytes(b"x")
    return digest


def test_nothing_is_removed_at_a_start(service_dir: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody has, or is half written, stays until the server has run for a while."""
    left = [service_dir / "models" / name for name in (f"{'a' * 64}.ilearner", ".gone-0123")]
    for path in left:
        path.write_bytes(b"x")
    cleaned = []
    monkeypatch.setattr(ModelStore, "clean", lambda *_: cleaned.append("half"))
    monkeypatch.setattr(ModelStore, "remove", lambda *_: cleaned.append("model"))
    service = Service(service_dir, clock, monkeypatch)
    service.close()
    assert cleaned == []
    assert all(path.exists() for path in left)


def test_what_is_removed_waits_in_the_trash(start: Start, service_dir: Path) -> None:
    """For a day, from when it was removed; what is needed again before is taken back."""
    service = start(service_dir)
    models, janitor = service.app._scoring._models, Kept.last
    digest = unused(service)
    os.utime(models.path(digest), (0, 0))
    half = service_dir / "models" / ".gone-0123"
    half.write_bytes(b"x")
    for _ in range(2):
        janitor.clean()
    assert not half.exists()
    assert not models.path(digest).exists()
    (thrown,) = (service_dir / "models" / store_module.TRASH).iterdir()
    janitor.clean()
    assert thrown.exists()
    assert models.file(digest).read_bytes() == b"x"
    models.remove(digest)
    models.empty_trash(time.time() + store_module.TRASH_SECONDS - 60)
    assert thrown.exists()
    models.empty_trash(time.time() + store_module.TRASH_SECONDS + 60)
    assert not thrown.exists()


def test_a_model_is_put_in_place_from_the_trash(tmp_path: Path, trained: Path) -> None:
    """The same file is not written twice."""
    models = ModelStore(tmp_path / "models")
    source = trained / "data" / "blobs" / "models" / "ten.ilearner"
    digest = models.put(source, lambda _: None).digest
    models.remove(digest)
    before = next((tmp_path / "models" / store_module.TRASH).iterdir()).stat().st_ino
    models.put(source, lambda _: None)
    assert models.path(digest).stat().st_ino == before
    assert digest in models.everywhere()


@pytest.mark.parametrize("replaced", ["directory", "database", "memory"])
def test_a_server_whose_directory_was_replaced_removes_nothing(
    service_dir: Path, other_dir: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, replaced: str
) -> None:
    """What is there now is another's: it is left alone, nothing is put in place, and readiness says so."""
    monkeypatch.setattr(janitor_module, "INTERVAL", 0.0)
    monkeypatch.setattr(service_module, "Janitor", Kept)
    with in_use(service_dir, shared=False) as lock:
        service = Service(service_dir, clock, monkeypatch, lock=lock)
        models = service.app._scoring._models
        models.check_writable()
        endpoint = service.client.add_endpoint(service.scoring, "mine")
        assert service.slope(endpoint) == 2
        if replaced == "directory":
            service_dir.rename(service_dir.with_name("away"))
            shutil.copytree(service_dir.with_name("away"), service_dir)
        elif replaced == "database":
            with closing(sqlite3.connect(service_dir / "state.db")) as database:
                database.execute("UPDATE identity SET id = 'another'")
                database.commit()
        else:
            shutil.copy(other_dir / REMEMBERED, service_dir / REMEMBERED)
        digest = unused(service)
        for _ in range(3):
            Kept.last.clean()
        assert models.path(digest).exists()
        with pytest.raises(OSError, match="was replaced"):
            models.check_writable()
        answer = service.patch("mine", service.signed("models/ten.ilearner"))
        assert answer.status == 503
        assert service.slope(endpoint) == 2
        service.close()


# -- storage accounts --------------------------------------------------------------------------------------------------


class Account:
    """A storage account, as far as a pair knows it."""

    def __init__(self, text: str | None = None, digests: Iterable[str] = ()) -> None:
        self.text, self._digests = text, set(digests)

    def remembered(self) -> str | None:
        """What was remembered."""
        return self.text

    def remember(self, text: str) -> None:
        """Remember it."""
        self.text = text

    def digests(self) -> set[str]:
        """The models."""
        return self._digests


@pytest.fixture
def settle(service: Service) -> Callable[..., None]:
    """Settles the pair of a running service, with a storage account."""

    def settled(account: Account, *, adopt: bool = False) -> None:
        models = ModelStore(service.settings.data_dir / "models", vault=account)  # type: ignore[arg-type]
        pair = Pair(service.app._workspace._store._db, service.settings.data_dir)
        pair.settle(models, adopt=adopt)

    return settled


def test_an_account_of_another_database_is_refused(settle: Callable[..., None]) -> None:
    """A clean-up would take all of its models for models of nobody."""
    account = Account('{"id": "another", "database": "elsewhere"}')
    with pytest.raises(ValueError, match=r"storage account .* was used with the database elsewhere"):
        settle(account)
    settle(account, adopt=True)
    settle(account)


def test_a_new_account_is_taken(settle: Callable[..., None]) -> None:
    """It remembers the database from now on."""
    account = Account()
    settle(account)
    assert account.text
    settle(account)


def test_a_new_directory_is_taken_if_the_account_has_the_models(service: Service, settle: Callable[..., None]) -> None:
    """Another machine of the same database begins with nothing."""
    models = service.settings.data_dir / "models"
    digests = ModelStore(models).digests()
    shutil.rmtree(models)
    forget(service.settings.data_dir)
    with pytest.raises(ValueError, match="2 of 2 models"):
        settle(Account())
    settle(Account(digests=digests))


@pytest.fixture
def database(service_dir: Path) -> Iterator[Database]:
    """The database of a prepared directory, opened."""
    opened = Database(f"sqlite:///{service_dir / 'state.db'}", CIPHER)
    yield opened
    opened.close()


def test_what_a_pair_says_of_itself(service_dir: Path, database: Database) -> None:
    """File and id of the database are remembered; a message shows the first letters of the id."""
    with database.write() as connection:
        connection.execute(sa.update(identity).values(id="0123456789abcdef"))
    pair = Pair(database, service_dir)
    pair.settle(ModelStore(service_dir / "models"), adopt=True)
    path = service_dir / "state.db"
    assert _remembered(service_dir) == {"id": "0123456789abcdef", "database": str(path)}
    (service_dir / REMEMBERED).write_text('{"id": "another-one", "database": "elsewhere"}')
    said = (
        f"{service_dir} was used with the database elsewhere (id another-), and this one is {path} (id 01234567). Give"
    )
    with pytest.raises(ValueError, match=re.escape(said)):
        pair.settle(ModelStore(service_dir / "models"), adopt=False)


@pytest.mark.parametrize(
    ("remembers", "words"), [(True, "was used with the database /x (id 0123)"), (False, "has models")]
)
def test_a_missing_database_is_told_with_what_shows_it(tmp_path: Path, remembers: bool, words: str) -> None:
    """A memory of it, or only models."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "a.ilearner").touch()
    if remembers:
        (tmp_path / REMEMBERED).write_text('{"id": "0123", "database": "/x"}')
    path = tmp_path / "state.db"
    with pytest.raises(ValueError, match=re.escape(f"{path} is missing or empty, and {tmp_path} {words}. Restore")):
        check_database_file(tmp_path, f"sqlite:///{path}")


def damage_database(folder: Path) -> None:
    """The database has another id."""
    with closing(sqlite3.connect(folder / "state.db")) as database:
        database.execute("UPDATE identity SET id = 'another'")
        database.commit()


def replace_lock(folder: Path) -> None:
    """The directory's lock is another file."""
    (folder / LOCK).rename(folder / "away")
    (folder / LOCK).touch()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (None, None),
        (damage_database, "was replaced while this server runs"),
        (replace_lock, "was replaced while this server runs"),
        (forget, "was replaced while this server runs"),
        (lambda folder: (folder / LOCK).unlink(), "cannot be looked at"),
        (lambda folder: (folder / REMEMBERED).write_text("{"), "cannot be looked at"),
    ],
)
def test_whether_a_pair_is_whole(
    service_dir: Path,
    database: Database,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[Path], object] | None,
    words: str | None,
) -> None:
    """Only while directory, lock, memory and database are those of the start; else the log says so, once."""
    with in_use(service_dir, shared=False) as lock:
        pair = Pair(database, service_dir, lock)
        if change:
            change(service_dir)
        caplog.clear()
        assert pair.is_whole() is (change is None)
    assert [str(words) in message for message in caplog.messages] == [True] * (words is not None)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"[]", b"[" * 100_000])
def test_a_damaged_memory_is_named(tmp_path: Path, content: bytes) -> None:
    """Whatever is in the file, the server says which one it is and what to do."""
    (tmp_path / REMEMBERED).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{REMEMBERED} is damaged .* Restore it"):
        _remembered(tmp_path)
