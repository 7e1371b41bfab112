"""The example DAGs in a real Airflow: one private home, one process for all runs; what they left is kept for the tests.

Run as a program it is that process: it reads a JSON command a line, and writes a JSON answer to each to the file
descriptor that its argument names. Imported, it starts the process once in a test session, whichever worker is first.
"""

from __future__ import annotations

import fcntl
import importlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DAYS = [datetime(2026, 3, day, tzinfo=UTC) for day in (1, 2, 3)]
OLDER_DAY, DEFERRED_DAY = datetime(2026, 2, 20, tzinfo=UTC), datetime(2026, 3, 4, tzinfo=UTC)
PACKAGE = "airflow_provider_azureml_classic"


# -- in the test session -----------------------------------------------------------------------------------------------


def flown(folder: Path) -> dict[str, Any]:
    """The report of all runs; they are made by the first who asks.

    :param folder: shared by all workers of a session.
    """
    folder.mkdir(exist_ok=True)
    report = folder / "report.json"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not report.exists():
            report.write_text(json.dumps(_fly(folder)))
    return dict(json.loads(report.read_text()))


def _fly(folder: Path) -> dict[str, Any]:
    from tests.support import BIKES_SCORING, ServerProcess

    server = ServerProcess(folder / "server")
    try:
        with server.client() as client:
            _upload(server.upload)
            report = _airflow(folder, server.connection["airflow_conn"])
            services = client.list_web_services()
            endpoints = [endpoint for service in services for endpoint in client.list_endpoints(service.id)]
            bikes = client.get_endpoint(client.find_web_service(BIKES_SCORING).id, "bikes")
            keys = [key for endpoint in endpoints for key in (endpoint.primary_key, endpoint.secondary_key)]
            location = bikes.resource().location
            report["live"] = location.relative_location if location else ""
            report["secrets"] = [server.connection["token"], server.account.key, *keys]
            return report
    finally:
        server.stop()


def _upload(upload: Callable[[str, bytes | str], Any]) -> None:
    from airflow_provider_azureml_classic.server.experiments.datasets import census, write_csv
    from tests.support.tasks import rentals

    for number, day in enumerate((OLDER_DAY, *DAYS, DEFERRED_DAY)):
        upload(f"bike-rental/{day:%Y-%m-%d}.csv", rentals(100 + 50 * number))
    text = io.StringIO(newline="")
    write_csv(census(600), text)
    upload("census/small.csv", text.getvalue())


def _commands() -> list[dict[str, Any]]:
    daily = [{"dag": "bike_rental_retrain", "day": day.isoformat()} for day in (*DAYS, OLDER_DAY)]
    people = {"dag": "census_retrain", "conf": {"training_data": "census/small.csv", "endpoint": "people"}}
    failing = {"dag": "census_retrain", "conf": {"training_data": "census/missing.csv", "endpoint": "people"}}
    deferred = {"dag": "bike_rental_retrain", "day": DEFERRED_DAY.isoformat(), "deferrable": True}
    return [*daily, people, failing, deferred, {"xcoms": True}]


def _airflow(folder: Path, connection: str) -> dict[str, Any]:
    home, log = folder / "airflow", folder / "airflow.log"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT": connection,
    }
    commands = _commands()
    # A file: a pipe takes 64 KB, and nobody reads it before the process has ended.
    with log.open("wb") as output, (folder / "answers.jsonl").open("w+") as answers:
        process = subprocess.Popen(
            [sys.executable, __file__, str(answers.fileno())],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=environment,
            cwd=ROOT,
            pass_fds=(answers.fileno(),),
        )
        try:  # The time-out is that of the test, which a slow machine may make longer.
            process.communicate("".join(f"{json.dumps(command)}\n" for command in commands).encode())
        finally:
            process.kill()
        answers.seek(0)
        found = [json.loads(line) for line in answers]
    assert len(found) == 1 + len(commands), log.read_text(errors="replace")[-3000:]
    return {"home": str(home), "log": str(log), **found[0], "runs": found[1:-1], "xcoms": found[-1]}


# -- in the process of Airflow -----------------------------------------------------------------------------------------


def main() -> None:
    """Prepare the database, then do what is asked, line by line."""
    answers = os.fdopen(int(sys.argv[1]), "w", buffering=1)
    from airflow.utils.db import initdb

    initdb()
    bag = load()
    print(json.dumps({"import_errors": bag.import_errors, "dags": sorted(bag.dags)}), file=answers)
    for line in sys.stdin:
        command = json.loads(line)
        if command.get("deferrable"):
            bag = load_deferrable()
        print(json.dumps(xcoms() if command.get("xcoms") else run(bag, command)), file=answers)


def load() -> Any:
    """The DAGs of the folder that Airflow is configured with."""
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])


def load_deferrable() -> Any:
    """The same with deferral as the default, which the operators read when they are imported."""
    os.environ["AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE"] = "True"
    for name in [name for name in sys.modules if name.startswith(PACKAGE)]:
        del sys.modules[name]
    bag = load()
    # There is no scheduler here whose state an early event could overtake.
    importlib.import_module(f"{PACKAGE}.triggers").FIRST_LOOK = 0.1  # type: ignore[attr-defined]
    return bag


def run(bag: Any, command: dict[str, Any]) -> dict[str, Any]:
    """One DAG run."""
    day = command.get("day")
    dated = {"logical_date": datetime.fromisoformat(day) + timedelta(days=1)} if day else {}
    dag_run = bag.dags[command["dag"]].test(run_conf=command.get("conf"), **dated)
    instances = dag_run.get_task_instances()
    return {
        "run_id": dag_run.run_id,
        "state": str(getattr(dag_run.state, "value", dag_run.state)),
        "tasks": {ti.task_id: str(getattr(ti.state, "value", ti.state)) for ti in instances},
        "returned": {row["task"]: row["value"] for row in xcoms() if row["run"] == dag_run.run_id and row["returned"]},
    }


def xcoms() -> list[dict[str, Any]]:
    """Every XCom there is."""
    from airflow.models.xcom import XComModel
    from airflow.settings import Session
    from sqlalchemy import select

    with Session() as session:
        return [
            {
                "dag": row.dag_id,
                "run": row.run_id,
                "task": row.task_id,
                "returned": row.key == "return_value",
                "value": XComModel.deserialize_value(row),
            }
            for row in session.scalars(select(XComModel))
        ]


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
