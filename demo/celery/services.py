"""A PostgreSQL cluster and a Redis of one's own, on free ports, in a folder that can be thrown away."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from demo.processes import DemoError

#: Where Debian puts the programs of a PostgreSQL server.
_POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def wait_for(what: str, look: Callable[[], object], patience: float = 180) -> None:
    """Until ``look`` is true.

    :param what: for the message.
    :param look: asked every half second.
    :param patience: seconds.
    :raises DemoError: it took too long.
    """
    deadline = time.monotonic() + patience
    while not look():
        if time.monotonic() > deadline:
            raise DemoError(f"waited {patience:g} s in vain: {what}.")
        time.sleep(0.5)


def _unprivileged(folder: Path) -> list[str]:
    """PostgreSQL refuses to run as root: what stands before its commands then."""
    if os.geteuid() != 0:
        return []
    shutil.chown(folder, "postgres")
    return ["runuser", "-u", "postgres", "--"]


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A cluster with an empty database; yields its URL without driver.

    :param folder: for the cluster; its parents must be open to others where this runs as root.
    :raises DemoError: PostgreSQL is not installed, or does not start.
    """
    if not _POSTGRES:
        raise DemoError("PostgreSQL is not installed: apt-get install postgresql.")
    folder.mkdir(parents=True)
    programs, prefix, port = _POSTGRES[-1], _unprivileged(folder), free_port()
    data, log = folder / "data", folder / "postgres.log"
    _run([*prefix, str(programs / "initdb"), "-D", str(data), "-U", "airflow", "--auth=trust", "-E", "UTF8"])
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c max_connections=300 -c fsync=off"
    control = [*prefix, str(programs / "pg_ctl"), "-D", str(data)]
    _run([*control, "-w", "-l", str(log), "-o", options, "start"])
    try:
        _run([*prefix, str(programs / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "airflow", "airflow"])
        yield f"//airflow@127.0.0.1:{port}/airflow"
    finally:
        _run([*control, "-m", "immediate", "stop"])


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[str]:
    """A Redis that keeps nothing; yields its URL.

    :param folder: to run in.
    :raises DemoError: it is not installed.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise DemoError("Redis is not installed: apt-get install redis-server.")
    folder.mkdir(parents=True)
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with (folder / "redis.log").open("wb") as log:
        process = subprocess.Popen([program, *options], cwd=folder, stdout=log, stderr=log)  # noqa: S603
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(20)


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, cwd="/", capture_output=True, text=True)  # noqa: S603 - our own programs
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise DemoError(f"{Path(command[-1]).name}: {said[-1] if said else 'no message'}")
