"""Many endpoints on one server process: what adding, listing, patching and scoring cost, and the memory they take.

    python benchmarks/endpoints.py [--endpoints 10000] [--connections 4] [--json FILE]

Starts a server of its own on a free port, in a temporary folder. All calls go through the API, over sockets.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.protocol.values import Endpoint, EndpointSettings, Resource

EXPERIMENT = """\
[[experiment]]
name = "Line"
estimator = "linear-regressor"
label = "y"
first_data = "line.csv"
"""
SCORING = "Line [predictive exp.]"
#: Endpoints that are patched and scored.
SAMPLE = 200


@contextmanager
def server(folder: Path) -> Iterator[tuple[psutil.Process, Client]]:
    """A running server and a client of its workspace."""
    (folder / "line.csv").write_text("x,y\n" + "".join(f"{x / 10},{x / 5}\n" for x in range(21)))
    (folder / "line.toml").write_text(EXPERIMENT)
    command = [sys.executable, "-m", "airflow_provider_azureml_classic.server", "--data-dir", str(folder / "data")]
    command += ["--port", "0", "--experiments", str(folder / "line.toml"), "--log-level", "WARNING"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout is None or "ready" not in process.stdout.readline():
                raise SystemExit("the server did not start")
            connection = json.loads((folder / "data" / "connection.json").read_text())
            with Client(connection["management_url"], connection["workspace_id"], connection["token"]) as client:
                yield psutil.Process(process.pid), client
        finally:
            process.send_signal(signal.SIGTERM)


def memory(process: psutil.Process) -> float:
    """Resident memory of the serving process in MiB."""
    return float(process.memory_info().rss) / 2**20


def timed(act: Callable[[Any], Any], items: list[Any], connections: int) -> dict[str, float]:
    """Milliseconds of a call, seen by its client, and calls a second, with some connections at a time."""

    def one(item: Any) -> float:
        before = time.perf_counter()
        act(item)
        return (time.perf_counter() - before) * 1000

    before = time.perf_counter()
    with ThreadPoolExecutor(connections) as threads:
        taken = sorted(threads.map(one, items))
    seconds = time.perf_counter() - before
    cut = min(len(taken) - 1, int(len(taken) * 0.99))
    return {"p50_ms": statistics.median(taken), "p99_ms": taken[cut], "per_second": len(taken) / seconds}


def measure(process: psutil.Process, client: Client, count: int, connections: int) -> dict[str, Any]:
    """All figures.

    :param process: the server.
    :param client: its client.
    :param count: endpoints to add.
    :param connections: calls at a time.
    """
    service = client.find_web_service(SCORING)
    names = [f"customer{number:05}" for number in range(count)]
    found: dict[str, Any] = {"endpoints": count, "connections": connections, "rss_before_mib": memory(process)}
    found["add"] = timed(lambda name: client.add_endpoint(service.id, name), names, connections)
    found["add_last_100"] = timed(lambda name: client.add_endpoint(service.id, name), names[-100:], connections)
    found["rss_added_mib"] = memory(process)
    listing = [timed(lambda _: client.list_endpoints(service.id), [None], 1)["p50_ms"] for _ in range(3)]
    found["list_ms"] = max(listing)
    found["rss_listed_mib"] = memory(process)
    endpoints = {endpoint.name: endpoint for endpoint in client.list_endpoints(service.id)}
    if len(endpoints) != count + 1:
        raise SystemExit(f"{len(endpoints)} endpoints are listed, {count + 1} were expected")
    sample = random.Random(0).sample([endpoints[name] for name in names], min(SAMPLE, count))
    found["get"] = timed(lambda one: client.get_endpoint(service.id, one.name), sample, connections)
    found["patch"] = timed(lambda one: patch(client, one), sample, connections)
    found["score_first"] = timed(lambda one: client.score(one, [{"x": 1.0}]), sample, connections)
    found["score"] = timed(lambda one: client.score(one, [{"x": 1.0}]), sample, connections)
    found["score_every_endpoint"] = timed(
        lambda one: client.score(one, [{"x": 1.0}]), [endpoints[name] for name in names], connections
    )
    found["rss_after_mib"] = memory(process)
    return found


def patch(client: Client, endpoint: Endpoint) -> None:
    """Put the model of the default endpoint in place again."""
    resource = endpoint.resources[0]
    client.patch_endpoint(endpoint, EndpointSettings(resources=(Resource(resource.name, resource.location),)))


def table(found: dict[str, Any]) -> str:
    """The figures for people."""
    lines = [f"{found['endpoints']} endpoints, {found['connections']} connections, {os.cpu_count()} cores", ""]
    lines += ["| call | p50 ms | p99 ms | calls/s |", "|---|---|---|---|"]
    for name, value in found.items():
        if isinstance(value, dict):
            lines.append(f"| {name} | {value['p50_ms']:.1f} | {value['p99_ms']:.1f} | {value['per_second']:.0f} |")
    lines += [f"| list of all | {found['list_ms']:.0f} (slowest of 3) | | |", "", "| memory | MiB |", "|---|---|"]
    lines += [f"| {name} | {value:.0f} |" for name, value in found.items() if name.startswith("rss")]
    each = (found["rss_added_mib"] - found["rss_before_mib"]) * 1024 / found["endpoints"]
    return "\n".join([*lines, f"| each endpoint added | {each:.2f} KiB |"])


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--endpoints", type=int, default=9_999, help="a web service has at most 10,000 with its default"
    )
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as (process, client):
        found = measure(process, client, arguments.endpoints, arguments.connections)
    print(table(found))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
