"""What the columns of a table are: numbers, texts, truth values or dates. Decided once, over whole columns.

A column of which nearly all cells are numbers is never silently one of texts: it is a problem that names column, row
and cell, and says what to declare. What was decided for the first data is kept as a :class:`Kind` and given to
:func:`decide` with later data, which then decides only what had no value before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.tables import dates, values
from airflow_provider_azureml_classic.tables.spelling import (
    NO_VALUE,
    TRUTH_PAIRS,
    NumberRule,
    category_key,
    dressed_number,
    fortran_number,
    is_infinite,
    listed,
    parse_number,
    shown,
    truth_key,
)
from airflow_provider_azureml_classic.tables.table import Encoded, Table

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy import float64
    from numpy.typing import NDArray

NUMBER, TEXT, BOOLEAN, DATE, IGNORE = "number", "text", "boolean", "date", "ignore"
#: A column without any value so far.
UNDECIDED = "undecided"
KINDS = (NUMBER, TEXT, BOOLEAN, DATE, IGNORE)
#: "Nearly all": from this share of its cells on a column is of the kind that they have, or is refused.
NEARLY_ALL = 0.9
#: With so few different other cells beside so many different numbers, a tenth of the cells is enough.
_SOME, _FEW, _MANY = 0.1, 3, 20
#: Share of numbers from which on a column of texts has a note.
_HALF = 0.5
#: Different cells that are looked at to find out what is wrong with a column.
_LOOKED_AT = 1000
_NO_DATE = 'is no date in the form of the others. Declare date_format, for example "%d/%m/%Y %H:%M".'
_A_NUMBER = (
    "is a number, as all cells of the column are, and not a date. Write dates and times as 2026-03-01 or "
    "2026-03-01T10:00:00, also for seconds since 1970 and for days that a spreadsheet counts."
)
#: Cells that mean "no value" in columns of texts unless something else is declared.
MISSING = ("", "NaN", "?")


@dataclass(frozen=True)
class Kind:
    """What a column is, as it is declared or decided; what is declared wins.

    :param kind: one of :data:`KINDS`, or ``undecided``; ``None`` in a declaration that leaves it open.
    :param missing: texts that mean "no value" in it beside the usual ones; ``None``: nothing is declared.
    :param decimal: the sign before the decimals, a point or a comma; ``None``: that of the file.
    :param date_format: of a date: see :func:`~.dates.check_format`; empty: ISO 8601; ``None``: not decided.
    :param dressed: whether cells such as ``$1,000`` are numbers: they are where ``number`` is declared.
    """

    kind: str | None = None
    missing: tuple[str, ...] | None = None
    decimal: str | None = None
    date_format: str | None = None
    dressed: bool = False

    def to_json(self) -> dict[str, Any]:
        """The kind as a JSON object; what is not said is left out."""
        every = {"missing": self.missing, "decimal": self.decimal, "date_format": self.date_format}
        said = {key: value for key, value in every.items() if value is not None}
        return {"kind": self.kind, **said, **({"dressed": True} if self.dressed else {})}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Kind:
        """The kind that :meth:`to_json` wrote; members that are not known are passed over.

        :param value: a JSON object.
        """
        missing = value.get("missing")
        return cls(
            kind=value.get("kind"),
            missing=None if missing is None else tuple(missing),
            decimal=value.get("decimal"),
            date_format=value.get("date_format"),
            dressed=bool(value.get("dressed")),
        )

    def missing_texts(self, usual: Iterable[str] = MISSING) -> frozenset[str]:
        """Texts that mean "no value" in the column.

        In numbers and truth values the signs of :data:`~.spelling.NO_VALUE` always do; a text ``NA`` is a text.

        :param usual: what the experiment says of all its columns.
        """
        declared = usual if self.missing is None else self.missing
        signs = NO_VALUE if self.kind in (None, NUMBER, BOOLEAN, DATE, UNDECIDED) else ()
        return frozenset(("", *declared, *signs))

    def rule(self, decimal: str = ".", usual: Iterable[str] = MISSING) -> NumberRule:
        """How its cells are read as numbers.

        :param decimal: the sign before the decimals of the file.
        :param usual: what the experiment says of all its columns.
        """
        # While a column is being decided, true and false are not taken for 1 and 0.
        return NumberRule(self.missing_texts(usual), self.decimal or decimal, self.dressed, self.kind is not None)


#: Of no column anything is known.
_NOTHING: Mapping[str, Kind] = MappingProxyType({})


def declared_kind(name: str, table: Any) -> Kind:
    """What a declaration says of a column.

    :param name: of the column, for messages.
    :param table: ``kind``, ``missing``, ``decimal`` and ``date_format``; none of them must be there.
    :raises ValueError: a key or value is wrong.
    """
    expected: dict[str, tuple[str, Callable[[Any], bool]]] = {
        "kind": (f"one of {', '.join(KINDS)}", lambda value: value in KINDS),
        "missing": ('a list of texts, for example ["-", "unknown"]', _are_texts),
        "decimal": ('"." or ","', lambda value: value in (".", ",")),
        "date_format": ('a text, for example "%d/%m/%Y"', lambda value: isinstance(value, str) and value != ""),
    }
    if not isinstance(table, Mapping):
        raise ValueError(f"column {name!r}: {shown(table)} is not a table. Expected keys: {', '.join(expected)}.")
    for key, value in table.items():
        if key not in expected:
            raise ValueError(f"column {name!r}: {key!r} is not a known key. Known keys: {', '.join(expected)}.")
        words, accepts = expected[key]
        if not accepts(value):
            raise ValueError(f"column {name!r}: {key} = {shown(value)} is wrong. It must be {words}.")
    kind, form = table.get("kind"), table.get("date_format")
    if form is not None:
        try:
            dates.check_format(form)
        except ValueError as error:
            raise ValueError(f"column {name!r}: {error}") from None
    for key, needed in (("date_format", DATE), ("decimal", NUMBER)):
        if key in table and kind not in (None, needed):
            raise ValueError(f'column {name!r}: {key} needs kind = "{needed}", but kind is "{kind}".')
    kind = kind or (DATE if form is not None else NUMBER if "decimal" in table else None)
    missing = table.get("missing")
    return Kind(kind, None if missing is None else tuple(missing), table.get("decimal"), form, kind == NUMBER)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


@dataclass(frozen=True)
class Decision:
    """The kinds of the columns of a table.

    :param kinds: by name of the column.
    :param decimal: the sign before the decimals: one for the whole file.
    :param problems: why a column cannot be used as it is, by its name; its kind is then a guess.
    :param notes: what a person should look at, by name of the column.
    """

    kinds: dict[str, Kind]
    decimal: str = "."
    problems: dict[str, AzureMLClassicError] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def check(self) -> Decision:
        """The same, if there is no problem.

        :raises RequestRejected: the first problem.
        """
        for problem in self.problems.values():
            raise problem
        return self


def decide(
    table: Table,
    names: Collection[str],
    *,
    declared: Mapping[str, Kind] | None = None,
    earlier: Mapping[str, Kind] | None = None,
    missing: Collection[str] = MISSING,
) -> Decision:
    """The kind of each column.

    :param table: all rows.
    :param names: of the columns to decide; those that the table does not have stay undecided.
    :param declared: by name of the column.
    :param earlier: what was decided for earlier data.
    :param missing: texts that mean "no value" in all columns.
    """
    known = {name: kind for name, kind in (earlier or {}).items() if kind.kind not in (None, UNDECIDED)}
    said = {name: known.get(name) or (declared or {}).get(name, Kind()) for name in names}
    there = [name for name in names if name in table.columns]
    decimal = file_decimal(table, {name: said[name] for name in there}, missing)
    _check_header(table, there)
    decision = Decision({name: replace(said[name], kind=said[name].kind or UNDECIDED) for name in names}, decimal)
    for name in there:
        _Column(table, name, said[name], decimal, missing).decide(decision)
    return decision


def _check_header(table: Table, names: Collection[str]) -> None:
    """Refuse a row that has the name of each column as its cell: several files were put together with their headers.

    :param table: all rows.
    :param names: of the columns that are there.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    for name in names:
        cells = _distinct(table.columns[name])
        if not pa.types.is_string(cells.type) or pc.index(cells, name).as_py() < 0:
            return
    columns = {name: table.encoded(name) for name in names}
    repeated = [column.codes == list(column.cells).index(name) for name, column in columns.items()]
    rows = sum(row.astype(int) for row in repeated) == len(repeated) if len(repeated) > 1 else None
    if rows is not None and rows.any():
        number = table.number_of(int(rows.argmax()))
        raise rejection("InputParseError", f"Data row {number} repeats the header row. Remove it from the file.")


