"""A request and a response: all that crosses the seam between a verb, a transport and the server's app; and JSON."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_azureml_classic.protocol.operations import Operation


#: Header of a response with a JSON body.
JSON_TYPE = MappingProxyType({"content-type": "application/json; charset=utf-8"})


@dataclass(frozen=True)
class Request:
    """What a client sends.

    :param operation: the row of the operations table that this request is.
    :param url: absolute URL with its query.
    :param headers: names in lower case; holds the credential, so it is not in the ``repr``.
    :param body: bytes to send.
    :param timeout: seconds allowed for the whole answer; ``None`` leaves it to the transport.
    """

    operation: Operation
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    timeout: float | None = None


@dataclass(frozen=True)
class Response:
    """What a server answers.

    :param status: HTTP status.
    :param headers: names in lower case.
    :param body: the whole body; it may hold keys, so it is not in the ``repr``.
    :param parts: a body that is sent as it is made, instead of ``body``; a server's only.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    parts: Iterable[bytes] | None = field(default=None, repr=False)

    def joined(self) -> Response:
        """The same with the whole body."""
        return self if self.parts is None else replace(self, body=b"".join(self.parts), parts=None)

    @classmethod
    def of_json(cls, data: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        """A response with a JSON body.

        :param data: what :func:`json.dumps` takes.
        :param status: HTTP status.
        :param headers: further headers, names in lower case.
        """
        body = json.dumps(data, separators=(",", ":")).encode()
        return cls(status, {**JSON_TYPE, **(headers or {})}, body)


#: Sends a request and waits for its response; raises ``ServiceUnavailable`` when there is none.
Transport = Callable[[Request], Response]


def read_json(text: str | bytes) -> Any:
    """The value of a JSON text that somebody else wrote.

    :param text: of one value; bytes in UTF-8, UTF-16 or UTF-32.
    :raises ValueError: it is not JSON, or nested more deeply than can be read: the decoder itself raises something else
        for that, which nobody thinks of.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


#: Parts of a dotted key that are read: the time grows with their square.
_DOTS = 100


def read_toml(content: bytes, most: int) -> dict[str, Any]:
    """The document of a TOML file that somebody wrote.

    :param content: of the file; more than ``most`` bytes of it need not be read.
    :param most: bytes that it may have.
    :raises ValueError: it is not TOML, too long, or nested more deeply than can be read.
    """
    if len(content) > most:
        raise ValueError(f"it has over {most:,} bytes")
    text = content.decode("utf-8-sig")
    keys = (line.partition("=")[0] for line in text.splitlines() if not line.lstrip().startswith("#"))
    if any(key.count(".") > _DOTS for key in keys):
        raise ValueError("it is nested too deeply")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def check_characters(data: Any) -> None:
    """Return if all texts of decoded JSON can be stored and answered: an escape may write half of a surrogate pair.

    :param data: decoded JSON.
    :raises UnicodeEncodeError: there is one.
    """
    json.dumps(data, ensure_ascii=False).encode()


def check_members(data: Any, kinds: Mapping[str, Any]) -> None:
    """Return if decoded JSON is an object whose members are of these kinds, as far as they are there.

    :param data: decoded JSON.
    :param kinds: by the member's name: what ``isinstance`` takes. Numbers must be finite.
    :raises ValueError: it is something else; the message names the member.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"it is not a JSON object but {type(data).__name__}")
    for name in kinds.keys() & data.keys():
        value = data[name]
        endless = type(value) in (int, float) and finite(value) is None
        if endless or not isinstance(value, kinds[name]):
            raise ValueError(f"its member {name} cannot be {'endless' if endless else type(value).__name__}")


def finite(value: Any) -> float | None:
    """A number of decoded JSON; ``None``: it is none, or none that can be reckoned with.

    :param value: may be a whole number of thousands of digits, for which Python's own functions raise OverflowError.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) <= sys.float_info.max else None
