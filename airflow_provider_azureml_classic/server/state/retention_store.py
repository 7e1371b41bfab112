"""What of ended jobs is kept for a time, and what was removed when it was over."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from airflow_provider_azureml_classic.protocol.jobs import JobStatus
from airflow_provider_azureml_classic.protocol.references import MODEL_EXTENSION, BlobReference
from airflow_provider_azureml_classic.server.state.database import Database
from airflow_provider_azureml_classic.server.state.job_store import request_of
from airflow_provider_azureml_classic.server.state.tables import (
    job_log,
    jobs,
    model_files,
    placements,
    removals,
    trained_models,
)

#: Removals that are remembered at most.
MAX_REMOVALS = 1_000_000
#: Advisory lock of the server that removes.
_LOCK = 0x617A6D6C04
_NOT_ENDED = (JobStatus.NOT_STARTED.value, JobStatus.RUNNING.value)
_PLACE = sa.tuple_(jobs.c.end_time, jobs.c.id)
_ENDED = (
    sa.select(
        jobs.c.id,
        jobs.c.end_time,
        jobs.c.results,
        jobs.c.samples,
        jobs.c.removal_noted_at,
        trained_models.c.digest,
        model_files.c.content,
    )
    .outerjoin(trained_models, trained_models.c.job_id == jobs.c.id)
    .outerjoin(model_files, model_files.c.digest == trained_models.c.digest)
    .where(jobs.c.outputs_removed_at.is_(None), jobs.c.status == JobStatus.FINISHED.value)
    .order_by(jobs.c.end_time, jobs.c.id)
)


@dataclass(frozen=True)
class EndedJob:
    """A finished job, and what it wrote.

    :param id: the job.
    :param ended_at: when it ended.
    :param outputs: where it wrote; may hold what opens the places.
    :param noted_at: when it was noted that they may go; ``None``: they were not.
    :param digest: SHA-256 of the model that it trained; ``None``: it trained none, or that is not known.
    :param content: digest of what the model answers with.
    """

    id: str
    ended_at: datetime
    outputs: tuple[BlobReference, ...] = field(repr=False)
    noted_at: datetime | None
    digest: str | None
    content: str | None

    @property
    def place(self) -> tuple[datetime, str]:
        """Where it stands in the order of ends."""
        return self.ended_at, self.id

    @property
    def wrote_a_model(self) -> bool:
        """Whether there is a model among its outputs."""
        return any(output.relative_location.endswith(MODEL_EXTENSION) for output in self.outputs)


@dataclass(frozen=True)
class Removal:
    """A blob that was removed.

    :param removed_at: when.
    :param rule: the option that says how long such blobs are kept.
    """

    removed_at: datetime
    rule: str


class RetentionStore:
    """Reads what is old, and writes down what was removed.

    :param database: where both are kept.
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether no other server removes anything in this moment; then none begins it in the block."""
        with self._db.attempt(_LOCK) as alone:
            yield alone

    def ended(
        self, before: datetime, limit: int, after: tuple[datetime, str] | None, *, trained: bool
    ) -> list[EndedJob]:
        """Finished jobs whose outputs are there still, those that ended first first.

        :param before: when they have ended at the latest.
        :param limit: the most that are wanted.
        :param after: :attr:`EndedJob.place` after which to begin; ``None``: with the first.
        :param trained: those that trained a model, or those that did not.
        """
        query = _ENDED.where(jobs.c.end_time < before, trained_models.c.job_id.is_not(None) == trained).limit(limit)
        if after is not None:
            query = query.where(sa.tuple_(sa.literal(after[0], jobs.c.end_time.type), sa.literal(after[1])) < _PLACE)
        with self._db.read(slow=True) as connection:
            return [self._job(row) for row in connection.execute(query)]

    def _job(self, row: Any) -> EndedJob:
        results: Mapping[str, Any] = self._db.decrypt_json(row.results) or {}
        outputs = [BlobReference.from_wire(one) for one in results.values()]
        samples = [BlobReference(row.samples)] if row.samples else []
        return EndedJob(row.id, row.end_time, (*outputs, *samples), row.removal_noted_at, row.digest, row.content)

    def placed_since(self, moment: datetime) -> set[str]:
        """Digests of the models that were in place at some time since a moment, as far as the histories go.

        :param moment: the beginning.
        """
        live_then = (
            sa.select(sa.func.max(placements.c.id))
            .where(placements.c.placed_at < moment)
            .group_by(placements.c.endpoint_id, placements.c.resource)
        )
        query = sa.select(placements.c.digest).distinct()
        wanted = query.where(sa.or_(placements.c.placed_at >= moment, placements.c.id.in_(live_then)))
        with self._db.read(slow=True) as connection:
            return set(connection.execute(wanted).scalars())

    def contents(self, digests: Collection[str], contents: Collection[str]) -> set[str]:
        """Those of some contents that models of some files have.

        :param digests: SHA-256 of the files.
        :param contents: digests of what models answer with.
        """
        query = sa.select(model_files.c.digest, model_files.c.content).where(model_files.c.content.in_(contents))
        with self._db.read() as connection:
            return {content for digest, content in connection.execute(query) if digest in digests}

    def inputs_to_read(self) -> list[BlobReference]:
        """What jobs read that have not ended, and what they write."""
        query = sa.select(jobs.c.request).where(jobs.c.status.in_(_NOT_ENDED))
        with self._db.read(slow=True) as connection:
            requests = [request_of(self._db.decrypt_json(stored)) for stored in connection.execute(query).scalars()]
        return [place for request in requests for place in (*request.inputs.values(), *request.outputs.values())]

    def note(self, job_ids: Collection[str], moment: datetime | None) -> None:
        """Note that the outputs of jobs may go, or that they may not.

        :param job_ids: the jobs.
        :param moment: the present time; ``None``: they are needed.
        """
        if job_ids:
            with self._db.write() as connection:
                values = {"removal_noted_at": moment}
                connection.execute(sa.update(jobs).where(jobs.c.id.in_(job_ids)).values(**values))

    def record(self, job_id: str, paths: Iterable[str], removal: Removal) -> None:
        """Write down that the outputs of a job were removed.

        :param job_id: the job.
        :param paths: container and name of each blob that was there.
        :param removal: when, and why.
        """
        values = {"removed_at": removal.removed_at, "rule": removal.rule}
        rows = [{"path": path, **values} for path in paths]
        with self._db.write() as connection:
            gone = sa.update(jobs).where(jobs.c.id == job_id).values(outputs_removed_at=removal.removed_at)
            connection.execute(gone)
            if rows:
                connection.execute(sa.delete(removals).where(removals.c.path.in_([row["path"] for row in rows])))
                connection.execute(sa.insert(removals), rows)

    def removal(self, path: str) -> Removal | None:
        """When and why a blob was removed; ``None``: it was not, or that was long ago.

        :param path: container and name.
        """
        with self._db.read() as connection:
            row = connection.execute(sa.select(removals).where(removals.c.path == path)).first()
        return Removal(row.removed_at, row.rule) if row else None

    def forget_removals(self, most: int = MAX_REMOVALS) -> None:
        """Forget the oldest removals.

        :param most: how many stay.
        """
        last = sa.select(removals.c.removed_at).order_by(removals.c.removed_at.desc()).offset(most).limit(1)
        with self._db.write(slow=True) as connection:
            connection.execute(sa.delete(removals).where(removals.c.removed_at <= last.scalar_subquery()))

    def old_logs(self, before: datetime, limit: int | None) -> Sequence[str]:
        """Jobs whose logs are there still.

        :param before: when they have ended at the latest.
        :param limit: the most that are wanted; ``None``: all.
        """
        old = sa.select(jobs.c.id).where(jobs.c.end_time < before, jobs.c.log_removed_at.is_(None))
        with self._db.read(slow=True) as connection:
            return connection.execute(old.order_by(jobs.c.end_time, jobs.c.id).limit(limit)).scalars().all()

    def remove_logs(self, job_ids: Sequence[str], removal: Removal) -> None:
        """Put a line into the place of the logs of jobs.

        :param job_ids: the jobs.
        :param removal: when, and why.
        """
        text = f"The log of this job was removed because of its age ({removal.rule})."
        lines = [{"job_id": job, "time": removal.removed_at, "text": text} for job in job_ids]
        with self._db.write() as connection:
            connection.execute(sa.delete(job_log).where(job_log.c.job_id.in_(job_ids)))
            connection.execute(sa.insert(job_log), lines)
            gone = sa.update(jobs).where(jobs.c.id.in_(job_ids)).values(log_removed_at=removal.removed_at)
            connection.execute(gone)
