"""The vault by itself, over an account in memory: what is uploaded, marked, removed, and told.

The same over a real account's emulator: ``tests/server/storage/test_home_storage.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceModifiedError, ResourceNotFoundError

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.sas import StorageAccount
from airflow_provider_azureml_classic.server.models import remote
from airflow_provider_azureml_classic.server.models.remote import GRACE, Vault, blob_name
from airflow_provider_azureml_classic.server.storage.accounts import MODELS_CONTAINER

ACCOUNT = StorageAccount("mine", "a2V5", "https://mine.test")
NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Blob:
    """A blob of the account.

    :param account: which has it.
    :param name: its name.
    """

    def __init__(self, account: Account, name: str) -> None:
        self.account, self.name = account, name
        self.content, self.metadata = b"", dict[str, str]()
        self.change()

    def change(self) -> None:
        """It has another time and ETag."""
        self.etag, self.last_modified = f"e{next(self.account.etags)}", self.account.now

    @property
    def size(self) -> int:
        """Of its content."""
        return len(self.content)


class Account:
    """Stands for the account, and for its clients: one container, which must have been asked for by its name."""

    def __init__(self) -> None:
        self.now, self.etags = NOW, count()
        self.blobs: dict[str, Blob] = {}
        self.calls: list[str] = []
        self.down = False

    def write(self, name: str, content: bytes) -> None:
        """Put a blob there."""
        blob = self.blobs.setdefault(name, Blob(self, name))
        blob.content, blob.metadata = content, {}
        blob.change()

    @contextmanager
    def client(self, account: StorageAccount) -> Iterator[Account]:
        """Stands for :func:`~.azure.service_client`."""
        assert account is ACCOUNT
        yield self

    def get_container_client(self, container: str) -> Any:
        """The container."""
        assert container == MODELS_CONTAINER
        self._ask("container")
        one = SimpleNamespace(get_blob_client=lambda name: self.get_blob_client(container, name))
        for name in ("list_blobs", "list_blob_names", "delete_blob"):
            setattr(one, name, getattr(self, name))
        return one

    def get_blob_client(self, container: str, name: str) -> Any:
        """A blob's client."""
        assert container == MODELS_CONTAINER
        self._ask(f"blob {name}")
        return SimpleNamespace(
            set_blob_metadata=lambda metadata, **rule: self._mark(name, metadata, rule),
            get_blob_properties=lambda: self._there(name, {}),
            upload_blob=lambda body, overwrite: self._upload(name, body, overwrite),
            download_blob=lambda: SimpleNamespace(readall=lambda: self._there(name, {}).content),
        )

    def list_blobs(self, include: list[str] | None = None) -> list[Any]:
        """As they are at the call; with metadata only for who asks for them."""
        self._ask("list")
        asked = include == ["metadata"]
        return [SimpleNamespace(**vars(one), **({} if asked else {"metadata": None})) for one in self.blobs.values()]

    def list_blob_names(self) -> list[str]:
        """All names."""
        return list(self.blobs)

    def delete_blob(self, name: str, **rule: Any) -> None:
        """Remove one."""
        self._there(name, rule)
        self.calls.append(f"delete {name}")
        del self.blobs[name]

    def _ask(self, what: str) -> None:
        self.calls.append(what)
        if self.down:
            raise HttpResponseError("no")

    def _there(self, name: str, rule: dict[str, Any]) -> Blob:
        if name not in self.blobs:
            raise ResourceNotFoundError("gone")
        blob = self.blobs[name]
        if rule:
            assert rule["match_condition"] is MatchConditions.IfNotModified
            if rule["etag"] != blob.etag:
                raise ResourceModifiedError("changed")
        return blob

    def _mark(self, name: str, metadata: dict[str, str], rule: dict[str, Any]) -> None:
        blob = self._there(name, rule)
        assert all(metadata.values())
        blob.metadata = dict(metadata)
        blob.change()
        self.calls.append(f"mark {name} {metadata}")

    def _upload(self, name: str, body: Any, overwrite: bool) -> None:
        assert overwrite or name not in self.blobs
        self.write(name, body if isinstance(body, bytes) else body.read())
        self.calls.append(f"upload {name}")


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Account:
    """An account with two models and another blob."""
    made = Account()
    for name, content in (("notes.txt", b"n"), (blob_name("a"), b"aaa"), (blob_name("b"), b"b")):
        made.write(name, content)
    monkeypatch.setattr(remote, "service_client", made.client)
    return made


@pytest.fixture
def vault(account: Account) -> Vault:
    """Its models."""
    return Vault(ACCOUNT, 99)


def test_which_models_are_there(vault: Vault) -> None:
    """By their digests; other blobs are none."""
    assert vault.digests() == {"a", "b"}


@pytest.mark.parametrize(
    ("digest", "content", "anew", "uploaded"),
    [
        ("c", b"ccc", False, True),
        ("a", b"aaa", False, False),
        ("a", b"longer", False, True),
        ("a", b"xyz", True, True),
    ],
)
def test_what_is_uploaded(
    vault: Vault, account: Account, tmp_path: Path, digest: str, content: bytes, anew: bool, uploaded: bool
) -> None:
    """What is not there, is of another length, or is said to be damaged; what is there is touched: a clean-up of
    another server, which may be about to remove it, finds that it has changed.
    """
    (tmp_path / "m").write_bytes(content)
    before = account.blobs[blob_name(digest)].etag if digest == "a" else ""
    account.blobs[blob_name("a")].metadata = {"unused": "yes"}
    vault.put(digest, tmp_path / "m", anew=anew)
    blob = account.blobs[blob_name(digest)]
    assert (blob.content, blob.metadata) == (content, {})
    assert blob.etag != before
    assert (f"upload {blob.name}" in account.calls) is uploaded


