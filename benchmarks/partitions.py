"""What it costs Airflow to record updates: partitions of one asset, or as many assets through the alias, in one run.

``python -m benchmarks.partitions --updates 1000``: seconds of the api-server in each round of the run, its longest call
as a part of its client's patience, rows in the metadata database (PostgreSQL), calls that a client repeated; the runs
of a DAG that names three endpoints, one a round for each.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg

from airflow_provider_azureml_classic.assets import max_partition_keys
from benchmarks.common import median
from tests.standalone.airflow import Airflow, running, wait_for
from tests.support.postgres import cluster

#: Seconds that a client waits, by default.
_PATIENCE = 5.0
NAMED = ("e0", "e1", "e2")
MODES = ("partitions", "named", "alias")
#: A call with which a task reports its end. One that is repeated, since its client waited in vain, is answered 200.
_REPORT = re.compile(r"duration_us=(\d+).* method=PATCH path=/execution/task-instances/([0-9a-f-]{36})/state .*=(20\d)")
_ROWS = """
SELECT (SELECT count(*) FROM asset_event WHERE source_task_id LIKE %(of)s)
    + (SELECT count(*) FROM asset_alias_asset_event m JOIN asset_event e ON e.id = m.event_id
       WHERE e.source_task_id LIKE %(of)s)
    + (SELECT count(DISTINCT asset_id) FROM asset_event WHERE source_task_id LIKE %(of)s)
"""
DAGS = """
from datetime import UTC, datetime
from airflow.sdk import DAG, Asset, PartitionedAssetTimetable, get_current_context, task
from airflow_provider_azureml_classic.assets import ENDPOINTS, record_partitions, web_service_asset
from airflow_provider_azureml_classic.scheduling.partitions import OnlyEndpoints
START = datetime(2026, 1, 1, tzinfo=UTC)
PARTS = [[f"e{{n}}" for n in range(at, min(at + {step}, {updates}))] for at in range(0, {updates}, {step})]
UNWATCHED, WATCHED = web_service_asset("Unwatched"), web_service_asset("Watched")
OUTLETS = {{"partitions": UNWATCHED, "named": WATCHED, "alias": ENDPOINTS}}
with DAG("customers", schedule=PartitionedAssetTimetable(assets=WATCHED,
         default_partition_mapper=OnlyEndpoints({named})), start_date=START, is_paused_upon_creation=False):
    task(lambda: None, task_id="go_on")()
with DAG("updates", schedule=None, start_date=START, is_paused_upon_creation=False):
    before = None
    for turn in range({rounds}):
        for mode, outlet in OUTLETS.items():
            @task(task_id=f"{{mode}}_{{turn}}", outlets=[outlet], max_active_tis_per_dagrun=1)
            def record(endpoints, mode=mode, outlet=outlet):
                context = get_current_context()
                if mode != "alias":
                    return record_partitions(context, [outlet], endpoints)
                for name in endpoints:
                    asset = Asset(f"azureml-classic://localhost:80/workspace/service/{{name}}")
                    context["outlet_events"][outlet].add(asset, extra={{"model": "m" * 300, "proof": "content"}})
            after = record.expand(endpoints=PARTS)
            before and before >> after
            before = after
"""


def reports(airflow: Airflow, database: psycopg.Connection[Any]) -> dict[str, tuple[list[float], int]]:
    """Of each task: the api-server's seconds for each call that recorded its events, and how many were repeated."""
    query = "SELECT id::text, task_id FROM task_instance WHERE dag_id = 'updates'"
    tasks: dict[str, str] = dict(database.execute(query).fetchall())
    found: dict[str, tuple[list[float], int]] = {name: ([], 0) for name in tasks.values()}
    for micros, one, status in _REPORT.findall(airflow.output.read_text(errors="replace")):
        if one in tasks:
            calls, repeated = found[tasks[one]]
            first = status == "204"
            found[tasks[one]] = calls + [int(micros) / 1e6] * first, repeated + (not first)
    return found


def measured(airflow: Airflow, address: str, rounds: int, updates: int) -> None:
    """Have the run, and print what it cost.

    :param airflow: that runs.
    :param address: of its metadata database.
    :param rounds: of each way to record.
    :param updates: in a round.
    """
    airflow.trigger("updates", "r")
    path = "/api/v2/dags/updates/dagRuns/r"
    wait_for("the run ends", lambda: airflow.api("GET", path)["state"] in ("success", "failed"), 1800)
    print("run:", airflow.api("GET", path)["state"])
    with psycopg.connect(address, autocommit=True) as database:
        found = reports(airflow, database)
        for mode in MODES:
            turns = [found[f"{mode}_{turn}"] for turn in range(rounds)]
            seconds = [sum(calls) for calls, _ in turns]
            ratio = median([seconds[turn] / sum(found[f"alias_{turn}"][0]) for turn in range(rounds)])
            longest = max(max(calls) for calls, _ in turns) / _PATIENCE
            (rows,) = database.execute(_ROWS, {"of": f"{mode}%"}).fetchone() or (0,)
            told = " ".join(f"{one:.1f}" for one in seconds)
            repeated = sum(count for _, count in turns)
            print(
                f"{mode}: {told} s, {1000 * sum(seconds) / rounds / updates:.1f} ms each, {ratio:.2f} of the alias; ",
                end="",
            )
            print(f"longest call {longest:.2f} of the patience; {rows} rows; {repeated} calls repeated")
        keys = "SELECT partition_key FROM dag_run WHERE dag_id = 'customers'"
        wait_for("each has its run", lambda: len(database.execute(keys).fetchall()) >= len(NAMED) * rounds, 60)
        print("runs of the DAG that names three:", dict(Counter(key for (key,) in database.execute(keys))))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keys", type=int, default=max_partition_keys(), help="of one task")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, cluster() as postgres:
        home, address = Path(folder) / "airflow", postgres.new_database()
        (home / "dags").mkdir(parents=True)
        text = DAGS.format(step=asked.keys, updates=asked.updates, rounds=asked.rounds, named=list(NAMED))
        (home / "dags" / "updates.py").write_text(text)
        with running(home, address, {}) as airflow:
            measured(airflow, address, asked.rounds, asked.updates)


if __name__ == "__main__":
    main()
