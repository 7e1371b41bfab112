"""Requests that are almost right."""

from __future__ import annotations

import random

PIECES = [b"null", b"NaN", b"1e999", b"[]", b"{}", b'"x":', b"\\u0000", b"\xff", b",", b'"', b"-", b"0" * 400]


def mutated(choices: random.Random, body: bytes) -> bytes:
    """A body with a few bytes, or pieces, that are changed, gone, doubled or from elsewhere."""
    for _ in range(choices.randint(1, 3)):
        begin = choices.randrange(len(body) + 1)
        end = min(len(body), begin + choices.choice((1, 1, 4, 16)))
        piece = choices.choice([b"", body[begin:end] * 2, bytes([choices.randrange(256)]), *PIECES])
        body = body[:begin] + piece + body[end:]
    return body
