"""What tasks hand on and keep comes back through stores of others: each reader refuses what it did not write."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from airflow_provider_azureml_classic.fleet.rows import Row
from airflow_provider_azureml_classic.protocol.approval import Approval
from airflow_provider_azureml_classic.protocol.digests import Digests
from airflow_provider_azureml_classic.protocol.purpose import Purpose
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.retraining.approval import Decision
from airflow_provider_azureml_classic.retraining.freshness import Window
from airflow_provider_azureml_classic.retraining.jobs import JobTicket
from airflow_provider_azureml_classic.retraining.proof import Patch

NOON = "2026-01-31T12:00:00Z"
DIGESTS = Digests("a" * 64, "b" * 64).to_json()
APPROVAL = {"by": "ada", "at": NOON, "evidence": "c" * 64, "asked_in": "", "model": DIGESTS}
PLACE = BlobReference("models/m.ilearner")
#: Reader, and what it reads.
KEPT: dict[str, tuple[Callable[[Any], Any], dict[str, Any]]] = {
    "ticket": (JobTicket.from_json, {"web_service": "w", "endpoint": "e", "job_id": "f" * 32}),
    "window": (Window.from_json, {"start": NOON, "end": NOON}),
    "patch": (Patch.from_json, Patch("r", PLACE, replaced=PLACE, answers=Table(("x",), [["1"]])).to_json()),
    "row": (
        Row.from_json,
        {"endpoint": "e", "window": {}, "epoch": 1, "wave": 1, "started": 1.5, "outcome": "updated", "reason": "r",
         "receipt": {}, "patch": {}, "job_id": "j"},
    ),
    "approval": (Approval.from_json, APPROVAL),
    "decision": (
        Decision.from_json,
        {**APPROVAL, "decision": "approved", "endpoint": "e", "web_service_id": "w", "job_id": "j"},
    ),
    "purpose": (Purpose.from_json, {"Endpoint": "e", "WebService": "w", "Start": NOON, "End": NOON}),
    "digests": (Digests.from_json, DIGESTS),
}  # fmt: skip
ODD = [None, True, 0, -1, 1e308, float("nan"), 10**400, "", "x", "\ud800", [], [[1]], ["a", "b", "c"], {}, {"a": 1},
       "2026-13-01T00:00:00Z", "99999-01-01T00:00:00Z"]  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_odd_values_are_refused_or_read(name: str) -> None:
    """In the place of the whole, or of each of its members; nothing else is raised than what callers expect."""
    read, value = KEPT[name]
    assert read(value) is not None
    for odd in ODD:
        for one in (odd, *({**value, member: odd} for member in value)):
            with suppress(ValueError):
                read(one)
    for member in value:
        with suppress(ValueError):
            read({key: value[key] for key in value if key != member})


@pytest.mark.parametrize(
    ("name", "member", "odd"),
    [
        ("patch", "deadline", "soon"), ("patch", "deadline", float("nan")), ("patch", "etag", 5),
        ("patch", "answers", 5),
        ("row", "epoch", "1"), ("row", "started", 10**400), ("row", "window", []), ("window", "end", 5),
        ("purpose", "End", 5),
    ],
)  # fmt: skip
def test_a_member_of_another_kind_is_refused(name: str, member: str, odd: object) -> None:
    """It would be met where it is used, long after."""
    read, value = KEPT[name]
    with pytest.raises(ValueError, match=r"member"):
        read({**value, member: odd})
