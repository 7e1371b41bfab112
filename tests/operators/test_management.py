"""Deleting, refreshing and listing endpoints, and regenerating their keys, against the running server."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.client.blocking import RequestsTransport
from airflow_provider_azureml_classic.client.retries import NO_RETRIES
from airflow_provider_azureml_classic.exceptions import AccessDenied, NotFound, RequestRejected
from airflow_provider_azureml_classic.operators import (
    DeleteEndpointOperator,
    ListEndpointsOperator,
    RefreshEndpointOperator,
    RegenerateKeysOperator,
)
from airflow_provider_azureml_classic.protocol import operations as ops
from airflow_provider_azureml_classic.protocol.keys import KeyType
from airflow_provider_azureml_classic.protocol.messages import Request, Response
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint, EndpointSettings, Resource
from tests.support import BIKES, BIKES_SCORING, ServerProcess
from tests.support.tasks import wired
from tests.support.verbs import NOON, context, own_endpoint, own_name, scoring

pytestmark = pytest.mark.usefixtures("airflow_connection")


def run(kind: type, **options: Any) -> Any:
    """What an operator returns."""
    return kind(task_id="t", **{"web_service": BIKES_SCORING, **options}).execute(context())


@pytest.fixture(scope="module")
def model(server: ServerProcess) -> BlobReference:
    """The first model, stored as if it were trained on data up to 1 February 2026."""
    with server.client() as client:
        first = client.get_endpoint(scoring(client).id, "default").resource().location
        assert first is not None
        content = client.fetch_blob(server.sas(first.relative_location))
    return server.upload(f"models/{own_name()}/20260201T000000Z.ilearner", content)


def patched(client: Client, model: BlobReference) -> Endpoint:
    """An endpoint whose model was replaced."""
    endpoint = own_endpoint(client)
    resources = (Resource(endpoint.resource().name, model),)
    client.patch_endpoint(endpoint, EndpointSettings(resources=resources))
    return client.get_endpoint(endpoint.web_service_id, endpoint.name)


def live(client: Client, name: str) -> str:
    """Where an endpoint's model is."""
    location = client.get_endpoint(scoring(client).id, name).resource().location
    assert location is not None
    return location.location


# -- delete ------------------------------------------------------------------------------------------------------------


def test_delete(client: Client) -> None:
    """An endpoint is deleted; a second time it is missing, which is no failure."""
    endpoint = own_endpoint(client)
    service = scoring(client)
    said = {"web_service": BIKES_SCORING, "web_service_id": service.id, "endpoint": endpoint.name}
    assert run(DeleteEndpointOperator, endpoint=endpoint.name) == {**said, "outcome": "deleted"}
    with pytest.raises(NotFound):
        client.get_endpoint(service.id, endpoint.name)
    assert run(DeleteEndpointOperator, endpoint=endpoint.name) == {**said, "outcome": "missing"}


def test_delete_missing() -> None:
    """With missing_ok=False an endpoint that is not there fails the task; a wrong web service always does."""
    with pytest.raises(AirflowFailException, match="has no endpoint"):
        run(DeleteEndpointOperator, endpoint=own_name(), missing_ok=False)
    with pytest.raises(AirflowFailException, match="no web service is called 'Nobody'"):
        run(DeleteEndpointOperator, endpoint=own_name(), web_service="Nobody")


def test_delete_survives_a_lost_answer(client: Client) -> None:
    """A deletion whose answer is lost is sent again and finds nothing: the endpoint counts as deleted all the same."""
    endpoint = own_endpoint(client)
    task = DeleteEndpointOperator(task_id="t", web_service=BIKES_SCORING, endpoint=endpoint.name, missing_ok=False)
    lost: list[Response] = []

    def lose(request: Request, send: Callable[[Request], Response]) -> Response:
        response = send(request)
        if not lost:
            lost.append(response)
            return Response(503)
        return response

    wired(task).bends["delete_endpoint"] = lose
    assert task.execute(context())["outcome"] == "deleted"
    assert [response.status for response in lost] == [204]


@pytest.mark.parametrize(
    ("kind", "done"), [(DeleteEndpointOperator, "deleted"), (RefreshEndpointOperator, "refreshed")]
)
def test_default_endpoint_is_refused(kind: type, done: str, client: Client) -> None:
    """The default endpoint is neither deleted nor refreshed; the sentence says what to do instead."""
    with pytest.raises(AirflowFailException, match=f"which cannot be {done}.*Name an endpoint that was added"):
        run(kind, endpoint="default")
    assert client.get_endpoint(scoring(client).id, "default").name == "default"


