"""Training data for upload: a file in pieces, checked and counted as they pass, never in memory as a whole.

No Airflow, no network.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any, cast

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.arff import ArffError, read_arff
from airflow_provider_azureml_classic.tables import reading
from airflow_provider_azureml_classic.tables.names import heading, no_names
from airflow_provider_azureml_classic.tables.parquet import csv_of, parquet_tables
from airflow_provider_azureml_classic.tables.rows import MISSING_LIBRARY
from airflow_provider_azureml_classic.tables.table import Table

#: Bytes read from a file at a time.
PIECE = 256 << 10
#: A header row longer than this is none.
_MAX_HEADER = 1 << 20
#: After one of these a quote opens a cell: the delimiters that the service knows, a new row, and a quote in a cell.
_BEFORE_QUOTE = frozenset({b",", b";", b"\t", b"|", b"\n", b'"'})


class FileMeter:
    """Passes a file on in pieces and reads it as the service does: what the service would refuse is refused here.

    :param name: what the data are, for messages.
    :param title: ``CSV``, ``TSV`` or ``ARFF``.
    """

    def __init__(self, name: str, title: str) -> None:
        self.name = name
        #: Where the names of the columns stand.
        self.heading = heading(title)
        #: Data rows that have passed.
        self.rows = 0
        self._title = title

    def watch(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """The same pieces.

        :param pieces: of any size.
        :raises RequestRejected: the file cannot be read; the message begins with its name.
        """
        file = _Passing(pieces)
        try:
            for table in reading.blocks(cast("IO[bytes]", file), self._title, wanted=(), empty=True):
                self.rows += table.rows
                yield from file.passed()
        except AzureMLClassicError as error:
            raise rejection("InputParseError", f"{self.name}: {error.message}") from None
        yield from file.passed()


class ParquetMeter:
    """Passes a Parquet file on, which is read before.

    :param name: what the data are, for messages.
    """

    heading = heading("Parquet")

    def __init__(self, name: str) -> None:
        self.name = name
        #: Its rows; ``None``: not known, as the library that reads them is not installed.
        self.rows: int | None = 0

    def check(self, file: IO[bytes]) -> None:
        """Read the file.

        :param file: opened for reading bytes, seekable; it stands at its start afterwards.
        :raises RequestRejected: the file cannot be read.
        """
        if not reading.installed():
            self.rows = None  # the service reads it
            return
        self.rows = sum(table.rows for table in _parquet(file, self.name))
        file.seek(0)

    def watch(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """The same pieces.

        :param pieces: of any size.
        """
        yield from pieces


class _Passing(io.RawIOBase):
    """A file that is read piece by piece, and remembers the pieces until they are asked for."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = filter(None, pieces)
        self._passed: deque[bytes] = deque()

    def read(self, size: int = -1) -> bytes:
        piece = next(self._pieces, b"")
        self._passed.append(piece)
        return piece

    def passed(self) -> Iterator[bytes]:
        while self._passed:
            yield self._passed.popleft()


def meter_of(name: str, title: str) -> Meter:
    """What passes a file on and looks at it: as the service does where the library is that reads files, else by its
    header row and line ends alone.

    :param name: what the data are, for messages.
    :param title: ``CSV``, ``TSV``, ``ARFF`` or ``Parquet``.
    """
    if title == "Parquet":
        return ParquetMeter(name)
    if reading.installed():
        return FileMeter(name, title)
    return ArffMeter(name) if title == "ARFF" else CsvMeter(name)


