"""Pages: all web services; one web service with its endpoints, or with its jobs if it trains."""

from __future__ import annotations

import re
import tempfile
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from unicodedata import combining, normalize

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.jobs import JobRequest
from airflow_provider_azureml_classic.protocol.moments import to_utc
from airflow_provider_azureml_classic.protocol.purpose import Purpose
from airflow_provider_azureml_classic.protocol.references import (
    CSV_EXTENSION,
    INPUT_EXTENSIONS,
    MODEL_EXTENSION,
    STAMP,
    BlobReference,
)
from airflow_provider_azureml_classic.protocol.values import (
    DEFAULT_ENDPOINT,
    HIGH_CONCURRENCY,
    LOW_CONCURRENCY,
    MAX_CONCURRENCY,
    EndpointSettings,
    ThrottleLevel,
    TraceLevel,
    check_endpoint_name,
)
from airflow_provider_azureml_classic.server.portal.visit import OWNER, Go, Page, Visit
from airflow_provider_azureml_classic.server.state.overview import LINES, SORTS, Counts
from airflow_provider_azureml_classic.server.state.tables import EndpointRow, ServiceRow
from airflow_provider_azureml_classic.server.storage.locations import WRITE
from airflow_provider_azureml_classic.server.storage.scope import Scope
from airflow_provider_azureml_classic.tables.dates import parse_time

#: Container of the files that were uploaded in the portal.
UPLOADS = "uploads"
_MAX_HOURS = 24 * 3660
#: Throttle levels in the order of the form: that of the cloud's portal began with ``High``, a call without one means
#: ``Low``.
LEVELS = (ThrottleLevel.HIGH.value, ThrottleLevel.LOW.value)


@dataclass(frozen=True)
class ExperimentLine:
    """An experiment on the first page.

    :param name: of the experiment.
    :param scoring: its web service that scores; ``None``: it was deleted.
    :param training: its web service that trains; likewise.
    :param counts: of the endpoints that score.
    :param retrained_at: when a model was last put in place, or a training ended.
    :param under_way: jobs that run or wait.
    :param calls: scoring calls that were answered today.
    """

    name: str
    scoring: ServiceRow | None
    training: ServiceRow | None
    counts: Counts
    retrained_at: datetime | None
    under_way: int
    calls: int


def all_services(visit: Visit) -> Page:
    """A line for each experiment, and the endpoints that need attention."""
    core = visit.core
    counts, attention = core.queries.state(visit.now)
    lines = _experiments(visit, counts)
    values = {
        # In the order of the server, those that need attention first.
        "lines": sorted(lines, key=lambda line: (-line.counts.failed, -line.counts.stale)),
        "attention": attention,
        "failures": core.job_queries.failures([line.id for line in attention if line.failed]),
        "names": {line.scoring.id: line.name for line in lines if line.scoring},
        "total": sum((line.counts for line in lines), Counts()),
    }
    return Page("services", values)


def _experiments(visit: Visit, counts: Mapping[str, Counts]) -> list[ExperimentLine]:
    core, pairs = visit.core, defaultdict[str, dict[bool, ServiceRow]](dict)
    for service in core.workspace.services():
        row = core.workspace.service_row(service.id)
        pairs[row.experiment][row.training] = row
    activity = core.queries.service_lines()
    calls = core.queries.calls_on(visit.now.toordinal())
    lines = []
    for name, pair in pairs.items():
        of = [activity[row.id] for row in pair.values() if row.id in activity]
        scoring = pair.get(False)
        lines.append(
            ExperimentLine(
                name,
                scoring,
                pair.get(True),
                counts.get(scoring.id, Counts()) if scoring else Counts(),
                max((line.retrained_at for line in of if line.retrained_at), default=None),
                sum(line.under_way for line in of),
                calls.get(scoring.id, 0) if scoring else 0,
            )
        )
    return lines


def one_service(visit: Visit) -> Page:
    """One web service."""
    return _service_page(visit, visit.service())


def _service_page(visit: Visit, service: ServiceRow, error: AzureMLClassicError | None = None, form: str = "") -> Page:
    """The page, with the error of one of its forms and what was typed into it."""
    typed = {name: value for name, value in visit.form.items() if isinstance(value, str)}
    values = {"service": service, "error": error, "failed": form, "typed": typed}
    values |= _training(visit, service) if service.training else _scoring(visit, service)
    return Page("training" if service.training else "service", values, error.status or 400 if error else 200)


