"""Calls that change nothing, as they are refused: the documented codes, whatever is wrong with the call."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_azureml_classic.exceptions import AccessDenied, AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol import operations as ops
from airflow_provider_azureml_classic.protocol.operations import Credential, Operation
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.server.web.asgi import read_body
from airflow_provider_azureml_classic.server.web.bodies import SMALL_BODY
from tests.support.calls import BODIES, GUARDED, assert_error_shape, by_name, least_body, path_of, refusal
from tests.support.service import TOKEN, WORKSPACE, Service, copied


@pytest.fixture(scope="module")
def service(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all tests of this module, as none of their calls changes anything."""
    with copied(trained, tmp_path_factory.mktemp("refusals")) as running:
        yield running


@pytest.fixture(scope="module")
def scorer(service: Service) -> Endpoint:
    """The endpoint ``mine`` of the scoring service."""
    return service.client.add_endpoint(service.scoring, "mine")


@pytest.mark.slow
@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic wrong", "Bearer \xe9\xff", "Bearer " + "x" * 5000],
    ids=["absent", "empty", "scheme", "blank", "wrong", "basic", "latin", "long"],
)
@by_name
def test_a_call_without_a_good_key_is_refused(
    service: Service, scorer: Endpoint, operation: Operation, authorization: str | None
) -> None:
    """401 before anything else is looked at, whatever is in the header."""
    headers = {} if authorization is None else {"authorization": authorization}
    path = path_of(operation, service, scorer)
    response = service.ask(operation.method, path, b"{not json", key=None, headers=headers)
    assert_error_shape(response, 401, refusal(operation))


@by_name
def test_of_nobody_a_large_body_is_held(service: Service, scorer: Endpoint, operation: Operation) -> None:
    """Before more than a small body is read, the key is looked at as in the call itself; a good one passes."""
    path, _, query = path_of(operation, service, scorer).partition("?")
    with pytest.raises(AzureMLClassicError) as error:
        service.app.admit(operation.method, path, query, {"authorization": "Bearer wrong"})
    assert (error.value.status, error.value.detail_code) == (401, refusal(operation))
    if operation.path.startswith(("/customer", "/v2")):
        return
    key = scorer.primary_key if operation.credential is Credential.ENDPOINT else TOKEN
    service.app.admit(operation.method, path, query, {"authorization": f"Bearer {key}"})


@pytest.mark.parametrize(("size", "asked"), [(SMALL_BODY, 0), (SMALL_BODY + 1, 1), (5 * SMALL_BODY, 1)])
async def test_who_may_send_a_large_body_is_asked_once(size: int, asked: int) -> None:
    """Small ones are read without asking; who is refused is not read any further."""
    pieces = [{"type": "http.request", "body": b"x" * 1024, "more_body": True} for _ in range(size // 1024)]
    pieces += [{"type": "http.request", "body": b"x" * (size % 1024)}]
    left, times = iter(pieces), 0

    async def receive() -> dict[str, object]:
        return next(left)

    async def admit() -> None:
        nonlocal times
        times += 1

    assert len(await read_body(receive, {}, lambda size: None, admit)) == size
    assert times == asked
    if asked:
        left, held = iter(pieces), list[int]()

        async def refuse() -> None:
            raise rejection("ScoreRequestUnauthorized", "Nobody.")

        with pytest.raises(AccessDenied):
            await read_body(receive, {}, held.append, refuse)
        assert max(held) == SMALL_BODY


@by_name
def test_an_unknown_id_is_told(service: Service, scorer: Endpoint, operation: Operation) -> None:
    """404 with the name of what is not there; an unknown endpoint of a scoring call is 401, so that none is probed."""
    for segment in ("workspace", "service", "endpoint", "endpoint_id", "job"):
        if f"{{{segment}}}" not in operation.path or (operation, segment) == (ops.ADD_ENDPOINT, "endpoint"):
            continue
        path = path_of(operation, service, scorer, **{segment: "f" * 24})
        scoring_call = operation.credential is Credential.ENDPOINT
        key = scorer.primary_key if scoring_call else service.settings.token
        response = service.ask(operation.method, path, least_body(operation), key=key)
        if scoring_call and segment in ("workspace", "endpoint_id"):
            assert_error_shape(response, 401, "ScoreRequestUnauthorized")
            continue
        codes = {"workspace": "WorkspaceNotFound", "service": "WebServiceNotFound", "endpoint": "EndpointNotFound"}
        if segment == "job" or segment in codes:
            message = assert_error_shape(response, 404, codes.get(segment, "JobNotFound"))
            assert "f" * 24 in message


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff\xfe",
        b"[1]",
        b'"text"',
        b"7",
        b"null",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"Description": ' + b"[" * 300 + b"]" * 300 + b"}",
        b'{"MaxConcurrentCalls": ' + b"9" * 5000 + b"}",
        b"--",
        b"NaN",
        b'{"Inputs": NaN, "Resources": Infinity, "OverwriteResources": 1}',
        b'{"Inputs": {"input1": "\\ud800"}, "Resources": "\\ud800", "OverwriteResources": "\\ud800"}',
    ],
    ids=[
        "cut",
        "not utf-8",
        "array",
        "string",
        "number",
        "null",
        "deep array",
        "deep object",
        "nested",
        "long number",
        "dashes",
        "nan",
        "odd numbers",
        "surrogate",
    ],
)
@pytest.mark.parametrize("operation", BODIES, ids=lambda operation: operation.name)
def test_a_bad_body_is_told(service: Service, scorer: Endpoint, operation: Operation, body: bytes) -> None:
    """400, never 500, however the body is broken; null stands for no body where none is needed."""
    key = TOKEN if operation.credential is Credential.WORKSPACE else scorer.primary_key
    if (operation, body) == (ops.REFRESH_ENDPOINT, b"null"):
        return
    response = service.ask(operation.method, path_of(operation, service, scorer), body, key=key)
    assert_error_shape(response, 400)


