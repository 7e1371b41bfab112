"""The answer to a rehearsal, as both sides know it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_azureml_classic.exceptions import ProtocolError
from airflow_provider_azureml_classic.protocol.rehearsal import LIVE, NEW, Rehearsal

WHOLE = Rehearsal(
    calls=7,
    rows=80,
    refused={LIVE: 1, NEW: 5},
    changed=0.25,
    stability=0.5,
    quantiles={LIVE: [0.1, 0.2, 0.3, 0.4, 0.5], NEW: [0.2, 0.3, 0.4, 0.5, 0.6]},
    labels={LIVE: {"yes": 0.25, "no": 0.75}, NEW: {"yes": 1.0}},
    milliseconds={LIVE: 1.5, NEW: 2.5},
)
FEW = Rehearsal(calls=1, rows=0, refused={LIVE: 0, NEW: 0})


@pytest.mark.parametrize("rehearsal", [WHOLE, FEW])
def test_what_is_written_is_read(rehearsal: Rehearsal) -> None:
    """All of it, and what later versions add is passed over."""
    wire = json.loads(json.dumps(rehearsal.to_wire()))
    assert Rehearsal.from_json({**wire, "colour": 1}) == rehearsal
    assert rehearsal.says is (rehearsal is WHOLE)


def test_a_model_that_refused_nothing_may_be_left_out() -> None:
    """It counts as none."""
    assert Rehearsal.from_json({**WHOLE.to_wire(), "refused": {}}).refused == {LIVE: 0, NEW: 0}


def test_what_is_read_is_bounded() -> None:
    """So many labels, so many letters of each, and as many quantiles as there are."""
    long = {"x" * 201: 1, **{str(number): 0 for number in range(60)}}
    data = {**WHOLE.to_wire(), "labels": {LIVE: long, NEW: {}}, "quantiles": {LIVE: [1] * 9, NEW: []}}
    rehearsal = Rehearsal.from_json(data)
    assert rehearsal.labels == {LIVE: {"x" * 200: 1.0, **{str(number): 0.0 for number in range(49)}}, NEW: {}}
    assert rehearsal.quantiles == {LIVE: [1.0] * 5, NEW: []}


@pytest.mark.parametrize(
    ("refused", "rows", "share"),
    [
        ({LIVE: 1, NEW: 5}, 80, 0.05),
        ({NEW: 5}, 10, 0.5),
        ({LIVE: 5}, 10, 0.0),
        ({LIVE: 5, NEW: 1}, 10, 0.0),
        ({}, 10, 0.0),
        ({NEW: 5}, 0, 0.0),
    ],
)
def test_newly_refused(refused: dict[str, int], rows: int, share: float) -> None:
    """What the live model refuses as well does not count against the new one, and never for it."""
    assert replace(WHOLE, refused=refused, rows=rows).newly_refused == share


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {**WHOLE.to_wire(), "calls": "many"},
        {**WHOLE.to_wire(), "rows": float("inf")},
        {**WHOLE.to_wire(), "changed": float("nan")},
        {**WHOLE.to_wire(), "stability": float("inf")},
        {**WHOLE.to_wire(), "refused": None},
        {**WHOLE.to_wire(), "labels": {LIVE: {}}},
        {**WHOLE.to_wire(), "milliseconds": {LIVE: 1, NEW: None}},
    ],
)
def test_what_cannot_be_read(data: Any) -> None:
    """One error, which says of which call the answer is."""
    with pytest.raises(ProtocolError, match="rehearsal cannot be read") as caught:
        Rehearsal.from_json(data)
    assert caught.value.verb == "rehearse_update"
