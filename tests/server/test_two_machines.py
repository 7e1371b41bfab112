"""Two servers without a common disk, as docs/deploy.md has them: PostgreSQL, Azure Storage, secrets as variables."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.protocol.jobs import JobRequest, JobStatus
from airflow_provider_azureml_classic.protocol.values import Endpoint
from tests.support import BIKES_SCORING, wait_for_job
from tests.support.azurite import HOME_KEY, Azurite
from tests.support.machines import TOKEN_OF_ALL, Machines
from tests.support.postgres import Cluster
from tests.support.processes import HELD, HELD_ESTIMATOR, default_of, patch, slope, soon, until
from tests.support.service import SCORING, TRAINING, declaration, line

pytestmark = pytest.mark.slow

NOON = {
    "season": 2, "yr": 3, "mnth": 5, "hr": 12, "holiday": 0, "weekday": 3, "workingday": 1, "weathersit": 1,
    "temp": 0.6, "atemp": 0.6, "hum": 0.5, "windspeed": 0.2,
}  # fmt: skip


@pytest.fixture
def machines(postgres: Cluster, tmp_path: Path) -> Iterator[Machines]:
    """Two servers with empty disks, started at once."""
    azurite = Azurite()
    declared = declaration(tmp_path, TRAINING)
    declared.write_text(declared.read_text() + HELD)
    (tmp_path / "held_estimator.py").write_text(HELD_ESTIMATOR)
    made = Machines(tmp_path, postgres.new_database(), azurite)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(made.start, "ab"))
    yield made
    for server in made.servers.values():
        server.stop()
        log = server.log.read_text()
        assert HOME_KEY not in log
        assert TOKEN_OF_ALL not in log
    azurite.stop()


@pytest.mark.long
def test_two_machines_serve_as_one_and_no_disk_is_needed(machines: Machines) -> None:
    """What is done through one is seen on the other; one is killed and the other finishes its job; with both disks
    lost a new machine answers with every endpoint's model.
    """
    machines.azurite.put("data/five.csv", line(5), machines.azurite.home)
    with machines.client("a") as a, machines.client("b") as b:
        trainer = default_of(a, TRAINING)
        mine = a.add_endpoint(a.find_web_service(SCORING).id, "mine")
        assert slope(b, machines.at("b", mine)) == 2
        model = trained_through_both(machines, a, b, trainer)
        patch(a, mine, model)
        with soon("the other machine serves the new model") as check:
            check(lambda: slope(b, machines.at("b", mine)) == 5)
        noon = a.score(default_of(a, BIKES_SCORING), [NOON]).values
        survive(machines, a, b)
    assert machines.servers["b"].stop() == 0
    for name in "ab":
        shutil.rmtree(machines.folder / name)
    alone = machines.start("c")
    assert "training the first model" not in alone.log.read_text()
    with machines.client("c") as c:
        again = c.get_endpoint(mine.web_service_id, "mine")
        assert again.primary_key == mine.primary_key
        assert slope(c, machines.at("c", again)) == 5
        assert slope(c, machines.at("c", default_of(c, SCORING))) == 2
        assert slope(c, machines.at("c", default_of(c, "Held [predictive exp.]"))) == 2
        assert c.score(machines.at("c", default_of(c, BIKES_SCORING)), [NOON]).values == noon


def trained_through_both(machines: Machines, a: Client, b: Client, trainer: Endpoint) -> object:
    """Submit a job to one, start it through the other: it runs once. Returns its model."""
    there = machines.at("b", trainer)
    job_id = a.submit_job(
        trainer, JobRequest({"input1": machines.azurite.put("data/five.csv", line(5), machines.azurite.home)})
    )
    b.start_job(there, job_id)
    job = wait_for_job(b, there, job_id)
    assert (job.status, job.details) == (JobStatus.FINISHED, None)
    assert a.get_job(trainer, job_id).status is JobStatus.FINISHED
    assert machines.ended(job_id) == 1
    return job.results["output1"]


def survive(machines: Machines, a: Client, b: Client) -> None:
    """Each machine runs a job when the first one is killed: the second one finishes both."""
    trainer = default_of(a, "Held")
    data = machines.azurite.put("data/five.csv", line(5), machines.azurite.home)
    (machines.folder / "hold").touch()
    ids = [a.submit_job(trainer, JobRequest({"input1": data})) for _ in "ab"]
    for job_id in ids:
        a.start_job(trainer, job_id)
    there = machines.at("b", trainer)
    for job_id in ids:
        until("both run", lambda job_id=job_id: b.get_job(there, job_id).status is JobStatus.RUNNING)
    machines.servers["a"].kill()
    (machines.folder / "hold").unlink()
    assert [wait_for_job(b, there, job_id).status for job_id in ids] == [JobStatus.FINISHED] * 2
    assert [machines.ended(job_id) for job_id in ids] == [1, 1]
    assert machines.servers["b"].log.read_text().count("was running when its server stopped; it runs again") == 1
