"""A model is known by its digests: the job that made it, the endpoint that has it and its answers tell the same."""

from __future__ import annotations

import json

import pytest

from airflow_provider_azureml_classic.protocol.digests import Digests, same_model
from airflow_provider_azureml_classic.protocol.operations import MODEL_HEADER
from airflow_provider_azureml_classic.protocol.values import Endpoint, EndpointSettings, Resource
from airflow_provider_azureml_classic.server.experiments.ilearner import content_digest, read_ilearner
from tests.support.service import Service, line


def trained(service: Service, slope: float, path: str) -> Digests | None:
    """The digests that a finished job tells; its model lies at a path."""
    trainer = service.client.get_endpoint(service.training, "default")
    source = service.put_blob(f"data/{slope}.csv", line(slope))
    job = service.ended(trainer, service.submit(trainer, source, output1=service.signed(path, "cw")))
    return job.model


def put_live(service: Service, endpoint: Endpoint, path: str) -> Resource:
    """The endpoint's resource with another model."""
    settings = EndpointSettings(resources=(Resource(endpoint.resource().name, service.signed(path)),))
    service.client.patch_endpoint(endpoint, settings)
    return service.client.get_endpoint(service.scoring, endpoint.name).resource()


@pytest.mark.slow
def test_job_endpoint_and_answers_tell_the_same_model(service: Service) -> None:
    """What a job tells of its model is what the endpoint tells that has it, in its description and in each answer."""
    endpoint = service.client.add_endpoint(service.scoring, "identity")
    told = []
    for slope in (5, 6):
        made = trained(service, slope, f"models/{slope}.ilearner")
        assert put_live(service, endpoint, f"models/{slope}.ilearner").digests == made
        _, model = service.client.score_by(endpoint, [{"x": 1}])
        assert made is not None
        assert model == made.content
        told.append(made)
    content = content_digest(*read_ilearner(service.read_blob("models/6.ilearner")))
    assert told[1].content == content
    assert same_model(*told) is False


@pytest.mark.slow
def test_the_same_rows_give_the_same_model(service: Service) -> None:
    """Rows that are trained on again give another file, which tells when it was made, and the same content."""
    first = trained(service, 5, "models/first.ilearner")
    service.clock.advance(minutes=1)
    again = trained(service, 5, "models/again.ilearner")
    assert same_model(first, again)
    assert first != again


@pytest.mark.slow
def test_what_a_client_reads_it_may_send_back(service: Service) -> None:
    """A resource as it was read is taken in a PATCH, whose digests are passed over."""
    endpoint = service.client.add_endpoint(service.scoring, "sentback")
    trained(service, 5, "models/back.ilearner")
    resource = put_live(service, endpoint, "models/back.ilearner").to_wire()
    location = resource["Location"]
    location["SasBlobToken"] = service.signed("models/back.ilearner").sas_token
    path = service.endpoint_path("sentback")
    assert service.ask("PATCH", path, {"Resources": [resource]}).status == 200
    assert resource["ModelDigests"] == json.loads(service.ask("GET", path).body)["Resources"][0]["ModelDigests"]


def test_unknown_digests_decide_nothing() -> None:
    """Content decides where both are known; one file is one model, two files need not be two."""
    one, other = Digests("a" * 64, "c" * 64), Digests("b" * 64, "c" * 64)
    assert same_model(one, other) is True
    assert same_model(one, Digests("b" * 64, "d" * 64)) is False
    assert same_model(one, Digests("a" * 64)) is True
    assert same_model(one, Digests("b" * 64)) is None
    assert same_model(one, None) is None
    assert Digests.from_wire({"File": "x", "Content": 3}) is None
    assert Digests.from_json(one.to_json()) == one


def test_answers_name_their_model_in_the_header(service: Service) -> None:
    """In each form of an answer; a refusal names none."""
    endpoint = service.client.get_endpoint(service.scoring, "default")
    body = {"Inputs": {"input1": {"ColumnNames": ["x"], "Values": [["1"]]}}, "GlobalParameters": {}}
    path = service.api_path(endpoint, "/execute")
    answer = service.ask("POST", path, body, key=endpoint.primary_key)
    digests = endpoint.resource().digests
    assert digests is not None
    assert (answer.status, answer.headers[MODEL_HEADER]) == (200, digests.content)
    refused = service.ask("POST", path, {"Inputs": {}}, key=endpoint.primary_key)
    assert (refused.status, MODEL_HEADER in refused.headers) == (400, False)
