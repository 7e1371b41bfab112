"""Every operation, called as a function: one shape of error, the documented codes, and what old clients need byte for
byte."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from airflow_provider_azureml_classic.protocol import operations as ops
from airflow_provider_azureml_classic.protocol.messages import Response
from airflow_provider_azureml_classic.protocol.operations import Credential, Operation
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint
from tests.support.calls import GUARDED, assert_error_shape, by_name, least_body, path_of, refusal
from tests.support.service import RESOURCE, WORKSPACE, Service

MANAGEMENT = tuple(operation for operation in GUARDED if operation.credential is not Credential.ENDPOINT)


# -- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "operation",
    # The calls of a customer name no endpoint: the key does.
    [operation for operation in GUARDED if not operation.path.startswith("/customer")],
    ids=lambda operation: operation.name,
)
def test_the_key_of_another_endpoint_is_refused(service: Service, scorer: Endpoint, operation: Operation) -> None:
    """A key opens its own endpoint only; adding an endpoint to the same service and listing are open to it."""
    other = service.client.add_endpoint(service.scoring, "other")
    body = {"Resources": [], "Description": "taken over"} if operation is ops.PATCH_ENDPOINT else least_body(operation)
    response = service.ask(operation.method, path_of(operation, service, scorer), body, key=other.primary_key)
    if operation is ops.LIST_ENDPOINTS:
        assert response.status == 200
        shown = {item["Name"]: item["PrimaryKey"] for item in json.loads(response.body)}
        assert shown == {"default": "", "mine": "", "other": other.primary_key}
        return
    code = "AdminRequestUnauthorized" if operation.credential is Credential.WORKSPACE else refusal(operation)
    assert_error_shape(response, 401, code)
    assert scorer.primary_key not in response.body.decode()
    assert service.client.get_endpoint(service.scoring, "mine").description is None


@pytest.mark.slow
@by_name
def test_the_workspace_token_opens_management_only(service: Service, scorer: Endpoint, operation: Operation) -> None:
    """Jobs and scoring take the endpoint's own key."""
    response = service.ask(operation.method, path_of(operation, service, scorer), b"")
    if operation.credential is Credential.ENDPOINT:
        assert_error_shape(response, 401, "ScoreRequestUnauthorized")
    else:
        assert response.status != 401


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a%2Fb", "..%2F..", "%00", "%ff", "%C3%A4", "a%20b", "mine%0a", "%EF%BC%91"])
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_an_odd_name_in_a_path_is_a_name(service: Service, scorer: Endpoint, method: str, name: str) -> None:
    """A percent-encoded slash does not end the segment; what is no endpoint's name cannot become one."""
    response = service.ask(method, service.endpoint_path(name), {})
    if method == "PUT" and name == "mine%0a":
        assert json.loads(response.body)["Name"] == "mine"
    elif method == "PUT":
        assert_error_shape(response, 400, "EndpointNameInvalid")
    else:
        assert "it has: default, mine." in assert_error_shape(response, 404, "EndpointNotFound")


