"""What an update returns: every member, from where it is known."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_azureml_classic.client.answers import BlobFacts
from airflow_provider_azureml_classic.protocol.approval import Approval
from airflow_provider_azureml_classic.protocol.digests import Digests
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.protocol.values import Endpoint, Resource, WebService
from airflow_provider_azureml_classic.retraining import receipt as receipt_module
from airflow_provider_azureml_classic.retraining.freshness import Window
from airflow_provider_azureml_classic.retraining.jobs import JobTicket
from airflow_provider_azureml_classic.retraining.placing import Candidate, Target, Update
from airflow_provider_azureml_classic.retraining.proof import Level, Patch
from airflow_provider_azureml_classic.retraining.receipt import receipt_of

DAY = datetime(2026, 3, 1, tzinfo=UTC)
OLD = BlobReference("m/20260201T000000Z.ilearner", "http://own/")
NEW = BlobReference("m/new.ilearner", "http://own/", "?sig=secret")
TARGET = Target(WebService("s", "Bikes"), Endpoint("e", "s"), Resource("r"))
BARE: dict[str, Any] = {"location": None, "window_end": None, "answers": None, "sha256": None, "content": None}


def receipt(candidate: Candidate, patch: Patch, *more: Any) -> dict[str, Any]:
    """The receipt, without the moment at which it was written."""
    data = receipt_of(Update(TARGET, candidate, patch), *more)
    written = datetime.fromisoformat(data.pop("updated_at"))
    assert abs((datetime.now(UTC) - written).total_seconds()) < 600
    assert written.microsecond == 0
    return data


def test_everything_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model that is live, the one that was, who trained it and who agreed; no token."""
    model, replaced = Digests("a" * 64, "b" * 64), Digests("c" * 64, "d" * 64)
    job = JobTicket("s", "default", "1" * 32)
    candidate = Candidate(NEW, Window(DAY), job, metrics={"AUC": 0.9, "Odd": math.nan})
    answers = Table(("Scored Labels",), [["1"]])
    monkeypatch.setattr(receipt_module, "time", SimpleNamespace(time=lambda: 1002.3456))
    patch = Patch("r", NEW, Level.SCORE, OLD, answers, patched_at=1000.0, model=model, replaced_model=replaced)
    approval = Approval("Ada", DAY, "e" * 64)
    data = receipt(candidate, patch, BlobFacts(7, "a" * 64), approval)
    assert data == {
        "web_service": "Bikes",
        "web_service_id": "s",
        "endpoint": "e",
        "resource": "r",
        "model": {
            "location": "http://own/m/new.ilearner",
            "length": 7,
            "sha256": "a" * 64,
            "content": "b" * 64,
        },
        "window": {"start": None, "end": "2026-03-01T00:00:00+00:00"},
        "job_id": "1" * 32,
        "trained_by": job.to_json(),
        "metrics": {"AUC": 0.9},
        "rehearsal": None,
        "proof": {"level": "score", "seconds": 2.346},
        "replaced": {
            "location": "http://own/m/20260201T000000Z.ilearner",
            "window_end": "2026-02-01T00:00:00+00:00",
            "answers": answers.to_wire(),
            "sha256": "c" * 64,
            "content": "d" * 64,
        },
        "approval": approval.to_json(),
    }


def test_what_is_not_known_is_null() -> None:
    """No member is left out; a clock that was set back makes no negative time."""
    patch = Patch("r", NEW, patched_at=time.time() + 1000, rehearsal={"text": "x"})
    data = receipt(Candidate(NEW, None, metrics={"Odd": math.inf}), patch, None)
    assert data["proof"] == {"level": "resource", "seconds": 0.0}
    assert data["model"] == {"location": "http://own/m/new.ilearner", "length": None, "sha256": None, "content": None}
    assert data["replaced"] == BARE
    assert data["rehearsal"] == {"text": "x"}
    assert {data[name] for name in ("window", "job_id", "trained_by", "metrics", "approval")} == {None}
    assert receipt(Candidate(NEW, None), patch, None)["metrics"] is None


@pytest.mark.parametrize(
    ("model", "facts", "length", "digest"),
    [
        (None, BlobFacts(7, "a" * 64), 7, "a" * 64),
        # The service has a model whose file lies elsewhere by now: the length is of another one.
        (Digests("b" * 64), BlobFacts(7, "a" * 64), None, "b" * 64),
        (Digests("b" * 64), None, None, "b" * 64),
    ],
)
def test_the_file(model: Digests | None, facts: BlobFacts | None, length: int | None, digest: str) -> None:
    """What the service says it has counts, before what lies at the place."""
    data = receipt(Candidate(NEW, None), Patch("r", NEW, model=model), facts)
    assert (data["model"]["length"], data["model"]["sha256"]) == (length, digest)


def test_a_window_that_was_told_counts_before_the_one_in_the_path() -> None:
    """Of the model that was replaced."""
    data = receipt(Candidate(NEW, None), Patch("r", NEW, replaced=OLD, replaced_end="2026-01-01"), None)
    assert data["replaced"]["window_end"] == "2026-01-01"
