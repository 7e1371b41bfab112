"""Batch scoring: a file of rows in, a file of scored rows out. Runs in a worker process."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from airflow_provider_azureml_classic.protocol.arff import NOMINAL, NUMERIC, STRING, Attribute
from airflow_provider_azureml_classic.protocol.table_files import parse_number
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.server.experiments.formats import writer
from airflow_provider_azureml_classic.server.experiments.ilearner import Manifest
from airflow_provider_azureml_classic.server.experiments.schema import NUMBER, Schema
from airflow_provider_azureml_classic.server.experiments.scorer import LABELS, Scorer, output_columns
from airflow_provider_azureml_classic.server.experiments.tables import Frame, read_table

_CHUNK = 10_000
#: More different texts than this are no categories.
_MAX_NOMINAL = 10_000

#: Different cells by column, as they are scored and repeated.
_Texts = Mapping[str, Sequence[str]]


def score_file(
    model: Path, data: Path, target: Path, passthrough: Sequence[str] = (), threshold: float | None = None
) -> int:
    """Score every row of a file.

    :param model: an ``.ilearner`` file.
    :param data: CSV, TSV or ARFF, as its extension says.
    :param target: the file to write, in the format of its extension.
    :param passthrough: input columns to repeat.
    :param threshold: see :meth:`~.scorer.Scorer.score`.
    :return: number of rows.
    :raises RequestRejected: naming the column and the row at fault.
    """
    scorer = Scorer.load(model)
    schema = scorer.manifest.schema
    frame = read_table(data)
    texts = _texts(frame, schema)
    with target.open("w", newline="", encoding="utf-8") as file:
        out = None
        for chunk in _chunks(frame, texts, min(_CHUNK, scorer.most_rows)):
            scored = scorer.score(chunk, passthrough, threshold)
            if out is None:
                columns = _columns(scorer.manifest, texts, scored.column_names)
                out = writer(file, target, columns, "scored", schema.missing)
            out.writerows(scored.values)
    return frame.rows


def _texts(frame: Frame, schema: Schema) -> dict[str, list[str]]:
    numbers = {column.name for column in schema.features if column.kind == NUMBER} if frame.decimal_comma else set()
    return {
        name: [cell.replace(",", ".") for cell in cells.distinct] if name in numbers else list(cells.distinct)
        for name, cells in frame.columns.items()
    }


def _chunks(frame: Frame, texts: _Texts, size: int) -> Iterator[Table]:
    for start in range(0, frame.rows, size):
        columns = [
            [texts[name][code] for code in cells.codes[start : start + size].tolist()]
            for name, cells in frame.columns.items()
        ]
        yield Table(tuple(frame.columns), [list(row) for row in zip(*columns, strict=True)])


def _columns(manifest: Manifest, texts: _Texts, names: Sequence[str]) -> list[Attribute]:
    """What the columns of the scored rows hold, for a format that declares it."""
    answers = {name: Attribute(name, NUMERIC) for name, _ in output_columns(manifest)}
    if manifest.schema.classes:
        answers[LABELS] = Attribute(LABELS, NOMINAL, manifest.schema.classes)
    return [answers.get(name) or _repeated(name, texts[name], manifest.schema.missing) for name in names]


def _repeated(name: str, cells: Collection[str], missing: Collection[str]) -> Attribute:
    """A column of the input: numbers, categories, or texts of which there are too many."""
    values = dict.fromkeys(cell for cell in cells if cell and cell not in missing)
    if all(parse_number(cell) is not None for cell in values):
        return Attribute(name, NUMERIC)
    return Attribute(name, NOMINAL, tuple(values)) if len(values) <= _MAX_NOMINAL else Attribute(name, STRING)
