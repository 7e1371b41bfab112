"""Batch scoring: CSV in, scored CSV out. Runs in a worker process."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.server.experiments.schema import NUMBER, Schema
from airflow_provider_azureml_classic.server.experiments.scorer import Scorer
from airflow_provider_azureml_classic.server.experiments.tables import Frame, read_csv

_CHUNK = 10_000


def score_file(
    model: Path, data: Path, target: Path, passthrough: Sequence[str] = (), threshold: float | None = None
) -> int:
    """Score every row of a CSV file.

    :param model: an ``.ilearner`` file.
    :param data: CSV with a header row.
    :param target: the CSV to write.
    :param passthrough: input columns to repeat.
    :param threshold: see :meth:`~.scorer.Scorer.score`.
    :return: number of rows.
    :raises RequestRejected: naming the column and the row at fault.
    """
    scorer = Scorer.load(model)
    frame = read_csv(data)
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        for number, chunk in enumerate(_chunks(frame, scorer.manifest.schema)):
            scored = scorer.score(chunk, passthrough, threshold)
            if number == 0:
                writer.writerow(scored.column_names)
            writer.writerows(scored.values)
    return frame.rows


def _chunks(frame: Frame, schema: Schema) -> Iterator[Table]:
    numbers = {column.name for column in schema.features if column.kind == NUMBER} if frame.decimal_comma else set()
    distinct = {
        name: [cell.replace(",", ".") for cell in cells.distinct] if name in numbers else list(cells.distinct)
        for name, cells in frame.columns.items()
    }
    for start in range(0, frame.rows, _CHUNK):
        columns = [
            [distinct[name][code] for code in cells.codes[start : start + _CHUNK].tolist()]
            for name, cells in frame.columns.items()
        ]
        yield Table(tuple(frame.columns), [list(row) for row in zip(*columns, strict=True)])
