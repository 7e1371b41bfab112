"""The audit list: who has changed what, when, from where, and what came of it. Our addition to the protocol. Pure.

Rule: an entry holds names of things and of keys, never a key, a token, a query or a body.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_provider_azureml_classic.exceptions import ProtocolError
from airflow_provider_azureml_classic.protocol.moments import read_time, stamp
from airflow_provider_azureml_classic.protocol.pages import entries_of


@dataclass(frozen=True)
class AuditEntry:
    """One operation that may have changed something.

    :param number: in the order of their beginnings.
    :param at: when it began.
    :param who: the key that was presented, by its name.
    :param what: the operation.
    :param target: what of the workspace it was about.
    :param address: where it came from.
    :param status: HTTP status of its answer; ``None``: it has not ended, or its server did before.
    """

    number: int
    at: datetime
    who: str
    what: str
    target: str
    address: str
    status: int | None

    @classmethod
    def from_wire(cls, data: Any) -> AuditEntry:
        """An entry as the service sends it.

        :param data: decoded JSON.
        :raises ProtocolError: it is none.
        """
        at = read_time(data.get("At")) if isinstance(data, Mapping) else None
        if at is None or not isinstance(data.get("Number"), int):
            raise ProtocolError("An entry of the audit list has no time or number.")
        who, what, target, address = (str(data.get(name) or "") for name in ("Who", "What", "Target", "From"))
        status = data.get("Status")
        return cls(data["Number"], at, who, what, target, address, status if isinstance(status, int) else None)

    def to_wire(self) -> dict[str, Any]:
        """All members."""
        wire = {"Number": self.number, "At": stamp(self.at), "Who": self.who, "What": self.what}
        return {**wire, "Target": self.target, "From": self.address, "Status": self.status}


@dataclass(frozen=True)
class AuditPage:
    """Some entries, the last one first.

    :param entries: of the page.
    :param next: what to ask for as ``before`` to get the next page; ``None``: this is the last.
    """

    entries: tuple[AuditEntry, ...]
    next: int | None = None

    @classmethod
    def from_wire(cls, data: Any) -> AuditPage:
        """A page as the service sends it.

        :param data: decoded JSON.
        :raises ProtocolError: it is none.
        """
        items, following = entries_of(data, "Entries", what := "an audit list")
        if not isinstance(following, int | None):
            raise ProtocolError(f"The answer is not {what}.")
        return cls(tuple(map(AuditEntry.from_wire, items)), following)

    def to_wire(self) -> dict[str, Any]:
        """The entries, and where to go on."""
        return {"Entries": [entry.to_wire() for entry in self.entries], "Next": self.next}
