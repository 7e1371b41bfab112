"""The evaluation of a trained model: metrics, golden rows that prove it, check rows to compare it with.

The metrics are the training job's second output: the names of its columns and one data row of numbers. The rows are in
a file that the job's state names beside its outputs; earlier servers wrote them as two more columns. No Airflow, no
I/O of its own.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from airflow_provider_azureml_classic.client.retries import Program
from airflow_provider_azureml_classic.client.verbs import Verbs
from airflow_provider_azureml_classic.exceptions import NotFound, ProtocolError
from airflow_provider_azureml_classic.protocol.arff import ArffError, read_arff
from airflow_provider_azureml_classic.protocol.jobs import CHECK_ROWS, GOLDEN_ROWS, Job
from airflow_provider_azureml_classic.protocol.messages import read_json
from airflow_provider_azureml_classic.protocol.moments import read_time
from airflow_provider_azureml_classic.protocol.references import CSV_EXTENSION, BlobReference
from airflow_provider_azureml_classic.protocol.tables import Table

#: By which numbers of two answers may differ, absolutely or relative to the larger one.
TOLERANCE = 1e-4
#: By which share of their spread, where that is known: as faithfully as models are served.
TOLERANCE_OF_SPREAD = 5e-6


@dataclass(frozen=True)
class GoldenRows:
    """Rows and the answers that the new model gives to them.

    :param rows: to be sent to an endpoint.
    :param answers: the new model's.
    :param spread: how widely a column of the answers is spread, by its name: its numbers may differ by 5e-6 of it, and
        columns without one must be equal. ``None``: not known, as with earlier servers.
    """

    rows: Table
    answers: Table
    spread: Mapping[str, float] | None = None

    def agrees(self, answer: Table) -> bool:
        """Whether a scoring answer is the new model's.

        :param answer: the endpoint's, to :attr:`rows`.
        """
        if len(answer.values) != len(self.answers.values):
            return False
        if not set(self.answers.column_names) <= set(answer.column_names):
            return False
        return all(
            self._same(name, expected, actual)
            for name in self.answers.column_names
            for expected, actual in zip(self.answers.column(name), answer.column(name), strict=True)
        )

    def _same(self, column: str, expected: Any, actual: Any) -> bool:
        if self.spread is None:
            return same(expected, actual)
        left, right = _number(expected), _number(actual)
        if left is None or right is None:
            return str(expected) == str(actual)
        return abs(left - right) <= TOLERANCE_OF_SPREAD * self.spread.get(column, 0.0)

    def narrowed(self, answer: Table) -> Table:
        """The columns of an answer that tell models apart: small, and without what was sent.

        :param answer: an endpoint's, to :attr:`rows`.
        :raises ProtocolError: it lacks one of them.
        """
        columns = [answer.column(name) for name in self.answers.column_names]
        return Table(self.answers.column_names, [list(row) for row in zip(*columns, strict=True)])


@dataclass(frozen=True)
class CheckRows:
    """Rows held out of training, to compare another model with the new one.

    :param label: name of the column that is predicted.
    :param labels: the true labels, row by row.
    :param rows: the rows to send to an endpoint, without the label.
    :param answers: those of the new model, fitted without these rows.
    :param times: of the rows, ``None`` for one without; empty: the service does not tell them.
    """

    label: str
    labels: Sequence[Any]
    rows: Table
    answers: Table
    times: Sequence[datetime | None] = ()


@dataclass(frozen=True)
class Evaluation:
    """What a training job says of its model.

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
        try:
            row = _first_row(content.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise ProtocolError(f"The evaluation output is not UTF-8: byte {error.start + 1} is not.") from None
        if row is None:
            raise ProtocolError("The evaluation output has no data row.")
        metrics = {name: number for name, text in row.items() if (number := _number(text)) is not None}
        cells = {name: _decoded(name, row.get(name) or "null") for name in (GOLDEN_ROWS, CHECK_ROWS)}
        return cls(metrics, _golden(cells[GOLDEN_ROWS]), _check(cells[CHECK_ROWS]))

    def with_samples(self, content: bytes) -> Evaluation:
        """The same with the rows of a file of samples.

        :param content: the file: a JSON object.
        :raises ProtocolError: it is none, or its rows cannot be read.
        """
        samples = _decoded("samples", content)
        if not isinstance(samples, dict):
            raise ProtocolError("The file of samples is not a JSON object.")
        return replace(self, golden=_golden(samples.get(GOLDEN_ROWS)), check=_check(samples.get(CHECK_ROWS)))


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


def _decoded(name: str, text: str | bytes) -> Any:
    try:
        return read_json(text)
    except ValueError:
        raise _unreadable(name) from None


def _unreadable(name: str) -> ProtocolError:
    return ProtocolError(f"The {name!r} of the evaluation cannot be read.")


def _golden(data: Any) -> GoldenRows | None:
    if data is None:
        return None
    try:
        widths = data.get("Spread")
        spread = None if widths is None else {str(name): float(width) for name, width in widths.items()}
        return GoldenRows(Table.from_wire(data["Input"]), Table.from_wire(data["Output"]), spread)
    except (ValueError, KeyError, TypeError, AttributeError, ProtocolError):
        raise _unreadable(GOLDEN_ROWS) from None


def _check(data: Any) -> CheckRows | None:
    if data is None:
        return None
    try:
        rows, answers = Table.from_wire(data["Input"]), Table.from_wire(data["Output"])
        label, labels, times = str(data["Label"]), list(data["Labels"]), [read_time(t) for t in data.get("Times") or ()]
    except (ValueError, KeyError, TypeError, AttributeError, ProtocolError):
        raise _unreadable(CHECK_ROWS) from None
    if not len(labels) == len(rows.values) == len(answers.values):
        raise ProtocolError(f"The {CHECK_ROWS!r} of the evaluation have parts of different lengths.")
    return CheckRows(label, labels, rows, answers, times if len(times) == len(labels) else ())


def _number(text: Any) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def same(expected: Any, actual: Any, tolerance: float = TOLERANCE) -> bool:
    """Whether two cells of answers are the same.

    :param expected: a number, or anything that is compared as text.
    :param actual: likewise.
    :param tolerance: by which numbers may differ, absolutely or relative to the larger one.
    """
    left, right = _number(expected), _number(actual)
    if left is None or right is None:
        return str(expected) == str(actual)
    return math.isclose(left, right, rel_tol=tolerance, abs_tol=tolerance)


def _evaluations(job: Job) -> Iterator[BlobReference]:
    """The outputs of a training job that may be its evaluation.

    :param job: a finished job.
    """
    return (output for output in job.results.values() if output.extension == CSV_EXTENSION and output.base_location)


def read_evaluation(
    client: Verbs, job: Job, output: BlobReference, log: Callable[[str], object]
) -> Program[Evaluation]:
    """Fetch an evaluation, and the samples of its model.

    :param client: of the workspace.
    :param job: the job that wrote it, as read just now.
    :param output: where it is, with a token where one is needed.
    :param log: takes lines for the log.
    :raises ProtocolError: the output is not an evaluation.
    """
    evaluation = Evaluation.read((yield Verbs.fetch_blob.steps(client, output)))
    return (yield from _with_samples(client, job, evaluation, log))


def evaluation_of(client: Verbs, job: Job, log: Callable[[str], object]) -> Program[Evaluation]:
    """The evaluation among a job's outputs, and the samples of its model; without metrics if no output is an evaluation
    that can be read.

    :param client: of the workspace.
    :param job: a finished job, as read just now.
    :param log: takes lines for the log.
    """
    for output in _evaluations(job):
        try:
            return (yield from read_evaluation(client, job, output, log))
        except ProtocolError as error:
            log(f"{output.location} is not an evaluation that can be read: {error}")
    return (yield from _with_samples(client, job, Evaluation({}), log))


def _with_samples(client: Verbs, job: Job, evaluation: Evaluation, log: Callable[[str], object]) -> Program[Evaluation]:
    """The evaluation with the rows that the job's state names; as it is, if it names none, or they are gone."""
    if job.samples is None:
        return evaluation
    try:
        return evaluation.with_samples((yield Verbs.fetch_blob.steps(client, job.samples)))
    except (ProtocolError, NotFound) as error:
        log(f"The samples {job.samples.location} cannot be read: {error}")
        return evaluation
