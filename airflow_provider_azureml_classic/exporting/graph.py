"""One ONNX graph that needs nothing beside it: named, typed columns in; labels, probabilities or numbers out.

Each column is a tensor of one dimension, the rows: numbers in 64 bits (NaN: no value), everything else texts. Around
the graph of the model file stand the encoding of texts as codes, the reading of dates, the shift of columns in 64 bits
before they are cast to 32, and, behind it, the spelling of labels and the shift back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from airflow_provider_azureml_classic.exceptions import rejection
from airflow_provider_azureml_classic.exporting import runtime
from airflow_provider_azureml_classic.exporting.dates import DateReader
from airflow_provider_azureml_classic.exporting.model import LABELS, PROBABILITIES, Column, Model
from airflow_provider_azureml_classic.exporting.nodes import ML, Nodes
from airflow_provider_azureml_classic.protocol.jobs import SCORED_OUTPUT
from airflow_provider_azureml_classic.tables.kinds import BOOLEAN, DATE
from airflow_provider_azureml_classic.tables.spelling import TRUTH_PAIRS, category_key, truth_key

#: Operator sets: that of the graphs in model files, and the first one that splits texts, for dates.
OPSET, OPSET_OF_DATES, _ML_OPSET = 18, 20, 3
#: Version of the file format, which ONNX Runtime has read since 1.16.
_IR = 9
#: Before the names in the model's own graph, so that no column has one of them.
_INNER = "model/"
_UNKNOWN = -1.0
_WHOLE = re.compile(r"-?(0|[1-9][0-9]*)")


def self_contained(model: Model, output: str = SCORED_OUTPUT) -> bytes:
    """The graph.

    :param model: the model.
    :param output: what the web service calls its answer.
    :raises RequestRejected: it cannot be exported; the message says why.
    """
    # onnx is large, and comes with an extra: see `exporting.libraries`.
    import onnx
    from onnx import compose

    inner = compose.add_prefix(onnx.load_from_string(model.graph), _INNER)
    nodes = Nodes()
    encoded = [_encoded(nodes, model, column) for column in model.columns]
    nodes.add("Concat", encoded, axis=1, output=inner.graph.input[0].name)
    nodes.extend(inner.graph)
    answers = [output.name for output in inner.graph.output]
    outputs = _classes(nodes, model, answers) if model.classes else [_numbers(nodes, model, answers[0])]
    inputs = [_value(onnx, column.name, text=not column.takes_numbers) for column in model.columns]
    graph = onnx.helper.make_graph(nodes.nodes, "scoring", inputs, outputs, initializer=nodes.constants)
    made = onnx.helper.make_model(graph, opset_imports=_operator_sets(onnx, model, inner), functions=inner.functions)
    made.ir_version = max(_IR, inner.ir_version)
    onnx.helper.set_model_props(made, {**_facts(model), runtime.FACTS: json.dumps(_for_runtime(model, output))})
    return _checked(made)


def _value(onnx: Any, name: str, *, text: bool = False, wide: bool = True) -> Any:
    numbers = onnx.TensorProto.DOUBLE if wide else onnx.TensorProto.FLOAT
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.STRING if text else numbers, ["rows"])


def _operator_sets(onnx: Any, model: Model, inner: Any) -> list[Any]:
    versions = {one.domain: one.version for one in inner.opset_import}
    dates = any(column.kind.kind == DATE for column in model.columns)
    versions[""] = max(versions.get("", OPSET), OPSET_OF_DATES if dates else OPSET)
    versions[ML] = max(versions.get(ML, _ML_OPSET), _ML_OPSET)
    return [onnx.helper.make_opsetid(*one) for one in versions.items()]


def _checked(made: Any) -> bytes:
    import onnx

    content: bytes = made.SerializeToString()
    try:
        onnx.checker.check_model(content)
    except onnx.checker.ValidationError as error:
        reason = " ".join(str(error).split())[:300]
        raise rejection("ModelInvalid", f"The model has no self-contained graph: {reason}") from None
    return content


def _facts(model: Model) -> dict[str, str]:
    """What anybody who opens the file can see."""
    start, end = model.window or ("", "")
    return {
        "experiment": model.experiment,
        "label": model.label,
        "trained": model.created,
        "rows": str(model.rows),
        "window_start": start,
        "window_end": end,
        "metrics": json.dumps(dict(model.metrics)),
        "model_file_sha256": model.sha256,
    }


def _for_runtime(model: Model, output: str) -> dict[str, Any]:
    """What :mod:`.runtime` reads, to take cells as an endpoint does."""
    return {
        "output": output,
        "offset": model.offset,
        "answers": model.answers,
        "columns": [
            {
                "name": column.name,
                "kind": column.kind.kind,
                "missing": sorted(model.missing_texts(column)),
                "dressed": column.kind.dressed,
                "date_format": column.kind.date_format or "",
                "categories": column.categories,
                "optional": column.optional,
            }
            for column in model.columns
        ],
    }


# -- columns -----------------------------------------------------------------------------------------------------------


def _encoded(nodes: Nodes, model: Model, column: Column) -> str:
    """Name of the column's part of the encoded row: rows by 1, 32 bits."""
    upright = nodes.add("Reshape", [column.name, nodes.numbers([-1, 1])])
    if column.is_text:
        return _code(nodes, model, column, upright)
    if column.kind.kind == DATE:
        upright = DateReader(nodes, column).days(upright)
    if column.offset:
        upright = nodes.add("Sub", [upright, nodes.wide(column.offset)])
    return nodes.cast(upright, "FLOAT")


