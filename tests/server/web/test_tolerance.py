"""Spellings of old clients over a raw socket: headers, empty bodies, numbers as text, locations in every convention."""

from __future__ import annotations

import json
import socket
import urllib.parse
from typing import Any

import pytest

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.protocol.values import Endpoint
from tests.support import BIKES, BIKES_SCORING, ServerProcess, wait_for_job

ROW = {"season": 1, "yr": 0, "mnth": 1, "hr": 0, "holiday": 0, "weekday": 6, "workingday": 0, "weathersit": 1}
ROW |= {"temp": 0.24, "atemp": 0.2879, "hum": 0.81, "windspeed": 0.0}
SCORE = json.dumps({"Inputs": {"input1": [ROW]}})
#: What Python 2.7's urllib2 sends besides.
URLLIB2 = "Accept-Encoding: identity\r\nConnection: close\r\nUser-Agent: Python-urllib/2.7\r\n"


def send(url: str, method: str, key: str, body: str | None = "", more: str = "", auth: str = "Bearer {}") -> Any:
    """Status and decoded answer of one request, sent byte by byte as written; no body and no length for ``None``."""
    parts = urllib.parse.urlsplit(url)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    text = f"{method} {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n{URLLIB2}Authorization: {auth.format(key)}\r\n{more}"
    text += "" if body is None else f"Content-Length: {len(body)}\r\n"
    with socket.create_connection((parts.hostname, parts.port), timeout=60) as connection:
        connection.sendall(f"{text}\r\n{body or ''}".encode())
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, content = received.partition(b"\r\n\r\n")
    assert b"x-ms-request-id: " in head
    return int(head.split()[1]), json.loads(content) if content else None


@pytest.fixture
def scorer(client: Client) -> Endpoint:
    """The default endpoint of a scoring service."""
    return client.get_endpoint(client.find_web_service(BIKES_SCORING).id, "default")


@pytest.fixture
def trainer(client: Client) -> Endpoint:
    """The default endpoint of a training service."""
    return client.get_endpoint(client.find_web_service(BIKES).id, "default")


@pytest.mark.parametrize("auth", ["Bearer {}", "bearer {}", "Bearer  {}", "BEARER\t{} ", "  Bearer {}"])
def test_the_scheme_may_be_written_in_many_ways(scorer: Endpoint, auth: str) -> None:
    """Lower case as Python's, two blanks as R's."""
    url = f"{scorer.api_location}/execute?api-version=2.0"
    assert send(url, "POST", scorer.primary_key, SCORE, auth=auth)[0] == 200


@pytest.mark.parametrize("auth", ["Basic {}", "{}", "Bearer", "Bearer x{}"])
def test_other_credentials_are_refused(scorer: Endpoint, auth: str) -> None:
    """Tolerance ends where the key begins."""
    url = f"{scorer.api_location}/execute?api-version=2.0"
    status, answer = send(url, "POST", scorer.primary_key, SCORE, auth=auth)
    assert (status, answer["error"]["details"][0]["code"]) == (401, "ScoreRequestUnauthorized")


@pytest.mark.parametrize(
    ("body", "more"),
    [
        (None, ""),
        ("", "Content-Type: application/json; charset=us-ascii\r\n"),
        ("{}", "Content-Type: application/json\r\n"),
        ("null", "Content-Encoding: UTF-8\r\n"),
        ('""', "Content-Type: text/json\r\n"),
    ],
    ids=["none", "empty", "object", "null", "string"],
)
def test_a_job_is_started_with_any_body(trainer: Endpoint, body: str | None, more: str) -> None:
    """None, empty, ``{}``: each client sends another one, and none means anything."""
    jobs = f"{trainer.api_location}/jobs"
    given = json.dumps({"Input": {"RelativeLocation": "data/absent.csv"}})
    status, job_id = send(f"{jobs}?api-version=2.0", "POST", trainer.primary_key, given)
    assert status == 200
    assert send(f"{jobs}/{job_id}/start?api-version=2.0", "POST", trainer.primary_key, body, more)[0] == 200


