"""The verbs: what each sends, what it makes of every kind of answer, and that both clients do the same."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from airflow_provider_azureml_classic.client import AsyncClient, Client, RetryPolicy
from airflow_provider_azureml_classic.client.retries import NO_RETRIES
from airflow_provider_azureml_classic.client.verb import verb
from airflow_provider_azureml_classic.client.verbs import SCORE_TIMEOUT, BlobFacts, Verbs
from airflow_provider_azureml_classic.exceptions import (
    AccessDenied,
    AzureMLClassicError,
    NotFound,
    ProtocolError,
    RequestRejected,
    ServiceUnavailable,
)
from airflow_provider_azureml_classic.protocol import operations as ops
from airflow_provider_azureml_classic.protocol.jobs import JobRequest, JobStatus
from airflow_provider_azureml_classic.protocol.messages import Request, Response
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.protocol.values import Endpoint, EndpointSettings, Resource, ThrottleLevel
from tests.support.listeners import serving

SAMPLES = Path(__file__).parents[1] / "samples"
WS, SERVICE, JOB = "1c2d3e4f5a6b47c8d9e0f1a2b3c4d5e6", "9f8e7d6c5b4a49382716f5e4d3c2b1a0", "7b6a5948"
BASE = "https://management.example"
SERVICES = f"{BASE}/workspaces/{WS}/webservices"
ENDPOINT = f"{SERVICES}/{SERVICE}/endpoints/store017"
API = f"https://services.example/workspaces/{WS}/services/0a1b"
STORE = Endpoint("store017", SERVICE, WS, api_location=API, primary_key="KEY-1", secondary_key="KEY-2")
BLOB = BlobReference("models/feb.ilearner", "https://acct.example/", "?sig=U0VD%3D")
MODEL = EndpointSettings(resources=(Resource("Churn Model [trained model]", BLOB),))
CONTENT = b"{not an error, and not JSON"
JSON_TYPE = "application/json; charset=utf-8"


def sample(name: str) -> Any:
    """A decoded sample."""
    return json.loads((SAMPLES / f"{name}.json").read_text())


def refusal(status: int, detail: str = "ScoreRequestUnauthorized") -> Response:
    """An answer that refuses."""
    body = {"error": {"code": "Class", "message": "No.", "details": [{"code": detail, "message": "No."}]}}
    return Response.of_json(body, status=status, headers={"x-ms-request-id": "r-1"})


#: Operation -> its ordinary answer.
ANSWERS: dict[ops.Operation, Response] = {
    ops.LIST_SERVICES: Response.of_json(sample("web_services")),
    ops.GET_SERVICE: Response.of_json(sample("web_services")[0]),
    ops.DELETE_SERVICE: Response(204),
    ops.LIST_ENDPOINTS: Response.of_json(sample("endpoints")),
    ops.GET_ENDPOINT: Response.of_json(sample("endpoints")[1], headers={"etag": '"v7"'}),
    ops.ADD_ENDPOINT: Response.of_json(sample("endpoints")[1], status=201),
    ops.PATCH_ENDPOINT: Response(200),
    ops.DELETE_ENDPOINT: Response(204),
    ops.REFRESH_ENDPOINT: Response(200),
    ops.SUBMIT_JOB: Response(200, {}, f'"{JOB}"'.encode()),
    ops.START_JOB: Response(200),
    ops.GET_JOB: Response.of_json(sample("job_finished")),
    ops.CANCEL_JOB: Response(200, {}, b"null"),
    ops.SCORE: Response.of_json(sample("score_table")),
    ops.FETCH_BLOB: Response(200, {}, CONTENT),
    ops.PROBE_BLOB: Response(200, {"content-length": "5", "x-ms-meta-sha256": "ab" * 32}),
    ops.STORE_BLOB: Response(201),
}


class Service:
    """A transport that answers from :data:`ANSWERS`, or as told, and keeps what it was sent."""

    def __init__(self, *told: Response, **by_name: Response) -> None:
        self.told = list(told)
        self.answers = {operation.name: answer for operation, answer in ANSWERS.items()} | by_name
        self.requests: list[Request] = []

    def __call__(self, request: Request) -> Response:
        """Answer a request."""
        self.requests.append(request)
        return self.told.pop(0) if self.told else self.answers[request.operation.name]

    @property
    def keys(self) -> list[str]:
        """The keys of all requests, in order."""
        return [request.headers["authorization"].removeprefix("Bearer ") for request in self.requests]


def client_of(service: Callable[[Request], Response], **options: Any) -> Client:
    """A client whose transport is ``service`` and whose calls are made once."""
    return Client(BASE, WS, "TOKEN", transport=service, retries=NO_RETRIES, **options)


#: Verb -> arguments of one ordinary call.
CALLS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "list_web_services": ((), {}),
    "get_web_service": ((SERVICE,), {}),
    "find_web_service": (("Churn Training",), {}),
    "delete_web_service": ((SERVICE,), {}),
    "list_endpoints": ((SERVICE,), {}),
    "get_endpoint": ((SERVICE, "store017"), {}),
    "add_endpoint": ((SERVICE, "store017", EndpointSettings("store 17", ThrottleLevel.HIGH, 40)), {}),
    "patch_endpoint": ((STORE, MODEL), {"if_match": '"v7"'}),
    "refresh_endpoint": ((SERVICE, "store017"), {"overwrite_resources": True}),
    "delete_endpoint": ((SERVICE, "store017"), {}),
    "submit_job": ((STORE, JobRequest({"input1": BLOB}, {"output1": BLOB}, {"Rounds": 20})), {}),
    "start_job": ((STORE, JOB), {}),
    "get_job": ((STORE, JOB), {}),
    "cancel_job": ((STORE, JOB), {}),
    "score": ((STORE, [{"x": 1, "y": "a"}]), {"global_parameters": {"p": 1}}),
    "fetch_blob": ((BLOB,), {}),
    "store_blob": ((BLOB, CONTENT), {}),
    "blob_facts": ((BLOB,), {}),
}
#: Verbs of our additions, which have tests of their own: the service that the others are tried on does not know them.
ADDITIONS = {
    "get_drift",
    "get_quota",
    "job_log",
    "list_audit",
    "list_jobs",
    "list_keys",
    "list_models",
    "make_key",
    "names",
    "read_rows",
    "regenerate_key",
    "rehearse_update",
    "revoke_key",
    "score_by",
    "score_model",
    "service_facts",
    "set_quota",
    "sign_blob",
    "store_stream",
}


def call(client: Any, name: str) -> Any:
    """Call a verb with its ordinary arguments."""
    arguments, options = CALLS[name]
    return getattr(client, name)(*arguments, **options)


def test_every_verb_has_a_call_here() -> None:
    """A verb that is added has to be added to the tests of this file."""
    assert {name for name, value in vars(Verbs).items() if isinstance(value, verb)} == {*CALLS, *ADDITIONS}


LOCATION = {
    "ConnectionString": None,
    "RelativeLocation": "models/feb.ilearner",
    "BaseLocation": "https://acct.example/",
    "SasBlobToken": "?sig=U0VD%3D",
}


@pytest.mark.parametrize(
    ("name", "method", "url", "key", "body"),
    [
        ("list_web_services", "GET", f"{SERVICES}?limit=1000", "TOKEN", None),
        ("get_web_service", "GET", f"{SERVICES}/{SERVICE}", "TOKEN", None),
        ("find_web_service", "GET", f"{SERVICES}?limit=1000", "TOKEN", None),
        ("delete_web_service", "DELETE", f"{SERVICES}/{SERVICE}", "TOKEN", None),
        ("list_endpoints", "GET", f"{SERVICES}/{SERVICE}/endpoints?limit=1000", "TOKEN", None),
        ("get_endpoint", "GET", ENDPOINT, "TOKEN", None),
        (
            "add_endpoint",
            "PUT",
            ENDPOINT,
            "TOKEN",
            {"Description": "store 17", "ThrottleLevel": "High", "MaxConcurrentCalls": 40},
        ),
        (
            "patch_endpoint",
            "PATCH",
            ENDPOINT,
            "KEY-1",
            {"Resources": [{"Name": "Churn Model [trained model]", "Location": LOCATION}]},
        ),
        ("refresh_endpoint", "POST", f"{ENDPOINT}/refresh", "TOKEN", {"OverwriteResources": "True"}),
        ("delete_endpoint", "DELETE", ENDPOINT, "TOKEN", None),
        (
            "submit_job",
            "POST",
            f"{API}/jobs?api-version=2.0",
            "KEY-1",
            {"Inputs": {"input1": LOCATION}, "Outputs": {"output1": LOCATION}, "GlobalParameters": {"Rounds": 20}},
        ),
        ("start_job", "POST", f"{API}/jobs/{JOB}/start?api-version=2.0", "KEY-1", None),
        ("get_job", "GET", f"{API}/jobs/{JOB}?api-version=2.0", "KEY-1", None),
        ("cancel_job", "DELETE", f"{API}/jobs/{JOB}?api-version=2.0", "KEY-1", None),
        (
            "score",
            "POST",
            f"{API}/execute?api-version=2.0&details=true",
            "KEY-1",
            {"Inputs": {"input1": {"ColumnNames": ["x", "y"], "Values": [[1, "a"]]}}, "GlobalParameters": {"p": 1}},
        ),
    ],
)
def test_verb_sends(name: str, method: str, url: str, key: str, body: Any) -> None:
    """Each verb sends one request with this method, URL, key and body, and names its content only if there is one."""
    service = Service()
    call(client_of(service), name)
    (request,) = service.requests
    assert (request.operation.method, request.url, service.keys) == (method, url, [key])
    assert (json.loads(request.body) if request.body else None) == body
    assert request.headers["accept"] == "application/json"
    assert request.headers.get("content-type") == (JSON_TYPE if body is not None else None)
    assert request.headers.get("if-match") == ('"v7"' if name == "patch_endpoint" else None)
    assert request.timeout == (SCORE_TIMEOUT if name == "score" else 30.0)


@pytest.mark.parametrize(
    ("name", "method", "body"),
    [("fetch_blob", "GET", b""), ("store_blob", "PUT", CONTENT), ("blob_facts", "HEAD", b"")],
)
def test_blob_verb_sends(name: str, method: str, body: bytes) -> None:
    """Blob calls go to the location with its token as it is, and carry no key: the host may be anybody's."""
    service = Service()
    call(client_of(service), name)
    (request,) = service.requests
    assert (request.operation.method, request.url, request.body) == (method, BLOB.url, body)
    assert "authorization" not in request.headers
    assert request.headers.get("x-ms-blob-type") == ("BlockBlob" if name == "store_blob" else None)


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("delete_web_service", None),
        ("patch_endpoint", None),
        ("refresh_endpoint", True),
        ("delete_endpoint", None),
        ("submit_job", JOB),
        ("start_job", None),
        ("cancel_job", None),
        ("fetch_blob", CONTENT),
        ("store_blob", None),
        ("blob_facts", BlobFacts(5, "ab" * 32)),
    ],
)
def test_verb_returns(name: str, result: Any) -> None:
    """Each verb without a description as its answer returns this."""
    assert call(client_of(Service()), name) == result


