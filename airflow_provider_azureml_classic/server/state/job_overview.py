"""What the pages ask the database about jobs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from airflow_provider_azureml_classic.protocol.jobs import JobStatus
from airflow_provider_azureml_classic.server.state.database import Database, to_row
from airflow_provider_azureml_classic.server.state.overview import FAILURES, LINES, TRAINED_END
from airflow_provider_azureml_classic.server.state.tables import (
    endpoints,
    jobs,
    model_files,
    trained_models,
    web_services,
)


@dataclass(frozen=True)
class JobLine:
    """A job in a list."""

    id: str
    status: JobStatus
    queued: bool
    details: str | None
    created_at: datetime
    start_time: datetime | None
    end_time: datetime | None
    endpoint_id: str
    endpoint: str
    service_id: str
    service: str
    experiment: str
    training: bool
    for_endpoint: str | None
    digest: str | None
    window_end: datetime | None
    metrics: dict[str, float]


class JobQueries:
    """Reads jobs for the pages.

    :param database: where the state is kept.
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    def jobs(
        self, *, states: Sequence[JobStatus] = (), service_id: str = "", endpoint_id: str = "", page: int = 1
    ) -> tuple[list[JobLine], int]:
        """One page of the jobs, newest first, and how many there are on all pages.

        :param states: wanted states; empty: all.
        :param service_id: of this web service only.
        :param endpoint_id: of this endpoint only.
        :param page: the first is 1.
        """
        where: list[sa.ColumnElement[bool]] = []
        if states:
            where.append(jobs.c.status.in_([state.value for state in states]))
        if service_id:
            where.append(endpoints.c.service_id == service_id)
        if endpoint_id:
            where.append(jobs.c.endpoint_id == endpoint_id)
        query = _JOBS.where(*where).order_by(jobs.c.created_at.desc()).limit(LINES).offset((page - 1) * LINES)
        counted = sa.select(sa.func.count()).select_from(jobs.join(endpoints, endpoints.c.id == jobs.c.endpoint_id))
        with self._db.read() as connection:
            count = connection.execute(counted.where(*where)).scalar() or 0
            return [_job(row) for row in connection.execute(query).mappings()], count

    def job(self, job_id: str) -> JobLine | None:
        """One job, or ``None``."""
        with self._db.read() as connection:
            row = connection.execute(_JOBS.where(jobs.c.id == job_id)).mappings().first()
        return _job(row) if row else None

    def failures(self, endpoint_ids: Collection[str]) -> dict[str, JobLine]:
        """The last retrain of each endpoint for which it failed and no model was trained or put in place since.

        :param endpoint_ids: of endpoints that score.
        """
        failed = FAILURES.where(FAILURES.selected_columns.endpoint_id.in_(endpoint_ids)).order_by(None).subquery()
        query = _JOBS.add_columns(failed.c.endpoint_id.label("target")).join(failed, failed.c.job_id == jobs.c.id)
        with self._db.read() as connection:
            rows = connection.execute(query.order_by(jobs.c.created_at)).mappings()
            return {row["target"]: _job(row) for row in rows}

    def failed_for(self, name: str, experiment: str, limit: int) -> list[JobLine]:
        """Failed trainings for an endpoint, newest first.

        :param name: of the endpoint.
        :param experiment: of its web service.
        :param limit: the most that are wanted.
        """
        where = (
            jobs.c.status == JobStatus.FAILED.value,
            jobs.c.for_endpoint == name,
            web_services.c.training,
            web_services.c.experiment == experiment,
        )
        query = _JOBS.where(*where).order_by(jobs.c.created_at.desc()).limit(limit)
        with self._db.read() as connection:
            return [_job(row) for row in connection.execute(query).mappings()]

    def job_counts(self) -> dict[str, int]:
        """Number of jobs by state."""
        query = sa.select(jobs.c.status, sa.func.count()).group_by(jobs.c.status)
        with self._db.read() as connection:
            return {status: count for status, count in connection.execute(query)}

    def typical_seconds(self, service_id: str) -> float | None:
        """How long the last ten finished jobs of a web service took in the middle; ``None`` without any."""
        query = (
            sa.select(jobs.c.start_time, jobs.c.end_time)
            .join(endpoints, endpoints.c.id == jobs.c.endpoint_id)
            .where(endpoints.c.service_id == service_id, jobs.c.status == JobStatus.FINISHED.value)
            .order_by(jobs.c.end_time.desc())
            .limit(10)
        )
        with self._db.read() as connection:
            seconds = sorted((end - start).total_seconds() for start, end in connection.execute(query) if start and end)
        return seconds[len(seconds) // 2] if seconds else None


_JOBS = (
    sa.select(
        jobs.c.id,
        jobs.c.status,
        jobs.c.place.is_not(None).label("queued"),
        jobs.c.details,
        jobs.c.created_at,
        jobs.c.start_time,
        jobs.c.end_time,
        jobs.c.endpoint_id,
        endpoints.c.name.label("endpoint"),
        endpoints.c.service_id,
        web_services.c.name.label("service"),
        web_services.c.experiment,
        web_services.c.training,
        jobs.c.for_endpoint,
        trained_models.c.digest,
        TRAINED_END.label("window_end"),
        model_files.c.metrics,
    )
    .join(endpoints, endpoints.c.id == jobs.c.endpoint_id)
    .join(web_services, web_services.c.id == endpoints.c.service_id)
    .outerjoin(trained_models, trained_models.c.job_id == jobs.c.id)
    .outerjoin(model_files, model_files.c.digest == trained_models.c.digest)
)


def _job(row: sa.RowMapping) -> JobLine:
    return to_row(JobLine, row, status=JobStatus(row["status"]), metrics=row["metrics"] or {})
