"""What our server adds about models: a listing of those that an endpoint had.

The cloud service told the live one only (wire document, section 2.6), so a client must not depend on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from airflow_provider_azureml_classic.exceptions import ProtocolError
from airflow_provider_azureml_classic.protocol.approval import Approval, known_approval
from airflow_provider_azureml_classic.protocol.digests import DIGESTS, Digests
from airflow_provider_azureml_classic.protocol.errors import reading_answer
from airflow_provider_azureml_classic.protocol.messages import finite
from airflow_provider_azureml_classic.protocol.moments import read_time, stamp
from airflow_provider_azureml_classic.protocol.pages import entries_of
from airflow_provider_azureml_classic.protocol.references import WINDOW, BlobReference, ToldWindow, window_end_of


@dataclass(frozen=True)
class PastModel:
    """A model that an endpoint had, or has.

    :param number: of the entry, counted for each endpoint; a later one is higher. A model that was put live twice has
        two.
    :param resource: name of the updatable resource.
    :param location: where it came from, without a token.
    :param digests: of the model.
    :param window: of its training data.
    :param put_live_at: when it was put live, if that is known.
    :param how: what put it live: ``added`` (the endpoint was), ``patch``, ``refresh`` or ``rollback`` (from the
        portal), or ``earlier`` (before there was a history).
    :param is_live: it is live now.
    :param job_id: the training job that wrote it, if the server ran that.
    :param metrics: of its evaluation.
    :param length: of its file, in bytes.
    :param is_kept: the server has its own copy of the file, so that it can be put back whatever became of ``location``.
    :param approval: who has agreed to it, as the update said.
    """

    number: int
    resource: str
    location: BlobReference
    digests: Digests | None = None
    window: ToldWindow | None = None
    put_live_at: datetime | None = None
    how: str = ""
    is_live: bool = False
    job_id: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    length: int | None = None
    is_kept: bool = False
    approval: Approval | None = None

    @property
    def window_end(self) -> datetime | None:
        """End of its training window: as the service tells it, else as the path says."""
        return (self.window.end if self.window else None) or window_end_of(self.location)

    @classmethod
    @reading_answer("The model")
    def from_wire(cls, data: Any) -> PastModel:
        """An entry as the service sends it.

        :param data: decoded JSON.
        :raises ProtocolError: it is none.
        """
        if not isinstance(data, Mapping) or not isinstance(data.get("Number"), int) or not data.get("Resource"):
            raise ProtocolError("An entry of the list of models has no Number or no Resource.")
        metrics, length, job_id = data.get("Metrics"), data.get("Length"), data.get("JobId")
        return cls(
            data["Number"],
            str(data["Resource"]),
            BlobReference.from_wire(data.get("Location")),
            Digests.from_wire(data.get(DIGESTS)),
            ToldWindow.from_wire(data.get(WINDOW)),
            read_time(data.get("PutLiveAt")),
            str(data.get("How") or ""),
            data.get("IsLive") is True,
            job_id if isinstance(job_id, str) else None,
            _numbers(metrics) if isinstance(metrics, Mapping) else {},
            length if isinstance(length, int) else None,
            data.get("IsKept") is True,
            known_approval(data.get("Approval")),
        )

    def to_wire(self) -> dict[str, Any]:
        """All members; no token."""
        return {
            "Number": self.number,
            "Resource": self.resource,
            "Location": self.location.to_wire(),
            DIGESTS: self.digests.to_wire() if self.digests else None,
            WINDOW: self.window.to_wire() if self.window else None,
            "PutLiveAt": stamp(self.put_live_at),
            "How": self.how,
            "IsLive": self.is_live,
            "JobId": self.job_id,
            "Metrics": dict(self.metrics),
            "Length": self.length,
            "IsKept": self.is_kept,
            "Approval": self.approval.to_json() if self.approval else None,
        }


@dataclass(frozen=True)
class ModelPage:
    """Some of an endpoint's models, those put live last first.

    :param models: of all its resources.
    :param next: what to ask for as ``before`` to get the next page; ``None``: this is the last.
    """

    models: tuple[PastModel, ...]
    next: int | None = None

    @classmethod
    @reading_answer("The list of models")
    def from_wire(cls, data: Any) -> ModelPage:
        """A page as the service sends it.

        :param data: decoded JSON.
        :raises ProtocolError: it is none.
        """
        items, following = entries_of(data, "Models", "a list of models")
        return cls(tuple(map(PastModel.from_wire, items)), following if isinstance(following, int) else None)

    def to_wire(self) -> dict[str, Any]:
        """The models, and where the next page begins."""
        return {"Models": [model.to_wire() for model in self.models], "Next": self.next}


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    numbers = {name: finite(value) for name, value in metrics.items()}
    return {name: number for name, number in numbers.items() if number is not None}
