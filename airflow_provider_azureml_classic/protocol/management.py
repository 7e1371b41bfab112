"""The Swagger 2.0 document of the management operations: web services, endpoints, keys.

Of the cloud service's a draft is known, which describes reading only. The forms are those of the wire document,
section 2. Made of the table of operations, so that it lists what is routed and nothing else.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_azureml_classic.protocol import operations as ops
from airflow_provider_azureml_classic.protocol.keys import KEY_TYPE, KeyType
from airflow_provider_azureml_classic.protocol.values import (
    HIGH_CONCURRENCY,
    MAX_CONCURRENCY,
    ThrottleLevel,
    TraceLevel,
)

_JSON = "application/json"
_TOKEN = "bearer"  # noqa: S105 - the name of a scheme
_TEXT: dict[str, Any] = {"type": "string"}
_FLAG: dict[str, Any] = {"type": "boolean"}

#: Operation -> (what it does, definition of its body, answers: status -> definition).
_DESCRIBED: dict[ops.Operation, tuple[str, str | None, dict[int, str | None]]] = {
    ops.LIST_SERVICES: ("Lists the web services.", None, {200: "WebServices"}),
    ops.GET_SERVICE: ("One web service.", None, {200: "WebService"}),
    ops.DELETE_SERVICE: ("Deletes a web service with its endpoints.", None, {204: None}),
    ops.LIST_ENDPOINTS: ("Lists the endpoints of a web service.", None, {200: "Endpoints"}),
    ops.GET_ENDPOINT: ("One endpoint, by name or id.", None, {200: "Endpoint"}),
    ops.ADD_ENDPOINT: ("Adds an endpoint, or changes its settings.", "Settings", {200: "Endpoint", 201: "Endpoint"}),
    ops.PATCH_ENDPOINT: ("Changes settings, or puts trained models in place.", "Patch", {200: "Endpoint"}),
    ops.REHEARSE_UPDATE: ("What an update would change, on the calls that are kept.", "Patch", {200: "Rehearsal"}),
    ops.DELETE_ENDPOINT: ("Deletes an endpoint with its jobs.", None, {204: None}),
    ops.REFRESH_ENDPOINT: ("Brings an endpoint to the default one's state.", "Refresh", {200: None, 304: None}),
    ops.LIST_MODELS: ("Lists the models that an endpoint had, the last one first.", None, {200: "Models"}),
    ops.REGENERATE_KEYS: ("Replaces one key of an endpoint.", "Key", {200: "Endpoint"}),
    ops.SCORE_MODEL: ("Scores rows with a model that need not be in place.", "ModelCall", {200: "ModelAnswers"}),
    ops.SIGN_BLOB: ("A blob of the service's store with a token for an hour.", "Blob", {200: "Blob"}),
}


def management_document(public_url: str) -> dict[str, Any]:
    """The document.

    :param public_url: base of the server's URLs.
    """
    address = urlsplit(public_url)
    paths: dict[str, Any] = {}
    for operation in _DESCRIBED:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    key = {"type": "apiKey", "name": "Authorization", "in": "header"}
    meaning = "The word Bearer, a blank, and the workspace token or, where an operation says so, an endpoint's key."
    return {
        "swagger": "2.0",
        "info": {"version": ops.API_VERSION, "title": "Web services and endpoints"},
        "host": address.netloc,
        "basePath": address.path or "/",
        "schemes": [address.scheme],
        "consumes": [_JSON],
        "produces": [_JSON],
        "paths": paths,
        "definitions": _definitions(),
        "securityDefinitions": {_TOKEN: {**key, "description": meaning}},
        "security": [{_TOKEN: []}],
    }


def _operation(operation: ops.Operation) -> dict[str, Any]:
    meaning, body, answers = _DESCRIBED[operation]
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, **_TEXT} for name in re.findall(r"\{(\w+)\}", operation.path)
    ]
    if body:
        parameters.append({"name": "body", "in": "body", "required": body != "Refresh", "schema": _ref(body)})
    responses: dict[str, Any] = {
        str(status): {"description": "Done.", **({"schema": _ref(definition)} if definition else {})}
        for status, definition in answers.items()
    }
    return {
        "operationId": operation.name,
        "summary": meaning,
        "description": f"Takes the {operation.credential.value}.",
        "parameters": parameters,
        "responses": {**responses, "default": {"description": "The call failed.", "schema": _ref("ErrorResponse")}},
    }


def _definitions() -> dict[str, Any]:
    calls = {"type": "integer", "minimum": 1, "maximum": MAX_CONCURRENCY, "default": HIGH_CONCURRENCY}
    settings = {
        "Description": _TEXT,
        "ThrottleLevel": _one_of(ThrottleLevel),
        "MaxConcurrentCalls": calls,
        "PreventUpdate": _FLAG,
        "SampleDataEnabled": _FLAG,
        "DiagnosticsTraceLevel": _one_of(TraceLevel),
    }
    reference = dict.fromkeys(("BaseLocation", "RelativeLocation", "SasBlobToken"), _TEXT)
    location = _object(reference, "RelativeLocation")
    resources = {"type": "array", "items": _object({"Name": _TEXT, "Location": location}, "Name", "Location")}
    named = ("Name", "WebServiceId", "WorkspaceId", "CreationTime", "HelpLocation", "ApiLocation", "Version")
    names = (*named, "PrimaryKey", "SecondaryKey")
    endpoint = {**dict.fromkeys(names, _TEXT), **settings, "Resources": {"type": "array", "items": {"type": "object"}}}
    service = {**dict.fromkeys(("Id", "Name", "WorkspaceId"), _TEXT), "EndpointCount": {"type": "integer"}}
    count, share = {"type": "integer"}, {"type": "number"}
    detail = _object(dict.fromkeys(("code", "message", "target"), _TEXT), "code", "message")
    model = {**dict.fromkeys(("Resource", "How", "PutLiveAt", "JobId"), _TEXT), "IsLive": _FLAG, "IsKept": _FLAG}
    models = {"Models": {"type": "array", "items": {"type": "object", "properties": model}}, "Next": count}
    error = {"code": _TEXT, "message": _TEXT, "details": {"type": "array", "minItems": 1, "items": detail}}
    return {
        "WebService": _object(service, *service),
        "WebServices": {"type": "array", "items": _ref("WebService")},
        "Endpoint": {"type": "object", "required": [*names[:2]], "properties": endpoint},
        "Endpoints": {"type": "array", "items": _ref("Endpoint")},
        "Models": _object(models, "Models"),
        "Settings": {**_object(settings), "additionalProperties": False},
        "Patch": {**_object({**settings, "Resources": resources}), "additionalProperties": False},
        "Refresh": {**_object({ops.OVERWRITE_RESOURCES: _FLAG}), "additionalProperties": False},
        "ModelCall": _object({"Location": location, **_any("ModelDigests", "Rows"), "HeldOut": _FLAG}),
        "ModelAnswers": _object(_any("Answers", "ModelDigests", "HeldOut"), "Answers"),
        "Key": _object({KEY_TYPE: _one_of(KeyType)}, KEY_TYPE),
        "Blob": location,
        "Rehearsal": _object({"calls": count, "rows": count, "changed": share, "stability": share}, "calls", "rows"),
        "ErrorResponse": _object({"error": _object(error, *error)}, "error"),
    }


def _ref(definition: str) -> dict[str, str]:
    return {"$ref": f"#/definitions/{definition}"}


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", **({"required": list(required)} if required else {}), "properties": properties}


def _any(*names: str) -> dict[str, Any]:
    return {name: {"type": "object"} for name in names}


def _one_of(values: Any) -> dict[str, Any]:
    return {"type": "string", "enum": [value.value for value in values]}