def test_a_fault_of_the_server_is_an_error_in_the_same_shape(
    service: Service, scorer: Endpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """500 without the reason, which goes to the log together with the request id."""

    def broken(service_id: str) -> Any:
        raise RuntimeError("secret path")

    monkeypatch.setattr(service.workspace, "service", broken)
    response = service.ask("GET", f"/workspaces/{WORKSPACE}/webservices/{service.training}")
    assert "secret path" not in assert_error_shape(response, 500, "UnknownError")
    assert response.headers["x-ms-request-id"] in caplog.text


# -- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", "Bearer  ", "  Bearer   "])
def test_the_scheme_is_read_tolerantly(service: Service, scheme: str) -> None:
    """Python writes it in lower case, R puts two blanks behind it."""
    headers = {"authorization": f"{scheme}{service.settings.token} "}
    response = service.ask("GET", f"/workspaces/{WORKSPACE}/webservices", key=None, headers=headers)
    assert response.status == 200


@pytest.mark.parametrize(
    "operation", [ops.GET_ENDPOINT, ops.REFRESH_ENDPOINT, ops.DELETE_ENDPOINT], ids=lambda o: o.name
)
def test_an_endpoints_own_key_manages_it(service: Service, scorer: Endpoint, operation: Operation) -> None:
    """Both keys, by name and by GUID."""
    guid = scorer.api_location.rpartition("/")[2]
    for name, key in (("mine", scorer.primary_key), (guid, scorer.secondary_key)):
        if operation is ops.DELETE_ENDPOINT and name == "mine":
            continue
        path = path_of(operation, service, scorer, endpoint=name)
        assert service.ask(operation.method, path, key=key).status in (200, 204, 304)


def test_a_key_adds_endpoints_to_its_own_service_only(service: Service, scorer: Endpoint) -> None:
    """It may not change, or read the keys of, one that is there already."""
    key = scorer.primary_key
    assert service.ask("PUT", service.endpoint_path("third"), {}, key=key).status == 201
    again = service.ask("PUT", service.endpoint_path("third"), {"Description": "mine now"}, key=key)
    assert_error_shape(again, 401, "ManagementRequestUnauthorized")
    default = service.ask("PUT", service.endpoint_path("default"), {"Description": "mine now"}, key=key)
    assert_error_shape(default, 401, "ManagementRequestUnauthorized")
    elsewhere = service.ask("PUT", service.endpoint_path("third", service.training), {}, key=key)
    assert_error_shape(elsewhere, 401, "ManagementRequestUnauthorized")
    assert service.ask("PUT", service.endpoint_path("mine"), {"Description": "own"}, key=key).status == 200


def test_the_keys_of_a_deleted_endpoint_open_nothing(service: Service, scorer: Endpoint) -> None:
    """Neither management nor scoring, at once; and its name is free again."""
    assert service.slope(scorer) == 2
    service.client.delete_endpoint(service.scoring, "mine")
    assert service.ask("GET", service.endpoint_path("default"), key=scorer.primary_key).status == 401
    response = service.ask("POST", service.api_path(scorer, "/execute"), {}, key=scorer.primary_key)
    assert_error_shape(response, 401, "ScoreRequestUnauthorized")
    again = service.client.add_endpoint(service.scoring, "mine")
    assert again.primary_key != scorer.primary_key


# -- what old clients need, byte for byte ----------------------------------------------------------------------------

MEMBERS = {
    "Name": str,
    "Description": str | None,
    "CreationTime": str,
    "WorkspaceId": str,
    "WebServiceId": str,
    "HelpLocation": str,
    "PrimaryKey": str,
    "SecondaryKey": str,
    "ApiLocation": str,
    "Version": str,
    "PreventUpdate": bool,
    "SampleDataEnabled": bool,
    "ExperimentLocation": str | None,
    "MaxConcurrentCalls": int,
    "DiagnosticsTraceLevel": str,
    "ThrottleLevel": str,
    "Resources": list,
}


def test_endpoints_are_a_bare_array_of_seventeen_members(service: Service, scorer: Endpoint) -> None:
    """Booleans and numbers are never null; a patchable endpoint has a resource, or azuremlps crashes."""
    response = service.ask("GET", service.endpoint_path("").rstrip("/"))
    listed = json.loads(response.body)
    assert [item["Name"] for item in listed] == ["default", "mine"]
    for item in listed:
        assert set(item) == set(MEMBERS)
        assert all(isinstance(item[name], kind) for name, kind in MEMBERS.items()), item
        (resource,) = item["Resources"]
        assert (resource["Name"], resource["Kind"]) == (RESOURCE, "TrainedModel")
        assert set(resource["Location"]) == {"ConnectionString", "BaseLocation", "RelativeLocation", "SasBlobToken"}
        assert re.fullmatch(r"[A-Za-z0-9+/]{86}==", item["PrimaryKey"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", item["CreationTime"])
        assert re.search(rf"/workspaces/{WORKSPACE}/services/[0-9a-f]{{32}}$", item["ApiLocation"])
    one = service.ask("GET", service.endpoint_path("mine"))
    assert json.loads(one.body) == listed[1]
    assert one.headers["etag"] == '"1"'


def test_a_training_service_has_no_resources(service: Service) -> None:
    """An empty array, not null."""
    (item,) = json.loads(service.ask("GET", service.endpoint_path("", service.training).rstrip("/")).body)
    assert item["Resources"] == []


def test_web_services_have_their_seven_members(service: Service, scorer: Endpoint) -> None:
    """A bare array; the count includes the default endpoint."""
    listed = json.loads(service.ask("GET", f"/workspaces/{WORKSPACE}/webservices").body)
    names = ["Id", "Name", "Description", "CreationTime", "WorkspaceId", "DefaultEndpointName", "EndpointCount"]
    assert all(list(item) == names for item in listed)
    found = next(item for item in listed if item["Id"] == service.scoring)
    assert (found["DefaultEndpointName"], found["EndpointCount"]) == ("default", 2)
    assert json.loads(service.ask("GET", f"/workspaces/{WORKSPACE}/webservices/{service.scoring}").body) == found


@pytest.mark.slow
def test_the_six_core_calls(service: Service) -> None:
    """List, add, submit, start, poll, patch, exactly as the wire document has them."""
    listed = json.loads(service.ask("GET", service.endpoint_path("", service.training).rstrip("/")).body)
    trainer = Endpoint.from_wire(listed[0])
    body = {"Description": "store 17", "ThrottleLevel": "High", "MaxConcurrentCalls": 40, "PreventUpdate": False}
    added = service.ask("PUT", service.endpoint_path("store017"), body)
    assert (added.status, json.loads(added.body)["MaxConcurrentCalls"]) == (201, 40)
    service.put_blob("data/feb.csv", "x,y\n" + "".join(f"{x / 10},{7 * x / 10}\n" for x in range(21)))
    connection = service.settings.account.connection_string
    job = {
        "Inputs": {"input1": {"ConnectionString": connection, "RelativeLocation": "data/feb.csv"}},
        "Outputs": {"output1": {"ConnectionString": connection, "RelativeLocation": "/models/feb.ilearner"}},
        "GlobalParameters": {},
    }
    key = trainer.primary_key
    headers = {"content-type": "application/json; charset=us-ascii", "x-aml-sdk": "dotnetsdk_0.3.8"}
    submitted = service.ask("POST", service.api_path(trainer, "/jobs"), job, key=key, headers=headers)
    assert submitted.status == 200
    assert re.fullmatch(rb'"[0-9a-f]{32}"', submitted.body)
    job_id = submitted.body[1:-1].decode()
    started = service.ask("POST", service.api_path(trainer, f"/jobs/{job_id}/start"), key=key, headers=headers)
    assert (started.status, started.body) == (200, b"")
    service.ended(trainer, job_id)
    polled = json.loads(service.ask("GET", service.api_path(trainer, f"/jobs/{job_id}"), key=key).body)
    assert polled["StatusCode"] == "Finished"
    location = polled["Results"]["output1"]
    patch = {"Resources": [{"Name": RESOURCE, "Location": location}]}
    own_key = json.loads(added.body)["PrimaryKey"]
    assert service.ask("PATCH", service.endpoint_path("store017"), patch, key=own_key).status == 200
    assert service.slope(Endpoint.from_wire(json.loads(added.body))) == 7


# -- adding and deleting endpoints -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "level", "calls"),
    [
        (b"", "Low", 4),
        ({}, "Low", 4),
        ({"ThrottleLevel": "Low", "MaxConcurrentCalls": 100}, "Low", 4),
        ({"ThrottleLevel": "Low", "MaxConcurrentCalls": None}, "Low", 4),
        ({"ThrottleLevel": "High"}, "High", 20),
        ({"ThrottleLevel": "High", "MaxConcurrentCalls": None}, "High", 20),
        ({"ThrottleLevel": "high", "MaxConcurrentCalls": "20"}, "High", 20),
        ({"ThrottleLevel": "High", "MaxConcurrentCalls": 1}, "High", 1),
        ({"ThrottleLevel": "High", "MaxConcurrentCalls": 200}, "High", 200),
        (
            {
                "WebServiceId": "x",
                "EndpointName": "ignored",
                "Description": "d",
                "ThrottleLevel": "High",
                "MaxConcurrentCalls": "7",
                "PreventUpdate": False,
                "SampleDataEnabled": True,
                "DiagnosticsTraceLevel": "Error",
            },
            "High",
            7,
        ),
    ],
)
def test_both_forms_of_the_body_add_an_endpoint(service: Service, body: Any, level: str, calls: int) -> None:
    """With and without the members that repeat the path; concurrency as number, numeric string or null."""
    response = service.ask("PUT", service.endpoint_path("new1"), body)
    made = json.loads(response.body)
    assert (response.status, made["Name"]) == (201, "new1")
    assert (made["ThrottleLevel"], made["MaxConcurrentCalls"]) == (level, calls)
    assert response.headers["etag"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"ThrottleLevel": "High", "MaxConcurrentCalls": 201}, "WebServiceTooManyConcurrentRequestRequirement"),
        ({"ThrottleLevel": "High", "MaxConcurrentCalls": 0}, "BadParameterValue"),
        ({"ThrottleLevel": "High", "MaxConcurrentCalls": -1}, "BadParameterValue"),
        ({"ThrottleLevel": "High", "MaxConcurrentCalls": 1.5}, "BadParameterValue"),
        ({"ThrottleLevel": "High", "MaxConcurrentCalls": "many"}, "BadParameterValue"),
        ({"ThrottleLevel": "High", "MaxConcurrentCalls": True}, "BadParameterValue"),
        ({"ThrottleLevel": "Medium"}, "BadParameterValue"),
        ({"PreventUpdate": "perhaps"}, "BadParameterValue"),
        ({"Description": 7}, "BadParameterValue"),
        ({"ThrotleLevel": "High"}, "UnexpectedParameter"),
        ({"Resources": [{"Name": RESOURCE, "Location": {"RelativeLocation": "m/x.ilearner"}}]}, "UnexpectedParameter"),
    ],
)
def test_bad_settings_are_refused_and_nothing_is_added(service: Service, body: Any, code: str) -> None:
    """The member at fault is the target of the detail."""
    response = service.ask("PUT", service.endpoint_path("new1"), body)
    assert_error_shape(response, 400, code)
    assert service.ask("GET", service.endpoint_path("new1")).status == 404


