"""A job is never lost and never submitted twice: workers are killed at the worst moments, tasks cleared and failed.

Each function here that takes a ``run`` is one story, told of one DAG run. The stories run side by side, because they
mostly wait for Airflow; :func:`test_story` has a test for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.standalone.airflow import Airflow, wait_for
from tests.standalone.service import Service

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("standalone")]

#: Where a task's process is killed: name -> call that it stops at. A deferred task does not wait in a process.
POINTS = {
    "submitted": "after-submit_job",
    "stored": "before-start_job",
    "started": "after-start_job",
    "finished": "after-get_job-ended",
}
#: Who gets SIGTERM.
_TERMINATED = ("task", "supervisor")
_SIDE_BY_SIDE = 10


@dataclass(frozen=True)
class Stand:
    """What a story needs.

    :param airflow: the instance.
    :param service: the server.
    :param points: folder of the files that stop a task.
    """

    airflow: Airflow
    service: Service
    points: Path

    def start(self, dag_id: str, run: str) -> None:
        """Trigger a run whose job is held."""
        self.service.hold(run)
        self.airflow.trigger(dag_id, run, endpoint=run)

    def wait_for_jobs(self, run: str, *states: str) -> None:
        """Until the service has run exactly these jobs."""
        wait_for(f"{run} has the jobs {states}", lambda: self.service.jobs(run) == list(states))

    def task_process(self, dag_id: str, run: str) -> psutil.Process:
        """The process of a running task."""
        return psutil.Process(self.airflow.wait_for_task(dag_id, run, "running")["pid"])

    def finish_second_attempt(self, dag_id: str, run: str) -> None:
        """Let the job end: the second attempt succeeds with it, and it is the only one that ran."""
        wait_for(f"{run} is tried again", lambda: self.airflow.task(dag_id, run)["try_number"] == 2)
        wait_for(f"{run} has its job", lambda: self.service.jobs(run) in (["Running"], ["Finished"]))
        self.service.release(run)
        task = self.airflow.wait_for_task(dag_id, run, "success")
        # A third attempt is Airflow's own doing (its database is locked now and then); it takes up the same job too.
        assert task["try_number"] >= 2
        assert self.service.jobs(run) == ["Finished"]


def killed_at(point: str, stand: Stand, dag_id: str, run: str) -> None:
    """The task's process is killed with -9 between two calls: its retry ends with the one job that ran."""
    stop = stand.points / f"{run}-{POINTS[point]}"
    stop.touch()
    stand.start(dag_id, run)
    if point == "finished":
        stand.wait_for_jobs(run, "Running")
        stand.service.release(run)
    wait_for(f"{run} is at {stop.name}", stop.with_suffix(".reached").exists)
    stand.airflow.kill(stand.task_process(dag_id, run))
    stand.finish_second_attempt(dag_id, run)
    # What was submitted and not remembered was not started either: it does nothing.
    assert stand.service.submitted(run) == (2 if point == "submitted" else 1)


def killed_waiting(stand: Stand, dag_id: str, run: str) -> None:
    """The task's process is killed with -9 while it waits: its retry takes up the job."""
    stand.start(dag_id, run)
    stand.wait_for_jobs(run, "Running")
    stand.airflow.kill(stand.task_process(dag_id, run))
    stand.finish_second_attempt(dag_id, run)
    assert stand.service.submitted(run) == 1


def terminated(process: str, stand: Stand, dag_id: str, run: str) -> None:
    """The task's process, or its supervisor, gets SIGTERM while it waits, as at an eviction: the job goes on, and the
    retry takes it up.
    """
    stand.start(dag_id, run)
    stand.wait_for_jobs(run, "Running")
    task = stand.task_process(dag_id, run)
    stand.airflow.terminate(task if process == "task" else task.parent())
    stand.finish_second_attempt(dag_id, run)
    assert stand.service.submitted(run) == 1
    assert "and not by a person" in stand.airflow.log(dag_id, run)


def worker_killed(stand: Stand, dag_id: str, run: str) -> None:
    """The whole worker dies, so that Airflow only misses its heartbeats: the retry takes up the job."""
    stand.start(dag_id, run)
    stand.wait_for_jobs(run, "Running")
    task = stand.task_process(dag_id, run)
    stand.airflow.kill(task.parent())
    stand.airflow.kill(task)
    stand.finish_second_attempt(dag_id, run)
    assert stand.service.submitted(run) == 1


