"""Fixtures that several test modules share."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile

# Before anything imports Airflow: a home of its own, so that no test touches the developer's; and unit test mode, in
# which operators can be called directly, without a database.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-home-")
atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "True"
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
# Before anything loads OpenMP: several test processes share the cores, and its threads spin while they wait for one
# (measured: the tests of experiments take 62 s instead of 26 s). Trainings hold themselves to one thread anyway.
os.environ["OMP_NUM_THREADS"] = "1"

from collections.abc import Iterator  # noqa: E402

import pytest  # noqa: E402

from airflow_provider_azureml_classic.client import Client  # noqa: E402
from tests.support import ServerProcess  # noqa: E402
from tests.support import postgres as own_postgres  # noqa: E402


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that take so long that they have a time limit of their own begin first; others run beside them."""
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A running server with the shipped experiments; tests use endpoints and paths of their own."""
    running = ServerProcess(tmp_path_factory.mktemp("server") / "data")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[own_postgres.Cluster]:
    """A PostgreSQL of this test process; take a database of your own with ``new_database``."""
    with own_postgres.cluster() as made:
        yield made


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    """A blocking client of the running server."""
    with server.client() as made:
        yield made


@pytest.fixture
def airflow_connection(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> ServerProcess:
    """The running server as Airflow's connection ``azureml_classic_default``."""
    monkeypatch.setenv("AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT", server.connection["airflow_conn"])
    return server


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for in the worker, and the triggerer looks at once."""
    for name in ("operators.placing.AT_ONCE", "operators.gate.AT_ONCE", "triggers.FIRST_LOOK"):
        monkeypatch.setattr(f"airflow_provider_azureml_classic.{name}", 0.0)


@pytest.fixture(autouse=True)
def _no_secrets_of_other_tests() -> Iterator[None]:
    """Airflow forgets what it masks: at each new secret it compiles all into one pattern, and a process of tests tells
    thousands (measured: 100 take half a second, 1,000 take 100 s).
    """
    yield
    # Airflow 3.2 has no such function.
    if masker := getattr(sys.modules.get("airflow.sdk.log"), "_secrets_masker", None):
        masker().reset_masker()
