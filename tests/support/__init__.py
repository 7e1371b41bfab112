"""A real server process for tests, and what is needed to talk to it."""

from __future__ import annotations

import glob
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.sas import StorageAccount, sign

ROOT = Path(__file__).resolve().parents[2]
#: Samples of real data sets, and the whole of them where they lie beside the repository.
DATA_SETS = {"sample": ROOT / "tests" / "data"}
if (_WHOLE := ROOT.parent / "shared" / "data").is_dir():
    DATA_SETS["whole"] = _WHOLE

CENSUS, CENSUS_SCORING = "Census Model", "Census Model [predictive exp.]"
BIKES, BIKES_SCORING = "Bike Rental", "Bike Rental [predictive exp.]"


def require_program(name: str, how_to_install: str, *folders: str) -> Path:
    """Where a program is that some tests need; without it the test is skipped, and fails where `.ci/run` is at work.

    :param name: of the program.
    :param how_to_install: a sentence.
    :param folders: where to look besides the search path; may have wildcards, of which the last found is taken.
    """
    found = [shutil.which(name), *(path for folder in folders for path in sorted(glob.glob(f"{folder}/{name}")))]
    there = [path for path in found if path]
    if there:
        return Path(there[-1])
    message = f"{name} is not installed. {how_to_install}"
    if os.environ.get("AZUREML_CLASSIC_TESTS_NEED_ALL"):
        pytest.fail(message)
    pytest.skip(message)


class ServerProcess:
    """``python -m airflow_provider_azureml_classic.server`` on a free port.

    :param data_dir: its data directory; start again with the same one to restart.
    :param arguments: further command line arguments.
    :param environment: further environment variables.
    :param program: what stands between ``python -m`` and the arguments.
    """

    def __init__(
        self,
        data_dir: Path,
        *arguments: str,
        environment: dict[str, str] | None = None,
        program: Sequence[str] = ("airflow_provider_azureml_classic.server",),
    ) -> None:
        self.data_dir = data_dir
        self.log = data_dir.parent / f"{data_dir.name}.log"
        command = [sys.executable, "-m", *program]
        command += ["--data-dir", str(data_dir), "--port", "0", *arguments]
        with self.log.open("ab") as errors:
            self.process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
                env={**os.environ, **(environment or {})},
            )
        assert self.process.stdout is not None
        self.first_line = self.process.stdout.readline().decode()
        assert "ready" in self.first_line, f"the server did not start:\n{self.log.read_text()}"
        self.connection: dict[str, Any] = json.loads((data_dir / "connection.json").read_text())

    @property
    def url(self) -> str:
        """Base URL."""
        return str(self.connection["management_url"])

    @property
    def account(self) -> StorageAccount:
        """The storage account that the server's own store plays."""
        extra = json.loads(self.connection["airflow_conn"])["extra"]
        return StorageAccount.from_connection_string(extra["storage_connection_string"])

    def client(self, **options: Any) -> Client:
        """A blocking client of the server's workspace."""
        return Client(self.url, self.connection["workspace_id"], self.connection["token"], **options)

    def sas(self, path: str, permissions: str = "r", *, minutes: float = 60) -> BlobReference:
        """A reference to ``container/blob`` with a token; a negative life gives an expired one."""
        container, _, blob = path.partition("/")
        now = datetime.now(UTC)
        start, expiry = now - timedelta(days=1), now + timedelta(minutes=minutes)
        token = sign(self.account, container, blob, permissions=permissions, start=start, expiry=expiry)
        return BlobReference(path, self.account.endpoint, token).normalised()

    def upload(self, path: str, content: bytes | str | Path) -> BlobReference:
        """Put a file into the own store; returns a reference for reading."""
        if isinstance(content, Path):
            content = content.read_bytes()
        with self.client() as client:
            client.store_blob(self.sas(path, "cw"), content.encode() if isinstance(content, str) else content)
        return self.sas(path)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self.process.kill()
        self._reap()

    def stop(self) -> int:
        """End it as an operator would; returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self._reap()

    def _reap(self) -> int:
        status = self.process.wait(20)
        if self.process.stdout:
            self.process.stdout.close()
        return status


def wait_for_job(client: Client, endpoint: Any, job_id: str, timeout: float = 60) -> Any:
    """The job in its last state."""
    import time

    deadline = time.monotonic() + timeout
    while not (job := client.get_job(endpoint, job_id)).status.terminal:
        assert time.monotonic() < deadline, f"job {job_id} is still {job.status.value}"
        time.sleep(0.1)
    return job
