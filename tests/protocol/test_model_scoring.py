"""Scoring with a model that is on no endpoint: what is asked and what is answered."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_azureml_classic.exceptions import ProtocolError, RequestRejected
from airflow_provider_azureml_classic.protocol import model_scoring
from airflow_provider_azureml_classic.protocol.digests import Digests
from airflow_provider_azureml_classic.protocol.model_scoring import HeldOutRows, ModelAnswers, ModelCall
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.tables import Table

MODEL = BlobReference("models/ten.ilearner", "https://store.test/")
ROWS = Table(("x",), [[1], [2]])
A, B = Digests("a" * 64, "b" * 64), Digests("c" * 64)
HELD = HeldOutRows(["yes", "no", "no"], Table(("p",), [["0.1"], ["0.2"], ["0.3"]]), [0, 2], B, 4, 5)
ANSWERS = Table(("p",), [["0.4"], ["0.5"]])
TOLD = {
    "Labels": ["yes", "no", "no"],
    "Live": HELD.live.to_wire(),
    "Asked": [0, 2],
    "LiveDigests": B.to_wire(),
    "LeftOut": 4,
    "Unlike": 5,
}


@pytest.mark.parametrize(
    ("call", "wire"),
    [
        (ModelCall(MODEL, None, ROWS), {"Location": MODEL.to_wire(), "Rows": ROWS.to_wire()}),
        (ModelCall(None, "a" * 64), {"ModelDigests": Digests("a" * 64).to_wire(), "HeldOut": True}),
        (
            ModelCall(MODEL, "a" * 64, ROWS),
            {"Location": MODEL.to_wire(), "ModelDigests": Digests("a" * 64).to_wire(), "Rows": ROWS.to_wire()},
        ),
    ],
)
def test_a_call(call: ModelCall, wire: dict[str, Any]) -> None:
    """By place, by digest, or by both; with rows, or for those that were held out."""
    assert call.to_wire() == wire
    assert ModelCall.from_wire(wire) == call


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (None, "RequestBodyInvalid", "JSON object with Location or ModelDigests"),
        ({"HeldOut": True}, "MissingInputBlobInformation", "names no model"),
        ({"ModelDigests": {"Content": "a" * 64}, "HeldOut": True}, "MissingInputBlobInformation", "names no model"),
        ({"Location": MODEL.to_wire()}, "RequestBodyInvalid", "either Rows, a table, or HeldOut: true"),
        ({"Location": MODEL.to_wire(), "HeldOut": "yes"}, "RequestBodyInvalid", "either Rows"),
        ({"Location": MODEL.to_wire(), "HeldOut": True, "Rows": []}, "RequestBodyInvalid", "either Rows"),
        ({"Location": MODEL.to_wire(), "Rows": 5}, "InputParseError", "Input 'Rows' is neither"),
        ({"Location": "ten", "HeldOut": True}, "MissingInputBlobInformation", "Location must be an object"),
        ({"Location": {"RelativeLocation": "a", "Url": "b"}, "HeldOut": True}, "UnexpectedParameter", "Url"),
        ({"Model": 1}, "UnexpectedParameter", "The body has the unknown member 'Model'"),
    ],
)
def test_no_call(data: Any, code: str, words: str) -> None:
    """The member at fault is named: another model, or other rows, are never taken instead."""
    with pytest.raises(RequestRejected, match=words) as caught:
        ModelCall.from_wire(data)
    assert caught.value.detail_code == code


def test_rows_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one call."""
    monkeypatch.setattr(model_scoring, "MOST_ROWS", 2)
    assert ModelCall.from_wire(ModelCall(MODEL, None, ROWS).to_wire()).rows == ROWS
    monkeypatch.setattr(model_scoring, "MOST_ROWS", 1)
    with pytest.raises(RequestRejected, match="2 rows are too many for one call: send at most 1") as caught:
        ModelCall.from_wire(ModelCall(MODEL, None, ROWS).to_wire())
    assert caught.value.detail_code == "InputParseError"


@pytest.mark.parametrize(
    ("answers", "wire"),
    [
        (ModelAnswers(ANSWERS, None), {"Answers": ANSWERS.to_wire(), "ModelDigests": None, "HeldOut": None}),
        (ModelAnswers(ANSWERS, A, HELD), {"Answers": ANSWERS.to_wire(), "ModelDigests": A.to_wire(), "HeldOut": TOLD}),
        (
            ModelAnswers(ANSWERS, A, HeldOutRows(HELD.labels, HELD.live, [0, 2], None, None)),
            {
                "Answers": ANSWERS.to_wire(),
                "ModelDigests": A.to_wire(),
                "HeldOut": {**TOLD, "LiveDigests": None, "LeftOut": None, "Unlike": 0},
            },
        ),
    ],
)
def test_answers(answers: ModelAnswers, wire: dict[str, Any]) -> None:
    """What was answered, by which model, and what is told of the rows."""
    assert answers.to_wire() == wire
    assert ModelAnswers.from_wire(wire) == answers


def test_counts_that_are_none() -> None:
    """A service that does not tell them is not said to have left none out."""
    told = {**TOLD, "LeftOut": "4", "Unlike": "5"}
    held = ModelAnswers.from_wire({"Answers": ANSWERS.to_wire(), "HeldOut": told}).held_out
    assert held is not None
    assert (held.left_out, held.unlike) == (None, 0)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "is no object"),
        ({}, "The answer of the model cannot be read: Input 'Answers' is neither"),
        ({"HeldOut": 5}, "does not fit its answers"),
        ({"HeldOut": {**TOLD, "Labels": None, "Live": None}}, "does not fit its answers"),
        ({"HeldOut": {**TOLD, "Labels": "yes"}}, "does not fit its answers"),
        ({"HeldOut": {**TOLD, "Labels": ["yes"]}}, "does not fit its answers"),
        ({"HeldOut": {**TOLD, "Live": None}}, "Input 'Live' is neither"),
        ({"HeldOut": {**TOLD, "Asked": None}}, "does not fit its answers"),
        ({"HeldOut": {**TOLD, "Asked": [0]}}, "does not fit its answers"),
        ({"HeldOut": {**TOLD, "Asked": [0, 3]}}, "does not fit its answers"),
        ({"HeldOut": {**TOLD, "Asked": [-1, 0]}}, "does not fit its answers"),
        ({"HeldOut": {**TOLD, "Asked": [0, 1.0]}}, "does not fit its answers"),
        ({"HeldOut": {**TOLD, "Asked": [0, [1]]}}, "does not fit its answers"),
    ],
)
def test_no_answers(data: Any, words: str) -> None:
    """An answer that does not fit together is an error of the protocol: no metric is made of it."""
    answer = {"Answers": ANSWERS.to_wire(), **data} if data else data
    with pytest.raises(ProtocolError, match=words):
        ModelAnswers.from_wire(answer)


@pytest.mark.parametrize(
    ("left_out", "unlike", "notes"),
    [
        (0, 0, []),
        (3, 0, ["3 lie in the new model's window"]),
        (None, 0, ["it is not known which"]),
        (0, 2, ["2 have values that the new training data do not have"]),
        (None, 2, ["it is not known which", "2 have values"]),
    ],
)
def test_notes(left_out: int | None, unlike: int, notes: list[str]) -> None:
    """What was left out is said, with the reason; nothing is said of nothing."""
    held = HeldOutRows([], ROWS, [], None, left_out, unlike)
    texts = held.notes()
    assert len(texts) == len(notes)
    for text, note in zip(texts, notes, strict=True):
        assert text.startswith("Of the rows that were held out of the live model's training, ")
        assert note in text
