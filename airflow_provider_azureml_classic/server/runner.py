"""Runs started jobs: fetch the input, train in a worker process, deliver the outputs, record the end.

Rule 1: what a job does is taken up again after a crash; a job that was running is run again from the start.
Rule 2: outputs are delivered before the job is ``Finished``; a job that was cancelled meanwhile, or that another server
has taken over, delivers nothing.
Rule 3: at most one job a worker process is ``Running``; the others wait in the order in which they were started, and
the next free server takes the next one.
Rule 4: a job that is cancelled while it runs has its work stopped, and its place is free for the next one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.jobs import JobStatus
from airflow_provider_azureml_classic.protocol.references import MODEL_EXTENSION, BlobReference
from airflow_provider_azureml_classic.server.catalogue import Catalogue
from airflow_provider_azureml_classic.server.clock import Clock
from airflow_provider_azureml_classic.server.database import DatabaseDown
from airflow_provider_azureml_classic.server.experiments.batch import score_file
from airflow_provider_azureml_classic.server.experiments.ilearner import read_ilearner
from airflow_provider_azureml_classic.server.experiments.training import train
from airflow_provider_azureml_classic.server.history import model_row, trained_row
from airflow_provider_azureml_classic.server.job_store import JobStore
from airflow_provider_azureml_classic.server.jobs import (
    EVALUATION_OUTPUT,
    INPUT,
    MODEL_OUTPUT,
    SCORED_OUTPUT,
    output_place,
)
from airflow_provider_azureml_classic.server.locations import Locations, naming
from airflow_provider_azureml_classic.server.models import ModelStore
from airflow_provider_azureml_classic.server.peers import Peers
from airflow_provider_azureml_classic.server.pins import Pins
from airflow_provider_azureml_classic.server.store import Store
from airflow_provider_azureml_classic.server.tables import EndpointRow, JobRow, ModelRow, ServiceRow, TrainedRow

T = TypeVar("T")

log = logging.getLogger(__name__)

#: How often a running job is looked at, in seconds: another server may have cancelled it, or deleted its endpoint.
LOOK_EVERY = 2.0
#: Finished files by output name, and where each goes.
Outputs = dict[str, tuple[Path, BlobReference]]


@dataclass(frozen=True)
class End:
    """How a job ended.

    :param status: its last state.
    :param values: columns to set.
    :param trained: the model that it wrote.
    """

    status: JobStatus
    values: dict[str, Any]
    trained: tuple[TrainedRow, ModelRow] | None = None


class Runner:
    """Runs jobs in the background.

    :param store: endpoints and web services.
    :param jobs: jobs.
    :param catalogue: experiments and their columns.
    :param models: model files, for batch scoring.
    :param locations: places of inputs and outputs.
    :param pool: carries out training and scoring in other processes.
    :param slots: jobs running at a time.
    :param clock: gives the present time.
    :param peers: the servers that share the jobs.
    :param pins: keeps model files while they are read.
    """

    def __init__(
        self,
        store: Store,
        jobs: JobStore,
        catalogue: Catalogue,
        models: ModelStore,
        locations: Locations,
        pool: Executor,
        slots: int,
        clock: Clock,
        peers: Peers,
        pins: Pins,
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._catalogue = catalogue
        self._models = models
        self._locations = locations
        self._pool = pool
        self._clock = clock
        self._peers = peers
        self._pinned = pins.pinned
        self._slots = slots
        self._looking = 0
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix="job")
        self._closing = threading.Event()
        self._working: dict[str, Future[Any]] = {}

    def look(self) -> None:
        """Run what waits, as soon as there is room."""
        with self._lock:
            if self._looking >= self._slots or self._closing.is_set():
                return
            self._looking += 1
        self._threads.submit(self._drain)

    def stop(self, job_id: str) -> None:
        """Stop the work of a job that was cancelled.

        :param job_id: the job.
        """
        work = self._working.get(job_id)
        if work is not None:
            work.cancel()

    def close(self) -> None:
        """Stop; jobs that have not ended are taken up at the next start, or by another server."""
        with self._lock:
            self._closing.set()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _drain(self) -> None:
        """Run one job after the other until none waits."""
        while not self._closing.is_set():
            with self._lock:
                # Before the look: a job that comes after it finds room for a look of its own.
                self._looking -= 1
            server_id = self._peers.id
            try:
                job = self._jobs.claim(server_id, self._clock())
            except DatabaseDown:
                job = None
            except Exception:
                log.exception("the next job could not be read")
                job = None
            if job is None:
                return
            self._run_safely(job.id, server_id)
            with self._lock:
                self._looking += 1

    def _run_safely(self, job_id: str, server_id: str) -> None:
        while not self._closing.is_set() and self._peers.id == server_id:
            try:
                self._end(job_id, server_id, self._outcome(job_id, server_id))
                return
            except DatabaseDown:
                # The job is still this server's; if it is another's by then, the id has changed.
                self._closing.wait(1)
            except Exception:
                if not self._closing.is_set():
                    log.exception("job %s could not be recorded", job_id)
                    return
        log.warning("job %s is interrupted; it runs again", job_id)

    def _outcome(self, job_id: str, server_id: str) -> End:
        try:
            return self._run(job_id, server_id)
        except DatabaseDown:
            raise
        except AzureMLClassicError as error:
            return End(JobStatus.FAILED, {"details": f"{error.detail_code}: {error.message}"})
        except (BrokenExecutor, CancelledError) as error:
            if self._closing.is_set():
                raise
            return End(JobStatus.FAILED, {"details": f"{error or type(error).__name__}"})
        except Exception as error:
            log.exception("job %s failed", job_id)
            return End(JobStatus.FAILED, {"details": f"Internal error: {type(error).__name__}: {error}"})

    def _end(self, job_id: str, server_id: str, end: End) -> None:
        if self._jobs.end(job_id, server_id, end.status, {**end.values, "end_time": self._clock()}, end.trained):
            log.info("job %s %s %s", job_id, end.status.value, end.values.get("details", ""))

    def _run(self, job_id: str, server_id: str) -> End:
        job = self._jobs.get(job_id)
        endpoint = self._store.endpoint(job.endpoint_id) if job else None
        service = self._store.service(endpoint.service_id) if endpoint else None
        if job is None or endpoint is None or service is None:
            raise rejection("JobNotFound", "The endpoint of this job was deleted.")
        with TemporaryDirectory() as folder, self._pinned() as pin:
            for model in endpoint.resources:
                pin(model.digest)
            data = Path(folder) / "input.csv"
            with naming(INPUT):
                self._locations.fetch(job.request.inputs[INPUT], data)
            if not service.training:
                outputs = self._score(job, service, endpoint, data)
                return End(JobStatus.FINISHED, {"results": self._deliver(job, server_id, outputs)})
            outputs, written = self._train(job, service, data)
            place = outputs[MODEL_OUTPUT][1]
            results = self._deliver(job, server_id, outputs)
            return End(JobStatus.FINISHED, {"results": results}, (trained_row(job.id, place, written.digest), written))

    def _train(self, job: JobRow, service: ServiceRow, data: Path) -> tuple[Outputs, ModelRow]:
        experiment = self._catalogue.experiments.get(service.experiment)
        if experiment is None:
            raise rejection(
                "OperationNotSupported",
                f"The experiment {service.experiment!r} is declared no more; start the server with its --experiments.",
            )
        model, evaluation = data.with_name("model.ilearner"), data.with_name("evaluation.csv")
        schema = self._catalogue.schema(experiment.name)
        summary = self._work(job, train, experiment, schema, data, model, evaluation)
        outputs = {
            MODEL_OUTPUT: (model, output_place(job, MODEL_OUTPUT, MODEL_EXTENSION)),
            EVALUATION_OUTPUT: (evaluation, output_place(job, EVALUATION_OUTPUT, ".csv")),
        }
        return outputs, model_row(read_ilearner(model)[0], summary.sha256, summary.length)

    def _score(self, job: JobRow, service: ServiceRow, endpoint: EndpointRow, data: Path) -> Outputs:
        model = self._models.file(endpoint.resources[0].digest)
        scored = data.with_name("scored.csv")
        passthrough = self._catalogue.passthrough(service.experiment)
        self._work(job, score_file, model, data, scored, passthrough)
        return {SCORED_OUTPUT: (scored, output_place(job, SCORED_OUTPUT, ".csv"))}

    def _work(self, job: JobRow, function: Callable[..., T], *arguments: Any) -> T:
        """Carry out the heavy part of a job in another process, for as long as the job is wanted from this server."""
        work = self._working[job.id] = self._pool.submit(function, *arguments)
        try:
            while not wait([work], LOOK_EVERY).done:
                with suppress(DatabaseDown):  # then nobody can cancel it either
                    now = self._jobs.get(job.id)
                    if now is None or now.status is not JobStatus.RUNNING or now.server_id != job.server_id:
                        work.cancel()
            result: T = work.result()
            return result
        finally:
            self._working.pop(job.id, None)

    def _deliver(self, job: JobRow, server_id: str, outputs: Outputs) -> dict[str, Any]:
        while not self._peers.held:
            # Another server may be about to run this job.
            if self._closing.wait(0.1):
                raise CancelledError
        now = self._jobs.get(job.id)
        if now is None or now.status is not JobStatus.RUNNING or now.server_id != server_id:
            raise rejection("RequestCanceled", "The job was cancelled.")
        for name, (path, place) in outputs.items():
            with naming(name):
                self._locations.deliver(path, place)
        return {name: place.to_wire() for name, (_, place) in outputs.items()}
