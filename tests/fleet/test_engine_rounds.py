"""Rounds of a fleet's engine by a clock that tests move: when it polls, saves, pauses, updates, and ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_azureml_classic.exceptions import ServiceUnavailable, rejection
from airflow_provider_azureml_classic.fleet import engine as fleet_engine
from airflow_provider_azureml_classic.fleet import trainers as trainers_module
from airflow_provider_azureml_classic.fleet.engine import Engine, Means, Submitter
from airflow_provider_azureml_classic.fleet.options import Options
from airflow_provider_azureml_classic.fleet.rows import Item, Outcome, Row
from airflow_provider_azureml_classic.fleet.trainers import Trainers
from airflow_provider_azureml_classic.protocol.jobs import Job, JobRequest
from airflow_provider_azureml_classic.protocol.messages import Request, Response
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.retraining.freshness import Window
from airflow_provider_azureml_classic.retraining.rehearsing import Rehearsing
from tests.support.canned_fleet import BROKEN, BUSY, DONE, FAILED, JOB, RUNNING, TRAINER, Service
from tests.support.tasks import DAY, refused

EPOCH = 1000.0
FINISHED = Response.of_json({"StatusCode": "Finished"})
NOT_STARTED = Response.of_json({"StatusCode": "NotStarted"})


class World:
    """A clock, which sleeping moves, and when what was asked of a service.

    :param service: the service.
    """

    def __init__(self, service: Service) -> None:
        self.now, self.service = 0.0, service
        self.slept: list[float] = []
        self.asked: list[tuple[str, float]] = []
        self.urls: list[str] = []
        self.saved: list[float] = []
        self.is_ended: Callable[[], bool] = lambda: False
        answer = service.answer

        def noted(request: Request) -> Any:
            self.asked.append((request.operation.name, self.now))
            self.urls.append(f"{request.operation.name} {request.url}")
            return answer(request)

        service.answer = noted  # type: ignore[method-assign]

    async def sleep(self, seconds: float) -> None:
        """Move the clock."""
        self.slept.append(seconds)
        self.now += seconds
        assert len(self.slept) < 200

    async def save(self) -> None:
        """Note when the rows were saved."""
        self.saved.append(self.now)

    def times(self, name: str) -> list[float]:
        """When something was asked."""
        return [time for what, time in self.asked if what == name]

    def engine(self, *rows: Row, may_fail: int = 9, **options: Any) -> Engine:
        """An engine of some rows."""
        means = Means(self.service, str, self.save, self.service.lines.append, lambda: self.is_ended())  # type: ignore[arg-type]
        return Engine(means, Options("t", "default", "s", **options), rows, rows, may_fail)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Callable[..., World]:
    """Makes worlds, the last of which has the clock."""
    worlds: list[World] = []
    clock = SimpleNamespace(monotonic=lambda: worlds[-1].now, time=lambda: EPOCH + worlds[-1].now)
    monkeypatch.setattr(fleet_engine, "time", clock)
    monkeypatch.setattr(fleet_engine, "jittered", lambda seconds: seconds)

    def made(**answers: Any) -> World:
        worlds.append(World(Service(**answers)))
        monkeypatch.setattr(asyncio, "sleep", worlds[-1].sleep)
        return worlds[-1]

    return made


async def test_rounds_save_and_poll_now_and_then(world: Callable[..., World]) -> None:
    """Every second a round; a job is polled less and less often, beginning a second after its start; the rows are saved
    every five seconds and at the end, and a line says how many jobs are in flight.
    """
    here, row = world(get_job=[RUNNING] * 5 + [FAILED]), Row("e", job_id=JOB)
    engine = here.engine(row, poll_interval=5.0)
    await engine.run()
    polls = here.times("get_job")
    assert polls[:3] == [1.0, 3.0, 6.0]
    assert here.saved == [*[float(second) for second in range(0, int(polls[-1]) + 1, 5)], polls[-1]]
    assert set(here.slept) == {1.0}
    assert row.started == EPOCH
    assert (engine._polls, engine.in_flight) == ({}, {})
    assert "; 0 jobs in flight" in here.service.lines[-1]


@pytest.mark.parametrize(
    ("answers", "pauses"),
    [
        ([BUSY] * 8 + [FAILED], [1, 2, 4, 8, 16, 32, 60, 60, 60]),
        ([BROKEN, BROKEN, FAILED], [1, 1, 1]),
        ([BUSY, BROKEN, BUSY, FAILED], [1, 2, 1, 2]),
    ],
    ids=["away", "broken", "both"],
)
async def test_how_long_rounds_wait(world: Callable[..., World], answers: list[Response], pauses: list[float]) -> None:
    """Twice as long each time while the service is away, a minute at most; another error is no outage."""
    here = world(get_job=answers)
    engine, waited = here.engine(Row("e", job_id=JOB), poll_interval=100.0), list[float]()

    async def pause(seconds: float) -> None:
        waited.append(seconds)
        here.now += seconds

    engine._pause = pause  # type: ignore[method-assign]
    await engine.run()
    assert waited == pauses


async def test_one_that_is_away_is_so_for_all_that_are_polled_with_it(world: Callable[..., World]) -> None:
    """Whichever is answered last; the others wait for the next round."""
    here = world(get_job=[BUSY] + [BROKEN] * 7 + [RUNNING])
    engine = here.engine()
    engine._trainers = await here.service.perform(Trainers.find(here.service, engine._options, print))
    engine.in_flight = {f"{n:032}": Row("e", job_id=f"{n:032}") for n in range(10)}
    await engine._poll()
    assert len(here.times("get_job")) == fleet_engine.CALLS
    assert engine._away
    engine._away = False
    await engine._poll()
    assert len(here.times("get_job")) == fleet_engine.CALLS + 10


@pytest.mark.parametrize(
    ("ended_at", "slept"), [(None, [1.0, 1.0, 0.5]), (1.0, [1.0]), (0.0, [])], ids=["whole", "ended", "at once"]
)
async def test_a_pause_ends_early(world: Callable[..., World], ended_at: float | None, slept: list[float]) -> None:
    """Within a second of the engine's end from outside."""
    here = world()
    here.is_ended = lambda: ended_at is not None and here.now >= ended_at
    await here.engine()._pause(2.5)
    assert here.slept == slept


