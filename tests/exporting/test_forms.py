"""What is written for MLflow and Azure Machine Learning, as far as it can be tried without them; see also targets."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas
import pytest
import yaml

from airflow_provider_azureml_classic.exporting import azureml, comparing, mlflow, report, runtime
from airflow_provider_azureml_classic.exporting.companions import companions
from airflow_provider_azureml_classic.exporting.graph import self_contained
from airflow_provider_azureml_classic.exporting.model import Model
from airflow_provider_azureml_classic.exporting.package import Files, Package
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.server.experiments import Scorer
from tests.exporting.support import trained, written

#: Stands in for the server of Azure Machine Learning: asks the script what standard input holds.
ASK = """
import json, sys, types
class AMLResponse:
    def __init__(self, message, status_code, json_str=False):
        # The real one takes an object only if it is told so; else it is sent as a list of its keys.
        self.message, self.status = message if json_str else list(message), status_code
for name in ("azureml", "azureml.contrib", "azureml.contrib.services", "azureml.contrib.services.aml_response"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["azureml.contrib.services.aml_response"].AMLResponse = AMLResponse
sys.path.insert(0, "code")
import score
score.init()
answers = [score.run(body) for body in json.load(sys.stdin)]
assert not any(name.startswith("airflow") for name in sys.modules)
print(json.dumps([one if isinstance(one, dict) else [one.status, one.message] for one in answers]))
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a model of two classes."""
    folder = tmp_path_factory.mktemp("model")
    written(folder)
    return trained(folder, "linear-classifier", "z")


@pytest.fixture(scope="module")
def package(file: bytes) -> Package:
    """What is exported."""
    model = Model.read(file)
    rows = comparing.made_rows(model, 60)
    return Package("A Service [predictive exp.]", "one", model, self_contained(model), rows, report.tags_of(model))


def laid_out(folder: Path, files: Files) -> Path:
    """Write an export."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.slow
def test_the_code_that_goes_along_names_this_package_nowhere() -> None:
    """An export needs nothing that is installed with it, and takes no module that is not needed."""
    files = companions()
    assert not any(b"airflow_provider_azureml_classic" in content for content in files.values())
    assert {Path(name).name for name in files} >= {"runtime.py", "spelling.py", "dates.py", "exceptions.py"}
    assert len(files) <= 13


@pytest.mark.slow
def test_the_scoring_script(file: bytes, package: Package, tmp_path: Path) -> None:
    """It answers calls of the cloud's clients as the endpoint does, cell by cell, and refuses as it does; it loads no
    module of this package.
    """
    folder = laid_out(tmp_path, azureml.files(package))
    rows = package.rows
    bodies = [
        json.dumps({"Inputs": {"input1": rows.to_wire()}, "GlobalParameters": {}}),
        json.dumps({"Inputs": {"input1": rows.rows[:1]}}),
        json.dumps({"Inputs": {"input1": [{**rows.rows[0], "size": "big"}]}}),
        json.dumps({"Inputs": {"input1": rows.rows[:1]}, "GlobalParameters": {"Threshold": 0.4}}),
        "{",
    ]
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        input=json.dumps(bodies),
        cwd=folder,
        env={"AZUREML_MODEL_DIR": str(folder / "model")},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    table, objects, *refused = json.loads(done.stdout)
    live = Scorer.load(file).score(rows)
    value = {"ColumnNames": list(live.column_names), "Values": list(map(list, live.values))}
    assert table == {"Results": {"output1": {"type": "table", "value": value}}}
    assert objects == {"Results": {"output1": live.rows[:1]}}
    codes = [(status, body["error"]["details"][0]["code"]) for status, body in refused]
    assert codes == [(400, "InputParseError"), (400, "BadParameterValue"), (400, "RequestBodyInvalid")]


def test_what_mlflow_is_given(package: Package) -> None:
    """The files are YAML; signature and example have the columns of the model, numbers as numbers."""
    files = mlflow.files(package)
    described = yaml.safe_load(files["MLmodel"])
    inputs = {one["name"]: (one["type"], one["required"]) for one in json.loads(described["signature"]["inputs"])}
    assert (inputs["size"], inputs["iso"], inputs["code"]) == (("double", True), ("string", True), ("string", False))
    outputs = [(one["name"], one["type"]) for one in json.loads(described["signature"]["outputs"])]
    assert [name for name, _ in outputs] == list(package.model.answers)
    assert {kind for _, kind in outputs} == {"string", "float"}
    assert described["metadata"]["sha256"] == package.model.sha256
    example = json.loads(files["input_example.json"])
    assert (example["columns"], len(example["data"])) == (list(inputs), 5)
    assert f"code/{described['flavors']['python_function']['loader_module'].replace('.', '/')}.py" in files


@pytest.mark.slow
def test_frames_of_pandas(file: bytes, package: Package, tmp_path: Path) -> None:
    """Whole numbers, cells without a value, the texts of pandas 3 and a single row are answered as by the endpoint."""
    (tmp_path / "model.onnx").write_bytes(package.graph)
    predictor = runtime._load_pyfunc(str(tmp_path / "model.onnx"))
    frame = pandas.DataFrame(package.rows.values, columns=package.rows.column_names).assign(size=1, city=7)
    answers = predictor.predict(frame)
    rows = Table.of([{**row, "size": 1, "city": 7} for row in package.rows.rows])
    live = Scorer.load(file).score(rows)
    found = Table(tuple(answers), answers.to_numpy().tolist())
    assert comparing.compared(package.model, live, found).good
    assert answers["Scored Labels"].dtype == object
    assert len(predictor.predict(frame.iloc[:1])) == 1


def test_what_azure_machine_learning_is_given(package: Package) -> None:
    """Names that it takes, the model's tags, and a script that is there."""
    files = azureml.files(package)
    endpoint, deployment, model = (yaml.safe_load(files[f"{name}.yml"]) for name in ("endpoint", "deployment", "model"))
    assert endpoint["name"] == deployment["endpoint_name"] == "a-service-one"
    assert (model["version"], model["tags"]["experiment"]) == (package.version, "E")
    assert f"code/{deployment['code_configuration']['scoring_script']}" in files
    assert f"{deployment['model']['path']}/model.onnx" in files


@pytest.mark.parametrize(("service", "name"), [("Été", "t-one"), ("7 Days", "e-7-days-one"), ("x" * 60, "x" * 25)])
def test_names_of_endpoints(package: Package, service: str, name: str) -> None:
    """They begin with a letter and are no longer than 32 letters, whatever the web service is called."""
    made = azureml.endpoint_name(Package(service, "one", package.model, b"", package.rows, {}))
    assert made.startswith(name)
    assert len(made) <= 32
