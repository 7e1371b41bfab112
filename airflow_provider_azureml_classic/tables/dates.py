"""Dates and times in cells. Whether the day or the month stands first is decided over a whole column, or not at all."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache

from airflow_provider_azureml_classic.exceptions import cause

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS = 86_400.0
#: Day or month, a separator, month or day, and a year of four or two digits.
_PARTS = re.compile(r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4}|\d{2})(?:[ T].*)?", re.DOTALL)
_YEAR_FIRST = "%Y/%m/%d"
#: Forms that leave no doubt, beside ISO 8601: with the month in words, as people, SAS, mail and C write them.
_CLEAR = (
    *("", _YEAR_FIRST, "%B %d, %Y", "%b %d, %Y", "%d %B %Y", "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%d%b%Y"),
    *("%d%b%Y:%H:%M:%S", "%a, %d %b %Y %H:%M:%S %z", "%a, %d %b %Y %H:%M:%S %Z", "%a %b %d %H:%M:%S %Y"),
    "%Y年%m月%d日",
)


class AmbiguousDates(ValueError):
    """No cell tells whether the day or the month stands first, or two cells say different things.

    :param cell: one that shows it.
    :param message: what is wrong, as the end of a sentence that begins with the cell.
    """

    def __init__(self, cell: str, message: str) -> None:
        super().__init__(message)
        self.cell = cell
        self.message = message


def check_format(form: str) -> None:
    """Return if a text says how dates are written.

    :param form: with the directives of :meth:`datetime.datetime.strptime`, for example ``%d/%m/%Y``.
    :raises ValueError: it does not give a day.
    """
    example = datetime(2001, 12, 31, 23, 58, 59, tzinfo=UTC)
    try:
        again = datetime.strptime(example.strftime(form), form)
    except ValueError as error:
        raise ValueError(f'{form!r} is no format of dates: {cause(error)}. Expected for example "%d/%m/%Y".') from None
    if again.date() != example.date():
        raise ValueError(f'{form!r} does not give a day. Expected for example "%d/%m/%Y".')


def parse_time(text: str, form: str = "") -> tuple[datetime, str] | None:
    """A time and its ISO text, which is a date where no time of day is written; ``None`` if it has another form.

    :param text: one cell.
    :param form: of the date, see :func:`check_format`; a time of day may follow. Empty: ISO 8601.
    """
    with suppress(ValueError):
        if not form:
            moment = datetime.fromisoformat(text)
            return moment, moment.date().isoformat() if ":" not in text and "T" not in text else moment.isoformat()
        if any(directive in form for directive in ("%H", "%I")):
            moment = datetime.strptime(text, form)
            return moment, moment.isoformat()
        date, rest = _parted(text, form)
        moment = _date(date, form)
        if not rest:
            return moment, moment.date().isoformat()
        hours = rest if rest[1:2] != ":" else f"0{rest}"
        moment = datetime.combine(moment, time.fromisoformat(hours))
        return moment, moment.isoformat()
    return None


def _parted(text: str, form: str) -> tuple[str, str]:
    """The date, and the time of day that may follow it; a form may have blanks itself, as ``%d %b %Y`` has."""
    words = form.count(" ") + 1
    parts = text.split(" ") if words > 1 else text.replace("T", " ", 1).split(" ", 1)
    return " ".join(parts[:words]), " ".join(parts[words:])


@lru_cache(4096)
def _date(text: str, form: str) -> datetime:
    return datetime.strptime(text, form)


def with_zone(moment: datetime) -> datetime:
    """A time with a zone, so that it can be compared; UTC where it has none.

    :param moment: of a cell.
    """
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def days(text: str, form: str = "") -> float | None:
    """The number that a date is for a model: days since 1970-01-01, with the time of day as a fraction.

    :param text: one cell.
    :param form: see :func:`parse_time`.
    """
    found = parse_time(text, form)
    return None if found is None else (with_zone(found[0]) - _EPOCH).total_seconds() / _SECONDS


def decide_format(cells: Iterable[str]) -> str | None:
    """The form that all cells of a column have, ``None`` if there is none.

    :param cells: different cells, at least one.
    :raises AmbiguousDates: they are dates, but day and month cannot be told apart.
    """
    every = list(cells)
    for form in _CLEAR:
        if all(parse_time(cell, form) for cell in every):
            return form
    matches = [_PARTS.fullmatch(cell) for cell in every]
    parts = [match.groups() for match in matches if match]
    if len(parts) < len(every) or len({(part[1], len(part[3])) for part in parts}) > 1:
        return None
    form = _format(parts[0][1], "%Y" if len(parts[0][3]) == 4 else "%y", _day_first(every, parts))
    return form if all(parse_time(cell, form) for cell in every) else None


def _format(separator: str, year: str, day_first: bool) -> str:
    return separator.join(("%d", "%m", year) if day_first else ("%m", "%d", year))


def _day_first(cells: list[str], parts: list[tuple[str, ...]]) -> bool:
    days_first = next((cell for cell, part in zip(cells, parts, strict=True) if int(part[0]) > 12), None)
    months_first = next((cell for cell, part in zip(cells, parts, strict=True) if int(part[2]) > 12), None)
    if days_first and months_first:
        raise AmbiguousDates(months_first, f"has the month first, but {days_first!r} has the day first")
    if not days_first and not months_first and parts[0][1] != ".":
        raise AmbiguousDates(
            cells[0], "is a date of which no cell of the column tells whether day or month stands first"
        )
    return not months_first


def spelled(number: float) -> str:
    """The date or time of a number that :func:`days` gave.

    :param number: days since 1970-01-01.
    """
    moment = _EPOCH + timedelta(seconds=round(number * _SECONDS, 3))
    return moment.date().isoformat() if number == int(number) else moment.replace(tzinfo=None).isoformat()
