"""Two real server processes on one PostgreSQL and one data directory."""

from __future__ import annotations

import base64
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.protocol.customers import Quota
from airflow_provider_azureml_classic.protocol.jobs import JobRequest, JobStatus
from airflow_provider_azureml_classic.protocol.keys import MAX_KEYS, KeyKind, KeyType
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.server.state.database import Database
from airflow_provider_azureml_classic.server.state.engine import DATABASE_VARIABLE, checked_url
from airflow_provider_azureml_classic.server.state.quota_store import QuotaStore
from tests.support import ServerProcess, wait_for_job
from tests.support.postgres import Cluster, Forwarder, cluster
from tests.support.processes import HELD, HELD_ESTIMATOR, default_of, patch, slope, soon, until
from tests.support.service import SCORING, TRAINING, declaration, line
from tests.support.two_servers import Pair

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ready(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two servers with the models of slopes 3 and 10 in their store, on a PostgreSQL that may be stopped."""
    folder = tmp_path_factory.mktemp("pair")
    declared = declaration(folder, TRAINING)
    declared.write_text(declared.read_text() + HELD)
    (folder / "held_estimator.py").write_text(HELD_ESTIMATOR)
    with cluster() as own:
        pair = Pair(folder, own)
        shutil.copytree(trained / "data" / "blobs" / "models", folder / "data" / "blobs" / "models")
        yield pair
        pair.close()


def test_what_one_changes_the_other_serves(ready: Pair) -> None:
    """Add, PATCH, regenerate and delete through one server: within two seconds the other answers accordingly."""
    with ready.client("a") as a, ready.client("b") as b:
        mine = a.add_endpoint(a.find_web_service(SCORING).id, "shared")
        assert [ready.answer(name, mine) for name in "abab"] == [2, 2, 2, 2]
        for number, (client, other) in enumerate([(a, "b"), (b, "a"), (a, "b")]):
            name, wanted = (("three", 3), ("ten", 10))[number % 2]
            patch(client, mine, BlobReference(f"models/{name}.ilearner"))
            with soon("the other server serves the new model") as check:
                check(lambda other=other, wanted=wanted: ready.answer(other, mine) == wanted)
        after = a.regenerate_key(mine.web_service_id, "shared", KeyType.PRIMARY)
        with soon("the other server refuses the old key") as check:
            check(lambda: ready.answer("b", mine) == 401)
        assert ready.answer("b", after) == 3
        b.delete_endpoint(mine.web_service_id, "shared")
        with soon("the other server has no such endpoint") as check:
            check(lambda: ready.answer("a", after) == 401)


def test_a_server_that_hears_nothing_serves_nothing_old(ready: Pair) -> None:
    """The connection for notifications is open and silent: within two seconds the database is asked for each call."""
    between = Forwarder(ready.cluster.port)
    ready.servers["b"].stop()
    ready.start("b", ready.database.replace(f":{ready.cluster.port}/", f":{between.port}/"))
    with ready.client("a") as a:
        mine = a.add_endpoint(a.find_web_service(SCORING).id, "silent")
        assert ready.answer("b", mine) == 2
        between.silent.set()
        patch(a, mine, BlobReference("models/ten.ilearner"))
        with soon("the other server serves the new model") as check:
            check(lambda: ready.answer("b", mine) == 10)
        between.silent.clear()
        patch(a, mine, BlobReference("models/three.ilearner"))
        with soon("the other server serves the newest model") as check:
            check(lambda: ready.answer("b", mine) == 3)
    ready.servers["b"].stop()
    between.close()
    ready.start("b")


def test_what_both_change_at_once_is_one(ready: Pair) -> None:
    """A named key that both make again and again is the last one alone, and none of an endpoint's keys is one too many;
    a quota that is set by several is one of theirs.
    """
    with ready.client("a") as a, ready.client("b") as b, ThreadPoolExecutor(8) as pool, ExitStack() as stack:
        mine = a.add_endpoint(a.find_web_service(SCORING).id, "both")

        def make(number: int) -> str:
            client, name = (a, b)[number % 2], f"k{max(0, number - 15)}"
            try:
                made = client.make_key(mine.web_service_id, "both", name, KeyKind.SCORE)
            except RequestRejected:
                return ""
            return made.secret if name == "k0" else ""

        secrets = list(filter(None, pool.map(make, range(70))))
        rows = a.list_keys(mine.web_service_id, "both")
        assert len({row.name for row in rows}) == len(rows) == MAX_KEYS
        with soon("one of those who were called so is left") as check:
            check(lambda: sorted(ready.answer("b", mine, key) for key in secrets) == [2] + [401] * 15)
        key = base64.urlsafe_b64encode(b"k" * 32).decode()
        database = stack.enter_context(closing(Database(checked_url(ready.database), key)))
        quotas = QuotaStore(database)
        list(pool.map(lambda most: quotas.set_quota("c", Quota(jobs_a_day=most)), range(40)))
        assert quotas.quota("c").jobs_a_day in range(40)


def test_a_job_runs_once_in_the_order_of_starts(ready: Pair) -> None:
    """Twelve jobs, started through both: each runs once, on either server, and they begin in the order of starts."""
    with ready.client("a") as a, ready.client("b") as b:
        trainer = default_of(a, TRAINING)
        a.store_blob(ready.servers["a"].sas("data/five.csv", "cw"), line(5).encode())
        ids = []
        for number in range(12):
            client = (a, b)[number % 2]
            ids.append(client.submit_job(at(ready, trainer, "ab"[number % 2]), JobRequest({"input1": place("five")})))
            client.start_job(at(ready, trainer, "ab"[number % 2]), ids[-1])
        ended = [wait_for_job(a, trainer, job_id) for job_id in ids]
    assert {job.status for job in ended} == {JobStatus.FINISHED}
    begun = [job.start_time for job in ended]
    assert begun == sorted(begun)  # type: ignore[type-var]
    logs = ready.servers["a"].log.read_text()
    assert [logs.count(f"job {job_id} Finished") for job_id in ids] == [1] * len(ids)


def place(name: str) -> BlobReference:
    """A CSV file in the own store."""
    return BlobReference(f"data/{name}.csv")


def at(pair: Pair, endpoint: Endpoint, name: str) -> Endpoint:
    """The endpoint as seen through one of the servers."""
    return replace(endpoint, api_location=endpoint.api_location.replace(pair.url("a"), pair.url(name)))


def test_the_living_server_takes_over(ready: Pair) -> None:
    """Kill the server that runs a job: the other one runs it again, and removes what was left."""
    with ready.client("b") as b:
        ready.servers["a"].kill()
        trainer = at(ready, default_of(b, "Held"), "b")
        b.store_blob(at_b(ready, "data/five.csv"), line(5).encode())
        (ready.folder / "hold").touch()
        (ready.folder / "reached").unlink(missing_ok=True)
        ids = [b.submit_job(trainer, JobRequest({"input1": place("five")})) for _ in range(2)]
        for job_id in ids:
            b.start_job(trainer, job_id)
        until("the training has begun on b", (ready.folder / "reached").exists)
        a = ready.start("a")
        until("the other job runs on a", lambda: b.get_job(trainer, ids[1]).status is JobStatus.RUNNING)
        with psycopg.connect(ready.database) as connection:
            query = "SELECT server_id FROM jobs WHERE id = %s"
            (owner,), (other,) = (connection.execute(query, (job_id,)).fetchone() or () for job_id in ids[::-1])
        assert owner != other
        left = ready.folder / "data" / "blobs" / ".tmp" / f"{owner}-left"
        left.write_bytes(b"half")
        a.kill()
        (ready.folder / "hold").unlink()
        jobs = [wait_for_job(b, trainer, job_id) for job_id in ids]
        assert [job.status for job in jobs] == [JobStatus.FINISHED] * 2
        until("what the dead server left is removed", lambda: not left.exists())
        log = a.log.read_text()
        assert f"server {owner} has died" in log
        assert f"job {ids[1]} was running when its server stopped; it runs again" in log
        ready.start("a")


def at_b(pair: Pair, path: str) -> BlobReference:
    """A place in the own store, reached through ``b``."""
    reference = pair.servers["b"].sas(path, "cw")
    return replace(reference, base_location=reference.base_location.replace(pair.url("a"), pair.url("b")))


def test_cancelling_through_the_other_server(ready: Pair) -> None:
    """A running job is cancelled where it does not run: it ends so, and delivers nothing."""
    with ready.client("a") as a, ready.client("b") as b:
        trainer = default_of(a, "Held")
        (ready.folder / "hold").touch()
        (ready.folder / "reached").unlink(missing_ok=True)
        target = BlobReference("models/cancelled.ilearner")
        job_id = a.submit_job(trainer, JobRequest({"input1": place("five")}, {"output1": target}))
        a.start_job(trainer, job_id)
        until("the training has begun", (ready.folder / "reached").exists)
        with psycopg.connect(ready.database) as connection:
            (count,) = connection.execute("SELECT count(*) FROM servers").fetchone() or (0,)
        assert count == 2
        for client, name in ((a, "a"), (b, "b")):
            client.cancel_job(at(ready, trainer, name), job_id)
        (ready.folder / "hold").unlink()
        done = a.submit_job(trainer, JobRequest({"input1": place("five")}))
        a.start_job(trainer, done)
        assert wait_for_job(a, trainer, done).status is JobStatus.FINISHED
        assert a.get_job(trainer, job_id).status is JobStatus.CANCELLED
        assert not (ready.folder / "data" / "blobs" / "models" / "cancelled.ilearner").exists()


def test_a_server_that_comes_back_does_not_publish(ready: Pair) -> None:
    """What a server does when it wakes up counts no more, if it was taken for dead while it ran a job."""
    log = ready.servers["a"].log
    with ready.client("a") as a:
        trainer = default_of(a, "Held")
        (ready.folder / "hold").touch()
        (ready.folder / "reached").unlink(missing_ok=True)
        a.store_blob(ready.servers["a"].sas("data/five.csv", "cw"), line(5).encode())
        job_id = a.submit_job(trainer, JobRequest({"input1": place("five")}))
        a.start_job(trainer, job_id)
        until("the training has begun", (ready.folder / "reached").exists)
    asleep = suspended(ready, job_id)
    awake = "b" if asleep == "a" else "a"
    (ready.folder / "hold").unlink()
    with ready.client(awake) as client:
        there = at(ready, trainer, awake)
        job = wait_for_job(client, there, job_id)
        assert job.status is JobStatus.FINISHED, job.details
        said = log.read_text().count("took this one for dead")
        ready.servers[asleep].process.send_signal(signal.SIGCONT)
        until("it knows that it was taken for dead", lambda: log.read_text().count("took this one for dead") > said)
        until("both live again", lambda: living(ready) == 2)
        # Its training had ended meanwhile; the next job shows that it is through with it.
        again = client.submit_job(there, JobRequest({"input1": place("five")}))
        client.start_job(there, again)
        assert wait_for_job(client, there, again).status is JobStatus.FINISHED
        now = client.get_job(there, job_id)
    assert (now.status, now.start_time, now.end_time) == (job.status, job.start_time, job.end_time)
    assert log.read_text().count(f"job {job_id} Finished") == 1


def suspended(pair: Pair, job_id: str) -> str:
    """Suspend the server that runs a job, until it is taken for dead; returns its name."""
    with psycopg.connect(pair.database) as connection:
        (owner,) = connection.execute("SELECT server_id FROM jobs WHERE id = %s", (job_id,)).fetchone() or ("",)
    for name, server in pair.servers.items():
        server.process.send_signal(signal.SIGSTOP)
        until("the other one lives alone", lambda: living(pair) == 1, 60)
        if f"server {owner} has died" in server.log.read_text():
            return name
        # The wrong one: nothing in the database tells processes apart.
        server.process.send_signal(signal.SIGCONT)
        until("both live again", lambda: living(pair) == 2)
    raise AssertionError("no server ran the job")


def living(pair: Pair) -> int:
    """How many servers are in the table."""
    with psycopg.connect(pair.database) as connection:
        return (connection.execute("SELECT count(*) FROM servers").fetchone() or (0,))[0]


def test_two_first_starts_at_once(tmp_path: Path, postgres: Cluster) -> None:
    """Secrets, tables and first models are made once; both servers serve the same."""
    declared = str(declaration(tmp_path, TRAINING))
    environment = {DATABASE_VARIABLE: postgres.new_database()}
    options = ("--experiments", declared, "--workers", "1")
    with ThreadPoolExecutor(2) as threads:
        starts = [threads.submit(ServerProcess, tmp_path / "data", *options, environment=environment) for _ in range(2)]
    servers = [start.result() for start in starts]
    try:
        assert (servers[0].log.read_text()).count("training the first model of 'Line'") == 1
        found = []
        for server in servers:
            url = server.first_line.split()[-1]
            with Client(url, server.connection["workspace_id"], server.connection["token"]) as client:
                endpoint = default_of(client, SCORING)
                found.append((endpoint.primary_key, slope(client, endpoint)))
        assert found[0] == found[1]
    finally:
        for server in servers:
            assert server.stop() == 0


def test_a_lost_database_ends_what_is_remembered(ready: Pair) -> None:
    """While the database is gone a server answers 503, not the model that it last saw."""
    with ready.client("a") as a:
        mine = a.add_endpoint(a.find_web_service(SCORING).id, "lost")
    assert [ready.answer(name, mine) for name in "ab"] == [2, 2]
    ready.cluster.stop()
    until("neither answers from memory", lambda: [ready.answer(name, mine) for name in "ab"] == [503, 503])
    ready.cluster.start()
    until("both answer again", lambda: [ready.answer(name, mine) for name in "ab"] == [2, 2])
