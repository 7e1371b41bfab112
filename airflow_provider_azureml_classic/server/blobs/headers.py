"""User metadata (``x-ms-meta-``) and the source of a copy: headers of requests that are kept of a blob. Pure.

Facts: Microsoft, "Setting and retrieving properties and metadata for Blob Storage", "Copy Blob" and "Put Blob From URL"
(``rest/api/storageservices``).
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from urllib.parse import SplitResult, unquote, urlsplit

from starlette.datastructures import Headers

from airflow_provider_azureml_classic.protocol.operations import BLOB_SHA256
from airflow_provider_azureml_classic.server.blobs.xml import METADATA, StorageError

COPY_SOURCE = "x-ms-copy-source"
_COPY = "x-ms-copy-"
#: Bytes of names and values together.
_MAX_METADATA = 8 * 1024
_NAME = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)
# Conditions on the source, and checksums of it, that are not looked at must not seem to hold.
_NOT_CHECKED = (
    *("x-ms-source-if-modified-since", "x-ms-source-if-unmodified-since", "x-ms-source-if-tags"),
    *("x-ms-source-content-md5", "x-ms-source-content-crc64", "x-ms-source-lease-id", "x-ms-source-range"),
)


@dataclass(frozen=True)
class CopySource:
    """The blob that a request copies from.

    :param container: its container.
    :param blob: path in it.
    :param query: the query of its address, a SAS token or nothing.
    """

    container: str
    blob: str
    query: str = field(repr=False)


def metadata_of(headers: Headers) -> dict[str, str]:
    """The metadata that a request brings: whole names of headers -> values. Not the digest, which the store makes.

    :param headers: of the request.
    :raises StorageError: 400, a name is no identifier, or all together are too long.
    """
    metadata = {name: value for name, value in headers.items() if name.startswith(METADATA) and name != BLOB_SHA256}
    for name in metadata:
        if not _NAME.fullmatch(name.removeprefix(METADATA)):
            raise StorageError(400, "InvalidMetadata", "Names of metadata are letters, digits and underscores.")
    if sum(len(name) - len(METADATA) + len(value) for name, value in metadata.items()) > _MAX_METADATA:
        raise StorageError(400, "MetadataTooLarge", f"Metadata may have at most {_MAX_METADATA} bytes.")
    return metadata


def with_metadata(kept: Mapping[str, str], metadata: Mapping[str, str]) -> dict[str, str]:
    """The headers that are kept of a blob, with other metadata.

    :param kept: present headers.
    :param metadata: takes the place of the present one.
    """
    return {name: value for name, value in kept.items() if not name.startswith(METADATA)} | dict(metadata)


def copied_headers(headers: Headers, kept: Mapping[str, str], length: int, now: datetime) -> dict[str, str]:
    """What is kept of a copy: the metadata of the request, or else of its source, and where it is from.

    :param headers: of the request.
    :param kept: headers that are kept of the source.
    :param length: bytes copied.
    :param now: the present moment.
    """
    metadata = metadata_of(headers) or {name: kept[name] for name in kept if name.startswith(METADATA)}
    return {
        **metadata,
        f"{_COPY}id": str(uuid.uuid4()),
        f"{_COPY}status": "success",
        COPY_SOURCE: headers[COPY_SOURCE].partition("?")[0],
        f"{_COPY}progress": f"{length}/{length}",
        f"{_COPY}completion-time": format_datetime(now.replace(microsecond=0), usegmt=True),
    }


def copy_source(headers: Headers, homes: tuple[str, ...]) -> CopySource:
    """The blob that a request copies from.

    :param headers: of the request.
    :param homes: addresses of this account.
    :raises StorageError: it is in another account, or not named as a blob.
    """
    for name in _NOT_CHECKED:
        if name in headers:
            raise StorageError(501, "NotImplemented", f"This store copies without {name}.")
    try:
        source = urlsplit(headers[COPY_SOURCE])
    except ValueError:
        raise _wrong("is not a URL") from None
    path = next((path for home in homes if (path := _below(source, home))), None)
    if path is None:
        raise StorageError(501, "NotImplemented", "This store copies within its own account only: upload the bytes.")
    container, _, blob = unquote(path).partition("/")
    if not blob or any(part.startswith(("snapshot=", "versionid=")) for part in source.query.lower().split("&")):
        raise _wrong("must name a blob: account, container and path, without a snapshot or version")
    return CopySource(container, blob, source.query)


def _below(source: SplitResult, home: str) -> str | None:
    account = urlsplit(home)
    if source.netloc.lower() != account.netloc.lower() or not source.path.startswith(f"{account.path}/"):
        return None
    return source.path[len(account.path) + 1 :]


def _wrong(reason: str) -> StorageError:
    return StorageError(400, "InvalidHeaderValue", f"{COPY_SOURCE} {reason}.")
