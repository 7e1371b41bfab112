"""The store over HTTP, in the wire format of Azure Blob Storage: what an Azure SDK needs to read and write blobs.

Not offered, and answered with 501: copies from other accounts, leases, snapshots, tiers, tags, append and page blobs.

Rule 1: bytes go from socket to file and back in pieces, in threads; nothing of a size that a client chooses is held.
Rule 2: nothing of a query or of ``Authorization`` is logged or echoed.

Facts: Microsoft, "Blob service REST API" (``rest/api/storageservices/blob-service-rest-api``).
"""

from __future__ import annotations

import logging
import re
import shutil
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

from anyio import to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, cause
from airflow_provider_azureml_classic.protocol.operations import BLOB_SHA256, REQUEST_ID
from airflow_provider_azureml_classic.protocol.sas import SIGNED_VERSION, verify
from airflow_provider_azureml_classic.server.blobs.auth import SignedRequest, authorize
from airflow_provider_azureml_classic.server.blobs.blocks import BlockStage
from airflow_provider_azureml_classic.server.blobs.disk import as_unavailable
from airflow_provider_azureml_classic.server.blobs.headers import (
    COPY_SOURCE,
    CopySource,
    copied_headers,
    copy_source,
    metadata_of,
    with_metadata,
)
from airflow_provider_azureml_classic.server.blobs.listing import containers_page, list_page
from airflow_provider_azureml_classic.server.blobs.names import check_container
from airflow_provider_azureml_classic.server.blobs.notes import HEADERS, Notes
from airflow_provider_azureml_classic.server.blobs.store import MAX_BLOCKS, BlobProperties, BlobStore
from airflow_provider_azureml_classic.server.blobs.streams import (
    BlobResponse,
    asked_range,
    check_conditions,
    check_source_conditions,
    receive_into,
)
from airflow_provider_azureml_classic.server.blobs.xml import (
    METADATA,
    StorageError,
    block_list_to_xml,
    http_date,
    read_block_list,
)

MAX_BLOB_SIZE = 5 * 1024**3
_MAX_BLOCK_LIST_SIZE = MAX_BLOCKS * 160
_ECHOED = re.compile(r"[\w.-]{1,128}", re.ASCII)
_VERSION = re.compile(r"\d{4}-\d\d-\d\d")
_XML = "application/xml"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Call:
    """One request, taken apart.

    :param request: the request.
    :param container: container's name, not checked; empty if the account itself is meant.
    :param blob: blob's path, not checked; empty if the container itself is meant.
    :param granted: permissions that the credentials proved.
    :param by_key: whether the account's key proved them, not a token.
    """

    request: Request
    container: str
    blob: str
    granted: str = ""
    by_key: bool = False

    @property
    def may_overwrite(self) -> bool:
        """Whether a blob that exists may be replaced: not with "create" alone, nor if the client forbids it."""
        return "w" in self.granted and self.request.headers.get("if-none-match") != "*"


Handler = Callable[["BlobApp", Call], Awaitable[Response]]


def blob_app(store: BlobStore, clock: Callable[[], datetime], *, max_size: int = MAX_BLOB_SIZE) -> ASGIApp:
    """The store as an ASGI application, to be mounted at ``/{account name}``.

    :param store: what is served; its account's key and tokens open it.
    :param clock: tells the present moment, with a time zone.
    :param max_size: bytes that a blob may have.
    """
    return BlobApp(store, clock, max_size)


