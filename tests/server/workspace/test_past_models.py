"""The models that an endpoint had, as clients read them."""

from __future__ import annotations

import pytest

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.client.retries import NO_RETRIES
from airflow_provider_azureml_classic.exceptions import NotFound, RequestRejected
from airflow_provider_azureml_classic.protocol.messages import Response
from airflow_provider_azureml_classic.protocol.operations import LIST_MODELS
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.retraining.past_models import past_models
from airflow_provider_azureml_classic.server.state import history
from airflow_provider_azureml_classic.server.workspace.workspace import Caller
from tests.support.service import RESOURCE, TOKEN, WORKSPACE, Service


@pytest.fixture
def other(service: Service) -> Endpoint:
    """Another customer's endpoint."""
    return service.client.add_endpoint(service.scoring, "other")


def put_live(service: Service, day: int, model: str) -> str:
    """Put a model live whose path tells a window; returns the path."""
    path = f"models/mine/201602{day:02}T000000Z-{model}.ilearner"
    service.put_blob(path, service.read_blob(f"models/{model}.ilearner"))
    assert service.patch("mine", BlobReference(path)).status == 200
    return path


@pytest.mark.slow
def test_models_in_pages(service: Service, scorer: Endpoint) -> None:
    """The last one first, page by page: place, window, digests, whether it is live, whether its bytes are kept."""
    paths = [put_live(service, day, model) for day, model in ((1, "three"), (2, "ten"), (3, "twenty"))]
    first = service.client.list_models(service.scoring, "mine", limit=3)
    assert [model.location.relative_location for model in first.models] == paths[::-1]
    assert [model.window_end.day if model.window_end else 0 for model in first.models] == [3, 2, 1]
    assert [(model.is_live, model.is_kept, model.resource) for model in first.models] == [
        (True, True, RESOURCE), (False, True, RESOURCE), (False, True, RESOURCE)
    ]  # fmt: skip
    live = service.client.get_endpoint(service.scoring, "mine").resource()
    assert (first.models[0].digests, first.models[0].location) == (live.digests, live.location)
    assert all(model.window and model.window.trained_at and model.metrics for model in first.models)
    rest = service.client.list_models(service.scoring, "mine", limit=3, before=first.next)
    assert ([model.window and model.window.is_first for model in rest.models], rest.next) == ([True], None)
    assert service.client.perform(past_models(service.client, scorer)) == (*first.models, *rest.models)
    service.models.remove(first.models[1].digests.file)  # type: ignore[union-attr, arg-type]
    assert [model.is_kept for model in service.client.list_models(service.scoring, "mine").models][1] is False


@pytest.mark.slow
def test_numbers_are_an_endpoints_own(
    service: Service, scorer: Endpoint, other: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What others update shows in no number; one that was told means the same model after older ones are forgotten."""
    monkeypatch.setattr(history, "KEPT_ROWS", 3)
    listed = f"{service.endpoint_path('mine')}/models"
    put_live(service, 1, "three")
    before = service.ask("GET", listed).body
    for model in ("three", "ten", "twenty"):
        service.patch("other", BlobReference(f"models/{model}.ilearner"))
    assert service.ask("GET", listed).body == before
    theirs = service.client.list_models(service.scoring, "other").models
    assert [model.number for model in theirs] == [4, 3, 2]
    ten = theirs[1]
    service.updates.roll_back(Caller(), service.scoring, "other", ten.number)
    live, *_ = service.client.list_models(service.scoring, "other").models
    assert (live.number, live.digests) == (5, ten.digests)
    for number in (1, 2, 6):
        with pytest.raises(RequestRejected, match=f"no model number {number} "):
            service.updates.roll_back(Caller(), service.scoring, "other", number)
    service.updates.roll_back(Caller(), service.scoring, "mine", 1)
    assert [model.number for model in service.client.list_models(service.scoring, "mine").models] == [3, 2, 1]


@pytest.mark.slow
def test_no_token_in_the_list(service: Service, scorer: Endpoint) -> None:
    """A model whose place was opened by a token is listed without it."""
    put_live(service, 1, "three")
    service.patch("mine", service.signed("models/ten.ilearner"))
    names = {"workspace": WORKSPACE, "service": service.scoring, "endpoint": "mine"}
    answer = service.ask("GET", LIST_MODELS.url("", names))
    assert b"ten.ilearner" in answer.body
    assert b"sig=" not in answer.body


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "before=x", "before=-1"])
def test_odd_pages(service: Service, scorer: Endpoint, query: str) -> None:
    """A page that cannot be is refused by the parameter's name."""
    answer = service.ask("GET", f"{service.endpoint_path('mine')}/models?{query}")
    assert (answer.status, query.partition("=")[0] in answer.body.decode()) == (400, True)


def test_a_service_without_the_list(service: Service, scorer: Endpoint) -> None:
    """One sentence says so and what to do; an endpoint that is not there is told apart, and the nearest named."""
    client = Client("http://other.test", WORKSPACE, TOKEN, retries=NO_RETRIES, transport=lambda _: Response(404))
    with pytest.raises(
        RequestRejected, match=r"offers no call that lists the models.*Name the model by its location"
    ) as error:
        client.list_models(service.scoring, "mine")
    assert error.value.detail_code == "OperationNotSupported"
    with pytest.raises(NotFound, match="has no endpoint 'nobody'"):
        service.client.list_models(service.scoring, "nobody")
    with pytest.raises(NotFound, match=r"Did you mean 'mine'\?"):
        service.client.list_models(service.scoring, "Min")
