"""The Open Inference Protocol: what clients of KServe, Triton and MLServer send over HTTP."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from airflow_provider_azureml_classic.protocol.inference import HEADER_LENGTH
from airflow_provider_azureml_classic.protocol.keys import KeyType
from airflow_provider_azureml_classic.protocol.messages import Response
from airflow_provider_azureml_classic.protocol.values import Endpoint
from tests.support.service import Service, copied


@pytest.fixture(scope="module")
def service(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all tests of this module, as none of their calls changes anything."""
    with copied(trained, tmp_path_factory.mktemp("inference")) as running:
        yield running


@pytest.fixture(scope="module")
def scorer(service: Service) -> Endpoint:
    """The endpoint ``mine`` of the scoring service."""
    return service.client.add_endpoint(service.scoring, "mine")


def asked(service: Service, scorer: Endpoint, method: str, end: str, body: bytes = b"", **headers: str) -> Response:
    """An answer about the model of the endpoint, by the name of its service."""
    name = service.client.get_web_service(service.scoring).name
    path = f"/v2/models/{quote(name)}~mine{end}"
    return service.ask(
        method, path, body, key=scorer.primary_key, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


def rows_of(service: Service, scorer: Endpoint) -> tuple[list[dict[str, Any]], list[list[Any]]]:
    """The model's columns with two cells each as tensors, and the same rows as the classic call takes them."""
    columns = json.loads(asked(service, scorer, "GET", "").body)["inputs"]
    cells = [[1.5, 2.5] if column["datatype"] == "FP64" else ["a", "ü"] for column in columns]
    tensors = [{**column, "shape": [2], "data": data} for column, data in zip(columns, cells, strict=True)]
    return tensors, [list(row) for row in zip(*cells, strict=True)]


def packed(tensors: list[dict[str, Any]]) -> tuple[bytes, int]:
    """Tensors in Triton's binary form, and the length of the JSON before them."""
    heads, rest = [], b""
    for tensor in tensors:
        if tensor["datatype"] == "FP64":
            content = struct.pack("<2d", *tensor["data"])
        else:
            content = b"".join(len(t.encode()).to_bytes(4, "little") + t.encode() for t in tensor["data"])
        rest += content
        heads.append(
            {k: v for k, v in tensor.items() if k != "data"} | {"parameters": {"binary_data_size": len(content)}}
        )
    head = json.dumps({"inputs": heads}).encode()
    return head + rest, len(head)


def test_health_is_open(service: Service) -> None:
    """Probes have no key; what they are told is a word for clients that read it, as KServe's does."""
    answers = [service.ask("GET", path, key=None) for path in ("/v2/health/live", "/v2/health/ready", "/v2")]
    assert {answer.status for answer in answers} == {200}
    assert [json.loads(answer.body) for answer in answers[:2]] == [{"live": True}, {"ready": True}]


def test_answers_are_those_of_the_classic_call(service: Service, scorer: Endpoint) -> None:
    """As lists, as rows of one cell, and as bytes: the same labels, and the same numbers as numbers."""
    tensors, rows = rows_of(service, scorer)
    table = {"ColumnNames": [tensor["name"] for tensor in tensors], "Values": rows}
    path = f"{scorer.api_location[scorer.api_location.index('/workspaces') :]}/execute?api-version=2.0"
    classic = json.loads(service.ask("POST", path, {"Inputs": {"input1": table}}, key=scorer.primary_key).body)
    value = classic["Results"]["output1"]["value"]
    nested = [{**tensor, "shape": [2, 1], "data": [[cell] for cell in tensor["data"]]} for tensor in tensors]
    binary, length = packed(tensors)
    assert json.loads(asked(service, scorer, "GET", "/ready").body)["ready"] is True
    for body, headers in (
        (json.dumps({"id": "7", "inputs": tensors}).encode(), {}),
        (json.dumps({"inputs": nested}).encode(), {}),
        (binary, {HEADER_LENGTH: str(length)}),
    ):
        answer = asked(service, scorer, "POST", "/infer", body, **headers)
        data = json.loads(answer.body)
        assert answer.status == 200, data
        assert [output["name"] for output in data["outputs"]] == value["ColumnNames"]
        for column, output in enumerate(data["outputs"]):
            expected = [row[column] for row in value["Values"]]
            assert output["data"] == (list(map(float, expected)) if output["datatype"] == "FP64" else expected)
    assert data["model_version"] == json.loads(asked(service, scorer, "GET", "").body)["versions"][0]


@pytest.mark.parametrize("end", ["", "/ready", "/infer"])
def test_a_version_is_the_live_one(service: Service, scorer: Endpoint, end: str) -> None:
    """A client that names the live model's version is served; another version is not there, and the live one named."""
    live = json.loads(asked(service, scorer, "GET", "").body)["versions"][0]
    tensors, _ = rows_of(service, scorer)
    method, body = ("POST", json.dumps({"inputs": tensors}).encode()) if end == "/infer" else ("GET", b"")
    assert asked(service, scorer, method, f"/versions/{live}{end}", body).status == 200
    answer = asked(service, scorer, method, f"/versions/1{end}", body)
    assert answer.status == 404
    assert f"The version '1' of this model is not live; {live} is." in json.loads(answer.body)["error"]


def test_a_compressed_body_is_named(service: Service, scorer: Endpoint) -> None:
    """It is refused as what it is, not as a text that cannot be decoded."""
    body = gzip.compress(json.dumps({"inputs": rows_of(service, scorer)[0]}).encode())
    answer = asked(service, scorer, "POST", "/infer", body, content_encoding="gzip")
    assert (answer.status, json.loads(answer.body)["error"]) == (
        400,
        "RequestBodyInvalid: Compressed bodies are not read: send it without Content-Encoding.",
    )


def test_the_key_is_that_of_the_endpoint(service: Service, scorer: Endpoint) -> None:
    """Another endpoint's key and another name are refused alike, and an error is a text."""
    other = service.client.add_endpoint(service.scoring, "other")
    for model, key in ((f"{service.scoring}~mine", other.primary_key), ("no~mine", scorer.primary_key), ("x", None)):
        answer = service.ask("POST", f"/v2/models/{model}/infer", b"{}", key=key)
        assert answer.status == 401
        assert json.loads(answer.body)["error"].startswith("ScoreRequestUnauthorized: ")


def test_the_database_is_not_asked_again(service: Service, scorer: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that was called answers while there is no database; a replaced key or another model does not."""
    name = service.client.get_web_service(service.scoring).name
    body = json.dumps({"inputs": rows_of(service, scorer)[0]}).encode()

    def status(model: str, key: str) -> int:
        return service.ask("POST", f"/v2/models/{quote(name)}~{model}/infer", body, key=key).status

    other = service.client.add_endpoint(service.scoring, "replaced")
    assert [status("mine", scorer.primary_key), status("replaced", other.primary_key)] == [200, 200]
    with monkeypatch.context() as patch:
        patch.setattr(service.database, "_reader", None)
        assert status("mine", scorer.primary_key) == 200
    assert status("mine", other.primary_key) == 401
    service.client.regenerate_key(service.scoring, "replaced", KeyType.PRIMARY)
    assert status("replaced", other.primary_key) == 401