@pytest.mark.slow
@pytest.mark.parametrize("name", ["A", "new_1", "new-1", "n" * 25, "n.1", "%C3%B1", "%D9%A1"])
def test_names_are_24_lower_case_letters_and_digits(service: Service, name: str) -> None:
    """The rule is in the message."""
    response = service.ask("PUT", service.endpoint_path(name), {})
    assert "1 to 24 lower-case" in assert_error_shape(response, 400, "EndpointNameInvalid")
    for right in ("n" * 24, "store017"):
        assert service.ask("PUT", service.endpoint_path(right), {}).status == 201


def test_blanks_around_a_name_do_not_make_another_endpoint(service: Service, scorer: Endpoint) -> None:
    """A pasted blank is dropped on both ways in: the same endpoint is found."""
    assert service.ask("PUT", service.endpoint_path("%20mine%20"), {}).status == 200
    assert [e.name for e in service.client.list_endpoints(service.scoring)] == ["default", "mine"]


def test_adding_an_endpoint_again_changes_its_settings_only(service: Service, scorer: Endpoint) -> None:
    """200 instead of 201; keys, model and what is not mentioned stay."""
    service.patch("mine", BlobReference("models/ten.ilearner"))
    body = {"Description": "again", "ThrottleLevel": "High"}
    response = service.ask("PUT", service.endpoint_path("mine"), body)
    again = Endpoint.from_wire(json.loads(response.body))
    assert (response.status, again.primary_key) == (200, scorer.primary_key)
    assert (again.description, again.max_concurrent_calls) == ("again", 20)
    assert service.slope(again) == 10


