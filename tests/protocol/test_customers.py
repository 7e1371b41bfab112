"""What a customer is told: his folder, his files, and how much of his quota is used."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_azureml_classic.exceptions import ProtocolError, RequestRejected
from airflow_provider_azureml_classic.protocol.customers import (
    Quota,
    Usage,
    customer_to_wire,
    file_to_wire,
    files_to_wire,
)
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint

MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)
USED = {"JobsToday": 3, "BytesNow": 400, "DayEnds": "2026-03-02T00:00:00Z"}


def test_who_asks() -> None:
    """His name, folder and endpoints; ``null`` where he has none."""
    endpoint = Endpoint("mine")
    wire = customer_to_wire("mine", "customers/mine", None, endpoint)
    assert wire == {"Name": "mine", "Folder": "customers/mine", "Training": None, "Scoring": endpoint.to_wire()}
    assert customer_to_wire("mine", "", endpoint, None)["Training"] == endpoint.to_wire()


def test_files_in_pages() -> None:
    """One more than the limit says that there are more, and is not told itself."""
    files = [("a.csv", 5), ("b.csv", 6), ("c.csv", 0)]
    told = [{"File": "a.csv", "Bytes": 5}, {"File": "b.csv", "Bytes": 6}]
    assert files_to_wire(files, 2) == {"Files": told, "More": True, "Next": "b.csv"}
    assert files_to_wire(files[:2], 2) == {"Files": told, "More": False, "Next": None}
    assert files_to_wire([], 2) == {"Files": [], "More": False, "Next": None}


def test_a_file_with_what_opens_it() -> None:
    """Its reference, and the whole address."""
    reference = BlobReference("c/a.csv", "https://store.test/", "?sig=x")
    assert file_to_wire(reference) == {**reference.to_wire(), "Url": "https://store.test/c/a.csv?sig=x"}


@pytest.mark.parametrize(
    ("data", "quota"),
    [
        ({"JobsPerDay": 5, "BytesKept": 1 << 30}, Quota(5, 1 << 30)),
        ({"jobsPerDay": 0}, Quota(0, None)),
        ({"JobsPerDay": None, "BytesKept": (1 << 53) - 1}, Quota(None, (1 << 53) - 1)),
        ({}, Quota()),
    ],
)
def test_a_quota(data: Any, quota: Quota) -> None:
    """What is not mentioned is not limited; what is written is read, by the server and by its clients."""
    assert Quota.from_wire(data) == quota
    assert Quota.from_wire(quota.to_wire()) == Quota.of_answer({**quota.to_wire(), **USED}) == quota


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (None, "RequestBodyInvalid", "JSON object with JobsPerDay and BytesKept"),
        ({"JobsPerDay": -1}, "BadParameterValue", "JobsPerDay is -1"),
        ({"JobsPerDay": True}, "BadParameterValue", "JobsPerDay is True"),
        ({"BytesKept": 1.5}, "BadParameterValue", "BytesKept is 1.5"),
        ({"BytesKept": 1 << 53}, "BadParameterValue", "BytesKept is 9007199254740992"),
        ({"Jobs": 1}, "UnexpectedParameter", "The body has the unknown member 'Jobs'"),
    ],
)
def test_no_quota(data: Any, code: str, words: str) -> None:
    """Anything else is refused, because a quota that is misread lets too much in, or nothing."""
    with pytest.raises(RequestRejected, match=words) as caught:
        Quota.from_wire(data)
    assert caught.value.detail_code == code


@pytest.mark.parametrize("data", [None, [], {"JobsPerDay": "5"}, {"BytesKept": True}])
def test_an_answer_that_is_no_quota(data: Any) -> None:
    """It is an error of the protocol."""
    with pytest.raises(ProtocolError, match="quota"):
        Quota.of_answer(data)


def test_what_was_used() -> None:
    """What is not told counts as nothing; but not without the end of the day, nor what is no number."""
    usage = Usage(3, 400, MIDNIGHT)
    assert usage.to_wire() == USED
    assert Usage.from_wire(USED) == usage
    assert Usage.from_wire({"DayEnds": USED["DayEnds"]}) == Usage(0, 0, MIDNIGHT)
    for data in (None, [], {}, {"DayEnds": "soon"}, {**USED, "JobsToday": "3"}, {**USED, "BytesNow": 1.5}):
        with pytest.raises(ProtocolError):
            Usage.from_wire(data)
