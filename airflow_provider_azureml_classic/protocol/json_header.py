"""A JSON object in a header of a request: how our additions travel past services that do not know them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from airflow_provider_azureml_classic.exceptions import cause, rejection
from airflow_provider_azureml_classic.protocol.messages import check_characters, read_json

_T = TypeVar("_T")
#: Longest header, in letters.
_LONGEST = 4096
#: The escape of the character NUL, which not every database can store; behind a pair of backslashes it is none.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


@dataclass(frozen=True)
class JsonHeader:
    """One such header.

    :param name: of the header, in lower case.
    :param expected: the object's members, for messages.
    """

    name: str
    expected: str

    def written(self, data: Mapping[str, Any]) -> dict[str, str]:
        """The header; what is not ASCII is written as JSON escapes it.

        :param data: the object.
        """
        return {self.name: json.dumps(data, separators=(",", ":"))}

    def read(self, headers: Mapping[str, str], from_json: Callable[[Any], _T]) -> _T | None:
        """What the header says; ``None``: the request has none.

        :param headers: names in lower case.
        :param from_json: reads decoded JSON; raises ``ValueError`` with the reason.
        :raises RequestRejected: it cannot be read; the message says why.
        """
        text = headers.get(self.name)
        if text is None:
            return None
        try:
            return from_json(_decoded(text))
        except ValueError as error:
            message = (
                f"The header {self.name} cannot be read: {cause(error)}. Expected a JSON object with {self.expected}, "
                "or no such header."
            )
            raise rejection("RequestBodyInvalid", message, target=self.name) from None


def _decoded(text: str) -> Mapping[str, Any]:
    if len(text) > _LONGEST:
        raise ValueError(f"it has over {_LONGEST} letters")
    try:
        data = read_json(text)
        check_characters(data)
    except UnicodeEncodeError:
        raise ValueError("it has half of a surrogate pair, which is not a character") from None
    except ValueError:
        raise ValueError("it is not JSON") from None
    if not isinstance(data, Mapping):
        raise ValueError("it is not a JSON object")
    if _NUL.search(text):
        raise ValueError("it has the character NUL, which cannot be stored")
    return data
