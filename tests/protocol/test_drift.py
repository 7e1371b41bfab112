"""Drift on the wire: what counts as one, what is told of features and endpoints, and pages of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from airflow_provider_azureml_classic.exceptions import ProtocolError, RequestRejected
from airflow_provider_azureml_classic.protocol.drift import (
    DRIFTED,
    NOT_KNOWN,
    STEADY,
    TOO_FEW,
    DriftPage,
    EndpointDrift,
    FeatureDrift,
    Terms,
)

HOUR = FeatureDrift("hr", 0.834, 1e-9, 0.1, 0.2, 0.3, 0.4)
TEMP = FeatureDrift("temp", None, None, 0.0, None, 0.0, 0.0)
HOUR_WIRE = {
    "Name": "hr", "Psi": 0.834, "P": 1e-9, "Missing": 0.1, "MissingBefore": 0.2, "Unknown": 0.3, "Outside": 0.4,
}  # fmt: skip
MINE = EndpointDrift("mine", DRIFTED, "a" * 64, 9, 1200, 1100, date(2026, 3, 1), (HOUR, TEMP), ("hr",))
MINE_WIRE = {
    "Name": "mine",
    "Verdict": "drifted",
    "Model": "a" * 64,
    "Calls": 9,
    "Rows": 1200,
    "Counted": 1100,
    "Since": "2026-03-01",
    "Drifted": ["hr"],
    "Features": [HOUR_WIRE, TEMP.to_wire()],
}


@pytest.mark.parametrize(
    ("terms", "query"),
    [
        (Terms(), []),
        (Terms(days=30), [("days", "30")]),
        (Terms(1, 0.01, 20), [("days", "1"), ("psi", "0.01"), ("rows", "20")]),
        (Terms(psi=100), [("psi", "100")]),
        (Terms(rows=10**9), [("rows", "1000000000")]),
        (Terms(days=14, psi=0.12345678), [("days", "14"), ("psi", "0.12345678")]),
        (Terms(ignore=frozenset({"hr", "ä,b"})), [("ignore", '["hr", "\\u00e4,b"]')]),
    ],
)
def test_terms(terms: Terms, query: list[tuple[str, str]]) -> None:
    """Only what is not as usual is asked for; what is written is read."""
    assert terms.to_query() == query
    assert Terms.from_query(dict(query)) == terms


def test_usual_terms() -> None:
    """A week, an index of 0.25, a hundred rows, no feature left out."""
    assert Terms.from_query({}) == Terms(7, 0.25, 100, frozenset())
    assert len(Terms(ignore=frozenset(map(str, range(200)))).ignore) == 200


@pytest.mark.parametrize(
    ("query", "target", "words"),
    [
        ({"days": "0"}, "days", "days is 0; it must be from 1 to 30"),
        ({"days": "31"}, "days", "days is 31"),
        ({"days": "1.5"}, "days", "days is '1.5'; it must be a number"),
        ({"psi": "0"}, "psi", "psi is 0.0; it must be from 0.01 to 100"),
        ({"psi": "100.1"}, "psi", "psi is 100.1"),
        ({"psi": "nan"}, "psi", "psi is nan"),
        ({"rows": "19"}, "rows", "rows is 19; it must be from 20"),
        ({"rows": "1000000001"}, "rows", "rows is 1000000001"),
        ({"rows": "x" * 50}, "rows", f"rows is '{'x' * 40}'; it"),
        ({"ignore": "hr"}, "ignore", "ignore is 'hr'; it must be a JSON list"),
        ({"ignore": '"hr"'}, "ignore", "it must be a JSON list"),
        ({"ignore": '["hr", 5]'}, "ignore", "it must be a JSON list"),
        ({"ignore": str(list(range(201))).replace(" ", '"').replace(",", '",').replace("[", '["').replace("]", '"]')},
         "ignore", "201 features are to be ignored; at most 200"),
    ],
)  # fmt: skip
def test_no_terms(query: dict[str, str], target: str, words: str) -> None:
    """They are refused by the parameter's name, and a long text is cut."""
    with pytest.raises(RequestRejected, match=words) as caught:
        Terms.from_query(query)
    assert (caught.value.detail_code, caught.value.details[0].target) == ("InvalidQueryParameter", target)


@pytest.mark.parametrize("value", ["7", None])
def test_terms_of_another_kind(value: Any) -> None:
    """Of a DAG, which may write anything."""
    with pytest.raises(RequestRejected, match="days is"):
        Terms(days=value)


def test_a_feature() -> None:
    """Every member; a share that is not told is none, but an index that is not told is not known."""
    assert HOUR.to_wire() == HOUR_WIRE
    assert FeatureDrift.from_wire(HOUR_WIRE) == HOUR
    assert FeatureDrift.from_wire({"Name": "temp"}) == TEMP
    assert FeatureDrift.from_wire({**HOUR_WIRE, "Psi": 1}).psi == 1.0


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "A feature of the drift is not an object"),
        ([], "A feature of the drift is not an object"),
        *((HOUR_WIRE | {name: "0.5"}, f"{name} of a feature is not a number") for name in [*HOUR_WIRE][1:]),
        (HOUR_WIRE | {"Psi": True}, "Psi of a feature is not a number"),
        (HOUR_WIRE | {"Psi": float("nan")}, "Psi of a feature is not a number"),
        (HOUR_WIRE | {"Psi": 10**400}, "Psi of a feature is not a number"),
    ],
)
def test_no_feature(data: Any, words: str) -> None:
    """Nothing is reckoned with what is no number."""
    with pytest.raises(ProtocolError, match=words):
        EndpointDrift.from_wire({**MINE_WIRE, "Features": [data]})


