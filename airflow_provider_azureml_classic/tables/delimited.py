"""CSV and TSV: pieces of a file in, tables of texts out. pyarrow splits rows into cells; all else is decided here.

Delimiter and encoding are one decision for a file. Rows are those that stand between line ends outside quotes; only
blank lines are passed over, and not even those where a file has one column: a blank line is an empty cell there.
"""

from __future__ import annotations

import csv
import re
from codecs import BOM_UTF8
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.limits import MAX_RECORD
from airflow_provider_azureml_classic.tables.encodings import FOREIGN, IMPLAUSIBLE, Decoder, no_text
from airflow_provider_azureml_classic.tables.names import check_names, check_width, unified
from airflow_provider_azureml_classic.tables.quotes import NEVER_CLOSED, QuoteFault, whole_rows
from airflow_provider_azureml_classic.tables.spelling import parse_number, shown
from airflow_provider_azureml_classic.tables.table import Origin, Table

if TYPE_CHECKING:
    import pyarrow as pa

#: Bytes of a file that become one table.
BLOCK = 2 << 20
#: The same for each column of a wide file: what a column of a table takes, however few its cells are.
COLUMN = 256
#: Line ends in one cell: more are the sign of a quote that closes by accident.
MAX_LINES = 500
DELIMITERS = (b"\t", b"|", b";", b",")
#: How much at the start of a file tells its delimiter, in bytes and in rows.
_SAMPLE, _SAMPLE_ROWS = 64 << 10, 21
_LINE = re.compile(rb"[^\r\n]*+(?:\r\n|\r|\n)|[^\r\n]++")
_QUOTED = re.compile(rb'((?:\A|(?<=[,;|\t\r\n])) *+)"(?:[^"]|"")*+(?:"|\Z)')
#: A cell with line ends in it has swallowed rows if its lines look like rows in this many ways.
_LIKENESS = 6
_SUSPECTS = 1000
#: A first line that names the delimiter, for Excel.
_HINT = re.compile(rb'\s*+"?sep=(?P<sign>[^\r\n])"?[ ]*+(?:\r\n|\r|\n)', re.IGNORECASE)
#: A column that has each of its cells so often on average is kept as different cells and codes.
_REPEATED = 4

Keep = Callable[[str], bool]


