"""JSON that others wrote."""

from __future__ import annotations

import pytest

from airflow_provider_azureml_classic.protocol.messages import read_json

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
