"""What a fleet costs Airflow: one task against three mapped tasks for each endpoint, on ``airflow standalone``.

``python -m benchmarks.fleet_airflow --endpoints 40``: wall time and rows in the metadata database; and what keeping the
state of 1,000 endpoints costs, in one key for each or for every 25.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.standalone.airflow import running, wait_for
from tests.support import ServerProcess
from tests.support.gates import rentals
from tests.support.postgres import cluster

DAGS = """
from datetime import UTC, datetime, timedelta
import json, time
from airflow.sdk import DAG, Asset, AssetAlias, get_current_context, task, task_group
from airflow_provider_azureml_classic.assets import endpoint_asset
from airflow_provider_azureml_classic.operators import *
START = datetime(2026, 1, 1, tzinfo=UTC)
N, T, S = {count}, "Bike Rental", "Bike Rental [predictive exp.]"
with DAG("one", schedule=None, start_date=START, is_paused_upon_creation=False):
    RetrainFleetOperator(task_id="train", training_service=T, scoring_service=S, deferrable=True,
        items=[{{"endpoint": f"o{{n}}", "inputs": f"fleet/{{n}}.csv"}} for n in range(N)])
with DAG("mapped", schedule=None, start_date=START, is_paused_upon_creation=False,
         max_active_tasks=64, default_args={{"retries": 3, "retry_delay": timedelta(seconds=5)}}):
    @task
    def names():
        return [f"m{{n}}" for n in range(N)]
    @task_group
    def each(endpoint: str):
        add = AddEndpointOperator(task_id="add", web_service=S, endpoint=endpoint)
        fit = BatchExecutionOperator(task_id="fit", web_service=T, model_for=endpoint, deferrable=True,
            poll_interval=10, inputs={{"input1": "fleet/0.csv"}})
        put = UpdateTrainedModelOperator(task_id="put", web_service=S, endpoint=endpoint, job=fit.output)
        add >> fit >> put
    each.expand(endpoint=names())
with DAG("store", schedule=None, start_date=START, is_paused_upon_creation=False):
    @task
    def train():
        store, row = get_current_context()["task_state_store"], {{"x": "a" * 1500}}
        began = time.perf_counter()
        for n in range(200): store.set(f"one_{{n}}", row)
        single = 5 * (time.perf_counter() - began)
        began = time.perf_counter()
        for n in range(40): store.set(f"part_{{n}}", [row] * 25)
        parts = time.perf_counter() - began
        began = time.perf_counter()
        store.set("all", [row] * 1000)
        return {{"one key each": single, "25 in a key": parts, "one key for all": time.perf_counter() - began}}
    train()
for count in (1, 1000):
    with DAG(f"events{{count}}", schedule=None, start_date=START, is_paused_upon_creation=False):
        @task(outlets=[AssetAlias("fleet_events")], task_id="train")
        def record(count=count):
            events = get_current_context()["outlet_events"][AssetAlias("fleet_events")]
            for n in range(count):
                events.add(Asset(f"x-test://host/{{count}}/{{n}}"), extra={{"model": "m" * 300, "proof": "score"}})
        record()
"""


def count_rows(home: Path) -> dict[str, int]:
    """Rows of the tables that grow with tasks."""
    tables = ("task_instance", "xcom", "rendered_task_instance_fields", "trigger", "log", "task_state_store")
    with contextlib.closing(sqlite3.connect(f"file:{home / 'airflow.db'}?mode=ro", uri=True, timeout=60)) as database:
        return {name: database.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables}  # noqa: S608


def state_of(airflow: Any, dag_id: str) -> str:
    """State of the run."""
    return str(airflow.api("GET", f"/api/v2/dags/{dag_id}/dagRuns/r")["state"])


def measured(airflow: Any, dag_id: str) -> dict[str, Any]:
    """A run's wall seconds, its state, its rows, and the seconds that its tasks held workers."""
    before, began = count_rows(airflow.home), time.monotonic()
    airflow.trigger(dag_id, "r")
    wait_for(f"{dag_id} ends", lambda: state_of(airflow, dag_id) in ("success", "failed"), 3600)
    wall = time.monotonic() - began
    after = count_rows(airflow.home)
    return {
        "state": state_of(airflow, dag_id),
        "wall_seconds": round(wall, 1),
        "rows": {name: after[name] - before[name] for name in after},
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoints", type=int, default=40)
    parser.add_argument("--only", nargs="*", default=["store", "events1", "events1000", "one", "mapped"])
    parser.add_argument("--json", type=Path, default=Path("fleet_airflow.json"))
    asked = parser.parse_args()
    found: dict[str, Any] = {"endpoints": asked.endpoints}
    with tempfile.TemporaryDirectory() as folder, cluster() as postgres:
        server = ServerProcess(Path(folder) / "data")
        try:
            for number in range(asked.endpoints):
                server.upload(f"fleet/{number}.csv", rentals(100 + number, 60))
            home = Path(folder) / "airflow"
            (home / "dags").mkdir(parents=True)
            (home / "dags" / "fleets.py").write_text(DAGS.format(count=asked.endpoints))
            environment = {"AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT": server.connection["airflow_conn"]}
            with running(home, postgres.new_database(), environment) as airflow:
                for dag_id in asked.only:
                    found[dag_id] = measured(airflow, dag_id)
                    if dag_id == "store":
                        path = "/api/v2/dags/store/dagRuns/r/taskInstances/train/xcomEntries/return_value"
                        found[dag_id]["seconds"] = airflow.api("GET", path)["value"]
                    print(dag_id, json.dumps(found[dag_id]), flush=True)
        finally:
            server.stop()
    asked.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
