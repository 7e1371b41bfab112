"""Dates in a graph: texts become days since 1970, as an endpoint reads them, without any code beside the graph.

A text is split at the signs of its form, and each part is looked up in a table of all that it may be. What is in no
table, and a day that a month does not have, is no value; an endpoint refuses such a cell.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Mapping
from datetime import date
from types import MappingProxyType

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.exporting.model import Column
from airflow_provider_azureml_classic.exporting.nodes import Nodes

_EPOCH = date(1970, 1, 1).toordinal()
_NAN = float("nan")
_DIRECTIVE = re.compile("%[a-zA-Z]")
#: The form of an empty one: ISO 8601.
_ISO = "%Y-%m-%d"
#: A text that has all parts, in the row that is added to the others so that every split finds its sign.
_SAMPLE = date(2000, 1, 1)
_CLOCK = "%H:%M:%S"
#: What may stand behind the last part of a time and changes nothing.
_TAILS = ("", "Z", "+00:00", ".0", ".000", ".000Z", ".000000")
_YEARS = {f"{year:04d}": year for year in range(1, 10_000)}
# As strptime reads them: 69 is 1969, 68 is 2068.
_SHORT_YEARS = {f"{year % 100:02d}": year for year in range(1969, 2069)}


def _up_to(first: int, last: int, *, padded: bool = False) -> dict[str, int]:
    """Texts of the numbers of two digits, and those without a zero before them."""
    bare = {} if padded else {str(number): number for number in range(first, last + 1)}
    return bare | {f"{number:02d}": number for number in range(first, last + 1)}


def _names(names: Callable[[int], str]) -> dict[str, int]:
    """Names of months in English, as the POSIX locale has them."""
    return {text: month for month in range(1, 13) for text in _cased(names(month))}


def _cased(word: str) -> tuple[str, str, str]:
    return word, word.lower(), word.upper()


_MONTHS = [date(2000, month, 1).strftime("%B") for month in range(1, 13)]
_TABLES: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "%Y": _YEARS,
        "%y": _SHORT_YEARS,
        "%m": _up_to(1, 12),
        "%B": _names(lambda month: _MONTHS[month - 1]),
        "%b": _names(lambda month: _MONTHS[month - 1][:3]),
        "%d": _up_to(1, 31),
        "%H": _up_to(0, 23),
        "%M": _up_to(0, 59),
        "%S": _up_to(0, 59),
    }
)


def _days_before(month: int) -> int:
    """Days of a year before the first of a month, less the one that the day of the month counts."""
    return (date(2001, month, 1) - date(2001, 1, 1)).days - 1


class DateReader:
    """Reads one column of dates.

    :param nodes: to which its nodes are added.
    :param column: the column.
    :raises RequestRejected: the form of its dates cannot be read in a graph.
    """

    def __init__(self, nodes: Nodes, column: Column) -> None:
        self._nodes = nodes
        self._name = column.name
        self._form = column.kind.date_format or _ISO
        self._iso = not column.kind.date_format
        self._check()

    def _check(self) -> None:
        directives = _DIRECTIVE.findall(self._form)
        if not set(directives) <= set(_TABLES):
            raise self._refusal(f"of {', '.join(sorted(set(directives) - set(_TABLES)))}")
        if " " in self._form and "%H" not in self._form:
            raise self._refusal("as a blank in it looks like the one before a time of day")
        signs = _DIRECTIVE.split(self._form)
        if signs[0] or signs[-1] or not all(signs[1:-1]) or "%" in "".join(signs):
            raise self._refusal("as its parts are not separated by signs")

    def _refusal(self, reason: str) -> AzureMLClassicError:
        return rejection(
            "ModelInvalid",
            f"The column {self._name!r} has dates of the form {self._form!r}, which cannot be read in an ONNX graph "
            f"{reason}. Train a model with dates of another form, such as %Y-%m-%d, or without the column.",
            target=self._name,
        )

    def days(self, texts: str) -> str:
        """Name of the tensor of days since 1970, rows by 1, 64 bits.

        :param texts: name of the tensor of texts, rows by 1.
        """
        nodes = self._nodes
        timed = "%H" in self._form
        sample = _SAMPLE.strftime(self._form) + ("" if timed else "T00:00:00 00:00:00")
        rest = nodes.add("Concat", [texts, nodes.text(sample)], axis=0)
        clocks = []
        if not timed:
            for sign in (" ", "T"):
                rest, clock = nodes.split(rest, sign)
                clocks.append(clock)
        parts = self._parts(rest, self._form)
        seconds = [self._seconds(self._clock(clock)) for clock in clocks] or [self._seconds(parts)]
        return self._moment(self._day(parts), seconds)

    def _parts(self, texts: str, form: str) -> dict[str, str]:
        """Name of the texts of each part by its directive."""
        directives, signs = _DIRECTIVE.findall(form), _DIRECTIVE.split(form)[1:-1]
        parts, rest = {}, texts
        for directive, sign in zip(directives, signs, strict=False):
            parts[directive], rest = self._nodes.split(rest, sign)
        return parts | {directives[-1]: rest}

    def _clock(self, texts: str) -> dict[str, str]:
        return self._parts(texts, _CLOCK)

    def _value(self, part: str, numbers: Mapping[str, float]) -> str:
        return self._nodes.lookup(part, {text: float(number) for text, number in numbers.items()}, _NAN)

    def _day(self, parts: Mapping[str, str]) -> str:
        """Days since 1970 of the date; 32 bits hold them all."""
        nodes = self._nodes
        leap, days = self._year(parts)
        name = next(name for name in ("%m", "%B", "%b") if name in parts)
        months = _up_to(1, 12, padded=True) if self._iso else _TABLES[name]

        def of_month(number: Callable[[int], float]) -> str:
            return self._value(parts[name], {text: number(month) for text, month in months.items()})

        day = self._value(parts["%d"], dict(_up_to(1, 31, padded=self._iso)))
        in_february = nodes.add("Mul", [leap, of_month(lambda month: month == 2)])
        length = nodes.add("Add", [of_month(lambda month: calendar.monthrange(2001, month)[1]), in_february])
        after_february = nodes.add("Mul", [leap, of_month(lambda month: month > 2)])
        for part in (of_month(_days_before), after_february, day):
            days = nodes.add("Add", [days, part])
        return nodes.add("Where", [nodes.add("Greater", [day, length]), nodes.narrow(_NAN), days])

    def _year(self, parts: Mapping[str, str]) -> tuple[str, str]:
        """Whether the year has a day more, and the days from 1970 to its first: from one table of twice the days, and
        one more for such a year."""
        nodes = self._nodes
        name = next(name for name in ("%Y", "%y") if name in parts)
        both = {
            text: 2 * (date(year, 1, 1).toordinal() - _EPOCH) + calendar.isleap(year)
            for text, year in _TABLES[name].items()
        }
        value = self._value(parts[name], both)
        halves = nodes.add("Floor", [nodes.add("Mul", [value, nodes.narrow(0.5)])])
        return nodes.add("Sub", [value, nodes.add("Add", [halves, halves])]), halves

    def _seconds(self, parts: Mapping[str, str]) -> str:
        """Seconds of the day; parts that are not there are zero."""
        nodes, total = self._nodes, ""
        for name, worth in (("%H", 3600.0), ("%M", 60.0), ("%S", 1.0)):
            if name in parts:
                table = {f"{text}{tail}": worth * number for text, number in _TABLES[name].items() for tail in _TAILS}
                value = self._value(parts[name], {**table, "": 0.0})
                total = nodes.add("Add", [total, value]) if total else value
        return total or nodes.narrow(0.0)

    def _moment(self, day: str, seconds: list[str]) -> str:
        """Days with the time of day as a fraction, rounded once, as an endpoint does it; without the added row."""
        nodes = self._nodes
        total = nodes.add("Mul", [nodes.cast(day, "DOUBLE"), nodes.wide(86_400.0)])
        for part in seconds:
            total = nodes.add("Add", [total, nodes.cast(part, "DOUBLE")])
        days = nodes.add("Div", [total, nodes.wide(86_400.0)])
        return nodes.add("Slice", [days, nodes.numbers([0]), nodes.numbers([-1]), nodes.numbers([0])])
