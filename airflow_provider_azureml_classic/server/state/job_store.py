"""What survives a crash of batch jobs. Requests and results may hold connection strings, so they are encrypted."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from airflow_provider_azureml_classic.exceptions import without_secrets
from airflow_provider_azureml_classic.protocol.digests import Digests
from airflow_provider_azureml_classic.protocol.job_history import LogLine
from airflow_provider_azureml_classic.protocol.jobs import TRANSITIONS, JobRequest, JobStatus
from airflow_provider_azureml_classic.protocol.purpose import Purpose
from airflow_provider_azureml_classic.protocol.references import ToldWindow
from airflow_provider_azureml_classic.server.clock import Clock, system_clock
from airflow_provider_azureml_classic.server.state.database import JOBS, Database, columns, readable, to_row
from airflow_provider_azureml_classic.server.state.history import add_models, add_samples, add_trained
from airflow_provider_azureml_classic.server.state.quota_store import jobs_used_up
from airflow_provider_azureml_classic.server.state.tables import (
    JobRow,
    Trained,
    job_log,
    jobs,
    model_files,
    servers,
    trained_models,
)

log = logging.getLogger(__name__)

#: Jobs of one endpoint that run at a time; the others wait (azure-docs ``studio/faq``).
MAX_RUNNING = 40
#: Of PostgreSQL's advisory locks, the one of whoever claims a job: two that count at the same time what runs would both
#: take the last free place. Any number that nobody else uses.
CLAIM_LOCK = 7305231
#: Longest line of a log.
_LINE = 2000
_UNREADABLE = "Internal error: the job as it is stored cannot be read. The server's log has more; submit it again."
# Statements are made once: SQLAlchemy takes longer to put one together than SQLite takes to carry it out.
_JOB = jobs.c.id == sa.bindparam("job")
_INSERT = sa.insert(jobs)
_SELECT = sa.select(jobs).where(_JOB)
_MODEL_OF = (
    sa.select(
        trained_models.c.digest,
        model_files.c.content,
        trained_models.c.window_end,
        model_files.c.window_end.label("last_time"),
        model_files.c.created_at,
    )
    .outerjoin(model_files, model_files.c.digest == trained_models.c.digest)
    .where(trained_models.c.job_id == sa.bindparam("job"))
)
#: A job, and the last line of its log: what clients ask for again and again.
_WITH_PROGRESS = sa.select(
    jobs,
    sa.select(job_log.c.text)
    .where(job_log.c.job_id == jobs.c.id)
    .order_by(job_log.c.number.desc())
    .limit(1)
    .scalar_subquery()
    .label("progress"),
).where(_JOB)
_RUNNING = sa.select(jobs.c.id).where(jobs.c.server_id == sa.bindparam("by"), jobs.c.status == JobStatus.RUNNING.value)
_RUNS = sa.select(jobs.c.id).where(
    _JOB, jobs.c.server_id == sa.bindparam("by"), jobs.c.status == JobStatus.RUNNING.value
)
#: Puts a job at the end of the queue.
_QUEUE = (
    sa.update(jobs)
    .where(
        _JOB,
        jobs.c.endpoint_id == sa.bindparam("of"),
        jobs.c.status == JobStatus.NOT_STARTED.value,
        jobs.c.place.is_(None),
    )
    .values(place=sa.select(sa.func.coalesce(sa.func.max(jobs.c.place), 0)).scalar_subquery() + 1)
)
#: Endpoints whose jobs wait because so many others of theirs run.
_FULL = (
    sa.select(jobs.c.endpoint_id)
    .where(jobs.c.status == JobStatus.RUNNING.value)
    .group_by(jobs.c.endpoint_id)
    .having(sa.func.count() >= sa.bindparam("most"))
)
_FIRST = (
    sa.select(jobs.c.id)
    .where(jobs.c.status == JobStatus.NOT_STARTED.value, jobs.c.place.is_not(None))
    .where(jobs.c.endpoint_id.not_in(_FULL))
    .order_by(jobs.c.place, jobs.c.created_at)
    .limit(1)
    .with_for_update(skip_locked=True)
)
#: Locked, so that nobody declares a server dead before the job that it claims is seen to be its own.
_ALIVE = sa.select(servers.c.id).where(servers.c.id == sa.bindparam("by")).with_for_update(read=True)
#: Sets whatever columns it is given.
_UPDATE = sa.update(jobs).where(_JOB)
_MOVE = _UPDATE.where(jobs.c.status.in_(sa.bindparam("sources", expanding=True)))
_MOVE_OWN = _MOVE.where(jobs.c.server_id == sa.bindparam("by"))
#: Adds a line to the log of a job, if it is there still.
_ADD_LINE = sa.insert(job_log).from_select(
    ["job_id", "time", "text"],
    sa.select(
        sa.bindparam("job", type_=job_log.c.job_id.type),
        sa.bindparam("now", type_=job_log.c.time.type),
        sa.bindparam("line", type_=job_log.c.text.type),
    ).where(sa.exists().where(_JOB)),
)


class JobStore:
    """The jobs of one workspace.

    :param database: where they are kept.
    :param clock: gives the time of the lines of their logs.
    :param most: jobs of one endpoint that run at a time.
    """

    def __init__(self, database: Database, clock: Clock = system_clock, most: int = MAX_RUNNING) -> None:
        self._db = database
        self._clock = clock
        self._most = most

    def add(self, row: JobRow, line: str, counted: tuple[str, datetime] | None = None) -> int | None:
        """Register a job, unless a quota is used up, which is returned.

        :param row: the job.
        :param line: begins its log.
        :param counted: the customer whose quota it counts against, and since when his jobs do.
        """
        values = {**columns(row), "status": row.status.value}
        values |= {"request": self._db.encrypt_json(_stored(row.request)), "results": None}
        with self._db.write() as connection:
            if counted and (used_up := jobs_used_up(connection, *counted)) is not None:
                return used_up
            connection.execute(_INSERT, values)
            self._append(connection, row.id, self.stamped(line))
        return None

    def _row(self, row: sa.RowMapping) -> JobRow:
        with readable(f"The job {row['id']}"):
            request, results = self._db.decrypt_json(row["request"]), self._db.decrypt_json(row["results"])
            status = JobStatus(row["status"])
            return to_row(JobRow, row, status=status, request=request_of(request), results=results)

    def get(self, job_id: str) -> JobRow | None:
        """A job, or ``None``."""
        with self._db.read() as connection:
            row = connection.execute(_SELECT, {"job": job_id}).mappings().first()
        return self._row(row) if row else None

    def with_progress(self, job_id: str) -> tuple[JobRow, str | None] | None:
        """A job and the last line of its log, or ``None``."""
        with self._db.read() as connection:
            row = connection.execute(_WITH_PROGRESS, {"job": job_id}).mappings().first()
        return (self._row(row), row["progress"]) if row else None

    def model_of(self, job_id: str) -> tuple[Digests, ToldWindow] | None:
        """Digests and training data of the model that a job trained; ``None``: it trained none.

        :param job_id: the job.
        """
        with self._db.read() as connection:
            row = connection.execute(_MODEL_OF, {"job": job_id}).first()
        if row is None:
            return None
        digest, content, end, last_time, trained_at = row
        return Digests(digest, content), ToldWindow(end, False, last_time, trained_at)

    def runs(self, job_id: str, server_id: str) -> bool:
        """Whether a job is still this server's to run: not cancelled, not deleted, not taken over.

        :param job_id: the job.
        :param server_id: as it was claimed.
        """
        with self._db.read() as connection:
            return connection.execute(_RUNS, {"job": job_id, "by": server_id}).first() is not None

    def listed(self, endpoint_id: str, limit: int, before: JobRow | None = None) -> list[JobRow]:
        """The newest jobs of an endpoint, of those submitted before another one if it is given; newest first."""
        where = [jobs.c.endpoint_id == endpoint_id]
        if before is not None:
            earlier = sa.and_(jobs.c.created_at == before.created_at, jobs.c.id < before.id)
            where.append(sa.or_(jobs.c.created_at < before.created_at, earlier))
        query = sa.select(jobs).where(*where).order_by(jobs.c.created_at.desc(), jobs.c.id.desc()).limit(limit)
        with self._db.read() as connection:
            return [self._row(row) for row in connection.execute(query).mappings()]

    def queue(self, job_id: str, endpoint_id: str, line: str) -> bool:
        """Put a registered job of an endpoint at the end of the queue; ``False`` if it was there already, or has ended,
        or the endpoint has no such job.
        """
        with self._db.write() as connection:
            moved = connection.execute(_QUEUE, {"job": job_id, "of": endpoint_id}).rowcount == 1
            if moved:
                self._append(connection, job_id, self.stamped(line))
            self._db.notify(connection, JOBS)
        return moved

    def claim(self, server_id: str, now: datetime) -> JobRow | None:
        """Make the first job of the queue this server's and ``Running``; ``None`` if none waits.

        One that cannot be read ends ``Failed``, or it would hold up all that come after it.

        :param server_id: this server; one that the others take for dead gets nothing.
        :param now: the job's start time.
        """
        while (row := self._claimed(server_id, now)) is not None:
            try:
                return self._row(row)
            except Exception:
                log.exception("job %s cannot be read", row["id"])
                values = {"details": _UNREADABLE, "end_time": now}
                self.end(row["id"], server_id, JobStatus.FAILED, values, f"Failed: {_UNREADABLE}")
        return None

    def _claimed(self, server_id: str, now: datetime) -> sa.RowMapping | None:
        with self._db.write() as connection:
            self._db.hold(connection, CLAIM_LOCK, alone=True)
            alive = connection.execute(_ALIVE, {"by": server_id}).first()
            job_id = connection.execute(_FIRST, {"most": self._most}).scalar() if alive else None
            if job_id is None:
                return None
            values = {"status": JobStatus.RUNNING.value, "start_time": now, "server_id": server_id}
            connection.execute(_UPDATE, {"job": job_id, **values})
            self._append(connection, job_id, self.stamped("Running."))
            return connection.execute(_SELECT, {"job": job_id}).mappings().one()

    def running(self, server_id: str) -> set[str]:
        """Ids of the jobs that a server runs.

        :param server_id: the server.
        """
        with self._db.read() as connection:
            return set(connection.execute(_RUNNING, {"by": server_id}).scalars())

    def give_back(self, job_ids: Collection[str], server_id: str) -> None:
        """Put jobs back in the queue, at their old places.

        :param job_ids: some that the server runs; others stay as they are.
        :param server_id: the server, which has not begun them.
        """
        with self._db.write() as connection:
            requeue(connection, jobs.c.id.in_(job_ids), jobs.c.server_id == server_id, line="Not begun; it runs again.")

    def end(
        self,
        job_id: str,
        server_id: str,
        status: JobStatus,
        values: Mapping[str, Any],
        line: str,
        trained: Trained | None = None,
        before: Sequence[LogLine] = (),
    ) -> bool:
        """End a job that this server runs; ``False`` if it does no more: it was cancelled, or another server runs it.

        :param job_id: the job.
        :param server_id: as it was claimed.
        :param status: its last state.
        :param values: other columns to set; ``results`` is encrypted here.
        :param line: for its log.
        :param trained: the model that it wrote, and what is known of it.
        :param before: lines of its log that were not written yet.
        """
        lines = (*before, self.stamped(line))
        return self._move(job_id, status, values, lines, by=server_id, trained=trained)

    def _move(
        self,
        job_id: str,
        to: JobStatus,
        values: Mapping[str, Any],
        lines: Sequence[LogLine],
        *,
        by: str | None = None,
        trained: Trained | None = None,
    ) -> bool:
        sources = [status.value for status, targets in TRANSITIONS.items() if to in targets]
        which = {"job": job_id, "sources": sources, **({} if by is None else {"by": by})}
        changed = {**values, "status": to.value}
        if "results" in changed:
            changed["results"] = self._db.encrypt_json(changed["results"])
        with self._db.write() as connection:
            update = connection.execute(_MOVE if by is None else _MOVE_OWN, {**which, **changed})
            if trained and update.rowcount == 1:
                model, facts, samples = trained
                add_models(connection, [facts])
                add_trained(connection, model)
                add_samples(connection, samples)
            if update.rowcount == 1:
                self._append(connection, job_id, *lines)
        return update.rowcount == 1

    def cancel(self, job_id: str, now: datetime) -> bool:
        """Cancel a job; ``False`` if it has ended already."""
        return self._move(job_id, JobStatus.CANCELLED, {"end_time": now}, [self.stamped("Cancelled.")])

    # -- what a person wants to know ---------------------------------------------------------------------------------

    def stamped(self, line: str) -> LogLine:
        """A line for a job's log, of now.

        :param line: what happened; signatures and account keys in it are blotted out.
        """
        return LogLine(self._clock(), without_secrets(line)[:_LINE])

    def append_log(self, job_id: str, lines: Sequence[LogLine]) -> None:
        """Write lines into a job's log; those about a job that is gone are dropped.

        :param job_id: the job.
        :param lines: of :meth:`stamped`.
        """
        with self._db.write() as connection:
            self._append(connection, job_id, *lines)

    def _append(self, connection: sa.Connection, job_id: str, *lines: LogLine) -> None:
        connection.execute(_ADD_LINE, [{"job": job_id, "now": line.time, "line": line.text} for line in lines])

    def log_of(self, job_id: str) -> tuple[LogLine, ...]:
        """The log of a job, oldest line first."""
        query = sa.select(job_log.c.time, job_log.c.text).where(job_log.c.job_id == job_id).order_by(job_log.c.number)
        with self._db.read() as connection:
            return tuple(LogLine(time, text) for time, text in connection.execute(query))

    def last_lines(self, job_ids: Sequence[str]) -> dict[str, str]:
        """The last line of each job's log, for those that have one."""
        last = sa.select(sa.func.max(job_log.c.number)).where(job_log.c.job_id.in_(job_ids)).group_by(job_log.c.job_id)
        query = sa.select(job_log.c.job_id, job_log.c.text).where(job_log.c.number.in_(last))
        with self._db.read() as connection:
            return {job: text for job, text in connection.execute(query)}


