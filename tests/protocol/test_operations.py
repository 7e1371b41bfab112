"""The operations table: one row per call, the same for building a URL and for routing it."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_azureml_classic.protocol import operations as ops
from airflow_provider_azureml_classic.protocol.operations import OPERATIONS, Operation, below_api, match

WS, SERVICE, GUID, JOB = "1c2d3e4f", "9f8e7d6c", "0a1b2c3d", "7b6a5948"
MANAGEMENT = "https://management.azureml.net"
API = f"https://ussouthcentral.services.azureml.net/workspaces/{WS}/services/{GUID}"
SEGMENTS = {
    "workspace": WS,
    "service": SERVICE,
    "endpoint": "store017",
    "endpoint_id": GUID,
    "job": JOB,
    "model": "m~e",
    "version": "1",
    "file": "deep/july.csv",
    "key": "laptop",
}
FACTORY = settings(database=None, deadline=None, max_examples=60)


def segments_of(operation: Operation) -> dict[str, str]:
    """Values for the names in this operation's path."""
    return {name: SEGMENTS[name] for name in re.findall(r"\{(\w+)\}", operation.path)}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.name)
def test_url_is_matched_by_its_own_row_only(operation: Operation) -> None:
    """The path that a client builds is routed to the same row, with the same segments."""
    path = urlsplit(operation.url(MANAGEMENT, segments_of(operation))).path
    found, segments, allowed = match(operation.method, path)
    assert found is operation
    assert segments == segments_of(operation)
    assert allowed == {operation.method}
    others = [o for o in OPERATIONS if o.method == operation.method and o.pattern.fullmatch(path)]
    assert others == [operation]


def test_rows_differ() -> None:
    """Names are unique, and so are pairs of method and path."""
    assert len({operation.name for operation in OPERATIONS}) == len(OPERATIONS)
    for one, other in itertools.combinations(OPERATIONS, 2):
        assert (one.method, one.path) != (other.method, other.path)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.name)
def test_trailing_slash_is_matched(operation: Operation) -> None:
    """A slash at the end of a path does not matter."""
    path = urlsplit(operation.url(MANAGEMENT, segments_of(operation))).path
    assert match(operation.method, path + "/")[0] is operation


@pytest.mark.parametrize("text", ["a b", "50%", "a/b", "naïve", "%2F", "x?y=1", "#", "店"])
def test_segment_is_encoded_and_decoded(text: str) -> None:
    """Any text in a segment arrives as it was given, and never as two segments or a query."""
    url = ops.GET_ENDPOINT.url(MANAGEMENT, {"workspace": WS, "service": SERVICE, "endpoint": text})
    assert url.isascii()
    operation, segments, _ = match("GET", url.removeprefix(MANAGEMENT))
    assert operation is ops.GET_ENDPOINT
    assert segments["endpoint"] == text


@FACTORY
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_segment_round_trips(text: str) -> None:
    """What :func:`match` decodes is what :meth:`url` encoded."""
    url = ops.GET_JOB.url(MANAGEMENT, {"workspace": WS, "endpoint_id": GUID, "job": text})
    assert match("GET", url.removeprefix(MANAGEMENT).removesuffix("?api-version=2.0"))[1]["job"] == text


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", f"/workspaces/{WS}/webservices", {"GET"}),
        ("POST", f"/workspaces/{WS}/webservices/{SERVICE}/endpoints/store017", {"GET", "PUT", "PATCH", "DELETE"}),
        ("DELETE", f"/workspaces/{WS}/services/{GUID}/jobs", {"GET", "POST"}),
        ("PUT", f"/workspaces/{WS}/services/{GUID}/jobs/{JOB}", {"GET", "DELETE"}),
        ("GET", f"/workspaces/{WS}/services/{GUID}/execute", {"POST"}),
        ("get", f"/workspaces/{WS}/webservices", {"GET"}),
    ],
)
def test_wrong_method_tells_allowed_ones(method: str, path: str, allowed: set[str]) -> None:
    """A known path with another method gives what a 405 needs: the methods that it does allow."""
    assert match(method, path) == (None, {}, frozenset(allowed))


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        f"/workspaces/{WS}",
        f"/workspaces/{WS}/webservices/{SERVICE}/endpoint",
        f"/prefix/workspaces/{WS}/webservices",
        f"/workspaces//webservices/{SERVICE}",
        f"/workspaces/{WS}/services/{GUID}/jobs/{JOB}/stop",
        f"/workspaces/{WS}/services/{GUID}/score",
    ],
)
def test_unknown_path(path: str) -> None:
    """A path of no row allows no method, which is a 404."""
    assert match("GET", path) == (None, {}, frozenset())


