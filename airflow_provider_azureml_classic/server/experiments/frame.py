"""The rows of a training run: files read, put below one another, and only the rows that are asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_azureml_classic.exceptions import rejection
from airflow_provider_azureml_classic.server.experiments.declaration import Experiment
from airflow_provider_azureml_classic.tables import reading
from airflow_provider_azureml_classic.tables.kinds import Kind, comma_columns, file_decimal
from airflow_provider_azureml_classic.tables.spelling import listed, parse_number
from airflow_provider_azureml_classic.tables.table import Table, as_texts
from airflow_provider_azureml_classic.tables.values import recoded, with_points

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Frame:
    """Rows, and what is decided for all of them.

    :param table: the rows.
    :param decimal: the sign before the decimals.
    :param notes: what was guessed of its columns.
    """

    table: Table
    decimal: str = "."
    notes: tuple[str, ...] = ()

    @property
    def guesses(self) -> tuple[str, ...]:
        """What was guessed of the file and its columns, for the log of the job."""
        return (self.table.origin.note, *self.notes)

    @property
    def columns(self) -> dict[str, Any]:
        """Cells by name, in the order of the file."""
        return self.table.columns

    @property
    def rows(self) -> int:
        """How many there are."""
        return self.table.rows


def read_table(
    path: Path,
    *,
    expected: Collection[str] = (),
    wanted: Collection[str | None] | None = None,
    encoding: str | None = None,
) -> Table:
    """The rows of a file, in the format that its extension names; see :func:`~.tables.reading.read`.

    :param path: the file.
    :param expected: columns without which a first row is not taken for a header row.
    :param wanted: columns to keep; ``None``: all.
    :param encoding: of a text file; by default it is recognized.
    :raises RequestRejected: it cannot be read; the message names the row.
    """
    return reading.read(path, reading.title_of(path.name), expected=expected, wanted=wanted, encoding=encoding)


def read_blocks(path: Path, expected: Collection[str], encoding: str | None = None) -> Iterator[Table]:
    """The rows of a file in blocks; see :func:`~.tables.reading.blocks`.

    :param path: the file.
    :param expected: see :func:`read_table`, as for the rest.
    :param encoding: of a text file; by default it is recognized.
    :raises RequestRejected: it cannot be read; the message names the row.
    """
    return reading.blocks(path, reading.title_of(path.name), expected=expected, encoding=encoding)


def first_table(
    experiment: Experiment, *, expected: Collection[str] = (), wanted: Collection[str | None] | None = None
) -> Table:
    """The rows of an experiment's first data.

    :param experiment: the declaration.
    :param expected: see :func:`read_table`, as for the rest.
    :param wanted: columns to keep; ``None``: all.
    :raises (OSError, RequestRejected): they cannot be read.
    """
    title = reading.title_of(experiment.first_extension)
    content = experiment.first_rows()
    return reading.read(content, title, expected=expected, wanted=wanted, encoding=experiment.encoding)


def joined(
    tables: Sequence[Table], optional: Collection[str], missing: Collection[str], known: Mapping[str, Kind]
) -> Table:
    """The rows of all tables, in order, with the columns of the first one.

    :param tables: at least one.
    :param optional: columns that a later table may lack; their cells are then missing.
    :param missing: texts that mean "no value".
    :param known: kinds of columns, as far as they are decided.
    :raises RequestRejected: a later table lacks another column.
    """
    first, *others = tables
    if not others:
        return first
    for number, table in enumerate(others, 2):
        absent = next((name for name in first.columns if name not in table.columns and name not in optional), None)
        if absent is not None:
            raise rejection(
                "InputMismatchError",
                f"Table {number} has no column {absent!r}, which the first one has; "
                f"its columns are: {listed(table.columns)}.",
                target=absent,
            )
    commas = [comma_columns(table, missing, known) for table in tables]
    # What is written with a comma in one file may be written with a point in another.
    mixed = [frozenset() if all(commas) else names for names in commas]
    columns = {}
    for name in first.columns:
        columns[name] = _below([_cells(table, name, name in names) for table, names in zip(tables, mixed, strict=True)])
    word = next(filter(None, (table.origin.word for table in tables)), "")
    return Table(replace(first.origin, word=word), columns, sum(table.rows for table in tables))


def _cells(table: Table, name: str, comma: bool) -> pa.ChunkedArray:
    import pyarrow as pa

    if name not in table.columns:
        return pa.chunked_array([pa.nulls(table.rows, pa.string())])
    return with_points(table.columns[name]) if comma else table.columns[name]


def _below(parts: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
    import pyarrow as pa

    if len({part.type for part in parts}) > 1:
        parts = [as_texts(part).cast(pa.string()) for part in parts]
    column = pa.chunked_array([chunk for part in parts for chunk in part.chunks])
    return column.unify_dictionaries()


def chosen(table: Table, rows: Mapping[str, str]) -> Table:
    """The rows whose cells are the ones given.

    :param table: all rows.
    :param rows: cell by column; an empty cell stands for any.
    :raises RequestRejected: there is no such column, or no row is left.
    """
    for name, cell in rows.items():
        if not cell:
            continue
        if name not in table.columns:
            raise rejection(
                "InputMismatchError",
                f"Rows are chosen by the column {name!r}, which the data does not have; "
                f"its columns are: {listed(table.columns)}.",
                target=name,
            )
        table = _with_cell(table, name, cell)
    return table


def _with_cell(table: Table, name: str, cell: str) -> Table:
    import pyarrow as pa

    wanted, number, decimal = cell.strip(), parse_number(cell), file_decimal(table, {name: Kind()})

    def same(other: str) -> bool:
        return other == wanted or (number is not None and parse_number(other, decimal) == number)

    mask = recoded(table.encoded(name), same) == 1
    if not mask.any():
        raise rejection("InputMismatchError", f"No row has {cell!r} in the column {name!r}.", target=name)
    kept = pa.array(mask)
    columns = {}
    for each, column in table.columns.items():
        filtered = column.filter(kept)
        # Cells that no row has any more must not be learnt.
        columns[each] = filtered.cast(pa.string()) if pa.types.is_dictionary(filtered.type) else filtered
    return Table(table.origin, columns, int(mask.sum()))
