"""How web services, endpoints and jobs are shown: plain members, no secret unless it was asked for."""

from __future__ import annotations

from typing import Any

from airflow_provider_azureml_classic.protocol.jobs import Job
from airflow_provider_azureml_classic.protocol.values import Endpoint, WebService

SERVICE_COLUMNS = ("name", "id", "endpoints", "created")
JOB_COLUMNS = ("id", "status", "created", "seconds", "progress")
ENDPOINT_COLUMNS = ("name", "throttle_level", "max_concurrent_calls", "models", "version")


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


def endpoint_view(endpoint: Endpoint, *, keys: bool = False) -> dict[str, Any]:
    """An endpoint.

    :param endpoint: as read.
    :param keys: show its keys too.
    """
    located = {r.name: r.location.location if r.location else None for r in endpoint.resources}
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
