"""What operators ask: is it alive, is it ready, and how is it doing (``/healthz``, ``/readyz``, ``/metrics``).

The first two are open to everybody and tell no secret. The metrics are open to the workspace token only, as they tell
how much the service is used, and name the endpoints whose callers drift most; ``--open-metrics`` opens them to
everybody, without these names.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from airflow_provider_azureml_classic.protocol.jobs import JobStatus
from airflow_provider_azureml_classic.server.counters.drift import Drift
from airflow_provider_azureml_classic.server.counters.intake import Intake
from airflow_provider_azureml_classic.server.counters.traffic import BOUNDS, Traffic
from airflow_provider_azureml_classic.server.models.store import ModelStore
from airflow_provider_azureml_classic.server.settings import Settings
from airflow_provider_azureml_classic.server.state.database import Database, DatabaseDown
from airflow_provider_azureml_classic.server.state.job_overview import JobQueries
from airflow_provider_azureml_classic.server.state.overview import FRESH, STALE, UNKNOWN, Counts, Queries

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Metric

log = logging.getLogger(__name__)

PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
_METHODS = ("GET", "HEAD")
#: Models that an answer names; endpoints of the metrics.
_NAMED, _NAMED_DRIFT = 20, 50


@dataclass(frozen=True)
class Health:
    """Answers the three paths.

    :param settings: the token, and whether the metrics are open.
    :param database: asked whether it answers.
    :param models: asked whether it can be written to.
    :param traffic: what was called.
    :param queries: endpoints.
    :param job_queries: jobs.
    :param in_place: gives the digests of the models that endpoints have.
    :param intake: counts what is asked.
    :param drift: says how far that is from what was trained.
    """

    settings: Settings
    database: Database
    models: ModelStore
    traffic: Traffic
    queries: Queries
    job_queries: JobQueries
    in_place: Callable[[], set[str]]
    intake: Intake
    drift: Drift

    @cached_property
    def _threads(self) -> CapacityLimiter:
        """Its own: an answer is due when all others wait for the database, too."""
        return CapacityLimiter(2)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request = Request(scope, receive)
        if request.url.path == "/healthz" and request.method in _METHODS:
            # Without a thread: it says that the process answers, whatever the threads wait for.
            response: Response = PlainTextResponse("ok\n")
        else:
            response = await to_thread.run_sync(self._answer, request, limiter=self._threads)
        response.headers["cache-control"] = "no-store"
        response.headers["x-content-type-options"] = "nosniff"
        await response(scope, receive, send)

    def _answer(self, request: Request) -> Response:
        if request.method not in _METHODS:
            return PlainTextResponse("Only GET is possible here.\n", 405, {"allow": "GET, HEAD"})
        if request.url.path == "/readyz":
            return self._readiness(named=self._has_token(request))
        if not self.settings.open_metrics and not self._has_token(request):
            return PlainTextResponse(
                "Send the workspace token: Authorization: Bearer TOKEN, or start the server with --open-metrics.\n",
                401,
                {"www-authenticate": "Bearer"},
            )
        return self._metrics(named=self._has_token(request))

    def _has_token(self, request: Request) -> bool:
        scheme, _, key = request.headers.get("authorization", "").strip().partition(" ")
        right = self.settings.is_token(key.strip()) or self.settings.is_read_token(key.strip())
        return scheme.lower() == "bearer" and right

    def _readiness(self, *, named: bool) -> Response:
        checks: dict[str, Callable[[], None]] = {"database": self._ask_database, "models": self.models.check_writable}
        states: dict[str, str] = {}
        for name, check in checks.items():
            try:
                check()
                states[name] = "ok"
            except (DatabaseDown, OSError) as error:
                # The log has the reason; the answer is open to everybody.
                log.error("not ready: %s: %s", name, error)
                states[name] = "failed"
        if set(states.values()) != {"ok"}:
            return _json({"status": "not ready", **states}, 503)
        broken = self.models.broken(self.in_place())
        if not broken:
            return _json({"status": "ready", **states}, 200)
        # All other endpoints answer: a proxy must not take the server away from them.
        which = {"models": f"{len(broken)} broken", "broken": dict(sorted(broken.items())[:_NAMED])}
        # How many there are and which is nothing for the customers of a service that keeps them apart.
        return _json({"status": "degraded", **states, **(which if named else {"models": "some broken"})}, 200)

    def _ask_database(self) -> None:
        with self.database.read() as connection:
            connection.execute(sa.text("SELECT 1"))

    def _metrics(self, *, named: bool) -> Response:
        # Imported here, as the server must start in under a second.
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

        registry: CollectorRegistry = CollectorRegistry(auto_describe=False)
        registry.register(Collector(self, named=named))
        return Response(generate_latest(registry), headers={"content-type": CONTENT_TYPE_LATEST})


def _json(data: dict[str, Any], status: int) -> Response:
    return Response(json.dumps(data) + "\n", status, media_type="application/json")


class Collector:
    """Turns counts into metrics when they are asked for, so that counting costs nothing more.

    :param health: what knows the counts.
    :param named: tell names of endpoints.
    """

    def __init__(self, health: Health, *, named: bool) -> None:
        self._health = health
        self._named = named

    def _drift(self) -> Metric:
        from prometheus_client.core import GaugeMetricFamily

        family = GaugeMetricFamily(
            "azureml_classic_drift_psi",
            "Largest population stability index of the features that are asked; the largest ones only.",
            labels=["service", "endpoint"],
        )
        for service, one in self._health.drift.largest(_NAMED_DRIFT) if self._named else ():
            family.add_metric([service, one.name], one.psi)
        return family

    def _freshness(self) -> Metric:
        from prometheus_client.core import GaugeMetricFamily

        counts = sum(self._health.queries.counts(datetime.now(UTC)).values(), Counts())
        family = GaugeMetricFamily(
            "azureml_classic_models",
            "Endpoints, without default ones, by the age of their models, beside the limit of endpoint or web service.",
            labels=["freshness"],
        )
        for state, count in ((FRESH, counts.fresh), (STALE, counts.stale), (UNKNOWN, counts.unknown)):
            family.add_metric([state], count)
        return family

    def _broken(self) -> int:
        return len(self._health.models.broken(self._health.in_place()))

    def collect(self) -> Iterator[Metric]:
        """All metrics."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        requests = CounterMetricFamily("azureml_classic_requests", "Answered requests.", labels=["route", "status"])
        seconds = HistogramMetricFamily(
            "azureml_classic_request_seconds", "Seconds until a request was answered.", labels=["route"]
        )
        for name, route in list(self._health.traffic.routes.items()):
            for status, count in list(route.statuses.items()):
                requests.add_metric([name, str(status)], count)
            seconds.add_metric([name], _cumulated(route.classes), route.seconds)
        yield requests
        yield seconds
        jobs = GaugeMetricFamily("azureml_classic_jobs", "Jobs by state.", labels=["state"])
        counts = self._health.job_queries.job_counts()
        for state in JobStatus:
            jobs.add_metric([state.value], counts.get(state.value, 0))
        yield jobs
        gauges: dict[str, tuple[str, Any]] = {
            "endpoints": ("Endpoints.", self._health.queries.endpoint_count()),
            "broken_models": ("Models in place whose file is missing or damaged.", self._broken()),
            "loaded_models": ("Models in memory.", self._health.models.loaded),
            "loaded_models_bytes": ("Bytes that they take, about.", self._health.models.loaded_bytes),
            "training_slots": ("Jobs that may run at a time.", self._health.settings.workers),
            "training_slots_used": ("Jobs that run now.", counts.get(JobStatus.RUNNING.value, 0)),
        }
        cells = CounterMetricFamily(
            "azureml_classic_unusual_cells", "Cells that the model did not see in its training.", labels=["kind"]
        )
        rows, unknown, outside = self._health.intake.unusual
        cells.add_metric(["unknown category"], unknown)
        cells.add_metric(["outside trained range"], outside)
        yield cells
        yield self._drift()
        yield self._freshness()
        yield CounterMetricFamily(
            "azureml_classic_counted_rows", "Rows of scoring calls whose cells were counted.", value=rows
        )
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(f"azureml_classic_{name}", text, value=value)


def _cumulated(classes: list[int]) -> list[tuple[str, float]]:
    total, sums = 0, []
    for bound, count in zip((*map(str, BOUNDS), "+Inf"), list(classes), strict=True):
        total += count
        sums.append((bound, float(total)))
    return sums
