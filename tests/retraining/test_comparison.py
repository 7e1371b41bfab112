"""Rows that two models are compared on, and how they are sent."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.exceptions import RequestRejected, ServiceUnavailable, rejection
from airflow_provider_azureml_classic.protocol.messages import Request, Response
from airflow_provider_azureml_classic.protocol.tables import Table, write_output, write_results
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.retraining.comparison import Labelled, answers_of, held_out, parts_of, read_rows
from airflow_provider_azureml_classic.retraining.evaluation import CheckRows, Evaluation
from airflow_provider_azureml_classic.retraining.quality import Answers
from airflow_provider_azureml_classic.tables import reading
from tests.support.programs import Script

CLIENT: Any = SimpleNamespace()
ENDPOINT = Endpoint("e", "s")
ROWS = Table(("a", "b"), [[number, -number] for number in range(5)])


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


def test_some_of_the_rows() -> None:
    """By their positions, with their labels."""
    labelled = Labelled(ROWS, list("abcde"), "here")
    assert labelled.at([3, 0]) == Labelled(Table(("a", "b"), [[3, -3], [0, 0]]), ["d", "a"], "here")


def test_rows_that_were_held_out() -> None:
    """With the answers of the new model, fitted without them."""
    answers = Table(("Scored Labels",), [[number] for number in range(5)])
    labelled, mine = held_out(Evaluation({}, check=CheckRows("y", list("abcde"), ROWS, answers)))
    assert labelled == Labelled(ROWS, list("abcde"), "held out of the training")
    assert mine == Answers(list("abcde"), answers)
    with pytest.raises(ValueError, match="Set check_data and check_endpoint"):
        held_out(Evaluation({}))


def test_rows_of_a_file() -> None:
    """Without the column that is predicted, wherever it stands."""
    script = Script(names=[SimpleNamespace(types={"a": "number"})])
    labelled = script.perform(read_rows(CLIENT, ENDPOINT, b"a,y,b\n1,no,x\n2,yes,z\n", "y", "f/c.csv"))
    assert labelled.labels == ["no", "yes"]
    assert labelled.rows.column_names == ("a", "b")
    assert [list(map(str, row)) for row in labelled.rows.values] == [["1", "x"], ["2", "z"]]
    assert labelled.source == "f/c.csv"
    assert script.calls == [("names", {"endpoint": ENDPOINT})]
    with pytest.raises(RequestRejected, match=r"f/c\.csv: the .* has no column 'q'; its columns are: .*a.*y") as caught:
        script.perform(read_rows(CLIENT, ENDPOINT, b"a,y\n1,2\n", "q", "f/c.csv"))
    assert caught.value.detail_code == "InputParseError"


def test_labels_are_of_the_kind_of_the_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers are read as numbers; where nobody reads the file, the message says what else may be done."""
    script = Script(names=[SimpleNamespace(types={"Scored Labels": "number"})])
    assert script.perform(read_rows(CLIENT, ENDPOINT, b"a;y\n1,5;1,5\n", "y", "c.csv")).labels == ["1.5"]
    monkeypatch.setattr(reading, "installed", lambda: False)
    refused = rejection("OperationNotSupported", "It has no such call.")
    with pytest.raises(ValueError, match="Or leave check_data out"):
        Script(read_rows=[refused]).perform(read_rows(CLIENT, ENDPOINT, b"", "y", "c.csv"))


def test_one_model_answers_all() -> None:
    """Parts are asked as a trial, and put together; another model in between makes them worthless."""
    rows = Labelled(Table(("a",), [[number] for number in range(501)]), list(range(501)), "here")
    parts = [Table(("Scored Labels",), [["x"]] * 500), Table(("Scored Labels",), [["y"]])]
    script = Script(score_by=[(parts[0], "m"), (parts[1], "m")])
    answers = script.perform(answers_of(CLIENT, ENDPOINT, rows))
    assert (answers.labels, answers.predictions) == (rows.labels, ["x"] * 500 + ["y"])
    assert [(given["endpoint"], len(given["rows"].values), given["trial"]) for _, given in script.calls] == [
        (ENDPOINT, 500, True),
        (ENDPOINT, 1, True),
    ]
    few = Labelled(ROWS, list(range(5)), "here")
    one = Table(("Scored Labels",), [["x"]] * 5)
    assert Script(score_by=[(one, None)]).perform(answers_of(CLIENT, ENDPOINT, few)) == Answers(few.labels, one)
    with pytest.raises(ServiceUnavailable, match="'e' was asked, another model was put live"):
        Script(score_by=[(parts[0], "m"), (parts[1], "n")]).perform(answers_of(CLIENT, ENDPOINT, rows))


def test_parts() -> None:
    """As many rows as a part may have, in order, with all columns; of no rows there is one, which is empty."""
    for most in (1, 2, 3, 5, 9):
        parts = list(parts_of(ROWS, most))
        assert [row for part in parts for row in part.values] == ROWS.values
        assert {part.column_names for part in parts} == {ROWS.column_names}
        assert [len(part.values) for part in parts[:-1]] == [most] * (len(parts) - 1)
        assert len(parts) == -(-5 // most)
    assert list(parts_of(Table(("a",), []))) == [Table(("a",), [])]
    # Half of what a call may be: two rows, but not three.
    wide = Table(("a",), [["x" * ((1 << 20) - 4)]] * 3)
    assert [len(part.values) for part in parts_of(wide)] == [2, 1]
