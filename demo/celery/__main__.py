"""``make celery``: a fleet in chunks on Airflow's CeleryExecutor with two workers; shows which ran what.

Starts a PostgreSQL cluster, a Redis, an Airflow and a server, all on free ports, and stops them again.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from airflow_provider_azureml_classic.client import Client
from demo.celery.services import free_port, postgres, redis, wait_for
from demo.days import generated
from demo.processes import ROOT, DemoError, server, started

WORKERS = ("worker-1", "worker-2")
#: As in the DAG.
ENDPOINTS = 40
_QUERY = (
    "SELECT map_index, hostname, state, start_date, end_date FROM task_instance "
    "WHERE dag_id = 'fleet_chunks' AND task_id = 'retrain' AND map_index >= 0 ORDER BY map_index"
)


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
    """Scheduler, DAG processor, API server and two workers.

    :param home: where they log.
    :param environment: see :func:`settings`.
    """
    commands = {name: [name] for name in ("api-server", "scheduler", "dag-processor")}
    commands |= {
        name: ["celery", "worker", "--celery-hostname", f"{name}@%h", "--concurrency", "1"] for name in WORKERS
    }
    with contextlib.ExitStack() as stack:
        for name, words in commands.items():
            log = stack.enter_context((home / f"{name}.log").open("wb"))
            own = {"WORKER_NAME": name, "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port())}
            command = [sys.executable, "-m", "airflow", *words]
            stack.enter_context(started(command, stdout=log, stderr=log, env={**environment, **own}))
        yield


def rows(database: str) -> list[tuple[Any, ...]]:
    """The chunks: number, worker, state, start and end.

    :param database: URL without driver.
    """
    import psycopg

    with psycopg.connect(f"postgresql:{database}") as connection:
        return connection.execute(_QUERY).fetchall()


def demonstrate(home: Path) -> None:
    """Start everything, run the fleet, print which worker ran what.

    :param home: folder that is thrown away.
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
        print(f"Starting Airflow: scheduler, API server, DAG processor, {' and '.join(WORKERS)} ...", flush=True)
        stack.enter_context(components(home, environment))
        trigger = [*command, "dags", "trigger", "fleet_chunks"]
        wait_for("Airflow knows the DAG", lambda: not _failed(trigger, environment), 300)
        began = time.monotonic()
        wait_for("the chunks are made", lambda: rows(database), 300)
        wait_for("all chunks have ended", lambda: {row[2] for row in rows(database)} <= {"success", "failed"}, 1800)
        print(f"The fleet ended {time.monotonic() - began:.0f} s after the DAG run was triggered.\n")
        show(rows(database), connection)


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


def show(table: list[tuple[Any, ...]], connection: dict[str, str]) -> None:
    """Print the table, and whether every endpoint has its model.

    :param table: see :func:`rows`.
    :param connection: the server's ``connection.json``.
    :raises DemoError: a chunk failed.
    """
    print(f"{'chunk':6} {'worker':10} {'state':8} seconds")
    for number, worker, state, start, end in table:
        print(f"{number:<6} {worker:10} {state:8} {(end - start).total_seconds():.1f}")
    with Client(connection["management_url"], connection["workspace_id"], connection["token"]) as client:
        endpoints = client.list_endpoints(client.find_web_service("Bike Rental [predictive exp.]").id)
    live = [one for one in endpoints if (place := one.resource().location) and f"/{one.name}/" in place.location]
    print(
        f"\n{len(live)} of {ENDPOINTS} endpoints have a model of their own. Workers: {len({row[1] for row in table})}."
    )
    if {row[2] for row in table} != {"success"}:
        raise DemoError("a chunk failed; the log of its worker says why.")


def main() -> int:
    """Run the demonstration; returns its exit status."""
    home = Path(tempfile.mkdtemp(prefix="azureml-classic-celery-"))
    home.chmod(0o711)
    try:
        demonstrate(home)
    except DemoError as error:
        print(f"The demonstration stopped: {error} Its logs are in {home}.", file=sys.stderr)
        return 1
    shutil.rmtree(home, ignore_errors=True)
    print("Nothing is left running.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