async def test_saves_at_a_time_share_a_write(world: Callable[..., World]) -> None:
    """Each returns when what it wants kept is kept: one write is under way, one more has all the rest."""
    here, gate = world(), asyncio.Event()
    engine, written = here.engine(), list[int]()

    async def save() -> None:
        written.append(engine._changes)
        await gate.wait()

    engine._means = SimpleNamespace(save=save)  # type: ignore[assignment]
    calls = [asyncio.ensure_future(engine._save()) for _ in range(4)]
    await asyncio.wait(calls, timeout=0)
    gate.set()
    await asyncio.gather(*calls)
    assert len(written) == 2


async def test_rows_without_a_job_or_with_an_end_are_left_alone(world: Callable[..., World]) -> None:
    """They are none of this wave's work."""
    here = world()
    rows = [Row("a"), Row("b", job_id=JOB, outcome=Outcome.UPDATED)]
    await here.engine(*rows).run()
    assert here.times("start_job") == []


async def test_the_end_of_an_attempt_cancels_what_is_in_flight(world: Callable[..., World]) -> None:
    """At its very moment; the endpoint has no outcome, and what is known is saved."""
    here, row = world(get_job=[RUNNING]), Row("e", job_id=JOB)
    await here.engine(row, attempt_ends=EPOCH + 3).run()
    assert (row.outcome, here.times("cancel_job"), here.saved[-1]) == (None, [3.0], 3.0)


async def test_a_job_has_so_long(world: Callable[..., World]) -> None:
    """It is cancelled at the poll that finds it over its time, not before."""
    here, row = world(get_job=[RUNNING]), Row("e", job_id=JOB)
    await here.engine(row, job_timeout=10.0, poll_interval=5.0).run()
    assert (row.outcome, row.started) == (Outcome.FAILED, EPOCH)
    assert here.times("cancel_job") == [10.0]
    assert 1.0 in here.times("get_job")