def test_verb_returns_descriptions() -> None:
    """Verbs that describe return values, not dicts."""
    client = client_of(Service())
    assert [service.name for service in call(client, "list_web_services")] == [
        "Churn [predictive exp.]",
        "Churn Training",
    ]
    assert call(client, "get_web_service").id == SERVICE
    assert [endpoint.name for endpoint in call(client, "list_endpoints")] == ["default", "store017"]
    assert call(client, "get_endpoint").etag == '"v7"'
    assert call(client, "add_endpoint").primary_key == "store017-primary-key=="
    assert call(client, "get_job").status is JobStatus.FINISHED
    assert call(client, "score") == Table(
        ("Scored Labels", "Scored Probabilities"), [["yes", "0.71"], ["no", "0.12"]], ("String", "Double")
    )


def test_settings_are_optional() -> None:
    """An endpoint may be added with the server's defaults, and with blanks around its name."""
    service = Service()
    client_of(service).add_endpoint(SERVICE, " store017 ")
    assert (service.requests[0].url, service.requests[0].body) == (ENDPOINT, b"{}")


@pytest.mark.parametrize("body", [b"", b"null", b"{}", b'{"Name": "store017"}'])
def test_add_endpoint_with_a_silent_server(body: bytes) -> None:
    """Where the answer does not describe the endpoint, it is read."""
    service = Service(add_endpoint=Response(200, {}, body))
    assert call(client_of(service), "add_endpoint").name == "store017"
    assert [request.operation for request in service.requests] == [ops.ADD_ENDPOINT, ops.GET_ENDPOINT]


