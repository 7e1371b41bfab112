"""The engine of a fleet on a service of canned answers: what is tried again, what ends an endpoint or a job."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_azureml_classic.exceptions import ServiceUnavailable
from airflow_provider_azureml_classic.fleet import engine as fleet_engine
from airflow_provider_azureml_classic.fleet.engine import Engine, Means, Submitter
from airflow_provider_azureml_classic.fleet.options import Options
from airflow_provider_azureml_classic.fleet.rows import Item, Outcome, Row
from airflow_provider_azureml_classic.fleet.trainers import Trainers
from airflow_provider_azureml_classic.protocol.jobs import JobRequest
from airflow_provider_azureml_classic.protocol.messages import Request, Response
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.retraining.freshness import Window
from tests.support.canned_fleet import BROKEN, BUSY, DONE, FAILED, JOB, RUNNING, TRAINER, Service
from tests.support.tasks import DAY, refused

WINDOW = Window(DAY)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds follow each other at once."""
    monkeypatch.setattr(fleet_engine, "_ROUND", 0.0)


async def test_a_job_that_failed_ends_its_endpoint() -> None:
    """With the service's own words, and what has become of it is saved."""
    service = Service(get_job=[RUNNING, RUNNING, FAILED])
    row = await service.run()
    assert (row.outcome, row.reason.count("The data is bad.")) == (Outcome.FAILED, 1)
    assert service.calls["start_job"] == 1
    assert service.lines[-1] == "saved"


async def test_a_job_that_was_started_before_is_polled() -> None:
    """The answer to an earlier start may have been lost: a start that is refused for that is none."""
    row = await Service(start_job=[refused(400, "CannotStartJob", "It runs.")]).run()
    assert "The data is bad." in row.reason


async def test_an_outage_is_waited_out() -> None:
    """A service that is away says nothing about an endpoint, however often: it is tried again, and the log tells."""
    busy: list[Response | Exception] = [BUSY, ServiceUnavailable("No answer (ReadTimeout)"), BUSY, BUSY]
    service = Service(start_job=[*busy, DONE], get_job=[*busy, FAILED])
    row = await service.run()
    assert "The data is bad." in row.reason
    assert (service.calls["start_job"], service.calls["get_job"]) == (5, 5)
    assert sum("'e' is tried again later" in line for line in service.lines) == 4
    assert sum(f"The state of job {JOB} of 'e' cannot be read just now" in line for line in service.lines) == 4


async def test_one_call_finds_out_when_the_service_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is away, a round makes one call instead of three, and the rounds are further and further apart."""
    service = Service(start_job=[BUSY, BUSY, BUSY, BUSY, BUSY, DONE])
    rounds: list[tuple[float, int]] = []

    def jittered(seconds: float) -> float:
        rounds.append((seconds, service.calls["start_job"]))
        return 0.0

    monkeypatch.setattr(fleet_engine, "jittered", jittered)
    monkeypatch.setattr(fleet_engine, "_ROUND", 1.0)
    await service.run(3, poll_interval=100.0)
    pauses = [(seconds, calls) for seconds, calls in rounds if seconds < 100]
    assert pauses[:3] == [(2.0, 3), (4.0, 4), (8.0, 5)]
    assert service.calls["start_job"] == 8


async def test_an_error_that_stays_ends_the_endpoint() -> None:
    """One that may pass is tried three times in all."""
    service = Service(start_job=[BROKEN])
    row = await service.run()
    assert (row.outcome, service.calls["start_job"]) == (Outcome.FAILED, 3)
    assert "Broken." in row.reason
    service = Service(start_job=[BROKEN, BROKEN, DONE])
    assert "The data is bad." in (await service.run()).reason


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (refused(404, "JobNotFound", "Not here."), f"Job {JOB} no longer exists: "),
        (refused(400, "BadParameterValue", "No job id."), "No job id."),
    ],
)
async def test_a_poll_that_is_refused(answer: Response, reason: str) -> None:
    """A job that is gone, or whose state the service refuses to tell, has failed; it is not polled again."""
    service = Service(get_job=[answer])
    row = await service.run()
    assert row.outcome is Outcome.FAILED
    assert reason in row.reason
    assert ("no longer exists" in row.reason) is (answer.status == 404)
    assert service.calls["get_job"] == 1


@pytest.mark.parametrize(
    ("options", "outcome", "reason"),
    [
        ({"job_timeout": 0.0}, Outcome.FAILED, "was still Running after job_timeout=0 s; it was cancelled."),
        ({"deadline": 0.0}, Outcome.UNTOUCHED, "Not started before the fleet's deadline."),
    ],
)
async def test_a_job_that_is_too_slow(options: dict[str, Any], outcome: Outcome, reason: str) -> None:
    """A job over its time is cancelled; over the fleet's, none is started."""
    service = Service(get_job=[RUNNING])
    row = await service.run(**options)
    assert row.outcome is outcome
    assert row.reason.endswith(reason)
    assert service.calls["cancel_job"] == service.calls["start_job"] == ("job_timeout" in options)


