"""Connections that are slow, endless or too many: what the web server leaves open, closed.

uvicorn limits neither how long a client may take over the head of its request, nor how long that head may be, nor how
long a client may leave its answer unread. The time of a body is limited in :mod:`~.bodies`, where it can be answered.
Small scoring calls that look like the one before them are answered by :mod:`~.microbatch`.

Rule: a limit counts the time in which this server waits for the client, never the time the client waits for us.
"""

from __future__ import annotations

import asyncio
import re
import resource
from collections import deque
from collections.abc import Iterable
from operator import itemgetter
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.errors import to_response
from airflow_provider_azureml_classic.server.web.microbatch import Head, MicroBatcher, Pending, head_of

#: Seconds from the connection, or from the last answer, to the end of a request's head.
HEAD_SECONDS = 20.0
#: Bytes of a head, request line included.
MAX_HEAD = 64 << 10
#: Seconds in which a client must take some of an answer.
UNREAD_SECONDS = 60.0
#: Bytes of all answers together that clients have taken nothing of for a while; beyond it the largest are dropped.
MAX_UNREAD = 256 << 20
#: Connections at a time; fewer where the system allows fewer open files.
MAX_CONNECTIONS = 4096
#: Open files that are not connections: database, models, workers' pipes.
_OTHER_FILES = 256

#: Takes headers that nobody reads, and keeps none.
_NOWHERE: Any = deque(maxlen=0)
_TIMERS_MAY_BE_EARLY = 0.01
#: A wish to go on in another protocol, which nobody has to grant (RFC 9110, section 7.8); and what it is read as.
_UPGRADE, _IGNORED = re.compile(rb"\r\nupgrade(?=:)", re.IGNORECASE), b"\r\nx-asked"
_BEGINNING_OF_ANSWER = b"HTTP/1.1 "
_BEGINNING, _END_OF_HEAD = b"\r\nupgrade:", b"\r\n\r\n"

#: Requests that may come in one piece; of more, so many bytes are read at a time.
_AT_ONCE, _SLICE = 16, 1024

_PHRASES = {400: "Bad Request", 408: "Request Timeout", 431: "Request Header Fields Too Large"}
_PHRASES |= {503: "Service Unavailable"}


class WholeAnswers:
    """The transport for what uvicorn writes: the head of an answer goes out in one piece with what follows it at once.

    uvicorn writes them one after the other. A server that is killed in between would leave a head without its body,
    which no proxy can ask another server for again.

    :param transport: of the connection.
    :param loop: that of the connection.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop, self._head = transport, loop, b""
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        """Send; a head waits until something follows, at the latest until the loop comes round.

        :param data: what uvicorn writes; nobody takes it where the client has left.
        """
        if self._transport.is_closing():
            return
        head, self._head = self._head, b""
        if not head and data.startswith(_BEGINNING_OF_ANSWER):
            self._head = data
            self._loop.call_soon(self.flush)
        else:
            self._transport.write(head + data)

    def flush(self) -> None:
        """Send a head that nothing follows."""
        if self._head:
            self.write(b"")

    def close(self) -> None:
        """Close the connection when all is sent."""
        self.flush()
        self._transport.close()


class _Flow(FlowControl):
    """Reads no further while requests wait that came before the answer to another.

    uvicorn reads on with each answer, however many wait: who sends without reading the answers fills the memory, and a
    request of 20 bytes takes kilobytes.

    :param connection: the one.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection.transport)
        self._waiting = connection.pipeline

    def resume_reading(self) -> None:
        """Read on, unless requests wait."""
        if not self._waiting:
            super().resume_reading()


