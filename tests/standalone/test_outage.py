"""The service goes away while Airflow waits for it."""

from __future__ import annotations

import pytest

from tests.standalone.airflow import Airflow, wait_for
from tests.standalone.service import Service

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("standalone")]

#: What the log says while the service cannot be seen, in the worker and in the triggerer.
SAID = {"inworker": "Cannot see job", "deferred": "Cannot see endpoint"}


def test_service_killed_while_tasks_wait(airflow: Airflow, service: Service) -> None:
    """The server is killed while tasks wait in worker and triggerer: it takes up its jobs, and the tasks succeed."""
    runs = {dag_id: f"outage{dag_id}" for dag_id in SAID}
    for dag_id, run in runs.items():
        service.hold(run)
        airflow.trigger(dag_id, run, endpoint=run)
    for dag_id, run in runs.items():
        airflow.wait_for_task(dag_id, run, "deferred" if dag_id == "deferred" else "running")
        wait_for(f"{run} is training", lambda run=run: service.jobs(run) == ["Running"])
    service.kill()
    for dag_id, run in runs.items():
        wait_for(f"{run} has noticed", lambda dag_id=dag_id, run=run: SAID[dag_id] in airflow.log(dag_id, run))
    service.start_again()
    for dag_id, run in runs.items():
        wait_for(f"{run} is training again", lambda run=run: service.jobs(run) == ["Running"])
        service.release(run)
        task = airflow.wait_for_task(dag_id, run, "success")
        assert task["try_number"] == 1
        assert service.jobs(run) == ["Finished"]
        assert service.submitted(run) == 1
