"""Errors on the wire: one careful form is written, every form ever seen is read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_azureml_classic.exceptions import (
    AccessDenied,
    AzureMLClassicError,
    Detail,
    NotFound,
    ProtocolError,
    RequestRejected,
    ServiceUnavailable,
    rejection,
)
from airflow_provider_azureml_classic.protocol import operations as ops
from airflow_provider_azureml_classic.protocol.errors import (
    from_response,
    has_error,
    json_object,
    known_members,
    reading_answer,
    repeated,
    to_response,
)
from airflow_provider_azureml_classic.protocol.messages import Request, Response

ASKED = Request(ops.GET_JOB, "https://h.example/jobs/7b6a?api-version=2.0")
FACTORY = settings(database=None, deadline=None, max_examples=60)


def read(status: int, body: bytes | str, **headers: str) -> AzureMLClassicError:
    """The error that a client makes of this answer."""
    content = body.encode() if isinstance(body, str) else body
    return from_response(ASKED, Response(status, {k.replace("_", "-"): v for k, v in headers.items()}, content))


def test_careful_form() -> None:
    """The body is ``error`` with code, message and a detail whose ``target`` is left out where there is none."""
    body = json.loads(to_response(rejection("InvalidBlob", "It is wrong.", target="output1")).body)
    assert body == {
        "error": {
            "code": "BadArgument",
            "message": "It is wrong.",
            "details": [{"code": "InvalidBlob", "message": "It is wrong.", "target": "output1"}],
        }
    }
    assert "target" not in json.loads(to_response(rejection("InvalidBlob", "x")).body)["error"]["details"][0]


def test_details_are_never_empty() -> None:
    """Old clients index ``details[0]``, so an error without one gets one."""
    body = json.loads(to_response(NotFound("Gone.", code="NotFound", status=404)).body)
    assert body["error"]["details"] == [{"code": "NotFound", "message": "Gone."}]


def test_response_headers() -> None:
    """The answer is JSON and keeps the headers that are added, such as the request id."""
    response = to_response(rejection("JobNotFound", "Gone."), {ops.REQUEST_ID: "r-1"})
    assert response.headers == {"content-type": "application/json; charset=utf-8", "x-ms-request-id": "r-1"}
    assert response.status == 404


def test_an_error_without_code_and_status() -> None:
    """It is the service's own fault, in the same form."""
    response = to_response(AzureMLClassicError("It broke."))
    details = [{"code": "UnknownError", "message": "It broke."}]
    assert response.status == 500
    assert json.loads(response.body) == {"error": {"code": "InternalError", "message": "It broke.", "details": details}}


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"code": "UserError", "message": "Bad.", "details": [{"code": "D", "message": "m", "target": "t"}]}},
        {"Error": {"Code": "UserError", "Message": "Bad.", "Details": [{"Code": "D", "Message": "m", "Target": "t"}]}},
    ],
    ids=["services", "studio"],
)
def test_both_casings(body: dict[str, Any]) -> None:
    """The Studio API's PascalCase reads like the services' lower case."""
    error = read(400, json.dumps(body))
    assert (error.code, error.message, error.details) == ("UserError", "Bad.", (Detail("D", "m", "t"),))


@pytest.mark.parametrize(
    ("body", "message", "code", "details"),
    [
        ({"Error": {"Code": "UserError", "Message": "Bad.", "Target": None, "Details": []}}, "Bad.", "UserError", ()),
        ({"error": {"code": "X", "message": None, "details": None}}, "X", "X", ()),
        ({"error": {}}, "The service gave no reason.", None, ()),
        ({"error": {"code": 7, "message": 8, "details": "text"}}, "8", "7", ()),
        ({"error": {"message": "m", "details": [None, "text", {}]}}, "m", None, (Detail("", ""),)),
    ],
)
def test_incomplete_error_object(
    body: dict[str, Any], message: str, code: str | None, details: tuple[Detail, ...]
) -> None:
    """Whatever is missing from an error object, the rest is read."""
    error = read(400, json.dumps(body), x_ms_request_id="r-1")
    assert isinstance(error, RequestRejected)
    assert (error.message, error.code, error.details, error.request_id) == (message, code, details, "r-1")