# -- lists and names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "count"),
    [
        (sample("web_services"), 2),
        ({"value": sample("web_services")}, 2),
        (sample("web_services")[0], 1),
        ([], 0),
        ({"value": []}, 0),
    ],
    ids=["array", "envelope", "object", "empty", "empty-envelope"],
)
def test_list_forms(answer: Any, count: int) -> None:
    """A list is a bare array, an envelope, or a single object (wire document, section 2.2)."""
    service = Service(list_web_services=Response.of_json(answer))
    assert len(client_of(service).list_web_services()) == count


@pytest.mark.parametrize("wanted", [SERVICE, "Churn [predictive exp.]", f" {SERVICE}\n"])
def test_find_web_service(wanted: str) -> None:
    """A web service is found by its id or its name."""
    assert client_of(Service()).find_web_service(wanted).id == SERVICE


def test_find_web_service_prefers_the_id() -> None:
    """A name that is another one's id does not get in the way."""
    services = [{"Id": "1", "Name": "2"}, {"Id": "2", "Name": "x"}]
    assert client_of(Service(list_web_services=Response.of_json(services))).find_web_service("2").name == "x"


@pytest.mark.parametrize(
    ("services", "wanted", "said"),
    [
        (sample("web_services"), "churn training", "no web service is called 'churn training'"),
        (
            [{"Id": "1", "Name": "a"}, {"Id": "2", "Name": "a"}, {"Id": "3", "Name": "b"}],
            "a",
            "several web services are",
        ),
        ([], "a", "there are: none at all"),
    ],
    ids=["none", "several", "empty"],
)
def test_find_web_service_fails(services: Any, wanted: str, said: str) -> None:
    """None or several: the message lists those to choose from, with their ids."""
    with pytest.raises(NotFound, match=said) as caught:
        client_of(Service(list_web_services=Response.of_json(services))).find_web_service(wanted)
    listed = [s for s in services if s["Name"] == wanted] or services
    assert all(f"'{s['Name']}' ({s['Id']})" in str(caught.value) for s in listed)
    assert "'b' (3)" not in str(caught.value)


