"""MLflow, MLServer and Azure Machine Learning take what was exported for them, on machines without this package."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_azureml_classic.exporting import azureml, comparing, mlflow, report
from airflow_provider_azureml_classic.exporting.graph import self_contained
from airflow_provider_azureml_classic.exporting.model import Model
from airflow_provider_azureml_classic.exporting.package import Files, Package
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.server.experiments import Scorer
from tests.exporting.support import NUMBERS, trained, written

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
ENVIRONMENTS = {name: ROOT / f".venv-{name}" / "bin" for name in ("mlflow", "azureml", "azureml-server")}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not all(path.exists() for path in ENVIRONMENTS.values()), reason="needs `make targets`"),
]


@pytest.fixture(
    scope="module", params=[("boosting-regressor", "y"), ("linear-classifier", "z")], ids=["number", "class"]
)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Package, Table]:
    """A model, and the endpoint's answers to its rows."""
    folder = tmp_path_factory.mktemp("export")
    written(folder)
    file = trained(folder, *request.param)
    model = Model.read(file)
    rows = comparing.made_rows(model)
    package = Package("E [predictive exp.]", "one", model, self_contained(model), rows, report.tags_of(model))
    return package, Scorer.load(file).score(rows)


def laid_out(folder: Path, files: Files) -> Path:
    """Write an export."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def ran(environment: str, script: str, folder: Path, stdin: str = "") -> Any:
    """What a script prints, in an environment of its own, away from this checkout."""
    command = [ENVIRONMENTS[environment] / "python", HERE / script, folder]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, cwd=folder, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def serving(command: list[Any], folder: Path, ready: str, **more: str) -> Iterator[None]:
    """A server of another project, ended afterwards."""
    process = subprocess.Popen(
        command, cwd=folder, env={**os.environ, **more}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(ready, timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, "the server has ended"
                time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(30)


def asked(url: str, body: Any) -> tuple[int, Any]:
    """Status and answer of a call."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_mlflow_loads_and_predicts(exported: tuple[Package, Table], tmp_path: Path) -> None:
    """The answers are the endpoint's; signature, input example and tags are MLflow's own."""
    package, live = exported
    folder = laid_out(tmp_path, mlflow.files(package))
    rows = {"columns": package.rows.column_names, "rows": package.rows.values}
    found = ran("mlflow", "in_mlflow.py", folder, json.dumps(rows))
    assert comparing.compared(package.model, live, Table(tuple(found["columns"]), found["answers"])).good
    assert (found["example"], found["served"], found["graph"]) == (5, 5, len(package.model.columns))
    assert found["metadata"]["sha256"] == package.model.sha256


def test_mlserver_serves_the_folder(exported: tuple[Package, Table], tmp_path: Path) -> None:
    """Started in the folder, it answers the Open Inference Protocol and MLflow's own calls."""
    package, live = exported
    folder = laid_out(tmp_path, mlflow.files(package))
    ports = {"http_port": free_port(), "grpc_port": free_port(), "metrics_port": free_port()}
    (folder / "settings.json").write_text(json.dumps({"host": "127.0.0.1", "parallel_workers": 0, **ports}))
    base = f"http://127.0.0.1:{ports['http_port']}"
    names, rows = package.rows.column_names, package.rows.values
    # JSON has no sign for a number without a value.
    places = [n for n, row in enumerate(package.rows.rows) if all(row[name] is not None for name in NUMBERS)]
    command = [ENVIRONMENTS["mlflow"] / "mlserver", "start", "."]
    with serving(command, folder, f"{base}/v2/models/{package.name}/ready"):
        status, answer = asked(f"{base}/invocations", {"dataframe_split": {"columns": names, "data": rows}})
        tensors = [_tensor(package, name, places) for name in names]
        infer = asked(f"{base}/v2/models/{package.name}/infer", {"inputs": tensors})
    assert status == 200, answer
    assert comparing.compared(package.model, live, Table.of(answer["predictions"])).good
    assert infer[0] == 200, infer
    columns = {output["name"]: output["data"] for output in infer[1]["outputs"]}
    answers = Table(tuple(columns), list(zip(*columns.values(), strict=True)))
    assert comparing.compared(
        package.model, Table(live.column_names, [live.values[place] for place in places]), answers
    ).good


def _tensor(package: Package, name: str, places: list[int]) -> dict[str, Any]:
    """A column of some rows, as clients of the Open Inference Protocol send it."""
    cells = [package.rows.column(name)[place] for place in places]
    shape = [len(cells), 1]
    if name in NUMBERS:
        return {"name": name, "datatype": "FP64", "shape": shape, "data": cells}
    return {"name": name, "datatype": "BYTES", "shape": shape, "data": ["" if cell is None else cell for cell in cells]}


def test_azure_ml_loads_the_files(exported: tuple[Package, Table], tmp_path: Path) -> None:
    """Endpoint, deployment and model are what their loaders take, with tags; the script that they name is there."""
    package, _ = exported
    older = replace(package, model=replace(package.model, created="2026-01-02T00:00:00+00:00"))
    folder = laid_out(tmp_path, {**azureml.TARGET.live(package), **azureml.TARGET.earlier(older)})
    found = ran("azureml", "in_azureml.py", folder)
    assert found["endpoint"] == found["deployment"] == "e-one"
    assert Path(found["script"]).exists()
    assert [(one["name"], one["version"]) for one in found["models"]] == [
        ("e-one", package.version),
        ("e-one", "20260102000000"),
    ]
    assert found["models"][1]["tags"]["sha256"] == package.model.sha256


def test_the_scoring_script_answers_the_old_format(exported: tuple[Package, Table], tmp_path: Path) -> None:
    """In Azure Machine Learning's own server a call of the cloud's clients has the endpoint's answer, text by text
    where no label is shifted, and the endpoint's errors.
    """
    package, live = exported
    folder = laid_out(tmp_path, azureml.files(package))
    port = free_port()
    command = [ENVIRONMENTS["azureml-server"] / "azmlinfsrv", "--entry_script", "score.py", "--port", str(port)]
    base, rows = f"http://127.0.0.1:{port}", package.rows
    with serving(command, folder / "code", f"{base}/", AZUREML_MODEL_DIR=str(folder / "model")):
        status, answer = asked(f"{base}/score", {"Inputs": {"input1": rows.to_wire()}, "GlobalParameters": {}})
        refused = asked(f"{base}/score", {"Inputs": {"input1": [{**rows.rows[0], "size": "big"}]}})
    assert status == 200, answer
    value = answer["Results"]["output1"]["value"]
    answers = Table(tuple(value["ColumnNames"]), value["Values"])
    assert comparing.compared(package.model, live, answers).good
    assert package.model.offset or value["Values"] == [list(row) for row in live.values]
    assert refused[0] == 400
    assert refused[1]["error"]["details"][0]["code"] == "InputParseError"
