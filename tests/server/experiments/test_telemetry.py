"""ONNX Runtime reports to its makers by default; the server must not."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_azureml_classic.protocol.jobs import JobRequest
from tests.support import ServerProcess, wait_for_job
from tests.support.service import TRAINING, declaration, line

#: Each of them silences ONNX Runtime, so none may come from outside.
SILENCERS = ("ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "CI")


@pytest.mark.slow
def test_nothing_is_reported_about_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the server nor its training process makes the id and the queue of ONNX Runtime's telemetry."""
    for name in SILENCERS:
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    declared = str(declaration(tmp_path, TRAINING))
    server = ServerProcess(tmp_path / "data", "--experiments", declared, environment={"HOME": str(home)})
    try:
        with server.client() as client:
            trainer = client.get_endpoint(client.find_web_service(TRAINING).id, "default")
            job = client.submit_job(trainer, JobRequest({"input1": server.upload("data/rows.csv", line(3))}))
            client.start_job(trainer, job)
            wait_for_job(client, trainer, job).raise_unless_finished()
    finally:
        server.stop()
    assert [path for path in home.rglob("*") if "onnxruntime" in path.name] == []