class DelimitedParser:
    """Takes a file in pieces of any size and gives its rows as they are complete.

    :param title: ``CSV`` or ``TSV``, for messages; in TSV a tab is the delimiter if the header row has any.
    :param encoding: of the file; by default it is recognized.
    :param expected: columns without which a first row is not taken for a header row.
    :param keep: tells for a column whether its cells are wanted.
    :ivar names: of the columns, once the header row has been read.
    :ivar rows: data rows so far.
    """

    def __init__(
        self, title: str, *, encoding: str | None = None, expected: Collection[str] = (), keep: Keep = bool
    ) -> None:
        self._title = title
        self._expected = expected
        self._keep = keep
        self._decoder = Decoder(title, encoding)
        self._raw = bytearray()
        self._text = b""
        self._doubt = ""
        self.names: tuple[str, ...] = ()
        self.rows = 0
        self._delimiter = self._hint = b""
        self._splitter: _Splitter | None = None

    def feed(self, piece: bytes) -> Iterator[Table]:
        """The rows that are complete with these bytes.

        :param piece: of the file.
        :raises RequestRejected: the file cannot be read; the message names the row.
        """
        self._raw += piece
        while len(self._raw) >= (size := max(BLOCK, COLUMN * len(self.names))):
            block = bytes(self._raw[:size])
            del self._raw[:size]
            yield from self._take(block, final=False)

    def close(self) -> Iterator[Table]:
        """The last rows.

        :raises RequestRejected: the file cannot be read, or has no header row.
        """
        yield from self._take(bytes(self._raw), final=True)
        self._raw.clear()

    def header(self, pieces: Iterable[bytes]) -> tuple[str, ...]:
        """The names of the columns of a file of which nothing else is wanted.

        :param pieces: of the file, read as far as its header row.
        :raises RequestRejected: the file is empty, is no text, or names no columns.
        """
        for piece in pieces:
            self._decode(piece, final=False)
            if self._read_header(final=False):
                return self.names
        self._decode(b"", final=True)
        self._read_header(final=True)
        return self.names

    def _take(self, block: bytes, *, final: bool) -> Iterator[Table]:
        self._decode(block, final=final)
        if not self.names and not self._read_header(final=final):
            return
        text = _without_marks(self._whole_rows(self._text, final=final))
        if text.strip(b" \r\n") or (len(self.names) == 1 and text):
            self._splitter = self._splitter or _Splitter(self._origin(), self.names, self._keep)
            self._splitter.origin = self._origin()
            table = self._splitter.split(text, self.rows, final=final)
            self.rows += table.rows
            yield table

    def _decode(self, block: bytes, *, final: bool) -> None:
        text = self._decoder.feed(block, final=final)
        if self._decoder.doubt is not None:
            self._doubt = self._row_at(self._text + text[: self._decoder.doubt])
        self._text += text
        if self._decoder.fault:
            raise self._unreadable(self._row_at(self._text), self._decoder.fault)
        if b"\0" in text:
            raise no_text(self._title, self._row_at(self._text[: self._text.index(b"\0")]))
        if final and self._doubt and self._decoder.foreign:
            raise self._unreadable(self._doubt, f"it {FOREIGN}")
        if final and self._doubt and self._decoder.implausible:
            raise self._unreadable(self._doubt, f"it {IMPLAUSIBLE.format(word=shown(self._decoder.word))}")
        if final and self._doubt and self._decoder.mixed:
            said = "it is not UTF-8, but much of the file is. Save it in one encoding, or declare the key 'encoding'."
            raise self._unreadable(self._doubt, said)
        if final and not self._text.strip() and not self.names:
            raise rejection("InputParseError", f"The {self._title} is empty; expected a header row and data rows.")

    def _unreadable(self, row: str, message: str) -> AzureMLClassicError:
        return rejection("InputParseError", f"The {self._title} cannot be read at {row}: {message}")

    def _row_at(self, text: bytes) -> str:
        """What a message calls the row in which some text ends."""
        sign, text = (b"", text) if self.names else _without_hint(text, self._title)
        delimiter = self._delimiter or sign or _delimiter(text[:_SAMPLE], self._title)
        csv.field_size_limit(MAX_RECORD)
        # One more character, so that a row counts that has just begun.
        lines = (line.decode(errors="replace") for line in _lines(text + b"x"))
        rows = csv.reader(lines, delimiter=delimiter.decode(), skipinitialspace=True)
        number = self.rows + sum(bool(row) and (len(self.names) == 1 or any(map(str.strip, row))) for row in rows)
        number -= not self.names
        return f"data row {number}" if number else "the header row"

    def _read_header(self, *, final: bool) -> bool:
        """Whether the header row is complete and has been read."""
        sign, self._text = _without_hint(self._text, self._title)
        self._hint = self._hint or sign
        self._text = self._text.lstrip(b"\r\n")
        self._delimiter = self._hint or _delimiter(self._text[:_SAMPLE], self._title)
        csv.field_size_limit(MAX_RECORD)
        used = 0

        def lines() -> Iterator[str]:
            nonlocal used
            for line in _lines(self._text):
                check_width(line.count(self._delimiter) + 1, self._title)
                used += len(line)
                yield line.decode()

        rows = csv.reader(lines(), delimiter=self._delimiter.decode(), skipinitialspace=True)
        try:
            header = next((row for row in rows if any(map(str.strip, row))), [])
        except csv.Error:  # a cell longer than the longest row
            raise self._too_long() from None
        if used > MAX_RECORD:
            raise self._too_long()
        if not final and used == len(self._text):
            return False
        self._whole_rows(self._text[:used], final=True)
        names = unified([cell.strip() for cell in header], self._expected)
        check_names(names, self._title, self._expected)
        self.names, self._text = names, self._text[used:]
        return True

    def _whole_rows(self, text: bytes, *, final: bool) -> bytes:
        try:
            rows = whole_rows(text, self._delimiter, final=final)
        except QuoteFault as fault:
            raise self._unclosed(self._row_at(text[: fault.position]), fault.message) from None
        if self.names:
            self._text = text[rows.used :]
            if len(self._text) > MAX_RECORD:
                raise self._too_long()
        return rows.text

    def _unclosed(self, row: str, message: str) -> AzureMLClassicError:
        advice = "A quote that is a part of a cell is written twice, and the cell in quotes."
        return rejection("InputParseError", f"The {self._title} cannot be read: in {row} {message}. {advice}")

    def _too_long(self) -> AzureMLClassicError:
        row, limit = self._row_at(b""), MAX_RECORD >> 20
        if self._text.count(b'"') % 2:
            return self._unclosed(row, f"{NEVER_CLOSED} within {limit} MiB")
        return self._unreadable(row, f"it is longer than {limit} MiB.")

    def _origin(self) -> Origin:
        decoder = self._decoder
        return Origin(self._title, self.names, self._delimiter.decode(), decoder.name, word=decoder.word)


