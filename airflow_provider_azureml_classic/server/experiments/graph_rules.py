"""What the graph of a model may hold, so that it ends, and takes as much for any rows as for those of its trial.

Whoever may update an endpoint chooses its graph. ONNX has loops, branches and shapes that depend on what is scored;
of all this a graph may hold what the converters of scikit-learn's estimators write, and nothing else.

Rule 1: there is an operator in a graph only if it is in :data:`OPERATORS`. No loop and no branch is.
Rule 2: a shape is made of constants and of the shapes of other values, never of values.
Rule 3: the same holds in the graph of ``Scan``, the one operator that has one. It goes over the rows of a value, of
which there are as many for any cells, by rule 2.

The bytes are read here as far as the rules need it, because the library that reads all of ONNX is large.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

# fmt: off
#: Operators by their domain: those that conversion writes for the estimators of ``tests/server/experiments/zoo.py``.
OPERATORS: Mapping[str, frozenset[str]] = MappingProxyType({
    "": frozenset({
        "Abs", "Add", "ArgMax", "ArgMin", "Cast", "Clip", "Concat", "ConstantOfShape", "CumSum", "Div",
        "Equal", "Exp", "Flatten", "Gather", "GatherElements", "Greater", "GreaterOrEqual", "Identity", "IsNaN", "Less",
        "LessOrEqual", "Log", "LpNormalization", "MatMul", "Mul", "Neg", "Not", "Or", "Pow", "Reciprocal",
        "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape",
        "Scan", "Shape", "Sigmoid", "Slice", "Softmax", "Sqrt", "Sub", "Sum", "Tanh", "TopK", "Transpose", "Where",
    }),
    "ai.onnx.ml": frozenset({
        "ArrayFeatureExtractor", "Binarizer", "Imputer", "LabelEncoder", "LinearClassifier", "LinearRegressor",
        "Normalizer", "OneHotEncoder", "SVMClassifier", "SVMRegressor", "Scaler", "TreeEnsembleClassifier",
        "TreeEnsembleRegressor", "ZipMap",
    }),
    "com.microsoft": frozenset({"CDist"}),
})
# fmt: on
#: Operator -> inputs that decide the shape of what it gives; a slice has no end.
_SHAPING = MappingProxyType(
    {
        "ConstantOfShape": slice(0, 1),
        "Reshape": slice(1, 2),
        "TopK": slice(1, 2),
        "Slice": slice(1, None),
        **dict.fromkeys(
            (name for name in OPERATORS[""] if name.startswith("Reduce")),
            slice(1, 2),
        ),
    }
)
#: What hands shapes on as they are. What calculates with them could be small for a trial and large afterwards.
_HANDING_ON = frozenset({"Cast", "Concat", "Gather", "Identity", "Reshape", "Slice"})
_DEEPEST = 8
#: Domains in which ONNX Runtime has operators of its own, whatever functions a model has.
_KNOWN_DOMAINS = ("ai.", "com.", "org.")


class Malformed(ValueError):
    """These bytes are no graph."""


@dataclass(frozen=True)
class Node:
    """One operator at work.

    :param kind: domain and name of the operator.
    :param inputs: names of what it takes.
    :param outputs: names of what it gives.
    :param attributes: as they are written.
    """

    kind: tuple[str, str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[memoryview, ...]


def problem(model: bytes) -> str | None:
    """What in a graph breaks the rules; ``None``: it keeps them.

    :param model: an ONNX model.
    """
    try:
        parts = list(fields(memoryview(model)))
        graphs = [part for number, part in parts if number == _GRAPH]
        functions = [part for number, part in parts if number == _FUNCTION]
        own = {(_text(body, 10), _text(body, 1)) for body in functions}
        bodies = [*((graph, _GRAPH_NODE) for graph in graphs), *((body, _FUNCTION_NODE) for body in functions)]
        return next(filter(None, (_body_problem([part], field, own, 0) for part, field in bodies)), None)
    except (Malformed, UnicodeError, IndexError):
        return "its graph cannot be read"


def largest_constant(model: bytes) -> int:
    """Bytes of the largest constant of a graph, in which neighbours keep their training rows.

    :param model: an ONNX model.
    """
    graphs = [part for number, part in fields(memoryview(model)) if number == _GRAPH]
    return max((len(part) for graph in graphs for number, part in fields(graph) if number == _INITIALIZER), default=0)


def nodes(model: bytes) -> list[Node]:
    """The nodes of a graph, without those of graphs in it.

    :param model: an ONNX model.
    :raises Malformed: it is none.
    """
    graphs = [part for number, part in fields(memoryview(model)) if number == _GRAPH]
    return [node for graph in graphs for node in _nodes(graph, _GRAPH_NODE)]


def operators(model: bytes) -> set[tuple[str, str]]:
    """Domains and names of all operators in a graph and in the graphs in it.

    :param model: an ONNX model.
    """
    found, waiting = set(), nodes(model)
    while waiting:
        node = waiting.pop()
        found.add(node.kind)
        waiting += [inner for graph in _graphs_in(node) for inner in _nodes(graph, _GRAPH_NODE)]
    return found


def _body_problem(graphs: Iterable[memoryview], field: int, own: set[tuple[str, str]], depth: int) -> str | None:
    """The same of one graph, or of one function.

    :param graphs: its message.
    :param field: number of the member with its nodes.
    :param own: functions of the model.
    :param depth: graphs around it.
    """
    constants: set[str] = set()
    shapes: set[str] = set()
    for graph in graphs:
        if field == _GRAPH_NODE:
            constants |= {_text(part, _TENSOR_NAME) for number, part in fields(graph) if number == _INITIALIZER}
        for node in _nodes(graph, field):
            found = _node_problem(node, constants | shapes, own, depth)
            if found:
                return found
            name = node.kind[1]
            taken = {name for name in node.inputs if name}
            if name == "Constant" or (taken and taken <= constants):
                constants.update(node.outputs)
            elif name == "Shape" or (name in _HANDING_ON and taken <= constants | shapes):
                shapes.update(node.outputs)
    return None


def _node_problem(node: Node, shapes: set[str], own: set[tuple[str, str]], depth: int) -> str | None:
    domain, name = node.kind
    if node.kind in own and not domain.startswith(_KNOWN_DOMAINS) and domain:
        # What a function does stands in it, but for the graphs that it is given.
        return "a function takes a graph" if any(_graphs_in(node)) else None
    if name not in OPERATORS.get(domain, ()):
        return f"it has the operator {name[:40]!r}"
    if not shapes.issuperset(filter(None, node.inputs[_SHAPING.get(name, slice(0))])):
        return f"the shape that {name} makes depends on what is scored"
    if depth >= _DEEPEST:
        return "it has graphs in graphs in graphs"
    graphs = _graphs_in(node) if name == "Scan" else ()
    return next(filter(None, (_body_problem([body], _GRAPH_NODE, own, depth + 1) for body in graphs)), None)


# -- as far as it must be read: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto ---------------------------------

_GRAPH, _FUNCTION = 7, 25
_GRAPH_NODE, _FUNCTION_NODE = 1, 7
_INITIALIZER, _TENSOR_NAME = 5, 8
_INPUT, _OUTPUT, _NAME, _ATTRIBUTE, _DOMAIN = 1, 2, 4, 5, 7


def _nodes(body: memoryview, field: int) -> Iterator[Node]:
    for number, part in fields(body):
        if number == field:
            members: dict[int, list[memoryview]] = {}
            for member, value in fields(part):
                members.setdefault(member, []).append(value)
            texts = {
                member: tuple(str(one, "utf-8") for one in members.get(member, ()))
                for member in (_INPUT, _OUTPUT, _NAME, _DOMAIN)
            }
            domain, name = (texts[member][-1] if texts[member] else "" for member in (_DOMAIN, _NAME))
            kind = ("" if domain == "ai.onnx" else domain, name)
            yield Node(kind, texts[_INPUT], texts[_OUTPUT], tuple(members.get(_ATTRIBUTE, ())))


def _graphs_in(node: Node) -> Iterator[memoryview]:
    for attribute in node.attributes:
        yield from (part for number, part in fields(attribute) if number in (6, 11))


def _text(message: memoryview, field: int) -> str:
    found = [part for number, part in fields(message) if number == field]
    return str(found[-1], "utf-8") if found else ""


def fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Numbers and bytes of the members that have a length; the others are passed over.

    :param message: a message.
    :raises Malformed: it is none.
    """
    position, end = 0, len(message)
    while position < end:
        tag, position = _varint(message, position)
        kind = tag & 7
        if kind == 0:
            _, position = _varint(message, position)
            continue
        size = {1: 8, 5: 4}.get(kind, 0)
        if kind == 2:
            size, position = _varint(message, position)
        elif not size:
            raise Malformed
        if position + size > end:
            raise Malformed
        if kind == 2:
            yield tag >> 3, message[position : position + size]
        position += size


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
    raise Malformed
