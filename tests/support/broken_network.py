"""A service behind a network that breaks its answers: bytes over real sockets, as a client gets them."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType

#: What comes of an answer, head and body: the bytes that arrive. ``None``: the connection is reset.
Fault = Callable[[bytes], bytes | None]


def untouched(answer: bytes) -> bytes:
    """No fault."""
    return answer


class BrokenNetwork:
    """Answers on a port of its own; a connection is one request, and ends however the fault says.

    :param answer: gives head and body for method, path without query, and body.
    """

    def __init__(self, answer: Callable[[str, str, bytes], bytes]) -> None:
        self.fault: Fault = untouched
        #: So many requests are answered without the fault, before it.
        self.first = 0
        self.requests = 0
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> BrokenNetwork:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(10)
                self._serve(connection)

    def _answered(self, method: str, path: str, content: bytes) -> bytes:
        try:
            return self._answer(method, path, content)
        except Exception as error:
            # The test fails with it, instead of waiting for a thread that has ended.
            return f"HTTP/1.1 501 No answer\r\nConnection: close\r\n\r\n{method} {path}: {error!r}".encode()

    def _serve(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as file:
            words = file.readline().decode("latin-1").split()
            length = 0
            while (line := file.readline().strip()) != b"":
                name, _, value = line.decode("latin-1").partition(":")
                length = int(value) if name.lower() == "content-length" else length
            if not words:
                return
            content = file.read(length)
        self.requests += 1
        sent: bytes | None = self._answered(words[0], words[1].partition("?")[0], content)
        if self.requests > self.first and sent is not None:
            sent = self.fault(sent)
        if sent is None:
            # Without this the connection would end in order.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            connection.sendall(sent)


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """Head and body of an answer."""
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
