"""Files of tables in the formats of training data, told apart by their extension: CSV, TSV, ARFF.

A file gives the names of its columns, then rows of text, whatever its format: what a cell means is decided elsewhere,
and for all formats alike.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TextIO

from airflow_provider_azureml_classic.exceptions import RequestRejected, rejection
from airflow_provider_azureml_classic.protocol.arff import ArffError, Attribute, read_arff
from airflow_provider_azureml_classic.protocol.errors import repeated
from airflow_provider_azureml_classic.protocol.limits import MAX_COLUMNS, MAX_RECORD
from airflow_provider_azureml_classic.protocol.references import ARFF_EXTENSION, TSV_EXTENSION
from airflow_provider_azureml_classic.protocol.tables import Table

#: How many bytes at the start of a file tell whether it is text.
START = 4096
_FIELD_LIMIT = 1 << 20
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


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


def title_of(name: str) -> str:
    """What a file is read and written as: ``CSV``, ``TSV`` or ``ARFF``.

    :param name: of the file, or its whole path.
    """
    lowered = name.lower()
    if lowered.endswith(ARFF_EXTENSION):
        return "ARFF"
    return "TSV" if lowered.endswith(TSV_EXTENSION) else "CSV"


def heading_of(title: str) -> str:
    """Where the names of the columns stand, for messages.

    :param title: ``CSV``, ``TSV`` or ``ARFF``.
    """
    return "@attribute lines" if title == "ARFF" else "a header row"


def is_utf16(start: bytes, title: str) -> bool:
    """Whether text is in UTF-16; otherwise it is in UTF-8, or else in Latin-1.

    :param start: its first bytes.
    :param title: ``CSV``, ``TSV`` or ``ARFF``.
    :raises RequestRejected: it is empty, or no text.
    """
    if start.startswith(_UTF16):
        return True
    if not start.strip():
        raise rejection("InputParseError", f"The {title} is empty; expected {heading_of(title)} and data rows.")
    if b"\0" in start:
        raise rejection("InputParseError", f"The data is not text; expected {title} with {heading_of(title)}.")
    return False


def rows_of(stream: TextIO, title: str) -> Rows:
    """The table of an open file; the delimiter is recognized.

    :param stream: text, opened with ``newline=""``; it must be seekable.
    :param title: ``ARFF``, ``TSV`` (separated by tabs), or ``CSV``: separated by comma, semicolon (then numbers may
        have a decimal comma) or tab.
    :raises RequestRejected: it cannot be read; also from the rows.
    """
    if title == "ARFF":
        return _arff(stream)
    delimiter = _delimiter(stream, "\t" if title == "TSV" else None)
    csv.field_size_limit(_FIELD_LIMIT)
    lines = _Lines(stream, title)
    rows = _guarded(csv.reader(lines, delimiter=delimiter, skipinitialspace=True), title, lines)
    header = next((row for row in rows if any(map(str.strip, row))), [])
    return Rows(title, _names(header, title), rows, decimal_comma=delimiter == ";")


class _Lines:
    """The lines of a file, which ``csv`` asks for as a row needs them: a row without end is not read to its end.

    :param stream: the open file.
    :param title: what it is, for the message.
    """

    def __init__(self, stream: TextIO, title: str) -> None:
        self._readline = stream.readline
        self._title = title
        self.left = MAX_RECORD

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._readline(self.left)
        if not line:
            raise StopIteration
        self.left -= len(line)
        if not self.left:
            raise rejection(
                "InputParseError",
                f"A row of the {self._title} has more than {MAX_RECORD:,} letters; expected rows that end with a line "
                "break, and quotes that are closed.",
            )
        return line


def _names(cells: Sequence[str], title: str) -> tuple[str, ...]:
    if len(cells) > MAX_COLUMNS:
        raise rejection("InputParseError", f"The {title} has {len(cells)} columns; at most {MAX_COLUMNS:,} are read.")
    return tuple(cell.strip() for cell in cells)


def _delimiter(stream: TextIO, usual: str | None) -> str:
    """The delimiter of the header row; the stream is left at its start."""
    line = next((line for line in iter(lambda: stream.readline(MAX_RECORD), "") if line.strip()), "")
    stream.seek(0)
    bare = "".join(line.split('"')[::2])
    return usual if usual and usual in bare else max(",;\t", key=bare.count)


def _arff(stream: TextIO) -> Rows:
    try:
        lines = _Lines(stream, "ARFF")
        attributes, rows = read_arff(_each(lines))
    except ArffError as error:
        raise _unreadable(error) from None
    names = _names([attribute.name for attribute in attributes], "ARFF")
    return Rows("ARFF", names, _guarded(rows, "ARFF", lines), declared=dict(zip(names, attributes, strict=True)))


def _each(lines: _Lines) -> Iterator[str]:
    """Lines of which each is a row."""
    for line in lines:
        lines.left = MAX_RECORD
        yield line


def _guarded(rows: Iterator[list[str]], title: str, lines: _Lines) -> Iterator[list[str]]:
    try:
        for row in rows:
            lines.left = MAX_RECORD
            yield row
    except ArffError as error:
        raise _unreadable(error) from None
    except csv.Error as error:
        line = getattr(rows, "line_num", "?")
        raise rejection("InputParseError", f"The {title} cannot be read at line {line}: {error}.") from None


def _unreadable(error: ArffError) -> Exception:
    return rejection("InputParseError", f"The ARFF cannot be read: {error}")


def parse_table(content: bytes, name: str, title: str = "") -> Table:
    """The table of a whole file, every cell a text: small files, such as rows to score.

    :param content: the file.
    :param name: what it is called, for messages.
    :param title: ``CSV``, ``TSV`` or ``ARFF``; by default what its name says.
    :raises RequestRejected: it cannot be read, has a column twice, or a row of another length; the message begins
        with its name.
    """
    title = title or title_of(name)
    try:
        return _table(rows_of(io.StringIO(_text(content, title), newline=""), title))
    except RequestRejected as error:
        raise rejection("InputParseError", f"{name}: {error.message}") from None


def _text(content: bytes, title: str) -> str:
    if is_utf16(content[:START], title):
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _table(file: Rows) -> Table:
    twice = repeated(file.names)
    if twice is not None:
        heading = heading_of(file.title)
        raise rejection(
            "InputParseError", f"The {file.title} needs {heading} of different names; it has {twice!r} twice."
        )
    values = []
    for number, row in enumerate(filter(None, file.rows), 1):
        if len(row) != len(file.names):
            raise rejection(
                "InputParseError",
                f"Data row {number} of the {file.title} has {len(row)} cells; "
                f"expected {len(file.names)}, one for each column.",
            )
        values.append([with_point(cell) for cell in row] if file.decimal_comma else row)
    return Table(file.names, values)


def with_point(cell: str) -> str:
    """A cell in which a number has a decimal point; any other text as it is.

    :param cell: of a file with decimal commas.
    """
    number = cell.replace(",", ".")
    return number if parse_number(number) is not None else cell


def parse_number(text: str) -> float | None:
    """The finite number that ``text`` writes, else ``None``; unlike Python, ``1_000`` is no number.

    :param text: one cell.
    """
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None