def requeue(
    connection: sa.Connection,
    *where: sa.ColumnElement[bool],
    line: str = "The server that ran it stopped; it runs again.",
) -> list[str]:
    """Put running jobs back in the queue, at their old places.

    :param connection: of the transaction, which ends the servers if that is why.
    :param where: which jobs.
    :param line: for their logs.
    :return: ids of these jobs.
    """
    running = (jobs.c.status == JobStatus.RUNNING.value, *where)
    ids = list(connection.execute(sa.select(jobs.c.id).where(*running)).scalars())
    values = {"status": JobStatus.NOT_STARTED.value, "start_time": None, "server_id": None}
    connection.execute(sa.update(jobs).where(*running).values(**values))
    lines = [{"job_id": job, "time": system_clock(), "text": line} for job in ids]
    if lines:
        connection.execute(sa.insert(job_log), lines)
    return ids


#: Member of a stored request beside those of the body.
_PURPOSE = "Purpose"


def _stored(request: JobRequest) -> dict[str, Any]:
    purpose = {_PURPOSE: request.purpose.to_json()} if request.purpose else {}
    return {**request.to_wire(), **purpose}


def request_of(stored: dict[str, Any]) -> JobRequest:
    """What a job is to do.

    :param stored: as it is kept, decrypted.
    """
    purpose = stored.pop(_PURPOSE, None)
    return replace(JobRequest.from_wire(stored), purpose=Purpose.from_json(purpose) if purpose else None)
