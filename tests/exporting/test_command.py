"""``azureml-classic export`` against a running server."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import onnxruntime
import pytest

from airflow_provider_azureml_classic.cli import __main__ as cli
from airflow_provider_azureml_classic.exporting import libraries
from airflow_provider_azureml_classic.server.experiments import read_ilearner, write_ilearner
from tests.support import BIKES_SCORING, CENSUS_SCORING, ServerProcess
from tests.support.processes import patch
from tests.support.verbs import scoring_csv


@pytest.fixture
def connected(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> ServerProcess:
    """The command line talks to this server."""
    monkeypatch.setitem(os.environ, "AZUREML_CLASSIC_CONNECTION", str(server.data_dir / "connection.json"))
    return server


@pytest.fixture(scope="module")
def versions(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An endpoint that had four models; the last three differ in when they were trained."""
    file = tmp_path_factory.mktemp("versions") / "m.ilearner"
    with server.client() as client:
        service = client.find_web_service(BIKES_SCORING).id
        first = client.get_endpoint(service, "default").resource()
        assert first.location is not None
        path = first.location.location.removeprefix(f"{server.account.endpoint}/")
        manifest, graph = read_ilearner(client.fetch_blob(server.sas(path)))
        endpoint = client.add_endpoint(service, "versions")
        for day in (1, 2, 3):
            write_ilearner(file, graph, replace(manifest, created=f"2026-01-0{day}T00:00:00+00:00"))
            patch(client, endpoint, server.upload(f"versions/2026010{day}T000000Z-0.ilearner", file), first.name)
    return "versions"


@pytest.mark.slow
def test_to_onnx(connected: ServerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One file for each endpoint, compared with what the endpoint answers; the report holds no key."""
    into = tmp_path / "out"
    assert cli.main(["export", CENSUS_SCORING, "default", "--to", "onnx", "--into", str(into)]) == cli.DONE
    assert "same answers" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(into / "default" / "model.onnx")
    types = {column.name: column.type for column in session.get_inputs()}
    assert (types["age"], types["education"]) == ("tensor(double)", "tensor(string)")
    report = json.loads((into / "export-report.json").read_text())
    (one,) = report["endpoints"]
    assert (one["outcome"], one["agreement"]["rows"], one["agreement"]["labels"]) == ("same answers", 300, 0)
    assert one["agreement"]["difference"] < 1e-6
    text = (into / "export-report.md").read_text() + json.dumps(report)
    with connected.client() as client:
        endpoint = client.get_endpoint(client.find_web_service(CENSUS_SCORING).id, "default")
    assert "The two keys of the endpoint" in text
    assert not any(secret in text for secret in endpoint.secrets)
    assert cli.main(["export", CENSUS_SCORING, "--to", "onnx", "--into", str(into)]) == cli.USAGE
    assert "is not empty" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "mlflow", "azureml-v2"])
def test_models_that_were_live_before(connected: ServerProcess, tmp_path: Path, versions: str, target: str) -> None:
    """They go along as versions, those put live last first, each with its window, metrics and digest as tags."""
    into = tmp_path / "out"
    arguments = ["export", BIKES_SCORING, versions, "--to", target, "--into", str(into), "--versions", "3"]
    assert cli.main(arguments) == cli.DONE
    listed = json.loads((into / versions / "versions.json").read_text())["versions"]
    assert [one["version"] for one in listed] == ["20260103000000", "20260102000000", "20260101000000"]
    assert [one["live"] for one in listed] == [True, False, False]
    assert len({one["tags"]["sha256"] for one in listed}) == 3
    assert {"window_end", "metric Mean Absolute Error", "put_live", "location"} <= set(listed[1]["tags"])
    assert all((into / versions / one["place"]).exists() for one in listed)
    graphs = sorted((into / versions).rglob("model.onnx"))
    assert len(graphs) == 3
    assert onnxruntime.InferenceSession(graphs[-1]).get_outputs()[0].name == "Scored Labels"


@pytest.mark.slow
def test_rows_of_ones_own(connected: ServerProcess, tmp_path: Path) -> None:
    """The answers are compared on the rows of a file, all of them."""
    rows = tmp_path / "rows.csv"
    rows.write_text(scoring_csv(20))
    into = tmp_path / "out"
    arguments = ["export", BIKES_SCORING, "default", "--to", "onnx", "--into", str(into), "--rows", str(rows)]
    assert cli.main(arguments) == cli.DONE
    (one,) = json.loads((into / "export-report.json").read_text())["endpoints"]
    assert one["agreement"]["rows"] == 20


def test_without_the_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names what is not installed, and the extra that brings it."""
    monkeypatch.setattr(libraries, "find_spec", lambda name: None if name == "onnx" else name)
    with pytest.raises(ValueError, match=r"needs onnx, which is not installed.*\[export\]"):
        libraries.check_libraries()