async def test_a_job_that_cannot_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fleet's deadline ends the endpoint all the same, and the log names the job."""
    deadline = time.time() + 60
    service = Service(get_job=[RUNNING], cancel_job=[BROKEN])
    counted = service.answer

    def late(request: Request) -> Any:
        if service.calls["get_job"] == 3:
            monkeypatch.setattr(time, "time", lambda: deadline)
        return counted(request)

    monkeypatch.setattr(service, "answer", late)
    row = await service.run(deadline=deadline)
    assert row.outcome is Outcome.FAILED
    assert row.reason == f"Job {JOB} had not ended by the fleet's deadline; it was cancelled."
    assert any(JOB in line and "Broken." in line for line in service.lines)


async def test_an_engine_that_is_ended_leaves_its_jobs() -> None:
    """Ended from outside, it says nothing about the endpoint, cancels nothing, and saves what it knows."""
    service = Service(get_job=[RUNNING])
    means = Means(service, lambda reference: reference, service.save, service.lines.append, service.is_polled)
    row = Row("e", job_id=JOB)
    await Engine(means, Options("t", "default", "s", poll_interval=60.0), [row], [row], 0).run()
    assert (row.outcome, service.calls["cancel_job"], service.lines[-1]) == (None, 0, "saved")


async def submitted(
    service: Service, rows: list[Row], make: Callable[[Item, Endpoint], JobRequest], may_fail: int = 0
) -> int:
    """Submit the jobs of a wave; how many times the rows were saved."""
    saved: list[int] = []
    trainers = Trainers(service, Options("t", "default", "s"), TRAINER, service.lines.append)
    items = {row.endpoint: Item(row.endpoint, {}, WINDOW) for row in rows if row.endpoint != "gone"}
    await Submitter(service, trainers, make, 7).prepare(rows, items, lambda: saved.append(1), may_fail)
    return len(saved)


async def test_a_wave_is_submitted() -> None:
    """Each row has a job of this epoch; one whose item is no longer there, or cannot be read, has none and says so."""

    def make(item: Item, trainer: Endpoint) -> JobRequest:
        if item.endpoint == "odd":
            raise ValueError("There is no such input.")
        return JobRequest({})

    good, gone, odd = rows = [Row("good"), Row("gone"), Row("odd")]
    assert await submitted(Service(), rows, make) == 1
    assert (good.job_id, good.epoch, good.outcome) == (JOB, 7, None)
    assert (gone.job_id, gone.outcome, gone.reason) == (None, Outcome.UNTOUCHED, "It is no longer among the items.")
    assert (odd.job_id, odd.outcome, odd.reason) == (None, Outcome.FAILED, "There is no such input.")


OWN = Endpoint("e", "t", "w", api_location="https://ml.example/own", primary_key="mine", folder="customers/1")


