"""Who has agreed to an update: what an approval is, in XCom, in the header of an update, and in an endpoint's history.

Our addition. It travels in a header, which services that do not know it pass over. A server cannot know whether it is
true: it is told by whoever may update the endpoint, and kept as that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_provider_azureml_classic.protocol.digests import Digests
from airflow_provider_azureml_classic.protocol.json_header import JsonHeader
from airflow_provider_azureml_classic.protocol.moments import stamp, to_utc

#: Name of the header.
HEADER = "x-azureml-classic-approval"
_HEADER = JsonHeader(HEADER, "by, at, evidence, asked_in and model")
#: Longest text in it, in letters.
_LONGEST_TEXT = 250
_EVIDENCE = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Approval:
    """An answer "yes" to the question whether a model is to be put live.

    :param by: name of the person; ``None``: nobody answered, and the default at the time-out was "yes".
    :param at: when.
    :param evidence: SHA-256 of the text that the person was shown.
    :param asked_in: where that text can be read: DAG, run and task.
    :param model: digests of the model that it is for, if the service tells them.
    """

    by: str | None
    at: datetime
    evidence: str
    asked_in: str = ""
    model: Digests | None = None

    def to_json(self) -> dict[str, Any]:
        """For XCom, receipts, events, and the history that a server keeps."""
        return {
            "by": self.by,
            "at": stamp(self.at),
            "evidence": self.evidence,
            "asked_in": self.asked_in,
            "model": self.model.to_json() if self.model else None,
        }

    @classmethod
    def from_json(cls, data: Any) -> Approval:
        """The approval that :meth:`to_json` wrote; members of later versions are passed over.

        :param data: decoded JSON.
        :raises ValueError: it is something else.
        """
        if not isinstance(data, Mapping):
            raise ValueError("it is not a JSON object")
        by, at, evidence, asked_in = (data.get(name) for name in ("by", "at", "evidence", "asked_in"))
        if not isinstance(by, str | None) or not isinstance(asked_in, str | None) or not isinstance(at, str):
            raise ValueError("a member by, at or asked_in is not a text")
        if not isinstance(evidence, str) or not _EVIDENCE.fullmatch(evidence):
            raise ValueError("its member evidence is no SHA-256")
        return cls(by and _cut(by), to_utc(at), evidence, _cut(asked_in or ""), Digests.from_json(data.get("model")))

    def to_header(self) -> dict[str, str]:
        """The header."""
        return _HEADER.written(self.to_json())

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> Approval | None:
        """The approval among the headers of a request.

        :param headers: names in lower case.
        :raises RequestRejected: it cannot be read.
        """
        return _HEADER.read(headers, cls.from_json)


def known_approval(data: Any) -> Approval | None:
    """The approval that a history tells; ``None`` if it tells none that can be read.

    :param data: decoded JSON.
    """
    try:
        return Approval.from_json(data)
    except ValueError:
        return None


def _cut(text: str) -> str:
    return text[:_LONGEST_TEXT]
