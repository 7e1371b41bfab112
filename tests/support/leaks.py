"""Looks for secrets in what was left behind."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from urllib.parse import quote

#: A signature that is not blotted out, in clear or percent-encoded.
SIGNATURE = re.compile(rb"(?<![a-z])sig(=|%3D)(?!\*\*\*)[^&\s\"']", re.IGNORECASE)


def spellings(secret: str) -> set[bytes]:
    """A secret as it may stand in a file: in clear, percent-encoded, in JSON."""
    return {text.encode() for text in (secret, quote(secret, safe=""), quote(secret), json.dumps(secret)[1:-1])}


def leaks(content: bytes, secrets: Iterable[str]) -> list[str]:
    """What is found: the beginnings of secrets, and ``sig=``."""
    found = [secret[:6] for secret in secrets if any(spelling in content for spelling in spellings(secret))]
    return found + (["sig="] if SIGNATURE.search(content) else [])
