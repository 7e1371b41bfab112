"""Servers without a common disk, as docs/deploy.md has them: PostgreSQL, Azure Storage, secrets as variables."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cryptography.fernet import Fernet

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.server.settings import STORAGE_VARIABLE, VARIABLES
from airflow_provider_azureml_classic.server.state.engine import DATABASE_VARIABLE
from tests.support import ServerProcess
from tests.support.azurite import HOME, HOME_KEY, Azurite, by_name
from tests.support.postgres import free_port
from tests.support.service import WORKSPACE

TOKEN_OF_ALL = "token-of-all"


class Machines:
    """Servers that share a database and a storage account, each with a disk of its own.

    :param folder: has the declarations, ``experiments.toml``, and a folder for each disk.
    :param database: address of the database.
    :param azurite: the storage.
    :param public: address that all of them hand out; empty: that of the first.
    :param arguments: of each.
    """

    def __init__(
        self, folder: Path, database: str, azurite: Azurite, public: str = "", arguments: Sequence[str] = ()
    ) -> None:
        self.folder, self.azurite, self.arguments = folder, azurite, arguments
        secrets = {
            "workspace_id": WORKSPACE,
            "token": TOKEN_OF_ALL,
            "account_key": base64.b64encode(b"of both!" * 8).decode(),
            "cipher_key": Fernet.generate_key().decode(),
        }
        self.environment = {VARIABLES[member]: value for member, value in secrets.items()}
        self.environment |= {
            DATABASE_VARIABLE: database,
            STORAGE_VARIABLE: by_name("", account=HOME, key=HOME_KEY).connection_string,
        }
        self.ports = {name: free_port() for name in "abc"}
        self.public = public or self.url("a")
        self.servers: dict[str, ServerProcess] = {}

    def start(self, name: str) -> ServerProcess:
        """Start one with an empty disk."""
        arguments = ("--experiments", str(self.folder / "experiments.toml"), "--workers", "1", *self.azurite.mapped)
        arguments += ("--port", str(self.ports[name]), "--public-url", self.public, *self.arguments)
        made = ServerProcess(self.folder / name, *arguments, environment=self.environment)
        self.servers[name] = made
        return made

    def url(self, name: str) -> str:
        """Where one of them really is."""
        return f"http://127.0.0.1:{self.ports[name]}"

    def client(self, name: str) -> Client:
        """A client of one of them."""
        return Client(self.url(name), WORKSPACE, TOKEN_OF_ALL)

    def at(self, name: str, endpoint: Endpoint) -> Endpoint:
        """An endpoint as seen through one of them."""
        return replace(endpoint, api_location=endpoint.api_location.replace(self.public, self.url(name)))

    def ended(self, job_id: str) -> int:
        """How often a job has ended, on all of them."""
        return sum(one.log.read_text().count(f"job {job_id} Finished") for one in self.servers.values())
