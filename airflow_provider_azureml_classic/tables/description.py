"""What a person should see of each column before a model is trained: its kind, its range, and what is odd about it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING

from airflow_provider_azureml_classic.tables import dates
from airflow_provider_azureml_classic.tables.kinds import (
    BOOLEAN,
    DATE,
    MISSING,
    NUMBER,
    UNDECIDED,
    Decision,
    Kind,
    read_categories,
    read_numbers,
)
from airflow_provider_azureml_classic.tables.spelling import NO_VALUE, SHOWN, truth
from airflow_provider_azureml_classic.tables.table import Encoded, Table
from airflow_provider_azureml_classic.tables.thousands import first_like, group_in, grouped_cells, spelled_cells

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

#: Fewer rows than this do not tell an identifier.
_TELLING = 20
#: Fewer different numbers than this do not tell which is far from the others.
_FEW = 5
#: Share of rows with a cell of their own from which on a column looks like an identifier.
_UNIQUE = 0.95
#: Widest cell of a printed table.
_WIDEST = 24
_DATE = re.compile(
    r"(\d{4}([/.-])\d{1,2}(\2\d{1,2})?|\d{1,2}([/.-])\d{1,2}\4(\d{4}|\d{2})|\d{4}-?W\d\d?(-\d)?|\d{4}[ -]?Q[1-4]|"
    r"([^\W\d]{3},? )?\d{1,2}\.?[ -]?[^\W\d]{3,9}\.?,?[ -]?(\d{4}|\d{2})(:\d\d:\d\d:\d\d)?|"
    r"\d{4}年\d{1,2}月(\d{1,2}日)?|"
    r"([^\W\d]{3} )?[^\W\d]{3,9}\.? +\d{1,2}(,| \d\d:\d\d:\d\d) \d{4}|[^\W\d]{3}-\d{2})([ T].*)?",
    re.DOTALL,
)
_TIME = re.compile(r"\d{1,4}:[0-5]\d(:[0-5]\d([.,]\d+)?)?( ?[AaPp]\.?[Mm]\.?)?")
#: Cells that are numbers or texts for other programs than this one.
_HEXADECIMAL, _FORMULA = re.compile("[+-]?0[xX][0-9a-fA-F]+"), re.compile('="?.*"?', re.DOTALL)
_SUM = re.compile("(grand |sub)?totals?|sum(me)?|somme|suma", re.IGNORECASE)
#: A number with what it is measured in behind it; more different units are parts of a code.
_UNIT = re.compile(r"[+-]?\d[\d.,]*\s*([^\d\s.,:/-][^\d:/-]{0,11})")
_UNITS = 3
_CODE = r"^\s*[+-]?0\d"
#: Whole numbers that no 64-bit integer holds, and what is said of such as no 64-bit float tells from its neighbours.
_LONG = r"^\s*[+-]?\d{20,}\s*$"
_TOO_EXACT = 'has whole numbers beyond 2^53, where neighbours are one number: declare kind = "text", or ignore it'
#: What many programs write for no value into columns of numbers.
_NINES = re.compile("-?9{3,}")
_SAMPLE = 200
#: So many different texts are looked at for such as differ in their spelling only: more are no categories.
_RESPELLED_AMONG = 10_000
THREE_DECIMALS = "has three decimals or none"
_MIXED, _RESPELLED, _ENDS = (
    "mixes spellings of truth values",
    "has texts that differ in their spelling only",
    "ends with",
)
#: How notes begin of columns whose values are no others each time, as those of identifiers and dates are.
ORDINARY = (THREE_DECIMALS, _MIXED, _RESPELLED, _ENDS, "has -9", "has 9")
_OWN_TEXTS = "looks like an identifier, or text of its own in each row"
#: What is to be done about what is odd; a label is not ignored.
_IGNORE, _ASKED = "ignore it unless it tells something", "is this the column to be predicted?"
#: Moments as whole seconds since 1970, from 2001 to 2033.
_SECONDS = (1e9, 2e9)
#: Largest whole number to which a 64-bit number has all neighbours.
_EXACT = 2.0**53
_DATES = (19_000_101, 21_001_231)


@dataclass(frozen=True)
class Description:
    """One column of a table, for people.

    :param column: its name.
    :param kind: see :mod:`~.tables.kinds`.
    :param missing: rows without a value.
    :param distinct: different values.
    :param smallest: of numbers and dates; the first of texts.
    :param largest: of numbers and dates; the last of texts.
    :param example: the first value.
    :param note: what should be looked at; a problem, if there is one.
    """

    column: str
    kind: str
    missing: int = 0
    distinct: int = 0
    smallest: str = ""
    largest: str = ""
    example: str = ""
    note: str = ""


def describe(
    table: Table, decision: Decision, missing: Collection[str] = MISSING, label: str | None = None
) -> list[Description]:
    """What there is to be seen of each column that was decided.

    :param table: all rows.
    :param decision: of its columns.
    :param missing: texts that mean "no value" in all columns.
    :param label: the column that is predicted, which cannot be ignored: other notes are made of it.
    """
    return [_describe(table, name, kind, decision, missing, name == label) for name, kind in decision.kinds.items()]


def _describe(
    table: Table, name: str, kind: Kind, decision: Decision, missing: Collection[str], label: bool
) -> Description:
    if name not in table.columns:
        return Description(name, str(kind.kind), note="the data has no such column")
    if name in decision.problems:
        return Description(name, str(kind.kind), example=_example(table, name), note=decision.problems[name].message)
    if kind.kind in (NUMBER, DATE):
        return _of_numbers(table, name, kind, decision, missing, label)
    if kind.kind == UNDECIDED:
        note = "has no value; its kind is decided when the first ones come. Declare kind, or ignore it"
        return Description(name, UNDECIDED, table.rows, note=note)
    return _of_texts(table, name, kind, decision, missing, label)


def _of_numbers(
    table: Table, name: str, kind: Kind, decision: Decision, missing: Collection[str], label: bool
) -> Description:
    import numpy as np

    values = read_numbers(table, name, kind, decision.decimal, missing)
    there = values[~np.isnan(values)]
    distinct = np.unique(there)
    ends = [_spelled(value, kind) for value in (distinct[[0, -1]] if len(distinct) else ())]
    smallest, largest = ends or ("", "")
    note = decision.notes.get(name, "")
    if kind.kind == NUMBER:
        sign = kind.decimal or decision.decimal
        note = note or _code_note(table, name) or _group_note(table, name, sign) or _number_note(there, distinct, label)
    elif "%y" in (kind.date_format or "") and not note:
        note = f"has years of two digits, read as those from {smallest[:4]} to {largest[:4]}"
    absent = len(values) - len(there)
    return Description(
        name, str(kind.kind), absent, len(distinct), smallest, largest, _example(table, name, kind, missing), note
    )


def _spelled(value: float, kind: Kind) -> str:
    if kind.kind == DATE:
        return dates.spelled(float(value))
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e16 else repr(float(value))


def _code_note(table: Table, name: str) -> str:
    """For digits that are no number: 00358 of a postal code is 358 as a number."""
    code = first_like(spelled_cells(table, name), _CODE)
    if code:
        return f'has leading zeros ({_cut(code)}): declare kind = "text" if it is a code'
    return _TOO_EXACT if first_like(spelled_cells(table, name), _LONG) else ""


def _group_note(table: Table, name: str, sign: str) -> str:
    """For 12.345 in a file whose cells no comma separates: it may be 12345."""
    cells = grouped_cells(table, name, sign) if table.origin.delimiter in ("\t", ";", "|") else None
    if cells is None:
        return ""
    other = "," if sign == "." else "."
    return f'{THREE_DECIMALS} ({group_in(cells, sign)}): declare decimal = "{other}" if they are thousands'


def _number_note(values: NDArray[float64], distinct: NDArray[float64], label: bool) -> str:
    import numpy as np

    sentinel = _far_nines(distinct)
    if sentinel:
        return f'has {sentinel}, far from its other numbers: declare missing = ["{sentinel}"] if it means no value'
    if len(values) < _TELLING or not (np.floor(distinct) == distinct).all():
        return ""
    low, high = distinct[0], distinct[-1]
    if not label and _EXACT < max(-low, high) < _EXACT * 2**11:
        return _TOO_EXACT
    if _DATES[0] <= low and high <= _DATES[1] and all(map(_is_date, distinct[:_SAMPLE].tolist())):
        advice = 'declare kind = "date" with date_format = "%Y%m%d", or ignore it'
        return f"looks like dates (yyyymmdd): {_ASKED if label else advice}"
    for factor, unit in ((1, "seconds"), (1000, "milliseconds"), (1_000_000, "microseconds")):
        if _SECONDS[0] * factor <= low and high <= _SECONDS[1] * factor and len(distinct) > _TELLING:
            return f"looks like moments in {unit} since 1970"
    if len(distinct) == len(values) and high - low + 1 == len(values):
        return f"looks like a row number: {_ASKED if label else _IGNORE}"
    # Prices and counts are of their own in each row, too: a label is often one.
    if not label and len(distinct) >= _UNIQUE * len(values) and high >= 1e5 and low >= 0:
        return f"looks like an identifier: {_IGNORE}"
    return ""


def _far_nines(distinct: NDArray[float64]) -> str:
    """A number such as -999 that is further from all others than they are from one another; empty: none."""
    if len(distinct) < _FEW:
        return ""
    below, above = distinct[1] - distinct[0], distinct[-1] - distinct[-2]
    for number, gap, width in (
        (distinct[0], below, distinct[-1] - distinct[1]),
        (distinct[-1], above, distinct[-2] - distinct[0]),
    ):
        if gap > width and _NINES.fullmatch(text := _spelled(number, Kind(NUMBER))):
            return text
    return ""


def _is_date(number: float) -> bool:
    text = str(int(number))
    return dates.parse_time(text, "%Y%m%d") is not None


def _of_texts(
    table: Table, name: str, kind: Kind, decision: Decision, missing: Collection[str], label: bool
) -> Description:
    import numpy as np

    column = read_categories(table, name, kind, usual=missing)
    absent = int(np.count_nonzero(column.codes < 0))
    ends = (min(column.cells), max(column.cells)) if column.cells else ("", "")
    note = decision.notes.get(name, "") or (
        "" if kind.kind == BOOLEAN else _text_note(column, table.rows - absent, label)
    )
    example = _example(table, name, kind, missing)
    return Description(name, str(kind.kind), absent, len(column.cells), _cut(ends[0]), _cut(ends[1]), example, note)


def _text_note(column: Encoded, rows: int, label: bool) -> str:
    cells = column.cells
    note = _form_note(cells[:_SAMPLE], label)
    units = [_UNIT.fullmatch(cell) for cell in cells]
    if not note and len(cells) > _TELLING and all(units) and len({unit[1] for unit in units if unit}) <= _UNITS:
        return f"is a text, for what stands around its numbers ({_cut(cells[0])}): write the numbers alone"
    if not note and rows >= _TELLING and len(cells) >= _UNIQUE * rows:
        return f"has a label of its own in each row: {_ASKED}" if label else f"{_OWN_TEXTS}: {_IGNORE}"
    signs = sorted(NO_VALUE.intersection(cells))
    absent = f"{signs[0]} is a text here; if it means no value, declare missing" if signs else ""
    return note or _spelling_note(cells, "class" if label else "category") or _sum_note(column) or absent


def _form_note(cells: Sequence[str], label: bool) -> str:
    """For texts that all have one form, which stands for something else than a text."""
    if not cells:
        return ""
    if all(map(_DATE.fullmatch, cells)):
        return f"looks like dates: {_ASKED if label else _date_advice(cells)}"
    if all(map(_TIME.fullmatch, cells)):
        return "looks like times of day or durations: write them as numbers, for example of hours, if they are amounts"
    if all(map(_HEXADECIMAL.fullmatch, cells)):
        return f"looks like hexadecimal numbers ({_cut(cells[0])}): write them in decimals if they are amounts"
    if all(map(_FORMULA.fullmatch, cells)):
        return f"is written as formulas of a spreadsheet ({_cut(cells[0])}), and calls must do so, too: write values"
    return ""


def _date_advice(cells: Sequence[str]) -> str:
    try:
        readable = dates.decide_format(cells) is not None
    except dates.AmbiguousDates:
        return 'declare kind = "date" with date_format, for example "%d/%m/%Y" or "%m/%d/%Y", or ignore it'
    return 'declare kind = "date", or ignore it' if readable else "write them as 2026-03-01, or ignore it"


def _spelling_note(cells: Sequence[str], what: str) -> str:
    """For cells that a person takes for one: Yes, yes and YES; or true and 1."""
    if len(cells) > 2 and all(truth(cell) is not None for cell in cells):
        shown = ", ".join(map(_cut, cells))
        return f'{_MIXED} ({shown}), each a {what} of its own: declare kind = "boolean"'
    known: dict[str, str] = {}
    for cell in cells[:_RESPELLED_AMONG]:
        first = known.setdefault(" ".join(unicodedata.normalize("NFKC", cell).casefold().split()), cell)
        if first is not cell:
            pair = f"{first!a:.40} and {cell!a:.40}"
            return f"{_RESPELLED} ({pair}), each a {what} of its own"
    return ""


def _sum_note(column: Encoded) -> str:
    last = column.codes[-1] if len(column.codes) else -1
    cell = column.cells[last] if last >= 0 else ""
    return f"{_ENDS} {cell!r}: remove the last row if it is a sum" if _SUM.fullmatch(cell) else ""


def _example(table: Table, name: str, kind: Kind | None = None, missing: Collection[str] = MISSING) -> str:
    absent = (kind or Kind()).missing_texts(missing)
    cells = (table.cell(name, row) for row in range(min(table.rows, 1000)))
    return _cut(next((cell for cell in cells if cell not in absent), ""))


def _cut(cell: str) -> str:
    return cell if len(cell) <= SHOWN else f"{cell[: SHOWN - 3]}..."


def lines(descriptions: Iterable[Description]) -> list[str]:
    """The table as lines of text, with a heading.

    :param descriptions: of the columns.
    """
    heading = [field.name for field in fields(Description)]
    rows = [heading, *([str(cell) for cell in astuple(description)] for description in descriptions)]
    return [line.rstrip() for line in map("  ".join, _padded([[*map(_short, row[:-1]), row[-1]] for row in rows]))]


def _short(cell: str) -> str:
    cell = " ".join(cell.split())
    return cell if len(cell) <= _WIDEST else f"{cell[: _WIDEST - 3]}..."


def _padded(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
