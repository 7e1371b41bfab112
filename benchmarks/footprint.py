"""Start and memory of the server, against MLServer with one model; and its memory with 10,000 endpoints."""

from __future__ import annotations

import json
import time
from pathlib import Path

from airflow_provider_azureml_classic.protocol.values import Endpoint
from benchmarks import peer_servers as peers
from benchmarks.common import Figure, Result, interleaved, median, say, spread
from benchmarks.fleet_data import add_rows, in_threads
from benchmarks.processes import OurServer, folder, memory, our_server, post
from benchmarks.scoring import SERVICE, body, write_census

_ENDPOINTS = 10_000


def _score(server: OurServer, endpoint: Endpoint, content: bytes) -> None:
    url = f"{endpoint.api_location}/execute?api-version=2.0"
    post(url, content, {"authorization": f"Bearer {endpoint.primary_key}"})


def our_start(home: Path, content: bytes) -> tuple[float, float]:
    """Seconds to the first answer, and MiB then.

    :param home: its folder; its experiments have been trained.
    :param content: of a scoring call.
    """
    start = time.perf_counter()
    with our_server(home, workers=1) as server:
        _score(server, server.default_endpoint(SERVICE), content)
        seconds = time.perf_counter() - start
        time.sleep(1)
        return seconds, memory(server.pid)


def mlserver_start(home: Path, data: Path) -> tuple[float, float]:
    """The same of MLServer with one model.

    :param home: a folder that does not exist.
    :param data: CSV that the model is fitted on.
    """
    # Fitting is not a part of the start: the pipeline is fitted by the first process and kept beside.
    start = time.perf_counter()
    with peers.mlserver(home, data, None) as target:
        seconds = time.perf_counter() - start - peers.LAST_FIT["mlserver"]
        time.sleep(1)
        return seconds, memory(target.pid)


def with_endpoints(home: Path, content: bytes, count: int) -> float:
    """MiB of a server with so many endpoints, after each has answered once and all were listed.

    :param home: its folder.
    :param content: of a scoring call.
    :param count: of endpoints.
    """
    with our_server(home, workers=1) as server:
        service = server.service(SERVICE)
        default = server.default_endpoint(SERVICE)
    say(f"adding {count:,} endpoints")
    add_rows(server.data_dir, service.id, count - 1, default)
    with our_server(home, workers=1) as server:
        every = server.client.list_endpoints(service.id)
        in_threads(lambda endpoint: _score(server, endpoint, content), every, 2)
        return memory(server.pid)


def run(rounds: int = 3, endpoints: int = _ENDPOINTS) -> Result:
    """Measure.

    :param rounds: starts of each server.
    :param endpoints: of the last measurement.
    """
    numbers = iter(range(1000))
    with folder() as home:
        data = write_census(home / "census.csv")
        columns, rows = peers.read_rows(data, 1)
        content = json.dumps(body(columns, rows)).encode()
        ours = home / "ours"
        ours.mkdir()
        our_start(ours, content)  # trains the first models
        found = interleaved(
            rounds,
            {
                "this server": lambda: our_start(ours, content),
                "MLServer": lambda: mlserver_start(home / f"mlserver{next(numbers)}", data),
            },
        )
        many = with_endpoints(ours, content, endpoints)
    result = Result("footprint", "Start and memory", columns=["server", "start to first answer s", "memory MiB"])
    seconds, megabytes = ({name: median([one[i] for one in values]) for name, values in found.items()} for i in (0, 1))
    for name in found:
        result.table.append([name, round(seconds[name], 2), round(megabytes[name])])
    result.table.append([f"this server, {endpoints:,} endpoints", "", round(many)])
    for what, values, unit in (("start to first answer", seconds, "s"), ("memory idle", megabytes, "MiB")):
        mine, theirs = values["this server"], values["MLServer"]
        texts = (f"{mine:.3g} {unit}", f"MLServer, one model {theirs:.3g} {unit}")
        result.figures.append(Figure(what, *texts, mine / theirs, "<= 0.5"))
    texts = (f"{many:.0f} MiB", "1,024 MiB")
    result.figures.append(Figure(f"memory with {endpoints:,} endpoints, of 1 GB", *texts, many / 1024, "<= 1"))
    starts = [one[0] for one in found["MLServer"]]
    result.noise = f"Noise: MLServer's starts spread by {spread(starts):.0%} in {rounds} rounds."
    result.notes = [
        "Memory is proportional set size, with all child processes; ours includes those that train, and two loaded "
        "models. The start is of a server whose experiments are trained; each answered one scoring call."
    ]
    bars = [["this server", seconds["this server"]], ["MLServer, one model", seconds["MLServer"]]]
    result.chart = {"kind": "bars", "title": "Start to first answer, seconds", "bars": bars, "ours": "this server"}
    return result
