"""Responses, and JSON that others wrote."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from airflow_provider_azureml_classic.protocol.messages import Response, check_characters, finite, read_json, read_toml

DEEP = "[" * 100_000


def test_any_value_is_read() -> None:
    """As a text or as bytes, with letters beyond ASCII."""
    assert read_json('{"ü": [1, null]}') == read_json('{"ü": [1, null]}'.encode()) == {"ü": [1, None]}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (DEEP, "nested too deeply"),
        (DEEP.encode(), "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        (b"\xff\xfe\xff", "truncated data"),
    ],
)
def test_what_cannot_be_read_is_one_error(text: str | bytes, why: str) -> None:
    """Cut, empty, in no encoding, or nested too deeply."""
    with pytest.raises(ValueError, match=why):
        read_json(text)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"a = " + b"[" * 9_000, "nested too deeply"),
        (b"a = " + b"{a=" * 3_000, "nested too deeply"),
        (b".".join([b"a"] * 4_000) + b" = 1", "nested too deeply"),
        (b"[" + b".".join([b"a"] * 200) + b"]", "nested too deeply"),
        (b"a = 1\n" * 2_000, "over 10,000 bytes"),
        (b"a = \xff", "decode"),
        (b"a =", "Invalid value"),
    ],
)
def test_toml_that_cannot_be_read_is_one_error(content: bytes, why: str) -> None:
    """Deep, long, in another encoding, or none; dots in comments and values are no depth."""
    dots = "." * 200
    assert read_toml(f'\ufeff# {dots}\na.b = "{dots}"'.encode(), 10_000) == {"a": {"b": dots}}
    with pytest.raises(ValueError, match=why):
        read_toml(content, 10_000)


def test_halves_of_characters() -> None:
    """They are found in names and values, however deep; whole ones are none."""
    check_characters(read_json('{"\\ud83d\\ude00": ["\\u0000ü", null, 1.5, NaN]}'))
    for text in ('"\\ud800"', '[{"a": ["\\udfff"]}]', '{"\\ud83d": 1}'):
        with pytest.raises(UnicodeEncodeError):
            check_characters(read_json(text))


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (0, 0.0),
        (-2.5, -2.5),
        (1 << 53, 2.0**53),
        (sys.float_info.max, sys.float_info.max),
        (-sys.float_info.max, -sys.float_info.max),
        (10**400, None),
        (-(10**309), None),
        (float("inf"), None),
        (float("nan"), None),
        (True, None),
        ("1", None),
        (None, None),
        ([1], None),
    ],
)
def test_numbers_that_can_be_reckoned_with(value: Any, number: float | None) -> None:
    """JSON has whole numbers of any length, and Python's reader also those that are none."""
    result = finite(value)
    assert result == number
    assert type(result) is type(number)


def test_a_response_with_json() -> None:
    """Without blanks, as the cloud service wrote it; further headers beside the type."""
    response = Response.of_json({"a": [1, "ü"]})
    assert (response.status, response.body) == (200, b'{"a":[1,"\\u00fc"]}')
    assert response.headers == {"content-type": "application/json; charset=utf-8"}
    more = Response.of_json(None, status=404, headers={"etag": "1"})
    assert (more.status, more.body, more.headers["etag"], len(more.headers)) == (404, b"null", "1", 2)


def test_a_body_in_parts() -> None:
    """It can be had whole; one that is whole stays as it is."""
    whole = Response(200, {"a": "b"}, b"xyz")
    assert Response(200, {"a": "b"}, parts=iter([b"x", b"", b"yz"])).joined() == whole
    assert whole.joined() is whole
