"""Inputs, outputs and models in an Azure Storage account, with Azurite in the account's place."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.protocol.jobs import Job, JobRequest, JobStatus
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.sas import StorageAccount
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.server.storage import azure as azure_storage
from tests.support import ServerProcess, wait_for_job
from tests.support.azurite import ACCOUNT, KEY, Azurite, by_name
from tests.support.listeners import serving
from tests.support.processes import default_of, patch, slope
from tests.support.service import RESOURCE, SCORING, TRAINING, declaration, line

pytestmark = pytest.mark.slow

OTHER_KEY = "b3RoZXJr" * 8


@pytest.fixture(scope="module")
def azurite() -> Iterator[Azurite]:
    """The emulator."""
    running = Azurite()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def server(azurite: Azurite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that knows where the account is."""
    folder = tmp_path_factory.mktemp("azure")
    declared = declaration(folder, TRAINING)
    unreachable = "--storage-account=unreachable=http://127.0.0.1:1/unreachable"
    running = ServerProcess(folder / "data", "--experiments", str(declared), unreachable, *azurite.mapped)
    yield running
    text = running.log.read_text()
    running.stop()
    assert KEY not in text
    assert "sig=" not in text


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    """A client of the server."""
    with server.client() as made:
        yield made


def run(client: Client, endpoint: Endpoint, source: BlobReference, **outputs: BlobReference) -> Job:
    """A job that has ended."""
    job_id = client.submit_job(endpoint, JobRequest({"input1": source}, outputs))
    client.start_job(endpoint, job_id)
    return wait_for_job(client, endpoint, job_id)


@pytest.mark.parametrize("suffix", ["", "core.windows.net"])
def test_everything_by_connection_string(client: Client, azurite: Azurite, suffix: str) -> None:
    """As old clients do it: data, model, evaluation and scored file in one account, named without an address.

    The output's container is not there yet.
    """
    name = f"run{len(suffix)}"
    azurite.put(f"{name}/train.csv", line(6))
    outputs = {
        "output1": by_name(f"{name}new/deep/model.ilearner", suffix=suffix),
        "output2": by_name(f"{name}new/evaluation.csv", suffix=suffix),
    }
    job = run(client, default_of(client, TRAINING), by_name(f"{name}/train.csv", suffix=suffix), **outputs)
    assert (job.status, job.details) == (JobStatus.FINISHED, None)
    model = job.results["output1"]
    assert model.base_location == f"{azurite.account.endpoint}/"
    assert client.fetch_blob(model) == azurite.get(f"{name}new/deep/model.ilearner")
    assert azurite.get(f"{name}new/evaluation.csv").startswith(b"Mean Absolute Error")
    mine = client.add_endpoint(client.find_web_service(SCORING).id, name)
    patch(client, mine, by_name(f"{name}new/deep/model.ilearner", suffix=suffix))
    assert slope(client, mine) == 6
    placed = client.get_endpoint(mine.web_service_id, name).resources[0].location
    assert placed.location == f"{azurite.account.endpoint}/{name}new/deep/model.ilearner"
    azurite.put(f"{name}/rows.csv", "x\n1\n")
    scored = run(client, mine, by_name(f"{name}/rows.csv"), output1=by_name(f"{name}new/scored.csv"))
    assert scored.status is JobStatus.FINISHED, scored.details
    (row,) = csv.DictReader(io.StringIO(azurite.get(f"{name}new/scored.csv").decode()))
    assert round(float(row["Scored Labels"]), 2) == 6


def test_everything_by_sas_url(client: Client, azurite: Azurite) -> None:
    """Also where the address is that of the cloud, which the map replaces."""
    azurite.put("sas/train.csv", line(7))
    cloud = replace(azurite.sas("sas/train.csv"), base_location=f"https://{ACCOUNT}.blob.core.windows.net/")
    trainer = default_of(client, TRAINING)
    job = run(client, trainer, cloud, output1=azurite.sas("sas/model.ilearner", "cw"))
    assert (job.status, job.details) == (JobStatus.FINISHED, None)
    mine = client.add_endpoint(client.find_web_service(SCORING).id, "bysas")
    patch(client, mine, azurite.sas("sas/model.ilearner"))
    assert slope(client, mine) == 7


