"""Rows that two models are compared on, and how they are sent."""

from __future__ import annotations

import json

import pytest

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.protocol.messages import Request, Response
from airflow_provider_azureml_classic.protocol.tables import Table, write_output, write_results
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.retraining.comparison import Labelled, answers_of


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "columns", "calls"),
    [
        (0, 2, 1),
        (500, 2, 1),
        (1001, 2, 3),
        # 60 KB a row, as of 3,000 numbers.
        (500, 3000, 15),
        # A row above the limit is sent alone.
        (2, 150_000, 2),
    ],
)
def test_calls_are_cut_by_rows_and_by_bytes(rows: int, columns: int, calls: int) -> None:
    """However wide the table: all rows are sent, in order, and no call of several is above two megabytes."""
    sent: list[bytes] = []

    def send(request: Request) -> Response:
        sent.append(request.body)
        (table,) = json.loads(request.body)["Inputs"].values()
        answer = Table(("Scored Labels",), [[str(row[0])] for row in table["Values"]])
        return Response(
            200, {}, json.dumps(write_results({"output1": write_output(answer, swagger=False, details=False)})).encode()
        )

    values = [[row, *[0.1234567890123456] * (columns - 1)] for row in range(rows)]
    table = Table(tuple(f"c{number}" for number in range(columns)), values)
    client = Client("http://own", "w", transport=send)
    endpoint = Endpoint("e", api_location="http://own/workspaces/w/services/e")
    answers = client.perform(answers_of(client, endpoint, Labelled(table, list(range(rows)), "here")))
    assert answers.predictions == [str(row) for row in range(rows)]
    assert len(sent) == calls
    names = len(json.dumps(table.column_names))
    assert all(len(body) < 2.2e6 + names for body in sent) or columns > 100_000