async def test_an_endpoint_is_added_once(world: Callable[..., World]) -> None:
    """One that is not there, before its job is started; a start that is tried again asks no more."""
    absent = refused(404, "EndpointNotFound", "No.")
    there = Response.of_json(TRAINER.to_wire())
    here = world(get_endpoint=[there, absent, there], add_endpoint=[DONE], start_job=[BROKEN, DONE])
    await here.engine(Row("mine", job_id=JOB)).run()
    added = [url for url in here.urls if url.startswith("add_endpoint")]
    assert [url.rpartition("/webservices/")[2] for url in added] == ["s/endpoints/mine"]
    # That which trains, this one, and this one again once it is added.
    assert len(here.times("get_endpoint")) == 3
    assert len(here.times("start_job")) == 2


# -- updates -----------------------------------------------------------------------------------------------------------


class Updates:
    """Stands for what updates endpoints: how it was made, and what becomes of each update.

    :param ends: an error, or ``None``: it goes well.
    """

    def __init__(self, *ends: Exception | Response | None) -> None:
        self.ends, self.made, self.placing = list(ends), list[Any](), list[Any]()
        self.updated: list[tuple[str, str]] = []

    def update(self, row: Row, job: Job) -> Iterator[Any]:
        """Update an endpoint."""
        self.updated.append((row.endpoint, job.id))
        end = self.ends.pop(0)
        if end is not None:
            raise end  # type: ignore[misc]
        row.end(Outcome.UPDATED, "")
        return
        yield


@pytest.fixture
def updating(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Updates]:
    """Puts a stand-in in the place of what updates endpoints."""

    def put(*ends: Any) -> Updates:
        updates = Updates(*ends)
        monkeypatch.setattr(fleet_engine, "Updater", lambda *given: updates.made.append(given) or updates)
        monkeypatch.setattr(
            fleet_engine, "Placing", lambda *given, **more: updates.placing.append((given, more)) or "p"
        )
        return updates

    return put


AWAY, PASSING = ServiceUnavailable("Busy.", status=503), ServiceUnavailable("Broken.", status=500)


async def test_a_finished_job_is_put_in_place(world: Callable[..., World], updating: Callable[..., Updates]) -> None:
    """By the fleet's options; the engine ends when its updates have."""
    here, row, updates = world(get_job=[FINISHED]), Row("e", job_id=JOB), updating(None)
    options = {"proof": "version", "proof_timeout": 5.0, "on_failure": "keep", "rehearsal": "auto", "max_change": 0.1}
    engine = here.engine(row, **options)
    await engine.run()
    assert row.outcome is Outcome.UPDATED
    assert updates.updated == [("e", JOB)]
    [(placing, service, made, save)] = updates.made
    assert (placing, service.id, made, save) == ("p", "s", engine._options, engine._save)
    [((client, readable, say, *proof), more)] = updates.placing
    assert (client, readable, say("a line"), proof) == (here.service, str, None, ["version", 5.0, "keep"])
    assert more == {"rehearsing": Rehearsing.of("auto", 0.1)}


async def test_an_update_is_tried_again(world: Callable[..., World], updating: Callable[..., Updates]) -> None:
    """With the job as the service shows it then; while the service is away as often as need be."""
    here, row = world(get_job=[FINISHED]), Row("e", job_id=JOB)
    updates = updating(*[AWAY] * 4, PASSING, PASSING, None)
    engine = here.engine(row)
    await engine.run()
    assert (row.outcome, len(updates.updated), len(here.times("get_job"))) == (Outcome.UPDATED, 7, 7)
    assert engine._polls == {}


