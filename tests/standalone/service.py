"""The server that the instance talks to: its jobs end when a test says so, and it can be killed and started again."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Callable
from datetime import date
from io import StringIO
from pathlib import Path
from typing import Any

from airflow_provider_azureml_classic.protocol.values import EndpointSettings
from airflow_provider_azureml_classic.server.experiments.datasets import bike_rentals, write_csv
from tests.standalone.airflow import free_ports
from tests.support import ServerProcess

HERE = Path(__file__).parent
#: More than there are jobs held at a time.
_WORKERS = "16"


class Service:
    """The server process, its held jobs and its database.

    :param folder: for everything it keeps.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._experiment = folder / "held"
        shutil.copytree(HERE / "held", self._experiment)
        self._gates = self._experiment / "gates"
        self._gates.mkdir()
        self._numbers: dict[str, int] = {}
        [self._port] = free_ports(1)
        self.process = self._started()

    def _started(self) -> ServerProcess:
        experiments = str(self._experiment / "experiment.toml")
        arguments = ("--port", str(self._port), "--experiments", experiments, "--workers", _WORKERS)
        return ServerProcess(self._folder / "data", *arguments)

    def kill(self) -> None:
        """``kill -9`` the server."""
        self.process.kill()

    def start_again(self) -> None:
        """Start it again, at the same address, with what it kept."""
        self.process = self._started()

    def stop(self) -> None:
        """End it."""
        self.process.stop()

    # -- held jobs -----------------------------------------------------------------------------------------------------

    def hold(self, endpoint: str) -> None:
        """Add an endpoint to the training service of *Held Model*, and data whose training waits for :meth:`release`.

        :param endpoint: named after the test; its jobs are this test's.
        """
        self._numbers[endpoint] = number = len(self._numbers) + 1
        rows = "".join(f"{number},{x},{2 * x + 1}\n" for x in range(20))
        self.process.upload(f"held/{endpoint}.csv", f"gate,x,y\n{rows}")
        with self.process.client() as client:
            client.add_endpoint(client.find_web_service("Held Model").id, endpoint, EndpointSettings())

    def release(self, endpoint: str) -> None:
        """Let the trainings of this endpoint's jobs end."""
        (self._gates / str(self._numbers[endpoint])).touch()

    def jobs(self, endpoint: str) -> list[str]:
        """States of the jobs of an endpoint that were started, oldest first: what the service itself has seen."""
        return [state for state, started in self._jobs(endpoint) if started]

    def submitted(self, endpoint: str) -> int:
        """How many jobs an endpoint has, started or not."""
        return len(self._jobs(endpoint))

    def _jobs(self, endpoint: str) -> list[tuple[str, bool]]:
        query = (
            "SELECT jobs.status, jobs.place IS NOT NULL FROM jobs JOIN endpoints ON endpoints.id = jobs.endpoint_id "
            "WHERE endpoints.name = ? ORDER BY jobs.created_at"
        )
        database = f"file:{self._folder / 'data' / 'state.db'}?mode=ro"
        with contextlib.closing(sqlite3.connect(database, uri=True, timeout=30)) as connection:
            return [(str(state), bool(started)) for state, started in connection.execute(query, (endpoint,))]

    # -- bike rentals --------------------------------------------------------------------------------------------------

    def upload_day(self, day: date) -> None:
        """The data that ``dags/bike_rental_retrain.py`` reads for one day."""
        text = StringIO(newline="")
        write_csv(bike_rentals(day, 1, locations=2), text)
        self.process.upload(f"bike-rental/{day}.csv", text.getvalue())

    def ask(self, question: Callable[[Any], Any]) -> Any:
        """The answer of a client of the workspace."""
        with self.process.client() as client:
            return question(client)
