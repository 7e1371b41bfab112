"""Pages: all jobs; one job with its progress, input, metrics, log and outputs."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from starlette.background import BackgroundTask
from starlette.responses import FileResponse, Response

from airflow_provider_azureml_classic.exceptions import rejection
from airflow_provider_azureml_classic.protocol.jobs import JobStatus
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.server.portal.chart import ordered
from airflow_provider_azureml_classic.server.portal.visit import OWNER, Go, Page, Visit
from airflow_provider_azureml_classic.server.state.job_overview import JobLine
from airflow_provider_azureml_classic.server.state.overview import LINES
from airflow_provider_azureml_classic.server.storage.scope import WHOLE_STORE

#: What the list of jobs can be narrowed to.
GROUPS: dict[str, tuple[JobStatus, ...]] = {
    "under way": (JobStatus.NOT_STARTED, JobStatus.RUNNING),
    "finished": (JobStatus.FINISHED,),
    "failed": (JobStatus.FAILED,),
    "cancelled": (JobStatus.CANCELLED,),
}


def all_jobs(visit: Visit) -> Page:
    """All jobs, newest first."""
    queries = visit.core.job_queries
    group, service = visit.query.get("state", ""), visit.query.get("service", "")
    states = GROUPS.get(group, ())
    lines, count = queries.jobs(states=states, service_id=service, page=visit.page_number())
    values = {
        "jobs": lines,
        "found": count,
        "page": visit.page_number(),
        "pages": max(1, -(-count // LINES)),
        "groups": list(GROUPS),
        "group": group if group in GROUPS else "",
        "services": visit.core.workspace.services(),
        "of": service,
        "under_way": any(not line.status.terminal for line in lines),
    }
    return Page("jobs", values)


def one_job(visit: Visit) -> Page:
    """One job."""
    line = _line(visit)
    job = visit.core.jobs.facts(line.id)
    typical = visit.core.job_queries.typical_seconds(line.service_id)
    places = {name: BlobReference.from_wire(place).location for name, place in (job.results or {}).items()}
    values = {
        "job": line,
        "inputs": {name: place.location for name, place in job.request.inputs.items()},
        "outputs": places,
        "typical": typical,
        "progress": _progress(visit, line, typical),
        "metrics": [(name, line.metrics[name]) for name in ordered(line.metrics)],
        "used": visit.core.queries.used_by(line.digest) if line.digest else [],
        "target": _target(visit, line),
        "log": [f"{entry.time:%Y-%m-%d %H:%M:%S}  {entry.text}" for entry in visit.core.jobs.lines(line.id)],
    }
    return Page("job", values)


def _line(visit: Visit) -> JobLine:
    line = visit.core.job_queries.job(visit.segments["job"])
    if line is None:
        raise rejection("JobNotFound", f"There is no job {visit.segments['job']!r}.", target=visit.segments["job"])
    return line


def _progress(visit: Visit, line: JobLine, typical: float | None) -> int | None:
    """Percent, as far as earlier jobs tell; ``None`` if nothing is known."""
    if line.status is not JobStatus.RUNNING or not typical or line.start_time is None:
        return None
    return min(95, int(100 * (visit.now - line.start_time).total_seconds() / typical))


def _target(visit: Visit, line: JobLine) -> dict[str, Any] | None:
    """The endpoint that the model's path names, if there is one and it may be put in place there."""
    if not line.training or not line.for_endpoint:
        return None
    found = visit.core.queries.scoring_endpoint(line.service_id, line.for_endpoint)
    return {"service": found, "name": line.for_endpoint} if found else None


def cancel(visit: Visit) -> Go:
    """Cancel a job."""
    line = _line(visit)
    _, endpoint = visit.core.workspace.endpoint(OWNER, line.service_id, line.endpoint_id)
    visit.core.jobs.cancel(endpoint, line.id)
    return Go(visit.path("jobs", line.id), "The job is cancelled.")


def output(visit: Visit) -> Response:
    """Download an output of a finished job."""
    place = visit.core.jobs.output(visit.segments["job"], visit.segments["name"])
    if place is None:
        raise rejection("JobNotFound", "This job has no such output.", target=visit.segments["name"])
    with tempfile.NamedTemporaryFile(delete=False) as file:
        path = Path(file.name)
    try:
        visit.core.locations.resolve(WHOLE_STORE, place).fetch(path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    name = place.relative_location.rpartition("/")[2]
    return FileResponse(
        path, filename=name, media_type="application/octet-stream", background=BackgroundTask(path.unlink)
    )


ROUTES = (
    ("/jobs", "GET", all_jobs),
    ("/jobs/{job}", "GET", one_job),
    ("/jobs/{job}/cancel", "POST", cancel),
    ("/jobs/{job}/outputs/{name}", "GET", output),
)
