"""Data, models and endpoints in the numbers that the measurements need."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.sas import StorageAccount, sign
from airflow_provider_azureml_classic.protocol.values import Endpoint, EndpointSettings, Resource
from airflow_provider_azureml_classic.server.clock import system_clock
from airflow_provider_azureml_classic.server.experiments.datasets import bike_rentals, write_csv
from airflow_provider_azureml_classic.server.experiments.ilearner import read_ilearner, write_ilearner
from airflow_provider_azureml_classic.server.settings import Settings, load_secrets
from airflow_provider_azureml_classic.server.state.database import Database
from airflow_provider_azureml_classic.server.state.endpoint_store import Store
from airflow_provider_azureml_classic.server.workspace.endpoints import new_endpoint
from benchmarks.processes import OurServer

T = TypeVar("T")
R = TypeVar("R")
BIKES, BIKES_SCORING = "Bike Rental", "Bike Rental [predictive exp.]"


def in_threads(work: Callable[[T], R], items: Iterable[T], threads: int = 4) -> list[R]:
    """The results of ``work``, in order.

    :param work: done for each item.
    :param items: what to work on.
    :param threads: at a time.
    """
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, items))


def bikes_csv(rows: int, number: int) -> bytes:
    """Rentals of one customer.

    :param rows: about as many; a day has 24.
    :param number: of the customer; another number, other rentals.
    """
    stream = StringIO(newline="")
    write_csv(bike_rentals(date(2025, 1, 1), -(-rows // 24), locations=1, seed=number), stream)
    return stream.getvalue().encode()


def sas(server: OurServer, path: str, permissions: str = "r") -> BlobReference:
    """A reference into the server's own store, with a token.

    :param server: the server.
    :param path: ``container/blob``.
    :param permissions: of the token.
    """

    extra = json.loads(server.connection["airflow_conn"])["extra"]
    account = StorageAccount.from_connection_string(extra["storage_connection_string"])
    container, _, blob = path.partition("/")
    now = datetime.now(UTC)
    token = sign(
        account, container, blob, permissions=permissions, start=now - timedelta(days=1), expiry=now + timedelta(days=1)
    )
    return BlobReference(path, account.endpoint, token).normalised()


def upload(server: OurServer, path: str, content: bytes, client: Client | None = None) -> BlobReference:
    """Put a blob into the server's own store; returns a reference for reading.

    :param server: the server.
    :param path: ``container/blob``.
    :param content: of the blob.
    :param client: of the calling thread; the server's by default.
    """
    (client or server.client).store_blob(sas(server, path, "cw"), content)
    return sas(server, path)


def model_variants(server: OurServer, experiment: str, folder: Path) -> Iterator[bytes]:
    """Different model files of one experiment without end, all of the same graph but the second.

    The second one answers differently: its constant is larger.

    :param server: whose first model is varied.
    :param experiment: the experiment.
    :param folder: for the files.
    """
    import onnx

    manifest, graph = next(
        found
        for found in (read_ilearner(path) for path in (server.data_dir / "models").glob("*.ilearner"))
        if found[0].experiment == experiment
    )
    changed = onnx.load_from_string(graph)
    [constant] = [item for node in changed.graph.node for item in node.attribute if item.name == "base_values"]
    constant.floats[0] += 5.0
    other = changed.SerializeToString()
    number = 0
    while True:
        content = other if number == 1 else graph
        path = folder / "variant.ilearner"
        stamped = replace(manifest, created=f"2026-01-01T00:00:00.{number:06d}", sha256=sha256(content).hexdigest())
        write_ilearner(path, content, stamped)
        yield path.read_bytes()
        number += 1


def patch_to(server: OurServer, endpoint: Endpoint, location: BlobReference, client: Client | None = None) -> None:
    """Put a model in place.

    :param server: the server.
    :param endpoint: to be changed.
    :param location: of the model, with a token.
    :param client: of the calling thread; the server's by default.
    """
    name = endpoint.resources[0].name
    (client or server.client).patch_endpoint(endpoint, EndpointSettings(resources=(Resource(name, location),)))


def add_rows(data_dir: Path, service_id: str, count: int, like: Endpoint | None) -> list[Any]:
    """Add endpoints to the database of a server that does not run: what its call does, without HTTP.

    :param data_dir: of the server.
    :param service_id: their web service.
    :param count: how many.
    :param like: has the model that they start with.
    """
    secrets = load_secrets(data_dir, os.environ)
    settings = Settings(
        data_dir, "http://127.0.0.1", secrets.workspace_id, secrets.token, secrets.account_key, secrets.cipher_key
    )
    database = Database(settings.database_url, settings.cipher_key)
    store = Store(database)
    try:
        model = store.endpoint_named(service_id, like.name) if like else None
        rows = []
        for number in range(count):
            row = new_endpoint(service_id, f"many{number:06d}", system_clock())
            models = tuple(replace(one, endpoint_id=row.id) for one in (model.resources if model else ()))
            rows.append(replace(row, resources=models))
            store.add_endpoint(rows[-1])
        return rows
    finally:
        database.close()
