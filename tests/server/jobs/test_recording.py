"""No job stays ``Running`` in nobody's hands, whatever goes wrong when it is claimed or its end is recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from airflow_provider_azureml_classic.protocol.jobs import Job, JobRequest, JobStatus
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.server.jobs import runner as runner_module
from airflow_provider_azureml_classic.server.jobs.runner import Runner
from airflow_provider_azureml_classic.server.state.database import DatabaseDown
from airflow_provider_azureml_classic.server.state.job_store import JobStore
from airflow_provider_azureml_classic.server.state.tables import endpoints, jobs, servers
from tests.support.processes import until
from tests.support.service import Service

pytestmark = pytest.mark.slow

FIRE = "Internal error: RuntimeError: disk on fire"


@pytest.fixture(autouse=True)
def work(service: Service, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every job fails at its work, once; nobody sweeps but the test, and nothing is waited for."""
    begun: list[str] = []

    def run(job: Any, *_: Any) -> None:
        begun.append(job.id)
        raise RuntimeError("disk on fire")

    monkeypatch.setattr(service.work, "run", run)
    monkeypatch.setattr(runner_module, "SWEEP_SECONDS", 3600.0)
    monkeypatch.setattr(runner_module, "_PAUSE", 0.0)
    return begun


@pytest.fixture
def runner(service: Service) -> Runner:
    """What runs the jobs of the service."""
    return service.app._jobs._queue  # type: ignore[attr-defined, no-any-return]


def submitted(service: Service, trainer: Endpoint) -> str:
    """A job that was started."""
    return service.submit(trainer, BlobReference("data/five.csv"))


def failing(times: int, error: Exception, call: Callable[..., Any], after: bool = False) -> Callable[..., Any]:
    """A call that raises for the first few times, once it is done or instead."""
    left = [error] * times

    def failed(*args: Any, **more: Any) -> Any:
        if not left:
            return call(*args, **more)
        if after:
            call(*args, **more)
        raise left.pop()

    return failed


@pytest.mark.parametrize(
    ("times", "error", "details"),
    [
        (1, ValueError("odd"), FIRE),
        (2, MemoryError(), runner_module._UNRECORDED),
        (3, ValueError("odd"), runner_module._UNRECORDED),
        (1, DatabaseDown("down"), FIRE),
    ],
)
def test_the_end_of_a_job_is_recorded(
    *,
    service: Service,
    trainer: Endpoint,
    runner: Runner,
    work: list[str],
    monkeypatch: pytest.MonkeyPatch,
    times: int,
    error: Exception,
    details: str,
) -> None:
    """Once more, then as a failure, then by the sweep; the work is done once."""
    monkeypatch.setattr(JobStore, "end", failing(times, error, JobStore.end))
    job_id = submitted(service, trainer)
    job = swept(service, trainer, runner, job_id)
    assert (job.status, job.details) == (JobStatus.FAILED, details)
    assert work == [job_id]
    assert job.end_time is not None


def swept(service: Service, trainer: Endpoint, runner: Runner, job_id: str) -> Job:
    """A job that has ended, if need be by sweeps."""

    def has_ended() -> bool:
        runner.sweep()
        return service.client.get_job(trainer, job_id).status.terminal

    until("the job has ended", has_ended)
    return service.client.get_job(trainer, job_id)


