"""Cost as the work grows: endpoints, jobs, waits in tens, hundreds, thousands and ten thousands."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

from airflow_provider_azureml_classic.protocol.jobs import JobRequest
from airflow_provider_azureml_classic.protocol.references import BlobReference
from benchmarks import peer_servers as peers
from benchmarks.common import Figure, Result, median, say, spread
from benchmarks.fleet_data import add_rows, in_threads
from benchmarks.processes import OurServer, folder, our_server, post
from benchmarks.scoring import SERVICE, body, write_census
from benchmarks.waiting import Waits, measure

_COUNTS = (10, 100, 1000, 10_000)
_TRAINING = "Census Model"


def _timed(work: Callable[[], Any], times: int) -> float:
    """The median of some calls, in ms."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return median(seconds) * 1000


def _add_jobs(server: OurServer, count: int) -> str:
    """Register jobs that nobody starts; returns the last one."""
    training = server.default_endpoint(_TRAINING)
    request = JobRequest({"input1": BlobReference("data/a.csv")})
    local = threading.local()

    def submit(_: int) -> str:
        if not hasattr(local, "client"):
            local.client = server.new_client()
        return str(local.client.submit_job(training, request))

    return in_threads(submit, range(count))[-1]


def _calls(server: OurServer, job: str, content: bytes) -> dict[str, float]:
    """What each call costs, in ms."""
    client, service = server.client, server.service(SERVICE)
    first = client.list_endpoints(service.id)[-1]
    training = server.default_endpoint(_TRAINING)
    url, head = f"{first.api_location}/execute?api-version=2.0", {"authorization": f"Bearer {first.primary_key}"}
    post(url, content, head)
    return {
        "get one endpoint": _timed(lambda: client.get_endpoint(service.id, first.name), 100),
        "score one row": _timed(lambda: post(url, content, head), 100),
        "get one job": _timed(lambda: client.get_job(training, job), 100),
        "list all endpoints": _timed(lambda: client.list_endpoints(service.id), 3),
    }


def run(counts: tuple[int, ...] = _COUNTS) -> Result:
    """Measure.

    :param counts: of endpoints, jobs and waits.
    """
    costs: dict[int, dict[str, float]] = {}
    with folder() as home:
        data = write_census(home / "census.csv")
        content = json.dumps(body(*peers.read_rows(data, 1))).encode()
        with our_server(home, workers=1) as server:
            service, default = server.service(SERVICE), server.default_endpoint(SERVICE)
            data_dir = server.data_dir
        there = 1
        for count in counts:
            add_rows(data_dir, service.id, count - there, default)
            with our_server(home, workers=1) as server:
                costs[count] = _calls(server, _add_jobs(server, count - there), content)
            there = count
            say(f"{count:,} endpoints and jobs: {', '.join(f'{k} {v:.2f} ms' for k, v in costs[count].items())}")
    polls = [Waits("ours", count, 30 if count > 1000 else 5, 30) for count in counts]
    for count, cost in zip(counts, measure(polls), strict=True):
        costs[count]["processor of a poll"] = cost.processor
        # Of ten waits the process itself is most of what it grew by.
        if count >= 100:
            costs[count]["memory of a wait, KiB"] = cost.memory
    return _result(costs, counts)


def _result(costs: dict[int, dict[str, float]], counts: tuple[int, ...]) -> Result:
    result = Result("growth", "Cost as the work grows", columns=["ms", *(f"{count:,}" for count in counts)])
    lines: dict[str, list[list[float]]] = {}
    for name in dict.fromkeys(name for cost in costs.values() for name in cost):
        values = [costs[count].get(name) for count in counts]
        result.table.append([name, *("" if value is None else round(value, 2) for value in values)])
        lines[name] = [[count, value] for count, value in zip(counts, values, strict=True) if value is not None]
    last, before = counts[-1], counts[-2]
    for name in ("get one endpoint", "score one row", "get one job", "processor of a poll"):
        few, many = costs[before][name], costs[last][name]
        texts = (f"{many:.2f} ms", f"{few:.2f} ms at {before:,}")
        result.figures.append(Figure(f"{name} at {last:,}", *texts, many / few, "<= 1.5"))
    few, many = (costs[count]["list all endpoints"] / count for count in (before, last))
    texts = (f"{many * 1000:.0f} us", f"{few * 1000:.0f} us at {before:,}")
    result.figures.append(Figure(f"list all endpoints at {last:,}, for each", *texts, many / few, "<= 1.5"))
    steady = [cost["score one row"] for cost in costs.values()]
    result.noise = f"Noise: one scored row, which no number touches, spread by {spread(steady):.0%}."
    result.notes = ["Medians of 100 calls (lists: 3) over one connection; a flat line is a cost that does not grow."]
    result.chart = {"kind": "lines", "title": "Milliseconds (KiB for memory) by number", "lines": lines}
    return result
