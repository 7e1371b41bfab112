"""Waiting: what each wait costs in one process, over TLS, beside the databricks provider's trigger."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import Figure, Result, say
from benchmarks.parsing import airflow_variables, providers_environment
from benchmarks.poll_server import SERVICE_ID, certificate
from benchmarks.processes import folder, free_port, process

_OURS, _THEIRS = "this provider", "databricks"
_POLL = 30.0


@dataclass(frozen=True)
class Waits:
    """Waits of one process.

    :param kind: ``ours`` or ``databricks``.
    :param count: how many.
    :param poll: seconds between two looks.
    :param seconds: how long to measure.
    """

    kind: str
    count: int
    poll: float
    seconds: float


@dataclass(frozen=True)
class Cost:
    """What a wait costs.

    :param memory: KiB a wait.
    :param processor: milliseconds a poll.
    :param polls: counted while measured.
    :param connections: opened for them.
    """

    memory: float
    processor: float
    polls: int
    connections: int


def measure(specifications: list[Waits]) -> list[Cost]:
    """Run some processes of waits side by side; processor time, not time, is measured.

    :param specifications: a process each.
    """
    python = providers_environment()
    subprocess.run([python, "-c", "import psutil"], check=True)
    with folder() as home, ExitStack() as stack:
        chain, key = certificate(home)
        port = free_port()
        command = [sys.executable, "-m", "benchmarks.poll_server", str(port), chain, key]
        stack.enter_context(process(command, home / "server.log"))
        running = []
        for number, one in enumerate(specifications):
            words = [one.kind, f"wait{number:02d}", one.count, one.poll, port, one.seconds]
            log = home / f"waits{number}.log"
            program = [python, Path(__file__).parent / "peers" / "waiter.py", *map(str, words)]
            started = stack.enter_context(process(program, log, environment=_variables(port, chain)))
            say(f"{one.count:,} waits ({one.kind}), a poll each {one.poll:g} s")
            running.append((one, started, log))
        costs = []
        for one, started, log in running:
            started.wait(2 * one.poll + one.seconds + 180)
            lines = log.read_text().strip().splitlines() or [""]
            if not lines[-1].startswith("{"):
                raise RuntimeError(f"{one} failed:\n" + "\n".join(lines[-15:]))
            found = json.loads(lines[-1])
            if found["alive"] != one.count or not found["polls"]:
                raise RuntimeError(f"{one}: {found}\n" + "\n".join(lines[:5]))
            costs.append(Cost(found["memory"] / 1024, found["cpu"] * 1000, found["polls"], found["connections"]))
    return costs


def _variables(port: int, chain: Path) -> dict[str, str]:
    ours = {"conn_type": "azureml_classic", "host": f"https://127.0.0.1:{port}", "login": SERVICE_ID, "password": "t"}
    theirs = {"conn_type": "databricks", "host": "https://127.0.0.1", "port": port, "password": "token"}
    return airflow_variables(
        AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT=json.dumps(ours),
        AIRFLOW_CONN_DATABRICKS_DEFAULT=json.dumps(theirs),
        AIRFLOW__LOGGING__LOGGING_LEVEL="WARNING",
        SSL_CERT_FILE=str(chain),
    )


def run(ours: int = 5000, theirs: int = 1000, poll: float = _POLL, seconds: float = 60) -> Result:
    """Measure.

    :param ours: waits of this provider.
    :param theirs: waits of the databricks provider.
    :param poll: seconds between two looks.
    :param seconds: how long to measure.
    """
    mine, other = measure([Waits("ours", ours, poll, seconds), Waits("databricks", theirs, poll, seconds)])
    result = Result("waiting", "Waiting in the triggerer")
    result.columns = ["trigger", "waits", "memory KiB a wait", "processor ms a poll", "polls", "connections opened"]
    for name, count, cost in ((_OURS, ours, mine), (_THEIRS, theirs, other)):
        result.table.append(
            [name, count, round(cost.memory, 1), round(cost.processor, 2), cost.polls, cost.connections]
        )
    memory = (f"{mine.memory:.1f} KiB", f"databricks {other.memory:.0f} KiB")
    processor = (f"{mine.processor:.2f} ms", f"databricks {other.processor:.2f} ms")
    result.figures = [
        Figure("memory of a wait", *memory, mine.memory / other.memory, "<= 0.05"),
        Figure("processor time of a poll", *processor, mine.processor / other.processor, "<= 0.3333"),
    ]
    result.noise = "Noise: both run at the same time; what is measured is processor time, not time."
    result.notes = [
        f"A poll each {poll:g} s over TLS, verified; the triggers' own `run` on one event loop, as in a triggerer, "
        "without its database. Memory is what the process grew by after the first wait, divided by the waits."
    ]
    bars = [[_OURS, mine.memory], [_THEIRS, other.memory]]
    result.chart = {"kind": "bars", "title": "Memory of a wait, KiB", "bars": bars, "ours": _OURS}
    return result
