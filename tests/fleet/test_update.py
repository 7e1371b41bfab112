"""From a finished job to a proved update of one endpoint of a fleet, on a service of canned answers."""

from __future__ import annotations

import csv
import io
import json
import random
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_azureml_classic.client.answers import BlobFacts
from airflow_provider_azureml_classic.exceptions import RequestRejected, ServiceUnavailable, UpdateNotProved, rejection
from airflow_provider_azureml_classic.fleet.options import Options
from airflow_provider_azureml_classic.fleet.rows import Outcome, Row
from airflow_provider_azureml_classic.fleet.update import Updater, ended_badly, sentence
from airflow_provider_azureml_classic.protocol.data_check import SATISFIED
from airflow_provider_azureml_classic.protocol.digests import Digests
from airflow_provider_azureml_classic.protocol.jobs import CHECK_ROWS, Job, JobStatus
from airflow_provider_azureml_classic.protocol.references import BlobReference, ToldWindow
from airflow_provider_azureml_classic.protocol.rehearsal import Rehearsal
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.protocol.values import Endpoint, Resource, WebService
from airflow_provider_azureml_classic.retraining.placing import Placing
from airflow_provider_azureml_classic.retraining.proof import Level, Patch
from airflow_provider_azureml_classic.retraining.rehearsing import AUTO, Rehearsing
from tests.support.gates import DAY
from tests.support.programs import Script

CLIENT: Any = SimpleNamespace()
OLD = BlobReference("m/old.ilearner", "http://own/")
NEW = BlobReference("m/new.ilearner", "http://own/", "?sig=s")
CSV = BlobReference("m/e.csv", "http://own/", "?sig=s")
A, B = Digests("a" * 64, "a" * 64), Digests("b" * 64, "b" * 64)
JOB = Job("1" * 32, JobStatus.FINISHED, {"output2": CSV, "output1": NEW})
EVALUATION, FACTS = b"AUC\n0.9\n", BlobFacts(7, "f" * 64)


def endpoint(location: BlobReference = OLD, version: str = "1", **more: Any) -> Endpoint:
    """The endpoint of a customer."""
    window = ToldWindow(more.pop("end", DAY - timedelta(days=1)))
    return Endpoint("e", "s", resources=(Resource("r", location, window=window, **more),), version=version)


def updater(saved: list[Any] | None = None, log: list[str] | None = None, how: Any = None, **options: Any) -> Updater:
    """Updates the endpoints of a service."""

    async def save() -> None:
        """Nothing is stored."""

    def saving() -> Any:
        if saved is not None:
            saved.append("saved")
        return save()

    placing = Placing(CLIENT, lambda place: place, (log if log is not None else []).append, **(how or {}))
    return Updater(placing, WebService("s", "Bikes"), Options("t", "trainer", "s", **options), saving)


def service(*endpoints: Any, **answers: Any) -> Script:
    """A service with an evaluation, which takes what it is given."""
    given = {"fetch_blob": [EVALUATION], "blob_facts": [FACTS], "patch_endpoint": [None], "get_endpoint": endpoints}
    return Script(**{**given, **answers})


def row(**more: Any) -> Row:
    """A row whose job has finished."""
    return Row("e", {"end": DAY.isoformat()}, **more)


def names(script: Script) -> list[str]:
    """The verbs that were called."""
    return [name for name, _ in script.calls]


