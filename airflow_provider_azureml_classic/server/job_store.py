"""What survives a crash of batch jobs. Requests and results may hold connection strings, so they are encrypted."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from airflow_provider_azureml_classic.protocol.jobs import TRANSITIONS, JobRequest, JobStatus
from airflow_provider_azureml_classic.server.database import JOBS, Database, columns, to_row
from airflow_provider_azureml_classic.server.history import add_models, add_trained
from airflow_provider_azureml_classic.server.tables import JobRow, ModelRow, TrainedRow, jobs, servers


class JobStore:
    """The jobs of one workspace.

    :param database: where they are kept.
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, row: JobRow) -> None:
        """Register a job."""
        values = {**columns(row), "status": row.status.value}
        values |= {"request": self._db.lock_json(row.request.to_wire()), "results": None}
        with self._db.write() as connection:
            connection.execute(sa.insert(jobs).values(**values))

    def _select(self, *where: sa.ColumnElement[bool]) -> list[JobRow]:
        query = sa.select(jobs).where(*where).order_by(jobs.c.created_at)
        with self._db.read() as connection:
            return [
                to_row(
                    JobRow,
                    row,
                    status=JobStatus(row["status"]),
                    request=JobRequest.from_wire(self._db.unlock_json(row["request"])),
                    results=self._db.unlock_json(row["results"]),
                )
                for row in connection.execute(query).mappings()
            ]

    def get(self, job_id: str) -> JobRow | None:
        """A job, or ``None``."""
        found = self._select(jobs.c.id == job_id)
        return found[0] if found else None

    def queue(self, job_id: str) -> bool:
        """Put a registered job at the end of the queue; ``False`` if it was there already, or has ended."""
        waiting = (jobs.c.status == JobStatus.NOT_STARTED.value, jobs.c.place.is_(None))
        last = sa.select(sa.func.coalesce(sa.func.max(jobs.c.place), 0)).scalar_subquery()
        with self._db.write() as connection:
            query = sa.update(jobs).where(jobs.c.id == job_id, *waiting).values(place=last + 1)
            found = connection.execute(query)
            self._db.tell(connection, JOBS)
        return found.rowcount == 1

    def claim(self, server_id: str, now: datetime) -> JobRow | None:
        """Make the first job of the queue this server's and ``Running``; ``None`` if none waits.

        :param server_id: this server; one that the others take for dead gets nothing.
        :param now: the job's start time.
        """
        first = (
            sa.select(jobs.c.id)
            .where(jobs.c.status == JobStatus.NOT_STARTED.value, jobs.c.place.is_not(None))
            .order_by(jobs.c.place, jobs.c.created_at)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        with self._db.write() as connection:
            # Locked, so that nobody declares this server dead before the job is seen to be its own.
            alive = sa.select(servers.c.id).where(servers.c.id == server_id).with_for_update(read=True)
            job_id = connection.execute(first).scalar() if connection.execute(alive).first() else None
            if job_id is None:
                return None
            values = {"status": JobStatus.RUNNING.value, "start_time": now, "server_id": server_id}
            connection.execute(sa.update(jobs).where(jobs.c.id == job_id).values(**values))
        return self.get(job_id)

    def end(
        self,
        job_id: str,
        server_id: str,
        status: JobStatus,
        values: Mapping[str, Any],
        trained: tuple[TrainedRow, ModelRow] | None = None,
    ) -> bool:
        """End a job that this server runs; ``False`` if it does no more: it was cancelled, or another server runs it.

        :param job_id: the job.
        :param server_id: as it was claimed.
        :param status: its last state.
        :param values: other columns to set; ``results`` is encrypted here.
        :param trained: the model that it wrote.
        """
        return self._move(job_id, status, values, jobs.c.server_id == server_id, trained=trained)

    def _move(
        self,
        job_id: str,
        to: JobStatus,
        values: Mapping[str, Any],
        *where: sa.ColumnElement[bool],
        trained: tuple[TrainedRow, ModelRow] | None = None,
    ) -> bool:
        sources = [status.value for status, targets in TRANSITIONS.items() if to in targets]
        changed = dict(values)
        if "results" in changed:
            changed["results"] = self._db.lock_json(changed["results"])
        with self._db.write() as connection:
            found = connection.execute(
                sa.update(jobs)
                .where(jobs.c.id == job_id, jobs.c.status.in_(sources), *where)
                .values(status=to.value, **changed)
            )
            if trained and found.rowcount == 1:
                add_models(connection, [trained[1]])
                add_trained(connection, trained[0])
        return found.rowcount == 1

    def cancel(self, job_id: str, now: datetime) -> bool:
        """Cancel a job; ``False`` if it has ended already."""
        return self._move(job_id, JobStatus.CANCELLED, {"end_time": now})


def give_back(connection: sa.Connection, *where: sa.ColumnElement[bool]) -> list[str]:
    """Put the running jobs of servers that have ended back in the queue, at their old places.

    :param connection: of the transaction that ends the servers.
    :param where: which jobs.
    :return: ids of these jobs.
    """
    running = (jobs.c.status == JobStatus.RUNNING.value, *where)
    found = list(connection.execute(sa.select(jobs.c.id).where(*running)).scalars())
    values = {"status": JobStatus.NOT_STARTED.value, "start_time": None, "server_id": None}
    connection.execute(sa.update(jobs).where(*running).values(**values))
    return found
