"""The service, or the triggerer, goes away while tasks wait."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from airflow_provider_azureml_classic.protocol.keys import KeyType
from tests.standalone.airflow import Airflow, wait_for
from tests.standalone.service import Service

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("standalone")]

#: What the log says while the service cannot be seen, in the worker and in the triggerer.
SAID = {"inworker": "The state of job", "deferred": "cannot be read just now"}


def wait_for_training(service: Service, run: str) -> None:
    """Until the run's only job is running."""
    wait_for(f"{run} is training", lambda: service.jobs(run) == ["Running"])


def wait_for_log(airflow: Airflow, dag_id: str, run: str, text: str) -> None:
    """Until a log of the run's task says so."""
    wait_for(f"{run} says {text!r}", lambda: text in airflow.log(dag_id, run))


def test_service_killed_while_tasks_wait(airflow: Airflow, service: Service) -> None:
    """The server is killed while tasks wait in worker and triggerer: it takes up its jobs, and the tasks succeed."""
    runs = {dag_id: f"outage{dag_id}" for dag_id in SAID}
    for dag_id, run in runs.items():
        service.hold(run)
        airflow.trigger(dag_id, run, endpoint=run)
    for dag_id, run in runs.items():
        airflow.wait_for_task(dag_id, run, "deferred" if dag_id == "deferred" else "running")
        wait_for_training(service, run)
    service.kill()
    for dag_id, run in runs.items():
        wait_for_log(airflow, dag_id, run, SAID[dag_id])
    service.start_again()
    for dag_id, run in runs.items():
        wait_for_training(service, run)
        service.release(run)
        task = airflow.wait_for_task(dag_id, run, "success")
        assert task["try_number"] == 1
        assert service.jobs(run) == ["Finished"]
        assert service.submitted(run) == 1


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
    wait_for_log(airflow, "deferred", run, "moves to another triggerer")
    service.release(run)
    airflow.wait_for_task("deferred", run, "success")
    assert service.jobs(run) == ["Finished"]


def test_key_regenerated(airflow: Airflow, service: Service) -> None:
    """The endpoint's key is regenerated while tasks wait in worker and triggerer: both go on, at the first attempt."""
    runs = {dag_id: f"rotated{dag_id}" for dag_id in SAID}
    for dag_id, run in runs.items():
        service.hold(run)
        airflow.trigger(dag_id, run, endpoint=run)
    for dag_id, run in runs.items():
        airflow.wait_for_task(dag_id, run, "deferred" if dag_id == "deferred" else "running")
        wait_for_training(service, run)
        service.ask(partial(regenerate, run))
    for dag_id, run in runs.items():
        service.release(run)
        assert airflow.wait_for_task(dag_id, run, "success")["try_number"] == 1
        assert service.jobs(run) == ["Finished"]


def regenerate(endpoint: str, client: Any) -> None:
    """Both keys of an endpoint of the training service."""
    for which in KeyType:
        client.regenerate_key(client.find_web_service("Held Model").id, endpoint, which)


def test_outage_longer_than_the_wait(airflow: Airflow, service: Service) -> None:
    """The service stays away for longer than tasks may wait: each fails with one sentence that names it."""
    runs = {dag_id: f"gone{dag_id}" for dag_id in ("lateinworker", "latedeferred")}
    for dag_id, run in runs.items():
        service.hold(run)
        airflow.trigger(dag_id, run, endpoint=run)
    for run in runs.values():
        wait_for_training(service, run)
    service.kill()
    try:
        for dag_id, run in runs.items():
            airflow.wait_for_task(dag_id, run, "failed")
            said = airflow.log(dag_id, run)
            assert "No answer" in said or "was still Running after job_timeout=5 s" in said
    finally:
        service.start_again()
    for run in runs.values():
        assert service.submitted(run) == 1
