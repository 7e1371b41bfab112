"""Calls of the cloud service that the server does not offer, and the reads with which its clients begin."""

from __future__ import annotations

import json

import pytest

from airflow_provider_azureml_classic.protocol.not_offered import not_offered
from airflow_provider_azureml_classic.protocol.operations import OPERATIONS
from airflow_provider_azureml_classic.protocol.studio import NO_DATA_SETS, workspace_to_wire

PUBLISHED = "Publishing code as a web service (publishWebService of R, azureml.services.publish of Python)"


@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        ("PUT", "/workspaces/w/webservices/s", f"{PUBLISHED}. Declare an experiment in a TOML file"),
        ("POST", "/workspaces/w/webservices", f"{PUBLISHED}. Declare an experiment in a TOML file"),
        ("POST", "/api/workspaces/w/experiments/e/webservice", "Publishing a Studio experiment"),
        ("GET", "/workspaces/w/experiments/e/webservice/", "Publishing a Studio experiment"),
        ("GET", "/api/workspaces/w/datasources/d", "Keep data and models as blobs and name them in batch jobs."),
        ("DELETE", "/workspaces/w/trainedmodels", "Keep data and models as blobs and name them in batch jobs."),
        ("POST", "/workspaces/w/services/e/score", "Use /execute?api-version=2.0; Input and Output became"),
        ("POST", "/workspaces/w/services/e/scoremultirow/", "Use /execute?api-version=2.0; Input and Output became"),
        ("GET", "/subscriptions/x", "Use the classic web services of this server"),
    ],
)
def test_a_call_that_is_not_offered(method: str, path: str, message: str) -> None:
    """It is named, and what to do instead is said."""
    error = not_offered(method, path)
    assert error is not None
    assert error.detail_code == "OperationNotSupported"
    assert error.message.startswith("This server does not offer this: ")
    assert message in error.message


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/workspaces/w/webservices"),
        ("DELETE", "/workspaces/w/webservices/s"),
        ("PUT", "/x/workspaces/w/webservices/s"),
        ("PUT", "/workspaces/w/webservices/s/more"),
        ("GET", "/nowhere"),
    ],
)
def test_another_call(method: str, path: str) -> None:
    """Is none of those: another method, or a path that only holds or begins like one of theirs."""
    assert not_offered(method, path) is None


def test_what_is_offered_is_not_refused() -> None:
    """No operation of the server is in the list."""
    assert [one.name for one in OPERATIONS if not_offered(one.method, one.path)] == ["get_workspace", "list_data_sets"]


def test_the_workspace_as_clients_of_studio_read_it() -> None:
    """All members that they read; the one list of data sets that R's package does not stumble over."""
    assert json.loads(json.dumps(workspace_to_wire("w"))) == {
        "WorkspaceId": "w",
        "FriendlyName": "azureml-classic",
        "Description": "",
        "Region": "self-hosted",
        "OwnerEmail": "",
        "WorkspaceStatus": "Enabled",
        "Type": "Standard",
        "UseDefaultHDInsightSettings": False,
    }
    assert [dict(one) for one in NO_DATA_SETS] == [{"Name": None}]
