"""The DAGs for many customers, on a service that keeps its customers apart: a real Airflow, a real server."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources

import pytest

from tests.support import BIKES, BIKES_SCORING, ROOT, ServerProcess
from tests.support.dag_process import DagProcess
from tests.support.fleets import started
from tests.support.gates import rentals

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Bike rentals as the samples have them, but for ``isolation``; no endpoint but the default ones."""
    folder = tmp_path_factory.mktemp("apart")
    shipped = resources.files("airflow_provider_azureml_classic.server.experiments") / "shipped.toml"
    bikes = shipped.read_text(encoding="utf-8").split("[[experiment]]\n")[2]
    (folder / "e.toml").write_text(f'[[experiment]]\nisolation = "customer"\n{bikes}')
    running = ServerProcess(folder / "data", "--no-samples", "--experiments", str(folder / "e.toml"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def airflow(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagProcess]:
    """An Airflow with the example DAGs."""
    connection = {"AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT": server.connection["airflow_conn"]}
    process = DagProcess(tmp_path_factory.mktemp("airflow"), ROOT / "dags", connection)
    yield process
    process.stop()


def arrived(server: ServerProcess, *names: str) -> None:
    """Customers who have put their files into their folders; those who have sent none yet are not there."""
    with server.client() as client:
        service = client.find_web_service(BIKES_SCORING).id
        for name in names:
            server.upload(f"{client.add_endpoint(service, name).folder}/rentals.csv", rentals(100, 240))


def live(server: ServerProcess, name: str) -> str:
    """Where the model that is live for a customer is, below the customer's folder."""
    with server.client() as client:
        endpoint = client.get_endpoint(client.find_web_service(BIKES_SCORING).id, name)
    location = endpoint.resource().location
    assert location is not None
    assert location.relative_location.startswith(f"{endpoint.folder}/"), location
    return location.relative_location.removeprefix(f"{endpoint.folder}/")


def trained(server: ServerProcess) -> set[str]:
    """Endpoints of the training service at which a job was started."""
    with server.client() as client:
        rows = client.list_endpoints(client.find_web_service(BIKES).id)
    return {row.name for row in rows if started(server, row.name)}


def test_a_fleet_trains_each_customer_at_his_own_endpoint(airflow: DagProcess, server: ServerProcess) -> None:
    """With his key and in his folder, in two waves: a canary, then the others. Deferred, XComs carry the rows, assets
    tell of updates, and nothing is left between the waves.
    """
    names = ["ada", "bob", "cy"]
    arrived(server, *names)
    run = airflow.run("fleet_retrain", run_after="2026-03-01T00:00:00+00:00", conf={"customers": names})
    assert run["tasks"] == {"customers": "success", "retrain": "success"}
    assert list(run["xcoms"]["retrain"]) == ["return_value"]
    result = run["xcoms"]["retrain"]["return_value"]
    assert result["counts"]["updated"] == len(names)
    assert [row["endpoint"] for row in result["rows"]] == names
    assert {event["extra"]["endpoint"] for event in run["events"]} == set(names)
    assert {event["extra"]["proof"] for event in run["events"]} == {"content"}
    log = airflow.log.read_text(errors="replace")
    assert log.count("running trigger in line") == 2
    assert "Wave 1: 1 of 3 endpoints." in log
    assert [live(server, name).split("/")[2] for name in names] == names
    assert trained(server) == set(names)


def test_a_chain_for_each_customer(airflow: DagProcess, server: ServerProcess) -> None:
    """Task mapping does the same."""
    arrived(server, "fay")
    run = airflow.run("customers_mapped", logical_date="2026-01-25T00:00:00+00:00", conf={"customers": ["fay"]})
    assert set(run["tasks"].values()) == {"success"}, run["tasks"]
    assert run["xcoms"]["retrain.train[0]"]["return_value"]["endpoint"] == "fay"
    assert "/fay/" in live(server, "fay")
    assert "default" not in trained(server)


def test_a_customers_file_retrains_that_customer(airflow: DagProcess, server: ServerProcess) -> None:
    """And nobody else: the run of a partition has one job, which is at that customer's endpoint."""
    arrived(server, "dan", "eve")
    before = trained(server)
    run = airflow.run("customers_partitioned", partition="dan")
    assert set(run["tasks"].values()) == {"success"}, run["tasks"]
    assert trained(server) - before == {"dan"}
    assert "/dan/" in live(server, "dan")