def test_by_default_what_is_there_stays(vault: Vault, account: Account, tmp_path: Path) -> None:
    """It is compared by its length."""
    (tmp_path / "m").write_bytes(b"xyz")
    vault.put("a", tmp_path / "m")
    assert account.blobs[blob_name("a")].content == b"aaa"


def test_what_is_remembered(vault: Vault, account: Account) -> None:
    """What was last kept, under the name that it has had since there are vaults, whatever is in it."""
    assert vault.remembered() is None
    vault.remember("one")
    vault.remember("twö")
    assert vault.remembered() == "twö"
    assert account.blobs["database.json"].content == "twö".encode()
    account.write("database.json", b"\xff")
    assert vault.remembered() == "�"
    assert vault.digests() == {"a", "b"}


def ages(account: Account) -> dict[str, bool]:
    """Which blobs are left, and whether they are marked."""
    return {blob.name.partition(".")[0]: bool(blob.metadata) for blob in account.blobs.values()}


def test_a_model_that_nobody_names_is_marked_and_removed_a_day_later(vault: Vault, account: Account) -> None:
    """From when that was first seen, however old it is; one that is named again is spared, and marked anew."""
    account.now = NOW + 9 * GRACE
    for later, named, left in [
        (timedelta(0), {"a", "b"}, {"a": False, "b": False}),
        (timedelta(0), {"a"}, {"a": False, "b": True}),
        (GRACE - timedelta(seconds=1), {"a"}, {"a": False, "b": True}),
        (GRACE, {"a", "b"}, {"a": False, "b": False}),
        (2 * GRACE, {"b"}, {"a": True, "b": False}),
        (3 * GRACE - timedelta(seconds=1), {"b"}, {"a": True, "b": False}),
        (3 * GRACE, {"b"}, {"b": False}),
    ]:
        account.now = NOW + 9 * GRACE + later
        vault.clean(named, account.now)
        assert ages(account) == {**left, "notes": False}, later


@pytest.mark.parametrize("change", ["taken up", "removed"])
@pytest.mark.parametrize("marked", [False, True])
def test_what_another_server_does_meanwhile_holds(
    vault: Vault, account: Account, monkeypatch: pytest.MonkeyPatch, change: str, marked: bool
) -> None:
    """One that it takes up stays, as it is; one that it has removed is gone; the rest is cleaned all the same."""
    if marked:
        vault.clean(set(), NOW)
    listed = account.list_blobs

    def changed(**more: Any) -> list[Any]:
        blobs = listed(**more)
        if change == "removed":
            del account.blobs[blob_name("a")]
        else:
            account.write(blob_name("a"), b"new")
        return blobs

    monkeypatch.setattr(account, "list_blobs", changed)
    vault.clean(set(), NOW + GRACE)
    assert ages(account) == {
        **({"a": False} if change == "taken up" else {}),
        **({} if marked else {"b": True}),
        "notes": False,
    }


def test_the_container_is_made(vault: Vault, monkeypatch: pytest.MonkeyPatch, account: Account) -> None:
    """At the start, so that an account that cannot be used is known."""
    made: list[Any] = []
    monkeypatch.setattr(remote, "make_container", lambda *given: made.append(given))
    vault.prepare()
    assert made == [(account, MODELS_CONTAINER)]


@pytest.mark.parametrize(
    ("call", "place", "code"),
    [
        (lambda vault, path: vault.put("a", path), "/a.ilearner", "UpdateWebServiceResourceFailed"),
        (lambda vault, path: vault.digests(), "", "NoMoreResources"),
        (lambda vault, path: vault.remembered(), "", "NoMoreResources"),
        (lambda vault, path: vault.remember("x"), "", "NoMoreResources"),
        (lambda vault, path: vault.clean(set(), NOW), "", "NoMoreResources"),
        (lambda vault, path: vault.prepare(), "", "NoMoreResources"),
    ],
    ids=["put", "digests", "remembered", "remember", "clean", "prepare"],
)
def test_an_account_that_cannot_be_used_is_named(
    vault: Vault, account: Account, tmp_path: Path, call: Any, place: str, code: str
) -> None:
    """With the container, or the model's blob."""
    account.down = True
    with pytest.raises(AzureMLClassicError, match=f"'{MODELS_CONTAINER}{place}' in the storage account 'mine'") as told:
        call(vault, tmp_path / "m")
    assert told.value.detail_code == code
    assert told.value.message.startswith("The model cannot be kept: ") is bool(place)


def test_a_model_is_fetched_by_its_digest(vault: Vault, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Up to the largest size; where that cannot be done, the service says why and is at fault."""
    fetched: list[Any] = []

    def download(*given: Any) -> None:
        fetched.append(given)
        if len(fetched) > 1:
            raise rejection("BlobNotFound", "it is away")

    monkeypatch.setattr(remote, "download", download)
    vault.fetch("a", tmp_path / "m")
    assert fetched == [(ACCOUNT, MODELS_CONTAINER, "a.ilearner", tmp_path / "m", 99)]
    with pytest.raises(AzureMLClassicError, match="The endpoint's model cannot be read: it is away") as told:
        vault.fetch("a", tmp_path / "m")
    assert told.value.detail_code == "ResourceDownload"