def test_delete_as_teardown() -> None:
    """The operator can be the teardown of the task that added the endpoint."""
    from airflow.sdk import DAG

    from airflow_provider_azureml_classic.operators import AddEndpointOperator

    with DAG("d"):
        setup = AddEndpointOperator(task_id="add", web_service=BIKES_SCORING, endpoint="x").as_setup()
        down = DeleteEndpointOperator(task_id="delete", web_service=BIKES_SCORING, endpoint="x")
        down.as_teardown(setups=setup)
    assert down.is_teardown
    assert down.upstream_task_ids == {"add"}


# -- refresh -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_refresh(client: Client, model: BlobReference) -> None:
    """A refresh changes nothing unless it may overwrite the models; then the first model is back."""
    endpoint = patched(client, model)
    assert live(client, endpoint.name) == model.location
    assert run(RefreshEndpointOperator, endpoint=endpoint.name)["changed"] is False
    assert live(client, endpoint.name) == model.location
    assert run(RefreshEndpointOperator, endpoint=endpoint.name, overwrite_resources=True)["changed"] is True
    assert live(client, endpoint.name) == live(client, "default")
    assert run(RefreshEndpointOperator, endpoint=endpoint.name, overwrite_resources=True)["changed"] is False


# -- list --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_list(client: Client, model: BlobReference) -> None:
    """Each endpoint is listed with its model and the end of its data, in order of names, and without keys."""
    fresh, first = patched(client, model), own_endpoint(client)
    listed = run(ListEndpointsOperator, name_pattern=f"{fresh.name}|{first.name}")
    resource = fresh.resource().name
    expected = [
        {
            "name": fresh.name,
            "resource": resource,
            "location": model.location,
            "window_end": "2026-02-01T00:00:00+00:00",
        },
        {"name": first.name, "resource": resource, "location": live(client, "default"), "window_end": None},
    ]
    assert listed == sorted(expected, key=lambda item: str(item["name"]))
    assert [secret for secret in (*fresh.secrets, *first.secrets) if secret in str(listed)] == []


def test_list_filters(client: Client) -> None:
    """A pattern must fit a whole name; the default endpoint is listed only when it is asked for."""
    endpoint = own_endpoint(client)
    assert [item["name"] for item in run(ListEndpointsOperator, name_pattern=endpoint.name)] == [endpoint.name]
    assert run(ListEndpointsOperator, name_pattern=endpoint.name[:-1]) == []
    assert run(ListEndpointsOperator, name_pattern="default") == []
    assert len(run(ListEndpointsOperator, name_pattern="default", include_default=True)) == 1
    assert "default" not in [item["name"] for item in run(ListEndpointsOperator)]


def test_list_of_a_training_service() -> None:
    """Endpoints without models are listed without them."""
    (item,) = run(ListEndpointsOperator, web_service=BIKES, name_pattern="default", include_default=True)
    assert item == {"name": "default", "resource": None, "location": None, "window_end": None}


def test_list_with_a_wrong_pattern() -> None:
    """A pattern that is no regular expression is named."""
    with pytest.raises(AirflowFailException, match=r"name_pattern '\(' is not a regular expression"):
        run(ListEndpointsOperator, name_pattern="(")


# -- keys --------------------------------------------------------------------------------------------------------------


def opens(client: Client, endpoint: Endpoint, key: str) -> bool:
    """Whether a key lets rows be scored."""
    with Client(client.management_url, client.workspace_id, "", retries=NO_RETRIES) as bare:
        try:
            bare.score(Endpoint(endpoint.name, api_location=endpoint.api_location, primary_key=key), [NOON])
        except AccessDenied:
            return False
        return True


@pytest.mark.slow
@pytest.mark.parametrize("which", ["primary", "secondary"])
def test_regenerate(client: Client, which: str, caplog: pytest.LogCaptureFixture) -> None:
    """One key is replaced at once, though it was in use; the other one stays valid, and no key is told."""
    before = own_endpoint(client)
    assert opens(client, before, before.primary_key)
    assert opens(client, before, before.secondary_key)
    with caplog.at_level(logging.DEBUG):
        told = run(RegenerateKeysOperator, endpoint=before.name, which=which)
    after = client.get_endpoint(before.web_service_id, before.name)
    keys = {
        "primary": (before.primary_key, after.primary_key),
        "secondary": (before.secondary_key, after.secondary_key),
    }
    gone, new = keys.pop(which)
    ((kept, still),) = keys.values()
    assert kept == still
    assert [opens(client, before, key) for key in (gone, new, kept)] == [False, True, True]
    assert told["regenerated"] == which
    assert [key for key in (gone, new, kept) if key in f"{told}{caplog.text}"] == []
    assert client.get_endpoint(before.web_service_id, before.name).resources == before.resources


