"""Batch scoring: a file of rows in, a file of scored rows out. Runs in a worker process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from airflow_provider_azureml_classic.exceptions import rejection
from airflow_provider_azureml_classic.protocol.arff import NOMINAL, NUMERIC, STRING, Attribute
from airflow_provider_azureml_classic.protocol.limits import MAX_CALL_COLUMNS, MAX_CELLS, MAX_LETTERS
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.server.experiments.formats import writer
from airflow_provider_azureml_classic.server.experiments.frame import read_blocks
from airflow_provider_azureml_classic.server.experiments.ilearner import Manifest
from airflow_provider_azureml_classic.server.experiments.schema import NUMBER, Schema
from airflow_provider_azureml_classic.server.experiments.scorer import LABELS, Scorer, output_columns
from airflow_provider_azureml_classic.tables.kinds import Kind, file_decimal
from airflow_provider_azureml_classic.tables.names import check_width
from airflow_provider_azureml_classic.tables.reading import blocks as blocks_of
from airflow_provider_azureml_classic.tables.reading import read_names, title_of
from airflow_provider_azureml_classic.tables.spelling import parse_number
from airflow_provider_azureml_classic.tables.table import Encoded
from airflow_provider_azureml_classic.tables.table import Table as Block

_CHUNK = 10_000
#: More different texts than this are no categories.
_MAX_NOMINAL = 10_000


@dataclass(frozen=True)
class ScoredFile:
    """What was scored.

    :param rows: how many.
    :param notes: what was guessed of the file that was read, for the job's log.
    """

    rows: int
    notes: tuple[str, ...] = ()


def score_file(
    model: Path,
    data: Path,
    target: Path,
    passthrough: Sequence[str] = (),
    threshold: float | None = None,
    encoding: str | None = None,
) -> ScoredFile:
    """Score every row of a file.

    :param model: an ``.ilearner`` file.
    :param data: CSV, TSV, ARFF or Parquet, as its extension says; read in blocks, twice.
    :param target: the file to write, in the format of its extension.
    :param passthrough: input columns to repeat.
    :param threshold: see :meth:`~.scorer.Scorer.score`.
    :param encoding: of a text file, as the experiment declares it; by default it is recognized.
    :raises RequestRejected: naming the column and the row at fault.
    """
    scorer = Scorer.load(model)
    schema = scorer.manifest.schema
    repeated = _Repeated(schema, passthrough) if title_of(target.name) == "ARFF" else None
    notes: dict[str, None] = {}
    blocks = _noted(read_blocks(data, schema.required, encoding), notes)
    decimal = file_decimal(map(repeated.see, blocks) if repeated else blocks, schema.decided, schema.missing)
    rows = 0
    with target.open("w", newline="", encoding="utf-8") as file:
        out = None
        blocks = _checked(read_blocks(data, schema.required, encoding), schema, decimal, notes)
        for chunk in _chunks(blocks, schema, decimal, min(_CHUNK, scorer.most_rows)):
            scored = scorer.score(chunk, passthrough, threshold)
            if out is None:
                columns = _columns(scorer.manifest, repeated, scored.column_names)
                out = writer(file, target, columns, "scored", schema.missing)
            out.writerows(scored.values)
            rows += len(scored.values)
    return ScoredFile(rows, tuple(filter(None, notes)))


def _noted(blocks: Iterable[Block], notes: dict[str, None]) -> Iterator[Block]:
    for block in blocks:
        notes[block.origin.note] = None
        yield block


def _checked(blocks: Iterable[Block], schema: Schema, decimal: str, notes: dict[str, None]) -> Iterator[Block]:
    for block in blocks:
        notes.update(dict.fromkeys(schema.check_thousands(block, decimal)))
        yield block


def file_rows(schema: Schema, data: bytes, name: str, encoding: str | None = None) -> Table:
    """The rows of a small file as a scoring call sends them: every cell a text, numbers with a decimal point.

    :param schema: of the model that they are for.
    :param data: the file.
    :param name: what it is called; the extension tells the format.
    :param encoding: of a text file, as the experiment declares it; by default it is recognized.
    :raises RequestRejected: it cannot be read, or is a larger table than a call may send.
    """
    blocks, cells, title = [], 0, title_of(name)
    most = max(MAX_CALL_COLUMNS, 2 * len(schema.names))
    check_width(len(read_names(data, title, encoding=encoding, expected=schema.required)), title, most)
    for block in blocks_of(data, title, encoding=encoding, expected=schema.required):
        blocks.append(block)
        cells += block.rows * len(block.names)
        if cells > MAX_CELLS:
            raise rejection("InputParseError", f"The file has over {MAX_CELLS:,} cells: score it as a batch job.")
    decimal = file_decimal(blocks, schema.decided, schema.missing)
    tables = list(_chunks(_checked(blocks, schema, decimal, {}), schema, decimal, _CHUNK))
    rows = [row for table in tables for row in table.values]
    # One text may stand in many rows, and is there once until now.
    if sum(len(str(cell)) for row in rows for cell in row) > MAX_LETTERS:
        raise rejection("InputParseError", f"The file has over {MAX_LETTERS:,} letters: score it as a batch job.")
    return Table(tables[0].column_names, rows)


def _texts(kind: Kind, decimal: str, column: Encoded, schema: Schema) -> list[str]:
    """Different cells, and at last what stands for none; numbers have a decimal point."""
    sign = kind.decimal or decimal
    if kind.kind != NUMBER or (sign == "." and not kind.dressed):
        return [*column.cells, ""]
    rule = kind.rule(decimal, schema.missing)
    numbers = [(cell, rule.number(cell)) for cell in column.cells]
    return [*(cell if value is None or value != value else repr(value) for cell, value in numbers), ""]


def _chunks(blocks: Iterable[Block], schema: Schema, decimal: str, size: int) -> Iterator[Table]:
    for block in blocks:
        cells = {name: block.encoded(name) for name in block.names}
        texts = {name: _texts(schema.kind_of(name), decimal, column, schema) for name, column in cells.items()}
        for start in range(0, block.rows, size):
            parts = [
                [texts[name][code] for code in column.codes[start : start + size].tolist()]
                for name, column in cells.items()
            ]
            yield Table(tuple(cells), [list(row) for row in zip(*parts, strict=True)])


def _columns(manifest: Manifest, repeated: _Repeated | None, names: Sequence[str]) -> list[Attribute]:
    """What the columns of the scored rows hold, for a format that declares it."""
    answers = {name: Attribute(name, NUMERIC) for name, _ in output_columns(manifest)}
    if manifest.schema.classes:
        answers[LABELS] = Attribute(LABELS, NOMINAL, manifest.schema.classes)
    others = repeated.attribute if repeated else lambda name: Attribute(name, STRING)
    return [answers.get(name) or others(name) for name in names]


class _Repeated:
    """What the input columns hold that are repeated in the answer: ARFF declares it before the first row.

    :param schema: of the model.
    :param passthrough: names of the columns; ``("*",)``: all.
    """

    def __init__(self, schema: Schema, passthrough: Sequence[str]) -> None:
        self._schema = schema
        self._passthrough = passthrough
        self._cells: dict[str, dict[str, None]] = {}
        self._texts: set[str] = set()

    def see(self, block: Block) -> Block:
        """Take in what a block of the file holds; returns the block."""
        for name in block.names:
            if name in self._passthrough or "*" in self._passthrough:
                self._take(name, block.encoded(name).cells)
        return block

    def _take(self, name: str, cells: Sequence[str]) -> None:
        values = [cell for cell in cells if cell not in self._schema.missing]
        kind = self._schema.kind_of(name)
        decimal = kind.decimal or "."
        if not all(parse_number(cell, decimal) is not None or kind.kind == NUMBER for cell in values):
            self._texts.add(name)
        known = self._cells.setdefault(name, {})
        if len(known) <= _MAX_NOMINAL:
            known.update(dict.fromkeys(values))

    def attribute(self, name: str) -> Attribute:
        """A column: numbers, categories, or texts of which there are too many.

        :param name: of the column.
        """
        values = self._cells.get(name, {})
        if name not in self._texts:
            return Attribute(name, NUMERIC)
        return Attribute(name, NOMINAL, tuple(values)) if len(values) <= _MAX_NOMINAL else Attribute(name, STRING)
