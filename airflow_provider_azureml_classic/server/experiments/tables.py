"""Training data: files in, columns out, whatever format they have and whatever wrote them.

A column is kept as its different cells plus one number a row (:class:`Cells`), so blanks, numbers and missing cells
are looked at once for each different cell instead of once for each row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_azureml_classic.exceptions import rejection
from airflow_provider_azureml_classic.protocol.arff import NOMINAL, NUMERIC, Attribute
from airflow_provider_azureml_classic.protocol.errors import repeated
from airflow_provider_azureml_classic.protocol.table_files import Rows, heading_of, parse_number
from airflow_provider_azureml_classic.server.experiments.formats import opened

if TYPE_CHECKING:
    from numpy import bool_, float64, int32
    from numpy.typing import NDArray

#: Rows taken at a time, and cells: a few bytes of a sparse file may stand for a wide row.
_CHUNK, _CHUNK_CELLS = 50_000, 2_000_000
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
    """The rows of a file.

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


def read_header(path: Path) -> tuple[str, ...]:
    """The column names of a file.

    :param path: the file; see :func:`~.formats.opened`.
    :raises RequestRejected: the file is empty, is no text or names no columns.
    """
    with opened(path) as file:
        _check_names(file, ())
        return file.names


def read_table(path: Path, *, expected: Collection[str] = (), wanted: Collection[str | None] | None = None) -> Frame:
    """The rows of a file, in the format that its extension names.

    :param path: the file; see :func:`~.formats.opened`.
    :param expected: columns without which a first row is not taken for a header row.
    :param wanted: columns to keep; ``None``: all.
    :raises RequestRejected: the file is empty, is no text, has no names of columns or no data, a row is too short or
        long, or a cell is none that the file itself declares.
    """
    with opened(path) as file:
        _check_names(file, expected)
        keep = [i for i, name in enumerate(file.names) if name and (wanted is None or name in wanted)]
        columns, rows = _columns(file.rows, file.names, keep)
    if not rows:
        raise rejection(
            "InputParseError", f"The {file.title} has {heading_of(file.title)} but no data rows; expected at least one."
        )
    for name, cells in columns.items():
        if name in file.declared:
            _check_declared(file.declared[name], cells)
    return Frame(columns, rows, file.decimal_comma)


def _check_names(file: Rows, expected: Collection[str]) -> None:
    names, lacking = file.names, f"The {file.title} needs {heading_of(file.title)}"
    first = "what it declares" if file.declared else "its first row"
    wish = f"; expected the columns {_listed(expected)}" if expected else ""
    number = next((name for name in names if name not in expected and parse_number(name) is not None), None)
    if number is not None and not file.declared:
        raise rejection("InputParseError", f"{lacking}: {first} has the number {number} for a name{wish}.")
    twice = repeated(list(filter(None, names)))
    if twice is not None:
        raise rejection("InputParseError", f"{lacking} of different names: {first} has {twice!r} twice{wish}.")
    if expected and not set(expected) & set(names):
        raise rejection("InputParseError", f"{lacking}{wish}. {first.capitalize()} is: {_listed(names)}.")


def _check_declared(attribute: Attribute, cells: Cells) -> None:
    """Refuse a cell that an ARFF file's own declaration rules out."""
    values = {value.strip() for value in attribute.values}
    allowed = {NOMINAL: values.__contains__, NUMERIC: _is_number}.get(attribute.kind)
    wrong = next((cell for cell in cells.distinct if cell and allowed and not allowed(cell)), None)
    if wrong is None:
        return
    row = first_row(cells.where(wrong.__eq__))
    said = f"one of {_listed(sorted(values))}" if attribute.kind == NOMINAL else "a number"
    raise rejection(
        "InputParseError",
        f"Column {attribute.name!r}, row {row}: {wrong!r}, but the ARFF declares the column as {attribute.kind}; "
        f"expected {said}, or ? for no value.",
        target=attribute.name,
    )


def _is_number(text: str) -> bool:
    try:
        float(text)  # NaN is none for a model, but a number to whoever writes ARFF
    except ValueError:
        return False
    return True


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
    rows = (row for row in reader if row and (len(row) == width or any(map(str.strip, row))))
    size = max(1, min(_CHUNK, _CHUNK_CELLS // max(1, width)))
    while chunk := list(islice(rows, size)):
        yield chunk


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
