"""Rehearsals of updates: what may be asked for, what is made of an answer, and what stops an update."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, RequestRejected, ServiceUnavailable
from airflow_provider_azureml_classic.protocol.digests import Digests
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.rehearsal import LIVE, NEW, Rehearsal
from airflow_provider_azureml_classic.protocol.values import Endpoint, Resource
from airflow_provider_azureml_classic.retraining.rehearsing import AUTO, OFF, REQUIRE, Outcome, Rehearsing, sentence
from tests.support.programs import Script

CLIENT: Any = SimpleNamespace()
MODEL = Digests("a" * 64, "b" * 64)
PLACE = BlobReference("m/new.ilearner")
ENDPOINT = Endpoint("e", "s")
USUAL = Rehearsal(3, 1000, {LIVE: 0, NEW: 0}, changed=0.1, stability=0.05)


def asked(how: Rehearsing, answer: Any, digests: Digests | None = MODEL, model: Digests | None = MODEL) -> Any:
    """The outcome of a rehearsal, and what was called."""
    script = Script(rehearse_update=[answer])
    resource = Resource("r", BlobReference("m/old.ilearner"), digests=digests)
    return script.perform(how.ask(CLIENT, ENDPOINT, resource, PLACE, model)), script.calls


@pytest.mark.parametrize(
    ("mode", "most", "limits"),
    [
        (OFF, None, {}),
        (AUTO, None, {}),
        (AUTO, 0.1, {"changed": 0.1}),
        (REQUIRE, 0, {"changed": 0.0}),
        (AUTO, {"stability": 1, "refused": 0.5}, {"stability": 1.0, "refused": 0.5}),
    ],
)
def test_what_may_be_said(mode: str, most: Any, limits: dict[str, float]) -> None:
    """A share is of labels that change; other measures are named."""
    assert Rehearsing.of(mode, most) == Rehearsing(mode, limits)
    assert all(type(limit) is float for limit in Rehearsing.of(mode, most).limits.values())


@pytest.mark.parametrize("most", [-0.1, "0.1", True, {"other": 0.1}, {"changed": None}, {"changed": -1}])
def test_what_may_not_be_said(most: Any) -> None:
    """What is no number of 0 or more, or of no measure, is named."""
    with pytest.raises(ValueError, match="max_change is"):
        Rehearsing.of(AUTO, most)


def test_modes() -> None:
    """An unknown one, and limits without a rehearsal, are refused."""
    with pytest.raises(ValueError, match="rehearsal is 'on'; it must be one of: auto, require, off"):
        Rehearsing.of("on", None)
    with pytest.raises(ValueError, match="max_change needs a rehearsal"):
        Rehearsing.of(OFF, 0.1)


def test_nothing_is_asked_unless_it_is_wanted() -> None:
    """By default updates are not rehearsed."""
    assert asked(Rehearsing(), USUAL) == (None, [])


def test_what_is_asked() -> None:
    """The model at its place, by its file where that is known."""
    outcome, calls = asked(Rehearsing(AUTO), USUAL)
    assert outcome == Outcome(sentence(USUAL), USUAL)
    assert calls == [
        ("rehearse_update", {"endpoint": ENDPOINT, "resource": Resource("r", PLACE), "model_file": MODEL.file})
    ]
    assert asked(Rehearsing(AUTO), USUAL, model=None)[1][0][1]["model_file"] is None


@pytest.mark.parametrize("answer", [ServiceUnavailable("no answer"), RequestRejected("unknown")])
def test_a_service_that_does_not_rehearse(answer: AzureMLClassicError) -> None:
    """It is said and passed over, unless a rehearsal is required."""
    outcome, _ = asked(Rehearsing(AUTO), answer)
    assert outcome == Outcome(f"The update was not rehearsed: {answer.message}")
    with pytest.raises(type(answer)):
        asked(Rehearsing(REQUIRE), answer)


def test_a_service_that_tells_no_models_is_not_asked() -> None:
    """It is not ours."""
    outcome, calls = asked(Rehearsing(AUTO), USUAL, digests=None)
    assert (outcome.text, calls) == ("The update was not rehearsed: This service offers no rehearsals.", [])
    with pytest.raises(RequestRejected) as caught:
        asked(Rehearsing(REQUIRE), USUAL, digests=None)
    assert caught.value.detail_code == "OperationNotSupported"


@pytest.mark.parametrize(("rows", "words"), [(0, "no calls are kept"), (7, "7 rows of calls are kept")])
def test_too_few_calls(rows: int, words: str) -> None:
    """They are counted; a rehearsal that is required fails."""
    few = Rehearsal(2, rows)
    outcome, _ = asked(Rehearsing(AUTO), few)
    assert words in outcome.text
    assert "'e'" in outcome.text
    assert (outcome.found, outcome.reason, outcome.is_unusual) == (few, None, False)
    with pytest.raises(ValueError, match="rehearsal='require' needs them"):
        asked(Rehearsing(REQUIRE), few)


@pytest.mark.parametrize(
    ("found", "unusual", "beyond"),
    [
        (Rehearsal(3, 100, changed=0.15, stability=0.5), False, ["changed"]),
        (Rehearsal(3, 100, changed=0.16), True, ["changed"]),
        (Rehearsal(3, 100, changed=0.0, stability=0.51), True, ["stability"]),
        (Rehearsal(3, 100, {LIVE: 0, NEW: 2}, changed=0.0), True, ["refused"]),
        (Rehearsal(3, 100, {LIVE: 5, NEW: 6}, changed=0.0), False, []),
        (Rehearsal(3, 100, {LIVE: 6, NEW: 2}, changed=0.0), False, []),
    ],
)
def test_limits(found: Rehearsal, unusual: bool, beyond: list[str]) -> None:
    """A figure beyond its limit stops the update, with both in the reason; some are told in any case."""
    limits = {"changed": 0.1, "stability": 0.5, "refused": 0.01}
    outcome, _ = asked(Rehearsing(AUTO, limits), found)
    assert outcome.is_unusual is unusual
    reason = outcome.reason or ""
    shown = {"changed": "over the 10.0 %", "stability": "0.510, over the 0.500", "refused": "2.0 %, over the 1.0 %"}
    assert [name for name, words in shown.items() if words in reason] == beyond
    assert bool(reason) is bool(beyond)
    assert not reason or reason.startswith("Endpoint 'e' keeps its model: ")
    assert outcome.text == sentence(found)
    assert outcome.to_json() == {"text": outcome.text, "unusual": unusual, "figures": found.to_json()}
    # Measures without a limit stop nothing.
    assert asked(Rehearsing(AUTO), found)[0].reason is None
    assert Outcome("x").to_json() == {"text": "x", "unusual": False, "figures": None}


def test_sentences() -> None:
    """Each figure that is known, once; the middle of what both models answered."""
    whole = Rehearsal(
        1234, 56789, {NEW: 1000}, 0.125, 0.0625, {LIVE: [0.1, 0.2, 0.3, 0.4, 0.5], NEW: [1.0, 2.0, 3.0, 4.0, 5.0]}
    )
    assert sentence(whole) == (
        "Rehearsed on 56,789 rows of the last 1,234 calls: 12.5 % of the answers change, stability index 0.062, "
        "the middle one from 0.3 to 3. The new model refuses 1,000 of the rows."
    )
    assert sentence(Rehearsal(1, 50, changed=0.0)) == (
        "Rehearsed on 50 rows of the last 1 calls: 0.0 % of the answers change."
    )
