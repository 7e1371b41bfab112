"""Many waits on one event loop, as in a triggerer: the triggers' own ``run``; runs in the providers' environment.

``waiter.py KIND NAME COUNT POLL PORT SECONDS`` prints what the waits cost, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
import urllib.request
from typing import Any

import psutil


def trigger(kind: str, name: str, number: int, poll: float) -> Any:
    """A wait for a job that does not end.

    :param kind: ``ours`` or ``databricks``.
    :param name: of this process, six characters.
    :param number: of the wait.
    :param poll: seconds between two looks.
    """
    if kind == "databricks":
        from airflow.providers.databricks.triggers.databricks import DatabricksExecutionTrigger

        return DatabricksExecutionTrigger(number + 1, "databricks_default", polling_period_seconds=int(poll))
    from airflow_provider_azureml_classic.triggers import JobTrigger

    return JobTrigger(
        job_id=f"{name}{number:026d}",
        azureml_classic_conn_id="azureml_classic_default",
        web_service_id="0" * 32,
        endpoint="bench",
        deadline=time.time() + 86400,
        poll_interval=poll,
    )


async def wait(one: Any) -> None:
    """Run a trigger as the triggerer does; its event would be a mistake here.

    :param one: the trigger.
    """
    async for event in one.run():
        print(f"unexpected event: {event}", file=sys.stderr)


def polls(kind: str, name: str, port: int) -> tuple[int, int]:
    """Polls that the server has counted, and connections that brought them.

    :param kind: ``ours`` or ``databricks``.
    :param name: of this process.
    :param port: of the server.
    """
    with urllib.request.urlopen(f"https://127.0.0.1:{port}/counts") as answer:
        counts, whose = json.loads(answer.read()), name if kind == "ours" else kind
        return int(counts.get(whose, 0)), int(counts.get(f"{whose}.connections", 0))


async def main(kind: str, name: str, count: int, poll: float, port: int, seconds: float) -> None:
    """Measure.

    :param kind: ``ours`` or ``databricks``.
    :param name: of this process.
    :param count: of waits.
    :param poll: seconds between two looks.
    :param port: of the server.
    :param seconds: how long to measure.
    """
    process = psutil.Process()
    tasks = [asyncio.create_task(wait(trigger(kind, name, 0, poll)))]
    await asyncio.sleep(12)  # the first one loads what is loaded once
    before = process.memory_full_info().uss
    for number in range(1, count):
        tasks.append(asyncio.create_task(wait(trigger(kind, name, number, poll))))
        await asyncio.sleep(poll / count)
    await asyncio.sleep(poll + 12)
    loop = asyncio.get_running_loop()
    polled, opened = await loop.run_in_executor(None, polls, kind, name, port)
    used = process.cpu_times()
    await asyncio.sleep(seconds)
    after = process.cpu_times()
    polled_after, opened_after = await loop.run_in_executor(None, polls, kind, name, port)
    polled, opened = polled_after - polled, opened_after - opened
    alive = sum(not task.done() for task in tasks)
    processor = after.user + after.system - used.user - used.system
    memory = (process.memory_full_info().uss - before) / max(1, count - 1)
    costs = {"polls": polled, "connections": opened, "cpu": processor / max(1, polled), "memory": memory}
    print(json.dumps({"alive": alive, **costs}), flush=True)
    # Five thousand cancellations are not a part of it.
    import os

    os._exit(0)


if __name__ == "__main__":
    logging.disable(logging.INFO)
    _, kind, name, count, poll, port, seconds = sys.argv
    asyncio.run(main(kind, name, int(count), float(poll), int(port), float(seconds)))
