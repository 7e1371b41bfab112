"""Runs the example DAG for the days that its standard input names: one process, so that Airflow is loaded once.

Reads a day in ISO 8601 a line; writes a JSON line for each, to the file descriptor that its argument names. Everything
that Airflow prints goes to the log.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

DAG_ID = "bike_rental_retrain"


def main() -> None:
    """Prepare the database, then run day after day."""
    answers = os.fdopen(int(sys.argv[1]), "w", buffering=1)
    from airflow.utils.db import initdb

    initdb()
    dag = load_dag()
    print(json.dumps({"ready": True}), file=answers)
    for line in sys.stdin:
        day = datetime.fromisoformat(line.strip()).replace(tzinfo=UTC)
        print(json.dumps(run(dag, day)), file=answers)


def load_dag() -> Any:
    """The example DAG, from the folder that Airflow is configured with."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    if bag.import_errors:
        raise RuntimeError("; ".join(bag.import_errors.values()))
    return bag.dags[DAG_ID]


def run(dag: Any, day: datetime) -> dict[str, Any]:
    """One run, whose data interval is ``day``; states and results of its tasks.

    :param dag: the DAG.
    :param day: start of the interval.
    """
    dag_run = dag.test(logical_date=day + timedelta(days=1))
    instances = dag_run.get_task_instances()
    return {
        "state": str(getattr(dag_run.state, "value", dag_run.state)),
        "tasks": {ti.task_id: str(getattr(ti.state, "value", ti.state)) for ti in instances},
        "job": result(dag_run.run_id, "train"),
        "receipt": result(dag_run.run_id, "update"),
    }


def result(run_id: str, task_id: str) -> Any:
    """What a task returned; ``None`` if it returned nothing.

    :param run_id: the DAG run.
    :param task_id: the task.
    """
    from airflow.models.xcom import XComModel
    from airflow.settings import Session
    from sqlalchemy import select

    query = select(XComModel).where(
        XComModel.dag_id == DAG_ID,
        XComModel.run_id == run_id,
        XComModel.task_id == task_id,
        XComModel.key == "return_value",
    )
    with Session() as session:
        row = session.scalars(query).first()
        return XComModel.deserialize_value(row) if row is not None else None


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    main()
