"""What servers share: a database that is slow, silent or gone, and a store of blobs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import psycopg
import sqlalchemy as sa

from airflow_provider_azureml_classic.exceptions import rejection
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.server.state.database import Database, DatabaseDown
from airflow_provider_azureml_classic.server.state.tables import metadata
from tests.simulation.machines import LONGEST, Signal, current, sleep
from tests.simulation.world import World


class Postgres:
    """The database itself: SQLite in memory, in which one transaction follows the other, and notifications.

    What holds only between transactions that overlap is tested with PostgreSQL.

    :param world: its chance.
    :param lost: share of the calls that are not answered.
    """

    def __init__(self, world: World, lost: float) -> None:
        self.world, self.lost, self.is_down = world, lost, False
        self.engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool)
        metadata.create_all(self.engine)
        self.listeners: list[Listener] = []

    def travel(self) -> None:
        """A message on its way to the database, or back."""
        random = self.world.random
        self.world.count("messages")
        if self.world.chance(self.lost / 25):
            # In the middle of something.
            current().machine.freeze(random.uniform(0, LONGEST))
        sleep(random.uniform(0.0005, 0.01) if not self.world.chance(0.02) else random.uniform(0.1, 5.0))
        if self.is_down or self.world.chance(self.lost):
            self.world.count("database silent")
            sleep(random.choice((0.0, 2.0)))
            raise DatabaseDown("The database does not answer; try again in a moment.", status=503)

    def publish(self, messages: list[str]) -> None:
        """To all who listen, in the order of the commits."""
        for listener in self.listeners:
            listener.expect(messages)

    def outage(self) -> None:
        """All connections break."""
        self.is_down = True
        for listener in self.listeners:
            listener.is_broken = True
        self.listeners = []


class Link(Database):
    """A server's connection to it."""

    shared = True  # type: ignore[assignment]

    def __init__(self, postgres: Postgres) -> None:
        # Nothing is encrypted here: it takes time, and no seed depends on it.
        self._cipher = SimpleNamespace(encrypt=bytes, decrypt=bytes)  # type: ignore[assignment]
        self.postgres = postgres
        self._messages: list[str] = []

    @property
    def engine(self) -> Any:
        """For :func:`new_listener`."""
        return self

    @contextmanager
    def write(self, *, slow: bool = False) -> Iterator[sa.Connection]:
        """A transaction; whether it was committed is not known where its answer is lost."""
        self.postgres.travel()
        self._messages = []
        with self.postgres.engine.begin() as connection:
            yield connection
        self.postgres.publish(self._messages)
        self.postgres.travel()

    @contextmanager
    def read(self, *, slow: bool = False) -> Iterator[sa.Connection]:
        """What there is at one moment."""
        self.postgres.travel()
        with self.postgres.engine.begin() as connection:
            yield connection
        self.postgres.travel()

    def notify(self, connection: sa.Connection, message: str) -> None:
        """Once it is committed."""
        self._messages.append(message)

    def hold(self, connection: sa.Connection, lock: int, *, alone: bool) -> None:
        """Transactions follow each other."""


class Listener:
    """A connection for notifications: they come in order, late, or not any more."""

    def __init__(self, link: Link) -> None:
        self._postgres, self.is_broken = link.postgres, False
        self._heard, self._signal, self._last = deque[str](), Signal(), 0.0
        self._ask()

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.is_broken = True
        self._postgres.listeners = [one for one in self._postgres.listeners if one is not self]

    def _ask(self) -> None:
        try:
            self._postgres.travel()
        except DatabaseDown:
            self.is_broken = True
        if self.is_broken:
            raise psycopg.OperationalError("the connection is lost")

    def execute(self, statement: str, parameters: tuple[str, ...] = ()) -> None:
        """Listen, or tell all."""
        if statement.startswith("LISTEN"):
            self._postgres.listeners.append(self)
        self._ask()
        if parameters:
            self._postgres.publish([parameters[1]])

    def expect(self, messages: list[str]) -> None:
        """They are on their way."""
        world = self._postgres.world
        delay = world.random.uniform(0.0005, 0.02) if not world.chance(0.02) else world.random.uniform(0.1, 4.0)
        self._last = max(self._last, world.loop.time() + delay)
        for message in messages:
            world.later(self._last - world.loop.time(), lambda message=message: self._hear(message))

    def _hear(self, message: str) -> None:
        if not self.is_broken:
            self._heard.append(message)
            self._signal.tell()

    def notifies(self, timeout: float) -> Iterator[SimpleNamespace]:
        """What is heard within so many seconds."""
        loop = self._postgres.world.loop
        end = loop.time() + timeout
        while True:
            while self._heard:
                yield SimpleNamespace(payload=self._heard.popleft())
            if self.is_broken:
                raise psycopg.OperationalError("the connection is lost")
            if (left := end - loop.time()) <= 0:
                return
            self._signal.wait(left)


@dataclass
class Blobs:
    """The store of the service's outputs.

    :param world: its chance.
    :param lost: share of the calls that fail.
    """

    world: World
    lost: float
    blobs: dict[str, str] = field(default_factory=dict)

    def resolve(self, scope: object, reference: BlobReference, access: object = None) -> Blob:
        """The blob."""
        return Blob(self, reference)

    def published(self, reference: BlobReference, *, signed: bool) -> BlobReference:
        """As it is."""
        return reference

    def travel(self) -> None:
        """A call."""
        self.world.count("messages")
        sleep(self.world.random.uniform(0.001, 0.1) * (50 if self.world.chance(0.05) else 1))
        if self.world.chance(self.lost):
            raise rejection("NoMoreResources", "The store does not answer.")


@dataclass
class Blob:
    """A place in it."""

    store: Blobs
    sent: BlobReference
    patience = 10.0

    def deliver(self, content: str) -> None:
        """Write it."""
        self.store.travel()
        self.store.blobs[self.sent.relative_location] = content
        self.store.travel()

    def is_taken(self) -> bool:
        """Whether it is there."""
        return self.sent.relative_location in self.store.blobs

    def withdraw(self) -> bool:
        """Remove it."""
        self.store.travel()
        return self.store.blobs.pop(self.sent.relative_location, None) is not None
