"""Tasks as Airflow runs them: attempts that are killed, retried and cleared, around the programs of the package."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from airflow_provider_azureml_classic.client.aio import AsyncClient
from airflow_provider_azureml_classic.client.retries import Program
from airflow_provider_azureml_classic.client.verbs import Verbs
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, UpdateNotProved
from airflow_provider_azureml_classic.protocol.jobs import Job, JobRequest, JobStatus
from airflow_provider_azureml_classic.protocol.purpose import Purpose
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.retraining.evaluation import evaluation_of
from airflow_provider_azureml_classic.retraining.freshness import MODEL_PATH, Window, model_path
from airflow_provider_azureml_classic.retraining.jobs import JobTicket, trained_model
from airflow_provider_azureml_classic.retraining.order import older_than_live
from airflow_provider_azureml_classic.retraining.placing import (
    Candidate,
    Overtaken,
    Placing,
    Target,
    find_target,
)
from airflow_provider_azureml_classic.retraining.proof import Patch
from airflow_provider_azureml_classic.retraining.receipt import receipt_of
from airflow_provider_azureml_classic.retraining.submitting import JobRunner, JobState
from tests.simulation.network import Process
from tests.simulation.service import SCORING, TRAINING
from tests.simulation.world import World

#: Seconds that a call takes at most, with its repetitions.
PATIENCE = 300.0


@dataclass
class Memory:
    """A task's state store: what is kept is there for the next attempt."""

    epoch: int = 0
    state: JobState | None = None
    patch: dict[str, Any] | None = None

    def recall(self) -> JobState | None:
        """As :class:`~.submitting.Memory`."""
        return self.state

    def keep(self, state: JobState) -> None:
        """Likewise."""
        self.state = state


@dataclass
class Retraining:
    """A run of a DAG for one endpoint: train, then update.

    :param endpoint: of the scoring service.
    :param window: of the data.
    :param path: template of the model's place.
    :param options: of the update.
    """

    world: World
    endpoint: str
    window: Window
    path: str = MODEL_PATH
    timeout: float = 6 * 3600.0
    poll: float = 60.0
    only_if_newer: bool = True
    options: dict[str, Any] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)
    #: Runs the task that trains, until that has succeeded.
    process: Process | None = None

    def clear(self) -> None:
        """Somebody clears the task that trains, while it runs or waits for its next attempt: it begins anew."""
        if self.process is not None:
            self.memory.epoch += 1
            self.process.kill()

    async def train(self, client: AsyncClient, process: Process) -> JobTicket:
        """What ``BatchExecutionOperator`` does.

        :raises UpdateNotProved: the job did not end in time; it was cancelled.
        """
        log = self._log(process)
        trainer = await client.get_endpoint(TRAINING, "default")
        runner = JobRunner(client, trainer, log, log)
        state = await client.perform(runner.begin(self.memory, self._request, self.timeout))
        began = self.world.time()
        try:
            job: Job = await client.perform(runner.wait(state, self.poll))
        except AzureMLClassicError as error:
            self.world.hold(not error.retryable or state.is_late, f"A failed poll ended {process.name}: {error}")
            raise
        # Its last poll may have to wait for the service.
        most = max(state.deadline or math.inf, began) + 2 * self.poll + PATIENCE
        self.world.hold(self.world.time() < most, f"{process.name} waited for its job beyond its deadline.")
        if not job.status.terminal:
            await client.perform(runner.cancel(job.id))
            raise UpdateNotProved(f"The job had not ended after {self.timeout:g} s.")
        job.raise_unless_finished()
        await process.step()
        self.memory.state = None
        return JobTicket(TRAINING, "default", job.id, {"window": self.window.to_json()})

    async def update(self, client: AsyncClient, process: Process, ticket: JobTicket) -> dict[str, Any] | str:
        """What ``UpdateTrainedModelOperator`` does: the receipt, or the reason for which it was skipped."""
        log = self._log(process)
        placing = Placing(client, lambda reference: reference, log, **self.options)

        def find() -> Program[tuple[Target, Candidate]]:
            target = yield from find_target(client, SCORING, self.endpoint, None)
            return target, (yield from self._candidate(client, ticket))

        def check(target: Target, candidate: Candidate) -> Program[str | None]:
            reason = older_than_live(target, candidate, None, log) if self.only_if_newer else None
            if reason is None:
                yield Verbs.blob_facts.steps(client, candidate.location)
            return reason

        def remember(patch: Patch) -> None:
            self.memory.patch = patch.to_json()

        earlier = Patch.from_json(self.memory.patch) if self.memory.patch else None
        update = await client.perform(placing.place(find, check=check, earlier=earlier, remember=remember))
        if isinstance(update, str):
            return update
        try:
            await client.perform(placing.prove(update))
        except Overtaken as overtaken:
            self.memory.patch = None
            return str(overtaken)
        except UpdateNotProved:
            remember(replace(update.patch, failed=True))
            raise
        facts = await client.blob_facts(update.candidate.location)
        await process.step()
        self.memory.patch = None
        return receipt_of(update, facts)

    def _candidate(self, client: AsyncClient, ticket: JobTicket) -> Program[Candidate]:
        trainer = yield Verbs.get_endpoint.steps(client, TRAINING, "default")
        job: Job = yield Verbs.get_job.steps(client, trainer, ticket.job_id)
        if job.status is not JobStatus.FINISHED:
            raise AssertionError("a job that had finished has not finished")
        model = trained_model(job, ticket.result)
        evaluation = yield from evaluation_of(client, job, lambda _: None)
        about = evaluation.golden, evaluation.metrics, job.model, job.window
        return Candidate(model, self.window, ticket, *about)

    def _request(self) -> JobRequest:
        return job_request(self.endpoint, self.window, self.path)

    def _log(self, process: Process) -> Any:
        return lambda text: self.world.note(process.name, text[:160])


def job_request(endpoint: str, window: Window, path: str = MODEL_PATH) -> JobRequest:
    """What a task submits for an endpoint."""
    place = BlobReference(model_path(path, TRAINING, endpoint, window))
    return JobRequest({}, {"output1": place}, {"for": endpoint}, Purpose(endpoint, SCORING, window.start, window.end))


def day(number: float) -> datetime:
    """A moment of a simulation, as data know it."""
    return datetime.fromtimestamp(1772323200 + number * 86400, UTC)
