"""The Open Inference Protocol: requests as clients of KServe and Triton write them, and answers as they read them."""

from __future__ import annotations

import json
import struct
import tracemalloc
from typing import Any

import pytest

from airflow_provider_azureml_classic.exceptions import NotFound, RequestRejected, ServiceUnavailable, rejection
from airflow_provider_azureml_classic.protocol import inference
from airflow_provider_azureml_classic.protocol.inference import (
    answer_to_wire,
    check_version,
    model_to_wire,
    read_request,
    refusal,
    server_to_wire,
)
from airflow_provider_azureml_classic.protocol.tables import Table


def tensor(kind: str, shape: Any, name: str | None = "x", **more: Any) -> dict[str, Any]:
    """A tensor of a request."""
    return {"name": name, "datatype": kind, "shape": shape, **more}


def packed(kind: str, rows: int, content: bytes, name: str = "x") -> dict[str, Any]:
    """A tensor whose content follows the JSON."""
    return tensor(kind, [rows], name, parameters={"binary_data_size": len(content)})


def read(*tensors: Any, rest: bytes = b"", **more: Any) -> tuple[str, Table]:
    """What a request with these tensors asks."""
    head = json.dumps({"inputs": list(tensors), **more}).encode()
    return read_request(head + rest, str(len(head)), json.loads)


def text(content: str) -> bytes:
    """A text as it is packed."""
    return len(content.encode()).to_bytes(4, "little") + content.encode()


def test_columns_become_rows() -> None:
    """Flat or as rows of one cell; names without blanks around them; the client's id, whatever it is."""
    columns = tensor("FP64", [2], " x ", data=[1.5, None]), tensor("BYTES", [2, 1], "y", data=[["a"], ["ü"]])
    table = Table(("x", "y"), [(1.5, "a"), (None, "ü")])
    assert read(*columns, id="7") == ("7", table)
    assert read(*columns, id=7)[0] == "7"
    whole = json.dumps({"inputs": columns}).encode()
    for length in (None, "99999999999"):
        assert read_request(whole, length, json.loads) == ("", table)
    for nothing in (tensor("INT8", [0], data=[]), packed("INT8", 0, b""), packed("BYTES", 0, b"")):
        assert read(nothing) == ("", Table(("x",), []))


@pytest.mark.parametrize(
    ("kind", "content", "cells"),
    [
        ("BOOL", b"\1\0", [True, False]),
        ("UINT8", b"\xff\1", [255, 1]),
        ("UINT16", b"\xff\0\1\0", [255, 1]),
        ("UINT32", b"\xff\0\0\0\1\0\0\0", [255, 1]),
        ("UINT64", b"\xff" * 8 + b"\1" + bytes(7), [(1 << 64) - 1, 1]),
        ("INT8", b"\xff\1", [-1, 1]),
        ("INT16", b"\xfe\xff\1\0", [-2, 1]),
        ("INT32", b"\xfe\xff\xff\xff\1\0\0\0", [-2, 1]),
        ("INT64", b"\xfe" + b"\xff" * 7 + b"\1" + bytes(7), [-2, 1]),
        ("FP16", b"\x00\x3e\x00\x7e", [1.5, None]),
        ("FP32", struct.pack("<2f", 1.5, float("nan")), [1.5, None]),
        ("FP64", struct.pack("<2d", 0.1, float("nan")), [0.1, None]),
        ("BYTES", text("ü") + text(""), ["ü", ""]),
    ],
)
def test_tensors_as_bytes(kind: str, content: bytes, cells: list[Any]) -> None:
    """Little-endian, one behind the other; what is not a number has no value."""
    first, second = packed(kind, 2, content), packed("BYTES", 2, text("a") * 2, "y")
    assert read(first, second, rest=content + text("a") * 2)[1].values == list(zip(cells, "aa", strict=True))


