"""Batch jobs: what may be submitted, started, seen and cancelled; running them is :mod:`.runner`'s."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Protocol

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.job_history import JobPage, LogLine
from airflow_provider_azureml_classic.protocol.jobs import Job, JobRequest, JobStatus
from airflow_provider_azureml_classic.protocol.references import MODEL_EXTENSION, BlobReference
from airflow_provider_azureml_classic.server.clock import Clock
from airflow_provider_azureml_classic.server.jobs.arguments import Arguments
from airflow_provider_azureml_classic.server.state.endpoint_store import Store
from airflow_provider_azureml_classic.server.state.history import target_of
from airflow_provider_azureml_classic.server.state.job_store import JobStore
from airflow_provider_azureml_classic.server.state.tables import EndpointRow, JobRow, ServiceRow
from airflow_provider_azureml_classic.server.storage.locations import Locations
from airflow_provider_azureml_classic.server.storage.scope import Scope
from airflow_provider_azureml_classic.server.workspace.quotas import Quotas


class Queue(Protocol):
    """Runs started jobs."""

    def poll(self) -> None:
        """Run what waits, as soon as there is room."""

    def stop(self, job_id: str) -> None:
        """Stop the work of a job that was cancelled.

        :param job_id: the job.
        """


class Jobs:
    """The jobs of a workspace.

    :param store: web services.
    :param jobs: their jobs.
    :param arguments: checks what a job is given.
    :param locations: places of results.
    :param queue: runs started jobs.
    :param clock: gives the present time.
    :param quotas: how many jobs a customer may submit.
    """

    def __init__(
        self,
        store: Store,
        jobs: JobStore,
        arguments: Arguments,
        locations: Locations,
        queue: Queue,
        clock: Clock,
        quotas: Quotas,
    ) -> None:
        self._quotas = quotas
        self._store = store
        self._jobs = jobs
        self._arguments = arguments
        self._locations = locations
        self._queue = queue
        self._clock = clock

    def submit(self, endpoint: EndpointRow, request: JobRequest) -> str:
        """Register a job.

        :param endpoint: the endpoint called.
        :param request: inputs, outputs and parameters.
        :return: its id.
        :raises RequestRejected: naming the input, output or parameter at fault.
        """
        service = self._store.service(endpoint.service_id)
        if service is None:
            raise rejection("WebServiceNotFound", "The web service was deleted meanwhile.")
        self._quotas.check_job(endpoint)
        checked = self._arguments.checked(Scope(endpoint.customer), service, request)
        row = JobRow(
            id=uuid.uuid4().hex,
            endpoint_id=endpoint.id,
            status=JobStatus.NOT_STARTED,
            place=None,
            request=checked,
            results=None,
            details=None,
            created_at=self._clock(),
            start_time=None,
            end_time=None,
            for_endpoint=_target(endpoint, service, checked),
        )
        # Counted again where nobody else submits one at the same time.
        used_up = self._jobs.add(row, _submitted(endpoint, checked), self._quotas.counted(endpoint))
        if used_up is not None:
            raise self._quotas.no_more_jobs(used_up)
        return row.id

    def start(self, endpoint: EndpointRow, job_id: str) -> None:
        """Start a registered job.

        :param endpoint: the endpoint it was submitted to.
        :param job_id: the job.
        :raises RequestRejected: ``CannotStartJob``: it was started, or has ended.
        """
        if not self._jobs.queue(job_id, endpoint.id, "Started; it runs when its turn comes."):
            state = self._row(endpoint, job_id).status.value
            started = " and has been started already" if state == JobStatus.NOT_STARTED.value else ""
            raise rejection(
                "CannotStartJob", f"Job {job_id} cannot be started because it is in {state} state{started}."
            )
        self._queue.poll()

    def get(self, endpoint: EndpointRow, job_id: str) -> Job:
        """State of a job; results with fresh SAS tokens.

        :param endpoint: the endpoint it was submitted to.
        :param job_id: the job.
        """
        row, progress = self._jobs.with_progress(job_id) or (None, None)
        if row is None or row.endpoint_id != endpoint.id:
            raise self._absent(endpoint, job_id)
        results = {
            name: self._locations.published(BlobReference.from_wire(reference), signed=True)
            for name, reference in (row.results or {}).items()
        }
        samples = self._locations.published(BlobReference(row.samples), signed=True) if row.samples else None
        model, window = (self._jobs.model_of(job_id) if row.results else None) or (None, None)
        job = _job(row, progress, results)
        return replace(job, samples=samples, model=model, window=window, data_check=row.data_check)

    def page(self, endpoint: EndpointRow, limit: int, before: str | None) -> JobPage:
        """The jobs of an endpoint, newest first, without their results.

        :param endpoint: the endpoint.
        :param limit: the most that are wanted.
        :param before: the job after which the page before this one ended.
        """
        newest = self._row(endpoint, before) if before is not None else None
        rows = self._jobs.listed(endpoint.id, limit + 1, newest)
        last = self._jobs.last_lines([row.id for row in rows])
        jobs = tuple(_job(row, last.get(row.id)) for row in rows[:limit])
        return JobPage(jobs, jobs[-1].id if len(rows) > limit else None)

    def log(self, endpoint: EndpointRow, job_id: str) -> tuple[LogLine, ...]:
        """What happened to a job, oldest first.

        :param endpoint: the endpoint it was submitted to.
        :param job_id: the job.
        """
        return self.lines(self._row(endpoint, job_id).id)

    def lines(self, job_id: str) -> tuple[LogLine, ...]:
        """The same, of a job of whatever endpoint.

        :param job_id: the job.
        """
        return self._jobs.log_of(job_id)

    def output(self, job_id: str, name: str) -> BlobReference | None:
        """Where the server itself reads an output of a finished job; ``None`` if there is none.

        :param job_id: the job, of whatever endpoint.
        :param name: of the output.
        """
        row = self._jobs.get(job_id)
        reference = (row.results or {}).get(name) if row else None
        return BlobReference.from_wire(reference) if reference else None

    def model(self, job_id: str) -> BlobReference | None:
        """Where the server itself reads the model that a finished job wrote; ``None`` if there is none.

        :param job_id: the job, of whatever endpoint.
        """
        row = self._jobs.get(job_id)
        results = [BlobReference.from_wire(wire) for wire in (row.results or {}).values()] if row else []
        return next((output for output in results if output.extension == MODEL_EXTENSION), None)

    def facts(self, job_id: str) -> JobRow:
        """A job of whatever endpoint, as it is kept: its locations may hold secrets.

        :param job_id: the job.
        :raises NotFound: there is none.
        """
        row = self._jobs.get(job_id)
        if row is None:
            raise rejection("JobNotFound", f"There is no job {job_id!r}.", target=job_id)
        return row

    def cancel(self, endpoint: EndpointRow, job_id: str) -> None:
        """Cancel a job; one that has ended stays as it is, because old clients always delete what they ran.

        :param endpoint: the endpoint it was submitted to.
        :param job_id: the job.
        """
        row = self._row(endpoint, job_id)
        if self._jobs.cancel(row.id, self._clock()):
            self._queue.stop(row.id)

    def _row(self, endpoint: EndpointRow, job_id: str) -> JobRow:
        row = self._jobs.get(job_id)
        if row is None or row.endpoint_id != endpoint.id:
            raise self._absent(endpoint, job_id)
        return row

    def _absent(self, endpoint: EndpointRow, job_id: str) -> AzureMLClassicError:
        return rejection("JobNotFound", f"Endpoint {endpoint.name!r} has no job {job_id!r}.", target=job_id)


def _job(row: JobRow, progress: str | None, results: Mapping[str, BlobReference] = MappingProxyType({})) -> Job:
    return Job(row.id, row.status, results, row.details, row.created_at, row.start_time, row.end_time, progress)


def _target(endpoint: EndpointRow, service: ServiceRow, request: JobRequest) -> str | None:
    """The scoring endpoint that a training is for; a customer who is kept apart trains for himself."""
    if not service.training:
        return None
    if endpoint.customer is not None:
        return endpoint.name
    models = (place for place in request.outputs.values() if place.extension == MODEL_EXTENSION)
    return target_of(next(models, None), request.purpose)


def _submitted(endpoint: EndpointRow, request: JobRequest) -> str:
    """What a job is to do, for its log: places without their tokens."""
    references = [f"{name} from {reference.location}" for name, reference in request.inputs.items()]
    references += [f"{name} to {reference.location}" for name, reference in request.outputs.items()]
    values = [f"{name} = {value!r}" for name, value in request.global_parameters.items()]
    return f"Submitted to endpoint {endpoint.name!r}: {', '.join([*references, *values])}."
