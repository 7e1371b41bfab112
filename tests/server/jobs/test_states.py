"""The states of jobs under any order of calls, claims and deaths of servers, against a plain record of them."""

from __future__ import annotations

import base64
from collections import Counter
from datetime import timedelta
from inspect import signature
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from airflow_provider_azureml_classic.exceptions import NotFound, RequestRejected
from airflow_provider_azureml_classic.protocol.jobs import JobRequest, JobStatus
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.sas import StorageAccount, expiry_of
from airflow_provider_azureml_classic.server.blobs.store import BlobStore
from airflow_provider_azureml_classic.server.experiments import shipped_experiments
from airflow_provider_azureml_classic.server.jobs.arguments import Arguments
from airflow_provider_azureml_classic.server.jobs.jobs import Jobs
from airflow_provider_azureml_classic.server.settings import ACCOUNT
from airflow_provider_azureml_classic.server.state.database import Database
from airflow_provider_azureml_classic.server.state.endpoint_store import Store
from airflow_provider_azureml_classic.server.state.job_store import JobStore, requeue
from airflow_provider_azureml_classic.server.state.quota_store import QuotaStore
from airflow_provider_azureml_classic.server.state.tables import (
    ExperimentRow,
    ModelRow,
    SamplesRow,
    ServiceRow,
    servers,
)
from airflow_provider_azureml_classic.server.storage.allowed_hosts import Reach
from airflow_provider_azureml_classic.server.storage.locations import Locations
from airflow_provider_azureml_classic.server.workspace.catalogue import Catalogue
from airflow_provider_azureml_classic.server.workspace.endpoints import new_endpoint
from airflow_provider_azureml_classic.server.workspace.quotas import Quotas
from tests.support.service import Clock

#: Jobs of one endpoint that run at a time in this test; few, so that the limit is met.
MOST = 2
SERVERS = ("a" * 32, "b" * 32)
REQUEST = JobRequest({"": BlobReference("data/x.csv")}, {"output1": BlobReference("models/x.ilearner")})
_UNDECIDED = (JobStatus.NOT_STARTED, JobStatus.RUNNING)
SAMPLES = SamplesRow("c" * 64, "experimentoutput/x/x-samples.json")
FIRST = ModelRow("d" * 64, 1, 1, None, None, None, {})
RESULTS = {"output1": BlobReference("models/x.ilearner").to_wire()}


class Queue:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told = 0
        self.stopped: list[str] = []

    def poll(self) -> None:
        """Something waits."""
        self.told += 1

    def stop(self, job_id: str) -> None:
        """A job was cancelled."""
        self.stopped.append(job_id)


