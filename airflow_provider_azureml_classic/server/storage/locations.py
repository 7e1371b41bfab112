"""Where inputs come from and outputs go: the own store, an Azure Storage account, or a SAS URL.

A reference is resolved once, into a :class:`Location`, which is asked for everything else.

Rule: only hosts that the configuration allows are ever asked, redirects are not followed, and a size limit holds;
a location comes from a client, so it may name anything.
"""

from __future__ import annotations

import hmac
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import ClassVar
from urllib.parse import SplitResult, unquote, urlsplit

from airflow_provider_azureml_classic.exceptions import (
    AzureMLClassicError,
    cause,
    rejection,
)
from airflow_provider_azureml_classic.protocol import sas
from airflow_provider_azureml_classic.protocol.references import BASE_LOCATION, BlobReference
from airflow_provider_azureml_classic.protocol.sas import StorageAccount
from airflow_provider_azureml_classic.server.blobs.names import (
    OF_ONE_ENDPOINT,
    OF_THE_SERVICE,
    check_blob,
    check_container,
    is_of_a_customer,
)
from airflow_provider_azureml_classic.server.blobs.store import BlobStore
from airflow_provider_azureml_classic.server.clock import Clock
from airflow_provider_azureml_classic.server.storage import azure as azure_storage
from airflow_provider_azureml_classic.server.storage.accounts import Accounts
from airflow_provider_azureml_classic.server.storage.allowed_hosts import Reach
from airflow_provider_azureml_classic.server.storage.http import (
    MAX_SECONDS,
    TIMEOUT,
    check_end,
    refused,
    session,
    unreachable,
)
from airflow_provider_azureml_classic.server.storage.scope import WHOLE_STORE, Scope

#: As long as a store elsewhere may be away before a job that has an output to write there fails.
DELIVERY_SECONDS = 300.0
#: Largest file that is read from elsewhere, in bytes.
MAX_DOWNLOAD = 1 << 30
#: As long as the tokens of the cloud service lived (wire document, section 4.4).
SAS_LIFE = timedelta(hours=24)
#: Of those with which customers write and read files of their own.
UPLOAD_LIFE = timedelta(hours=1)
#: Letters of a SAS token, any one of which allows reading, or writing.
READ, WRITE = "r", "wc"
_CHUNK = 1 << 20
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class Location(ABC):
    """Where a reference leads; a token or key of it that is the own store's was verified.

    :param reference: container and path, with the address that they have here; in the own store without one.
    :param sent: the reference as a client sent it.
    :param guarded: the service wrote the blob for somebody, and the reference brings nothing that opens it.
    """

    reference: BlobReference
    sent: BlobReference
    guarded: bool
    #: Seconds for which :meth:`deliver` is worth another attempt where the store does not answer.
    patience: ClassVar[float] = 0.0

    @abstractmethod
    def check(self) -> None:
        """Refuse now what could not be read or written later.

        :raises RequestRejected: its host is not allowed, its token has expired, or a name is none.
        """

    @abstractmethod
    def fetch(self, target: Path, seconds: float = MAX_SECONDS) -> None:
        """Copy the blob to a local file.

        :param target: the file to write.
        :param seconds: how long another host may take in all.
        :raises AzureMLClassicError: it cannot be read; the message names the location without its token.
        """

    @abstractmethod
    def deliver(self, source: Path) -> None:
        """Move a finished file to the blob.

        :param source: the file; gone afterwards if it went to the own store.
        :raises AzureMLClassicError: it cannot be written.
        """

    @abstractmethod
    def is_taken(self) -> bool:
        """Whether a blob is there that :meth:`deliver` would overwrite; ``False`` too where that cannot be told."""

    def withdraw(self) -> bool:
        """Remove what was delivered; ``False`` where that is not allowed: what opens a blob elsewhere need not."""
        return False

    @property
    def lasting(self) -> BlobReference:
        """The reference to keep for later, with what opens it."""
        return self.sent

    @property
    @abstractmethod
    def origin(self) -> BlobReference:
        """The blob without what opens it, as the history of an endpoint keeps it."""


