"""What survives a crash of batch jobs. Requests and results may hold connection strings, so they are encrypted."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from airflow_provider_azureml_classic.protocol.jobs import TRANSITIONS, JobRequest, JobStatus
from airflow_provider_azureml_classic.server.database import Database, columns, to_row
from airflow_provider_azureml_classic.server.tables import JobRow, jobs

_ENDED = tuple(status.value for status in JobStatus if status.terminal)


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

    def unfinished(self) -> list[JobRow]:
        """Jobs that were started and have not ended, oldest first."""
        return self._select(jobs.c.queued.is_(True), jobs.c.status.not_in(_ENDED))

    def queue(self, job_id: str) -> bool:
        """Mark a registered job as started by its client; ``False`` if it already was, or has ended."""
        waiting = (jobs.c.status == JobStatus.NOT_STARTED.value, jobs.c.queued.is_(False))
        with self._db.write() as connection:
            found = connection.execute(sa.update(jobs).where(jobs.c.id == job_id, *waiting).values(queued=True))
        return found.rowcount == 1

    def move(self, job_id: str, to: JobStatus, values: Mapping[str, Any] | None = None) -> bool:
        """Move a job to another state; ``False`` if the state it is in does not allow that.

        :param job_id: the job.
        :param to: the new state.
        :param values: other columns to set; ``results`` is encrypted here.
        """
        sources = [status.value for status, targets in TRANSITIONS.items() if to in targets]
        changed = dict(values or {})
        if "results" in changed:
            changed["results"] = self._db.lock_json(changed["results"])
        with self._db.write() as connection:
            found = connection.execute(
                sa.update(jobs)
                .where(jobs.c.id == job_id, jobs.c.status.in_(sources))
                .values(status=to.value, **changed)
            )
        return found.rowcount == 1

    def cancel(self, job_id: str, now: datetime) -> bool:
        """Cancel a job; ``False`` if it has ended already."""
        return self.move(job_id, JobStatus.CANCELLED, {"end_time": now})