def test_a_model_is_put_live() -> None:
    """What is to be remembered is saved before the PATCH; the receipt says what was replaced, and by which job."""
    saved: list[Any] = []
    one, script = row(), service(endpoint(), endpoint(NEW, "2"))
    script.perform(updater(saved).update(one, replace(JOB, model=A)))
    assert names(script) == ["fetch_blob", "get_endpoint", "blob_facts", "patch_endpoint", "get_endpoint"]
    assert script.calls[1][1] == {"service_id": "s", "name": "e"}
    assert script.calls[2][1] == {"reference": NEW}
    assert (script.calls[3][1]["model_file"], script.calls[3][1]["purpose"].end) == (A.file, DAY)
    assert saved == ["saved"]
    assert (one.outcome, one.patch) == (Outcome.UPDATED, None)
    assert one.reason == "Trained, put live, and proved by resource."
    assert one.receipt is not None
    assert one.receipt["trained_by"] == {"web_service": "t", "endpoint": "trainer", "job_id": JOB.id}
    assert one.receipt["metrics"] == {"AUC": 0.9}
    assert one.receipt["model"] == {"location": NEW.location, "length": None, "sha256": A.file, "content": A.content}
    assert one.receipt["replaced"]["location"] == OLD.location
    assert one.receipt["window"]["end"] == DAY.isoformat()
    assert one.receipt["rehearsal"] is None
    assert one.receipt["web_service"] == "Bikes"


def test_a_place_that_is_not_an_address_is_not_looked_at() -> None:
    """Length and digest of the file are then not known."""
    bare = BlobReference("m/new.ilearner")
    one, script = row(), service(endpoint(), endpoint(NEW, "2"))
    script.perform(updater().update(one, replace(JOB, results={"output1": bare})))
    assert "blob_facts" not in names(script)
    assert one.outcome is Outcome.UPDATED


def test_an_evaluation_that_cannot_be_read() -> None:
    """It is told, and the model is put live all the same: no rule asks for a metric."""
    log: list[str] = []
    one, script = row(), service(endpoint(), endpoint(NEW, "2"), fetch_blob=[b""])
    script.perform(updater(log=log, paired=True).update(one, JOB))
    assert "http://own/m/e.csv is not an evaluation that can be read" in log[0]
    assert one.receipt is not None
    assert one.receipt["metrics"] is None
    # Where customers are kept apart, each is trained at his own endpoint.
    assert one.receipt["trained_by"]["endpoint"] == "e"


def test_the_model_that_is_named() -> None:
    """Of several outputs the one that the fleet says; the resource likewise."""
    other = BlobReference("m/other.ilearner", "http://own/")
    one = row()
    two = replace(endpoint(), resources=(Resource("q", OLD), Resource("r", OLD)))
    script = service(two, replace(two, version="2", resources=(Resource("q", other), Resource("r", OLD))))
    job = replace(JOB, results={"output1": NEW, "output3": other})
    script.perform(updater(model_output="output3", resource="q").update(one, job))
    (sent,) = (given["settings"].resources for name, given in script.calls if name == "patch_endpoint")
    assert sent == (Resource("q", other),)
    assert one.outcome is Outcome.UPDATED


@pytest.mark.parametrize(
    ("options", "live", "outcome", "words"),
    [
        ({"thresholds": {"AUC": {"min": 0.95}}}, {}, Outcome.KEPT, "not good enough: AUC is 0.9, below"),
        ({}, {"end": DAY + timedelta(days=1)}, Outcome.KEPT, "trained on"),
        ({"only_if_newer": False}, {"end": DAY + timedelta(days=1)}, Outcome.UPDATED, "proved"),
        ({"unknown_window": "replace"}, {"end": None}, Outcome.UPDATED, "proved by resource. "),
    ],
)
def test_what_keeps_a_model(options: dict[str, Any], live: dict[str, Any], outcome: Outcome, words: str) -> None:
    """Its metrics, or a live model that is newer; nothing is sent then."""
    one, script = row(), service(endpoint(**live), endpoint(NEW, "2"))
    script.perform(updater(**options).update(one, JOB))
    assert one.outcome is outcome
    assert words in one.reason
    assert ("patch_endpoint" in names(script)) is (outcome is Outcome.UPDATED)


def test_a_live_model_of_an_unknown_window() -> None:
    """The options say whether it is replaced; by default that is an error, before anything is sent."""
    script = service(endpoint(end=None))
    with pytest.raises(ValueError, match="unknown_window='replace'"):
        script.perform(updater().update(row(), JOB))
    assert "patch_endpoint" not in names(script)


