"""Azurite, Microsoft's emulator of Azure Storage, as a process of the test run."""

from __future__ import annotations

import base64
import os
import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.sas import StorageAccount, sign
from tests.support import ROOT, require_program

#: Where ``make programs`` puts Azurite.
SCRIPT_FOLDER = ROOT / ".programs" / "node_modules" / "azurite" / "dist" / "src" / "blob"

#: The accounts that it has; clients know them by name and key.
ACCOUNT, HOME = "customerdata", "servicehome"
KEY = base64.b64encode(b"customer" * 8).decode()
HOME_KEY = base64.b64encode(b"servicehomekey!!" * 4).decode()


class Azurite:
    """A running emulator, on a free port.

    :param folder: for what it keeps; ``None``: that is kept in memory, and is gone with it.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self.start("0")

    def start(self, number: str = "") -> None:
        """Start it, again on the same port without one.

        :param number: the port.
        """
        node = require_program("node", "Install Node.js 20.")
        script = require_program("main.js", "That is Azurite: run make programs.", str(SCRIPT_FOLDER))
        kept = ["--location", str(self._folder)] if self._folder else ["--inMemoryPersistence"]
        options = ["--blobPort", number or self.url.rpartition(":")[2], "--skipApiVersionCheck", "--disableTelemetry"]
        self.process = subprocess.Popen(
            [str(node), str(script), *options, *kept],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY};{HOME}:{HOME_KEY}"},
        )
        assert self.process.stdout is not None
        port = None
        for text in self.process.stdout:
            if port := re.search(rb"successfully listens on http://127\.0\.0\.1:(\d+)", text):
                break
        assert port is not None, "Azurite did not start"
        self.url = f"http://127.0.0.1:{port.group(1).decode()}"
        self.account = StorageAccount(ACCOUNT, KEY, f"{self.url}/{ACCOUNT}")
        self.home = StorageAccount(HOME, HOME_KEY, f"{self.url}/{HOME}")

    @property
    def mapped(self) -> tuple[str, ...]:
        """The server's arguments that say where the accounts are."""
        return tuple(f"--storage-account={one.name}={one.endpoint}" for one in (self.account, self.home))

    def client(self, account: StorageAccount | None = None) -> Any:
        """The SDK's client of an account."""
        from azure.storage.blob import BlobServiceClient

        return BlobServiceClient.from_connection_string((account or self.account).connection_string)

    def put(self, path: str, content: str | bytes, account: StorageAccount | None = None) -> BlobReference:
        """Write a blob, with its container, and name it by its path alone."""
        container, _, blob = path.partition("/")
        with self.client(account) as client:
            if not client.get_container_client(container).exists():
                client.create_container(container)
            client.get_blob_client(container, blob).upload_blob(content, overwrite=True)
        return BlobReference(path)

    def get(self, path: str, account: StorageAccount | None = None) -> bytes:
        """Content of a blob."""
        container, _, blob = path.partition("/")
        with self.client(account) as client:
            return bytes(client.get_blob_client(container, blob).download_blob().readall())

    def sas(self, path: str, permissions: str = "r", *, minutes: float = 60) -> BlobReference:
        """A reference with a token; a negative life gives an expired one."""
        container, _, blob = path.partition("/")
        now = datetime.now(UTC)
        start, expiry = now - timedelta(days=1), now + timedelta(minutes=minutes)
        token = sign(self.account, container, blob, permissions=permissions, start=start, expiry=expiry)
        return BlobReference(path, self.account.endpoint, token).normalised()

    def stop(self, *, orderly: bool = False) -> None:
        """End it.

        :param orderly: its calls are cut all the same, but what it had answered is kept; killed, it loses seconds.
        """
        (self.process.terminate if orderly else self.process.kill)()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


def by_name(path: str, *, account: str = ACCOUNT, key: str = KEY, suffix: str = "") -> BlobReference:
    """A reference as old clients write it: the account's name and key, and no address."""
    text = f"DefaultEndpointsProtocol=https;AccountName={account};AccountKey={key}"
    return BlobReference(path, connection_string=f"{text};EndpointSuffix={suffix}" if suffix else text)