class CsvMeter:
    """Passes CSV on in pieces, counts its rows, and refuses it if it has no header row.

    :param name: what the data are, for messages.
    """

    heading = heading("CSV")

    def __init__(self, name: str) -> None:
        self.name = name
        #: Rows below the header row that have passed.
        self.rows = -1
        self._start: bytearray | None = bytearray()
        self._quoted = False
        self._before = b"\n"
        self._in_row = False

    def watch(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """The same pieces.

        :param pieces: of any size.
        :raises ValueError: no header row, or no text.
        """
        for piece in pieces:
            self._see_start(piece)
            self._count(piece)
            yield piece
        if self._start is not None:
            check_header(bytes(self._start), self.name)
        self.rows += self._in_row

    def _see_start(self, piece: bytes) -> None:
        if self._start is None:
            return
        self._start += piece
        if b"\n" in self._start.lstrip() or len(self._start) > _MAX_HEADER:
            check_header(bytes(self._start[:_MAX_HEADER]), self.name)
            self._start = None

    def _count(self, piece: bytes) -> None:
        """Count the ends of rows: those of lines that are not blank and not in quotes."""
        for number, part in enumerate(piece.split(b'"')):
            if number:
                if self._quoted or self._before in _BEFORE_QUOTE:
                    self._quoted = not self._quoted
                self._before = b'"'
                self._in_row = True
            if self._quoted:
                continue
            first, *others = part.split(b"\n")
            self._in_row = self._in_row or bool(first.strip())
            for line in others:
                self.rows += self._in_row
                self._in_row = bool(line.strip())
            self._before = part.rstrip(b" ")[-1:] or self._before


class ArffMeter:
    """Passes ARFF on in pieces, counts its rows, one a line, and refuses it if it has no declarations.

    :param name: what the data are, for messages.
    """

    heading = heading("ARFF")

    def __init__(self, name: str) -> None:
        self.name = name
        #: Rows that have passed.
        self.rows = 0
        self._declarations: list[bytes] | None = []
        self._line = b""

    def watch(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """The same pieces.

        :param pieces: of any size.
        :raises ValueError: no declarations, or no text.
        """
        for piece in pieces:
            *lines, self._line = (self._line + piece).split(b"\n")
            for line in lines:
                self._see(line.strip())
            # A mark of the encoding may still be cut.
            if self._declarations is not None and len(self._line) > len(codecs.BOM_UTF8):
                self._check_line(self._line[:_MAX_HEADER])
            yield piece
        self._see(self._line.strip())
        if self._declarations is not None:
            self._check_declarations(self._declarations)

    def _see(self, line: bytes) -> None:
        if self._declarations is None:
            self.rows += bool(line) and not line.startswith(b"%")
            return
        self._check_line(line)
        self._declarations.append(line)
        if line.lower() == b"@data":
            self._check_declarations(self._declarations)
            self._declarations = None

    def _check_line(self, line: bytes) -> None:
        bare = line.removeprefix(codecs.BOM_UTF8).lstrip()
        if bare and bare[:1] not in b"@%":
            shown = bare[:40].decode(errors="replace")
            raise ValueError(f"{self.name} is not ARFF: {shown!r} stands before @data.")

    def _check_declarations(self, lines: list[bytes]) -> None:
        try:
            attributes, _ = read_arff(line.decode("utf-8-sig", errors="replace") for line in lines)
        except ArffError as error:
            raise ValueError(f"{self.name} is not ARFF: {error}") from None
        check_names([attribute.name for attribute in attributes], self.name, numbers=True)


Meter = FileMeter | ParquetMeter | CsvMeter | ArffMeter


def check_header(start: bytes, name: str) -> None:
    """Check that CSV begins with a row of column names: some text, no number, nothing twice.

    :param start: its first row, and what follows.
    :param name: what the data are, for messages.
    :raises ValueError: naming what stands in the first row instead.
    """
    if start.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in start:
        raise ValueError(f"{name} is not text in UTF-8; expected CSV with a header row.")
    try:
        text = start.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = start.decode("latin-1")
    line = next((line for line in text.splitlines() if line.strip()), "")
    if not line:
        raise ValueError(f"{name} is empty; expected CSV with a header row.")
    delimiter = max(",;\t|", key="".join(line.split('"')[::2]).count)
    rows = csv.reader(io.StringIO(text.lstrip("\r\n")), delimiter=delimiter, skipinitialspace=True)
    check_names([cell.strip() for cell in next(rows)], name)


def check_names(names: Sequence[str], name: str, *, numbers: bool = False) -> None:
    """Check that these can be the names of columns.

    :param names: cells of the first row.
    :param name: what the data are, for messages.
    :param numbers: a number may be a name.
    :raises ValueError: naming the cell at fault.
    """
    number = None if numbers else next(iter(no_names(names)), None)
    if number is not None:
        raise ValueError(f"{name} has no header row: its first row has the number {number} as the name of a column.")
    twice = next((cell for cell in names if cell and names.count(cell) > 1), None)
    if twice is not None:
        raise ValueError(f"{name} has two columns of one name: its header row has {twice!r} twice.")


def file_pieces(file: IO[bytes]) -> Iterator[bytes]:
    """The content of an open file.

    :param file: opened for reading bytes.
    """
    while piece := file.read(PIECE):
        yield piece


def row_pieces(names: Sequence[str], batches: Iterable[Sequence[Sequence[Any]]]) -> Iterator[bytes]:
    """CSV of rows; an absent cell is empty, and so is one that is not a number (NaN).

    :param names: of the columns.
    :param batches: some rows at a time.
    """
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(names)
    for batch in batches:
        writer.writerows([None if isinstance(cell, float) and cell != cell else cell for cell in row] for row in batch)
        yield buffer.getvalue().encode()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue().encode()


def parquet_pieces(file: IO[bytes], name: str) -> Iterator[bytes]:
    """CSV of a Parquet file; one batch of rows is in memory at a time.

    :param file: opened for reading bytes; it must be seekable.
    :param name: what the data are, for messages.
    :raises ValueError: the library that reads files is not installed.
    :raises RequestRejected: the file cannot be read, or a column holds lists or structures.
    """
    for number, table in enumerate(_parquet(file, name)):
        if not number:
            yield from row_pieces(table.names, ())
        yield csv_of(table)


def _parquet(file: IO[bytes], name: str) -> Iterator[Table]:
    """The tables of a Parquet file, the first of which may have no rows."""
    if not reading.installed():
        raise ValueError(f"{name} is Parquet; reading it {MISSING_LIBRARY}")
    try:
        yield from parquet_tables(file)
    except AzureMLClassicError as error:
        raise rejection("InputParseError", f"{name}: {error.message}") from None
