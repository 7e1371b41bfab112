"""An endpoint tells of which training window its live model is: as the submission said, else as the path says."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from airflow_provider_azureml_classic.protocol.jobs import Job, JobRequest
from airflow_provider_azureml_classic.protocol.purpose import Purpose
from airflow_provider_azureml_classic.protocol.references import BlobReference, ToldWindow
from airflow_provider_azureml_classic.protocol.values import Endpoint, EndpointSettings, Resource
from airflow_provider_azureml_classic.server.state.history import add_trained, trained_row
from airflow_provider_azureml_classic.server.state.tables import jobs, model_files, placements, trained_models
from airflow_provider_azureml_classic.server.workspace.workspace import Caller
from tests.support.service import Service, line

DAY = datetime(2026, 3, 1, tzinfo=UTC)


def trained(service: Service, path: str, purpose: Purpose | None) -> Job:
    """A model at a path, of a job that was submitted with a purpose; the job once it has ended."""
    trainer = service.client.get_endpoint(service.training, "default")
    source = service.put_blob(f"data/{path}.csv", line(5))
    request = JobRequest({"input1": source}, {"output1": service.signed(path, "cw")}, purpose=purpose)
    job_id = service.client.submit_job(trainer, request)
    service.client.start_job(trainer, job_id)
    return service.ended(trainer, job_id)


def told(service: Service, endpoint: Endpoint, path: str) -> ToldWindow | None:
    """What the endpoint tells once it has the model at a path."""
    settings = EndpointSettings(resources=(Resource(endpoint.resource().name, service.signed(path)),))
    service.client.patch_endpoint(endpoint, settings)
    window = service.client.get_endpoint(service.scoring, endpoint.name).resource().window
    return ToldWindow(window.end, window.is_first) if window else None


@pytest.mark.slow
def test_the_submission_is_believed_before_the_path(service: Service) -> None:
    """Its end counts to the second, wherever the model is put; without one the path's stamp does; else none is known.
    A copy of the file has the window of the file.
    """
    endpoint = service.client.add_endpoint(service.scoring, "windows")
    trained(service, "models/own.ilearner", Purpose("windows", end=DAY.replace(microsecond=5)))
    trained(service, "models/20260201T000000Z.ilearner", Purpose("windows", end=DAY))
    trained(service, "models/20260202T000000Z.ilearner", None)
    trained(service, "models/nameless.ilearner", None)
    service.put_blob("models/copy.ilearner", service.read_blob("models/own.ilearner"))
    ends = {
        "own": DAY,
        "20260201T000000Z": DAY,
        "20260202T000000Z": datetime(2026, 2, 2, tzinfo=UTC),
        "nameless": None,
        "copy": DAY,
    }
    for name, end in ends.items():
        assert told(service, endpoint, f"models/{name}.ilearner") == ToldWindow(end), name


@pytest.mark.slow
def test_the_first_model_says_that_it_is(service: Service) -> None:
    """It has no window; an endpoint that was retrained says so no more, and again after a refresh."""
    endpoint = service.client.add_endpoint(service.scoring, "first")
    born = endpoint.resource().window
    assert (born and born.end, born and born.is_first) == (None, True)
    trained(service, "models/retrained.ilearner", Purpose("first", end=DAY))
    assert told(service, endpoint, "models/retrained.ilearner") == ToldWindow(DAY)
    service.client.refresh_endpoint(service.scoring, "first", overwrite_resources=True)
    again = service.client.get_endpoint(service.scoring, "first").resource()
    assert again.window == born


@pytest.mark.slow
def test_a_rollback_brings_the_window_back(service: Service) -> None:
    """The history keeps the window with the model."""
    endpoint = service.client.add_endpoint(service.scoring, "undone")
    trained(service, "models/undone.ilearner", Purpose("undone", end=DAY))
    trained(service, "models/later.ilearner", Purpose("undone", end=DAY.replace(day=2)))
    told(service, endpoint, "models/undone.ilearner")
    told(service, endpoint, "models/later.ilearner")
    with service.database.read() as connection:
        first = sa.select(placements.c.number).where(placements.c.relative_location == "models/undone.ilearner")
        number = connection.execute(first).scalar_one()
    service.updates.roll_back(Caller(), service.scoring, "undone", number)
    window = service.client.get_endpoint(service.scoring, "undone").resource().window
    assert window is not None
    assert window.end == DAY


@pytest.mark.slow
def test_the_data_and_the_training_are_told(service: Service) -> None:
    """The job and the endpoint tell the same of its model: window, time of training, last time in its data."""
    endpoint = service.client.add_endpoint(service.scoring, "told")
    job = trained(service, "models/told.ilearner", Purpose("told", end=DAY))
    told(service, endpoint, "models/told.ilearner")
    window = service.client.get_endpoint(service.scoring, "told").resource().window
    assert window == job.window
    assert window is not None
    assert (window.end, window.last, window.trained_at is None) == (DAY, None, False)
    # A column of dates tells the last time.
    with service.database.write() as connection:
        connection.execute(sa.update(model_files).values(window_end=DAY))
    service.workspace.forget()
    again = service.client.get_endpoint(service.scoring, "told").resource().window
    assert again == replace(window, last=DAY)


def written(service: Service, path: str, end: datetime | None) -> None:
    """The model of slope 10 at a path, as a finished job of a window wrote it: the very same bytes each time."""
    content = service.read_blob("models/ten.ilearner")
    service.put_blob(path, content)
    purpose = Purpose("twins", end=end)
    trainer = service.client.get_endpoint(service.training, "default")
    source = service.put_blob("data/twins.csv", line(10))
    job_id = service.client.submit_job(trainer, JobRequest({"input1": source}, purpose=purpose))
    digest, ended = hashlib.sha256(content).hexdigest(), service.clock.now
    service.clock.advance(seconds=1)
    with service.database.write() as connection:
        connection.execute(sa.update(jobs).where(jobs.c.id == job_id).values(end_time=ended))
        add_trained(connection, trained_row(job_id, BlobReference(path), digest, purpose))


def named(service: Service, endpoint: Endpoint, path: str, meant: datetime | None = None) -> datetime | None:
    """The end that the endpoint names once it has the model at a path, which a caller may say is of a window."""
    settings = EndpointSettings(resources=(Resource(endpoint.resource().name, service.signed(path)),))
    service.client.patch_endpoint(endpoint, settings, purpose=Purpose(end=meant))
    return service.client.get_endpoint(service.scoring, endpoint.name).resource().window_end


@pytest.mark.slow
def test_the_same_bytes_of_two_windows_are_told_apart(service: Service) -> None:
    """The window is that of the job that is meant, else of the last one that wrote there; a window that no job of these
    bytes had is not believed, and none is guessed for a copy elsewhere.
    """
    endpoint = service.client.add_endpoint(service.scoring, "twins")
    later, never = DAY.replace(day=5), DAY.replace(day=9)
    written(service, "models/later.ilearner", later)
    written(service, "models/early.ilearner", DAY)
    assert named(service, endpoint, "models/early.ilearner") == DAY
    assert named(service, endpoint, "models/later.ilearner") == later
    assert named(service, endpoint, "models/later.ilearner", DAY) == DAY
    assert named(service, endpoint, "models/later.ilearner", never) == later
    written(service, "models/later.ilearner", DAY)
    assert named(service, endpoint, "models/later.ilearner") == DAY
    assert named(service, endpoint, "models/later.ilearner", later) == later
    other = service.client.add_endpoint(service.scoring, "copies")
    service.put_blob("models/copy.ilearner", service.read_blob("models/ten.ilearner"))
    assert named(service, other, "models/copy.ilearner") is None
    assert named(service, other, "models/copy.ilearner", DAY) == DAY


def test_the_history_names_the_job_of_the_window(service: Service) -> None:
    """Of two jobs that wrote the same bytes, the list of an endpoint's models names the one whose window went live."""
    endpoint = service.client.add_endpoint(service.scoring, "twins")
    for day in (1, 5):
        written(service, f"models/{day}.ilearner", DAY.replace(day=day))
    with service.database.read() as connection:
        rows = connection.execute(sa.select(trained_models.c.window_end, trained_models.c.job_id))
        ids = {end: job_id for end, job_id in rows}
    for day in (5, 1):
        named(service, endpoint, f"models/{day}.ilearner")
        (live, *_) = service.client.list_models(service.scoring, "twins").models
        assert (live.window_end, live.job_id) == (DAY.replace(day=day), ids[DAY.replace(day=day)])


def test_a_window_outlives_its_job(service: Service) -> None:
    """A model that is put back after its job was forgotten has the window that the endpoint's history has."""
    endpoint = service.client.add_endpoint(service.scoring, "twins")
    written(service, "models/one.ilearner", DAY)
    assert named(service, endpoint, "models/one.ilearner") == DAY
    named(service, endpoint, "models/three.ilearner")
    with service.database.write() as connection:
        connection.execute(sa.delete(trained_models))
    assert named(service, endpoint, "models/one.ilearner") == DAY