@dataclass(frozen=True)
class OwnLocation(Location):
    """A blob of the own store.

    :param blobs: the store.
    """

    blobs: BlobStore

    def check(self) -> None:
        """See :class:`Location`."""
        container, blob = self.reference.check_name().container_and_blob()
        check_container(container)
        check_blob(blob)

    def fetch(self, target: Path, seconds: float = MAX_SECONDS) -> None:
        """See :class:`Location`."""
        self.blobs.copy(*self.reference.container_and_blob(), target)

    def deliver(self, source: Path) -> None:
        """See :class:`Location`."""
        container, blob = self.reference.container_and_blob()
        self.blobs.commit_file(container, blob, source)

    def is_taken(self) -> bool:
        """See :class:`Location`."""
        return self.blobs.exists(*self.reference.container_and_blob())

    def withdraw(self) -> bool:
        """See :class:`Location`."""
        try:
            self.blobs.delete(*self.reference.container_and_blob())
        except AzureMLClassicError:
            return False
        return True

    @property
    def lasting(self) -> BlobReference:
        """Without address and token: both may have changed by then."""
        return self.reference

    @property
    def origin(self) -> BlobReference:
        """The path alone."""
        return self.reference


@dataclass(frozen=True)
class _Elsewhere(Location):
    """A blob of another host, which is asked if the configuration allows it.

    :param reach: which hosts may be asked.
    :param clock: gives the present time.
    """

    reach: Reach
    clock: Clock
    patience: ClassVar[float] = DELIVERY_SECONDS

    @property
    @abstractmethod
    def address(self) -> str:
        """Address of the host."""

    def check(self) -> None:
        """See :class:`Location`."""
        self.reference.check_name()
        self.reach.check_url(self.address)
        expiry = sas.expiry_of(self.reference.sas_token)
        if expiry is not None and expiry <= self.clock():
            raise rejection(
                "ExpiryTimeInThePast",
                f"The SAS token of {self.reference.location!r} expired at {expiry:%Y-%m-%d %H:%M:%S} UTC.",
            )

    @property
    def origin(self) -> BlobReference:
        """See :class:`Location`; with the address that a connection string stands for."""
        path, base = self.sent.relative_location, self.sent.base_location
        if self.sent.connection_string:
            base = BlobReference(path, self.address).normalised().base_location
        return BlobReference(path, base)


@dataclass(frozen=True)
class AccountLocation(_Elsewhere):
    """A blob of a storage account, which its key opens.

    :param account: with the key.
    :param why_gone: says why the service has removed a blob, see :attr:`BlobStore.why_gone`.
    """

    account: StorageAccount
    why_gone: Callable[[str, str], str]

    @property
    def address(self) -> str:
        """The account's."""
        return self.account.endpoint

    def fetch(self, target: Path, seconds: float = MAX_SECONDS) -> None:
        """See :class:`Location`."""
        self.check()
        place = self.reference.container_and_blob()
        try:
            with session(self.reach, seconds) as direct:
                azure_storage.download(self.account, *place, target, MAX_DOWNLOAD, direct)
        except AzureMLClassicError as error:
            if error.detail_code != "BlobNotFound":
                raise
            raise rejection("BlobNotFound", f"{error.message}{self.why_gone(*place)}") from None

    def deliver(self, source: Path) -> None:
        """See :class:`Location`."""
        self.check()
        with session(self.reach) as direct:
            azure_storage.upload(source, self.account, *self.reference.container_and_blob(), direct)

    def is_taken(self) -> bool:
        """See :class:`Location`."""
        self.check()
        with suppress(AzureMLClassicError), session(self.reach) as direct:
            return azure_storage.exists(self.account, *self.reference.container_and_blob(), direct)
        return False


