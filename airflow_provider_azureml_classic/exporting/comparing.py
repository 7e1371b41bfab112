"""Rows that an endpoint and its export are both asked, and how far their answers differ."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from airflow_provider_azureml_classic.exporting.model import Column, Model
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.tables import dates
from airflow_provider_azureml_classic.tables.kinds import BOOLEAN, DATE

#: Rows that are made where none are given.
ROWS = 300
#: Shares of their cells that have no value, and of texts that no training row had.
_MISSING, _UNSEEN = 0.05, 0.03
#: Where a model file does not tell between which numbers its training data lay.
_RANGE = (0.0, 1.0)
#: By how much numbers may differ: probabilities as they are, other numbers as a share of the spread of the answers.
TOLERANCE = 5e-6


def made_rows(model: Model, rows: int = ROWS) -> Table:
    """Rows such as the model was trained on, always the same: numbers and dates from its ranges, texts that it knows,
    and some cells that are missing or that it has not seen.

    :param model: the model.
    :param rows: how many.
    """
    chance = random.Random(20)  # noqa: S311 - rows for a comparison, not a secret
    columns = [[_cell(model, column, chance) for _ in range(rows)] for column in model.columns]
    return Table(tuple(column.name for column in model.columns), [list(row) for row in zip(*columns, strict=True)])


def _cell(model: Model, column: Column, chance: random.Random) -> Any:
    if chance.random() < _MISSING:
        return None
    if column.is_text:
        unseen = column.kind.kind != BOOLEAN and chance.random() < _UNSEEN
        return "something else" if unseen or not column.categories else chance.choice(column.categories)
    low, high = (_RANGE[0], _RANGE[1]) if column.minimum is None else (column.minimum, column.maximum or 0.0)
    number = chance.uniform(low, high)
    whole = float(low).is_integer() and float(high).is_integer() and high - low > 1
    if column.kind.kind == DATE:
        return _spelled(round(number) if whole else number, column.kind.date_format or "")
    return float(round(number)) if whole else number


def _spelled(day: float, form: str) -> str:
    text = dates.spelled(day).split(".")[0]
    found = dates.parse_time(text)
    if not form or found is None:
        return text
    clock = "" if "T" not in text or "%H" in form else f" {found[0]:%H:%M:%S}"
    return found[0].strftime(form) + clock


@dataclass(frozen=True)
class Agreement:
    """How far two answers to the same rows differ.

    :param rows: answered by both.
    :param labels: rows with another label; of a regression none.
    :param difference: the largest one of probabilities, or of the numbers of a regression as a share of their spread.
    :param number: the largest difference of the numbers of a regression, as they are.
    """

    rows: int
    labels: int = 0
    difference: float = 0.0
    number: float | None = None

    @property
    def good(self) -> bool:
        """Whether both are the same model."""
        return self.labels == 0 and self.difference <= TOLERANCE

    def to_json(self) -> dict[str, Any]:
        """For the report."""
        return asdict(self)


def compared(model: Model, live: Table, exported: Table) -> Agreement:
    """How far the answers of an endpoint and of its export differ.

    :param model: of both.
    :param live: what the endpoint answers.
    :param exported: what the export answers, to the same rows.
    :raises ProtocolError: the endpoint's answer lacks a column.
    """
    label, *chances = model.answers
    if not model.classes:
        one, other = (list(map(float, table.column(label))) for table in (live, exported))
        number = _largest(one, other)
        return Agreement(len(one), 0, number / _spread(one), number)
    other_labels = sum(one != other for one, other in zip(live.column(label), exported.column(label), strict=True))
    differences = [_largest(live.column(name), exported.column(name)) for name in chances]
    return Agreement(len(live.values), other_labels, max(differences, default=0.0))


def _largest(one: Sequence[Any], other: Sequence[Any]) -> float:
    return max((abs(float(a) - float(b)) for a, b in zip(one, other, strict=True)), default=0.0)


def _spread(numbers: Sequence[float]) -> float:
    mean = sum(numbers) / max(1, len(numbers))
    spread = (sum((number - mean) ** 2 for number in numbers) / max(1, len(numbers))) ** 0.5
    return spread or max(map(abs, numbers), default=0.0) or 1.0


@dataclass(frozen=True)
class Exported:
    """What became of one endpoint.

    :param endpoint: name.
    :param files: what was written, below the folder of the export.
    :param agreement: with the live endpoint; ``None``: not exported.
    :param reason: why it was not exported; empty: it was.
    :param facts: of the model: its file's SHA-256, when and on what it was trained.
    :param versions: of the models that were written, the live one first.
    :param left: what could not be taken along, one sentence each.
    """

    endpoint: str
    files: Sequence[str] = ()
    agreement: Agreement | None = None
    reason: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    versions: Sequence[str] = ()
    left: Sequence[str] = ()

    @property
    def outcome(self) -> str:
        """In a word."""
        if self.agreement is None:
            return "refused"
        return "same answers" if self.agreement.good else "OTHER ANSWERS"

    def to_json(self) -> dict[str, Any]:
        """For the report."""
        return {**asdict(self), "outcome": self.outcome}
