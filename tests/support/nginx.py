"""nginx before several servers, by the configuration that comes along."""

from __future__ import annotations

import re
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import ROOT, require_program
from tests.support.postgres import free_port
from tests.support.processes import until


def answers(url: str) -> bool:
    """Whether somebody answers with success."""
    try:
        with urllib.request.urlopen(url, timeout=30):
            return True
    except OSError:
        return False


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
def nginx(folder: Path, ports: list[int], port: int = 0) -> Iterator[str]:
    """nginx before servers on these ports, until the block ends; its address, on a free port if none is given."""
    program = require_program("nginx", "On Debian: apt-get install nginx-light.", "/usr/sbin")
    port = port or free_port()
    command = [str(program), "-p", str(folder), "-c", str(configured(folder, port, ports)), "-e", "stderr"]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            until("nginx answers", lambda: answers(f"http://127.0.0.1:{port}/healthz"))
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)
