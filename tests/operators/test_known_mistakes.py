"""The catalogue of known mistakes: each is recognized, and answered with one sentence that says what to do."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.hooks import AzureMLClassicHook, airflow_errors
from airflow_provider_azureml_classic.operators import (
    AddEndpointOperator,
    BatchExecutionOperator,
    UpdateTrainedModelOperator,
)
from airflow_provider_azureml_classic.protocol.values import Endpoint, EndpointSettings, Resource
from airflow_provider_azureml_classic.sensors import ModelFreshnessSensor
from tests.support import BIKES, BIKES_SCORING, ServerProcess
from tests.support.tasks import NOON, added, context, one_line, rentals, trainer, wired

pytestmark = pytest.mark.usefixtures("airflow_connection")


def connected(monkeypatch: pytest.MonkeyPatch, server: ServerProcess, **fields: Any) -> AzureMLClassicHook:
    """A hook whose connection has a mistake in it."""
    said = {**json.loads(server.connection["airflow_conn"]), **fields}
    monkeypatch.setenv("AIRFLOW_CONN_MISTAKEN", json.dumps(said))
    return AzureMLClassicHook("mistaken")


# -- web services and endpoints ----------------------------------------------------------------------------------------


def test_training_service_is_updated(client: Client) -> None:
    """The training service given where the scoring service belongs: update."""
    client.add_endpoint(client.find_web_service(BIKES).id, "mistaken")
    task = UpdateTrainedModelOperator(task_id="t", web_service=BIKES, endpoint="mistaken", location="c/x.ilearner")
    with one_line(AirflowFailException, "looks like the training web service", "scoring web service instead"):
        task.execute(context())


def test_training_service_is_awaited() -> None:
    """The training service given where the scoring service belongs: freshness."""
    task = ModelFreshnessSensor(task_id="t", web_service=BIKES, endpoint="default", trained_to="2026-01-01")
    with one_line(AirflowFailException, "looks like the training web service"):
        task.execute(context())


def test_training_service_is_scored(client: Client) -> None:
    """The training service given where the scoring service belongs: scoring."""
    with one_line(AirflowFailException, "only jobs", "submit a batch job"), airflow_errors():
        client.score(trainer(client), [NOON])


def test_scoring_service_is_trained(server: ServerProcess) -> None:
    """The scoring service given where the training service belongs: it writes no model."""
    server.upload("training/mistake.csv", rentals())
    task = BatchExecutionOperator(
        task_id="t", web_service=BIKES_SCORING, inputs={"input1": "training/mistake.csv"}, model_for="x"
    )
    with one_line(AirflowFailException, "output1", "must end in .csv"):
        task.execute(context())


def test_default_endpoint() -> None:
    """The default endpoint cannot be updated."""
    task = UpdateTrainedModelOperator(
        task_id="t", web_service=BIKES_SCORING, endpoint="default", location="c/x.ilearner"
    )
    with one_line(AirflowFailException, "'default' is the default endpoint", "Add an endpoint"):
        task.execute(context())


def test_default_endpoint_at_the_service(client: Client) -> None:
    """A server is asked about the default endpoint only by other clients; it says the same."""
    service = client.find_web_service(BIKES_SCORING)
    endpoint = client.get_endpoint(service.id, "default")
    with one_line(AirflowFailException, "default", "Add an endpoint"), airflow_errors():
        client.patch_endpoint(endpoint, EndpointSettings(resources=(endpoint.resource(),)))


@pytest.mark.parametrize("name", ["Bikes", "my-bikes", "bikes_1", "x" * 25])
def test_endpoint_name(name: str) -> None:
    """A name that breaks the rule."""
    task = AddEndpointOperator(task_id="t", web_service=BIKES_SCORING, endpoint=name)
    with one_line(AirflowFailException, repr(name), "Use 1 to 24 lower-case letters and digits."):
        task.execute(context())


def test_wrong_resource_name(client: Client) -> None:
    """A resource that is not there is answered with those that are."""
    added(client, "mistakenname")
    task = UpdateTrainedModelOperator(
        task_id="t", web_service=BIKES_SCORING, endpoint="mistakenname", resource="Bikes", location="c/x.ilearner"
    )
    with one_line(AirflowFailException, "no updatable resource 'Bikes'; it has: 'Bike Rental [trained model]'"):
        task.execute(context())


def test_ambiguous_resource_name() -> None:
    """Several resources, and none named: they are listed."""
    endpoint = Endpoint("e", resources=(Resource("Left"), Resource("Right")))
    with one_line(AirflowFailException, "several updatable resources; name one of: 'Left', 'Right'"), airflow_errors():
        endpoint.resource(None)


def test_unknown_web_service() -> None:
    """A web service that is not there is answered with those that are, and their ids."""
    task = BatchExecutionOperator(task_id="t", web_service="Bike Rentals")
    with one_line(AirflowFailException, "'Bike Rentals'", repr(BIKES), "Give one of these names, or the id"):
        task.execute(context())


# -- the connection ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blemish", ["{} ", " {}", "{}.", "{}/", "{} .", "{}/. ", "\t{}\n"])
def test_blemished_url(monkeypatch: pytest.MonkeyPatch, server: ServerProcess, blemish: str) -> None:
    """A trailing dot or a blank in a pasted URL is taken off."""
    good, said = connected(monkeypatch, server, host=blemish.format(server.url)).test_connection()
    assert good, said


@pytest.mark.parametrize("tail", ["/execute?api-version=2.0&details=true", "/jobs?api-version=2.0", "/jobs", ""])
def test_endpoint_url_as_host(
    monkeypatch: pytest.MonkeyPatch, server: ServerProcess, client: Client, tail: str
) -> None:
    """The request/response or batch URL of an endpoint given as management URL."""
    url = f"{trainer(client).api_location}{tail}"
    with one_line(AirflowFailException, "is the URL of", f"ends before /workspaces/: {server.url!r}"), airflow_errors():
        _ = connected(monkeypatch, server, host=url).client
    assert connected(monkeypatch, server, host=url).test_connection()[0] is False


def test_management_url_of_a_service_as_host(monkeypatch: pytest.MonkeyPatch, server: ServerProcess) -> None:
    """So is the management URL of one workspace or web service."""
    url = f"{server.url}/workspaces/{server.connection['workspace_id']}/webservices"
    with one_line(AirflowFailException, "the management URL ends before /workspaces/"), airflow_errors():
        _ = connected(monkeypatch, server, host=url).client


def test_endpoint_key_as_password(monkeypatch: pytest.MonkeyPatch, server: ServerProcess, client: Client) -> None:
    """An endpoint's key given where the workspace token belongs."""
    hook = connected(monkeypatch, server, password=trainer(client).primary_key)
    with one_line(AirflowFailException, "list_web_services", "HTTP 401", "workspace"), airflow_errors():
        hook.client.list_web_services()


