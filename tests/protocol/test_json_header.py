"""A JSON object in a header of a request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.protocol.json_header import JsonHeader

HEADER = JsonHeader("x-odd", "a and b")


def identity(data: Any) -> Any:
    """What was read."""
    return data


def test_what_is_written_is_read() -> None:
    """In the letters of a header, and without blanks, as there is room for 4096 letters."""
    data = {"a": "ü", "b": [1, None]}
    headers = HEADER.written(data)
    assert headers == {"x-odd": '{"a":"\\u00fc","b":[1,null]}'}
    assert HEADER.read(headers, identity) == data
    assert HEADER.read({"x-even": "{}"}, identity) is None
    assert HEADER.read({"x-odd": r'{"a":"\\u0000"}'}, identity) == {"a": r"\u0000"}


def test_the_longest() -> None:
    """A header is read up to its limit, and not further."""
    text = json.dumps({"a": "x" * (4096 - len('{"a": ""}'))})
    assert HEADER.read({"x-odd": text}, identity) == json.loads(text)
    with pytest.raises(RequestRejected, match="over 4096 letters"):
        HEADER.read({"x-odd": text + " "}, identity)


@pytest.mark.parametrize(
    ("text", "why"), [("", "not JSON"), ("{", "not JSON"), ("[]", "not a JSON object"), ("[" * 4000, "not JSON"),
     ('{"a":"\\ud800"}', "half of a surrogate pair"), ('{"\\udfff":1}', "half of a surrogate pair"),
     ('{"a":"\\u0000"}', "the character NUL"), ('{"b\\\\\\u0000":1}', "the character NUL")],
)  # fmt: skip
def test_what_cannot_be_read(text: str, why: str) -> None:
    """It is refused by the name of the header, with its members."""
    with pytest.raises(
        RequestRejected, match=f"The header x-odd cannot be read: it (is|has) {why}.* Expected .* a and b"
    ) as e:
        HEADER.read({"x-odd": text}, identity)
    assert (e.value.detail_code, e.value.details[0].target) == ("RequestBodyInvalid", "x-odd")


def test_members_that_cannot_be_read() -> None:
    """The reason is that of whoever reads them."""

    def refused(data: Any) -> None:
        raise ValueError(f"{data['a']} is too much.")

    with pytest.raises(RequestRejected, match=r"cannot be read: 5 is too much\. Expected"):
        HEADER.read({"x-odd": '{"a":5}'}, refused)
