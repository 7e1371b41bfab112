"""Jobs whose data are looked at before anything is trained on them."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_azureml_classic.protocol.jobs import Job, JobRequest, JobStatus
from airflow_provider_azureml_classic.protocol.purpose import Purpose
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint
from tests.support.service import Service, line


@pytest.fixture
def run(service: Service, trainer: Endpoint, scorer: Endpoint) -> Any:
    """Runs a job for the endpoint of the scorer, whose model was trained on data of its own."""
    place = BlobReference("models/mine/two.ilearner")
    first = service.submit(trainer, service.put_blob("data/two.csv", line(2)), output1=place)
    assert service.ended(trainer, first).status is JobStatus.FINISHED
    assert service.patch(scorer.name, place).status == 200

    def ran(content: bytes, **purpose: Any) -> Job:
        place = service.put_blob("data/new.csv", content)
        request = JobRequest({"input1": place}, purpose=Purpose(**{"endpoint": scorer.name, **purpose}))
        job_id = service.client.submit_job(trainer, request)
        service.client.start_job(trainer, job_id)
        return service.ended(trainer, job_id)

    return ran


FAR = b"x,y\n" + b"".join(b"%d,%d\n" % (1000 * x, 5 * x) for x in range(60))


@pytest.mark.slow
def test_data_like_before_satisfy_the_contract(run: Any, service: Service, trainer: Endpoint) -> None:
    """The job's state says so, and its log."""
    job = run(line(2))
    assert (job.status, sorted(job.results)) == (JobStatus.FINISHED, ["output1", "output2"])
    assert job.data_check is not None
    assert (job.data_check["verdict"], job.data_check["labels_as_before"]) == ("satisfied", True)
    assert any("the contract is satisfied" in one.text for one in service.client.job_log(trainer, job.id))


def test_by_default_a_violation_is_told(run: Any, service: Service, trainer: Endpoint) -> None:
    """And the model is trained: whether it is good, a gate decides."""
    job = run(FAR)
    assert (job.status, job.data_check["verdict"]) == (JobStatus.FINISHED, "violated")
    lines = [one.text for one in service.client.job_log(trainer, job.id)]
    assert any(line.startswith("Data check, broken: Column 'x' is far from") for line in lines)


@pytest.mark.slow
def test_a_violation_fails_the_job_where_that_is_wished(run: Any) -> None:
    """Before anything is trained; what was found is kept with the job."""
    job = run(FAR, data_check="fail")
    assert (job.status, job.results) == (JobStatus.FAILED, {})
    assert "break the contract with the live model: Column 'x' is far from" in str(job.details)
    assert job.data_check["findings"][0]["rule"] == "outside"
    assert run(FAR, data_check="fail", limits={"x.outside": 1.0, "labels": 1.0}).status is JobStatus.FINISHED


def test_what_is_never_benign_fails_unless_the_check_is_off(run: Any) -> None:
    """A column that has no value any more."""
    blank = b"x,y\n" + b"".join(b",%d\n" % x for x in range(60))
    job = run(blank)
    assert (job.status, "no value any more" in str(job.details)) == (JobStatus.FAILED, True)
    off = run(blank, data_check="off")
    assert (off.status, off.data_check) == (JobStatus.FINISHED, None)


def test_data_can_be_looked_at_and_no_more(run: Any) -> None:
    """Whatever is found, that job is finished, and wrote nothing."""
    for content, verdict in ((line(2), "satisfied"), (FAR, "violated")):
        job = run(content, data_check="only")
        assert (job.status, job.results, job.data_check["verdict"]) == (JobStatus.FINISHED, {}, verdict)


@pytest.mark.slow
def test_without_a_live_model_nothing_is_known(run: Any) -> None:
    """As for an endpoint that does not exist yet, or another web service."""
    assert run(FAR, endpoint="new", data_check="fail").data_check["verdict"] == "not known"
    assert run(FAR, web_service="other").data_check["verdict"] == "not known"


def test_the_first_model_of_the_web_service_binds_nobody(service: Service, trainer: Endpoint) -> None:
    """An endpoint's first data may be unlike those that the service was set up with."""
    service.client.add_endpoint(service.scoring, "fresh")
    place = service.put_blob("data/far.csv", FAR)
    request = JobRequest({"input1": place}, purpose=Purpose("fresh", data_check="fail"))
    job_id = service.client.submit_job(trainer, request)
    service.client.start_job(trainer, job_id)
    job = service.ended(trainer, job_id)
    assert job.status is JobStatus.FINISHED
    assert job.data_check is not None
    assert (job.data_check["verdict"], job.data_check["findings"][0]["level"]) == ("not known", "note")


def test_a_job_that_is_for_nothing_is_as_it_was(service: Service, trainer: Endpoint) -> None:
    """As those of other clients are."""
    job_id = service.submit(trainer, service.put_blob("data/far.csv", FAR))
    job = service.ended(trainer, job_id)
    assert (job.status, job.data_check) == (JobStatus.FINISHED, None)
