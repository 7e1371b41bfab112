"""Which job an operator means, and which of its outputs is the model."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.protocol.jobs import Job, JobStatus
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.retraining.jobs import JobTicket, trained_model

RESULT = {"web_service": "s", "endpoint": "e", "job_id": "1" * 32, "window": {"end": "2026-03-01"}}


def test_what_a_task_returned() -> None:
    """All of it is kept; the ticket alone is ids and names."""
    ticket = JobTicket.of(RESULT, None, None, "default")
    assert ticket == JobTicket("s", "e", "1" * 32, RESULT)
    assert ticket.to_json() == {"web_service": "s", "endpoint": "e", "job_id": "1" * 32}
    assert JobTicket.from_json(ticket.to_json()).to_json() == ticket.to_json()


def test_an_id_with_its_endpoint() -> None:
    """As it is pasted."""
    assert JobTicket.of(None, " 47e3\n", "s", "e") == JobTicket("s", "e", "47e3")


@pytest.mark.parametrize(
    ("job", "job_id", "service"), [(None, None, "s"), (RESULT, "1", "s"), (None, "1", None), (None, "1", "")]
)
def test_not_exactly_one_of_both(job: Any, job_id: str | None, service: str | None) -> None:
    """A job, or an id with its web service."""
    with pytest.raises(ValueError, match="Give either job"):
        JobTicket.of(job, job_id, service, "e")


@pytest.mark.parametrize("job", [None, "", "None"])
def test_a_task_without_a_result(job: Any) -> None:
    """It was skipped, or failed, or cleared; that is said."""
    with pytest.raises(ValueError, match="job is empty"):
        JobTicket.from_json(job)


@pytest.mark.parametrize("missing", ["web_service", "endpoint", "job_id"])
def test_something_else(missing: str) -> None:
    """What has not all members is no job."""
    with pytest.raises(ValueError, match="not dict"):
        JobTicket.from_json({name: value for name, value in RESULT.items() if name != missing})
    with pytest.raises(ValueError, match="not str"):
        JobTicket.from_json("47e3")


MODEL, OTHER, DATA = BlobReference("m/a.ilearner"), BlobReference("m/b.ilearner"), BlobReference("m/c.csv")


@pytest.mark.parametrize(
    ("results", "result", "output", "model"),
    [
        ({"o1": MODEL, "o2": DATA}, {}, None, MODEL),
        ({"o1": MODEL, "o2": OTHER}, {"model_output": "o2"}, None, OTHER),
        ({"o1": MODEL, "o2": OTHER}, {"model_output": "o2"}, "o1", MODEL),
        ({"o1": MODEL, "o2": DATA}, {"model_output": "gone"}, None, MODEL),
        ({"o1": MODEL, "o2": DATA}, {}, "o2", DATA),
        ({"o1": MODEL, "o2": OTHER}, {}, None, None),
        ({"o1": DATA}, {}, None, None),
    ],
)
def test_the_model(results: Any, result: Any, output: str | None, model: BlobReference | None) -> None:
    """The output that is named, else the task's, else the job's only model."""
    job = Job("1", JobStatus.FINISHED, results)
    if model is not None:
        assert trained_model(job, result, output) == model
        return
    with pytest.raises(RequestRejected):
        trained_model(job, result, output)
