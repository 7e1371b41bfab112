"""Training data: CSV text in, columns out, whatever wrote the file.

A column is kept as its different cells plus one number a row (:class:`Cells`), so blanks, numbers and missing cells
are looked at once for each different cell instead of once for each row.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from airflow_provider_azureml_classic.exceptions import rejection

if TYPE_CHECKING:
    from numpy import bool_, float64, int32
    from numpy.typing import NDArray

_CHUNK = 50_000
_FIELD_LIMIT = 1 << 20
_SHOWN = 40


@dataclass(frozen=True)
class Cells:
    """One column.

    :param distinct: the different cells, without blanks around them.
    :param codes: for each row the position of its cell in ``distinct``.
    """

    distinct: Sequence[str]
    codes: NDArray[int32]

    def where(self, test: Callable[[str], bool]) -> NDArray[bool_]:
        """The rows whose cell passes ``test``.

        :param test: asked once for each different cell.
        """
        import numpy as np

        return np.fromiter(map(test, self.distinct), bool, len(self.distinct))[self.codes]

    def each(self, value: Callable[[str], float]) -> NDArray[float64]:
        """``value`` of every row's cell.

        :param value: asked once for each different cell.
        """
        import numpy as np

        return np.fromiter(map(value, self.distinct), float, len(self.distinct))[self.codes]


@dataclass(frozen=True)
class Frame:
    """The rows of a CSV file.

    :param columns: cells by name, in the order of the file.
    :param rows: number of data rows.
    :param decimal_comma: whether ``0,5`` means one half.
    """

    columns: dict[str, Cells]
    rows: int
    decimal_comma: bool = False

    def number(self, cell: str) -> float | None:
        """The number that a cell of this file writes, ``None`` if it is no finite number.

        :param cell: one cell.
        """
        return parse_number(cell.replace(",", ".") if self.decimal_comma else cell)


def parse_number(text: str) -> float | None:
    """The finite number that ``text`` writes, else ``None``; unlike Python, ``1_000`` is no number.

    :param text: one cell.
    """
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def read_header(path: Path) -> tuple[str, ...]:
    """The column names of a CSV file.

    :param path: the file.
    :raises RequestRejected: the file is empty, is no text or has no header row.
    """
    with _opened(path) as stream:
        return _header(csv.reader(stream, delimiter=_delimiter(stream), skipinitialspace=True), ())


def read_csv(path: Path, *, expected: Collection[str] = (), wanted: Collection[str | None] | None = None) -> Frame:
    """The rows of a CSV file with a header row; delimiter and encoding are recognized.

    :param path: the file: separated by comma, semicolon (then numbers may have a decimal comma) or tab.
    :param expected: columns without which a first row is not taken for a header row.
    :param wanted: columns to keep; ``None``: all.
    :raises RequestRejected: the file is empty, is no text, has no header row or no data, or a row is too short or long.
    """
    with _opened(path) as stream:
        delimiter = _delimiter(stream)
        csv.field_size_limit(_FIELD_LIMIT)
        reader = csv.reader(stream, delimiter=delimiter, skipinitialspace=True)
        names = _header(reader, expected)
        keep = [i for i, name in enumerate(names) if name and (wanted is None or name in wanted)]
        columns, rows = _columns(reader, names, keep)
    if not rows:
        raise rejection("InputParseError", "The CSV has a header row but no data rows; expected at least one.")
    return Frame(columns, rows, decimal_comma=delimiter == ";")


def _opened(path: Path) -> TextIO:
    """The file as text, in the first encoding that fits."""
    with path.open("rb") as binary:
        start = binary.read(4096)
        if start.startswith((b"\xff\xfe", b"\xfe\xff")):
            return path.open(encoding="utf-16", newline="")
        if not start.strip():
            raise rejection("InputParseError", "The CSV is empty; expected a header row and data rows.")
        if b"\0" in start:
            raise rejection("InputParseError", "The data is not text; expected a CSV with a header row.")
    with path.open(encoding="utf-8-sig", newline="") as stream:
        try:
            while stream.read(1 << 20):
                pass
        except UnicodeDecodeError:
            return path.open(encoding="latin-1", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _delimiter(stream: TextIO) -> str:
    """The delimiter of the header row; the stream is left at its start."""
    line = next((line for line in stream if line.strip()), "")
    stream.seek(0)
    bare = "".join(line.split('"')[::2])
    return max(",;\t", key=bare.count)


def _header(reader: Iterator[list[str]], expected: Collection[str]) -> tuple[str, ...]:
    row = next((row for row in _guarded(reader) if any(map(str.strip, row))), [])
    names = tuple(cell.strip() for cell in row)
    lacking = "The CSV needs a header row"
    wish = f"; expected the columns {_listed(expected)}" if expected else ""
    number = next((name for name in names if name not in expected and parse_number(name) is not None), None)
    if number is not None:
        raise rejection("InputParseError", f"{lacking}: its first row has the number {number} for a name{wish}.")
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise rejection("InputParseError", f"{lacking} of different names: its first row has {twice!r} twice{wish}.")
    if expected and not set(expected) & set(names):
        raise rejection("InputParseError", f"{lacking}{wish}. Its first row is: {_listed(names)}.")
    return names


def _columns(reader: Iterator[list[str]], names: tuple[str, ...], keep: list[int]) -> tuple[dict[str, Cells], int]:
    import numpy as np

    seen: dict[int, dict[str, int]] = {i: {} for i in keep}
    parts: dict[int, list[NDArray[int32]]] = {i: [] for i in keep}
    rows = 0
    for chunk in _chunks(reader, len(names)):
        _check_lengths(chunk, len(names), rows)
        for i in keep:
            known = seen[i]
            codes = [known.setdefault(row[i], len(known)) for row in chunk]
            parts[i].append(np.array(codes, np.int32))
        rows += len(chunk)
    empty = [np.array([], np.int32)]
    columns = {names[i]: Cells([cell.strip() for cell in seen[i]], np.concatenate(parts[i] or empty)) for i in keep}
    return columns, rows


def _chunks(reader: Iterator[list[str]], width: int) -> Iterator[list[list[str]]]:
    rows = (row for row in _guarded(reader) if row and (len(row) == width or any(map(str.strip, row))))
    while chunk := list(islice(rows, _CHUNK)):
        yield chunk


def _guarded(reader: Iterator[list[str]]) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:
        line = getattr(reader, "line_num", "?")
        raise rejection("InputParseError", f"The CSV cannot be read at line {line}: {error}.") from None


def _check_lengths(chunk: list[list[str]], width: int, before: int) -> None:
    if set(map(len, chunk)) == {width}:
        return
    number, row = next((number, row) for number, row in enumerate(chunk, before + 1) if len(row) != width)
    raise rejection(
        "InputParseError", f"Data row {number} has {len(row)} cells; the header row has {width}: {_listed(row)}."
    )


def _listed(names: Collection[str]) -> str:
    shown = ", ".join(islice(names, _SHOWN))
    return f"{shown}, and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown


def first_row(rows: NDArray[Any]) -> int:
    """Number, counted from 1, of the first row marked in ``rows``.

    :param rows: one truth value a row, at least one of them true.
    """
    return int(rows.argmax()) + 1
