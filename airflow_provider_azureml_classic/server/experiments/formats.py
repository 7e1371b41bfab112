"""Files of tables in the formats that jobs read and write, told apart by their extension: CSV, TSV, ARFF.

A file gives the names of its columns, then rows of text, whatever its format: what a cell means is decided elsewhere,
and for all formats alike.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TextIO

from airflow_provider_azureml_classic.exceptions import rejection
from airflow_provider_azureml_classic.protocol.arff import ArffError, ArffWriter, Attribute, read_arff
from airflow_provider_azureml_classic.protocol.references import ARFF_EXTENSION, TSV_EXTENSION

_FIELD_LIMIT = 1 << 20


@dataclass(frozen=True)
class Rows:
    """A file that is being read.

    :param title: what it is, for messages.
    :param names: of its columns.
    :param rows: its rows, read as they are asked for.
    :param decimal_comma: whether ``0,5`` means one half.
    :param declared: columns of which the file itself says what they hold.
    """

    title: str
    names: tuple[str, ...]
    rows: Iterator[list[str]]
    decimal_comma: bool = False
    declared: Mapping[str, Attribute] = field(default_factory=lambda: MappingProxyType({}))


@contextmanager
def opened(path: Path) -> Iterator[Rows]:
    """A file of a table, opened; delimiter and encoding are recognized.

    :param path: the file. ``.arff`` is read as such; anything else as text with a header row, separated by tabs
        (``.tsv``), else by comma, semicolon (then numbers may have a decimal comma) or tab.
    :raises RequestRejected: the file is empty, is no text, or has no columns; also from the rows.
    """
    title = title_of(path)
    with _text(path, title) as stream:
        if title == "ARFF":
            yield _arff(stream)
            return
        delimiter = _delimiter(stream, "\t" if path.suffix.lower() == TSV_EXTENSION else None)
        csv.field_size_limit(_FIELD_LIMIT)
        rows = _guarded(csv.reader(stream, delimiter=delimiter, skipinitialspace=True), title)
        header = next((row for row in rows if any(map(str.strip, row))), [])
        yield Rows(title, tuple(cell.strip() for cell in header), rows, decimal_comma=delimiter == ";")


def title_of(path: Path) -> str:
    """What a file is read and written as: ``CSV``, ``TSV`` or ``ARFF``.

    :param path: its name.
    """
    return {ARFF_EXTENSION: "ARFF", TSV_EXTENSION: "TSV"}.get(path.suffix.lower(), "CSV")


def _text(path: Path, title: str) -> TextIO:
    """The file as text, in the first encoding that fits."""
    with path.open("rb") as binary:
        start = binary.read(4096)
        if start.startswith((b"\xff\xfe", b"\xfe\xff")):
            return path.open(encoding="utf-16", newline="")
        if not start.strip():
            raise rejection("InputParseError", f"The {title} is empty; expected {heading_of(title)} and data rows.")
        if b"\0" in start:
            raise rejection("InputParseError", f"The data is not text; expected {title} with {heading_of(title)}.")
    with path.open(encoding="utf-8-sig", newline="") as stream:
        try:
            while stream.read(1 << 20):
                pass
        except UnicodeDecodeError:
            return path.open(encoding="latin-1", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def heading_of(title: str) -> str:
    """Where the names of the columns stand, for messages.

    :param title: ``CSV``, ``TSV`` or ``ARFF``.
    """
    return "@attribute lines" if title == "ARFF" else "a header row"


def _delimiter(stream: TextIO, usual: str | None) -> str:
    """The delimiter of the header row; the stream is left at its start."""
    line = next((line for line in stream if line.strip()), "")
    stream.seek(0)
    bare = "".join(line.split('"')[::2])
    return usual if usual and usual in bare else max(",;\t", key=bare.count)


def _arff(stream: TextIO) -> Rows:
    try:
        attributes, rows = read_arff(stream)
    except ArffError as error:
        raise _unreadable(error) from None
    names = tuple(attribute.name.strip() for attribute in attributes)
    return Rows("ARFF", names, _guarded(rows, "ARFF"), declared=dict(zip(names, attributes, strict=True)))


def _guarded(rows: Iterator[list[str]], title: str) -> Iterator[list[str]]:
    try:
        yield from rows
    except ArffError as error:
        raise _unreadable(error) from None
    except csv.Error as error:
        line = getattr(rows, "line_num", "?")
        raise rejection("InputParseError", f"The {title} cannot be read at line {line}: {error}.") from None


def _unreadable(error: ArffError) -> Exception:
    return rejection("InputParseError", f"The ARFF cannot be read: {error}")


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
    if title_of(path) == "ARFF":
        return ArffWriter(stream, relation, columns, missing)
    made = csv.writer(stream, delimiter="\t" if title_of(path) == "TSV" else ",")
    made.writerow([column.name for column in columns])
    return made
