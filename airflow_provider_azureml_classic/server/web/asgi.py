"""HTTP in and out: the only module that knows ASGI. Where a call is answered: :mod:`.lanes`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

from anyio import to_thread

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.messages import Response
from airflow_provider_azureml_classic.protocol.operations import PORTAL
from airflow_provider_azureml_classic.server.blobs.disk import as_unavailable
from airflow_provider_azureml_classic.server.counters.traffic import Observer
from airflow_provider_azureml_classic.server.web.app import App
from airflow_provider_azureml_classic.server.web.bodies import SMALL_BODY, BodyReader, Budget
from airflow_provider_azureml_classic.server.web.connections import MAX_HEAD, head_too_long
from airflow_provider_azureml_classic.server.web.health import PATHS
from airflow_provider_azureml_classic.server.web.lanes import Lane
from airflow_provider_azureml_classic.server.web.microbatch import MicroBatcher
from airflow_provider_azureml_classic.server.web.threads import Threads
from airflow_provider_azureml_classic.server.workspace.audit import ADDRESS

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

#: Largest body of a call, in bytes (azure-docs ``stream-analytics-scale-with-machine-learning-functions``).
MAX_BODY = 4 << 20


#: Headers that decide who asks and for what.
_SINGLE = (b"authorization", b"if-match", b"content-length", b"host", b"x-ms-blob-type")


class Disconnected(Exception):
    """The client left before it had sent its request."""


@dataclass(frozen=True)
class Sites:
    """What answers besides the API.

    :param blobs: ASGI application of the own store.
    :param account: first path segment of the own store.
    :param portal: pages for a browser.
    :param health: what operators ask.
    """

    blobs: AsgiApp
    account: str
    portal: AsgiApp
    health: AsgiApp

    def by_segment(self) -> dict[str, tuple[str, AsgiApp]]:
        """Name and application by the first segment of a path with the slash after it, if there is one."""
        health = {path.strip("/"): ("health", self.health) for path in PATHS}
        root = PORTAL.strip("/")
        pages = {segment: ("portal", self.portal) for segment in ("", root, f"{root}/")}
        account = {segment: ("blobs", self._own_store) for segment in (self.account, f"{self.account}/")}
        return {**health, **pages, **account}

    async def _own_store(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.blobs({**scope, "root_path": scope.get("root_path", "") + f"/{self.account}"}, receive, send)


class HttpServer:
    """The ASGI application: each site below its first path segment, everything else by :class:`App`.

    :param app: the service.
    :param sites: what answers besides it.
    :param observer: sees every answered request.
    :param threads: run what is not answered on the event loop.
    :param batcher: answers small scoring calls before they come here; the web server's connections ask it.
    """

    def __init__(
        self, app: App, sites: Sites, observer: Observer, threads: Threads, batcher: MicroBatcher | None = None
    ) -> None:
        self._app = app
        self.batcher = batcher
        self._threads = threads
        self._sites = sites.by_segment()
        self._observer = observer
        self._budget = Budget()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            ADDRESS.set((scope.get("client") or ("",))[0])
            if head_size(scope) > MAX_HEAD:
                response = self._closing(scope["method"], scope["raw_path"].decode("latin-1"), head_too_long())
                await _send(send, response)
                return
            body_reader = BodyReader(receive)
            if repeated := _repeated(scope):
                error = rejection("RequestBodyInvalid", f"The request has the header {repeated} more than once.")
                response = self._closing(scope["method"], scope["raw_path"].decode("latin-1"), error)
                await _send(send, response, body_reader.drop_rest)
                return
            first, slash, _ = scope["path"][1:].partition("/")
            site = self._sites.get(first + slash)
            if site is None:
                await self._serve(scope, body_reader, send)
            else:
                await self._visit(*site, scope, body_reader, send)

    async def _visit(self, name: str, site: AsgiApp, scope: Scope, receive: Receive, send: Send) -> None:
        start, status = perf_counter(), 0

        async def observed(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await site(scope, receive, observed)
        except (AzureMLClassicError, OSError) as error:
            told = error if isinstance(error, AzureMLClassicError) else as_unavailable(error)
            if status or told is None:
                raise
            await _send(observed, self._closing(scope["method"], scope["path"], told))
        finally:
            self._observer.visited(name, scope["method"], scope["path"], status, perf_counter() - start)

    async def _serve(self, scope: Scope, receive: BodyReader, send: Send) -> None:
        start = perf_counter()
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        method, path = scope["method"], scope["raw_path"].decode("latin-1")
        share = self._budget.share()
        try:
            admit = partial(self._threads.admit, method, path, scope["query_string"].decode("latin-1"), headers)
            body = await read_body(receive, headers, share.hold, admit)
            response = await self._response(scope, method, path, headers, body)
            await _send(send, response)
        except AzureMLClassicError as error:
            response = self._closing(method, path, error)
            await _send(send, response, receive.drop_rest)
        except Disconnected:
            return
        finally:
            share.release()
        self._observer.answered(method, path, response, perf_counter() - start)

    def _closing(self, method: str, path: str, error: AzureMLClassicError) -> Response:
        response = self._app.refuse(method, path, error)
        return Response(response.status, {**response.headers, "connection": "close"}, response.body)

    async def _response(self, scope: Scope, method: str, path: str, headers: dict[str, str], body: bytes) -> Response:
        arguments = (method, path, scope["query_string"].decode("latin-1"), headers, body)
        lane = self._app.lane(method, path, body)
        if lane is Lane.LOOP:
            return self._app.answer(*arguments)
        return await self._threads.answer(lane, *arguments)


def _repeated(scope: Scope) -> str | None:
    """A header that is there twice and must not be: nobody could say which of the two counts."""
    names = [name for name, _ in scope["headers"]]
    return next((name.decode() for name in _SINGLE if names.count(name) > 1), None)


def head_size(scope: Scope) -> int:
    """Bytes of a request's head, about.

    :param scope: of the request.
    """
    lines = sum(len(name) + len(value) for name, value in scope["headers"])
    return lines + len(scope["raw_path"]) + len(scope["query_string"])


async def read_body(
    receive: Receive, headers: dict[str, str], hold: Callable[[int], None], admit: Callable[[], Awaitable[None]]
) -> bytes:
    """The whole body, within the limit.

    :param receive: of the request.
    :param headers: names in lower case.
    :param hold: told how many bytes are held; may raise.
    :param admit: asked once before more than a small body is held; may raise.
    :raises RequestRejected: 413, before more than the limit is held.
    """
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared) > MAX_BODY:
        raise _too_large()
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        chunk = message.get("body", b"")
        was_small = size <= SMALL_BODY
        size += len(chunk)
        if size > MAX_BODY:
            raise _too_large()
        if was_small and size > SMALL_BODY:
            await admit()
        hold(size)
        chunks.append(chunk)
        if not message.get("more_body"):
            return b"".join(chunks)


def _too_large() -> AzureMLClassicError:
    return rejection("RequestBodyTooLarge", f"The body is over {MAX_BODY} bytes; put large data into a blob.")


async def _send(send: Send, response: Response, before_end: Callable[[], Awaitable[None]] | None = None) -> None:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers.items()]
    if response.parts is not None:
        await _send_parts(send, response, headers)
        return
    if response.status not in (204, 304) and "content-length" not in response.headers:
        headers.append((b"content-length", str(len(response.body)).encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": before_end is not None})
    if before_end:
        await before_end()
        await send({"type": "http.response.body", "body": b""})


async def _send_parts(send: Send, response: Response, headers: list[tuple[bytes, bytes]]) -> None:
    """Send a body as it is made, in a thread: making a part may wait for the database."""
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    parts = iter(response.parts or ())
    while (part := await to_thread.run_sync(next, parts, None)) is not None:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
