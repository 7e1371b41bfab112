"""Running a batch job: submit, remember, start; take up; wait; cancel. For either client; no I/O of its own.

The methods of :class:`JobRunner` are programs, as those of :class:`~.placing.Placing`: a client performs them.

Rule 1: a job is remembered before it is started. One that is not started does nothing, and starting one twice does
nothing either: so a crash at any moment loses no job, and none runs twice.
Rule 2: a failed poll says nothing about a job.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from airflow_provider_azureml_classic.client.retries import Pause, Program, jittered
from airflow_provider_azureml_classic.client.verbs import Verbs
from airflow_provider_azureml_classic.exceptions import (
    AzureMLClassicError,
    NotFound,
    RequestRejected,
    ServiceUnavailable,
)
from airflow_provider_azureml_classic.protocol.jobs import Job, JobRequest, JobStatus
from airflow_provider_azureml_classic.protocol.values import Endpoint

#: First pause between two polls in seconds; it grows to the poll interval.
_FIRST_PAUSE, _GROWTH = 1.0, 1.5


def next_pause(pause: float, poll_interval: float) -> float:
    """Seconds until a job is polled again.

    :param pause: those before the last poll, 0 before the first.
    :param poll_interval: the most.
    """
    return min(pause * _GROWTH or _FIRST_PAUSE, poll_interval)


@dataclass(frozen=True)
class JobState:
    """A submitted job.

    :param job_id: 32 hex digits.
    :param epoch: of the attempts at the task in which it was submitted: a clear begins another one.
    :param deadline: seconds since 1970 until which it is waited for; ``None``: for ever.
    """

    job_id: str
    epoch: int
    deadline: float | None = None

    @property
    def is_late(self) -> bool:
        """Whether the deadline has come."""
        return self.deadline is not None and time.time() >= self.deadline


class Memory(Protocol):
    """What keeps the job of a task across its attempts."""

    epoch: int

    def recall(self) -> JobState | None:
        """The job that an earlier attempt submitted."""

    def keep(self, state: JobState) -> None:
        """Remember a job.

        :param state: what was submitted.
        """


@dataclass(frozen=True)
class JobRunner:
    """Runs jobs at an endpoint.

    :param client: of the workspace; blocking or asynchronous.
    :param endpoint: the endpoint that the jobs are submitted to.
    :param info: takes lines for the log.
    :param warn: takes lines for the log that somebody should see.
    """

    client: Verbs
    endpoint: Endpoint
    info: Callable[[str], object]
    warn: Callable[[str], object]

    def begin(self, memory: Memory, make_request: Callable[[], JobRequest], timeout: float | None) -> Program[JobState]:
        """Take up the job of an earlier attempt, or submit, remember and start a new one.

        :param memory: of the task.
        :param make_request: gives the new job.
        :param timeout: seconds from now until a new job's deadline; ``None``: it has none.
        """
        state = memory.recall()
        job = (yield from self.take_up(state, memory.epoch)) if state is not None else None
        if state is None or job is None:
            job_id = yield from self.submit(make_request())
            state = JobState(job_id, memory.epoch, time.time() + timeout if timeout is not None else None)
            memory.keep(state)
        if job is None or job.status is JobStatus.NOT_STARTED:
            yield from self.start(state.job_id)
            self.info(f"Started job {state.job_id} at endpoint {self.endpoint.name!r}.")
        return state

    def submit(self, request: JobRequest, pauses: Sequence[float] = ()) -> Program[str]:
        """Submit a job, which is not started; its id.

        :param request: the job.
        :param pauses: seconds before each repetition while the service does not answer. A submission may be repeated,
            as a job whose id was lost is never started.
        """
        for seconds in pauses:
            try:
                return str((yield Verbs.submit_job.steps(self.client, self.endpoint, request)))
            except ServiceUnavailable:
                yield Pause(jittered(seconds))
        return str((yield Verbs.submit_job.steps(self.client, self.endpoint, request)))

    def start(self, job_id: str) -> Program[None]:
        """Start a job; one that has been started is left as it is.

        :param job_id: of a submitted job.
        """
        try:
            yield Verbs.start_job.steps(self.client, self.endpoint, job_id)
        except RequestRejected as error:
            # It was started before: the answer was lost, or an earlier attempt was.
            if error.detail_code != "CannotStartJob":
                raise

    def take_up(self, state: JobState, epoch: int, *, keep_finished: bool = False) -> Program[Job | None]:
        """The job of an earlier attempt; ``None`` if a new one is needed. One of before a clear is cancelled.

        :param state: of the job.
        :param epoch: of this attempt.
        :param keep_finished: a job that has finished counts even if it is of before a clear.
        """
        try:
            job: Job = yield self._fetch(state.job_id)
        except NotFound:
            self.warn(f"Job {state.job_id} of an earlier attempt no longer exists; a new one is submitted.")
            return None
        if job.status in (JobStatus.FAILED, JobStatus.CANCELLED):
            self.info(f"Job {job.id} of an earlier attempt ended {job.status.value}; a new one is submitted.")
            return None
        if state.epoch != epoch and not (keep_finished and job.status is JobStatus.FINISHED):
            self.info(f"The task was cleared: its earlier job {job.id} is cancelled, and a new one is submitted.")
            yield from self.cancel(job.id)
            return None
        self.info(f"Taking up job {job.id} of an earlier attempt, which is now {job.status.value}.")
        return job

    def wait(self, state: JobState, poll_interval: float) -> Program[Job]:
        """Poll a job until it has ended or its deadline has come; the job as it was then.

        :param state: of the job.
        :param poll_interval: seconds between two polls, at most.
        :raises AzureMLClassicError: one that no waiting mends, or any at the deadline.
        """
        pause = 0.0
        while True:
            pause = next_pause(pause, poll_interval)
            yield Pause(jittered(pause))
            try:
                job: Job = yield self._fetch(state.job_id)
            except AzureMLClassicError as error:
                if not error.retryable or state.is_late:
                    raise
                self.warn(f"The state of job {state.job_id} cannot be read just now: {error}")
                continue
            if job.status.terminal or state.is_late:
                return job

    def cancel(self, job_id: str) -> Program[bool]:
        """Cancel a job, if that is possible; a line in the log says whether it was.

        :param job_id: of the job, in whatever state it is.
        """
        try:
            yield Verbs.cancel_job.steps(self.client, self.endpoint, job_id)
        except AzureMLClassicError as error:
            self.warn(f"Job {job_id} could not be cancelled: {error}")
            return False
        self.info(f"Cancelled job {job_id}.")
        return True

    def _fetch(self, job_id: str) -> Any:
        return Verbs.get_job.steps(self.client, self.endpoint, job_id)