@pytest.mark.parametrize("operation", [ops.PATCH_ENDPOINT, ops.SUBMIT_JOB, ops.SCORE], ids=lambda o: o.name)
@pytest.mark.parametrize("body", [b"", b"  \r\n", b"\xef\xbb\xbf"])
def test_a_call_that_needs_a_body_says_so(
    service: Service, scorer: Endpoint, operation: Operation, body: bytes
) -> None:
    """Nothing, blanks or a byte order mark alone are no JSON."""
    path = path_of(operation, service, scorer)
    response = service.ask(operation.method, path, body, key=scorer.primary_key)
    assert_error_shape(response, 400, "RequestBodyInvalid")


@pytest.mark.parametrize(
    "operation", [operation for operation in GUARDED if operation.versioned], ids=lambda operation: operation.name
)
@pytest.mark.parametrize("query", ["?api-version=1.0", "?api-version=", "?api-version=2.0.0"])
def test_another_version_is_refused(service: Service, scorer: Endpoint, operation: Operation, query: str) -> None:
    """Jobs and scoring are version 2.0."""
    path = path_of(operation, service, scorer).partition("?")[0] + query
    response = service.ask(operation.method, path, {}, key=scorer.primary_key)
    message = assert_error_shape(response, 400, "BadVersionCall")
    assert "api-version=2.0" in message


@pytest.mark.parametrize("query", ["", "?version=2.0"])
def test_a_call_of_a_job_without_a_version_is_understood(service: Service, scorer: Endpoint, query: str) -> None:
    """Public clients leave it out, of DELETE too; scoring without one is refused as before."""
    for operation in (ops.GET_JOB, ops.CANCEL_JOB):
        path = path_of(operation, service, scorer).partition("?")[0] + query
        assert_error_shape(service.ask(operation.method, path, key=scorer.primary_key), 404, "JobNotFound")
    path = path_of(ops.SCORE, service, scorer).partition("?")[0] + query
    assert_error_shape(service.ask("POST", path, {}, key=scorer.primary_key), 400, "BadVersionCall")


@pytest.mark.parametrize("path", ["", "/datasources"])
def test_clients_of_studio_validate_their_workspace(service: Service, path: str) -> None:
    """R and azuremlps read these before anything else, with the token in a header of its own; writing is refused."""
    url = f"/api/workspaces/{WORKSPACE}{path}"
    answer = service.ask("GET", url, key=None, headers={ops.STUDIO_TOKEN: TOKEN})
    data = json.loads(answer.body)
    assert answer.status == 200
    assert data == [{"Name": None}] if path else data["WorkspaceId"] == WORKSPACE
    refused = service.ask("GET", url, key=None, headers={ops.STUDIO_TOKEN: "x"})
    assert_error_shape(refused, 401, "ManagementRequestUnauthorized")
    assert_error_shape(service.ask("POST", url, {}), 400, "OperationNotSupported")


@pytest.mark.parametrize(
    "operation",
    [operation for operation in ops.OPERATIONS if not operation.path.startswith(("/api/", "/v2"))],
    ids=lambda operation: operation.name,
)
def test_a_wrong_method_lists_the_right_ones(service: Service, scorer: Endpoint, operation: Operation) -> None:
    """405, with what is possible in the message."""
    for method in ("TRACE", "OPTIONS", "post"):
        response = service.ask(method, path_of(operation, service, scorer), key=scorer.primary_key)
        assert operation.method in assert_error_shape(response, 405, "MethodNotAllowed")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nothing",
        "/workspaces//webservices",
        "/workspaces/{ws}/webservices/{service}/endpoints/mine/refresh/now",
        "/workspaces/{ws}/webservices%2F{service}",
        "/workspaces/{ws}/webservices\n",
        "/%00",
        "/%ff%fe",
        "*",
        "",
    ],
)
def test_an_unknown_path_is_told(service: Service, path: str) -> None:
    """404 in the protocol's shape; an encoded slash is none, and an empty segment is no id."""
    response = service.ask("GET", path.format(ws=WORKSPACE, service=service.scoring))
    assert_error_shape(response, 404, "PageNotFound")
