"""Which model files may be removed: those of no endpoint, that nobody is putting in place or reading.

Rule: a file is pinned before it is looked for and until an endpoint refers to it, and while a file is removed nobody
can pin one. So a file that was found, or written, stays.
"""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import sqlalchemy as sa

from airflow_provider_azureml_classic.server.state.database import Database, DatabaseDown
from airflow_provider_azureml_classic.server.state.peers import Peers
from airflow_provider_azureml_classic.server.state.tables import pins, resources

#: Advisory lock: shared by who pins a model file, held alone by who removes one.
_LOCK = 0x617A6D6C02

Pin = Callable[[str], None]


class Pins:
    """Pins of all servers that share a database, in its table; those of an only server are in memory.

    :param database: the state.
    :param peers: whose id the pins bear; when a server has died, its pins hold no more.
    """

    def __init__(self, database: Database, peers: Peers) -> None:
        self._db = database
        self._peers = peers
        self._here: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def pinned(self) -> Iterator[Pin]:
        """A function that pins the file of a digest until the block ends."""
        ids: list[str] = []

        def pin(digest: str) -> None:
            ids.append(self._add(digest))

        try:
            yield pin
        finally:
            self._drop(ids)

    def _add(self, digest: str) -> str:
        if not self._db.shared:
            with self._lock:
                self._here[digest] += 1
            return digest
        row = {"id": uuid.uuid4().hex, "digest": digest, "server_id": self._peers.id}
        with self._db.write() as connection:
            self._db.hold(connection, _LOCK, alone=False)
            connection.execute(sa.insert(pins).values(**row))
        return row["id"]

    def _drop(self, ids: list[str]) -> None:
        if not self._db.shared:
            with self._lock:
                self._here.subtract(ids)
                self._here = +self._here  # without those that nobody pins
        elif ids:
            # What is in place is in place; a pin that stays ends with its server.
            with suppress(DatabaseDown), self._db.write() as connection:
                connection.execute(sa.delete(pins).where(pins.c.id.in_(ids)))

    def remove_unused(self, digest: str, remove: Callable[[str], None]) -> bool:
        """Remove a model file, unless it is an endpoint's, or pinned.

        :param digest: of the model.
        :param remove: removes its file.
        :return: whether it was removed.
        """
        with self._lock, self._db.write() as connection:
            self._db.hold(connection, _LOCK, alone=True)
            if self._is_used(connection, digest):
                return False
            remove(digest)
        return True

    def is_used(self, digest: str) -> bool:
        """Whether a model file is an endpoint's, or pinned, in this moment.

        :param digest: of the model.
        """
        with self._lock, self._db.read() as connection:
            return self._is_used(connection, digest)

    def _is_used(self, connection: sa.Connection, digest: str) -> bool:
        used = sa.exists().where(resources.c.digest == digest)
        pinned = sa.exists().where(pins.c.digest == digest)
        return self._here[digest] > 0 or bool(connection.execute(sa.select(used | pinned)).scalar())
