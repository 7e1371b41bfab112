"""What the tests of the reader share."""

from __future__ import annotations

from pathlib import Path

from airflow_provider_azureml_classic.tables import kinds, reading
from airflow_provider_azureml_classic.tables.kinds import Decision, Kind
from airflow_provider_azureml_classic.tables.table import Encoded, Table

#: Small files of the kinds that people have; the folders are numbered.
CASES = Path(__file__).with_name("data")


def case(name: str) -> Table:
    """The table of one of the files in ``data``."""
    return reading.read(CASES / name, reading.title_of(name))


def read(content: str | bytes, title: str = "CSV", encoding: str | None = None) -> Table:
    """The table of some text."""
    return reading.read(content if isinstance(content, bytes) else content.encode(), title, encoding=encoding)


def texts(column: Encoded) -> list[str]:
    """The cells of a column, one a row; empty where there is no value."""
    return [column.cells[code] if code >= 0 else "" for code in column.codes.tolist()]


def rows(table: Table) -> list[list[str]]:
    """All cells."""
    columns = [texts(table.encoded(name)) for name in table.names]
    return [list(row) for row in zip(*columns, strict=True)]


def column(cells: list[str], name: str = "x") -> Table:
    """A table of one column."""
    quoted = "".join('"{}"\n'.format(cell.replace('"', '""')) for cell in cells)
    return read(f"{name}\n{quoted}")


def decided(table: Table, **declared: Kind) -> Decision:
    """The decision of all columns."""
    return kinds.decide(table, table.names, declared=declared)
