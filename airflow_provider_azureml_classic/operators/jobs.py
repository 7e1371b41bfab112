"""Jobs that somebody else submitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_azureml_classic.exceptions import NotFound
from airflow_provider_azureml_classic.operators.base import DEFAULT_ENDPOINT, AzureMLClassicOperator, airflow_errors
from airflow_provider_azureml_classic.protocol.jobs import JobStatus
from airflow_provider_azureml_classic.retraining.jobs import JobTicket

if TYPE_CHECKING:
    from airflow.sdk import Context


class CancelJobOperator(AzureMLClassicOperator):
    """Cancels a batch job. One that has ended stays as it is.

    Returns a dict: ``web_service``, ``endpoint``, ``job_id``, ``outcome`` (``cancelled``; ``ended``, if it had done so
    before; or ``missing``) and ``status``, the job's state as it is now.

    :param job: what ``BatchExecutionOperator(wait_for_completion=False)`` returned. (templated)
    :param job_id: instead of ``job``, the job's id. (templated)
    :param web_service: name or id of the web service that runs it, with ``job_id``. (templated)
    :param endpoint: the endpoint that it was submitted to, with ``job_id``. (templated)
    :param missing_ok: a job that does not exist counts as cancelled; ``False`` fails the task.
    :param azureml_classic_conn_id: connection of type ``azureml_classic``. (templated)
    """

    template_fields: Sequence[str] = ("azureml_classic_conn_id", "job", "job_id", "web_service", "endpoint")
    template_fields_renderers = {"job": "json"}  # noqa: RUF012
    ui_color = "#fee2e2"

    def __init__(
        self,
        *,
        job: Mapping[str, Any] | None = None,
        job_id: str | None = None,
        web_service: str | None = None,
        endpoint: str = DEFAULT_ENDPOINT,
        missing_ok: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job = job
        self.job_id = job_id
        self.web_service = web_service
        self.endpoint = endpoint
        self.missing_ok = missing_ok

    def execute(self, context: Context) -> dict[str, Any]:
        """Cancel the job, if it has not ended."""
        with airflow_errors():
            ticket = JobTicket.of(self.job, self.job_id, self.web_service, self.endpoint)
            service = self.hook.client.find_web_service(ticket.web_service)
            try:
                outcome, status = self._cancel(service.id, ticket)
            except NotFound:
                if not self.missing_ok:
                    raise
                outcome, status = "missing", None
        self.log.info("Job %s of %r: %s.", ticket.job_id, service.name, outcome)
        return {**ticket.to_json(), "outcome": outcome, "status": status.value if status else None}

    def _cancel(self, service_id: str, ticket: JobTicket) -> tuple[str, JobStatus]:
        client = self.hook.client
        endpoint = client.get_endpoint(service_id, ticket.endpoint)
        status = client.get_job(endpoint, ticket.job_id).status
        if not status.terminal:
            client.cancel_job(endpoint, ticket.job_id)
            status = client.get_job(endpoint, ticket.job_id).status
            # It may have ended by itself in between.
            return ("ended" if status in (JobStatus.FINISHED, JobStatus.FAILED) else "cancelled"), status
        return "ended", status
