"""Several servers behind nginx, by the configuration that comes along: which server answers for which endpoint."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.server.experiments.ilearner import read_ilearner, write_ilearner
from tests.support.azurite import Azurite
from tests.support.listeners import serving
from tests.support.machines import TOKEN_OF_ALL, Machines
from tests.support.nginx import nginx
from tests.support.postgres import Cluster, free_port
from tests.support.processes import patch, until
from tests.support.service import SCORING, TRAINING, WORKSPACE, declaration

pytestmark = pytest.mark.slow

NAMES = "abc"
ENDPOINTS = 15


def handler(name: str) -> type[BaseHTTPRequestHandler]:
    """Answers each request with the name of its server and the path as it came."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        killed = False

        def do_GET(self) -> None:
            """Answer, or break off as one that was killed while it had the call."""
            if type(self).killed:
                self.close_connection = True
                return
            self.rfile.read(int(self.headers.get("content-length", 0)))
            content = f"{name} {self.path}".encode()
            self.send_response(200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    return Handler


def asked(address: str, path: str, body: bytes | None = None) -> str:
    """The server that answers, after it was checked that it saw the path as it was sent; empty: none does."""
    try:
        with urllib.request.urlopen(address + path, body, timeout=30) as answer:
            name, _, seen = answer.read().decode().partition(" ")
    except (urllib.error.URLError, OSError):
        return ""
    assert seen == path
    return str(name)


def score(endpoint: str) -> str:
    """Path of a scoring call."""
    return f"/workspaces/{WORKSPACE}/services/{endpoint}/execute?api-version=2.0"


def test_an_endpoint_stays_with_one_server(tmp_path: Path) -> None:
    """Calls, jobs and the Open Inference Protocol go by what the path names; when a server is gone its endpoints are
    answered by others, and nobody else's move."""
    endpoints = [uuid.uuid4().hex for _ in range(60)]
    with ExitStack() as stack:
        servers: dict[str, ThreadingHTTPServer] = {}
        closing: dict[str, ExitStack] = {}
        handlers = {name: handler(name) for name in NAMES}
        for name in NAMES:
            closing[name] = stack.enter_context(ExitStack())
            servers[name] = closing[name].enter_context(serving(handlers[name]))
        address = stack.enter_context(nginx(tmp_path, [server.server_address[1] for server in servers.values()]))
        owners = {endpoint: asked(address, score(endpoint), b"{}") for endpoint in endpoints}
        assert set(owners.values()) == set(NAMES)
        for endpoint, owner in owners.items():
            jobs = f"/workspaces/{WORKSPACE}/services/{endpoint}/jobs/x%2Fy?api-version=2.0"
            assert [asked(address, score(endpoint), b"{}"), asked(address, jobs)] == [owner, owner]
        models = {asked(address, f"/v2/models/Line~c{number}/infer", b"{}") for number in range(60)}
        assert models == set(NAMES)
        assert len({asked(address, f"/portal/services/{number}") for number in range(20)}) == 1
        handlers["b"].killed = True  # type: ignore[attr-defined]
        closing["b"].close()
        after = {endpoint: asked(address, score(endpoint), b"{}") for endpoint in endpoints}
        assert {endpoint: name for endpoint, name in after.items() if owners[endpoint] != "b"} == {
            endpoint: name for endpoint, name in owners.items() if name != "b"
        }
        assert {name for endpoint, name in after.items() if owners[endpoint] == "b"} == {"a", "c"}


@contextmanager
def behind_nginx(folder: Path, postgres: Cluster) -> Iterator[Machines]:
    """Three servers that have a database and a storage account in common, and hand out the address of nginx."""
    declaration(folder, TRAINING)
    port, azurite = free_port(), Azurite()
    try:
        arguments = ("--no-samples", "--trusted-proxy", "127.0.0.1")
        machines = Machines(folder, postgres.new_database(), azurite, f"http://127.0.0.1:{port}", arguments)
        with ThreadPoolExecutor(len(NAMES)) as threads:
            list(threads.map(machines.start, NAMES))
        (folder / "nginx").mkdir()
        with nginx(folder / "nginx", [machines.ports[name] for name in NAMES], port):
            try:
                yield machines
            finally:
                for server in machines.servers.values():
                    server.stop()
    finally:
        azurite.stop()


def loaded(machines: Machines, name: str) -> int:
    """Models that one of the servers has in memory."""
    request = urllib.request.Request(
        f"{machines.url(name)}/metrics", headers={"authorization": f"Bearer {TOKEN_OF_ALL}"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        text = answer.read().decode()
    return int(float(re.findall(r"^azureml_classic_loaded_models (\S+)", text, re.MULTILINE)[0]))


def slope(endpoint: Endpoint) -> float:
    """What the endpoint answers through nginx where ``x`` is 1; one call, which is not repeated."""
    body = json.dumps({"Inputs": {"input1": [{"x": 1.0}]}, "GlobalParameters": {}}).encode()
    headers = {"authorization": f"Bearer {endpoint.primary_key}", "content-type": "application/json"}
    request = urllib.request.Request(f"{endpoint.api_location}/execute?api-version=2.0", body, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        ((cell,),) = json.loads(answer.read())["Results"]["output1"]["value"]["Values"]
    return round(float(cell), 1)


def with_own_models(machines: Machines, client: Client, models: Path) -> list[Endpoint]:
    """Endpoints that were added and updated through nginx, each with a model file that no other one has."""
    service = client.find_web_service(SCORING).id
    manifest, graph = read_ilearner(models / "three.ilearner")
    endpoints = []
    for number in range(ENDPOINTS):
        path = machines.folder / "model"
        write_ilearner(path, graph, replace(manifest, created=f"{number}"))
        machines.azurite.put(f"data/{number}.ilearner", path.read_bytes(), machines.azurite.home)
        endpoints.append(client.add_endpoint(service, f"e{number}"))
        patch(client, endpoints[-1], BlobReference(f"data/{number}.ilearner"))
    machines.azurite.put("data/ten.ilearner", (models / "ten.ilearner").read_bytes(), machines.azurite.home)
    return endpoints


def test_three_servers_are_one(trained: Path, postgres: Cluster, tmp_path: Path) -> None:
    """On PostgreSQL and Azurite: each model is loaded by the one server that its endpoint's calls come to; an update
    through another one is live there; one is killed, every call is answered, and no other endpoint's model moves."""
    with behind_nginx(tmp_path, postgres) as machines, Client(machines.public, WORKSPACE, TOKEN_OF_ALL) as client:
        endpoints = with_own_models(machines, client, trained / "data" / "blobs" / "models")
        before = {name: loaded(machines, name) for name in NAMES}
        assert max(before.values()) <= 1  # an update leaves none behind where the endpoint's calls do not come
        with ThreadPoolExecutor(4) as threads:
            assert set(threads.map(slope, endpoints * 3)) == {3.0}
        own = {name: loaded(machines, name) - before[name] for name in NAMES}
        assert sum(own.values()) == ENDPOINTS
        victim = max(own, key=lambda name: own[name])
        assert own[victim] < ENDPOINTS
        patch(client, endpoints[0], BlobReference("data/ten.ilearner"))
        until("the server that has the endpoint answers with its new model", lambda: slope(endpoints[0]) == 10)
        with ThreadPoolExecutor(4) as threads:
            answers = threads.map(slope, endpoints[1:] * 4)
            machines.servers[victim].kill()
            assert set(answers) == {3.0}
        assert slope(endpoints[0]) == 10
        left = {name: loaded(machines, name) - before[name] for name in NAMES if name != victim}
        # All are loaded once more or still, the model that was replaced may be, too, and nginx may have taken a busy
        # server for a dead one for a moment. Were the endpoints not kept apart, both would have nearly all.
        assert ENDPOINTS <= sum(left.values()) < 1.5 * ENDPOINTS
