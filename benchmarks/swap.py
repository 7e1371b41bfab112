"""Swap: from the call that replaces a model to the first answer of the new one, under load, with many models loaded."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_azureml_classic.protocol.values import EndpointSettings, ThrottleLevel
from benchmarks import fleet_data as fleet
from benchmarks import peer_servers as peers
from benchmarks.common import Figure, Result, median, say
from benchmarks.processes import OurServer, folder, free_port, our_server, post, process, wait_until_answered
from benchmarks.scoring import body, write_census

COUNTS = (1, 100, 1000)
#: Calls in flight while the model is replaced, and seconds between two calls of one connection.
_CONNECTIONS, _PAUSE = 4, 0.002
_SWAPS = 7
_EXPERIMENT, _SERVICE = "Census Model", "Census Model [predictive exp.]"


@dataclass
class Answer:
    """One scoring call: when it was sent and answered, and by which model."""

    sent: float
    received: float
    probability: float | None


@dataclass
class Swap:
    """One replacement under load, in seconds.

    :param first: from the call to the first answer of the new model.
    :param stall: longest time without any answer around it.
    :param failed: calls without a proper answer.
    :param late: answers of the old model to calls that were sent after the replacement had been answered.
    """

    first: float
    stall: float
    failed: int
    late: int


@dataclass
class Site:
    """A server under load.

    :param url: of a scoring call.
    :param headers: of a scoring call.
    :param body: of a scoring call.
    :param read: probability in a decoded answer.
    :param replace: puts one of the two models in place.
    """

    url: str
    headers: dict[str, str]
    body: bytes
    read: Callable[[Any], float]
    replace: Callable[[int], None]


async def _call(site: Site, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> Answer:
    sent = time.perf_counter()
    writer.write(head + site.body)
    found = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(found.partition(b"content-length:")[2].partition(b"\r\n")[0])
    content = await reader.readexactly(length)
    received = time.perf_counter()
    good = found[9:10] == b"2"
    return Answer(sent, received, site.read(json.loads(content)) if good else None)


async def _press(site: Site, answers: list[Answer], over: threading.Event) -> None:
    parts = urlsplit(site.url)
    query = f"?{parts.query}" if parts.query else ""
    lines = [f"POST {parts.path}{query} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Length: {len(site.body)}"]
    lines += [f"{name}: {value}" for name, value in site.headers.items()]
    head = "\r\n".join([*lines, "", ""]).encode()

    async def one() -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        while not over.is_set():
            answers.append(await _call(site, reader, writer, head))
            await asyncio.sleep(_PAUSE)
        writer.close()

    await asyncio.gather(*(one() for _ in range(_CONNECTIONS)))


def swap_under_load(site: Site, to: int) -> Swap:
    """Replace the model once while calls go on.

    :param site: the server.
    :param to: which of the two models.
    """
    answers: list[Answer] = []
    over = threading.Event()
    load = threading.Thread(target=lambda: asyncio.run(_press(site, answers, over)))
    load.start()
    time.sleep(0.5)
    old = answers[-1].probability
    sent = time.perf_counter()
    site.replace(to)
    answered = time.perf_counter()
    deadline = time.monotonic() + 60
    while not any(one.probability not in (old, None) for one in answers[-50:]) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    over.set()
    load.join()
    new = [one.received for one in answers if one.probability not in (old, None)]
    times = sorted(one.received for one in answers if one.received > sent - 0.2)
    return Swap(
        min(new) - sent if new else float("inf"),
        max(after - before for before, after in itertools.pairwise(times)),
        sum(one.probability is None for one in answers),
        sum(one.probability == old and one.sent > answered for one in answers),
    )


@contextmanager
def our_sites(home: Path, row: tuple[list[str], list[list[Any]]]) -> Iterator[Callable[[int], Site]]:
    """This server; called with a number of models, all of them are in place and have answered once.

    :param home: a folder for it.
    :param row: columns and one row.
    """
    home.mkdir()
    with our_server(home, core=0, workers=1) as server:
        service = server.service(_SERVICE)
        variants = fleet.model_variants(server, _EXPERIMENT, home)
        content = json.dumps(body(*row)).encode()
        two = [fleet.upload(server, f"swap/{number}.ilearner", next(variants)) for number in (0, 1)]
        endpoints: list[Any] = []

        def add(number_and_model: tuple[int, bytes]) -> Any:
            number, model = number_and_model
            with server.new_client() as client:
                settings = EndpointSettings(throttle_level=ThrottleLevel.HIGH, max_concurrent_calls=200)
                endpoint = client.add_endpoint(service.id, f"swap{number:05d}", settings)
                location = fleet.upload(server, f"swap/m{number}.ilearner", model, client)
                fleet.patch_to(server, endpoint, location, client)
            post(f"{endpoint.api_location}/execute?api-version=2.0", content, _key(endpoint))
            return endpoint

        def with_models(count: int) -> Site:
            missing = range(len(endpoints), count)
            endpoints.extend(fleet.in_threads(add, ((number, next(variants)) for number in missing)))
            first = endpoints[0]
            fleet.patch_to(server, first, two[0])
            url = f"{first.api_location}/execute?api-version=2.0"
            post(url, content, _key(first))
            return Site(url, _key(first), content, _ours, partial(_patch, server, first, two))

        yield with_models


def _patch(server: OurServer, endpoint: Any, two: Any, to: int) -> None:
    fleet.patch_to(server, endpoint, two[to])


def _key(endpoint: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {endpoint.primary_key}", "content-type": "application/json"}


def _ours(answer: Any) -> float:
    return float(answer["Results"]["output1"]["value"]["Values"][0][-1])


@contextmanager
def mlserver_site(home: Path, data: Path, row: tuple[list[str], list[list[Any]]], count: int) -> Iterator[Site]:
    """MLServer with so many models of a smaller pipeline than ours, which is a favour to it.

    :param home: a folder for it.
    :param data: CSV that both models are fitted on.
    :param row: columns and one row.
    :param count: models.
    """
    home.mkdir()
    models = [home / f"model{number}.joblib" for number in (0, 1)]
    for number, path in enumerate(models):
        peers.fit("mlserver", data, path, f"small{number}")
    ports = [free_port() for _ in range(3)]
    peers.mlserver_settings(home, ports)
    for number in range(count):
        peers.mlserver_model(home / f"m{number}", f"m{number}", models[0])
    url, log = f"http://127.0.0.1:{ports[0]}/v2", home / "log"
    content = json.dumps(peers.mlserver_body(*row)).encode()

    def replace(to: int) -> None:
        peers.mlserver_model(home / "m0", "m0", models[to])
        post(f"{url}/repository/models/m0/load", b"{}")

    command = [peers.peer_environment("mlserver").with_name("mlserver"), "start", home]
    with process(command, log, core=0, environment=peers.VARIABLES) as started:
        for name in ("m0", f"m{count - 1}"):
            wait_until_answered(f"{url}/models/{name}/infer", content, started, log)
        head = {"content-type": "application/json"}
        yield Site(f"{url}/models/m0/infer", head, content, lambda answer: answer["outputs"][0]["data"][1], replace)


def _swaps(site: Site, name: str, count: int) -> list[Swap]:
    found = [swap_under_load(site, 1 - number % 2) for number in range(_SWAPS)]
    say(f"{name}, {count} models: first new answer after {median([one.first for one in found]):.3f} s")
    return found


def run(counts: tuple[int, ...] = COUNTS) -> Result:
    """Measure.

    :param counts: of models.
    """
    found: dict[tuple[str, int], list[Swap]] = {}
    with folder() as home:
        data = write_census(home / "census.csv")
        row = peers.read_rows(data, 1)
        with our_sites(home / "ours", row) as with_models:
            for count in counts:
                site = with_models(count)
                with mlserver_site(home / f"mlserver{count}", data, row, count) as peer:
                    found["MLServer", count] = _swaps(peer, "MLServer", count)
                    found["this server", count] = _swaps(site, "this server", count)
    return _result(found, counts)


def _result(found: dict[tuple[str, int], list[Swap]], counts: tuple[int, ...]) -> Result:
    result = Result("swap", "Replacing a model under load")
    result.columns = [
        "models",
        "server",
        "first new answer s",
        "worst s",
        "longest stall ms",
        "failed",
        "old after answer",
    ]
    firsts = {key: median([one.first for one in swaps]) for key, swaps in found.items()}
    for (name, count), swaps in sorted(found.items(), key=lambda item: (item[0][1], item[0][0])):
        numbers = [round(firsts[name, count], 4), round(max(one.first for one in swaps), 4)]
        stall = round(max(one.stall for one in swaps) * 1000, 1)
        result.table.append([count, name, *numbers, stall, sum(s.failed for s in swaps), sum(s.late for s in swaps)])
    aims = {counts[0]: "<= 1", counts[-1]: "<= 0.02"}
    for count in counts:
        mine, theirs = firsts["this server", count], firsts["MLServer", count]
        texts = (f"{mine * 1000:.0f} ms", f"MLServer {theirs * 1000:.0f} ms")
        result.figures.append(Figure(f"swap with {count:,} models", *texts, mine / theirs, aims.get(count, "")))
    ours = [one for (name, _), swaps in found.items() if name == "this server" for one in swaps]
    growth = firsts["this server", counts[-1]] / firsts["this server", counts[0]]
    worst = max(one.stall for one in ours)
    result.figures += [
        Figure("the same with most models, against one", f"{growth:.2f}", "1", growth, "<= 1.5"),
        Figure("longest stall, of 50 ms allowed", f"{worst * 1000:.0f} ms", "50 ms", worst / 0.05, "<= 1"),
        Figure("failed calls", str(sum(s.failed for s in ours)), "0", float(sum(s.failed for s in ours)), "<= 0"),
        Figure(
            "old answers after the PATCH", str(sum(s.late for s in ours)), "0", float(sum(s.late for s in ours)), "<= 0"
        ),
    ]
    result.noise = f"Noise: the slowest of our {_SWAPS} swaps took {max(s.first for s in ours) * 1000:.0f} ms."
    result.notes = [f"{_CONNECTIONS} connections call all the time; figures are medians of {_SWAPS} swaps."]
    lines = {name: [[count, firsts[name, count]] for count in counts] for name in ("this server", "MLServer")}
    result.chart = {"kind": "lines", "title": "From PATCH to the first new answer, s, by models loaded", "lines": lines}
    return result
