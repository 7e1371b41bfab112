"""References to blobs: inputs and outputs of jobs, results, and the ``Location`` of an updatable resource.

Three spellings are in use (wire document, sections 2.6 and 4.2): connection string and relative location; base
location, relative location and SAS token; and the .NET form of the latter, where the base has no trailing slash and
the relative location a leading one. What is read is normalised to base ending in ``/``, relative without a leading
``/``, token starting with ``?``, so that the full address is their plain concatenation. The .NET form is the path of
the blob's whole address (``Uri.LocalPath``), which begins with the account where an address names the account in its
path, as Azurite and the service's own store do: what the address says already is not said twice.

Rule of names: Azure allows nearly every character in a blob's name. Behind a base location, a relative location is a
part of an address: ``%``, ``?`` and ``#`` of the name stand in it as ``%25``, ``%3F`` and ``%23``, and a ``?`` begins
the token. In the service's own store and behind a connection string it is the name as it is. :class:`BlobReference`
always has the name as it is; it is read from an address in :func:`_decoded` alone and written into one in
:func:`_encoded` and :attr:`BlobReference.url` alone. What would be another blob on its way is refused where it is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, ProtocolError, rejection
from airflow_provider_azureml_classic.protocol.errors import known_members
from airflow_provider_azureml_classic.protocol.limits import MAX_ADDRESS
from airflow_provider_azureml_classic.protocol.moments import read_time, stamp

CONNECTION_STRING = "ConnectionString"
RELATIVE_LOCATION = "RelativeLocation"
BASE_LOCATION = "BaseLocation"
SAS_TOKEN = "SasBlobToken"  # noqa: S105 - the name of a member, not a secret
_MEMBERS = frozenset({CONNECTION_STRING, RELATIVE_LOCATION, BASE_LOCATION, SAS_TOKEN})

#: Extensions of a trained model and of data (wire document, section 4.2; code ``InvalidBlobExtension``).
MODEL_EXTENSION = ".ilearner"
DATA_EXTENSIONS = CSV_EXTENSION, TSV_EXTENSION, ARFF_EXTENSION = (".csv", ".tsv", ".arff")
#: Read as data, too, but never written; the cloud service did not know it.
PARQUET_EXTENSION = ".parquet"
INPUT_EXTENSIONS = (*DATA_EXTENSIONS, PARQUET_EXTENSION)
_URL = re.compile(r"\s*[a-z][a-z0-9+.-]*://", re.IGNORECASE)
#: What ends the path of an address, or is lost in it.
_NEVER_PLAIN = re.compile(r"[%?#\x00-\x1f\x7f]|^\s+|\s+$")
_ENDS_PATH = re.compile(r"[?#]")
#: A secret behind a name.
_TOKEN = re.compile(r"\?(?:.*&)?sig=", re.IGNORECASE | re.DOTALL)
#: No address can carry them.
_NEVER_SENT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
#: Names that would lead elsewhere, or show a token, on one of their ways -> why.
_WRONG_NAMES: tuple[tuple[Callable[[str], object], str], ...] = (
    (
        lambda path: _TOKEN.search(unquote(path)),
        "has a name that ends like a SAS token, and would be taken for one. A token belongs in SasBlobToken, or behind "
        "the path of a full URL; a blob whose name is like that cannot be used: copy it to another name",
    ),
    (lambda path: path != path.rstrip(), "has a name that ends with a blank: copy the blob to another name"),
    (lambda path: "\\" in path, "has a name with a backslash, which Azure Storage takes for a slash: write /"),
    (lambda path: {".", ".."} & set(path.split("/")), "has a part '.' or '..', which means another path"),
    (lambda path: _NEVER_SENT.search(path), "has a character that is not allowed in a blob's name"),
)
#: Account of the storage emulator, which a connection string may name by ``UseDevelopmentStorage=true`` alone.
DEVELOPMENT_ACCOUNT_NAME = "devstoreaccount1"
_BLOB_ENDPOINT = re.compile(r"(?:^|;)\s*BlobEndpoint\s*=([^;]*)", re.IGNORECASE)
_DEVELOPMENT = re.compile(r"(?:^|;)\s*UseDevelopmentStorage\s*=\s*true", re.IGNORECASE)


@dataclass(frozen=True)
class BlobReference:
    """Where a blob is, and optionally what opens it.

    :param relative_location: ``container/path/file.ext``, the plain name: never percent-encoded.
    :param base_location: ``https://account.blob.core.windows.net/``; empty means the service's own store.
    :param sas_token: ``?sv=...``, or empty.
    :param connection_string: an Azure Storage connection string, instead of base location and token.
    """

    relative_location: str
    base_location: str = ""
    sas_token: str = field(default="", repr=False)
    connection_string: str = field(default="", repr=False)

    @classmethod
    def from_wire(cls, data: Any, *, what: str = "The blob reference", strict: bool = False) -> BlobReference:
        """The reference in any of its spellings.

        :param data: decoded JSON.
        :param what: name of the reference, for messages.
        :param strict: refuse unknown members, and names that lead elsewhere, as a server should.
        :raises RequestRejected: not an object, no ``RelativeLocation``, or one that may be read in two ways.
        """
        if not isinstance(data, Mapping):
            raise rejection("MissingInputBlobInformation", f"{what} must be an object with a RelativeLocation.")
        if strict:
            data = known_members(what, data, _MEMBERS)
        texts = {name: data.get(name) or "" for name in _MEMBERS}
        wrong = [name for name, value in texts.items() if not isinstance(value, str)]
        if wrong:
            raise rejection("InvalidBlob", f"{what}: {wrong[0]} must be a string.", target=wrong[0])
        long = [name for name, value in texts.items() if len(value) > MAX_ADDRESS]
        if long:
            raise rejection("InvalidBlob", f"{what}: {long[0]} has over {MAX_ADDRESS} letters.", target=long[0])
        reference = cls._read(
            what, texts[RELATIVE_LOCATION], texts[BASE_LOCATION], texts[SAS_TOKEN], texts[CONNECTION_STRING]
        )
        if not reference.relative_location:
            raise rejection("InputBlobRelativeLocationInvalid", f"{what} has no RelativeLocation (container/path).")
        return reference.check_name(what) if strict else reference

    @classmethod
    def from_url(cls, url: str) -> BlobReference:
        """The reference that a full address is, with or without a SAS token.

        :param url: ``https://account.blob.core.windows.net/container/path?sv=...``.
        :raises RequestRejected: not an absolute http(s) URL.
        """
        parts = urlsplit(url.strip())
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise rejection("InvalidBlob", "A blob's URL starts with http:// or https:// and names a host.")
        if parts.fragment:
            raise _ambiguous("The blob's URL", "#", "%23")
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        return cls._read("The blob's URL", path, f"{parts.scheme}://{parts.netloc}").check_name("The blob's URL")

    @classmethod
    def at(cls, base_location: str, address_path: str) -> BlobReference:
        """The reference that was kept as its base location and its :attr:`address_path`.

        :param base_location: empty: the service's own store.
        :param address_path: the path as it follows the base location; without one, the plain name.
        """
        return cls(unquote(address_path) if base_location else address_path, base_location)

    @classmethod
    def parse(cls, value: BlobReference | Mapping[str, Any] | str) -> BlobReference:
        """The reference that a user wrote: a reference, its wire form, a URL, or a path in the service's own store.

        :param value: any of these.
        :raises RequestRejected: as of the others.
        """
        if isinstance(value, BlobReference):
            return value
        if isinstance(value, str):
            return cls.from_url(value) if _URL.match(value) else cls._read("The blob", value).check_name()
        return cls.from_wire(value).check_name()

    @classmethod
    def _read(
        cls, what: str, relative: str, base: str = "", token: str = "", connection_string: str = ""
    ) -> BlobReference:
        """The reference that is spelled so, with its plain name.

        :raises RequestRejected: the path may be read in two ways, or means another blob on its way.
        """
        if _ENDS_PATH.search(base):
            raise _wrong(what, "has a ? or # in its BaseLocation; a token belongs in SasBlobToken")
        if base.strip() and not connection_string:
            relative, token = _decoded(what, relative.strip(), token.strip())
        else:
            relative = relative.strip()
        return cls(relative, base, token, connection_string).normalised()

    def check_name(self, what: str = "The blob") -> BlobReference:
        """The same reference, if its name leads to no other blob and shows no token on any way.

        :param what: name of the reference, for messages.
        :raises RequestRejected: it would.
        """
        path = self.relative_location
        reason = next((reason for is_wrong, reason in _WRONG_NAMES if is_wrong(path)), None)
        if reason:
            raise _wrong(what, reason)
        return self

    def normalised(self) -> BlobReference:
        """The same reference in the careful form; its name is not touched but for what stands before the container."""
        base, token = self.base_location.strip(), self.sas_token.strip()
        return BlobReference(
            _without_account(self.relative_location, base, self.connection_string).lstrip("/"),
            f"{base.rstrip('/')}/" if base else "",
            f"?{token.lstrip('?&')}" if token.strip("?&") else "",
            self.connection_string,
        )

    def to_wire(self) -> dict[str, str | None]:
        """All four members, ``None`` where one does not apply."""
        return {
            CONNECTION_STRING: self.connection_string or None,
            RELATIVE_LOCATION: self.relative_location if self.connection_string else self.address_path,
            BASE_LOCATION: self.base_location or None,
            SAS_TOKEN: None if self.connection_string else self.sas_token,
        }

    @property
    def location(self) -> str:
        """The address without its token, which :meth:`parse` reads again: safe to log, to store and to compare."""
        return f"{self.base_location}{self.address_path}"

    @property
    def address_path(self) -> str:
        """The path as it follows the base location; without one, the plain name."""
        return _encoded(self.relative_location) if self.base_location else self.relative_location

    def below(self, address: str) -> str | None:
        """The plain name below an address; ``None``: it is not below it.

        Where an account stands in the path of an address, a URL alone does not tell where its base ends.

        :param address: of an account, with a slash at its end.
        """
        if not self.base_location:
            return self.relative_location
        return unquote(self.location.removeprefix(address)) if self.location.startswith(address) else None

    def container_and_blob(self) -> tuple[str, str]:
        """Container, and the blob's name in it.

        :raises RequestRejected: no container, or nothing below it.
        """
        container, _, blob = self.relative_location.partition("/")
        if not container or not blob:
            raise rejection(
                "InputBlobRelativeLocationInvalid",
                f"RelativeLocation {self.relative_location!r} must be container/path.",
                target=RELATIVE_LOCATION,
            )
        return container, blob

    @property
    def url(self) -> str:
        """The full address, token included: a secret.

        :raises ProtocolError: a reference into the service's own store, or by connection string, has no address.
        :raises RequestRejected: as :meth:`check_name`.
        """
        if not self.base_location:
            raise ProtocolError(f"The blob {self.relative_location!r} has no BaseLocation, so it cannot be addressed.")
        self.check_name()
        return f"{self.base_location}{quote(self.relative_location)}{self.sas_token}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be shown."""
        return tuple(filter(None, (self.sas_token.lstrip("?"), self.connection_string)))

    @property
    def extension(self) -> str:
        """The file name's extension in lower case, with its dot; empty if there is none."""
        name = self.relative_location.rpartition("/")[2]
        return f".{name.rpartition('.')[2].lower()}" if "." in name else ""

    def same_place(self, other: BlobReference) -> bool:
        """Whether both name the same blob, whatever opens it.

        :param other: another reference; schemes and cases of hosts are not compared.
        """
        return _place(self) == _place(other)


