"""Shared access signatures of blobs and accounts, and the connection strings that make them. Pure: no I/O, no clock.

Rule 1: a key or a token is in no message, no ``repr`` and no exception.
Rule 2: what cannot be checked here (a stored access policy, a snapshot, a scope) is refused, never ignored.

Facts: Microsoft, "Create a service SAS" (``rest/api/storageservices/create-service-sas``), section "Construct the
signature string"; the three newest layouts agree with Azurite (``src/blob/authentication/IBlobSASSignatureValues.ts``)
and with ``azure-storage-blob`` 2.1 (2018-11-09) and 12.31 (2020-12-06 and later), that of 2013-08-15 with
``azure-storage`` 0.20.3 (2014-02-14), which clients from the time of the cloud use. "Create an account SAS"
(``rest/api/storageservices/create-account-sas``); its two layouts agree with those of Azurite and the newer libraries.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from urllib.parse import parse_qsl, quote, urlsplit

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.references import DEVELOPMENT_ACCOUNT_NAME, BlobReference

#: Version of the tokens that :func:`sign` makes: the newest layout of the signed text.
SIGNED_VERSION = "2020-12-06"
DEFAULT_ENDPOINT_SUFFIX = "core.windows.net"
#: Tokens are valid from so long ago, for clocks that run late; those of the cloud service were (wire document, 4.4).
BACKDATED = timedelta(minutes=5)

_RESPONSE_HEADERS = ("rscc", "rscd", "rsce", "rscl", "rsct")
# ``None`` stands for the canonical name of the resource, which is signed but not sent.
_HEAD: tuple[str | None, ...] = ("sp", "st", "se", None, "si", "sip", "spr", "sv")
#: First version -> fields of the signed text, newest first.
_LAYOUTS: tuple[tuple[str, tuple[str | None, ...]], ...] = (
    ("2020-12-06", (*_HEAD, "sr", "snapshot", "ses", *_RESPONSE_HEADERS)),
    ("2018-11-09", (*_HEAD, "sr", "snapshot", *_RESPONSE_HEADERS)),
    ("2015-04-05", (*_HEAD, *_RESPONSE_HEADERS)),
    ("2013-08-15", ("sp", "st", "se", None, "si", "sv", *_RESPONSE_HEADERS)),
    ("2012-02-12", ("sp", "st", "se", None, "si", "sv")),
)
#: From this version on the canonical name of a resource begins with its service.
_SERVICE_NAMED_SINCE = "2015-02-21"
#: Fields of the signed text of an account's token, behind the account's name.
_ACCOUNT_LAYOUT = ("sp", "ss", "srt", "st", "se", "sip", "spr", "sv")
_ACCOUNT_SINCE = "2015-04-05"
#: From this version on the scope of encryption is signed as well.
_ACCOUNT_SCOPE_SINCE = "2020-12-06"
_RESTRICTIONS = {"si": "a stored access policy", "snapshot": "a snapshot", "ses": "a scope"}
_VERSION = re.compile(r"\d{4}-\d\d-\d\d")
# The forms of ISO 8601 that Azure takes; .NET writes seven digits of a second.
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)(?:T(\d\d:\d\d)(?::(\d\d)(?:\.\d{1,7})?)?Z)?")


@dataclass(frozen=True)
class StorageAccount:
    """A storage account: its name, where its blobs are, and what opens it.

    :param name: account name.
    :param key: account key in Base64; empty if the account is known by a token only.
    :param endpoint: address of the blob service, no slash at its end.
    :param sas_token: ``?sv=...`` from a connection string without a key, or empty.
    """

    name: str
    key: str = field(repr=False)
    endpoint: str
    sas_token: str = field(default="", repr=False)

    @classmethod
    def from_connection_string(cls, text: str) -> StorageAccount:
        """The account that an Azure Storage connection string names.

        :param text: ``DefaultEndpointsProtocol=...;AccountName=...;AccountKey=...``; keys in any case.
        :raises RequestRejected: ``InvalidBlobConnectionString``; the message names the part, never its value.
        """
        parts = _parts(text)
        if parts.get("usedevelopmentstorage", "").lower() == "true":
            return DEVELOPMENT_ACCOUNT
        name, key = parts.get("accountname", ""), parts.get("accountkey", "")
        token = parts.get("sharedaccesssignature", "").lstrip("?")
        if not key and not token:
            raise _bad_connection_string("has neither AccountKey nor SharedAccessSignature")
        if not name and (key or "blobendpoint" not in parts):
            raise _bad_connection_string("has no AccountName")
        if key and _key_bytes(key) is None:
            raise _bad_connection_string("has an AccountKey that is not Base64")
        endpoint = _endpoint(parts, name)
        return cls(name or _name_in(endpoint), key, endpoint, f"?{token}" if token and not key else "")

    @property
    def connection_string(self) -> str:
        """The connection string that opens this account: a secret."""
        opened_by = f"AccountKey={self.key}" if self.key else f"SharedAccessSignature={self.sas_token.lstrip('?')}"
        scheme = urlsplit(self.endpoint).scheme
        return f"DefaultEndpointsProtocol={scheme};AccountName={self.name};{opened_by};BlobEndpoint={self.endpoint}"

    def opened(
        self, reference: BlobReference, permissions: str, life: timedelta, now: datetime
    ) -> BlobReference | None:
        """The reference with a SAS token of this account, signed now; ``None`` if the blob is in another account.

        An account without a key gives its own token, whatever that permits.

        :param reference: a path in the account, or a URL that may lie in it; what opens it already is not looked at.
        :param permissions: letters of ``racwdl``, in this order.
        :param life: how long the token is good.
        :param now: the present moment.
        :raises RequestRejected: ``InputBlobRelativeLocationInvalid``: the path is not a container and a blob.
        """
        reference = reference.normalised()
        home = f"{self.endpoint}/"
        path = reference.below(home)
        if path is None:
            return None
        container, blob = BlobReference(path).container_and_blob()
        token = self.sas_token
        if self.key:
            token = sign(self, container, blob, permissions=permissions, start=now - BACKDATED, expiry=now + life)
        return BlobReference(path, home, token)


#: What ``UseDevelopmentStorage=true`` means: name, key and address of an emulator on the same machine, as published
#: in "Use the Azurite emulator" (``azure/storage/common/storage-use-azurite``).
DEVELOPMENT_ACCOUNT = StorageAccount(
    DEVELOPMENT_ACCOUNT_NAME,
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
    f"http://127.0.0.1:10000/{DEVELOPMENT_ACCOUNT_NAME}",
)


def _parts(text: str) -> dict[str, str]:
    parts: dict[str, str] = {}
    for item in filter(None, (item.strip() for item in text.split(";"))):
        name, equals, value = item.partition("=")
        if not equals:
            raise _bad_connection_string("has a part that is not Name=Value")
        parts[name.strip().lower()] = value.strip()
    return parts


def _endpoint(parts: Mapping[str, str], name: str) -> str:
    suffix = parts.get("endpointsuffix") or DEFAULT_ENDPOINT_SUFFIX
    scheme = parts.get("defaultendpointsprotocol") or "https"
    endpoint = parts.get("blobendpoint") or f"{scheme}://{name}.blob.{suffix}"
    try:
        split = urlsplit(endpoint)
        valid = split.scheme in ("http", "https") and bool(split.hostname) and not split.query and "@" not in endpoint
    except ValueError:
        valid = False
    if not valid:
        setting = "BlobEndpoint" if parts.get("blobendpoint") else "DefaultEndpointsProtocol or EndpointSuffix"
        raise _bad_connection_string(f"has a wrong {setting}: it must give http(s)://host[/path]")
    return endpoint.rstrip("/")


def _name_in(endpoint: str) -> str:
    split = urlsplit(endpoint)
    return split.path.rpartition("/")[2] or (split.hostname or "").partition(".")[0]


def _bad_connection_string(problem: str) -> AzureMLClassicError:
    return rejection("InvalidBlobConnectionString", f"The connection string {problem}.", target="ConnectionString")


def _key_bytes(key: str) -> bytes | None:
    try:
        return base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        return None


def hmac_sha256(account: StorageAccount, text: str) -> str:
    """Signature of ``text`` in Base64, as every scheme of Azure Storage makes it.

    :param account: the account whose key signs.
    :param text: what to sign.
    :raises RequestRejected: ``InvalidBlobConnectionString``: the account has no usable key.
    """
    key = _key_bytes(account.key)
    if not key:
        raise rejection("InvalidBlobConnectionString", f"The account {account.name!r} has no usable AccountKey.")
    return base64.b64encode(hmac.new(key, text.encode(errors="surrogatepass"), hashlib.sha256).digest()).decode()


def _utc(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise ValueError("A time in a SAS token needs a time zone.")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _signature(account: StorageAccount, values: Mapping[str, str], container: str, blob: str | None) -> str:
    service = "/blob" if values["sv"] >= _SERVICE_NAMED_SINCE else ""
    resource = f"{service}/{account.name}/{container}" + ("" if blob is None else f"/{blob}")
    for first_version, layout in _LAYOUTS:
        if values["sv"] >= first_version:
            return hmac_sha256(account, "\n".join(resource if n is None else values.get(n, "") for n in layout))
    raise _too_old(_LAYOUTS[-1][0])


def _account_signature(account: StorageAccount, values: Mapping[str, str]) -> str:
    if values["sv"] < _ACCOUNT_SINCE:
        raise _too_old(_ACCOUNT_SINCE)
    layout = (*_ACCOUNT_LAYOUT, *(["ses"] if values["sv"] >= _ACCOUNT_SCOPE_SINCE else []))
    return hmac_sha256(account, "".join(f"{field}\n" for field in (account.name, *(values.get(n, "") for n in layout))))


def sign(
    account: StorageAccount,
    container: str,
    blob: str | None,
    *,
    permissions: str = "r",
    start: datetime | None = None,
    expiry: datetime,
) -> str:
    """A service SAS token, beginning with ``?``, its values percent-encoded (wire document, section 4.3).

    :param account: the account whose key signs.
    :param container: container's name.
    :param blob: path of the blob; ``None`` opens the whole container.
    :param permissions: letters of ``racwdl``, in this order.
    :param start: first moment of validity; ``None`` means at once.
    :param expiry: first moment at which the token no longer opens anything.
    :raises ValueError: a time has no time zone.
    """
    values = {"sv": SIGNED_VERSION, "sr": "c" if blob is None else "b", "sig": ""}
    if start is not None:
        values["st"] = _utc(start)
    values |= {"se": _utc(expiry), "sp": permissions}
    values["sig"] = _signature(account, values, container, blob)
    return "?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in values.items())


def _invalid(parameter: str, reason: str) -> AzureMLClassicError:
    return rejection("InvalidBlob", f"The SAS token does not open this: {reason}.", target=parameter)


def _too_old(oldest: str) -> AzureMLClassicError:
    return _invalid("sv", f"its version is older than {oldest}")


def _read(token: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, value in parse_qsl(token.strip().lstrip("?&"), keep_blank_values=True):
        if name in values:
            raise _invalid("token", "one of its parameters is given twice")
        values[name] = value
    return values


def _moment(text: str) -> datetime | None:
    match = _TIME.fullmatch(text)
    if not match:
        return None
    day, minute, second = match.groups()
    try:
        return datetime.fromisoformat(f"{day}T{minute or '00:00'}:{second or '00'}+00:00")
    except ValueError:
        return None


def expiry_of(token: str) -> datetime | None:
    """When a token expires; ``None`` if it does not say so readably.

    :param token: a SAS token, with or without ``?``.
    """
    times = [value for name, value in parse_qsl(token.strip().lstrip("?&")) if name == "se"]
    return _moment(times[0]) if times else None


def permissions_of(token: str) -> str:
    """The letters that a token grants, as it says itself: meaningful only after :func:`verify`.

    :param token: a SAS token, with or without ``?``.
    """
    return _read(token).get("sp", "")


def verify(
    account: StorageAccount,
    token: str,
    container: str,
    blob: str | None,
    *,
    permission: str,
    now: datetime,
    client: str | None = None,
) -> None:
    """Return if ``token``, of one blob, one container or the account, allows this; raise otherwise.

    ``target`` of the error's detail names the parameter at fault: ``sp`` means that the token is good, but does not
    grant the permission; ``token`` that it is not a whole one.

    :param account: the account whose key must have signed.
    :param token: a SAS token, or the query of a request that carries one; parameters of other meaning are ignored.
    :param container: container asked for; empty for the account itself, which a token for less never opens.
    :param blob: blob asked for; ``None`` for the container itself, which a token for a blob never opens.
    :param permission: letter needed; of several letters, any one.
    :param now: the present moment.
    :param client: address of the client; ``None`` if it is not known: a token for certain addresses is then refused.
    :raises RequestRejected: ``ExpiryTimeInThePast``, or ``InvalidBlob`` for everything else.
    """
    values = _read(token)
    of_account = "ss" in values or "srt" in values
    _check_form(values, ("ss", "srt") if of_account else ("sr",))
    if of_account:
        expected = _account_signature(account, values)
    else:
        _check_resource(values["sr"], container, blob)
        expected = _signature(account, values, container, blob if values["sr"] == "b" else None)
    # A plus sign that a client left unencoded was read as a blank; Base64 has no blanks.
    signature = values["sig"].replace(" ", "+")
    if not hmac.compare_digest(expected.encode(), signature.encode(errors="surrogatepass")):
        raise _invalid("sig", "its signature does not match this account, container, blob and parameters")
    _check_times(values, now)
    _check_caller(values, secure=account.endpoint.startswith("https:"), client=client)
    if of_account:
        _check_scope(values, container, blob)
    # Of a container itself, a token that is not the account's can do nothing but list its blobs.
    granted = set(values["sp"]) if of_account or blob is not None else set(values["sp"]) & {"l"}
    if not set(permission) & granted:
        raise _invalid("sp", f"it lacks the permission {permission[0]!r}")


def _check_form(values: Mapping[str, str], scope: tuple[str, ...]) -> None:
    for name in ("sig", "sv", "se", "sp", *scope):
        if not values.get(name):
            raise _invalid("token", f"it has no {name!r}")
    if not _VERSION.fullmatch(values["sv"]):
        raise _invalid("sv", "its version is not a date")
    for name, meaning in _RESTRICTIONS.items():
        if values.get(name):
            raise _invalid(name, f"it is restricted to {meaning}, which is not supported")


def _check_resource(resource: str, container: str, blob: str | None) -> None:
    if resource not in ("b", "c"):
        raise _invalid("sr", "only tokens for a blob, a container or the account are understood")
    if resource == "b" and blob is None:
        raise _invalid("sr", "it is for one blob, not for its container")
    if "/" in container:  # else a token for the blob b/c of the container a would open c of "a/b"
        raise _invalid("sig", "its container is another one")


def _check_scope(values: Mapping[str, str], container: str, blob: str | None) -> None:
    """Refuse an account's token that is for other services, or other kinds of resources."""
    if "b" not in values["ss"]:
        raise _invalid("ss", "it is not for the blob service")
    letter, meaning = (
        ("s", "the service itself") if not container else ("c", "containers") if blob is None else ("o", "blobs")
    )
    if letter not in values["srt"]:
        raise _invalid("srt", f"it is not for {meaning} (srt has no {letter!r})")


def _check_caller(values: Mapping[str, str], *, secure: bool, client: str | None) -> None:
    if values.get("spr") == "https" and not secure:
        raise _invalid("spr", "it may be used over https only")
    if values.get("sip") and not _in_range(client, values["sip"]):
        raise _invalid("sip", "it may be used from other addresses only")


def _in_range(client: str | None, allowed: str) -> bool:
    first, _, last = allowed.partition("-")
    try:
        address, low, high = (ip_address(text) for text in (client or "", first, last or first))
    except ValueError:
        return False
    return address.version == low.version == high.version and int(low) <= int(address) <= int(high)


def _check_times(values: Mapping[str, str], now: datetime) -> None:
    for name in ("st", "se"):
        if values.get(name) and _moment(values[name]) is None:
            raise _invalid(name, f"its {name!r} is not a time in ISO 8601, UTC")
    start, expiry = _moment(values.get("st", "")), _moment(values["se"])
    if start is not None and now < start:
        raise _invalid("st", "it is not valid yet")
    if expiry is None or now >= expiry:
        raise rejection("ExpiryTimeInThePast", "The SAS token has expired.", target="se")
