"""A PostgreSQL of the tests' own: one cluster a test process, in a temporary folder, with a database for each test."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
        self._initialize("-D", self.data, "-U", "tester", "--pwfile", secret, "-A", "scram-sha-256", "-E", "UTF8", "-N")
        self.start()

    def _command(self, program: str, *arguments: object) -> list[str]:
        """A command line of PostgreSQL's, which ends when the tests are killed."""
        user = ["--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
        return ["setpriv", *user, "--pdeathsig=QUIT", str(self._programs / program), *map(str, arguments)]

    def _initialize(self, *arguments: object) -> None:
        done = subprocess.run(
            self._command("initdb", *arguments), capture_output=True, text=True, check=False, cwd="/", timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        """Start it, and wait until it answers."""
        import psycopg

        settings = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "timezone=UTC")
        options = [word for setting in settings for word in ("-c", setting)]
        with (self.folder.parent / "log").open("ab") as log:
            command = self._command("postgres", "-D", self.data, "-p", self.port, *options)
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/")
        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.url()).close()
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self.folder.parent / "log").read_text()
                assert time.monotonic() < deadline, "PostgreSQL does not answer"
                time.sleep(0.1)

    def stop(self) -> None:
        """Stop it; all connections end."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(30)

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

    def dump(self, database: str) -> bytes:
        """Everything that is in a database, as text.

        :param database: its name.
        """
        command = [str(self._programs / "pg_dump"), "--dbname", self.url(database)]
        return subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=120).stdout


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL that is removed afterwards."""
    # Not below pytest's folder: that belongs to the user of the tests alone.
    base = Path(tempfile.mkdtemp(prefix="azureml-classic-postgres-"))
    base.chmod(0o755)
    try:
        made = Cluster(base / "cluster")
        try:
            yield made
        finally:
            made.stop()
    finally:
        shutil.rmtree(base, ignore_errors=True)


class Forwarded:
    """A connection of a forwarder.

    :param number: rises.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.listens = threading.Event()


class Forwarder:
    """Stands between a server and PostgreSQL, and can fall silent: on all connections, or on those that listen.

    :param port: of PostgreSQL.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        #: Set: what listening connections are sent does not arrive.
        self.silent = threading.Event()
        #: Set: connections are accepted, and nothing arrives on any, in either direction.
        self.frozen = threading.Event()
        self._deaf = 0
        #: What sets ``frozen``, if it is asked for.
        self.freeze_at = b""
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [near, far]
                made = Forwarded(len(self._sockets))
                threading.Thread(target=self._copy, args=(near, far, made, True), daemon=True).start()
                threading.Thread(target=self._copy, args=(far, near, made, False), daemon=True).start()

    def deafen(self) -> None:
        """Let nothing pass any more on the connections that are there; new ones speak."""
        self._deaf = len(self._sockets)

    def _copy(self, source: socket.socket, target: socket.socket, made: Forwarded, asks: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if asks and b"LISTEN " in data:
                    made.listens.set()
                if asks and self.freeze_at and self.freeze_at in data:
                    self.frozen.set()
                while self.frozen.is_set() or made.number <= self._deaf:
                    time.sleep(0.05)
                while not asks and made.listens.is_set() and self.silent.is_set():
                    time.sleep(0.05)
                target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End all connections."""
        self.silent.clear()
        self.frozen.clear()
        self._deaf = 0
        for one in (self._listener, *self._sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
