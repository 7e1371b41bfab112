"""``execution_timeout`` counts in the triggerer, where Airflow itself does not count it, whatever waits there."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, TaskDeferred

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.fleet import engine as engine_module
from airflow_provider_azureml_classic.fleet.engine import Engine
from airflow_provider_azureml_classic.fleet.rows import Outcome, Row
from airflow_provider_azureml_classic.memory import FleetXComs
from airflow_provider_azureml_classic.operators import ModelQualityGate, UpdateTrainedModelOperator
from airflow_provider_azureml_classic.operators.base import first_of
from airflow_provider_azureml_classic.sensors import JobSensor, ModelFreshnessSensor
from airflow_provider_azureml_classic.triggers import FleetTrigger
from tests.support import BIKES, BIKES_SCORING, ServerProcess
from tests.support.fleets import FileStore, attempt, fleet, started, uploaded
from tests.support.tasks import (
    DAY,
    Store,
    added,
    context,
    live,
    one_line,
    refused,
    rentals,
    standing_still,
    submitted,
    trained,
    update_to,
    wired,
)

pytestmark = pytest.mark.usefixtures("airflow_connection", "at_once")

LIMIT = timedelta(minutes=30)


@pytest.fixture(scope="module")
def job(server: ServerProcess) -> dict[str, Any]:
    """A finished job, and its model."""
    with server.client() as client:
        return trained(server, client, "timed", DAY)


def begun(ago: timedelta, store: Store) -> dict[str, Any]:
    """The context of an attempt that began so long ago."""
    given = context(store)
    given["ti"].start_date = datetime.now(UTC) - ago
    given["ti"].xcom_push = lambda **_: None
    return given


def waits_until_the_attempt_ends(task: Any, store: Store | None = None) -> dict[str, Any]:
    """See a task defer with the end of its attempt as the deadline; returns what the trigger says then."""
    given = begun(timedelta(), store or Store())
    with pytest.raises(TaskDeferred) as caught:
        task.execute(given)
    trigger = caught.value.trigger
    assert caught.value.timeout is None
    assert trigger.deadline == (given["ti"].start_date + LIMIT).timestamp()
    return dict(trigger.payload)


def test_the_first_of_deadlines() -> None:
    """``None`` is never."""
    assert first_of(None, 2.0, 1.0) == 1.0
    assert first_of(None) is None


def test_freshness_sensor(client: Client) -> None:
    """The sensor fails at the end of its attempt, says what is live, and may be tried again."""
    added(client, "timedsensor")
    given = {"web_service": BIKES_SCORING, "endpoint": "timedsensor", "max_age": timedelta(1), "deferrable": True}
    task = ModelFreshnessSensor(task_id="wait", execution_timeout=LIMIT, **given)
    store = Store()
    event = waits_until_the_attempt_ends(task, store)
    with one_line(AirflowException, "was not fresh within execution_timeout=0:30:00. Awaited: a model", "Live: "):
        task.execute_complete(begun(LIMIT, store), event)


def test_job_sensor(client: Client, server: ServerProcess) -> None:
    """A job that somebody else started goes on."""
    job_id = submitted(server, client, path="training/timed.csv")
    given = {"job_id": job_id, "web_service": BIKES, "deferrable": True}
    task = JobSensor(task_id="wait", execution_timeout=LIMIT, **given)
    event = waits_until_the_attempt_ends(task)
    with one_line(AirflowException, "did not end within execution_timeout=0:30:00; it is NotStarted, and goes on."):
        task.execute_complete(begun(LIMIT, Store()), event)


@pytest.mark.slow
def test_a_sensor_sees_what_has_come(client: Client, job: Any) -> None:
    """What is there at the end of the attempt counts."""
    added(client, "timedfresh")
    update_to(client, "timedfresh", job)
    given = {"web_service": BIKES_SCORING, "endpoint": "timedfresh", "job": job, "deferrable": True}
    task = ModelFreshnessSensor(task_id="wait", execution_timeout=LIMIT, **given)
    assert task.execute_complete(begun(LIMIT, Store()), {"deadline": 1.0})["endpoint"] == "timedfresh"


@pytest.mark.slow
def test_update(client: Client, job: Any) -> None:
    """The new model stays, as after a time-out in the worker; the next attempt goes on with its proof."""
    added(client, "timedupdate")
    given = {"web_service": BIKES_SCORING, "endpoint": "timedupdate", "job": job, "deferrable": True}
    given |= {"proof_timeout": 7200.0, "on_failure": "rollback"}
    store = Store()

    def mute(**options: Any) -> UpdateTrainedModelOperator:
        task = UpdateTrainedModelOperator(task_id="update", execution_timeout=LIMIT, **given, **options)
        wired(task).bends["score"] = lambda *_: refused(500, "ResourceLoadFailed", "No model.")
        return task

    event = waits_until_the_attempt_ends(mute(), store)
    with one_line(AirflowException, "not proved within execution_timeout=0:30:00", "another attempt goes on"):
        mute().execute_complete(begun(LIMIT, store), event)
    assert live(client, "timedupdate").startswith("models/timed/")
    again = UpdateTrainedModelOperator(task_id="update", **given)
    wire = wired(again)
    assert again.execute(begun(timedelta(), store))["proof"]["level"] == "content"
    assert "patch_endpoint" not in wire.journal


@pytest.mark.slow
def test_gate(client: Client, server: ServerProcess, job: Any) -> None:
    """The gate says which endpoint was not seen to change."""
    added(client, "timedgate")
    shown = added(client, "timedaside")
    server.upload("check/timed.csv", rentals(200))
    given = {"web_service": BIKES_SCORING, "endpoint": "timedgate", "job": job, "check_timeout": 7200.0}
    given |= {"check_data": "check/timed.csv", "check_endpoint": "timedaside", "deferrable": True}
    task = ModelQualityGate(
        task_id="gate", max_worse={"Mean Absolute Error": "1000%"}, execution_timeout=LIMIT, **given
    )
    wired(task).bends["get_endpoint"] = standing_still(client, shown)
    store = Store()
    event = waits_until_the_attempt_ends(task, store)
    with one_line(AirflowException, "'timedaside'", "not seen to be live there within execution_timeout=0:30:00."):
        task.execute_complete(begun(LIMIT, store), event)


class TestFleet:
    """A fleet whose attempt ends in the triggerer."""

    @pytest.fixture
    def kept(self, monkeypatch: pytest.MonkeyPatch) -> list[Row]:
        """The rows that XComs hold between worker and triggerer."""
        rows: list[Row] = []

        def read(self: FleetXComs, parts: int) -> list[Row]:
            return [Row.from_json(row.to_json()) for row in rows]

        def write(self: FleetXComs, parts: list[tuple[int, list[dict[str, Any]]]]) -> None:
            for _, part in parts:
                rows[:] = [Row.from_json(data) for data in part]

        monkeypatch.setattr(FleetXComs, "read", read)
        monkeypatch.setattr(FleetXComs, "write", write)
        monkeypatch.setattr(FleetXComs, "delete", lambda self, rows: None)
        return rows

    @staticmethod
    def deferred(task: Any, store: FileStore, kept: list[Row]) -> FleetTrigger:
        """Begin an attempt; the trigger that it leaves, which has been through the database."""
        given = attempt(store)
        given["ti"].start_date = datetime.now(UTC)
        with pytest.raises(TaskDeferred) as caught:
            task.execute(given)
        kept[:] = [Row.from_json(data) for data in given["ti"].pushed["azureml_classic_fleet_0"]]
        arguments = json.loads(json.dumps(caught.value.trigger.serialize()[1]))
        ends = (given["ti"].start_date + LIMIT).timestamp()
        assert arguments["options"]["attempt_ends"] == (ends if task.execution_timeout else None)
        return FleetTrigger(**arguments)

    @staticmethod
    def run(trigger: FleetTrigger) -> dict[str, Any]:
        """What the trigger says in the end."""

        async def fired() -> dict[str, Any]:
            [event] = [event async for event in trigger.run()]
            return dict(event.payload)

        return asyncio.run(fired())

    @pytest.mark.slow
    def test_what_is_left_is_for_the_next_attempt(
        self, server: ServerProcess, kept: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The jobs in flight are cancelled, the task fails and may be tried again; the next attempt leaves alone what
        was done, and does the rest.
        """
        items, store = uploaded(server, "timedfleet", 3), FileStore(tmp_path / "store.json")
        options = {"deferrable": True, "execution_timeout": LIMIT, "max_active_jobs": 1}
        trigger = self.deferred(fleet("timedfleet", items, **options), store, kept)
        flying: list[str] = []

        def half_done(engine: Engine) -> bool:
            flying[:] = engine.in_flight if any(row.outcome for row in engine._wave) else []
            return bool(flying)

        stopped: list[str] = []
        stop = engine_module.cancel_jobs

        async def cancelled(client: Any, trainers: Any, rows: list[Row]) -> None:
            stopped.extend(str(row.job_id) for row in rows)
            await stop(client, trainers, rows)

        with monkeypatch.context() as patch:
            patch.setattr(engine_module, "cancel_jobs", cancelled)
            patch.setattr(Engine, "_is_interrupted", half_done)
            event = self.run(trigger)
        assert {row.outcome for row in kept} == {Outcome.UPDATED, None}
        assert stopped == flying != []
        done = {row.endpoint: row.job_id for row in kept if row.outcome}
        late = attempt(store)
        late["ti"].start_date = datetime.now(UTC) - LIMIT
        said = f"{3 - len(done)} of the 3 endpoints of wave 1 had not ended after execution_timeout=0:30:00"
        with one_line(AirflowException, said, "Another attempt goes on with what is left."):
            fleet("timedfleet", items, **options).execute_complete(late, event)
        result = fleet("timedfleet", items).execute(attempt(store))
        assert result["counts"]["updated"] == 3
        assert done.items() <= {row["endpoint"]: row["job_id"] for row in result["rows"]}.items()
        states = started(server, "timedfleet")
        assert states.count("Finished") == 3
        assert set(states) <= {"Finished", "Cancelled"}

    @pytest.mark.slow
    def test_nothing_is_started_after_the_end(self, server: ServerProcess, kept: list[Row], tmp_path: Path) -> None:
        """A triggerer that comes late starts no job, and settles no endpoint's fate."""
        items, store = uploaded(server, "timedlate", 2), FileStore(tmp_path / "store.json")
        trigger = self.deferred(fleet("timedlate", items, deferrable=True, execution_timeout=LIMIT), store, kept)
        trigger.options["attempt_ends"] = time.time() - 1
        self.run(trigger)
        assert [row.outcome for row in kept] == [None, None]
        assert started(server, "timedlate") == []

    @pytest.mark.slow
    def test_without_a_limit(self, server: ServerProcess, kept: list[Row], tmp_path: Path) -> None:
        """Without ``execution_timeout`` nothing ends the wave early."""
        items, store = uploaded(server, "timedfree", 1), FileStore(tmp_path / "store.json")
        self.run(self.deferred(fleet("timedfree", items, deferrable=True), store, kept))
        assert [row.outcome for row in kept] == [Outcome.UPDATED]