@pytest.mark.parametrize(
    ("operation", "method", "url"),
    [
        (ops.LIST_ENDPOINTS, "GET", f"{MANAGEMENT}/workspaces/{WS}/webservices/{SERVICE}/endpoints"),
        (ops.ADD_ENDPOINT, "PUT", f"{MANAGEMENT}/workspaces/{WS}/webservices/{SERVICE}/endpoints/store017"),
        (ops.SUBMIT_JOB, "POST", f"{API}/jobs?api-version=2.0"),
        (ops.START_JOB, "POST", f"{API}/jobs/{JOB}/start?api-version=2.0"),
        (ops.GET_JOB, "GET", f"{API}/jobs/{JOB}?api-version=2.0"),
        (ops.PATCH_ENDPOINT, "PATCH", f"{MANAGEMENT}/workspaces/{WS}/webservices/{SERVICE}/endpoints/store017"),
        (ops.CANCEL_JOB, "DELETE", f"{API}/jobs/{JOB}?api-version=2.0"),
        (ops.SCORE, "POST", f"{API}/execute?api-version=2.0"),
        (
            ops.REFRESH_ENDPOINT,
            "POST",
            f"{MANAGEMENT}/workspaces/{WS}/webservices/{SERVICE}/endpoints/store017/refresh",
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Operation) else "",
)
def test_core_calls(operation: Operation, method: str, url: str) -> None:
    """The core calls have the methods and URLs of the wire document, section 0, by either way of building them."""
    assert operation.method == method
    base = MANAGEMENT if url.startswith(MANAGEMENT) else API.removesuffix(f"/workspaces/{WS}/services/{GUID}")
    assert operation.url(base, segments_of(operation)) == url
    assert operation.url(base + "/", segments_of(operation)) == url
    if operation.path.startswith(ops.API_PATH):
        assert below_api(operation, API, segments_of(operation)) == url
        assert below_api(operation, API + "/", segments_of(operation)) == url


def test_submit_url_has_the_text_that_azuremlps_replaces() -> None:
    """The .NET SDK finds the start URL by replacing the literal ``jobs?api-version=2.0`` in the submit URL."""
    submit = below_api(ops.SUBMIT_JOB, API, {})
    start = below_api(ops.START_JOB, API, {"job": JOB})
    assert submit.replace("jobs?api-version=2.0", f"jobs/{JOB}/start?api-version=2.0") == start


def test_query_follows_version() -> None:
    """Further parameters come after ``api-version``, in the order given."""
    url = below_api(ops.SCORE, API, {}, [("details", "true"), ("format", "swagger")])
    assert url == f"{API}/execute?api-version=2.0&details=true&format=swagger"
    assert ops.LIST_SERVICES.url(MANAGEMENT, {"workspace": WS}, [("a", "b c")]).endswith("/webservices?a=b+c")


def test_version_is_on_api_calls_only() -> None:
    """``api-version`` is on every job and scoring call, and on no management call (wire document, section 1.1)."""
    for operation in set(OPERATIONS) - {ops.SWAGGER}:
        assert operation.versioned == operation.path.startswith(ops.API_PATH), operation.name
    assert not ops.SWAGGER.versioned


def test_credentials() -> None:
    """Endpoint calls take the endpoint key only, but for the lists that we added; web services take the token only."""
    documents = {ops.HELP_INDEX, ops.HELP_SCORE, ops.HELP_JOBS, ops.HELP_UPDATE, ops.HELP_STYLE}
    documents |= {ops.INFERENCE_LIVE, ops.INFERENCE_READY, ops.INFERENCE_SERVER}
    documents |= {ops.API_DOCUMENT, ops.HELP_DOCUMENT, ops.SWAGGER, ops.MANAGEMENT_DOCUMENT}
    for operation in OPERATIONS:
        if operation in documents:
            assert operation.credential is ops.Credential.NONE
        elif operation in (ops.LIST_JOBS, ops.GET_JOB_LOG):
            assert operation.credential is ops.Credential.EITHER
        elif operation.path.startswith((ops.API_PATH, "/v2/models", "/customer")):
            assert operation.credential is ops.Credential.ENDPOINT
        elif "/endpoints" in operation.path and operation is not ops.SET_QUOTA:
            assert operation.credential is ops.Credential.EITHER
        else:
            assert operation.credential is ops.Credential.WORKSPACE


def test_only_submit_and_start_are_not_repeatable() -> None:
    """A second submission is a second job, and a second start is refused; everything else may be sent twice."""
    everything = (*OPERATIONS, ops.FETCH_BLOB, ops.PROBE_BLOB, ops.STORE_BLOB)
    assert {operation for operation in everything if not operation.idempotent} == {ops.SUBMIT_JOB, ops.START_JOB}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("HEAD", f"/workspaces/{WS}/webservices"),
        ("GET", f"//workspaces/{WS}///webservices/"),
        ("GET", f"/WorkSpaces/{WS}/WEBSERVICES"),
    ],
)
def test_other_spellings_of_a_call(method: str, path: str) -> None:
    """A question for the head alone, slashes of a base address that ends in one, and other cases of the fixed parts."""
    assert match(method, path) == (ops.LIST_SERVICES, {"workspace": WS}, {"GET"})


