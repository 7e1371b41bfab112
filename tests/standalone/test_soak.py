"""Very many waits in one triggerer while the server is stopped or killed each minute; SOAK_SECONDS and SOAK_WAITS."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_azureml_classic.triggers import JobTrigger
from tests.support import ServerProcess
from tests.support.held_server import HeldServer
from tests.support.postgres import free_port
from tests.support.processes import files, memory

SECONDS, WAITS = float(os.environ.get("SOAK_SECONDS", "120")), int(os.environ.get("SOAK_WAITS", "5000"))
JOBS, POLL, RESTART = 10, 20.0, 60.0
#: What a process may hold more at the end than at the first restart, in MiB: a leak of some KB a poll is more.
GROWTH = 64


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldServer]:
    """A server on a port of its own, whose trainings wait, as Airflow's connection."""
    made = HeldServer(tmp_path, "--workers", "2", "--port", str(free_port()))
    made.hold()
    monkeypatch.setenv("AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT", made.process.connection["airflow_conn"])
    yield made
    made.let_go()
    made.process.stop()


async def event(trigger: JobTrigger) -> dict[str, object]:
    """What a wait ends with; there is one event."""
    events = [one.payload async for one in trigger.run()]
    assert len(events) == 1
    return events[0]


def restarted(held: HeldServer, *, kill: bool) -> None:
    """The server is stopped or killed, and started again after a while."""
    if kill:
        held.process.kill()
    else:
        held.process.stop()
    time.sleep(3)
    held.process = ServerProcess(held.folder / "data", *held.arguments)


@pytest.mark.timeout(3600)
async def test_waits_outlive_restarts(held: HeldServer, capsys: pytest.CaptureFixture[str]) -> None:
    """None ends before its job or fails, each has one event, and neither memory nor connections grow."""
    with held.process.client() as client:
        trainer = held.trainer(client)
        jobs = [held.start_job(client) for _ in range(JOBS)]
    common = {
        "azureml_classic_conn_id": "azureml_classic_default",
        "web_service_id": trainer.web_service_id,
        "endpoint": trainer.name,
        "deadline": None,
        "poll_interval": POLL,
    }
    waits = [asyncio.ensure_future(event(JobTrigger(job_id=jobs[i % JOBS], **common))) for i in range(WAITS)]
    began, held_at_first, restarts = time.monotonic(), 0.0, 0
    while time.monotonic() - began < SECONDS:
        await asyncio.sleep(min(RESTART, SECONDS / 3))
        if not restarts:
            held_at_first, open_at_first = memory(os.getpid()), files(os.getpid())
        await asyncio.to_thread(restarted, held, kill=bool(restarts % 2))
        restarts += 1
        assert not any(wait.done() for wait in waits)
    await asyncio.sleep(2 * POLL)
    grown, opened = memory(os.getpid()) - held_at_first, files(os.getpid()) - open_at_first
    with capsys.disabled():
        told = f"{WAITS} waits, {restarts} restarts, {held_at_first:.0f} MiB and {grown:+.0f}, {opened:+d} files"
        sys.stdout.write(f"\n{told}\n")
    assert grown < GROWTH
    assert opened < 100
    held.let_go()
    async with asyncio.timeout(600):
        events = await asyncio.gather(*waits)
    assert [one["job_id"] for one in events] == [jobs[i % JOBS] for i in range(WAITS)]
    with held.process.client() as client:
        assert {client.get_job(trainer, job).status.value for job in jobs} == {"Finished"}
    assert "Traceback" not in held.process.log.read_text()
