"""Is everything there that retraining needs, from Airflow's side."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_provider_azureml_classic import __version__
from airflow_provider_azureml_classic.hooks import AzureMLClassicHook
from airflow_provider_azureml_classic.operators import DoctorOperator
from airflow_provider_azureml_classic.retraining.checkup import Finding
from tests.support import ServerProcess
from tests.support.tasks import Store, context

VARIABLE = "AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT"
GOOD = {"version": __version__, "found": []}


class Forgetful(Store):
    """A state store that keeps nothing."""

    def set(self, key: str, value: Any) -> None:
        """Forget it at once."""


class Away(Store):
    """A state store that cannot be reached."""

    def set(self, key: str, value: Any) -> None:
        """Fail."""
        raise ConnectionError("secret-host refuses")


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> DoctorOperator:
    """A task whose worker finds the connection in order."""
    monkeypatch.setattr(AzureMLClassicHook, "checkup", lambda self: [Finding("connection", True, "It answers.")])
    return DoctorOperator(task_id="doctor", triggerer_timeout=timedelta(seconds=30))


def resumed(task: DoctorOperator, event: dict[str, Any], store: Store | None) -> list[dict[str, str]]:
    """Run the task through its deferral; without a store on an Airflow that has none."""
    values = context(store)
    if store is None:
        del values["task_state_store"]
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(values)
    assert deferred.value.timeout == timedelta(seconds=30)
    kwargs = {**json.loads(json.dumps(deferred.value.kwargs)), "event": event}
    return task.resume_execution(deferred.value.method_name, kwargs, values)


def failed(task: DoctorOperator, error: str) -> str:
    """What a task says whose trigger could not run."""
    with pytest.raises(AirflowFailException) as end:
        task.resume_execution("__fail__", {"error": error}, context(Store()))
    return str(end.value)


def test_all_is_well(task: DoctorOperator) -> None:
    """One row a check, and nothing is left in the state store."""
    store = Store()
    rows = resumed(task, {**GOOD, "found": [{"check": "clocks (triggerer)", "good": True, "found": "."}]}, store)
    assert [(row["check"], row["state"]) for row in rows] == [
        ("connection", "ok"), ("state store", "ok"), ("triggerer", "ok"), ("clocks (triggerer)", "ok")
    ]  # fmt: skip
    assert store.kept == {}


@pytest.mark.parametrize(
    ("event", "store", "message"),
    [
        ({**GOOD, "version": "0.0.1"}, Store(), "triggerer: It has version 0.0.1, this worker .* Install the same"),
        (GOOD, Forgetful(), "state store: It does not give back"),
        (GOOD, Away(), "state store: It fails: ConnectionError. Look at the API server's log.$"),
        ({**GOOD, "found": [{"check": "connection (triggerer)", "good": False, "found": "No."}]}, Store(), "No."),
    ],
)
def test_what_is_wrong_fails_the_task(task: DoctorOperator, event: dict[str, Any], store: Store, message: str) -> None:
    """With a sentence that says what to do."""
    with pytest.raises(AirflowFailException, match=message):
        resumed(task, event, store)


def test_an_airflow_without_a_state_store(task: DoctorOperator) -> None:
    """That is told, and no failure: Airflow 3.2 has none."""
    rows = resumed(task, GOOD, None)
    assert next((row["state"], row["do"]) for row in rows if row["check"] == "state store") == (
        "-",
        "Airflow 3.3 has one.",
    )


def test_no_triggerer(task: DoctorOperator) -> None:
    """None has answered in time; what the worker finds is told all the same."""
    assert "triggerer: It has not answered within 0:00:30. Start `airflow triggerer`" in failed(task, "Trigger timeout")


def test_a_triggerer_without_the_package(task: DoctorOperator) -> None:
    """Airflow says that the trigger failed; the table says what to do."""
    assert "Install the package there, too" in failed(task, "Trigger failure")


@pytest.mark.parametrize(
    ("connection", "found"),
    [
        ('{"conn_type": "azureml_classic", "host": "http://h", "login": "w"}', "lacks password"),
        ('{"conn_type": "azureml_classic", "host": "http://h", "login": "w", "password": "t", '
         '"extra": {"timout": 3}}', "Did you mean 'timeout'?"),
        ('{"conn_type": "azureml_classic", "host": "ftp://h", "login": "w", "password": "t"}', "must start with http"),
        (None, "azureml_classic_default"),
    ],
)  # fmt: skip
def test_a_connection_that_is_none(connection: str | None, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found, not raised: the other checks go on."""
    monkeypatch.delenv(VARIABLE, raising=False)
    if connection:
        monkeypatch.setenv(VARIABLE, connection)
    (finding,) = DoctorOperator(task_id="doctor").hook.checkup()
    assert (finding.good, found in finding.found) == (False, True)


@pytest.mark.slow
@pytest.mark.usefixtures("at_once")
def test_a_real_service(airflow_connection: ServerProcess) -> None:
    """From worker and triggerer: all is well, a file can be written, and no secret is in what is stored."""
    task = DoctorOperator(task_id="doctor")
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context(Store()))
    trigger = deferred.value.trigger

    async def event() -> Any:
        return await anext(trigger.run())

    answer = asyncio.run(event()).payload
    stored = json.dumps([trigger.serialize(), deferred.value.kwargs, answer])
    assert airflow_connection.connection["token"] not in stored
    rows = task.finish(context(Store()), answer, **(deferred.value.kwargs or {}))
    checks = "connection versions clocks storage|state store|triggerer|connection (triggerer)|clocks (triggerer)"
    assert [row["check"] for row in rows] == [*checks.partition("|")[0].split(), *checks.split("|")[1:]]
    assert {row["state"] for row in rows} == {"ok"}
