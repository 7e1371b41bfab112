"""The example DAGs from end to end: a real Airflow, a real server."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.support.dag_runner import DAYS, DEFERRED_DAY, flown

pytestmark = pytest.mark.slow
#: What names partitions or a policy of retries, which Airflow 3.2 does not have.
REFUSED = set() if find_spec("airflow.sdk.definitions.retry_policy") else {"customers_partitioned", "weekly_retrain"}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What all runs left."""
    base = tmp_path_factory.getbasetemp()
    return flown((base.parent if base.name.startswith("popen-") else base) / "airflow-runs")


@pytest.fixture(scope="module")
def log(report: dict[str, Any]) -> str:
    """What Airflow printed, without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", Path(report["log"]).read_text(errors="replace"))


def stamped(day: Any) -> str:
    """The end of the path of the model of a day, but for the token of its job."""
    return f"/bikes/{day.replace(day=day.day + 1):%Y%m%dT%H%M%SZ}-"


def test_dags_are_imported(report: dict[str, Any]) -> None:
    """Airflow reads every example without an error; Airflow 3.2 is told of two that they need a newer one."""
    errors = {Path(path).stem: text for path, text in report["import_errors"].items()}
    assert set(errors) == REFUSED, errors
    assert [text for text in errors.values() if "needs Airflow 3.3 or newer; this is Airflow 3.2" not in text] == []
    files = {path.stem for path in (Path(__file__).parents[2] / "dags").glob("*.py")}
    assert files - REFUSED <= set(report["dags"])


def test_day_after_day(report: dict[str, Any]) -> None:
    """Three days in order: each trains on its day, is put live with proof, and is what the sensor waits for."""
    for run, day in zip(report["runs"], DAYS, strict=False):
        assert (run["state"], set(run["tasks"].values())) == ("success", {"success"})
        job, receipt, seen = (run["returned"][task] for task in ("train", "update", "wait_until_fresh"))
        assert job["window"]["start"] == day.isoformat()
        assert stamped(day) in receipt["model"]["location"]
        assert receipt["job_id"] == job["job_id"]
        assert receipt["proof"]["level"] == "content"
        assert seen["location"] == receipt["model"]["location"]
        assert seen["answers"]
    outcomes = [run["returned"]["add_endpoint"]["outcome"] for run in report["runs"][:3]]
    assert outcomes == ["added", "kept", "kept"]
    replaced = [run["returned"]["update"]["replaced"]["location"] for run in report["runs"][1:3]]
    assert [stamped(day) in path for path, day in zip(replaced, DAYS, strict=False)] == [True, True]


def test_older_day_afterwards(report: dict[str, Any], log: str) -> None:
    """A day of before is trained and kept, but does not take the place of the newer model."""
    older = report["runs"][3]
    assert older["state"] == "success"
    assert older["tasks"]["train"] == "success"
    assert older["tasks"]["update"] == "skipped"
    after = report["runs"][6]["returned"]["update"]
    assert stamped(DAYS[-1]) in after["replaced"]["location"]
    assert "keeps its model: it was trained on data up to 2026-03-04 00:00 UTC, this one only up to 2026-02-21" in log


def test_walk_through(report: dict[str, Any]) -> None:
    """The vendor's sequence on a file of the user's, for an endpoint of the user's."""
    run = report["runs"][4]
    assert run["state"] == "success"
    assert run["returned"]["train"]["model_for"] == "people"
    assert run["returned"]["update"]["endpoint"] == "people"
    assert "/people/" in run["returned"]["update"]["model"]["location"]


def test_missing_input(report: dict[str, Any], log: str) -> None:
    """A missing file fails the run; its log says so in one line, and nothing is updated."""
    run = report["runs"][5]
    assert run["state"] == "failed"
    assert run["tasks"] == {"add_endpoint": "success", "train": "failed", "update": "upstream_failed"}
    said = [line for line in log.splitlines() if "missing.csv" in line and "Batch job" in line]
    assert said
    assert all(
        "failed: BlobNotFound: input1: There is no blob 'missing.csv' in the container 'census'." in line
        for line in said
    )


def test_deferred(report: dict[str, Any], log: str) -> None:
    """With deferral as the default the same DAG ends the same way, through the trigger."""
    run = report["runs"][6]
    assert (run["state"], set(run["tasks"].values())) == ("success", {"success"})
    assert run["returned"]["update"]["proof"]["level"] == "content"
    assert stamped(DEFERRED_DAY) in report["live"]
    # Airflow's word when a task has deferred; the runs before did not.
    assert log.count("running trigger in line") == 1
