"""Waiting for the proof of an update: in the triggerer, and across retries, clears and crashes."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_provider_azureml_classic import triggers as proof_trigger
from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.operators import (
    ModelQualityGate,
    RollbackModelOperator,
    UpdateTrainedModelOperator,
    placing,
)
from airflow_provider_azureml_classic.operators.placing import KEY
from airflow_provider_azureml_classic.protocol.messages import Response
from airflow_provider_azureml_classic.retraining import placing as programs
from airflow_provider_azureml_classic.triggers import ProofTrigger
from tests.support import BIKES_SCORING, ServerProcess
from tests.support.tasks import (
    DAY,
    Store,
    Wire,
    added,
    context,
    live,
    one_line,
    refused,
    rentals,
    standing_still,
    trained,
    wired,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("airflow_connection", "at_once")]

OLD, NEW = DAY, DAY + timedelta(days=1)


class Killed(BaseException):
    """The end of a worker."""


@pytest.fixture(autouse=True)
def looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """The triggerer does not wait long between two looks."""
    monkeypatch.setattr(proof_trigger, "PROOF_INTERVAL", 0.05)


@pytest.fixture(scope="module")
def old(server: ServerProcess) -> dict[str, Any]:
    """A finished job, and its model of an early day."""
    with server.client() as client:
        return trained(server, client, "proved", OLD, level=100)


@pytest.fixture(scope="module")
def new(server: ServerProcess) -> dict[str, Any]:
    """A finished job, and its model of the day after, which gives other answers."""
    with server.client() as client:
        return trained(server, client, "proved", NEW, level=300)


def path_of(job: dict[str, Any]) -> str:
    """Path of the model that a job wrote."""
    return f"models/proved/{job['window']['end'][:10].replace('-', '')}T000000Z.ilearner"


def update(endpoint: str, job: Any, **options: Any) -> UpdateTrainedModelOperator:
    """A task that may wait in the triggerer."""
    given = {"proof_timeout": 20.0, "deferrable": True, **options}
    return UpdateTrainedModelOperator(task_id="update", web_service=BIKES_SCORING, endpoint=endpoint, job=job, **given)


def mute(wire: Wire) -> None:
    """Nothing answers to golden rows."""
    wire.bends["score"] = lambda *_: refused(500, "ResourceLoadFailed", "No model.")


def prepared(client: Client, endpoint: str, old: Any) -> None:
    """An endpoint with the old model."""
    added(client, endpoint)
    update(endpoint, old, deferrable=False).execute(context())
    assert live(client, endpoint) == path_of(old)


def deferred(task: Any, store: Store | None = None, **options: Any) -> TaskDeferred:
    """How the task's attempt ends: deferred."""
    with pytest.raises(TaskDeferred) as caught:
        task.execute(context(store, **options))
    return caught.value


def event_of(found: TaskDeferred) -> dict[str, Any]:
    """What the triggerer answers, the trigger having been through the database."""
    path, arguments = found.trigger.serialize()
    assert path == "airflow_provider_azureml_classic.triggers.ProofTrigger"
    arguments = json.loads(json.dumps(arguments))

    async def fired() -> dict[str, Any]:
        [event] = [event async for event in ProofTrigger(**arguments).run()]
        return dict(event.payload)

    return json.loads(json.dumps(asyncio.run(fired())))


def test_in_the_triggerer(client: Client, old: Any, new: Any) -> None:
    """A proof that does not come at once is waited for in the triggerer; the resumed task returns the whole receipt."""
    prepared(client, "proofwait", old)
    task, store = update("proofwait", new), Store()
    mute(wired(task))
    found = deferred(task, store)
    assert found.method_name == "execute_complete"
    assert found.timeout is None
    again = update("proofwait", new)
    wire = wired(again)
    receipt = again.execute_complete(context(store), event_of(found))
    assert "patch_endpoint" not in wire.journal
    assert receipt["proof"]["level"] == "content"
    assert receipt["replaced"]["location"].endswith(path_of(old))
    assert receipt["model"]["location"].endswith(path_of(new))
    assert store.kept == {}


def test_at_once(client: Client, old: Any, new: Any) -> None:
    """A proof that comes at once is worth no deferral."""
    prepared(client, "proofonce", old)
    assert update("proofonce", new).execute(context())["proof"]["level"] == "content"


