"""Whether the decimal sign of a column separates thousands: 1.000 is one where numbers have decimals, else a thousand.

Nothing in a cell tells. A column tells if any of its cells is neither without the sign nor has three digits behind it;
else what is known of earlier data does.
"""

from __future__ import annotations

from typing import Any

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.tables.spelling import parse_number, shown
from airflow_provider_azureml_classic.tables.table import Table, as_dictionary

#: Cells of a column in which a decimal sign may separate thousands: it has three digits behind it wherever it stands.
_GROUPED, _GROUP = (
    r"^[^0-9]*$|^\s*[+-]?([0-9]{{1,3}}|[1-9][0-9]{{0,2}}[{0}][0-9]{{3}})\s*$",
    r"[0-9][{0}][0-9]{{3}}\s*$",
)
_WHOLE, _EVEN = r"^\s*[+-]?[0-9]+\s*$", r"0\s*$"
#: So many times the range of earlier data is where later data are expected.
_WIDER = 2.0
#: Different cells that are looked at.
_LOOKED_AT = 1000


def spelled_cells(table: Table, name: str) -> Any:
    """The cells of a column, or its different ones; ``None`` for one of a file that has numbers.

    :param table: rows of a file.
    :param name: of the column.
    """
    import pyarrow as pa

    column = table.columns[name]
    if pa.types.is_dictionary(column.type):
        column = as_dictionary(column).chunk(0).dictionary if column.num_chunks else None
    return column if column is not None and pa.types.is_string(column.type) else None


def first_like(cells: Any, pattern: str) -> str:
    """The first cell that a regular expression finds something in; empty: none.

    :param cells: see :func:`spelled_cells`.
    :param pattern: the regular expression.
    """
    import pyarrow.compute as pc

    place = -1 if cells is None else pc.index(pc.match_substring_regex(cells, pattern), True).as_py()
    return cells[place].as_py().strip() if place >= 0 else ""


def grouped_cells(table: Table, name: str, sign: str) -> Any:
    """The cells of a column in which the decimal sign may separate thousands; ``None`` if it does not.

    :param table: rows of a file.
    :param name: of the column.
    :param sign: before the decimals.
    """
    import pyarrow.compute as pc

    cells = spelled_cells(table, name)
    # Most columns have no such cell, or say at their beginning that the sign is a decimal one.
    if cells is None or not pc.any(pc.match_substring(cells, sign)).as_py():
        return None
    form = _GROUPED.format(sign)
    every = (pc.all(pc.match_substring_regex(part, form)).as_py() is not False for part in (cells[:1000], cells))
    return cells if all(every) and first_like(cells, _GROUP.format(sign)) else None


def group_in(cells: Any, sign: str) -> str:
    """The first cell that may be a number of thousands.

    :param cells: see :func:`grouped_cells`.
    :param sign: before the decimals.
    """
    return first_like(cells, _GROUP.format(sign))


def check_thousands(table: Table, name: str, sign: str, ends: tuple[float | None, float | None]) -> str:
    """Refuse a column of later data whose numbers are 1000 times too small if its sign is a decimal one.

    :param table: rows of a file.
    :param name: of a column of numbers.
    :param sign: before the decimals.
    :param ends: the smallest and the largest number of earlier data, as far as they are known.
    :return: what is to be noted where both may be meant; empty: nothing.
    :raises RequestRejected: naming column, row and cell.
    """
    import pyarrow.compute as pc

    cells = grouped_cells(table, name, sign)
    if cells is None:
        return ""
    groups = pc.unique(cells.filter(pc.match_substring(cells, sign)))[:_LOOKED_AT].to_pylist()
    numbers = [number for cell in groups if (number := parse_number(cell, sign)) is not None]
    fitting, thousand = (_fits([factor * number for number in numbers], ends) for factor in (1, 1000))
    # Who writes 1.500 beside 12 writes a zero that a decimal sign does not need.
    mixed = first_like(cells, _WHOLE) and first_like(pc.filter(cells, pc.match_substring(cells, sign)), _EVEN)
    if thousand and (not fitting or mixed):
        raise _doubt(table, name, group_in(cells, sign), ends)
    # Where nothing is known of earlier data, cells without separators say how the file is written.
    if not thousand or (None in ends and table.origin.delimiter == ","):
        return ""
    cell, number = group_in(cells, sign), parse_number(group_in(cells, sign), sign)
    return f"Column {name!r}: {shown(cell)} and the like were read as {number:g}; if they are thousands, write 1000."


def _fits(numbers: list[float], ends: tuple[float | None, float | None]) -> bool:
    """Whether most numbers are about where those of earlier data are; they are where nothing is known."""
    low, high = ends
    if low is None or high is None:
        return True
    low, high = min(low / _WIDER, low * _WIDER), max(high / _WIDER, high * _WIDER)
    return 2 * sum(low <= number <= high for number in numbers) >= len(numbers)


def _doubt(table: Table, name: str, cell: str, ends: tuple[float | None, float | None]) -> AzureMLClassicError:
    column = table.encoded(name)
    row = table.number_of(column.first(list(column.cells).index(cell)))
    earlier = "" if None in ends else f", and earlier data have {ends[0]:g} to {ends[1]:g} here"
    return rejection(
        "InputParseError",
        f"Column {name!r}, row {row}: {shown(cell)} may be a number of thousands{earlier}. Write numbers without "
        "separators of thousands; if it has decimals, write them all in the same way (for example 1.5, or 12.000).",
        target=name,
    )
