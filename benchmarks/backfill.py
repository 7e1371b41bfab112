"""A backfill on ``airflow standalone``: the example DAG against a DAG of the same shape whose tasks do nothing."""

from __future__ import annotations

import shutil
import time
from datetime import UTC, date, datetime, timedelta
from io import StringIO

from airflow_provider_azureml_classic.server.experiments.datasets import bike_rentals, write_csv
from benchmarks.common import ROOT, Figure, Result, median, say
from benchmarks.fleet_data import BIKES, upload
from benchmarks.jobs import loop_seconds
from benchmarks.processes import OurServer, folder, our_server
from tests.standalone.airflow import Airflow, running, wait_for
from tests.support.postgres import cluster

_DAG, _EMPTY = "bike_rental_retrain", ("nothing_before", "nothing_after")
_AT_A_TIME = 4
#: The shape of the example DAG: four tasks in a row, each a process.
_NOTHING = """
from datetime import UTC, datetime, timedelta
from airflow.sdk import DAG, CronDataIntervalTimetable, task

@task
def nothing():
    return None

for dag_id in ("nothing_before", "nothing_after"):
    with DAG(
        dag_id,
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


def _created(airflow: Airflow, dag_id: str, days: list[date]) -> bool:
    span = ("--from-date", str(days[0]), "--to-date", str(days[-1]), "--max-active-runs", str(_AT_A_TIME))
    done = airflow.run("backfill", "create", "--dag-id", dag_id, *span, "--reprocess-behavior", "failed")
    if done.returncode == 0:
        return True
    if "database is locked" not in done.stderr + done.stdout:
        raise RuntimeError(done.stderr[-2000:])
    # SQLite does not bear two writers: what was created by then is taken up by the next call.
    for left in airflow.api("GET", "/api/v2/backfills", params={"dag_id": dag_id})["backfills"]:
        if left["completed_at"] is None:
            airflow.api("PUT", f"/api/v2/backfills/{left['id']}/cancel")
    return False


def backfill_seconds(airflow: Airflow, dag_id: str, days: list[date]) -> float:
    """Seconds until every run of a backfill has ended well.

    :param airflow: a running instance.
    :param dag_id: what to backfill; paused until now, so that nothing else is scheduled.
    :param days: first to last; the last is yesterday.
    """
    wait_for(f"{dag_id} is parsed", lambda: airflow.knows(dag_id))
    wait_for(f"{dag_id} has a backfill", lambda: _created(airflow, dag_id, days))
    start = time.perf_counter()
    airflow.api("PATCH", f"/api/v2/dags/{dag_id}", json={"is_paused": False})

    def ended() -> bool:
        query = {"limit": 100, "state": ["queued", "running"]}
        return not airflow.api("GET", f"/api/v2/dags/{dag_id}/dagRuns", params=query)["dag_runs"]

    wait_for(f"the backfill of {dag_id} is over", ended, patience=60 * len(days) + 60)
    seconds = time.perf_counter() - start
    runs = airflow.api("GET", f"/api/v2/dags/{dag_id}/dagRuns", params={"limit": 100})["dag_runs"]
    states = sorted(run["state"] for run in runs)
    if states != ["success"] * len(days):
        raise RuntimeError(f"the runs of {dag_id} ended {states}")
    say(f"{dag_id}: {len(days)} days in {seconds:.0f} s")
    return seconds


def run(days: int = 12) -> Result:
    """Measure.

    :param days: intervals of the backfill.
    """
    today = datetime.now(UTC).date()
    wanted = [today - timedelta(days=before) for before in range(days, 0, -1)]
    with folder() as home, our_server(home) as server, cluster() as postgres:
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
        with running(home / "airflow", postgres.new_database(), connection) as airflow:
            found = {name: backfill_seconds(airflow, name, wanted) for name in (_EMPTY[0], _DAG, _EMPTY[1])}
    return _result(found, days, training)


def _result(found: dict[str, float], days: int, training: float) -> Result:
    mine, empty = found[_DAG], median([found[name] for name in _EMPTY])
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
    before, after = (found[name] for name in _EMPTY)
    result.noise = f"Noise: the empty DAG took {before:.0f} s before and {after:.0f} s after."
    result.notes = [
        "One `airflow standalone`, its metadata in PostgreSQL; the empty DAG runs before and after the other. Its "
        "tasks are Python tasks, not EmptyOperator, which the scheduler marks done without a process."
    ]
    bars = [["retrain", mine], ["four empty tasks", empty], ["training alone", training]]
    result.chart = {"kind": "bars", "title": f"Backfill of {days} days, seconds", "bars": bars, "ours": "retrain"}
    return result
