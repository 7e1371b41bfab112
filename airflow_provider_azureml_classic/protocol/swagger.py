"""The API document of an endpoint: Swagger 2.0, as the clients of the cloud service read it.

Names of operations, parameters and definitions are those of the cloud service's document (azuremlps,
``AmlClient/bes_verbatim/swagger.api.json``): programs are written against clients that are generated of it. So is the
version in the query of the first paths; a path with a name in it has the version as a parameter instead, as
``swagger-client`` fills in no name where a path has a query.
The R client takes the path that matches ``/execute\\?`` as the scoring call and the method of the *second* path as its
method, so the order of the paths is part of the wire format, too (wire document, section 6). It walks through all
members of all operations, and stumbles over an operation whose parameters do not all have the same members.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_azureml_classic.protocol import operations as ops
from airflow_provider_azureml_classic.protocol.jobs import SAMPLES, JobStatus
from airflow_provider_azureml_classic.protocol.references import (
    BASE_LOCATION,
    CONNECTION_STRING,
    RELATIVE_LOCATION,
    SAS_TOKEN,
)
from airflow_provider_azureml_classic.protocol.tables import GLOBAL_PARAMETERS, INPUTS, OUTPUTS, RESULTS, Table

#: Member of ours of the definitions of a job's inputs and outputs: which one of them a client means that names none.
FIRST = "x-first"
_JSON = "application/json"
_JOB = "jobId"
_KEY = "api_key"
_BLOB = "AzureBlobDataReference"
_TIMES = ("CreatedAt", "StartTime", "EndTime")
_TYPES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "Double": {"type": "number", "format": "double"},
        "Int64": {"type": "integer", "format": "int64"},
        "Boolean": {"type": "boolean"},
        "String": {"type": "string"},
    }
)


@dataclass(frozen=True)
class ParameterDescription:
    """A web service parameter.

    :param name: member of ``GlobalParameters``.
    :param kind: ``string``, ``integer``, ``number`` or ``boolean``.
    :param meaning: what it does.
    :param default: value if it is not given, if there is one.
    :param required: a call without it is refused.
    :param limits: further members of its definition: ``minimum``, ``maximum``, ``enum``.
    """

    name: str
    kind: str
    meaning: str
    default: Any = None
    required: bool = False
    limits: Mapping[str, Any] = field(default_factory=dict)

    @property
    def example(self) -> Any:
        """A value that may be given."""
        enum = self.limits.get("enum")
        if self.default is not None:
            return self.default
        return enum[0] if enum else {"string": "text", "boolean": True}.get(self.kind, self.limits.get("minimum", 1))

    def definition(self) -> dict[str, Any]:
        """The parameter in the words of Swagger."""
        default = {} if self.default is None else {"default": self.default}
        return {"type": self.kind, "description": self.meaning, **default, **self.limits}


@dataclass(frozen=True)
class ApiDescription:
    """What there is to say about an endpoint's calls.

    :param title: name of the web service.
    :param endpoint: name of the endpoint.
    :param api_location: its ``ApiLocation``.
    :param training: it trains, so that it has batch jobs and no scoring call.
    :param inputs: columns to send, name and type (``Double``, ``Int64``, ``Boolean``, ``String``).
    :param optional: names of the columns that may be left out.
    :param outputs: columns of a scoring call's answer.
    :param input_name: what a scoring call's input is called; of a training service, its first input to train on.
    :param output_name: what a scoring call's output is called; of a training service, the model.
    :param batch_inputs: what a batch job reads, by input name.
    :param inputs_required: a job needs all of them; otherwise a parameter may stand for the first.
    :param batch_outputs: what a batch job writes, by output name.
    :param parameters: what a caller may set.
    :param example: rows that may be sent.
    """

    title: str
    endpoint: str
    api_location: str
    training: bool
    inputs: tuple[tuple[str, str], ...]
    optional: frozenset[str]
    outputs: tuple[tuple[str, str], ...]
    input_name: str
    output_name: str
    batch_inputs: Mapping[str, str]
    inputs_required: bool
    batch_outputs: Mapping[str, str]
    parameters: tuple[ParameterDescription, ...]
    example: Table


@dataclass(frozen=True)
class Names:
    """What the experiment of a web service calls its inputs, outputs and columns.

    :param input: the one that rows go to: to be scored, or to train on; ``None``: not known.
    :param output: the one with the scored rows, or with the model; ``None``: not known.
    :param types: types of the columns of a scoring call and its answer, in the words of JSON: ``number``, ``string``.
    """

    input: str | None = None
    output: str | None = None
    types: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, document: Any) -> Names:
        """The names in an API document, of whatever service.

        :param document: decoded JSON.
        """
        definitions = document.get("definitions") if isinstance(document, Mapping) else None
        if not isinstance(definitions, Mapping):
            return cls()
        return cls(_name_in(definitions, INPUTS), _name_in(definitions, OUTPUTS), _types(definitions))


def _types(definitions: Mapping[str, Any]) -> dict[str, str]:
    types: dict[str, str] = {}
    for what in (OUTPUTS, INPUTS):
        for port in _properties(definitions, f"Execution{what}").values():
            item = str(_members(_members(port).get("items")).get("$ref")).rpartition("/")[2]
            types |= {name: str(_members(one).get("type")) for name, one in _properties(definitions, item).items()}
    return types


def _properties(definitions: Mapping[str, Any], definition: str) -> Mapping[str, Any]:
    return _members(_members(definitions.get(definition)).get("properties"))


def _members(node: Any) -> Mapping[str, Any]:
    return node if isinstance(node, Mapping) else {}


def _name_in(definitions: Mapping[str, Any], what: str) -> str | None:
    of_jobs, of_calls = (definitions.get(f"{kind}{what}") for kind in ("Batch", "Execution"))
    name = of_jobs.get(FIRST) if isinstance(of_jobs, Mapping) else None
    calls = of_calls.get("properties") if isinstance(of_calls, Mapping) else None
    if name is None and isinstance(calls, Mapping) and len(calls) == 1:
        (name,) = calls
    return name if isinstance(name, str) and name else None


def execution_body(api: ApiDescription, *, swagger: bool) -> dict[str, Any]:
    """The body of a scoring call, with the example's rows.

    :param api: the endpoint.
    :param swagger: the list-of-objects form.
    """
    rows = api.example.rows if swagger else api.example.to_wire()
    return {INPUTS: {api.input_name: rows}, GLOBAL_PARAMETERS: example_parameters(api)}


def example_parameters(api: ApiDescription) -> dict[str, Any]:
    """``GlobalParameters`` that a call may have: those with a default, and those that must be given.

    :param api: the endpoint.
    """
    return {p.name: p.example for p in api.parameters if p.default is not None or p.required}


def api_document(api: ApiDescription) -> dict[str, Any]:
    """The Swagger 2.0 document of an endpoint.

    :param api: what to describe.
    """
    address = urlsplit(api.api_location)
    kind = "Trains a model: batch jobs only." if api.training else "Scores rows, at once or in batch jobs."
    return {
        "swagger": "2.0",
        "info": {"version": ops.API_VERSION, "title": api.title, "description": kind, "x-endpoint-name": api.endpoint},
        "host": address.netloc,
        "basePath": address.path,
        "schemes": [address.scheme],
        "consumes": [_JSON],
        "produces": [_JSON],
        "paths": _paths(api),
        "responses": {"Error": {"description": "The call failed.", "schema": _ref("ErrorResponse")}},
        "definitions": _definitions(api),
        "securityDefinitions": {
            _KEY: {
                "type": "apiKey",
                "name": "Authorization",
                "in": "header",
                "description": "The word Bearer, a blank, and the endpoint's primary or secondary key.",
            }
        },
        "security": [{_KEY: []}],
    }


def _ref(definition: str) -> dict[str, str]:
    return {"$ref": f"#/definitions/{definition}"}


def _object(properties: Mapping[str, Any], required: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    return {"type": "object", **({"required": list(required)} if required else {}), "properties": properties, **more}


def _below(operation: ops.Operation, *query: tuple[str, str]) -> str:
    path = operation.path.removeprefix(ops.API_PATH)
    if "{job}" in path:
        return path.replace("{job}", f"{{{_JOB}}}")
    return replace(operation, path=path).url("", {}, query)


def _paths(api: ApiDescription) -> dict[str, Any]:
    document = {
        "operationId": "getSwaggerDocument",
        "summary": "This document.",
        "security": [],
        "parameters": [_version(required=False)],
        "responses": {"200": {"description": "A Swagger 2.0 document.", "schema": {"type": "object"}}},
    }
    execute = _below(ops.SCORE, (ops.FORMAT_PARAMETER, ops.SWAGGER_FORMAT))
    return {
        _below(ops.SWAGGER): {"get": document},
        execute: {"post": _refused() if api.training else _execute()},
        **_job_paths(),
    }


def _execute() -> dict[str, Any]:
    answer = _ref("ExecutionResults")
    return _operation("execute", "Score rows and wait for the answer.", answer, [_body("ExecutionRequest")])


def _refused() -> dict[str, Any]:
    # A training web service has no scoring call. The path stands here all the same, without a body and with nothing but
    # an error to expect: clients that take the second path for the scoring call would otherwise POST rows to /jobs.
    return {
        "operationId": "execute",
        "summary": "Not possible: a training web service takes batch jobs only.",
        "responses": {"400": {"$ref": "#/responses/Error"}},
    }


def _operation(
    name: str, summary: str, answer: Mapping[str, Any] | None, parameters: list[dict[str, Any]]
) -> dict[str, Any]:
    success = {"description": "Done."} if answer is None else {"description": "The answer.", "schema": answer}
    return {
        "operationId": name,
        "summary": summary,
        "parameters": parameters,
        "responses": {"200": success, "default": {"$ref": "#/responses/Error"}},
    }


def _version(*, required: bool) -> dict[str, Any]:
    default = {} if required else {"default": ops.API_VERSION}
    parameter = {"in": "query", "required": required, "type": "string", "description": "Version of the API."}
    return {"name": ops.VERSION_PARAMETER, **parameter, **default, "enum": [ops.API_VERSION]}


def _body(definition: str) -> dict[str, Any]:
    return {"name": "body", "in": "body", "required": True, "schema": _ref(definition)}


def _job_paths() -> dict[str, Any]:
    meaning = "The id that the submission answered."
    job = {"name": _JOB, "in": "path", "required": True, "type": "string", "description": meaning}
    which = [_version(required=True), job]
    job_id, state = {"type": "string", "description": "The job's id."}, _ref("BatchExecutionStatus")
    submit = _operation(
        "submitjob", "Register a batch job; it does not run yet.", job_id, [_body("BatchExecutionRequest")]
    )
    status = _operation("getjobstatus", "State of a job; results once it is finished.", state, which)
    return {
        _below(ops.SUBMIT_JOB): {"post": submit},
        _below(ops.GET_JOB): {"get": status, "delete": _operation("canceljob", "Cancel a job.", None, which)},
        _below(ops.START_JOB): {"post": _operation("startjob", "Start a registered job.", None, which)},
    }


def _definitions(api: ApiDescription) -> dict[str, Any]:
    items = {name: {**_TYPES[kind], "x-nullable": True} for name, kind in api.inputs}
    required = tuple(name for name, _ in api.inputs if name not in api.optional)
    row = (
        "A row of the file to train on: CSV, TSV or ARFF, as its extension says." if api.training else "A row to score."
    )
    return {
        **({} if api.training else _execution_definitions(api)),
        f"{api.input_name}Item": _object(items, required, description=row),
        **_batch_definitions(api),
        GLOBAL_PARAMETERS: _object(
            {p.name: p.definition() for p in api.parameters}, tuple(p.name for p in api.parameters if p.required)
        ),
        _BLOB: _blob_reference(),
        "ErrorResponse": _object({"error": _ref("Error")}, ("error",)),
        "Error": _error_object(),
        "ErrorDetail": _object({name: {"type": "string"} for name in ("code", "message", "target")}, ("code",)),
    }


def _with_parameters(api: ApiDescription) -> tuple[str, ...]:
    return (GLOBAL_PARAMETERS,) if any(p.required for p in api.parameters) else ()


def _execution_definitions(api: ApiDescription) -> dict[str, Any]:
    def rows(name: str) -> dict[str, Any]:
        return {"type": "array", "items": _ref(f"{name}Item")}

    return {
        "ExecutionRequest": _object(
            {INPUTS: _ref("ExecutionInputs"), GLOBAL_PARAMETERS: _ref(GLOBAL_PARAMETERS)},
            (INPUTS, *_with_parameters(api)),
            example=execution_body(api, swagger=True),
        ),
        "ExecutionInputs": _object({api.input_name: rows(api.input_name)}, (api.input_name,)),
        "ExecutionResults": _object({RESULTS: _ref("ExecutionOutputs")}),
        "ExecutionOutputs": _object({api.output_name: rows(api.output_name)}),
        f"{api.output_name}Item": _object(
            {name: dict(_TYPES[kind]) for name, kind in api.outputs},
            description="A row of the answer. Cells are sent as text whatever their type, as the cloud service did.",
        ),
    }


def _batch_definitions(api: ApiDescription) -> dict[str, Any]:
    blob = _ref(_BLOB)
    times = {name: {"type": "string", "format": "date-time", "x-nullable": True} for name in _TIMES}
    outputs = _object(dict.fromkeys(api.batch_outputs, blob))
    inputs = _object(dict.fromkeys(api.batch_inputs, blob), tuple(api.batch_inputs) if api.inputs_required else ())
    request = _object(
        {
            GLOBAL_PARAMETERS: _ref(GLOBAL_PARAMETERS),
            INPUTS: _ref("BatchInputs"),
            OUTPUTS: _ref("BatchOutputs"),
        },
        (*((INPUTS,) if api.inputs_required else ()), *_with_parameters(api)),
    )
    status = {
        "StatusCode": {"type": "string", "enum": [status.value for status in JobStatus]},
        RESULTS: {**outputs, "x-nullable": True},
        "Details": {"type": "string", "x-nullable": True, "description": "Why the job failed."},
        **times,
        "Progress": {"type": "string", "x-nullable": True, "description": "The last line of the job's log."},
        SAMPLES: blob,
    }
    read = f"Where the data is. {_described(api.batch_inputs)}."
    write = f"Where to write, if not to the service's own store. {_described(api.batch_outputs)}."
    return {
        "BatchExecutionRequest": request,
        "BatchInputs": {**inputs, "description": read, FIRST: api.input_name},
        "BatchOutputs": {**outputs, "description": write, FIRST: api.output_name},
        "BatchExecutionStatus": _object(status, ("StatusCode",)),
    }


def _described(meanings: Mapping[str, str]) -> str:
    """What each is for; it stands in a description, as a reference has no siblings."""
    return "; ".join(f"{name}: {meaning}" for name, meaning in meanings.items())


def _blob_reference() -> dict[str, Any]:
    texts = {
        CONNECTION_STRING: "Of an Azure Storage account; stands instead of base location and token.",
        RELATIVE_LOCATION: "container/path/file.ext",
        BASE_LOCATION: "Address of the storage account; empty for the service's own store.",
        SAS_TOKEN: "Token that opens the blob.",
    }
    nullable = {name: {} if name == RELATIVE_LOCATION else {"x-nullable": True} for name in texts}
    properties = {name: {"type": "string", **nullable[name], "description": text} for name, text in texts.items()}
    return _object(properties, (RELATIVE_LOCATION,))


def _error_object() -> dict[str, Any]:
    details = {"type": "array", "items": _ref("ErrorDetail")}
    texts = {"code": {"type": "string"}, "message": {"type": "string"}}
    return _object({**texts, "details": details}, ("code", "message", "details"))