# -- keys --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403])
def test_patch_falls_back_to_the_token(status: int) -> None:
    """A server that takes the workspace token only is patched with it, after the endpoint's own key."""
    service = Service(refusal(status))
    client_of(service).patch_endpoint(STORE, MODEL, if_match='"v7"')
    assert service.keys == ["KEY-1", "TOKEN"]
    assert [request.headers["if-match"] for request in service.requests] == ['"v7"', '"v7"']


def test_patch_refused_twice() -> None:
    """If both keys are refused, the second answer is the error."""
    service = Service(refusal(401), refusal(403, "ManagementRequestUnauthorized"))
    with pytest.raises(AccessDenied) as caught:
        client_of(service).patch_endpoint(STORE, MODEL)
    assert caught.value.detail_code == "ManagementRequestUnauthorized"


@pytest.mark.parametrize("status", [400, 404, 409, 412, 500, 503])
def test_patch_does_not_try_another_key(status: int) -> None:
    """Any answer but a refusal of the key ends the matter."""
    service = Service(refusal(status))
    with pytest.raises(AzureMLClassicError) as caught:
        client_of(service).patch_endpoint(STORE, MODEL)
    assert (caught.value.status, service.keys) == (status, ["KEY-1"])


@pytest.mark.parametrize(("key", "token", "sent"), [("", "TOKEN", ["TOKEN"]), ("KEY-1", "", ["KEY-1"]), ("", "", [""])])
def test_patch_with_one_key_or_none(key: str, token: str, sent: list[str]) -> None:
    """Only keys that are there are tried; without any, the service is left to refuse."""
    service = Service(patch_endpoint=refusal(401))
    client = Client(BASE, WS, token, transport=service, retries=NO_RETRIES)
    with pytest.raises(AccessDenied):
        client.patch_endpoint(Endpoint("store017", SERVICE, primary_key=key), MODEL)
    assert service.keys == [key.strip() for key in sent]


