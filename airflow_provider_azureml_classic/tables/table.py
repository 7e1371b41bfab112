"""The rows of a file, or a block of them: columns of texts, in which nothing has been decided yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from airflow_provider_azureml_classic.protocol.arff import Attribute
from airflow_provider_azureml_classic.tables.spelling import shown

if TYPE_CHECKING:
    from numpy import int32, intp
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Origin:
    """What is decided for a file as a whole.

    :param title: the format, for messages: ``CSV``, ``TSV``, ``ARFF`` or ``Parquet``.
    :param names: of all its columns, also of those that are not kept.
    :param delimiter: between cells of CSV and TSV.
    :param encoding: of a text file.
    :param declared: columns of which the file itself says what they hold (ARFF).
    :param word: a word of the file that shows how its encoding was guessed; empty: it was not.
    """

    title: str
    names: tuple[str, ...] = ()
    delimiter: str = ""
    encoding: str = ""
    declared: Mapping[str, Attribute] = field(default_factory=lambda: MappingProxyType({}))
    word: str = ""

    @property
    def note(self) -> str:
        """What was guessed of the file, as a sentence; empty: nothing."""
        if not self.word:
            return ""
        return (
            f"The {self.title} is not UTF-8; it was read as Windows-1252, for example {shown(self.word)}. "
            "If that is not what it says, declare 'encoding'."
        )


@dataclass(frozen=True)
class Encoded:
    """A column as its different cells and one number a row.

    :param cells: the different cells, without blanks around them; an empty cell is none of them.
    :param codes: for each row the position of its cell, -1 where it is empty.
    """

    cells: Sequence[str]
    codes: NDArray[int32]

    def first(self, code: int) -> int:
        """Position of the first row that has a cell.

        :param code: the position of the cell.
        """
        return int((self.codes == code).argmax())

    def counts(self) -> NDArray[intp]:
        """How many rows have each cell."""
        import numpy as np

        return np.bincount(self.codes + 1, minlength=len(self.cells) + 1)[1:]


class Table:
    """Rows of a file.

    :param origin: of the file.
    :param columns: a ``pyarrow.ChunkedArray`` by name, in the order of the file: of strings, dictionary-encoded or not,
        in which an empty cell is null; of numbers where the file has numbers (Parquet).
    :param rows: how many there are.
    :param before: how many rows of the file come before these.
    """

    def __init__(self, origin: Origin, columns: dict[str, Any], rows: int, before: int = 0) -> None:
        self.origin = origin
        self.columns = columns
        self.rows = rows
        self.before = before

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self.columns)

    def encoded(self, name: str) -> Encoded:
        """A column as its different cells.

        :param name: of the column.
        """
        return encoded(self.columns[name])

    def cell(self, name: str, row: int) -> str:
        """One cell, without blanks around it.

        :param name: of the column.
        :param row: its position in this table.
        """
        value = self.columns[name][row].as_py()
        return "" if value is None else str(value).strip()

    def number_of(self, row: int) -> int:
        """The number of a data row in its file, counted from 1.

        :param row: its position in this table.
        """
        return self.before + row + 1


def encoded(column: Any) -> Encoded:
    """A column as its different cells.

    :param column: a ``pyarrow.ChunkedArray``; see :class:`Table`.
    """
    import numpy as np

    column = as_dictionary(column)
    if not column.num_chunks:
        return Encoded([], np.array([], np.int32))
    cells, place = _stripped(column.chunk(0).dictionary.to_pylist())
    codes = np.empty(len(column), np.int32)
    start = 0
    for chunk in column.chunks:
        codes[start : start + len(chunk)] = indices(chunk)
        start += len(chunk)
    if place is not None:
        codes = np.append(place, np.int32(-1))[codes]
    return Encoded(cells, codes)


def _stripped(cells: list[str | None]) -> tuple[list[str], NDArray[int32] | None]:
    """Different cells without blanks around them, and the new position of each if that is another one."""
    import numpy as np

    if all(cell is not None and cell and not cell[0].isspace() and not cell[-1].isspace() for cell in cells):
        return [cell for cell in cells if cell is not None], None
    known: dict[str, int] = {}
    place = [known.setdefault(text, len(known)) if (text := (cell or "").strip()) else -1 for cell in cells]
    return list(known), np.array(place, np.int32)


def indices(chunk: Any) -> NDArray[int32]:
    """The positions of a chunk's cells in its dictionary; -1 where there is none.

    :param chunk: a ``pyarrow.DictionaryArray``.
    """
    found = chunk.indices.fill_null(-1) if chunk.indices.null_count else chunk.indices
    numbers: NDArray[int32] = found.to_numpy(zero_copy_only=False)
    return numbers


def as_dictionary(column: Any) -> Any:
    """A column with one dictionary of texts for all its chunks.

    :param column: a ``pyarrow.ChunkedArray``.
    """
    import pyarrow as pa

    if not pa.types.is_dictionary(column.type):
        column = as_texts(column).dictionary_encode()
    return column.unify_dictionaries()


def as_texts(column: Any) -> Any:
    """A column whose numbers, if it has any, are spelled; NaN is no value.

    :param column: a ``pyarrow.ChunkedArray``.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_string(column.type) or pa.types.is_dictionary(column.type):
        return column
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    return column.cast(pa.string())