@dataclass(frozen=True)
class UrlLocation(_Elsewhere):
    """A blob that its URL opens.

    :param limit: of its size, in bytes.
    """

    limit: int = MAX_DOWNLOAD

    @property
    def address(self) -> str:
        """The base location."""
        return self.reference.base_location

    def fetch(self, target: Path, seconds: float = MAX_SECONDS) -> None:
        """See :class:`Location`."""
        import requests  # loaded at the first file from elsewhere: the server must start in under a second

        self.check()
        reference = self.reference
        try:
            with (
                session(self.reach, seconds) as direct,
                direct.get(reference.url, stream=True, timeout=TIMEOUT, allow_redirects=False) as answer,
                target.open("wb") as out,
            ):
                if answer.status_code != 200:
                    refused("read", reference, answer)
                check_end(reference, answer.headers)
                for chunk in answer.iter_content(_CHUNK):
                    out.write(chunk)
                    if out.tell() > self.limit:
                        raise rejection("OutOfMemoryLimit", f"{reference.location!r} is over {self.limit} bytes.")
        except requests.RequestException as error:
            unreachable("read", reference, error)

    def deliver(self, source: Path) -> None:
        """See :class:`Location`."""
        import requests  # as above

        self.check()
        headers = {"x-ms-blob-type": "BlockBlob"}
        try:
            with session(self.reach) as direct, source.open("rb") as body:
                answer = direct.put(self.reference.url, body, headers=headers, timeout=TIMEOUT, allow_redirects=False)
        except requests.RequestException as error:
            unreachable("written", self.reference, error)
        if answer.status_code >= 300:
            refused("written", self.reference, answer)

    def is_taken(self) -> bool:
        """See :class:`Location`; a token for writing alone does not tell."""
        import requests  # as above

        self.check()
        with suppress(requests.RequestException), session(self.reach) as direct:
            return direct.head(self.reference.url, timeout=TIMEOUT, allow_redirects=False).status_code == 200
        return False


