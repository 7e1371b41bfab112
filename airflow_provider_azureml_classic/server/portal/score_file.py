"""Page: the rows of a file, scored."""

from __future__ import annotations

import csv
import io
import uuid
from typing import Any

from starlette.responses import Response

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.swagger import example_parameters
from airflow_provider_azureml_classic.protocol.tables import GLOBAL_PARAMETERS, INPUTS, RESULTS, Table, read_output
from airflow_provider_azureml_classic.server.portal import endpoint
from airflow_provider_azureml_classic.server.portal.services import uploaded_file
from airflow_provider_azureml_classic.server.portal.visit import Page, Visit

#: Largest file, in bytes, as of a call.
MAX_FILE = 4 << 20
#: Rows on the page.
_SHOWN = 100


def score_file(visit: Visit) -> Page | Response:
    """Score the rows of a file; the page of the endpoint says why it cannot be."""
    try:
        return scores(visit)
    except AzureMLClassicError as error:
        return endpoint.page(visit, *visit.endpoint(), error=error, failed_form="score-file")


def scores(visit: Visit) -> Page | Response:
    """The rows of a file, scored: a page of them, or all as CSV.

    :param visit: with the file.
    :raises AzureMLClassicError: it cannot be read or scored.
    """
    service, row = visit.endpoint()
    with uploaded_file(visit) as (path, name):
        if path.stat().st_size > MAX_FILE:
            raise rejection(
                "RequestBodyTooLarge", f"At most {MAX_FILE >> 20} MB are scored here; use a batch job for {name}."
            )
        table = visit.core.scoring.read_rows(row, path.read_bytes(), name)
    answer = _scored(visit, table)
    if visit.text("as") == "csv":
        return _csv(table, answer, name)
    values: dict[str, Any] = {"service": service, "row": row, "file": name, "back": visit.at(service, row)}
    values |= {"rows": zip(answer.values[:_SHOWN], table.values[:_SHOWN], strict=True), "count": len(table.values)}
    return Page("scored", {**values, "shown": _SHOWN, "outputs": answer.column_names, "inputs": table.column_names})


def _scored(visit: Visit, table: Table) -> Table:
    service, row = visit.endpoint()
    core = visit.core
    api = core.describer.managed(core.settings.workspace_id, service.id, row.id).api
    body = {INPUTS: {api.input_name: table.to_wire()}, GLOBAL_PARAMETERS: example_parameters(api)}
    answer, _ = core.scoring.execute(row, lambda: body, uuid.uuid4().hex, swagger=False, details=False)
    return read_output(api.output_name, answer[RESULTS][api.output_name])


def _csv(table: Table, answer: Table, name: str) -> Response:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*table.column_names, *answer.column_names])
    writer.writerows([*row, *scores] for row, scores in zip(table.values, answer.values, strict=True))
    headers = {"content-disposition": f'attachment; filename="scored-{name.rpartition(".")[0]}.csv"'}
    # The mark tells Excel that it is UTF-8.
    return Response(stream.getvalue().encode("utf-8-sig"), media_type="text/csv", headers=headers)


ROUTES = (("/services/{service}/endpoints/{endpoint}/score-file", "POST", score_file),)
