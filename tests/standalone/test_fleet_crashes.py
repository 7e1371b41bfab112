"""A fleet is finished whatever is killed under it, with as many jobs as it has endpoints."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.standalone.airflow import Airflow, wait_for
from tests.standalone.service import Service

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("standalone")]

HALF = 3


def begin(airflow: Airflow, service: Service, dag_id: str, run: str) -> None:
    """Trigger a run, and wait until half of its jobs have ended and the other half is running."""
    service.hold(run)
    service.hold(f"{run}late")
    service.release(run)
    airflow.trigger(dag_id, run, endpoint=run)
    half = [*["Finished"] * HALF, *["Running"] * HALF]
    wait_for(f"half of {run} has ended", lambda: sorted(service.jobs(run)) == half)


def killed_triggerer(airflow: Airflow, service: Service, run: str) -> None:
    """``kill -9`` of every triggerer; a new one takes the trigger over."""
    airflow.kill_triggerers()
    airflow.start_triggerer()


def killed_worker(airflow: Airflow, service: Service, run: str) -> None:
    """``kill -9`` of the task's process; Airflow tries again."""
    import psutil

    task = airflow.wait_for_task("fleetinworker", run, "running")
    airflow.kill(psutil.Process(task["pid"]))
    wait_for(f"{run} is tried again", lambda: airflow.task("fleetinworker", run)["try_number"] > task["try_number"])


@pytest.mark.parametrize(
    ("dag_id", "kill"),
    [("fleetinworker", killed_worker), ("fleetdeferred", killed_triggerer)],
    ids=["worker", "triggerer"],
)
def test_killed_in_the_middle(
    airflow: Airflow, service: Service, dag_id: str, kill: Callable[[Airflow, Service, str], None]
) -> None:
    """Half of the fleet has ended when the process dies: the rest is finished, and no job ran twice."""
    run = f"k{dag_id[-8:]}"
    begin(airflow, service, dag_id, run)
    kill(airflow, service, run)
    service.release(f"{run}late")
    airflow.wait_for_task(dag_id, run, "success")
    assert service.jobs(run) == ["Finished"] * 2 * HALF
    assert f"{2 * HALF} endpoints: {2 * HALF} updated." in airflow.log(dag_id, run)


def test_marked_failed(airflow: Airflow, service: Service) -> None:
    """A person who marks the deferred task failed has the jobs in flight cancelled; what has ended stays."""
    run = "marked"
    begin(airflow, service, "fleetdeferred", run)
    airflow.mark_failed("fleetdeferred", run)
    wait_for("the jobs are cancelled", lambda: service.jobs(run).count("Cancelled") == HALF)
    assert service.jobs(run).count("Finished") == HALF
