"""Graphs that somebody might put in place of a model's, over one number ``X``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from onnx import FunctionProto, NodeProto, TensorProto, helper

from airflow_provider_azureml_classic.server.experiments import conversion, read_ilearner, write_ilearner
from airflow_provider_azureml_classic.server.experiments.ilearner import Manifest
from airflow_provider_azureml_classic.server.experiments.schema import NUMBER, Column, Schema

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def value(name: str, kind: int = FLOAT, shape: Sequence[Any] | None = None) -> Any:
    """Name and type of a value."""
    return helper.make_tensor_value_info(name, kind, shape)


def constant(name: str, numbers: Sequence[Any], kind: int = INT64, dims: Sequence[int] | None = None) -> TensorProto:
    """A constant."""
    return helper.make_tensor(name, kind, [len(numbers)] if dims is None else dims, numbers)


def node(kind: str, inputs: str, outputs: str, **more: Any) -> NodeProto:
    """An operator at work; names are separated by blanks."""
    return helper.make_node(kind, inputs.split(), outputs.split(), **more)


def model(
    nodes: Sequence[NodeProto], constants: Sequence[TensorProto] = (), functions: Sequence[FunctionProto] = ()
) -> bytes:
    """A model of ``X`` (rows by one) that gives ``Y``."""
    graph = helper.make_graph(
        nodes, "g", [value(conversion.INPUT, FLOAT, [None, 1])], [value("Y", FLOAT, None)], list(constants)
    )
    domains = [
        helper.make_opsetid("", 18),
        helper.make_opsetid("ai.onnx.ml", 3),
        helper.make_opsetid("com.microsoft", 1),
    ]
    domains += [helper.make_opsetid(domain, 1) for domain in {function.domain for function in functions}]
    made = helper.make_model(graph, opset_imports=domains, ir_version=9, functions=list(functions))
    content: bytes = made.SerializeToString()
    return content


def put_in(path: Path, graph: bytes, target: Path) -> Path:
    """A model file like another one, but with this graph."""
    manifest, _ = read_ilearner(path)
    write_ilearner(target, graph, replace(manifest, sha256=sha256(graph).hexdigest()))
    return target


# -- what must not be put in place -------------------------------------------------------------------------------------


def looping() -> bytes:
    """Goes round as often as the first cell says, and gives back what it was given."""
    body = helper.make_graph(
        [node("Identity", "go", "on"), node("Identity", "v", "w")],
        "body",
        [value("i", INT64, []), value("go", BOOL, []), value("v", FLOAT, None)],
        [value("on", BOOL, []), value("w", FLOAT, None)],
    )
    return model(
        [
            node("ReduceMax", "X", "m", keepdims=0),
            node("Cast", "m", "count", to=INT64),
            node("Loop", "count yes X", "Y", body=body),
        ],
        [constant("yes", [True], BOOL, [])],
    )


def branching() -> bytes:
    """Two ways, of which the first cell chooses one."""
    ways = {
        name: helper.make_graph([node("Identity", "X", "z")], name, [], [value("z", FLOAT, None)])
        for name in ("then_branch", "else_branch")
    }
    return model(
        [node("ReduceMax", "X", "m", keepdims=0), node("Cast", "m", "b", to=BOOL), node("If", "b", "Y", **ways)]
    )


def sized(kind: str = "ConstantOfShape") -> bytes:
    """Makes a table as large as the first cell says."""
    nodes = [
        node("ReduceMax", "X", "m", keepdims=0),
        node("Reshape", "m one", "r"),
        node("Cast", "r", "n", to=INT64),
    ]
    nodes += {
        "ConstantOfShape": [node("ConstantOfShape", "n", "t")],
        "Reshape": [node("Reshape", "X n", "t")],
        "TopK": [node("TopK", "X n", "t u", axis=0)],
        "Slice": [node("Slice", "X zero n", "t")],
        "Expand": [node("Expand", "X n", "t")],
        "Range": [node("Range", "m m m", "t")],
    }[kind]
    return model(
        [*nodes, node("ReduceSum", "t", "s", keepdims=0), node("Add", "X s", "Y")],
        [constant("one", [1]), constant("zero", [0])],
    )


def calculated_shape() -> bytes:
    """Makes a table that grows with a power of the number of rows."""
    return model(
        [
            node("Shape", "X", "s"),
            node("Mul", "s s", "p"),
            node("ConstantOfShape", "p", "t"),
            node("ReduceSum", "t", "q", keepdims=0),
            node("Add", "X q", "Y"),
        ]
    )


def picking(kind: str) -> bytes:
    """Gives as many values as there are that differ from zero, or from each other."""
    nodes = {
        "NonZero": [node("NonZero", "X", "n")],
        "Unique": [node("Unique", "X", "n")],
        "Compress": [node("Cast", "X", "b", to=BOOL), node("Reshape", "b all", "c"), node("Compress", "X c", "n")],
    }[kind]
    return model(
        [*nodes, node("Cast", "n", "f", to=FLOAT), node("ReduceSum", "f", "s", keepdims=0), node("Add", "X s", "Y")],
        [constant("all", [-1])],
    )


def scanning(kind: str) -> bytes:
    """Hides an operator in the graph of ``Scan``."""
    body = helper.make_graph(
        [node("Cast", "row", "n", to=INT64), node("ConstantOfShape", "n", "t"), node("ReduceSum", "t", "y", keepdims=1)]
        if kind == "ConstantOfShape"
        else [node(kind, "row", "y")],
        "body",
        [value("row", FLOAT, [1])],
        [value("y", FLOAT, None)],
    )
    return model([node("Scan", "X", "Y", num_scan_inputs=1, body=body)])


def functional(kind: str, domain: str = "mine", name: str = "f") -> bytes:
    """Hides an operator in a function."""
    function = helper.make_function(
        domain, name, ["a"], ["b"], [node(kind, "a", "b")], [helper.make_opsetid("", 18)], []
    )
    return model([node(name, "X", "Y", domain=domain)], functions=[function])


def one_answer() -> bytes:
    """One answer, however many rows there are."""
    return model([node("ReduceSum", "X", "Y", keepdims=1)])


# -- what keeps the rules, and is too much all the same ----------------------------------------------------------------


def hungry(values: int = 1 << 31) -> bytes:
    """Takes eight GiB, whatever the rows are."""
    return model(
        [node("ConstantOfShape", "n", "t"), node("ReduceSum", "t", "s", keepdims=0), node("Add", "X s", "Y")],
        [constant("n", [values])],
    )


def widening() -> bytes:
    """Takes 200 MB for 512 rows: a product with a row of 100,000 numbers."""
    return model(
        [node("ConstantOfShape", "n", "t"), node("MatMul", "X t", "m"), node("ReduceSum", "m one", "Y", keepdims=1)],
        [constant("n", [1, 100_000]), constant("one", [1])],
    )


def doubling(times: int = 16) -> bytes:
    """Takes 128 MB for 512 rows: each value is twice as long as the one before."""
    nodes = [node("Concat", f"{number - 1 if number else 'X'} {number - 1 if number else 'X'}", f"{number}", axis=1)
             for number in range(times)]  # fmt: skip
    return model([*nodes, node("ReduceSum", f"{times - 1} one", "Y", keepdims=1)], [constant("one", [1])])


def slow() -> bytes:
    """Goes over a table of many rows without any cell."""
    body = helper.make_graph(
        [node("Identity", "state", "next")], "body", [value("state"), value("row")], [value("next")]
    )
    return model(
        [node("ConstantOfShape", "n", "t"), node("Scan", "X t", "Y", num_scan_inputs=1, body=body)],
        [constant("n", [1 << 40, 0])],
    )


def fine() -> bytes:
    """Twice what it is given."""
    return model([node("Add", "X X", "Y")])


# -- boosted trees that nobody trained --------------------------------------------------------------------------------


def tree_model(path: Path, *, trees: int = 3, leaves: int = 4, features: int = 14, seed: int = 0) -> Path:
    """A model file of boosted trees that answers a number, drawn by chance."""
    import numpy as np

    random, nodes = np.random.default_rng(seed), 2 * leaves - 1
    numbers = list(range(nodes))
    ends = numbers[leaves - 1 :]
    each = [(tree, number) for tree in range(trees) for number in numbers]
    ensemble = node(
        "TreeEnsembleRegressor",
        conversion.INPUT,
        "Y",
        domain="ai.onnx.ml",
        n_targets=1,
        post_transform="NONE",
        nodes_treeids=[tree for tree, _ in each],
        nodes_nodeids=[number for _, number in each],
        nodes_featureids=random.integers(0, features, len(each)).tolist(),
        nodes_modes=["LEAF" if number in ends else "BRANCH_LEQ" for _, number in each],
        nodes_values=random.normal(size=len(each)).tolist(),
        nodes_truenodeids=[0 if number in ends else 2 * number + 1 for _, number in each],
        nodes_falsenodeids=[0 if number in ends else 2 * number + 2 for _, number in each],
        target_treeids=[tree for tree in range(trees) for _ in ends],
        target_nodeids=ends * trees,
        target_ids=[0] * trees * leaves,
        target_weights=random.normal(size=trees * leaves).tolist(),
    )
    inputs, outputs = value(conversion.INPUT, FLOAT, [None, features]), value("Y", FLOAT, [None, 1])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    made = helper.make_model(
        helper.make_graph([ensemble], "g", [inputs], [outputs]), opset_imports=opsets, ir_version=9
    )
    content: bytes = made.SerializeToString()
    columns = tuple(Column(f"c{number}", NUMBER, minimum=-3.0, maximum=3.0) for number in range(features))
    digest = sha256(content).hexdigest()
    schema = Schema(columns, "y", "regression")
    write_ilearner(path, content, Manifest("Trees", "regression", schema, {}, 1, None, "", {}, digest))
    return path
