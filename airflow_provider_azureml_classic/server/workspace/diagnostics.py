"""Diagnostics logs of endpoints that ask for them with ``DiagnosticsTraceLevel`` (wire document, section 8).

One blob for each execution in the container ``ml-diagnostics`` of the own store, below
``{workspace}-{web service}-{endpoint}/{log type}/``. They are written by a thread of their own: scoring waits for
nothing, and what the thread cannot keep up with is dropped and counted. They hold what happened, never rows, keys or
tokens.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, without_secrets
from airflow_provider_azureml_classic.protocol.job_history import LogLine, write_log
from airflow_provider_azureml_classic.protocol.jobs import JobStatus
from airflow_provider_azureml_classic.protocol.moments import stamp
from airflow_provider_azureml_classic.protocol.values import TraceLevel
from airflow_provider_azureml_classic.server.blobs.names import DIAGNOSTICS_CONTAINER
from airflow_provider_azureml_classic.server.blobs.store import BlobStore
from airflow_provider_azureml_classic.server.clock import Clock
from airflow_provider_azureml_classic.server.experiments.histogram import Unusual
from airflow_provider_azureml_classic.server.state.tables import EndpointRow

log = logging.getLogger(__name__)

#: Log types: batch jobs, scoring calls, models loaded to score.
BATCH, REQUESTS, INIT = "batch", "score/requests", "score/init"
#: Entries that wait to be written; more are dropped.
_WAITING = 10_000
_CLOSING_SECONDS = 5.0


@dataclass(frozen=True)
class Entry:
    """One blob to write.

    :param endpoint: whose it is.
    :param kind: log type.
    :param time: when it happened.
    :param name: id of what happened, part of the blob's name.
    :param content: what happened.
    """

    endpoint: EndpointRow
    kind: str
    time: datetime
    name: str
    content: dict[str, Any]


class Diagnostics:
    """Writes the logs.

    :param blobs: the own store.
    :param workspace_id: the workspace.
    :param clock: gives the present time.
    :param waiting: entries that may wait to be written.
    """

    def __init__(self, blobs: BlobStore, workspace_id: str, clock: Clock, waiting: int = _WAITING) -> None:
        self._blobs = blobs
        self._workspace_id = workspace_id
        self._clock = clock
        self._queue: queue.Queue[Entry | None] = queue.Queue(waiting)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self.dropped = 0

    def scored(
        self,
        endpoint: EndpointRow,
        request_id: str,
        seconds: float,
        error: AzureMLClassicError | None,
        unusual: Unusual | None = None,
    ) -> None:
        """A scoring call was answered.

        :param endpoint: the endpoint called.
        :param request_id: of the answer.
        :param seconds: how long it took.
        :param error: what it was refused with, if it was.
        :param unusual: cells that the model did not see in its training, if the call asked for details.
        """
        if is_logged(endpoint, failed=error is not None):
            content = {"requestId": request_id, "milliseconds": round(seconds * 1000, 3), **_result(error)}
            if unusual is not None:
                rows, unknown, outside = unusual
                content |= {"rows": rows, "unknownCategories": unknown, "outsideTrainedRange": outside}
            self._put(endpoint, REQUESTS, request_id, content)

    def loaded(self, endpoint: EndpointRow, digest: str) -> None:
        """A model was loaded for a scoring call.

        :param endpoint: the endpoint called.
        :param digest: SHA-256 of the model file.
        """
        if is_logged(endpoint, failed=False):
            self._put(endpoint, INIT, uuid.uuid4().hex, {"model": digest})

    def ran(
        self, endpoint: EndpointRow, job_id: str, status: JobStatus, lines: Callable[[], Sequence[LogLine]]
    ) -> None:
        """A job has ended.

        :param endpoint: its endpoint.
        :param job_id: the job.
        :param status: how it ended.
        :param lines: gives its log.
        """
        if is_logged(endpoint, failed=status is JobStatus.FAILED):
            content = {"job": job_id, "status": status.value, **write_log(tuple(lines()))}
            self._put(endpoint, BATCH, job_id, content)

    def close(self) -> None:
        """Write what waits, for some seconds at most, then stop."""
        if self._thread is not None:
            try:
                self._queue.put(None, timeout=_CLOSING_SECONDS)
            except queue.Full:
                log.warning("not all diagnostics logs were written")
            self._thread.join(_CLOSING_SECONDS)

    def _put(self, endpoint: EndpointRow, kind: str, name: str, content: dict[str, Any]) -> None:
        try:
            self._queue.put_nowait(Entry(endpoint, kind, self._clock(), name, content))
        except queue.Full:
            self.dropped += 1
            if self.dropped == 1:
                log.warning("diagnostics logs come faster than they can be written; some are dropped")
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_all, name="diagnostics", daemon=True)
                self._thread.start()

    def _write_all(self) -> None:
        while (entry := self._queue.get()) is not None:
            try:
                self._write(entry)
            except Exception:
                # A full disk must not end the thread, nor be told for each of thousands.
                self.dropped += 1
                log.warning("a diagnostics log of endpoint %s is not written", entry.endpoint.id, exc_info=True)

    def _write(self, entry: Entry) -> None:
        endpoint = entry.endpoint
        folder = f"{self._workspace_id}-{endpoint.service_id}-{endpoint.id}/{entry.kind}"
        name = f"{folder}/{entry.time:%Y%m%dT%H%M%S.%f}Z-{entry.name}.json"
        content = {"time": stamp(entry.time), "endpoint": endpoint.name, **entry.content}
        with self._blobs.open_write(DIAGNOSTICS_CONTAINER, name) as writer:
            writer.write(json.dumps(content, ensure_ascii=False).encode("utf-8", "replace"))


def is_logged(endpoint: EndpointRow, *, failed: bool) -> bool:
    """Whether an endpoint's trace level asks for a log.

    :param endpoint: the endpoint.
    :param failed: it failed.
    """
    level = endpoint.trace_level
    return level == TraceLevel.ALL.value or (failed and level == TraceLevel.ERROR.value)


def _result(error: AzureMLClassicError | None) -> dict[str, Any]:
    if error is None:
        return {"status": 200}
    return {"status": error.status or 500, "code": error.detail_code, "message": without_secrets(error.message)}
