"""Outputs and models in a storage account: they outlive the server's disk, and a second server finds them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from airflow_provider_azureml_classic.exceptions import ServiceUnavailable
from airflow_provider_azureml_classic.protocol.jobs import JobRequest, JobStatus
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.sas import StorageAccount
from airflow_provider_azureml_classic.server.models.remote import GRACE, Vault, blob_name
from airflow_provider_azureml_classic.server.models.store import ModelStore
from airflow_provider_azureml_classic.server.settings import STORAGE_VARIABLE, Retention
from airflow_provider_azureml_classic.server.storage.accounts import MODELS_CONTAINER
from tests.support import ServerProcess, wait_for_job
from tests.support.azurite import HOME, HOME_KEY, Azurite, by_name
from tests.support.processes import default_of, patch, slope
from tests.support.service import SCORING, TRAINING, Clock, Service, declaration, line

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def azurite() -> Iterator[Azurite]:
    """The emulator."""
    running = Azurite()
    yield running
    running.stop()


class Site:
    """Servers on one folder whose outputs go to the account.

    :param folder: an empty folder.
    :param azurite: the emulator.
    """

    def __init__(self, folder: Path, azurite: Azurite) -> None:
        self.folder, self.azurite = folder, azurite
        declaration(folder, TRAINING)
        # As an old client would write it: the map says where it is.
        self.secret = by_name("", account=HOME, key=HOME_KEY).connection_string
        self.started: list[ServerProcess] = []

    def start(self) -> ServerProcess:
        """A server."""
        declared = str(self.folder / "experiments.toml")
        arguments = ("--experiments", declared, *self.azurite.mapped)
        secret = {STORAGE_VARIABLE: self.secret}
        self.started.append(ServerProcess(self.folder / "data", *arguments, environment=secret))
        return self.started[-1]


@pytest.fixture
def site(azurite: Azurite, tmp_path: Path) -> Iterator[Site]:
    """A folder for servers."""
    made = Site(tmp_path, azurite)
    yield made
    for server in made.started:
        server.stop()
        assert HOME_KEY not in server.log.read_text()


def model_blobs(azurite: Azurite) -> set[str]:
    """The models in the account."""
    with azurite.client(azurite.home) as client:
        return {blob.name for blob in client.get_container_client(MODELS_CONTAINER).list_blobs()}


def test_models_outlive_the_servers_disk(site: Site) -> None:
    """A job's outputs go to the account; after kill -9 and the loss of models and blobs the endpoints score the same.

    Each look at the job signs its results anew, for the account.
    """
    server = site.start()
    with server.client() as client:
        assert server.account == site.azurite.home
        data = site.azurite.put("data/five.csv", line(5), site.azurite.home)
        trainer = default_of(client, TRAINING)
        job_id = client.submit_job(trainer, JobRequest({"input1": data}))
        client.start_job(trainer, job_id)
        job = wait_for_job(client, trainer, job_id)
        assert (job.status, job.details) == (JobStatus.FINISHED, None)
        model = job.results["output1"]
        assert model.base_location == f"{site.azurite.home.endpoint}/"
        mine = client.add_endpoint(client.find_web_service(SCORING).id, "mine")
        patch(client, mine, model)
        digest = hashlib.sha256(client.fetch_blob(model)).hexdigest()
        assert blob_name(digest) in model_blobs(site.azurite)
    server.kill()
    shutil.rmtree(site.folder / "data" / "models")
    shutil.rmtree(site.folder / "data" / "blobs")
    with site.start().client() as client:
        mine = client.get_endpoint(mine.web_service_id, "mine")
        assert slope(client, mine) == 5
        assert slope(client, default_of(client, SCORING)) == 2
        again = client.get_job(default_of(client, TRAINING), job_id).results["output1"]
        assert client.fetch_blob(again) == site.azurite.get(model.relative_location, site.azurite.home)
        patch(client, mine, client.get_endpoint(mine.web_service_id, "default").resources[0].location)
        assert slope(client, mine) == 2
        patch(client, mine, BlobReference(model.relative_location))
        assert slope(client, mine) == 5
        rows = site.azurite.put("data/rows.csv", "x\n1\n", site.azurite.home)
        scoring = client.submit_job(mine, JobRequest({"input1": rows}))
        client.start_job(mine, scoring)
        assert wait_for_job(client, mine, scoring).status is JobStatus.FINISHED
    assert (site.folder / "data" / "models" / blob_name(digest)).exists()


@pytest.mark.parametrize("place", ["http://127.0.0.1:1/servicehome", "wrong key"])
def test_an_account_that_cannot_be_used_is_known_at_start(azurite: Azurite, tmp_path: Path, place: str) -> None:
    """It says which account and why, and ends; the key is not in the message."""
    import os
    import subprocess
    import sys

    account = StorageAccount(HOME, HOME_KEY, place)
    if place == "wrong key":
        account = StorageAccount(HOME, "b3RoZXJr" * 8, azurite.home.endpoint)
    server = "airflow_provider_azureml_classic.server"
    ended = subprocess.run(
        [sys.executable, "-m", server, "--data-dir", str(tmp_path / "data"), "--port", "0"],
        env={**os.environ, STORAGE_VARIABLE: account.connection_string},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 2
    assert f"storage account '{HOME}'" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert account.key not in ended.stderr


def test_old_outputs_in_the_account_are_removed(
    azurite: Azurite, service_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that nobody needs; what is live, what a client put there and what was written since stay."""
    clock, account = Clock(), azurite.account
    clock.now = datetime.now(UTC)
    more = {"storage": account, "storage_accounts": {account.name: account.endpoint}}
    service = Service(service_dir, clock, monkeypatch, retention=Retention(model_days=10), **more)
    try:
        trainer = service.client.get_endpoint(service.training, "default")
        service.client.add_endpoint(service.scoring, "mine")
        sources = [azurite.put(f"data/{slope}.csv", line(slope)) for slope in (4, 5)]
        live, old = (service.ended(trainer, service.submit(trainer, data)) for data in sources)
        assert (live.details, old.details) == (None, None)
        assert service.patch("mine", live.results["output1"]).status == 200
        remover = service.remover()
        model = BlobReference(old.results["output1"].relative_location)
        before = clock.now - timedelta(days=1)
        assert service.updates._locations.remove_unchanged(model, before) is None
        clock.advance(days=11)
        remover.round()
        clock.advance(days=1)
        remover.round()
    finally:
        service.close()
    with azurite.client() as client:
        names = {
            f"{box.name}/{blob.name}"
            for box in client.list_containers()
            for blob in client.get_container_client(box).list_blobs()
        }
    assert not [name for name in names if old.id in name]
    assert {reference.relative_location for reference in live.results.values()} | {"data/5.csv"} <= names


