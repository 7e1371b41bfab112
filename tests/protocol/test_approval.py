"""Who has agreed to an update, in XCom, a header and a history."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.protocol.approval import HEADER, Approval, known_approval
from airflow_provider_azureml_classic.protocol.digests import Digests

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOBODY = Approval(None, NOON, "d" * 64)
ADA = Approval("Ada Lovelace", NOON, "d" * 64, "gated/r1/approve", Digests("a" * 64, "b" * 64))


@pytest.mark.parametrize("approval", [NOBODY, ADA])
def test_what_is_written_is_read(approval: Approval) -> None:
    """From JSON, and from a header."""
    assert Approval.from_json(approval.to_json()) == known_approval(approval.to_json()) == approval
    headers = approval.to_header()
    assert list(headers) == [HEADER]
    assert Approval.from_headers(headers) == approval
    assert Approval.from_headers({}) is None


def test_members() -> None:
    """They are kept for years in histories, so that their names stay."""
    assert ADA.to_json() == {
        "by": "Ada Lovelace",
        "at": "2026-03-01T12:00:00Z",
        "evidence": "d" * 64,
        "asked_in": "gated/r1/approve",
        "model": {"sha256": "a" * 64, "content": "b" * 64},
    }
    assert NOBODY.to_json()["model"] is None


def test_texts_are_cut() -> None:
    """A server keeps no more of a name than 250 letters; what is not told is empty."""
    long = Approval.from_json({**ADA.to_json(), "by": "x" * 251, "asked_in": "y" * 251, "later": 1})
    assert (long.by, long.asked_in) == ("x" * 250, "y" * 250)
    assert Approval.from_json({**ADA.to_json(), "by": "", "asked_in": None, "model": 5}) == Approval("", NOON, "d" * 64)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"by": 5}, "by, at or asked_in is not a text"),
        ({"at": None}, "by, at or asked_in is not a text"),
        ({"asked_in": []}, "by, at or asked_in is not a text"),
        ({"at": "noon"}, "'noon' is not a time"),
        ({"at": "0001-01-01T00:00:00+01:00"}, "is not a time"),
        ({"evidence": None}, "evidence is no SHA-256"),
        ({"evidence": "D" * 64}, "evidence is no SHA-256"),
    ],
)
def test_no_approval(change: dict[str, Any], why: str) -> None:
    """A header that says anything else is refused; a history that does tells of none."""
    data = {**ADA.to_json(), **change}
    with pytest.raises(ValueError, match=why):
        Approval.from_json(data)
    assert known_approval(data) is None
    with pytest.raises(RequestRejected, match="Expected a JSON object with by, at, evidence, asked_in and model"):
        Approval.from_headers({HEADER: json.dumps(data)})


@pytest.mark.parametrize("data", [None, "", [], "Ada"])
def test_what_is_no_object(data: Any) -> None:
    """It is no approval."""
    with pytest.raises(ValueError, match="not a JSON object"):
        Approval.from_json(data)
    assert known_approval(data) is None
