"""One Airflow instance and one server for all tests of this folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.standalone.airflow import Airflow, running
from tests.standalone.service import HERE, Service
from tests.support import ROOT
from tests.support.postgres import Cluster, cluster


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that the instance and the server write."""
    return tmp_path_factory.mktemp("standalone")


@pytest.fixture(scope="session")
def service(folder: Path) -> Iterator[Service]:
    """A server with an experiment whose jobs the tests hold."""
    running_service = Service(folder)
    try:
        yield running_service
    finally:
        running_service.stop()


@pytest.fixture(scope="session")
def points(folder: Path) -> Path:
    """Folder of the files that stop a task between two calls; see ``dags/held_jobs.py``."""
    made = folder / "points"
    made.mkdir()
    return made


@pytest.fixture(scope="session")
def metadata() -> Iterator[Cluster]:
    """A PostgreSQL with nothing in it but Airflow's metadata database."""
    with cluster() as made:
        yield made


@pytest.fixture(scope="session")
def airflow(folder: Path, points: Path, service: Service, metadata: Cluster) -> Iterator[Airflow]:
    """A running instance with the shipped DAGs and those of this folder; the server is its connection."""
    home = folder / "airflow"
    dags = home / "dags"
    shutil.copytree(ROOT / "dags", dags, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (HERE / "dags").glob("*.py"):
        shutil.copy(path, dags)
    # The same DAG with an endpoint of its own, to be run from the newest day to the oldest.
    source = (dags / "bike_rental_retrain.py").read_text()
    renamed = source.replace('"bike_rental_retrain"', '"bike_rental_backwards"').replace('"bikes"', '"backwards"')
    (dags / "bike_rental_backwards.py").write_text(renamed)
    environment = {
        "AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT": str(service.process.connection["airflow_conn"]),
        "STANDALONE_POINTS": str(points),
    }
    with running(home, metadata.new_database(), environment) as instance:
        yield instance
