"""Pages: all jobs; one job with its progress, input, metrics, log and outputs."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from starlette.background import BackgroundTask
from starlette.responses import FileResponse, Response

from airflow_provider_azureml_classic.exceptions import rejection
from airflow_provider_azureml_classic.protocol.jobs import JobStatus
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.server.portal.chart import ordered
from airflow_provider_azureml_classic.server.portal.visit import Go, Page, Visit
from airflow_provider_azureml_classic.server.state.job_overview import JobLine
from airflow_provider_azureml_classic.server.state.overview import LINES, ModelLine

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
    job, target = visit.core.jobs.facts(line.id), _target(visit, line)
    # How long the jobs of others take is nothing that a customer is told.
    typical = None if visit.customer else visit.core.job_queries.typical_seconds(line.service_id)
    places = {name: BlobReference.from_wire(place).location for name, place in (job.results or {}).items()}
    values = {
        "job": line,
        "inputs": {name: place.location for name, place in job.request.inputs.items()},
        "outputs": places,
        "typical": typical,
        "progress": _progress(visit, line, typical),
        "metrics": [(name, line.metrics[name]) for name in ordered(line.metrics)],
        "used": _used(visit, line),
        "target": target,
        "live": _live(visit, target),
        "choices": _choices(visit, line, target),
        "log": [f"{entry.time:%Y-%m-%d %H:%M:%S}  {entry.text}" for entry in visit.core.jobs.lines(line.id)],
    }
    return Page("job", values)


def job_of(visit: Visit, job_id: str) -> JobLine | None:
    """A job that somebody may see; ``None`` if it is not there, or another customer's.

    :param visit: who asks.
    :param job_id: the job.
    """
    line = visit.core.job_queries.job(job_id)
    if visit.customer is None or line is None:
        return line
    own = {row.id for row in (visit.customer.training, visit.customer.scoring) if row}
    return line if line.endpoint_id in own else None


def _used(visit: Visit, line: JobLine) -> list[tuple[str, str, bool]]:
    """Where the model is or was live: of other customers, who may have an equal one, nothing is said."""
    used = visit.core.queries.used_by(line.digest) if line.digest else []
    scoring = visit.customer and visit.customer.scoring
    own = scoring and (scoring.service_id, scoring.name)
    return [one for one in used if not visit.customer or one[:2] == own]


def _live(visit: Visit, target: dict[str, Any] | None) -> ModelLine | None:
    """The live model of the endpoint that the job's is for."""
    if target is None:
        return None
    return next((model for model in visit.core.queries.history(target["row"].id) if model.live), None)


def _line(visit: Visit) -> JobLine:
    line = job_of(visit, visit.segments["job"])
    if line is None:
        raise rejection("JobNotFound", f"There is no job {visit.segments['job']!r}.", target=visit.segments["job"])
    return line


def _progress(visit: Visit, line: JobLine, typical: float | None) -> int | None:
    """Percent, as far as earlier jobs tell; ``None`` if nothing is known."""
    if line.status is not JobStatus.RUNNING or not typical or line.start_time is None:
        return None
    return min(95, int(100 * (visit.now - line.start_time).total_seconds() / typical))


def _choices(visit: Visit, line: JobLine, target: dict[str, Any] | None) -> list[str] | None:
    """Endpoints in which a model may be put that is for none of them; ``None``: this is none to be put anywhere."""
    if visit.customer or target or not line.training or line.status is not JobStatus.FINISHED or not line.digest:
        return None
    scoring = visit.core.queries.scoring_service(line.service_id)
    return visit.core.queries.names(scoring, LINES) if scoring else None


def place(visit: Visit) -> Go:
    """Ask about the model of a job and the endpoint that was typed."""
    line, name = _line(visit), visit.query.get("endpoint", "").strip()
    scoring = visit.core.queries.scoring_endpoint(line.service_id, name)
    if scoring is None:
        return Go(visit.job_at(line.id), f"The experiment has no scoring endpoint {name!r}.", "bad")
    service, row = visit.core.workspace.endpoint(visit.caller, scoring, name)
    return Go(visit.at(service, row, "ask", "use", number=line.id))


def _target(visit: Visit, line: JobLine) -> dict[str, Any] | None:
    """The endpoint that the model is for, if there is one."""
    if not line.training or not line.for_endpoint:
        return None
    if visit.customer and line.for_endpoint != visit.customer.name:
        return None
    found = visit.core.queries.scoring_endpoint(line.service_id, line.for_endpoint)
    if found is None:
        return None
    service, row = visit.core.workspace.endpoint(visit.caller, found, line.for_endpoint)
    return {"row": row, "name": row.name, "at": partial(visit.at, service, row)}


def cancel(visit: Visit) -> Go:
    """Cancel a job."""
    line = _line(visit)
    _, endpoint = visit.core.workspace.endpoint(visit.caller, line.service_id, line.endpoint_id)
    visit.core.jobs.cancel(endpoint, line.id)
    return Go(visit.job_at(line.id), "The job is cancelled.")


def output(visit: Visit) -> Response:
    """Download an output of a finished job."""
    place = visit.core.jobs.output(_line(visit).id, visit.segments["name"])
    if place is None:
        raise rejection("JobNotFound", "This job has no such output.", target=visit.segments["name"])
    with tempfile.NamedTemporaryFile(delete=False) as file:
        path = Path(file.name)
    try:
        visit.core.locations.resolve(visit.caller.scope, place).fetch(path)
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
    ("/jobs/{job}/place", "GET", place),
    ("/jobs/{job}/cancel", "POST", cancel),
    ("/jobs/{job}/outputs/{name}", "GET", output),
)
