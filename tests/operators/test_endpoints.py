"""Adding endpoints, against the running server."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.operators import AddEndpointOperator
from tests.support import BIKES, BIKES_SCORING, CENSUS, ServerProcess
from tests.support.tasks import context, one_line, refused, wired

pytestmark = pytest.mark.usefixtures("airflow_connection")


def add(endpoint: str, web_service: str = BIKES_SCORING, **options: Any) -> AddEndpointOperator:
    """The operator."""
    return AddEndpointOperator(task_id="add", web_service=web_service, endpoint=endpoint, **options)


def test_added(client: Client, server: ServerProcess) -> None:
    """A new endpoint is there afterwards; what the task returns names it and holds no key."""
    found = add("opadded", description="of a test").execute(context())
    service = client.find_web_service(BIKES_SCORING)
    endpoint = client.get_endpoint(service.id, "opadded")
    assert endpoint.description == "of a test"
    assert found == {
        "web_service": BIKES_SCORING,
        "web_service_id": service.id,
        "endpoint": "opadded",
        "outcome": "added",
        "api_location": endpoint.api_location,
        "help_location": endpoint.help_location,
        "resources": ["Bike Rental [trained model]"],
    }


def test_kept(client: Client) -> None:
    """An endpoint that is there already is left as it is."""
    add("opkept", description="first").execute(context())
    assert add("opkept", description="second").execute(context())["outcome"] == "kept"
    assert client.get_endpoint(client.find_web_service(BIKES_SCORING).id, "opkept").description == "first"


@pytest.mark.slow
def test_updated(client: Client) -> None:
    """If asked, the settings of an endpoint that is there are changed."""
    add("opupdated").execute(context())
    settings: dict[str, Any] = {"max_concurrent_calls": 7, "stale_after": timedelta(days=2)}
    changed = add("opupdated", if_exists="update", throttle_level="High", **settings).execute(context())
    assert changed["outcome"] == "updated"
    endpoint = client.get_endpoint(client.find_web_service(BIKES_SCORING).id, "opupdated")
    assert (endpoint.throttle_level, endpoint.max_concurrent_calls) == ("High", 7)
    assert endpoint.stale_after == settings["stale_after"]


def test_fail_if_exists() -> None:
    """If asked, an endpoint that is there fails the task."""
    add("opexists", if_exists="fail").execute(context())
    with one_line(AirflowFailException, "already has an endpoint 'opexists'", "if_exists='fail'"):
        add("opexists", if_exists="fail").execute(context())


@pytest.mark.parametrize("name", ["Bikes", "a-b", "", "x" * 25, "ä"])
def test_bad_name(name: str) -> None:
    """A name that no endpoint may have fails before anything is asked."""
    task = add(name)
    wire = wired(task)
    with one_line(AirflowFailException, repr(name), "1 to 24 lower-case letters and digits"):
        task.execute(context())
    assert wire.journal == []


def test_unknown_service() -> None:
    """A web service that is not there is answered with those that are."""
    with one_line(
        AirflowFailException, "no web service is called 'Bikes'", repr(BIKES), repr(CENSUS), repr(BIKES_SCORING)
    ):
        add("opnowhere", web_service="Bikes").execute(context())


def test_training_service_by_id(client: Client) -> None:
    """A training web service may have further endpoints too; it is also found by id."""
    found = add("optrain", web_service=client.find_web_service(BIKES).id).execute(context())
    assert (found["web_service"], found["outcome"], found["resources"]) == (BIKES, "added", [])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"if_exists": "replace"}, "if_exists is 'replace'"),
        ({"throttle_level": "Medium"}, "throttle_level is 'Medium'; it must be 'Low' or 'High'"),
        ({"max_concurrent_calls": "many"}, "MaxConcurrentCalls is 'many'"),
    ],
)
def test_bad_option(options: dict[str, Any], said: str) -> None:
    """A wrong option is named with what it may be."""
    with one_line(AirflowFailException, said):
        add("opoption", **options).execute(context())


def test_out_of_order() -> None:
    """A service that cannot answer now is asked again later."""
    task = add("opbusy")
    wired(task).bends["list_web_services"] = lambda *_: refused(503, "NoMoreResources", "Busy.")
    with one_line(AirflowException, "list_web_services", "Busy.", "HTTP 503"):
        task.execute(context())
