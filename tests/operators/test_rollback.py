"""Putting a previous model back, against the running server."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.operators import RollbackModelOperator, UpdateTrainedModelOperator
from airflow_provider_azureml_classic.protocol.digests import Digests
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.retraining.proof import Patch
from tests.support import BIKES_SCORING, ServerProcess
from tests.support.gates import DAY, added, context, live, one_sentence, rentals, trained
from tests.support.tasks import refused, wired

pytestmark = pytest.mark.usefixtures("airflow_connection")

NEXT = DAY + timedelta(days=1)


@pytest.fixture(scope="module")
def module_client(server: ServerProcess) -> Client:
    """A client for what is made once."""
    return server.client()


@pytest.fixture(scope="module")
def old(server: ServerProcess, module_client: Client) -> dict[str, Any]:
    """A finished job of an early day."""
    return trained(server, module_client, "back", DAY, rentals(100))


@pytest.fixture(scope="module")
def new(server: ServerProcess, module_client: Client) -> dict[str, Any]:
    """A finished job of the day after, whose model answers otherwise."""
    return trained(server, module_client, "back", NEXT, rentals(300))


def updated(client: Client, name: str, *jobs: Any) -> list[dict[str, Any]]:
    """Receipts of updating an endpoint with these jobs, one after the other."""
    added(client, name)
    tasks = [UpdateTrainedModelOperator(task_id="u", web_service=BIKES_SCORING, endpoint=name, job=job) for job in jobs]
    return [task.execute(context()) for task in tasks]


def rollback(**options: Any) -> RollbackModelOperator:
    """The operator."""
    return RollbackModelOperator(task_id="rollback", proof_timeout=5, **options)


@pytest.mark.slow
def test_the_receipt_is_enough(client: Client, old: Any, new: Any) -> None:
    """The model that an update replaced is live again, which is proved; the new receipt undoes it once more."""
    first, second = updated(client, "backreceipt", old, new)
    found = rollback(receipt=second).execute(context())
    assert live(client, "backreceipt") == first["model"]["location"] == found["model"]["location"]
    assert found["replaced"]["location"] == second["model"]["location"]
    assert found["window"]["end"] == DAY.isoformat()
    assert found["proof"]["level"] == "content"
    rollback(receipt=found).execute(context())
    assert live(client, "backreceipt") == second["model"]["location"]


@pytest.mark.slow
def test_the_model_that_the_service_was_born_with(client: Client, old: Any) -> None:
    """The first update of an endpoint can be undone too."""
    added(client, "backborn")
    before = live(client, "backborn")
    (receipt,) = updated(client, "backborn", old)
    rollback(receipt=receipt).execute(context())
    assert live(client, "backborn") == before


@pytest.mark.slow
def test_what_somebody_else_has_updated_since_is_left_alone(client: Client, old: Any, new: Any) -> None:
    """The receipt's model is no longer live: skipped, with both models named, and nothing changed."""
    first, second = updated(client, "backelse", old, new)
    with one_sentence(
        AirflowSkipException, "'backelse' keeps its model", second["model"]["location"], first["model"]["location"]
    ):
        rollback(receipt=first).execute(context())
    assert live(client, "backelse") == second["model"]["location"]


@pytest.mark.slow
def test_whatever_is_live(client: Client, old: Any, new: Any) -> None:
    """only_if_live=False rolls back all the same."""
    added(client, "backany")
    born = live(client, "backany")
    first, _ = updated(client, "backany", old, new)
    rollback(receipt=first, only_if_live=False).execute(context())
    assert live(client, "backany") == born


@pytest.mark.slow
def test_twice(client: Client, old: Any, new: Any) -> None:
    """A second attempt, after one whose end was lost, succeeds as well."""
    first, second = updated(client, "backtwice", old, new)
    for _ in range(2):
        rollback(receipt=second).execute(context())
    assert live(client, "backtwice") == first["model"]["location"]


@pytest.mark.slow
def test_a_location(client: Client, old: Any, new: Any) -> None:
    """A model can be named by its path, with the one that has to be live."""
    first, second = updated(client, "backplace", old, new)
    there = {"web_service": BIKES_SCORING, "endpoint": "backplace", "location": "models/back/20260301T000000Z.ilearner"}
    with one_sentence(AirflowSkipException, "keeps its model"):
        rollback(only_if_live="models/other.ilearner", **there).execute(context())
    receipt = rollback(only_if_live=second["model"]["location"], **there).execute(context())
    assert live(client, "backplace") == first["model"]["location"]
    # Known by its place alone before; the service tells the rest once it has it.
    assert receipt["model"]["content"] == first["model"]["content"] is not None
    # Under a path may lie what is live: no success is told of what changes nothing.
    with one_sentence(AirflowSkipException, "keeps its model: what lies at", "is live already"):
        rollback(**there).execute(context())


@pytest.mark.slow
def test_a_window(client: Client, old: Any, new: Any) -> None:
    """The model is found by the end of its window, proved by content, and its receipt undoes it; repeated, it is the
    same; a window that the endpoint never had is told with those that it had."""
    first, _ = updated(client, "backwindow", old, new)
    there = {"web_service": BIKES_SCORING, "endpoint": "backwindow"}
    for _ in range(2):
        receipt = rollback(window_end=DAY.isoformat(), **there).execute(context())
        assert live(client, "backwindow") == first["model"]["location"]
        assert (receipt["model"], receipt["proof"]["level"]) == ({**first["model"]}, "content")
        assert receipt["window"]["end"] == DAY.isoformat()
    with one_sentence(AirflowFailException, "never had a model", "2026-03-09", "2026-03-02 00:00 UTC"):
        rollback(window_end="2026-03-09", **there).execute(context())
    with one_sentence(AirflowFailException, "is not a time in ISO 8601"):
        rollback(window_end="", **there).execute(context())


