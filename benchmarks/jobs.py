"""Batch jobs: many small ones through the service, against the same trainings in one process in a loop."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from airflow_provider_azureml_classic.protocol.jobs import JobRequest
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint
from benchmarks.common import ROOT, Figure, Result, say, spread
from benchmarks.fleet_data import BIKES, bikes_csv, in_threads, upload
from benchmarks.processes import OurServer, folder, our_server

_JOBS, _ROWS = 200, 240


def loop_seconds(files: list[Path]) -> float:
    """Seconds that one process takes for these trainings, imports left out.

    :param files: CSV files.
    """
    command = [sys.executable, "-m", "benchmarks.jobs", *map(str, files)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def train_in_loop(files: list[Path]) -> float:
    """Train one model after the other; returns seconds.

    :param files: CSV files; the first is trained once more before, so that everything is loaded.
    """
    from airflow_provider_azureml_classic.server.experiments.declaration import shipped_experiments
    from airflow_provider_azureml_classic.server.experiments.training import train

    experiment = next(one for one in shipped_experiments() if one.name == BIKES)
    with TemporaryDirectory() as name:
        model, evaluation = Path(name) / "model.ilearner", Path(name) / "evaluation.csv"
        schema = train(experiment, None, files[0], model, evaluation).schema
        start = time.perf_counter()
        for file in files:
            train(experiment, schema, file, model, evaluation)
        return time.perf_counter() - start


def job_seconds(server: OurServer, endpoint: Endpoint, inputs: list[BlobReference]) -> float:
    """Seconds from the first submission until all jobs are finished.

    :param server: the server.
    :param endpoint: of the training service.
    :param inputs: data, a job each.
    """

    def submit(data: BlobReference) -> str:
        job_id = server.client.submit_job(endpoint, JobRequest({"input1": data}))
        server.client.start_job(endpoint, job_id)
        return job_id

    start = time.perf_counter()
    ids = [submit(data) for data in inputs]
    # In the order in which they were started, so the last ones are asked for once the others have ended.
    for job_id in ids:
        while not (job := server.client.get_job(endpoint, job_id)).status.terminal:
            time.sleep(0.25)
        job.raise_unless_finished()
    return time.perf_counter() - start


def run(jobs: int = _JOBS) -> Result:
    """Measure.

    :param jobs: how many.
    """
    with folder() as home, our_server(home) as server:
        contents = in_threads(lambda number: bikes_csv(_ROWS, number), range(jobs))
        files = [home / f"{number}.csv" for number in range(jobs)]
        for file, content in zip(files, contents, strict=True):
            file.write_bytes(content)
        inputs = [upload(server, f"data/{number}.csv", content) for number, content in enumerate(contents)]
        endpoint = server.default_endpoint(BIKES)
        job_seconds(server, endpoint, inputs[:4])
        half = jobs // 2
        loops, services = [], []
        for part in (slice(0, half), slice(half, jobs)):
            loops.append(loop_seconds(files[part]))
            say(f"{half} trainings in a loop: {loops[-1]:.1f} s")
            services.append(job_seconds(server, endpoint, inputs[part]))
            say(f"{half} jobs: {services[-1]:.1f} s")
    loop, service = sum(loops), sum(services)
    result = Result("jobs", f"{jobs} batch jobs of {_ROWS} rows", columns=["what", "seconds", "a training, s"])
    result.table = [
        ["one process, in a loop", round(loop, 1), round(loop / jobs, 3)],
        ["this server, submitted to finished", round(service, 1), round(service / jobs, 3)],
    ]
    texts = (f"{service:.1f} s", f"a loop {loop:.1f} s")
    result.figures = [Figure(f"{jobs} jobs, how many times as fast as a loop", *texts, loop / service, ">= 1.7")]
    result.noise = f"Noise: the two halves of the loop differ by {spread(loops):.0%}."
    result.notes = ["Both train, evaluate, convert to ONNX and check; the jobs also copy data in and models out."]
    result.chart = {
        "kind": "bars",
        "title": f"{jobs} trainings, seconds",
        "bars": [["one process, in a loop", loop], ["this server", service]],
        "ours": "this server",
    }
    return result


if __name__ == "__main__":
    print(train_in_loop([Path(name) for name in sys.argv[1:]]))
