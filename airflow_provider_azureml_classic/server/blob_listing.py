"""Pages of a container's blobs ("List Blobs")."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping

from airflow_provider_azureml_classic.server.blob_xml import StorageError, list_to_xml
from airflow_provider_azureml_classic.server.blobs import BlobProperties, BlobStore

MAX_RESULTS = 5000


def list_page(store: BlobStore, container: str, query: Mapping[str, str]) -> bytes:
    """One page of a listing, in XML. The marker is the name that the page begins with.

    :param store: the store.
    :param container: container to list.
    :param query: ``prefix``, ``delimiter``, ``marker`` and ``maxresults``, all optional.
    :raises StorageError: ``maxresults`` is not a positive number.
    """
    prefix, marker, delimiter = (query.get(name, "") for name in ("prefix", "marker", "delimiter"))
    size = _page_size(query.get("maxresults", ""))
    entries = _grouped(store.list(container, prefix), prefix, delimiter) if delimiter else store.list(container, prefix)
    rest = (entry for entry in entries if _name(entry) >= marker)
    page = list(itertools.islice(rest, size + 1))
    more = _name(page[size]) if len(page) > size else ""
    asked = [("Prefix", prefix), ("Marker", marker), ("MaxResults", str(size)), ("Delimiter", delimiter)]
    return list_to_xml(page[:size], endpoint=store.account.endpoint, container=container, asked=asked, more=more)


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
        head, found, _ = blob.name[len(prefix) :].partition(delimiter)
        if not found:
            yield blob
        elif last != (last := prefix + head + found):
            yield last