@pytest.mark.slow
@pytest.mark.parametrize("text", ["caf\u00e9", "\U0001f600", "a\0b", "\ud800", "x" * 4096, "x" * 4097, ""])
def test_any_description_can_be_kept(service: Service, text: str) -> None:
    """Whatever JSON can carry comes back, or is refused; it is never a fault of the server."""
    response = service.ask("PUT", service.endpoint_path("new1"), {"Description": text})
    if text in ("a\0b", "\ud800", "x" * 4097):
        assert_error_shape(response, 400)
    else:
        assert json.loads(service.ask("GET", service.endpoint_path("new1")).body)["Description"] == text


def test_the_default_endpoint_cannot_be_deleted(service: Service, scorer: Endpoint) -> None:
    """Other endpoints can, once."""
    assert_error_shape(service.ask("DELETE", service.endpoint_path("default")), 400, "InvalidOperation")
    assert service.ask("DELETE", service.endpoint_path("mine")).status == 204
    assert_error_shape(service.ask("DELETE", service.endpoint_path("mine")), 404, "EndpointNotFound")


def test_a_name_comes_before_a_guid(service: Service, scorer: Endpoint) -> None:
    """An endpoint may be called like the beginning of a GUID; the path names it, not the other."""
    guid = scorer.api_location.rpartition("/")[2]
    named = service.client.add_endpoint(service.scoring, guid[:24])
    assert json.loads(service.ask("GET", service.endpoint_path(guid)).body)["Name"] == "mine"
    assert json.loads(service.ask("GET", service.endpoint_path(guid[:24])).body)["Name"] == named.name


