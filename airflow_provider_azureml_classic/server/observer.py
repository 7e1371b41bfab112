"""Sees every answered request: counts it, and writes the access log.

The log has a line of JSON for each request: time, request id, route, method, path, status, milliseconds. The query is
left out, as it may hold a SAS token.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from airflow_provider_azureml_classic.protocol import operations as ops
from airflow_provider_azureml_classic.protocol.messages import Response
from airflow_provider_azureml_classic.server.traffic import Traffic

_EXECUTE = ops.SCORE.path.rpartition("/")[2]
#: Statuses of callers who may be guessing: what they ask for may not be there.
_UNKNOWN = frozenset({401, 404})
_OK = 200


class Observer:
    """Counts and logs.

    :param traffic: counts.
    :param log: write the access log.
    """

    def __init__(self, traffic: Traffic, *, log: bool) -> None:
        self._traffic = traffic
        self._log = access_logger() if log else None

    def answered(self, method: str, path: str, response: Response, seconds: float) -> None:
        """The API has answered.

        :param method: HTTP method.
        :param path: raw path.
        :param response: the answer.
        :param seconds: until it was sent.
        """
        status = response.status
        head, _, tail = path.rpartition("/")
        if tail == _EXECUTE:
            # The hot path: it is told without asking the table of operations.
            route = ops.SCORE.name
            if status not in _UNKNOWN:
                self._traffic.scored(head.rpartition("/")[2], status, seconds)
        else:
            operation = ops.match(method, path)[0]
            route = operation.name if operation else "none"
        self._traffic.called(route, status, seconds)
        if self._log:
            self._write(self._log, route, method, path, status, seconds, response.headers.get(ops.REQUEST_ID))

    def scored(self, path: str, endpoint_id: str, request_ids: Sequence[str], seconds: float) -> None:
        """The API has scored for several calls at once.

        :param path: raw path of each.
        :param endpoint_id: GUID of the endpoint called.
        :param request_ids: of the answers.
        :param seconds: until they were sent.
        """
        self._traffic.scored(endpoint_id, _OK, seconds, len(request_ids))
        self._traffic.called(ops.SCORE.name, _OK, seconds, len(request_ids))
        if self._log:
            for request_id in request_ids:
                self._write(self._log, ops.SCORE.name, ops.SCORE.method, path, _OK, seconds, request_id)

    def visited(self, site: str, method: str, path: str, status: int, seconds: float) -> None:
        """Another site has answered.

        :param site: its name.
        :param method: HTTP method.
        :param path: decoded path.
        :param status: HTTP status; 0 if there was no answer.
        :param seconds: until it was sent.
        """
        self._traffic.called(site, status, seconds)
        if self._log:
            self._write(self._log, site, method, path, status, seconds, None)

    def _write(
        self, log: logging.Logger, route: str, method: str, path: str, status: int, seconds: float, request: str | None
    ) -> None:
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "request_id": request,
            "route": route,
            "method": method,
            "path": path,
            "status": status,
            "ms": round(seconds * 1000, 2),
        }
        log.info(json.dumps(line, separators=(",", ":")))


def access_logger() -> logging.Logger:
    """The logger of the access log: bare lines to stderr, whatever the level of the other logs."""
    logger = logging.getLogger("azureml_classic.access")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
    return logger