class Connection(HttpToolsProtocol):
    """One connection, with limits.

    :param batcher: answers small scoring calls; ``None``: they are read as all others.
    :param options: see :class:`HttpToolsProtocol`.
    """

    #: Since when a head is awaited; ``None`` while a request is in work.
    awaited_since: float | None = None
    _head_bytes = 0
    _in_body = False
    _unread: tuple[int, float] = (0, 0.0)
    #: Head of the last small scoring call.
    _known_head: Head | None = None
    #: What the parser has read of a request, if it came in one piece and nothing is unusual about the connection.
    _parsed: tuple[bytes, bytes, list[tuple[bytes, bytes]]] | None = None
    #: A call waits for its answer in the batcher.
    _is_pending = False
    #: A line of the head that began and may become ``Upgrade``.
    _begun_line = b""
    #: What has come and is read when the requests before it are answered.
    _later = b""

    def __init__(self, *, batcher: MicroBatcher | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._batcher = batcher

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or turn it away."""
        super().connection_made(transport)
        self.flow = _Flow(self)
        self._answers = WholeAnswers(transport, self.loop)
        self.awaited_since = self.loop.time()
        if len(self.connections) > connections_allowed():
            self.turn_away(rejection("NoMoreResources", "There are too many connections; try again later."))

    def data_received(self, data: bytes) -> None:
        """Read on, unless the head has become too long."""
        if self.transport.is_closing():
            return
        if self._is_pending and self._batcher:
            self._batcher.flush(self.loop)  # its answer goes before that to anything that comes now
        if self._known_head and self._batcher and self._is_idle():
            body = self._known_head.body_in(data)
            if body is not None:
                self._is_pending = True
                self._batcher.add(Pending(self, data, self._known_head, body), self.loop)
                return
        self.read(data)

    def _is_idle(self) -> bool:
        """Whether no request is under way, and the client has taken the last answer."""
        between = not self._head_bytes and not self._in_body and (self.cycle is None or self.cycle.response_complete)
        return between and not self.transport.get_write_buffer_size()

    def read(self, data: bytes) -> None:
        """Read on as the web server does; of many requests that came together, a few at a time.

        :param data: what has come.
        """
        data, self._later = self._later + data, b""
        size = len(data) if data.count(_END_OF_HEAD) <= _AT_ONCE else _SLICE
        for begin in range(0, len(data), size or 1):
            if self.pipeline:
                self._later = data[begin:]
                return
            self._read(data[begin : begin + size])

    def _read(self, data: bytes) -> None:
        self._is_pending, self._parsed = False, None
        if self.transport.is_closing():
            return
        begins = not self._head_bytes and not self._in_body and not self._begun_line
        data, self._begun_line = self._begun_line + data, b""
        if self._in_body:
            super().data_received(data)
        else:
            self._read_head(data)
        if begins and self._parsed and not self._in_body:
            self._known_head = head_of(data, *self._parsed)
        if not self._in_body and self._head_bytes > MAX_HEAD:
            self.turn_away(head_too_long())

    def _read_head(self, data: bytes) -> None:
        line = begun_upgrade(data)
        begun = data[: len(data) - len(line)]
        self._head_bytes += len(begun)
        super().data_received(without_upgrade(begun))
        if self._in_body and line:
            super().data_received(line)
        else:
            self._begun_line = line

    def answer(self, content: bytes, now: float) -> None:
        """Send an answer of the batcher.

        :param content: headers and body.
        :param now: the loop's time.
        """
        self._is_pending = False
        if not self.transport.is_closing():
            common = b"".join([b"%b: %b\r\n" % line for line in self.server_state.default_headers])
            self.transport.write(b"HTTP/1.1 200 OK\r\n%b%b" % (common, content))
        self.server_state.total_requests += 1
        self.awaited_since = now

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection if there was nothing to do for a while; the batcher does not set the timer anew."""
        seconds = self.timeout_keep_alive - (self.loop.time() - self.awaited_since) if self.awaited_since else 0.0
        if seconds > _TIMERS_MAY_BE_EARLY:
            self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def shutdown(self) -> None:
        """Answer what waits, then as the web server does."""
        if self._is_pending and self._batcher:
            self._batcher.flush(self.loop)
        super().shutdown()

    def on_headers_complete(self) -> None:
        """The head is there."""
        self.awaited_since, self._head_bytes, self._in_body = None, 0, True
        if self._batcher and self.parser.should_keep_alive() and self.parser.get_http_version() == "1.1":
            self._parsed = self.parser.get_method(), self.url, self.headers
        super().on_headers_complete()
        self.cycle.transport = self._answers  # type: ignore[assignment]  # all of it that uvicorn calls
        # What follows a chunked body (trailers) nobody reads, and it has no limit.
        self.headers = _NOWHERE

    def on_message_complete(self) -> None:
        """The body is there."""
        self._head_bytes, self._in_body = 0, False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The next head is awaited."""
        self._answers.flush()
        self.awaited_since = self.loop.time()
        super().on_response_complete()
        if self._later and not self.pipeline:
            self.read(b"")

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP in the protocol's shape.

        :param msg: uvicorn's word for it.
        """
        self.turn_away(rejection("RequestBodyInvalid", msg))

    def turn_away(self, error: AzureMLClassicError) -> None:
        """Answer an error and close; without an answer where one would end up in the middle of another.

        :param error: why.
        """
        if self.cycle is None or (self.cycle.response_complete and not self._in_body):
            self.transport.write(_answer(error))
        self.transport.close()

    def check(self, now: float) -> int:
        """Close the connection if its client is over a limit of time.

        :param now: the loop's time.
        :return: bytes that wait, and that the client has taken nothing of since the last check.
        """
        size = self.transport.get_write_buffer_size()
        unread = size if size == self._unread[0] else 0
        if not unread:
            self._unread = (size, now)
        elif now - self._unread[1] > UNREAD_SECONDS:
            self.transport.abort()
            return 0
        if self.awaited_since is not None and now - self.awaited_since > HEAD_SECONDS:
            self.awaited_since = None
            self.turn_away(rejection("RequestTimeout", f"There was no request for {HEAD_SECONDS:.0f} seconds."))
        return unread


def without_upgrade(data: bytes) -> bytes:
    """Bytes that begin in a head, as they are if no ``Upgrade`` header had been sent; there are as many of them.

    Java's ``HttpClient`` asks for HTTP/2 with each request, body and all. The parser would take the end of the head for
    the end of HTTP, and drop the body.

    :param data: as received.
    """
    if b"pgrade" not in data:
        return data
    head, end, rest = data.partition(b"\r\n\r\n")
    return _UPGRADE.sub(_IGNORED, head) + end + rest


def begun_upgrade(data: bytes) -> bytes:
    """The end of bytes that end in a head, as far as it may become an ``Upgrade`` header when more comes.

    :param data: as received.
    """
    if _END_OF_HEAD in data:
        return b""
    ends = (data[-size:] for size in range(min(len(data), len(_BEGINNING)), 0, -1))
    return next((end for end in ends if _BEGINNING.startswith(end.lower())), b"")


def check_all(connections: Iterable[Any], now: float) -> None:
    """Check every connection, and what all hold together; to be called about once a second.

    :param connections: the web server's.
    :param now: the loop's time.
    """
    held = [(connection.check(now), connection) for connection in tuple(connections)]
    total = sum(size for size, _ in held)
    for size, connection in sorted(held, key=itemgetter(0), reverse=True):
        if total <= MAX_UNREAD:
            break
        connection.transport.abort()
        total -= size


def head_too_long() -> AzureMLClassicError:
    """The error for a head over :data:`MAX_HEAD`."""
    return rejection("RequestHeadTooLarge", f"Request line and headers are over {MAX_HEAD} bytes.")


def connections_allowed() -> int:
    """How many connections may be open: half of the files, as a download opens one more."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(16, min(MAX_CONNECTIONS, (files - _OTHER_FILES) // 2))


def raise_file_limit() -> None:
    """Let this process open as many files as it may: shells start with 1,024, whatever the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = min(hard, 2 * MAX_CONNECTIONS + _OTHER_FILES) if hard != resource.RLIM_INFINITY else 2 * MAX_CONNECTIONS
    if soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def _answer(error: AzureMLClassicError) -> bytes:
    response = to_response(error, {"connection": "close"})
    headers = {**response.headers, "content-length": str(len(response.body))}
    lines = [f"HTTP/1.1 {response.status} {_PHRASES[response.status]}", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + response.body
