"""API documents as declarations: what is declared is described with the names and types of the old document."""

from __future__ import annotations

import base64
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from airflow_provider_azureml_classic.cli import __main__ as cli
from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.server.experiments.declaration import Experiment, load_experiments
from airflow_provider_azureml_classic.server.service import running
from airflow_provider_azureml_classic.server.settings import Settings

BASE, WORKSPACE, TOKEN = "https://studio.test/ml", "1c2d3e4f5a6b47c8d9e0f1a2b3c4d5e6", "fake-workspace-token"

SECRET = "s3cr3t-0f-th3-cl0ud"


def ports(**columns: Any) -> dict[str, Any]:
    """Definitions of one input or output with these columns, as the cloud service wrote them."""
    return {"type": "object", "properties": columns}


def rows(item: str) -> dict[str, Any]:
    """A port of a scoring call."""
    return {"type": "array", "items": {"$ref": f"#/definitions/{item}"}}


TEXT, WHOLE = {"type": "string"}, {"type": "integer", "format": "int32"}
GRADE = {"type": "string", "enum": ["A", "B", 'C "x"'], "x-nullable": True}
AMOUNT = {"type": "number", "format": "double", "minimum": 100, "maximum": 900, "multipleOf": 5}


def scoring(**parameters: Any) -> dict[str, Any]:
    """The document of a scoring web service of the cloud."""
    columns = {"grade": GRADE, "amount": AMOUNT, "years": WHOLE, "owner": {"type": "boolean"}}
    since = {"type": "string", "format": "date-time"}
    return {
        "swagger": "2.0",
        "info": {"title": "Loans [Predictive Exp.]"},
        "definitions": {
            "ExecutionInputs": ports(loans=rows("loansItem")),
            "loansItem": ports(**columns, since=since),
            "ExecutionOutputs": ports(answer=rows("answerItem"), more=rows("answerItem")),
            "answerItem": ports(
                grade=TEXT, **{"Scored Labels": TEXT, "Scored Probabilities": {"type": "number"}, "Odd": TEXT}
            ),
            "BatchInputs": ports(loans={}),
            "BatchOutputs": ports(answer={}),
            "GlobalParameters": ports(**parameters),
        },
    }


def training() -> dict[str, Any]:
    """The document of the training web service that belongs to it: the columns, and the label."""
    sent = {**scoring()["definitions"]["loansItem"]["properties"], "paid": {"type": "string", "enum": ["no", "yes"]}}
    example = {"Outputs": {"graph": {"RelativeLocation": "c/graphresults.ilearner"}}}
    return {
        "swagger": "2.0",
        "info": {"title": "Loans"},
        "definitions": {
            "ExecutionInputs": ports(history=rows("i")),
            "i": ports(**sent),
            "BatchInputs": ports(history={}),
            "BatchOutputs": ports(metrics={}, graph={}, log={}),
            "BatchExecutionRequest": {"example": example},
            "GlobalParameters": ports(
                Rate={"type": "number", "default": 0.2, "maximum": 1},
                Grade={"type": "string"},
                Uri={"type": "string", "default": f"https://x.test/?sig={SECRET}"},
                Depth={"type": "integer", "default": 3},
            ),
        },
    }


def imported(folder: Path, documents: Sequence[Any], *more: str) -> tuple[tuple[Experiment, ...], str]:
    """The declared experiments, and the report."""
    into = folder / "out"
    for number, document in enumerate(documents):
        (folder / f"d{number}.json").write_text(json.dumps(document))
    files = [str(folder / f"d{number}.json") for number in range(len(documents))]
    assert cli.main(["import", *files, "--into", str(into), *more]) == cli.DONE
    found = [experiment for path in sorted(into.glob("*.toml")) for experiment in load_experiments(path)]
    return tuple(found), (into / "import-report.md").read_text()


def documents_of(folder: Path, experiments: Sequence[Experiment]) -> dict[str, dict[str, Any]]:
    """The API documents of the default endpoints of a server with these experiments, by web service."""
    key = base64.urlsafe_b64encode(bytes(32)).decode()
    settings = Settings(folder, BASE, WORKSPACE, TOKEN, base64.b64encode(bytes(64)).decode(), key, workers=1)
    with running(settings, experiments) as (app, _):

        def answer(method: str, url: str, headers: Any = None, body: bytes = b"") -> Any:
            parts = urlsplit(url)
            return app.answer(method, parts.path.removeprefix("/ml"), parts.query, headers or {}, body)

        client = Client(
            BASE,
            WORKSPACE,
            TOKEN,
            transport=lambda request: answer(request.operation.method, request.url, request.headers, request.body),
        )
        return {
            service.name: json.loads(
                answer("GET", f"{client.get_endpoint(service.id, 'default').api_location}/swagger.json").body
            )
            for service in client.list_web_services()
        }


