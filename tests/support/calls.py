"""Every call that needs a key, and the one shape of an error."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from airflow_provider_azureml_classic.exceptions import CODES
from airflow_provider_azureml_classic.protocol import operations as ops
from airflow_provider_azureml_classic.protocol.inference import ROOT
from airflow_provider_azureml_classic.protocol.messages import Response
from airflow_provider_azureml_classic.protocol.operations import Credential, Operation
from airflow_provider_azureml_classic.protocol.values import Endpoint
from tests.support.service import WORKSPACE, Service

#: Operations that answer in the protocol's shape; help pages and documents are open to everybody.
GUARDED = tuple(
    operation
    for operation in ops.OPERATIONS
    if operation.credential is not Credential.NONE and not operation.path.startswith(ROOT)
)
BODIES = (
    ops.ADD_ENDPOINT,
    ops.PATCH_ENDPOINT,
    ops.REFRESH_ENDPOINT,
    ops.REGENERATE_KEYS,
    ops.MAKE_KEY,
    ops.SCORE_MODEL,
    ops.SIGN_BLOB,
    ops.SUBMIT_JOB,
    ops.SCORE,
)
by_name = pytest.mark.parametrize("operation", GUARDED, ids=lambda operation: operation.name)


def assert_error_shape(response: Response, status: int, detail: str | None = None) -> str:
    """Check an error as every operation must answer it; returns its message.

    Nested, at least one detail, codes and status of the published table, a request id.
    """
    assert response.status == status, response.body
    body = json.loads(response.body)
    assert list(body) == ["error"]
    error = body["error"]
    assert list(error) == ["code", "message", "details"]
    first = error["details"][0]
    assert set(first) - {"target"} == {"code", "message"}
    assert CODES[first["code"]] == (error["code"], status)
    assert all(isinstance(text, str) and text for text in (error["code"], error["message"], first["message"]))
    assert re.fullmatch(r"[0-9a-f]{32}", response.headers["x-ms-request-id"])
    assert response.headers["content-type"].startswith("application/json")
    if detail is not None:
        assert first["code"] == detail, error["message"]
    return str(error["message"])


def path_of(operation: Operation, service: Service, scorer: Endpoint, /, **changed: str) -> str:
    """Path and query of an operation on the endpoint ``mine``; segments can be changed."""
    segments = {
        "workspace": WORKSPACE,
        "service": service.scoring,
        "endpoint": "mine",
        "endpoint_id": scorer.api_location.rpartition("/")[2],
        "job": "0" * 32,
        "file": "x.csv",
        "key": "laptop",
        "version": "1",
        "model": f"{service.scoring}~mine",
        **changed,
    }
    return operation.url("", segments)


def least_body(operation: Operation) -> dict[str, Any]:
    """The smallest body that is read."""
    if operation is ops.SCORE_MODEL:
        return {"ModelDigests": {"File": "0" * 64}, "HeldOut": True}
    bodies = {
        ops.REGENERATE_KEYS: {"KeyType": "Primary"},
        ops.MAKE_KEY: {"Kind": "ScoreOnly"},
        ops.SIGN_BLOB: {"RelativeLocation": "data/x.csv"},
    }
    return bodies.get(operation, {})


def refusal(operation: Operation) -> str:
    """Code of a call whose key is refused."""
    return (
        "ScoreRequestUnauthorized" if operation.credential is Credential.ENDPOINT else "ManagementRequestUnauthorized"
    )
