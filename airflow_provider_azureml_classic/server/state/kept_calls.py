"""The calls that endpoints keep for rehearsals, and what rehearsals found.

Rule 1: rows of callers are compressed and encrypted before they are written, with the key of ``secrets.json``.
Rule 2: they are bounded in number, in bytes and in time, for each endpoint; they are deleted with it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.server.state.database import DAMAGED, Database
from airflow_provider_azureml_classic.server.state.tables import kept_calls, rehearsals

log = logging.getLogger(__name__)

#: Bytes that the calls of one endpoint take in the database.
MAX_BYTES = 4 << 20
#: Rehearsals of each endpoint that are remembered.
KEPT_REHEARSALS = 50
#: A new chunk is begun when the newest one has this share of an endpoint's calls, or of the time that they are kept.
_CHUNKS = 10


@dataclass(frozen=True)
class Keeping:
    """How an endpoint keeps its calls.

    :param calls: at most; 0 keeps none.
    :param days: after which they are deleted.
    """

    calls: int
    days: int


class KeptCalls:
    """Writes and reads them.

    :param database: where they are.
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, endpoint_id: str, calls: Sequence[Table], keeping: Keeping, now: datetime) -> None:
        """Keep the calls of an endpoint, and delete the oldest that are over its bounds.

        :param endpoint_id: GUID; of an endpoint that was deleted meanwhile nothing is kept.
        :param calls: oldest first.
        :param keeping: how.
        :param now: the present time.
        """
        written = [[table.column_names, table.values] for table in calls]
        with self._db.write() as connection:
            if connection.execute(_THERE, {"endpoint": endpoint_id}).first() is None:
                return
            begun, chunk = now, self._unfinished(connection, endpoint_id, keeping, now)
            if chunk is not None:
                begun, written = chunk[0], [*chunk[1], *written]
            written = written[-keeping.calls :]
            content = self._db.encrypt_packed(written)
            values = {"begun_at": begun, "expires_at": begun + timedelta(days=keeping.days), "calls": len(written)}
            values |= {"endpoint_id": endpoint_id, "content": content, "size": len(content)}
            connection.execute(sa.insert(kept_calls).values(**values))
            self._prune(connection, endpoint_id, keeping)

    def _unfinished(
        self, connection: sa.Connection, endpoint_id: str, keeping: Keeping, now: datetime
    ) -> tuple[datetime, list[Any]] | None:
        """Take out the newest chunk, if it is to grow."""
        row = connection.execute(_NEWEST, {"endpoint": endpoint_id}).first()
        if row is None or row.calls * _CHUNKS >= keeping.calls:
            return None
        if now - row.begun_at > timedelta(days=keeping.days) / _CHUNKS:
            return None
        gone = connection.execute(sa.delete(kept_calls).where(kept_calls.c.id == row.id))
        # Of two servers that share a database, one takes it. What cannot be read must not be in the way of new ones.
        calls = self._read(row.content) if gone.rowcount == 1 else []
        return (row.begun_at, calls) if calls else None

    def _read(self, content: bytes) -> list[Any]:
        """Calls that were kept together; none of what is damaged."""
        try:
            calls: list[Any] = self._db.decrypt_packed(content)
        except DAMAGED as error:
            log.warning("kept calls cannot be read, and are passed over: %s", error)
            return []
        return calls

    def _prune(self, connection: sa.Connection, endpoint_id: str, keeping: Keeping) -> None:
        calls = size = 0
        for row in connection.execute(_SIZES, {"endpoint": endpoint_id}).all():
            is_over = calls >= keeping.calls or size + row.size > MAX_BYTES
            calls, size = calls + row.calls, size + row.size
            if is_over:
                connection.execute(sa.delete(kept_calls).where(kept_calls.c.id == row.id))

    def read(self, endpoint_id: str, limit: int, now: datetime) -> list[Table]:
        """The last calls of an endpoint, newest first.

        :param endpoint_id: GUID.
        :param limit: at most so many.
        :param now: the present time.
        """
        tables: list[Table] = []
        with self._db.read() as connection:
            contents = connection.execute(_CONTENTS, {"endpoint": endpoint_id, "now": now}).scalars().all()
        for content in contents:
            if len(tables) >= limit:
                break
            tables += [Table(tuple(names), values) for names, values in reversed(self._read(content))]
        return tables[:limit]

    def count(self, endpoint_id: str, now: datetime) -> int:
        """How many calls of an endpoint are kept.

        :param endpoint_id: GUID.
        :param now: the present time.
        """
        with self._db.read() as connection:
            return int(connection.execute(_COUNT, {"endpoint": endpoint_id, "now": now}).scalar() or 0)

    def endpoints(self) -> list[str]:
        """GUIDs of the endpoints that have kept calls."""
        with self._db.read() as connection:
            return list(connection.execute(sa.select(kept_calls.c.endpoint_id).distinct()).scalars())

    def forget(self, endpoint_id: str) -> None:
        """Delete the calls of an endpoint.

        :param endpoint_id: GUID.
        """
        with self._db.write() as connection:
            connection.execute(sa.delete(kept_calls).where(kept_calls.c.endpoint_id == endpoint_id))

    def expire(self, now: datetime) -> None:
        """Delete what is kept no longer.

        :param now: the present time.
        """
        with self._db.write() as connection:
            connection.execute(sa.delete(kept_calls).where(kept_calls.c.expires_at <= now))

    def add_rehearsal(self, endpoint_id: str, digest: str, figures: dict[str, Any], now: datetime) -> None:
        """Remember what a rehearsal found.

        :param endpoint_id: GUID.
        :param digest: SHA-256 of the file of the new model.
        :param figures: as they were answered.
        :param now: the present time.
        """
        values = {"endpoint_id": endpoint_id, "digest": digest, "figures": figures, "rehearsed_at": now}
        with self._db.write() as connection:
            connection.execute(sa.insert(rehearsals).values(**values))
            connection.execute(_FORGET, {"endpoint": endpoint_id})

    def rehearsals(self, endpoint_id: str) -> list[tuple[str, datetime, dict[str, Any]]]:
        """Digest, time and figures of the rehearsals of an endpoint, newest first.

        :param endpoint_id: GUID.
        """
        columns = rehearsals.c.digest, rehearsals.c.rehearsed_at, rehearsals.c.figures
        query = sa.select(*columns).where(rehearsals.c.endpoint_id == endpoint_id).order_by(rehearsals.c.id.desc())
        with self._db.read() as connection:
            return [(row[0], row[1], row[2]) for row in connection.execute(query)]