# -- the vault -------------------------------------------------------------------------------------------------------


@pytest.fixture
def vault(azurite: Azurite) -> Vault:
    """The models of the account."""
    made = Vault(azurite.home, 1 << 20)
    made.prepare()
    return made


def kept(vault: Vault, folder: Path, content: bytes) -> str:
    """Put something into the vault; returns its digest."""
    (folder / "content").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    vault.put(digest, folder / "content")
    return digest


def test_only_models_that_nobody_has_named_for_a_day_are_removed(
    vault: Vault, azurite: Azurite, tmp_path: Path
) -> None:
    """One that was just uploaded may be named by another server a moment later."""
    used, unused = kept(vault, tmp_path, b"used"), kept(vault, tmp_path, b"unused")
    now = datetime.now(UTC)
    others = {name.partition(".")[0] for name in model_blobs(azurite)} - {unused}
    vault.clean(others, now)
    assert {blob_name(used), blob_name(unused)} <= model_blobs(azurite)
    vault.clean(others, now + GRACE + timedelta(minutes=1))
    assert blob_name(used) in model_blobs(azurite)
    assert blob_name(unused) not in model_blobs(azurite)


def test_a_model_that_is_put_again_is_not_removed_by_another_server(
    vault: Vault, azurite: Azurite, tmp_path: Path
) -> None:
    """What another server's clean-up saw as old has been taken up since."""
    digest = kept(vault, tmp_path, b"taken up")
    with azurite.client(azurite.home) as client:
        blob = client.get_blob_client(MODELS_CONTAINER, blob_name(digest))
        seen = blob.get_blob_properties()
        kept(vault, tmp_path, b"taken up")
        assert blob.get_blob_properties().etag != seen.etag


def test_a_damaged_model_is_never_served(vault: Vault, azurite: Azurite, tmp_path: Path) -> None:
    """Its digest is compared; nothing of it stays; it is an error of the server that may pass."""
    digest = kept(vault, tmp_path, b"whole")
    with azurite.client(azurite.home) as client:
        client.get_blob_client(MODELS_CONTAINER, blob_name(digest)).upload_blob(b"half", overwrite=True)
    models = ModelStore(tmp_path / "models", vault=vault)
    with pytest.raises(ServiceUnavailable) as error:
        models.file(digest)
    assert error.value.detail_code == "ResourceLoadFailed"
    assert list((tmp_path / "models").iterdir()) == []
    with pytest.raises(ServiceUnavailable, match="no such blob") as error:
        models.file("0" * 64)
    assert error.value.detail_code == "ResourceDownload"


def test_models_from_before_the_account_are_taken_into_it(vault: Vault, azurite: Azurite, tmp_path: Path) -> None:
    """A server that is given an account later loses no model of an endpoint."""
    content = b"from before"
    digest = hashlib.sha256(content).hexdigest()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / blob_name(digest)).write_bytes(content)
    (tmp_path / "models" / blob_name("unused")).write_bytes(b"x")
    ModelStore(tmp_path / "models", vault=vault).fill_vault({digest})
    assert blob_name(digest) in model_blobs(azurite)
    assert blob_name("unused") not in model_blobs(azurite)


def test_an_account_remembers_its_database(vault: Vault, azurite: Azurite) -> None:
    """A server with another one does not take the models of all endpoints for models of none."""
    before = vault.remembered()
    vault.remember('{"id": "a", "database": "b"}')
    assert vault.remembered() == '{"id": "a", "database": "b"}'
    assert "database.json" not in vault.digests()
    with azurite.client(azurite.home) as client:
        client.get_blob_client(MODELS_CONTAINER, "database.json").delete_blob()
    assert vault.remembered() is None
    if before is not None:
        vault.remember(before)


def test_a_model_waits_from_when_it_is_unused(vault: Vault, azurite: Azurite, tmp_path: Path) -> None:
    """However long it was in use: it is marked first, removed a day later, and spared if it is used again."""
    digest = kept(vault, tmp_path, b"long in use")
    later = datetime.now(UTC) + 3 * GRACE
    others = vault.digests() - {digest}
    for _ in range(2):
        vault.clean(others, datetime.now(UTC))
    vault.clean({*others, digest}, later)
    vault.clean(others, later)
    assert blob_name(digest) in model_blobs(azurite)
    vault.clean({*others, digest}, later)
    vault.clean(others, later)
    assert blob_name(digest) in model_blobs(azurite)
    vault.clean(others, later)
    assert blob_name(digest) not in model_blobs(azurite)
