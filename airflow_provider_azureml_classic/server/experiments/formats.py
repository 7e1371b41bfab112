"""Files of tables that jobs read and write, in the format that their extension says."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TextIO

from airflow_provider_azureml_classic.protocol.arff import ArffWriter, Attribute
from airflow_provider_azureml_classic.protocol.table_files import START, Rows, is_utf16, rows_of, title_of


@contextmanager
def opened(path: Path) -> Iterator[Rows]:
    """A file of a table, opened; delimiter and encoding are recognized.

    :param path: the file. ``.arff`` and ``.tsv`` are read as such, anything else as CSV: see :func:`~.rows_of`.
    :raises RequestRejected: the file is empty, is no text, or has no columns; also from the rows.
    """
    title = title_of(path.name)
    with _text(path, title) as stream:
        yield rows_of(stream, title)


def _text(path: Path, title: str) -> TextIO:
    """The file as text, in the first encoding that fits."""
    with path.open("rb") as binary:
        if is_utf16(binary.read(START), title):
            return path.open(encoding="utf-16", newline="")
    with path.open(encoding="utf-8-sig", newline="") as stream:
        try:
            while stream.read(1 << 20):
                pass
        except UnicodeDecodeError:
            return path.open(encoding="latin-1", newline="")
    return path.open(encoding="utf-8-sig", newline="")


class Writer(Protocol):
    """Takes the rows of a table."""

    def writerows(self, rows: Iterable[Sequence[Any]], /) -> object:
        """Append rows."""


def writer(
    stream: TextIO, path: Path, columns: Sequence[Attribute], relation: str, missing: Collection[str] = ()
) -> Writer:
    """What writes a table in the format of its file; the names of the columns are written at once.

    :param stream: the file, opened as text with ``newline=""``.
    :param path: its name.
    :param columns: name and kind of each.
    :param relation: what ARFF calls the table.
    :param missing: cells that ARFF has another sign for.
    """
    if title_of(path.name) == "ARFF":
        return ArffWriter(stream, relation, columns, missing)
    made = csv.writer(stream, delimiter="\t" if title_of(path.name) == "TSV" else ",")
    made.writerow([column.name for column in columns])
    return made
