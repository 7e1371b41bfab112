"""A blob service that runs, and Azure's SDK for it."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn
from azure.storage.blob import BlobServiceClient
from starlette.applications import Starlette
from starlette.routing import Mount

from airflow_provider_azureml_classic.protocol.sas import StorageAccount
from airflow_provider_azureml_classic.server.blobs.app import blob_app
from airflow_provider_azureml_classic.server.blobs.store import BlobStore
from tests.support.blob_service import KEY, MAX_SIZE, Served, now


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server on a free port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        account = StorageAccount("mlclassic", KEY, f"http://127.0.0.1:{port}/mlclassic")
        store = BlobStore(tmp_path_factory.mktemp("store"), account)
        app = Starlette(routes=[Mount("/mlclassic", app=blob_app(store, now, max_size=MAX_SIZE))])
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield Served(store, port)
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def service(served: Served) -> Iterator[BlobServiceClient]:
    """Azure's SDK, made to use small blocks."""
    size = 256 * 1024
    with BlobServiceClient.from_connection_string(
        served.store.account.connection_string,
        max_single_put_size=size,
        max_block_size=size,
        max_single_get_size=size,
        max_chunk_get_size=size,
    ) as client:
        yield client


@pytest.fixture
def container(request: pytest.FixtureRequest) -> str:
    """A container's name of this test's own."""
    return f"c-{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:20]}"