def test_a_connection_string_with_a_token(client: Client, azurite: Azurite) -> None:
    """``BlobEndpoint=...;SharedAccessSignature=...`` opens what its token opens."""
    azurite.put("token/train.csv", line(8))
    token = azurite.sas("token/train.csv").sas_token.lstrip("?")
    text = f"BlobEndpoint={azurite.account.endpoint};SharedAccessSignature={token}"
    job = run(client, default_of(client, TRAINING), BlobReference("token/train.csv", connection_string=text))
    assert (job.status, job.details) == (JobStatus.FINISHED, None)


def test_the_own_store_by_a_connection_string_with_a_token(client: Client, server: ServerProcess) -> None:
    """The own store is an account like any other; a wrong token is refused at once."""
    good = server.upload("own/train.csv", line(9))
    text = f"BlobEndpoint={server.account.endpoint};SharedAccessSignature={good.sas_token.lstrip('?')}"
    job = run(client, default_of(client, TRAINING), BlobReference("own/train.csv", connection_string=text))
    assert (job.status, job.details) == (JobStatus.FINISHED, None)
    with pytest.raises(RequestRejected, match="does not match this account") as error:
        run(client, default_of(client, TRAINING), BlobReference("own/other.csv", connection_string=text))
    assert error.value.detail_code == "InvalidBlob"


def failing(azurite: Azurite) -> dict[str, tuple[BlobReference, str, str]]:
    """Inputs that cannot be read: reference, code and what the message says."""
    tampered = azurite.sas("bad/train.csv")
    unreachable = by_name("bad/train.csv", account="unreachable")
    return {
        "tampered token": (replace(tampered, relative_location="bad/other.csv"), "InvalidBlob", "sign a new one"),
        "wrong key": (by_name("bad/train.csv", key=OTHER_KEY), "InvalidBlobConnectionString", "AccountKey"),
        "no blob": (by_name("bad/absent.csv"), "BlobNotFound", "no such blob"),
        "no container": (by_name("absent/train.csv"), "BlobNotFound", "no such container"),
        "no blob by token": (azurite.sas("bad/absent.csv"), "BlobNotFound", "HTTP 404"),
        "unreachable": (unreachable, "NoMoreResources", "cannot be reached"),
    }


def test_what_cannot_be_read_fails_the_job_with_the_reason(client: Client, azurite: Azurite) -> None:
    """Code, name of the input, of the blob and of the account; no key, no token; within the time of a few tries."""
    azurite.put("bad/train.csv", line(5))
    for name, (source, code, reason) in failing(azurite).items():
        job = run(client, default_of(client, TRAINING), source)
        said = job.details or ""
        assert (job.status, said.partition(":")[0]) == (JobStatus.FAILED, code), (name, said)
        for part in ("input1", source.relative_location, reason):
            assert part in said, (name, said)
        assert "sig=" not in said
        assert OTHER_KEY not in said


def test_what_cannot_be_written_fails_the_job_with_the_reason(client: Client, azurite: Azurite) -> None:
    """The output is named; a token that only reads does not write."""
    azurite.put("write/train.csv", line(5))
    source = azurite.sas("write/train.csv")
    trainer = default_of(client, TRAINING)
    for target, code, reason in (
        (azurite.sas("write/m.ilearner", "r"), "InvalidBlob", "creating and writing"),
        (azurite.sas("newcontainer/m.ilearner", "cw"), "BlobNotFound", "HTTP 404"),
        (by_name("write/m.ilearner", key=OTHER_KEY), "InvalidBlobConnectionString", "AccountKey"),
    ):
        job = run(client, trainer, source, output1=target)
        assert job.status is JobStatus.FAILED
        assert (job.details or "").startswith(f"{code}: output1: "), job.details
        assert reason in (job.details or "")


