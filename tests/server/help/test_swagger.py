"""The API document: valid Swagger 2.0, in the order that old clients rely on, and true."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import jsonschema
import pytest

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.protocol.swagger import ApiDescription, api_document
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.protocol.values import Endpoint, EndpointSettings
from airflow_provider_azureml_classic.server.experiments.declaration import shipped_experiments
from airflow_provider_azureml_classic.server.service import running
from airflow_provider_azureml_classic.server.settings import Settings
from airflow_provider_azureml_classic.server.web.app import App
from tests.support import BIKES, BIKES_SCORING, CENSUS, CENSUS_SCORING, ServerProcess

BASE, WORKSPACE, TOKEN = "https://studio.test/ml", "1c2d3e4f5a6b47c8d9e0f1a2b3c4d5e6", "fake-workspace-token"
SERVICES = [CENSUS, CENSUS_SCORING, BIKES, BIKES_SCORING]
EXECUTE = "/execute?api-version=2.0&format=swagger"
JOB_PATHS = ("/jobs?api-version=2.0", "/jobs/{jobId}", "/jobs/{jobId}/start")
VERBS = ("get", "put", "post", "delete", "options", "head", "patch")

_TEXT = {"type": "string", "minLength": 1}
_RESPONSE = {"type": "object", "anyOf": [{"required": ["description"]}, {"required": ["$ref"]}]}
_PARAMETER = {
    "type": "object",
    "oneOf": [
        {"required": ["name", "in", "schema"], "properties": {"in": {"const": "body"}}},
        {
            "required": ["name", "in", "type"],
            "properties": {"in": {"enum": ["query", "header", "path", "formData"]}},
        },
    ],
}
_OPERATION = {
    "type": "object",
    "required": ["responses"],
    "properties": {
        "operationId": _TEXT,
        "summary": _TEXT,
        "description": _TEXT,
        "security": {"type": "array"},
        "parameters": {"type": "array", "items": _PARAMETER},
        "responses": {
            "type": "object",
            "minProperties": 1,
            "patternProperties": {"^([0-9]{3}|default)$": _RESPONSE},
            "additionalProperties": False,
        },
    },
    "additionalProperties": False,
}
#: What the specification of Swagger 2.0 asks of the parts that are used here.
SWAGGER = {
    "type": "object",
    "required": ["swagger", "info", "paths"],
    "properties": {
        "swagger": {"const": "2.0"},
        "info": {
            "type": "object",
            "required": ["title", "version"],
            "properties": {"title": _TEXT, "version": _TEXT, "description": _TEXT},
            "patternProperties": {"^x-": {}},
            "additionalProperties": False,
        },
        "host": {"type": "string", "pattern": r"^[^{}/ :\\]+(:\d+)?$"},
        "basePath": {"type": "string", "pattern": "^/"},
        "schemes": {"type": "array", "items": {"enum": ["http", "https"]}, "minItems": 1},
        "consumes": {"type": "array", "items": _TEXT},
        "produces": {"type": "array", "items": _TEXT},
        "paths": {
            "type": "object",
            "patternProperties": {"^/": {"type": "object", "additionalProperties": _OPERATION}},
            "additionalProperties": False,
        },
        "responses": {"type": "object", "additionalProperties": _RESPONSE},
        "definitions": {"type": "object", "additionalProperties": {"type": "object"}},
        "securityDefinitions": {
            "type": "object",
            "additionalProperties": {
                "required": ["type", "name", "in"],
                "properties": {"type": {"const": "apiKey"}, "in": {"enum": ["header", "query"]}},
            },
        },
        "security": {"type": "array", "items": {"type": "object"}},
    },
    "additionalProperties": False,
}


@dataclass(frozen=True)
class House:
    """An app in this process with the shipped experiments, and a client that calls it without a network."""

    app: App
    client: Client

    def endpoint(self, service: str, name: str = "default") -> Endpoint:
        """An endpoint of a web service."""
        return self.client.get_endpoint(self.service(service), name)

    def service(self, name: str) -> str:
        """Id of a web service."""
        return next(s.id for s in self.client.list_web_services() if s.name == name)

    def get(self, url: str) -> Any:
        """The decoded answer to somebody without a key."""
        parts = urlsplit(url)
        response = self.app.answer("GET", parts.path.removeprefix("/ml"), parts.query, {}, b"")
        assert response.status == 200, response.body
        return json.loads(response.body)

    def document(self, service: str) -> dict[str, Any]:
        """The document of a web service's default endpoint."""
        return dict(self.get(f"{self.endpoint(service).api_location}/swagger.json"))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """The app with the shipped experiments."""
    folder = tmp_path_factory.mktemp("swagger")
    key = base64.urlsafe_b64encode(bytes(32)).decode()
    settings = Settings(folder, BASE, WORKSPACE, TOKEN, base64.b64encode(bytes(64)).decode(), key, workers=1)
    with running(settings, shipped_experiments()) as (app, _):

        def transport(request: Any) -> Any:
            parts = urlsplit(request.url)
            path = parts.path.removeprefix("/ml")
            return app.answer(request.operation.method, path, parts.query, request.headers, request.body)

        yield House(app, Client(BASE, WORKSPACE, TOKEN, transport=transport))