def cleared_waiting(stand: Stand, dag_id: str, run: str) -> None:
    """A task that is cleared while it waits runs a new job, and the one of before is cancelled."""
    stand.start(dag_id, run)
    stand.airflow.wait_for_task(dag_id, run, "deferred" if dag_id == "deferred" else "running")
    stand.wait_for_jobs(run, "Running")
    stand.airflow.clear(dag_id, run)
    stand.wait_for_jobs(run, "Cancelled", "Running")
    stand.service.release(run)
    stand.airflow.wait_for_task(dag_id, run, "success")
    assert stand.service.jobs(run) == ["Cancelled", "Finished"]


def marked_failed(stand: Stand, dag_id: str, run: str) -> None:
    """A task that a person marks failed while it waits has its job cancelled."""
    stand.start(dag_id, run)
    stand.wait_for_jobs(run, "Running")
    if dag_id == "deferred":
        # Until the triggerer has read the trigger, for about a second, Airflow 3.3.2 calls nothing of the provider.
        wait_for(f"the triggerer has {run}", lambda: " starting" in stand.airflow.log(dag_id, run))
    stand.airflow.mark_failed(dag_id, run)
    stand.wait_for_jobs(run, "Cancelled")
    assert stand.airflow.task(dag_id, run)["state"] == "failed"


def job_too_late(stand: Stand, dag_id: str, run: str) -> None:
    """At job_timeout the job is cancelled, and the task fails at once with a sentence that says so."""
    stand.start(dag_id, run)
    task = stand.airflow.wait_for_task(dag_id, run, "failed")
    assert task["try_number"] == 1
    assert stand.service.jobs(run) == ["Cancelled"]
    said = stand.airflow.log(dag_id, run)
    assert "of 'Held Model' was still Running after job_timeout=5 s; it was cancelled." in said


def cleared_when_finished(stand: Stand, dag_id: str, run: str) -> None:
    """Clearing a task that has succeeded trains again."""
    stand.start(dag_id, run)
    stand.service.release(run)
    stand.airflow.wait_for_task(dag_id, run, "success")
    assert stand.service.jobs(run) == ["Finished"]
    # Cleared before the scheduler has ended the run, the task stays as it is: Airflow ends the run all the same.
    stand.airflow.wait_for_run(dag_id, run, "success")
    stand.airflow.clear(dag_id, run)
    stand.wait_for_jobs(run, "Finished", "Finished")
    stand.airflow.wait_for_task(dag_id, run, "success")


#: Name -> (story, DAG).
STORIES: dict[str, tuple[Callable[..., None], str]] = {
    "worker_killed-inworker": (worker_killed, "inworker"),
    **{
        f"killed_{point}-{dag_id}": (partial(killed_at, point), dag_id)
        for dag_id in ("inworker", "deferred")
        for point in POINTS
    },
    "killed_waiting-inworker": (killed_waiting, "inworker"),
    **{f"terminated_{process}-inworker": (partial(terminated, process), "inworker") for process in _TERMINATED},
    **{
        f"{story.__name__}-{dag_id}": (story, dag_id)
        for story in (cleared_when_finished, cleared_waiting, marked_failed)
        for dag_id in ("deferred", "inworker")
    },
    **{f"job_too_late-{dag_id}": (job_too_late, dag_id) for dag_id in ("latedeferred", "lateinworker")},
}


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, airflow: Airflow, service: Service, points: Path
) -> Iterator[dict[str, Future[None]]]:
    """The stories that tests were asked for, under way."""
    stand = Stand(airflow, service, points)
    asked = {item.callspec.params.get("name") for item in request.session.items if hasattr(item, "callspec")}
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        started: dict[str, Future[Any]] = {}
        for number, (name, (story, dag_id)) in enumerate(STORIES.items(), 1):
            if name in asked:
                started[name] = pool.submit(story, stand, dag_id, f"story{number}")
        yield started
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", STORIES)
def test_story(outcomes: dict[str, Future[None]], name: str) -> None:
    """The story ends as its function says."""
    outcomes[name].result()