def test_an_endpoint() -> None:
    """Every member; what is not told is nothing."""
    assert MINE.to_wire() == MINE_WIRE
    assert EndpointDrift.from_wire(MINE_WIRE) == MINE
    bare = EndpointDrift("mine", NOT_KNOWN, "")
    assert EndpointDrift.from_wire({"Name": "mine", "Verdict": "not known"}) == bare
    assert bare.to_wire()["Since"] is None
    assert EndpointDrift.from_wire(bare.to_wire()) == bare


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"Name": ""}, "no name or no verdict"),
        ({"Verdict": "odd"}, "no name or no verdict"),
        ({"Since": 5}, "The counts of endpoint 'mine' cannot be read"),
        ({"Since": "noon"}, "The counts of endpoint 'mine' cannot be read"),
        ({"Calls": "many"}, "The counts of endpoint 'mine' cannot be read"),
        ({"Rows": [1]}, "The counts of endpoint 'mine' cannot be read"),
        ({"Counted": float("inf")}, "The counts of endpoint 'mine' cannot be read"),
        ({"Features": 5}, "The counts of endpoint 'mine' cannot be read"),
        ({"Drifted": True}, "The counts of endpoint 'mine' cannot be read"),
    ],
)
def test_no_endpoint(change: dict[str, Any], words: str) -> None:
    """An answer of another shape is an error of the protocol."""
    with pytest.raises(ProtocolError, match=words):
        EndpointDrift.from_wire({**MINE_WIRE, **change})


def test_the_largest_index() -> None:
    """Of those that were compared; 0 where none was."""
    assert replace(MINE, features=(TEMP, replace(HOUR, psi=0.1), HOUR)).psi == 0.834
    assert replace(MINE, features=(TEMP,)).psi == 0.0


def test_the_sentence() -> None:
    """It names the features that drifted, five at most, and says how many rows were counted."""
    assert str(MINE) == "Endpoint 'mine' has drifted in 1,100 rows; stability index: hr 0.83."
    assert str(replace(MINE, verdict=STEADY)) == "Endpoint 'mine': steady (1,100 rows, largest stability index 0.83)."
    features = tuple(replace(HOUR, name=f"f{number}") for number in range(7))
    many = replace(MINE, features=features, drifted=tuple(one.name for one in features[1:]))
    named = ", ".join(f"f{number} 0.83" for number in range(1, 6))
    assert str(many) == f"Endpoint 'mine' has drifted in 1,100 rows; stability index: {named}."


def test_facts() -> None:
    """Of an event: the features that drifted, twenty at most."""
    names = tuple(f"f{number}" for number in range(21))
    assert replace(MINE, drifted=names).facts() == {
        "endpoint": "mine",
        "model": "a" * 64,
        "psi": 0.834,
        "features": list(names[:20]),
        "rows": 1100,
        "reason": str(replace(MINE, drifted=names)),
    }


ALL = [
    replace(MINE, name=name, verdict=verdict)
    for name, verdict in zip("abcd", [DRIFTED, STEADY, TOO_FEW, DRIFTED], strict=True)
]


@pytest.mark.parametrize(
    ("query", "names", "following"),
    [
        ({}, "abcd", None),
        ({"limit": "4"}, "abcd", None),
        ({"limit": "3"}, "abc", "c"),
        ({"limit": "1", "after": "a"}, "b", "b"),
        ({"after": "c"}, "d", None),
        ({"after": "d"}, "", None),
        ({"verdict": "drifted"}, "ad", None),
        ({"verdict": "drifted", "limit": "1"}, "a", "a"),
        ({"verdict": "not known", "limit": "1000"}, "", None),
    ],
)
def test_pages(query: dict[str, str], names: str, following: str | None) -> None:
    """Of the endpoints with the verdict that is wanted, those behind the last one; what is written is read."""
    page = DriftPage.of(iter(ALL), query)
    assert ("".join(one.name for one in page.endpoints), page.next) == (names, following)
    assert DriftPage.from_wire(page.to_wire()) == page
    assert page.to_wire() == {"Endpoints": [one.to_wire() for one in page.endpoints], "Next": following}


def test_the_usual_page() -> None:
    """Two hundred endpoints."""
    many = [replace(MINE, name=f"{number:04}") for number in range(201)]
    page = DriftPage.of(many, {})
    assert (len(page.endpoints), page.next) == (200, "0199")
    assert DriftPage() == DriftPage((), None)


@pytest.mark.parametrize(
    ("query", "target", "words"),
    [
        ({"limit": "0"}, "limit", "limit is 0; it must be from 1 to 1000"),
        ({"limit": "1001"}, "limit", "limit is 1001"),
        ({"limit": "1.5"}, "limit", "limit is '1.5'; it must be a number"),
        ({"verdict": ""}, "verdict", "verdict is ''; it must be one of drifted, steady, too few rows, not known"),
        ({"verdict": "x" * 50}, "verdict", f"verdict is '{'x' * 40}'; it"),
    ],
)
def test_no_page_asked(query: dict[str, str], target: str, words: str) -> None:
    """It is refused by the parameter's name."""
    with pytest.raises(RequestRejected, match=words) as caught:
        DriftPage.of(ALL, query)
    assert (caught.value.detail_code, caught.value.details[0].target) == ("InvalidQueryParameter", target)


@pytest.mark.parametrize("data", [None, [], {}, {"Endpoints": {}}])
def test_no_page(data: Any) -> None:
    """An answer of another shape is an error of the protocol."""
    with pytest.raises(ProtocolError, match="not a list of the drift of endpoints"):
        DriftPage.from_wire(data)
    with pytest.raises(ProtocolError, match="no name or no verdict"):
        DriftPage.from_wire({"Endpoints": [data]})