def test_byte_order_mark() -> None:
    """A byte order mark before the JSON does not hide the error."""
    assert read(404, b'\xef\xbb\xbf{"error":{"code":"NotFound","message":"Gone."}}').code == "NotFound"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, "Invalid token.", RequestRejected),
        (401, "Unauthorized", AccessDenied),
        (403, "Forbidden: this is not yours", AccessDenied),
        (404, "", NotFound),
        (503, "busy", ServiceUnavailable),
        (503, "{broken", ServiceUnavailable),
        (400, '["a"]', RequestRejected),
        (400, '["error"]', RequestRejected),
        (400, '{"message": "no error member"}', RequestRejected),
        (400, '{"error": "text"}', RequestRejected),
    ],
)
def test_plain_text(status: int, body: str, kind: type[AzureMLClassicError]) -> None:
    """An answer that is no error object keeps its class by its status, and its text as the message."""
    error = read(status, body)
    assert type(error) is kind
    assert error.message == (body or "The service gave no reason.")


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (502, "<html><body>Bad gateway</body></html>", {}),
        (403, "  \n<!DOCTYPE html><p>Sign in", {}),
        (404, "\ufeff<html>", {}),
        (503, "Service down", {"content_type": "text/html; charset=utf-8"}),
        (200, "<html>Welcome to the hotel's network</html>", {}),
        (302, "", {}),
        (302, "<Error><Code>Moved</Code><Message>Elsewhere.", {}),
    ],
)
def test_page_of_a_proxy(status: int, body: str, headers: dict[str, str]) -> None:
    """A page, or a redirect, is not the service's answer, whatever its status; the status is kept."""
    error = read(status, body, **headers)
    assert type(error) is ProtocolError
    assert (error.status, error.verb) == (status, "get_job")
    assert "A proxy may have answered" in str(error)
    assert ("an empty body" in str(error)) is (body == "")


def test_page_is_cut() -> None:
    """A long page is shown in one line of bounded length."""
    text = str(read(502, "<html>\n" + "x \n" * 5000))
    assert len(text) < 700
    assert "\n" not in text


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "InvalidHeaderValue", RequestRejected),
        (403, "AuthenticationFailed", AccessDenied),
        (404, "BlobNotFound", NotFound),
        (503, "ServerBusy", ServiceUnavailable),
    ],
)
def test_error_of_azure_storage(status: int, code: str, kind: type[AzureMLClassicError]) -> None:
    """The storage service's XML, which blob calls may get, is an error with a code and not a proxy's page."""
    xml = f"<Error><Code>{code}</Code><Message>It failed.\nId:1</Message></Error>"
    body = f'\ufeff<?xml version="1.0" encoding="utf-8"?>{xml}'
    error = read(status, body, content_type="application/xml")
    assert type(error) is kind
    assert (error.code, error.message) == (code, "It failed. Id:1")
    assert (error.status, error.verb, error.url) == (status, "get_job", "https://h.example/jobs/7b6a")


def test_a_container_that_is_missing_says_what_to_do() -> None:
    """An upload makes no container, which the storage service's own sentence does not say."""
    xml = "<Error><Code>ContainerNotFound</Code><Message>The specified container does not exist.</Message></Error>"
    error = read(404, f'<?xml version="1.0" encoding="utf-8"?>{xml}', content_type="application/xml")
    assert "Make the container in the storage account first" in str(error)


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        ("InternalError", [], ServiceUnavailable),
        ("BadArgument", [], RequestRejected),
        ("NotFound", [{"code": "JobNotFound"}], NotFound),
        ("BadArgument", [{"code": "AdminRequestUnauthorized"}], AccessDenied),
        ("OfLater", [], ServiceUnavailable),
        ("NotFound", [{"code": "OfLater"}], ServiceUnavailable),
    ],
)
def test_error_object_under_success(code: str, details: list[dict[str, str]], kind: type[AzureMLClassicError]) -> None:
    """An error object under a 2xx is what its code says, first that of its detail; else an error of the service. The
    status stays as it was."""
    error = read(200, json.dumps({"error": {"code": code, "message": "No header row.", "details": details}}))
    assert type(error) is kind
    assert (error.status, error.message) == (200, "No header row.")


