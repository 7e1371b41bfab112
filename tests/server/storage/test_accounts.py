"""What references mean where accounts are mapped, and where the service's outputs have an account of their own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.sas import DEVELOPMENT_ACCOUNT, StorageAccount
from airflow_provider_azureml_classic.server.settings import STORAGE_VARIABLE, storage_from
from airflow_provider_azureml_classic.server.storage.accounts import MODELS_CONTAINER, Accounts, read_map

KEY = "a" * 88
OWN = StorageAccount("mlclassic", "b" * 88, "http://service.test:8080/mlclassic")
HOME = StorageAccount("servicehome", KEY, "https://servicehome.blob.core.windows.net")
THERE = "http://there.test:10000/data1"
BY_NAME = f"DefaultEndpointsProtocol=https;AccountName=data1;AccountKey={KEY}"
PLACE = "container/path/x.csv"


def place(reference: BlobReference, **map_: str) -> str:
    """Where a reference is, in short."""
    found = Accounts(OWN, map_).resolved(reference)
    if found.connection_string:
        return (
            f"key {StorageAccount.from_connection_string(found.connection_string).endpoint}/{found.relative_location}"
        )
    return f"{found.location}{found.sas_token}"


@pytest.mark.parametrize(
    "text",
    [
        BY_NAME,
        f"{BY_NAME};EndpointSuffix=core.windows.net",
        f"{BY_NAME};EndpointSuffix=core.chinacloudapi.cn",
        f"{BY_NAME};BlobEndpoint=https://data1.blob.core.windows.net/",
    ],
)
def test_an_account_by_name_is_where_the_map_says(text: str) -> None:
    """With each suffix, and with the address that the cloud gave it; other accounts are where they say."""
    reference = BlobReference(PLACE, connection_string=text)
    assert place(reference, data1=THERE) == f"key {THERE}/{PLACE}"
    assert place(reference, data1=f"{THERE}/", other="http://x.test") == f"key {THERE}/{PLACE}"
    assert place(reference, data1="own") == f"key {OWN.endpoint}/{PLACE}"
    assert ".blob.core." in place(reference, data="http://x.test")


def test_an_explicit_address_is_kept() -> None:
    """Somebody who says where an account is knows better than the map."""
    text = f"{BY_NAME};BlobEndpoint=http://elsewhere.test/data1"
    reference = BlobReference(PLACE, connection_string=text)
    assert place(reference, data1=THERE) == f"key http://elsewhere.test/data1/{PLACE}"


def test_an_address_of_the_cloud_is_mapped_with_its_token() -> None:
    """Also in the .NET form, where base has no slash and relative location has one."""
    for base, relative in (
        ("https://data1.blob.core.windows.net/", PLACE),
        ("https://data1.blob.core.windows.net", f"/{PLACE}"),
    ):
        reference = BlobReference(relative, base, "?sig=x").normalised()
        assert place(reference, data1=THERE) == f"{THERE}/{PLACE}?sig=x"
    for base in ("https://[data1/", "https://data1.example.test/", "https://data1/"):
        assert place(BlobReference(PLACE, base), data1=THERE) == f"{base}{PLACE}"


def test_a_token_in_a_connection_string_is_a_token() -> None:
    """It becomes base location and token, at the account's address here."""
    text = "AccountName=data1;SharedAccessSignature=?sv=1&sig=x%3D"
    assert place(BlobReference(PLACE, connection_string=text), data1=THERE) == f"{THERE}/{PLACE}?sv=1&sig=x%3D"


def test_the_development_account_is_where_it_is_published_or_mapped() -> None:
    """``UseDevelopmentStorage=true`` is an account like others."""
    reference = BlobReference(PLACE, connection_string="UseDevelopmentStorage=true")
    assert place(reference) == f"key {DEVELOPMENT_ACCOUNT.endpoint}/{PLACE}"
    assert place(reference, devstoreaccount1=THERE) == f"key {THERE}/{PLACE}"


def test_what_has_no_place_is_in_the_account_of_the_service() -> None:
    """By path, by address without token (as receipts have it); with a token it is opened by that."""
    accounts = Accounts(OWN, {"servicehome": "http://there.test/servicehome"}, HOME)
    assert accounts.home is not None
    opened = BlobReference("c-1/a b.csv", connection_string=accounts.home.connection_string)
    assert accounts.home.endpoint == "http://there.test/servicehome"
    for reference in (
        BlobReference("c-1/a b.csv"),
        BlobReference.at("http://there.test/servicehome/", "c-1/a%20b.csv"),
        BlobReference.at("http://there.test/", "servicehome/c-1/a%20b.csv"),
        BlobReference.at("https://servicehome.blob.core.windows.net/", "c-1/a%20b.csv"),
    ):
        assert accounts.resolved(reference) == opened
    signed = BlobReference("c-1/x.csv", "http://there.test/servicehome/", "?sig=x")
    assert accounts.resolved(signed) == signed
    elsewhere = BlobReference("c-1/x.csv", "http://there.test/servicehome2/")
    assert accounts.resolved(elsewhere) == elsewhere


@pytest.mark.parametrize(
    "reference",
    [
        BlobReference(f"{MODELS_CONTAINER}/x.ilearner"),
        BlobReference(f"{MODELS_CONTAINER}/x.ilearner", f"{HOME.endpoint}/"),
        BlobReference.at(f"{HOME.endpoint}/", f"%61{MODELS_CONTAINER[1:]}/x.ilearner"),
        BlobReference(f"./{MODELS_CONTAINER}/x.ilearner"),
        BlobReference(f"data/../{MODELS_CONTAINER}/x.ilearner"),
        BlobReference(f"{MODELS_CONTAINER.upper()}/x.ilearner"),
    ],
)
def test_no_client_names_the_models_by_a_path(reference: BlobReference) -> None:
    """Whoever could write there would put another model in the place of every endpoint's."""
    with pytest.raises(RequestRejected):
        Accounts(OWN, home=HOME).resolved(reference)


def test_hosts_of_the_map_may_be_asked() -> None:
    """Whoever maps an account allows its host; the own store is none."""
    accounts = Accounts(OWN, {"data1": THERE, "data2": "own", "data3": "https://X.test"}, HOME)
    assert accounts.hosts == {"there.test:10000", "x.test", "servicehome.blob.core.windows.net"}


@pytest.mark.parametrize(
    "item", ["data1", "=http://x.test", "Data1=http://x.test", "data1=ftp://x", "data1=x", "d=own"]
)
def test_a_wrong_map_is_refused_with_an_example(item: str) -> None:
    """It names the item and the form."""
    with pytest.raises(ValueError, match="must be NAME=URL or NAME=own") as error:
        read_map([item])
    assert repr(item) in str(error.value)


def test_the_account_of_the_service_needs_a_key() -> None:
    """It signs results; no message repeats a secret. The command line goes before the environment."""
    assert storage_from(None, (), {}) == (None, {})
    text = HOME.connection_string
    assert storage_from(None, ["servicehome=http://there.test/h"], {STORAGE_VARIABLE: text}) == (
        replace(HOME, endpoint="http://there.test/h"),
        {"servicehome": "http://there.test/h"},
    )
    assert storage_from(text, (), {STORAGE_VARIABLE: "x"})[0] == HOME
    for wrong in (
        "nonsense",
        "AccountName=a;AccountKey=hid-den",
        "BlobEndpoint=http://x.test;SharedAccessSignature=hid-den",
    ):
        with pytest.raises(ValueError, match="--storage") as error:
            storage_from(wrong, (), {})
        assert "hid-den" not in str(error.value)
