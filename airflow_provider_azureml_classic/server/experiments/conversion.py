"""scikit-learn to ONNX, and the proof that both give the same answers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.server.experiments import boosting, estimators, graph_rules, knn_imputer
from airflow_provider_azureml_classic.server.experiments.declaration import CLASSIFICATION, Experiment
from airflow_provider_azureml_classic.server.experiments.schema import Schema

if TYPE_CHECKING:
    from numpy import bool_, int64
    from numpy.typing import NDArray

#: Version of the ONNX operator set that models are written in.
OPSET = 18
#: The same with that of trees, of which other converters than skl2onnx's own would take the newest.
_OPSETS = {"": OPSET, "ai.onnx.ml": 3}

#: Name of the graph's only input.
INPUT = "X"
_SCAN = ("", "Scan")
_NO_OPTIONS: Mapping[Any, dict[str, Any]] = MappingProxyType({})

#: Share of rows on which ONNX may give another answer than scikit-learn (one row in any case, from a few rows on), and
#: how far the others may differ: numbers as a share of their standard deviation, probabilities as they are.
_SHARE = 0.001
_FEW = 100
_TOLERANCE = 1e-4
#: Answers that vary less than this share of the labels count as if they varied so much.
_FLAT = 1e-3
#: A larger difference is worth a note.
_NOTED = 5e-6
#: Share by which distances may differ and yet be equal: in 32 bits either row is the nearer one.
_EQUALLY_NEAR = 1e-5


def to_onnx(
    experiment: Experiment, schema: Schema, model: Any, matrix: NDArray[Any], truth: NDArray[Any], rows: NDArray[int64]
) -> tuple[bytes, list[str]]:
    """The ONNX graph of a fitted model, checked against scikit-learn, and what is to be known of it.

    :param experiment: whose model it is, for messages.
    :param schema: a learnt schema.
    :param model: the fitted estimator or pipeline.
    :param matrix: encoded rows to compare the answers on.
    :param truth: their encoded labels.
    :param rows: their positions in the data, for messages.
    :raises RequestRejected: ``ModuleExecutionError``: the model has no faithful ONNX form.
    """
    try:
        with warnings.catch_warnings():
            # The three libraries deprecate pieces of each other; nothing that a user could change.
            warnings.simplefilter("ignore")
            content: bytes = _converted(model, matrix.shape[1], schema.task).SerializeToString()
            at_once = _at_once(model, matrix.shape[1], schema.task) if _SCAN in graph_rules.operators(content) else None
    except Exception as error:
        raise _unfaithful(
            experiment, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", schema
        ) from error
    if at_once:
        # Where ONNX Runtime has not this distance, or it is not exact enough, the distances are made row by row.
        with suppress(AzureMLClassicError):
            return at_once, _checked(experiment, schema, at_once, model, matrix, truth, rows)
    return content, _checked(experiment, schema, content, model, matrix, truth, rows)


def _checked(experiment: Experiment, schema: Schema, content: bytes, model: Any, *data: NDArray[Any]) -> list[str]:
    problem = graph_rules.problem(content)
    if problem:
        raise _unfaithful(experiment, f"this server does not run its graph: {problem}", schema)
    return _compare(experiment, schema, content, model, *data)


def _converted(model: Any, features: int, task: str, options: Mapping[Any, dict[str, Any]] = _NO_OPTIONS) -> Any:
    import skl2onnx
    from skl2onnx.common.data_types import FloatTensorType

    boosting.register()
    knn_imputer.register()
    _round_thresholds(estimators.last_step(model))
    types = [(INPUT, FloatTensorType([None, features]))]
    own = {id(model): _classifier_option(model)} if task == CLASSIFICATION else {}
    graph = skl2onnx.to_onnx(model, initial_types=types, options={**own, **options} or None, target_opset=_OPSETS)
    _centre_leaves(graph)
    if type(estimators.last_step(model)).__name__ == "LinearDiscriminantAnalysis" and len(model.classes_) == 2:
        _halve_scores(graph)
    return graph


def _at_once(model: Any, features: int, task: str) -> bytes:
    """The graph that makes the distances of all rows at once, and not in a loop over them."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

    kinds = (GaussianProcessRegressor, KNeighborsClassifier, KNeighborsRegressor)
    graph = _converted(model, features, task, {kind: {"optim": "cdist"} for kind in kinds})
    content: bytes = graph.SerializeToString()
    return content


def _classifier_option(model: Any) -> dict[str, bool]:
    if hasattr(model, "predict_proba"):
        # zipmap would answer probabilities as a list of dicts.
        return {"zipmap": False}
    # Without any option skl2onnx asks for zipmap by itself, which LinearSVC in a pipeline does not know.
    return {"output_class_labels": False}


