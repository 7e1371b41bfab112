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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from airflow_provider_azureml_classic.exceptions import ProtocolError
from airflow_provider_azureml_classic.protocol.arff import ArffError, read_arff
from airflow_provider_azureml_classic.protocol.jobs import Job
from airflow_provider_azureml_classic.protocol.references import DATA_EXTENSIONS, BlobReference
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.protocol.values import Endpoint

#: Column of the evaluation output that holds the golden rows.
GOLDEN_ROWS = "Golden Rows"
#: Column of the evaluation output that holds the check rows.
CHECK_ROWS = "Check Rows"
#: Right answers in a row before "score" counts as proved: a service behind a balancer may be half updated.
ROUNDS = 3
_TOLERANCE = 1e-4


#: What a user may expect of answers; see :func:`as_expected`.
Expectation = Callable[[list[dict[str, Any]]], Any] | Sequence[Mapping[str, Any]]


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

    def narrowed(self, answer: Table) -> Table:
        """The columns of an answer that tell models apart: small, and without what was sent.

        :param answer: what an endpoint said to :attr:`rows`.
        :raises ProtocolError: it lacks one of them.
        """
        columns = [answer.column(name) for name in self.answers.column_names]
        return Table(self.answers.column_names, [list(row) for row in zip(*columns, strict=True)])


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
    def read(cls, content: bytes) -> Evaluation:
        """Read an evaluation, in any of the formats that a job writes: the names of its columns, one data row.

        :param content: the blob.
        :raises ProtocolError: no data row, or no table at all.
        """
        row = _first_row(content.decode("utf-8-sig"))
        if row is None:
            raise ProtocolError("The evaluation output has no data row.")
        metrics = {name: number for name, text in row.items() if (number := _number(text)) is not None}
        return cls(metrics, _golden(row.get(GOLDEN_ROWS)), _check(row.get(CHECK_ROWS)))


def _first_row(text: str) -> dict[str, str] | None:
    if text.startswith("@"):
        try:
            attributes, rows = read_arff(io.StringIO(text))
            cells = next(rows, None)
        except ArffError as error:
            raise ProtocolError(f"The evaluation output cannot be read: {error}") from None
        return None if cells is None else dict(zip([one.name for one in attributes], cells, strict=False))
    csv.field_size_limit(1 << 24)
    # No metric has a tab in its name.
    delimiter = "\t" if "\t" in text.partition("\n")[0] else ","
    return next(csv.DictReader(io.StringIO(text), delimiter=delimiter), None)


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


def _same(expected: Any, got: Any, tolerance: float = _TOLERANCE) -> bool:
    left, right = _number(expected), _number(got)
    if left is None or right is None:
        return str(expected) == str(got)
    return math.isclose(left, right, rel_tol=tolerance, abs_tol=tolerance)


def as_expected(expect: Expectation | None, answers: Sequence[Mapping[str, Any]], tolerance: float) -> bool:
    """Whether an endpoint's answers are what a user expects.

    :param expect: called with the answers; or the answers themselves, one mapping a row with the columns that count;
        ``None`` expects nothing.
    :param answers: one mapping a row.
    :param tolerance: by which numbers may differ, absolutely or relative to the larger one.
    """
    if expect is None:
        return True
    if callable(expect):
        return bool(expect(list(map(dict, answers))))
    return len(expect) == len(answers) and all(
        _same(value, answer.get(name), tolerance)
        for row, answer in zip(expect, answers, strict=True)
        for name, value in row.items()
    )


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


@dataclass(frozen=True)
class Placed:
    """An update between its PATCH and its proof: what has to be seen, and what was there before. It is kept by the task
    and given to the triggerer as plain JSON, so it holds no token.

    :param resource: name of the resource.
    :param location: the model that was put in place.
    :param level: the level of proof to reach.
    :param replaced: the model that was live before, if the service said it.
    :param answers: what that one said to the golden rows of the new one, if it was asked.
    :param version: of the endpoint before the PATCH.
    :param etag: likewise.
    :param patched_at: seconds since 1970.
    :param deadline: seconds since 1970 until which the proof is waited for.
    :param failed: the proof did not come in time.
    """

    resource: str
    location: BlobReference
    level: Level = Level.RESOURCE
    replaced: BlobReference | None = None
    answers: Table | None = None
    version: str | None = None
    etag: str | None = None
    patched_at: float = 0.0
    deadline: float = 0.0
    failed: bool = False

    def to_json(self) -> dict[str, Any]:
        """For the task state store and the triggerer."""
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            "level": self.level.value,
            "location": _place_to_json(self.location),
            "replaced": _place_to_json(self.replaced) if self.replaced else None,
            "answers": self.answers.to_wire() if self.answers else None,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Placed:
        """What :meth:`to_json` made.

        :param data: of the task state store, or of an event.
        :raises ValueError: it is something else.
        """
        try:
            return cls(
                **{name: data[name] for name in _PLAIN},
                level=Level(data["level"]),
                location=_place_from_json(data["location"]),
                replaced=_place_from_json(data["replaced"]) if data["replaced"] else None,
                answers=Table.from_wire(data["answers"]) if data["answers"] else None,
            )
        except (KeyError, TypeError):
            raise ValueError(f"What is kept of the update cannot be read: its members are {sorted(data)}.") from None

    def missing(self, after: Endpoint) -> str | None:
        """What the endpoint's description does not prove yet, as the end of a sentence; ``None`` if nothing.

        :param after: as read after the PATCH.
        """
        if not shows(after, self.resource, self.location):
            live = after.resource(self.resource).location
            return f"it still names {live.location if live else 'no location'} as its model."
        must_move = self.level is Level.VERSION or (self.level is Level.SCORE and self.etag is not None)
        return f"its version is still {after.version}." if must_move and not self.has_moved(after) else None

    def has_moved(self, after: Endpoint) -> bool:
        """Whether the endpoint's version or ``ETag`` has changed.

        :param after: as read after the PATCH.
        """
        return (after.version, after.etag) != (self.version, self.etag)


_PLAIN = ("resource", "version", "etag", "patched_at", "deadline", "failed")


def _place_to_json(place: BlobReference) -> list[str]:
    return [place.base_location, place.relative_location]


def _place_from_json(parts: Sequence[str]) -> BlobReference:
    base, relative = parts
    return BlobReference(relative, base)


def evaluations(job: Job) -> Iterator[BlobReference]:
    """The outputs of a training job that may be its evaluation.

    :param job: a finished job.
    """
    return (place for place in job.results.values() if place.extension == DATA_EXTENSIONS[0] and place.base_location)
