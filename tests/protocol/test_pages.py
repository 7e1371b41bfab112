"""Lists in pages: what a query asks for, and where a page ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_provider_azureml_classic.exceptions import ProtocolError, RequestRejected
from airflow_provider_azureml_classic.protocol.pages import (
    Place,
    entries_of,
    limit_of,
    page_asked,
    page_query,
    read_before,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HEAD = "2026-03-01T12:00:00~"
PLACE = Place(NOON, "Café ~ 50%")


@pytest.mark.usefixtures("in_tokyo")
def test_a_place_is_read_as_it_is_written() -> None:
    """In letters of a header; its moment in UTC, whatever zone the machine and the moment are of."""
    assert PLACE.to_wire() == f"{HEAD}Caf%C3%A9%20~%2050%25"
    assert Place(NOON.astimezone(timezone(timedelta(hours=-8))), PLACE.name).to_wire() == PLACE.to_wire()
    assert Place.from_wire(PLACE.to_wire()) == PLACE
    assert Place.from_wire(HEAD + "a" * (4000 - len(HEAD))).name == "a" * (4000 - len(HEAD))


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEAD[:-1],
        "~a",
        "2026-03-01~a",
        "2026-03-01T12:00:00+00:00~a",
        HEAD + "a b",
        HEAD + "%61",
        HEAD + "%FF",
        HEAD + "%00",
        HEAD + "\ud800",
        HEAD + "a" * (4001 - len(HEAD)),
    ],
)
def test_another_place_is_refused(text: str) -> None:
    """Only what the service wrote is taken: no other spelling, nothing that a database cannot keep, nothing endless."""
    with pytest.raises(RequestRejected, match=r"after is .* the page before says") as caught:
        page_asked({"after": text})
    assert (caught.value.detail_code, caught.value.details[0].target) == ("InvalidQueryParameter", "after")


def test_what_a_query_asks_for() -> None:
    """Without either parameter all; without a number, the most of a page."""
    assert page_asked({"other": "1"}) is None
    assert page_asked({"limit": "7"}) == (7, None)
    assert page_asked({"after": PLACE.to_wire()}) == (1000, PLACE)
    assert page_asked({"limit": "1000", "after": PLACE.to_wire()}) == (1000, PLACE)
    assert (limit_of(None, 20, 50), limit_of("50", 20, 50), limit_of("000000050", 20, 50)) == (20, 50, 50)
    assert (read_before(None), read_before("0"), read_before("999999999")) == (None, 0, 999999999)


@pytest.mark.parametrize(
    "text", ["", "0", "1001", "-1", "+1", "1.0", " 1", "\u0661", "\u00b2", "0000000001", "9" * 5000]
)
def test_a_number_out_of_reach(text: str) -> None:
    """Refused, with the name of the parameter, what may stand there, and no more than the beginning of what does."""
    with pytest.raises(RequestRejected) as caught:
        page_asked({"limit": text})
    assert caught.value.message == f"limit is {text[:40]!r}; it must be a number from 1 to 1000."
    assert (caught.value.detail_code, caught.value.details[0].target) == ("InvalidQueryParameter", "limit")


@pytest.mark.parametrize("text", ["", "-1", "\u0661", "\u00b2", "1000000000"])
def test_an_entry_that_has_no_number(text: str) -> None:
    """Likewise of the lists whose newest entry comes first."""
    with pytest.raises(RequestRejected, match=r"before is .* the Next of the page before") as caught:
        read_before(text)
    assert caught.value.details[0].target == "before"


def test_a_page_as_a_client_reads_it() -> None:
    """Its entries, and what the next page is asked for with."""
    assert entries_of({"Jobs": [1, 2], "Next": 5}, "Jobs", "a list of jobs") == ([1, 2], 5)
    assert entries_of({"Jobs": []}, "Jobs", "a list of jobs") == ([], None)
    assert (page_query(None), page_query("a~b c")) == ("limit=1000", "limit=1000&after=a~b+c")


@pytest.mark.parametrize("data", [None, [], {}, {"Jobs": {}}])
def test_an_answer_that_is_no_page(data: Any) -> None:
    """The message says what it should have been."""
    with pytest.raises(ProtocolError, match="not a list of jobs"):
        entries_of(data, "Jobs", "a list of jobs")