every_service = pytest.mark.parametrize("service", SERVICES)


def references(node: Any) -> Iterator[str]:
    """Every ``$ref`` of a document."""
    if isinstance(node, Mapping):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def validator(document: dict[str, Any], definition: str) -> jsonschema.Draft4Validator:
    """A validator of what a definition describes; ``x-nullable`` is read as it is meant."""

    def nullable(node: Any) -> Any:
        if isinstance(node, Mapping):
            changed = {key: nullable(value) for key, value in node.items()}
            if changed.pop("x-nullable", False):
                return {"anyOf": [changed, {"type": "null"}]}
            return changed
        return node

    schema = {"$ref": f"#/definitions/{definition}", "definitions": nullable(document["definitions"])}
    return jsonschema.Draft4Validator(schema)


@pytest.mark.slow
@every_service
def test_document_is_swagger(house: House, service: str) -> None:
    """The document has the shape of the specification, all its references lead somewhere, and ids are unique."""
    document = house.document(service)
    jsonschema.Draft7Validator(SWAGGER).validate(document)
    for reference in references(document):
        found: Any = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
    for schema in document["definitions"].values():
        jsonschema.Draft4Validator.check_schema(schema)
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids)
    names = set(document["securityDefinitions"])
    assert all(set(item) <= names for operation in operations for item in operation.get("security", []))


@every_service
def test_path_parameters_are_declared(house: House, service: str) -> None:
    """Each name in a path has its parameter, and each path parameter stands in its path."""
    document = house.document(service)
    for path, item in document["paths"].items():
        for operation in item.values():
            given = operation.get("parameters", [])
            assert {p["name"] for p in given if p["in"] == "path"} == set(re.findall(r"{(\w+)}", path))


@every_service
def test_head_says_what_and_where(house: House, service: str) -> None:
    """Title, endpoint and address are those of the endpoint."""
    document, endpoint = house.document(service), house.endpoint(service)
    assert document["info"]["version"] == "2.0"
    assert document["info"]["title"] == service
    assert document["info"]["x-endpoint-name"] == "default"
    assert document["schemes"] == ["https"]
    assert f"https://{document['host']}{document['basePath']}" == endpoint.api_location
    assert document["securityDefinitions"]["api_key"]["name"] == "Authorization"


@every_service
def test_order_of_paths_is_what_the_r_client_reads(house: House, service: str) -> None:
    """The scoring call is the only path with ``/execute?`` and the second one, with POST as its only method."""
    paths = list(house.document(service)["paths"].items())
    assert [path for path, _ in paths[:2]] == ["/swagger.json", EXECUTE]
    assert [path for path, _ in paths if re.search(r"/execute\?", path)] == [EXECUTE]
    assert list(paths[1][1]) == ["post"]
    assert [path for path, _ in paths[2:]] == list(JOB_PATHS)
    assert all(method in VERBS for _, item in paths for method in item)