def _place(reference: BlobReference) -> tuple[str, str]:
    parts = urlsplit(reference.base_location)
    prefix = unquote(parts.path.strip("/"))
    path = f"{prefix}/{reference.relative_location}" if prefix else reference.relative_location
    return parts.netloc.lower(), path


def _encoded(name: str) -> str:
    """A name as a part of an address that is shown: what a reader would take for something else is encoded."""
    return _NEVER_PLAIN.sub(lambda match: quote(match[0]), name)


def _decoded(what: str, path: str, token: str) -> tuple[str, str]:
    """The plain name that a part of an address means, and the token, which may be pasted together with it."""
    path, mark, query = path.partition("?")
    query = query.strip()
    # A query that is none, or another one than the token, is the end of a name that was not encoded.
    if (mark and "=" not in query and query) or (token.strip("?&") and query and query != token.lstrip("?&")):
        raise _ambiguous(what, "?", "%3F")
    try:
        return unquote(path, errors="strict"), token or query
    except UnicodeDecodeError:
        raise _wrong(what, "has percent-encoded bytes that are not UTF-8") from None


def _ambiguous(what: str, character: str, encoded: str) -> AzureMLClassicError:
    return _wrong(what, f"has a {character} that may end the path: write one of the blob's name as {encoded}")


