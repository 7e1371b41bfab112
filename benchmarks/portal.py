"""How quickly the portal's pages answer with many endpoints: ``python -m benchmarks.portal [ENDPOINTS]``.

Fills the database of a server, asks its pages over a socket one after the other, and prints the median and the slowest
of twenty answers, in milliseconds, and the size of each page.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import requests
import sqlalchemy as sa

from airflow_provider_azureml_classic.server.settings import load_secrets
from airflow_provider_azureml_classic.server.state.database import Database
from airflow_provider_azureml_classic.server.state.tables import endpoints, keys, placements, resources
from tests.support import BIKES_SCORING, ServerProcess

TIMES = 20
#: Models that each endpoint had.
PAST = 5


def fill(database: Database, service_id: str, count: int, now: datetime) -> None:
    """Add endpoints, each with a history, straight to the database.

    :param database: of the server.
    :param service_id: of the scoring web service.
    :param count: of endpoints.
    :param now: the present time.
    """
    with database.write() as connection:
        default = connection.execute(
            sa.select(endpoints, resources.c.name.label("resource"), resources.c.digest)
            .join(resources, resources.c.endpoint_id == endpoints.c.id)
            .where(endpoints.c.service_id == service_id)
        ).mappings()
        model = dict(next(iter(default)))
        resource, digest = model.pop("resource"), model.pop("digest")
        ids = [uuid.uuid4().hex for _ in range(count)]
        rows = [{**model, "id": one, "name": f"n{i:05}", "description": f"Customer {i}"} for i, one in enumerate(ids)]
        connection.execute(sa.insert(endpoints), rows)
        connection.execute(sa.insert(keys), [{"hash": uuid.uuid4().hex, "endpoint_id": one} for one in ids])
        place = {"base_location": "", "digest": digest}
        live = [
            {**place, "endpoint_id": one, "name": resource, "relative_location": f"models/{one}.ilearner"}
            for one in ids
        ]
        connection.execute(sa.insert(resources), live)
        connection.execute(
            sa.insert(placements),
            [_past(i, one, place, resource, age, now) for i, one in enumerate(ids) for age in range(PAST)],
        )


def _past(
    number: int, endpoint: str, place: dict[str, str], resource: str, age: int, now: datetime
) -> dict[str, object]:
    at = now - timedelta(hours=number % 500 + 24 * age)
    path = f"models/n{number:05}/{at:%Y%m%dT%H%M%SZ}.ilearner"
    model = {**place, "endpoint_id": endpoint, "resource": resource, "relative_location": path}
    return {**model, "number": PAST - age, "window_end": at, "placed_at": at, "how": "patch", "live": age == 0}


def main(count: int) -> None:
    """Fill, ask, print.

    :param count: of endpoints.
    """
    with tempfile.TemporaryDirectory() as folder:
        server = ServerProcess(Path(folder) / "data")
        try:
            with server.client() as client:
                scoring = client.find_web_service(BIKES_SCORING).id
            secrets = load_secrets(server.data_dir, {})
            database = Database(f"sqlite:///{server.data_dir / 'state.db'}", secrets.cipher_key)
            fill(database, scoring, count, datetime.now(UTC))
            database.close()
            measure(server.url, secrets.token, f"/portal/services/{scoring}")
        finally:
            server.stop()


def measure(url: str, token: str, root: str) -> None:
    """Ask each page and print what it took.

    :param url: of the server.
    :param token: of its workspace.
    :param root: path of the web service's page.
    """
    with requests.Session() as session:
        page = session.get(f"{url}/portal/sign-in", timeout=60).text
        csrf = page.partition('name="csrf" value="')[2].partition('"')[0]
        session.post(f"{url}/portal/sign-in", data={"csrf": csrf, "token": token}, timeout=60).raise_for_status()
        pages = ("/portal/services", root, f"{root}?page=300", f"{root}?sort=freshness&down=1", f"{root}?q=9999")
        print(f"{'page':<40} {'median ms':>10} {'slowest':>10} {'KB':>6}")
        for path in (*pages, f"{root}?state=stale", f"{root}/endpoints/n00042"):
            taken = []
            for _ in range(TIMES):
                start = time.perf_counter()
                answer = session.get(url + path, timeout=60)
                taken.append((time.perf_counter() - start) * 1000)
                answer.raise_for_status()
            name = path.replace(root, "SERVICE")
            print(
                f"{name:<40} {statistics.median(taken):>10.1f} {max(taken):>10.1f} {len(answer.content) / 1000:>6.1f}"
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
