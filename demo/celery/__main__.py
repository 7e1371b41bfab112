"""``make celery``: a fleet in chunks on Airflow's CeleryExecutor with two workers, first in the workers, then deferred.

Starts a PostgreSQL cluster, a Redis, an Airflow with a triggerer and a server, all on free ports, and stops them again.
``WAYS`` names others: one task, and three tasks for each endpoint. ``KILL=1`` kills a worker while it runs a chunk.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow_provider_azureml_classic.client import Client
from demo.celery.processes import WORKERS, Components, settings
from demo.celery.services import postgres, redis, wait_for
from demo.celery.watch import Outcome, Watch
from demo.days import generated
from demo.processes import DemoError, server

#: As in the DAGs.
ENDPOINTS = 40
#: By DAG, the letter with which the names of its endpoints begin.
WAYS = {"fleet_one": "o", "fleet_mapped": "m", "fleet_chunks": "c", "fleet_deferred": "d"}
#: Seconds for which a chunk holds the worker before that is killed.
_BEFORE_KILL = 1.0
#: Seconds between two looks at the task instances.
_LOOK = 0.2
_TASKS = (
    "SELECT task_id, map_index, state, hostname, try_number FROM task_instance WHERE dag_id = %s ORDER BY map_index"
)
_RUN = "SELECT state, EXTRACT(epoch FROM end_date - start_date) FROM dag_run WHERE dag_id = %s"
_ROWS = "SELECT count(*) FROM {} WHERE dag_id = %s"
_EVENTS = "SELECT count(*) FROM asset_event WHERE source_dag_id = %s"


class Database:
    """Airflow's metadata database.

    :param url: without driver.
    """

    def __init__(self, url: str) -> None:
        import psycopg

        self._connection = psycopg.connect(f"postgresql:{url}", autocommit=True)

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def ask(self, query: str, way: str) -> list[tuple[Any, ...]]:
        """Rows.

        :param query: with a placeholder for the DAG.
        :param way: the DAG.
        """
        return self._connection.execute(query, (way,)).fetchall()  # type: ignore[arg-type]


def followed(database: Database, way: str, look: Callable[[Watch], None]) -> Watch:
    """What was seen of the DAG run that was triggered, until it has ended.

    :param database: Airflow's.
    :param way: the DAG.
    :param look: called after every look.
    :raises DemoError: it takes too long.
    """
    watch, deadline = Watch(), time.monotonic() + 1800
    while True:
        ended = database.ask(_RUN, way)[0][0] in ("success", "failed")
        watch.look(database.ask(_TASKS, way), time.monotonic())
        if ended:
            return watch
        if time.monotonic() > deadline:
            raise DemoError(f"{way} has not ended after half an hour.")
        look(watch)
        time.sleep(_LOOK)


def killer(components: Components) -> Callable[[Watch], None]:
    """Kills the first worker once it has held a chunk for a moment.

    :param components: of Airflow.
    """
    done: list[int] = []

    def look(watch: Watch) -> None:
        for (task_id, number), part in watch.parts.items():
            there = part.state == "running" and part.workers[-1:] == [WORKERS[0]] and part.held >= _BEFORE_KILL
            if there and task_id == "retrain" and not done:
                components.kill(WORKERS[0])
                done.append(number)
                print(f"\n{WORKERS[0]} was killed while it ran chunk {number}.", flush=True)

    return look


def demonstrate(home: Path, ways: Sequence[str], kill: bool) -> None:
    """Start everything, run the fleet in each way, print which worker ran what, and what each cost.

    :param home: folder that is thrown away.
    :param ways: the DAGs.
    :param kill: a worker in each way.
    :raises DemoError: what the reader can mend.
    """
    with contextlib.ExitStack() as stack:
        print("Starting PostgreSQL, Redis and the server (it trains the first models) ...", flush=True)
        url, broker = stack.enter_context(postgres(home / "pg")), stack.enter_context(redis(home / "redis"))
        connection = stack.enter_context(server(home, 0))
        client = stack.enter_context(
            Client(connection["management_url"], connection["workspace_id"], connection["token"])
        )
        upload(client, connection)
        environment = settings(home, url, broker, connection)
        command = [sys.executable, "-m", "airflow"]
        subprocess.run([*command, "db", "migrate"], env=environment, check=True, capture_output=True)  # noqa: S603
        print(f"Starting Airflow: scheduler, API server, triggerer, {' and '.join(WORKERS)} ...", flush=True)
        components, costs = Components(stack, home, environment), []
        database = stack.enter_context(contextlib.closing(Database(url)))
        for way in ways:
            components.start_workers()
            known = sum(1 for _ in jobs(client))
            trigger = [*command, "dags", "trigger", way]
            wait_for("Airflow knows the DAG", lambda words=trigger: not _failed(words, environment), 300)
            watch = followed(database, way, killer(components) if kill else lambda watch: None)
            costs.append(cost(database, way, watch))
            outcome = show(client, way, watch, known)
            if database.ask(_RUN, way)[0][0] != "success":
                raise DemoError("a task failed; its log says why.")
            if not outcome.right:
                raise DemoError(f"that is not one job and one model for each of {ENDPOINTS} endpoints.")
        print(
            "\n".join(["", f"{'way':15} {'wall s':>7} {'slot s':>7} {'tasks':>6} {'XComs':>6} {'events':>6}", *costs])
        )


def _failed(command: list[str], environment: Mapping[str, str]) -> bool:
    return subprocess.run(command, env=environment, capture_output=True).returncode != 0  # noqa: S603


def upload(client: Client, connection: dict[str, str]) -> None:
    """Data of each customer.

    :param client: of the server.
    :param connection: the server's ``connection.json``.
    """
    from demo.__main__ import upload as put

    day = generated(1)[0]
    for number in range(ENDPOINTS):
        put(client, connection, f"customers/{number}.csv", day.training)


def jobs(client: Client) -> Iterator[Any]:
    """The jobs of the training web service, newest first.

    :param client: of the server.
    """
    service = client.find_web_service("Bike Rental")
    endpoint, before = client.get_endpoint(service.id, service.default_endpoint_name), None
    while True:
        page = client.list_jobs(endpoint, before=before)
        yield from page.jobs
        if (before := page.next) is None:
            return


def show(client: Client, way: str, watch: Watch, known: int) -> Outcome:
    """Print which worker ran what, and tell what became of the endpoints.

    :param client: of the server.
    :param way: the DAG.
    :param watch: what was seen of it.
    :param known: jobs there were before.
    """
    print(f"\n{way}")
    lines = watch.table("retrain")
    if len(lines) > 1:
        print("\n".join(lines))
    found = list(jobs(client))
    endpoints = client.list_endpoints(client.find_web_service("Bike Rental [predictive exp.]").id)
    names = [f"{WAYS[way]}{number}" for number in range(ENDPOINTS)]
    outcome = Outcome.of(names, endpoints, found[: len(found) - known])
    print(outcome, flush=True)
    return outcome


def cost(database: Database, way: str, watch: Watch) -> str:
    """A line about what a way cost.

    :param database: Airflow's.
    :param way: the DAG.
    :param watch: what was seen of it.
    """
    seconds = float(database.ask(_RUN, way)[0][1])
    counts = [_ROWS.format("task_instance"), _ROWS.format("xcom"), _EVENTS]
    tasks, xcoms, events = (int(database.ask(query, way)[0][0]) for query in counts)
    return f"{way:15} {seconds:7.0f} {watch.held:7.0f} {tasks:6} {xcoms:6} {events:6}"


def main() -> int:
    """Run the demonstration; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m demo.celery", description=__doc__)
    parser.add_argument("ways", nargs="*", default=["fleet_chunks", "fleet_deferred"], help=f"of {', '.join(WAYS)}")
    parser.add_argument("--kill", action="store_true", help="kill a worker while it runs a chunk, in each way")
    arguments = parser.parse_args()
    unknown = [way for way in arguments.ways if way not in WAYS]
    if unknown:
        parser.error(f"there is no {unknown[0]!r}; the ways are {', '.join(WAYS)}")
    home = Path(tempfile.mkdtemp(prefix="azureml-classic-celery-"))
    home.chmod(0o711)
    try:
        demonstrate(home, arguments.ways, arguments.kill)
    except DemoError as error:
        print(f"The demonstration stopped: {error} Its logs are in {home}.", file=sys.stderr)
        return 1
    shutil.rmtree(home, ignore_errors=True)
    print("Nothing is left running.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
