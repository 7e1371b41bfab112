"""Processes of servers: what is asked of one, and what is waited for."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.protocol.jobs import JobRequest
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint, EndpointSettings, Resource
from airflow_provider_azureml_classic.server.state.engine import DATABASE_VARIABLE
from tests.support import ServerProcess, wait_for_job
from tests.support.postgres import PASSWORD
from tests.support.service import RESOURCE, TRAINING

#: An experiment whose training waits for as long as the file ``hold`` lies beside its declaration.
HELD = """
[[experiment]]
name = "Held"
estimator = "held_estimator:make"
label = "y"
first_data = "line.csv"
task = "regression"
"""
HELD_ESTIMATOR = """
import time
from pathlib import Path


def make(schema):
    from sklearn.linear_model import LinearRegression

    Path(__file__).with_name("reached").touch()
    while Path(__file__).with_name("hold").exists():
        time.sleep(0.05)
    return LinearRegression()
"""


def until(what: str, true: Callable[[], Any], seconds: float = 30) -> None:
    """Wait for something, or fail by its name."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"after {seconds} s still not: {what}"
        time.sleep(0.05)


def group(number: int) -> dict[int, int]:
    """The living processes of a process group, each with its parent."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            _, _, fields = path.read_text().rpartition(")")
        except OSError:
            continue
        state, parent, process_group = fields.split()[:3]
        if int(process_group) == number and state != "Z":
            found[int(path.parent.name)] = int(parent)
    return found


def memory(process: int) -> float:
    """What a process holds now, in MiB."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def files(process: int) -> int:
    """Files and connections that a process has open."""
    return len(list(Path(f"/proc/{process}/fd").iterdir()))


def command(data_dir: Path, *arguments: str) -> list[str]:
    """Command line of a server."""
    return [sys.executable, "-m", "airflow_provider_azureml_classic.server", "--data-dir", str(data_dir), *arguments]


def default_of(client: Client, service: str) -> Endpoint:
    """The default endpoint of a web service."""
    return client.get_endpoint(client.find_web_service(service).id, "default")


def slope(client: Client, endpoint: Endpoint) -> float:
    """What the endpoint's model answers where ``x`` is 1."""
    return round(float(client.score(endpoint, [{"x": 1.0}]).column("Scored Labels")[0]), 2)


def patch(client: Client, endpoint: Endpoint, location: BlobReference, resource: str = RESOURCE) -> None:
    """Put a model in place."""
    client.patch_endpoint(endpoint, EndpointSettings(resources=(Resource(resource, location),)))


def trained(server: ServerProcess, client: Client, csv_text: str, name: str) -> BlobReference:
    """Train on a CSV text and return the place of the model."""
    trainer = default_of(client, TRAINING)
    source = server.upload(f"data/{name}.csv", csv_text)
    job_id = client.submit_job(trainer, JobRequest({"input1": source}))
    client.start_job(trainer, job_id)
    job = wait_for_job(client, trainer, job_id)
    job.raise_unless_finished()
    return job.results["output1"]


def refused(data_dir: Path, url: str, environment: dict[str, str] | None = None) -> str:
    """Standard error of a server that must not start on a database: exit status 2, a sentence, no secret."""
    done = subprocess.run(
        command(data_dir, "--port", "0"),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, DATABASE_VARIABLE: url, **(environment or {})},
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert PASSWORD not in done.stderr
    return done.stderr


@contextmanager
def soon(what: str) -> Iterator[Callable[[Callable[[], Any]], None]]:
    """A wait of two seconds at most, from the end of the call that changed something."""
    begun = time.monotonic()

    def check(true: Callable[[], Any]) -> None:
        until(what, true, 2 - (time.monotonic() - begun))

    yield check