def _without_marks(text: bytes) -> bytes:
    """Rows without the byte order marks of files that were put together.

    :param text: that begins where a row begins.
    """
    return text.removeprefix(BOM_UTF8).replace(b"\n" + BOM_UTF8, b"\n") if BOM_UTF8 in text else text


def _lines(text: bytes) -> Iterator[bytes]:
    """The lines of some text with their ends, one at a time."""
    return (match[0] for match in _LINE.finditer(text))


def _without_hint(text: bytes, title: str) -> tuple[bytes, bytes]:
    """The delimiter that a first line ``sep=;`` names, or nothing, and the text without that line."""
    hint = _HINT.match(text)
    if hint is None:
        return b"", text
    if hint["sign"] not in DELIMITERS:
        expected = "a comma, a semicolon, a tab or |"
        raise rejection(
            "InputParseError", f"The {title} begins with {shown(hint[0].decode().strip())}: expected {expected}."
        )
    return hint["sign"], text[hint.end() :]


def _delimiter(text: bytes, title: str) -> bytes:
    """The delimiter of a file: the sign of which most rows have as many as the header row."""
    lines = [line for line in _QUOTED.sub(b"x", text).splitlines() if line.strip(b" ")][:_SAMPLE_ROWS]
    if len(lines) > 2:
        lines.pop()  # it may be cut
    header = lines[0] if lines else b""
    if title == "TSV" and b"\t" in header:
        return b"\t"

    def fitness(sign: bytes) -> tuple[int, int]:
        count = header.count(sign)
        return (sum(line.count(sign) == count for line in lines), count) if count else (0, 0)

    # Of two that fit alike, the one that is not also a part of numbers and sentences.
    best = max(DELIMITERS, key=fitness)
    return best if best in header else b","


