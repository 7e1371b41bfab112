"""Names of blobs with odd characters: on every way in and out a name stays what it is, or is refused at once."""

from __future__ import annotations

import asyncio
import json
import unicodedata
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import requests
from azure.storage.blob import BlobClient

from airflow_provider_azureml_classic.cli.access import Access
from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError
from airflow_provider_azureml_classic.protocol import operations as ops
from airflow_provider_azureml_classic.protocol import sas
from airflow_provider_azureml_classic.protocol.blocks import block_list_url
from airflow_provider_azureml_classic.protocol.jobs import JobRequest
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.sas import DEVELOPMENT_ACCOUNT, StorageAccount
from airflow_provider_azureml_classic.protocol.values import Endpoint, Resource
from airflow_provider_azureml_classic.retraining.customers import own_place
from airflow_provider_azureml_classic.retraining.proof import Patch, shows
from airflow_provider_azureml_classic.server.blobs.names import check_blob, name_of, path_on_disk
from airflow_provider_azureml_classic.server.blobs.store import BlobStore
from airflow_provider_azureml_classic.server.storage.accounts import Accounts
from airflow_provider_azureml_classic.server.storage.allowed_hosts import Reach
from airflow_provider_azureml_classic.server.storage.lending import Lending
from airflow_provider_azureml_classic.server.storage.locations import READ, Locations
from airflow_provider_azureml_classic.server.storage.scope import WHOLE_STORE
from airflow_provider_azureml_classic.triggers import FreshnessTrigger
from tests.support import ServerProcess
from tests.support.azurite import Azurite

NOW, LIFE = datetime(2026, 2, 1, tzinfo=UTC), timedelta(hours=1)
BASE, CONTAINER = "https://acct.blob.core.windows.net/", "data"
OWN = StorageAccount("mlclassic", DEVELOPMENT_ACCOUNT.key, "http://127.0.0.1:8080/blobs/mlclassic")
HOME = StorageAccount("home", DEVELOPMENT_ACCOUNT.key, "http://127.0.0.1:10000/home")

#: Names that Azure allows, and that are the same on every way here.
NAMES = [
    *("what?.csv", "a?b=c.csv", "no #1.csv", "100%.csv", "100%25.csv", "a%20b.csv", "a%2Fb.csv"),
    *("%ff.csv", "1+1=2.csv", "a b.csv", " a.csv", "a&b;c=d.csv", "a..b/..c.csv", "folder//x.csv"),
    *(
        "/x.csv",
        "dot.",
        "last/",
        "c://x.csv",
        "http://h/x.csv",
        "~a!$'(),*@:[]^`{|}<>\".csv",
        "sig=x.csv",
        "x?/y#z.csv",
    ),
    *("\U0001f6b2.csv", *(unicodedata.normalize(form, "Müller.csv") for form in ("NFC", "NFD"))),
]
#: Names that would be another blob, or a secret, on one of their ways: refused on each that may meet them.
REFUSED = [
    "a?sig=x",
    "a?sv=1&sig=x",
    "a%3Fsig=x",
    "a/../b.csv",
    "../b.csv",
    "./b.csv",
    "a\\b.csv",
    "a\n.csv",
    "a\x00.csv",
]


def own(name: str) -> BlobReference:
    """A blob of the service's own store."""
    return BlobReference(f"{CONTAINER}/{name}")


def elsewhere(name: str) -> BlobReference:
    """One behind a base location, with a token."""
    return BlobReference(f"{CONTAINER}/{name}", BASE, "?sv=1&sig=x")


def wired(reference: BlobReference) -> BlobReference:
    """A reference after it was sent or stored as JSON."""
    return BlobReference.from_wire(json.loads(json.dumps(reference.to_wire())), strict=True)


def accessed(text: str) -> BlobReference:
    """A blob as the command line takes it, with a storage account."""
    access = Access("http://127.0.0.1:8080", "w", "t", DEVELOPMENT_ACCOUNT.connection_string)
    return access.readable(access.place(text))


def job_of(name: str) -> JobRequest:
    """A job, after it was sent."""
    request = JobRequest({"in": elsewhere(name), "own": own(name)}, {"out": own(name)})
    return JobRequest.from_wire(json.loads(json.dumps(request.to_wire())))


def patch_of(name: str) -> Patch:
    """An update that is to be proved, as a task remembers it."""
    patch = Patch("r", elsewhere(name), replaced=own(name))
    return Patch.from_json(json.loads(json.dumps(patch.to_json())))


