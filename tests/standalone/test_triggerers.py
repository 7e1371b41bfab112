"""Deferred tasks outlive the triggerer that waits for them."""

from __future__ import annotations

import pytest

from tests.standalone.airflow import Airflow, wait_for
from tests.standalone.service import Service

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("standalone")]


def test_triggerer_killed(airflow: Airflow, service: Service) -> None:
    """The triggerer is killed while tasks are deferred: the next one takes up their waits, and no job is cancelled."""
    runs = ["triggerer1", "triggerer2"]
    for run in runs:
        service.hold(run)
        airflow.trigger("deferred", run, endpoint=run)
    for run in runs:
        airflow.wait_for_task("deferred", run, "deferred")
    airflow.kill_triggerers()
    airflow.start_triggerer()
    for run in runs:
        service.release(run)
        airflow.wait_for_task("deferred", run, "success")
        assert service.jobs(run) == ["Finished"]
        assert airflow.task("deferred", run)["try_number"] == 1


def test_triggerer_hangs(airflow: Airflow, service: Service) -> None:
    """A triggerer that hangs loses its waits to another one; when it goes on, it does not cancel the jobs."""
    run = "triggererhangs"
    service.hold(run)
    airflow.trigger("deferred", run, endpoint=run)
    airflow.wait_for_task("deferred", run, "deferred")
    before = wait_for("a triggerer has it", lambda: airflow.task("deferred", run)["triggerer_job"])["id"]
    with airflow.triggerers_suspended():
        airflow.start_triggerer()
        wait_for("another one has it", lambda: airflow.task("deferred", run)["triggerer_job"]["id"] != before)
    wait_for("the first has noticed", lambda: "moves to another triggerer" in airflow.log("deferred", run))
    service.release(run)
    airflow.wait_for_task("deferred", run, "success")
    assert service.jobs(run) == ["Finished"]
