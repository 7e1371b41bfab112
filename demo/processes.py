"""The processes of the demonstration: each is ended however the demonstration ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_GRACE = 10


class DemoError(Exception):
    """Something that the reader can mend; the text says what."""


@contextlib.contextmanager
def server(home: Path, port: int) -> Iterator[dict[str, str]]:
    """A server of this package; yields its ``connection.json``.

    :param home: folder of the demonstration.
    :param port: 0 = any free one.
    """
    command = [sys.executable, "-m", "airflow_provider_azureml_classic.server"]
    command += ["--data-dir", str(home / "server"), "--port", str(port)]
    log = home / "server.log"
    with log.open("wb") as errors, started(command, stdout=subprocess.PIPE, stderr=errors) as process:
        line = process.stdout.readline() if process.stdout else b""
        if b"ready" not in line:
            process.wait(_GRACE)
            said = log.read_text().strip().splitlines()
            raise DemoError(f"The server did not start: {said[-1] if said else 'no message'}")
        yield json.loads((home / "server" / "connection.json").read_text())


class Airflow:
    """A private Airflow that runs the example DAG.

    :param process: see :mod:`demo.run_dag`.
    :param answers: what it writes.
    :param log: what Airflow prints.
    """

    def __init__(self, process: subprocess.Popen[bytes], answers: Any, log: Path) -> None:
        self._process = process
        self._answers = answers
        self._log = log

    def answer(self) -> dict[str, Any]:
        """The next answer.

        :raises DemoError: the process ended instead.
        """
        line = self._answers.readline()
        if not line:
            said = [text for text in self._log.read_text(errors="replace").splitlines() if text.strip()]
            raise DemoError(f"Airflow stopped: {said[-1] if said else 'no message'}. Its log is {self._log}.")
        return dict(json.loads(line))

    def run(self, day: str) -> dict[str, Any]:
        """Run the DAG for one day.

        :param day: ISO 8601.
        """
        if self._process.stdin:
            self._process.stdin.write(f"{day}\n".encode())
            self._process.stdin.flush()
        return self.answer()


@contextlib.contextmanager
def airflow(home: Path, connection: Mapping[str, str]) -> Iterator[Airflow]:
    """A private Airflow home with a SQLite database; the connection comes from the environment, so nothing is stored.

    :param home: folder of the demonstration.
    :param connection: the server's ``connection.json``.
    """
    reading, writing = os.pipe()
    command = [sys.executable, str(ROOT / "demo" / "run_dag.py"), str(writing)]
    log = home / "airflow.log"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT": connection["airflow_conn"],
    }
    with (
        log.open("wb") as output,
        started(
            command, stdin=subprocess.PIPE, stdout=output, stderr=output, env=environment, pass_fds=(writing,)
        ) as process,
    ):
        os.close(writing)
        with os.fdopen(reading) as answers:
            yield Airflow(process, answers, log)


@contextlib.contextmanager
def started(command: list[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block.

    :param command: what to run.
    :param options: of ``subprocess.Popen``.
    """
    # A session of its own: Ctrl-C in the terminal reaches the demonstration, which then ends its processes itself.
    process = subprocess.Popen(command, start_new_session=True, cwd=ROOT, **options)  # noqa: S603 - our own programs
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        for stream in (process.stdin, process.stdout):
            if stream:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
