"""A fleet: endpoints added, trained, patched and proved, against the trainings alone and the walk-through's way.

The fleet is one ``RetrainFleetOperator`` (:mod:`benchmarks.fleet_task`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.protocol.jobs import JobRequest
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint, EndpointSettings, Resource
from benchmarks.common import ROOT, Figure, Result, say, spread
from benchmarks.fleet_data import BIKES, BIKES_SCORING, bikes_csv, in_threads, upload
from benchmarks.jobs import loop_seconds
from benchmarks.processes import OurServer, folder, our_server, processor_seconds

_ENDPOINTS, _ROWS = 1000, 1000
#: Of so many the cost of the trainings alone is taken, before the fleet and after it; and of the walk-through's way.
_TRAININGS, _SEQUENTIAL = 40, 20
_CORES = 2


def trainings_alone(files: list[Path]) -> float:
    """Seconds that these trainings take, a core each, in as many processes as there are cores.

    :param files: CSV files.
    """
    parts = [files[core::_CORES] for core in range(_CORES)]
    with ThreadPoolExecutor(_CORES) as waiting:
        return sum(waiting.map(loop_seconds, parts)) / _CORES


def operator_run(server: OurServer, endpoints: int, home: Path) -> dict[str, Any]:
    """What a fleet of the operator took and returned; its log is beside its report.

    :param server: has the data of each endpoint.
    :param endpoints: how many.
    :param home: for the report.
    """
    environment = {**os.environ, "AIRFLOW_HOME": str(home / "airflow")}
    environment |= {"AIRFLOW__CORE__UNIT_TEST_MODE": "True", "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    environment["AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT"] = server.connection["airflow_conn"]
    command = [sys.executable, "-m", "benchmarks.fleet_task", str(endpoints), str(home)]
    with (home / "task.log").open("wb") as log:
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log)
    if done.returncode:
        raise RuntimeError(f"The fleet failed:\n{(home / 'task.log').read_text()[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if found["counts"]["updated"] != endpoints:
        raise RuntimeError(f"Not every endpoint was updated: {found['counts']}; {found['rows'][:1]}")
    return found


def walk_through(client: Client, training: Endpoint, scoring: str, inputs: dict[str, BlobReference]) -> float:
    """Seconds of the sequential way: submit, look each second, patch; one endpoint after the other.

    :param client: of the server.
    :param training: endpoint of the training service.
    :param scoring: id of the scoring service.
    :param inputs: training data by name of the endpoint.
    """
    start = time.perf_counter()
    for name, data in inputs.items():
        endpoint = client.add_endpoint(scoring, name, EndpointSettings())
        job_id = client.submit_job(training, JobRequest({"input1": data}))
        client.start_job(training, job_id)
        while not (job := client.get_job(training, job_id)).status.terminal:
            time.sleep(1)
        job.raise_unless_finished()
        _, model = job.output(extension=".ilearner")
        client.patch_endpoint(endpoint, EndpointSettings(resources=(Resource(endpoint.resources[0].name, model),)))
    return time.perf_counter() - start


def run(endpoints: int = _ENDPOINTS, trainings: int = _TRAININGS, sequential: int = _SEQUENTIAL) -> Result:
    """Measure.

    :param endpoints: of the fleet.
    :param trainings: of the loops that say what training alone costs.
    :param sequential: endpoints that are retrained the walk-through's way; half before the fleet, half after it.
    """
    with folder() as home, our_server(home, workers=_CORES) as server:
        contents = in_threads(lambda number: bikes_csv(_ROWS, number), range(endpoints))
        inputs = [upload(server, f"fleet/{number}.csv", content) for number, content in enumerate(contents)]
        files = [home / f"{number}.csv" for number in range(trainings)]
        for file, content in zip(files, contents, strict=False):
            file.write_bytes(content)
        training, scoring = server.default_endpoint(BIKES), server.service(BIKES_SCORING).id
        walked = {f"s{number:05d}": data for number, data in enumerate(inputs[:sequential])}
        halves = [dict(list(walked.items())[part::2]) for part in (0, 1)]
        alone, slow = [trainings_alone(files)], [walk_through(server.client, training, scoring, halves[0])]
        say(f"{trainings} trainings alone, {_CORES} at a time: {alone[0]:.1f} s; now {endpoints:,} endpoints")
        served = processor_seconds(server.pid)
        found = operator_run(server, endpoints, home)
        served = processor_seconds(server.pid) - served
        say(f"{endpoints:,} endpoints in {found['seconds']:.0f} s")
        alone.append(trainings_alone(files))
        slow.append(walk_through(server.client, training, scoring, halves[1]))
    return _result(endpoints, found, served, [one / trainings for one in alone], sum(slow) / sequential)


def _result(endpoints: int, found: dict[str, Any], served: float, alone: list[float], slow: float) -> Result:
    seconds, one = found["seconds"], sum(alone) / len(alone)
    train, walk = one * endpoints, slow * endpoints
    result = Result("fleet", f"A fleet of {endpoints:,} endpoints, {_ROWS:,} rows each", columns=["what", "seconds"])
    result.table = [
        ["RetrainFleetOperator: add, train, patch, prove; 40 jobs in flight", round(seconds)],
        [f"the trainings alone, on {_CORES} cores (from {2 * _TRAININGS})", round(train)],
        [f"the walk-through's way (from {_SEQUENTIAL})", round(walk)],
        ["processor time of the task", round(found["cpu"])],
        ["processor time of the server and its workers", round(served)],
    ]
    ours = f"{seconds:.0f} s"
    result.figures = [
        Figure("a fleet against its trainings alone", ours, f"{train:.0f} s", seconds / train, "<= 1.3"),
        Figure("how many times as fast as the walk-through", ours, f"{walk:.0f} s", walk / seconds, ">= 3"),
    ]
    result.noise = f"Noise: the trainings alone, before and after the fleet, differ by {spread(alone):.0%}."
    result.notes = [
        f"The trainings alone are done by {_CORES} processes that do nothing else.",
        "The walk-through adds, submits, starts, looks each second and patches, one endpoint after the other.",
        f"For each endpoint the fleet takes {1000 * seconds / endpoints:.0f} ms, a training "
        f"{1000 * one * _CORES:.0f} ms of a core, the walk-through {1000 * slow:.0f} ms.",
    ]
    bars = [["RetrainFleetOperator", seconds], [f"trainings alone, {_CORES} cores", train], ["the walk-through", walk]]
    ours_is = "RetrainFleetOperator"
    result.chart = {"kind": "bars", "title": f"{endpoints:,} endpoints, seconds", "bars": bars, "ours": ours_is}
    return result
