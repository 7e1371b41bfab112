"""Two models' answers to the same rows: where the rows come from, and who is asked."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from airflow_provider_azureml_classic.exceptions import rejection
from airflow_provider_azureml_classic.hooks import AzureMLClassicHook, jittered
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.table_files import parse_table, title_of
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.protocol.values import Endpoint, EndpointSettings, Resource
from airflow_provider_azureml_classic.retraining.proof import Evaluation, GoldenRows, Placed, shows
from airflow_provider_azureml_classic.retraining.quality import Answers

#: Rows of one scoring call: far from its limits of 4 MB and 100 s.
_CALL = 500
_PAUSE = 2.0


@dataclass(frozen=True)
class Labelled:
    """Rows whose labels are known.

    :param rows: what to send; without the label.
    :param labels: what is right.
    :param source: where they come from, for the log.
    """

    rows: Table
    labels: list[Any]
    source: str


def held_out(evaluation: Evaluation) -> tuple[Labelled, Answers]:
    """The rows that the training job held out, and the candidate's answers to them.

    :param evaluation: of that job.
    :raises ValueError: it carries none.
    """
    check = evaluation.check
    if check is None:
        raise ValueError(
            "The evaluation holds no rows to compare the live model on: the training data were too few to hold any "
            "out, or the service writes none. Give check_data and check_endpoint, or leave max_worse out."
        )
    labels = list(check.labels)
    return Labelled(check.rows, labels, "held out of the training"), Answers(labels, check.answers)


def read_rows(content: bytes, label: str, source: str) -> Labelled:
    """The rows of a file with labels.

    :param content: the file.
    :param label: the column that is predicted.
    :param source: its name, which says its format, for messages too.
    :raises RequestRejected: it cannot be read, or has no such column or no rows.
    """
    table = parse_table(content, source)
    names = table.column_names
    if label not in names or not table.values:
        raise rejection(
            "InputParseError",
            f"{source}: the {title_of(source)} has no row, or no column {label!r}; "
            f"its columns are: {', '.join(names)}.",
        )
    at = names.index(label)
    rows = Table(names[:at] + names[at + 1 :], [[*row[:at], *row[at + 1 :]] for row in table.values])
    return Labelled(rows, table.column(label), source)


def answers_of(hook: AzureMLClassicHook, endpoint: Endpoint, rows: Labelled) -> Answers:
    """What an endpoint says to the rows.

    :param hook: reaches the service.
    :param endpoint: the endpoint.
    :param rows: sent in parts.
    """
    parts = [hook.client.score(endpoint, part) for part in _parts(rows.rows)]
    values = [row for part in parts for row in part.values]
    return Answers(rows.labels, Table(parts[0].column_names, values))


def _parts(table: Table) -> Iterable[Table]:
    for start in range(0, len(table.values), _CALL):
        yield Table(table.column_names, table.values[start : start + _CALL])


def put_aside(hook: AzureMLClassicHook, endpoint: Endpoint, location: BlobReference) -> Placed:
    """Put a model into an endpoint that exists for trying models out, unless it names it already.

    :param hook: reaches the service.
    :param endpoint: that endpoint, as read just now.
    :param location: the model, with a fresh SAS token.
    :return: what has to be seen before it is asked.
    """
    name = endpoint.resource().name
    if not shows(endpoint, name, location):
        hook.client.patch_endpoint(endpoint, EndpointSettings(resources=(Resource(name, location),)))
    return Placed(name, location)


def answers_aside(
    hook: AzureMLClassicHook, endpoint: Endpoint, placed: Placed, golden: GoldenRows | None, deadline: float
) -> bool:
    """Wait until a model answers where it is tried out.

    :param hook: reaches the service.
    :param endpoint: where it is tried out.
    :param placed: of :func:`put_aside`.
    :param golden: rows that tell when it is live; without them the endpoint's own word counts.
    :param deadline: seconds since 1970.
    :return: false if it was not seen to be live by then.
    """
    pause = 0.2
    while True:
        after = hook.client.get_endpoint(endpoint.web_service_id, endpoint.name)
        live = placed.missing(after) is None
        if live and (golden is None or golden.agrees(hook.client.score(after, golden.rows))):
            return True
        if time.time() >= deadline:
            return False
        time.sleep(jittered(pause))
        pause = min(pause * 2, _PAUSE)
