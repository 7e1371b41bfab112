"""The connection as a user meets it: its form in the UI, and its test."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.standalone.airflow import Airflow
from tests.standalone.service import Service

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("standalone")]


@pytest.fixture
def stored(airflow: Airflow, service: Service) -> Iterator[str]:
    """A connection that was typed into the form, so that it is in the metadata database."""
    typed = json.loads(service.process.connection["airflow_conn"])
    data = {**typed, "extra": json.dumps(typed["extra"]), "connection_id": "typed"}
    airflow.api("POST", "/api/v2/connections", json=data)
    yield "typed"
    airflow.api("DELETE", "/api/v2/connections/typed")


def test_form(airflow: Airflow) -> None:
    """The UI is told of our connection type: the labels of its standard fields, and the fields of its own."""
    [ours] = [
        one for one in airflow.api("GET", "/ui/connections/hook_meta") if one["connection_type"] == "azureml_classic"
    ]
    assert ours["hook_name"] == "Azure ML Studio (classic)"
    assert ours["standard_fields"]["host"]["title"] == "Management URL"
    assert ours["standard_fields"]["login"]["title"] == "Workspace id"
    assert ours["standard_fields"]["password"]["title"] == "Workspace token"
    assert ours["standard_fields"]["port"]["hidden"]
    assert set(ours["extra_fields"]) == {"storage_connection_string", "timeout", "verify"}
    assert ours["extra_fields"]["storage_connection_string"]["schema"]["format"] == "password"


def test_connections_test(airflow: Airflow, stored: str) -> None:
    """``airflow connections test`` reaches the server."""
    assert "Connection success!" in airflow.cli("connections", "test", stored)


def test_connections_test_with_a_wrong_token(airflow: Airflow, stored: str) -> None:
    """With a wrong token it says that the password is wrong, and does not repeat it."""
    wrong = {"connection_id": stored, "conn_type": "azureml_classic", "password": "wrong-wrong-wrong"}
    airflow.api("PATCH", f"/api/v2/connections/{stored}", params={"update_mask": "password"}, json=wrong)
    data = airflow.api("GET", f"/api/v2/connections/{stored}")
    assert data["password"] == "***"
    assert "AccountKey" not in (data["extra"] or "")
    said = airflow.cli_fails("connections", "test", stored)
    assert "Password: the workspace token was refused." in said
    assert "wrong-wrong-wrong" not in said
