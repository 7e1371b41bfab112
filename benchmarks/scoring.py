"""Scoring: one row and 1,000 rows a request, against three peers with the same pipeline and against the floor."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from airflow_provider_azureml_classic.protocol.values import EndpointSettings, ThrottleLevel
from airflow_provider_azureml_classic.server.experiments.datasets import first_census
from benchmarks import peer_servers as peers
from benchmarks.common import ROOT, Figure, Result, interleaved, median, say, spread
from benchmarks.load import Load, generator, press
from benchmarks.peer_servers import Target
from benchmarks.processes import folder, free_port, our_server, post, process, wait_until_answered

SERVICE = "Census Model [predictive exp.]"
OURS, FLOOR = "this server", "bare uvicorn"
#: Rows a request -> connections.
_SIZES = {1: 32, 1000: 4}
_SERVERS, _GENERATOR = 0, 1


@contextmanager
def ours(home: Path, core: int | None = _SERVERS) -> Iterator[Target]:
    """This server with its first model of the census.

    :param home: a folder for it.
    :param core: the one core that it may use.
    """
    home.mkdir()
    with our_server(home, core=core, workers=1) as server:
        # "Low" is always 4 calls at a time: some of the 32 would be refused.
        settings = EndpointSettings(throttle_level=ThrottleLevel.HIGH, max_concurrent_calls=200)
        endpoint = server.client.add_endpoint(server.service(SERVICE).id, "bench", settings)
        yield Target(
            OURS,
            f"{endpoint.api_location}/execute?api-version=2.0",
            {"content-type": "application/json", "authorization": f"Bearer {endpoint.primary_key}"},
            body,
            lambda answer: [float(row[-1]) for row in answer["Results"]["output1"]["value"]["Values"]],
            server.pid,
        )


def body(columns: Any, rows: Any) -> Any:
    """The body of a scoring call.

    :param columns: names.
    :param rows: cells.
    """
    return {"Inputs": {"input1": {"ColumnNames": list(columns), "Values": rows}}, "GlobalParameters": {}}


@contextmanager
def floor(home: Path, data: Path, core: int | None = _SERVERS) -> Iterator[Target]:
    """A bare uvicorn application.

    :param home: a folder for it.
    :param data: unused rows.
    :param core: the one core that it may use.
    """
    home.mkdir()
    port, log = free_port(), home / "log"
    command = [sys.executable, ROOT / "benchmarks" / "peers" / "floor.py", str(port)]
    url = f"http://127.0.0.1:{port}/score"
    with process(command, log, core=core) as started:
        wait_until_answered(url, b"{}", started, log)
        yield Target(FLOOR, url, {"content-type": "application/json"}, body, lambda answer: [], started.pid)


def write_census(path: Path) -> Path:
    """The data that every server's model is fitted on.

    :param path: where to write them.
    """
    with path.open("w", newline="") as stream:
        first_census(stream)
    return path


def check_answers(targets: list[Target], data: Path) -> float:
    """Compare the peers' answers with ours.

    :param targets: all servers; ours is the first.
    :param data: CSV.
    :return: the largest difference of two probabilities.
    :raises RuntimeError: an answer differs.
    """
    columns, rows = peers.read_rows(data, 1000)
    answers = {
        target.name: target.read(post(target.url, json.dumps(target.body(columns, rows)).encode(), target.headers))
        for target in targets
        if target.name != FLOOR
    }
    wanted = answers[OURS]
    largest = 0.0
    for name, found in answers.items():
        if len(found) != len(wanted):
            raise RuntimeError(f"{name} answers {len(found)} of {len(wanted)} rows.")
        difference = max(abs(one - other) for one, other in zip(found, wanted, strict=True))
        if difference > 1e-4:
            raise RuntimeError(f"{name} answers differently: a probability is off by {difference:g}.")
        largest = max(largest, difference)
    say(f"the answers of {', '.join(answers)} to 1,000 rows are the same (within {largest:.1g})")
    return largest


def run(rounds: int = 5, seconds: float = 3) -> Result:
    """Measure.

    :param rounds: how often each server is measured.
    :param seconds: how long each time.
    """
    with folder() as home, ExitStack() as stack:
        data = write_census(home / "census.csv")
        targets = [stack.enter_context(ours(home / "ours")), stack.enter_context(floor(home / "floor", data))]
        for start in (peers.mlserver, peers.bentoml, peers.mlflow):
            say(f"starting {start.__name__}")
            targets.append(stack.enter_context(start(home / start.__name__, data, _SERVERS)))
        difference = check_answers(targets, data)
        found = {size: _measure(targets, data, size, rounds, seconds) for size in _SIZES}
    return _result(found, difference, rounds, seconds)


def _measure(targets: list[Target], data: Path, size: int, rounds: int, seconds: float) -> dict[str, list[Load]]:
    columns, rows = peers.read_rows(data, size)

    def measure(target: Target) -> Load:
        path = data.with_name(f"{target.name.split()[0]}-{size}.json")
        path.write_text(json.dumps(target.body(columns, rows)))
        load = press(target.url, path, target.headers, connections=_SIZES[size], seconds=seconds, core=_GENERATOR)
        if load.bad:
            raise RuntimeError(f"{target.name}: {load.bad} calls were not answered with 200.")
        return load

    say(f"{size} row(s) a request, {_SIZES[size]} connections")
    for target in targets:
        press_warm = data.with_name("warm.json")
        press_warm.write_text(json.dumps(target.body(columns, rows)))
        press(target.url, press_warm, target.headers, connections=4, seconds=1, core=_GENERATOR)
    return interleaved(rounds, {target.name: lambda target=target: measure(target) for target in targets})


def _result(found: dict[int, dict[str, list[Load]]], difference: float, rounds: int, seconds: float) -> Result:
    result = Result("scoring", "Scoring the Census Model", columns=["rows", "server", "requests/s", "p50 ms", "p99 ms"])
    for size, loads in found.items():
        for name, values in loads.items():
            rate, p50, p99 = (median([getattr(load, key) for load in values]) for key in ("rate", "p50", "p99"))
            result.table.append([size, name, round(rate, 1), round(p50, 2), round(p99, 2)])
    one, many = _figures(found[1], "1 row"), _figures(found[1000], "1,000 rows")
    result.figures = [
        Figure(*one[0], ">= 8"),
        Figure(*one[1], "<= 0.25"),
        Figure(*many[0], ">= 3"),
        Figure(*one[2], ">= 0.5"),
    ]
    floors = [load.rate for load in found[1][FLOOR]]
    result.noise = (
        f"Noise: the floor's {rounds} rounds of {seconds:g} s spread by {spread(floors):.0%} of their median."
    )
    result.notes = [
        f"Load by {generator()}, {_SIZES[1]} connections for 1 row and {_SIZES[1000]} for 1,000. Every server has core "
        "0 to itself while it is measured, the generator core 1; rounds are interleaved, figures are medians.",
        f"All answers to 1,000 rows were compared first: probabilities differ by {difference:.1g} at most.",
    ]
    bars = [[name, median([load.rate for load in values])] for name, values in found[1].items()]
    result.chart = {
        "kind": "bars",
        "title": "One row a request, 32 connections: requests/s",
        "bars": bars,
        "ours": OURS,
    }
    return result


def _figures(loads: dict[str, list[Load]], size: str) -> list[tuple[str, str, str, float]]:
    """Rate against the best peer, p99 against the best peer, rate against the floor: medians of the ratios by round."""
    others = [name for name in loads if name not in (OURS, FLOOR)]
    best = max(others, key=lambda name: median([load.rate for load in loads[name]]))
    quick = min(others, key=lambda name: median([load.p99 for load in loads[name]]))

    def figure(what: str, key: str, other: str, unit: str) -> tuple[str, str, str, float]:
        mine, theirs = ([getattr(load, key) for load in loads[name]] for name in (OURS, other))
        ratio = median([a / b for a, b in zip(mine, theirs, strict=True)])
        return f"{size}: {what}", f"{median(mine):.4g} {unit}", f"{other} {median(theirs):.4g} {unit}", ratio

    return [
        figure("requests/s against the best peer", "rate", best, "/s"),
        figure("p99 against the best peer's", "p99", quick, "ms"),
        figure("requests/s against the floor", "rate", FLOOR, "/s"),
    ]
