"""Services that lie, lose jobs or go away: each endpoint's row says so, and the others are not held up."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException

from tests.standalone.airflow import free_ports
from tests.support import ServerProcess
from tests.support.fleets import FileStore, attempt, fleet, started, uploaded
from tests.support.gates import DAY, live

pytestmark = pytest.mark.slow

PROGRAM = "airflow_provider_azureml_classic.server.faults"
NEXT = DAY + timedelta(days=1)


@pytest.fixture(scope="module")
def liar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that misbehaves as its plan says; at first there is nothing in it."""
    folder = tmp_path_factory.mktemp("liar")
    (folder / "plan.json").write_text("{}")
    running = ServerProcess(folder / "data", program=(PROGRAM, str(folder / "plan.json")))
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def connection(liar: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lying server as Airflow's connection."""
    monkeypatch.setenv("AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT", liar.connection["airflow_conn"])


def plan(liar: ServerProcess, **faults: Any) -> None:
    """Say what goes wrong from now on."""
    (liar.data_dir.parent / "plan.json").write_text(json.dumps(faults))


def rows_of(pushed: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Outcome and reason by endpoint."""
    return {row["endpoint"]: (row["outcome"], row["reason"]) for row in pushed["return_value"]["rows"]}


def test_updates_that_are_not_real(liar: ServerProcess, tmp_path: Path) -> None:
    """An ignored and a pretended update are told apart and rolled back; the endpoint between them is updated. The
    retry needs no new job, because the models exist.
    """
    store, items = FileStore(tmp_path / "store.json"), uploaded(liar, "lie", 3)
    fleet("lie", items).execute(attempt(store))
    with liar.client() as client:
        before = live(client, "lie2")
    plan(liar, lie0={"fault": "ignore"}, lie2={"fault": "pretend"})
    ran = attempt(store, end=NEXT)
    for item in items:
        liar.upload(item["inputs"], _other(item["endpoint"]))
    with pytest.raises(AirflowException, match="2 of 3 endpoints of wave 1 failed; 0 may fail"):
        fleet("lie", items, proof_timeout=0.5).execute(ran)
    told = rows_of(ran["ti"].pushed)
    assert told["lie1"][0] == "updated"
    assert told["lie2"][0] == "rolled back"
    assert "it does not give the new model's answers to the golden rows." in told["lie2"][1]
    assert "The previous model was put back" in told["lie2"][1]
    assert told["lie0"][0] in ("failed", "rolled back")
    assert "it still names" in told["lie0"][1]
    with liar.client() as client:
        assert live(client, "lie2") == before
    plan(liar)
    result = fleet("lie", items).execute(attempt(store, end=NEXT))
    assert result["counts"]["updated"] == 3
    assert started(liar, "lie") == ["Finished"] * 6


def _other(name: str) -> str:
    from tests.support.gates import rentals

    return rentals(500 + int(name[-1]), 60)


def test_jobs_that_hang_and_get_lost(liar: ServerProcess, tmp_path: Path) -> None:
    """A job that hangs is cancelled at its time-out, a lost one is told; no more are in flight than allowed."""
    store, items = FileStore(tmp_path / "store.json"), uploaded(liar, "hang", 3)
    plan(liar, hang={"fault": "hang"})
    ran = attempt(store)
    with pytest.raises(AirflowException, match="3 of 3 endpoints of wave 1 failed"):
        fleet("hang", items, job_timeout=0.5, max_active_jobs=1, failure_threshold=2).execute(ran)
    told = rows_of(ran["ti"].pushed)
    assert {outcome for outcome, _ in told.values()} == {"failed"}
    assert "was still Running after job_timeout=0.5 s; it was cancelled." in told["hang1"][1]
    plan(liar, hang={"fault": "lose"})
    ran = attempt(store)
    with pytest.raises(AirflowException):
        fleet("hang", items).execute(ran)
    assert " no longer exists: " in rows_of(ran["ti"].pushed)["hang0"][1]
    plan(liar)


def test_the_deadline_ends_everything(liar: ServerProcess, tmp_path: Path) -> None:
    """At fleet_timeout what is in flight is cancelled, and what is not started stays untouched."""
    store, items = FileStore(tmp_path / "store.json"), uploaded(liar, "late", 3)
    plan(liar, late={"fault": "hang"})
    ran = attempt(store)
    with pytest.raises(AirflowException, match="had not ended by the fleet's deadline"):
        fleet("late", items, fleet_timeout=3, max_active_jobs=1).execute(ran)
    told = rows_of(ran["ti"].pushed)
    assert sorted(outcome for outcome, _ in told.values()) == ["failed", "untouched", "untouched"]
    assert "Not started before the fleet's deadline." in {reason for _, reason in told.values()}
    plan(liar)


def test_the_service_goes_away_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is killed in the middle and started again costs time, and no endpoint and no second job."""
    [port] = free_ports(1)
    first = ServerProcess(tmp_path / "data", "--port", str(port))
    monkeypatch.setenv("AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT", first.connection["airflow_conn"])
    items = uploaded(first, "away", 6)
    done: list[dict[str, Any]] = []
    task = fleet("away", items)
    store = FileStore(tmp_path / "store.json")
    run = threading.Thread(target=lambda: done.append(task.execute(attempt(store))), daemon=True)
    second = None
    try:
        run.start()
        deadline = time.monotonic() + 60
        while started(first, "away").count("Finished") < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        first.kill()
        second = ServerProcess(tmp_path / "data", "--port", str(port))
        run.join(90)
        assert done, "the fleet did not end"
        assert done[0]["counts"]["updated"] == 6
        assert started(second, "away") == ["Finished"] * 6
    finally:
        first.stop()
        run.join(60)
        if second is not None:
            second.stop()
