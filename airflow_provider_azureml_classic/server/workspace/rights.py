"""Which operations a named key opens: one table. An operation that is not in it is closed to all of them. And which the
read-only token of the workspace opens.

The two keys that every endpoint has open all that take an endpoint key.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType

from airflow_provider_azureml_classic.protocol import operations as ops
from airflow_provider_azureml_classic.protocol.keys import KeyKind
from airflow_provider_azureml_classic.server.state.tables import KeyRow

_SCORE = frozenset(
    {ops.SCORE, ops.READ_ROWS, ops.INFER, ops.INFERENCE_MODEL, ops.INFERENCE_MODEL_READY}
    | {ops.INFERENCE_VERSION, ops.INFERENCE_VERSION_READY, ops.INFER_VERSION}
    | {operation for operation in ops.OPERATIONS if operation.credential is ops.Credential.NONE}
)
_RETRAIN = _SCORE | {
    *(ops.SUBMIT_JOB, ops.START_JOB, ops.GET_JOB, ops.CANCEL_JOB, ops.LIST_JOBS, ops.GET_JOB_LOG),
    *(ops.LIST_ENDPOINTS, ops.GET_ENDPOINT, ops.PATCH_ENDPOINT, ops.REFRESH_ENDPOINT),
    *(ops.SCORE_MODEL, ops.REHEARSE_UPDATE, ops.LIST_MODELS),
    *(ops.GET_QUOTA, ops.LIST_KEYS),
    *(ops.GET_CUSTOMER, ops.LIST_FILES, ops.SIGN_FILE, ops.WRITE_FILE, ops.DELETE_FILE),
}
_OPENED: Mapping[str, frozenset[ops.Operation]] = MappingProxyType(
    {KeyKind.SCORE.value: _SCORE, KeyKind.RETRAIN.value: _RETRAIN}
)


def opens_to_readers(operation: ops.Operation) -> bool:
    """Whether the read-only token of the workspace may be used for an operation, of those that the full one opens.

    :param operation: what is asked.
    """
    return operation.method == "GET"


def opens(key: KeyRow, operation: ops.Operation, now: datetime) -> bool:
    """Whether a key may be used for an operation now.

    :param key: of the endpoint that is asked for, or of its customer.
    :param operation: what is asked.
    :param now: the present time.
    """
    if key.kind is None:
        return True
    ended = key.expires_at is not None and key.expires_at <= now
    return not ended and operation in _OPENED.get(key.kind, frozenset())
