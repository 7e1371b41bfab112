"""The models that an endpoint had: written with every change, kept within bounds, put back whatever became of them."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from airflow_provider_azureml_classic.exceptions import NotFound, RequestRejected
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.server.models import janitor
from airflow_provider_azureml_classic.server.models.facts import model_row
from airflow_provider_azureml_classic.server.models.store import ModelStore
from airflow_provider_azureml_classic.server.state import history
from airflow_provider_azureml_classic.server.state.database import Database
from airflow_provider_azureml_classic.server.state.endpoint_store import Store
from airflow_provider_azureml_classic.server.state.overview import ModelLine, Queries
from airflow_provider_azureml_classic.server.state.tables import placements
from airflow_provider_azureml_classic.server.workspace.workspace import Caller
from tests.support.service import Clock, Service, line


@pytest.fixture
def database(service: Service) -> Database:
    """The service's own."""
    database: Database = service.database
    return database


@pytest.fixture
def queries(database: Database) -> Queries:
    """What the portal asks."""
    return Queries(database)


def guid(endpoint: Endpoint) -> str:
    """The endpoint's GUID."""
    return endpoint.api_location.rpartition("/")[2]


def said(models: list[ModelLine]) -> list[tuple[str, str | None, bool]]:
    """Model, what put it in place, whether it is live."""
    return [(Path(model.relative_location).stem, model.how, model.live) for model in models]


def test_every_change_is_written(service: Service, queries: Queries, scorer: Endpoint) -> None:
    """Added, patched, refreshed, rolled back: newest first, one of them live, with what the file says of itself."""
    service.patch("mine", BlobReference("models/ten.ilearner"))
    service.ask("POST", f"{service.endpoint_path('mine')}/refresh", {"OverwriteResources": True})
    ten = queries.history(guid(scorer))[1]
    service.updates.roll_back(Caller(), service.scoring, "mine", ten.number)
    found = queries.history(guid(scorer))
    first = found[-1].relative_location.partition("/")[2].removesuffix(".ilearner")
    expected = [("ten", "rollback", True), (first, "refresh", False), ("ten", "patch", False), (first, "added", False)]
    assert said(found) == expected
    assert found[0].rows == 21
    assert found[0].length == len(service.read_blob("models/ten.ilearner"))
    assert found[0].metrics["Coefficient of Determination"] > 0.9
    assert found[-1].metrics
    assert service.slope(scorer) == 10


def test_a_refused_change_is_not_written(service: Service, queries: Queries, scorer: Endpoint) -> None:
    """A model that is not put in place leaves no trace; neither does a change of settings."""
    service.put_blob("models/bad.ilearner", "x,y\n1,2\n")
    assert service.patch("mine", BlobReference("models/bad.ilearner")).status == 400
    stale = service.patch("mine", BlobReference("models/ten.ilearner"), headers={"if-match": '"99"'})
    assert stale.status == 412
    assert service.ask("PATCH", service.endpoint_path("mine"), {"Description": "x"}).status == 200
    assert len(queries.history(guid(scorer))) == 1


@pytest.mark.slow
def test_the_job_of_a_model_is_known_by_its_digest(service: Service, queries: Queries, scorer: Endpoint) -> None:
    """A job's model is told wherever it was copied to; until it is used it is a retrain that was not used."""
    trainer = service.client.get_endpoint(service.training, "default")
    place = BlobReference("models/mine/20160228T000000Z.ilearner")
    job = service.submit(trainer, service.put_blob("data/a.csv", line(4)), output1=place)
    service.ended(trainer, job)
    mine = service.store.endpoint_named(service.scoring, "mine")
    assert mine
    (unused,) = queries.unused(mine, "Line")
    assert (unused.job_id, f"{unused.window_end:%Y-%m-%d}") == (job, "2016-02-28")
    assert queries.unused(replace(mine, name="other"), "Line") == []
    assert queries.unused(mine, "Other Line") == []
    copied = service.put_blob("elsewhere/copy.ilearner", service.read_blob(place.relative_location))
    service.patch("mine", copied)
    assert queries.history(guid(scorer))[0].job_id == job
    assert queries.unused(mine, "Line") == []


def test_roll_back_without_the_source(service: Service, queries: Queries, scorer: Endpoint) -> None:
    """The model is put back though its blob is gone, and the location says which one it is."""
    for name in ("ten", "twenty"):
        service.patch("mine", BlobReference(f"models/{name}.ilearner"))
    service.blobs.delete("models", "ten.ilearner")
    number = queries.history(guid(scorer))[1].number
    service.updates.roll_back(Caller(), service.scoring, "mine", number)
    assert service.slope(scorer) == 10
    live = service.client.get_endpoint(service.scoring, "mine").resources[0].location
    assert live.relative_location == "models/ten.ilearner"


