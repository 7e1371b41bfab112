"""Files of data in, tables out, whatever format they have: ``CSV``, ``TSV``, ``ARFF`` or ``Parquet``.

:func:`blocks` gives a file some thousand rows at a time, in bounded memory; :func:`read` gives it whole.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import IO

from airflow_provider_azureml_classic.exceptions import rejection
from airflow_provider_azureml_classic.protocol.references import ARFF_EXTENSION, PARQUET_EXTENSION, TSV_EXTENSION
from airflow_provider_azureml_classic.tables.arff import arff_attributes, arff_tables
from airflow_provider_azureml_classic.tables.delimited import BLOCK, DelimitedParser
from airflow_provider_azureml_classic.tables.names import check_names, heading
from airflow_provider_azureml_classic.tables.parquet import parquet_names, parquet_tables
from airflow_provider_azureml_classic.tables.table import Table

#: Bytes of ARFF that become lines at once: a short line fills several times its letters.
_LINES = 1 << 18
Source = Path | bytes | IO[bytes]


def title_of(name: str) -> str:
    """What a file is read as: ``CSV``, ``TSV``, ``ARFF`` or ``Parquet``.

    :param name: of the file, or its whole path.
    """
    lowered = name.lower()
    titles = {ARFF_EXTENSION: "ARFF", TSV_EXTENSION: "TSV", PARQUET_EXTENSION: "Parquet"}
    return next((title for extension, title in titles.items() if lowered.endswith(extension)), "CSV")


def installed() -> bool:
    """Whether files can be read here; what needs them elsewhere lets the server read them."""
    try:
        import pyarrow.csv  # noqa: F401 - whether it is there
    except ImportError:
        return False
    return True


def blocks(
    source: Source,
    title: str,
    *,
    encoding: str | None = None,
    expected: Collection[str] = (),
    wanted: Collection[str | None] | None = None,
    empty: bool = False,
) -> Iterator[Table]:
    """The rows of a file in blocks of a few MiB, each a table; at least one.

    :param source: a path, the content, or a file opened for reading bytes (for Parquet a seekable one).
    :param title: ``CSV``, ``TSV``, ``ARFF`` or ``Parquet``; see :func:`title_of`.
    :param encoding: of a text file; by default it is recognized.
    :param expected: columns without which a first row is not taken for a header row.
    :param wanted: columns to keep; ``None``: all. A column without a name is never kept.
    :param empty: whether a file without data rows will do.
    :raises RequestRejected: the file cannot be read, or has no data rows; the message names the row.
    """

    def keep(name: str) -> bool:
        return bool(name) and (wanted is None or name in wanted)

    with _opened(source) as file:
        if title == "Parquet":
            tables = parquet_tables(file, expected=expected, keep=keep)
        elif title == "ARFF":
            tables = arff_tables(_pieces(file, _LINES), encoding=encoding, expected=expected, keep=keep)
        else:
            tables = _parsed(_pieces(file), DelimitedParser(title, encoding=encoding, expected=expected, keep=keep))
        rows = 0
        for table in tables:
            rows += table.rows
            if table.rows:
                yield table
    if not rows and not empty:
        raise rejection("InputParseError", f"The {title} has {heading(title)} but no data rows; expected at least one.")


def read(
    source: Source,
    title: str,
    *,
    encoding: str | None = None,
    expected: Collection[str] = (),
    wanted: Collection[str | None] | None = None,
) -> Table:
    """All rows of a file; see :func:`blocks`, which takes and raises the same."""
    import pyarrow as pa

    tables = list(blocks(source, title, encoding=encoding, expected=expected, wanted=wanted))
    first = tables[0]
    columns = {}
    for name in first.columns:
        column = pa.chunked_array([chunk for table in tables for chunk in table.columns[name].chunks])
        columns[name] = column.unify_dictionaries()
    return Table(tables[-1].origin, columns, sum(table.rows for table in tables))


def read_names(
    source: Source, title: str, *, encoding: str | None = None, expected: Collection[str] = ()
) -> tuple[str, ...]:
    """The names of a file's columns; for text files no library is needed, and no more is read than the first rows.

    :param source: see :func:`blocks`.
    :param title: ``CSV``, ``TSV``, ``ARFF`` or ``Parquet``.
    :param encoding: of a text file; by default it is recognized.
    :param expected: columns without which a first row is not taken for a header row.
    :raises RequestRejected: the file is empty, is no text, or names no columns.
    """
    with _opened(source) as file:
        if title == "Parquet":
            names = parquet_names(file)
        elif title == "ARFF":
            names = tuple(attribute.name.strip() for attribute in arff_attributes(_pieces(file, _LINES), encoding))
        else:
            return DelimitedParser(title, encoding=encoding, expected=expected).header(_pieces(file))
    check_names(names, title, declared=True)
    return names


def _opened(source: Source) -> IO[bytes]:
    if isinstance(source, Path):
        return source.open("rb")
    return io.BytesIO(source) if isinstance(source, bytes) else source


def _pieces(file: IO[bytes], size: int = BLOCK) -> Iterator[bytes]:
    while piece := file.read(size):
        yield piece


def _parsed(pieces: Iterable[bytes], parser: DelimitedParser) -> Iterator[Table]:
    for piece in pieces:
        yield from parser.feed(piece)
    yield from parser.close()
