"""Backfills of the example DAG, as it is shipped: every day's model is kept, exactly the newest one is live."""

from __future__ import annotations

import os
import re
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from tests.standalone.airflow import Airflow, wait_for
from tests.standalone.service import Service
from tests.support import BIKES_SCORING

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("standalone")]

#: Days of each backfill; BACKFILL_DAYS=60 was run by hand as well.
DAYS = int(os.environ.get("BACKFILL_DAYS", "12"))
#: Runs at a time.
AT_A_TIME = "4"
BACKFILLS = {"bike_rental_retrain": (), "bike_rental_backwards": ("--run-backwards",), "bike_rental_partitioned": ()}
ENDPOINTS = {
    "bike_rental_retrain": "bikes",
    "bike_rental_backwards": "backwards",
    "bike_rental_partitioned": "partitions",
}
#: A backfill may take this long for each run, in seconds, on a busy machine.
_PER_RUN = 60


@pytest.fixture(scope="module")
def days(service: Service) -> list[date]:
    """The last days whose data are complete; uploaded.

    They end yesterday, and the DAGs are paused until the backfill has been created: so the run that Airflow would
    schedule for yesterday by itself is the backfill's.
    """
    today = datetime.now(UTC).date()
    found = [today - timedelta(days=before) for before in range(DAYS, 0, -1)]
    for day in found:
        service.upload_day(day)
    return found


@pytest.fixture(scope="module")
def backfills(airflow: Airflow, days: list[date]) -> list[date]:
    """Both backfills, under way side by side; the days that they run over."""
    for dag_id in BACKFILLS:
        wait_for(f"{dag_id} is parsed", partial(airflow.knows, dag_id))
        create(airflow, dag_id, days)
    for dag_id in BACKFILLS:
        airflow.api("PATCH", f"/api/v2/dags/{dag_id}", json={"is_paused": False})
    return days


def create(airflow: Airflow, dag_id: str, days: list[date]) -> None:
    """``airflow backfill create``."""
    span = ("--from-date", str(days[0]), "--to-date", str(days[-1]), "--max-active-runs", AT_A_TIME)
    airflow.cli("backfill", "create", "--dag-id", dag_id, *span, *BACKFILLS[dag_id])


def wait_for_backfill(airflow: Airflow, dag_id: str, days: list[date]) -> dict[str, dict[str, str]]:
    """States of the tasks of each run by run id, once the backfill is over."""

    def over() -> bool:
        query = {"limit": 100, "state": ["queued", "running"]}
        return not airflow.api("GET", f"/api/v2/dags/{dag_id}/dagRuns", params=query)["dag_runs"]

    wait_for(f"the backfill of {dag_id} is over", over, patience=_PER_RUN * len(days))
    runs = airflow.api("GET", f"/api/v2/dags/{dag_id}/dagRuns", params={"limit": 100})["dag_runs"]
    # Airflow 3.3.2 schedules the newest partition of an unpaused DAG though a backfill has a run of it.
    scheduled = [run for run in runs if run["run_type"] == "scheduled" and run["partition_key"]]
    assert len(scheduled) <= 1
    assert {run["run_type"] for run in runs if run not in scheduled} == {"backfill"}
    return {run["dag_run_id"]: _tasks(airflow, dag_id, run["dag_run_id"]) for run in runs if run not in scheduled}


def _tasks(airflow: Airflow, dag_id: str, run_id: str) -> dict[str, str]:
    path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
    return {task["task_id"]: task["state"] for task in airflow.api("GET", path)["task_instances"]}


def models_of(service: Service, endpoint: str, day: date) -> list[str]:
    """Paths of the models that were trained on a day's data; each training has a name of its own."""
    blobs = service.process.data_dir / "blobs"
    name = f"{day + timedelta(days=1):%Y%m%d}T000000Z-*.ilearner"
    return [str(path.relative_to(blobs)) for path in blobs.glob(f"models/*/{endpoint}/{name}")]


def assert_every_model_is_kept(service: Service, endpoint: str, days: list[date]) -> None:
    """Each day's model is in the store, and the endpoint has the newest."""
    assert [day for day in days if not models_of(service, endpoint, day)] == []

    def live(client: Any) -> str:
        scoring = client.find_web_service(BIKES_SCORING)
        return str(client.get_endpoint(scoring.id, endpoint).resource(None).location.relative_location)

    assert service.ask(live) in models_of(service, endpoint, days[-1])


@pytest.mark.parametrize("dag_id", BACKFILLS)
def test_backfill(airflow: Airflow, service: Service, backfills: list[date], dag_id: str) -> None:
    """A backfill, several runs at a time, in either order, keeps every model, ends with the newest one live, and says
    in the log of each update that it skipped why it did so.
    """
    endpoint, days = ENDPOINTS[dag_id], backfills
    runs = wait_for_backfill(airflow, dag_id, days)
    assert len(runs) == len(days)
    skipped = []
    for run_id, tasks in runs.items():
        updated = tasks["update"]
        assert updated in ("success", "skipped"), f"{run_id}: {tasks}\n{airflow.log(dag_id, run_id, 'update')[-3000:]}"
        after = {"wait_until_fresh": updated} if "wait_until_fresh" in tasks else {}
        assert tasks == {"add_endpoint": "success", "train": "success", "update": updated, **after}
        if updated == "skipped":
            skipped.append(run_id)
            # Of a newer model that was live before, or came while this one was being proved.
            said = (
                f"Endpoint '{endpoint}' keeps its model: |While the update of endpoint '{endpoint}' was being proved, "
            )
            assert re.search(said, airflow.log(dag_id, run_id, "update"))
    if dag_id == "bike_rental_partitioned":
        there = airflow.api("GET", f"/api/v2/dags/{dag_id}/dagRuns", params={"limit": 100})["dag_runs"]
        assert {run["partition_key"] for run in there} == {str(day) for day in days}
    print(f"{dag_id}: {len(runs)} runs, {len(skipped)} updates skipped")
    if BACKFILLS[dag_id]:
        # The newest day is in the first batch; what comes after the batch is older than what is live.
        assert len(skipped) >= len(days) - int(AT_A_TIME)
    assert_every_model_is_kept(service, endpoint, days)
