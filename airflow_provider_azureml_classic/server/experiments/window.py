"""The training window: first and last time of the training data."""

from __future__ import annotations

from airflow_provider_azureml_classic.exceptions import rejection
from airflow_provider_azureml_classic.server.experiments.frame import Frame
from airflow_provider_azureml_classic.server.experiments.schema import Schema
from airflow_provider_azureml_classic.tables.dates import parse_time, with_zone
from airflow_provider_azureml_classic.tables.kinds import DATE, Kind, read_numbers
from airflow_provider_azureml_classic.tables.spelling import listed

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
    form = schema.kind_of(column).date_format or ""
    absent = Kind(DATE).missing_texts(schema.missing)
    cells = [cell for cell in frame.table.encoded(column).cells if cell not in absent]
    times = [(with_zone(found[0]), found[1]) for cell in cells if (found := parse_time(cell, form))]
    if len(times) < len(cells):
        # The error that a column of dates gives anywhere names row, cell and form.
        read_numbers(frame.table, column, Kind(DATE, date_format=form), usual=schema.missing)
    return (min(times)[1], max(times)[1]) if times else None
