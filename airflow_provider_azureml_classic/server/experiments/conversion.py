"""scikit-learn to ONNX, and the proof that both give the same answers."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.server.experiments.declaration import CLASSIFICATION, Experiment

if TYPE_CHECKING:
    from numpy import bool_, float32
    from numpy.typing import NDArray

#: Version of the ONNX operator set that models are written in.
OPSET = 18

#: Name of the graph's only input.
INPUT = "X"

#: Share of rows on which ONNX may give another answer than scikit-learn (one row in any case, from a few rows on), and
#: how far numbers may differ, relatively. A 32-bit threshold puts a value that lies exactly on it to the other side.
_SHARE = 0.001
_FEW = 100
_TOLERANCE = 1e-3


def to_onnx(experiment: Experiment, model: Any, matrix: NDArray[float32], task: str) -> bytes:
    """The ONNX graph of a fitted model, checked against scikit-learn.

    :param experiment: whose model it is, for messages.
    :param model: the fitted estimator or pipeline.
    :param matrix: encoded rows to compare the answers on.
    :param task: ``classification`` or ``regression``.
    :raises RequestRejected: ``ModuleExecutionError``: the model has no faithful ONNX form.
    """
    import skl2onnx
    from skl2onnx.common.data_types import FloatTensorType

    types = [(INPUT, FloatTensorType([None, matrix.shape[1]]))]
    options = {id(model): _classifier_option(model)} if task == CLASSIFICATION else None
    try:
        with warnings.catch_warnings():
            # The three libraries deprecate pieces of each other; nothing that a user could change.
            warnings.simplefilter("ignore")
            graph = skl2onnx.to_onnx(model, initial_types=types, options=options, target_opset=OPSET)
    except Exception as error:
        raise _unfaithful(experiment, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}") from error
    content: bytes = graph.SerializeToString()
    _compare(experiment, content, model, matrix)
    return content


def _classifier_option(model: Any) -> dict[str, bool]:
    if hasattr(model, "predict_proba"):
        # zipmap would answer probabilities as a list of dicts.
        return {"zipmap": False}
    # Without any option skl2onnx asks for zipmap by itself, which LinearSVC in a pipeline does not know.
    return {"output_class_labels": False}


def session(content: bytes) -> Any:
    """A session of onnxruntime for one row at a time: one thread, no waiting, CPU.

    :param content: the graph.
    """
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def versions() -> dict[str, str]:
    """Versions of the libraries that make a model."""
    import onnx
    import skl2onnx
    import sklearn

    made = {"scikit-learn": sklearn, "skl2onnx": skl2onnx, "onnx": onnx}
    return {**{name: str(module.__version__) for name, module in made.items()}, "opset": str(OPSET)}


def _compare(experiment: Experiment, content: bytes, model: Any, matrix: NDArray[float32]) -> None:
    import numpy as np

    try:
        answers = session(content).run(None, {INPUT: matrix})
    except Exception as error:
        raise _unfaithful(experiment, f"onnxruntime: {' '.join(str(error).split())[:300]}") from error
    wanted = [model.predict(matrix)]
    if hasattr(model, "predict_proba"):
        wanted.append(model.predict_proba(matrix))
    for want, got in zip(wanted, answers, strict=False):
        same = _same(np.asarray(want).reshape(len(matrix), -1), np.asarray(got).reshape(len(matrix), -1))
        different = int((~same).sum())
        if different > _allowed(len(same)):
            reason = f"its answers differ in {different} of {len(same)} rows of the training data"
            raise _unfaithful(experiment, reason)


def _allowed(rows: int) -> int:
    return max(int(rows >= _FEW), int(rows * _SHARE))


def _same(want: NDArray[Any], got: NDArray[Any]) -> NDArray[bool_]:
    import numpy as np

    if want.shape != got.shape:
        return np.zeros(len(want), bool)
    # Relative to the usual size as well, else a prediction near zero could never be near enough.
    usual = float(np.abs(want).mean())
    return np.asarray(np.isclose(got, want, rtol=_TOLERANCE, atol=_TOLERANCE * usual).all(axis=1))


def _unfaithful(experiment: Experiment, reason: str) -> AzureMLClassicError:
    return rejection(
        "ModuleExecutionError",
        f"Experiment {experiment.name!r}: the estimator {experiment.estimator} does not convert faithfully to ONNX "
        f"({reason}). Use an estimator that skl2onnx supports, for example 'boosting-classifier'.",
        target=experiment.estimator,
    )