@pytest.mark.slow
def test_roll_back_to_a_file_that_is_not_kept(service: Service, queries: Queries, scorer: Endpoint) -> None:
    """It is fetched from where it came from; if another model is there now, that is refused."""
    for name in ("ten", "twenty"):
        service.patch("mine", BlobReference(f"models/{name}.ilearner"))
    ten = queries.history(guid(scorer))[1]
    models: ModelStore = service.models
    models.path(ten.digest).unlink()
    service.updates.roll_back(Caller(), service.scoring, "mine", ten.number)
    assert service.slope(scorer) == 10
    service.patch("mine", BlobReference("models/three.ilearner"))
    models.path(ten.digest).unlink()
    service.put_blob("models/ten.ilearner", service.read_blob("models/twenty.ilearner"))
    with pytest.raises(RequestRejected, match="holds another model now"):
        service.updates.roll_back(Caller(), service.scoring, "mine", ten.number)
    assert service.slope(scorer) == 3


def test_roll_back_to_what_there_is_not(service: Service, scorer: Endpoint) -> None:
    """A number that is not in the endpoint's own history is refused, as is the default endpoint."""
    with pytest.raises((NotFound, RequestRejected), match="no model number 999"):
        service.updates.roll_back(Caller(), service.scoring, "mine", 999)
    with pytest.raises(RequestRejected, match="default endpoint"):
        service.updates.roll_back(Caller(), service.scoring, "default", 1)


@pytest.mark.slow
def test_kept_files_survive_a_restart(
    service: Service, service_dir: Path, scorer: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After it the last models of each endpoint are kept, older ones are removed: here, of three the last two."""
    monkeypatch.setattr(history, "KEPT_MODELS", 2)
    monkeypatch.setattr(janitor, "INTERVAL", 3600.0)
    digests = []
    for name in ("three", "ten", "twenty"):
        service.patch("mine", BlobReference(f"models/{name}.ilearner"))
        (resource,) = service.store.endpoint(guid(scorer)).resources
        digests.append(resource.digest)
    folder = service_dir / "models"
    assert {f"{digest}.ilearner" for digest in digests} < {path.name for path in folder.iterdir()}
    service.close()
    monkeypatch.setattr(janitor, "INTERVAL", 0.05)
    again = Service(service_dir, Clock(), monkeypatch)
    for _ in range(200):
        if not (folder / f"{digests[0]}.ilearner").exists():
            break
        threading.Event().wait(0.05)
    names = {path.stem for path in folder.iterdir()}
    again.close()
    assert [digest in names for digest in digests] == [False, True, True]


def test_history_is_bounded(
    service: Service, database: Database, scorer: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each endpoint the last rows are kept; another endpoint's stay."""
    monkeypatch.setattr(history, "KEPT_ROWS", 3)
    service.client.add_endpoint(service.scoring, "other")
    for name in ("three", "ten", "twenty", "three", "ten"):
        service.patch("mine", BlobReference(f"models/{name}.ilearner"))
    with database.read() as connection:
        counts = connection.execute(sa.select(placements.c.endpoint_id).order_by(placements.c.id)).scalars().all()
    assert counts.count(guid(scorer)) == 3
    assert len(set(counts)) == 4


def test_deleted_with_the_endpoint(service: Service, database: Database, scorer: Endpoint) -> None:
    """An endpoint takes its history with it."""
    service.client.delete_endpoint(service.scoring, "mine")
    with database.read() as connection:
        query = sa.select(sa.func.count()).where(placements.c.endpoint_id == guid(scorer))
        assert connection.execute(query).scalar() == 0


def test_numbers_from_a_file_are_made_safe(service: Service) -> None:
    """What a model's file claims is kept as far as it is a finite number or a time."""
    from airflow_provider_azureml_classic.server.experiments.ilearner import read_ilearner

    manifest, _ = read_ilearner(service.read_blob("models/ten.ilearner"))
    claims: dict[str, Any] = {
        "metrics": {"good": 1, "nan": float("nan"), "text": "x", "none": None, "yes": True, "l" * 99: 2.5},
        "window": ["2016-01-01", "soon"],
        "created": "never",
        "rows": "many",
    }
    row = model_row(replace(manifest, **claims), "d", 1, "c")
    assert row.metrics == {"good": 1.0, "l" * 64: 2.5}
    assert (f"{row.window_start:%F}", row.window_end, row.created_at, row.rows) == ("2016-01-01", None, None, 0)


def test_the_folder_of_a_path_names_an_endpoint() -> None:
    """Only where it may be an endpoint's name and is below a container."""
    names = {
        "models/boston/20160228T000000Z.ilearner": "boston",
        "models/a/b/c.ilearner": "b",
        "models/c.ilearner": None,
        "models/No Name/c.ilearner": None,
    }
    for path, name in names.items():
        assert history.trained_row("j", BlobReference(path), "d").for_endpoint == name


def test_store_reads_only_its_own(service: Service, scorer: Endpoint, queries: Queries) -> None:
    """An entry is found with its own endpoint only."""
    store: Store = service.store
    number = queries.history(guid(scorer))[0].number
    assert store.placement(guid(scorer), number) is not None
    assert store.placement("0" * 32, number) is None
