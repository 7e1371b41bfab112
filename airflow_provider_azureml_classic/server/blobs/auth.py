"""Who may do what in the blob service: a SAS token in the query, or the account's key in ``Authorization``.

Facts: Microsoft, "Authorize with Shared Key" (``rest/api/storageservices/authorize-with-shared-key``), section "Blob
Storage, Queue Storage, and Azure Files (Shared Key authorization)"; agrees with ``azure-storage-blob`` 2.1 and 12.31.
"Shared access signature error codes" (``rest/api/storageservices/sas-error-codes``).
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property
from urllib.parse import parse_qsl, urlsplit

from starlette.datastructures import Headers

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError
from airflow_provider_azureml_classic.protocol.sas import StorageAccount, hmac_sha256, permissions_of, verify
from airflow_provider_azureml_classic.server.blobs.xml import StorageError

#: What the account's key may do.
ALL_PERMISSIONS = "rcwdl"
#: Parameter of a good token that does not allow this -> Azure's code, and what the request may not be done with.
_MISMATCHES = {
    "sp": ("AuthorizationPermissionMismatch", "permission"),
    "ss": ("AuthorizationServiceMismatch", "service"),
    "srt": ("AuthorizationResourceTypeMismatch", "resource type"),
    "spr": ("AuthorizationProtocolMismatch", "protocol"),
    "sip": ("AuthorizationSourceIPMismatch", "source IP"),
}
#: A signed request may be this old or, by a wrong clock, this young; older ones might be replayed.
MAX_SKEW = timedelta(minutes=15)
#: From this version on a length of zero is signed as nothing.
_ZERO_LENGTH_IS_EMPTY = "2015-02-21"
_SIGNED_HEADERS = (
    *("content-encoding", "content-language", "content-length", "content-md5", "content-type", "date"),
    *("if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range"),
)


@dataclass(frozen=True)
class SignedRequest:
    """The parts of a request that a signature covers.

    :param method: upper case.
    :param path: the path as it was sent, not decoded.
    :param path_in_account: the same without what comes before the container.
    :param query_text: the query as it was sent.
    :param headers: all headers.
    :param client: address of the client, if it is known.
    """

    method: str
    path: str
    path_in_account: str
    query_text: str = field(repr=False)
    headers: Headers = field(repr=False)
    client: str | None = None

    @cached_property
    def query(self) -> list[tuple[str, str]]:
        """Names and decoded values of the query, in order."""
        return parse_qsl(self.query_text, keep_blank_values=True)

    def texts_to_sign(self, account: StorageAccount) -> set[str]:
        """What the client may have signed: the path that reached us, and the one that it knows us by.

        They differ behind a proxy that takes a prefix off the path.

        :param account: the account served.
        """
        public = urlsplit(account.endpoint).path + self.path_in_account
        before = "\n".join([self.method, *map(self._signed_header, _SIGNED_HEADERS)])
        return {
            f"{before}\n{self._extension_headers()}/{account.name}{path}{self._canonical_query()}"
            for path in (self.path, public)
        }

    def _signed_header(self, name: str) -> str:
        value = self.headers.get(name, "")
        if name == "content-length" and value == "0":
            return "" if self.headers.get("x-ms-version", "") >= _ZERO_LENGTH_IS_EMPTY else value
        # The date is signed once: as an extension header if there is one.
        return "" if name == "date" and "x-ms-date" in self.headers else value

    def _extension_headers(self) -> str:
        names = sorted({name for name in self.headers if name.startswith("x-ms-")})
        return "".join(f"{name}:{','.join(self.headers.getlist(name))}\n" for name in names)

    def _canonical_query(self) -> str:
        values: dict[str, list[str]] = {}
        for name, value in self.query:
            values.setdefault(name.lower(), []).append(value)
        return "".join(f"\n{name}:{','.join(sorted(values[name]))}" for name in sorted(values))


def authorize(
    account: StorageAccount,
    request: SignedRequest,
    container: str,
    blob: str | None,
    *,
    permission: str,
    now: datetime,
) -> str:
    """The permissions that a request proves to have, of which ``permission`` is one.

    :param account: the account served.
    :param request: what was sent.
    :param container: container asked for; empty for the account itself.
    :param blob: blob asked for; ``None`` for the container itself.
    :param permission: letter needed; of several, any one.
    :param now: the present moment.
    :raises StorageError: 403.
    """
    if any(name == "sig" for name, _ in request.query):
        return _authorize_token(account, request, container, blob, permission=permission, now=now)
    scheme, _, credential = request.headers.get("authorization", "").partition(" ")
    name, _, signature = credential.strip().partition(":")
    if scheme.lower() != "sharedkey":
        raise _refused("The request carries neither a SAS token nor a SharedKey signature.")
    _check_age(request.headers, now)
    expected = {hmac_sha256(account, text) for text in request.texts_to_sign(account)}
    matches = [hmac.compare_digest(each.encode(), signature.encode(errors="replace")) for each in sorted(expected)]
    if name != account.name or not any(matches):
        raise _refused("The SharedKey signature does not match the request.")
    return ALL_PERMISSIONS


def _authorize_token(
    account: StorageAccount, request: SignedRequest, container: str, blob: str | None, *, permission: str, now: datetime
) -> str:
    token = request.query_text
    try:
        verify(account, token, container, blob, permission=permission, now=now, client=request.client)
    except AzureMLClassicError as error:
        at_fault = error.details[0].target
        if at_fault in _MISMATCHES:
            raise _mismatch(*_MISMATCHES[at_fault]) from None
        if error.detail_code == "ExpiryTimeInThePast" or at_fault == "st":
            raise _refused("Signature not valid in the specified time frame: the SAS token has expired.") from None
        raise _refused(error.message) from None
    return permissions_of(token)


def _mismatch(code: str, message: str) -> StorageError:
    return StorageError(403, code, f"This request is not authorized to perform this operation using this {message}.")


def _refused(detail: str) -> StorageError:
    return StorageError(403, "AuthenticationFailed", "Server failed to authenticate the request.", detail=detail)


def _check_age(headers: Mapping[str, str], now: datetime) -> None:
    try:
        sent = parsedate_to_datetime(headers.get("x-ms-date") or headers.get("date", ""))
        fresh = abs(now - sent) <= MAX_SKEW
    except (TypeError, ValueError):  # no date, or one without a time zone
        fresh = False
    if not fresh:
        raise _refused("The x-ms-date header is absent or more than 15 minutes from the time of this server.")
