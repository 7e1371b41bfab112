"""What a job does: train or score in another process what its inputs refer to, deliver the outputs; and the lines of
its log.

Rule: outputs are delivered before the job is ``Finished``; a job that was cancelled meanwhile, or that another server
has taken over, delivers nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from airflow_provider_azureml_classic.exceptions import ServiceUnavailable, rejection
from airflow_provider_azureml_classic.protocol.data_check import FAIL, ONLY
from airflow_provider_azureml_classic.protocol.job_history import LogLine
from airflow_provider_azureml_classic.protocol.jobs import (
    HELD_OUT,
    JobStatus,
)
from airflow_provider_azureml_classic.protocol.purpose import Purpose
from airflow_provider_azureml_classic.protocol.references import CSV_EXTENSION, MODEL_EXTENSION, BlobReference
from airflow_provider_azureml_classic.server.blobs.names import is_first_model, samples_path
from airflow_provider_azureml_classic.server.experiments.batch import score_file
from airflow_provider_azureml_classic.server.experiments.contract import Contract, Terms
from airflow_provider_azureml_classic.server.experiments.declaration import MODEL, TRAIN, Experiment, applied
from airflow_provider_azureml_classic.server.experiments.parameters import threshold_of
from airflow_provider_azureml_classic.server.experiments.training import TrainingSummary, train, train_checked
from airflow_provider_azureml_classic.server.jobs.arguments import input_extension, output_reference
from airflow_provider_azureml_classic.server.jobs.executor import Engine, Input, Output, patiently
from airflow_provider_azureml_classic.server.models.facts import model_row
from airflow_provider_azureml_classic.server.models.pins import Pins
from airflow_provider_azureml_classic.server.models.store import ModelStore
from airflow_provider_azureml_classic.server.state.database import DatabaseDown
from airflow_provider_azureml_classic.server.state.endpoint_store import Store
from airflow_provider_azureml_classic.server.state.history import trained_row
from airflow_provider_azureml_classic.server.state.job_store import JobStore
from airflow_provider_azureml_classic.server.state.peers import Peers
from airflow_provider_azureml_classic.server.state.tables import (
    EndpointRow,
    JobRow,
    SamplesRow,
    ServiceRow,
    Trained,
)
from airflow_provider_azureml_classic.server.storage.locations import WRITE, Location, Locations, naming
from airflow_provider_azureml_classic.server.storage.scope import Scope
from airflow_provider_azureml_classic.server.workspace.catalogue import Catalogue

T = TypeVar("T")
log = logging.getLogger(__name__)

#: Seconds between two polls of a running job: another server may have cancelled it, or deleted its endpoint.
POLL_SECONDS = 2.0
#: A job that takes longer shows what it is doing.
_FIRST_POLL = 0.5
#: Finished files by output name, and where each goes.
Outputs = dict[str, tuple[Path, BlobReference]]


@dataclass(frozen=True)
class End:
    """How a job ended.

    :param status: its last state.
    :param values: columns to set.
    :param trained: the model that it wrote, and what is known of it.
    :param delivered: what it wrote.
    """

    status: JobStatus
    values: dict[str, Any]
    trained: Trained | None = None
    delivered: Sequence[Location] = ()


@dataclass(frozen=True)
class _Live:
    """The model whose place a new one is to take.

    :param file: its file; ``None``: there is none.
    :param is_first: the web service began with it.
    """

    file: Path | None = None
    is_first: bool = False


class JobWork:
    """Does what jobs are.

    :param store: endpoints and web services.
    :param jobs: jobs.
    :param catalogue: experiments and their columns.
    :param models: model files, for batch scoring.
    :param locations: places of inputs and outputs.
    :param engine: carries out training and scoring in other processes.
    :param peers: the servers that share the jobs.
    :param pins: keeps model files while they are read.
    :param columns: golden and check rows are columns of the evaluation, too, see :func:`~.training.train`.
    """

    def __init__(
        self,
        store: Store,
        jobs: JobStore,
        catalogue: Catalogue,
        models: ModelStore,
        locations: Locations,
        engine: Engine,
        peers: Peers,
        pins: Pins,
        columns: bool = False,
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._catalogue = catalogue
        self._models = models
        self._locations = locations
        self._engine = engine
        self._peers = peers
        self._pinned = pins.pinned
        self._columns = columns
        self._working: dict[str, Future[Any]] = {}
        #: Set when the server is stopping.
        self.closing = threading.Event()

    def stop(self, job_id: str) -> None:
        """Stop the work of a job, if it is being done here.

        :param job_id: the job.
        """
        work = self._working.get(job_id)
        if work is not None:
            self._engine.cancel(work)

    def run(self, job: JobRow, endpoint: EndpointRow, notes: JobLog, leave: Callable[[], None]) -> End:
        """Do the work of one job.

        :param job: as this server has claimed it.
        :param endpoint: the endpoint that it was submitted to.
        :param notes: takes lines for its log.
        :param leave: called when the job needs no worker process any more.
        :raises AzureMLClassicError: why it failed, for its client.
        :raises BrokenExecutor: the process that did the work has died; ``CancelledError``: the work was stopped.
        """
        service = self._store.service(endpoint.service_id)
        if service is None:
            raise rejection("JobNotFound", "The web service of this job was deleted.")
        scope = Scope(endpoint.customer)
        with TemporaryDirectory() as folder, self._pinned() as pin:
            for model in endpoint.resources:
                pin(model.digest)
            inputs = self._inputs(job, scope, notes, Path(folder))
            if not service.training:
                outputs = self._score(job, notes, service, endpoint, inputs)
                leave()
                results, delivered = self._deliver(job, scope, notes, outputs)
                return End(JobStatus.FINISHED, {"results": results}, delivered=delivered)
            purpose = job.request.purpose
            live = self._live_model(service, endpoint, purpose, pin)
            contract, outputs, samples, summary = self._train(job, scope, notes, service, inputs, live)
            leave()
            if summary is None:
                return _not_trained(contract, purpose)
            reference = next(place for path, place in outputs.values() if path.suffix == MODEL_EXTENSION)
            results, delivered = self._deliver(job, scope, notes, outputs, samples)
            end = replace(_trained(job, endpoint, reference, results, summary), delivered=delivered)
            return end if contract is None else replace(end, values={**end.values, "data_check": contract.to_json()})

    def _live_model(
        self, service: ServiceRow, trainer: EndpointRow, purpose: Purpose | None, pin: Callable[[str], None]
    ) -> _Live:
        """The model whose place a new one is to take."""
        if purpose is None or purpose.compared_with is None:
            return _Live()
        if trainer.customer is not None and purpose.compared_with != trainer.name:
            # As if there were no such endpoint.
            return _Live()
        scoring = next((one for one in self._store.services() if _scores_for(one, service, purpose)), None)
        endpoint = self._store.endpoint_named(scoring.id, purpose.compared_with) if scoring else None
        if endpoint is None or not endpoint.resources:
            return _Live()
        model = endpoint.resources[0]
        pin(model.digest)
        return _Live(self._models.file(model.digest), is_first_model(model.relative_location))

    def _inputs(self, job: JobRow, scope: Scope, notes: JobLog, folder: Path) -> dict[str, Input]:
        inputs = {}
        for number, (name, reference) in enumerate(job.request.inputs.items(), 1):
            path = folder / f"input{number}{input_extension(reference)}"
            with naming(name):
                inputs[name] = Input(path, self._locations.resolve(scope, reference), name)
            notes.note(f"Reads {name} from {reference.location}.")
        return inputs

    def _train(
        self, job: JobRow, scope: Scope, notes: JobLog, service: ServiceRow, inputs: dict[str, Input], live: _Live
    ) -> tuple[Contract | None, Outputs, Path, TrainingSummary | None]:
        experiment = self._catalogue.experiments.get(service.experiment)
        if experiment is None:
            raise rejection(
                "OperationNotSupported",
                f"The experiment {service.experiment!r} is no longer declared; start the server with its "
                "--experiments.",
            )
        (data, *more), held = files_by_role(experiment, inputs)
        folder = data.path.parent
        outputs = self._outputs(job, scope, service, folder)
        model, samples = folder / f"model{MODEL_EXTENSION}", folder / "samples.json"
        evaluation = next((path for path, _ in outputs.values() if path != model), folder / "evaluation.csv")
        schema = self._catalogue.schema(experiment.name)
        configured = applied(experiment, job.request.global_parameters)
        notes.note(f"Training {experiment.estimator}.")
        files = (data, Output(model), Output(evaluation), held, Output(samples))
        arguments = (configured, schema, *files, self._columns, *more)
        contract, summary = self._trained(job, notes, live, arguments)
        for line in (*(contract.lines() if contract else ()), *(summary_lines(summary) if summary else ())):
            notes.note(line)
        return contract, outputs, samples, summary

    def _trained(
        self, job: JobRow, notes: JobLog, live: _Live, arguments: tuple[Any, ...]
    ) -> tuple[Contract | None, TrainingSummary | None]:
        purpose = job.request.purpose
        if purpose is None or purpose.compared_with is None:
            return None, self._elsewhere(job, notes, train, *arguments)
        strict, only = purpose.data_check == FAIL, purpose.data_check == ONLY
        terms = Terms(purpose.limits, (purpose.start, purpose.end), strict=strict, only=only, first=live.is_first)
        return self._elsewhere(job, notes, train_checked, terms, live.file and Input(live.file), *arguments)

    def _outputs(self, job: JobRow, scope: Scope, service: ServiceRow, folder: Path) -> Outputs:
        """The file of each output, which is named by what it is, and where it goes."""
        outputs = {}
        for name, role in self._catalogue.outputs(service.experiment, training=service.training).items():
            reference = output_reference(scope, job, name, MODEL_EXTENSION if role == MODEL else CSV_EXTENSION)
            outputs[name] = folder / f"{role}{reference.extension}", reference
        return outputs

    def _score(
        self, job: JobRow, notes: JobLog, service: ServiceRow, endpoint: EndpointRow, inputs: dict[str, Input]
    ) -> Outputs:
        (data,) = inputs.values()
        model = self._models.file(endpoint.resources[0].digest)
        outputs = self._outputs(job, Scope(endpoint.customer), service, data.path.parent)
        ((answers, _),) = outputs.values()
        passthrough = self._catalogue.passthrough(service.experiment)
        declared = self._catalogue.parameters(service.experiment, training=False)
        threshold = threshold_of(declared, job.request.global_parameters)
        encoding = self._catalogue.encoding(service.experiment)
        notes.note("Scoring.")
        files = (Input(model), data, Output(answers))
        scored = self._elsewhere(job, notes, score_file, *files, passthrough, threshold, encoding)
        for line in (*scored.notes, f"Scored {scored.rows:,} rows."):
            notes.note(line)
        return outputs

    def _elsewhere(self, job: JobRow, notes: JobLog, function: Callable[..., T], *arguments: Any) -> T:
        """Carry out the heavy part of a job in another process, for as long as the job is wanted from this server."""
        work = self._working[job.id] = self._engine.submit(function, *arguments)
        pause = _FIRST_POLL
        try:
            while not self._engine.poll(work, pause):
                pause = POLL_SECONDS
                notes.write()
                with suppress(DatabaseDown):  # then nobody can cancel it either
                    if not self._runs(job):
                        self._engine.cancel(work)
            result: T = work.result()
            return result
        finally:
            self._working.pop(job.id, None)

    def _runs(self, job: JobRow) -> bool:
        return self._jobs.runs(job.id, job.server_id or "")

    def _deliver(
        self, job: JobRow, scope: Scope, notes: JobLog, outputs: Outputs, samples: Path | None = None
    ) -> tuple[dict[str, Any], Sequence[Location]]:
        while not self._peers.held:
            # Another server may be about to run this job.
            if self.closing.wait(0.1):
                raise CancelledError
        delivered: list[Location] = []
        self._check_wanted(job, notes, delivered)
        if samples is not None:
            place = BlobReference(samples_path(job.id, scope.folder))
            location = self._locations.resolve(scope, place, WRITE)
            self._write(job, notes, delivered, location, samples)
            delivered.append(location)
        for name, (path, reference) in outputs.items():
            self._check_wanted(job, notes, delivered)
            with naming(name):
                location = self._locations.resolve(scope, reference, WRITE)
                over = ", over an older file that lay there" if location.is_taken() else ""
                self._write(job, notes, delivered, location, path)
            delivered.append(location)
            notes.note(f"Wrote {reference.location}{over}.")
        self._check_wanted(job, notes, delivered)
        return {name: reference.to_wire() for name, (_, reference) in outputs.items()}, delivered

    def _write(self, job: JobRow, notes: JobLog, delivered: list[Location], location: Location, path: Path) -> None:
        """Deliver one output: a store that is away for a moment costs no training."""

        def again(error: ServiceUnavailable) -> None:
            notes.note(f"{error.message} It is tried again.")
            notes.write()
            if self.closing.wait(POLL_SECONDS):
                raise CancelledError
            self._check_wanted(job, notes, delivered)

        patiently(location, lambda: location.deliver(path), again)

    def _told(self, question: Callable[[], T]) -> T:
        """What the database says, once it says something: a moment of its silence costs no training."""
        while True:
            try:
                return question()
            except DatabaseDown:
                if self.closing.wait(POLL_SECONDS):
                    raise CancelledError from None

    def _check_wanted(self, job: JobRow, notes: JobLog, delivered: Sequence[Location]) -> None:
        """Take back what was delivered if the job was cancelled meanwhile.

        :raises RequestRejected: it was, or another server runs it, which delivers the same.
        """
        if not self._told(lambda: self._runs(job)):
            self.take_back(job, notes, delivered)
            raise rejection("RequestCanceled", "The job was cancelled.")

    def take_back(self, job: JobRow, notes: JobLog, delivered: Sequence[Location]) -> None:
        """Remove what a job has delivered, if it was cancelled; it is not this server's any more.

        :param job: the job.
        :param notes: takes lines for its log.
        :param delivered: what it wrote.
        """
        row = self._told(lambda: self._jobs.get(job.id))
        if row is not None and row.status is JobStatus.CANCELLED:
            for location in delivered:
                gone = "Removed" if location.withdraw() else "Could not remove"
                notes.note(f"{gone} {location.sent.location}: the job was cancelled.")
            notes.write()


def _scores_for(scoring: ServiceRow, training: ServiceRow, purpose: Purpose) -> bool:
    """Whether a model of the training service is for an endpoint of this one."""
    named = purpose.web_service in (None, scoring.id, scoring.name)
    return named and not scoring.training and scoring.experiment == training.experiment


def _not_trained(contract: Contract | None, purpose: Purpose | None) -> End:
    """The end of a job whose data were only looked at, or are not to be trained on."""
    values = {"data_check": contract.to_json() if contract else None}
    strict = purpose is not None and purpose.data_check == FAIL
    problem = contract.problem(strict) if contract else None
    if problem is None or (purpose is not None and purpose.data_check == ONLY):
        return End(JobStatus.FINISHED, {**values, "results": {}})
    return End(JobStatus.FAILED, {**values, "details": f"{problem.detail_code}: {problem.message}"})


def _trained(
    job: JobRow, endpoint: EndpointRow, reference: BlobReference, results: dict[str, Any], summary: TrainingSummary
) -> End:
    path = samples_path(job.id, Scope(endpoint.customer).folder)
    model = trained_row(job.id, reference, summary.sha256, job.request.purpose)
    if endpoint.customer is not None:
        # Whatever the path says: nobody trains for another customer.
        model = replace(model, for_endpoint=endpoint.name)
    facts = model_row(summary.manifest, summary.sha256, summary.length, summary.content)
    values = {"results": results, "samples": path}
    return End(JobStatus.FINISHED, values, (model, facts, SamplesRow(summary.content, path)))


def files_by_role(experiment: Experiment, inputs: Mapping[str, Input]) -> tuple[list[Input], Input | None]:
    """The files to train on, in the declared order, and the one for the metrics.

    :param experiment: says what each input is for.
    :param inputs: by their names.
    """
    training = [inputs[name] for name, role in experiment.inputs.items() if role == TRAIN]
    return training, next((inputs[name] for name, role in experiment.inputs.items() if role != TRAIN), None)


def summary_lines(summary: TrainingSummary) -> Iterator[str]:
    """A training run as lines of a job's log.

    :param summary: what it did.
    """
    window = f", from {summary.window[0]} to {summary.window[1]}" if summary.window else ""
    held = summary.metrics.get(HELD_OUT)
    yield f"Read {summary.read:,} rows, used {summary.rows:,}, held out {int(held or 0):,} for the metrics."
    yield f"Trained on {summary.rows:,} rows with {summary.columns} features{window}, in {summary.seconds:.1f} s."
    metrics = [f"{name} {value:.6g}" for name, value in summary.metrics.items() if value is not None]
    yield f"Metrics: {', '.join(metrics) or 'none'}."
    yield from summary.notes
    yield f"Model: {summary.length:,} bytes, SHA-256 {summary.sha256}."


class JobLog:
    """Lines that are written together: each transaction is forced to the disk, and most jobs are soon over.

    :param jobs: where they are kept.
    :param job_id: the job.
    """

    def __init__(self, jobs: JobStore, job_id: str) -> None:
        self._jobs = jobs
        self._job_id = job_id
        self._lines: list[LogLine] = []

    @property
    def lines(self) -> tuple[LogLine, ...]:
        """Those that are not written yet; whoever ends the job writes them."""
        return tuple(self._lines)

    def note(self, line: str) -> None:
        """Take a line.

        :param line: what happened.
        """
        self._lines.append(self._jobs.stamped(line))

    def write(self) -> None:
        """Let those see the lines who watch the job."""
        lines, self._lines = self._lines, []
        try:
            if lines:
                self._jobs.append_log(self._job_id, lines)
        except DatabaseDown:
            # A line is not worth what was trained.
            for line in lines:
                log.warning("job %s: %s", self._job_id, line.text)