@pytest.mark.parametrize("name", ["submit_job", "start_job", "get_job", "cancel_job", "score"])
def test_regenerated_key(name: str) -> None:
    """A key that was regenerated since the endpoint was read is read again, and the call made with the new one."""
    service = Service(refusal(401))
    call(client_of(service), name)
    first, read, again = service.requests
    assert service.keys == ["KEY-1", "TOKEN", "store017-primary-key=="]
    assert (read.operation, read.url) == (ops.GET_ENDPOINT, ENDPOINT)
    assert (again.url, again.body, again.operation) == (first.url, first.body, first.operation)


def test_regenerated_key_is_read_once() -> None:
    """Whoever goes on with an endpoint as it was read before its key was regenerated pays for that at one call, not at
    each; another endpoint is never sent that key, and a second regeneration is noticed as well.
    """
    service = Service(refusal(401))
    client = client_of(service)
    for _ in range(3):
        client.get_job(STORE, JOB)
    new = "store017-primary-key=="
    assert service.keys == ["KEY-1", "TOKEN", new, new, new]
    client.get_job(replace(STORE, api_location=f"{API}x"), JOB)
    assert service.keys[5:] == ["KEY-1"]
    service.told = [refusal(401)]
    newest = {**sample("endpoints")[1], "PrimaryKey": "KEY-3"}
    service.answers["get_endpoint"] = Response.of_json(newest)
    client.get_job(STORE, JOB)
    client.get_job(STORE, JOB)
    assert service.keys[6:] == [new, "TOKEN", "KEY-3", "KEY-3"]


def test_wrong_key_is_not_tried_again() -> None:
    """If the endpoint still has the refused key, the refusal is the error."""
    same = {**sample("endpoints")[1], "PrimaryKey": "KEY-1"}
    service = Service(refusal(401), get_endpoint=Response.of_json(same))
    with pytest.raises(AccessDenied, match=f"get_job {API}/jobs/{JOB}: No") as caught:
        client_of(service).get_job(STORE, JOB)
    assert caught.value.request_id == "r-1"
    assert len(service.requests) == 2


@pytest.mark.parametrize(
    ("endpoint", "token"),
    [(Endpoint("e", api_location=API, primary_key="K"), "TOKEN"), (STORE, "")],
    ids=["no-id", "no-token"],
)
def test_key_that_cannot_be_read_again(endpoint: Endpoint, token: str) -> None:
    """Without the web service's id, or without a token, the refusal is the error at once."""
    service = Service(refusal(401))
    with pytest.raises(AccessDenied):
        Client(BASE, WS, token, transport=service).get_job(endpoint, JOB)
    assert len(service.requests) == 1


def test_secrets_are_told() -> None:
    """Every key and token is told as it is read or used, so that it can be masked before it is logged."""
    for name in ("get_endpoint", "add_endpoint", "get_job", "fetch_blob", "store_blob", "blob_facts"):
        told: list[str] = []
        call(client_of(Service(), on_secret=told.append), name)
        expected = {
            "get_job": {sample("job_finished")["Results"]["output1"]["SasBlobToken"].lstrip("?")},
            **{key: {"sig=U0VD%3D"} for key in ("fetch_blob", "store_blob", "blob_facts")},
        }.get(name, {"store017-primary-key==", "store017-secondary-key=="})
        assert expected <= set(told), name


def test_secrets_of_a_list_are_told_as_they_are_used() -> None:
    """A list of thousands tells no key, which would slow down Airflow's masker; one that is used is told once."""
    told: list[str] = []
    client = client_of(Service(), on_secret=told.append)
    listed = client.list_endpoints(SERVICE)
    assert told == ["TOKEN"]
    for _ in range(2):
        client.start_job(listed[-1], JOB)
    assert told == ["TOKEN", listed[-1].primary_key]


def test_secret_of_a_regenerated_key_is_told() -> None:
    """A key that a job call reads again is told too."""
    told: list[str] = []
    client_of(Service(refusal(401)), on_secret=told.append).start_job(STORE, JOB)
    assert {"store017-primary-key==", "store017-secondary-key=="} <= set(told)


def test_client_hides_its_token() -> None:
    """The ``repr`` of a client names host and workspace only."""
    assert repr(client_of(Service())) == f"Client('{BASE}', workspace_id='{WS}')"


