"""The models that jobs have trained for an endpoint, by what the service lists of its jobs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from airflow_provider_azureml_classic.client.retries import Program
from airflow_provider_azureml_classic.client.verbs import Verbs
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError
from airflow_provider_azureml_classic.protocol.job_history import JobPage
from airflow_provider_azureml_classic.protocol.jobs import Job, JobStatus
from airflow_provider_azureml_classic.protocol.references import MODEL_EXTENSION, BlobReference, window_end_of
from airflow_provider_azureml_classic.protocol.values import Endpoint

#: Jobs of a page, and pages that are looked at.
_PAGE, _PAGES = 50, 4


@dataclass(frozen=True)
class TrainedModel:
    """A model that a job wrote.

    :param location: of its file.
    :param job_id: of the job.
    :param sha256: of its file, if the service tells it.
    """

    location: BlobReference
    job_id: str
    sha256: str | None = None

    @property
    def window_end(self) -> datetime | None:
        """End of its training window, as its path says."""
        return window_end_of(self.location)


def trained_models(client: Verbs, trainer: Endpoint, endpoint: str, most: int) -> Program[list[TrainedModel]]:
    """The last models of an endpoint, newest first: those of finished jobs whose path names the endpoint, as the paths
    do that operators and command line give.

    :param client: of the workspace.
    :param trainer: endpoint of the training web service.
    :param endpoint: name of the scoring endpoint.
    :param most: how many are wanted.
    :raises RequestRejected: ``OperationNotSupported``: the service does not list jobs.
    """
    found: list[TrainedModel] = []
    before: str | None = None
    for _ in range(_PAGES):
        page: JobPage = yield Verbs.list_jobs.steps(client, trainer, limit=_PAGE, before=before)
        for one in page.jobs:
            if len(found) >= most:
                return found
            if one.status is JobStatus.FINISHED:
                job: Job = yield Verbs.get_job.steps(client, trainer, one.id)
                found += _of(job, endpoint)
        before = page.next
        if before is None:
            break
    return found


def _of(job: Job, endpoint: str) -> list[TrainedModel]:
    try:
        _, location = job.output(extension=MODEL_EXTENSION)
    except AzureMLClassicError:
        return []  # a job that wrote no model, or several
    if endpoint not in location.relative_location.split("/")[:-1]:
        return []
    return [TrainedModel(location, job.id, job.model.file if job.model else None)]