def test_a_rule_about_a_metric_that_is_missing() -> None:
    """It is an error, as the gate's."""
    with pytest.raises(ValueError, match="F1"):
        service(endpoint()).perform(updater(thresholds={"F1": {"min": 0.5}}).update(row(), JOB))


@pytest.mark.parametrize(("live", "compared"), [(B, True), (A, False)])
def test_a_model_is_compared_with_the_live_one(live: Digests, compared: bool) -> None:
    """Unless it is the very same: then there is nothing to compare."""
    one, live_endpoint = row(), endpoint(digests=live)
    script = service(live_endpoint, endpoint(NEW, "2", digests=A), score_model=[ServiceUnavailable("away")])
    program = updater(max_worse={"AUC": 0.1}, how={"proof": "resource"}).update(one, replace(JOB, model=A))
    if not compared:
        after = endpoint(NEW, "2", digests=A)
        script = service(live_endpoint, live_endpoint, after, score_by=[(Table((), []), None)])
        script.perform(program)
        assert one.outcome is Outcome.UPDATED
        return
    with pytest.raises(ServiceUnavailable):
        script.perform(program)
    assert names(script) == ["fetch_blob", "get_endpoint", "score_model"]
    assert script.calls[1][1] == {"service_id": "s", "name": "e"}
    assert script.calls[2][1]["endpoint"] == live_endpoint


def test_live_already() -> None:
    """An attempt that was killed after its PATCH goes on; the outcome says that nothing was sent."""
    earlier = Patch("r", NEW, replaced=OLD, version="1")
    one, script = row(patch=earlier.to_json()), service(endpoint(NEW, "2"))
    script.perform(updater().update(one, JOB))
    assert "patch_endpoint" not in names(script)
    assert one.reason == "Trained, put live, and proved by resource."
    # The file is looked at all the same, for the receipt.
    assert script.calls[-1] == ("blob_facts", {"reference": NEW})
    assert one.receipt is not None
    assert (one.receipt["model"]["length"], one.receipt["replaced"]["location"]) == (7, OLD.location)
    again, script = row(), service(endpoint(NEW, "2"), endpoint(NEW, "3"))
    script.perform(updater().update(again, JOB))
    assert again.reason == "Live already, and proved again by resource."


@pytest.mark.parametrize(("on_failure", "outcome"), [("keep", Outcome.FAILED), ("rollback", Outcome.ROLLED_BACK)])
def test_no_proof(on_failure: str, outcome: Outcome) -> None:
    """The row remembers the PATCH as failed, for the next attempt; how the row ends says whether it was put back."""
    one = row()
    after = [endpoint(NEW, "2"), endpoint(OLD, "3")] if on_failure == "rollback" else [endpoint(OLD)]
    script = service(endpoint(), endpoint(OLD), *after)
    how = {"proof_timeout": -1.0, "on_failure": on_failure}
    with pytest.raises(UpdateNotProved) as caught:
        script.perform(updater(how=how).update(one, JOB))
    assert one.patch is not None
    patch = Patch.from_json(one.patch)
    assert (patch.failed, patch.location, patch.level) == (True, replace(NEW, sas_token=""), Level.RESOURCE)
    ended_badly(one, caught.value)
    assert (one.outcome, one.reason) == (outcome, str(caught.value))


def test_overtaken() -> None:
    """Somebody else's newer model is kept, and no failure."""
    newer = BlobReference("m/newer.ilearner", "http://own/")
    one, script = row(), service(endpoint(), endpoint(newer, "3", end=DAY + timedelta(days=1)))
    script.perform(updater().update(one, JOB))
    assert one.outcome is Outcome.KEPT
    assert "m/newer.ilearner" in one.reason


@pytest.mark.parametrize(("changed", "told"), [(0.01, False), (0.9, True)])
def test_a_rehearsal(changed: float, told: bool) -> None:
    """It is told where it is unusual; its figures are left out, as thousands of them are too much to keep."""
    one = row()
    script = service(
        endpoint(digests=B), endpoint(NEW, "2", digests=A), rehearse_update=[Rehearsal(3, 50, changed=changed)]
    )
    script.perform(updater(how={"rehearsing": Rehearsing(AUTO), "proof": "resource"}).update(one, JOB))
    assert one.receipt is not None
    assert set(one.receipt["rehearsal"]) == {"text", "unusual"}
    assert one.receipt["rehearsal"]["unusual"] is told
    assert one.reason.endswith("answers change.") is told