def awaited(name: str) -> BlobReference:
    """What a deferred sensor waits for."""
    kept = (BASE, elsewhere(name).address_path)
    options = {"azureml_classic_conn_id": "c", "web_service_id": "w", "endpoint": "e", "deadline": 1.0}
    _, arguments = FreshnessTrigger(location=kept, poll_interval=1.0, **options).serialize()
    goal = FreshnessTrigger(**json.loads(json.dumps(arguments))).goal(None)
    assert goal is not None
    assert goal.location is not None
    return goal.location


def segment(name: str) -> str:
    """A customer's file, in the path of a request."""
    url = ops.SIGN_FILE.url("http://h", {"file": name})
    operation, segments, _ = ops.match("POST", url.removeprefix("http://h"))
    assert operation is ops.SIGN_FILE
    return f"{CONTAINER}/{segments['file']}"


def signed(
    reference: BlobReference, account: StorageAccount = DEVELOPMENT_ACCOUNT, now: datetime = NOW
) -> BlobReference:
    """A reference that an account has opened, with a token for just this name."""
    opened = account.opened(reference, "rcw", LIFE, now)
    assert opened is not None
    sas.verify(account, opened.sas_token, *opened.container_and_blob(), permission="r", now=now)
    return opened


#: Every way of a location, from a name to what comes out of it.
WAYS: dict[str, Callable[[str], BlobReference | str]] = {
    "wire, own store": lambda name: wired(own(name)),
    "wire, base location": lambda name: wired(elsewhere(name)),
    "wire, connection string": lambda name: wired(replace(own(name), connection_string=HOME.connection_string)),
    "wire, .NET": lambda name: BlobReference.from_wire(
        {"BaseLocation": BASE[:-1], "RelativeLocation": f"/{elsewhere(name).address_path}", "SasBlobToken": "sig=x"}
    ),
    "URL": lambda name: BlobReference.from_url(elsewhere(name).url),
    "path that a user writes": lambda name: BlobReference.parse(f"{CONTAINER}/{name}"),
    "folder of a customer": lambda name: BlobReference.parse(
        own_place(f"{{folder}}/{name}", Endpoint("e", folder=CONTAINER), "e")
    ),
    "receipt, XCom, log: own store": lambda name: BlobReference.parse(own(name).location),
    "receipt, XCom, log: elsewhere": lambda name: BlobReference.parse(elsewhere(name).location),
    "column": lambda name: BlobReference.at(BASE, elsewhere(name).address_path),
    "signed": lambda name: signed(own(name)),
    "signed, from its address": lambda name: signed(BlobReference.from_url(signed(own(name)).url)),
    "signed and sent": lambda name: wired(signed(own(name))),
    "blocks": lambda name: BlobReference.from_url(block_list_url(elsewhere(name))),
    "job, input": lambda name: job_of(name).inputs["in"],
    "job, own input": lambda name: job_of(name).inputs["own"],
    "job, output": lambda name: job_of(name).outputs["out"],
    "resource": lambda name: Resource.from_wire(Resource("r", elsewhere(name)).to_wire()).location or "",
    "proof": lambda name: patch_of(name).location,
    "proof, model before": lambda name: patch_of(name).replaced or "",
    "sensor": awaited,
    "command line": lambda name: accessed(f"{CONTAINER}/{name}"),
    "file of a customer": segment,
    "disk": lambda name: f"{CONTAINER}/{name_of(path_on_disk(check_blob(name, windows=False)))}",
    "Azure SDK, its address": lambda name: BlobReference.from_url(BlobClient(BASE, CONTAINER, name).url),
    "Azure SDK, our address": lambda name: f"{CONTAINER}/{BlobClient.from_blob_url(elsewhere(name).url).blob_name}",
}


def path_of(result: BlobReference | str) -> str:
    """The name that came out; one with an account before the container, without it."""
    path = result if isinstance(result, str) else result.relative_location
    return path.removeprefix(f"{DEVELOPMENT_ACCOUNT.name}/")


@pytest.mark.parametrize("way", WAYS)
def test_a_name_stays_what_it_is(way: str) -> None:
    """Whatever Azure allows comes out as it went in."""
    for name in NAMES:
        assert path_of(WAYS[way](name)) == f"{CONTAINER}/{name}"


@pytest.mark.parametrize("way", WAYS)
def test_a_name_that_cannot_stay_what_it_is_is_refused(way: str) -> None:
    """None becomes another one."""
    for name in REFUSED:
        with suppress(AzureMLClassicError):
            assert path_of(WAYS[way](name)) == f"{CONTAINER}/{name}"


@pytest.mark.parametrize("name", REFUSED)
def test_what_reads_a_reference_refuses_such_a_name(name: str) -> None:
    """In each form of location; the message shows nothing that may be a token."""
    for reference in (elsewhere(name), own(name), replace(own(name), connection_string=HOME.connection_string)):
        with pytest.raises(AzureMLClassicError) as refused:
            wired(reference)
        assert "sig=x" not in str(refused.value)