def test_no_secret_leaves_the_worker(client: Client, server: ServerProcess, old: Any, new: Any) -> None:
    """Neither the trigger's arguments nor what the task remembers holds a key or a token."""
    prepared(client, "proofplain", old)
    task, store = update("proofplain", new), Store()
    mute(wired(task))
    said = json.dumps([deferred(task, store).trigger.serialize(), store.kept])
    service = client.find_web_service(BIKES_SCORING)
    endpoint = client.get_endpoint(service.id, "proofplain")
    secrets = [endpoint.primary_key, endpoint.secondary_key, server.account.key, server.connection["token"], "sig="]
    assert [secret for secret in secrets if secret in said] == []
    assert path_of(new) in said


def test_without_a_store(client: Client, old: Any, new: Any) -> None:
    """On an Airflow without a task state store the event says what is needed."""
    prepared(client, "proofstoreless", old)
    task = update("proofstoreless", new)
    mute(wired(task))
    with pytest.raises(TaskDeferred) as caught:
        task.execute({**context(), "task_state_store": None})
    event = event_of(caught.value)
    receipt = update("proofstoreless", new).execute_complete({**context(), "task_state_store": None}, event)
    assert receipt["replaced"]["location"].endswith(path_of(old))


def too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """By now the time that proofs may take is over."""
    late = SimpleNamespace(time=lambda: time.time() + 3600)
    for module in (placing, programs):
        monkeypatch.setattr(module, "time", late)


