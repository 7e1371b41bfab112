"""A server that is killed at random moments under load: nothing that was answered is lost, nothing half-done stays.

`make crash` does it a hundred times on SQLite and thirty times on PostgreSQL; CRASH_KILLS and CRASH_SEED say how often,
and which moments.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.server.state.engine import DATABASE_VARIABLE
from airflow_provider_azureml_classic.server.state.history import KEPT_MODELS
from tests.support import ServerProcess
from tests.support.crash_clients import Rounds
from tests.support.crash_more import BusyClient
from tests.support.postgres import free_port
from tests.support.processes import command, group, until
from tests.support.service import TRAINING, declaration

pytestmark = pytest.mark.slow

CLIENTS = 4
KILLS = {"sqlite": int(os.environ.get("CRASH_KILLS", "4")), "postgresql": int(os.environ.get("CRASH_KILLS", "2"))}
SEED = int(os.environ.get("CRASH_SEED", str(random.SystemRandom().randrange(10**6))))


class Killed:
    """A server that is started again and again on one port, and its clients.

    :param folder: for everything.
    :param trained: has the models that clients put in place.
    :param url: of the database; empty for SQLite.
    """

    def __init__(self, folder: Path, trained: Path, url: str) -> None:
        self.folder = folder
        self.data = folder / "data"
        # Of the system's folder: a long path would be too long for sockets.
        self.scratch = Path(tempfile.mkdtemp(prefix="crash-"))
        self.database = url
        self.environment = {DATABASE_VARIABLE: url, "TMPDIR": str(self.scratch)}
        declared = str(declaration(folder, TRAINING))
        self.arguments = ("--experiments", declared, "--workers", "2", "--port", str(free_port()))
        self.random = random.Random(SEED)  # noqa: S311 - to be repeated, not kept secret
        self.rounds = Rounds(CLIENTS)
        self.server = self.start()
        shutil.copytree(trained / "data" / "blobs" / "models", self.data / "blobs" / "models")
        address = self.server.url, self.server.connection["token"]
        self.clients = [
            BusyClient(number, self.rounds, self.client, self.place, address, SEED) for number in range(CLIENTS)
        ]
        for client in self.clients:
            client.start()

    def start(self) -> ServerProcess:
        """Start the server."""
        return ServerProcess(self.data, *self.arguments, environment=self.environment)

    def client(self, **options: object) -> Client:
        """A client; its connections survive the server."""
        return self.server.client(**options)

    def place(self, path: str, permissions: str) -> BlobReference:
        """A reference with a token."""
        return self.server.sas(path, permissions)

    def round(self) -> None:
        """Everything is checked, then the server is killed under load, perhaps also while it starts."""
        self.rounds.begin()
        until("everything is checked", self.rounds.all_checked, 120)
        self.check_files()
        self.rounds.load.set()
        time.sleep(self.random.uniform(0.05, 3))
        self.server.kill()
        self.rounds.load.clear()
        self.rounds.up.clear()
        while self.random.random() < 0.25:
            self.kill_early()
        self.gone()
        self.server = self.start()

    def kill_early(self) -> None:
        """Start it, and kill it before or just after it is ready."""
        with self.server.log.open("ab") as log:
            begun = subprocess.Popen(
                command(self.data, *self.arguments),
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **self.environment},
            )
        time.sleep(self.random.uniform(0.2, 2))
        begun.kill()
        begun.wait(20)

    def gone(self) -> None:
        """The killed server's worker processes have ended, too."""
        until("its worker processes have ended", lambda: not group(self.server.process.pid))

    def in_place(self) -> set[str]:
        """Digests of the models in place, from the database itself."""
        return self._digests("SELECT DISTINCT digest FROM resources")

    def kept(self) -> set[str]:
        """These, and the digests of those that can be put back."""
        rank = "ROW_NUMBER() OVER (PARTITION BY endpoint_id ORDER BY MAX(id) DESC) AS rank"
        ranked = f"SELECT digest, {rank} FROM placements GROUP BY endpoint_id, digest"  # noqa: S608 - all ours
        query = f"SELECT DISTINCT digest FROM ({ranked}) AS ranked WHERE rank <= {KEPT_MODELS}"  # noqa: S608
        return self.in_place() | self._digests(query)

    def _digests(self, query: str) -> set[str]:
        if self.database:
            with psycopg.connect(self.database) as shared:
                return {row[0] for row in shared.execute(query)}
        with closing(sqlite3.connect(f"file:{self.data / 'state.db'}?mode=ro", uri=True)) as own:
            return {row[0] for row in own.execute(query)}

    def check_files(self) -> None:
        """Models are whole and there; what no endpoint has is removed when a server has lived for a minute."""
        found = {path.name: path for path in (self.data / "models").iterdir()}
        wanted = {f"{digest}.ilearner" for digest in self.in_place()}
        assert wanted <= found.keys(), "a model in place has no file"
        for name, path in found.items():
            if name.endswith(".ilearner"):
                assert hashlib.sha256(path.read_bytes()).hexdigest() == path.stem, "a model is half written"
        if not self.database:
            kept = {f"{digest}.ilearner" for digest in self.kept()}
            assert kept <= found.keys(), "a model that can be put back has no file"
        assert len(list(self.scratch.iterdir())) <= 1, "files of a killed process in the folder for temporary files"
        hidden = [path for path in self.data.iterdir() if path.name.startswith(".")]
        assert hidden == []

    def finish(self) -> None:
        """All jobs that were started end; then everything is checked once more, and nothing is lost."""
        self.rounds.begin()
        until("everything is checked", self.rounds.all_checked, 120)
        self.rounds.over.set()
        for client in self.clients:
            client.join(30)
        for client in self.clients:
            going = [job for job in client.jobs.values() if job.started == {True}]
            until("all jobs have ended", lambda c=client, g=going: all(c.see(job).status.terminal for job in g), 120)
            client.check()
        # What was replaced or deleted is removed when a server has lived for a minute, and never at a start.
        self.server.stop()
        self.server = self.start()
        assert self.kept() <= {path.stem for path in (self.data / "models").iterdir()}

    def close(self) -> None:
        """Stop everything."""
        self.rounds.over.set()
        for client in self.clients:
            client.join(30)
        self.server.stop()
        assert list(self.scratch.iterdir()) == []
        self.scratch.rmdir()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def killed(request: pytest.FixtureRequest, tmp_path: Path, trained: Path) -> Iterator[Killed]:
    """A server to kill, with its clients, on each kind of database."""
    url = request.getfixturevalue("postgres").new_database() if request.param == "postgresql" else ""
    made = Killed(tmp_path, trained, url)
    yield made
    made.close()


def test_no_answer_is_lost(killed: Killed, capsys: pytest.CaptureFixture[str]) -> None:
    """Endpoints, models, keys, blobs and jobs are after each kill as they were answered before it."""
    kills = KILLS["postgresql" if killed.database else "sqlite"]
    print(f"CRASH_KILLS={kills} CRASH_SEED={SEED}")
    for _ in range(kills):
        killed.round()
    killed.finish()
    log = killed.server.log.read_text()
    assert "Traceback" not in log, log[log.index("Traceback") - 300 :][:3000]
    with capsys.disabled():
        counts = ", ".join(f"{count} {what}" for what, count in sorted(killed.rounds.counts.items()))
        kind = "PostgreSQL" if killed.database else "SQLite"
        sys.stdout.write(f"\n{kind}: {kills} kills, seed {SEED}: {counts}; nothing lost, nothing left over\n")
