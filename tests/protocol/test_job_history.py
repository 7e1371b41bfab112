"""Listings and logs of jobs, which our server adds to the protocol: read as they are written, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_azureml_classic.exceptions import ProtocolError, RequestRejected
from airflow_provider_azureml_classic.protocol.job_history import (
    MAX_PAGE,
    PAGE,
    JobPage,
    LogLine,
    page_query,
    read_limit,
    read_log,
    read_page,
    write_log,
)
from airflow_provider_azureml_classic.protocol.jobs import Job, JobStatus

NOON = datetime(2016, 3, 1, 12, tzinfo=UTC)


def test_a_log_survives() -> None:
    """What is written is read: time and text of each line, in order."""
    lines = (LogLine(NOON, "Submitted."), LogLine(None, ""))
    assert read_log(write_log(lines)) == lines


def test_a_page_survives() -> None:
    """Jobs in their order, and where the next page begins."""
    page = JobPage((Job("b" * 32, JobStatus.RUNNING, created_at=NOON), Job("a" * 32, JobStatus.FAILED)), "a" * 32)
    assert JobPage.from_wire(page.to_wire()) == page


@pytest.mark.parametrize("data", [None, [], {}, {"Lines": {}}, {"Lines": ["Submitted."]}])
def test_no_log(data: Any) -> None:
    """An answer of another shape is an error of the protocol."""
    with pytest.raises(ProtocolError, match=r"not a log|not an object"):
        read_log(data)


@pytest.mark.parametrize("data", [None, [], {}, {"Jobs": {}}, {"Jobs": ["a"]}, {"Jobs": [{"StatusCode": "Running"}]}])
def test_no_page(data: Any) -> None:
    """An answer of another shape, or a job without its id, is an error of the protocol."""
    with pytest.raises(ProtocolError, match="not a list of jobs"):
        JobPage.from_wire(data)


def test_a_page_is_asked_for() -> None:
    """With its limit, and where the page before ended, if there was one."""
    assert page_query(7, None) == [("limit", "7")]
    assert page_query(7, 12) == [("limit", "7"), ("before", "12")]
    assert read_page(dict(page_query(7, 12))) == (7, 12)
    assert read_page({}) == (PAGE, None)


def test_limits() -> None:
    """A number up to the most that a page has; without one, what a page usually has."""
    assert [read_limit(text) for text in (None, "1", "007", str(MAX_PAGE))] == [PAGE, 1, 7, MAX_PAGE]


@pytest.mark.parametrize("text", ["", "0", "-1", "1.0", " 1", "\u0661", str(MAX_PAGE + 1), "0000005009", "9" * 5000])
def test_no_limit(text: str) -> None:
    """Everything else is refused by the parameter's name, and its text is cut in the message."""
    with pytest.raises(RequestRejected) as error:
        read_limit(text)
    assert error.value.detail_code == "InvalidQueryParameter"
    assert "limit is " in str(error.value)
    assert len(str(error.value)) < 300