_OF = kept_calls.c.endpoint_id == sa.bindparam("endpoint")
_LIVING = kept_calls.c.expires_at > sa.bindparam("now", type_=kept_calls.c.expires_at.type)
_THERE = sa.text("SELECT 1 FROM endpoints WHERE id = :endpoint")
_NEWEST = (
    sa.select(kept_calls.c.id, kept_calls.c.begun_at, kept_calls.c.calls, kept_calls.c.content)
    .where(_OF)
    .order_by(kept_calls.c.id.desc())
    .limit(1)
)
_SIZES = sa.select(kept_calls.c.id, kept_calls.c.calls, kept_calls.c.size).where(_OF).order_by(kept_calls.c.id.desc())
_CONTENTS = sa.select(kept_calls.c.content).where(_OF, _LIVING).order_by(kept_calls.c.id.desc())
_COUNT = sa.select(sa.func.sum(kept_calls.c.calls)).where(_OF, _LIVING)
_OLDEST = (
    sa.select(rehearsals.c.id)
    .where(rehearsals.c.endpoint_id == sa.bindparam("endpoint"))
    .order_by(rehearsals.c.id.desc())
    .offset(KEPT_REHEARSALS)
    .limit(1)
)
_FORGET = sa.delete(rehearsals).where(
    rehearsals.c.endpoint_id == sa.bindparam("endpoint"), rehearsals.c.id <= _OLDEST.scalar_subquery()
)
