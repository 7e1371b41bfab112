"""What ``make celery`` says, without Celery: what it has seen of a DAG run, and whether the fleet ended right."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from airflow_provider_azureml_classic.protocol.jobs import Job, JobStatus
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint, Resource
from demo.celery.processes import WORKERS, Components
from demo.celery.watch import Outcome, Watch

DAGS = Path(__file__).parents[2] / "demo" / "celery" / "dags"


def test_deferred_chunk_holds_no_slot() -> None:
    """A slot is held while the task runs; the time in the triggerer counts as wall time only."""
    watch = Watch()
    for now, state, worker in [
        (0.0, "queued", None),
        (1.0, "running", "worker-1"),
        (2.0, "running", "worker-1"),
        (8.0, "deferred", "worker-1"),
        (9.0, "running", "worker-2"),
        (10.0, "success", "worker-2"),
        (99.0, "success", "worker-2"),
    ]:
        watch.look([("retrain", 0, state, worker, 1)], now)
    [part] = watch.parts.values()
    assert (part.held, part.wall, part.workers, part.attempts) == (3.0, 10.0, ["worker-1", "worker-2"], 1)
    assert watch.held == 3.0
    assert watch.table("retrain")[1].split() == ["0", "success", "1", "10.0", "3.0", "30%", "worker-1,", "worker-2"]


def test_time_between_two_looks() -> None:
    """A chunk that was in a worker between two looks was at work from then on."""
    watch = Watch()
    for now, state, worker in [(0.0, "queued", ""), (1.0, "deferred", "worker-1"), (3.0, "success", "worker-1")]:
        watch.look([("retrain", 0, state, worker, 1)], now)
    [part] = watch.parts.values()
    assert (part.held, part.wall, part.workers) == (0.0, 3.0, ["worker-1"])


def test_table_is_of_one_mapped_task() -> None:
    """Other tasks, and those that are not mapped, have no line; all of them hold slots."""
    watch = Watch()
    for now in (0.0, 2.0):
        watch.look([("chunks", -1, "running", "worker-1", 1), ("retrain", 1, "running", "worker-2", 2)], now)
    assert [line.split()[0] for line in watch.table("retrain")] == ["chunk", "1"]
    assert watch.held == 4.0


def endpoint(name: str, model: str | None) -> Endpoint:
    """An endpoint with the model that was trained for this one."""
    place = BlobReference(f"models/{model}/20260301T000000Z.ilearner") if model else None
    return Endpoint(name, resources=(Resource("model", place),))


def jobs(*states: JobStatus) -> list[Job]:
    """Jobs in these states."""
    return [Job(f"{number:032x}", status) for number, status in enumerate(states)]


FINISHED, IDLE = JobStatus.FINISHED, JobStatus.NOT_STARTED


@pytest.mark.parametrize(
    ("models", "states", "right", "said"),
    [
        (["c0", "c1"], [FINISHED, FINISHED], True, "2 of 2 endpoints have a model of their own; 2 jobs were started."),
        (["c0", "c0"], [FINISHED, FINISHED], False, "1 of 2 endpoints"),
        (["c0", None], [FINISHED, FINISHED], False, "1 of 2 endpoints"),
        (["c0", "c1"], [FINISHED, FINISHED, FINISHED], False, "3 jobs were started."),
        (
            ["c0", "c1"],
            [FINISHED, FINISHED, IDLE],
            True,
            "2 jobs were started (1 more were submitted and never started)",
        ),
    ],
    ids=["right", "another's", "none", "twice", "idle"],
)
def test_outcome(models: list[str | None], states: list[JobStatus], right: bool, said: str) -> None:
    """Right is one started job, and one model of its own, for each endpoint of the fleet; others do not count."""
    endpoints = [endpoint(f"c{number}", model) for number, model in enumerate(models)]
    outcome = Outcome.of(["c0", "c1"], [*endpoints, endpoint("other", "other")], jobs(*states))
    assert outcome.right is right
    assert said in str(outcome)


def loaded(name: str) -> ModuleType:
    """A DAG file."""
    spec = importlib.util.spec_from_file_location(name, DAGS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_chunks_are_the_fleet() -> None:
    """Both ways with chunks divide the same number of endpoints, none twice; only one of them defers."""
    from demo.celery.__main__ import ENDPOINTS, WAYS

    workers, ways = loaded("fleet_chunks"), loaded("fleet_ways")
    for cut, task, defers in ((workers.chunks, workers.retrain, False), (ways.parts, ways.deferred, True)):
        names = [item["endpoint"] for part in cut.function() for item in part]
        assert sorted(names) == sorted(f"{WAYS[task.dag_id]}{number}" for number in range(ENDPOINTS))
        assert task.partial_kwargs["deferrable"] is defers


@pytest.mark.slow
def test_killed_worker_leaves_nothing(tmp_path: Path) -> None:
    """A worker is killed with its children, those in process groups of their own included."""
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
        "print(child.pid, flush=True)\n"
        "child.wait()\n"
    )
    worker = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=tmp_path)
    assert worker.stdout is not None
    child = psutil.Process(int(worker.stdout.readline()))
    components = Components.__new__(Components)
    components._workers = {WORKERS[0]: worker}
    components.kill(WORKERS[0])
    assert worker.wait(30) == -9
    psutil.wait_procs([child], timeout=30)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert components._workers == {}
    worker.stdout.close()