@pytest.mark.parametrize(("calls", "shown"), [("40", 40), (40, 40), (40.0, 40), (None, 20), ("", 20)])
def test_concurrency_is_a_number_or_a_text(server: ServerProcess, client: Client, calls: Any, shown: int) -> None:
    """A string as AEM sends, a number as the .NET SDK, null and empty for the default of ``High``."""
    service = client.find_web_service(BIKES_SCORING).id
    url = f"{server.url}/workspaces/{server.connection['workspace_id']}/webservices/{service}/endpoints/told"
    body = json.dumps({"Description": "d", "ThrottleLevel": "High", "MaxConcurrentCalls": calls})
    status, endpoint = send(url, "PUT", server.connection["token"], body)
    assert (status, endpoint["MaxConcurrentCalls"]) == (201, shown)
    assert send(url, "DELETE", server.connection["token"])[0] == 204


def spellings(server: ServerProcess, path: str) -> dict[str, dict[str, Any]]:
    """One blob of the own store in every convention of the wire document, sections 2.6 and 4.2."""
    base, token = f"{server.account.endpoint}/", server.sas(path).sas_token
    below = f"/{server.account.name}/{path}"
    connection = server.account.connection_string
    short = connection.partition(";BlobEndpoint")[0]
    return {
        "service": {"BaseLocation": base, "RelativeLocation": path, "SasBlobToken": token, "ConnectionString": None},
        "dot net": {"BaseLocation": base[:-1], "RelativeLocation": f"/{path}", "SasBlobToken": token},
        "readme": {"BaseLocation": base[:-1], "RelativeLocation": path, "SasBlobToken": token},
        "no question mark": {"BaseLocation": base, "RelativeLocation": path, "SasBlobToken": token[1:]},
        "host only": {"BaseLocation": server.url, "RelativeLocation": below, "SasBlobToken": token},
        "connection string": {"ConnectionString": connection, "RelativeLocation": path},
        "with a slash": {"ConnectionString": short, "RelativeLocation": f"/{path}"},
        "path": {"RelativeLocation": path},
        "nulls": {"RelativeLocation": path, "ConnectionString": None, "BaseLocation": "", "SasBlobToken": ""},
    }


@pytest.mark.slow
@pytest.mark.parametrize("convention", range(9))
def test_a_location_may_be_spelled_in_many_ways(
    server: ServerProcess, client: Client, scorer: Endpoint, convention: int
) -> None:
    """Each names the same file, as the single input and by name."""
    server.upload("tolerance/rows.csv", ",".join(ROW) + "\n" + ",".join(map(str, ROW.values())) + "\n")
    name, location = sorted(spellings(server, "tolerance/rows.csv").items())[convention]
    body = {"Input": location} if convention % 2 else {"Inputs": {"input1": location}, "Outputs": None}
    url = f"{scorer.api_location}/jobs?api-version=2.0"
    status, job_id = send(url, "POST", scorer.primary_key, json.dumps(body))
    assert status == 200, (name, job_id)
    client.start_job(scorer, job_id)
    assert wait_for_job(client, scorer, job_id).details is None, name


@pytest.mark.parametrize("form", ["table", "objects"])
def test_blanks_around_column_names_do_not_matter(scorer: Endpoint, form: str) -> None:
    """As in files of rows: readers of ``a, b`` keep the blank, and send it."""
    names, cells = [f" {name} " for name in ROW], list(ROW.values())
    table = {"ColumnNames": names, "Values": [cells]}
    rows = table if form == "table" else [dict(zip(names, cells, strict=True))]
    url = f"{scorer.api_location}/execute?api-version=2.0"
    status, answer = send(url, "POST", scorer.primary_key, json.dumps({"Inputs": {"input1": rows}}))
    assert (status, answer) == send(url, "POST", scorer.primary_key, SCORE)
    assert status == 200


SERVED = {"RelativeLocation": "data/absent.csv"}


