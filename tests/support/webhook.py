"""A webhook on this machine that keeps what it is sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.support.listeners import serving

SECRET = "T000/B000/verysecretend"


class Webhook:
    """A server that takes messages."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, Any]] = []
        self.status = 200
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                hook.messages.append((self.path, json.loads(body)))
                self.send_response(hook.status)
                self.send_header("content-length", "0")
                self.send_header("location", "http://127.0.0.1:1/elsewhere")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Be silent."""

        self.handler = Handler

    @contextmanager
    def running(self) -> Iterator[Webhook]:
        """Take messages until the block ends."""
        with serving(self.handler) as server:
            self.url = f"http://127.0.0.1:{server.server_port}"
            yield self
