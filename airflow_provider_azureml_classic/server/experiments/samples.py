"""Rows that go with an evaluation, so that others can check a model through an endpoint.

*Golden rows* with the answers of the model that was written: they tell which model is live. *Check rows*, held out
with their labels and the answers of the model that was fitted without them: they tell whether another model is better.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.server.experiments.declaration import CLASSIFICATION
from airflow_provider_azureml_classic.server.experiments.frame import Frame
from airflow_provider_azureml_classic.server.experiments.profile import spread
from airflow_provider_azureml_classic.server.experiments.schema import NUMBER, Schema
from airflow_provider_azureml_classic.server.experiments.scorer import Scorer, answer_rows, output_columns
from airflow_provider_azureml_classic.tables.dates import parse_time

if TYPE_CHECKING:
    from numpy import int64
    from numpy.typing import NDArray

    from airflow_provider_azureml_classic.server.experiments.ilearner import Manifest

_GOLDEN = 5
_CHECK = 500
#: Characters in one cell of a CSV that readers take as they come: Python's refuses 131,072.
CELL = 100_000
#: Characters of check rows in a file of their own: 500 rows of 3,000 numbers.
FILE = 64 << 20
#: Share of the largest answer that the spread is at least: 5e-6 of that are some roundings in 32 bits.
_ROUNDED = 0.05


def golden_rows(scorer: Scorer, frame: Frame, answers: Sequence[NDArray[Any]]) -> str:
    """A few rows with the answers of the new model, and how widely its numbers are spread by column, as JSON.

    :param scorer: the new model.
    :param frame: its training data.
    :param answers: of such a model to many rows; see :func:`~.conversion.as_served`.
    """
    table = _table(scorer.manifest.schema, frame, spread(frame.rows, _GOLDEN).tolist())
    widths = _widths(scorer.manifest, answers)
    return json.dumps({"Input": table.to_wire(), "Output": scorer.score(table).to_wire(), "Spread": widths})


def _widths(manifest: Manifest, answers: Sequence[NDArray[Any]]) -> dict[str, float]:
    """By column of the answer: one for probabilities, the standard deviation for numbers; labels have none."""
    label, *chances = (name for name, _ in output_columns(manifest))
    if manifest.task == CLASSIFICATION:
        return dict.fromkeys(chances, 1.0)
    numbers = answers[0].astype(float)
    return {label: max(float(numbers.std()), _ROUNDED * float(abs(numbers).max()))}


def check_rows(
    manifest: Manifest,
    frame: Frame,
    held: NDArray[int64],
    answers: Sequence[NDArray[Any]],
    time_column: str | None,
    limit: int = CELL,
) -> str:
    """Held-out rows with their labels and the answers of the model that did not see them, as JSON: 500 of them, or all
    that there are, or as many as the limit lets through.

    :param manifest: of the model that is written; its answers have the same columns.
    :param frame: the training data.
    :param held: positions of the held-out rows; none where there were too few to hold any out.
    :param answers: what a model fitted without them answers, served; see :func:`~.conversion.as_served`.
    :param time_column: whose times go with them, so that a later gate leaves out those that its model knows.
    :param limit: characters of the JSON.
    """
    import numpy as np

    chosen = spread(len(held), _CHECK) if len(held) else np.arange(0)
    while len(chosen):
        checked = _checked(manifest, frame, held[chosen], [part[chosen] for part in answers])
        if time_column in frame.columns:
            checked["Times"] = _times(manifest.schema, frame, str(time_column), held[chosen].tolist())
        text = json.dumps(checked, separators=(",", ":"))
        if len(text) <= limit:
            return text
        chosen = chosen[spread(len(chosen), len(chosen) * limit // len(text))]
    return ""


def _checked(manifest: Manifest, frame: Frame, rows: NDArray[int64], answers: Sequence[NDArray[Any]]) -> dict[str, Any]:
    schema = manifest.schema
    names = tuple(name for name, _ in output_columns(manifest))
    labels = [cell_of(schema, frame, schema.label, row) for row in rows.tolist()]
    if schema.task == CLASSIFICATION:
        spelled = {schema.key(schema.label, label): label for label in schema.classes}
        labels = [spelled[schema.key(schema.label, label)] for label in labels]
    return {
        "Label": schema.label,
        "Labels": labels,
        "Input": _table(schema, frame, rows.tolist()).to_wire(),
        "Output": Table(names, answer_rows(manifest, answers)).to_wire(),
    }


def _times(schema: Schema, frame: Frame, column: str, rows: list[int]) -> list[str | None]:
    """ISO texts, ``None`` where a row has no time."""
    form = schema.kind_of(column).date_format or ""
    times = (parse_time(frame.table.cell(column, row), form) for row in rows)
    return [time[1] if time else None for time in times]


def _table(schema: Schema, frame: Frame, rows: list[int]) -> Table:
    there = [column.name for column in schema.features if column.name in frame.columns]
    return Table(tuple(there), [[cell_of(schema, frame, name, row) for name in there] for row in rows])


def cell_of(schema: Schema, frame: Frame, name: str, row: int) -> str | float | None:
    """One cell as a call sends it.

    :param schema: tells how it is read.
    :param frame: the data.
    :param name: of the column.
    :param row: its position.
    """
    cell, kind = frame.table.cell(name, row), schema.kind_of(name)
    if cell in kind.missing_texts(schema.missing):
        return None
    if kind.kind != NUMBER:
        return cell
    value = kind.rule(frame.decimal, schema.missing).number(cell)
    return int(value) if value is not None and value.is_integer() else value
