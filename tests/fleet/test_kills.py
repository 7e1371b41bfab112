"""The process of a fleet's task is killed, once half-way and often at random; no job is lost or run twice.

``FLEET_KILLS`` and ``FLEET_SEED`` say how often and repeat the choices.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT, ServerProcess
from tests.support.fleets import FileStore, attempt, fleet, run, started, started_for, uploaded, wait_for
from tests.support.gates import rentals

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("FLEET_KILLS", "10"))
SEED = int(os.environ.get("FLEET_SEED", str(random.SystemRandom().randrange(10**6))))
_ENDPOINTS = 8
#: Seconds within which an attempt is killed: half of them while they submit and start their jobs.
_WITHIN = (0.4, 2.5)
#: Kills of one fleet.
_A_FLEET = 5
_FORK = multiprocessing.get_context("forkserver")


@pytest.fixture(autouse=True)
def connection(airflow_connection: ServerProcess) -> None:
    """The running server as Airflow's connection."""


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    """A task state store."""
    return FileStore(tmp_path / "store.json")


def test_killed_in_the_middle(server: ServerProcess, store: FileStore) -> None:
    """kill -9 when half of the fleet has ended: the next attempt finishes it, and as many jobs ran as endpoints are."""
    items = uploaded(server, "killed", 8)
    arguments = json.dumps({"trainer": "killed", "items": items, "max_active_jobs": 3})
    command = [sys.executable, "-m", "tests.support.fleets", str(store.path), arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: started(server, "killed").count("Finished") >= 4 or process.poll() is not None)
        assert process.poll() is None, "it was too fast to be killed"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(store.kept) > 0
    result = fleet("killed", items).execute(attempt(store))
    assert result["counts"]["updated"] == 8
    assert started(server, "killed") == ["Finished"] * 8


def _killed(server: ServerProcess, path: Path, arguments: dict[str, Any], draw: random.Random) -> int:
    """Kill one attempt after the other, until one has ended before; how many were killed."""
    for kills in range(_A_FLEET):
        before = path.stat().st_mtime_ns if path.exists() else 0
        process = _FORK.Process(target=run, args=(path, arguments, server.connection["airflow_conn"]))
        process.start()

        def is_at_work(process: Any = process, before: int = before) -> bool:
            return process.exitcode is not None or (path.exists() and path.stat().st_mtime_ns != before)

        wait_for(is_at_work)
        process.join(draw.uniform(0, draw.choice(_WITHIN)))
        ended = process.exitcode is not None
        process.kill()
        process.join()
        if ended:
            return kills
    return _A_FLEET


@pytest.mark.long
def test_killed_at_random_moments(server: ServerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Attempts of fleets die by kill -9 at any moment, and the last one finishes: every endpoint is updated by the one
    job that was started for it, but for the endpoint whose data were bad at first, which had one more for each failure.
    """
    draw, kills, number = random.Random(SEED), 0, 0  # noqa: S311 - moments, no secrets
    # A process that has everything loaded forks each attempt.
    _FORK.set_forkserver_preload(["tests.support.fleets"])
    while kills < KILLS:
        name, number = f"rnd{number}x", number + 1
        items = uploaded(server, name, _ENDPOINTS)
        # The last one, because a failure ends an attempt.
        last = items[-1]["endpoint"]
        server.upload(f"fleets/{last}.csv", "no,such,columns\n1,2,3\n")
        path = tmp_path / f"{name}.json"
        arguments = {"trainer": name, "items": items, "max_active_jobs": 3}
        kills += _killed(server, path, arguments, draw)
        server.upload(f"fleets/{last}.csv", rentals(100, 60))
        result = fleet(**arguments).execute(attempt(FileStore(path)))
        assert result["counts"]["updated"] == _ENDPOINTS, f"FLEET_SEED={SEED}"
        ran = started_for(server, name)
        *bad, good = ran.pop(last)
        assert ran == {item["endpoint"]: ["Finished"] for item in items[:-1]}, f"FLEET_SEED={SEED}"
        assert (set(bad) | {"Failed"}, good) == ({"Failed"}, "Finished"), f"FLEET_SEED={SEED}"
        assert FileStore(path).kept == {}
    with capsys.disabled():
        print(f"FLEET_KILLS={kills} FLEET_SEED={SEED} fleets={number}")
