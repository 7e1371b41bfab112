"""Pipelines of Data Factory as DAG files: one run of them is in ``tests/dags``."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_azureml_classic.cli import __main__ as cli

SECRET = "k3y-0f-th3-cl0ud"


def named(name: str) -> dict[str, str]:
    """A reference of version 2."""
    return {"referenceName": name, "type": "LinkedServiceReference"}


def imported(folder: Path, *files: Any, more: tuple[str, ...] = ()) -> dict[str, str]:
    """What the import of these files writes, by name of file."""
    for number, content in enumerate(files):
        (folder / f"f{number}.json").write_text(json.dumps(content))
    assert cli.main(["import", str(folder), "--into", str(folder / "out"), *more]) == cli.DONE
    return {path.name: path.read_text() for path in (folder / "out").iterdir()}


def linked(name: str, **settings: Any) -> dict[str, Any]:
    """A linked service."""
    return {"name": name, "properties": {"type": "AzureML", "typeProperties": settings}}


def dataset(name: str, kind: str, **settings: Any) -> dict[str, Any]:
    """A dataset of version 1."""
    return {"name": name, "properties": {"type": kind, "linkedServiceName": "db", "typeProperties": settings}}


def scoring(name: str, region: int) -> dict[str, Any]:
    """A pipeline of version 1 that scores the answer to a query."""
    query = "$$Text.Format('select * from load where region=N and at < \\'{0:yyyy-MM-dd}\\'', WindowEnd)".replace(
        "N", str(region)
    )
    activity = {
        "name": "Score",
        "type": "AzureMLBatchScoring",
        "linkedServiceName": "ml",
        "typeProperties": {
            "webServiceParameters": {"Database query": query, "Password": SECRET, "Data table name": "out"}
        },
        "inputs": [{"name": "load"}],
        "outputs": [{"name": "out"}],
        "policy": {"timeout": "1.02:03:04", "retry": 3, "concurrency": 2},
        "scheduler": {"frequency": "Hour", "interval": 6},
    }
    return {"name": name, "properties": {"activities": [activity], "start": "2016-05-01T00:00:00Z", "isPaused": True}}


def test_copies_are_one_fleet(tmp_path: Path) -> None:
    """Many copies of one pipeline differ in a table; the query runs before the job, its rows are written after it."""
    tables = [dataset(name, "AzureSqlTable", tableName=name) for name in ("load", "out")]
    files = imported(tmp_path, *(scoring(f"p{n}", n) for n in range(4)), *tables, linked("ml", apiKey=SECRET))
    assert set(files) == {"p0_fleet.py", "import-report.md"}
    source = files["p0_fleet.py"]
    ast.parse(source)
    assert source.count("UploadDataOperator(") == source.count("WriteTableOperator(") == 1
    copies = next(ast.literal_eval(node.value) for node in ast.parse(source).body if isinstance(node, ast.Assign))
    assert [copy["name"] for copy in copies] == ["p0", "p1", "p2", "p3"]
    assert all(
        f"region={n} and at < '{{{{ data_interval_end" in copies[n]["score_database_query_sql"] for n in range(4)
    )
    assert "job_timeout=93784.0" in source
    assert "DeltaDataIntervalTimetable(timedelta(hours=6))" in source
    assert SECRET not in "".join(files.values())
    assert "`db`: the database" in files["import-report.md"]


def test_version_2_retrains_and_updates(tmp_path: Path) -> None:
    """The updating task takes the training one's model; what else there is becomes named empty tasks, and is listed."""
    storage = named("blobs")
    train = {
        "name": "Train",
        "type": "AzureMLBatchExecution",
        "linkedServiceName": named("trainer"),
        "typeProperties": {
            "webServiceInputs": {"input1": {"LinkedServiceName": storage, "FilePath": "in/@{utcNow('yyyy')}.csv"}},
            "webServiceOutputs": {"output1": {"LinkedServiceName": storage, "FilePath": "models/new"}},
            "globalParameters": {
                "Rate": "0.1",
                "URI": "https://x/y?sig=" + SECRET,
                "Odd": "@activity('Copy').output.n",
            },
        },
        "dependsOn": [{"activity": "Copy", "dependencyConditions": ["Completed"]}],
    }
    update = {
        "name": "Update",
        "type": "AzureMLUpdateResource",
        "linkedServiceName": named("scorer"),
        "typeProperties": {
            "trainedModelName": "M [trained model]",
            "trainedModelLinkedServiceName": storage,
            "trainedModelFilePath": "models/new/m.ilearner",
        },
        "dependsOn": [{"activity": "train", "dependencyConditions": ["Succeeded"]}],
    }
    copy = {"name": "Copy", "type": "Copy", "inputs": [], "outputs": []}
    pipeline = {
        "name": "re train",
        "properties": {"activities": [copy, train, update], "parameters": {"n": {"defaultValue": 3}}},
    }
    files = imported(
        tmp_path, pipeline, more=("--service", "trainer=Bikes/default", "--service", "scorer=Bikes P/north")
    )
    source, report = files["re_train.py"], files["import-report.md"]
    ast.parse(source)
    assert "outputs={'output1': 'models/new/m.ilearner'}" in source
    assert "web_service='Bikes P',\n        endpoint='north',\n        job=tasks['train'].output" in source
    assert "tasks['copy'] >> tasks['train']" in source
    assert "tasks['train'] >> tasks['update']" in source
    assert "tasks['copy'] = EmptyOperator(" in source
    assert "params={'n': 3}" in source
    for where in (
        "Train | globalParameters.URI",
        "Train | globalParameters.Odd",
        "Copy | type",
        "Update | trainedModelName",
    ):
        assert f"| {where} |" in report
    assert "Train | dependsOn.dependencyConditions" in report
    assert SECRET not in source + report


