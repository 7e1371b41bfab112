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
from airflow_provider_azureml_classic.server.experiments.schema import NUMBER, Schema
from airflow_provider_azureml_classic.server.experiments.scorer import Scorer, answer_rows, output_columns
from airflow_provider_azureml_classic.server.experiments.tables import Frame

if TYPE_CHECKING:
    from numpy import int64
    from numpy.typing import NDArray

    from airflow_provider_azureml_classic.server.experiments.ilearner import Manifest

#: Names of the two in an evaluation and in a file of samples.
GOLDEN_ROWS, CHECK_ROWS = "Golden Rows", "Check Rows"

_GOLDEN = 5
_CHECK = 500
#: Characters in one cell of a CSV that readers take as they come: Python's refuses 131,072.
CELL = 100_000
#: Characters of check rows in a file of their own: 500 rows of 3,000 numbers.
FILE = 64 << 20


def spread(rows: int, count: int) -> NDArray[int64]:
    """Positions of at most ``count`` rows, evenly spread over all.

    :param rows: number of rows.
    :param count: how many are wanted.
    """
    import numpy as np

    return np.unique(np.linspace(0, rows - 1, min(rows, count)).astype(np.int64))


def golden_rows(scorer: Scorer, frame: Frame) -> str:
    """A few rows with the answers of the new model, as JSON.

    :param scorer: the new model.
    :param frame: its training data.
    """
    table = _table(scorer.manifest.schema, frame, spread(frame.rows, _GOLDEN).tolist())
    return json.dumps({"Input": table.to_wire(), "Output": scorer.score(table).to_wire()})


def check_rows(
    manifest: Manifest, frame: Frame, held: NDArray[int64], answers: Sequence[NDArray[Any]], limit: int = CELL
) -> str:
    """Held-out rows with their labels and the answers of the model that did not see them, as JSON: 500 of them, or all
    that there are, or as many as the limit lets through.

    :param manifest: of the model that is written; its answers have the same columns.
    :param frame: the training data.
    :param held: positions of the held-out rows; none where there were too few to hold any out.
    :param answers: what a model fitted without them answers, served; see :func:`~.conversion.as_served`.
    :param limit: characters of the JSON.
    """
    import numpy as np

    chosen = spread(len(held), _CHECK) if len(held) else np.arange(0)
    while len(chosen):
        checked = _checked(manifest, frame, held[chosen], [part[chosen] for part in answers])
        text = json.dumps(checked, separators=(",", ":"))
        if len(text) <= limit:
            return text
        chosen = chosen[spread(len(chosen), len(chosen) * limit // len(text))]
    return ""


def _checked(manifest: Manifest, frame: Frame, rows: NDArray[int64], answers: Sequence[NDArray[Any]]) -> dict[str, Any]:
    schema = manifest.schema
    names = tuple(name for name, _ in output_columns(manifest))
    labels = [_cell(schema, frame, schema.label, row, schema.task != CLASSIFICATION) for row in rows.tolist()]
    return {
        "Label": schema.label,
        "Labels": labels,
        "Input": _table(schema, frame, rows.tolist()).to_wire(),
        "Output": Table(names, answer_rows(manifest, answers)).to_wire(),
    }


def _table(schema: Schema, frame: Frame, rows: list[int]) -> Table:
    there = [column for column in schema.features if column.name in frame.columns]
    values = [[_cell(schema, frame, c.name, row, c.kind == NUMBER) for c in there] for row in rows]
    return Table(tuple(column.name for column in there), values)


def _cell(schema: Schema, frame: Frame, name: str, row: int, number: bool) -> str | float | None:
    cells = frame.columns[name]
    cell = cells.distinct[int(cells.codes[row])]
    if schema.is_missing(cell):
        return None
    if not number:
        return cell
    value = frame.number(cell)
    return int(value) if value is not None and value.is_integer() else value