def test_regenerate_is_no_update(client: Client) -> None:
    """Version and ETag stay: they prove updates of models, and a new key must not look like one."""
    name = own_endpoint(client).name
    before = client.get_endpoint(scoring(client).id, name)
    run(RegenerateKeysOperator, endpoint=name)
    after = client.get_endpoint(scoring(client).id, name)
    assert before.etag
    assert (after.version, after.etag) == (before.version, before.etag)
    assert after.primary_key != before.primary_key


def test_regenerated_key_manages_its_endpoint(client: Client) -> None:
    """The endpoint's own key may regenerate; afterwards the management calls know the new key and not the old one."""
    endpoint = own_endpoint(client)
    with Client(client.management_url, client.workspace_id, endpoint.secondary_key, retries=NO_RETRIES) as own:
        after = own.regenerate_key(endpoint.web_service_id, endpoint.name, KeyType.SECONDARY)
        with pytest.raises(AccessDenied):
            own.get_endpoint(endpoint.web_service_id, endpoint.name)
    with Client(client.management_url, client.workspace_id, after.secondary_key, retries=NO_RETRIES) as own:
        assert own.get_endpoint(endpoint.web_service_id, endpoint.name).primary_key == endpoint.primary_key
        with pytest.raises(AccessDenied):
            own.regenerate_key(endpoint.web_service_id, "default", KeyType.PRIMARY)


@pytest.mark.parametrize("which", ["both", "", "PrimaryKey"])
def test_regenerate_wrong_key(which: str, client: Client) -> None:
    """A key that does not exist is refused before anything is asked."""
    with pytest.raises(AirflowFailException, match="it must be Primary or Secondary"):
        run(RegenerateKeysOperator, endpoint="default", which=which)


@pytest.mark.parametrize(
    "answer",
    [
        Response(404),
        Response(405, {}, b'{"error": {"code": "MethodNotAllowed", "message": "No."}}'),
        Response(404, {"content-type": "text/html"}, b"<html>Not Found</html>"),
        Response(501),
    ],
    ids=["404", "405", "page", "501"],
)
def test_regenerate_on_another_service(answer: Response, client: Client) -> None:
    """A service that does not know the call: one sentence says so, and what to do."""
    task = RegenerateKeysOperator(task_id="t", web_service=BIKES_SCORING, endpoint="default")
    wired(task).bends["regenerate_keys"] = lambda *_: answer
    with pytest.raises(
        AirflowFailException, match=r"offers no call that regenerates keys.*Do it where the service is administered"
    ):
        task.execute(context())


def test_regenerate_missing_endpoint(client: Client) -> None:
    """An endpoint that is not there is told apart from a call that is not there."""
    with pytest.raises(NotFound, match="has no endpoint 'nobody'"):
        client.regenerate_key(scoring(client).id, "nobody", KeyType.PRIMARY)


def test_regenerate_believes_no_one(client: Client) -> None:
    """A service that answers as if it had regenerated, but shows the old key, fails the task."""
    task = RegenerateKeysOperator(task_id="t", web_service=BIKES_SCORING, endpoint="default")
    kept = Response.of_json(client.get_endpoint(scoring(client).id, "default").to_wire())
    wired(task).bends["regenerate_keys"] = lambda *_: kept
    with pytest.raises(AirflowException, match="has its old key"):
        task.execute(context())


@pytest.mark.parametrize("body", [b"", b"[]", b'{"KeyType": "Both"}', b'{"KeyType": "Primary", "More": 1}'])
def test_server_refuses_odd_bodies(body: bytes, server: ServerProcess, client: Client) -> None:
    """The server names what is wrong with a body, and changes no key."""
    endpoint = own_endpoint(client)
    segments = {"workspace": client.workspace_id, "service": endpoint.web_service_id, "endpoint": endpoint.name}
    url = ops.REGENERATE_KEYS.url(client.management_url, segments)
    headers = {"authorization": f"Bearer {server.connection['token']}"}
    response = RequestsTransport()(Request(ops.REGENERATE_KEYS, url, headers, body))
    assert response.status == 400
    after = client.get_endpoint(endpoint.web_service_id, endpoint.name)
    assert (after.primary_key, after.secondary_key) == (endpoint.primary_key, endpoint.secondary_key)
    with pytest.raises(RequestRejected):
        KeyType.of("Both")
