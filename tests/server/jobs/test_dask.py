"""Training on a real Dask cluster: a scheduler and two workers, each a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.protocol.jobs import JobStatus
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.server.jobs import dask as dask_module
from tests.support import ServerProcess, wait_for_job
from tests.support.held_server import HELD, HeldServer
from tests.support.processes import patch, slope, until

pytestmark = pytest.mark.slow


class Dask:
    """A scheduler and two workers, started as an operator would.

    :param folder: for their logs.
    :param python_path: where workers find the modules of experiments.
    """

    def __init__(self, folder: Path, python_path: Path) -> None:
        self._folder = folder
        self._environment = {**os.environ, "PYTHONPATH": str(python_path)}
        options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
        self.scheduler = self._run("scheduler", "dask_scheduler", *options)
        log = folder / "scheduler.log"
        until("the scheduler listens", lambda: re.search(r"Scheduler at: +(tcp://\S+)", log.read_text()))
        self.address = re.search(r"Scheduler at: +(tcp://\S+)", log.read_text()).group(1)  # type: ignore[union-attr]
        self.workers = [self.worker(number) for number in range(2)]
        until("both workers are there", lambda: log.read_text().count("Starting worker compute stream") >= 2)

    def worker(self, number: int) -> subprocess.Popen[bytes]:
        """A worker with one thread, which nobody starts again."""
        options = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(self._folder)]
        return self._run(f"worker{number}", "dask_worker", self.address, *options)

    def _run(self, name: str, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self._folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{module}", *arguments],
                stdout=log,
                stderr=log,
                env=self._environment,
            )

    def stop(self) -> None:
        """End all of it."""
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@pytest.fixture
def dask(tmp_path: Path) -> Iterator[Dask]:
    """The cluster; its workers can import what is declared in ``tmp_path/held``."""
    (tmp_path / "held").mkdir()
    (tmp_path / "dask").mkdir()
    running = Dask(tmp_path / "dask", tmp_path / "held")
    yield running
    running.stop()


@pytest.fixture
def held(dask: Dask, tmp_path: Path) -> Iterator[HeldServer]:
    """A server that trains there."""
    server = HeldServer(tmp_path / "held", "--workers", "2", "--scheduler", dask.address)
    server.hold()
    yield server
    server.let_go()
    server.process.stop()


def test_a_worker_that_is_killed_costs_no_job(dask: Dask, held: HeldServer) -> None:
    """The training goes on at the other worker, the job ends Finished, with exactly one model, which scores.

    The server has no training process of its own; then the scheduler goes too, and the next job says so.
    """
    with held.process.client() as client:
        trainer = held.trainer(client)
        job_id = held.start_job(client, output1=BlobReference("models/once.ilearner"))
        until("the training has begun", held.trainings)
        (first,) = held.trainings()
        assert first in {worker.pid for worker in dask.workers}
        children = psutil.Process(held.process.process.pid).children(recursive=True)
        assert first not in {child.pid for child in children}
        os.kill(first, signal.SIGKILL)
        until("the training is begun again", lambda: len(held.trainings()) == 2)
        held.let_go()
        job = wait_for_job(client, trainer, job_id)
        assert (job.status, job.details) == (JobStatus.FINISHED, None)
        assert held.trainings() <= {worker.pid for worker in dask.workers}
        blobs = held.process.data_dir / "blobs"
        assert [path.name for path in blobs.rglob("*.ilearner") if path.parent.name != "firstmodels"] == [
            "once.ilearner"
        ]
        mine = client.add_endpoint(client.find_web_service(f"{HELD} [predictive exp.]").id, "mine")
        patch(client, mine, job.results["output1"], f"{HELD} [trained model]")
        assert slope(client, mine) == 5
        score_as_batch(held.process, client, mine)


def score_as_batch(server: ServerProcess, client: object, endpoint: Endpoint) -> None:
    """Scoring of files goes there too: model and rows are sent, the scored file comes back."""
    from airflow_provider_azureml_classic.client import Client
    from airflow_provider_azureml_classic.protocol.jobs import JobRequest

    assert isinstance(client, Client)
    job_id = client.submit_job(endpoint, JobRequest({"input1": server.upload("data/rows.csv", "x\n1\n")}))
    client.start_job(endpoint, job_id)
    job = wait_for_job(client, endpoint, job_id)
    assert (job.status, job.details) == (JobStatus.FINISHED, None)
    assert b"Scored Labels" in client.fetch_blob(job.results["output1"])


def test_cancelled_jobs_and_a_lost_scheduler(dask: Dask, held: HeldServer) -> None:
    """A cancelled job frees its place at once; when the scheduler goes, what runs fails with the reason, and so does
    what comes next, until there is a scheduler again.
    """
    with held.process.client() as client:
        trainer = held.trainer(client)
        first = held.start_job(client)
        until("the first training has begun", lambda: len(held.trainings()) == 1)
        client.cancel_job(trainer, first)
        second, third = held.start_job(client), held.start_job(client)
        running = {
            job: lambda job=job: client.get_job(trainer, job).status is JobStatus.RUNNING for job in (second, third)
        }
        for is_running in running.values():
            until("the job has the place of the cancelled one", is_running)
        dask.scheduler.kill()
        dask.scheduler.wait()
        for job_id in (second, third, held.start_job(client)):
            job = wait_for_job(client, trainer, job_id)
            assert job.status is JobStatus.FAILED
            assert "Dask scheduler" in (job.details or "")
            assert dask.address in (job.details or "")
        assert client.get_job(trainer, first).status is JobStatus.CANCELLED


def test_a_scheduler_that_is_not_there_is_known_at_start(tmp_path: Path) -> None:
    """One sentence that names it, and the end."""
    server = "airflow_provider_azureml_classic.server"
    for address, said in (("tcp://127.0.0.1:1", "cannot be reached"), ("nonsense://x", "must be tcp://")):
        ended = subprocess.run(
            [sys.executable, "-m", server, "--data-dir", str(tmp_path / "d"), "--port", "0", "--scheduler", address],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert ended.returncode == 2
        assert address in ended.stderr
        assert said in ended.stderr
        assert "Traceback" not in ended.stderr


# -- what is sent ----------------------------------------------------------------------------------------------------


def double(source: Path, target: Path, unwritten: Path, times: int) -> str:
    """Work on files."""
    target.write_bytes(source.read_bytes() * times)
    return f"{source.suffix} {unwritten.exists()}"


def test_files_travel_and_come_back(tmp_path: Path) -> None:
    """What is there is sent under its name, what was written comes back, what was not written does not appear."""
    source, target, unwritten = (tmp_path / name for name in ("in.csv", "out.bin", "none"))
    source.write_bytes(b"ab")
    arguments = (source, target, unwritten, 2)
    payload = dask_module.pack(double, arguments)
    source.unlink()
    result, written = dask_module.carry_out(payload)
    dask_module.unpack(arguments, written)
    assert (result, target.read_bytes(), unwritten.exists()) == (".csv False", b"abab", False)
    assert "ab" not in repr(payload.arguments[0])


def test_another_machine_needs_the_same_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a model could come out differently; the message names each difference."""
    payload = dask_module.pack(abs, (-1,))
    assert dask_module.carry_out(payload) == (1, {})
    other = {**dask_module.versions(), "scikit-learn": "0.1"}
    monkeypatch.setattr(dask_module, "versions", lambda: other)
    with pytest.raises(RequestRejected, match=r"scikit-learn 0\.1 instead of"):
        dask_module.carry_out(payload)


def test_a_payload_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler keeps it in memory."""
    monkeypatch.setattr(dask_module, "MAX_PAYLOAD", 10)
    (tmp_path / "in.csv").write_bytes(os.urandom(100))
    with pytest.raises(RequestRejected, match="at most 10 are sent") as error:
        dask_module.pack(abs, (tmp_path / "in.csv",))
    assert error.value.detail_code == "OutOfMemoryLimit"
