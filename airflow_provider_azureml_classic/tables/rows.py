"""A whole file as the rows of a scoring call: every cell a text, numbers with a decimal point."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.tables import reading
from airflow_provider_azureml_classic.tables.kinds import Kind, comma_columns
from airflow_provider_azureml_classic.tables.table import encoded
from airflow_provider_azureml_classic.tables.values import with_points

MISSING_LIBRARY = (
    "needs pyarrow and numpy, which are not installed. Run: pip install 'airflow-provider-azureml-classic[data]'"
)


def parse_rows(content: bytes, name: str, kinds: Mapping[str, Kind] | None = None) -> Table:
    """The rows of a file.

    :param content: the file.
    :param name: what it is called; the extension tells the format, and messages show it.
    :param kinds: of columns, as far as they are known: a cell ``1,5`` of a column of texts stays a text.
    :raises RequestRejected: it cannot be read; the message begins with its name.
    :raises ValueError: the library that reads files is not installed.
    """
    if not reading.installed():
        raise ValueError(f"{name} cannot be read: that {MISSING_LIBRARY}.")
    try:
        table = reading.read(content, reading.title_of(name), expected=kinds or ())
    except AzureMLClassicError as error:
        raise rejection("InputParseError", f"{name}: {error.message}") from None
    commas = comma_columns(table, known=kinds or {})
    columns = []
    for name, column in table.columns.items():
        different = encoded(with_points(column) if name in commas else column)
        cells = [*different.cells, ""]
        columns.append([cells[code] for code in different.codes.tolist()])
    return Table(table.names, [list(row) for row in zip(*columns, strict=True)])