class Locations:
    """Resolves references, each once.

    :param blobs: the own store.
    :param reach: which other hosts may be asked.
    :param clock: gives the present time.
    :param accounts: storage accounts that the configuration knows.
    """

    def __init__(self, blobs: BlobStore, reach: Reach, clock: Clock, accounts: Accounts | None = None) -> None:
        self._blobs = blobs
        self._reach = reach
        self._accounts = accounts or Accounts(blobs.account)
        self._clock = clock
        #: Containers in the account of the outputs that are there.
        self._made: set[str] = set()

    def resolve(self, scope: Scope, reference: BlobReference, permission: str = READ) -> Location:
        """Where a reference leads.

        One without base location and connection string leads to the own store, unless the service's outputs have an
        account elsewhere.

        :param scope: what of the service's store, here or in its account, whoever sent it reaches.
        :param reference: as a client sent it.
        :param permission: what a token of the own store must allow: :data:`READ` or :data:`WRITE`.
        :raises RequestRejected: it leads to the own store, with an expired or wrong token or account key; or out of the
            scope, whatever opens it.
        """
        resolved = self._accounts.resolved(reference)
        if scope.customer is not None:
            path = self._path_in_store(resolved)
            if path is not None:
                scope.check(path)
            # What was refused is out; nothing of it has to be opened by a token.
            return replace(self._resolved(resolved, reference, permission), guarded=False)
        return self._resolved(resolved, reference, permission)

    def path_in_store(self, reference: BlobReference) -> str | None:
        """Container and name in the service's store, or what may lead there; ``None``: it is elsewhere.

        :param reference: as a client sent it.
        """
        return self._path_in_store(self._accounts.resolved(reference))

    def _path_in_store(self, resolved: BlobReference) -> str | None:
        """Container and name in the service's store, or what may lead there; ``None``: it is elsewhere."""
        base, relative = resolved.base_location, resolved.relative_location
        if resolved.connection_string:
            account, ours = self._accounts.account(resolved.connection_string), self._blobs.account
            base = account.endpoint
            # Old clients write connection strings of name and key only, which leaves the address to Azure.
            if account.name == ours.name:
                return relative
        if not base:
            return relative
        own = self._own_path(base, relative)
        if own is None and self._is_served_here(base):
            own = relative
        return self._accounts.path_at_home(base, relative) if own is None else own

    def _is_served_here(self, base: str) -> bool:
        ours, theirs = urlsplit(self._blobs.account.endpoint), _address(base)
        hosts = {(each.hostname or "").rstrip(".") for each in (ours, theirs)}
        same_host = len(hosts) == 1 or hosts <= _LOOPBACK
        ports = {each.port or (443 if each.scheme == "https" else 80) for each in (ours, theirs)}
        return same_host and (len(ports) == 1 or ports == {80, 443})

    def _resolved(self, resolved: BlobReference, reference: BlobReference, permission: str) -> Location:
        if resolved.connection_string:
            return self._of_account(resolved, reference, permission)
        path: str | None = resolved.relative_location
        if resolved.base_location:
            path = self._own_path(resolved.base_location, resolved.relative_location)
        if path is None:
            return UrlLocation(resolved, reference, False, self._reach, self._clock)
        if resolved.sas_token:
            container, blob = BlobReference(path).container_and_blob()
            sas.verify(
                self._blobs.account, resolved.sas_token, container, blob, permission=permission, now=self._clock()
            )
        return self._own(path, reference, permission)

    def _of_account(self, resolved: BlobReference, sent: BlobReference, permission: str) -> Location:
        account, ours = self._accounts.account(resolved.connection_string), self._blobs.account
        has_key = hmac.compare_digest(account.key, ours.key)
        if has_key and account.name == ours.name:
            # Old clients write connection strings of name and key only, which leaves the address to Azure.
            return self._own(resolved.relative_location, sent, permission)
        path = self._own_path(account.endpoint, resolved.relative_location)
        if path is None:
            guarded = self._is_guarded(resolved.relative_location, sent, permission)
            why_gone = self._blobs.why_gone if self._is_home(account) else lambda container, blob: ""
            return AccountLocation(resolved, sent, guarded, self._reach, self._clock, account, why_gone)
        if not has_key:
            raise rejection("InvalidBlob", "The AccountKey of the connection string is not this store's.")
        return self._own(path, sent, permission)

    def _own(self, path: str, sent: BlobReference, permission: str) -> Location:
        return OwnLocation(BlobReference(path), sent, self._is_guarded(path, sent, permission), self._blobs)

    def _own_path(self, base: str, relative: str) -> str | None:
        """The path in the own store, whether the account's name stands in the base or in the path."""
        ours, theirs = urlsplit(self._blobs.account.endpoint), _address(base)
        same_host = theirs.hostname == ours.hostname or {theirs.hostname, ours.hostname} <= _LOOPBACK
        path = "/".join(filter(None, (unquote(theirs.path.strip("/")), relative)))
        prefix = f"{ours.path.strip('/')}/"
        if not same_host or theirs.port != ours.port or not path.startswith(prefix):
            return None
        return path.removeprefix(prefix)

    def _is_guarded(self, path: str, sent: BlobReference, permission: str) -> bool:
        """Whether nothing opens what the service wrote for somebody.

        Containers that clients name belong to the whole workspace; those of the service hold what is one endpoint's.
        """
        # Without an address a token is one of the own store, which is looked at where the outputs are there as well.
        token_counts = sent.base_location or not self._accounts.home
        if sent.connection_string or (sent.sas_token and token_counts):
            return False
        of_others = OF_ONE_ENDPOINT if permission == READ else OF_THE_SERVICE
        return path.partition("/")[0] in of_others or is_of_a_customer(path)

    def checked(self, scope: Scope, reference: BlobReference, permission: str) -> BlobReference:
        """The reference to keep for later; what could not be read or written then is refused now.

        :param scope: what of the service's store whoever sent it reaches.
        :param reference: as a client sent it.
        :param permission: :data:`READ` or :data:`WRITE`.
        :raises RequestRejected: wrong token, wrong key, host not allowed, no container.
        """
        reference.container_and_blob()
        location = self.resolve(scope, reference, permission)
        if location.guarded:
            path = location.reference.relative_location
            raise rejection(
                "InvalidBlob",
                f"{path!r} is in a container of the service: a path alone does not open it. Give the SAS token with "
                "which the answer to GET job names it, or a connection string.",
                target=path,
            )
        location.check()
        return location.lasting

    def opened(self, scope: Scope, path: str) -> BlobReference:
        """A blob of the service's store with a token that reads and writes it, for :data:`UPLOAD_LIFE`; what the
        service writes itself is only read.

        :param scope: what whoever gets it reaches.
        :param path: container and name.
        :raises RequestRejected: it is outside, or no name.
        """
        scope.check(path)
        container, blob = BlobReference(path).container_and_blob()
        check_container(container)
        check_blob(blob)
        home = self._accounts.home
        if home is not None:
            self.make(container)
        letters = "r" if container in OF_THE_SERVICE else "rcw"
        opened = (home or self._blobs.account).opened(BlobReference(path), letters, UPLOAD_LIFE, self._clock())
        if opened is None:
            raise rejection("InvalidBlob", "The store of the service has no address for it.")
        return opened

    def make(self, container: str) -> None:
        """Make a container of the service's store, if it is not there: a token of a blob makes none.

        :param container: its name.
        """
        home = self._accounts.home
        if container in self._made:
            return
        if home is None:
            self._blobs.create_container(container)
            return
        with azure_storage.service_client(home) as client, azure_storage.explained(home, container):
            azure_storage.make_container(client, container)
        self._made.add(container)

    def listed(self, scope: Scope) -> Iterator[tuple[str, int]]:
        """Container and name, and length, of the blobs in a customer's folder.

        :param scope: of the customer.
        """
        container, _, folder = (scope.folder or "").partition("/")
        return self.below(container, f"{folder}/")

    def below(self, container: str, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Container and name, and length, of blobs of the service's store.

        :param container: name of the container.
        :param prefix: beginning of the names.
        """
        if self._accounts.home is None:
            yield from ((f"{container}/{blob.name}", blob.length) for blob in self._blobs.list(container, prefix))
            return
        for name, length in azure_storage.listed(self._accounts.home, container, prefix):
            yield f"{container}/{name}", length

    def length(self, scope: Scope, path: str) -> int:
        """Length of a blob of the service's store, in bytes.

        :param scope: what whoever asks reaches.
        :param path: container and name.
        :raises RequestRejected: ``BlobNotFound``; it is outside.
        """
        scope.check(path)
        container, blob = BlobReference(path).container_and_blob()
        length = next((length for name, length in self.below(container, blob) if name == path), None)
        if length is None:
            raise rejection("BlobNotFound", f"There is no blob {blob!r} in the container {container!r}.", target=blob)
        return length

    def remove(self, scope: Scope, path: str) -> None:
        """Remove a blob of the service's store.

        :param scope: what whoever asks reaches.
        :param path: container and name.
        :raises RequestRejected: ``BlobNotFound``; it is outside.
        """
        scope.check(path)
        container, blob = BlobReference(path).container_and_blob()
        if self._accounts.home is None:
            self._blobs.delete(container, blob)
        else:
            azure_storage.remove(self._accounts.home, container, check_blob(blob))

    def _is_home(self, account: StorageAccount) -> bool:
        home = self._accounts.home
        return home is not None and account.endpoint == home.endpoint

    def remove_unchanged(self, reference: BlobReference, since: datetime) -> str | None:
        """Remove a blob that the service wrote into its own store, or into its account.

        :param reference: as a job keeps it.
        :param since: whoever has written it later needs it.
        :return: container and name of what was removed; ``None``: it is elsewhere, not there, or written later.
        :raises AzureMLClassicError: it cannot be removed; ``OSError``: likewise, from the own store.
        """
        try:
            location = self.resolve(WHOLE_STORE, reference)
        except AzureMLClassicError:
            # It is in an account that was the service's once, say.
            return None
        path, place = location.reference.relative_location, location.reference.container_and_blob()
        if isinstance(location, OwnLocation):
            return path if self._blobs.delete_unchanged(*place, since) else None
        if isinstance(location, AccountLocation) and self._is_home(location.account):
            return path if azure_storage.remove_unchanged(location.account, *place, since) else None
        return None

    def published(self, reference: BlobReference, *, signed: bool) -> BlobReference:
        """The reference as clients see it: with the own store's present address and a fresh token for reading.

        :param reference: as kept; no base location means the own store.
        :param signed: add a SAS token.
        """
        if reference.base_location and not reference.connection_string:
            return reference
        account = self._accounts.home or self._blobs.account
        if reference.connection_string:
            account = self._accounts.account(reference.connection_string)
        path = BlobReference(reference.relative_location)
        opened = account.opened(path, READ, SAS_LIFE, self._clock()) if signed else None
        return opened or replace(path, base_location=account.endpoint).normalised()


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Put the name of an input or output before the message of an error about its place.

    :param name: of the input or output.
    """
    try:
        yield
    except AzureMLClassicError as error:
        if error.detail_code is None:
            raise
        raise rejection(error.detail_code, f"{name}: {error.message}", target=name) from None


def _address(base: str) -> SplitResult:
    """The parts of a base location, its port included, which is checked only when it is asked for."""
    try:
        parts = urlsplit(base)
        _ = parts.port
    except ValueError as error:
        message = f"BaseLocation {base!r} is not an address: {cause(error)}."
        raise rejection("InvalidBlob", message, target=BASE_LOCATION) from None
    return parts
