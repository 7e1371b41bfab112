"""Columns whose kind is decided, as numbers or as categories: converted as a whole, not cell by cell."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_azureml_classic.tables.spelling import NumberRule, category_key, parse_number, spellings
from airflow_provider_azureml_classic.tables.table import Encoded, as_dictionary, encoded, indices

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy import bool_, float64, int64
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Numbers:
    """A column read as numbers.

    :param values: one a row; NaN where there is no value.
    :param wrong: positions of the rows whose cell is no finite number; their values are NaN.
    """

    values: NDArray[float64]
    wrong: NDArray[int64]


def numbers(column: pa.ChunkedArray, rule: NumberRule) -> Numbers:
    """A column read as numbers.

    :param column: see :class:`~.table.Table`.
    :param rule: how its cells are read.
    """
    import numpy as np
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        return _of_dictionary(column, rule)
    convert = _texts if pa.types.is_string(column.type) else _plain
    parts = [convert(chunk, rule) for chunk in column.chunks]
    if not parts:
        return Numbers(np.array([]), np.array([], np.int64))
    values, wrong = (np.concatenate(part) if len(part) > 1 else part[0] for part in zip(*parts, strict=True))
    return Numbers(values, np.flatnonzero(wrong))


_Part = tuple["NDArray[float64]", "NDArray[bool_]"]


def _of_dictionary(column: pa.ChunkedArray, rule: NumberRule) -> Numbers:
    import numpy as np

    column = as_dictionary(column)
    if not column.num_chunks:
        return Numbers(np.array([]), np.array([], np.int64))
    values, wrong = _texts(column.chunk(0).dictionary, rule)
    # The last one is for cells without a value.
    values, wrong = np.append(values, np.nan), np.append(wrong, False)
    every = np.concatenate([indices(chunk) for chunk in column.chunks])
    return Numbers(values[every], np.flatnonzero(wrong[every]) if wrong.any() else np.array([], np.int64))


def _plain(chunk: pa.Array, rule: NumberRule) -> _Part:
    """Numbers of a file that has numbers."""
    import numpy as np

    values = chunk.to_numpy(zero_copy_only=False).astype(np.float64)
    if rule.numbers_missing:
        values = np.where(np.isin(values, [float(text) for text in rule.missing if _is_plain(text)]), np.nan, values)
    wrong = np.isinf(values)
    return np.where(wrong, np.nan, values), wrong


def _is_plain(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _texts(cells: pa.StringArray, rule: NumberRule) -> _Part:
    """Numbers of texts: as the library reads them at once; where it cannot, without blanks and signs of no value; and
    where that is not enough, each different text by the rule for single cells."""
    import pyarrow as pa

    if rule.decimal == "." and not rule.numbers_missing:
        try:
            return _checked(cells, cells, rule)
        except pa.ArrowInvalid:
            pass
    try:
        return _checked(cells, _bare(cells, rule), rule)
    except pa.ArrowInvalid:
        return _one_by_one(cells, rule)


def _checked(cells: pa.StringArray, bare: pa.StringArray, rule: NumberRule) -> _Part:
    """The numbers of bare texts; what is not finite is looked at again."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    values = pc.cast(bare, pa.float64()).to_numpy(zero_copy_only=False)
    wrong = np.zeros(len(values), bool)
    odd = np.flatnonzero(~np.isfinite(values))
    if len(odd) > bare.null_count:
        values = values.copy()
        for row in odd.tolist():
            value = rule.number(cells[row].as_py())
            wrong[row], values[row] = value is None, math.nan if value is None else value
    return values, wrong


def _bare(cells: pa.StringArray, rule: NumberRule) -> pa.StringArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = pc.utf8_trim_whitespace(cells)
    missing = pc.is_in(texts, value_set=pa.array(sorted(rule.missing), pa.string()))
    texts = pc.if_else(missing, pa.scalar(None, pa.string()), texts)
    if rule.decimal == ".":
        return texts
    # A point is no decimal sign here; two of them are no number.
    return pc.replace_substring(pc.replace_substring(texts, ".", ".."), rule.decimal, ".")


def _one_by_one(cells: pa.StringArray, rule: NumberRule) -> _Part:
    import numpy as np

    column = cells.dictionary_encode()
    found = [rule.number(cell) for cell in column.dictionary.to_pylist()]
    values = np.array([*(math.nan if value is None else value for value in found), math.nan])
    wrong = np.array([*(value is None for value in found), False])
    codes = indices(column)
    return values[codes], wrong[codes]


def categories(
    column: pa.ChunkedArray,
    missing: Iterable[str] = (),
    known: Iterable[str] = (),
    key: Callable[[str], str] = category_key,
) -> Encoded:
    """A column read as categories: cells that differ in their spelling only are one.

    :param column: see :class:`~.table.Table`.
    :param missing: texts that mean "no value".
    :param known: categories of earlier data, in whose spelling they stay.
    :param key: what cells of one category have in common.
    """
    return merged(encoded(column), missing, known, key)


def merged(
    column: Encoded,
    missing: Iterable[str] = (),
    known: Iterable[str] = (),
    key: Callable[[str], str] = category_key,
) -> Encoded:
    """The same of a column that is encoded by its texts.

    :param column: with all texts that differ.
    :param missing: see :func:`categories`, also for ``known`` and ``key``.
    """
    absent = frozenset(missing)
    names = spellings((cell for cell in column.cells if cell not in absent), known, key)
    position = {one: code for code, one in enumerate(names)}
    return Encoded(list(names.values()), recoded(column, lambda c: -1 if c in absent else position[key(c)]))


def recoded(column: Encoded, code: Callable[[str], float]) -> Any:
    """Another number for each row's cell; -1 stays where there is no value.

    :param column: encoded.
    :param code: asked once for each different cell.
    """
    import numpy as np

    places = np.array([*map(code, column.cells), -1], np.int32)
    return places[column.codes]


def days(column: Encoded, missing: Iterable[str], day: Callable[[str], float | None]) -> Numbers:
    """A column read as dates.

    :param column: encoded.
    :param missing: texts that mean "no value".
    :param day: the number of a cell, ``None`` if it is no date.
    """
    import numpy as np

    absent = frozenset(missing)
    found = [math.nan if cell in absent else day(cell) for cell in column.cells]
    values = np.array([*(math.nan if value is None else value for value in found), math.nan])
    wrong = np.array([*(value is None for value in found), False])
    return Numbers(values[column.codes], np.flatnonzero(wrong[column.codes]))


def with_points(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column in which numbers with a decimal comma are spelled with a point; other texts stay as they are.

    :param column: of texts, of a file in which commas are decimal.
    """
    import pyarrow as pa

    different = encoded(column)
    cells = [cell.replace(",", ".") if parse_number(cell, ",") is not None else cell for cell in different.cells]
    codes = pa.array(different.codes, mask=different.codes < 0)
    return pa.chunked_array([pa.DictionaryArray.from_arrays(codes, pa.array(cells, pa.string())).cast(pa.string())])