@pytest.mark.parametrize(
    ("tensors", "rest", "words"),
    [
        ([], b"", "has no inputs"),
        ([5], b"", "has no inputs"),
        ([tensor("FP32", [1, 2], data=[1, 2])], b"", "Tensor 'x': the shape must be .rows. or"),
        ([tensor("FP32", [1, 1, 1], data=[1])], b"", "the shape must be .rows. or"),
        ([tensor("FP32", [], data=[])], b"", "the shape must be .rows. or"),
        ([tensor("FP32", 1, data=[1])], b"", "the shape must be a list of numbers"),
        ([tensor("FP32", [-1], data=[])], b"", "the shape must be a list of numbers"),
        ([tensor("FP32", [True], data=[1])], b"", "the shape must be a list of numbers"),
        ([tensor("FP32", [999999999], data=[1])], b"", "it has 1 cells; its shape says 999999999"),
        ([tensor("FP32", [1], None, data=[1])], b"", "A tensor has no name"),
        ([{"datatype": "FP32", "shape": [1], "data": [1]}], b"", "A tensor has no name"),
        ([{"name": "x", "datatype": ["FP32"], "shape": [1], "data": [1]}], b"", "the datatype must be BYTES or one of"),
        ([tensor("X", [1], data=[1])], b"", "the datatype must be BYTES or one of BOOL, UINT8"),
        ([tensor("FP32", [1], data=[[1, 2]])], b"", "a flat list"),
        ([tensor("FP32", [1], data=[{}])], b"", "a flat list"),
        ([tensor("FP32", [1], data=5)], b"", "data must be a list"),
        ([tensor("FP32", [1], parameters=5)], b"", "data must be a list"),
        ([tensor("FP32", [1], data=[1])] * 2, b"", "The tensor 'x' is there twice"),
        ([tensor("FP32", [1], data=[1]), tensor("FP32", [2], "y", data=[1, 2])], b"", r"numbers of rows: \[1, 2\]"),
        ([packed("BYTES", 1, b"abcde")], b"abcd", "not a number of bytes that follow"),
        ([tensor("UINT8", [1], parameters={"binary_data_size": -1})], b"a", "not a number of bytes that follow"),
        ([tensor("UINT8", [1], parameters={"binary_data_size": True})], b"a", "not a number of bytes that follow"),
        ([packed("UINT16", 1, b"abc")], b"abc", "3 bytes are no whole number of UINT16"),
        ([packed("UINT8", 1, b"a")], b"abc", "2 bytes are left behind the last tensor"),
        ([packed("BYTES", 1, b"\5\0\0\0abcd")], b"\5\0\0\0abcd", "Tensor 'x': a text is cut off"),
        ([packed("BYTES", 1, b"\xff\xff\xff\xffa")], b"\xff\xff\xff\xffa", "a text is cut off"),
        ([packed("BYTES", 1, b"\1\0")], b"\1\0", "a text is cut off"),
        ([packed("BYTES", 2, text("a") + b"\0")], text("a") + b"\0", "a text is cut off"),
        ([packed("BYTES", 1, b"\1\0\0\0\xff")], b"\1\0\0\0\xff", "a text is not UTF-8"),
    ],
)
def test_what_is_no_request_is_told(tensors: list[Any], rest: bytes, words: str) -> None:
    """By the tensor at fault; neither a shape nor a length makes anything that was not sent."""
    with pytest.raises(RequestRejected, match=words) as caught:
        read(*tensors, rest=rest)
    no_tensor = "no inputs" in words
    assert caught.value.detail_code == ("MissingRequestInput" if no_tensor else "InputParseError")
    about_all = no_tensor or "no name" in words or "numbers of rows" in words or "left behind" in words
    assert caught.value.details[0].target == (None if about_all else "x")


@pytest.mark.parametrize("data", [None, [], {}, {"inputs": {}}])
def test_what_has_no_tensors(data: Any) -> None:
    """Any other JSON is told to have none."""
    with pytest.raises(RequestRejected, match="has no inputs"):
        read_request(json.dumps(data).encode(), None, json.loads)


