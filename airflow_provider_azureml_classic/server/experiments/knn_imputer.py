"""scikit-learn's ``KNNImputer`` as a graph without branches, which skl2onnx's has: all distances are made at once.

For each column the rows of the training that have a value there are its donors. The distance leaves out what is missing
on either side and counts the rest for all, as scikit-learn's does. What has no donor with a common value gets the mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: A distance, squared, that none has: of rows without a common value.
_NONE = 1e37


def register() -> None:
    """Tell skl2onnx to write it so."""
    from skl2onnx import update_registered_converter
    from sklearn.impute import KNNImputer

    update_registered_converter(KNNImputer, "KNNImputerAtOnce", _shape, _write, overwrite=True)


def _shape(operator: Any) -> None:
    columns = operator.raw_operator._fit_X.shape[1]
    kind = operator.inputs[0].type
    operator.outputs[0].type = type(kind)([kind.shape[0], columns])


class _Nodes:
    """Writes nodes and constants, and names them.

    :param scope: gives names.
    :param container: takes what is written.
    """

    def __init__(self, scope: Any, container: Any) -> None:
        self._scope, self._container = scope, container

    def constant(self, values: NDArray[Any]) -> str:
        from onnx import TensorProto

        name: str = self._scope.get_unique_variable_name("known")
        kind = TensorProto.INT64 if values.dtype.kind == "i" else TensorProto.FLOAT
        self._container.add_initializer(name, kind, list(values.shape), values.ravel().tolist())
        return name

    def node(self, kind: str, *inputs: str, outputs: int = 1, to: list[str] | None = None, **attributes: Any) -> Any:
        names = to or [self._scope.get_unique_variable_name(kind) for _ in range(outputs)]
        name = self._scope.get_unique_operator_name(kind)
        version = self._container.target_opset
        self._container.add_node(kind, list(inputs), names, op_version=version, name=name, **attributes)
        return names[0] if len(names) == 1 else names


def _write(scope: Any, operator: Any, container: Any) -> None:
    import numpy as np

    model = operator.raw_operator
    known = np.asarray(model._fit_X, np.float64)
    if model.weights != "uniform" or model.add_indicator or np.isnan(known).all(axis=0).any():
        raise NotImplementedError("KNNImputer with weights, an indicator, or a column without any value")
    nodes, means = _Nodes(scope, container), np.nanmean(known, axis=0)
    # Of centred numbers the squares keep more digits.
    centred = nodes.node("Sub", operator.inputs[0].full_name, nodes.constant(means[None]))
    absent = nodes.node("IsNaN", centred)
    squares = _squares(nodes, centred, absent, known - means)
    columns = []
    for column in range(known.shape[1]):
        place = nodes.constant(np.array([column]))
        imputed = _imputed(nodes, squares, known[:, column] - means[column], model.n_neighbors)
        own = [nodes.node("Gather", part, place, axis=1) for part in (absent, centred)]
        columns.append(nodes.node("Where", own[0], imputed, own[1]))
    whole = nodes.node("Concat", *columns, axis=1)
    nodes.node("Add", whole, nodes.constant(means[None]), to=operator.output_full_names)


def _squares(nodes: _Nodes, rows: str, absent: str, known: NDArray[Any]) -> str:
    """Squares of the distances to all rows of the training."""
    import numpy as np

    there = (~np.isnan(known)).astype(np.float32)
    other = np.nan_to_num(known)
    zero, none = nodes.constant(np.zeros(1)), nodes.constant(np.array([_NONE]))
    present = nodes.node("Where", absent, zero, nodes.constant(np.ones(1)))
    filled = nodes.node("Where", absent, zero, rows)
    own = nodes.node("MatMul", nodes.node("Mul", filled, filled), nodes.constant(there.T))
    both = nodes.node("MatMul", filled, nodes.constant(-2 * other.T))
    theirs = nodes.node("MatMul", present, nodes.constant((other**2).T))
    count = nodes.node("MatMul", present, nodes.constant(there.T))
    total = nodes.node("Sum", own, both, theirs)
    scaled = nodes.node("Div", nodes.node("Mul", total, nodes.constant(np.array([float(known.shape[1])]))), count)
    return str(nodes.node("Where", nodes.node("Equal", count, zero), none, scaled))


def _imputed(nodes: _Nodes, squares: str, values: NDArray[Any], neighbours: int) -> str:
    """The mean of the nearest donors of a column, as a column."""
    import numpy as np

    donors = np.flatnonzero(~np.isnan(values))
    count = nodes.constant(np.array([min(neighbours, len(donors))]))
    near = nodes.node("Gather", squares, nodes.constant(donors), axis=1)
    distance, place = nodes.node("TopK", near, count, outputs=2, axis=1, largest=0)
    given = nodes.node("Gather", nodes.constant(values[donors]), place, axis=0)
    zero, one = nodes.constant(np.zeros(1)), nodes.constant(np.ones(1))
    counts = nodes.node("Where", nodes.node("Less", distance, nodes.constant(np.array([_NONE / 2]))), one, zero)
    axes = nodes.constant(np.array([1]))
    total = nodes.node("ReduceSum", nodes.node("Mul", given, counts), axes, keepdims=1)
    # Without any donor the sum is nothing, which is the mean of centred numbers.
    number = nodes.node("ReduceSum", counts, axes, keepdims=1)
    return str(nodes.node("Div", total, nodes.node("Where", nodes.node("Equal", number, zero), one, number)))