def test_a_deleted_web_service_is_gone_with_its_endpoints(service: Service, scorer: Endpoint) -> None:
    """Only the workspace token may do that; scoring stops at once."""
    assert service.slope(scorer) == 2
    path = f"/workspaces/{WORKSPACE}/webservices/{service.scoring}"
    assert service.ask("DELETE", path).status == 204
    assert_error_shape(service.ask("GET", path), 404, "WebServiceNotFound")
    response = service.ask("POST", service.api_path(scorer, "/execute"), {}, key=scorer.primary_key)
    assert_error_shape(response, 401, "ScoreRequestUnauthorized")


# -- scoring ---------------------------------------------------------------------------------------------------------


def execute(service: Service, endpoint: Endpoint, body: Any, query: str = "") -> Response:
    """A scoring call."""
    return service.ask("POST", service.api_path(endpoint, "/execute") + query, body, key=endpoint.primary_key)


def test_the_forms_of_a_scoring_call(service: Service, scorer: Endpoint) -> None:
    """Table and list of objects in, table with or without types or list of objects out; cells are strings."""
    table = {"Inputs": {"input1": {"ColumnNames": ["x"], "Values": [[1], ["1.0"]]}}, "GlobalParameters": {}}
    objects = {"Inputs": {"input1": [{"x": 1}, {"x": "1"}]}, "GlobalParameters": None}
    for body in (table, objects):
        plain = json.loads(execute(service, scorer, body).body)["Results"]["output1"]
        assert plain["type"] == "table"
        assert list(plain["value"]) == ["ColumnNames", "Values"]
        assert all(isinstance(cell, str) for row in plain["value"]["Values"] for cell in row)
        typed = json.loads(execute(service, scorer, body, "&details=true").body)["Results"]["output1"]
        assert typed["value"]["ColumnTypes"] == ["Double"]
        answer = execute(service, scorer, body, "&details=true&format=swagger")
        rows = json.loads(answer.body)["Results"]["output1"]
        assert [round(float(row["Scored Labels"]), 2) for row in rows] == [2, 2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "code", "word"),
    [
        ({}, "MissingRequestInput", "input1"),
        ({"Inputs": {}}, "MissingRequestInput", "input1"),
        ({"Inputs": {"input2": []}}, "InvalidInputNames", "'input2'"),
        ({"Inputs": {"input1": [{"z": 1}]}}, "InputMismatchError", "'x'"),
        ({"Inputs": {"input1": [{"x": "abc"}]}}, "InputParseError", "'x'"),
        ({"Inputs": {"input1": [{"x": 1}]}, "GlobalParameters": {"a": 1}}, "UnexpectedParameter", "'a'"),
        ({"Imputs": {"input1": [{"x": 1}]}}, "UnexpectedParameter", "'Imputs'"),
        ({"Inputs": {}, "inputs": {"input1": [{"x": 1}]}}, "UnexpectedParameter", "Inputs twice"),
        ({"Inputs": {"input1": {"ColumnNames": ["x"], "Values": [[1, 2]]}}}, "InputParseError", "Row 1"),
    ],
)
def test_a_bad_scoring_call_names_what_is_wrong(
    service: Service, scorer: Endpoint, body: Any, code: str, word: str
) -> None:
    """Input, column, row or parameter."""
    assert word in assert_error_shape(execute(service, scorer, body), 400, code)


def test_a_training_service_does_not_score(service: Service) -> None:
    """The message says that it takes jobs only."""
    trainer = service.client.get_endpoint(service.training, "default")
    response = execute(service, trainer, {"Inputs": {"input1": [{"x": 1}]}})
    assert "only jobs" in assert_error_shape(response, 400, "BatchExecutionOnly")
