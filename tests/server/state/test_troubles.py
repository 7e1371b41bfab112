"""Troubles of the database: each is told as what it is, and nothing of them is a bare 500."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.server.state import database as database_module
from airflow_provider_azureml_classic.server.state.database import Database
from tests.support.service import Service, line

KEY = "Y2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2M="

TROUBLES = [
    (sa.exc.OperationalError, sqlite3.OperationalError("database or disk is full"), "is full"),
    (sa.exc.OperationalError, sqlite3.OperationalError("attempt to write a readonly database"), "read-only"),
    (sa.exc.OperationalError, sqlite3.OperationalError("disk I/O error"), "cannot be read or written"),
    (sa.exc.OperationalError, sqlite3.OperationalError("database is locked"), "does not answer"),
    (sa.exc.DatabaseError, sqlite3.DatabaseError("database disk image is malformed"), "is damaged"),
    (sa.exc.DatabaseError, sqlite3.DatabaseError("file is not a database"), "is damaged"),
    (sa.exc.OperationalError, sqlite3.OperationalError("no such table: endpoints"), "lacks a table"),
    (sa.exc.ProgrammingError, Exception('relation "endpoints" does not exist'), "lacks a table"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "cause", "told"), TROUBLES, ids=[str(cause) for _, cause, _ in TROUBLES])
def test_each_trouble_is_told(
    service: Service, scorer: Endpoint, monkeypatch: pytest.MonkeyPatch, kind: type, cause: Exception, told: str
) -> None:
    """503 with the reason in words; a loaded model answers meanwhile, and all is well afterwards."""
    assert service.slope(scorer) == 2
    with monkeypatch.context() as patch:

        def broken(*args: object) -> None:
            raise kind("SELECT secret", {}, cause)

        patch.setattr(service.database._engine, "begin", broken)
        answer = service.ask("PATCH", service.endpoint_path("mine"), {"Description": "new"})
        assert (answer.status, told in answer.body.decode()) == (503, True), answer.body
        assert "secret" not in answer.body.decode()
        assert service.slope(scorer) == 2
    assert service.ask("PATCH", service.endpoint_path("mine"), {"Description": "new"}).status == 200


@pytest.mark.slow
def test_a_damaged_page_ends_the_start(tmp_path: Path) -> None:
    """It is seen before anything is written; the message names the file and says what to do."""
    path = tmp_path / "state.db"
    Database(f"sqlite:///{path}", KEY).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    content = bytearray(path.read_bytes())
    for page in range(4096, len(content), 4096):
        content[page : page + 64] = b"\xff" * 64
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is damaged: .*Restore a backup"):
        Database(f"sqlite:///{path}", KEY)
    path.write_bytes(b"no database at all, but a file of some length" * 100)
    with pytest.raises(ValueError, match=r"is damaged: .*not a database"):
        Database(f"sqlite:///{path}", KEY)


@pytest.mark.parametrize("versions", [("0003", "0004"), ("9999",), ("",)])
def test_a_database_of_no_version_ends_the_start(tmp_path: Path, versions: tuple[str, ...]) -> None:
    """Of none that there is, or of several at once; with a sentence."""
    path = tmp_path / "state.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.executemany("INSERT INTO alembic_version VALUES (?)", [(version,) for version in versions])
    with pytest.raises(ValueError, match=r"estore a backup"):
        Database(f"sqlite:///{path}", KEY)


def test_a_large_file_is_not_read_at_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server with gigabytes starts at once; what is damaged there is told when it is met."""
    path = tmp_path / "state.db"
    Database(f"sqlite:///{path}", KEY).close()
    monkeypatch.setattr(database_module, "_CHECKED", 0)
    monkeypatch.setattr(sa.Connection, "exec_driver_sql", lambda *_: pytest.fail("it was read"), raising=True)
    database_module._check_pages(sa.create_engine(f"sqlite:///{path}"))


def test_answers_with_keys_are_kept_by_nobody(service: Service, scorer: Endpoint) -> None:
    """A cache between server and client must not hand keys and tokens to the next one."""
    for answer in (
        service.ask("GET", service.endpoint_path("mine")),
        service.ask("GET", service.endpoint_path("mine").rpartition("/")[0]),
        service.ask("POST", service.endpoint_path("mine") + "/regeneratekeys", {"KeyType": "Secondary"}),
    ):
        assert answer.headers["cache-control"] == "no-store", json.loads(answer.body)


#: Table, column and what somebody or a flipped bit has put there.
DAMAGES = [
    ("jobs", "created_at", "2026-13-45"), ("jobs", "request", b"x"), ("jobs", "status", "Lost"),
    ("jobs", "data_check", "{"), ("jobs", "data_check", "[" * 100_000), ("endpoints", "primary_key", b"x"),
    ("placements", "placed_at", -1), ("resources", "window_end", "soon"),
]  # fmt: skip


def test_a_value_that_cannot_be_read_is_told(service: Service, scorer: Endpoint, trainer: Endpoint) -> None:
    """As damage, with 503, whatever is damaged; and all is well once it is restored."""
    service.ended(trainer, service.submit(trainer, service.put_blob("data/five.csv", line(5))))
    endpoint = service.endpoint_path("mine")
    paths = [service.api_path(trainer, "/jobs"), endpoint.rpartition("/")[0], endpoint + "/models"]
    database = sqlite3.connect(service.settings.data_dir / "state.db", isolation_level=None)
    for table, column, value in DAMAGES:
        before = database.execute(f"SELECT rowid, {column} FROM {table}").fetchall()  # noqa: S608 - names from above
        change = f"UPDATE {table} SET {column} = ?"  # noqa: S608 - likewise
        database.execute(change, (value,))
        answers = [service.ask("GET", path) for path in paths]
        database.executemany(f"{change} WHERE rowid = ?", [(old, row) for row, old in before])
        told = [answer.body.decode() for answer in answers if answer.status == 503]
        assert {answer.status for answer in answers} <= {200, 503}
        assert told
        assert all("of the database cannot be read: it is damaged" in text for text in told)
        assert {service.ask("GET", path).status for path in paths} == {200}
    database.close()
