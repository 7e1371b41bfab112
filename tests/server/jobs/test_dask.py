"""Training on a real Dask cluster: a scheduler and two workers, each a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, RequestRejected, rejection
from airflow_provider_azureml_classic.protocol.jobs import JobRequest, JobStatus
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.sas import verify
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.server.blobs.names import WORK_CONTAINER
from airflow_provider_azureml_classic.server.experiments.ilearner import read_ilearner
from airflow_provider_azureml_classic.server.jobs import dask as dask_module
from airflow_provider_azureml_classic.server.jobs.dask import DaskExecutor, Loan, Payload, Result, perform, versions
from airflow_provider_azureml_classic.server.jobs.executor import Input, Output, Task, TaskExecutor
from airflow_provider_azureml_classic.server.storage.lending import Lending
from airflow_provider_azureml_classic.server.storage.locations import OwnLocation
from airflow_provider_azureml_classic.server.storage.scope import WHOLE_STORE
from tests.support import ServerProcess, wait_for_job
from tests.support.held_server import HELD, HeldServer
from tests.support.processes import patch, slope, until
from tests.support.service import Clock, Service

pytestmark = pytest.mark.slow

#: Estimators of which the same graph is expected from either engine, by the names of their web services.
KINDS = {"Linear": "linear-regressor", "Boosted": "boosting-regressor", "Tree": "sklearn.tree.DecisionTreeRegressor"}
_BESIDE = "".join(
    f"""
