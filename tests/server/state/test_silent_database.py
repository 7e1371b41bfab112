"""A database that accepts what it is sent and answers nothing, or cannot be written: no call hangs, nothing is lost."""

from __future__ import annotations

import json
import resource
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import psycopg
import pytest

from airflow_provider_azureml_classic.client.retries import NO_RETRIES
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError
from airflow_provider_azureml_classic.protocol.jobs import JobRequest, JobStatus
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint, EndpointSettings
from airflow_provider_azureml_classic.server.state.engine import DATABASE_VARIABLE
from airflow_provider_azureml_classic.server.web.threads import DATABASE_THREADS
from tests.support import ServerProcess, wait_for_job
from tests.support.postgres import Cluster, Forwarder
from tests.support.processes import HELD, HELD_ESTIMATOR, default_of, refused, slope, until
from tests.support.service import SCORING, TRAINING, declaration, line

pytestmark = pytest.mark.slow

DOWN = (503, "ServiceUnavailable", "NoMoreResources")


class Site:
    """A server and a client that asks once.

    :param folder: for its files.
    :param database: address of its PostgreSQL; empty for SQLite.
    :param direct: the same, past the forwarder.
    """

    def __init__(self, folder: Path, database: str = "", direct: str = "") -> None:
        self.folder, self.direct = folder, direct
        declared = declaration(folder, TRAINING)
        declared.write_text(declared.read_text() + HELD)
        (folder / "held_estimator.py").write_text(HELD_ESTIMATOR)
        environment = {DATABASE_VARIABLE: database}
        arguments = ("--experiments", str(declared), "--workers", "1")
        self.server = ServerProcess(folder / "data", *arguments, environment=environment)
        self.client = self.server.client(retries=NO_RETRIES, timeout=60)
        self.mine = self.client.add_endpoint(self.client.find_web_service(SCORING).id, "mine")
        assert slope(self.client, self.mine) == 2

    def error(self, description: str = "") -> tuple[int | None, str | None, str | None] | None:
        """The error of a call that reads the database, or of one that writes it; a call that hangs has no status."""
        try:
            if description:
                self.client.patch_endpoint(self.mine, EndpointSettings(description=description))
            else:
                self.client.get_endpoint(self.mine.web_service_id, "mine")
        except AzureMLClassicError as error:
            return error.status, error.code, error.detail_code
        return None

    def health(self, path: str) -> tuple[int, str]:
        """Status and body of an answer to those who run it."""
        try:
            with urlopen(f"{self.server.url}/{path}", timeout=60) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()

    def close(self) -> None:
        """Stop it, as an operator would."""
        self.client.close()
        assert self.server.stop() == 0
        assert "Traceback" not in self.server.log.read_text()


@pytest.fixture
def between(postgres: Cluster) -> Iterator[Forwarder]:
    """What stands between server and PostgreSQL."""
    made = Forwarder(postgres.port)
    yield made
    made.close()


@pytest.fixture
def behind(postgres: Cluster, between: Forwarder, tmp_path: Path) -> Iterator[Site]:
    """A server that reaches PostgreSQL through it."""
    url = postgres.new_database()
    made = Site(tmp_path, url.replace(f":{postgres.port}/", f":{between.port}/"), url)
    yield made
    between.frozen.clear()
    made.close()


def training(site: Site) -> tuple[Endpoint, str]:
    """A job whose training has begun, and waits to be let go on."""
    trainer = default_of(site.client, "Held")
    site.server.upload("data/five.csv", line(5))
    (site.folder / "hold").touch()
    job_id = site.client.submit_job(trainer, JobRequest({"input1": BlobReference("data/five.csv")}))
    site.client.start_job(trainer, job_id)
    until("the training has begun", (site.folder / "reached").exists)
    return trainer, job_id