def test_every_address_gives_the_same_document(house: House) -> None:
    """By name or GUID, on each host and at the help pages (where R looks), with or without a version: one document."""
    endpoint = house.endpoint(CENSUS_SCORING)
    guid = endpoint.api_location.rpartition("/")[2]
    management = f"{BASE}/workspaces/{WORKSPACE}/webservices/{house.service(CENSUS_SCORING)}/endpoints"
    documents = [
        house.get(url)
        for url in (
            f"{endpoint.api_location}/swagger.json",
            f"{endpoint.api_location}/swagger.json?api-version=2.0",
            f"{management}/{guid}/apidocument",
            f"{management}/default/apidocument",
            f"{endpoint.help_location}/apidocument",
        )
    ]
    assert all(document == documents[0] for document in documents)
    assert all(list(document["paths"]) == list(documents[0]["paths"]) for document in documents)


def test_columns_have_their_real_types(house: House) -> None:
    """Numbers are numbers and texts are texts, in and out; an optional column is not required."""
    census = house.document(CENSUS_SCORING)["definitions"]
    assert census["input1Item"]["properties"]["age"]["type"] == "number"
    assert census["input1Item"]["properties"]["workclass"]["type"] == "string"
    assert {name: kind["type"] for name, kind in census["output1Item"]["properties"].items()} == {
        "Scored Labels": "string",
        "Scored Probabilities": "number",
        'Scored Probabilities for Class "<=50K"': "number",
        'Scored Probabilities for Class ">50K"': "number",
    }
    bikes = house.document(BIKES_SCORING)["definitions"]
    assert bikes["output1Item"]["properties"] == {"Scored Labels": {"type": "number", "format": "double"}}
    assert "location" in bikes["input1Item"]["properties"]
    assert "location" not in bikes["input1Item"]["required"]
    assert "temp" in bikes["input1Item"]["required"]


@pytest.mark.parametrize("service", [CENSUS_SCORING, BIKES_SCORING])
def test_example_scores_in_both_forms(house: House, service: str) -> None:
    """The example is valid by its own definition; POSTed with a key it gives the columns that are described."""
    document, endpoint = house.document(service), house.endpoint(service)
    example = document["definitions"]["ExecutionRequest"]["example"]
    validator(document, "ExecutionRequest").validate(example)
    rows = example["Inputs"]["input1"]
    table = {"ColumnNames": list(rows[0]), "Values": [list(row.values()) for row in rows]}
    columns = list(document["definitions"]["output1Item"]["properties"])
    headers = {"authorization": f"Bearer {endpoint.primary_key}"}
    path = urlsplit(endpoint.api_location).path.removeprefix("/ml")
    answers = []
    for query, body in ((EXECUTE.partition("?")[2], example), ("api-version=2.0", {"Inputs": {"input1": table}})):
        response = house.app.answer("POST", f"{path}/execute", query, headers, json.dumps(body).encode())
        assert response.status == 200, response.body
        answers.append(json.loads(response.body)["Results"]["output1"])
    assert list(answers[0][0]) == columns
    assert answers[1]["value"]["ColumnNames"] == columns
    assert [list(row.values()) for row in answers[0]] == answers[1]["value"]["Values"]


@pytest.mark.parametrize("service", [CENSUS, BIKES])
def test_training_service_describes_a_call_that_is_refused(house: House, service: str) -> None:
    """The second path is still ``/execute``, with nothing but an error: no client may take ``/jobs`` for it."""
    document, endpoint = house.document(service), house.endpoint(service)
    execute = document["paths"][EXECUTE]["post"]
    assert list(execute["responses"]) == ["400"]
    assert "parameters" not in execute
    assert not {"ExecutionRequest", "output1Item"} & set(document["definitions"])
    label = {CENSUS: "income", BIKES: "cnt"}[service]
    assert label in document["definitions"]["input1Item"]["required"]
    path = urlsplit(endpoint.api_location).path.removeprefix("/ml")
    headers = {"authorization": f"Bearer {endpoint.primary_key}"}
    response = house.app.answer("POST", f"{path}/execute", EXECUTE.partition("?")[2], headers, b'{"Inputs": {}}')
    assert response.status == 400
    validator(document, "ErrorResponse").validate(json.loads(response.body))


