"""What a customer is told who is kept apart from all others: his endpoints, his folder, his files. Our addition. Pure.

All of it is asked for with one of his keys and names nobody: the key says who asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_provider_azureml_classic.exceptions import ProtocolError, rejection
from airflow_provider_azureml_classic.protocol.errors import known_members
from airflow_provider_azureml_classic.protocol.moments import read_time, stamp
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import FOLDER, Endpoint

#: Most files of one answer.
MAX_FILES = 5000
_JOBS, _BYTES = "JobsPerDay", "BytesKept"


def customer_to_wire(name: str, folder: str, training: Endpoint | None, scoring: Endpoint | None) -> dict[str, Any]:
    """Who asks, and where his calls go.

    :param name: of both endpoints.
    :param folder: what of the service's store his keys reach.
    :param training: the endpoint that takes training jobs.
    :param scoring: the endpoint that scores and is updated.
    """
    endpoints = {"Training": training, "Scoring": scoring}
    return {"Name": name, FOLDER: folder, **{key: each and each.to_wire() for key, each in endpoints.items()}}


def files_to_wire(files: Sequence[tuple[str, int]], limit: int) -> dict[str, Any]:
    """The files of a customer; ``Next``, where there are more, is to be asked for as ``after``.

    :param files: path below his folder, and length in bytes; one more than the limit where there are more.
    :param limit: the most that are wanted.
    """
    wire = [{"File": name, "Bytes": length} for name, length in files[:limit]]
    more = len(files) > limit
    return {"Files": wire, "More": more, "Next": files[limit - 1][0] if more else None}


def file_to_wire(reference: BlobReference) -> dict[str, Any]:
    """A file of a customer, with what opens it: a secret.

    :param reference: signed.
    """
    return {**reference.to_wire(), "Url": reference.url}


@dataclass(frozen=True)
class Quota:
    """How much a customer may have; ``None``: as much as he likes.

    :param jobs_a_day: jobs that he may submit on one day (UTC).
    :param bytes_kept: bytes that his folder may have.
    """

    jobs_a_day: int | None = None
    bytes_kept: int | None = None

    @classmethod
    def from_wire(cls, data: Any) -> Quota:
        """What a request's body says; what it does not mention is not limited.

        :param data: decoded JSON.
        :raises RequestRejected: not an object, an unknown member, or no number.
        """
        if not isinstance(data, Mapping):
            raise rejection("RequestBodyInvalid", f"The body must be a JSON object with {_JOBS} and {_BYTES}.")
        members = known_members("The body", data, frozenset({_JOBS, _BYTES}))
        for name, value in members.items():
            if value is not None and (type(value) is not int or not 0 <= value < 1 << 53):
                raise rejection("BadParameterValue", f"{name} is {value!r}; it must be a whole number, or null.")
        return cls(members.get(_JOBS), members.get(_BYTES))

    @classmethod
    def of_answer(cls, data: Any) -> Quota:
        """A quota as the service sends it, beside what was used of it.

        :param data: decoded JSON.
        :raises ProtocolError: it is none.
        """
        if not isinstance(data, Mapping):
            raise ProtocolError("The answer is no quota.")
        return cls(*(_number(data, name) for name in (_JOBS, _BYTES)))

    def to_wire(self) -> dict[str, int | None]:
        """Both members."""
        return {_JOBS: self.jobs_a_day, _BYTES: self.bytes_kept}


@dataclass(frozen=True)
class Usage:
    """What a customer has used of his quota.

    :param jobs: submitted today.
    :param length: bytes in his folder.
    :param until: when the day ends.
    """

    jobs: int
    length: int
    until: datetime

    @classmethod
    def from_wire(cls, data: Any) -> Usage:
        """What was used, as the service sends it.

        :param data: decoded JSON.
        :raises ProtocolError: it is none.
        """
        until = read_time(data.get("DayEnds")) if isinstance(data, Mapping) else None
        if until is None:
            raise ProtocolError("A quota does not say until when it counts.")
        return cls(_number(data, "JobsToday") or 0, _number(data, "BytesNow") or 0, until)

    def to_wire(self) -> dict[str, Any]:
        """Members beside those of the quota."""
        return {"JobsToday": self.jobs, "BytesNow": self.length, "DayEnds": stamp(self.until)}


def _number(data: Mapping[str, Any], name: str) -> int | None:
    value = data.get(name)
    if value is not None and type(value) is not int:
        raise ProtocolError(f"{name} of a quota is {value!r}.")
    return value
