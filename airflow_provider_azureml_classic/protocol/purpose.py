"""What a submission knows of its job: which endpoint the model is for, and of which window its data are.

Our addition. It travels in a header, which services that do not know it pass over; in the body they would refuse it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from airflow_provider_azureml_classic.protocol.data_check import DATA_CHECKS, OFF, WARN, check_limits
from airflow_provider_azureml_classic.protocol.json_header import JsonHeader
from airflow_provider_azureml_classic.protocol.messages import check_members
from airflow_provider_azureml_classic.protocol.moments import stamp, to_utc

#: Name of the header.
HEADER = "x-azureml-classic-purpose"
_HEADER = JsonHeader(HEADER, "Endpoint, WebService, Start, End, DataCheck and Limits")


@dataclass(frozen=True)
class Purpose:
    """What a job is for.

    :param endpoint: name of the scoring endpoint that the model is for.
    :param web_service: id or name of its web service, where that is known; else the one of the same experiment.
    :param start: start of the training data.
    :param end: end of the training data, exclusive.
    :param data_check: what to do with data that are not like those of the live model, one of :data:`DATA_CHECKS`.
    :param limits: of the data check: number by rule, or by ``column.rule``.
    """

    endpoint: str | None = None
    web_service: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    data_check: str = WARN
    limits: Mapping[str, float] = field(default_factory=dict)

    @property
    def compared_with(self) -> str | None:
        """The endpoint whose live model's data the new ones are compared with; ``None``: with none."""
        return None if self.data_check == OFF else self.endpoint

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, without what is not known."""
        every = {
            "Endpoint": self.endpoint,
            "WebService": self.web_service,
            "Start": stamp(self.start),
            "End": stamp(self.end),
            "DataCheck": self.data_check if self.data_check != WARN else None,
            "Limits": dict(self.limits) or None,
        }
        return {name: value for name, value in every.items() if value is not None}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Purpose:
        """The purpose that :meth:`to_json` wrote; members of later versions are passed over.

        :param data: decoded JSON.
        :raises ValueError: a member is of another kind.
        """
        names = ("Endpoint", "WebService", "Start", "End")
        check_members(data, dict.fromkeys(names, str | None))
        texts = {name: data.get(name) for name in names}
        start, end = (to_utc(value) if value else None for value in (texts["Start"], texts["End"]))
        return cls(texts["Endpoint"] or None, texts["WebService"] or None, start, end, *_data_check(data))

    def to_header(self) -> dict[str, str]:
        """The header; none where nothing is known."""
        known = self.to_json()
        return _HEADER.written(known) if known else {}

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> Purpose | None:
        """The purpose among the headers of a request.

        :param headers: names in lower case.
        :raises RequestRejected: it cannot be read.
        """
        return _HEADER.read(headers, cls.from_json)


def _data_check(data: Mapping[str, Any]) -> tuple[str, dict[str, float]]:
    mode = data.get("DataCheck", WARN)
    if mode not in DATA_CHECKS:
        raise ValueError(f"its member DataCheck is none of {', '.join(DATA_CHECKS)}")
    return mode, check_limits(data.get("Limits") or {})
