"""Regenerating one of an endpoint's two keys: our addition to the protocol.

The code ``MissingKeys`` implies that the cloud service had a management call for keys, but no client and no document
shows it (wire document, section 2.6). One key at a time, so that whoever holds the other one never loses access.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from airflow_provider_azureml_classic.exceptions import rejection
from airflow_provider_azureml_classic.protocol.errors import known_members

KEY_TYPE = "KeyType"


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
