"""What a customer reaches of the service's store where that is an account of Azure Storage: his folder alone."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.sas import StorageAccount
from airflow_provider_azureml_classic.server.blobs.store import BlobStore
from airflow_provider_azureml_classic.server.clock import system_clock
from airflow_provider_azureml_classic.server.storage.accounts import Accounts
from airflow_provider_azureml_classic.server.storage.allowed_hosts import Reach
from airflow_provider_azureml_classic.server.storage.locations import Locations
from airflow_provider_azureml_classic.server.storage.scope import WHOLE_STORE, Scope

KEY = base64.b64encode(b"k" * 64).decode()
OWN = StorageAccount("mlclassic", KEY, "http://ml.test:8080/mlclassic")
CLOUD = StorageAccount("home", KEY, "https://home.blob.core.windows.net")
AZURITE = StorageAccount("home", KEY, "http://127.0.0.1:10000/home")
ME, OTHER = Scope("a" * 32), "b" * 32
TOKEN = "?sv=2020-12-06&sr=c&sig=x&sp=r&se=2099-01-01T00%3A00%3A00Z"


def locations(tmp_path: Path, home: StorageAccount | None) -> Locations:
    """The locations of a service whose outputs go to an account."""
    accounts = Accounts(OWN, {"mapped": "own"}, home)
    return Locations(BlobStore(tmp_path, OWN), Reach(frozenset(), accounts.hosts), system_clock, accounts)


def string(name: str, endpoint: str = "", key: str = KEY) -> str:
    """A connection string."""
    return f"AccountName={name};AccountKey={key}" + (f";BlobEndpoint={endpoint}" if endpoint else "")


def references(home: StorageAccount, path: str) -> list[BlobReference]:
    """A path of the account in the forms that lead there, or may."""
    base, root = home.endpoint, home.endpoint.removesuffix("/home")
    container, rest = path.split("/", 1)
    forms = [
        BlobReference(path),
        *(BlobReference(path, base, token) for token in ("", TOKEN)),
        BlobReference(f"/home/{path}" if root != base else f"/{path}", root, TOKEN),
        BlobReference(rest, f"{base}/{container}", TOKEN),
        BlobReference(rest, f"{base}/x/../{container}", TOKEN),
        BlobReference(path, base.replace("home.", "HOME."), TOKEN),
        BlobReference(path, base.replace(".net", ".net.").replace("home.", "home-secondary."), TOKEN),
        BlobReference(path, connection_string=string("home", base)),
        BlobReference(path, connection_string=string("home")),
        BlobReference(path, connection_string=string("home", base, base64.b64encode(b"wrong").decode())),
        BlobReference(path, connection_string=f"BlobEndpoint={base};SharedAccessSignature={TOKEN[1:]}"),
        BlobReference(path, OWN.endpoint),
        BlobReference(path, "https://mapped.blob.core.windows.net"),
        BlobReference(path, connection_string=string("mlclassic")),
        BlobReference(path, connection_string=string("mapped")),
    ]
    if root != base:
        forms += [BlobReference(path, f"{root}/home-secondary", TOKEN), BlobReference(path, f"{root}/%68ome", TOKEN)]
        forms += [BlobReference(f"other/../home/{path}", root, TOKEN), BlobReference(path, f"{root}//home", TOKEN)]
    return [form.normalised() for form in forms]


@pytest.mark.parametrize("home", [CLOUD, AZURITE], ids=["cloud", "azurite"])
@pytest.mark.parametrize("path", [f"customers/{OTHER}/x.csv", "models/x.csv", f"customers/{ME.customer}x/x.csv",
                                  f"customers/{ME.customer}/../{OTHER}/x.csv",
                                  f"customers/{ME.customer}/%2e%2e/{OTHER}/x.csv"])  # fmt: skip
def test_no_form_leads_out_of_the_folder(tmp_path: Path, home: StorageAccount, path: str) -> None:
    """Whatever opens it, and however the account is written; the whole store is not limited by any of it."""
    for reference in references(home, path):
        with pytest.raises(RequestRejected) as refused:
            locations(tmp_path, home).resolve(ME, reference)
        assert refused.value.detail_code in ("LocationOutsideFolder", "InputBlobRelativeLocationInvalid"), reference


@pytest.mark.parametrize("home", [CLOUD, AZURITE], ids=["cloud", "azurite"])
def test_ones_own_is_reached(tmp_path: Path, home: StorageAccount) -> None:
    """By path, address, token and connection string."""
    path = f"customers/{ME.customer}/deep/x.csv"
    for reference in references(home, path)[:3]:
        location = locations(tmp_path, home).resolve(ME, reference)
        assert location.reference.relative_location == path
        assert not location.guarded
    assert not locations(tmp_path, home).resolve(ME, references(home, path)[8]).guarded


def test_another_account_is_the_customers_own_affair(tmp_path: Path) -> None:
    """Any path of it, as far as the allow list admits the host; an account beside the service's is another one."""
    for home, base in ((CLOUD, "https://theirs.blob.core.windows.net"), (AZURITE, "http://127.0.0.1:10000/theirs")):
        for reference in (
            BlobReference("data/x.csv", base, TOKEN),
            BlobReference("data/x.csv", connection_string=string("theirs", base)),
        ):
            assert locations(tmp_path, home).resolve(ME, reference.normalised()).reference.relative_location


@pytest.mark.parametrize("path", ["", "customers", f"customers/{ME.customer}", f"customers/{ME.customer}/",
                                  f"customers/{ME.customer}/ /x", f"customers/{ME.customer}/a//b",
                                  f"customers/{ME.customer}/%25252525252e%25252525252e/x",
                                  f"Customers/{ME.customer}/x", f"customers/{'A' * 32}/x"])  # fmt: skip
def test_odd_paths_are_outside(path: str) -> None:
    """The folder itself, empty and blank parts, capitals, and what is decoded without end."""
    assert not ME.admits(path)
    assert WHOLE_STORE.admits(path)


def test_a_percent_sign_in_a_name_is_no_decoding() -> None:
    """A name that decodes to itself, or to another one inside, is inside."""
    assert ME.admits(f"customers/{ME.customer}/100 %.csv")
    assert ME.admits(f"customers/{ME.customer}/a%20b.csv")