class _Splitter:
    """Splits whole rows into cells.

    :param origin: of the file, as far as it is known: its encoding may turn out later.
    :param names: of all its columns; one without a name is never wanted.
    :param keep: tells for a column whether its cells are wanted.
    """

    def __init__(self, origin: Origin, names: tuple[str, ...], keep: Keep) -> None:
        import pyarrow as pa

        self.origin = origin
        self._names = names
        self._kept = [str(i) for i, name in enumerate(names) if name and keep(name)]
        self._types: dict[str, pa.DataType] = {str(i): pa.string() for i in range(len(names))}
        self._decided = False
        self._faults: list[Any] = []
        self._blank = 0

    def split(self, text: bytes, before: int, *, final: bool) -> Table:
        """The table of some rows.

        :param text: whole rows.
        :param before: how many data rows come before them.
        :param final: whether these are the last ones.
        :raises RequestRejected: a row has more or fewer cells than there are columns, or a cell is too long.
        """
        # Without any column pyarrow would read all; the first one tells how many rows there are.
        cells = self._read(text, self._kept or ["0"])
        if self._faults:
            raise self._ragged(before, final=final and len(self._faults) == 1)
        if b'"' in text and _line_ends(text) > cells.num_rows:
            self._check_lines(self._read(text, list(self._types)), before)
        if not self._decided and not final:
            self._decide_types(cells)
        columns = {}
        for i in self._kept:
            # The first block was read as plain texts, whatever was then decided for the next ones.
            plain = cells[i].type != self._types[i]
            columns[self._names[int(i)]] = cells[i].dictionary_encode() if plain else cells[i]
        return Table(self.origin, columns, cells.num_rows, before)

    def _read(self, text: bytes, kept: list[str]) -> pa.Table:
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        self._faults.clear()
        self._blank = 0
        several = len(self._names) > 1
        reading = arrow_csv.ReadOptions(
            use_threads=False, block_size=len(text) + 2, column_names=list(self._types), encoding="utf8"
        )
        parsing = arrow_csv.ParseOptions(
            delimiter=self.origin.delimiter,
            newlines_in_values=True,
            ignore_empty_lines=several,
            invalid_row_handler=self._see_fault,
        )
        converting = arrow_csv.ConvertOptions(
            check_utf8=False,
            column_types=self._types,
            null_values=[""],
            strings_can_be_null=True,
            include_columns=kept,
        )
        return arrow_csv.read_csv(pa.py_buffer(text), reading, parsing, converting)

    def _see_fault(self, row: Any) -> str:
        blank = len(self._names) > 1 and not row.text.strip(f" {self.origin.delimiter}")
        if blank and not self._faults:
            self._blank += 1
        elif not blank and len(self._faults) < 2:
            self._faults.append((row.number - self._blank, row.actual_columns, row.text))
        return "skip"

    def _ragged(self, before: int, *, final: bool) -> AzureMLClassicError:
        number, count, text = self._faults[0]
        cut = " It is the last row: the file may have been cut off." if final and count < len(self._names) else ""
        cells = "1 cell" if count == 1 else f"{count} cells"
        only = f" ({shown(self._names[0])})" if len(self._names) == 1 else ""
        return rejection(
            "InputParseError",
            f"Data row {before + number} has {cells}; the header row has {len(self._names)}{only}: {shown(text)}."
            f"{cut or self._one_more(number, count, text)}",
        )

    def _one_more(self, number: int, count: int, text: str) -> str:
        """What to do where the first row has one cell more than the header row, as all others may."""
        if number > 1 or count != len(self._names) + 1:
            return ""
        if text.rstrip("\r\n").endswith(self.origin.delimiter):
            return " If each row ends in a delimiter, let the header row end in one, too."
        return " If the rows begin with names of their own, name that column in the header row, too."

    def _decide_types(self, cells: pa.Table) -> None:
        """From the second block on, columns that repeat their cells are read as different cells and codes."""
        import pyarrow as pa

        for i in self._kept:
            if len(cells[i].combine_chunks().dictionary_encode().dictionary) * _REPEATED < cells.num_rows:
                self._types[i] = pa.dictionary(pa.int32(), pa.string())
        self._decided = True

    def _check_lines(self, cells: pa.Table, before: int) -> None:
        """Refuse a cell that has swallowed rows."""
        import pyarrow as pa
        import pyarrow.compute as pc

        example = [cells[i][0].as_py() for i in self._types]
        numbers = [parse_number(cell or "") is not None for cell in example]
        for i in self._types:
            texts = cells[i].cast(pa.string())
            if not pc.any(pc.match_substring_regex(texts, r"[\r\n]")).as_py():
                continue
            lines = pc.count_substring_regex(texts, r"\r\n|\r|\n").fill_null(0)
            most = pc.max(lines).as_py()
            suspects = pc.indices_nonzero(pc.equal(lines, most) if most > MAX_LINES else lines).to_pylist()
            for row in suspects[:_SUSPECTS]:
                text = texts[row].as_py()
                if most > MAX_LINES or _has_rows(text, self.origin.delimiter, numbers):
                    raise self._swallowed(before + row + 1, text)

    def _swallowed(self, number: int, text: str) -> AzureMLClassicError:
        return rejection(
            "InputParseError",
            f"The {self.origin.title} cannot be read: in data row {number} a quote opens a cell of "
            f"{len(text.splitlines())} lines: {shown(text)}. If these are rows of their own, write the quote twice, "
            "and its cell in quotes.",
        )


def _line_ends(text: bytes) -> int:
    return text.count(b"\n") + text.count(b"\r") - text.count(b"\r\n")


def _has_rows(text: str, delimiter: str, numbers: list[bool]) -> bool:
    """Whether the lines in a cell are rows of the same table: as many cells, and numbers in the same columns."""
    lines = [line.split(delimiter) for line in text.splitlines()[1:-1]]
    if len(numbers) == 1 or len(lines) * (len(numbers) - 1 + sum(numbers)) < _LIKENESS:
        return False
    return all(
        len(cells) == len(numbers)
        and all(parse_number(cell) is not None for cell, number in zip(cells, numbers, strict=True) if number)
        for cells in lines
    )
