"""Bytes of blobs between sockets and files: ranges, conditions, uploads in pieces, downloads in pieces."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager
from typing import BinaryIO

from anyio import CancelScope, to_thread
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from airflow_provider_azureml_classic.server.blobs.store import BlobProperties, BlobWriter
from airflow_provider_azureml_classic.server.blobs.xml import StorageError

#: Bytes that a connection holds of a blob, whether its client reads or not.
_PIECE = 256 * 1024
_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})")


class BlobResponse(StreamingResponse):
    """A blob, or a part of it, sent from an open file, which is closed at the end.

    :param file: the blob.
    :param span: first byte and the byte after the last one; ``None`` for all.
    :param length: bytes of the whole blob.
    :param headers: headers of the answer.
    :param method: ``HEAD`` sends no bytes.
    """

    def __init__(
        self, file: BinaryIO, span: tuple[int, int] | None, length: int, headers: Mapping[str, str], method: str
    ) -> None:
        start, stop = span or (0, length)
        described = {**headers, "content-length": str(stop - start)}
        if span:
            described["content-range"] = f"bytes {start}-{stop - 1}/{length}"
        sent = _pieces(file, start, 0 if method == "HEAD" else stop - start)
        super().__init__(sent, 206 if span else 200, described)
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it.

        :param scope: ASGI scope.
        :param receive: ASGI.
        :param send: ASGI.
        """
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._file.close()


async def _pieces(file: BinaryIO, start: int, length: int) -> AsyncIterator[bytes]:
    await to_thread.run_sync(file.seek, start)
    while length > 0:
        piece = await to_thread.run_sync(file.read, min(_PIECE, length))
        if not piece:  # somebody shortened the file in place; the server closes the connection
            return
        length -= len(piece)
        yield piece


def asked_range(headers: Mapping[str, str], properties: BlobProperties) -> tuple[int, int] | None:
    """First byte and the byte after the last one that a GET asks for; ``None`` for the whole blob.

    As in Azure ``x-ms-range`` goes before ``Range``, and what is not one range from a start is ignored.

    :param headers: of the request.
    :param properties: of the blob.
    :raises StorageError: 416, the range begins behind the end.
    """
    match = _RANGE.fullmatch(headers.get("x-ms-range") or headers.get("range", ""))
    if not match or headers.get("if-range", properties.etag) != properties.etag:
        return None
    start, last = int(match[1]), int(match[2] or properties.length)
    if last < start and match[2]:
        return None
    if start >= properties.length:
        size = {"content-range": f"bytes */{properties.length}"}
        raise StorageError(416, "InvalidRange", "The range begins behind the end of the blob.", headers=size)
    return start, min(last + 1, properties.length)


def check_conditions(request: Request, properties: BlobProperties) -> None:
    """Return if ``If-Match`` and ``If-None-Match`` let the request go on with the blob as it is.

    :param request: the request.
    :param properties: of the blob that is there.
    :raises StorageError: 412, or 304 for reading.
    """
    if_match, if_none_match = (request.headers.get(name) for name in ("if-match", "if-none-match"))
    if if_match and not _names(if_match, properties.etag):
        raise StorageError(412, "ConditionNotMet", "The blob is not the one that If-Match names.")
    if if_none_match and _names(if_none_match, properties.etag):
        if request.method in ("GET", "HEAD"):
            raise StorageError(304, "ConditionNotMet", "Not modified.", headers={"etag": properties.etag})
        raise StorageError(412, "ConditionNotMet", "The blob is the one that If-None-Match names.")


def check_source_conditions(headers: Mapping[str, str], properties: BlobProperties) -> None:
    """Return if a copy may go on from a blob as it is.

    :param headers: of the request; ``x-ms-source-if-match`` and ``x-ms-source-if-none-match`` count.
    :param properties: of the source.
    :raises StorageError: 412.
    """
    if_match, if_none_match = (headers.get(f"x-ms-source-{name}") for name in ("if-match", "if-none-match"))
    if (if_match and not _names(if_match, properties.etag)) or (
        if_none_match and _names(if_none_match, properties.etag)
    ):
        raise StorageError(412, "SourceConditionNotMet", "The source is not as the request asks for.")


def _names(condition: str, etag: str) -> bool:
    # Some SDKs send the tag without its quotes.
    return condition.strip() == "*" or etag.strip('"') in {tag.strip(' "') for tag in condition.split(",")}


async def receive_into(
    target: AbstractContextManager[BlobWriter],
    request: Request,
    max_size: int,
    before_commit: Callable[[], None] = lambda: None,
) -> BlobWriter:
    """Write a request's body to ``target``; a body that ends early, or fails a check, leaves nothing behind.

    :param target: what opens the blob or block; it blocks, so it is entered and left in threads.
    :param request: the request.
    :param max_size: bytes allowed.
    :param before_commit: called when all bytes are there; may raise.
    :raises StorageError: 413, 400.
    """
    declared = request.headers.get("content-length")
    if declared is not None and int(declared) > max_size:
        raise _too_large(max_size)
    writer = await to_thread.run_sync(target.__enter__)
    try:
        await _receive(request, writer, max_size)
        if declared is not None and writer.length != int(declared):
            raise StorageError(400, "IncompleteBody", "The body is not as long as Content-Length says.")
        await to_thread.run_sync(before_commit)
    except BaseException as error:
        with CancelScope(shield=True):
            await to_thread.run_sync(target.__exit__, type(error), error, error.__traceback__)
        raise
    await to_thread.run_sync(target.__exit__, None, None, None)
    return writer


async def _receive(request: Request, writer: BlobWriter, max_size: int) -> None:
    checksum = hashlib.md5(usedforsecurity=False)
    expected = request.headers.get("content-md5")

    def keep(piece: bytes) -> None:
        writer.write(piece)
        if expected is not None:
            checksum.update(piece)

    buffer = bytearray()
    async for piece in request.stream():
        buffer += piece
        if writer.length + len(buffer) > max_size:
            raise _too_large(max_size)
        if len(buffer) >= _PIECE:
            await to_thread.run_sync(keep, bytes(buffer))
            buffer.clear()
    await to_thread.run_sync(keep, bytes(buffer))
    actual = base64.b64encode(checksum.digest())
    if expected is not None and not hmac.compare_digest(actual, expected.encode(errors="replace")):
        raise StorageError(400, "Md5Mismatch", "The body does not match Content-MD5.")


def _too_large(max_size: int) -> StorageError:
    return StorageError(413, "RequestBodyTooLarge", f"A blob may have at most {max_size} bytes.")