def _round_thresholds(model: Any) -> None:
    """Round the thresholds of histogram boosting down to 32 bits, which changes no answer to a row of 32 bits.

    skl2onnx rounds to the nearest: between two neighbours in 32 bits that may be the upper one, which is then led to
    the other side. For scikit-learn's other trees it rounds down itself.
    """
    import numpy as np

    for trees in getattr(model, "_predictors", ()):
        for tree in trees:
            thresholds = tree.nodes["num_threshold"]
            with np.errstate(over="ignore"):
                narrow = thresholds.astype(np.float32)
            tree.nodes["num_threshold"] = np.where(
                narrow > thresholds, np.nextafter(narrow, np.float32(-np.inf)), narrow
            )


def _centre_leaves(graph: Any) -> None:
    """Take the mean out of the leaves of a forest and add it at the end, as boosted trees do.

    ONNX Runtime adds the trees in 32 bits, and each addition costs digits of a sum that lies far from zero (measured
    for a hundred trees and a label at five times its spread: 7e-6 of the spread, without the mean 3e-7).
    """
    import numpy as np
    from onnx import helper

    for node in graph.graph.node:
        found = {one.name: one for one in node.attribute}
        if node.op_type != "TreeEnsembleRegressor" or "base_values" in found or set(found["target_ids"].ints) != {0}:
            continue
        trees = len(set(found["target_treeids"].ints))
        weights = np.array(found["target_weights"].floats)
        if trees > 1 and found["post_transform"].s == b"NONE" and found.get("aggregate_function") is None:
            base = float(np.float32(weights.mean() * trees))
            found["target_weights"].floats[:] = (weights - base / trees).astype(np.float32).tolist()
            node.attribute.append(helper.make_attribute("base_values", [base]))


def _halve_scores(graph: Any) -> None:
    """Make the probabilities of a discriminant analysis of two classes those of scikit-learn: the logistic function of
    the score. skl2onnx writes the softmax of the score and its negative, which is that of twice the score.
    """
    for node in graph.graph.node:
        parts = {one.name: one for one in node.attribute}
        if node.op_type == "LinearClassifier" and parts["post_transform"].s == b"SOFTMAX":
            for name in ("coefficients", "intercepts"):
                parts[name].floats[:] = [number / 2 for number in parts[name].floats]


def run_options() -> Any:
    """What a call of a session is told besides; a call ends when ``terminate`` is set."""
    import onnxruntime

    return onnxruntime.RunOptions()


def session(content: bytes, *, as_written: bool = False) -> Any:
    """A session of onnxruntime for one row at a time: one thread, no waiting, CPU.

    :param content: the graph.
    :param as_written: calculate nothing before the first call.
    """
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # It would keep the memory of the largest call for as long as the model is loaded, and makes none faster.
    options.enable_cpu_mem_arena = False
    if as_written:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def versions() -> dict[str, str]:
    """Versions of the libraries that make a model; see :func:`.boosting.version` for one more."""
    import onnx
    import skl2onnx
    import sklearn

    made = {"scikit-learn": sklearn, "skl2onnx": skl2onnx, "onnx": onnx}
    return {**{name: str(module.__version__) for name, module in made.items()}, "opset": str(OPSET)}


def answers(model: Any, matrix: NDArray[Any]) -> list[NDArray[Any]]:
    """What scikit-learn answers, in the order of the graph's outputs: labels or numbers, and probabilities if any.

    :param model: the fitted estimator or pipeline.
    :param matrix: encoded rows.
    """
    import numpy as np

    wanted = [np.asarray(model.predict(matrix)).reshape(len(matrix))]
    if hasattr(model, "predict_proba"):
        wanted.append(np.asarray(model.predict_proba(matrix)))
    return wanted


def as_served(model: Any, matrix: NDArray[Any]) -> list[NDArray[Any]]:
    """What the graph of a model would answer: to rows of 32 bits, in 32 bits.

    :param model: the fitted estimator or pipeline.
    :param matrix: encoded rows.
    """
    import numpy as np

    labels, *others = answers(model, matrix.astype(np.float32).astype(matrix.dtype))
    narrow = [part.astype(np.float32) for part in others]
    return [labels.astype(np.float32) if labels.dtype.kind == "f" else labels, *narrow]


