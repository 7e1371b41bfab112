"""The Open Inference Protocol, version 2, over HTTP: what clients of KServe, Triton and MLServer send. Pure.

A model is ``WEB SERVICE~ENDPOINT``, by the service's name or id. Each column is a tensor of shape ``[rows]`` or
``[rows, 1]``; texts are ``BYTES``. Tensors may follow the JSON as bytes (Triton's binary extension); answers are JSON.

Facts: ``kserve/open-inference-protocol``, ``specification/protocol/inference_rest.md``;
``triton-inference-server/server``, ``docs/protocol/extension_binary_data.md``.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.errors import repeated
from airflow_provider_azureml_classic.protocol.limits import MAX_CELLS
from airflow_provider_azureml_classic.protocol.messages import Response
from airflow_provider_azureml_classic.protocol.tables import Table

#: Beginning of all paths, what parts service and endpoint, and the header with the length of the JSON before tensors.
ROOT, SEPARATOR, HEADER_LENGTH = "/v2", "~", "inference-header-content-length"
_TEXTS = "BYTES"
#: Letters of :mod:`struct` by datatype.
_NUMBERS = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
_TYPES = {"Double": "FP64", "String": _TEXTS}
_Read = Callable[[bytes], Any]


def refusal(error: AzureMLClassicError, headers: Mapping[str, str]) -> Response:
    """An error as clients of this protocol read it: a text.

    :param error: what went wrong.
    :param headers: of the answer.
    """
    code = error.detail_code or error.code or "InternalError"
    return Response.of_json({"error": f"{code}: {error.message}"}, status=error.status or 500, headers=headers)


def server_to_wire(version: str) -> dict[str, Any]:
    """The server's metadata.

    :param version: of the package.
    """
    return {"name": "azureml-classic", "version": version, "extensions": ["binary_tensor_data"]}


def model_to_wire(
    model: str, version: str, inputs: Sequence[tuple[str, str]], outputs: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """A model's metadata.

    :param model: as the client named it.
    :param version: digest of what is live.
    :param inputs: names and types (``Double``, ``String``) of its columns; likewise the outputs.
    """

    def tensors(columns: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
        return [{"name": name, "datatype": _TYPES.get(kind, _TEXTS), "shape": [-1]} for name, kind in columns]

    return {
        "name": model,
        "versions": [version],
        "platform": "onnx_onnxv1",
        "inputs": tensors(inputs),
        "outputs": tensors(outputs),
    }


def read_request(body: bytes, header_length: str | None, read: _Read) -> tuple[str, Table]:
    """Id and table of an inference request.

    :param body: JSON, and tensors as bytes behind it.
    :param header_length: how many bytes are JSON, if not all.
    :param read: decodes JSON.
    :raises RequestRejected: naming the tensor at fault.
    """
    length = len(body)
    if header_length is not None:
        if not (header_length.isascii() and header_length.isdigit() and len(header_length) < 12):
            raise rejection("RequestBodyInvalid", f"{HEADER_LENGTH} must be a number of bytes.")
        length = min(length, int(header_length))
    data, rest = read(body[:length]), memoryview(body)[length:]
    tensors = data.get("inputs") if isinstance(data, Mapping) else None
    if not isinstance(tensors, list) or not tensors or not all(isinstance(tensor, Mapping) for tensor in tensors):
        raise rejection("MissingRequestInput", "The body has no inputs: a list of tensors, one for each column.")
    if not all(isinstance(tensor.get("name"), str) for tensor in tensors):
        raise rejection("InputParseError", "A tensor has no name: give each the name of its column.")
    names = tuple(tensor["name"].strip() for tensor in tensors)
    twice = repeated(names)
    if twice is not None:
        raise rejection("InputParseError", f"The tensor {twice!r} is there twice.", target=twice)
    columns = []
    for name, tensor in zip(names, tensors, strict=True):
        column, rest = _column(name, tensor, rest)
        columns.append(column)
    counts = set(map(len, columns))
    if len(counts) != 1:
        raise rejection("InputParseError", f"The tensors have different numbers of rows: {sorted(counts)[:10]}.")
    if rest:
        raise rejection("InputParseError", f"{len(rest)} bytes are left behind the last tensor.")
    if len(columns) * len(columns[0]) > MAX_CELLS:
        raise rejection("InputParseError", f"Over {MAX_CELLS:,} cells are too many for one call. Send fewer rows.")
    return str(data.get("id") or ""), Table(names, list(zip(*columns, strict=True)))


def _wrong(name: str, text: str) -> AzureMLClassicError:
    return rejection("InputParseError", f"Tensor {name!r}: {text}.", target=name)


def _column(name: str, tensor: Mapping[str, Any], rest: memoryview) -> tuple[list[Any], memoryview]:
    """The cells of a tensor, and what follows them."""
    kind, shape = tensor.get("datatype"), tensor.get("shape")
    if kind != _TEXTS and (not isinstance(kind, str) or kind not in _NUMBERS):
        raise _wrong(name, f"the datatype must be {_TEXTS} or one of {', '.join(_NUMBERS)}")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise _wrong(name, "the shape must be a list of numbers")
    if len(shape) not in (1, 2) or shape[1:] not in ([], [1]):
        raise _wrong(name, "the shape must be [rows] or [rows, 1]: each column is a tensor of its own")
    parameters = tensor.get("parameters")
    size = parameters.get("binary_data_size") if isinstance(parameters, Mapping) else None
    if size is None:
        cells = _listed(name, tensor.get("data"))
    else:
        if type(size) is not int or not 0 <= size <= len(rest):
            raise _wrong(name, "binary_data_size is not a number of bytes that follow")
        cells, rest = _unpacked(name, kind, bytes(rest[:size])), rest[size:]
    if len(cells) != shape[0]:
        raise _wrong(name, f"it has {len(cells)} cells; its shape says {shape[0]}")
    return cells, rest


def _listed(name: str, data: Any) -> list[Any]:
    if not isinstance(data, list):
        raise _wrong(name, "data must be a list")
    cells = [cell[0] if isinstance(cell, list) and len(cell) == 1 else cell for cell in data]
    if any(isinstance(cell, list | Mapping) for cell in cells):
        raise _wrong(name, "data must be a flat list, or a list of rows of one cell")
    return cells


def _unpacked(name: str, kind: str, content: bytes) -> list[Any]:
    if kind == _TEXTS:
        return _texts(name, content)
    letter = _NUMBERS[kind]
    if len(content) % struct.calcsize(f"<{letter}"):
        raise _wrong(name, f"{len(content)} bytes are no whole number of {kind}")
    cells = [cell for (cell,) in struct.iter_unpack(f"<{letter}", content)]
    # "No value" is written as what is not a number.
    return [None if isinstance(cell, float) and math.isnan(cell) else cell for cell in cells]


def _texts(name: str, content: bytes) -> list[Any]:
    cells, at = [], 0
    while at < len(content):
        end = at + 4 + int.from_bytes(content[at : at + 4], "little")
        if end > len(content):
            raise _wrong(name, "a text is cut off")
        try:
            cells.append(content[at + 4 : end].decode())
        except UnicodeDecodeError:
            raise _wrong(name, "a text is not UTF-8") from None
        at = end
    return cells


def answer_to_wire(model: str, version: str, request_id: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to an inference request: a tensor a column.

    :param model: as the client named it.
    :param version: digest of the model that gave it.
    :param request_id: the client's own id, if it gave one.
    :param table: the table form of an answer, with types.
    """
    columns = zip(*table["Values"], strict=True) if table["Values"] else [() for _ in table["ColumnNames"]]
    outputs = [
        {
            "name": name,
            "datatype": _TYPES.get(kind, _TEXTS),
            "shape": [len(table["Values"])],
            "data": list(map(_number, cells)) if kind == "Double" else list(cells),
        }
        for name, kind, cells in zip(table["ColumnNames"], table["ColumnTypes"], columns, strict=True)
    ]
    named = {"id": request_id} if request_id else {}
    return {"model_name": model, "model_version": version, **named, "outputs": outputs}


def _number(text: str | None) -> float | None:
    number = math.nan if text is None else float(text)
    return number if math.isfinite(number) else None


def check_version(version: str | None, content: str) -> None:
    """Refuse a call for a version of a model that is not the live one.

    :param version: as the path names it; ``None``: the live one.
    :param content: of the live one.
    :raises NotFound: ``PageNotFound``.
    """
    if version not in (None, content):
        raise rejection("PageNotFound", f"The version {version!r} of this model is not live; {content} is.")