@pytest.mark.parametrize(
    ("source", "code", "reason"),
    [
        ("expired", "ExpiryTimeInThePast", "expired at"),
        ("unknown", "LocationNotAllowed", "'other.blob.core.windows.net'"),
        ("development", "LocationNotAllowed", "127.0.0.1"),
        ("nokey", "InvalidBlobConnectionString", "neither AccountKey nor SharedAccessSignature"),
    ],
)
def test_what_is_known_to_fail_is_refused_at_once(
    client: Client, azurite: Azurite, source: str, code: str, reason: str
) -> None:
    """An expired token, an account that is not in the map, the development account without an address here."""
    references = {
        "expired": azurite.sas("bad/train.csv", minutes=-1),
        "unknown": by_name("bad/train.csv", account="other"),
        "development": BlobReference("bad/train.csv", connection_string="UseDevelopmentStorage=true"),
        "nokey": BlobReference("bad/train.csv", connection_string=f"AccountName={ACCOUNT}"),
    }
    with pytest.raises(RequestRejected, match=reason) as error:
        client.submit_job(default_of(client, TRAINING), JobRequest({"input1": references[source]}))
    assert error.value.detail_code == code


def test_a_patch_tells_what_is_wrong_with_its_model(client: Client, azurite: Azurite) -> None:
    """A blob that is no model, one that is not there, a wrong key: the endpoint keeps its model."""
    azurite.put("patch/text.ilearner", b"no model")
    mine = client.add_endpoint(client.find_web_service(SCORING).id, "wrong")
    for location, code in (
        (by_name("patch/text.ilearner"), "ModelInvalid"),
        (by_name("patch/absent.ilearner"), "BlobNotFound"),
        (by_name("patch/text.ilearner", key=OTHER_KEY), "InvalidBlobConnectionString"),
    ):
        with pytest.raises(RequestRejected) as error:
            patch(client, mine, location, RESOURCE)
        assert error.value.detail_code == code
    assert slope(client, mine) == 2


class Redirecting(BaseHTTPRequestHandler):
    """An account that sends whoever asks to another host."""

    asked: list[str] = []

    def do_GET(self) -> None:
        """To itself, under another name."""
        self.asked.append(self.path)
        self.send_response(302)
        self.send_header("Location", "/elsewhere/secret")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def test_the_sdk_follows_no_redirect(tmp_path: Path) -> None:
    """It would ask a host that is not allowed, with the account's signature."""
    with serving(Redirecting) as other:
        account = StorageAccount("evil", KEY, f"http://127.0.0.1:{other.server_port}/evil")
        with pytest.raises(RequestRejected, match="HTTP 302"):
            azure_storage.download(account, "data", "x.csv", tmp_path / "got", 100)
    assert Redirecting.asked == ["/evil/data/x.csv"]


def test_a_blob_over_the_limit_is_not_read(azurite: Azurite, tmp_path: Path) -> None:
    """Its size is known before its content is read."""
    azurite.put("large/x.csv", "x" * 11)
    with pytest.raises(RequestRejected, match="11 bytes") as error:
        azure_storage.download(azurite.account, "large", "x.csv", tmp_path / "got", 10)
    assert (error.value.detail_code, (tmp_path / "got").exists()) == ("OutOfMemoryLimit", False)


def test_our_tokens_are_those_of_azure(azurite: Azurite) -> None:
    """Azurite checks signatures as Azure does; a changed path is not opened."""
    import requests

    azurite.put("signed/x y.csv", "x")
    assert requests.get(azurite.sas("signed/x y.csv").url, timeout=10).status_code == 200
    wrong = replace(azurite.sas("signed/x y.csv"), relative_location="signed/z.csv")
    assert requests.get(wrong.url, timeout=10).status_code == 403