def _code(nodes: Nodes, model: Model, column: Column, texts: str) -> str:
    codes = codes_of(model, column)
    if not codes:
        # No category was learnt: every text is unknown. An encoder of no texts is none.
        codes = {"": _UNKNOWN}
    return nodes.lookup(texts, codes, _UNKNOWN)


def codes_of(model: Model, column: Column) -> dict[str, float]:
    """The code of each text that means a category: in the spelling of the training data, and in others that an endpoint
    takes for the same, as far as they can be listed.

    :param model: whose column it is.
    :param column: of texts or truth values.
    """
    exact = {text: float(code) for code, text in enumerate(column.categories)}
    others = {spelling: code for text, code in exact.items() for spelling in _spellings(column, text)}
    return {**others, **exact, **dict.fromkeys(model.missing_texts(column) - set(exact), _UNKNOWN)}


def _spellings(column: Column, category: str) -> list[str]:
    """Other texts that are the same category."""
    key = category_key(category)
    texts, words = [key], [key] if key in ("true", "false") else []
    if _WHOLE.fullmatch(key):
        texts += [f"{key}.0"] + ([f"+{key}"] if key[0] != "-" else [])
    if column.kind.kind == BOOLEAN and truth_key(category) in ("true", "false"):
        place = ("true", "false").index(truth_key(category))
        words = [pair[place] for pair in TRUTH_PAIRS]
        texts += [("1", "0")[place], ("1.0", "0.0")[place]]
    return texts + [spelling for word in words for spelling in (word, word.capitalize(), word.upper())]


# -- answers -----------------------------------------------------------------------------------------------------------


def _numbers(nodes: Nodes, model: Model, answer: str) -> Any:
    import onnx

    flat = nodes.add("Reshape", [answer, nodes.numbers([-1])])
    shifted = nodes.add("Add", [nodes.cast(flat, "DOUBLE"), nodes.wide(model.offset)])
    nodes.add("Identity", [shifted], output=LABELS)
    return _value(onnx, LABELS)


def _classes(nodes: Nodes, model: Model, answers: Sequence[str]) -> list[Any]:
    import onnx

    flat = nodes.add("Reshape", [nodes.cast(answers[0], "INT64"), nodes.numbers([-1])])
    nodes.spell(flat, model.classes, output=LABELS)
    outputs = [_value(onnx, LABELS, text=True)]
    if not model.probabilities:
        return outputs
    for position, label in enumerate(model.classes):
        column = nodes.add("Gather", [answers[1], nodes.number(position)], axis=1)
        names = [f'{PROBABILITIES} for Class "{label}"']
        names += [PROBABILITIES] * (len(model.classes) == 2 and label == model.positive)
        for name in names:
            nodes.add("Identity", [column], output=name)
            outputs.append(_value(onnx, name, wide=False))
    order = {name: place for place, name in enumerate(model.answers)}
    return sorted(outputs, key=lambda output: order[output.name])
