"""The two programs of the guides that a shell calls, imported once: each call is a fork of one process.

``airflow`` takes three seconds of processor time before it does anything, and guides call it many times. As a program:
listens at the Unix socket that its argument names.
"""

from __future__ import annotations

import array
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[2]
MODULES = {"airflow": "airflow.__main__", "azureml-classic": "airflow_provider_azureml_classic.cli.__main__"}
#: What ``airflow`` imports only when a command wants it.
LATER = (
    *("airflow.cli.commands.dag_command", "airflow.cli.commands.db_command", "airflow.cli.commands.backfill_command"),
    *("airflow.cli.commands.connection_command", "airflow.utils.db", "airflow.dag_processing.dagbag"),
    *("airflow.api_fastapi.execution_api.app", "airflow.sdk.execution_time.supervisor", "cadwyn"),
)
#: Takes arguments, folder, environment and the three streams along, and ends as the call does.
_SHIM = """#!{python} -IS
import array, json, os, socket, sys
call = json.dumps([{name!r}, sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
with socket.socket(socket.AF_UNIX) as there:
    there.connect({address!r})
    there.sendmsg([len(call).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
    there.sendall(call)
    status = there.recv(1)
sys.exit(status[0] if status else 70)
"""


class WarmPrograms:
    """A folder with the two programs, to stand first in ``PATH``; to be entered with ``with``.

    :param folder: an empty one.
    :param environment: of the process that imports: ``AIRFLOW_HOME`` and what Airflow reads before a command.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.bin, self.log, address = folder / "bin", folder / "warm.log", folder / "socket"
        self.bin.mkdir(parents=True)
        for name in MODULES:
            path = self.bin / name
            path.write_text(_SHIM.format(python=sys.executable, name=name, address=str(address)))
            path.chmod(0o700)
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(address)], stdout=subprocess.PIPE, stderr=output, env=dict(environment)
            )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n", self.log.read_text(errors="replace")

    def __enter__(self) -> WarmPrograms:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def main() -> None:
    """Import, then answer calls one after the other."""
    entries = {name: importlib.import_module(module) for name, module in MODULES.items()}
    for module in LATER:
        importlib.import_module(module)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(sys.argv[1])
        listening.listen()
        os.write(1, b"ready\n")
        while True:
            connection, _ = listening.accept()
            with connection:
                child = os.fork()
                if not child:
                    listening.close()
                    _answer(connection, entries)
                os.waitpid(child, 0)


def _answer(connection: socket.socket, entries: Mapping[str, object]) -> None:
    descriptors = array.array("i")
    size, ancillary, _, _ = connection.recvmsg(4, socket.CMSG_LEN(3 * descriptors.itemsize))
    descriptors.frombytes(ancillary[0][2])
    call = b""
    while len(call) < int.from_bytes(size, "big"):
        call += connection.recv(1 << 16)
    name, arguments, folder, environment = json.loads(call)
    for target, descriptor in enumerate(descriptors):
        os.dup2(descriptor, target)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = [name, *arguments]
    status = 70
    try:
        if name == "airflow":
            # Read at the import: the folder of DAGs, and the address of the database.
            settings = importlib.import_module("airflow.settings")
            settings.configure_vars()
        status = _status(entries[name].main)  # type: ignore[attr-defined]
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.send(bytes([status]))
        os._exit(status)


def _status(main: object) -> int:
    try:
        answer = main()  # type: ignore[operator]
    except SystemExit as end:
        answer = end.code
    return answer if isinstance(answer, int) else int(answer is not None)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