# -- answers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "changed"), [(200, True), (204, True), (304, False)])
def test_refresh(status: int, changed: bool) -> None:
    """304 says that there was nothing to refresh; it is no error."""
    service = Service(refresh_endpoint=Response(status))
    assert client_of(service).refresh_endpoint(SERVICE, "store017") is changed
    assert json.loads(service.requests[0].body) == {"OverwriteResources": "False"}


def test_304_elsewhere_is_no_answer() -> None:
    """Only a refresh may be answered with 304."""
    with pytest.raises(ProtocolError):
        client_of(Service(get_endpoint=Response(304))).get_endpoint(SERVICE, "store017")


_SERVICE_VERBS = sorted(set(CALLS) - {"fetch_blob", "store_blob", "blob_facts"})


@pytest.mark.parametrize("name", _SERVICE_VERBS)
@pytest.mark.parametrize("status", [400, 403, 404, 500])
def test_error_is_raised(name: str, status: int) -> None:
    """Every verb raises what the service answered, with its own name, the URL, the codes and the request id."""
    with pytest.raises(AzureMLClassicError) as caught:
        call(client_of(lambda request: refusal(status)), name)
    asked = "list_web_services" if name == "find_web_service" else name
    assert (caught.value.verb, caught.value.status, caught.value.request_id) == (asked, status, "r-1")
    assert caught.value.detail_code == "ScoreRequestUnauthorized"
    assert str(caught.value.url).startswith("https://")


@pytest.mark.parametrize("name", _SERVICE_VERBS)
@pytest.mark.parametrize("body", [b'{"error":{"code":"X","message":"No header row."}}', b'\n{"Error":{"Code":"X"}}'])
def test_error_object_under_success_is_raised(name: str, body: bytes) -> None:
    """An error object is an error even under 200: otherwise a job would never run, or a model never be updated."""
    with pytest.raises(AzureMLClassicError) as caught:
        call(client_of(lambda request: Response(200, {}, body)), name)
    assert (caught.value.status, caught.value.code) == (200, "X")


@pytest.mark.parametrize("name", _SERVICE_VERBS)
def test_page_under_success_is_raised(name: str) -> None:
    """A page under 200 is a proxy's, not the service's; the verb and the true status are named."""
    with pytest.raises(ProtocolError, match="A proxy may have answered") as caught:
        call(client_of(lambda request: Response(200, {}, b" <html>Sign in</html>")), name)
    assert caught.value.status == 200
    assert caught.value.verb == ("list_web_services" if name == "find_web_service" else name)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("get_web_service", b"[]"),
        ("get_web_service", b""),
        ("list_web_services", b""),
        ("list_web_services", b"null"),
        ("list_endpoints", b'"text"'),
        ("list_endpoints", b'{"value": null}'),
        ("list_web_services", b"[1]"),
        ("get_endpoint", b"{}"),
        ("get_endpoint", b"plain text"),
        ("list_endpoints", b'[{"Id": "no name"}]'),
        ("submit_job", b""),
        ("submit_job", b"{broken"),
        ("get_job", b"{}"),
        ("get_job", b'{"StatusCode": "Done"}'),
        ("get_job", b'{"StatusCode": "Finished", "Results": {"output1": null}}'),
        ("score", b"{}"),
        ("score", b'{"Results": {"output1": 5}}'),
    ],
)
def test_unreadable_answer(name: str, body: bytes) -> None:
    """What cannot be read is a protocol error that names the verb and the URL, never a bare Python error."""
    with pytest.raises(ProtocolError) as caught:
        call(client_of(lambda request: Response(200, {}, body)), name)
    assert caught.value.verb == name
    assert str(caught.value).startswith(f"{name} https://")
    assert "?" not in str(caught.value.url)


@pytest.mark.parametrize("name", ["start_job", "cancel_job", "patch_endpoint", "delete_endpoint", "delete_web_service"])
@pytest.mark.parametrize("body", [b"", b"null", b"OK", b'"done"', b"{}", b"[]"])
def test_body_is_ignored(name: str, body: bytes) -> None:
    """Where the protocol gives no body, any that is not an error is fine."""
    assert call(client_of(lambda request: Response(200, {}, body)), name) is None


def test_score_of_another_output() -> None:
    """An output that is not in the answer is named, with those that are."""
    with pytest.raises(ProtocolError, match="no output 'output2'; it has: output1"):
        client_of(Service()).score(STORE, [], output_name="output2")


