"""Processes of a measurement: started with their whole session, and ended with it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import psutil

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.protocol.values import Endpoint, WebService
from benchmarks.common import ROOT, WORK, pinned

#: Seconds that a server may take to start; peers take up to half a minute on a busy machine.
PATIENCE = 180
T = TypeVar("T")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def alone(work: Callable[..., T], *arguments: Any) -> T:
    """What a function returns in a process of its own: what others have left in memory is not in its measurements.

    :param work: to do.
    :param arguments: of it.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(work, *arguments).result()


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A directory that is removed afterwards."""
    WORK.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=WORK, ignore_cleanup_errors=True) as name:
        yield Path(name)


@contextlib.contextmanager
def process(
    command: Sequence[str | Path],
    log: Path,
    *,
    core: int | None = None,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own; the whole session is ended afterwards.

    :param command: program and arguments.
    :param log: where its output goes.
    :param core: the one core that it may use.
    :param environment: further variables.
    :param cwd: its directory.
    """
    words = [*(pinned(core) if core is not None else []), *map(str, command)]
    with log.open("ab") as output:
        started = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
            cwd=cwd or ROOT,
        )
    try:
        yield started
    finally:
        stop(started)


def stop(started: subprocess.Popen[bytes]) -> None:
    """End a process and what it started.

    :param started: with a session of its own.
    """
    family = members(started.pid)
    if started.poll() is None:
        started.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.wait(10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(started.pid, signal.SIGKILL)
    for one in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    started.wait()


def members(pid: int) -> list[psutil.Process]:
    """A process and all that it started.

    :param pid: of the first.
    """
    try:
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def memory(pid: int) -> float:
    """Proportional memory of a process and all that it started, in MiB: shared pages count once.

    :param pid: of the first.
    """
    total = 0
    for one in members(pid):
        with contextlib.suppress(psutil.Error):
            total += one.memory_full_info().pss
    return total / 2**20


def processor_seconds(pid: int) -> float:
    """Processor time that a process and all that it started have used.

    :param pid: of the first.
    """
    total = 0.0
    for one in members(pid):
        with contextlib.suppress(psutil.Error):
            used = one.cpu_times()
            total += used.user + used.system
    return total


def post(url: str, body: bytes, headers: Mapping[str, str] | None = None, timeout: float = 60) -> Any:
    """Decoded JSON of an answer.

    :param url: where to.
    :param body: JSON.
    :param headers: further headers.
    :param timeout: seconds.
    """
    head = {"content-type": "application/json", **(headers or {})}
    request = urllib.request.Request(url, body, head)  # noqa: S310 - servers that we started
    with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310
        content = answer.read()
    return json.loads(content) if content else None


def wait_until_answered(url: str, body: bytes, started: subprocess.Popen[bytes], log: Path) -> Any:
    """The first answer of a server that starts.

    :param url: where to.
    :param body: JSON to send.
    :param started: the server.
    :param log: its output, for the message.
    """
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and started.poll() is None:
        try:
            return post(url, body)
        except (urllib.error.URLError, OSError):
            time.sleep(0.02)
    raise RuntimeError(f"No answer at {url}; the server said:\n{log.read_text(errors='replace')[-3000:]}")


class OurServer:
    """A running server of this package.

    :param data_dir: what it keeps.
    :param started: its process.
    """

    def __init__(self, data_dir: Path, started: subprocess.Popen[bytes]) -> None:
        self.pid = started.pid
        self.data_dir = data_dir
        self.connection: dict[str, str] = json.loads((data_dir / "connection.json").read_text())
        self.client = self.new_client()

    def new_client(self) -> Client:
        """A client, for a thread of its own."""
        return Client(*(self.connection[key] for key in ("management_url", "workspace_id", "token")))

    def service(self, name: str) -> WebService:
        """A web service.

        :param name: its name.
        """
        return self.client.find_web_service(name)

    def default_endpoint(self, name: str) -> Endpoint:
        """The default endpoint of a web service.

        :param name: of the web service.
        """
        return self.client.get_endpoint(self.service(name).id, "default")


@contextlib.contextmanager
def our_server(
    home: Path, *, core: int | None = None, port: int | None = None, workers: int = 2, arguments: Sequence[str] = ()
) -> Iterator[OurServer]:
    """A server of this package that is ready.

    :param home: folder of its data and its log.
    :param core: the one core that it may use.
    :param port: any free one by default.
    :param workers: training processes.
    :param arguments: further ones of the command line.
    """
    data_dir, log = home / "server", home / "server.log"
    command = [sys.executable, "-m", "airflow_provider_azureml_classic.server", "--data-dir", data_dir]
    command += ["--port", str(port or free_port()), "--workers", str(workers), "--log-level", "WARNING", *arguments]
    (data_dir / "connection.json").unlink(missing_ok=True)
    with process(command, log, core=core) as started:
        deadline = time.monotonic() + PATIENCE
        while not (data_dir / "connection.json").exists():
            if started.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"The server did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.01)
        server = OurServer(data_dir, started)
        try:
            yield server
        finally:
            server.client.close()
