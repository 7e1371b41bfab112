"""A fleet of N endpoints against the training alone, and against one endpoint after the other.

``python -m benchmarks.fleet_scale --endpoints 1000 --rows 1000``: prints a table, writes JSON. The training alone is
measured before and after the fleet, so that a machine that is busy with other things shows.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.protocol.jobs import JobRequest
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import EndpointSettings, Resource
from tests.support import BIKES, BIKES_SCORING, ServerProcess

NAMES = "dteday,season,yr,mnth,hr,holiday,weekday,workingday,weathersit,temp,atemp,hum,windspeed,cnt"


def data(number: int, rows: int) -> str:
    """Training data of one endpoint, unlike that of every other."""
    draw = random.Random(number)
    lines = [
        f"2026-01-{1 + n // 24 % 28:02},{1 + n % 4},0,{1 + n % 12},{n % 24},0,{n % 7},1,1,{draw.random():.2f},"
        f"{draw.random():.2f},{draw.random():.2f},0.2,{100 + number % 50 + n % 24 * 10 + draw.gauss(0, 5):.0f}"
        for n in range(rows)
    ]
    return "\n".join([NAMES, *lines, ""])


def train_one(path: str) -> float:
    """Seconds that one training takes, as in the server's own processes."""
    from airflow_provider_azureml_classic.server.experiments.declaration import shipped_experiments
    from airflow_provider_azureml_classic.server.experiments.training import train

    experiment = next(one for one in shipped_experiments() if one.name == BIKES)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        train(experiment, None, Path(path), Path(folder) / "model.ilearner", Path(folder) / "evaluation.csv")
        return time.perf_counter() - started


def cpu_alone(files: list[str]) -> float:
    """CPU seconds of one training."""
    train_one(files[0])
    started = time.process_time()
    for path in files:
        train_one(path)
    return (time.process_time() - started) / len(files)


def training_alone(files: list[str], cores: int) -> float:
    """Seconds of wall time for one training, with as many processes as cores, all busy."""
    with ProcessPoolExecutor(cores, mp_context=get_context("forkserver")) as pool:
        list(pool.map(train_one, files[: 2 * cores]))
        started = time.perf_counter()
        list(pool.map(train_one, files))
        return (time.perf_counter() - started) / len(files)


def cpu_of(process: psutil.Process) -> float:
    """CPU seconds of a process and those below it: what a busy machine does not change."""
    family = [process, *process.children(recursive=True)]
    return sum(sum(one.cpu_times()[:2]) for one in family)


def one_by_one(server: ServerProcess, count: int) -> float:
    """Seconds for an endpoint the way of the walk-through: three loops, a look each second."""
    with server.client() as client:
        training, scoring = client.find_web_service(BIKES), client.find_web_service(BIKES_SCORING)
        trainer = client.get_endpoint(training.id, "default")
        started = time.perf_counter()
        endpoints = [client.add_endpoint(scoring.id, f"walk{number}") for number in range(count)]
        results = [_trained(client, trainer, f"fleet/{number}.csv", f"walk{number}") for number in range(count)]
        for endpoint, place in zip(endpoints, results, strict=True):
            name = endpoint.resource().name
            client.patch_endpoint(endpoint, EndpointSettings(resources=(Resource(name, place),)))
        return (time.perf_counter() - started) / count


def _trained(client: Client, trainer: Any, path: str, name: str) -> BlobReference:
    request = JobRequest({"input1": BlobReference(path)}, {"output1": BlobReference(f"models/{name}/w.ilearner")}, {})
    job_id = client.submit_job(trainer, request)
    client.start_job(trainer, job_id)
    while not (job := client.get_job(trainer, job_id)).status.terminal:
        time.sleep(1)
    job.raise_unless_finished()
    return job.output("output1")[1]


def run_fleet(count: int) -> tuple[float, dict[str, int], float]:
    """Wall seconds, outcomes and the client's CPU seconds of a fleet in one task."""
    from airflow_provider_azureml_classic.operators import RetrainFleetOperator

    task = RetrainFleetOperator(
        task_id="retrain",
        training_service=BIKES,
        scoring_service=BIKES_SCORING,
        items=[{"endpoint": f"e{number}", "inputs": f"fleet/{number}.csv"} for number in range(count)],
        deferrable=False,
    )
    kept: dict[str, Any] = {}
    store = SimpleNamespace(get=kept.get, set=kept.__setitem__, delete=lambda key: kept.pop(key, None))
    run = SimpleNamespace(run_after=datetime(2026, 3, 1, tzinfo=UTC))
    ti = SimpleNamespace(max_tries=0, xcom_push=lambda **_: None)
    started, cpu = time.perf_counter(), time.process_time()
    result = task.execute({"ti": ti, "dag_run": run, "task_state_store": store})
    return time.perf_counter() - started, result["counts"], time.process_time() - cpu


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoints", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--sample", type=int, default=50, help="endpoints that are retrained one by one")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, default=Path("fleet_scale.json"))
    asked = parser.parse_args()
    os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "True"
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / f"{number}.csv") for number in range(asked.endpoints)]
        for number, path in enumerate(files):
            Path(path).write_text(data(number, asked.rows))
        sample = files[:: max(1, len(files) // 40)]
        before = training_alone(sample, asked.workers)
        server = ServerProcess(Path(folder) / "data", "--workers", str(asked.workers))
        try:
            os.environ["AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT"] = server.connection["airflow_conn"]
            for number, path in enumerate(files):
                server.upload(f"fleet/{number}.csv", Path(path))
            walked = one_by_one(server, asked.sample)
            served = cpu_of(psutil.Process(server.process.pid))
            wall, counts, cpu = run_fleet(asked.endpoints)
            served = cpu_of(psutil.Process(server.process.pid)) - served
        finally:
            server.stop()
        after = training_alone(sample, asked.workers)
        cpu_one = cpu_alone(sample[:20])
    alone = (before + after) / 2 * asked.endpoints
    found = {
        "endpoints": asked.endpoints,
        "rows": asked.rows,
        "workers": asked.workers,
        "fleet_seconds": round(wall, 1),
        "counts": counts,
        "client_cpu_seconds": round(cpu, 1),
        "server_cpu_seconds": round(served, 1),
        "training_alone_seconds": round(alone, 1),
        "training_alone_cpu_seconds": round(cpu_one * asked.endpoints, 1),
        "cpu_ratio_to_training": round((cpu + served) / (cpu_one * asked.endpoints), 2),
        "training_alone_before_after": [round(1000 * before, 1), round(1000 * after, 1)],
        "one_by_one_seconds": round(walked * asked.endpoints, 1),
        "ratio_to_training": round(wall / alone, 2),
        "times_faster_than_one_by_one": round(walked * asked.endpoints / wall, 2),
    }
    for name, value in found.items():
        print(f"{name:32} {value}")
    asked.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
