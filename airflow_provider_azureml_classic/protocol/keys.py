"""Keys of an endpoint besides what the cloud had: our additions to the protocol. Regenerating one of its two keys; keys
with a name, a kind and an end.

The code ``MissingKeys`` implies that the cloud service had a management call for keys, but no client and no document
shows it (wire document, section 2.6). One key at a time, so that whoever holds the other one never loses access.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from airflow_provider_azureml_classic.exceptions import ProtocolError, rejection
from airflow_provider_azureml_classic.protocol.errors import known_members
from airflow_provider_azureml_classic.protocol.moments import read_time, stamp, to_utc

KEY_TYPE = "KeyType"
_KIND, _EXPIRES_AT = "Kind", "ExpiresAt"
#: What a key may be called.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
#: Named keys of one endpoint, or of the two of one customer.
MAX_KEYS = 50


class KeyType(str, Enum):
    """Which of the two keys."""

    PRIMARY = "Primary"
    SECONDARY = "Secondary"

    @classmethod
    def of(cls, name: Any) -> KeyType:
        """The key that ``name`` means, in any case.

        :param name: ``primary`` or ``secondary``.
        :raises RequestRejected: ``MissingKeys``.
        """
        matches = [key for key in cls if isinstance(name, str) and key.value.lower() == name.strip().lower()]
        if not matches:
            message = f"{KEY_TYPE} is {name!r}; it must be {cls.PRIMARY.value} or {cls.SECONDARY.value}."
            raise rejection("MissingKeys", message, target=KEY_TYPE)
        return matches[0]

    @classmethod
    def from_wire(cls, data: Any) -> KeyType:
        """The key that a request's body names.

        :param data: decoded JSON.
        :raises RequestRejected: not an object, an unknown member, or no such key.
        """
        if not isinstance(data, Mapping):
            raise rejection("RequestBodyInvalid", f"The body must be a JSON object with {KEY_TYPE}.")
        return cls.of(known_members("The body", data, frozenset({KEY_TYPE})).get(KEY_TYPE))

    def to_wire(self) -> dict[str, str]:
        """A request's body."""
        return {KEY_TYPE: self.value}


class KeyKind(str, Enum):
    """What a named key is for."""

    SCORE = "ScoreOnly"
    RETRAIN = "Retrain"


def check_key_name(name: str) -> str:
    """``name``, if a key may be called that.

    :param name: the wanted name.
    :raises RequestRejected: ``MissingKeys``.
    """
    if not _NAME.fullmatch(name):
        message = f"{name!r} cannot be a key's name: 1 to 64 letters, digits, dots, hyphens and underscores."
        raise rejection("MissingKeys", message, target="Name")
    return name


@dataclass(frozen=True)
class NamedKey:
    """A key with a name.

    :param name: of the key.
    :param kind: what it is for.
    :param created_at: when it was made.
    :param expires_at: when it ends; ``None``: when it is revoked.
    :param secret: the key; shown once, when it is made, and kept by nobody but its holder.
    """

    name: str
    kind: KeyKind
    created_at: datetime
    expires_at: datetime | None = None
    secret: str = field(default="", repr=False)

    @classmethod
    def from_wire(cls, data: Any) -> NamedKey:
        """A key as the service sends it.

        :param data: decoded JSON.
        :raises ProtocolError: it is none.
        """
        kinds = {kind.value: kind for kind in KeyKind}
        kind = kinds.get(str(data.get(_KIND))) if isinstance(data, Mapping) else None
        created_at = read_time(data.get("CreatedAt")) if isinstance(data, Mapping) else None
        if kind is None or created_at is None or not data.get("Name"):
            raise ProtocolError("A named key has no name, kind or time.")
        secret = str(data.get("Key") or "")
        return cls(str(data["Name"]), kind, created_at, read_time(data.get(_EXPIRES_AT)), secret)

    def to_wire(self) -> dict[str, Any]:
        """What is known of it; the key itself only when it was just made."""
        wire = {"Name": self.name, _KIND: self.kind.value, "CreatedAt": stamp(self.created_at)}
        return {**wire, _EXPIRES_AT: stamp(self.expires_at), **({"Key": self.secret} if self.secret else {})}


def key_to_wire(kind: KeyKind, expires_at: datetime | None) -> dict[str, Any]:
    """The body of a request for a new key.

    :param kind: what it is for.
    :param expires_at: when it ends, if it does.
    """
    return {_KIND: kind.value, _EXPIRES_AT: stamp(expires_at)}


def key_request(data: Any) -> tuple[KeyKind, datetime | None]:
    """What a new key is to be, of a request's body.

    :param data: decoded JSON.
    :raises RequestRejected: not an object, an unknown member, no such kind, or no time.
    """
    if not isinstance(data, Mapping):
        raise rejection("RequestBodyInvalid", f"The body must be a JSON object with {_KIND}, and {_EXPIRES_AT}.")
    members = known_members("The body", data, frozenset({_KIND, _EXPIRES_AT}))
    kinds = {kind.value.lower(): kind for kind in KeyKind}
    kind, ends = kinds.get(str(members.get(_KIND)).strip().lower()), members.get(_EXPIRES_AT)
    if kind is None:
        choices = " or ".join(one.value for one in KeyKind)
        raise rejection("MissingKeys", f"{_KIND} is {members.get(_KIND)!r}; it must be {choices}.", target=_KIND)
    try:
        return kind, None if ends is None else to_utc(str(ends))
    except ValueError:
        message = f"{_EXPIRES_AT} is {ends!r}; it must be a time, as in 2026-12-31T00:00:00Z."
        raise rejection("BadParameterValue", message, target=_EXPIRES_AT) from None


def bearer(authorization: str) -> str:
    """The key in a header: what follows ``Bearer``, in any case and with any number of blanks; empty if nothing does.

    :param authorization: value of the header.
    """
    parts = authorization.split(None, 1)
    return parts[1].strip() if len(parts) == 2 and parts[0].lower() == "bearer" else ""