def _wrong(what: str, problem: str) -> AzureMLClassicError:
    return rejection("InputBlobRelativeLocationInvalid", f"{what} {problem}.", target=RELATIVE_LOCATION)


@dataclass(frozen=True)
class ToldWindow:
    """What a service tells of a model's training data: our addition, see :mod:`.purpose`.

    :param end: exclusive end of the training data, if it is known: of the submission, else of the path.
    :param is_first: the model that the web service began with, which any retrained one is newer than.
    :param last: last time in the training data, if they are dated: their end is later.
    :param trained_at: when the model was trained, if it is known.
    """

    end: datetime | None = None
    is_first: bool = False
    last: datetime | None = None
    trained_at: datetime | None = None

    @classmethod
    def from_wire(cls, data: Any) -> ToldWindow | None:
        """The window; ``None``: the service tells nothing that can be read.

        :param data: decoded JSON.
        """
        if not isinstance(data, Mapping):
            return None
        end, last, trained_at = (read_time(data.get(name)) for name in ("End", "Last", "TrainedAt"))
        return cls(end, data.get("IsFirst") is True, last, trained_at)

    def to_wire(self) -> dict[str, Any]:
        """Both members; the others where they are known."""
        more = {"Last": self.last, "TrainedAt": self.trained_at}
        known = {name: stamp(moment) for name, moment in more.items() if moment is not None}
        return {"End": stamp(self.end), "IsFirst": self.is_first, **known}


#: Member of a resource.
WINDOW = "ModelWindow"
#: How a moment is written in a model's path: ISO 8601, basic, UTC.
STAMP = "%Y%m%dT%H%M%SZ"
_IN_PATH = re.compile(r"(?<!\d)(\d{8}T\d{6}Z)(?!\d)")


def window_end_of(location: BlobReference | None) -> datetime | None:
    """End of the training window that a model's path says, ``None`` if it says nothing.

    :param location: where the model is.
    """
    stamps = _IN_PATH.findall(location.relative_location) if location else []
    try:
        return datetime.strptime(stamps[-1], STAMP).replace(tzinfo=UTC) if stamps else None
    except ValueError:
        return None


def _without_account(relative: str, base: str, connection_string: str) -> str:
    """The path without the account that it begins with, if it is of a whole address; see the module."""
    endpoint = _BLOB_ENDPOINT.search(connection_string)
    try:
        account = urlsplit(endpoint.group(1).strip() if endpoint else base).path.strip("/")
    except ValueError:
        return relative  # who resolves the reference says that the address is none
    if _DEVELOPMENT.search(connection_string):
        account = DEVELOPMENT_ACCOUNT_NAME
    return relative.removeprefix(f"/{account}/")
