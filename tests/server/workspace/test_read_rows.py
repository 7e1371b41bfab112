"""Files for scoring calls: the model says what is a number, and who cannot read a file lets the service do it."""

from __future__ import annotations

import json

import pytest

from airflow_provider_azureml_classic.cli.scoring import _BY_JOB
from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.client.retries import NO_RETRIES
from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.protocol.messages import Response
from airflow_provider_azureml_classic.protocol.swagger import Names
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.retraining.comparison import read_rows
from airflow_provider_azureml_classic.retraining.files import file_rows
from airflow_provider_azureml_classic.tables import reading
from tests.support.service import TOKEN, WORKSPACE, Service

FILE = b"size;w;y\n1,5;0,25;2,5\n2,5;1;3,5\n"


def rows(client: Client, endpoint: Endpoint, types: dict[str, str]) -> list[list[str]]:
    """The rows of the file, beside a service whose API document has these types."""
    program = file_rows(client, endpoint, FILE, "ask.csv", label="y")
    next(program)
    with pytest.raises(StopIteration) as ended:
        program.send(Names(types=types))
    return [list(row) for row in ended.value.value.values]


def test_the_columns_of_the_model_say_what_is_a_number(service: Service, scorer: Endpoint) -> None:
    """A text ``1,5`` stays one in a file that has nothing else in its column, of a label, too; where nothing is known
    of the columns, the file decides.
    """
    texts = {"size": "string", "w": "number", "Scored Labels": "string"}
    assert rows(service.client, scorer, texts) == [["1,5", "0.25", "2,5"], ["2,5", "1", "3,5"]]
    numbers = {**texts, "Scored Labels": "number"}
    assert rows(service.client, scorer, numbers) == [["1,5", "0.25", "2.5"], ["2,5", "1", "3.5"]]
    assert rows(service.client, scorer, {}) == [["1.5", "0.25", "2.5"], ["2.5", "1", "3.5"]]
    assert service.client.names(scorer).types == {"x": "number", "Scored Labels": "number"}


def test_without_the_library_the_service_reads_the_file(
    service: Service, scorer: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the rules and the errors of files to score."""
    monkeypatch.setattr(reading, "installed", lambda: False)
    client = service.client
    table = client.perform(file_rows(client, scorer, b"x;z\n1,5;a\n2;1,5\n", "some/ask.csv"))
    assert table == Table(("x", "z"), [["1.5", "a"], ["2.0", "1,5"]])
    for content, message in ((b"x,z\n1\n", r" ask\.csv: Data row 1 has 1 cell"), (b"z\n1\n", "expected the columns x")):
        with pytest.raises(RequestRejected, match=message):
            client.perform(file_rows(client, scorer, content, "some/ask.csv"))
    labelled = client.perform(read_rows(client, scorer, b"x,y\n1,2\n", "y", "check.csv"))
    assert (labelled.rows, labelled.labels) == (Table(("x",), [["1"]]), ["2"])
    trainer = client.get_endpoint(service.training, "default")
    with pytest.raises(RequestRejected, match="reads no rows to score"):
        client.read_rows(trainer, b"x\n1\n", "ask.csv")


@pytest.mark.parametrize("status", [404, 413])
def test_a_service_that_does_not_read_files_is_told(
    scorer: Endpoint, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """Another service, or too large a file: the message says what is missing here, and what else may be done."""
    monkeypatch.setattr(reading, "installed", lambda: False)
    error = {
        "error": {"code": "x", "message": "x", "details": [{"code": "RequestBodyTooLarge", "message": "too much"}]}
    }
    answer = Response(404, {}, b"") if status == 404 else Response(413, {}, json.dumps(error).encode())
    client = Client("http://service.test", WORKSPACE, TOKEN, transport=lambda _: answer, retries=NO_RETRIES)
    said = r"^ask\.csv cannot be read: that needs pyarrow.*\[data\]'\. .*Or let the service read the file: upload it"
    with pytest.raises(ValueError, match=said):
        client.perform(file_rows(client, scorer, b"x\n1\n", "ask.csv", otherwise=_BY_JOB))
