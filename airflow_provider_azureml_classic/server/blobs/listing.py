"""Pages of a container's blobs ("List Blobs") and of the account's containers ("List Containers")."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace

from starlette.datastructures import Headers

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError
from airflow_provider_azureml_classic.server.blobs.headers import metadata_of
from airflow_provider_azureml_classic.server.blobs.store import BlobProperties, BlobStore
from airflow_provider_azureml_classic.server.blobs.xml import StorageError, list_to_xml

MAX_RESULTS = 5000


def list_page(store: BlobStore, container: str, query: Mapping[str, str]) -> bytes:
    """One page of a listing, in XML. The marker is the name that the page begins with.

    :param store: the store.
    :param container: container to list.
    :param query: ``prefix``, ``delimiter``, ``marker``, ``maxresults`` and ``include`` (``metadata``), all optional.
    :raises StorageError: ``maxresults`` is not a positive number.
    """
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    entries = _grouped(store.list(container, prefix), prefix, delimiter) if delimiter else store.list(container, prefix)
    page, parameters, more = _page(entries, query)
    if "metadata" in query.get("include", "").split(","):
        page = [entry if isinstance(entry, str) else _with_metadata(store, container, entry) for entry in page]
    parameters.append(("Delimiter", delimiter))
    return list_to_xml(page, endpoint=store.account.endpoint, container=container, parameters=parameters, more=more)


def _with_metadata(store: BlobStore, container: str, blob: BlobProperties) -> BlobProperties:
    metadata: dict[str, str] = {}
    with suppress(AzureMLClassicError):  # deleted since the walk
        if store.notes.has(container, blob.name):
            sha256 = store.properties(container, blob.name).sha256
            metadata = metadata_of(Headers(store.headers(container, blob.name, sha256)))
    return replace(blob, metadata=metadata)


def containers_page(store: BlobStore, query: Mapping[str, str]) -> bytes:
    """One page of the containers, in XML.

    :param store: the store.
    :param query: ``prefix``, ``marker`` and ``maxresults``, all optional.
    :raises StorageError: ``maxresults`` is not a positive number.
    """
    named = (properties for properties in store.containers() if properties.name.startswith(query.get("prefix", "")))
    page, parameters, more = _page(named, query)
    return list_to_xml(page, endpoint=store.account.endpoint, container=None, parameters=parameters, more=more)


def _page(
    entries: Iterable[BlobProperties | str], query: Mapping[str, str]
) -> tuple[list[BlobProperties | str], list[tuple[str, str]], str]:
    """The entries asked for, what was asked, and the marker of the next page."""
    marker, size = query.get("marker", ""), _page_size(query.get("maxresults", ""))
    page = list(itertools.islice((entry for entry in entries if _name(entry) >= marker), size + 1))
    parameters = [("Prefix", query.get("prefix", "")), ("Marker", marker), ("MaxResults", str(size))]
    return page[:size], parameters, _name(page[size]) if len(page) > size else ""


def _page_size(text: str) -> int:
    if not text:
        return MAX_RESULTS
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 10 and int(text)):
        raise StorageError(400, "OutOfRangeQueryParameterValue", "maxresults must be a positive number.")
    return min(int(text), MAX_RESULTS)


def _name(entry: BlobProperties | str) -> str:
    return entry if isinstance(entry, str) else entry.name


def _grouped(blobs: Iterable[BlobProperties], prefix: str, delimiter: str) -> Iterator[BlobProperties | str]:
    """Blobs up to the next delimiter; what lies behind it is one entry, its prefix."""
    last = None
    for blob in blobs:
        head, separator, _ = blob.name[len(prefix) :].partition(delimiter)
        if not separator:
            yield blob
        elif last != (last := prefix + head + separator):
            yield last
