"""A server whose trainings wait until a test lets them go, and say in which process they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.protocol.jobs import JobRequest
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint
from tests.support import ServerProcess
from tests.support.service import line

#: Web service whose trainings wait for as long as the file ``hold`` lies beside its declaration.
HELD = "Held"
_DECLARATION = """
[[experiment]]
name = "Held"
estimator = "held_line:make"
label = "y"
first_data = "line.csv"
task = "regression"
"""
_ESTIMATOR = """
import os
import time
from pathlib import Path


def make(schema):
    from sklearn.linear_model import LinearRegression

    folder = Path(__file__).parent
    (folder / f"training-{os.getpid()}").touch()
    while (folder / "hold").exists():
        time.sleep(0.05)
    return LinearRegression()
"""


class HeldServer:
    """A server process with the experiment ``Held``.

    :param folder: an empty folder, for its declaration and its data directory.
    :param arguments: further command line arguments.
    :param beside: further declarations.
    :param more: see :class:`ServerProcess`.
    """

    def __init__(self, folder: Path, *arguments: str, beside: str = "", **more: Any) -> None:
        self.folder = folder
        (folder / "line.csv").write_text(line(2))
        (folder / "experiments.toml").write_text(_DECLARATION + beside)
        (folder / "held_line.py").write_text(_ESTIMATOR)
        self.arguments = ("--experiments", str(folder / "experiments.toml"), *arguments)
        self.process = ServerProcess(folder / "data", *self.arguments, **more)
        for mark in folder.glob("training-*"):
            mark.unlink()

    def hold(self) -> None:
        """Let trainings wait from now on."""
        (self.folder / "hold").touch()

    def let_go(self) -> None:
        """Let them go on."""
        (self.folder / "hold").unlink(missing_ok=True)

    def trainings(self) -> set[int]:
        """Processes that have begun a training."""
        return {int(mark.name.partition("-")[2]) for mark in self.folder.glob("training-*")}

    def trainer(self, client: Client) -> Endpoint:
        """The endpoint that trains."""
        return client.get_endpoint(client.find_web_service(HELD).id, "default")

    def start_job(self, client: Client, **outputs: BlobReference) -> str:
        """Submit and start a training on the line of slope 5."""
        source = self.process.upload("data/five.csv", line(5))
        trainer = self.trainer(client)
        job_id = client.submit_job(trainer, JobRequest({"input1": source}, outputs))
        client.start_job(trainer, job_id)
        return job_id
