"""What pins hold, of an only server and of several that share a database: who may remove a model file, and when."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from airflow_provider_azureml_classic.server.models.pins import _LOCK, Pins
from airflow_provider_azureml_classic.server.state import tables
from airflow_provider_azureml_classic.server.state.database import DatabaseDown


class Ledger:
    """Stands for a database: its tables of pins and models in memory, and who held which lock.

    :param shared: whether several servers may use it.
    """

    def __init__(self, *, shared: bool) -> None:
        self.shared, self.down = shared, False
        self.held: list[tuple[int, bool]] = []
        self._engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool)
        tables.metadata.create_all(self._engine, tables=[tables.pins, tables.resources])
        self._open: list[sa.Connection] = []

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction."""
        if self.down:
            raise DatabaseDown("down")
        with self._engine.begin() as connection:
            self._open.append(connection)
            yield connection
            self._open.remove(connection)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection."""
        with self._engine.connect() as connection:
            yield connection

    def hold(self, connection: sa.Connection, lock: int, *, alone: bool) -> None:
        """Note the lock."""
        assert connection in self._open
        self.held.append((lock, alone))

    def pinned(self) -> list[tuple[str, str]]:
        """Digest and server of each pin in the table."""
        with self.read() as connection:
            query = sa.select(tables.pins.c.digest, tables.pins.c.server_id).order_by(tables.pins.c.digest)
            return [(digest, server) for digest, server in connection.execute(query)]


def pins_of(ledger: Ledger, server: str = "me") -> Pins:
    """The pins of one server."""
    database: Any = ledger
    peers: Any = SimpleNamespace(id=server)
    return Pins(database, peers)


@pytest.mark.parametrize("shared", [False, True])
def test_what_pins_hold(shared: bool) -> None:
    """As often as it was pinned, whatever else is let go of meanwhile; of others nothing."""
    pins, removed = pins_of(Ledger(shared=shared)), list[str]()
    with pins.pinned() as pin:
        pin("a")
        with pins.pinned() as again:
            again("a")
            again("b")
            assert [pins.is_used(digest) for digest in "abc"] == [True, True, False]
        assert [pins.is_used(digest) for digest in "abc"] == [True, False, False]
        assert not pins.remove_unused("a", removed.append)
        assert pins.remove_unused("b", removed.append)
    assert not pins.is_used("a")
    assert pins.remove_unused("a", removed.append)
    assert removed == ["b", "a"]


@pytest.mark.parametrize("shared", [False, True])
def test_an_endpoints_model_is_used(shared: bool) -> None:
    """Pinned or not; another one is not."""
    ledger = Ledger(shared=shared)
    pins, removed = pins_of(ledger), list[str]()
    with ledger.write() as connection:
        row = {"endpoint_id": "e", "name": "m", "base_location": "", "relative_location": "", "digest": "a"}
        connection.execute(sa.insert(tables.resources).values(**row))
    assert (pins.is_used("a"), pins.is_used("b")) == (True, False)
    assert (pins.remove_unused("a", removed.append), pins.remove_unused("b", removed.append)) == (False, True)
    assert removed == ["b"]


def test_pins_of_several_servers_are_in_the_table() -> None:
    """With the server that pinned; each lets go of its own only, and nobody removes what another has pinned."""
    ledger = Ledger(shared=True)
    mine, theirs = pins_of(ledger, "me"), pins_of(ledger, "they")
    with mine.pinned() as pin, theirs.pinned() as another:
        another("a")
        with mine.pinned() as brief:
            brief("a")
            pin("b")
            assert sorted(ledger.pinned()) == [("a", "me"), ("a", "they"), ("b", "me")]
        assert ledger.pinned() == [("a", "they"), ("b", "me")]
        assert not mine.remove_unused("a", lambda _: None)
        assert not theirs.remove_unused("b", lambda _: None)
    assert ledger.pinned() == []


def test_pins_of_an_only_server_write_nothing() -> None:
    """They hold while the database is away, too."""
    ledger = Ledger(shared=False)
    ledger.down = True
    with pins_of(ledger).pinned() as pin:
        pin("a")
        assert ledger.pinned() == []


def test_who_pins_shares_the_lock_and_who_removes_holds_it_alone() -> None:
    """So nobody pins a file while it is removed, and those that pin do not wait for each other."""
    ledger = Ledger(shared=True)
    pins = pins_of(ledger)
    with pins.pinned() as pin:
        pin("a")
    pins.remove_unused("a", lambda _: None)
    assert ledger.held == [(_LOCK, False), (_LOCK, True)]


def test_a_database_that_is_away_does_not_undo_what_is_in_place() -> None:
    """A pin that cannot be taken back ends with its server; nothing is asked where nothing was pinned."""
    ledger = Ledger(shared=True)
    pins = pins_of(ledger)
    with pins.pinned() as pin:
        pin("a")
        ledger.down = True
    ledger.down = False
    assert ledger.pinned() == [("a", "me")]