[[experiment]]
name = "{name}"
estimator = "{estimator}"
label = "y"
first_data = "line.csv"
"""
    for name, estimator in KINDS.items()
)


class Dask:
    """A scheduler and two workers, started as an operator would.

    :param folder: for their logs.
    :param python_path: where workers find the modules of experiments.
    """

    def __init__(self, folder: Path, python_path: Path) -> None:
        self.folder = folder
        self._environment = {**os.environ, "PYTHONPATH": str(python_path)}
        options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
        self.scheduler = self._run("scheduler", "dask_scheduler", *options)
        log = folder / "scheduler.log"
        until("the scheduler listens", lambda: re.search(r"Scheduler at: +(tcp://\S+)", log.read_text()))
        self.address = re.search(r"Scheduler at: +(tcp://\S+)", log.read_text()).group(1)  # type: ignore[union-attr]
        self.workers = [self.worker(number) for number in range(2)]
        until("both workers are there", lambda: log.read_text().count("Starting worker compute stream") >= 2)

    def worker(self, number: int) -> subprocess.Popen[bytes]:
        """A worker with one thread; the second one is started by a nanny, as is usual."""
        nanny = "--nanny" if number else "--no-nanny"
        options = ["--nthreads", "1", nanny, "--no-dashboard", "--local-directory", str(self.folder)]
        return self._run(f"worker{number}", "dask_worker", self.address, *options)

    def _run(self, name: str, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{module}", *arguments],
                stdout=log,
                stderr=log,
                env=self._environment,
            )

    def started(self, process: psutil.Process) -> int:
        """Number of the worker that a process belongs to."""
        pids = [worker.pid for worker in self.workers]
        return next(pids.index(one.pid) for one in (process, *process.parents()) if one.pid in pids)

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
    server = HeldServer(tmp_path / "held", "--workers", "2", "--scheduler", dask.address, beside=_BESIDE)
    server.hold()
    yield server
    server.let_go()
    server.process.stop()


def worker_of(training: int) -> psutil.Process:
    """The Dask worker that a training process belongs to, past the process that it was forked from."""
    return psutil.Process(training).parents()[1]


@pytest.mark.long
def test_a_worker_that_is_killed_costs_its_own_job_only(dask: Dask, held: HeldServer) -> None:
    """Its training goes on at another worker, the other job where it is; each ends Finished, with one model.

    The same is so of a training process alone; its worker stays. The data are in no log of the cluster, nor is what
    opens them, and what was lent is taken back. Then the same trainings give the same graphs on the server's own
    machine.
    """
    with held.process.client() as client:
        trainer = held.trainer(client)
        jobs = [held.start_job(client, output1=BlobReference(f"models/{name}.ilearner")) for name in ("one", "two")]
        until("the trainings have begun", lambda: len(held.trainings()) == 2, 240)
        lost, other = held.trainings()
        assert {dask.started(worker_of(training)) for training in (lost, other)} == {0, 1}
        worker = worker_of(lost)
        worker.kill()
        until("its training has ended too", lambda: not psutil.pid_exists(lost))
        assert psutil.pid_exists(other)
        held.let_go()
        for job_id in jobs:
            job = wait_for_job(client, trainer, job_id, 240)
            assert (job.status, job.details) == (JobStatus.FINISHED, None)
        blobs = held.process.data_dir / "blobs"
        models = [path.name for path in blobs.rglob("*.ilearner") if path.parent.name != "firstmodels"]
        assert sorted(models) == ["one.ilearner", "two.ilearner"]
        mine = client.add_endpoint(client.find_web_service(f"{HELD} [predictive exp.]").id, "mine")
        patch(client, mine, job.results["output1"], f"{HELD} [trained model]")
        assert slope(client, mine) == 5
        score_as_batch(held.process, client, mine)
        assert [path for path in (blobs / WORK_CONTAINER).rglob("*") if path.is_file()] == []
        there = graphs(client)
    for log in (dask.folder.glob("*.log"), [held.process.log]):
        assert [path.name for path in log if b"sig=" in path.read_bytes()] == []
    held.process.stop()
    held.process = ServerProcess(held.process.data_dir, *held.arguments[:2])
    with held.process.client() as client:
        assert graphs(client) == there


def graphs(client: Client) -> dict[str, tuple[str, bytes]]:
    """What each kind of estimator makes of the same data: digest of what answers, and graph."""
    made = {}
    for name in KINDS:
        trainer = client.get_endpoint(client.find_web_service(name).id, "default")
        job_id = client.submit_job(trainer, JobRequest({"input1": BlobReference("data/five.csv")}))
        client.start_job(trainer, job_id)
        job = wait_for_job(client, trainer, job_id, 240)
        assert (job.status, job.details) == (JobStatus.FINISHED, None)
        made[name] = job.model.content, read_ilearner(client.fetch_blob(job.results["output1"]))[1]
    return made


def score_as_batch(server: ServerProcess, client: Client, endpoint: Endpoint) -> None:
    """Scoring of files goes there too: the model is lent, the scored file comes back."""
    job_id = client.submit_job(endpoint, JobRequest({"input1": server.upload("data/rows.csv", "x\n1\n")}))
    client.start_job(endpoint, job_id)
    job = wait_for_job(client, endpoint, job_id, 240)
    assert (job.status, job.details) == (JobStatus.FINISHED, None)
    assert b"Scored Labels" in client.fetch_blob(job.results["output1"])


@pytest.mark.long
def test_cancelled_jobs_and_a_lost_scheduler(dask: Dask, held: HeldServer) -> None:
    """A cancelled job's training ends on its worker, which takes the next one; when the scheduler goes, what runs fails
    with the reason and ends there too, and so does what comes next, until there is a scheduler again.
    """
    with held.process.client() as client:
        trainer = held.trainer(client)
        first = held.start_job(client)
        until("the first training has begun", lambda: len(held.trainings()) == 1, 240)
        (training,) = held.trainings()
        client.cancel_job(trainer, first)
        until("its process has ended", lambda: not psutil.pid_exists(training))
        second, third = held.start_job(client), held.start_job(client)
        until("both workers train", lambda: len(held.trainings()) == 3, 240)
        dask.scheduler.kill()
        dask.scheduler.wait()
        for job_id in (second, third, held.start_job(client)):
            job = wait_for_job(client, trainer, job_id, 240)
            assert job.status is JobStatus.FAILED
            assert "Dask scheduler" in (job.details or "")
            assert dask.address in (job.details or "")
        assert client.get_job(trainer, first).status is JobStatus.CANCELLED
        until("nobody trains any more", lambda: not any(map(psutil.pid_exists, held.trainings())), 240)


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


class Address:
    """A blob that is a local file; its store is away for the next ``away`` attempts to write it."""

    patience = 600.0

    def __init__(self, path: Path) -> None:
        self.path, self.away = path, 0

    def fetch(self, target: Path) -> None:
        """Read it."""
        if not self.path.exists():
            raise rejection("BlobNotFound", "It is not there.")
        target.write_bytes(self.path.read_bytes())

    def deliver(self, source: Path) -> None:
        """Write it."""
        if self.away:
            self.away -= 1
            raise rejection("NoMoreResources", "The store does not answer.")
        source.replace(self.path)


def test_files_are_read_and_written_at_their_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under their names; what was not written does not appear, and what cannot be read is named, with who asked. A
    store that is away for a while costs no training.
    """
    monkeypatch.setattr(dask_module, "LOOK_SECONDS", 0.001)
    addresses: list[Any] = [Address(tmp_path / name) for name in ("source", "target", "unwritten")]
    addresses[0].path.write_bytes(b"ab")
    addresses[1].away = 2
    loans = (
        Loan("in.csv", addresses[0], "input1"),
        Loan("out.bin", addresses[1], written=True, made=True),
        Loan("none", addresses[2], written=True, made=True),
    )
    (tmp_path / "work").mkdir()
    result = perform(Payload(double, (*loans, 2)), tmp_path / "work")
    assert (result.value, result.written) == (".csv False", {"out.bin"})
    assert (addresses[1].path.read_bytes(), addresses[2].path.exists()) == (b"abab", False)
    addresses[0].path.unlink()
    with pytest.raises(RequestRejected, match=r"input1: It is not there\. The Dask worker on .* asked"):
        perform(Payload(double, (*loans, 2)), tmp_path / "work")


def lending(service: Service) -> Lending:
    """What lends blobs of a service."""
    return Lending(service.work._locations, service.settings.account, service.clock)