@FACTORY
@given(st.integers(200, 599), st.binary(max_size=200))
def test_any_body_is_an_error(status: int, body: bytes) -> None:
    """No body of any bytes breaks the reading of an error, nor its text."""
    assert str(read(status, body)).startswith("get_job https://h.example/jobs/7b6a: ")


@pytest.mark.slow
@FACTORY
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["error", "Error", "code", "message", "details", "target"]), inner, max_size=4
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_is_an_error(data: Any) -> None:
    """No shape of JSON breaks the reading of an error."""
    assert isinstance(read(400, json.dumps(data)), RequestRejected | ProtocolError)
    assert isinstance(has_error(data), bool)


@pytest.mark.parametrize(
    ("data", "found"),
    [({"error": {}}, True), ({"Error": {"Code": "x"}}, True), ({"error": "x"}, False), ([], False), (None, False)],
)
def test_has_error(data: Any, found: bool) -> None:
    """Only an object whose ``error`` is an object is an error object."""
    assert has_error(data) is found


def test_known_members() -> None:
    """A member that the protocol does not have is refused by name, and the known ones are listed; case is no matter."""
    with pytest.raises(
        RequestRejected, match=r"The job has the unknown member 'GolbalParameters'; it takes: A, B\."
    ) as e:
        known_members("The job", {"A": 1, "GolbalParameters": {}}, frozenset("AB"))
    assert (e.value.detail_code, e.value.details[0].target) == ("UnexpectedParameter", "GolbalParameters")
    assert known_members("The job", {"A": 1}, frozenset("AB")) == {"A": 1}
    assert known_members("The job", {"a": 1, "B": 2}, frozenset("AB")) == {"A": 1, "B": 2}
    assert known_members("The job", {"Output": None, "a": 1}, frozenset("AB")) == {"A": 1}
    with pytest.raises(RequestRejected, match=r"The job has the member A twice\.") as e:
        known_members("The job", {"A": 1, "a": 2}, frozenset("AB"))
    assert (e.value.detail_code, e.value.details[0].target) == ("UnexpectedParameter", "a")


def test_repeated() -> None:
    """The first name that is there twice."""
    assert repeated(()) is None
    assert repeated(("a", "b")) is None
    assert repeated(("a", "b", "c", "c", "b")) == "b"


def test_a_member_that_is_no_object() -> None:
    """It is refused by its name."""
    assert json_object("Inputs", {"a": 1}) == {"a": 1}
    with pytest.raises(RequestRejected, match="Inputs must be an object") as e:
        json_object("Inputs", [])
    assert (e.value.detail_code, e.value.details[0].target) == ("RequestBodyInvalid", "Inputs")


def test_reading_answer() -> None:
    """A value that would be the caller's fault in a request is the service's fault in an answer."""

    @reading_answer("The endpoint")
    def read(error: Exception) -> None:
        raise error

    with pytest.raises(ProtocolError, match="The endpoint cannot be read: too many") as caught:
        read(rejection("BadParameterValue", "too many"))
    assert caught.value.status is None
    with pytest.raises(ValueError, match="other"):
        read(ValueError("other"))


def test_request_and_response_hide_their_secrets() -> None:
    """Neither side's ``repr`` shows a key, a token in a URL, or a body."""
    request = Request(ops.FETCH_BLOB, "https://h/b?sig=SECRET", {"authorization": "Bearer SECRET"}, b"SECRET")
    response = Response(200, {"x": "SECRET"}, b"SECRET")
    assert "SECRET" not in f"{request!r}{response!r}"