def _compare(
    experiment: Experiment,
    schema: Schema,
    content: bytes,
    model: Any,
    matrix: NDArray[Any],
    truth: NDArray[Any],
    rows: NDArray[int64],
) -> list[str]:
    import numpy as np

    want = estimators.guarded(experiment, lambda: answers(model, matrix))
    try:
        found = session(content).run(None, {INPUT: matrix.astype(np.float32)})
        got = [np.asarray(part).reshape(wanted.shape) for part, wanted in zip(found, want, strict=False)]
    except Exception as error:
        raise _unfaithful(experiment, f"onnxruntime: {' '.join(str(error).split())[:300]}", schema) from error
    if schema.classes:
        off = _label_differences(model, matrix, want, got)
    else:
        # Where all answers are almost the same, their spread is that of their rounding.
        width = max(want[0].std(), _FLAT * truth.std()) if truth.std() else abs(truth).max() or 1.0
        off = abs(want[0] - got[0].astype(np.float64)) / width
    off = np.nan_to_num(off, nan=np.inf)
    off[_equally_near(model, matrix)] = 0
    different = int((off > _TOLERANCE).sum())
    worst = int(off.argmax())
    if different > _allowed(len(off)):
        shown = f"{_shown(schema, want, worst)}, its graph {_shown(schema, got, worst)}"
        reason = f"its answers differ in {different} of {len(off)} rows; to data row {rows[worst] + 1} it says {shown}"
        raise _unfaithful(experiment, reason, schema)
    if off[worst] <= _NOTED:
        return []
    unit = "" if schema.classes else " of the spread of its answers"
    return [f"What the model answers differs from what {experiment.estimator} says by up to {off[worst]:.0e}{unit}."]


def _label_differences(
    model: Any, matrix: NDArray[Any], want: list[NDArray[Any]], got: list[NDArray[Any]]
) -> NDArray[Any]:
    """By how much the graph thinks otherwise of the classes of each row."""
    import numpy as np

    off = abs(want[1] - got[1]).max(axis=1) if len(want) > 1 else np.zeros(len(matrix))
    other = np.flatnonzero(want[0] != got[0])
    if len(other):
        off[other] = np.maximum(off[other], _lead(model, matrix[other], want[0][other], got[0][other]))
    return np.asarray(off)


def _lead(model: Any, matrix: NDArray[Any], want: NDArray[Any], got: NDArray[Any]) -> NDArray[Any]:
    """How much more scikit-learn thinks of its own label than of the graph's: nothing, where votes are tied."""
    import numpy as np

    rows = np.arange(len(matrix))
    if hasattr(model, "predict_proba"):
        scores = model.predict_proba(matrix)
    elif hasattr(model, "decision_function"):
        scores = model.decision_function(matrix)
    else:
        return np.ones(len(matrix))
    if scores.ndim == 1:
        scores = np.stack([-scores, scores], axis=1) / 2
    if scores.shape[1] != len(model.classes_):
        return np.ones(len(matrix))
    places = np.searchsorted(model.classes_, want), np.searchsorted(model.classes_, got)
    return np.asarray(scores[rows, places[0]] - scores[rows, np.minimum(places[1], len(model.classes_) - 1)])


def _equally_near(model: Any, matrix: NDArray[Any]) -> NDArray[bool_]:
    """Rows of which the last neighbour that counts is as near as the first that does not: either may be taken."""
    import numpy as np

    last = estimators.last_step(model)
    count = getattr(last, "n_neighbors", None)
    if not hasattr(last, "kneighbors") or not isinstance(count, int) or count >= last.n_samples_fit_:
        return np.zeros(len(matrix), bool)
    rows = model[:-1].transform(matrix) if last is not model else matrix
    distances = last.kneighbors(rows, count + 1)[0]
    return np.asarray(distances[:, -1] - distances[:, -2] <= _EQUALLY_NEAR * (distances[:, -1] + distances.mean()))


def _shown(schema: Schema, parts: list[NDArray[Any]], row: int) -> str:
    """One answer in a few words."""
    import numpy as np

    if not schema.classes:
        return repr(float(parts[0][row]) + schema.offset)
    chances = "".join(f" ({np.array2string(part[row], precision=6, threshold=6)})" for part in parts[1:])
    return f"{schema.classes[int(parts[0][row])]!r}{chances}"


def _allowed(rows: int) -> int:
    return max(int(rows >= _FEW), int(rows * _SHARE))


def _unfaithful(experiment: Experiment, reason: str, schema: Schema) -> AzureMLClassicError:
    return rejection(
        "ModuleExecutionError",
        f"Experiment {experiment.name!r}: the estimator {experiment.estimator} does not convert faithfully to ONNX "
        f"({reason}). Use another estimator, for example {estimators.alternative(experiment, schema.task)!r}.",
        target=experiment.estimator,
    )
