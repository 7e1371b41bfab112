"""Files of tables that jobs write, in the format that their extension says."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

from airflow_provider_azureml_classic.protocol.arff import ArffWriter, Attribute
from airflow_provider_azureml_classic.tables.reading import title_of


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
