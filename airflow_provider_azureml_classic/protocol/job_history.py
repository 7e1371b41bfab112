"""What our server adds about batch jobs: a listing of an endpoint's jobs, and the log of each.

The cloud service had neither (wire document, section 4.1), so a client must not depend on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_provider_azureml_classic.exceptions import ProtocolError
from airflow_provider_azureml_classic.protocol.jobs import Job
from airflow_provider_azureml_classic.protocol.moments import read_time, stamp
from airflow_provider_azureml_classic.protocol.pages import (
    BEFORE_PARAMETER,
    LIMIT_PARAMETER,
    entries_of,
    limit_of,
    read_before,
)

#: Jobs of a page if no limit is given, and at most.
PAGE, MAX_PAGE = 50, 500
_NO_RESULTS = frozenset({"Results"})


@dataclass(frozen=True)
class LogLine:
    """One line of a job's log.

    :param time: when it was written.
    :param text: what happened; never holds a key or a token.
    """

    time: datetime | None
    text: str

    @classmethod
    def from_wire(cls, data: Any) -> LogLine:
        """A line as the service sends it.

        :param data: decoded JSON.
        :raises ProtocolError: it is none.
        """
        if not isinstance(data, Mapping):
            raise ProtocolError("A line of the log is not an object.")
        return cls(read_time(data.get("Time")), str(data.get("Text") or ""))

    def to_wire(self) -> dict[str, Any]:
        """Time and text."""
        return {"Time": stamp(self.time), "Text": self.text}


@dataclass(frozen=True)
class JobPage:
    """Some of an endpoint's jobs, newest first.

    :param jobs: without their results.
    :param next: what to ask for as ``before`` to get the next page; ``None``: this is the last.
    """

    jobs: tuple[Job, ...]
    next: str | None = None

    @classmethod
    def from_wire(cls, data: Any) -> JobPage:
        """A page as the service sends it.

        :param data: decoded JSON.
        :raises ProtocolError: it is none.
        """
        items, following = entries_of(data, "Jobs", what := "a list of jobs")
        if not all(isinstance(item, Mapping) and item.get("JobId") for item in items):
            raise ProtocolError(f"The answer is not {what}.")
        return cls(tuple(Job.from_wire(str(item["JobId"]), item) for item in items), following)

    def to_wire(self) -> dict[str, Any]:
        """The jobs without their results, which a listing does not sign."""
        jobs = [
            {"JobId": job.id, **{name: value for name, value in job.to_wire().items() if name not in _NO_RESULTS}}
            for job in self.jobs
        ]
        return {"Jobs": jobs, "Next": self.next}


def read_log(data: Any) -> tuple[LogLine, ...]:
    """The lines of a job's log, oldest first.

    :param data: decoded JSON.
    :raises ProtocolError: it is none.
    """
    return tuple(map(LogLine.from_wire, entries_of(data, "Lines", "a log")[0]))


def write_log(lines: tuple[LogLine, ...]) -> dict[str, Any]:
    """A job's log as the service sends it.

    :param lines: oldest first.
    """
    return {"Lines": [line.to_wire() for line in lines]}


def page_query(limit: int, before: object) -> list[tuple[str, str]]:
    """The query of one page of a list.

    :param limit: the most that are wanted.
    :param before: ``next`` of the page before; ``None``: this is the first.
    """
    return [(LIMIT_PARAMETER, str(limit)), *([] if before is None else [(BEFORE_PARAMETER, str(before))])]


def read_limit(text: str | None) -> int:
    """The number of entries wanted.

    :param text: of the query, if it is there.
    :raises RequestRejected: ``InvalidQueryParameter``.
    """
    return limit_of(text, PAGE, MAX_PAGE)


def read_page(query: Mapping[str, str]) -> tuple[int, int | None]:
    """How many entries are wanted, and the number of that after which the page before ended.

    :param query: of a call for a list whose entries have numbers.
    :raises RequestRejected: ``InvalidQueryParameter``.
    """
    return read_limit(query.get(LIMIT_PARAMETER)), read_before(query.get(BEFORE_PARAMETER))