def test_a_window_on_a_service_without_the_list(client: Client, old: Any) -> None:
    """One sentence says what to do instead, and nothing is changed."""
    updated(client, "backlist", old)
    task = rollback(window_end=DAY.isoformat(), web_service=BIKES_SCORING, endpoint="backlist")
    wire = wired(task)
    wire.bends["list_models"] = lambda *_: refused(404, "PageNotFound", "There is nothing.")
    with one_sentence(AirflowFailException, "that lists the models", "by its location, or by a receipt"):
        task.execute(context())
    assert "patch_endpoint" not in wire.journal


@pytest.mark.slow
def test_a_window_while_the_proof_is_waited_for(client: Client, old: Any, new: Any) -> None:
    """A deferred rollback proves what it has put live, though the list has another of that window by then."""
    updated(client, "backdefer", old, new)
    task = rollback(window_end=DAY.isoformat(), web_service=BIKES_SCORING, endpoint="backdefer")
    target = client.perform(task._find())
    chosen = task._candidate(target)
    patch = Patch("r", BlobReference("models/other.ilearner"), window_end=DAY.isoformat(), model=Digests("a" * 64))
    taken_up = task._candidate(target, patch)
    assert (taken_up.location.relative_location, taken_up.digests) == ("models/other.ilearner", patch.model)
    assert (taken_up.window, chosen.location.relative_location) == (chosen.window, path_of(DAY))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "Set exactly one of receipt"),
        ({"receipt": {}, "location": "a/b.ilearner"}, "Set exactly one of receipt"),
        ({"receipt": "12ab"}, "receipt must be what UpdateTrainedModelOperator returned, not '12ab'."),
        ({"receipt": {}, "window_end": "2026-01-01"}, "Set exactly one of receipt"),
        ({"window_end": "2026-01-01"}, "Set web_service and endpoint along with location or window_end."),
        ({"location": "a/b.ilearner"}, "Set web_service and endpoint along with location or window_end."),
        (
            {"receipt": {"endpoint": "x", "model": {}, "replaced": {"location": None}}},
            "The receipt does not say which model was replaced",
        ),
    ],
)
def test_what_cannot_be_understood(options: Any, words: str) -> None:
    """A mistake is said in one sentence."""
    with one_sentence(AirflowFailException, words):
        rollback(**options).execute(context())


@pytest.mark.slow
def test_a_connection_without_a_storage_account(
    server: ServerProcess, client: Client, old: Any, new: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service reads its own store itself: the receipt then lacks the length, nothing else."""
    first, second = updated(client, "backbare", old, new)
    said = json.loads(server.connection["airflow_conn"])
    del said["extra"]
    monkeypatch.setenv("AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT", json.dumps(said))
    found = rollback(receipt=second).execute(context())
    assert live(client, "backbare") == first["model"]["location"]
    assert found["model"] == {**first["model"], "length": None}


def path_of(end: datetime) -> str:
    """Path of a model of this module."""
    return f"models/back/{end:%Y%m%dT%H%M%SZ}.ilearner"


def put_live(name: str, **model: Any) -> dict[str, Any]:
    """Receipt of an update."""
    task = UpdateTrainedModelOperator(task_id="u", web_service=BIKES_SCORING, endpoint=name, **model)
    return task.execute(context())


@pytest.mark.slow
@pytest.mark.parametrize("content", ["another", "damaged"])
def test_the_bytes_of_the_receipt_are_put_back(
    server: ServerProcess, client: Client, old: Any, new: Any, content: str
) -> None:
    """Whatever lies at the place by now: the server keeps the models that an endpoint had."""
    name, path = f"back{content}", f"models/back{content}.ilearner"
    models = {end: client.fetch_blob(server.sas(path_of(end))) for end in (DAY, NEXT)}
    server.upload(path, models[DAY])
    added(client, name)
    put_live(name, location=path)
    receipt = put_live(name, job=new)
    assert receipt["replaced"]["sha256"] == sha256(models[DAY]).hexdigest()
    server.upload(path, models[NEXT] if content == "another" else b"damaged")
    undone = rollback(receipt=receipt).execute(context())
    digests = client.get_endpoint(client.find_web_service(BIKES_SCORING).id, name).resource().digests
    assert digests is not None
    assert digests.file == undone["model"]["sha256"] == receipt["replaced"]["sha256"]
    assert undone["proof"]["level"] == "content"


@pytest.mark.slow
def test_a_model_that_nobody_keeps_is_not_put_back(server: ServerProcess, client: Client, old: Any, new: Any) -> None:
    """The receipt names bytes that are nowhere: it fails before it touches anything, and says so."""
    added(client, "backlost")
    receipt = put_live("backlost", job=new)
    before = live(client, "backlost")
    nowhere = {**receipt["replaced"], "location": f"{server.account.endpoint}/{path_of(DAY)}", "sha256": "0" * 64}
    with one_sentence(AirflowFailException, "holds another model than the one that is meant", "Nothing was changed"):
        rollback(receipt={**receipt, "replaced": nowhere}).execute(context())
    assert live(client, "backlost") == before