async def test_the_engine_waits_for_its_last_updates(
    world: Callable[..., World], updating: Callable[..., Updates], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking once a second whether it is ended, and asking nothing meanwhile."""
    here, row, gate, waits = world(get_job=[FINISHED]), Row("e", job_id=JOB), asyncio.Event(), list[float | None]()
    updates, perform, wait = updating(None), here.service.perform, asyncio.wait

    async def slow(steps: Any) -> Any:
        if updates.made and steps.__name__ == "update":
            await gate.wait()
        return await perform(steps)

    async def waited(tasks: Any, *, timeout: float | None) -> Any:
        waits.append(timeout)
        if len(waits) == 3:
            gate.set()
        return await wait(tasks, timeout=30 if gate.is_set() else 0)

    monkeypatch.setattr(here.service, "perform", slow)
    monkeypatch.setattr(asyncio, "wait", waited)
    await here.engine(row).run()
    assert waits == [1.0, 1.0, 1.0]
    assert (row.outcome, here.times("get_job")) == (Outcome.UPDATED, [1.0])


@pytest.mark.parametrize(
    ("end", "reason"),
    [(rejection("ModelInvalid", "Odd."), "Odd."), (ValueError("No such output."), "No such output.")],
)
async def test_an_update_that_is_refused_ends_its_endpoint(
    world: Callable[..., World], updating: Callable[..., Updates], end: Exception, reason: str
) -> None:
    """In the words of the service, or of what cannot be done."""
    here, row = world(get_job=[FINISHED]), Row("e", job_id=JOB)
    updates = updating(end)
    await here.engine(row).run()
    assert row.outcome is Outcome.FAILED
    assert reason in row.reason
    assert len(updates.updated) == 1


# -- cancelled from outside --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", ["fine", "fails", "hangs"])
async def test_a_cancelled_engine_saves_what_it_can(
    world: Callable[..., World], monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    """For a moment, and is cancelled then, whatever becomes of that; no job is cancelled."""
    here, reached = world(get_job=[RUNNING]), asyncio.Event()
    monkeypatch.setattr(fleet_engine, "_LAST_SAVE", 0.01)
    saves: list[str] = []

    async def save() -> None:
        if reached.is_set():
            saves.append(last)
            if last == "fails":
                raise OSError("the database is away")
            if last == "hangs":
                await asyncio.Event().wait()

    async def pause(seconds: float) -> None:
        reached.set()
        await asyncio.Event().wait()

    engine = here.engine(Row("e", job_id=JOB))
    engine._means = Means(here.service, str, save, print)  # type: ignore[arg-type]
    engine._pause = pause  # type: ignore[method-assign]
    task = asyncio.ensure_future(engine.run())
    await reached.wait()
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=30)
    assert done
    assert task.cancelled()
    assert saves == [last]
    assert here.times("cancel_job") == []


# -- submitting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "epoch", "taken_up", "started"),
    [
        (RUNNING, 7, True, True),
        (NOT_STARTED, 7, True, False),
        (FINISHED, 7, True, True),
        (FINISHED, 6, True, True),
        (RUNNING, 6, False, False),
        (FAILED, 7, False, False),
        (refused(404, "JobNotFound", "No."), 7, False, False),
    ],
)
async def test_which_jobs_are_taken_up(
    world: Callable[..., World], answer: Response, epoch: int, taken_up: bool, started: bool
) -> None:
    """Those of this attempt that can end well, and those that have; others have a new one, and are counted."""
    here = world(get_job=[answer])
    rows = [Row(name, job_id=str(n) * 32, epoch=epoch) for n, name in enumerate(("a", "b"), 2)]
    before = [row.job_id for row in rows]
    trainers = Trainers(here.service, Options("t", "default", "s"), TRAINER, here.service.lines.append)

    def make(item: Item, trainer: Endpoint) -> JobRequest:
        return JobRequest({})

    submitter = Submitter(here.service, trainers, make, 7)
    assert submitter.submitted == 0
    await submitter.prepare(rows, {name: Item(name, {}, Window(DAY)) for name in "ab"}, lambda: None, 0)
    assert [row.job_id for row in rows] == (before if taken_up else [JOB, JOB])
    assert {row.started for row in rows} == {EPOCH if started else None}
    assert {row.epoch for row in rows} == {epoch if taken_up else 7}
    assert submitter.submitted == (0 if taken_up else 2)


# -- who trains --------------------------------------------------------------------------------------------------------


async def test_customers_endpoints_are_remembered_up_to_a_number(
    world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is asked for once; the one that was read first is forgotten first."""
    monkeypatch.setattr(trainers_module, "_MOST", 2)
    here = world()
    options = Options("t", "default", "s", paired=True)
    trainers = await here.service.perform(Trainers.find(here.service, options, print))
    assert trainers.shared is None
    asked = []
    for name in ("a", "b", "a", "b", "c", "b", "a"):
        here.urls.clear()
        runner = await here.service.perform(trainers.runner(name))
        assert runner.endpoint == TRAINER
        asked += [url.rpartition("/webservices/")[2] for url in here.urls]
    assert asked == [f"t/endpoints/{name}" for name in "abca"]
