"""Pages: a new model for an endpoint. Upload, see how the columns are understood, train."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.references import INPUT_EXTENSIONS, BlobReference
from airflow_provider_azureml_classic.protocol.values import DEFAULT_ENDPOINT
from airflow_provider_azureml_classic.server.portal import endpoint
from airflow_provider_azureml_classic.server.portal.services import UPLOADS, stored, submitted, uploaded_file
from airflow_provider_azureml_classic.server.portal.visit import OWNER, Go, Page, Visit
from airflow_provider_azureml_classic.server.state.tables import EndpointRow, ServiceRow
from airflow_provider_azureml_classic.server.storage.scope import Scope

#: Largest file, in bytes, whose columns are shown before a job reads it.
MAX_SHOWN = 8 << 20


def previewed(visit: Visit, trainer: EndpointRow, place: BlobReference) -> dict[str, Any]:
    """What a file is taken for, for its page.

    :param visit: who looks.
    :param trainer: the endpoint that is to train on it.
    :param place: the file.
    """
    name = place.relative_location.rpartition("/")[2]
    extension = next((one for one in INPUT_EXTENSIONS if name.lower().endswith(one)), "")
    understood, unreadable = None, ""
    scope, locations = Scope(trainer.customer), visit.core.locations
    length = locations.length(scope, place.relative_location)
    if length <= MAX_SHOWN:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"data{extension}"
            locations.resolve(scope, place).fetch(path)
            try:
                understood = visit.core.describer.understood(trainer, path)
            except AzureMLClassicError as problem:
                unreadable = problem.message
    return {
        "file": name,
        "length": length,
        "understood": understood,
        "unreadable": unreadable,
        "too_large": length > MAX_SHOWN,
    }


def upload(visit: Visit) -> Page | Go:
    """Store a file to train an endpoint's next model on."""
    service, row = visit.endpoint()
    trainer = _trainer(visit, service, row)
    try:
        with uploaded_file(visit) as (path, name):
            place = stored(visit, trainer, path, name)
    except AzureMLClassicError as error:
        return endpoint.page(visit, service, row, error=error, failed_form="train")
    return Go(visit.at(service, row, "train", file=place.relative_location))


def preview(visit: Visit) -> Page | Go:
    """The file: what its columns are taken for, and the form that trains on it."""
    if not visit.query.get("file"):
        return Go(f"{visit.at(*visit.endpoint())}#train")
    return _preview(visit, visit.query["file"])


def _preview(visit: Visit, file: str, error: AzureMLClassicError | None = None) -> Page:
    service, row = visit.endpoint()
    trainer = _trainer(visit, service, row)
    values = previewed(visit, trainer, _checked(trainer, file))
    back = visit.at(service, row)
    crumbs = [("Experiments", visit.path("services")), (service.name, visit.path("services", service.id))]
    values |= {"error": error, "trained_for": row.name, "target": row.name, "fields": {"file": file}, "back": back}
    values |= {"crumbs_before": [*crumbs, (row.name, back)], "train_at": visit.at(service, row, "train", "start")}
    return Page("file", {**values, "delete_at": ""}, error.status or 400 if error else 200)


def start(visit: Visit) -> Page | Go:
    """Start the training."""
    service, row = visit.endpoint()
    trainer = _trainer(visit, service, row)
    try:
        job_id = submitted(visit, trainer, _checked(trainer, visit.text("file")), row.name)
    except AzureMLClassicError as error:
        return _preview(visit, visit.text("file"), error)
    return Go(visit.job_at(job_id))


def _checked(trainer: EndpointRow, file: str) -> BlobReference:
    """A file that was uploaded for this, and no other of the store."""
    if not file.startswith(f"{Scope(trainer.customer).folder or UPLOADS}/"):
        raise rejection("BlobNotFound", "Choose the file again: this is none that was uploaded here.", target="file")
    return BlobReference(file)


def _trainer(visit: Visit, service: ServiceRow, row: EndpointRow) -> EndpointRow:
    """The endpoint that trains: where customers are kept apart, that of the same name."""
    training = visit.core.queries.training_service(service.experiment)
    if service.training or training is None:
        raise rejection("WebServiceNotFound", "There is no web service that trains models for this endpoint.")
    name = row.name if service.isolated else DEFAULT_ENDPOINT
    return visit.core.workspace.endpoint(OWNER, training, name)[1]


_ONE = "/services/{service}/endpoints/{endpoint}/train"
ROUTES = (
    (_ONE, "GET", preview),
    (_ONE, "POST", upload),
    (f"{_ONE}/start", "POST", start),
)
