"""Mapped updates in a real Airflow: each is an event of its endpoint's asset, through the alias of all endpoints."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from airflow_provider_azureml_classic.assets import ENDPOINTS
from tests.support import ROOT, ServerProcess
from tests.support.dag_process import DagProcess
from tests.support.gates import rentals

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagProcess]:
    """An Airflow with the DAGs of :mod:`tests.dags.dags_mapped` and no others: nobody else names the alias."""
    folder = tmp_path_factory.mktemp("mapped")
    (folder / "dags").mkdir()
    shutil.copy(ROOT / "tests" / "dags" / "dags_mapped.py", folder / "dags")
    server = ServerProcess(folder / "data")
    server.upload("bike-rental/current.csv", rentals(100, 240))
    connection = {"AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT": server.connection["airflow_conn"]}
    started = DagProcess(folder, folder / "dags", connection)
    yield started
    started.stop()
    server.stop()


@pytest.mark.parametrize(
    ("dag_id", "endpoints", "alias"),
    [
        ("mapped_updates", ["ada", "bob"], ENDPOINTS.name),
        pytest.param("mapped_fleets", ["cy", "dan"], ENDPOINTS.name, marks=pytest.mark.long),
        ("mapped_own_alias", ["eve"], "mine"),
    ],
)
def test_mapped_tasks_have_events(airflow: DagProcess, dag_id: str, endpoints: list[str], alias: str):
    """Each mapped task, deferred or not, records the events of what it updated, and has the outlets of its class."""
    run = airflow.run(dag_id, run_after="2026-03-01T00:00:00+00:00")
    assert run["state"] == "success", run["tasks"]
    told = {event["extra"]["endpoint"]: event["aliases"] for event in run["events"] if event["extra"]}
    assert told == {name: [alias] for name in endpoints}


def test_mapped_task_without_events(airflow: DagProcess):
    """``emit_asset=False`` in ``partial`` counts."""
    run = airflow.run("mapped_silent", run_after="2026-03-01T00:00:00+00:00")
    assert run["state"] == "success", run["tasks"]
    assert run["events"] == []
