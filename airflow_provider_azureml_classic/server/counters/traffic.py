"""Calls of the last hour, by endpoint, and all calls since the start, by route; and the access log.

All counts are of this process only.

Rule 1: one call costs about a microsecond, whatever number of endpoints there is.
Rule 2: an endpoint costs at most about 2.5 KB, and nothing an hour after its last call.
"""

from __future__ import annotations

import json
import logging
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from time import time

from airflow_provider_azureml_classic.protocol import operations as ops
from airflow_provider_azureml_classic.protocol.messages import Response

#: Upper bounds of latencies, in seconds; what is slower counts above the last one.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0)
MINUTES = 60
_CLASSES = len(BOUNDS) + 1
#: A minute's numbers: calls in each class of latency, then errors.
_WIDTH = _CLASSES + 1
#: Endpoints from which on those without calls in the last hour are looked for and dropped.
_SWEEP = 4096
_EXECUTE = ops.SCORE.path.rpartition("/")[2]
#: Statuses of callers who may be guessing: what they ask for may not be there.
_UNKNOWN = frozenset({401, 404})
_OK = 200


@dataclass(frozen=True)
class Hour:
    """The calls of an endpoint in the last hour.

    :param minutes: calls in each minute, oldest first; the last one is the present minute.
    :param errors: of them, those that were answered with status 400 or more.
    :param classes: calls in each class of latency.
    """

    minutes: tuple[int, ...] = (0,) * MINUTES
    errors: int = 0
    classes: tuple[int, ...] = (0,) * _CLASSES

    @property
    def calls(self) -> int:
        """Calls in the last hour."""
        return sum(self.minutes)

    def latency(self, share: float) -> float | None:
        """Seconds within which this share of the calls was answered: the upper bound of the class; ``None`` without
        calls, infinite above the last bound.

        :param share: 0.5 for the median.
        """
        rank, total = share * self.calls, 0
        for bound, count in zip((*BOUNDS, float("inf")), self.classes, strict=True):
            total += count
            if count and total >= rank:
                return bound
        return None


class _Endpoint:
    """Sixty minutes of one endpoint, used in turn."""

    __slots__ = ("last", "numbers", "stamps")

    def __init__(self) -> None:
        self.numbers = array("I", bytes(4 * MINUTES * _WIDTH))
        self.stamps = array("I", bytes(4 * MINUTES))
        self.last = 0


@dataclass
class Route:
    """All calls of one route since the start.

    :param classes: calls in each class of latency.
    :param seconds: of all calls together.
    :param statuses: calls by HTTP status.
    """

    classes: list[int]
    seconds: float
    statuses: dict[int, int]


class Traffic:
    """Counts calls.

    :param clock: seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float] = time) -> None:
        self._clock = clock
        self._lock = Lock()
        self._endpoints: dict[str, _Endpoint] = {}
        self._sweep_at = _SWEEP
        self.routes: dict[str, Route] = {}

    def called(self, route: str, status: int, seconds: float, count: int = 1) -> None:
        """Count answered calls.

        :param route: name of the operation.
        :param status: HTTP status of their answers.
        :param seconds: until each was answered.
        :param count: how many.
        """
        with self._lock:
            counts = self.routes.get(route)
            if counts is None:
                counts = self.routes[route] = Route([0] * _CLASSES, 0.0, {})
            counts.classes[bisect_left(BOUNDS, seconds)] += count
            counts.seconds += seconds * count
            counts.statuses[status] = counts.statuses.get(status, 0) + count

    def scored(self, endpoint_id: str, status: int, seconds: float, count: int = 1) -> None:
        """Count answered scoring calls of an endpoint that there is.

        :param endpoint_id: GUID.
        :param status: HTTP status of their answers.
        :param seconds: until each was answered.
        :param count: how many.
        """
        minute = int(self._clock() // 60)
        with self._lock:
            counts = self._endpoints.get(endpoint_id)
            if counts is None:
                counts = self._added(endpoint_id, minute)
            slot = minute % MINUTES
            start = slot * _WIDTH
            if counts.stamps[slot] != minute:
                counts.stamps[slot] = counts.last = minute
                counts.numbers[start : start + _WIDTH] = array("I", bytes(4 * _WIDTH))
            counts.numbers[start + bisect_left(BOUNDS, seconds)] += count
            if status >= 400:
                counts.numbers[start + _CLASSES] += count

    def _added(self, endpoint_id: str, minute: int) -> _Endpoint:
        if len(self._endpoints) >= self._sweep_at:
            self._endpoints = {key: counts for key, counts in self._endpoints.items() if counts.last > minute - MINUTES}
            self._sweep_at = max(_SWEEP, 2 * len(self._endpoints))
        self._endpoints[endpoint_id] = added = _Endpoint()
        return added

    def hour(self, endpoint_id: str) -> Hour:
        """The last hour of an endpoint.

        :param endpoint_id: GUID.
        """
        now = int(self._clock() // 60)
        with self._lock:
            counts = self._endpoints.get(endpoint_id)
            rows = [list(_minute(counts, minute)) for minute in range(now - MINUTES + 1, now + 1)] if counts else []
        if not rows:
            return Hour()
        classes = tuple(sum(row[index] for row in rows) for index in range(_CLASSES))
        return Hour(tuple(sum(row[:_CLASSES]) for row in rows), sum(row[_CLASSES] for row in rows), classes)

    def per_minute(self, endpoint_ids: Iterable[str] | None = None) -> dict[str, float]:
        """Calls per minute, the mean of the last five whole minutes, of each endpoint that had any.

        :param endpoint_ids: of these endpoints only.
        """
        now = int(self._clock() // 60)
        with self._lock:
            endpoints: Mapping[str, _Endpoint | None]
            endpoints = (
                self._endpoints if endpoint_ids is None else {key: self._endpoints.get(key) for key in endpoint_ids}
            )
            recent = [(key, counts) for key, counts in endpoints.items() if counts and counts.last >= now - 5]
        # Summed outside of the lock: a page must not keep a scoring call waiting.
        sums = {
            key: sum(sum(_minute(counts, minute)[:_CLASSES]) for minute in range(now - 5, now))
            for key, counts in recent
        }
        return {key: count / 5 for key, count in sums.items() if count}


def _minute(counts: _Endpoint, minute: int) -> array[int]:
    slot = minute % MINUTES
    if counts.stamps[slot] != minute:
        return array("I", bytes(4 * _WIDTH))
    return counts.numbers[slot * _WIDTH : (slot + 1) * _WIDTH]


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