def file_decimal(tables: Table | Iterable[Table], kinds: Mapping[str, Kind], missing: Collection[str] = MISSING) -> str:
    """The sign before the decimals of a file: a comma if more of its columns of numbers have commas than points.

    :param tables: all rows of the file, or its blocks.
    :param kinds: what is known of columns; those of texts, and those that the file does not have, tell nothing.
    :param missing: texts that mean "no value" in all columns.
    """
    commas: set[str] = set()
    points: set[str] = set()
    delimiter = ""
    for table in [tables] if isinstance(tables, Table) else tables:
        delimiter = table.origin.delimiter
        there = {name: kind for name, kind in kinds.items() if name in table.columns}
        numeric = {name: kind for name, kind in there.items() if kind.kind in (None, NUMBER, UNDECIDED)}
        commas.update(n for n, kind in numeric.items() if not kind.decimal and _has_commas(table, n, kind, missing))
        for name in numeric.keys() - points:
            # Only beside commas it matters whether what has a point is a number.
            if _has_point(table.columns[name]) and (not commas or _has_points(table, name, kinds[name], missing)):
                points.add(name)
    if not commas:
        return "."
    return "," if len(commas) > len(points) or (len(commas) == len(points) and delimiter == ";") else "."


def comma_columns(
    table: Table, missing: Collection[str] = MISSING, known: Mapping[str, Kind] = _NOTHING
) -> frozenset[str]:
    """Columns of numbers with decimal commas; a cell ``1,5`` among texts is a text.

    :param table: all rows of a file.
    :param missing: texts that mean "no value" in all columns.
    :param known: kinds of columns, which the cells of others are looked at to find out.
    """
    kinds = {name: known.get(name, Kind()) for name in table.names}
    if file_decimal(table, kinds, missing) != ",":
        return frozenset()
    found = decide(table, table.names, earlier=known, missing=missing).kinds
    return frozenset(name for name, kind in found.items() if kind.kind == NUMBER)