class BlobApp:
    """Match, authorize, one call of the store, encode.

    :param store: what is served.
    :param clock: tells the present moment.
    :param max_size: bytes that a blob may have.
    """

    def __init__(self, store: BlobStore, clock: Callable[[], datetime], max_size: int) -> None:
        self.store = store
        self.blocks = BlockStage(store)
        self.clock = clock
        self.max_size = max_size

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        :param scope: ASGI scope.
        :param receive: ASGI.
        :param send: ASGI.
        """
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except StorageError as error:
            response = _error_response(error)
        except AzureMLClassicError as error:
            response = _error_response(StorageError.of(error))
        except ClientDisconnect:
            response = _error_response(StorageError(400, "IncompleteBody", "The connection was closed too early."))
        except OSError as error:
            logger.error("The blob store failed: %s (errno %s)", error.strerror, error.errno)
            told = as_unavailable(error)
            failed = StorageError(500, "InternalError", "The blob store failed; see the log.")
            response = _error_response(StorageError.of(told) if told else failed)
        response.headers.update(_common_headers(request))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        path = _path_in_account(request.scope)
        container, _, blob = path.removeprefix("/").partition("/")
        query = request.query_params
        kind = "blob" if blob else query.get("restype", "") if container else "account"
        operation = OPERATIONS.get((kind, request.method, query.get("comp", "")))
        if operation is None:
            raise StorageError(501, "NotImplemented", "This store does not offer the operation.")
        permission, handler = operation
        granted = authorize(
            self.store.account,
            _signed(request, path),
            container,
            blob or None,
            permission=permission,
            now=self.clock(),
        )
        by_key = "sig" not in query
        return await handler(self, Call(request, container and check_container(container), blob, granted, by_key))

    async def get_blob(self, call: Call) -> Response:
        """Get Blob, Get Blob Properties.

        :param call: the request.
        """
        file, properties = await to_thread.run_sync(self.store.open_read, call.container, call.blob)
        try:
            check_conditions(call.request, properties)
            span = asked_range(call.request.headers, properties) if call.request.method == "GET" else None
            kept = await to_thread.run_sync(self.store.headers, call.container, call.blob, properties.sha256)
        except BaseException:
            file.close()
            raise
        return BlobResponse(file, span, properties.length, {**kept, **_blob_headers(properties)}, call.request.method)

    async def put_blob(self, call: Call) -> Response:
        """Put Blob.

        :param call: the request.
        """
        headers = call.request.headers
        if COPY_SOURCE in headers:
            return await to_thread.run_sync(self._copy, call)
        if headers.get("x-ms-blob-type", "") != "BlockBlob":
            raise StorageError(400, "InvalidHeaderValue", "x-ms-blob-type must be BlockBlob.")
        notes = _notes(metadata_of(headers))
        await to_thread.run_sync(self._check_replaceable, call)
        target = self.store.open_write(call.container, call.blob, overwrite=call.may_overwrite, notes=notes)
        try:
            writer = await receive_into(target, call.request, self.max_size, lambda: self._check_replaceable(call))
        except FileExistsError:
            raise _exists(call) from None
        return _put_response(writer.committed)

    def _copy(self, call: Call) -> Response:
        """Copy Blob, Copy Blob From URL, Put Blob From URL: done when they are answered."""
        request = call.request
        homes = (
            self.store.account.endpoint,
            f"http://{request.headers.get('host', '')}{call.request.scope.get('root_path', '')}",
        )
        source = copy_source(request.headers, homes)
        self._check_source(call, source)
        metadata_of(request.headers)
        file, properties = self.store.open_read(check_container(source.container), source.blob)
        with file:
            check_source_conditions(request.headers, properties)
            self._check_replaceable(call)
            kept = self.store.headers(source.container, source.blob, properties.sha256)
            headers = copied_headers(request.headers, kept, properties.length, self.clock())
            if properties.length > self.max_size:
                raise StorageError(413, "RequestBodyTooLarge", f"A blob may have at most {self.max_size} bytes.")
            try:
                with self.store.open_write(
                    call.container, call.blob, overwrite=call.may_overwrite, notes=_notes(headers)
                ) as writer:
                    shutil.copyfileobj(file, writer, 1024 * 1024)
            except FileExistsError:
                raise _exists(call) from None
        response = _put_response(writer.committed)
        response.headers.update({name: headers[name] for name in ("x-ms-copy-id", "x-ms-copy-status")})
        response.status_code = 201 if "x-ms-blob-type" in request.headers else 202
        return response

    def _check_source(self, call: Call, source: CopySource) -> None:
        """The account's key opens a source without a token; whoever has a token needs one for the source, too."""
        if call.by_key and not source.query:
            return
        client = call.request.client.host if call.request.client else None
        try:
            verify(
                self.store.account,
                source.query,
                source.container,
                source.blob,
                permission="r",
                now=self.clock(),
                client=client,
            )
        except AzureMLClassicError as error:
            message = f"The source of the copy cannot be read. {error.message}"
            raise StorageError(403, "CannotVerifyCopySource", message) from None

    async def get_metadata(self, call: Call) -> Response:
        """Get Blob Metadata.

        :param call: the request.
        """
        properties = await to_thread.run_sync(self.store.properties, call.container, call.blob)
        check_conditions(call.request, properties)
        kept = await to_thread.run_sync(self.store.headers, call.container, call.blob, properties.sha256)
        shown = {name: value for name, value in kept.items() if name.startswith(METADATA)}
        described = {"etag": properties.etag, "last-modified": http_date(properties)}
        return Response(headers={**shown, **described, BLOB_SHA256: properties.sha256 or ""})

    async def set_metadata(self, call: Call) -> Response:
        """Set Blob Metadata.

        :param call: the request.
        """
        metadata = metadata_of(call.request.headers)

        def change(properties: BlobProperties, kept: Mapping[str, str]) -> Mapping[str, str]:
            check_conditions(call.request, properties)
            return with_metadata(kept, metadata)

        properties = await to_thread.run_sync(self.store.set_headers, call.container, call.blob, change)
        response = _put_response(properties)
        response.status_code = 200
        return response

    async def get_block_list(self, call: Call) -> Response:
        """Get Block List.

        :param call: the request.
        """
        wanted = call.request.query_params.get("blocklisttype", "committed").lower()
        if wanted not in ("committed", "uncommitted", "all"):
            message = "blocklisttype must be committed, uncommitted or all."
            raise StorageError(400, "InvalidQueryParameterValue", message)
        properties, committed = await to_thread.run_sync(self.blocks.committed, call.container, call.blob)
        staged = await to_thread.run_sync(self.blocks.staged, call.container, call.blob)
        if properties is None and not staged:
            raise StorageError(404, "BlobNotFound", "The specified blob does not exist.")
        lists = {"CommittedBlocks": committed, "UncommittedBlocks": staged}
        body = block_list_to_xml({e: lists[e] for e in lists if wanted in ("all", e.removesuffix("Blocks").lower())})
        headers = {"x-ms-blob-content-length": str(properties.length if properties else 0)}
        if properties:
            headers |= {"etag": properties.etag, "last-modified": http_date(properties)}
        return Response(body, headers=headers, media_type=_XML)

    async def put_block(self, call: Call) -> Response:
        """Put Block.

        :param call: the request.
        """
        if COPY_SOURCE in call.request.headers:
            raise StorageError(501, "NotImplemented", "This store does not offer Put Block From URL.")
        try:
            target = self.blocks.open_block(call.container, call.blob, call.request.query_params.get("blockid", ""))
            await receive_into(target, call.request, self.max_size)
        except ValueError as error:
            raise StorageError(400, "InvalidQueryParameterValue", f"Wrong block id: {cause(error)}.") from None
        return Response(status_code=201)

    async def put_block_list(self, call: Call) -> Response:
        """Put Block List.

        :param call: the request.
        """
        body = bytearray()
        async for piece in call.request.stream():
            body += piece
            if len(body) > _MAX_BLOCK_LIST_SIZE:
                raise StorageError(413, "RequestBodyTooLarge", "The list of blocks is too long.")
        listed = await to_thread.run_sync(read_block_list, bytes(body))
        return _put_response(await to_thread.run_sync(self._commit, call, listed))

    def _commit(self, call: Call, listed: list[tuple[str, str]]) -> BlobProperties:
        notes = _notes(metadata_of(call.request.headers))
        self._check_replaceable(call)
        try:
            return self.blocks.commit(
                call.container,
                call.blob,
                listed,
                max_length=self.max_size,
                overwrite=call.may_overwrite,
                notes=notes,
            )
        except OverflowError:
            raise StorageError(413, "RequestBodyTooLarge", "The blocks make a blob that is too large.") from None
        except (LookupError, ValueError):
            raise StorageError(400, "InvalidBlockList", "The specified block list is invalid.") from None
        except FileExistsError:
            raise _exists(call) from None

    async def delete_blob(self, call: Call) -> Response:
        """Delete Blob.

        :param call: the request.
        """
        if "if-match" in call.request.headers:
            check_conditions(call.request, await to_thread.run_sync(self.store.properties, call.container, call.blob))
        await to_thread.run_sync(self.store.delete, call.container, call.blob)
        return Response(status_code=202)

    async def create_container(self, call: Call) -> Response:
        """Create Container.

        :param call: the request.
        """
        if not await to_thread.run_sync(self.store.create_container, call.container):
            raise StorageError(409, "ContainerAlreadyExists", "The specified container already exists.")
        return Response(status_code=201, headers=await self._container_headers(call))

    async def get_container(self, call: Call) -> Response:
        """Get Container Properties.

        :param call: the request.
        """
        return Response(headers=await self._container_headers(call))

    async def delete_container(self, call: Call) -> Response:
        """Delete Container.

        :param call: the request.
        """
        if not await to_thread.run_sync(self.store.delete_container, call.container):
            raise _no_container()
        return Response(status_code=202)

    async def list_blobs(self, call: Call) -> Response:
        """List Blobs.

        :param call: the request.
        """
        await self._container_headers(call)
        query = dict(call.request.query_params)
        return Response(await to_thread.run_sync(list_page, self.store, call.container, query), media_type=_XML)

    async def list_containers(self, call: Call) -> Response:
        """List Containers.

        :param call: the request.
        """
        query = dict(call.request.query_params)
        return Response(await to_thread.run_sync(containers_page, self.store, query), media_type=_XML)

    async def _container_headers(self, call: Call) -> dict[str, str]:
        properties = await to_thread.run_sync(self.store.container_properties, call.container)
        if properties is None:
            raise _no_container()
        return {"etag": properties.etag, "last-modified": http_date(properties)}

    def _check_replaceable(self, call: Call) -> None:
        if not self.store.exists(call.container, call.blob):
            if call.request.headers.get("if-match"):
                raise StorageError(412, "ConditionNotMet", "There is no blob yet, and If-Match asks for one.")
            return
        if not call.may_overwrite:
            raise _exists(call)
        check_conditions(call.request, self.store.properties(call.container, call.blob))