def test_score_input_name() -> None:
    """A table is sent under the input's name; the parameters are an empty object if there are none."""
    service = Service()
    client_of(service).score(STORE, Table(("x",), [[1]]), input_name="rows")
    assert json.loads(service.requests[0].body) == {
        "Inputs": {"rows": {"ColumnNames": ["x"], "Values": [[1]]}},
        "GlobalParameters": {},
    }


@pytest.mark.parametrize("name", ["submit_job", "start_job", "get_job", "cancel_job", "score"])
def test_endpoint_without_api_location(name: str) -> None:
    """An endpoint whose ``ApiLocation`` is not known cannot be called; nothing is sent."""
    service = Service()
    arguments = (Endpoint("store017"), *CALLS[name][0][1:])
    with pytest.raises(ProtocolError, match="'store017' has no ApiLocation") as caught:
        getattr(client_of(service), name)(*arguments)
    assert (caught.value.verb, service.requests) == (name, [])


# -- blobs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        Response(200, {"content-length": "27"}),
        Response(200, {"content-length": "", "x-ms-meta-sha256": "ab"}),
        Response(200, {"content-length": "many", "x-ms-meta-sha256": "ab"}),
        Response(405),
    ],
    ids=["no-metadata", "no-length", "bad-length", "no-head"],
)
def test_blob_facts_by_download(head: Response) -> None:
    """Where the metadata do not tell, the blob is downloaded and measured."""
    service = Service(probe_blob=head)
    facts = client_of(service).blob_facts(BLOB)
    assert facts == BlobFacts(len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    assert [request.operation for request in service.requests] == [ops.PROBE_BLOB, ops.FETCH_BLOB]


def test_blob_facts_of_nothing() -> None:
    """A blob that is not there is an error of the download, whose answer has a reason."""
    service = Service(probe_blob=Response(404), fetch_blob=refusal(404, "BlobNotFound"))
    with pytest.raises(NotFound, match="upload the file") as caught:
        client_of(service).blob_facts(BLOB)
    assert "U0VD" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b'{"error": {"code": "x"}}', b"<html>", b"[]", bytes(range(256))])
def test_blob_content_is_content(content: bytes) -> None:
    """A blob may hold anything, even what would be an error of the service."""
    assert client_of(Service(fetch_blob=Response(200, {}, content))).fetch_blob(BLOB) == content


def test_blob_without_address() -> None:
    """A blob in the service's own store has no address; nothing is sent."""
    service = Service()
    with pytest.raises(ProtocolError, match="has no BaseLocation"):
        client_of(service).fetch_blob(BlobReference("a/b.csv"))
    assert service.requests == []


# -- construction ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", [BASE, f"{BASE}/", f"{BASE}.", f" {BASE}/. ", f"{BASE}//", f"\t{BASE}/\n"])
def test_pasted_url(url: str) -> None:
    """What clings to a pasted URL is taken off, so that the paths fit."""
    assert Client(url, f" {WS} ", " TOKEN\n", transport=Service()).management_url == BASE


def test_pasted_token_and_workspace() -> None:
    """Blanks around a pasted workspace id or token are taken off."""
    service = Service()
    Client(BASE, f" {WS} ", " TOKEN\n", transport=service).list_web_services()
    assert (service.requests[0].url, service.keys) == (f"{SERVICES}?limit=1000", ["TOKEN"])


@pytest.mark.parametrize("url", ["management.example", "", "  ", "ftp://management.example", "//management.example"])
def test_url_without_scheme(url: str) -> None:
    """A URL that is none is refused when the client is made, with an example."""
    with pytest.raises(
        RequestRejected, match=r"must start with http:// or https://, as in https://management\.azureml"
    ):
        Client(url, WS)


def test_client_closes_its_transport() -> None:
    """A client used as a context manager closes what it sends with, if that can be closed."""
    closed = []

    class Closable(Service):
        def close(self) -> None:
            closed.append(self)

    with client_of(Closable()) as client:
        client.list_web_services()
    with client_of(lambda request: ANSWERS[request.operation]) as client:
        client.list_web_services()
    assert len(closed) == 1


