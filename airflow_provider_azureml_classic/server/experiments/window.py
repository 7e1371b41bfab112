"""The training window: first and last time of the training data."""

from __future__ import annotations

from datetime import date, datetime

from airflow_provider_azureml_classic.exceptions import rejection
from airflow_provider_azureml_classic.protocol.moments import to_utc
from airflow_provider_azureml_classic.server.experiments.schema import Schema
from airflow_provider_azureml_classic.server.experiments.tables import Frame, first_row

#: First and last time of a column, as ISO texts.
Span = tuple[str, str]

_FORMATS = ("", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M", "%d/%m/%Y %H:%M:%S")


def window_of(schema: Schema, frame: Frame, column: str | None) -> Span | None:
    """First and last time of a column, as ISO texts: dates where the column holds dates only.

    :param schema: tells which cells are missing.
    :param frame: training data.
    :param column: the time column, if the experiment declares one.
    :raises RequestRejected: the column is absent, or a cell is neither an ISO time nor a day/month/year.
    """
    if column is None:
        return None
    if column not in frame.columns:
        there = ", ".join(frame.columns)
        raise rejection(
            "InputMismatchError",
            f"The training data has no column {column!r}, the time column; its columns are: {there}.",
            target=column,
        )
    cells = [cell for cell in frame.columns[column].distinct if not schema.is_missing(cell)]
    for form in _FORMATS:
        times = [parse_time(cell, form) for cell in cells]
        known = [(moment(time), text) for time, text in filter(None, times)]
        if known and len(known) == len(cells):
            return min(known)[1], max(known)[1]
    if not cells:
        return None
    raise _no_time(frame, column, schema)


def parse_time(text: str, form: str = "") -> tuple[datetime, str] | None:
    """A time and its ISO text, ``None`` if ``text`` has another form.

    :param text: one cell.
    :param form: a ``strptime`` format; empty: ISO 8601.
    """
    try:
        time = datetime.strptime(text, form) if form else datetime.fromisoformat(text)
    except ValueError:
        return None
    plain = "H" not in form if form else ":" not in text and "T" not in text
    return time, time.date().isoformat() if plain else time.isoformat()


def moment(time: datetime | date) -> datetime:
    """``time`` in UTC, so that it can be compared and stamped; without a zone it counts as UTC.

    :param time: a time of the training data.
    """
    return to_utc(time if isinstance(time, datetime) else datetime(time.year, time.month, time.day))


def _no_time(frame: Frame, column: str, schema: Schema) -> Exception:
    cells = frame.columns[column]
    wrong = cells.where(lambda cell: not schema.is_missing(cell) and parse_time(cell) is None)
    row = first_row(wrong)
    return rejection(
        "InputParseError",
        f"Column {column!r}, row {row}: {cells.distinct[cells.codes[row - 1]]!r} is not a time. Expected one form in "
        "all rows: ISO 8601 (2016-03-01T08:00:00), or day/month/year.",
        target=column,
    )