@pytest.mark.parametrize(
    ("call", "body", "code", "said"),
    [
        (
            "execute",
            {"Inputs": {"input1": {"ColumnNames": ["hr", "hr"], "Values": [[1, 2]]}}},
            "InputParseError",
            "twice",
        ),
        ("execute", {"Inputs": {"input1": {"ColumnNames": ["hr"], "Values": [1]}}}, "InputParseError", "not a list"),
        ("execute", {"Inputs": {"input1": [{"hr": 1, " hr": 2}]}}, "InputParseError", "twice"),
        ("execute", {"Inputs": "rows"}, "RequestBodyInvalid", "Inputs must be an object"),
        ("execute", {"Inputs": {"input1": [ROW]}, "GlobalParameters": [{"Key": "a"}]}, "RequestBodyInvalid", '{"NAME"'),
        ("jobs", {"Input": SERVED, "GlobalParameters": [["a", 1]]}, "RequestBodyInvalid", '{"NAME"'),
        ("jobs", {"Inputs": [{"Key": "input1", "Value": SERVED}]}, "RequestBodyInvalid", "Inputs must be an object"),
        ("jobs", {"Input": {"RelativeLocation": "data/\ud800.csv"}}, "RequestBodyInvalid", "surrogate pair"),
        ("jobs", {"Inputs": {"": SERVED}}, "InvalidInputNames", "without a name"),
        ("jobs", {"Input": SERVED, "Outputs": {"output1": None}}, "MissingOutputOverrideSpecification", "output1"),
    ],
)
def test_what_could_mean_two_things_is_refused(
    scorer: Endpoint, call: str, body: dict[str, Any], code: str, said: str
) -> None:
    """A column twice, lists of pairs as some writers of JSON make of a dictionary, a name that is none."""
    url = f"{scorer.api_location}/{call}?api-version=2.0"
    status, answer = send(url, "POST", scorer.primary_key, json.dumps(body))
    assert (status, answer["error"]["details"][0]["code"]) == (400, code)
    assert said in answer["error"]["message"]


def test_the_default_endpoint_has_twenty_calls(scorer: Endpoint, trainer: Endpoint) -> None:
    """As the cloud service's portal showed it; four would throttle the first client that scores in parallel."""
    for endpoint in (scorer, trainer):
        url = endpoint.help_location.replace("/apihelp/", "/")
        status, shown = send(url, "GET", endpoint.primary_key)
        assert (status, shown["ThrottleLevel"], shown["MaxConcurrentCalls"]) == (200, "High", 20)


def test_a_patch_gives_a_resource_one_location(server: ServerProcess, client: Client) -> None:
    """The same name twice, in whatever case, leaves open which model is meant: nothing is changed."""
    service, token = client.find_web_service(BIKES_SCORING).id, server.connection["token"]
    url = f"{server.url}/workspaces/{server.connection['workspace_id']}/webservices/{service}/endpoints/double"
    _, before = send(url, "PUT", token, "{}")
    (resource,) = before["Resources"]
    twice = {"Description": "new", "Resources": [resource, {**resource, "Name": resource["Name"].upper()}]}
    status, answer = send(url, "PATCH", token, json.dumps(twice))
    assert (status, answer["error"]["details"][0]["code"]) == (400, "BadParameterValue")
    assert f"{resource['Name']!r} twice" in answer["error"]["message"]
    assert send(url, "GET", token) == (200, before)
    assert send(url, "PATCH", token, json.dumps({"Resources": [resource]}))[0] == 200
    assert send(url, "DELETE", token)[0] == 204


# Bravado is made of parts that their own authors call deprecated.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_client_made_of_the_api_document_works(server: ServerProcess, client: Client, scorer: Endpoint) -> None:
    """Bravado makes calls of the document alone: it scores, and submits, starts and sees a job.

    It does not validate answers: their cells are texts, as the cloud service sent them, though they are numbers.
    """
    from bravado.client import SwaggerClient
    from bravado.requests_client import RequestsClient

    http = RequestsClient()
    host = urllib.parse.urlsplit(scorer.api_location).netloc
    http.set_api_key(host, f"Bearer {scorer.primary_key}", param_name="Authorization", param_in="header")
    options = {"validate_responses": False, "use_models": False}
    made = SwaggerClient.from_url(f"{scorer.api_location}/swagger.json", http_client=http, config=options)
    version = {"api-version": "2.0"}
    # Bravado makes a name of the first segment of each path, query included.
    calls = {name: getattr(part, name) for part in (getattr(made, tag) for tag in dir(made)) for name in dir(part)}
    answer = calls["execute"](body={"Inputs": {"input1": [ROW]}}).response().result
    assert isinstance(answer["Results"]["output1"][0]["Scored Labels"], float)
    server.upload("tolerance/swagger.csv", ",".join(ROW) + "\n" + ",".join(map(str, ROW.values())) + "\n")
    request = {"Inputs": {"input1": {"RelativeLocation": "tolerance/swagger.csv"}}}
    job_id = calls["submitjob"](body=request).response().result
    calls["startjob"](jobId=job_id, **version).response()
    wait_for_job(client, scorer, job_id)
    state = calls["getjobstatus"](jobId=job_id, **version).response().result
    assert (state["StatusCode"], list(state["Results"])) == ("Finished", ["output1"])