def test_a_template_of_resource_manager(tmp_path: Path) -> None:
    """Nested resources and variables are followed; a secret's default is not."""
    folder = "[concat(parameters('box'), '/{Y}')]"
    by = {"name": "Y", "value": {"type": "DateTime", "date": "SliceStart", "format": "yyyy"}}
    out = dataset("out", "AzureBlob", folderPath=folder, fileName="o.csv", partitionedBy=[by])
    pipeline: dict[str, Any] = {
        "type": "Microsoft.DataFactory/datafactories",
        "name": "[variables('name')]",
        "resources": [
            {"type": "datapipelines", "name": "Inner", "properties": scoring("Inner", 1)["properties"]},
            {"type": "datasets", **out},
        ],
    }
    settings = pipeline["resources"][0]["properties"]["activities"][0]["typeProperties"]
    settings["webServiceOutputs"] = {"output1": "out"}
    settings["globalParameters"] = {"Mode": "[parameters('pass')]"}
    template = {
        "$schema": "https://schema.management.azure.com/schemas/2015-01-01/deploymentTemplate.json#",
        "parameters": {
            "box": {"type": "string", "defaultValue": "box"},
            "pass": {"type": "securestring", "defaultValue": SECRET},
        },
        "variables": {"name": "x"},
        "resources": [pipeline],
    }
    files = imported(tmp_path, template)
    assert "'output1': \"box/{{ data_interval_start.strftime('%Y') }}/o.csv\"" in files["inner.py"]
    assert SECRET not in "".join(files.values())
    assert "fill in <pass>" in files["import-report.md"]