def test_a_blank_at_the_end_is_of_no_name() -> None:
    """Around what is pasted it is taken off; where it is encoded, it would be lost on the next way."""
    assert BlobReference.parse(" data/a.csv\n") == own("a.csv")
    for refused in (lambda: BlobReference.from_url(f"{BASE}data/a.csv%20"), lambda: check_blob("a.csv ")):
        with pytest.raises(AzureMLClassicError, match="ends with a blank"):
            refused()


@pytest.mark.parametrize(
    "sent",
    [
        {"RelativeLocation": "data/what?.csv", "BaseLocation": BASE},
        {"RelativeLocation": "data/a?b=c.csv", "BaseLocation": BASE, "SasBlobToken": "?sig=x"},
        {"RelativeLocation": "data/a%ff.csv", "BaseLocation": BASE},
        {"RelativeLocation": "data/a.csv", "BaseLocation": f"{BASE}?x="},
        f"{BASE}data/no#1.csv",
        f"{BASE}data/what?.csv",
    ],
)
def test_an_address_that_may_mean_two_names_is_refused(sent: Any) -> None:
    """Nothing is cut off silently: the message says how such a name is written."""
    with pytest.raises(AzureMLClassicError, match=r"%3F|%23|UTF-8|BaseLocation"):
        BlobReference.parse(sent)


@pytest.mark.parametrize("home", [None, HOME], ids=["own store", "account"])
def test_the_service_publishes_and_lends_what_it_was_given(home: StorageAccount | None, tmp_path: Path) -> None:
    """A published location and one that a Dask worker reads are of the same blob, as the address says it."""
    store = BlobStore(tmp_path, OWN)
    locations = Locations(store, Reach(()), lambda: NOW, Accounts(OWN, {}, home))
    lending = Lending(locations, OWN, lambda: NOW)
    account = home or OWN
    for name in NAMES:
        place = locations.resolve(WHOLE_STORE, wired(own(name)))
        by_url = locations.resolve(WHOLE_STORE, BlobReference.from_url(signed(own(name), OWN).url))
        assert by_url.reference.relative_location == place.reference.relative_location == f"{CONTAINER}/{name}"
        for opened in (
            locations.published(wired(place.lasting), signed=True),
            lending.lent(place).reference,
            locations.opened(WHOLE_STORE, f"{CONTAINER}/{name}") if home is None else signed(own(name), account),
        ):
            assert BlobReference.from_url(opened.url).same_place(opened)
            assert wired(opened) == opened
            sas.verify(account, opened.sas_token, CONTAINER, name, permission=READ, now=NOW)


def test_a_model_is_seen_live_by_its_name() -> None:
    """A name is compared, not its spelling; and no two names are the same."""
    for name in NAMES:
        endpoint = Endpoint("e", resources=(Resource("r", wired(elsewhere(name))),))
        assert shows(endpoint, "r", BlobReference.from_url(elsewhere(name).url))
        assert not any(elsewhere(name).same_place(elsewhere(other)) for other in NAMES if other != name)


def test_the_server_keeps_names(server: ServerProcess) -> None:
    """Written and read by ``requests``, ``aiohttp``, this package and the SDK of Azure, all mean the same blob."""
    folder, content = uuid.uuid4().hex, {}
    with server.client() as client:
        for number, name in enumerate(NAMES):
            place = client.sign_blob(BlobReference(f"{CONTAINER}/{folder}/{name}"))
            content[name] = f"x,y\n{number},2\n".encode()
            client.store_blob(place, content[name])
        for name in NAMES:
            place = client.sign_blob(BlobReference(f"{CONTAINER}/{folder}/{name}"))
            with BlobClient.from_blob_url(place.url) as sdk:
                read = {
                    client.fetch_blob(place),
                    requests.get(place.url, timeout=30).content,
                    sdk.download_blob().readall(),
                }
            assert read == {content[name], asyncio.run(_asked(place.url))} == {content[name]}


async def _asked(url: str) -> bytes:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return await answer.read()


@pytest.mark.slow
def test_azurite_keeps_names() -> None:
    """What the SDK wrote, the service's own addresses read, and the other way round."""
    azurite = Azurite()
    try:
        client, now = Client("http://127.0.0.1:1", "w" * 32, "t"), datetime.now(UTC)
        for number, name in enumerate(NAMES):
            azurite.put(f"{CONTAINER}/by-sdk/{name}", str(number))
            by_sdk, by_us = (signed(own(f"{folder}/{name}"), azurite.account, now) for folder in ("by-sdk", "by-us"))
            client.store_blob(by_us, str(number).encode())
            assert client.fetch_blob(by_sdk) == azurite.get(by_us.relative_location) == str(number).encode()
    finally:
        azurite.stop()
