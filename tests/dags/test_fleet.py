"""The DAG of a fleet in a real Airflow, deferred: XComs carry the rows, assets tell of updates."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import ROOT, ServerProcess
from tests.support.dag_process import DagProcess
from tests.support.gates import rentals

pytestmark = pytest.mark.slow


def test_two_waves(server: ServerProcess, tmp_path: Path) -> None:
    """A canary, then the others: each ends updated, with an event of its asset; nothing is left between the waves."""
    names = ["ada", "bob", "cy"]
    for number, name in enumerate(names):
        server.upload(f"customers/{name}.csv", rentals(100 + 50 * number, 240))
    connection = {"AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT": server.connection["airflow_conn"]}
    airflow = DagProcess(tmp_path, ROOT / "dags", connection)
    try:
        run = airflow.run("fleet_retrain", run_after="2026-03-01T00:00:00+00:00", conf={"customers": names})
    finally:
        airflow.stop()
    assert run["tasks"] == {"customers": "success", "retrain": "success"}
    assert list(run["xcoms"]["retrain"]) == ["return_value"]
    told = run["xcoms"]["retrain"]["return_value"]
    assert told["counts"]["updated"] == len(names)
    assert [row["endpoint"] for row in told["rows"]] == names
    assert {event["extra"]["endpoint"] for event in run["events"]} == set(names)
    assert {event["extra"]["proof"] for event in run["events"]} == {"content"}
    log = airflow.log.read_text(errors="replace")
    assert log.count("running trigger in line") == 2
    assert "Wave 1: 1 of 3 endpoints." in log