def test_documents_of_jobs_are_true(house: House) -> None:
    """What a job takes and answers is valid by the definitions."""
    document, endpoint = house.document(CENSUS), house.endpoint(CENSUS)
    request = {"Inputs": {"input1": {"RelativeLocation": "data/a.csv"}}, "Outputs": {}, "GlobalParameters": {}}
    validator(document, "BatchExecutionRequest").validate(request)
    path = urlsplit(endpoint.api_location).path.removeprefix("/ml")
    headers = {"authorization": f"Bearer {endpoint.primary_key}"}
    version = "api-version=2.0"
    submitted = house.app.answer("POST", f"{path}/jobs", version, headers, json.dumps(request).encode())
    assert submitted.status == 200, submitted.body
    job = json.loads(submitted.body)
    state = json.loads(house.app.answer("GET", f"{path}/jobs/{job}", version, headers, b"").body)
    validator(document, "BatchExecutionStatus").validate(state)
    # A job that has written no model names no samples.
    assert {*state, "Samples"} == set(document["definitions"]["BatchExecutionStatus"]["properties"])
    assert set(document["definitions"]["BatchOutputs"]["properties"]) == {"output1", "output2"}


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (f"/workspaces/{WORKSPACE}/services/nobody/swagger.json", "EndpointNotFound"),
        ("/workspaces/other/services/nobody/swagger.json", "WorkspaceNotFound"),
        ("/workspaces/other/webservices/x/endpoints/y/apidocument", "WorkspaceNotFound"),
        (f"/workspaces/{WORKSPACE}/webservices/x/endpoints/y/apidocument", "WebServiceNotFound"),
        (f"/workspaces/{WORKSPACE}/webservices/SERVICE/endpoints/nobody/apidocument", "EndpointNotFound"),
    ],
)
def test_what_is_not_there(house: House, path: str, code: str) -> None:
    """An unknown workspace, web service or endpoint is a 404 in the protocol's shape, as R waits for."""
    response = house.app.answer("GET", path.replace("SERVICE", house.service(CENSUS)), "", {}, b"")
    assert response.status == 404
    error = json.loads(response.body)["error"]
    assert error["code"] == "NotFound"
    assert error["details"][0]["code"] == code


def test_document_is_open_over_the_network(server: ServerProcess) -> None:
    """Read as the R client reads it, without a key; the call that it describes needs one."""
    with server.client() as client:
        service = next(s for s in client.list_web_services() if s.name == CENSUS_SCORING)
        endpoint = client.add_endpoint(service.id, "swagger1", EndpointSettings())
    with urlopen(f"{endpoint.api_location}/swagger.json") as answer:
        document = json.loads(answer.read())
    url = endpoint.api_location + next(path for path in document["paths"] if "/execute?" in path)
    body = json.dumps(document["definitions"]["ExecutionRequest"]["example"]).encode()
    with urlopen(Request(url, body, {"Authorization": f"Bearer {endpoint.primary_key}"})) as answer:
        assert "Scored Labels" in json.loads(answer.read())["Results"]["output1"][0]
    with pytest.raises(HTTPError) as caught, urlopen(Request(url, body)):
        pass
    with caught.value as error:
        assert error.code == 401


def test_description_of_every_type() -> None:
    """Types that no shipped experiment has are described too."""
    kinds = ("Double", "Int64", "Boolean", "String")
    inputs = tuple((kind.lower(), kind) for kind in kinds)
    api = ApiDescription(
        "t",
        "default",
        "https://h/workspaces/w/services/e",
        False,
        inputs,
        frozenset(),
        inputs,
        "input1",
        "output1",
        {"input1": "rows"},
        True,
        {},
        (),
        Table((), []),
    )
    properties = api_document(api)["definitions"]["output1Item"]["properties"]
    assert [properties[kind.lower()]["type"] for kind in kinds] == ["number", "integer", "boolean", "string"]
