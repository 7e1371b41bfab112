"""What a training job says of its model."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.exceptions import ProtocolError
from airflow_provider_azureml_classic.protocol.jobs import CHECK_ROWS, GOLDEN_ROWS, Job, JobStatus
from airflow_provider_azureml_classic.protocol.messages import Request, Response
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.retraining.evaluation import (
    CheckRows,
    Evaluation,
    GoldenRows,
    evaluation_of,
    same,
)

ROWS = Table(("x",), [["1"], ["2"]])
ANSWERS = Table(("label", "score"), [["a", "0.5"], ["b", "0.25"]])
GOLDEN = GoldenRows(ROWS, ANSWERS)
CHECK = {"Input": ROWS.to_wire(), "Output": ANSWERS.to_wire(), "Label": "y", "Labels": ["a", "a"]}


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


@pytest.mark.parametrize(
    ("label", "score", "agrees"),
    [
        ("20260115", "1700000000.00004", True),
        ("20260115.0", "1700000000.00004", True),
        ("20260116", "1700000000.0", False),
        ("20260115", "1700000000.0001", False),
        # A column without a spread must be equal.
        ("20260115.000001", "1700000000", False),
        ("20260115", "no number", False),
        ("20260115", "nan", False),
    ],
)
def test_golden_rows_agree_by_the_spread_of_the_answers(label: str, score: str, agrees: bool) -> None:
    """Numbers may differ by 5e-6 of the spread of their column, whatever their size; labels must be equal."""
    answers = Table(("label", "score"), [["20260115", "1700000000"]])
    golden = GoldenRows(Table(("x",), [["1"]]), answers, {"score": 10.0})
    assert golden.agrees(Table(("label", "score"), [[label, score]])) is agrees


def test_texts_are_equal_or_not() -> None:
    """Whether or not the spread of the answers is known."""
    for spread in (None, {"score": 1.0}):
        golden = GoldenRows(ROWS, Table(("label",), [["a"], ["b"]]), spread)
        assert golden.agrees(Table(("label",), [["a"], ["b"]]))
        assert not golden.agrees(Table(("label",), [["a"], ["c"]]))


def test_numbers_are_nearly_equal() -> None:
    """Absolutely, or relative to the larger one, by a tolerance or a ten-thousandth."""
    assert [same(0, 0.0001), same(0, 0.0002), same("1e6", 1000100), same(1e6, 1000200)] == [True, False, True, False]
    assert [same(0, 0.1, 0.1), same(100, 110, 0.1), same(100, 112, 0.1)] == [True, True, False]
    assert [same("a", "a"), same("a", 1), same(None, "None")] == [True, False, True]


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
    with pytest.raises(ProtocolError, match="'Golden Rows' of the evaluation cannot be read"):
        Evaluation.read(evaluation(**{GOLDEN_ROWS: text}))


@pytest.mark.parametrize("content", [b"", b"Accuracy\n"])
def test_empty_evaluation(content: bytes) -> None:
    """An evaluation needs a data row."""
    with pytest.raises(ProtocolError, match="no data row"):
        Evaluation.read(content)


def test_check_rows() -> None:
    """The rows held out, what is right for them, and the new model's answers."""
    check = Evaluation.read(evaluation(AUC="0.9", **{CHECK_ROWS: json.dumps(CHECK)})).check
    assert check == CheckRows("y", ["a", "a"], ROWS, ANSWERS)


@pytest.mark.parametrize(("times", "known"), [(["2026-03-01", None], True), (["2026-03-01"], False), (None, False)])
def test_times_of_check_rows(times: Any, known: bool) -> None:
    """One for each row, or none; from the columns of an evaluation, or from a file of samples."""
    rows = {**CHECK, "Times": times}
    samples = Evaluation({"AUC": 0.9}).with_samples(json.dumps({CHECK_ROWS: rows}).encode())
    assert samples.metrics == {"AUC": 0.9}
    for found in (samples, Evaluation.read(evaluation(**{CHECK_ROWS: json.dumps(rows)}))):
        assert found.check is not None
        assert found.check.times == ([datetime(2026, 3, 1, tzinfo=UTC), None] if known else ())


def test_samples_that_are_no_json() -> None:
    """They are named."""
    with pytest.raises(ProtocolError, match="'samples' of the evaluation cannot be read"):
        Evaluation({}).with_samples(b"{")


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"Labels": ["a"]}, "parts of different lengths"),
        ({"Output": {"ColumnNames": ["label"], "Values": [["a"]]}}, "parts of different lengths"),
        ({"Labels": 2}, "cannot be read"),
        ({"Input": None}, "cannot be read"),
    ],
)
def test_unreadable_check_rows(members: dict[str, Any], reason: str) -> None:
    """Check rows that do not fit together are an error, never a comparison with the wrong labels."""
    with pytest.raises(ProtocolError, match=f"'Check Rows' of the evaluation .*{reason}"):
        Evaluation.read(evaluation(**{CHECK_ROWS: json.dumps({**CHECK, **members})}))


