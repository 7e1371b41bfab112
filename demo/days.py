"""The data of the demonstration, day by day: generated, or cut out of the user's own CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.server.experiments.datasets import bike_rentals

DATE, LABEL = "dteday", "cnt"
#: A day's training file holds the rows of so many days up to it, and of more where that gives too few rows.
WINDOW_DAYS, MIN_ROWS = 14, 400
#: Every n-th row of a day is kept out of all training, and both models are measured on it.
CHECK_EVERY = 4
FIRST_DAY = date(2026, 1, 15)


@dataclass(frozen=True)
class Day:
    """One day of the demonstration.

    :param day: the date.
    :param training: the CSV file to train on.
    :param rows: its data rows.
    :param check: rows of the day that no model is trained on.
    """

    day: date
    training: bytes
    rows: int
    check: Table

    @property
    def truth(self) -> list[float]:
        """The label of each check row."""
        return [float(cell) for cell in self.check.column(LABEL)]


def generated(days: int) -> list[Day]:
    """Made-up rentals with seasons, weather, growth and drift; the same in every run.

    :param days: number of consecutive days.
    """
    columns = bike_rentals(FIRST_DAY - timedelta(days=WINDOW_DAYS), WINDOW_DAYS + days)
    names = list(columns)
    return _cut(names, [[str(cell) for cell in row] for row in zip(*columns.values(), strict=True)], days)


def from_file(path: Path, days: int) -> list[Day]:
    """The last days of a CSV file.

    :param path: has a header row, a date column ``dteday`` and the label ``cnt``.
    :param days: number of days.
    :raises ValueError: what is missing from the file, and what is there.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"DATA={path} cannot be read: {error}") from None
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text), delimiter=delimiter) if row]
    names = rows.pop(0) if rows else []
    missing = [name for name in (DATE, LABEL) if name not in names]
    if missing or not rows:
        there = ", ".join(names) or "nothing"
        raise ValueError(f"DATA={path} needs a header row with {DATE} and {LABEL}, and data rows; it has: {there}.")
    uneven = next((n for n, row in enumerate(rows, 2) if len(row) != len(names)), None)
    if uneven:
        raise ValueError(f"DATA={path}, line {uneven}: the header has {len(names)} cells, this line has not.")
    if delimiter == ";":
        rows = [[cell.replace(",", ".") for cell in row] for row in rows]
    return _cut(names, rows, days)


def _cut(names: Sequence[str], rows: list[list[str]], wanted: int) -> list[Day]:
    by_day: dict[date, list[list[str]]] = {}
    at = list(names).index(DATE)
    for row in rows:
        day = read_date(row[at])
        row[at] = day.isoformat()
        by_day.setdefault(day, []).append(row)
    last = sorted(by_day)[-wanted:]
    if len(last) < wanted or last[-1] - last[0] != timedelta(days=wanted - 1):
        raise ValueError(
            f"The data have no {wanted} consecutive days at their end; the last are {last[0]} to {last[-1]}."
        )
    check = {day: by_day[day][::CHECK_EVERY] for day in last}
    for day in last:
        by_day[day] = [row for n, row in enumerate(by_day[day]) if n % CHECK_EVERY]
    return [_day(names, by_day, day, check[day]) for day in last]


def _day(names: Sequence[str], by_day: dict[date, list[list[str]]], day: date, check: list[list[str]]) -> Day:
    training: list[list[str]] = []
    earlier = sorted((other for other in by_day if other <= day), reverse=True)
    for number, other in enumerate(earlier, 1):
        training = [*by_day[other], *training]
        if number >= WINDOW_DAYS and len(training) >= MIN_ROWS:
            break
    out = io.StringIO(newline="")
    csv.writer(out).writerows([names, *training])
    return Day(day, out.getvalue().encode(), len(training), Table(tuple(names), check))


def read_date(text: str) -> date:
    """A date as 2026-01-31, 31/01/2026 or with a time behind it.

    :param text: one cell.
    :raises ValueError: neither.
    """
    head = text.strip()[:10]
    for form in ("%Y-%m-%d", "%d/%m/%Y"):
        try:
            return datetime.strptime(head, form).date()
        except ValueError:
            continue
    raise ValueError(f"{text!r} in the column {DATE} is no date such as 2026-01-31 or 31/01/2026.")