async def test_where_customers_are_apart_each_has_a_trainer() -> None:
    """A customer who is not there is added before the job, which goes to his endpoint, with his key and folder; it is
    started, polled and cancelled there, too.
    """
    absent = refused(404, "EndpointNotFound", "No.")
    service = Service(get_endpoint=[absent, Response.of_json(OWN.to_wire())], add_endpoint=[DONE], get_job=[RUNNING])
    asked, answer = list[tuple[str, str, str | None]](), service.answer

    def noted(request: Request) -> Any:
        asked.append((request.operation.name, request.url, request.headers.get("authorization")))
        return answer(request)

    service.answer = noted  # type: ignore[method-assign]
    options = Options("t", "default", "s", paired=True, poll_interval=0.0, job_timeout=1e-9)
    trainers, row, folders = Trainers(service, options, None, service.lines.append), Row("e"), list[str | None]()

    def make(item: Item, trainer: Endpoint) -> JobRequest:
        folders.append(trainer.folder)
        return JobRequest({})

    await Submitter(service, trainers, make, 7).prepare([row], {"e": Item("e", {}, WINDOW)}, lambda: None, 0)
    means = Means(service, lambda reference: reference, service.save, service.lines.append)
    await Engine(means, options, [row], [row], 1).run()
    assert row.reason.endswith("it was cancelled.")
    assert folders == [OWN.folder]
    assert service.calls["add_endpoint"] == 1
    jobs = [(url.startswith(OWN.api_location), key) for name, url, key in asked if name.endswith("_job")]
    assert set(jobs) == {(True, "Bearer mine")}
    assert {"submit_job", "start_job", "get_job", "cancel_job"} == {name for name, *_ in asked if name.endswith("_job")}


async def test_a_customer_who_has_left_stops_no_cancelling() -> None:
    """The log names the job that could not be cancelled, and the next one is."""
    gone, there = refused(404, "EndpointNotFound", "No."), Response.of_json(OWN.to_wire())
    service = Service(get_endpoint=[gone, there])
    trainers = Trainers(service, Options("t", "default", "s", paired=True), None, service.lines.append)
    await service.perform(trainers.cancel_all([Row("a", job_id="2" * 32), Row("e", job_id=JOB)]))
    assert [line.startswith(f"Job {'2' * 32} could not be cancelled") for line in service.lines] == [True]
    assert service.calls["cancel_job"] == 1


@pytest.mark.parametrize(("pages", "outcome"), [(2, None), (3, Outcome.FAILED)])
async def test_a_page_of_a_proxy_says_nothing_about_a_job(pages: int, outcome: Outcome | None) -> None:
    """It is asked again, and the job that runs is taken up; three such answers in a row end the endpoint."""
    page = Response(200, {"content-type": "text/html"}, b"<html>")
    service, row = Service(get_job=[page] * pages + [RUNNING]), Row("e", job_id="2" * 32, epoch=7)
    await submitted(service, [row], lambda *_: JobRequest({}))
    assert (row.job_id, row.outcome, service.calls["submit_job"]) == ("2" * 32, outcome, 0)
    assert (row.started is None) == (outcome is Outcome.FAILED)


async def test_the_pauses_of_a_job_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """From a second to the poll interval, however few jobs are in flight; one whose state could not be read is polled
    in the next round.
    """
    now, rounds = SimpleNamespace(monotonic=lambda: float(len(polls)), time=lambda: 0.0), 60
    service, polls = Service(get_job=[RUNNING] * 3 + [BROKEN] + [RUNNING]), list[int]()
    monkeypatch.setattr(fleet_engine, "time", now)
    monkeypatch.setattr(fleet_engine, "jittered", lambda seconds: seconds)
    means = Means(service, lambda reference: reference, service.save, service.lines.append)
    engine = Engine(means, Options("t", "default", "s", poll_interval=10.0), [], [], 0)
    engine._trainers = await service.perform(Trainers.find(service, engine._options, print))
    engine.in_flight = {JOB: Row("e", job_id=JOB)}
    for _ in range(rounds):
        await engine._poll()
        polls.append(service.calls["get_job"])
    asked = [second for second in range(1, rounds) if polls[second] > polls[second - 1]]
    assert asked == [1, 3, 6, 7, 11, 17, 25, 35, 45, 55]