def test_sentences_of_errors() -> None:
    """One without words is named by its kind; only a model that is back was rolled back."""
    assert [sentence(ValueError("no")), sentence(KeyError())] == ["no", "KeyError"]
    for error, outcome in (
        (ValueError("no"), Outcome.FAILED),
        (UpdateNotProved("no"), Outcome.FAILED),
        (UpdateNotProved("no", put_back=True), Outcome.ROLLED_BACK),
    ):
        one = row()
        ended_badly(one, error)
        assert (one.outcome, one.reason) == (outcome, "no")


def test_what_was_live_is_saved_before_the_patch() -> None:
    """With all that an attempt needs which goes on with the proof."""
    one, seen = row(), list[Any]()
    saves: Any = SimpleNamespace(append=lambda _: seen.append(one.patch))
    script = service(endpoint(), endpoint(NEW, "2"))
    script.perform(updater(saves).update(one, JOB))
    (patch,) = seen
    assert Patch.from_json(patch).replaced == OLD


@pytest.mark.parametrize("check", [SATISFIED, None])
def test_a_comparison_that_decides_nothing(check: str | None) -> None:
    """The model is put live where the file is as those before, with one word on it; else the plain values decide."""
    source = random.Random(1)  # noqa: S311 - test data
    labels = [float(number % 10) for number in range(40)]
    mine, live = ([label + source.choice((-2.0, -1.0, 1.0, 2.0)) for label in labels] for _ in range(2))
    errors = [sum(abs(a - b) for a, b in zip(labels, answers, strict=True)) for answers in (mine, live)]
    if errors[0] < errors[1]:
        mine, live = live, mine
    held = {
        "Input": Table(("x",), [[label] for label in labels]).to_wire(),
        "Output": Table(("Scored Labels",), [[value] for value in mine]).to_wire(),
        "Label": "y",
        "Labels": labels,
    }
    out = io.StringIO(newline="")
    csv.writer(out).writerows([["Mean Absolute Error", CHECK_ROWS], ["1.5", json.dumps(held)]])
    both = replace(endpoint(digests=B), resources=(Resource("q"), *endpoint(digests=B).resources))
    after = replace(both, version="2", resources=(Resource("q"), *endpoint(NEW, digests=A).resources))
    script = service(
        *[both] * 3,
        after,
        fetch_blob=[out.getvalue().encode()],
        score_model=[rejection("OperationNotSupported", "It has no such call.")],
        score_by=[(Table(("Scored Labels",), [[value] for value in live]), "m")],
    )
    found = None if check is None else {"verdict": check, "labels_as_before": True, "columns_as_before": True}
    rules = {"max_worse": {"Mean Absolute Error": 0, "Root Mean Squared Error": 0}, "resource": "r"}
    one = row()
    script.perform(updater(how={"proof": "resource"}, **rules).update(one, replace(JOB, model=A, data_check=found)))
    assert one.outcome is (Outcome.UPDATED if check else Outcome.KEPT)
    assert one.reason.count("On 40 rows held out of the training, Mean Absolute Error is") == 1
    assert ("Root Mean Squared Error" in one.reason) is (check is None)


def test_a_word_on_a_model_that_is_replaced_unseen() -> None:
    """Of a service that tells no windows; once, however often the endpoint was read."""
    old, new = (replace(endpoint(place), resources=(Resource("r", place),)) for place in (OLD, NEW))
    changed = RequestRejected("changed", status=412)
    one, script = row(), service(old, old, old, replace(new, version="2"), patch_endpoint=[changed, None])
    script.perform(updater().update(one, JOB))
    assert one.outcome is Outcome.UPDATED
    assert one.reason.count("It is replaced all the same") == 1