@pytest.mark.parametrize(
    "content",
    [b"@relation e\n@attribute AUC real\n@attribute name string\n@data\n0.9,census\n", b"AUC\tname\n0.9\tcensus\n"],
)
def test_evaluation_in_other_formats(content: bytes) -> None:
    """A job whose outputs are ARFF or TSV writes its evaluation so as well."""
    assert Evaluation.read(content).metrics == {"AUC": 0.9}


def test_a_tab_in_a_cell_makes_no_tsv() -> None:
    """The header tells."""
    assert Evaluation.read(b"AUC,Name\n0.9,a\tb\n").metrics == {"AUC": 0.9}


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"@relation e\n@attribute AUC real\n@data\n", "no data row"), (b"@relation e\n@data\n1\n", "cannot be read")],
)
def test_unreadable_arff(content: bytes, reason: str) -> None:
    """An ARFF file without a row, or with a broken head, is no evaluation."""
    with pytest.raises(ProtocolError, match=reason):
        Evaluation.read(content)


def test_the_evaluation_among_outputs() -> None:
    """The first CSV output that can be read; what cannot is told, and nothing that can is an empty evaluation."""
    content = {"/c/first.csv": b"", "/c/second.csv": b"AUC\n0.9\n"}

    def send(request: Request) -> Response:
        return Response(200, {}, content[request.url.removeprefix("http://own").partition("?")[0]])

    def job(*names: str) -> Job:
        return Job(
            "j",
            JobStatus.FINISHED,
            results={name: BlobReference(f"c/{name}", "http://own/", "?sig=s") for name in names},
        )

    client, lines = Client("http://own", "w", transport=send), list[str]()
    assert client.perform(
        evaluation_of(client, job("m.ilearner", "first.csv", "second.csv"), lines.append)
    ) == Evaluation({"AUC": 0.9})
    assert client.perform(evaluation_of(client, job("m.ilearner", "first.csv"), lines.append)) == Evaluation({})
    assert [line.partition(" is not an evaluation")[0] for line in lines] == ["http://own/c/first.csv"] * 2


SAMPLES = {"Golden Rows": {"Input": ROWS.to_wire(), "Output": ANSWERS.to_wire(), "Spread": {"score": 1}}}


@pytest.mark.parametrize(
    ("results", "content", "golden", "line"),
    [
        (("e.csv",), json.dumps(SAMPLES).encode(), GoldenRows(ROWS, ANSWERS, {"score": 1.0}), ""),
        # Its evaluation went to a format that is not looked for.
        (("e.arff",), json.dumps(SAMPLES).encode(), GoldenRows(ROWS, ANSWERS, {"score": 1.0}), ""),
        (("e.csv",), b"[]", GOLDEN, "The samples http://own/c/s.json cannot be read: The file of samples is not"),
        (("e.arff",), b"[]", None, "The samples http://own/c/s.json cannot be read: "),
        (("e.csv",), None, GOLDEN, "The samples http://own/c/s.json cannot be read: "),
    ],
)
def test_samples_are_read_before_the_columns_of_the_evaluation(
    results: tuple[str, ...], content: bytes | None, golden: GoldenRows | None, line: str
) -> None:
    """Rows of the file that a job's state names count; where it is gone or damaged, those of the columns do."""
    columns = evaluation(
        AUC="0.9", **{GOLDEN_ROWS: json.dumps({key: SAMPLES["Golden Rows"][key] for key in ("Input", "Output")})}
    )

    def send(request: Request) -> Response:
        if ".csv" in request.url:
            return Response(200, {}, columns)
        return Response(200, {}, content) if content is not None else Response(404, {}, b"")

    def place(name: str) -> BlobReference:
        return BlobReference(f"c/{name}", "http://own/", "?sig=s")

    client, lines = Client("http://own", "w", transport=send), list[str]()
    job = Job("j", JobStatus.FINISHED, {name: place(name) for name in results}, samples=place("s.json"))
    found = client.perform(evaluation_of(client, job, lines.append))
    assert found.golden == golden
    assert found.metrics == ({"AUC": 0.9} if "e.csv" in results else {})
    assert [text[: len(line)] for text in lines] == [line] * bool(line)
    assert "sig=s" not in "".join(lines)


def test_an_evaluation_in_another_encoding() -> None:
    """An evaluation that is not UTF-8 is an error that says so, not one of Python."""
    with pytest.raises(ProtocolError, match="not UTF-8: byte 3 is not"):
        Evaluation.read("Ma\xdf\n1\n".encode("cp1252"))