#: (kind of resource, method, ``comp``) -> permission needed, handler.
OPERATIONS: dict[tuple[str, str, str], tuple[str, Handler]] = {
    ("blob", "GET", ""): ("r", BlobApp.get_blob),
    ("blob", "HEAD", ""): ("r", BlobApp.get_blob),
    ("blob", "GET", "metadata"): ("r", BlobApp.get_metadata),
    ("blob", "HEAD", "metadata"): ("r", BlobApp.get_metadata),
    ("blob", "PUT", "metadata"): ("w", BlobApp.set_metadata),
    ("blob", "GET", "blocklist"): ("r", BlobApp.get_block_list),
    ("blob", "PUT", ""): ("wc", BlobApp.put_blob),
    ("blob", "PUT", "block"): ("wc", BlobApp.put_block),
    ("blob", "PUT", "blocklist"): ("wc", BlobApp.put_block_list),
    ("blob", "DELETE", ""): ("d", BlobApp.delete_blob),
    ("container", "PUT", ""): ("wc", BlobApp.create_container),
    ("container", "GET", ""): ("r", BlobApp.get_container),
    ("container", "HEAD", ""): ("r", BlobApp.get_container),
    ("container", "DELETE", ""): ("d", BlobApp.delete_container),
    ("container", "GET", "list"): ("l", BlobApp.list_blobs),
    ("account", "GET", "list"): ("l", BlobApp.list_containers),
}


