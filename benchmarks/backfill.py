"""A backfill on ``airflow standalone``: the example DAG against a DAG of the same shape whose tasks do nothing."""

from __future__ import annotations

import shutil
import time
from datetime import UTC, date, datetime, timedelta
from io import StringIO
from typing import Any

from airflow_provider_azureml_classic.server.experiments.datasets import bike_rentals, write_csv
from benchmarks.common import ROOT, Figure, Result, median, say
from benchmarks.fleet_data import BIKES, upload
from benchmarks.jobs import loop_seconds
from benchmarks.processes import OurServer, folder, our_server
from tests.standalone.airflow import Airflow, running, wait_for

_DAG, _EMPTY = "bike_rental_retrain", "nothing"
_AT_A_TIME = 4
#: The shape of the example DAG: four tasks in a row, each a process.
_NOTHING = """
from datetime import UTC, datetime, timedelta
from airflow.sdk import DAG, CronDataIntervalTimetable, task

@task
def nothing():
    return None

with DAG(
    "nothing",
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
):
    first, *others = [nothing.override(task_id=f"task{number}")() for number in range(4)]
    for other in others:
        first >> other
        first = other
"""


def _upload(server: OurServer, day: date) -> bytes:
    stream = StringIO(newline="")
    write_csv(bike_rentals(day, 1), stream)
    content = stream.getvalue().encode()
    upload(server, f"bike-rental/{day}.csv", content)
    return content


def backfill_seconds(airflow: Airflow, dag_id: str, days: list[date]) -> float:
    """Seconds from the command until every run has ended well.

    :param airflow: a running instance.
    :param dag_id: what to backfill.
    :param days: first to last.
    """
    span = ("--from-date", str(days[0]), "--to-date", str(days[-1]), "--max-active-runs", str(_AT_A_TIME))
    wait_for(f"{dag_id} is parsed", lambda: airflow.knows(dag_id))
    airflow.api("PATCH", f"/api/v2/dags/{dag_id}", json={"is_paused": False})
    airflow.cli("backfill", "create", "--dag-id", dag_id, *span, "--reprocess-behavior", "completed")
    created = time.perf_counter()

    def ended() -> Any:
        runs = airflow.api("GET", f"/api/v2/dags/{dag_id}/dagRuns", params={"limit": 100})["dag_runs"]
        if any(run["state"] == "failed" for run in runs):
            raise RuntimeError(f"a run of {dag_id} failed")
        return len(runs) >= len(days) and all(run["state"] == "success" for run in runs)

    wait_for(f"the backfill of {dag_id} is over", ended, patience=60 * len(days))
    return time.perf_counter() - created


def _halves(airflow: Airflow, days: list[date]) -> dict[str, list[float]]:
    half = len(days) // 2
    found: dict[str, list[float]] = {_DAG: [], _EMPTY: []}
    for part, order in ((days[:half], (_EMPTY, _DAG)), (days[half:], (_DAG, _EMPTY))):
        for dag_id in order:
            found[dag_id].append(backfill_seconds(airflow, dag_id, part))
            say(f"{dag_id}: {len(part)} days in {found[dag_id][-1]:.0f} s")
    return found


def run(days: int = 20) -> Result:
    """Measure.

    :param days: intervals of the backfill.
    """
    today = datetime.now(UTC).date()
    wanted = [today - timedelta(days=before) for before in range(days, 0, -1)]
    with folder() as home, our_server(home) as server:
        files = []
        for number, day in enumerate(wanted):
            files.append(home / f"{number}.csv")
            files[-1].write_bytes(_upload(server, day))
        training = loop_seconds(files[: min(10, days)]) / min(10, days) * days
        (home / "airflow" / "dags").mkdir(parents=True)
        shutil.copy(ROOT / "dags" / "bike_rental_retrain.py", home / "airflow" / "dags")
        (home / "airflow" / "dags" / "nothing.py").write_text(_NOTHING)
        connection = {"AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT": server.connection["airflow_conn"]}
        say("starting airflow standalone")
        with running(home / "airflow", connection) as airflow:
            found = _halves(airflow, wanted)
    return _result(found, days, training)


def _result(found: dict[str, list[float]], days: int, training: float) -> Result:
    mine, empty = sum(found[_DAG]), sum(found[_EMPTY])
    result = Result(
        "backfill", f"Backfill of {days} days, {_AT_A_TIME} at a time", columns=["DAG", "seconds", "a day, s"]
    )
    result.table = [
        ["retrain: add endpoint, train, update, wait until fresh", round(mine), round(mine / days, 2)],
        ["four tasks that do nothing", round(empty), round(empty / days, 2)],
        [f"the {days} trainings alone ({BIKES})", round(training, 1), round(training / days, 2)],
    ]
    baseline = 1.5 * empty + training
    texts = (f"{mine:.0f} s", f"1.5 x {empty:.0f} s + {training:.0f} s")
    result.figures = [Figure("backfill, of 1.5 x empty tasks plus training", *texts, mine / baseline, "<= 1")]
    by_half = " and ".join(f"{seconds:.0f} s" for seconds in found[_EMPTY])
    result.noise = f"Noise: the two halves of the empty DAG took {by_half} (median {median(found[_EMPTY]):.0f} s)."
    result.notes = [
        "One `airflow standalone` on SQLite; halves in turn (empty, retrain, retrain, empty). The empty tasks are "
        "Python tasks, not EmptyOperator, which the scheduler marks done without a process."
    ]
    bars = [["retrain", mine], ["four empty tasks", empty], ["training alone", training]]
    result.chart = {"kind": "bars", "title": f"Backfill of {days} days, seconds", "bars": bars, "ours": "retrain"}
    return result
