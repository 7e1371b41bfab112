"""The web server's own connections: what they take from uvicorn."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from airflow_provider_azureml_classic.server.web import connections
from airflow_provider_azureml_classic.server.web.connections import Connection, check_all

#: Methods of a class inside uvicorn that is not for others to build on: a version without one of them needs a new
#: upper bound in `setup.cfg`, or a change here.
OVERRIDDEN = {
    "connection_made",
    "data_received",
    "on_headers_complete",
    "on_message_complete",
    "on_response_complete",
    "send_400_response",
    "shutdown",
    "timeout_keep_alive_handler",
}


def test_what_is_overridden_is_there() -> None:
    """Each method that a limit hangs on is called by the uvicorn that is installed."""
    assert {
        name for name in vars(Connection) if not name.startswith("_") and name in vars(HttpToolsProtocol)
    } == OVERRIDDEN


class Wire(asyncio.Transport):
    """Takes what is written, piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []
        self.closed = False
        self.reads = True
        self.unread = 0

    def write(self, data: Any) -> None:
        """Note a piece."""
        self.pieces.append(bytes(data))

    def pause_reading(self) -> None:
        """Be left alone."""
        self.reads = False

    def resume_reading(self) -> None:
        """Be read again."""
        self.reads = True

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self.closed

    def close(self) -> None:
        """Be closed."""
        self.closed = True

    def abort(self) -> None:
        """Be closed at once."""
        self.closed = True

    def get_write_buffer_size(self) -> int:
        """What waits."""
        return self.unread


def connected(application: Any) -> tuple[Connection, Wire]:
    """A connection to an application, and where its answers go."""
    wire, state = Wire(), ServerState()
    state.default_headers = []
    connection = Connection(
        config=uvicorn.Config(application, ws="none", access_log=False), server_state=state, app_state={}
    )
    connection.connection_made(wire)
    return connection, wire


async def pieces_of(request: bytes, *messages: dict[str, Any]) -> list[list[bytes]]:
    """What an application that sends these messages lets go out, piece by piece, split into head and body."""

    async def application(_: Any, __: Any, send: Any) -> None:
        for message in messages:
            await send({"headers": [(b"content-length", b"4")], "status": 200, **message})

    connection, wire = connected(application)
    connection.data_received(request + b" / HTTP/1.1\r\nHost: x\r\n\r\n")
    while connection.tasks:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    connection.connection_lost(None)
    return [piece.partition(b"\r\n\r\n")[::2] for piece in wire.pieces]  # type: ignore[misc]


START = {"type": "http.response.start"}
PART = {"type": "http.response.body"}


@pytest.mark.parametrize(
    ("request_", "messages", "bodies"),
    [
        pytest.param(b"GET", [START, PART | {"body": b"four"}], [b"four"], id="one piece"),
        pytest.param(b"HEAD", [START, PART], [b""], id="head alone"),
        pytest.param(
            b"GET", [START, PART | {"body": b"fo", "more_body": True}, PART | {"body": b"ur"}], [b"fo", b""], id="parts"
        ),
    ],
)
async def test_a_head_goes_out_with_its_body(
    request_: bytes, messages: list[dict[str, Any]], bodies: list[bytes]
) -> None:
    """A server that is killed cannot leave the head of a small answer without its body; nothing is held for longer."""
    pieces = await pieces_of(request_, *messages)
    assert [body for _, body in pieces] == bodies
    assert pieces[0][0].startswith(b"HTTP/1.1 200 OK\r\n")
    assert len(pieces) == 1 or pieces[1] == (b"ur", b"")


@pytest.mark.parametrize("size", [1 << 30, 7919, 100])
async def test_requests_that_do_not_wait_for_answers_are_read_a_few_at_a_time(size: int) -> None:
    """However many come, a few are held; all are answered, in their order, and only then is more read."""
    seen: list[str] = []
    most = 0

    async def application(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        seen.append(scope["path"] + body.decode())
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    connection, wire = connected(application)
    requests = [(f"/{number}", "body"[: number % 5]) for number in range(2000)]
    data = "".join(f"PUT {path} HTTP/1.1\r\ncontent-length: {len(body)}\r\n\r\n{body}" for path, body in requests)
    pieces = iter(data[begin : begin + size].encode() for begin in range(0, len(data), size))
    for _ in range(20_000):
        if wire.reads and (piece := next(pieces, None)):
            connection.data_received(piece)
        await asyncio.sleep(0)
        most = max(most, len(connection.pipeline))
        if len(seen) == len(requests):
            break
    assert seen == [path + body for path, body in requests]
    assert most < 40
    while connection.tasks:
        await asyncio.sleep(0)
    assert wire.reads
    connection.connection_lost(None)


async def test_answers_that_are_not_read_hold_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest are dropped of which nothing was taken since the last check; who reads, however slowly, is left."""
    monkeypatch.setattr(connections, "MAX_UNREAD", 100)
    pairs = [connected(None) for _ in range(5)]
    for (_, wire), size in zip(pairs, (90, 50, 60, 40, 1000), strict=True):
        wire.unread = size
    check_all([connection for connection, _ in pairs], 0.0)
    assert not any(wire.closed for _, wire in pairs)
    pairs[-1][1].unread -= 1
    check_all([connection for connection, _ in pairs], 1.0)
    assert [wire.closed for _, wire in pairs] == [True, False, True, False, False]
    for connection, _ in pairs:
        connection.connection_lost(None)


async def test_nothing_is_written_to_who_has_left() -> None:
    """A request that waited for others' answers may be answered when its client is gone: that is no fault."""
    connection, wire = connected(None)
    wire.closed = True
    connection._answers.write(b"HTTP/1.1 200 OK\r\n\r\n")
    await asyncio.sleep(0)
    assert wire.pieces == []
    connection.connection_lost(None)