class JobStates(RuleBasedStateMachine):
    """Two endpoints, two servers, and a plain record of what every job should be."""

    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        folder = Path(self.folder.name)
        self.clock = Clock()
        self.database = Database(f"sqlite:///{folder / 'state.db'}", base64.urlsafe_b64encode(b"c" * 32).decode())
        self.store, self.job_store = Store(self.database), JobStore(self.database, self.clock, MOST)
        account = StorageAccount(ACCOUNT, base64.b64encode(b"k" * 64).decode(), f"http://s.test/{ACCOUNT}")
        locations = Locations(BlobStore(folder / "blobs", account), Reach(()), self.clock)
        catalogue = Catalogue(shipped_experiments(), self.store)
        self.queue = Queue()
        arguments = Arguments(catalogue, locations)
        quotas = Quotas(QuotaStore(self.database), locations, self.clock)
        self.core = Jobs(self.store, self.job_store, arguments, locations, self.queue, self.clock, quotas)
        self.states: dict[str, JobStatus] = {}
        self.owner: dict[str, int] = {}
        self.runs_on: dict[str, str] = {}
        self.waiting: list[str] = []
        self.order: list[str] = []

    @initialize()
    def two_endpoints(self) -> None:
        """A training service with two endpoints, and two live servers."""
        service = ServiceRow("5" * 32, "Census Model", "Census Model", True, self.clock())
        self.endpoints = [new_endpoint(service.id, name, self.clock()) for name in ("default", "other")]
        self.store.set_up_experiment(
            ExperimentRow("Census Model", "x", "{}"), [service], self.endpoints, FIRST, SAMPLES
        )
        with self.database.write() as connection:
            connection.execute(sa.insert(servers), [{"id": server, "beat": 0} for server in SERVERS])

    def teardown(self) -> None:
        """Leave nothing behind."""
        self.database.close()
        self.folder.cleanup()

    # -- what clients do -------------------------------------------------------------------------------------------

    @rule(target=jobs, endpoint=st.sampled_from([0, 1]))
    def submit(self, endpoint: int) -> str:
        """A job is registered and does nothing."""
        self.clock.advance(seconds=1)
        job = self.core.submit(self.endpoints[endpoint], REQUEST)
        self.states[job], self.owner[job] = JobStatus.NOT_STARTED, endpoint
        self.order.append(job)
        return job

    @rule(target=jobs, endpoint=st.sampled_from([0, 1]), count=st.integers(2, 4))
    def submit_and_start_several(self, endpoint: int, count: int) -> Any:
        """More than may run at a time, so that some have to wait."""
        made = [self.submit(endpoint) for _ in range(count)]
        # Started in another order than submitted.
        for job in reversed(made):
            self.start(job)
        return multiple(*made)

    @rule(server=st.sampled_from(SERVERS))
    def claim_all(self, server: str) -> None:
        """Until nothing is left that may run."""
        while self._claimed(server):
            pass

    @rule(job=jobs)
    def start(self, job: str) -> None:
        """Once only, and only what is NotStarted."""
        told = self.queue.told
        if self.states[job] is JobStatus.NOT_STARTED and job not in self.waiting:
            self.core.start(self.endpoints[self.owner[job]], job)
            self.waiting.append(job)
            assert self.queue.told == told + 1
            return
        with pytest.raises(RequestRejected, match=f"because it is in {self.states[job].value} state") as error:
            self.core.start(self.endpoints[self.owner[job]], job)
        assert error.value.detail_code == "CannotStartJob"
        assert self.queue.told == told

    @rule(job=jobs)
    def cancel(self, job: str) -> None:
        """In every state; what has ended stays as it is."""
        self.core.cancel(self.endpoints[self.owner[job]], job)
        assert (job in self.queue.stopped) is (self.states[job] in (JobStatus.CANCELLED, *_UNDECIDED))
        if not self.states[job].terminal:
            self.states[job] = JobStatus.CANCELLED
            self.runs_on.pop(job, None)
            self.waiting = [one for one in self.waiting if one != job]

    @rule(job=jobs)
    def ask_at_the_wrong_endpoint(self, job: str) -> None:
        """A job is its own endpoint's."""
        with pytest.raises(NotFound):
            self.core.get(self.endpoints[1 - self.owner[job]], job)

    @rule(hours=st.integers(1, 30))
    def time_passes(self, hours: int) -> None:
        """Tokens of earlier answers expire."""
        self.clock.advance(hours=hours)

    # -- what servers do -------------------------------------------------------------------------------------------

    @rule(server=st.sampled_from(SERVERS))
    def claim(self, server: str) -> None:
        """The first in the order of starting whose endpoint has room."""
        self._claimed(server)

    def _claimed(self, server: str) -> bool:
        running = Counter(self.owner[job] for job in self.runs_on)
        expected = next((job for job in self.waiting if running[self.owner[job]] < MOST), None)
        claimed = self.job_store.claim(server, self.clock())
        assert (claimed.id if claimed else None) == expected
        if expected:
            self.waiting.remove(expected)
            self.states[expected], self.runs_on[expected] = JobStatus.RUNNING, server
        return expected is not None

    @rule(job=jobs, server=st.sampled_from(SERVERS), good=st.booleans())
    def end(self, job: str, server: str, good: bool) -> None:
        """Only the server that runs a job may end it; one that was cancelled or taken over delivers nothing."""
        status = JobStatus.FINISHED if good else JobStatus.FAILED
        values: dict[str, Any] = {"results": RESULTS} if good else {"details": "InputParseError: bad"}
        allowed = self.runs_on.get(job) == server
        assert self.job_store.end(job, server, status, {**values, "end_time": self.clock()}, "End.") is allowed
        if allowed:
            self.states[job] = status
            del self.runs_on[job]

    @rule(server=st.sampled_from(SERVERS))
    def die(self, server: str) -> None:
        """Its jobs wait again at their old places, in front of those that were started later."""
        with self.database.write() as connection:
            returned = requeue(connection, sa.text("server_id = :server").bindparams(server=server))
        mine = [job for job, owner in self.runs_on.items() if owner == server]
        assert sorted(returned) == sorted(mine)
        for job in mine:
            del self.runs_on[job]
            self.states[job] = JobStatus.NOT_STARTED
        places = self._places()
        self.waiting = sorted([*self.waiting, *mine], key=places.__getitem__)

    def _places(self) -> dict[str, int]:
        with self.database.read() as connection:
            return {job: place for job, place in connection.execute(sa.text("SELECT id, place FROM jobs"))}

    # -- what always holds -------------------------------------------------------------------------------------------

    @invariant()
    def every_job_is_what_it_should_be(self) -> None:
        """State, results, details and times fit each other; tokens are fresh; the log has an end."""
        for job, status in self.states.items():
            shown = self.core.get(self.endpoints[self.owner[job]], job)
            assert shown.status is status
            assert bool(shown.results) is (status is JobStatus.FINISHED)
            assert (shown.details is not None) is (status is JobStatus.FAILED)
            assert (shown.end_time is not None) is status.terminal
            assert (shown.to_wire()["Results"] is None) is (status is not JobStatus.FINISHED)
            if status is JobStatus.NOT_STARTED:
                assert shown.start_time is None
            for place in shown.results.values():
                expiry = expiry_of(place.sas_token)
                assert expiry is not None
                assert expiry - self.clock() == timedelta(hours=24)
            assert shown.progress

    @invariant()
    def jobs_are_listed(self) -> None:
        """Each once, newest first, at its own endpoint."""
        for number, endpoint in enumerate(getattr(self, "endpoints", ())):
            listed = [job.id for job in self.core.page(endpoint, 500, None).jobs]
            assert listed == [job for job in reversed(self.order) if self.owner[job] == number]


JobStates.TestCase.settings = settings(database=None, deadline=None, max_examples=8, stateful_step_count=25)
TestJobStates = pytest.mark.slow(JobStates.TestCase)


def test_forty_jobs_of_an_endpoint_run_at_a_time() -> None:
    """The published number is what a server takes where nothing else is said."""
    assert signature(JobStore).parameters["most"].default == 40
