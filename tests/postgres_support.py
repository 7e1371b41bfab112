"""A PostgreSQL of the tests' own: one cluster a test process, in a temporary folder, with a database for each test."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import require_program

PASSWORD = "kept-out-of-logs"
_HOW = "Install PostgreSQL 13 or newer, on Debian: apt-get install postgresql."


def free_port() -> int:
    """A port of the loopback address that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Cluster:
    """A running PostgreSQL on a free port; its user is ``tester``.

    :param folder: for its files; must not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._programs = require_program("initdb", _HOW, "/usr/lib/postgresql/*/bin").parent
        self.folder = folder
        self.port = free_port()
        folder.mkdir(mode=0o700)
        secret = folder / "password"
        secret.write_text(PASSWORD)
        if os.geteuid() == 0:
            # PostgreSQL refuses to run as root; the package has made this user.
            shutil.chown(folder, "postgres", "postgres")
            shutil.chown(secret, "postgres")
        self.data = folder / "data"
        self._run(
            "initdb", "-D", self.data, "-U", "tester", "--pwfile", secret, "-A", "scram-sha-256", "-E", "UTF8", "-N"
        )
        self.start()

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(self._programs / program), *map(str, arguments)]
        if os.geteuid() == 0:
            command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]
        # Not a pipe: the server would keep it open.
        with (self.folder.parent / f"{self.folder.name}.log").open("a+") as log:
            done = subprocess.run(
                command, stdout=log, stderr=log, check=False, cwd="/", env={**os.environ, "TZ": "UTC"}
            )
            if done.returncode:
                log.seek(0)
                raise RuntimeError(f"{program} failed:\n{log.read()}")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        self._run("pg_ctl", "-D", self.data, "-o", options, "-w", "start")

    def stop(self) -> None:
        """Stop it; all connections end."""
        self._run("pg_ctl", "-D", self.data, "-m", "immediate", "-w", "stop")

    def url(self, database: str = "postgres") -> str:
        """Address of a database of it."""
        return f"postgresql://tester:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """Make an empty database; returns its address."""
        import psycopg

        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return self.url(name)


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL that is removed afterwards."""
    # Not below pytest's folder: that belongs to the user of the tests alone.
    base = Path(tempfile.mkdtemp(prefix="azureml-classic-postgres-"))
    base.chmod(0o755)
    try:
        made = Cluster(base / "cluster")
        yield made
        made.stop()
    finally:
        shutil.rmtree(base, ignore_errors=True)
