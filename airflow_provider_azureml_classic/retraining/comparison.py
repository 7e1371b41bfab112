"""Two models' answers to the same rows: where the rows come from, and which endpoint answers them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_azureml_classic.client.answers import encoded
from airflow_provider_azureml_classic.client.retries import Program
from airflow_provider_azureml_classic.client.verbs import Verbs
from airflow_provider_azureml_classic.exceptions import ServiceUnavailable, rejection
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.retraining.evaluation import Evaluation
from airflow_provider_azureml_classic.retraining.files import file_rows
from airflow_provider_azureml_classic.retraining.quality import Answers
from airflow_provider_azureml_classic.tables.reading import title_of
from airflow_provider_azureml_classic.tables.spelling import listed

#: Rows of one scoring call, and bytes of them: far from its limits of 4 MB and 100 s.
_CALL, _CALL_BYTES = 500, 2 << 20
_HELD_OUT = "Or leave check_data out: the rows that the training held out are read by the service."


@dataclass(frozen=True)
class Labelled:
    """Rows whose labels are known.

    :param rows: the rows to send, without the label.
    :param labels: the true labels.
    :param source: where they come from, for the log.
    """

    rows: Table
    labels: list[Any]
    source: str

    def at(self, rows: Sequence[int]) -> Labelled:
        """Some of the rows.

        :param rows: their positions.
        """
        values = [self.rows.values[row] for row in rows]
        return Labelled(Table(self.rows.column_names, values), [self.labels[row] for row in rows], self.source)


def held_out(evaluation: Evaluation) -> tuple[Labelled, Answers]:
    """The rows that the training job held out, and the candidate's answers to them.

    :param evaluation: that job's.
    :raises ValueError: it carries none.
    """
    check = evaluation.check
    if check is None:
        raise ValueError(
            "The evaluation holds no rows to compare the live model on: there was too little training data to hold any "
            "out, or the service writes none. Set check_data and check_endpoint, or leave max_worse out."
        )
    labels = list(check.labels)
    return Labelled(check.rows, labels, "held out of the training"), Answers(labels, check.answers)


def read_rows(client: Verbs, endpoint: Endpoint, content: bytes, label: str, source: str) -> Program[Labelled]:
    """The rows of a file with labels.

    :param client: of the workspace.
    :param endpoint: one that is to be asked.
    :param content: the file.
    :param label: the column that is predicted.
    :param source: its name; the extension tells the format, and messages show it.
    :raises RequestRejected: it cannot be read, or has no rows or no such column.
    :raises ValueError: see :func:`.files.file_rows`.
    """
    table = yield from file_rows(client, endpoint, content, source, label=label, otherwise=_HELD_OUT)
    names = table.column_names
    if label not in names:
        raise rejection(
            "InputParseError",
            f"{source}: the {title_of(source)} has no column {label!r}; its columns are: {listed(names)}.",
        )
    at = names.index(label)
    rows = Table(names[:at] + names[at + 1 :], [[*row[:at], *row[at + 1 :]] for row in table.values])
    return Labelled(rows, table.column(label), source)


def answers_of(client: Verbs, endpoint: Endpoint, rows: Labelled) -> Program[Answers]:
    """An endpoint's answers to the rows.

    :param client: of the workspace.
    :param endpoint: the endpoint.
    :param rows: sent in parts.
    :raises ServiceUnavailable: not all parts were answered by one model, where the service tells which answers.
    """
    parts: list[Table] = []
    models: set[str | None] = set()
    for part in parts_of(rows.rows):
        answer, model = yield Verbs.score_by.steps(client, endpoint, part, trial=True)
        parts.append(answer)
        models.add(model)
    if len(models) > 1:
        raise ServiceUnavailable(
            f"While endpoint {endpoint.name!r} was asked, another model was put live on it.", hint="Ask again."
        )
    values = [row for part in parts for row in part.values]
    return Answers(rows.labels, Table(parts[0].column_names, values))


def parts_of(table: Table, most: int = _CALL) -> Iterator[Table]:
    """A table in parts, each small enough for a call.

    :param table: the rows to send.
    :param most: rows of a part.
    """
    rows: list[Sequence[Any]] = []
    size = 0
    for row in table.values:
        length = len(encoded(row))
        if rows and (len(rows) == most or size + length > _CALL_BYTES):
            yield Table(table.column_names, rows)
            rows, size = [], 0
        rows.append(row)
        size += length
    yield Table(table.column_names, rows)
