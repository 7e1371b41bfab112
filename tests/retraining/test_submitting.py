"""Running a job, as programs on a service of canned answers: what is called in which order, and what is remembered."""

from __future__ import annotations

import time

import pytest

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.client.retries import NO_RETRIES
from airflow_provider_azureml_classic.exceptions import RequestRejected, ServiceUnavailable
from airflow_provider_azureml_classic.protocol.jobs import JobRequest
from airflow_provider_azureml_classic.protocol.messages import Request, Response
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.retraining.submitting import JobRunner, JobState

OLD, NEW = "0" * 32, "1" * 32
CALLS = ("submit_job", "start_job", "cancel_job")


class Service:
    """A service with one earlier job, and the memory of the task that submitted it; all that happens is in the journal.

    :param answers: by name of the operation, one for each call, the last one again and again.
    """

    def __init__(self, *, state: JobState | None = None, **answers: list[Response | Exception]) -> None:
        self.journal: list[str] = []
        self.epoch, self.state, self.answers = 2, state, answers
        self.pauses: list[float] = []
        client = Client("https://ml.example", "w", "t", transport=self, retries=NO_RETRIES, sleep=self.pause)
        endpoint = Endpoint("default", "s", "w", api_location="https://ml.example/api", primary_key="k")
        self.client, self.runner = client, JobRunner(client, endpoint, self.journal.append, self.journal.append)

    def __call__(self, request: Request) -> Response:
        """Answer."""
        name = request.operation.name
        self.journal.append(name)
        answers = self.answers.get(name, [Response(200, {}, f'"{NEW}"'.encode())])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def pause(self, seconds: float) -> None:
        """Note a pause; a wait that does not end fails."""
        self.pauses.append(seconds)
        assert len(self.pauses) < 10, "it waits for ever"

    def recall(self) -> JobState | None:
        """The earlier job."""
        return self.state

    def keep(self, state: JobState) -> None:
        """Remember a job."""
        self.journal.append(f"keep {state.job_id}")
        self.state = state

    def begin(self, timeout: float | None = None) -> list[str]:
        """Begin an attempt; the calls, and what was kept, in order."""
        self.client.perform(self.runner.begin(self, lambda: JobRequest({}, {}, {}), timeout))
        return [line for line in self.journal if line in CALLS or line.startswith("keep")]


def status(name: str) -> Response:
    """The answer to a poll."""
    return Response.of_json({"StatusCode": name})


def refusal(code: str) -> Response:
    """An answer that refuses."""
    detail = {"code": code, "message": "No."}
    return Response.of_json({"error": {"code": "BadArgument", "message": "No.", "details": [detail]}}, status=400)


def test_a_new_job_is_kept_before_it_is_started() -> None:
    """Submit, remember, start: in this order; the deadline counts from the submission."""
    service = Service()
    assert service.begin(60.0) == ["submit_job", f"keep {NEW}", "start_job"]
    assert service.state is not None
    assert (service.state.job_id, service.state.epoch, service.state.is_late) == (NEW, 2, False)
    assert 0 < (service.state.deadline or 0) - time.time() <= 60


@pytest.mark.parametrize(
    ("name", "epoch", "calls"),
    [
        ("NotStarted", 2, ["start_job"]),
        ("Running", 2, []),
        ("Finished", 2, []),
        ("Failed", 2, ["submit_job", f"keep {NEW}", "start_job"]),
        ("Cancelled", 2, ["submit_job", f"keep {NEW}", "start_job"]),
        ("Running", 1, ["cancel_job", "submit_job", f"keep {NEW}", "start_job"]),
        ("Finished", 1, ["cancel_job", "submit_job", f"keep {NEW}", "start_job"]),
        ("Failed", 1, ["submit_job", f"keep {NEW}", "start_job"]),
    ],
)
def test_the_job_of_an_earlier_attempt(name: str, epoch: int, calls: list[str]) -> None:
    """One that can still end well is gone on with, one of before a clear is cancelled, any other is replaced."""
    assert Service(state=JobState(OLD, epoch), get_job=[status(name)]).begin() == calls


@pytest.mark.parametrize(("name", "taken_up"), [("Finished", True), ("Running", False)])
def test_a_fleet_keeps_finished_jobs_after_a_clear(name: str, taken_up: bool) -> None:
    """What has finished before a clear counts where the caller says so; what runs is cancelled all the same."""
    service = Service(get_job=[status(name)])
    job = service.client.perform(service.runner.take_up(JobState(OLD, 1), 2, keep_finished=True))
    assert (job is not None) is taken_up
    assert ("cancel_job" in service.journal) is not taken_up


def test_a_submission_is_repeated_only_with_pauses() -> None:
    """A lost answer may be followed by another submission, because the lost job never starts; not by default."""
    lost = ServiceUnavailable("No answer (ReadTimeout)")
    accepted = Response(200, {}, f'"{NEW}"'.encode())
    service = Service(submit_job=[lost, accepted])
    assert service.client.perform(service.runner.submit(JobRequest({}, {}, {}), (1.0, 2.0))) == NEW
    assert [round(seconds) for seconds in service.pauses] == [1]
    service = Service(submit_job=[lost, accepted])
    with pytest.raises(ServiceUnavailable):
        service.client.perform(service.runner.submit(JobRequest({}, {}, {})))


def test_starting_twice_is_no_error() -> None:
    """A job that was started before is left as it is; any other refusal is an error."""
    service = Service(start_job=[refusal("CannotStartJob"), refusal("JobNotFound")])
    service.client.perform(service.runner.start(OLD))
    with pytest.raises(RequestRejected):
        service.client.perform(service.runner.start(OLD))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that :class:`JobState` reads."""
    now = [1000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    return now


def test_a_poll_that_fails_says_nothing(clock: list[float]) -> None:
    """The wait goes on through errors that may pass, with growing pauses; at the deadline such an error ends it."""
    lost = ServiceUnavailable("No answer (ReadTimeout)")
    service = Service(get_job=[status("Running"), lost, status("Running"), status("Finished")])
    job = service.client.perform(service.runner.wait(JobState(OLD, 2, 1001.0), 2.0))
    assert (job.status.value, len(service.pauses)) == ("Finished", 4)
    assert service.pauses[-1] > 1.3 * service.pauses[0]  # more than jitter makes
    assert any("cannot be read just now" in line for line in service.journal)
    clock[0] = 1001.0
    service = Service(get_job=[lost])
    with pytest.raises(ServiceUnavailable):
        service.client.perform(service.runner.wait(JobState(OLD, 2, 1001.0), 2.0))
    service = Service(get_job=[status("Running")])
    assert service.client.perform(service.runner.wait(JobState(OLD, 2, 1001.0), 2.0)).status.value == "Running"


def test_a_job_that_cannot_be_cancelled_is_named() -> None:
    """Cancelling raises nothing: it is what a task does at its end."""
    service = Service(cancel_job=[refusal("JobNotFound")])
    assert service.client.perform(service.runner.cancel(OLD)) is False
    assert any(line.startswith(f"Job {OLD} could not be cancelled: ") for line in service.journal)


def test_whether_a_job_was_cancelled() -> None:
    """It is said, and logged."""
    service = Service(cancel_job=[Response(204, {}, b"")])
    assert service.client.perform(service.runner.cancel(OLD)) is True
    assert service.journal[-1] == f"Cancelled job {OLD}."
    service = Service(cancel_job=[refusal("CannotCancelJob")])
    assert service.client.perform(service.runner.cancel(OLD)) is False
