"""A whole service in this process, with a small experiment that is trained once a test run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.server.experiments import load_experiments, train
from tests.support.service import TRAINING, Clock, Service, declaration, line


@pytest.fixture
def clock() -> Clock:
    """A clock that a test moves."""
    return Clock()


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with declarations, a data directory in which they are set up, and models of slopes 3, 10 and 20.

    Container ``models`` has ``three``, ``ten``, ``twenty`` and ``other`` (of the other experiment).
    """
    folder = tmp_path_factory.mktemp("trained")
    experiments = load_experiments(declaration(folder, TRAINING, "Other Line"))
    with pytest.MonkeyPatch.context() as patch:
        service = Service(folder / "data", Clock(), patch)
        line_experiment, other = experiments
        for name, experiment, slope in (
            ("three", line_experiment, 3),
            ("ten", line_experiment, 10),
            ("twenty", line_experiment, 20),
            ("other", other, 10),
        ):
            data, model = folder / "data.csv", folder / "m.ilearner"
            data.write_text(line(slope))
            train(experiment, None, data, model, folder / "e.csv")
            service.put_blob(f"models/{name}.ilearner", model.read_bytes())
        service.close()
    return folder


@pytest.fixture
def service_dir(trained: Path, tmp_path: Path) -> Path:
    """A copy of what is trained, to be changed by one test."""
    shutil.copytree(trained, tmp_path / "service")
    return tmp_path / "service" / "data"


@pytest.fixture
def service(service_dir: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A running service of one test's own."""
    running = Service(service_dir, clock, monkeypatch)
    yield running
    running.close()


@pytest.fixture
def scorer(service: Service) -> Endpoint:
    """An endpoint ``mine`` of the scoring service, which can be patched; its model has slope 2."""
    return service.client.add_endpoint(service.scoring, "mine")


@pytest.fixture
def trainer(service: Service) -> Endpoint:
    """The default endpoint of the training service."""
    return service.client.get_endpoint(service.training, "default")