def test_a_claim_whose_answer_was_lost(
    service: Service, trainer: Endpoint, runner: Runner, work: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job is this server's, who does not know it: it goes back to the queue and runs, once."""
    down = DatabaseDown("down")
    monkeypatch.setattr(JobStore, "claim", failing(1, down, JobStore.claim, after=True))
    job_id = submitted(service, trainer)
    until("it was claimed", lambda: service.client.get_job(trainer, job_id).status is JobStatus.RUNNING)
    job = swept(service, trainer, runner, job_id)
    assert (job.details, work) == (FIRE, [job_id])
    assert any("Not begun" in line.text for line in service.client.job_log(trainer, job_id))


def test_a_job_whose_endpoint_cannot_be_read_ends(
    service: Service, trainer: Endpoint, runner: Runner, work: list[str]
) -> None:
    """With the reason: time mends nothing of it, unlike of a database that does not answer."""
    job_id = service.client.submit_job(trainer, JobRequest({"input1": BlobReference("data/five.csv")}))
    with service.database.write() as connection:
        connection.execute(sa.update(jobs).where(jobs.c.id == job_id).values(place=1))
        connection.execute(sa.update(endpoints).values(primary_key=b"?"))
    runner.poll()

    def end() -> Any:
        with service.database.read() as connection:
            row = connection.execute(sa.select(jobs.c.status, jobs.c.details).where(jobs.c.id == job_id)).one()
        return row if row.status == JobStatus.FAILED.value else None

    until("it has ended", end)
    assert "cannot be read" in end().details
    assert work == []


def test_a_job_that_cannot_be_read_holds_up_no_other(service: Service, trainer: Endpoint, work: list[str]) -> None:
    """It ends, with the reason; the one behind it runs."""
    request = JobRequest({"input1": BlobReference("data/five.csv")})
    damaged = service.client.submit_job(trainer, request)
    with service.database.write() as connection:
        connection.execute(sa.update(jobs).where(jobs.c.id == damaged).values(request=b"?"))
    service.client.start_job(trainer, damaged)
    behind = submitted(service, trainer)
    assert service.ended(trainer, behind).details == FIRE
    assert work == [behind]
    with service.database.read() as connection:
        row = connection.execute(sa.select(jobs).where(jobs.c.id == damaged)).one()
    assert (row.status, "cannot be read" in row.details) == (JobStatus.FAILED.value, True)


def test_diagnostics_do_not_keep_a_job_from_ending(
    service: Service, trainer: Endpoint, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end was recorded before they are written."""

    def broken(*_: Any) -> None:
        raise RuntimeError("no diagnostics")

    monkeypatch.setattr(runner._diagnostics, "ran", broken)
    assert service.ended(trainer, submitted(service, trainer)).details == FIRE
    assert service.ended(trainer, submitted(service, trainer)).details == FIRE


def test_a_sweep_leaves_alone_what_is_in_hand(
    service: Service, trainer: Endpoint, runner: Runner, work: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that runs goes on."""
    swept_while_running: list[JobStatus] = []

    def run(job: Any, *_: Any) -> None:
        work.append(job.id)
        runner.sweep()
        swept_while_running.append(service.client.get_job(trainer, job.id).status)
        raise RuntimeError("disk on fire")

    monkeypatch.setattr(service.work, "run", run)
    job_id = submitted(service, trainer)
    assert service.ended(trainer, job_id).details == FIRE
    assert (swept_while_running, work) == ([JobStatus.RUNNING], [job_id])


def test_a_job_that_is_claimed_again_stays_in_hand(
    service: Service, trainer: Endpoint, runner: Runner, work: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that was taken for dead claims its own job again before the first thread has noticed; when that one
    leaves the job, the second one still has it, and no third one begins."""
    swept_while_running: list[JobStatus] = []
    peers = runner._peers

    def run(job: Any, _: Any, __: Any, leave: Callable[[], None]) -> None:
        in_hand = len(runner._in_hand)
        work.append(job.id)
        if len(work) == 1:
            # As another server does, and as this one then notices.
            peers._end(servers.c.id == peers.id)
            peers.id = "a new one"
            peers._enter()
            leave()
            until("it is claimed again", lambda: len(work) == 2)
        else:
            until("the first thread has left it", lambda: len(runner._in_hand) < in_hand)
            runner.sweep()
            swept_while_running.append(service.client.get_job(trainer, job.id).status)
        raise RuntimeError("disk on fire")

    monkeypatch.setattr(service.work, "run", run)
    job_id = submitted(service, trainer)
    assert service.ended(trainer, job_id).details == FIRE
    assert (swept_while_running, work) == ([JobStatus.RUNNING], [job_id, job_id])
