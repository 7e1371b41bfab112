"""Histories of retraining on a real Airflow while its tasks, workers and triggerer, and the server, are killed.

Each run trains and updates an endpoint of its own, and something is killed at a moment of the seed. Whatever it was,
one job trained, one update was made, of its model, and the endpoint never went back. AIRFLOW_ROUNDS says how many.
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator

import psutil
import pytest

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.exceptions import ServiceUnavailable
from tests.standalone.airflow import Airflow, wait_for
from tests.standalone.service import Service
from tests.support.histories import READ, WRITE, Call, History

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("standalone")]

ROUNDS = int(os.environ.get("AIRFLOW_ROUNDS", "1"))
SEED = int(os.environ.get("AIRFLOW_SEED", str(random.SystemRandom().randrange(10**6))))
DAGS, SCORING = ("chaininworker", "chaindeferred"), "Held Model [predictive exp.]"


class Rounds:
    """Runs, and what is killed under them.

    :param airflow: the instance.
    :param service: the server.
    """

    def __init__(self, airflow: Airflow, service: Service) -> None:
        self.airflow, self.service = airflow, service
        self.random = random.Random(SEED)  # noqa: S311 - to be repeated, not kept secret
        self.counts: Counter[str] = Counter()
        self.history = History()

    def round(self, number: int) -> None:
        """Two runs, one fault under them, and their ends."""
        runs = {dag_id: f"h{number}{dag_id[5:]}" for dag_id in DAGS}
        for dag_id, run in runs.items():
            self.service.hold(run)
            self.service.ask(lambda client, run=run: client.add_endpoint(client.find_web_service(SCORING).id, run))
            self.airflow.trigger(dag_id, run, endpoint=run)
        began = time.monotonic()
        with self.watched(list(runs.values())):
            if self.random.random() < 0.5:
                for run in runs.values():
                    wait_for(f"{run} trains", lambda run=run: self.service.jobs(run))
            time.sleep(self.random.uniform(0, 5))
            if released := self.random.random() < 0.5:
                self.release(runs)
                time.sleep(self.random.uniform(0, 5))
            fault = self.random.choice([self.task, self.worker, self.triggerer, self.server])
            self.counts[fault.__name__] += 1
            fault()
            if not released:
                self.release(runs)
            for dag_id, run in runs.items():
                wait_for(f"{run} is updated", lambda d=dag_id, r=run: self.has_ended(d, r), 900)
                ended = time.monotonic()
                self.history.calls.append(Call(WRITE, run, self.trained(run), "a", began, ended, True))
        for dag_id, run in runs.items():
            self.check(dag_id, run)

    def release(self, runs: dict[str, str]) -> None:
        """Let the jobs end."""
        for run in runs.values():
            self.service.release(run)

    def has_ended(self, dag_id: str, run: str) -> bool:
        """Whether the update has succeeded; it may not end otherwise."""
        state = self.airflow.task(dag_id, run, "update")["state"]
        assert state not in ("failed", "upstream_failed", "skipped"), self.airflow.log(dag_id, run, "update")[-3000:]
        return bool(state == "success")

    # -- faults --------------------------------------------------------------------------------------------------------

    def task_processes(self) -> list[psutil.Process]:
        """Those of tasks that run now."""
        found = []
        for dag_id in DAGS:
            path = f"/api/v2/dags/{dag_id}/dagRuns/~/taskInstances"
            answer = self.airflow.api("GET", path, params={"state": "running"})
            found += [one["pid"] for one in answer["task_instances"] if one["pid"]]
        return [process for process in self.airflow.processes() if process.pid in found]

    def task(self) -> None:
        """The process of a task is killed, if one runs."""
        for process in self.task_processes()[:1]:
            self.airflow.kill(process)

    def worker(self) -> None:
        """What supervises a task is killed, and the task with it."""
        for process in self.task_processes()[:1]:
            with contextlib.suppress(psutil.NoSuchProcess, AssertionError):
                self.airflow.kill(process.parent())
                self.airflow.kill(process)

    def triggerer(self) -> None:
        """All triggerers are killed, and another one is started."""
        self.airflow.kill_triggerers()
        self.airflow.start_triggerer()

    def server(self) -> None:
        """The server is killed, and started again after a while."""
        self.service.kill()
        time.sleep(self.random.uniform(0, 5))
        self.service.start_again()

    # -- what is seen --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def watched(self, runs: list[str]) -> Iterator[None]:
        """Somebody reads again and again which model each endpoint has."""
        over, errors = threading.Event(), list[BaseException]()

        def watch() -> None:
            while not over.wait(0.2):
                for run in runs:
                    try:
                        with self.history.call(READ, run, "a") as call:
                            call.value = self.service.ask(lambda client, run=run: live(client, run))
                    except (ServiceUnavailable, OSError):
                        continue
                    except BaseException as error:
                        errors.append(error)
                        return

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        yield
        over.set()
        thread.join(120)
        assert errors == []

    def query(self, text: str, *values: str) -> list[tuple[str, ...]]:
        """Rows of the server's database."""
        database = f"file:{self.service.process.data_dir / 'state.db'}?mode=ro"
        with contextlib.closing(sqlite3.connect(database, uri=True, timeout=30)) as connection:
            return list(connection.execute(text, values))

    def trained(self, run: str) -> str:
        """Digest of the model that the run's only job wrote."""
        query = (
            "SELECT digest FROM trained_models JOIN jobs ON jobs.id = trained_models.job_id "
            "JOIN endpoints ON endpoints.id = jobs.endpoint_id WHERE endpoints.name = ?"
        )
        ((digest,),) = self.query(query, run)
        return digest

    def check(self, dag_id: str, run: str) -> None:
        """One job, one update, and a receipt that tells both models."""
        assert self.service.jobs(run) == ["Finished"]
        query = (
            "SELECT digest, how FROM placements JOIN endpoints ON endpoints.id = placements.endpoint_id "
            "WHERE endpoints.name = ? ORDER BY placements.id"
        )
        (first, _), *updates = self.query(query, run)
        assert [digest for digest, _ in updates] == [self.trained(run)]
        receipt = self.airflow.returned(dag_id, run, "update")
        assert (receipt["model"]["sha256"], receipt["replaced"]["sha256"]) == (self.trained(run), first)
        self.history.check(lambda register: self.query(query, str(register))[0][0], 0)


def live(client: Client, name: str) -> str | None:
    """Digest of the model that an endpoint has."""
    digests = client.get_endpoint(client.find_web_service(SCORING).id, name).resource(None).digests
    return digests.file if digests else None


def test_one_effect_whatever_is_killed(airflow: Airflow, service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    """Task processes, workers, triggerer and server: no run trains or updates twice, and no endpoint goes back."""
    print(f"AIRFLOW_ROUNDS={ROUNDS} AIRFLOW_SEED={SEED}")
    rounds = Rounds(airflow, service)
    for number in range(ROUNDS):
        rounds.round(number)
    with capsys.disabled():
        faults = ", ".join(f"{count} {what}" for what, count in sorted(rounds.counts.items()))
        sys.stdout.write(f"\nseed {SEED}: {faults}; {len(rounds.history.calls)} calls\n")
