"""Every reader of what somebody else wrote, with each value replaced by an odd one: an error that callers expect."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_azureml_classic.exceptions import ProtocolError, RequestRejected
from airflow_provider_azureml_classic.protocol import approval, purpose
from airflow_provider_azureml_classic.protocol.approval import Approval
from airflow_provider_azureml_classic.protocol.audit import AuditEntry, AuditPage
from airflow_provider_azureml_classic.protocol.customers import Quota, Usage
from airflow_provider_azureml_classic.protocol.digests import Digests
from airflow_provider_azureml_classic.protocol.drift import DRIFTED, DriftPage, EndpointDrift, FeatureDrift
from airflow_provider_azureml_classic.protocol.errors import has_error
from airflow_provider_azureml_classic.protocol.inference import read_request
from airflow_provider_azureml_classic.protocol.job_history import JobPage, LogLine, read_log, write_log
from airflow_provider_azureml_classic.protocol.jobs import Job, JobRequest, JobStatus
from airflow_provider_azureml_classic.protocol.keys import KeyKind, NamedKey, key_request, key_to_wire
from airflow_provider_azureml_classic.protocol.model_history import ModelPage, PastModel
from airflow_provider_azureml_classic.protocol.model_scoring import HeldOutRows, ModelAnswers, ModelCall
from airflow_provider_azureml_classic.protocol.purpose import Purpose
from airflow_provider_azureml_classic.protocol.references import BlobReference, ToldWindow
from airflow_provider_azureml_classic.protocol.rehearsal import Rehearsal
from airflow_provider_azureml_classic.protocol.tables import Table, read_call, read_input, read_output
from airflow_provider_azureml_classic.protocol.values import Endpoint, EndpointSettings, Resource, WebService

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MODEL = BlobReference("models/ten.ilearner", "https://store.test/", "?sig=x")
DIGESTS, WINDOW = Digests("a" * 64, "b" * 64), ToldWindow(NOON, False, NOON, NOON)
TABLE = Table(("p",), [["0.5"]])
ODD = [
    *(None, True, -1, 0, 1.5, 1e999, float("nan"), 10**400, 1 << 63, "", "x", "\ud800", "\0", [], [[]], [None], {}),
    *([{}], {"a": []}, {"": None}, "9999-12-31T23:59:59-14:00", "1" * 5000, ["x", "x"]),
]


def wired(value: Any) -> Any:
    """As it arrives."""
    return json.loads(json.dumps(value))


def in_header(kind: Any, name: str) -> Callable[[Any], Any]:
    """A reader of a header."""
    return lambda data: kind.from_headers({name: json.dumps(data)})


READERS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "approval": (in_header(Approval, approval.HEADER), Approval("Ada", NOON, "d" * 64, "dag/run", DIGESTS).to_json()),
    "audit": (AuditPage.from_wire, AuditPage((AuditEntry(1, NOON, "a", "b", "c", "d", 200),), 1).to_wire()),
    "quota": (Quota.from_wire, Quota(1, 2).to_wire()),
    "quota told": (Quota.of_answer, Quota(1, 2).to_wire()),
    "usage": (Usage.from_wire, Usage(1, 2, NOON).to_wire()),
    "digests": (Digests.from_wire, DIGESTS.to_wire()),
    "drift": (
        DriftPage.from_wire,
        DriftPage(
            (EndpointDrift("e", DRIFTED, "m", 1, 2, 3, NOON.date(), (FeatureDrift("f", *[0.5] * 6),), ("f",)),), "e"
        ).to_wire(),
    ),
    "error": (has_error, {"error": {"code": "x", "message": "y", "details": [{"code": "z"}]}}),
    "inference": (
        lambda data: read_request(json.dumps(data).encode(), None, json.loads),
        {"id": "7", "inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [1], "parameters": {"a": 1}}]},
    ),
    "log": (read_log, write_log((LogLine(NOON, "text"),))),
    "jobs": (JobPage.from_wire, JobPage((Job("1" * 32, JobStatus.RUNNING, created_at=NOON),), "1" * 32).to_wire()),
    "job": (
        lambda data: Job.from_wire("1" * 32, data),
        Job(
            "1" * 32, JobStatus.FAILED, {"output1": MODEL}, "why", NOON, NOON, NOON, "line", MODEL, DIGESTS, WINDOW,
            {"a": 1},
        ).to_wire(),
    ),
    "submission": (JobRequest.from_wire, JobRequest({"input1": MODEL}, {"output1": MODEL}, {"a": 1}).to_wire()),
    "key": (NamedKey.from_wire, NamedKey("n", KeyKind.SCORE, NOON, NOON, "s").to_wire()),
    "key asked": (key_request, key_to_wire(KeyKind.SCORE, NOON)),
    "models": (
        ModelPage.from_wire,
        ModelPage(
            (PastModel(1, "m", MODEL, DIGESTS, WINDOW, NOON, "patch", True, "1" * 32, {"AUC": 0.5}, 9, True),), 1
        ).to_wire(),
    ),
    "question": (ModelCall.from_wire, ModelCall(MODEL, "a" * 64, TABLE).to_wire()),
    "answers": (
        ModelAnswers.from_wire,
        ModelAnswers(TABLE, DIGESTS, HeldOutRows(["y"], TABLE, [0], DIGESTS, 1, 2)).to_wire(),
    ),
    "purpose": (in_header(Purpose, purpose.HEADER), Purpose("e", "s", NOON, NOON, "fail", {"outside": 0.5}).to_json()),
    "reference": (BlobReference.from_wire, MODEL.to_wire()),
    "reference asked": (lambda data: BlobReference.from_wire(data, strict=True), MODEL.to_wire()),
    "window": (ToldWindow.from_wire, WINDOW.to_wire()),
    "rehearsal": (
        Rehearsal.from_json,
        {
            "calls": 3, "rows": 4, "refused": {"live": 0, "new": 1}, "changed": 0.5, "stability": 0.1,
            "quantiles": {"live": [1.0], "new": [2.0]}, "labels": {"live": {"a": 0.5}, "new": {"a": 0.5}},
            "milliseconds": {"live": 1.0, "new": 2.0},
        },
    ),
    "call": (read_call, {"Inputs": {"input1": TABLE.to_wire()}, "GlobalParameters": {"a": 1}, "Outputs": {}}),
    "input": (lambda data: read_input("input1", data), TABLE.to_wire()),
    "objects": (lambda data: read_input("input1", data), [{"a": 1, "b": "x"}, {"a": 2}]),
    "output": (lambda data: read_output("output1", data), {"type": "DataTable", "value": TABLE.to_wire()}),
    "output objects": (lambda data: read_output("output1", data), [{"a": 1}]),
    "service": (WebService.from_wire, {"Id": "1", "Name": "n", "WorkspaceId": "w", "EndpointCount": 1}),
    "resource": (Resource.from_wire, Resource("m", MODEL).to_wire()),
    "endpoint": (Endpoint.from_wire, Endpoint("n", resources=(Resource("m", MODEL),)).to_wire()),
    "settings": (
        EndpointSettings.from_wire,
        {
            "Description": "d", "ThrottleLevel": "High", "MaxConcurrentCalls": 4, "PreventUpdate": False,
            "Resources": [Resource("m", MODEL).to_wire()], "StaleAfter": 5, "SampleDataEnabled": True,
        },
    ),
}  # fmt: skip


def variants(data: Any, put: Callable[[Any], Any]) -> Iterator[Any]:
    """A document with each of its values replaced, and with each member missing."""
    yield from (put(odd) for odd in ODD)
    items = list(data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ())
    for key, value in items:

        def inner(new: Any, key: Any = key) -> Any:
            changed = copy.copy(data)
            changed[key] = new
            return put(changed)

        yield from variants(value, inner)
        if isinstance(data, dict):
            yield put({name: one for name, one in items if name != key})


@pytest.mark.parametrize("name", READERS)
def test_odd_values(name: str) -> None:
    """Of any kind, at any place: read as far as that makes sense, or refused; nothing else is ever raised."""
    read, data = READERS[name]
    read(wired(data))
    for variant in variants(wired(data), lambda new: new):
        try:
            value = read(variant)
        except (ProtocolError, RequestRejected):
            continue
        except Exception as error:
            pytest.fail(f"{error!r}: {variant!r}"[:1000])
        repr(value)
        json.dumps(value.to_wire() if hasattr(value, "to_wire") else None)
        assert all(isinstance(secret, str) for secret in getattr(value, "secrets", ()))