def test_a_path_of_one_expression_stays_as_it_is(tmp_path: Path) -> None:
    """What it gives is known in a run only: no file name is put behind it, and the report says what it must be."""
    activity = {
        "name": "Score",
        "type": "AzureMLBatchExecution",
        "linkedServiceName": named("ml"),
        "typeProperties": {
            "webServiceInputs": {
                "input1": {"LinkedServiceName": named("b"), "FilePath": "@pipeline().parameters.file"},
                "input2": {"LinkedServiceName": named("b"), "FilePath": "@concat('in/', utcNow('yyyy'))"},
            }
        },
    }
    files = imported(tmp_path, {"name": "p", "properties": {"activities": [activity]}})
    assert "{'input1': \"{{ params['file'] }}\"" in files["p.py"]
    assert "/data.csv" not in files["p.py"]
    assert "Score | webServiceInputs.input2" in files["import-report.md"]


def test_the_first_form_of_scoring_sends_the_file_of_its_activity(tmp_path: Path) -> None:
    """It names no input of the web service: the activity's files are input and output; a folder's name may be a
    file's.
    """
    activity = {
        "name": "Score",
        "type": "AzureMLBatchScoring",
        "linkedServiceName": "ml",
        "typeProperties": {},
        "inputs": [{"name": "rows"}],
        "outputs": [{"name": "scores"}],
    }
    rows = dataset("rows", "AzureBlob", folderPath="data/in/rows.csv")
    by = {"name": "Day", "value": {"type": "DateTime", "date": "SliceStart", "format": "yyyyMMdd"}}
    scores = dataset("scores", "AzureBlob", folderPath="data/out", fileName="{Day}", partitionedBy=[by])
    source = imported(tmp_path, {"name": "p", "properties": {"activities": [activity]}}, rows, scores)["p.py"]
    assert "inputs={'input1': 'data/in/rows.csv'}" in source
    assert "outputs={'output1': \"data/out/{{ data_interval_start.strftime('%Y%m%d') }}\"}" in source


def test_text_files_that_hold_objects(tmp_path: Path) -> None:
    """Pipelines and datasets that were published as text files are read; a note beside them, and a report, are not."""
    for name in ("load", "out"):
        (tmp_path / f"{name}.TXT").write_text(json.dumps(dataset(name, "AzureBlob", folderPath=f"data/{name}.csv")))
    (tmp_path / "Pipelines").mkdir()
    activity = {"name": "Score", "type": "AzureMLBatchScoring", "linkedServiceName": "ml", "typeProperties": {}}
    activity |= {"inputs": [{"name": "load"}], "outputs": [{"name": "out"}]}
    text = "\ufeff\r\n" + json.dumps({"name": "p", "properties": {"activities": [activity]}})
    (tmp_path / "Pipelines" / "p.txt").write_text(text, encoding="utf-8")
    (tmp_path / "readme.txt").write_text("Fill in the {accounts} first.")
    assert "'data/out.csv'" in imported(tmp_path)["p.py"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            ["--service", "trainr=Bikes"],
            "--service 'trainr': no Azure ML activity names this linked service; they name: 'ml'",
        ),
        (["--label", "y"], "--label is for API documents"),
    ],
)
def test_options_that_mean_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    """A typing error in the name of a linked service is no silent default, and nothing is written."""
    (tmp_path / "p.json").write_text(json.dumps(scoring("p", 1)))
    assert cli.main(["import", str(tmp_path / "p.json"), "--into", str(tmp_path / "out"), *more]) == cli.USAGE
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "said"), [("{", "is not JSON"), ("{}", "No pipeline"), ("[" * 99_999, "is not JSON")]
)
def test_what_is_no_pipeline(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, said: str) -> None:
    """The message names the file and what to do."""
    (tmp_path / "x.json").write_text(content)
    assert cli.main(["import", str(tmp_path), "--into", str(tmp_path / "out")]) == cli.USAGE
    assert said in capsys.readouterr().err


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A DAG that somebody has filled in stays, unless told otherwise."""
    imported(tmp_path, scoring("p", 1))
    (tmp_path / "out" / "p.py").write_text("mine")
    assert cli.main(["import", str(tmp_path / "f0.json"), "--into", str(tmp_path / "out")]) == cli.USAGE
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "out" / "p.py").read_text() == "mine"
