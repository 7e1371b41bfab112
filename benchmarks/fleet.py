"""A fleet: endpoints added, trained, patched and verified, against the trainings alone and the walk-through's way.

Written against the asynchronous client's verbs: :func:`retrain_fleet` alone says how a fleet is retrained.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from airflow_provider_azureml_classic.client import AsyncClient, Client
from airflow_provider_azureml_classic.protocol.jobs import JobRequest
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.protocol.values import Endpoint, EndpointSettings, Resource
from benchmarks.common import Figure, Result, say
from benchmarks.fleet_data import BIKES, BIKES_SCORING, bikes_csv, in_threads, upload
from benchmarks.jobs import loop_seconds
from benchmarks.processes import OurServer, folder, our_server

_ENDPOINTS, _ROWS = 1000, 1000
#: Of so many the cost of the trainings alone, and of the sequential way, is taken.
_TRAININGS, _SEQUENTIAL = 40, 20
#: Jobs in flight (azure-docs ``studio/faq``), and seconds between two looks at one.
_ACTIVE, _POLL = 40, 1.0
_CORES = 2


@dataclass(frozen=True)
class Fleet:
    """The endpoints of a scoring service and the service that trains for them.

    :param training: endpoint of the training service.
    :param scoring: id of the scoring service.
    :param row: is scored to verify.
    """

    training: Endpoint
    scoring: str
    row: Table


def _row() -> Table:
    lines = [line.split(",") for line in bikes_csv(24, 0).decode().splitlines()]
    return Table(tuple(lines[0]), [lines[1]])


async def _one(client: AsyncClient, fleet: Fleet, name: str, data: BlobReference, slots: asyncio.Semaphore) -> str:
    async with slots:
        endpoint = await client.add_endpoint(fleet.scoring, name, EndpointSettings())
        job_id = await client.submit_job(fleet.training, JobRequest({"input1": data}))
        await client.start_job(fleet.training, job_id)
        while not (job := await client.get_job(fleet.training, job_id)).status.terminal:
            await asyncio.sleep(_POLL)
    job.raise_unless_finished()
    _, model = job.output(extension=".ilearner")
    wanted = EndpointSettings(resources=(Resource(endpoint.resources[0].name, model),))
    await client.patch_endpoint(endpoint, wanted)
    live = await client.get_endpoint(fleet.scoring, name)
    location = live.resources[0].location
    assert location is not None
    assert location.relative_location == model.relative_location, f"{name} has another model"
    return str((await client.score(live, fleet.row)).values[0][-1])


async def retrain_fleet(connection: dict[str, str], fleet: Fleet, inputs: dict[str, BlobReference]) -> dict[str, str]:
    """Retrain every endpoint, some at a time; returns what each answers then.

    :param connection: of the server.
    :param fleet: what is retrained.
    :param inputs: training data by name of the endpoint.
    """
    slots = asyncio.Semaphore(_ACTIVE)
    async with AsyncClient(*_address(connection)) as client:
        answers = await asyncio.gather(*(_one(client, fleet, name, data, slots) for name, data in inputs.items()))
    return dict(zip(inputs, answers, strict=True))


def _address(connection: dict[str, str]) -> tuple[str, str, str]:
    return connection["management_url"], connection["workspace_id"], connection["token"]


def walk_through(client: Client, fleet: Fleet, inputs: dict[str, BlobReference]) -> float:
    """Seconds of the sequential way: submit, look each second, patch; one endpoint after the other.

    :param client: of the server.
    :param fleet: what is retrained.
    :param inputs: training data by name of the endpoint.
    """
    start = time.perf_counter()
    for name, data in inputs.items():
        endpoint: Any = client.add_endpoint(fleet.scoring, name, EndpointSettings())
        job_id = client.submit_job(fleet.training, JobRequest({"input1": data}))
        client.start_job(fleet.training, job_id)
        while not (job := client.get_job(fleet.training, job_id)).status.terminal:
            time.sleep(1)
        _, model = job.output(extension=".ilearner")
        client.patch_endpoint(endpoint, EndpointSettings(resources=(Resource(endpoint.resources[0].name, model),)))
        client.score(client.get_endpoint(fleet.scoring, name), fleet.row)
    return time.perf_counter() - start


def run(endpoints: int = _ENDPOINTS, trainings: int = _TRAININGS, sequential: int = _SEQUENTIAL) -> Result:
    """Measure.

    :param endpoints: of the fleet.
    :param trainings: of the loop that says what training alone costs; half before the fleet, half after it.
    :param sequential: endpoints that are retrained the walk-through's way.
    """
    with folder() as home, our_server(home, workers=_CORES) as server:
        fleet = Fleet(server.default_endpoint(BIKES), server.service(BIKES_SCORING).id, _row())
        contents = in_threads(lambda number: bikes_csv(_ROWS, number), range(endpoints))
        files = [home / f"{number}.csv" for number in range(trainings)]
        for file, content in zip(files, contents, strict=False):
            file.write_bytes(content)
        inputs = {f"c{number:05d}": _uploaded(server, number, content) for number, content in enumerate(contents)}
        before = loop_seconds(files[: trainings // 2])
        say(f"{trainings // 2} trainings alone: {before:.1f} s; now {endpoints:,} endpoints")
        start = time.perf_counter()
        answers = asyncio.run(retrain_fleet(server.connection, fleet, inputs))
        seconds = time.perf_counter() - start
        say(f"{endpoints:,} endpoints in {seconds:.0f} s, {len(set(answers.values())):,} different answers")
        after = loop_seconds(files[trainings // 2 :])
        slow = {f"s{number:05d}": data for number, data in enumerate(list(inputs.values())[:sequential])}
        one_by_one = walk_through(server.client, fleet, slow) / sequential * endpoints
    alone = (before + after) / trainings * endpoints / _CORES
    result = Result("fleet", f"A fleet of {endpoints:,} endpoints, {_ROWS:,} rows each", columns=["what", "seconds"])
    result.table = [
        ["add, train, patch, verify: at most 40 at a time", round(seconds)],
        [f"the trainings alone on {_CORES} cores (from {trainings})", round(alone)],
        [f"the walk-through's way (from {sequential})", round(one_by_one)],
    ]
    texts = (f"{seconds:.0f} s", f"{alone:.0f} s")
    result.figures = [
        Figure("a fleet against its trainings alone", *texts, seconds / alone, "<= 1.3"),
        Figure(
            "how many times as fast as the walk-through", texts[0], f"{one_by_one:.0f} s", one_by_one / seconds, ">= 3"
        ),
    ]
    result.noise = f"Noise: the trainings alone, before and after the fleet: {before:.1f} s and {after:.1f} s."
    result.notes = ["The trainings alone are those of one process in a loop, divided by the cores."]
    bars = [[str(name), float(value)] for name, value in result.table]
    bars[0][0] = "this client"
    result.chart = {"kind": "bars", "title": f"{endpoints:,} endpoints, seconds", "bars": bars, "ours": "this client"}
    return result


def _uploaded(server: OurServer, number: int, content: bytes) -> BlobReference:
    return upload(server, f"fleet/{number}.csv", content)
