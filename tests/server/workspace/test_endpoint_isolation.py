"""What one endpoint's key does not open: the keys, jobs, outputs and logs of others."""

from __future__ import annotations

import pytest

from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint
from tests.support.service import Service, line


@pytest.fixture
def model(service: Service, trainer: Endpoint) -> BlobReference:
    """The model that a job of the training service wrote to the place that the service chose, with its token."""
    job_id = service.submit(trainer, service.put_blob("data/ten.csv", line(10)))
    place = service.ended(trainer, job_id).results["output1"]
    assert "/experimentoutput/" in place.location
    return place


def unsigned(place: BlobReference, service: Service, form: str) -> BlobReference:
    """The same place without what opens it: as a bare path, or as an address."""
    path = place.location.removeprefix(f"{service.settings.account.endpoint}/")
    return BlobReference(path) if form == "path" else BlobReference(path, service.settings.account.endpoint)


@pytest.mark.parametrize("form", ["path", "address"])
def test_a_key_does_not_open_the_model_of_a_job(service: Service, scorer: Endpoint, model, form: str) -> None:
    """A PATCH by endpoint key needs the SAS token of the job's answer; with the workspace token the place is enough."""
    bare = unsigned(model, service, form)
    refused = service.patch("mine", bare, key=scorer.primary_key)
    assert (refused.status, service.slope(scorer)) == (401, 2)
    assert service.patch("mine", model, key=scorer.primary_key).status == 200
    assert service.slope(scorer) == 10
    assert service.patch("mine", bare, key=scorer.primary_key).status == 200, "the live model's own place"
    assert service.patch("mine", bare).status == 200


@pytest.mark.parametrize("form", ["path", "address"])
def test_a_job_does_not_read_another_jobs_output(service: Service, trainer: Endpoint, model, form: str) -> None:
    """The input of a job is refused at once when it names the service's own container without a token."""
    bare = unsigned(model, service, form)
    data = BlobReference(bare.relative_location.replace("output1.ilearner", "output2.csv"), bare.base_location)
    body = {"Input": data.to_wire(), "GlobalParameters": {}}
    refused = service.ask("POST", service.api_path(trainer, "/jobs"), body, key=trainer.primary_key)
    assert (refused.status, b"SAS token" in refused.body) == (400, True)


@pytest.mark.parametrize("container", ["experimentoutput", "firstmodels", "ml-diagnostics"])
def test_a_job_does_not_write_where_the_service_does(service: Service, trainer: Endpoint, container: str) -> None:
    """An output override into the service's containers would replace what belongs to others."""
    source = service.put_blob("data/ten.csv", line(10))
    outputs = {"output1": {"RelativeLocation": f"{container}/x.ilearner"}}
    body = {"Input": source.to_wire(), "Outputs": outputs, "GlobalParameters": {}}
    refused = service.ask("POST", service.api_path(trainer, "/jobs"), body, key=trainer.primary_key)
    assert (refused.status, b"SAS token" in refused.body) == (400, True)
