"""JSON in and out, by ``msgspec``: several times as fast as the standard library, whose rules and messages decide.

Airflow brings the library; it is the largest part of what a small scoring call would cost otherwise.
"""

from __future__ import annotations

import codecs
import gc
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import msgspec

from airflow_provider_azureml_classic.protocol.messages import check_characters
from airflow_provider_azureml_classic.server.web.bodies import SMALL_BODY

_CHARSET = re.compile(r"charset=\"?([\w.:-]+)", re.IGNORECASE)
#: Charsets besides UTF-8 that clients of Windows write; others of Python's may be slow to read, or be none.
_OTHERS = frozenset({"utf-16", "utf-16-le", "utf-16-be", "iso8859-1", "cp1252"})
_decoder = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder()
_large = Lock()


def read(body: bytes, content_type: str = "") -> Any:
    """The decoded body of a request.

    :param body: UTF-8, with or without a byte order mark, or in the charset that is declared.
    :param content_type: its declaration. Clients declare what they do not send, so it is believed only where the body
        is not JSON in UTF-8.
    :raises UnicodeError: it is neither, or writes half of a surrogate pair, which could not be stored.
    :raises RecursionError: it is nested too deeply.
    :raises ValueError: it is not JSON; the message says where.
    """
    if len(body) <= SMALL_BODY:
        return _read(body, content_type)
    with _alone():
        return _read(body, content_type)


@contextmanager
def _alone() -> Iterator[None]:
    """One large body at a time, and no collection of garbage meanwhile.

    Decoding holds the interpreter's lock, so that several at a time are no faster and all other calls wait for each.
    What is made of JSON has no cycles; looking for them again and again takes four times as long as to decode.
    """
    with _large:
        collects = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if collects:
                gc.enable()


def _read(body: bytes, content_type: str) -> Any:
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeError):
        # What msgspec refuses may be what only the standard library reads: a byte order mark, NaN.
        return _read_slowly(body, content_type)


def _read_slowly(body: bytes, content_type: str) -> Any:
    try:
        data = json.loads(body.decode("utf-8-sig"))
    except ValueError:
        data = _read_otherwise(body, content_type)
        if data is None:
            raise
    # An escape, in UTF-16 too.
    if b"\\" in body:
        check_characters(data)
    return data


def _read_otherwise(body: bytes, content_type: str) -> Any:
    declared = _CHARSET.search(content_type)
    try:
        codec = codecs.lookup(declared[1]).name if declared else ""
        return json.loads(body.decode(codec)) if codec in _OTHERS else None
    except (LookupError, ValueError):
        return None


def write(data: Any) -> bytes:
    """The body of an answer, UTF-8 without blanks.

    :param data: mappings, lists, texts, numbers and ``None``.
    """
    return _encoder.encode(data)
