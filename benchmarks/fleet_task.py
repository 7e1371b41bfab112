"""The fleet's task in a process of its own, as a worker runs it: ``python -m benchmarks.fleet_task COUNT FOLDER``.

The connection is in the environment. In the place of Airflow's task state store is a dictionary; the rest is the
operator's. Prints JSON: seconds and processor seconds of ``execute``, and what it returned.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from airflow.sdk import DAG

from airflow_provider_azureml_classic.operators import RetrainFleetOperator
from benchmarks.fleet_data import BIKES, BIKES_SCORING


def main() -> None:
    """Run the fleet."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    count, folder = int(sys.argv[1]), sys.argv[2]
    with DAG("fleet", schedule=None):
        task = RetrainFleetOperator(
            task_id="retrain",
            training_service=BIKES,
            scoring_service=BIKES_SCORING,
            items=[{"endpoint": f"c{number:05d}", "inputs": f"fleet/{number}.csv"} for number in range(count)],
            report_path=folder,
            deferrable=False,
        )
    kept: dict[str, Any] = {}
    store = SimpleNamespace(get=kept.get, set=kept.__setitem__, delete=lambda key: kept.pop(key, None))
    run = SimpleNamespace(run_after=datetime(2026, 3, 1, tzinfo=UTC))
    ti = SimpleNamespace(max_tries=0, xcom_push=lambda **_: None)
    start, processor = time.perf_counter(), time.process_time()
    result = task.execute({"ti": ti, "dag_run": run, "task_state_store": store})  # type: ignore[arg-type]
    print(json.dumps({"seconds": time.perf_counter() - start, "cpu": time.process_time() - processor, **result}))


if __name__ == "__main__":
    main()