def test_verb_is_documented() -> None:
    """The documentation of a verb is that of its method, and its generator is at hand."""
    assert all(value.__doc__ for value in vars(Verbs).values() if isinstance(value, verb))
    steps = Verbs.list_web_services.steps(client_of(Service()))
    assert next(steps).url == f"{SERVICES}?limit=1000"


def test_async_client_has_to_be_open() -> None:
    """An asynchronous client that was not entered says how to."""
    with pytest.raises(RuntimeError, match="async with AsyncClient"):
        asyncio.run(AsyncClient(BASE, WS).list_web_services())


# -- both clients over sockets -----------------------------------------------------------------------------------------


class Recorder(BaseHTTPRequestHandler):
    """Answers from :data:`ANSWERS` and keeps what came, as it came."""

    protocol_version = "HTTP/1.1"
    shown = ("authorization", "accept", "content-type", "content-length", "if-match", "x-ms-blob-type", "cookie")

    def answer(self) -> None:
        """Record the request and answer it."""
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name: self.headers[name] for name in self.shown if name in self.headers}
        self.server.seen.append((self.command, self.path, headers, body))  # type: ignore[attr-defined]
        operation, _, _ = ops.match(self.command, urlsplit(self.path).path)
        blob = {"GET": ops.FETCH_BLOB, "HEAD": ops.PROBE_BLOB, "PUT": ops.STORE_BLOB}
        response = ANSWERS[operation or blob[self.command]]
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        if "content-length" not in response.headers and response.status != 204:
            self.send_header("content-length", str(len(response.body)))
        self.end_headers()
        self.wfile.write(response.body)

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = answer

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadingHTTPServer]:
    """A server on a free port that records."""
    with serving(Recorder) as httpd:
        yield httpd


@pytest.mark.parametrize("name", sorted(CALLS))
def test_both_clients_send_and_return_the_same(name: str, server: ThreadingHTTPServer) -> None:
    """The same verb gives the same bytes on the wire and the same result, blocking and asynchronous."""
    host = f"http://127.0.0.1:{server.server_port}"
    endpoint = Endpoint(
        "store017", SERVICE, WS, api_location=f"{host}/workspaces/{WS}/services/0a1b", primary_key="KEY-1"
    )
    blob = BlobReference("models/f eb.ilearner", host, "?sv=1&sig=a%2Bb+c%3D").normalised()
    arguments = tuple({id(STORE): endpoint, id(BLOB): blob}.get(id(value), value) for value in CALLS[name][0])
    options = CALLS[name][1]

    async def awaited() -> Any:
        async with AsyncClient(host, WS, "TOKEN", retries=RetryPolicy(attempts=1)) as client:
            return await getattr(client, name)(*arguments, **options)

    server.seen = []  # type: ignore[attr-defined]
    with Client(host, WS, "TOKEN", retries=RetryPolicy(attempts=1)) as client:
        blocking = getattr(client, name)(*arguments, **options)
    by_requests = server.seen  # type: ignore[attr-defined]
    server.seen = []  # type: ignore[attr-defined]
    asynchronous = asyncio.run(awaited())
    by_aiohttp = server.seen  # type: ignore[attr-defined]
    assert blocking == asynchronous
    assert len(by_requests) == 1
    ignored = {"fetch_blob", "store_blob", "blob_facts"}  # each library adds its own `accept: */*` to these
    for seen in (by_requests, by_aiohttp):
        assert ("accept" in seen[0][2] and seen[0][2]["accept"] != "*/*") == (name not in ignored)
    assert by_requests == by_aiohttp


def test_errors_over_sockets_are_the_same(server: ThreadingHTTPServer) -> None:
    """A path that the server does not know ends in the same error through both transports."""

    async def awaited() -> AzureMLClassicError:
        async with AsyncClient("http://127.0.0.1:1", WS, retries=NO_RETRIES) as client:
            with pytest.raises(ServiceUnavailable) as caught:
                await client.list_web_services()
            return caught.value

    with (
        Client("http://127.0.0.1:1", WS, retries=NO_RETRIES) as client,
        pytest.raises(ServiceUnavailable) as caught,
    ):
        client.list_web_services()
    other = asyncio.run(awaited())
    assert (caught.value.verb, caught.value.url, caught.value.hint) == (other.verb, other.url, other.hint)
