"""The API document, member by member: programs are written against clients that were generated of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_azureml_classic.protocol.swagger import (
    ApiDescription,
    Names,
    ParameterDescription,
    api_document,
    example_parameters,
    execution_body,
)
from airflow_provider_azureml_classic.protocol.tables import Table

SAMPLES = Path(__file__).parents[1] / "samples"
SCORING = ApiDescription(
    title="Churn",
    endpoint="store017",
    api_location="https://h.example/base/workspaces/w/services/g",
    training=False,
    inputs=(("age", "Int64"), ("city", "String"), ("income", "Double"), ("member", "Boolean")),
    optional=frozenset({"city", "member"}),
    outputs=(("Scored Labels", "String"), ("Scored Probabilities", "Double")),
    input_name="input1",
    output_name="output1",
    batch_inputs={"input1": "rows to score"},
    inputs_required=True,
    batch_outputs={"output1": "scored rows"},
    parameters=(ParameterDescription("Threshold", "number", "Of a yes.", 0.5, limits={"minimum": 0, "maximum": 1}),),
    example=Table(("age", "city", "income", "member"), [[39, "Bern", 1.5, True]]),
)
TRAINING = replace(
    SCORING,
    title="Churn training",
    training=True,
    output_name="model",
    batch_inputs={"input1": "rows to train on", "contract": "the contract"},
    inputs_required=False,
    batch_outputs={"model": "the model", "metrics": "its metrics"},
    parameters=(
        *SCORING.parameters,
        ParameterDescription("Data", "string", "Where they are.", required=True),
    ),
)


def without_words(node: Any) -> Any:
    """The document with one word for each text that people read."""
    if isinstance(node, Mapping):
        texts = {name for name in ("description", "summary") if isinstance(node.get(name), str)}
        return {name: "..." if name in texts else without_words(value) for name, value in node.items()}
    return [without_words(value) for value in node] if isinstance(node, list) else node


@pytest.mark.parametrize(("api", "name"), [(SCORING, "swagger_scoring"), (TRAINING, "swagger_training")])
def test_the_document(api: ApiDescription, name: str) -> None:
    """All of it but the words, in the order in which clients read it."""
    document = without_words(json.loads(json.dumps(api_document(api))))
    assert json.dumps(document, indent=1) == (SAMPLES / f"{name}.json").read_text().strip()


@pytest.mark.parametrize(
    ("api", "service", "row", "read", "write"),
    [
        (
            SCORING,
            "Scores rows, at once or in batch jobs.",
            "A row to score.",
            "input1: rows to score.",
            "output1: scored rows.",
        ),
        (
            TRAINING,
            "Trains a model: batch jobs only.",
            "A row of the file to train on: CSV, TSV or ARFF, as its extension says.",
            "input1: rows to train on; contract: the contract.",
            "model: the model; metrics: its metrics.",
        ),
    ],
)
def test_what_people_read(api: ApiDescription, service: str, row: str, read: str, write: str) -> None:
    """What the service does, what it reads and writes, and how a blob is named."""
    document = api_document(api)
    definitions = document["definitions"]
    assert (document["info"]["description"], definitions["input1Item"]["description"]) == (service, row)
    assert definitions["BatchInputs"]["description"] == f"Where the data is. {read}"
    assert definitions["BatchOutputs"]["description"].endswith(f" {write}")
    path = definitions["AzureBlobDataReference"]["properties"]["RelativeLocation"]
    assert path == {"type": "string", "description": "container/path/file.ext"}
    assert document["paths"]["/jobs/{jobId}/start"]["post"]["responses"]["200"] == {"description": "Done."}


def test_a_scoring_call_that_may_be_sent() -> None:
    """In either form, with the parameters that have a default or must be given."""
    parameters = {"Threshold": 0.5}
    row = {"age": 39, "city": "Bern", "income": 1.5, "member": True}
    assert execution_body(SCORING, swagger=True) == {"Inputs": {"input1": [row]}, "GlobalParameters": parameters}
    assert execution_body(SCORING, swagger=False) == {
        "Inputs": {"input1": {"ColumnNames": list(row), "Values": [list(row.values())]}},
        "GlobalParameters": parameters,
    }
    more = (*TRAINING.parameters, ParameterDescription("Seed", "integer", "May be left out."))
    assert example_parameters(replace(TRAINING, parameters=more)) == {"Threshold": 0.5, "Data": "text"}


@pytest.mark.parametrize(
    ("kind", "default", "limits", "example"),
    [
        ("string", None, {}, "text"),
        ("boolean", None, {}, True),
        ("boolean", False, {}, False),
        ("integer", None, {}, 1),
        ("integer", None, {"minimum": 5}, 5),
        ("integer", 0, {"minimum": -5}, 0),
        ("string", None, {"enum": ["a", "b"]}, "a"),
        ("string", "b", {"enum": ["a", "b"]}, "b"),
    ],
)
def test_an_example_of_a_parameter(kind: str, default: Any, limits: dict[str, Any], example: Any) -> None:
    """Its default, else one that is allowed."""
    value = ParameterDescription("p", kind, "meaning", default, limits=limits).example
    assert (type(value), value) == (type(example), example)


def test_names_in_our_own_document() -> None:
    """Of a scoring service with the types of its columns; a training service has no scoring call."""
    types = {"age": "integer", "city": "string", "income": "number", "member": "boolean"}
    scored = {"Scored Labels": "string", "Scored Probabilities": "number"}
    assert Names.of(api_document(SCORING)) == Names("input1", "output1", {**scored, **types})
    assert Names.of(api_document(TRAINING)) == Names("input1", "model", {})


PORT = {"properties": {"rows": {"type": "array", "items": {"$ref": "#/definitions/Row"}}}}
TWO = {"properties": {"a": {}, "b": {}}}


@pytest.mark.parametrize(
    ("definitions", "names"),
    [
        ({}, Names()),
        ({"ExecutionInputs": PORT}, Names("rows")),
        (
            {"ExecutionOutputs": PORT, "Row": {"properties": {"x": {"type": "string"}}}},
            Names(None, "rows", {"x": "string"}),
        ),
        ({"ExecutionInputs": TWO, "ExecutionOutputs": TWO}, Names()),
        ({"BatchInputs": {"x-first": "data"}, "ExecutionInputs": PORT}, Names("data")),
        ({"BatchInputs": {"x-first": ""}, "BatchOutputs": {"x-first": 5}, "ExecutionInputs": PORT}, Names()),
        (
            {"BatchInputs": [], "BatchOutputs": TWO, "ExecutionInputs": [], "ExecutionOutputs": {"properties": []}},
            Names(),
        ),
        ({"ExecutionInputs": {"properties": {"rows": []}}, "Row": []}, Names("rows")),
        ({"ExecutionInputs": {"properties": {5: {}}}}, Names()),
    ],
)
def test_names_in_documents_of_others(definitions: dict[str, Any], names: Names) -> None:
    """The one input, the one output, and what can be told of the columns; what cannot be read tells nothing."""
    assert Names.of({"definitions": definitions}) == names


@pytest.mark.parametrize("document", [None, [], {}, {"definitions": []}, "definitions"])
def test_what_is_no_document_names_nothing(document: Any) -> None:
    """It is no error."""
    assert Names.of(document) == Names()