def test_rollback_after_the_resumption(client: Client, old: Any, new: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proof that does not come in time fails the resumed task, and the model of before is put back."""
    prepared(client, "proofback", old)
    store, options = Store(), {"on_failure": "rollback"}
    task = update("proofback", new, **options)
    mute(wired(task))
    event = event_of(deferred(task, store))
    again = update("proofback", new, **options)
    mute(wired(again))
    too_late(monkeypatch)
    with one_line(AirflowFailException, "after 20 s", "The previous model was put back:", path_of(old)):
        again.execute_complete(context(store), event)
    assert live(client, "proofback") == path_of(old)


@pytest.mark.parametrize("tries", [2, 3], ids=["retried", "cleared"])
@pytest.mark.parametrize("deferrable", [False, True], ids=["inworker", "deferred"])
def test_ended_between_patch_and_proof(client: Client, old: Any, new: Any, tries: int, deferrable: bool) -> None:
    """A task that dies, or is cleared, after its PATCH: the next attempt goes on with the proof. It sends no second
    PATCH, and its receipt names the model that was really replaced.
    """
    endpoint = f"proofdead{tries}{'d' if deferrable else 'w'}"
    prepared(client, endpoint, old)
    task, store = update(endpoint, new, deferrable=deferrable), Store()
    wire = wired(task)
    if deferrable:
        mute(wire)
        deferred(task, store)
    else:

        def dying(request: Any, send: Any) -> Response:
            response = send(request)
            if "patch_endpoint" in wire.journal:
                raise Killed
            return response

        wire.bends["get_endpoint"] = dying
        with pytest.raises(Killed):
            task.execute(context(store))
    assert wire.journal.count("patch_endpoint") == 1
    again = update(endpoint, new)
    wire = wired(again)
    receipt = again.execute(context(store, max_tries=tries))
    assert "patch_endpoint" not in wire.journal
    assert receipt["proof"]["level"] == "content"
    assert receipt["replaced"]["location"].endswith(path_of(old))


def test_killed_before_the_patch(client: Client, old: Any, new: Any) -> None:
    """What was remembered before a PATCH that was never sent stands in nobody's way."""
    prepared(client, "proofbefore", old)
    task, store = update("proofbefore", new), Store()

    def killed(*_: Any) -> Response:
        raise Killed

    wired(task).bends["patch_endpoint"] = killed
    with pytest.raises(Killed):
        task.execute(context(store))
    assert KEY in store.kept
    receipt = update("proofbefore", new).execute(context(store))
    assert receipt["replaced"]["location"].endswith(path_of(old))
    assert live(client, "proofbefore") == path_of(new)


def test_cleared_after_a_failed_proof(client: Client, old: Any, new: Any) -> None:
    """After a proof that failed a clear sends the PATCH again, and still knows what was there before."""
    prepared(client, "prooffailed", old)
    task, store = update("prooffailed", new, proof_timeout=0.1, deferrable=False), Store()
    mute(wired(task))
    with one_line(AirflowFailException, "Nothing was put back."):
        task.execute(context(store))
    again = update("prooffailed", new, proof="version")
    wire = wired(again)
    receipt = again.execute(context(store, max_tries=3))
    assert wire.journal.count("patch_endpoint") == 1
    assert receipt["replaced"]["location"].endswith(path_of(old))


def test_golden_rows_that_are_gone_prove_nothing(
    client: Client, old: Any, new: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the evaluation can no longer be read, a proof by scoring is not taken as given."""
    prepared(client, "proofgone", old)
    task, store = update("proofgone", new, proof="score"), Store()
    mute(wired(task))
    event = event_of(deferred(task, store))
    again = update("proofgone", new, proof="score")
    wired(again).bends["fetch_blob"] = lambda *_: Response(200, {}, b"other\nfile\n")
    too_late(monkeypatch)
    with one_line(AirflowFailException, "the golden rows to prove it with no longer exist."):
        again.execute_complete(context(store), event)


def test_rollback_operator(client: Client, old: Any, new: Any) -> None:
    """A rollback waits in the triggerer too, and proves by the answers that the old model gave before."""
    prepared(client, "proofundo", old)
    receipt = update("proofundo", new).execute(context())
    given = {"task_id": "undo", "receipt": receipt, "deferrable": True}
    task, store = RollbackModelOperator(**given), Store()
    mute(wired(task))
    found = deferred(task, store)
    undone = RollbackModelOperator(**given).execute_complete(context(store), event_of(found))
    assert undone["proof"]["level"] == "content"
    assert live(client, "proofundo") == path_of(old)
    assert (task.web_service, task.endpoint, task.location, task.only_if_live) == ("", "", None, True)


def gate_whose_endpoint_stands_still(client: Client, server: ServerProcess, name: str, old: Any, new: Any) -> Any:
    """What makes a gate, and one of them that never sees its check endpoint change."""
    prepared(client, f"{name}live", old)
    shown = added(client, f"{name}aside")
    server.upload(f"check/{name}.csv", rentals(200))

    def gate(**options: Any) -> ModelQualityGate:
        data = {"check_data": f"check/{name}.csv", "check_endpoint": f"{name}aside"}
        given = {
            "web_service": BIKES_SCORING,
            "endpoint": f"{name}live",
            "job": new,
            "deferrable": True,
            **data,
            **options,
        }
        return ModelQualityGate(task_id="gate", max_worse={"Mean Absolute Error": "1000%"}, **given)

    still = standing_still(client, shown)

    def blind(**options: Any) -> ModelQualityGate:
        task = gate(**options)
        wired(task).bends["get_endpoint"] = still
        return task

    return gate, blind


def test_gate(client: Client, server: ServerProcess, old: Any, new: Any) -> None:
    """The gate waits in the triggerer for its check endpoint; resumed, it sends no second PATCH."""
    gate, blind = gate_whose_endpoint_stands_still(client, server, "gatewaits", old, new)
    event = event_of(deferred(blind()))
    resumed = gate()
    wire = wired(resumed)
    found = resumed.execute_complete(context(), event)
    assert "patch_endpoint" not in wire.journal
    assert found["compared_on"]["rows"] == 240


def test_gate_too_late(client: Client, server: ServerProcess, old: Any, new: Any) -> None:
    """A check endpoint that is not ready at check_timeout fails the task, deferred or not, and says which one it is."""
    _, blind = gate_whose_endpoint_stands_still(client, server, "gatelate", old, new)
    event = event_of(deferred(blind()))
    with one_line(AirflowFailException, "'gatelateaside'", "not seen to be live there within 120 s"):
        blind().execute_complete(context(), {**event, "deadline": 0})
    with one_line(AirflowFailException, "'gatelateaside'", "not seen to be live there within 0.1 s"):
        blind(check_timeout=0.1, deferrable=False).execute(context())
