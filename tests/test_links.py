"""Links: live before a task waits, without a connection or a secret."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.links import BatchJobLink, EndpointHelpLink, PortalLink, UpdateHelpLink, push_help
from airflow_provider_azureml_classic.operators import (
    AddEndpointOperator,
    BatchExecutionOperator,
    UpdateTrainedModelOperator,
)
from airflow_provider_azureml_classic.protocol.operations import portal_page
from airflow_provider_azureml_classic.protocol.values import Endpoint
from demo.days import generated
from tests.support import BIKES, BIKES_SCORING, ServerProcess


class Pushed(dict[str, Any]):
    """A task instance that keeps what is pushed."""

    def context(self) -> dict[str, Any]:
        """A task context with it."""
        store = SimpleNamespace(get=lambda key: None, set=lambda key, value: None, delete=lambda key: None)
        ti = SimpleNamespace(max_tries=0, xcom_push=lambda key, value: self.__setitem__(key, value))
        return {"ti": ti, "task_state_store": store}


def test_links_are_registered_and_known_by_their_keys():
    """Each operator's links are in the provider's description, under names and keys of their own."""
    from airflow_provider_azureml_classic.get_provider_info import get_provider_info

    links = [
        link
        for operator in (AddEndpointOperator, BatchExecutionOperator, UpdateTrainedModelOperator)
        for link in operator.operator_extra_links
    ]
    paths = {f"{type(link).__module__}.{type(link).__qualname__}" for link in links}
    assert paths == set(get_provider_info()["extra-links"])
    assert len({(link.name, link.xcom_key) for link in links}) == len(paths)


def test_address_comes_from_xcom(monkeypatch: pytest.MonkeyPatch):
    """A link is what the task pushed, and empty if it ended before it knew: no connection is looked up."""
    asked: list[dict[str, Any]] = []

    def get_one(**query: Any) -> str | None:
        asked.append(query)
        return "http://help" if query["map_index"] == 2 else None

    monkeypatch.setattr("airflow.sdk.bases.xcom.BaseXCom.get_one", get_one)
    key = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=2)
    assert EndpointHelpLink().get_link(None, ti_key=key) == "http://help"
    assert BatchJobLink().get_link(None, ti_key=SimpleNamespace(**{**vars(key), "map_index": -1})) == ""
    assert [query["key"] for query in asked] == [EndpointHelpLink.xcom_key, BatchJobLink.xcom_key]


def test_help_pages_of_an_endpoint():
    """The update page is below the help page; a service that tells no help page has no links."""
    pushed = Pushed()
    push_help(pushed.context(), Endpoint("e", help_location="http://h/apihelp/x/"), UpdateHelpLink)
    assert pushed == {
        "azureml_classic_endpoint_help": "http://h/apihelp/x",
        "azureml_classic_update_help": "http://h/apihelp/x/update",
    }
    silent = Pushed()
    push_help(silent.context(), Endpoint("e"), UpdateHelpLink)
    push_help(silent.context(), None)
    push_help({}, Endpoint("e", help_location="http://h"))
    assert silent == {}


def test_portal_page_of_an_endpoint():
    """Beside the help pages of our server, below whatever path it is; the cloud service had no such portal."""
    for help_location, page in (
        (
            "https://h/sub/apihelp/workspaces/w/webservices/s/endpoints/e",
            "https://h/sub/portal/services/s/endpoints/one",
        ),
        ("https://studio.azureml.net/apihelp/workspaces/w/webservices/s/endpoints/e", None),
        ("https://h/other", None),
    ):
        pushed = Pushed()
        push_help(pushed.context(), Endpoint("one", web_service_id="s", help_location=help_location))
        assert pushed.get(PortalLink.xcom_key) == page


def test_portal_link_leads_to_a_page(airflow_connection: ServerProcess, client: Client):
    """The server has a page where the link leads, behind its sign-in."""
    import requests

    endpoint = client.get_endpoint(client.find_web_service(BIKES_SCORING).id, "default")
    pushed = Pushed()
    push_help(pushed.context(), endpoint)
    answer = requests.get(pushed[PortalLink.xcom_key], allow_redirects=False, timeout=30)
    assert (answer.status_code, "/portal/sign-in" in answer.headers.get("location", "")) == (303, True)


@pytest.mark.slow
def test_job_link_is_live_while_deferred(airflow_connection: ServerProcess, client: Client):
    """A task that defers has pushed its links before, and no key or token with them."""
    airflow_connection.upload("links/data.csv", generated(1)[0].training)
    pushed = Pushed()
    train = BatchExecutionOperator(
        task_id="train",
        web_service=BIKES,
        inputs={"input1": "links/data.csv"},
        deferrable=True,
        window_end="2026-01-16",
    )
    with pytest.raises(TaskDeferred) as deferred:
        train.execute(pushed.context())
    trainer = client.get_endpoint(client.find_web_service(BIKES).id, "default")
    assert pushed == {
        BatchJobLink.xcom_key: f"{trainer.api_location}/jobs/{deferred.value.trigger.job_id}?api-version=2.0",
        EndpointHelpLink.xcom_key: trainer.help_location,
        PortalLink.xcom_key: portal_page(trainer.help_location, trainer.web_service_id, "default"),
    }
    assert trainer.primary_key not in json.dumps(pushed)
    assert "sig=" not in json.dumps(pushed)
    client.cancel_job(trainer, deferred.value.trigger.job_id)


def test_adding_an_endpoint_links_to_its_help(airflow_connection: ServerProcess):
    """The task that adds an endpoint links to the new endpoint's page."""
    pushed = Pushed()
    found = AddEndpointOperator(task_id="add", web_service=BIKES_SCORING, endpoint="linked").execute(pushed.context())
    assert pushed[EndpointHelpLink.xcom_key] == found["help_location"]
    assert pushed[PortalLink.xcom_key].endswith("/endpoints/linked")
    assert found["help_location"].startswith("http://127.0.0.1")
