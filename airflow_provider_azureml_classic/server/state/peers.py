"""This server among those that share its database: who lives, whose jobs are taken over, what the others have changed.

Rule 1: no clocks are compared. A server is dead when another one has looked at its beat for :data:`LEASE_SECONDS`, at
every one of its own beats, and it did not change; then its id is gone for good, and what it does under it counts no
more. While the database answers nobody, nobody dies.
Rule 2: what is remembered of endpoints is used only while it is proved that every change arrives: the server hears its
own notifications, which come in the order of the commits, at most :data:`FRESH_SECONDS` after it sent them.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

import sqlalchemy as sa

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError
from airflow_provider_azureml_classic.server.state.database import CHANNEL, EVERYTHING, JOBS, Database
from airflow_provider_azureml_classic.server.state.engine import new_listener
from airflow_provider_azureml_classic.server.state.job_store import requeue
from airflow_provider_azureml_classic.server.state.tables import jobs, servers

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger(__name__)

BEAT_SECONDS = 0.5
LEASE_SECONDS = 10.0
#: A change through one server is live on the others after this time, come what may.
FRESH_SECONDS = 1.5


class Peers:
    """This server's membership; of the only server of a SQLite database, which needs no thread for it.

    :param database: the shared database.
    """

    def __init__(self, database: Database) -> None:
        self._db = database
        self.id = uuid.uuid4().hex
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._fresh_until = self._held_until = 0.0
        #: Called with an endpoint that another server has changed, or without: any may have changed.
        self.on_change: Callable[..., None] = lambda *_: None
        #: Called when a job may wait.
        self.on_job: Callable[[], None] = lambda: None
        #: Called when a server has died.
        self.on_death: Callable[[], None] = lambda: None
        if not database.shared:
            # Nobody else can be here: whoever is in the table was this server, before it ended.
            self._end(servers.c.id != self.id)
        self._enter()

    @property
    def fresh(self) -> bool:
        """Whether every change of another server that was answered :data:`FRESH_SECONDS` ago is known here."""
        return not self._db.shared or time.monotonic() < self._fresh_until

    @property
    def held(self) -> bool:
        """Whether no other server can take this one for dead yet, nor in the next seconds."""
        return not self._db.shared or time.monotonic() < self._held_until

    def living(self) -> set[str]:
        """Ids of the servers that are not known to be dead."""
        with self._db.read() as connection:
            return set(connection.execute(sa.select(servers.c.id)).scalars())

    def start(self) -> None:
        """Begin to follow the others."""
        if self._db.shared:
            self._thread = threading.Thread(target=self._run, name="peers", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Leave: jobs that run are given back at once."""
        self._closing.set()
        if self._thread:
            self._thread.join(10)
        try:
            self._end(servers.c.id == self.id)
        except AzureMLClassicError:
            log.warning("the database does not answer: running jobs return to the queue later")

    def _enter(self) -> None:
        with self._db.write() as connection:
            connection.execute(sa.insert(servers).values(id=self.id, beat=0))

    def _end(self, *which: sa.ColumnElement[bool]) -> bool:
        """Remove servers and give their jobs back; also jobs of servers that are not in the table."""
        with self._db.write() as connection:
            gone = connection.execute(sa.delete(servers).where(*which)).rowcount
            nobodys = sa.or_(jobs.c.server_id.is_(None), jobs.c.server_id.not_in(sa.select(servers.c.id)))
            job_ids = requeue(connection, nobodys)
            if job_ids:
                self._db.notify(connection, JOBS)
        for job_id in job_ids:
            log.warning("job %s was running when its server stopped; it runs again", job_id)
        return gone > 0

    # -- several servers -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        import psycopg

        while not self._closing.is_set():
            try:
                with new_listener(self._db.engine) as listener:
                    self._follow(listener)
            except (psycopg.Error, AzureMLClassicError):
                log.warning("the connection to the database is lost; endpoints are not cached until it is back")
            except Exception:
                log.exception("following the other servers failed")
            self._fresh_until = 0.0
            self._closing.wait(1)

    def _follow(self, listener: psycopg.Connection) -> None:
        listener.execute(f"LISTEN {CHANNEL}")
        # What was told while nobody listened.
        self.on_change()
        watched: dict[str, tuple[int, int]] = {}
        sent: dict[str, float] = {}
        while not self._closing.is_set():
            self._beat()
            self._watch(watched)
            ping = uuid.uuid4().hex
            sent[ping] = time.monotonic()
            listener.execute("SELECT pg_notify(%s, %s)", (CHANNEL, f"ping {ping}"))
            # A job that could not be claimed when it was told of.
            self.on_job()
            for heard in listener.notifies(timeout=BEAT_SECONDS):
                self._hear(heard.payload, sent)

    def _hear(self, message: str, sent: dict[str, float]) -> None:
        kind, _, ping = message.partition(" ")
        if kind == "ping":
            if ping in sent:
                self._fresh_until = sent.pop(ping) + FRESH_SECONDS
        elif message == JOBS:
            self.on_job()
        elif message == EVERYTHING:
            self.on_change()
        else:
            self.on_change(message)

    def _beat(self) -> None:
        before = time.monotonic()
        with self._db.write() as connection:
            mine = sa.update(servers).where(servers.c.id == self.id).values(beat=servers.c.beat + 1)
            alive = connection.execute(mine).rowcount == 1
        if not alive:
            log.warning("another server took this one for dead and runs its jobs; this one continues under a new id")
            self.id = uuid.uuid4().hex
            self._enter()
        # Half the time is left for what was begun while it was held.
        self._held_until = before + LEASE_SECONDS / 2

    def _watch(self, watched: dict[str, tuple[int, int]]) -> None:
        with self._db.read() as connection:
            rows = connection.execute(sa.select(servers.c.id, servers.c.beat))
            beats = {row.id: row.beat for row in rows}
        for server_id in watched.keys() - beats.keys():
            del watched[server_id]
        for server_id, beat in beats.items():
            before, rounds = watched.get(server_id, (beat, 0))
            watched[server_id] = beat, rounds + 1 if beat == before else 0
            if watched[server_id][1] * BEAT_SECONDS > LEASE_SECONDS and server_id != self.id:
                log.warning("server %s has died", server_id)
                if self._end(servers.c.id == server_id, servers.c.beat == beat):
                    self.on_death()
