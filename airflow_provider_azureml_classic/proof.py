"""Proof that an update is live: 200 to a PATCH means accepted, not live (azure-docs issue 41739).

Three levels, strongest last: ``resource`` (GET shows the new location), ``version`` (the endpoint's version or ``ETag``
has changed), ``score`` (golden rows get the answers that the new model gives). Golden rows come with the training
job's evaluation. Pure: no I/O, no Airflow.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from airflow_provider_azureml_classic.exceptions import ProtocolError
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.protocol.values import Endpoint

#: Column of the evaluation output that holds the golden rows.
GOLDEN_ROWS = "Golden Rows"
#: Column of the evaluation output that holds the check rows.
CHECK_ROWS = "Check Rows"
#: Right answers in a row before "score" counts as proved: a service behind a balancer may be half updated.
ROUNDS = 3
_TOLERANCE = 1e-4


class Level(str, Enum):
    """How an update was, or is to be, proved."""

    RESOURCE = "resource"
    VERSION = "version"
    SCORE = "score"


@dataclass(frozen=True)
class GoldenRows:
    """Rows and the answers that the new model gives to them."""

    rows: Table
    answers: Table

    def agrees(self, answer: Table) -> bool:
        """Whether a scoring answer is the new model's.

        :param answer: what the endpoint said to :attr:`rows`.
        """
        if len(answer.values) != len(self.answers.values):
            return False
        if not set(self.answers.column_names) <= set(answer.column_names):
            return False
        return all(
            _same(expected, got)
            for name in self.answers.column_names
            for expected, got in zip(self.answers.column(name), answer.column(name), strict=True)
        )


@dataclass(frozen=True)
class CheckRows:
    """Rows held out of training, to compare another model with the new one.

    :param label: name of the column that is predicted.
    :param labels: what is right, row by row.
    :param rows: what to send to an endpoint; without the label.
    :param answers: of the new model, as it is without having seen these rows.
    """

    label: str
    labels: Sequence[Any]
    rows: Table
    answers: Table


@dataclass(frozen=True)
class Evaluation:
    """A training job's evaluation output.

    :param metrics: numbers by name.
    :param golden: golden rows, if there are any.
    :param check: check rows, if there are any.
    """

    metrics: dict[str, float]
    golden: GoldenRows | None = None
    check: CheckRows | None = None

    @classmethod
    def from_csv(cls, content: bytes) -> Evaluation:
        """Read an evaluation: one header row, one data row.

        :param content: the blob.
        :raises ProtocolError: no data row.
        """
        csv.field_size_limit(1 << 24)
        row = next(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))), None)
        if row is None:
            raise ProtocolError("The evaluation output has no data row.")
        metrics = {name: number for name, text in row.items() if (number := _number(text)) is not None}
        return cls(metrics, _golden(row.get(GOLDEN_ROWS)), _check(row.get(CHECK_ROWS)))


def _golden(text: str | None) -> GoldenRows | None:
    if not text:
        return None
    try:
        data = json.loads(text)
        return GoldenRows(Table.from_wire(data["Input"]), Table.from_wire(data["Output"]))
    except (ValueError, KeyError, TypeError, AttributeError, ProtocolError):
        raise ProtocolError(f"The column {GOLDEN_ROWS!r} of the evaluation output cannot be read.") from None


def _check(text: str | None) -> CheckRows | None:
    if not text:
        return None
    try:
        data = json.loads(text)
        rows, answers = Table.from_wire(data["Input"]), Table.from_wire(data["Output"])
        label, labels = str(data["Label"]), list(data["Labels"])
    except (ValueError, KeyError, TypeError, AttributeError, ProtocolError):
        raise ProtocolError(f"The column {CHECK_ROWS!r} of the evaluation output cannot be read.") from None
    if not len(labels) == len(rows.values) == len(answers.values):
        raise ProtocolError(f"The column {CHECK_ROWS!r} of the evaluation output has parts of different lengths.")
    return CheckRows(label, labels, rows, answers)


def _number(text: Any) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def _same(expected: Any, got: Any) -> bool:
    left, right = _number(expected), _number(got)
    if left is None or right is None:
        return str(expected) == str(got)
    return math.isclose(left, right, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)


def shows(endpoint: Endpoint, resource: str, location: BlobReference) -> bool:
    """Whether an endpoint says that its resource is at ``location``.

    :param endpoint: as read after the PATCH.
    :param resource: name of the resource.
    :param location: what was put in place; a bare path is compared by path.
    """
    live = endpoint.resource(resource).location
    if live is None:
        return False
    if not location.base_location:
        return live.relative_location == location.relative_location
    return live.same_place(location)


def has_moved(before: Endpoint, after: Endpoint) -> bool:
    """Whether the endpoint's version or ``ETag`` has changed.

    :param before: as read before the PATCH.
    :param after: as read after it.
    """
    return (after.version, after.etag) != (before.version, before.etag)
