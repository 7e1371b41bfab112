"""The training window: first and last time of the training data."""

from __future__ import annotations

from dataclasses import replace

from airflow_provider_azureml_classic.exceptions import rejection
from airflow_provider_azureml_classic.server.experiments.frame import Frame
from airflow_provider_azureml_classic.server.experiments.schema import Schema
from airflow_provider_azureml_classic.tables.dates import parse_time, with_zone
from airflow_provider_azureml_classic.tables.kinds import DATE, read_numbers
from airflow_provider_azureml_classic.tables.spelling import listed, shown

#: Years from which on a date stands for none, as 9999-12-31 does.
_NEVER = 2200
#: First and last time of a column, as ISO texts.
Span = tuple[str, str]


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
        there = listed(frame.table.origin.names)
        raise rejection(
            "InputMismatchError",
            f"The training data has no column {column!r}, the time column; its columns are: {there}.",
            target=column,
        )
    kind = replace(schema.kind_of(column), kind=DATE)
    absent = kind.missing_texts(schema.missing)
    cells = [cell for cell in frame.table.encoded(column).cells if cell not in absent]
    times = {cell: parse_time(cell, kind.date_format or "") for cell in cells}
    if None in times.values():
        # The error that a column of dates gives anywhere names row, cell and form.
        read_numbers(frame.table, column, kind, usual=schema.missing)
    moments = [(with_zone(time[0]), time[1], cell) for cell, time in times.items() if time]
    if not moments:
        return None
    last = max(moments)
    if last[0].year >= _NEVER:
        raise rejection(
            "InputMismatchError",
            f"Column {column!r}, the time column, has {shown(last[2])}: with that end no later model would count as "
            "newer. If it means no value, declare it in missing for this column.",
            target=column,
        )
    return min(moments)[1], last[1]
