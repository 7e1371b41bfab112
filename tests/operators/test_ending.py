"""A task that is ended from outside while it waits in the worker: by a person, or by what runs the worker."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowTaskTimeout
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.memory import KEY
from airflow_provider_azureml_classic.operators import BatchExecutionOperator, UpdateTrainedModelOperator
from airflow_provider_azureml_classic.operators import ending as ending_module
from airflow_provider_azureml_classic.operators.ending import Ending, TaskEnded
from tests.support import BIKES, BIKES_SCORING, ServerProcess
from tests.support.tasks import (
    DAY,
    Store,
    Wire,
    added,
    answer,
    context,
    edited,
    live,
    one_line,
    refused,
    rentals,
    trained,
    trainer,
    wired,
)

pytestmark = pytest.mark.usefixtures("airflow_connection")

Ask = Callable[[], Any]


@pytest.fixture(scope="module")
def data(server: ServerProcess) -> str:
    """Path of training data."""
    server.upload("training/ending.csv", rentals())
    return "training/ending.csv"


@pytest.fixture
def own_state(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The state that Airflow tells; a function in its place is called."""
    states: list[Any] = ["running"]

    def get(**_: Any) -> dict[str, Any]:
        state = states[0]() if callable(states[0]) else states[0]
        return {"r": {"train": state}}

    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", staticmethod(get))
    return states


def attempt(store: Store) -> dict[str, Any]:
    """The context of an attempt that Airflow can be asked about."""
    ti = SimpleNamespace(max_tries=2, dag_id="d", task_id="train", run_id="r", map_index=-1)
    return {**context(store), "ti": ti}


def killed_while_waiting(data: str, **options: Any) -> tuple[BatchExecutionOperator, Wire]:
    """A task whose job does not begin, and that is ended from outside at the second look at it."""
    task = BatchExecutionOperator(
        task_id="train", web_service=BIKES, inputs={"input1": data}, poll_interval=0.05, deferrable=False, **options
    )
    wire = wired(task)
    # A job that has not begun cannot end before the task does.
    wire.bends["start_job"] = lambda request, send: answer(200, None)
    looks: list[int] = []

    def kill(request: Any, send: Any) -> Any:
        looks.append(1)
        if len(looks) == 2:
            before = list(wire.journal)
            task.on_kill()
            assert wire.journal == before
        return send(request)

    wire.bends["get_job"] = kill
    return task, wire


def status(client: Client, store: Store) -> str:
    """Of the job that a task remembers."""
    return client.get_job(trainer(client), store.kept[KEY]["job_id"]).status.value


@pytest.mark.slow
@pytest.mark.parametrize("state", ["running", "up_for_retry", "queued"])
def test_evicted(client: Client, data: str, own_state: list[Any], state: str) -> None:
    """Nobody wanted the task to end: its job goes on, the attempt may be retried, and the retry takes up the job."""
    own_state[:] = [state]
    task, wire = killed_while_waiting(data)
    store = Store()
    with one_line(AirflowException, "not by a person", "goes on", "next attempt takes it up"):
        task.execute(attempt(store))
    assert "cancel_job" not in wire.journal
    assert status(client, store) == "NotStarted"
    job_id = store.kept[KEY]["job_id"]
    again = BatchExecutionOperator(task_id="train", web_service=BIKES, inputs={"input1": data}, poll_interval=0.2)
    assert again.execute(attempt(store))["job_id"] == job_id


@pytest.mark.slow
@pytest.mark.parametrize(
    ("state", "words"),
    [("failed", "marked failed"), ("success", "marked success"), ("restarting", "cleared"), (None, "cleared")],
)
def test_ended_by_a_person(client: Client, data: str, own_state: list[Any], state: Any, words: str) -> None:
    """A person does not want the job any more: it is cancelled."""
    own_state[:] = [state]
    task, _ = killed_while_waiting(data)
    store = Store()
    with one_line(AirflowException, f"The task was {words}, so job", "was cancelled."):
        task.execute(attempt(store))
    assert status(client, store) == "Cancelled"


def silent() -> Any:
    """Airflow's server is away, and the supervisor tries again and again."""
    time.sleep(30)


def broken() -> Any:
    """The supervisor is away."""
    raise EOFError


@pytest.mark.slow
@pytest.mark.parametrize("state", [silent, broken])
def test_no_answer(
    client: Client, data: str, own_state: list[Any], monkeypatch: pytest.MonkeyPatch, state: Ask
) -> None:
    """Who cannot ask for the task's state leaves the job alone."""
    monkeypatch.setattr(ending_module, "PATIENCE", 0.1)
    own_state[:] = [state]
    task, _ = killed_while_waiting(data)
    store = Store()
    with one_line(AirflowException, "next attempt takes it up"):
        task.execute(attempt(store))
    assert status(client, store) == "NotStarted"


def test_cancelling_fails(data: str, own_state: list[Any]) -> None:
    """A job that cannot be cancelled is said to be so."""
    own_state[:] = ["failed"]
    task, wire = killed_while_waiting(data)
    wire.bends["cancel_job"] = lambda *_: refused(503, "NoMoreResources", "Busy.")
    with one_line(AirflowException, "could not be cancelled"):
        task.execute(attempt(Store()))


def test_job_fails_meanwhile(data: str, own_state: list[Any]) -> None:
    """Whatever goes wrong after the kill, the attempt may be retried."""
    task, wire = killed_while_waiting(data)

    def fail(request: Any, send: Any) -> Any:
        task.on_kill()
        return edited(send(request), StatusCode="Failed")

    wire.bends["get_job"] = fail
    with one_line(AirflowException, "next attempt takes it up"):
        task.execute(attempt(Store()))


def test_execution_timeout(client: Client, data: str) -> None:
    """Airflow's own time-out cancels the job, without a question."""
    task, wire = killed_while_waiting(data)

    def late(request: Any, send: Any) -> Any:
        raise AirflowTaskTimeout

    wire.bends["get_job"] = late
    store = Store()
    with pytest.raises(AirflowTaskTimeout):
        task.execute(attempt(store))
    assert status(client, store) == "Cancelled"


def test_before_the_job(data: str) -> None:
    """A task that is ended before it has a job calls nothing."""
    task, wire = killed_while_waiting(data)
    task.on_kill()
    assert wire.journal == []


@pytest.mark.slow
def test_update(client: Client, server: ServerProcess) -> None:
    """An update that is ended between PATCH and proof leaves the model live; the next attempt proves it."""
    job = trained(server, client, "endingupdate", DAY)
    added(client, "endingupdate")
    options = {"web_service": BIKES_SCORING, "endpoint": "endingupdate", "job": job, "deferrable": False}
    task, store = UpdateTrainedModelOperator(task_id="update", **options), Store()

    def kill(request: Any, send: Any) -> Any:
        if "patch_endpoint" in wire.journal:
            task.on_kill()
        return refused(500, "ResourceLoadFailed", "No model.")

    wire = wired(task)
    wire.bends["score"] = kill
    with one_line(TaskEnded, "Its next attempt goes on from here."):
        task.execute(attempt(store))
    assert live(client, "endingupdate").startswith("models/endingupdate/")
    again = UpdateTrainedModelOperator(task_id="update", **options)
    journal = wired(again).journal
    assert again.execute(attempt(store))["proof"]["level"] == "content"
    assert "patch_endpoint" not in journal


def test_pauses_end_once() -> None:
    """What has to be done at the end may pause again."""
    ending = Ending()
    ending.sleep(0)
    ending.asked = True
    with pytest.raises(TaskEnded):
        ending.sleep(60)
    ending.sleep(0.01)
    ending.check()
