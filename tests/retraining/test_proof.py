"""Proof that an update is live."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from airflow_provider_azureml_classic.exceptions import ProtocolError, RequestRejected
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.protocol.values import Endpoint, Resource
from airflow_provider_azureml_classic.retraining.evaluation import GOLDEN_ROWS, Evaluation, GoldenRows
from airflow_provider_azureml_classic.retraining.proof import Level, Patch, shows

ROWS = Table(("x",), [["1"], ["2"]])
ANSWERS = Table(("label", "score"), [["a", "0.5"], ["b", "0.25"]])
GOLDEN = GoldenRows(ROWS, ANSWERS)


@pytest.mark.parametrize(
    ("names", "values", "agrees"),
    [
        (("label", "score"), [["a", "0.5"], ["b", "0.25"]], True),
        (("score", "more", "label"), [[0.50004, "", "a"], [0.25, "", "b"]], True),
        (("label", "score"), [["a", "0.51"], ["b", "0.25"]], False),
        (("label", "score"), [["a", "0.5"], ["c", "0.25"]], False),
        (("label", "score"), [["b", "0.25"], ["a", "0.5"]], False),
        (("label", "score"), [["a", "0.5"]], False),
        (("label",), [["a"], ["b"]], False),
        (("label", "score"), [["a", None], ["b", "0.25"]], False),
        (("label", "score"), [["a", "nan"], ["b", "0.25"]], False),
    ],
)
def test_golden_rows_agree(names: tuple[str, ...], values: list[list[Any]], agrees: bool) -> None:
    """Answers agree by column name, numbers to four digits, in the order of the rows."""
    assert GOLDEN.agrees(Table(names, values)) is agrees


def evaluation(**cells: str) -> bytes:
    """An evaluation output."""
    out = io.StringIO(newline="")
    csv.writer(out).writerows([list(cells), list(cells.values())])
    return out.getvalue().encode()


def test_evaluation() -> None:
    """Numbers are metrics, the column of golden rows is rows with their answers, other text is neither."""
    golden = {
        "Input": {"ColumnNames": ["x"], "Values": [["1"], ["2"]]},
        "Output": {"ColumnNames": ["label", "score"], "Values": [["a", "0.5"], ["b", "0.25"]]},
    }
    found = Evaluation.read(
        b"\xef\xbb\xbf" + evaluation(Accuracy="0.9", Name="census", **{GOLDEN_ROWS: json.dumps(golden)})
    )
    assert found.metrics == {"Accuracy": 0.9}
    assert found.golden == GOLDEN


def test_evaluation_without_golden_rows() -> None:
    """Other services' evaluations have no golden rows."""
    assert Evaluation.read(evaluation(RMSE="3")) == Evaluation({"RMSE": 3.0})


@pytest.mark.parametrize("text", ["{", "[]", "7", '{"Input": {"ColumnNames": []}}', '{"Input": 1, "Output": 2}'])
def test_unreadable_golden_rows(text: str) -> None:
    """Golden rows that cannot be read are an error, never a silent lack of proof."""
    with pytest.raises(ProtocolError, match="'Golden Rows' of the evaluation output cannot be read"):
        Evaluation.read(evaluation(**{GOLDEN_ROWS: text}))


@pytest.mark.parametrize("content", [b"", b"Accuracy\n"])
def test_empty_evaluation(content: bytes) -> None:
    """An evaluation needs a data row."""
    with pytest.raises(ProtocolError, match="no data row"):
        Evaluation.read(content)


def test_an_evaluation_in_another_encoding() -> None:
    """An evaluation that is not UTF-8 is an error that says so, not one of Python."""
    with pytest.raises(ProtocolError, match="not UTF-8: byte 3 is not"):
        Evaluation.read("Ma\xdf\n1\n".encode("cp1252"))


def endpoint(location: BlobReference | None, **members: Any) -> Endpoint:
    """An endpoint with one resource."""
    return Endpoint("e", resources=(Resource("m", location),), **members)


LIVE = BlobReference("c/new.ilearner", "http://own/")


@pytest.mark.parametrize(
    ("live", "put", "shown"),
    [
        (LIVE, LIVE, True),
        (LIVE, BlobReference("c/new.ilearner", "http://OWN"), True),
        (LIVE, BlobReference("c/new.ilearner"), True),
        (LIVE, BlobReference("c/old.ilearner", "http://own/"), False),
        (LIVE, BlobReference("c/new.ilearner", "http://other/"), False),
        (None, LIVE, False),
    ],
)
def test_shows(live: BlobReference | None, put: BlobReference, shown: bool) -> None:
    """An endpoint shows a model if it names its place; a bare path is compared by path."""
    assert shows(endpoint(live), "m", put) is shown


def test_shows_another_resource() -> None:
    """A resource that is gone is an error, not a proof."""
    with pytest.raises(RequestRejected):
        shows(endpoint(LIVE), "other", LIVE)


@pytest.mark.parametrize(
    ("after", "moved"), [({"version": "1"}, False), ({"version": "2"}, True), ({"version": "1", "etag": "2"}, True)]
)
def test_has_moved(after: dict[str, str], moved: bool) -> None:
    """A changed version or ``ETag`` is a move."""
    assert Patch("m", LIVE, version="1").has_moved(endpoint(LIVE, **after)) is moved


def test_levels_are_spelled_as_users_write_them() -> None:
    """The levels are what the operator's parameter takes."""
    assert [level.value for level in Level] == ["resource", "version", "score"]
