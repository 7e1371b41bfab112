"""Batch scoring: a file of rows in, a file of scored rows out. Runs in a worker process."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from airflow_provider_azureml_classic.protocol.arff import NOMINAL, NUMERIC, STRING, Attribute
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.server.experiments.formats import writer
from airflow_provider_azureml_classic.server.experiments.frame import read_table
from airflow_provider_azureml_classic.server.experiments.ilearner import Manifest
from airflow_provider_azureml_classic.server.experiments.schema import NUMBER, Schema
from airflow_provider_azureml_classic.server.experiments.scorer import LABELS, Scorer, output_columns
from airflow_provider_azureml_classic.tables.kinds import Kind, file_decimal
from airflow_provider_azureml_classic.tables.spelling import parse_number
from airflow_provider_azureml_classic.tables.table import Encoded

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
    table = read_table(data)
    decimal = file_decimal(table, schema.decided, schema.missing)
    cells = {name: table.encoded(name) for name in table.names}
    texts = {name: _texts(schema.kind_of(name), decimal, cells[name], schema) for name in cells}
    with target.open("w", newline="", encoding="utf-8") as file:
        out = None
        for chunk in _chunks(cells, texts, table.rows, min(_CHUNK, scorer.most_rows)):
            scored = scorer.score(chunk, passthrough, threshold)
            if out is None:
                columns = _columns(scorer.manifest, texts, scored.column_names)
                out = writer(file, target, columns, "scored", schema.missing)
            out.writerows(scored.values)
    return table.rows


def _texts(kind: Kind, decimal: str, column: Encoded, schema: Schema) -> list[str]:
    """Different cells, and at last what stands for none; numbers have a decimal point."""
    sign = kind.decimal or decimal
    if kind.kind != NUMBER or (sign == "." and not kind.dressed):
        return [*column.cells, ""]
    rule = kind.rule(decimal, schema.missing)
    numbers = [(cell, rule.number(cell)) for cell in column.cells]
    return [*(cell if value is None or value != value else repr(value) for cell, value in numbers), ""]


def _chunks(columns: Mapping[str, Encoded], texts: _Texts, rows: int, size: int) -> Iterator[Table]:
    for start in range(0, rows, size):
        parts = [
            [texts[name][code] for code in column.codes[start : start + size].tolist()]
            for name, column in columns.items()
        ]
        yield Table(tuple(columns), [list(row) for row in zip(*parts, strict=True)])


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
