"""What the tests of fleets share: small fleets on a real server, what the server saw of them, and a run to be killed.

As a program it runs a fleet as a task would, with its memory in a file: ``tests.support.fleets FILE ARGUMENTS``.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow_provider_azureml_classic.operators import RetrainFleetOperator
from tests.support import BIKES, BIKES_SCORING, ServerProcess
from tests.support.gates import DAY, TaskInstance, context, rentals


class FileStore:
    """A task state store in a file, which survives a ``kill -9``.

    :param path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def kept(self) -> dict[str, Any]:
        """Everything."""
        return dict(json.loads(self.path.read_text())) if self.path.exists() else {}

    def _write(self, values: dict[str, Any]) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(values))
        os.replace(new, self.path)

    def get(self, key: str, default: Any = None) -> Any:
        """A value."""
        return self.kept.get(key, default)

    def set(self, key: str, value: Any) -> None:
        """Keep a value."""
        self._write({**self.kept, key: value})

    def delete(self, key: str) -> None:
        """Forget a value."""
        self._write({name: value for name, value in self.kept.items() if name != key})


def attempt(store: FileStore, *, max_tries: int = 2, end: datetime = DAY) -> dict[str, Any]:
    """The context of one attempt at a task."""
    ti = TaskInstance(max_tries=max_tries, pushed={}, dag_id="d", task_id="retrain", run_id="r", map_index=-1)
    return {**context(end), "ti": ti, "task_state_store": store}


def fleet(trainer: str, items: list[dict[str, Any]], **options: Any) -> RetrainFleetOperator:
    """The operator, in the worker unless told otherwise."""
    given = {"deferrable": False, "poll_interval": 0.3, "proof_timeout": 20, **options}
    return RetrainFleetOperator(
        task_id="retrain",
        training_service=BIKES,
        scoring_service=BIKES_SCORING,
        training_endpoint=trainer,
        items=items,
        **given,
    )


def uploaded(server: ServerProcess, name: str, count: int, *, rows: int = 60) -> list[dict[str, Any]]:
    """Items of a fleet with an endpoint of the training service of the same name; each has data of its own."""
    with server.client() as client:
        client.add_endpoint(client.find_web_service(BIKES).id, name)
    for number in range(count):
        server.upload(f"fleets/{name}{number}.csv", rentals(100 + 10 * number, rows))
    return [{"endpoint": f"{name}{number}", "inputs": f"fleets/{name}{number}.csv"} for number in range(count)]


def started(server: ServerProcess, trainer: str) -> list[str]:
    """States of the jobs that were started at an endpoint of the training service: what the service itself has seen."""
    query = (
        "SELECT jobs.status FROM jobs JOIN endpoints ON endpoints.id = jobs.endpoint_id "
        "WHERE endpoints.name = ? AND jobs.place IS NOT NULL ORDER BY jobs.created_at"
    )
    database = f"file:{server.data_dir / 'state.db'}?mode=ro"
    with contextlib.closing(sqlite3.connect(database, uri=True, timeout=30)) as connection:
        return [str(state) for (state,) in connection.execute(query, (trainer,))]


def started_for(server: ServerProcess, trainer: str) -> dict[str, list[str]]:
    """The same by the endpoint that the job's model was for, as the logs of the jobs tell it."""
    query = (
        "SELECT jobs.status, job_log.text FROM jobs JOIN endpoints ON endpoints.id = jobs.endpoint_id "
        "JOIN job_log ON job_log.job_id = jobs.id AND job_log.text LIKE 'Submitted%' "
        "WHERE endpoints.name = ? AND jobs.place IS NOT NULL ORDER BY jobs.created_at"
    )
    found: dict[str, list[str]] = {}
    database = f"file:{server.data_dir / 'state.db'}?mode=ro"
    with contextlib.closing(sqlite3.connect(database, uri=True, timeout=30)) as connection:
        for state, text in connection.execute(query, (trainer,)):
            [endpoint] = re.findall(r" to \S*?/([a-z0-9]+)/[^/\s]*\.ilearner", text)
            found.setdefault(endpoint, []).append(str(state))
    return found


def wait_for(look: Callable[[], Any]) -> None:
    """Until ``look`` is true."""
    deadline = time.monotonic() + 60
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def run(path: Path, arguments: dict[str, Any], airflow_conn: str) -> None:
    """Run a fleet in a process that was forked.

    :param path: of its memory.
    :param arguments: of :func:`fleet`.
    :param airflow_conn: the connection; the environment is that of the process that forks.
    """
    os.environ["AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT"] = airflow_conn
    fleet(**arguments).execute(attempt(FileStore(path)))


def main() -> None:
    """Run a fleet as a program."""
    run(Path(sys.argv[1]), json.loads(sys.argv[2]), os.environ["AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT"])


if __name__ == "__main__":
    main()