def test_a_silent_database_hangs_nothing(behind: Site, between: Forwarder) -> None:
    """As many calls as there are threads wait for it, one in a statement: what needs no database is answered
    meanwhile, they end with 503, later ones do not wait, and all goes on by itself when it speaks again.
    """
    trainer, job_id = training(behind)
    with ThreadPoolExecutor(DATABASE_THREADS) as threads, psycopg.connect(behind.direct) as other:
        other.execute("LOCK TABLE endpoints")
        calls: list[Future[object]] = [threads.submit(behind.error, "in a statement")]
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        until("it is in a statement", lambda: (other.execute(waiting).fetchone() or (0,))[0] > 0)
        between.frozen.set()
        calls += [threads.submit(behind.error) for _ in range(DATABASE_THREADS - 1)]
        assert behind.health("healthz") == (200, "ok\n")
        behind.server.upload("data/meanwhile.csv", line(5))
        assert not any(call.done() for call in calls)
        other.rollback()
        assert [call.result() for call in calls] == [DOWN] * DATABASE_THREADS
    assert behind.health("healthz") == (200, "ok\n")
    status, said = behind.health("readyz")
    assert (status, json.loads(said)["database"]) == (503, "failed")
    (behind.folder / "hold").unlink()
    between.frozen.clear()
    until("it answers again", lambda: behind.error() is None)
    until("it is ready again", lambda: behind.health("readyz")[0] == 200)
    assert slope(behind.client, behind.mine) == 2
    job = wait_for_job(behind.client, trainer, job_id)
    assert (job.status, job.details) == (JobStatus.FINISHED, None)
    assert behind.server.log.read_text().count(f"job {job_id} Finished") == 1


@pytest.mark.long
def test_who_comes_later_does_not_wait(behind: Site, between: Forwarder) -> None:
    """Once it is known, more calls than there are threads are answered by no more attempts than one a second."""
    between.frozen.set()
    assert behind.error() == DOWN
    with ThreadPoolExecutor(20) as threads:
        found = list(threads.map(lambda _: behind.error(), range(400)))
    assert found == [DOWN] * 400
    attempts = behind.server.log.read_text().count("ERROR airflow_provider_azureml_classic.server.state.database")
    assert attempts < 40


@pytest.mark.long
def test_a_dead_connection_is_replaced(behind: Site, postgres: Cluster, between: Forwarder) -> None:
    """Pooled connections say nothing, new ones do: the call takes a new one."""
    assert behind.error() is None
    between.deafen()
    until("it answers", lambda: behind.error() is None)


@contextmanager
def silent_listener() -> Iterator[int]:
    """A port that accepts, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


def test_a_start_with_a_silent_listener_ends(postgres: Cluster, tmp_path: Path) -> None:
    """Something listens there that is no database."""
    with silent_listener() as port:
        said = refused(tmp_path / "data", postgres.url().replace(f":{postgres.port}/", f":{port}/"))
    assert f"the database 127.0.0.1:{port}/postgres cannot be used: connection timeout expired" in said


@pytest.mark.parametrize(
    ("last_words", "said"),
    [(b"alembic_version", "cannot be used: no answer for"), (b"endpoints.primary_key", "does not answer")],
)
def test_a_start_with_a_database_that_falls_silent_ends(
    postgres: Cluster, between: Forwarder, tmp_path: Path, last_words: bytes, said: str
) -> None:
    """It speaks at first, and says nothing from some statement on."""
    between.freeze_at = last_words
    url = postgres.new_database().replace(f":{postgres.port}/", f":{between.port}/")
    assert said in refused(tmp_path / "data", url)


# -- SQLite ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Site]:
    """A server on SQLite."""
    made = Site(tmp_path)
    yield made
    made.close()


LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.mark.long
def test_a_database_that_another_process_has_locked(own: Site) -> None:
    """Many wait to write and get 503; reading and scoring go on; all is well when it is free again."""
    command = [sys.executable, "-c", LOCK, str(own.folder / "data" / "state.db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        with ThreadPoolExecutor(DATABASE_THREADS - 1) as threads:
            calls = [threads.submit(own.error, "too late") for _ in range(DATABASE_THREADS - 1)]
            assert own.error() is None
            assert slope(own.client, own.mine) == 2
            assert not any(call.done() for call in calls)
            assert {call.result() for call in calls} == {DOWN}
        other.communicate()
    assert own.error("in time") is None
    assert own.client.get_endpoint(own.mine.web_service_id, "mine").description == "in time"


def test_a_disk_that_takes_no_more(own: Site) -> None:
    """What cannot be written is answered with 503; what was answered before is there; with room it goes on."""
    assert own.error("before") is None
    process = own.server.process.pid
    unlimited = resource.prlimit(process, resource.RLIMIT_FSIZE)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (1, unlimited[1]))
    assert own.error("no room") == DOWN
    assert slope(own.client, own.mine) == 2
    assert own.client.get_endpoint(own.mine.web_service_id, "mine").description == "before"
    resource.prlimit(process, resource.RLIMIT_FSIZE, unlimited)
    assert own.error("after") is None
    assert own.client.get_endpoint(own.mine.web_service_id, "mine").description == "after"
    with sqlite3.connect(own.folder / "data" / "state.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
