"""Batch jobs: what may be submitted, started, seen and cancelled; running them is :mod:`.runner`'s."""

from __future__ import annotations

import uuid
from typing import Protocol

from airflow_provider_azureml_classic.exceptions import rejection
from airflow_provider_azureml_classic.protocol.jobs import Job, JobRequest, JobStatus
from airflow_provider_azureml_classic.protocol.references import DATA_EXTENSIONS, MODEL_EXTENSION, BlobReference
from airflow_provider_azureml_classic.server.clock import Clock
from airflow_provider_azureml_classic.server.job_store import JobStore
from airflow_provider_azureml_classic.server.locations import READ, WRITE, Locations
from airflow_provider_azureml_classic.server.store import Store
from airflow_provider_azureml_classic.server.tables import EndpointRow, JobRow, ServiceRow

INPUT = "input1"
#: A training service's outputs: the trained model and its evaluation (wire document, section 4.2).
MODEL_OUTPUT, EVALUATION_OUTPUT = "output1", "output2"
#: A scoring service's output.
SCORED_OUTPUT = "output1"
#: Container of outputs that no override sends elsewhere, as in the cloud service.
OUTPUT_CONTAINER = "experimentoutput"


class Queue(Protocol):
    """Runs started jobs."""

    def look(self) -> None:
        """Run what waits, as soon as there is room."""

    def stop(self, job_id: str) -> None:
        """Stop the work of a job that was cancelled.

        :param job_id: the job.
        """


class Jobs:
    """The jobs of a workspace.

    :param store: web services.
    :param jobs: their jobs.
    :param locations: places of inputs and outputs.
    :param queue: runs started jobs.
    :param clock: gives the present time.
    """

    def __init__(self, store: Store, jobs: JobStore, locations: Locations, queue: Queue, clock: Clock) -> None:
        self._store = store
        self._jobs = jobs
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
        checked = self._checked(service, request)
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
        )
        self._jobs.add(row)
        return row.id

    def _checked(self, service: ServiceRow, request: JobRequest) -> JobRequest:
        inputs = {name or INPUT: reference for name, reference in request.inputs.items()}
        unknown = sorted(set(inputs) - {INPUT})
        if unknown:
            raise rejection(
                "InvalidInputNames", f"There is no input {unknown[0]!r}; the inputs are: {INPUT}.", target=unknown[0]
            )
        if not inputs:
            raise rejection("BatchJobInputsNotSpecified", f"The job needs the input {INPUT}.", target=INPUT)
        for parameter in request.global_parameters:
            raise rejection(
                "UnexpectedParameter", f"The web service has no parameter {parameter!r}; it has none.", target=parameter
            )
        _check_extension(INPUT, inputs[INPUT], DATA_EXTENSIONS)
        source = self._locations.checked(inputs[INPUT], READ)
        return JobRequest({INPUT: source}, self._checked_outputs(service, request))

    def _checked_outputs(self, service: ServiceRow, request: JobRequest) -> dict[str, BlobReference]:
        extensions = output_extensions(service)
        kept = {}
        for name, reference in request.outputs.items():
            if name not in extensions:
                raise rejection(
                    "InvalidOutputOverrideName",
                    f"There is no output {name!r}; the outputs are (case-sensitive): {', '.join(extensions)}.",
                    target=name,
                )
            _check_extension(name, reference, extensions[name])
            kept[name] = self._locations.checked(reference, WRITE)
        return kept

    def start(self, endpoint: EndpointRow, job_id: str) -> None:
        """Start a registered job.

        :param endpoint: the endpoint it was submitted to.
        :param job_id: the job.
        :raises RequestRejected: ``CannotStartJob``: it was started, or has ended.
        """
        row = self._row(endpoint, job_id)
        if not self._jobs.queue(row.id):
            state = self._row(endpoint, job_id).status.value
            started = " and has been started already" if state == JobStatus.NOT_STARTED.value else ""
            raise rejection(
                "CannotStartJob", f"Job {job_id} cannot be started because it is in {state} state{started}."
            )
        self._queue.look()

    def get(self, endpoint: EndpointRow, job_id: str) -> Job:
        """State of a job; results with fresh SAS tokens.

        :param endpoint: the endpoint it was submitted to.
        :param job_id: the job.
        """
        row = self._row(endpoint, job_id)
        results = {
            name: self._locations.published(BlobReference.from_wire(place), signed=True)
            for name, place in (row.results or {}).items()
        }
        return Job(row.id, row.status, results, row.details, row.created_at, row.start_time, row.end_time)

    def output(self, job_id: str, name: str) -> BlobReference | None:
        """Where the server itself reads an output of a finished job; ``None`` if there is none.

        :param job_id: the job, of whatever endpoint.
        :param name: of the output.
        """
        row = self._jobs.get(job_id)
        place = (row.results or {}).get(name) if row else None
        return BlobReference.from_wire(place) if place else None

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
            raise rejection("JobNotFound", f"Endpoint {endpoint.name!r} has no job {job_id!r}.", target=job_id)
        return row


def output_extensions(service: ServiceRow) -> dict[str, tuple[str, ...]]:
    """The outputs of a web service and the extensions that each may have.

    :param service: the web service.
    """
    if service.training:
        return {MODEL_OUTPUT: (MODEL_EXTENSION,), EVALUATION_OUTPUT: DATA_EXTENSIONS[:1]}
    return {SCORED_OUTPUT: DATA_EXTENSIONS[:1]}


def output_place(job: JobRow, name: str, extension: str) -> BlobReference:
    """Where an output goes: its override, or a generated path in the own store.

    :param job: the job.
    :param name: the output.
    :param extension: of a generated path.
    """
    override = job.request.outputs.get(name)
    if override:
        return override
    return BlobReference(f"{OUTPUT_CONTAINER}/{job.id}/{job.id}-{name}{extension}")


def _check_extension(name: str, reference: BlobReference, allowed: tuple[str, ...]) -> None:
    if reference.extension not in allowed:
        raise rejection(
            "InvalidBlobExtension",
            f"{name} is {reference.relative_location!r}; its name must end in {' or '.join(allowed)}.",
            target=name,
        )
