"""XML of the blob service: errors, listings and block lists. Pure.

Facts: Microsoft, "Status and error codes", "Blob service error codes", "List Blobs", "Put Block List" and "Get Block
List" (``rest/api/storageservices``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from email.utils import format_datetime
from typing import NoReturn
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError
from airflow_provider_azureml_classic.server.blobs.store import MAX_BLOCKS, BlobProperties

#: Headers of user metadata begin with this.
METADATA = "x-ms-meta-"
DECLARATION = '<?xml version="1.0" encoding="utf-8"?>'


class StorageError(Exception):
    """An answer of the blob service that is not a success.

    :param status: HTTP status.
    :param code: Azure's code, the ``x-ms-error-code`` header.
    :param message: one sentence; never holds anything of a query or a key.
    :param detail: ``AuthenticationErrorDetail``, for refused credentials.
    :param headers: further headers of the answer.
    """

    def __init__(
        self, status: int, code: str, message: str, *, detail: str = "", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.detail = detail
        self.headers = headers or {}

    @classmethod
    def of(cls, error: AzureMLClassicError) -> StorageError:
        """The blob service's spelling of an error of the store.

        :param error: what the store raised.
        """
        if error.detail_code == "BlobNotFound":
            return cls(404, "BlobNotFound", error.message)
        if error.status == 408:
            return cls(408, "OperationTimedOut", error.message, headers={"connection": "close"})
        if error.status == 503:
            return cls(503, "ServerBusy", error.message, headers={"retry-after": "1"})
        return cls(400, "InvalidResourceName", error.message)

    def to_xml(self) -> bytes:
        """The body of the answer."""
        detail = f"<AuthenticationErrorDetail>{escape(self.detail)}</AuthenticationErrorDetail>" if self.detail else ""
        inner = f"<Code>{escape(self.code)}</Code><Message>{escape(self.message)}</Message>{detail}"
        return f"{DECLARATION}<Error>{inner}</Error>".encode(errors="replace")


class _BlockListReader:
    """Collects the ids of a block list; refuses what else XML can do."""

    def __init__(self) -> None:
        self.blocks: list[tuple[str, str]] = []
        self._path: list[str] = []
        self._text: list[str] = []

    def start(self, name: str, _: object) -> None:
        if len(self._path) > 1 or (not self._path) != (name == "BlockList"):
            refuse_block_list()
        if self._path and name not in ("Latest", "Uncommitted", "Committed"):
            refuse_block_list()
        if len(self.blocks) >= MAX_BLOCKS and self._path:
            raise StorageError(400, "BlockListTooLong", f"The list has more than {MAX_BLOCKS} blocks.")
        self._path.append(name)
        self._text.clear()

    def end(self, name: str) -> None:
        if len(self._path) > 1:
            self.blocks.append((name, "".join(self._text).strip()))
        self._path.pop()

    def data(self, text: str) -> None:
        self._text.append(text)


def refuse_block_list(*_: object) -> NoReturn:
    """Raise the error for a block list that is not one.

    :raises StorageError: always.
    """
    raise StorageError(400, "InvalidXmlDocument", "The body is not a list of blocks in XML.")


def read_block_list(body: bytes) -> list[tuple[str, str]]:
    """Where to look for each block of a ``BlockList`` (the name of its element), and its id, in order.

    :param body: the request's body, of limited size.
    :raises StorageError: not a block list, or it holds a document type (and so might define entities).
    """
    reader, parser = _BlockListReader(), expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.data
    parser.StartDoctypeDeclHandler = refuse_block_list
    try:
        parser.Parse(body, True)
    except expat.ExpatError:
        refuse_block_list()
    return reader.blocks


def _element(name: str, text: str) -> str:
    """One element; an empty one closes itself, as the cloud wrote it. Its .NET library takes
    ``<NextMarker></NextMarker>`` for a marker, and lists for ever.
    """
    return f"<{name}>{escape(text)}</{name}>" if text else f"<{name} />"


def block_list_to_xml(lists: Mapping[str, Sequence[tuple[str, int]]]) -> bytes:
    """The answer of "Get Block List".

    :param lists: element (``CommittedBlocks``, ``UncommittedBlocks``) -> ids and lengths of its blocks.
    """
    inner = ""
    for element, blocks in lists.items():
        each = (f"<Block><Name>{escape(name)}</Name><Size>{size}</Size></Block>" for name, size in blocks)
        inner += f"<{element}>{''.join(each)}</{element}>" if blocks else f"<{element} />"
    return f"{DECLARATION}<BlockList>{inner}</BlockList>".encode()


def _blob_xml(blob: BlobProperties) -> str:
    properties = {
        "Last-Modified": http_date(blob),
        "Etag": blob.etag.strip('"'),
        "Content-Length": str(blob.length),
        "Content-Type": blob.content_type,
        "BlobType": "BlockBlob",
    }
    inner = "".join(_element(name, value) for name, value in properties.items())
    metadata = "".join(
        _element(name.removeprefix(METADATA), value) for name, value in sorted((blob.metadata or {}).items())
    )
    if blob.metadata is not None:
        metadata = f"<Metadata>{metadata}</Metadata>" if metadata else "<Metadata />"
    return f"<Blob><Name>{escape(blob.name)}</Name><Properties>{inner}</Properties>{metadata}</Blob>"


def _container_xml(container: BlobProperties) -> str:
    inner = f"<Last-Modified>{http_date(container)}</Last-Modified><Etag>{escape(container.etag)}</Etag>"
    return f"<Container><Name>{escape(container.name)}</Name><Properties>{inner}</Properties></Container>"


def http_date(blob: BlobProperties) -> str:
    """When a blob was last modified, as a header says it.

    :param blob: its properties.
    """
    return format_datetime(blob.last_modified.replace(microsecond=0), usegmt=True)


def list_to_xml(
    entries: Sequence[BlobProperties | str],
    *,
    endpoint: str,
    container: str | None,
    parameters: Iterable[tuple[str, str]],
    more: str,
) -> bytes:
    """The answer of "List Blobs", or of "List Containers".

    :param entries: blobs, and prefixes (``str``) of the hierarchical listing; or containers.
    :param endpoint: address of the blob service.
    :param container: container listed; ``None`` for a list of containers.
    :param parameters: elements that repeat the request: ``Prefix``, ``Marker``, ``MaxResults``, ``Delimiter``.
    :param more: marker of the next page, empty at the end.
    """
    repeated = "".join(_element(name, value) for name, value in parameters)
    listed = "".join(
        f"<BlobPrefix><Name>{escape(entry)}</Name></BlobPrefix>"
        if isinstance(entry, str)
        else _blob_xml(entry)
        if container
        else _container_xml(entry)
        for entry in entries
    )
    element = "Blobs" if container else "Containers"
    attributes = f"ServiceEndpoint={quoteattr(endpoint)}"
    attributes += f" ContainerName={quoteattr(container)}" if container else ""
    entries_xml = f"<{element}>{listed}</{element}>" if listed else f"<{element} />"
    inner = f"{repeated}{entries_xml}{_element('NextMarker', more)}"
    return f"{DECLARATION}<EnumerationResults {attributes}>{inner}</EnumerationResults>".encode(errors="replace")