async def test_jobs_that_run_count_first() -> None:
    """Of a wave that is taken up, those that run are polled before another one is started: no more run than may."""
    service = Service(get_job=[RUNNING, RUNNING, FAILED])
    rows = [Row("e", job_id="2" * 32), Row("e", job_id="3" * 32, started=1.0)]
    means, order = Means(service, lambda reference: reference, service.save, service.lines.append), list[str]()
    counted = service.answer

    def answer(request: Request) -> Any:
        order.append(f"{request.operation.name} {request.url.rpartition('/jobs/')[2][:1]}")
        return counted(request)

    service.answer = answer  # type: ignore[method-assign]
    options = Options("t", "default", "s", poll_interval=0.0, max_active_jobs=1)
    await Engine(means, options, rows, rows, 2).run()
    jobs = [call for call in order if call.startswith(("start", "get_job"))]
    assert jobs[:4] == ["start_job 3", "get_job 3", "get_job 3", "get_job 3"]
    assert jobs[4] == "start_job 2"


async def test_no_further_job_once_too_many_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Endpoints whose jobs the service refuses count as failed; the rest of the wave is left alone."""
    monkeypatch.setattr(fleet_engine, "CHUNK", 1)
    service = Service(submit_job=[refused(400, "BadParameterValue", "No.")])
    rows = [Row("a"), Row("b"), Row("c"), Row("d")]
    await submitted(service, rows, lambda *_: JobRequest({}), may_fail=1)
    assert [row.outcome for row in rows] == [Outcome.FAILED] * 2 + [Outcome.UNTOUCHED] * 2
    assert rows[3].reason == "Not submitted: 2 endpoints of its wave had failed."
    assert service.calls["submit_job"] == 2


async def test_what_was_submitted_is_saved_when_the_service_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the wave ends with the error, which another attempt takes up."""
    monkeypatch.setattr(fleet_engine, "CHUNK", 1)
    monkeypatch.setattr(fleet_engine, "_SUBMIT_PAUSES", (0.0, 0.0))
    gone = ServiceUnavailable("No answer (ReadTimeout)")
    service = Service(submit_job=[gone, Response.of_json(JOB), gone])
    rows, saved = [Row("a"), Row("b")], list[str | None]()
    trainers = Trainers(service, Options("t", "default", "s"), TRAINER, service.lines.append)
    items = {row.endpoint: Item(row.endpoint, {}, WINDOW) for row in rows}
    submitter = Submitter(service, trainers, lambda *_: JobRequest({}), 1)
    with pytest.raises(ServiceUnavailable, match="No answer"):
        await submitter.prepare(rows, items, lambda: saved.append(rows[0].job_id), 0)
    assert saved == [JOB, JOB]
    assert rows[1].outcome is None
    assert service.calls["submit_job"] == 5


async def test_what_changes_while_the_rows_are_kept_is_kept_as_well() -> None:
    """Calls that come during a write share the next one; none takes the write under way for its own."""
    change, kept, under_way = 0, list[int](), asyncio.Event()

    async def save() -> None:
        kept.append(change)
        await under_way.wait()

    means = Means(Service(), lambda reference: reference, save, print)
    engine = Engine(means, Options("t", "default", "s"), [], [], 0)
    first = asyncio.create_task(engine._save())
    await asyncio.sleep(0)
    change = 1
    others = [asyncio.create_task(engine._save()) for _ in range(3)]
    await asyncio.sleep(0)
    under_way.set()
    await asyncio.gather(first, *others)
    assert kept == [0, 1]


async def test_when_the_time_of_an_attempt_is_over_its_jobs_are_cancelled() -> None:
    """The next attempt gives each a new job; none of them goes on with nobody who waits for it."""
    service, row = Service(get_job=[RUNNING]), Row("e", job_id=JOB, started=1.0)
    means = Means(service, lambda reference: reference, service.save, service.lines.append)
    engine = Engine(means, Options("t", "default", "s", attempt_ends=0.0), [row], [row], 0)
    engine.in_flight = {JOB: row}
    await engine.run()
    assert (row.outcome, service.calls["cancel_job"]) == (None, 1)