def _has_commas(table: Table, name: str, kind: Kind, missing: Collection[str]) -> bool:
    """Whether nearly all cells of a column are numbers, if commas are decimal, and some have one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = table.columns[name]
    texts = pa.types.is_string(column.type) or pa.types.is_dictionary(column.type)
    if not texts or not pc.any(pc.match_substring(_distinct(column), ",")).as_py():
        return False
    encoded = table.encoded(name)
    absent = kind.missing_texts(missing)
    counts = dict(zip(encoded.cells, encoded.counts().tolist(), strict=True))
    there = {cell: count for cell, count in counts.items() if cell not in absent}
    numbers = {cell: count for cell, count in there.items() if parse_number(cell, ",") is not None}
    with_comma = [cell for cell in numbers if "," in cell]
    # 1,000 may be a thousand: where commas separate cells it is.
    grouped = table.origin.delimiter != ";" and all(dressed_number(cell) is not None for cell in with_comma)
    return bool(with_comma) and not grouped and sum(numbers.values()) >= NEARLY_ALL * sum(there.values())


def _distinct(column: pa.ChunkedArray) -> Any:
    import pyarrow as pa

    return column.unify_dictionaries().chunk(0).dictionary if pa.types.is_dictionary(column.type) else column


def _has_point(column: pa.ChunkedArray) -> bool:
    """Whether any cell of a column has a point."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_floating(column.type):
        return True
    return not pa.types.is_integer(column.type) and bool(pc.any(pc.match_substring(_distinct(column), ".")).as_py())


def _has_points(table: Table, name: str, kind: Kind, missing: Collection[str]) -> bool:
    """Whether nearly all cells of a column are numbers, if points are decimal."""
    found = values.numbers(table.columns[name], kind.rule(".", missing))
    good, wrong = _good(found), len(found.wrong)
    return good >= NEARLY_ALL * (good + wrong)


def _good(numbers: values.Numbers) -> int:
    import numpy as np

    return int(np.count_nonzero(~np.isnan(numbers.values)))


