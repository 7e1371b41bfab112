"""How web services, endpoints and jobs are shown: plain members, no secret unless it was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from airflow_provider_azureml_classic.protocol.jobs import Job
from airflow_provider_azureml_classic.protocol.moments import age_text
from airflow_provider_azureml_classic.protocol.values import Endpoint, WebService
from airflow_provider_azureml_classic.retraining.quality import METRICS

SERVICE_COLUMNS = ("name", "id", "endpoints", "created")
JOB_COLUMNS = ("id", "status", "created", "seconds", "progress")
ENDPOINT_COLUMNS = ("name", "age", "stale", "trained_to", "metric", "job", "throttle_level", "version")


def service_view(service: WebService) -> dict[str, Any]:
    """A web service.

    :param service: as listed.
    """
    return {
        "name": service.name,
        "id": service.id,
        "description": service.description,
        "endpoints": service.endpoint_count,
        "default_endpoint": service.default_endpoint_name,
        "created": service.creation_time,
    }


def metric_text(metrics: Mapping[str, float]) -> str | None:
    """The metric that says most of a model: of those that can be compared, else any.

    :param metrics: of the model.
    """
    name = next((name for name in METRICS if name in metrics), next(iter(metrics), None))
    return f"{name} {metrics[name]:.6g}" if name else None


def endpoint_view(endpoint: Endpoint, *, keys: bool = False) -> dict[str, Any]:
    """An endpoint.

    :param endpoint: as read.
    :param keys: show its keys too.
    """
    located = {r.name: r.location.location if r.location else None for r in endpoint.resources}
    ends = [r.data_end for r in endpoint.resources]
    # An endpoint is as new as the oldest of its models.
    trained_to = min((end for end in ends if end), default=None) if all(ends) else None
    age, limit = datetime.now(UTC) - trained_to if trained_to else None, endpoint.stale_after
    view = {
        "name": endpoint.name,
        "description": endpoint.description,
        "created": endpoint.creation_time,
        "throttle_level": endpoint.throttle_level,
        "max_concurrent_calls": endpoint.max_concurrent_calls,
        "trace_level": endpoint.diagnostics_trace_level,
        "prevent_update": endpoint.prevent_update,
        "sample_data": endpoint.sample_data_enabled,
        "models": located,
        "trained_to": trained_to,
        "age": age_text(age) if age else None,
        "stale_after": age_text(limit) if limit else None,
        "stale": age > limit if age and limit else None,
        "digests": {r.name: r.digests.to_json() for r in endpoint.resources if r.digests},
        "version": endpoint.version,
        "api": endpoint.api_location,
        "help": endpoint.help_location,
    }
    if keys:
        view |= {"primary_key": endpoint.primary_key, "secondary_key": endpoint.secondary_key}
    return view


def job_view(job: Job) -> dict[str, Any]:
    """A batch job; its results without their tokens.

    :param job: as read.
    """
    seconds = (job.end_time - job.start_time).total_seconds() if job.start_time and job.end_time else None
    return {
        "id": job.id,
        "status": job.status.value,
        "details": job.details,
        "progress": job.progress,
        "results": {name: place.location for name, place in job.results.items()},
        "model": job.model.to_json() if job.model else None,
        "created": job.created_at,
        "started": job.start_time,
        "ended": job.end_time,
        "seconds": seconds,
    }