def test_a_task_shows_nothing_of_what_it_is_given(service: Service) -> None:
    """Dask writes tasks that fail into its log: no token, key or connection string is in there."""
    location = service.work._locations.resolve(WHOLE_STORE, service.put_blob("data/five.csv", "x"))
    payload = Payload(double, (Loan("five.csv", lending(service).lent(location), "input1"), "a secret"))
    assert "sig=" in payload.arguments[0].location.reference.url
    assert not {word for word in ("sig", "secret", service.settings.account_key) if word in repr(payload)}
    assert not {word for word in ("sig=", "secret") if word in repr(payload.arguments[0])}


def test_a_lent_blob_opens_alone_and_for_a_day(service: Service, clock: Clock) -> None:
    """Reading does not write, one blob does not open another, and a day later nothing is opened."""
    locations = service.work._locations
    lent = lending(service).lent(locations.resolve(WHOLE_STORE, service.put_blob("data/five.csv", "x")))
    token, account = lent.reference.sas_token, service.settings.account
    verify(account, token, "data", "five.csv", permission="r", now=clock())
    for blob, permission, hours in (("five.csv", "w", 0), ("six.csv", "r", 0), ("five.csv", "r", 25)):
        with pytest.raises(RequestRejected):
            verify(account, token, "data", blob, permission=permission, now=clock() + timedelta(hours=hours))


def test_nobody_is_lent_what_the_server_may_not_ask(service: Service) -> None:
    """An account that a client names is asked by workers within the same limits as by the server."""
    locations, key = service.work._locations, service.settings.account_key
    named = f"DefaultEndpointsProtocol=http;AccountName=evil;AccountKey={key};BlobEndpoint=http://169.254.169.254/evil"
    reference = BlobReference("data/five.csv", connection_string=named)
    with pytest.raises(RequestRejected, match="may not ask"):
        lending(service).lent(locations.resolve(WHOLE_STORE, reference)).check()


class Sender(DaskExecutor):
    """An engine without a cluster: what comes of its work is said."""

    def __init__(self, service: Service, result: Result | AzureMLClassicError) -> None:
        TaskExecutor.__init__(self, 1)
        self._lending, self._swept, self._said = lending(service), 0.0, result

    def _result(self, task: Task, payload: Payload) -> Result:
        if isinstance(self._said, Exception):
            raise self._said
        return self._said


def test_what_was_made_is_fetched_when_the_store_is_back(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not lost while the store is away for a moment; who cancels does not wait for it."""
    monkeypatch.setattr(dask_module, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(OwnLocation, "patience", 600.0)
    away = [2]

    def flaky(self: OwnLocation, target: Path, seconds: float = 0) -> None:
        if away[0]:
            away[0] -= 1
            raise rejection("NoMoreResources", "The store does not answer.")
        target.write_bytes(b"model")

    monkeypatch.setattr(OwnLocation, "fetch", flaky)
    sender, output = Sender(service, Result("done", frozenset({"m.bin"}))), Output(tmp_path / "m.bin")
    assert sender.run(Task(), double, (output,)) == "done"
    assert output.path.read_bytes() == b"model"
    away[0], stopped = 1_000_000, Task()
    stopped.set_running_or_notify_cancel()
    stopped.cancel()
    with pytest.raises(BrokenExecutor, match="stopped"):
        sender.run(stopped, double, (output,))


def test_of_an_input_that_is_gone_the_server_says_what_it_knows(service: Service, tmp_path: Path) -> None:
    """Such as why it has removed it, which no worker knows; other errors are a worker's own."""
    locations = service.work._locations
    locations._blobs.why_gone = lambda container, blob: " It was removed."
    location = locations.resolve(WHOLE_STORE, BlobReference("data/gone.csv"))
    argument = Input(tmp_path / "in.csv", location, "input1")
    for code, said in (("BlobNotFound", r"^input1: .*It was removed\."), ("InvalidBlob", r"^A worker's words\.")):
        with pytest.raises(RequestRejected, match=said):
            Sender(service, rejection(code, "A worker's words.")).run(Task(), double, (argument,))


def test_what_a_killed_server_lent_is_taken_back(service: Service) -> None:
    """When its addresses open it no more; what is lent now stays."""
    old, new = (service.put_blob(f"{WORK_CONTAINER}/{day}T000000Z-x/0/m.ilearner", "x") for day in (20160301, 20160303))
    lending(service).take_back("20160302T000000Z")
    assert not service.blobs.exists(*old.container_and_blob())
    assert service.blobs.exists(*new.container_and_blob())


def test_another_machine_needs_the_same_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a model could come out differently; the message names each difference."""
    monkeypatch.setattr(dask_module, "versions", lambda: {**versions(), "scikit-learn": "0.1"})
    dask_module._check({})
    with pytest.raises(RequestRejected, match=r"scikit-learn 0\.1 instead of"):
        dask_module.carry_out(Payload(abs, (-1,), versions()))