def _scoring(visit: Visit, service: ServiceRow) -> dict[str, Any]:
    queries, query = visit.core.queries, visit.query
    hours = queries.fresh_hours(service.id)
    sort = query.get("sort", "")
    asked: dict[str, Any] = {
        "search": query.get("q", "").strip()[:100],
        "state": query.get("state", ""),
        "sort": sort if sort in SORTS else SORTS[0],
        "down": query.get("down") == "1",
    }
    lines, count = queries.endpoints(service.id, now=visit.now, page=visit.page_number(), **asked)
    return {
        "lines": lines,
        "asked": asked,
        "found": count,
        "page": visit.page_number(),
        "pages": max(1, -(-count // LINES)),
        "counts": queries.counts(visit.now, service.id).get(service.id, Counts()),
        "default": DEFAULT_ENDPOINT,
        "hours": hours,
        "rates": visit.core.traffic.per_minute(line.id for line in lines),
        "levels": LEVELS,
        "traces": [level.value for level in TraceLevel],
        "concurrency": (LOW_CONCURRENCY, HIGH_CONCURRENCY, MAX_CONCURRENCY),
    }


def _training(visit: Visit, service: ServiceRow) -> dict[str, Any]:
    queries = visit.core.job_queries
    lines, count = queries.jobs(service_id=service.id, page=visit.page_number())
    workspace = visit.core.workspace
    _, default = workspace.endpoint(OWNER, service.id, "default")
    facts = visit.core.describer.managed(visit.core.settings.workspace_id, service.id, default.id)
    other = [row for row in workspace.services() if row.id != service.id]
    rows = [workspace.service_row(row.id) for row in other]
    return {
        "jobs": lines,
        "found": count,
        "page": visit.page_number(),
        "pages": max(1, -(-count // LINES)),
        "facts": facts,
        "typical": queries.typical_seconds(service.id),
        "scoring": next((row for row in rows if row.experiment == service.experiment), None),
    }


def add_endpoint(visit: Visit) -> Page | Go:
    """Add an endpoint."""
    service = visit.service()
    try:
        name = check_endpoint_name(visit.text("name"))
        settings = EndpointSettings(
            description=visit.text("description") or None,
            throttle_level=ThrottleLevel(visit.text("throttle") or LEVELS[0]),
            max_concurrent_calls=visit.number("concurrency"),
            sample_data_enabled=bool(visit.text("sample_data")),
            diagnostics_trace_level=TraceLevel(visit.text("trace") or TraceLevel.NONE.value),
        )
        # A PUT of a name that is taken changes that endpoint; somebody who fills in this form wants a new one.
        if visit.core.queries.has_endpoint(service.id, name):
            raise rejection("BadParameterValue", f"There is an endpoint {name!r} already.", target="endpoint")
        visit.core.workspace.add_endpoint(OWNER, service.id, name, settings)
    except ValueError:
        error = rejection("BadParameterValue", "Choose one of the levels offered.")
        return _service_page(visit, service, error, "add")
    except AzureMLClassicError as error:
        return _service_page(visit, service, error, "add")
    return Go(visit.path("services", service.id, "endpoints", name), f"Endpoint {name} is added.")


def set_limit(visit: Visit) -> Page | Go:
    """Set after how long the models of a web service count as stale."""
    service = visit.service()
    try:
        amount, unit = visit.number("amount") or 0, 24 if visit.text("unit") == "days" else 1
        if not 1 <= amount * unit <= _MAX_HOURS:
            raise rejection("BadParameterValue", "The limit must be at least one hour and at most ten years.")
    except AzureMLClassicError as error:
        return _service_page(visit, service, error, "limit")
    visit.core.queries.set_fresh_hours(service.id, amount * unit)
    return Go(visit.path("services", service.id), "The freshness limit is set.")


def submit_job(visit: Visit) -> Page | Go:
    """Start a job with an uploaded file."""
    service = visit.service()
    try:
        # Where customers are kept apart, a job reaches the folder of its endpoint's customer only.
        name = (visit.text("for_endpoint") if service.isolated else "") or DEFAULT_ENDPOINT
        _, endpoint = visit.core.workspace.endpoint(OWNER, service.id, name)
        job_id = _uploaded(visit, endpoint)
    except AzureMLClassicError as error:
        return _service_page(visit, service, error, "job")
    return Go(visit.path("jobs", job_id))


def _uploaded(visit: Visit, endpoint: EndpointRow) -> str:
    scope, name = Scope(endpoint.customer), visit.text("for_endpoint")
    # Before a file is stored: what was typed is right.
    outputs_of(visit, scope, "", name)
    with uploaded_file(visit) as (path, file):
        place = stored(visit, endpoint, path, file)
    return submitted(visit, endpoint, place, name)


def stored(visit: Visit, endpoint: EndpointRow, path: Path, file: str) -> BlobReference:
    """Put an uploaded file into the service's store; where it is.

    :param visit: of the form.
    :param endpoint: that is to train on it.
    :param path: of the file on the disk.
    :param file: a name for it.
    """
    scope = Scope(endpoint.customer)
    if endpoint.customer:
        visit.core.customers.quotas.check_bytes(endpoint.customer, path.stat().st_size)
    place = BlobReference(f"{scope.folder or UPLOADS}/{visit.now:%Y%m%d}/{uuid.uuid4().hex}/{file}")
    visit.core.locations.resolve(scope, place, WRITE).deliver(path)
    return place


@contextmanager
def uploaded_file(visit: Visit) -> Iterator[tuple[Path, str]]:
    """The file that was sent, on the disk, and a name for it.

    :param visit: of the form.
    :raises RequestRejected: there is none, or nothing is in it.
    """
    upload = visit.file("data")
    if upload is None:
        raise rejection(
            "BatchJobInputsNotSpecified",
            "Choose a CSV file with a header row, or a TSV, ARFF or Parquet file.",
            target="data",
        )
    # The name is only for people who look into the store; what a browser calls a file may be anything.
    # Letters keep their base: Jänner is Janner.
    plain = "".join(letter for letter in normalize("NFKD", Path(upload.filename or "").name) if not combining(letter))
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", plain)[-80:].lstrip("._") or "data"
    if not name.lower().endswith(INPUT_EXTENSIONS):
        name += CSV_EXTENSION
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "upload"
        with path.open("wb") as file:
            while chunk := upload.file.read(1 << 20):
                file.write(chunk)
        if not path.stat().st_size:
            raise rejection("BatchJobInputsNotSpecified", "The file is empty.", target="data")
        yield path, name


def submitted(visit: Visit, endpoint: EndpointRow, place: BlobReference, name: str) -> str:
    """Start a job on a file; its id.

    :param visit: who starts it, with what was typed.
    :param endpoint: runs it.
    :param place: the file.
    :param name: the endpoint that the model is for; empty: nobody has said so.
    """
    api = visit.core.describer.called(visit.core.settings.workspace_id, endpoint.id).api
    outputs, purpose = outputs_of(visit, Scope(endpoint.customer), api.output_name, name)
    job_id = visit.core.jobs.submit(endpoint, JobRequest({api.input_name: place}, outputs, purpose=purpose))
    visit.core.jobs.start(endpoint, job_id)
    return job_id


def outputs_of(visit: Visit, scope: Scope, model: str, name: str) -> tuple[dict[str, BlobReference], Purpose | None]:
    """Where the model goes, and what it is for: its endpoint and window, if it is for one.

    :param visit: with what was typed.
    :param scope: of the endpoint that trains.
    :param model: name of the output.
    :param name: the endpoint that it is for, if it is for one.
    """
    until = visit.text("until")
    if not name:
        return {}, None
    parsed = parse_time(until) if until else None
    if until and parsed is None:
        raise rejection("BadParameterValue", f"{until!r} is not a date, such as 2026-01-31.", target="until")
    stamp = f"{to_utc(parsed[0]):{STAMP}}" if parsed else f"portal-{uuid.uuid4().hex[:12]}"
    folder = "/".join(filter(None, (scope.folder, "models", check_endpoint_name(name))))
    path = BlobReference(f"{folder}/{stamp}{MODEL_EXTENSION}")
    return {model: path}, Purpose(name, end=to_utc(parsed[0]) if parsed else None)


_ONE = "/services/{service}"
ROUTES = (
    ("/services", "GET", all_services),
    (_ONE, "GET", one_service),
    (f"{_ONE}/endpoints", "POST", add_endpoint),
    (f"{_ONE}/limit", "POST", set_limit),
    (f"{_ONE}/jobs", "POST", submit_job),
)
