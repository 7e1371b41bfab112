"""Two real server processes on one PostgreSQL and one data directory."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.server.state.engine import DATABASE_VARIABLE
from tests.support import ServerProcess
from tests.support.postgres import Cluster, free_port

BODY = json.dumps({"Inputs": {"input1": [{"x": 1.0}]}, "GlobalParameters": {}}).encode()


class Pair:
    """Two servers, ``a`` and ``b``, that hand out the URL of ``a``.

    :param folder: has the declarations; gets the data directory.
    :param cluster: their PostgreSQL.
    :param arguments: of both.
    """

    def __init__(self, folder: Path, cluster: Cluster, *arguments: str) -> None:
        self.folder, self._arguments = folder, arguments
        self.cluster = cluster
        self.database = cluster.new_database()
        self.ports = {name: free_port() for name in "ab"}
        self.servers: dict[str, ServerProcess] = {}
        self.start("a")
        self.start("b")

    def start(self, name: str, database: str = "") -> ServerProcess:
        """Start one of them, on another address of the database if one is given."""
        arguments = ("--experiments", str(self.folder / "experiments.toml"), "--workers", "1")
        arguments += ("--port", str(self.ports[name]), "--public-url", self.url("a"), *self._arguments)
        environment = {DATABASE_VARIABLE: database or self.database}
        made = ServerProcess(self.folder / "data", *arguments, environment=environment)
        self.servers[name] = made
        return made

    def url(self, name: str) -> str:
        """Where one of them really is."""
        return f"http://127.0.0.1:{self.ports[name]}"

    def client(self, name: str, **options: Any) -> Client:
        """A client of one of them, whatever URL it hands out."""
        connection = self.servers[name].connection
        return Client(self.url(name), connection["workspace_id"], connection["token"], **options)

    def answer(self, name: str, endpoint: Endpoint, key: str | None = None) -> float | int:
        """What an endpoint answers through one of them where ``x`` is 1, or the HTTP status of the error."""
        path = endpoint.api_location.removeprefix(self.url("a"))
        headers = {"Authorization": f"Bearer {key or endpoint.primary_key}", "Content-Type": "application/json"}
        request = Request(f"{self.url(name)}{path}/execute?api-version=2.0", BODY, headers)
        try:
            with urlopen(request, timeout=30) as answer:
                found = json.loads(answer.read())
        except OSError as error:
            return int(getattr(error, "code", 0))
        ((cell,),) = found["Results"]["output1"]["value"]["Values"]
        return round(float(cell), 2)

    def close(self) -> None:
        """Stop both."""
        for server in self.servers.values():
            server.process.send_signal(signal.SIGCONT)
            server.stop()