class _Column:
    """One column that is being decided."""

    def __init__(self, table: Table, name: str, said: Kind, decimal: str, missing: Collection[str]) -> None:
        self._table = table
        self._name = name
        self._said = said
        self._rule = said.rule(decimal, missing)
        self._missing = missing

    def decide(self, decision: Decision) -> None:
        """Add what the column is to a decision."""
        if self._said.kind == DATE and self._said.date_format is None:
            self._decide_date(decision)
        if self._said.kind is not None:
            return
        kind = self._at_once()
        if kind is None:
            kind = self._one_by_one(decision)
        decision.kinds[self._name] = replace(self._said, kind=kind)

    def _at_once(self) -> str | None:
        """What a column is that is not known to repeat its cells, if all of them are numbers."""
        import pyarrow as pa

        column = self._table.columns[self._name]
        if pa.types.is_dictionary(column.type):
            return None
        numbers = values.numbers(column, self._rule)
        if len(numbers.wrong):
            return None
        return NUMBER if _good(numbers) else UNDECIDED

    def _one_by_one(self, decision: Decision) -> str:
        """What a column is, by its different cells."""
        tally = _Tally(dict(self._cells()), self._rule)
        if not tally.others:
            return NUMBER if tally.numbers else UNDECIDED
        if not tally.numbers and _are_truths(tally.others):
            return BOOLEAN
        if _are_truths_and_bits(tally):
            decision.notes[self._name] = f"mixes spellings of truth values ({listed(self._encoded.cells, 5)})"
            return BOOLEAN
        problem, note = self._mixed(tally)
        if problem:
            decision.problems[self._name] = problem
        elif note:
            decision.notes[self._name] = note
        return NUMBER if problem else TEXT

    def _cells(self) -> Iterator[tuple[str, int]]:
        """Different cells that have a value, and how many rows have each."""
        column = self._encoded
        absent = self._said.missing_texts(self._missing)
        return (pair for pair in zip(column.cells, column.counts().tolist(), strict=True) if pair[0] not in absent)

    @property
    def _encoded(self) -> Encoded:
        return self._table.encoded(self._name)

    def _decide_date(self, decision: Decision) -> None:
        cells = [cell for cell, _ in self._cells()]
        try:
            form = dates.decide_format(cells) if cells else None
        except dates.AmbiguousDates as error:
            decision.problems[self._name] = self._ambiguous(error)
            return
        if cells and form is None:
            wrong = next((cell for cell in cells if dates.parse_time(cell) is None), cells[0])
            numbers = all(parse_number(cell) is not None for cell in cells)
            decision.problems[self._name] = self._problem(wrong, _A_NUMBER if numbers else _NO_DATE)
        decision.kinds[self._name] = replace(self._said, kind=DATE, date_format=form)

    def _ambiguous(self, error: dates.AmbiguousDates) -> AzureMLClassicError:
        return self._problem(error.cell, f'{error.message}. Declare date_format, for example "%d/%m/%Y" or "%m/%d/%Y".')

    def _problem(self, cell: str, message: str) -> AzureMLClassicError:
        column = self._encoded
        row = self._table.number_of(column.first(list(column.cells).index(cell)))
        return rejection(
            "InputParseError", f"Column {self._name!r}, row {row}: {shown(cell)} {message}", target=self._name
        )

    def _mixed(self, tally: _Tally) -> tuple[AzureMLClassicError | None, str]:
        """What is wrong with a column that has other cells than numbers, or what is to be noted."""
        others, good, total = tally.others, tally.good, tally.total
        looked_at = dict(islice(others.items(), _LOOKED_AT))
        for accepts, message in self._readings():
            accepted = {cell: count for cell, count in looked_at.items() if accepts(cell)}
            # As many of those that were not looked at as of those that were.
            share = good + sum(accepted.values()) * (total - good) / sum(looked_at.values())
            cell = next(iter(accepted), None)
            different = len(tally.numbers) + len(accepted)
            if cell is not None and _are_most(share, total, different, len(looked_at) - len(accepted)):
                few = accepts is not is_infinite and len(others) <= _MANY and not good
                return (None, f"{shown(cell)} {message}") if few else (self._problem(cell, message), "")
        cell = next(iter(others))
        if _are_most(good, total, len(tally.numbers), len(others)):
            return self._problem(
                cell,
                f"is not a number, as {good} of {total} cells are. If it means no value, declare "
                f'missing = ["{shown(cell)[1:-1]}"] for this column; if the column holds texts, declare kind = "text".',
            ), ""
        return None, f"{good} of {total} cells are numbers, {shown(cell)} is not" if good >= _HALF * total else ""

    def _readings(self) -> Iterator[tuple[Callable[[str], bool], str]]:
        """Cells that a person takes for numbers, and what to do about them."""
        decimal = self._rule.decimal
        other = "," if decimal == "." else "."
        yield (
            is_infinite,
            'is an infinite number, which no model can use. If it means no value, declare missing = ["inf"] for this '
            "column.",
        )
        yield (
            lambda cell: dressed_number(cell, decimal) is not None,
            "is written as spreadsheets show numbers: with a currency or percent sign, or separators of thousands. "
            'Declare kind = "number" for this column to read the number in it, or kind = "text".',
        )
        yield (
            lambda cell: fortran_number(cell) is not None,
            'is written as Fortran shows numbers, with D before the exponent. Declare kind = "number" for this column '
            'to read the number in it, or kind = "text".',
        )
        yield (
            lambda cell: parse_number(cell, other) is not None or dressed_number(cell, other) is not None,
            f'has another decimal sign than the numbers of the file. Declare decimal = "{other}" for this column, or '
            'kind = "text".',
        )