@pytest.mark.parametrize("length", ["", "x", "-1", "1.0", "²", "\u0661", "9" * 12])
def test_no_length(length: str) -> None:
    """The header that says where the JSON ends is a number."""
    with pytest.raises(RequestRejected, match="inference-header-content-length must be a number of bytes") as caught:
        read_request(b"{}", length, json.loads)
    assert caught.value.detail_code == "RequestBodyInvalid"


def test_cells_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """To those of one call, columns times rows."""
    monkeypatch.setattr(inference, "MAX_CELLS", 4)
    columns = [tensor("INT8", [2], name, data=[1, 2]) for name in "xyz"]
    assert len(read(*columns[:2])[1].values) == 2
    with pytest.raises(RequestRejected, match="Over 4 cells are too many") as caught:
        read(*columns)
    assert caught.value.detail_code == "InputParseError"


@pytest.mark.slow
def test_a_byte_makes_little() -> None:
    """A megabyte of empty texts or truth values makes at most a hundred times as much."""
    for kind, content in (("BYTES", b"\0\0\0\0" * (1 << 18)), ("BOOL", b"\1" * (1 << 20))):
        tracemalloc.start()
        read(packed(kind, 1 << (18 if kind == "BYTES" else 20), content), rest=content)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 100 * len(content)


def test_metadata() -> None:
    """Of the server and of a model: numbers are FP64, everything else is BYTES, in any number of rows."""
    assert server_to_wire("1.2") == {
        "name": "azureml-classic", "version": "1.2", "extensions": ["binary_tensor_data"],
    }  # fmt: skip
    assert model_to_wire("s~e", "abc", [("age", "Double"), ("job", "String")], [("Scored Labels", "Later")]) == {
        "name": "s~e",
        "versions": ["abc"],
        "platform": "onnx_onnxv1",
        "inputs": [
            {"name": "age", "datatype": "FP64", "shape": [-1]},
            {"name": "job", "datatype": "BYTES", "shape": [-1]},
        ],
        "outputs": [{"name": "Scored Labels", "datatype": "BYTES", "shape": [-1]}],
    }


def test_an_answer() -> None:
    """A tensor a column; a number that JSON does not have is null, as an empty cell is."""
    table = {
        "ColumnNames": ["Scored Labels", "Scored Probabilities"],
        "ColumnTypes": ["Later", "Double"],
        "Values": [["a", "0.25"], ["b", None], [None, "inf"]],
    }
    labels = {"name": "Scored Labels", "datatype": "BYTES", "shape": [3], "data": ["a", "b", None]}
    chances = {"name": "Scored Probabilities", "datatype": "FP64", "shape": [3], "data": [0.25, None, None]}
    answer = {"model_name": "s~e", "model_version": "abc", "outputs": [labels, chances]}
    assert answer_to_wire("s~e", "abc", "", table) == answer
    assert answer_to_wire("s~e", "abc", "7", table) == {**answer, "id": "7"}
    empty = answer_to_wire("s~e", "abc", "", {**table, "Values": []})["outputs"]
    assert [(one["shape"], one["data"]) for one in empty] == [([0], []), ([0], [])]


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (rejection("InputParseError", "No.", target="x"), 400, "InputParseError: No."),
        (NotFound("No.", code="NotFound", status=404), 404, "NotFound: No."),
        (ServiceUnavailable("No."), 500, "InternalError: No."),
    ],
)
def test_an_error_is_a_text(error: Any, status: int, words: str) -> None:
    """That begins with the code; under the status of the error, with the headers of the answer."""
    response = refusal(error, {"x-a": "b"})
    assert (response.status, json.loads(response.body)) == (status, {"error": words})
    assert response.headers["x-a"] == "b"


def test_a_version_is_the_live_one() -> None:
    """Or none is asked for."""
    check_version(None, "abc")
    check_version("abc", "abc")
    with pytest.raises(NotFound, match="'1' of this model is not live; abc is") as caught:
        check_version("1", "abc")
    assert caught.value.detail_code == "PageNotFound"
