"""Several servers behind nginx, by the configuration that comes along: which server answers for which endpoint."""

from __future__ import annotations

import re
import subprocess
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support import ROOT, require_program
from tests.support.listeners import serving
from tests.support.postgres import free_port
from tests.support.processes import soon

pytestmark = pytest.mark.slow

NAMES = "abc"
WORKSPACE = uuid.uuid4().hex


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


def configured(folder: Path, port: int, ports: list[int]) -> Path:
    """The configuration that comes along, with these addresses and nothing of the machine's own."""
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    text, count = re.subn(r"listen 8080;", f"listen 127.0.0.1:{port};", text)
    assert count == 1
    addresses = iter(ports)
    text, count = re.subn(r"server 10\.0\.0\.\d+:8080", lambda _: f"server 127.0.0.1:{next(addresses)}", text)
    assert count == len(ports)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"{kind}_temp_path {folder / kind};\n" for kind in kinds)
    path = folder / "nginx.conf"
    path.write_text(f"daemon off;\npid {folder / 'pid'};\n" + text.replace("http {\n", f"http {{\n{places}", 1))
    return path


@contextmanager
def nginx(folder: Path, ports: list[int]) -> Iterator[str]:
    """nginx before servers on these ports, until the block ends; its address."""
    program = require_program("nginx", "On Debian: apt-get install nginx-light.", "/usr/sbin")
    port = free_port()
    command = [str(program), "-p", str(folder), "-c", str(configured(folder, port, ports)), "-e", "stderr"]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            with soon("nginx answers") as check:
                check(lambda: asked(f"http://127.0.0.1:{port}", "/healthz") != "")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


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