def _path_in_account(scope: Scope) -> str:
    root: str = scope.get("root_path", "")
    path: str = scope["path"]
    return path[len(root) :] if root and path.startswith(root) else path


def _signed(request: Request, path_in_account: str) -> SignedRequest:
    raw = request.scope.get("raw_path") or quote(request.scope["path"]).encode()
    path = raw.decode("latin-1").partition("?")[0]
    # What remains of the undecoded path once the mount (plain ASCII) is taken off.
    root = request.scope.get("root_path", "")
    below = path[len(root) :] if path.startswith(root) else quote(path_in_account)
    query = request.scope.get("query_string", b"").decode("latin-1")
    client = request.client.host if request.client else None
    return SignedRequest(request.method, path, below, query, request.headers, client)


def _blob_headers(properties: BlobProperties) -> dict[str, str]:
    return {
        "content-type": properties.content_type,
        "etag": properties.etag,
        "last-modified": http_date(properties),
        "accept-ranges": "bytes",
        "x-ms-blob-type": "BlockBlob",
        # Bytes that somebody uploaded must never run as a page of this server.
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox",
        BLOB_SHA256: properties.sha256 or "",
    }


def _notes(headers: Mapping[str, str]) -> Notes:
    return {HEADERS: dict(headers)} if headers else {}


def _put_response(properties: BlobProperties) -> Response:
    headers = {"etag": properties.etag, "last-modified": http_date(properties)}
    return Response(status_code=201, headers={**headers, "x-ms-request-server-encrypted": "false"})


def _exists(call: Call) -> StorageError:
    if "w" not in call.granted:
        return StorageError(
            403, "AuthorizationPermissionMismatch", "This SAS token may create blobs but not replace them."
        )
    return StorageError(409, "BlobAlreadyExists", "The specified blob already exists.")


def _no_container() -> StorageError:
    return StorageError(404, "ContainerNotFound", "The specified container does not exist.")


def _error_response(error: StorageError) -> Response:
    headers = {**error.headers, "x-ms-error-code": error.code}
    body = b"" if error.status == 304 else error.to_xml()
    return Response(body, error.status, headers, media_type=_XML)


def _common_headers(request: Request) -> dict[str, str]:
    version = request.headers.get("x-ms-version", "")
    headers = {
        REQUEST_ID: str(uuid.uuid4()),
        "x-ms-version": version if _VERSION.fullmatch(version) else SIGNED_VERSION,
    }
    client_id = request.headers.get("x-ms-client-request-id", "")
    if _ECHOED.fullmatch(client_id):
        headers["x-ms-client-request-id"] = client_id
    return headers
