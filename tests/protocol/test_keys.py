"""Keys on the wire: which of the two is to be replaced, and keys with a name, a kind and an end."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_azureml_classic.exceptions import ProtocolError, RequestRejected
from airflow_provider_azureml_classic.protocol.keys import (
    KeyKind,
    KeyType,
    NamedKey,
    bearer,
    check_key_name,
    key_request,
    key_to_wire,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WIRE = {"Name": "till", "Kind": "ScoreOnly", "CreatedAt": "2026-03-01T12:00:00Z", "ExpiresAt": None}


@pytest.mark.parametrize("key", KeyType)
def test_which_key(key: KeyType) -> None:
    """Named in any case, with blanks around it, in a body whose member is in any case."""
    for name in (key.value, key.value.lower(), f" {key.value.upper()} "):
        assert KeyType.of(name) is key
        assert KeyType.from_wire({"keytype": name}) is key
    assert KeyType.from_wire(key.to_wire()) is key


@pytest.mark.parametrize("name", [None, "", "Third", 1, ["Primary"]])
def test_no_such_key(name: Any) -> None:
    """Everything else is refused, and the choices are named."""
    with pytest.raises(RequestRejected, match="it must be Primary or Secondary") as caught:
        KeyType.from_wire({"KeyType": name})
    assert repr(name) in caught.value.message
    assert (caught.value.detail_code, caught.value.details[0].target) == ("MissingKeys", "KeyType")


@pytest.mark.parametrize("name", ["a", "Till-7_b.c", "9" * 64])
def test_a_name(name: str) -> None:
    """Letters, digits, dots, hyphens and underscores, at most 64."""
    assert check_key_name(name) == name


@pytest.mark.parametrize("name", ["", ".a", "-a", "a b", "a/b", "ä", "a\n", "9" * 65])
def test_no_name(name: str) -> None:
    """A name that would not fit into a path is refused."""
    with pytest.raises(RequestRejected, match="cannot be a key's name") as caught:
        check_key_name(name)
    assert (caught.value.detail_code, caught.value.details[0].target) == ("MissingKeys", "Name")


@pytest.mark.parametrize(
    ("key", "wire"),
    [
        (NamedKey("till", KeyKind.SCORE, NOON), WIRE),
        (
            NamedKey("till", KeyKind.RETRAIN, NOON, NOON.replace(year=2027), "c2VjcmV0"),
            {**WIRE, "Kind": "Retrain", "ExpiresAt": "2027-03-01T12:00:00Z", "Key": "c2VjcmV0"},
        ),
    ],
)
def test_a_named_key(key: NamedKey, wire: dict[str, Any]) -> None:
    """As it is sent, with the key itself only where it was just made; and no ``repr`` shows it."""
    assert key.to_wire() == wire
    assert NamedKey.from_wire(wire) == key
    assert "c2VjcmV0" not in repr(key)


@pytest.mark.parametrize(
    "data", [None, [], {**WIRE, "Kind": "Admin"}, {**WIRE, "Kind": None}, {**WIRE, "CreatedAt": "noon"},
             {**WIRE, "CreatedAt": "0001-01-01T00:00:00+01:00"}, {**WIRE, "Name": ""}, {"Name": "till"}],
)  # fmt: skip
def test_no_named_key(data: Any) -> None:
    """An answer without name, kind or time is an error of the protocol."""
    with pytest.raises(ProtocolError, match="no name, kind or time"):
        NamedKey.from_wire(data)


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"kind": " scoreonly "}, (KeyKind.SCORE, None)),
        ({"Kind": "Retrain", "expiresAt": "2026-03-01T14:00:00+02:00"}, (KeyKind.RETRAIN, NOON)),
    ],
)
def test_a_request_for_a_key(data: Any, key: tuple[KeyKind, datetime | None]) -> None:
    """Its kind, and its end if it has one."""
    assert key_request(data) == key_request(key_to_wire(*key)) == key


@pytest.mark.parametrize(
    ("data", "code", "target", "words"),
    [
        (None, "RequestBodyInvalid", None, "JSON object with Kind"),
        ({}, "MissingKeys", "Kind", "Kind is None; it must be ScoreOnly or Retrain"),
        ({"Kind": "Admin"}, "MissingKeys", "Kind", "Kind is 'Admin'"),
        ({"Kind": "Retrain", "Ends": 1}, "UnexpectedParameter", "Ends", "The body has the unknown member 'Ends'"),
        ({"Kind": "Retrain", "ExpiresAt": "soon"}, "BadParameterValue", "ExpiresAt", "ExpiresAt is 'soon'"),
        ({"Kind": "Retrain", "ExpiresAt": 5}, "BadParameterValue", "ExpiresAt", "ExpiresAt is 5"),
        ({"Kind": "Retrain", "ExpiresAt": "9999-12-31T23:00:00-01:00"}, "BadParameterValue", "ExpiresAt", "a time"),
    ],
)
def test_no_request_for_a_key(data: Any, code: str, target: str | None, words: str) -> None:
    """The member at fault is named: a key must not be made with another kind or end than was meant."""
    with pytest.raises(RequestRejected, match=words) as caught:
        key_request(data)
    assert (caught.value.detail_code, caught.value.details[0].target) == (code, target)


@pytest.mark.parametrize("data", [None, "Primary", []])
def test_a_body_that_is_no_object(data: Any) -> None:
    """It is refused as such."""
    with pytest.raises(RequestRejected, match="JSON object with KeyType") as caught:
        KeyType.from_wire(data)
    assert caught.value.detail_code == "RequestBodyInvalid"


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("Bearer abc", "abc"),
        ("bearer \t abc ", "abc"),
        ("Bearer abc def", "abc def"),
        ("Bearer", ""),
        ("Bearer ", ""),
        ("Basic abc", ""),
        ("abc", ""),
        ("", ""),
    ],
)
def test_bearer(header: str, key: str) -> None:
    """What follows the word; nothing of any other header."""
    assert bearer(header) == key
