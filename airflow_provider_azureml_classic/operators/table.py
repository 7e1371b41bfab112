"""Writing the rows of a finished job into a table of a database."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from airflow_provider_azureml_classic.exceptions import rejection
from airflow_provider_azureml_classic.operators.base import AzureMLClassicOperator, airflow_errors
from airflow_provider_azureml_classic.protocol.references import CSV_EXTENSION

if TYPE_CHECKING:
    from airflow.sdk import Context


class WriteTableOperator(AzureMLClassicOperator):
    """Appends the rows of a finished job's CSV output to a table, as Studio's *Export Data* did.

    Returns a dict: ``table`` and ``rows``. The table must have the columns of the file; names are compared as the
    database does. A retry appends again: make the table's key, or ``preoperator``, take care of that.

    :param job: what the operator that ran the job returned. (templated)
    :param table: name of the table. (templated)
    :param sql_conn_id: connection of the database, of any type that Airflow's common SQL hook knows. (templated)
    :param output_name: the job's output; ``None`` means the only one that is a CSV file. (templated)
    :param preoperator: a statement that is run before, for example a DELETE of the rows of this run. (templated)
    :param azureml_classic_conn_id: connection of type ``azureml_classic``. (templated)
    """

    template_fields: Sequence[str] = (
        "azureml_classic_conn_id",
        "job",
        "table",
        "sql_conn_id",
        "output_name",
        "preoperator",
    )
    template_fields_renderers = {"job": "json", "preoperator": "sql"}  # noqa: RUF012
    ui_color = "#fce7f3"

    def __init__(
        self,
        *,
        job: Mapping[str, Any],
        table: str,
        sql_conn_id: str,
        output_name: str | None = None,
        preoperator: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job = job
        self.table = table
        self.sql_conn_id = sql_conn_id
        self.output_name = output_name
        self.preoperator = preoperator

    def execute(self, context: Context) -> dict[str, Any]:
        """Fetch the file with a fresh token, and insert its rows in one transaction a thousand."""
        with airflow_errors():
            _, blob = self.hook.finished_job(self.job).output(self.output_name, extension=CSV_EXTENSION)
            content = self.hook.client.fetch_blob(self.hook.readable(blob)).decode("utf-8-sig")
            names, *rows = list(csv.reader(io.StringIO(content))) or [[]]
            if not names:
                raise rejection("InvalidBlob", f"{blob.location} has no header row.")
        connection: Any = BaseHook.get_connection(self.sql_conn_id)
        hook = connection.get_hook()
        if self.preoperator:
            hook.run(self.preoperator)
        hook.insert_rows(self.table, _cells(rows), target_fields=names)
        self.log.info("Wrote %d rows to %s.", len(rows), self.table)
        return {"table": self.table, "rows": len(rows)}


def _cells(rows: Iterable[Sequence[str]]) -> list[tuple[str | None, ...]]:
    """The rows as a database takes them: an empty cell is no value."""
    return [tuple(cell or None for cell in row) for row in rows]
