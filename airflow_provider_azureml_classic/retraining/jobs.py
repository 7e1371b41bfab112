"""Which job is meant: what a task returned, or an id with its endpoint. Pure: no I/O, no Airflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_azureml_classic.protocol.jobs import Job
from airflow_provider_azureml_classic.protocol.references import MODEL_EXTENSION, BlobReference

#: Of a task whose ``job`` or ``receipt`` is empty.
NO_RESULT = (
    "job is empty. If it is an upstream task's output, that task left no result in this run: it was skipped, failed, "
    "or has not run since it was cleared."
)


@dataclass(frozen=True)
class JobTicket:
    """A job, and where it was submitted.

    :param web_service: name or id.
    :param endpoint: name.
    :param job_id: 32 hex digits.
    :param result: all that the submitting task returned about it, such as its training window.
    """

    web_service: str
    endpoint: str
    job_id: str
    result: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, job: Any, job_id: str | None, web_service: str | None, endpoint: str) -> JobTicket:
        """The ticket that an operator's parameters name.

        :param job: what ``BatchExecutionOperator`` returned; or
        :param job_id: the id, with
        :param web_service: name or id, and
        :param endpoint: name.
        :raises ValueError: not exactly one of both forms.
        """
        if (job is None) == (job_id is None) or (job_id is not None and not web_service):
            raise ValueError("Give either job (what BatchExecutionOperator returned), or job_id with web_service.")
        return cls.from_json(job) if job_id is None else cls(str(web_service), endpoint, job_id.strip())

    @classmethod
    def from_json(cls, job: Any) -> JobTicket:
        """The ticket of what ``BatchExecutionOperator`` returned, or :meth:`to_json` made.

        :param job: decoded JSON.
        :raises ValueError: it is something else.
        """
        if job is None or job in ("", "None"):
            raise ValueError(NO_RESULT)
        if not isinstance(job, Mapping) or not {"web_service", "endpoint", "job_id"} <= set(job):
            raise ValueError(f"job must be what BatchExecutionOperator returned, not {type(job).__name__}.")
        return cls(job["web_service"], job["endpoint"], job["job_id"], job)

    def to_json(self) -> dict[str, str]:
        """What :meth:`from_json` reads: ids and names."""
        return {"web_service": self.web_service, "endpoint": self.endpoint, "job_id": self.job_id}


def trained_model(job: Job, result: Mapping[str, Any], output: str | None = None) -> BlobReference:
    """Where the model is that a job wrote.

    :param job: a finished job.
    :param result: what ``BatchExecutionOperator`` returned about it; its ``model_output`` counts if the job has it.
    :param output: the job's output that is the model; by default the result's, else the job's only ``.ilearner``.
    :raises RequestRejected: none or several fit; the message lists the outputs.
    """
    name = result.get("model_output")
    _, reference = job.output(output or (name if name in job.results else None), extension=MODEL_EXTENSION)
    return reference