def _are_most(good: float, total: int, different: int, others: int) -> bool:
    """Whether nearly all cells of a column are numbers, or some of them beside hardly any different other cell.

    :param good: cells that are numbers.
    :param total: all cells.
    :param different: different numbers.
    :param others: different other cells.
    """
    return good >= NEARLY_ALL * total or (others <= _FEW and good >= _SOME * total and different > _MANY)


class _Tally:
    """The different cells of a column: numbers and others, with the number of rows that have them.

    :param cells: that have a value, in the order of their first rows.
    :param rule: how numbers are read.
    """

    def __init__(self, cells: Mapping[str, int], rule: NumberRule) -> None:
        self.numbers = {cell: count for cell, count in cells.items() if rule.text(cell) is not None}
        self.others = {cell: count for cell, count in cells.items() if cell not in self.numbers}
        self.good = sum(self.numbers.values())
        self.total = self.good + sum(self.others.values())


def _are_truths_and_bits(tally: _Tally) -> bool:
    """Whether a column has true or yes beside 1 and 0, which are truth values then, too."""
    words = {cell.lower() for cell in tally.others}
    if tally.good >= NEARLY_ALL * tally.total:
        return False
    return any(words <= set(pair) for pair in TRUTH_PAIRS[:2]) and {*map(category_key, tally.numbers)} <= {"0", "1"}


def _are_truths(cells: Iterable[str]) -> bool:
    words = {cell.lower() for cell in cells}
    return any(words == set(pair) for pair in TRUTH_PAIRS) or words in ({"true"}, {"false"})


def read_numbers(
    table: Table, name: str, kind: Kind, decimal: str = ".", usual: Iterable[str] = MISSING
) -> NDArray[float64]:
    """A column of numbers or dates, one 64-bit number a row: NaN where there is no value, days since 1970 for dates.

    :param table: rows of a file.
    :param name: of the column.
    :param kind: ``number`` or ``date``.
    :param decimal: the sign before the decimals of the file.
    :param usual: texts that mean "no value" in all columns.
    :raises RequestRejected: a cell is no finite number, or no date; the message names column, row and cell.
    """
    import numpy as np

    column = table.columns[name]
    if kind.kind == DATE:
        encoded = table.encoded(name)
        found = values.days(encoded, kind.missing_texts(usual), partial(dates.days, form=kind.date_format or ""))
        wish = f"not a date in the form {kind.date_format or 'YYYY-MM-DD'}"
    else:
        found = values.numbers(column, kind.rule(decimal, usual))
        wish = "not a number (or too large)"
        if len(found.wrong) and dressed_number(table.cell(name, int(np.min(found.wrong)))) is not None:
            wish += '. Write the number alone, or declare kind = "number" for this column to read the number in it'
    if len(found.wrong):
        row = int(np.min(found.wrong))
        raise rejection(
            "InputParseError",
            f"Column {name!r}, row {table.number_of(row)}: {shown(table.cell(name, row))} is {wish}.",
            target=name,
        )
    return found.values


def read_categories(
    table: Table, name: str, kind: Kind, known: Iterable[str] = (), usual: Iterable[str] = MISSING
) -> Encoded:
    """A column of texts or truth values as its categories and their codes, -1 where there is no value.

    :param table: rows of a file.
    :param name: of the column.
    :param kind: ``text`` or ``boolean``.
    :param known: categories of earlier data, in whose spelling they stay.
    :param usual: texts that mean "no value" in all columns.
    """
    key = truth_key if kind.kind == BOOLEAN else category_key
    return values.categories(table.columns[name], kind.missing_texts(usual), known, key)
