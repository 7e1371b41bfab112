"""Real server processes on a real PostgreSQL: what the user sees when it is there, when it is not, and when it goes."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests
import sqlalchemy as sa

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.client.retries import NO_RETRIES
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, RequestRejected, ServiceUnavailable
from airflow_provider_azureml_classic.protocol.jobs import JobRequest, JobStatus
from airflow_provider_azureml_classic.protocol.values import Endpoint, EndpointSettings
from airflow_provider_azureml_classic.server.state.database import Database
from airflow_provider_azureml_classic.server.state.endpoint_store import Store
from airflow_provider_azureml_classic.server.state.engine import DATABASE_VARIABLE, checked_url
from airflow_provider_azureml_classic.server.state.job_store import JobStore
from airflow_provider_azureml_classic.server.state.tables import (
    ExperimentRow,
    JobRow,
    ModelRow,
    SamplesRow,
    ServiceRow,
    servers,
)
from airflow_provider_azureml_classic.server.workspace.endpoints import new_endpoint
from tests.support import ServerProcess
from tests.support.postgres import PASSWORD, Cluster, cluster, free_port
from tests.support.processes import default_of, patch, refused, slope, trained, until
from tests.support.service import SCORING, TRAINING, declaration, line

pytestmark = pytest.mark.slow

#: Endpoints by the age of their models: mine has a window, the data of the first models no times.
AGES = [("fresh", "0"), ("stale", "0"), ("unknown", "1")]
Start = Callable[..., ServerProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a server on a database; whatever is left is stopped at the end."""
    declared = str(declaration(tmp_path, TRAINING))
    started: list[ServerProcess] = []

    def begin(url: str, *arguments: str, folder: str = "data") -> ServerProcess:
        environment = {DATABASE_VARIABLE: url}
        options = ("--experiments", declared, "--workers", "1", *arguments)
        started.append(ServerProcess(tmp_path / folder, *options, environment=environment))
        return started[-1]

    yield begin
    for server in started:
        server.stop()


def test_the_state_is_in_postgresql(postgres: Cluster, start: Start, tmp_path: Path) -> None:
    """Add, train, patch, regenerate, kill, restart: everything is there, nothing is in SQLite, no secret in the log."""
    url = postgres.new_database()
    first = start(url)
    with first.client() as client:
        mine = client.add_endpoint(client.find_web_service(SCORING).id, "mine", EndpointSettings(description="kept"))
        patch(client, mine, trained(first, client, line(6), "six"))
        before = client.get_endpoint(mine.web_service_id, "mine")
    first.kill()
    second = start(url)
    with second.client() as client:
        after = client.get_endpoint(mine.web_service_id, "mine")
        kept = ("name", "description", "primary_key", "secondary_key", "version", "etag", "creation_time")
        assert [getattr(after, name) for name in kept] == [getattr(before, name) for name in kept]
        assert slope(client, after) == 6
        headers = {"Authorization": f"Bearer {second.connection['token']}"}
        metrics = requests.get(f"{second.url}/metrics", headers=headers, timeout=60).text
        assert re.findall(r'azureml_classic_models{freshness="(\w+)"} (\d)', metrics) == AGES
        with pytest.raises(RequestRejected, match="character NUL"):
            client.add_endpoint(mine.web_service_id, "mine", EndpointSettings(description="a\0b"))
    assert not (tmp_path / "data" / "state.db").exists()
    assert second.stop() == 0
    log = second.log.read_text()
    assert PASSWORD not in log
    assert "Traceback" not in log


def test_servers_claim_no_more_jobs_than_may_run(postgres: Cluster) -> None:
    """Servers that claim at the same moment count each other's claims."""
    key, now = base64.urlsafe_b64encode(b"k" * 32).decode(), datetime(2026, 3, 1, tzinfo=UTC)
    database = Database(checked_url(postgres.new_database()), key)
    try:
        service = ServiceRow("5" * 32, "S", "E", True, now)
        endpoint = new_endpoint(service.id, "default", now)
        model = ModelRow("0" * 64, 1, 1, None, None, None, {})
        samples = SamplesRow("c", "x")
        Store(database).set_up_experiment(ExperimentRow("E", "x", "{}"), [service], [endpoint], model, samples)
        with database.write() as connection:
            connection.execute(sa.insert(servers), [{"id": "server", "beat": 0}])
        store = JobStore(database, lambda: now, 2)
        for number in range(12):
            job = f"{number:032}"
            row = JobRow(job, endpoint.id, JobStatus.NOT_STARTED, None, JobRequest(), None, None, now, None, None)
            store.add(row, "submitted")
            store.queue(job, endpoint.id, "queued")
        together = threading.Barrier(6)

        def claim(_: int) -> object:
            together.wait(30)
            return store.claim("server", now)

        with ThreadPoolExecutor(6) as pool:
            claimed = [row for row in pool.map(claim, range(6)) if row is not None]
        assert len(claimed) == 2
    finally:
        database.close()


def test_a_database_that_does_not_answer_is_told(postgres: Cluster, tmp_path: Path) -> None:
    """Nobody listens, a wrong password, no such database: each is one sentence with the place, not the password."""
    nobody = f"postgresql://tester:{PASSWORD}@127.0.0.1:{free_port()}/state"
    assert "cannot be used: connection failed" in refused(tmp_path / "a", nobody)
    wrong = postgres.url().replace(PASSWORD, "another")
    assert "password authentication failed" in refused(tmp_path / "b", wrong)
    assert 'database "none" does not exist' in refused(tmp_path / "c", postgres.url("none"))


def test_secrets_of_another_database_are_told(postgres: Cluster, start: Start, tmp_path: Path) -> None:
    """A second server with secrets of its own would fail at every call: it does not start."""
    url = postgres.new_database()
    start(url).stop()
    assert "encrypted with another key" in refused(tmp_path / "elsewhere", url)


def unanswered(client: Client, endpoint: Endpoint) -> AzureMLClassicError | None:
    """The error of a management call, if it has one."""
    try:
        client.get_endpoint(endpoint.web_service_id, endpoint.name)
    except AzureMLClassicError as error:
        return error
    return None


def test_a_database_that_goes_and_comes_back(start: Start) -> None:
    """While it is gone calls end with 503 and a published code; when it is back they are answered again."""
    with cluster() as own:
        server = start(own.new_database())
        with Client(
            server.url, server.connection["workspace_id"], server.connection["token"], retries=NO_RETRIES
        ) as client:
            endpoint = default_of(client, SCORING)
            own.stop()
            error = unanswered(client, endpoint)
            assert isinstance(error, ServiceUnavailable)
            assert (error.status, error.code, error.detail_code) == (503, "ServiceUnavailable", "NoMoreResources")
            own.start()
            until("the server answers again", lambda: unanswered(client, endpoint) is None)
        assert server.stop() == 0
    log = server.log.read_text()
    assert PASSWORD not in log
    assert "Traceback" not in log