@pytest.mark.slow
def test_round_trip(tmp_path: Path) -> None:
    """Documents of an experiment with every kind of name, imported, served and described, are the same documents."""
    (tmp_path / "first.csv").write_text("a,n,when,y\n" + "x,1,5,no\ny,2.5,7,yes\nz,3,1,no\n" * 20)
    (tmp_path / "own.toml").write_text(
        '[[experiment]]\nname = "Own"\nestimator = "boosting-classifier"\nlabel = "y"\nfirst_data = "first.csv"\n'
        'optional = ["n"]\npassthrough = ["a"]\ninputs = { rows = "train", test = "evaluate" }\n'
        'outputs = { o2 = "model", o1 = "evaluation" }\nscoring_input = "lol"\nscoring_output = "result"\n'
        '[experiment.parameters]\n"Learning Rate" = { sets = "estimator.learning_rate", default = 0.3, maximum = 1 }\n'
        'A = { sets = "rows.a", default = "", choices = ["", "x"] }\nThreshold = { sets = "threshold" }\n'
        'URI = { sets = "data" }\nIterations = { sets = "estimator.max_iter", default = 9, minimum = 2 }\n'
    )
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    old = documents_of(tmp_path / "1", load_experiments(tmp_path / "own.toml"))
    experiments, report = imported(tmp_path, list(old.values()), "--parameter", "Iterations=estimator.max_iter")
    new = documents_of(tmp_path / "2", experiments)
    assert set(new) == set(old) == {"Own", "Own [predictive exp.]"}
    for name, document in old.items():
        definitions = {key: one for key, one in document["definitions"].items() if key != "ExecutionRequest"}
        assert {key: new[name]["definitions"][key] for key in definitions} == definitions
    assert [line.split("|")[3].strip() for line in report.splitlines()[6:]] == [
        "estimator",
        "first_data",
        "time_column",
    ]


def test_documents_of_the_cloud(tmp_path: Path) -> None:
    """Names, kinds, categories and ranges are declared; what is not is listed, and no secret is copied."""
    documents = [scoring(Cut={"type": "number"}), training()]
    sets = ("Rate=estimator.learning_rate", "Cut=threshold")
    (loans,), report = imported(tmp_path, documents, *(word for one in sets for word in ("--parameter", one)))
    assert (loans.name, loans.label, loans.features) == (
        "Loans",
        "paid",
        ("grade", "amount", "years", "owner", "since"),
    )
    assert loans.inputs == {"history": "train"}
    assert list(loans.outputs.items()) == [("metrics", "evaluation"), ("graph", "model")]
    assert (loans.scoring_input, loans.scoring_output, loans.passthrough) == ("loans", "answer", ("grade",))
    assert {name: kind.kind for name, kind in loans.columns.items()} == {
        "grade": "text",
        "amount": "number",
        "years": "number",
        "owner": "boolean",
        "since": "date",
    }
    assert {name: (one.sets, one.kind, one.default) for name, one in loans.parameters.items()} == {
        "Rate": ("estimator.learning_rate", "number", 0.2),
        "Grade": ("rows.grade", "string", ""),
        "Uri": ("data", "string", None),
        "Cut": ("threshold", "number", None),
    }
    for part in ("| Depth |", "| log |", "| more |", "| Odd |", "| amount: multipleOf |", "| years |", "| Uri |"):
        assert part in report
    files = {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}
    assert SECRET not in "".join(files.values())
    cells = files["loans.csv"].splitlines()[1:]
    assert {line.rpartition(",")[2] for line in cells} == {"no", "yes"}
    assert "100.0" in files["loans.csv"]
    assert "900.0" in files["loans.csv"]


@pytest.mark.slow
def test_cloud_declaration_is_served(tmp_path: Path) -> None:
    """A scoring web service's document alone is enough: the label is named, the rest is listed."""
    (loans,), report = imported(tmp_path, [scoring()], "--label", "years")
    (tmp_path / "1").mkdir()
    document = documents_of(tmp_path / "1", [loans])["Loans [predictive exp.]"]
    item = document["definitions"]["loansItem"]["properties"]
    assert {name: one["type"] for name, one in item.items()} == {
        "grade": "string",
        "amount": "number",
        "owner": "string",
        "since": "string",
    }
    assert "there is no document of the training web service" in report


@pytest.mark.parametrize(
    ("documents", "more", "message"),
    [
        ([scoring(), scoring()], (), "both of 'Loans [Predictive Exp.]'"),
        ([scoring(), {"properties": {"activities": []}}], (), "d1.json is no API document"),
        ([{"swagger": "2.0", "definitions": {}}], (), "names no columns"),
        ([scoring(Cut={"type": ["number"]})], (), "d0.json: type of 'Cut' is not as in Swagger 2.0"),
        ([scoring()], ("--parameter", "x"), "must be NAME=SETS"),
    ],
)
def test_what_cannot_be_declared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], documents: list[Any], more: tuple[str, ...], message: str
) -> None:
    """An error names the file and what to do, and nothing is written."""
    for number, document in enumerate(documents):
        (tmp_path / f"d{number}.json").write_text(json.dumps(document))
    files = [str(path) for path in sorted(tmp_path.glob("*.json"))]
    assert cli.main(["import", *files, "--into", str(tmp_path / "out"), *more]) != cli.DONE
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_texts_of_toml(tmp_path: Path) -> None:
    """Names with quotes, backslashes and control characters are read back as they are."""
    name = 'a"b\\c\x7f\u2028é'
    document = scoring()
    document["definitions"]["loansItem"]["properties"] = {name: TEXT, " blank": TEXT}
    _, report = imported(tmp_path, [document])
    (path,) = (tmp_path / "out").glob("*.toml")
    assert tomllib.loads(path.read_text())["experiment"][0]["features"] == [name]
    assert "no blanks around it" in report