def test_token_as_endpoint_key(server: ServerProcess, client: Client) -> None:
    """The workspace token given where the endpoint's key belongs."""
    endpoint = replace(trainer(client), primary_key=server.connection["token"], web_service_id="")
    words = ("HTTP 401", "the endpoint's own primary or secondary key, not the workspace token")
    with one_line(AirflowFailException, *words), airflow_errors():
        client.get_job(endpoint, "0" * 32)


def test_wrong_token(monkeypatch: pytest.MonkeyPatch, server: ServerProcess) -> None:
    """A wrong token names the two fields to check."""
    hook = connected(monkeypatch, server, password="no")
    with one_line(AirflowFailException, "Check the workspace id and the workspace token"), airflow_errors():
        hook.client.list_web_services()


def test_secondary_key(server: ServerProcess, client: Client) -> None:
    """The second of the two keys is no mistake."""
    endpoint = added(client, "mistakenkey")
    assert client.score(replace(endpoint, primary_key=endpoint.secondary_key), [NOON]).rows


# -- places ------------------------------------------------------------------------------------------------------------


def test_expired_token_of_an_input(server: ServerProcess) -> None:
    """An input whose SAS token has expired is told before anything is asked."""
    server.upload("training/mistake.csv", rentals())
    url = server.sas("training/mistake.csv", minutes=-5).url
    task = BatchExecutionOperator(task_id="t", web_service=BIKES, inputs={"input1": url})
    wire = wired(task)
    with one_line(AirflowFailException, "training/mistake.csv' expired at", "For a blob of your own, sign a new one."):
        task.execute(context())
    assert "submit_job" not in wire.journal


def test_expired_token_of_a_model(server: ServerProcess, client: Client) -> None:
    """So is a model's."""
    added(client, "mistakensas")
    url = server.sas("models/mistake.ilearner", minutes=-5).url
    task = UpdateTrainedModelOperator(task_id="t", web_service=BIKES_SCORING, endpoint="mistakensas", location=url)
    with one_line(AirflowFailException, "models/mistake.ilearner' expired at", "sign a new one"):
        task.execute(context())


@pytest.mark.parametrize("path", ["training/mistake.txt", "training/mistake", "training/mistake.ilearner"])
def test_wrong_extension(path: str) -> None:
    """Data ends in .csv."""
    task = BatchExecutionOperator(task_id="t", web_service=BIKES, inputs={"input1": path})
    with one_line(AirflowFailException, path, "must end in .csv"):
        task.execute(context())


def test_foreign_host() -> None:
    """A place on a host that the server may not read from."""
    task = BatchExecutionOperator(
        task_id="t", web_service=BIKES, inputs={"input1": "https://foreign.example/c/x.csv?sv=1"}
    )
    with one_line(AirflowFailException, "foreign.example", "--allow-host"):
        task.execute(context())


def test_misspelt_output() -> None:
    """An output that is not there is answered with those that are."""
    task = BatchExecutionOperator(
        task_id="t", web_service=BIKES, inputs={"input1": "training/x.csv"}, outputs={"Output1": "models/x.ilearner"}
    )
    with one_line(AirflowFailException, "no output 'Output1'", "case-sensitive", "output1, output2"):
        task.execute(context())


def test_no_input() -> None:
    """A job without its input names it."""
    with one_line(AirflowFailException, "needs the input input1"):
        BatchExecutionOperator(task_id="t", web_service=BIKES).execute(context())


def test_account_key_with_a_typo(monkeypatch: pytest.MonkeyPatch, server: ServerProcess) -> None:
    """A connection string that is none is told without its value."""
    hook = connected(monkeypatch, server, extra={"storage_connection_string": "AccountName=a;AccountKey=s3cret!"})
    with one_line(AirflowFailException, "AccountKey that is not Base64"), airflow_errors():
        hook.readable(hook.reference("c/x.csv"))
