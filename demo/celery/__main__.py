"""``make celery``: a fleet in chunks on Airflow's CeleryExecutor with two workers; shows which ran what.

Starts a PostgreSQL cluster, a Redis, an Airflow and a server, all on free ports, and stops them again. ``WAYS`` names
others: one task, and three tasks for each endpoint.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_azureml_classic.client import Client
from demo.celery.services import free_port, postgres, redis, wait_for
from demo.days import generated
from demo.processes import ROOT, DemoError, server, started

WORKERS = ("worker-1", "worker-2")
#: As in the DAGs.
ENDPOINTS = 40
#: By DAG, the letter with which the names of its endpoints begin.
WAYS = {"fleet_one": "o", "fleet_mapped": "m", "fleet_chunks": "c", "fleet_deferred": "d"}
_TASKS = (
    "SELECT map_index, hostname, state, start_date, end_date FROM task_instance "
    "WHERE dag_id = %s AND task_id LIKE '%%retrain' ORDER BY map_index"
)
_RUN = "SELECT state, EXTRACT(epoch FROM end_date - start_date) FROM dag_run WHERE dag_id = %s"
_ROWS = "SELECT count(*) FROM {} WHERE dag_id = %s"


@dataclass
class Cost:
    """What a fleet cost Airflow.

    :param state: of the DAG run.
    :param seconds: that it took.
    :param held: seconds of workers: tasks that ran, looked at twice a second.
    :param tasks: task instances.
    :param xcoms: rows of its XComs.
    """

    state: str
    seconds: float
    held: float
    tasks: int
    xcoms: int


def settings(home: Path, database: str, broker: str, connection: Mapping[str, str]) -> dict[str, str]:
    """Environment of every process of this Airflow.

    :param home: ``AIRFLOW_HOME``.
    :param database: URL of the metadata database, without driver.
    :param broker: URL of the Redis.
    :param connection: the server's ``connection.json``.
    """
    url = f"http://127.0.0.1:{free_port()}"
    driver = f"postgresql+psycopg:{database}"
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "demo" / "celery" / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__HOSTNAME_CALLABLE": "demo.celery.worker_name.worker_name",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__FERNET_KEY": _fernet_key(),
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "AIRFLOW__API__SECRET_KEY": secrets.token_hex(32),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": url.rpartition(":")[2],
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": driver,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": driver,
        "AIRFLOW__CELERY__BROKER_URL": broker,
        "AIRFLOW__CELERY__RESULT_BACKEND": broker.replace("/0", "/1"),
        "AIRFLOW__CELERY__WORKER_CONCURRENCY": "1",
        "AIRFLOW__CELERY__WORKER_PREFETCH_MULTIPLIER": "1",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT": connection["airflow_conn"],
    }


def _fernet_key() -> str:
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode()


@contextlib.contextmanager
def components(home: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """Scheduler, DAG processor, API server, triggerer and two workers.

    :param home: where they log.
    :param environment: see :func:`settings`.
    """
    commands = {name: [name] for name in ("api-server", "scheduler", "dag-processor", "triggerer")}
    commands |= {
        name: ["celery", "worker", "--celery-hostname", f"{name}@%h", "--concurrency", "1"] for name in WORKERS
    }
    with contextlib.ExitStack() as stack:
        for name, words in commands.items():
            log = stack.enter_context((home / f"{name}.log").open("wb"))
            own = {"WORKER_NAME": name, "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port())}
            own["AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT"] = str(free_port())
            command = [sys.executable, "-m", "airflow", *words]
            stack.enter_context(started(command, stdout=log, stderr=log, env={**environment, **own}))
        yield


def asked(database: str, query: str, *values: str) -> list[tuple[Any, ...]]:
    """Rows of the metadata database.

    :param database: URL without driver.
    :param query: with a placeholder for each value.
    :param values: for the placeholders.
    """
    import psycopg

    with psycopg.connect(f"postgresql:{database}") as connection:
        return connection.execute(query, values).fetchall()  # type: ignore[arg-type]


def followed(database: str, way: str) -> Cost:
    """What the DAG run that was triggered cost.

    :param database: URL without driver.
    :param way: the DAG.
    :raises DemoError: it takes too long.
    """
    held, last, deadline = 0.0, time.monotonic(), time.monotonic() + 1800
    running = "SELECT count(*) FROM task_instance WHERE state = 'running' AND dag_id = %s"
    while (found := asked(database, _RUN, way)[0])[0] not in ("success", "failed"):
        if time.monotonic() > deadline:
            raise DemoError(f"{way} has not ended after half an hour.")
        time.sleep(0.5)
        now = time.monotonic()
        held, last = held + asked(database, running, way)[0][0] * (now - last), now
    tasks, xcoms = (int(asked(database, _ROWS.format(table), way)[0][0]) for table in ("task_instance", "xcom"))
    return Cost(found[0], float(found[1]), held, tasks, xcoms)


def demonstrate(home: Path, ways: Sequence[str]) -> None:
    """Start everything, run the fleet in each way, print which worker ran what, and what each cost.

    :param home: folder that is thrown away.
    :param ways: the DAGs.
    :raises DemoError: what the reader can mend.
    """
    with contextlib.ExitStack() as stack:
        print("Starting PostgreSQL, Redis and the server (it trains the first models) ...", flush=True)
        database, broker = stack.enter_context(postgres(home / "pg")), stack.enter_context(redis(home / "redis"))
        connection = stack.enter_context(server(home, 0))
        upload(connection)
        environment = settings(home, database, broker, connection)
        command = [sys.executable, "-m", "airflow"]
        subprocess.run([*command, "db", "migrate"], env=environment, check=True, capture_output=True)  # noqa: S603
        print(f"Starting Airflow: scheduler, API server, triggerer, {' and '.join(WORKERS)} ...", flush=True)
        stack.enter_context(components(home, environment))
        costs = {}
        for way in ways:
            trigger = [*command, "dags", "trigger", way]
            wait_for("Airflow knows the DAG", lambda words=trigger: not _failed(words, environment), 300)
            costs[way] = followed(database, way)
            show(way, asked(database, _TASKS, way), connection)
        compare(costs)


def _failed(command: list[str], environment: Mapping[str, str]) -> bool:
    return subprocess.run(command, env=environment, capture_output=True).returncode != 0  # noqa: S603


def upload(connection: dict[str, str]) -> None:
    """Data of each customer.

    :param connection: the server's ``connection.json``.
    """
    from demo.__main__ import upload as put

    day = generated(1)[0]
    with Client(connection["management_url"], connection["workspace_id"], connection["token"]) as client:
        for number in range(ENDPOINTS):
            put(client, connection, f"customers/{number}.csv", day.training)


def show(way: str, table: list[tuple[Any, ...]], connection: dict[str, str]) -> None:
    """Print which worker ran what, and whether every endpoint has its model.

    :param way: the DAG.
    :param table: its tasks that update endpoints.
    :param connection: the server's ``connection.json``.
    :raises DemoError: one failed.
    """
    print(f"\n{way}")
    if len(table) <= len(WORKERS) * 4:
        print(f"{'chunk':6} {'worker':10} {'state':8} seconds")
        for number, worker, state, start, end in table:
            print(f"{number:<6} {worker:10} {state:8} {(end - start).total_seconds():.1f}")
    with Client(connection["management_url"], connection["workspace_id"], connection["token"]) as client:
        endpoints = client.list_endpoints(client.find_web_service("Bike Rental [predictive exp.]").id)
    mine = [one for one in endpoints if one.name.startswith(WAYS[way]) and one.name[1:].isdigit()]
    live = [one for one in mine if (place := one.resource().location) and f"/{one.name}/" in place.location]
    workers = len({row[1] for row in table})
    print(f"{len(live)} of {ENDPOINTS} endpoints have a model of their own. Workers: {workers}.", flush=True)
    if {row[2] for row in table} != {"success"}:
        raise DemoError("a task failed; the log of its worker says why.")


def compare(costs: Mapping[str, Cost]) -> None:
    """Print what each way cost.

    :param costs: by DAG.
    """
    print(f"\n{'way':15} {'seconds':>8} {'of workers':>11} {'tasks':>6} {'XComs':>6}")
    for way, cost in costs.items():
        print(f"{way:15} {cost.seconds:8.0f} {cost.held:11.0f} {cost.tasks:6} {cost.xcoms:6}")


def main() -> int:
    """Run the demonstration; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m demo.celery", description=__doc__)
    parser.add_argument("ways", nargs="*", default=["fleet_chunks", "fleet_deferred"], help=f"of {', '.join(WAYS)}")
    ways = parser.parse_args().ways
    unknown = [way for way in ways if way not in WAYS]
    if unknown:
        parser.error(f"there is no {unknown[0]!r}; the ways are {', '.join(WAYS)}")
    home = Path(tempfile.mkdtemp(prefix="azureml-classic-celery-"))
    home.chmod(0o711)
    try:
        demonstrate(home, ways)
    except DemoError as error:
        print(f"The demonstration stopped: {error} Its logs are in {home}.", file=sys.stderr)
        return 1
    shutil.rmtree(home, ignore_errors=True)
    print("Nothing is left running.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
