"""A hundred thousand endpoints in ten web services: start, memory, and what a call costs beside a hundredth of them.

python -m benchmarks.tenants [ENDPOINTS]
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from airflow_provider_azureml_classic.protocol import pages
from airflow_provider_azureml_classic.server.clock import system_clock
from airflow_provider_azureml_classic.server.settings import Settings, load_secrets
from airflow_provider_azureml_classic.server.state.database import Database, columns
from airflow_provider_azureml_classic.server.state.endpoint_store import Store, key_hash
from airflow_provider_azureml_classic.server.state.overview import Queries
from airflow_provider_azureml_classic.server.state.tables import (
    EndpointRow,
    endpoints,
    keys,
    placements,
    resources,
)
from airflow_provider_azureml_classic.server.workspace.endpoints import new_endpoint
from benchmarks.common import Figure, Result, median, say
from benchmarks.processes import OurServer, folder, memory, our_server, processor_seconds

_ENDPOINTS, _SERVICES = 100_000, 10
_STEP, _TIMES = 5_000, 40
_EXPERIMENT = """\
[[experiment]]
name = "Line {number}"
estimator = "linear-regressor"
label = "y"
first_data = "line.csv"
"""


def declared(home: Path) -> list[str]:
    """Ten experiments; returns the arguments that serve them.

    :param home: for their file.
    """
    (home / "line.csv").write_text("x,y\n" + "".join(f"{x / 10},{x / 5}\n" for x in range(21)))
    (home / "lines.toml").write_text("".join(_EXPERIMENT.format(number=number) for number in range(_SERVICES)))
    return ["--experiments", str(home / "lines.toml"), "--no-samples"]


def opened(data_dir: Path) -> Database:
    """The database of a server that does not run.

    :param data_dir: of the server.
    """
    secrets = load_secrets(data_dir, os.environ)
    settings = Settings(
        data_dir, "http://127.0.0.1", secrets.workspace_id, secrets.token, secrets.account_key, secrets.cipher_key
    )
    return Database(settings.database_url, settings.cipher_key)


def first_page(data_dir: Path) -> float:
    """Milliseconds of what the portal's first page asks about all endpoints.

    :param data_dir: of a server that does not run.
    """
    database = opened(data_dir)
    queries, now = Queries(database), system_clock()
    try:
        return timed(lambda _: (queries.service_lines(), queries.counts(now), queries.attention(now)), 5)
    finally:
        database.close()


def fill(data_dir: Path, total: int) -> None:
    """Add endpoints to the scoring services of a server that does not run, until there are so many.

    :param data_dir: of the server.
    :param total: of all services together.
    """
    database = opened(data_dir)
    try:
        store = Store(database)
        for service in [service for service in store.services() if not service.training]:
            default, there = store.endpoint_named(service.id, "default"), store.endpoint_count(service.id)
            # Room for those that are added while it runs: a service has 10,000 at most.
            most = total // _SERVICES - _TIMES
            for first in range(there, most, _STEP):
                numbers = range(first, min(first + _STEP, most))
                _insert(database, [_row(service.id, number, default) for number in numbers])
    finally:
        database.close()


def _row(service_id: str, number: int, default: EndpointRow | None) -> EndpointRow:
    row = new_endpoint(service_id, f"customer{number:06d}", system_clock())
    models = tuple(replace(one, endpoint_id=row.id) for one in (default.resources if default else ()))
    return replace(row, resources=models)


def _insert(database: Database, rows: list[EndpointRow]) -> None:
    tables: dict[sa.Table, list[dict[str, Any]]] = {endpoints: [], keys: [], resources: [], placements: []}
    for row in rows:
        secret = {name: database.encrypt(getattr(row, name)) for name in ("primary_key", "secondary_key")}
        values = {name: value for name, value in columns(row).items() if name in endpoints.c}
        tables[endpoints].append({**values, **secret})
        tables[keys] += [{"hash": key_hash(key), "endpoint_id": row.id} for key in (row.primary_key, row.secondary_key)]
        for model in row.resources:
            placed = {name: value for name, value in columns(model).items() if name in placements.c}
            tables[resources].append({name: value for name, value in columns(model).items() if name in resources.c})
            tables[placements].append(
                {
                    **placed,
                    "number": 1,
                    "resource": model.name,
                    "placed_at": row.created_at,
                    "how": "added",
                    "live": True,
                }
            )
    with database.write(slow=True) as connection:
        for table, values in tables.items():
            if values:
                connection.execute(sa.insert(table), values)


def timed(work: Callable[[int], Any], times: int = _TIMES) -> float:
    """The median of some calls, in ms.

    :param work: given the number of the call.
    :param times: how many.
    """
    taken = []
    for number in range(times):
        start = time.perf_counter()
        work(number)
        taken.append((time.perf_counter() - start) * 1000)
    return median(taken)


def measure(server: OurServer, total: int) -> dict[str, float]:
    """What calls cost, in ms.

    :param server: with its endpoints.
    :param total: how many it has.
    """
    client = server.client
    services = [one for one in client.list_web_services() if one.endpoint_count > 1]
    service = services[-1]
    idle = memory(server.pid)
    return {
        "memory MiB": idle,
        "add one": timed(lambda number: client.add_endpoint(service.id, f"new{total}x{number}")),
        "get one": timed(lambda number: client.get_endpoint(service.id, f"new{total}x{number}")),
        "list web services": timed(lambda _: client.list_web_services(), 5),
        "list a page": timed(lambda _: _page(server, service.id), 5),
        "list a web service": timed(lambda _: client.list_endpoints(service.id), 3),
        "memory after lists MiB": memory(server.pid),
    }


def _page(server: OurServer, service_id: str) -> None:
    # One page only: the second is not asked for.
    most, pages.MOST_PAGES = pages.MOST_PAGES, 1
    try:
        server.client.list_endpoints(service_id)
    except Exception as error:
        if "does not end" not in str(error):
            raise
    finally:
        pages.MOST_PAGES = most


def run(total: int = _ENDPOINTS) -> Result:
    """Measure.

    :param total: of endpoints.
    """
    counts, found = (total // 100, total), {}
    with folder() as home:
        arguments = declared(home)
        with our_server(home, workers=1, arguments=arguments) as server:
            data_dir = server.data_dir
        for count in counts:
            fill(data_dir, count)
            say(f"{count:,} endpoints are there")
            start = time.perf_counter()
            with our_server(home, workers=1, arguments=arguments) as server:
                seconds = time.perf_counter() - start
                started = {"start s": seconds, "start, s of a processor": processor_seconds(server.pid)}
                found[count] = {**started, **measure(server, count)}
            found[count]["portal's first page, its queries"] = first_page(data_dir)
            say(", ".join(f"{name} {value:.2f}" for name, value in found[count].items()))
    return _result(found, *counts)


def _result(found: dict[int, dict[str, float]], few: int, many: int) -> Result:
    result = Result("tenants", "A hundred thousand endpoints", columns=["", f"{few:,}", f"{many:,}"])
    result.table = [[name, *(round(found[count][name], 2) for count in (few, many))] for name in found[many]]
    last = found[many]
    result.figures = [
        Figure(f"start with {many:,} endpoints", f"{last['start s']:.2f} s", "3 s", last["start s"] / 3, "<= 1"),
        Figure("memory", f"{last['memory MiB']:.0f} MiB", "400 MiB", last["memory MiB"] / 400, "<= 1"),
        Figure(
            "adding one",
            f"{last['add one']:.1f} ms",
            f"{found[few]['add one']:.1f} ms at {few:,}",
            last["add one"] / found[few]["add one"],
            "<= 1.5",
        ),
    ]
    result.notes = [f"{_SERVICES} web services; rows are put into the database directly. Lists are read by a client."]
    lines = {name: [[count, found[count][name]] for count in (few, many)] for name in ("add one", "list a page")}
    result.chart = {"kind": "lines", "title": "Milliseconds by number of endpoints", "lines": lines}
    return result


if __name__ == "__main__":
    begun = time.monotonic()
    measured = run(*map(int, sys.argv[1:]))
    measured.show()
    measured.save(time.monotonic() - begun)