@pytest.mark.parametrize(("letters", "remembered"), [(256, True), (257, False)])
def test_long_paths_and_queries(letters: int, remembered: bool) -> None:
    """They are read like short ones, but not remembered: thousands of them would be a lot of memory."""
    segment = "x" * (letters - len("/workspaces//webservices"))
    path, query = f"/workspaces/{segment}/webservices", f"a={'x' * (letters - 2)}"
    assert match("GET", path) == (ops.LIST_SERVICES, {"workspace": segment}, {"GET"})
    assert (match("GET", path) is match("GET", path)) is remembered
    assert ops.query_values(query) == {"a": query[2:]}
    assert (ops.query_values(query) is ops.query_values(query)) is remembered


def test_the_case_of_fixed_parts() -> None:
    """It does not matter to a pattern, and that of a segment is kept."""
    matched = replace(ops.LIST_SERVICES).pattern.fullmatch("/WorkSpaces/Ws/WEBSERVICES")
    assert matched is not None
    assert matched["workspace"] == "Ws"


def test_what_a_query_says() -> None:
    """The first value of each parameter, whatever the case of its name; an empty one is one."""
    assert ops.query_values("Format=swagger&format=other&details=") == {"format": "swagger", "details": ""}


@pytest.mark.parametrize(
    ("query", "objects", "types"),
    [
        ("", False, False),
        ("api-version=2.0&format=swagger", True, False),
        ("FORMAT=Swagger&Details=True", True, True),
        ("format=json&details=false", False, False),
        ("details=true", False, True),
        ("format=&details=", False, False),
    ],
)
def test_what_a_scoring_call_wants(query: str, objects: bool, types: bool) -> None:
    """Objects, or the types of columns, in whatever case that is said."""
    values = ops.query_values(query)
    assert (ops.wants_objects(values), ops.wants_types(values)) == (objects, types)


def test_scoring_calls_are_seen_at_a_glance() -> None:
    """By the end of the path, as it is matched: those of either protocol, and no other operation."""
    paths = {one.name: urlsplit(one.url(MANAGEMENT, segments_of(one))).path for one in OPERATIONS}
    for spelled in (str, str.upper, "{}/".format):
        assert {name for name, path in paths.items() if ops.is_score(spelled(path))} == {"score"}
        inference = {name for name, path in paths.items() if ops.is_inference(spelled(path))}
        assert inference == {"infer", "infer_version"}


def test_what_changes_nothing() -> None:
    """All that is read, and the calls whose body only asks."""
    asking = {ops.SCORE, ops.SCORE_MODEL, ops.REHEARSE_UPDATE, ops.READ_ROWS, ops.INFER, ops.INFER_VERSION}
    reading = {one for one in OPERATIONS if one.method == "GET"} | {ops.FETCH_BLOB, ops.PROBE_BLOB}
    assert {one for one in (*OPERATIONS, ops.FETCH_BLOB, ops.PROBE_BLOB) if not one.changes} == reading | asking


@pytest.mark.parametrize(
    ("root", "portal"),
    [
        ("https://ml.example/base", "https://ml.example/base/portal"),
        ("https://ml.example/apihelp/x", "https://ml.example/apihelp/x/portal"),
        ("", "/portal"),
        ("https://studio.azureml.net", ""),
        ("https://azureml.net.example", "https://azureml.net.example/portal"),
    ],
)
def test_pages_of_the_portal(root: str, portal: str) -> None:
    """They stand beside the help pages of our server; the cloud service's portal was elsewhere."""
    help_location = f"{root}/apihelp/workspaces/w/webservices/s/endpoints/g"
    page, job = (f"{portal}/services/s%2F1/endpoints/e%2F2", f"{portal}/jobs/j%2F3") if portal else ("", "")
    assert ops.portal_page(help_location, "s/1", "e/2") == page
    assert ops.portal_job(help_location, "j/3") == job
    assert ops.portal_page(help_location, "", "e") == ""


def test_no_page_of_the_portal_without_help_pages() -> None:
    """Another service tells another address of help, or none."""
    for help_location in ("", "https://ml.example/help", "https://ml.example/apihelp"):
        assert (ops.portal_page(help_location, "s", "e"), ops.portal_job(help_location, "j")) == ("", "")


def test_api_location() -> None:
    """The address below which an endpoint's calls are."""
    assert ops.api_location("https://ml.example/base", WS, GUID) == (
        f"https://ml.example/base/workspaces/{WS}/services/{GUID}"
    )
