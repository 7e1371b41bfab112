"""The pages of a customer who is kept apart: his model, files, jobs and keys, and nothing of anybody else.

Rule: each route names the operation of the API that does the same, and is open to the keys that open that operation.
All is asked for with the customer's own rights; what another has is not found, as what is not there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from starlette.responses import Response

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol import operations as ops
from airflow_provider_azureml_classic.protocol.references import INPUT_EXTENSIONS, BlobReference
from airflow_provider_azureml_classic.server.blobs.names import OUTPUT_CONTAINER
from airflow_provider_azureml_classic.server.portal import endpoint, jobs
from airflow_provider_azureml_classic.server.portal.retrain import previewed
from airflow_provider_azureml_classic.server.portal.score_file import scores
from airflow_provider_azureml_classic.server.portal.services import submitted, uploaded_file
from airflow_provider_azureml_classic.server.portal.visit import Go, Page, Visit
from airflow_provider_azureml_classic.server.state.tables import EndpointRow
from airflow_provider_azureml_classic.server.workspace.customers import Customer

#: Files on the page.
_FILES = 50


def home(visit: Visit) -> Page:
    """The customer's model, and what his key opens besides."""
    return _home(visit)


def _home(visit: Visit, error: AzureMLClassicError | None = None, form: str = "", **more: Any) -> Page:
    customer, (service, row) = _who(visit), visit.endpoint()
    values = {**endpoint.values_of(visit, service, row), "answer": None, "customer": customer}
    values |= {"error": error, "failed_form": form, "files": [], "more_files": 0}
    if visit.may(ops.LIST_FILES.name):
        files = sorted(file for file in visit.core.customers.files(customer) if _is_data(file[0]))
        values |= {"files": files[:_FILES], "more_files": max(0, len(files) - _FILES)}
    if visit.may(ops.LIST_JOBS.name) and customer.training:
        values["jobs"] = visit.core.job_queries.jobs(endpoint_id=customer.training.id)[0]
    return Page("customer", {**values, **more}, error.status or 400 if error else 200)


def _is_data(name: str) -> bool:
    """Whether a file is one to train on, and none that a job wrote."""
    return name.lower().endswith(INPUT_EXTENSIONS) and not name.startswith(f"{OUTPUT_CONTAINER}/")


def scored(visit: Visit) -> Page:
    """Score the row that was typed."""
    answered = endpoint.score(visit)
    return replace(
        _home(visit, answer=answered.values["answer"], fields=answered.values["fields"]), status=answered.status
    )


def score_file(visit: Visit) -> Page | Response:
    """Score the rows of a file."""
    try:
        return scores(visit)
    except AzureMLClassicError as error:
        return _home(visit, error, "score-file")


def _who(visit: Visit) -> Customer:
    if visit.customer is None:
        raise rejection("PageNotFound", "This page is a customer's.")
    return visit.customer


def _training(visit: Visit) -> EndpointRow:
    row = _who(visit).training
    if row is None:
        raise rejection("EndpointNotFound", "Your training endpoint was deleted: ask the owner of the service.")
    return row


# -- files -------------------------------------------------------------------------------------------------------------


def upload(visit: Visit) -> Page | Go:
    """Keep a file, and show how it is understood."""
    try:
        with uploaded_file(visit) as (path, name):
            visit.core.customers.store(_who(visit), name, path)
    except AzureMLClassicError as error:
        return _home(visit, error, "file")
    return Go(visit.path("customer", "files", name), f"{name} is kept.")


def one_file(visit: Visit) -> Page:
    """A file: what its columns are taken for, and the form that trains on it."""
    return _file(visit)


def _file(visit: Visit, error: AzureMLClassicError | None = None) -> Page:
    customer, name = _who(visit), visit.segments["file"]
    if name not in dict(visit.core.customers.files(customer)):
        raise rejection("BlobNotFound", f"There is no file {name!r}.", target=name)
    values = previewed(visit, _training(visit), BlobReference(f"{customer.folder}/{name}"))
    values |= {"error": error, "trained_for": "", "fields": {}, "target": customer.name}
    values |= {"crumbs_before": [("Your model", visit.home)], "back": visit.home}
    values |= {f"{what}_at": visit.path("customer", "files", name, what) for what in ("train", "delete")}
    return Page("file", values, error.status or 400 if error else 200)


def train(visit: Visit) -> Page | Go:
    """Start a training on a file."""
    customer = _who(visit)
    place = BlobReference(f"{customer.folder}/{visit.segments['file']}")
    try:
        job_id = submitted(visit, _training(visit), place, customer.name)
    except AzureMLClassicError as error:
        return _file(visit, error)
    return Go(visit.job_at(job_id))


def delete_file(visit: Visit) -> Go:
    """Remove a file."""
    visit.core.customers.delete(_who(visit), visit.segments["file"])
    return Go(visit.home, f"{visit.segments['file']} is removed.")


# -- keys --------------------------------------------------------------------------------------------------------------


def make_key(visit: Visit) -> Page:
    """Make a named key, and show it this once."""
    _, row = visit.endpoint()
    try:
        made = endpoint.new_key(visit, row)
    except AzureMLClassicError as error:
        return _home(visit, error, "key")
    return _home(visit, made=made)


_HOME, _FILE, _JOB = "/customer", "/customer/files/{file:path}", "/customer/jobs/{job}"
#: Path, method, view, and the operation that a key must open.
ROUTES = (
    (_HOME, "GET", home, ops.SCORE),
    (f"{_HOME}/score", "GET", home, ops.SCORE),
    (f"{_HOME}/score", "POST", scored, ops.SCORE),
    (f"{_HOME}/score-file", "POST", score_file, ops.SCORE),
    (f"{_HOME}/ask/{{what}}", "GET", endpoint.ask, ops.SCORE),
    (f"{_HOME}/do/{{what}}", "POST", endpoint.do, ops.SCORE),
    (f"{_HOME}/files", "POST", upload, ops.WRITE_FILE),
    (f"{_FILE}/train", "POST", train, ops.SUBMIT_JOB),
    (f"{_FILE}/delete", "POST", delete_file, ops.DELETE_FILE),
    (_FILE, "GET", one_file, ops.LIST_FILES),
    (_JOB, "GET", jobs.one_job, ops.GET_JOB),
    (f"{_JOB}/cancel", "POST", jobs.cancel, ops.CANCEL_JOB),
    (f"{_JOB}/outputs/{{name}}", "GET", jobs.output, ops.GET_JOB),
    (f"{_HOME}/named-keys", "POST", make_key, ops.MAKE_KEY),
    (f"{_HOME}/named-keys/revoke", "POST", endpoint.revoke_key, ops.REVOKE_KEY),
)
