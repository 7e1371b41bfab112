"""Where inputs come from and outputs go: the own store, an Azure Storage account, or a SAS URL.

Rule: only hosts that the configuration allows are ever asked, redirects are not followed, and a size limit holds;
a location comes from a client, so it may name anything.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import SplitResult, unquote, urlsplit

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol import sas
from airflow_provider_azureml_classic.protocol.references import BASE_LOCATION, BlobReference
from airflow_provider_azureml_classic.server.blobs.names import (
    OF_ONE_ENDPOINT,
    OF_THE_SERVICE,
    check_blob,
    check_container,
)
from airflow_provider_azureml_classic.server.blobs.store import BlobStore
from airflow_provider_azureml_classic.server.clock import Clock
from airflow_provider_azureml_classic.server.storage import azure as azure_storage
from airflow_provider_azureml_classic.server.storage.accounts import Accounts
from airflow_provider_azureml_classic.server.storage.allowed_hosts import Reach
from airflow_provider_azureml_classic.server.storage.http import MAX_SECONDS, TIMEOUT, session

#: Largest file that is read from elsewhere, in bytes.
MAX_DOWNLOAD = 1 << 30
#: As long as the tokens of the cloud service lived (wire document, section 4.4).
SAS_LIFE = timedelta(hours=24)
#: Letters of a SAS token, any one of which allows reading, or writing.
READ, WRITE = "r", "wc"
_CHUNK = 1 << 20
#: Header in which Azure Storage says what is wrong.
ERROR_CODE_HEADER = "x-ms-error-code"
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Locations:
    """Reads and writes blob references.

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

    # -- the own store ---------------------------------------------------------------------------------------------

    def own(self, reference: BlobReference, permission: str = READ) -> BlobReference | None:
        """The reference relative to the own store, if it points there.

        A reference without base location and connection string does, unless the service's outputs have an account
        elsewhere. One with a SAS token must have a good one.

        :param reference: as a client sent it.
        :param permission: what its token must allow: :data:`READ` or :data:`WRITE`.
        :raises RequestRejected: it points there, with an expired or wrong token or account key.
        """
        reference = self._accounts.resolved(reference)
        if reference.connection_string:
            account = self._accounts.account(reference.connection_string)
            ours = self._blobs.account
            has_key = hmac.compare_digest(account.key, ours.key)
            if has_key and account.name == ours.name:
                # Old clients write connection strings of name and key only, which leaves the address to Azure.
                return BlobReference(reference.relative_location)
            by_key = self._own_place(account.endpoint, reference.relative_location)
            if by_key is not None and not has_key:
                raise rejection("InvalidBlob", "The AccountKey of the connection string is not this store's.")
            return by_key
        place: BlobReference | None = BlobReference(reference.relative_location)
        if reference.base_location:
            place = self._own_place(reference.base_location, reference.relative_location)
        if place is not None and reference.sas_token:
            container, blob = place.container_and_blob()
            token = reference.sas_token
            sas.verify(self._blobs.account, token, container, blob, permission=permission, now=self._clock())
        return place

    def _own_place(self, base: str, relative: str) -> BlobReference | None:
        """The place relative to the own store, whether the account's name stands in the base or in the path."""
        ours, theirs = urlsplit(self._blobs.account.endpoint), _address(base)
        same_host = theirs.hostname == ours.hostname or {theirs.hostname, ours.hostname} <= _LOOPBACK
        path = unquote("/".join(filter(None, (theirs.path.strip("/"), relative))))
        prefix = f"{ours.path.strip('/')}/"
        if not same_host or theirs.port != ours.port or not path.startswith(prefix):
            return None
        return BlobReference(path.removeprefix(prefix))

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

    # -- reading and writing ---------------------------------------------------------------------------------------

    def fetch(self, reference: BlobReference, target: Path, seconds: float = MAX_SECONDS) -> None:
        """Copy the blob to a local file.

        :param reference: as a client sent it.
        :param target: the file to write.
        :param seconds: how long another host may take in all.
        :raises AzureMLClassicError: it cannot be read; the message names the location without its token.
        """
        own = self.own(reference)
        if own is not None:
            self._blobs.copy(*own.container_and_blob(), target)
            return
        reference = self._accounts.resolved(reference)
        self._check_allowed(reference)
        if reference.connection_string:
            account = self._accounts.account(reference.connection_string)
            with session(self._reach, seconds) as direct:
                azure_storage.download(account, *reference.container_and_blob(), target, MAX_DOWNLOAD, direct)
            return
        self._download(reference, target, seconds)

    def deliver(self, source: Path, reference: BlobReference) -> None:
        """Move a finished file to where a client wants it.

        :param source: the file; gone afterwards if it went to the own store.
        :param reference: where to.
        :raises AzureMLClassicError: it cannot be written.
        """
        own = self.own(reference, WRITE)
        if own is not None:
            container, blob = own.container_and_blob()
            self._blobs.commit_file(container, blob, source)
            return
        reference = self._accounts.resolved(reference)
        self._check_allowed(reference)
        if reference.connection_string:
            account = self._accounts.account(reference.connection_string)
            with session(self._reach) as direct:
                azure_storage.upload(source, account, *reference.container_and_blob(), direct)
            return
        self._upload(source, reference)

    def checked(self, reference: BlobReference, permission: str) -> BlobReference:
        """The reference to keep for later; what could not be read or written then is refused now.

        A place in the own store is kept without address and token: both may have changed by then.

        :param reference: as a client sent it.
        :param permission: :data:`READ` or :data:`WRITE`.
        :raises RequestRejected: wrong token, wrong key, host not allowed, no container.
        """
        reference.container_and_blob()
        path = self.guarded_path(reference, permission)
        if path is not None:
            raise rejection(
                "InvalidBlob",
                f"{path!r} is in a container of the service: a path alone does not open it. Give the SAS token with "
                "which the answer to GET job names it, or a connection string.",
                target=path,
            )
        own = self.own(reference, permission)
        if own is None:
            self._check_allowed(self._accounts.resolved(reference))
            return reference
        container, blob = own.container_and_blob()
        check_container(container)
        check_blob(blob)
        return own

    def guarded_path(self, reference: BlobReference, permission: str) -> str | None:
        """The path of what the service wrote for somebody, if the reference brings nothing that opens it.

        Containers that clients name belong to the whole workspace; those of the service hold what is one endpoint's.

        :param reference: as a client sent it.
        :param permission: :data:`READ` or :data:`WRITE`.
        """
        # Without an address a token is one of the own store, which is looked at where the outputs are there as well.
        token_counts = reference.base_location or not self._accounts.home
        if reference.connection_string or (reference.sas_token and token_counts):
            return None
        place = self.own(reference, permission)
        if place is None:
            # In the account of the service's outputs, which is opened with its key.
            place = self._accounts.resolved(reference)
            if not place.connection_string:
                return None
        guarded = OF_ONE_ENDPOINT if permission == READ else OF_THE_SERVICE
        return place.relative_location if place.relative_location.partition("/")[0] in guarded else None

    def _check_allowed(self, reference: BlobReference) -> None:
        base = reference.base_location
        if reference.connection_string:
            base = self._accounts.account(reference.connection_string).endpoint
        self._reach.check_url(base)
        expiry = sas.expiry_of(reference.sas_token)
        if expiry is not None and expiry <= self._clock():
            raise _expired(reference, expiry)

    def _download(self, reference: BlobReference, target: Path, seconds: float) -> None:
        import requests

        try:
            with (
                session(self._reach, seconds) as direct,
                direct.get(reference.url, stream=True, timeout=TIMEOUT, allow_redirects=False) as answer,
                target.open("wb") as out,
            ):
                if answer.status_code != 200:
                    _refused("read", reference, answer)
                for chunk in answer.iter_content(_CHUNK):
                    out.write(chunk)
                    if out.tell() > MAX_DOWNLOAD:
                        raise rejection("OutOfMemoryLimit", f"{reference.location!r} is over {MAX_DOWNLOAD} bytes.")
        except requests.RequestException as error:
            _unreachable("read", reference, error)

    def _upload(self, source: Path, reference: BlobReference) -> None:
        import requests

        headers = {"x-ms-blob-type": "BlockBlob"}
        try:
            with session(self._reach) as direct, source.open("rb") as body:
                answer = direct.put(reference.url, body, headers=headers, timeout=TIMEOUT, allow_redirects=False)
        except requests.RequestException as error:
            _unreachable("written", reference, error)
        if answer.status_code >= 300:
            _refused("written", reference, answer)


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Put the name of an input or output before the message of an error about its place.

    :param what: the name.
    """
    try:
        yield
    except AzureMLClassicError as error:
        if error.detail_code is None:
            raise
        raise rejection(error.detail_code, f"{what}: {error.message}", target=what) from None


def _address(base: str) -> SplitResult:
    """The parts of a base location, its port included, which is checked only when it is asked for."""
    try:
        parts = urlsplit(base)
        _ = parts.port
    except ValueError as error:
        message = f"BaseLocation {base!r} is not an address: {error}."
        raise rejection("InvalidBlob", message, target=BASE_LOCATION) from None
    return parts


def kept(reference: BlobReference, own: BlobReference | None) -> BlobReference:
    """What is remembered of a place: no token, and no address where it is the own store.

    :param reference: as a client sent it.
    :param own: answer of :meth:`Locations.own`.
    """
    return own or replace(reference, sas_token="", connection_string="")


def _expired(reference: BlobReference, expiry: datetime) -> AzureMLClassicError:
    return rejection(
        "ExpiryTimeInThePast", f"The SAS token of {reference.location!r} expired at {expiry:%Y-%m-%d %H:%M:%S} UTC."
    )


def _refused(verb: str, reference: BlobReference, answer: Any) -> NoReturn:
    status = answer.status_code
    detail = "BlobNotFound" if status == 404 else "InvalidBlob"
    given = re.fullmatch(r"[A-Za-z]{1,60}", answer.headers.get(ERROR_CODE_HEADER, ""))
    reason = f" ({given.group()})" if given else ""
    advice = ""
    if status in (401, 403):
        right = {"read": "reading", "written": "creating and writing"}[verb]
        advice = f" Its SAS token does not open it: sign a new one for this very blob, for {right}."
    raise rejection(
        detail, f"{reference.location!r} cannot be {verb}: its host answered HTTP {status}{reason}.{advice}"
    )


def _unreachable(verb: str, reference: BlobReference, error: Any) -> NoReturn:
    raise rejection("BlobNotFound", f"{reference.location!r} cannot be {verb}: {type(error).__name__}.") from None
