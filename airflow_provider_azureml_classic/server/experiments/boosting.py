"""LightGBM, XGBoost and CatBoost: estimators of scikit-learn's interface, in pipelines or alone.

They take what histogram boosting takes: missing numbers as they are, categories as their codes. Three things are own:
each has threads, files or output of its own; the converters are not those of skl2onnx; and their trees are written in
ways of their own.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

#: Modules that their estimators come from.
LIBRARIES = ("lightgbm", "xgboost", "catboost")
#: The extra of this package that installs them, and what converts them.
EXTRA = "boosting"

#: How CatBoost may have been told how much to say; two of them at once it refuses.
_LOUDNESS = ("logging_level", "verbose", "verbose_eval", "silent")


def is_boosted(estimator: Any) -> bool:
    """Whether it is an estimator of one of the three.

    :param estimator: fitted or not.
    """
    return _library(estimator) in LIBRARIES


def is_lightgbm(estimator: Any) -> bool:
    """Whether it is an estimator of LightGBM.

    :param estimator: fitted or not.
    """
    return _library(estimator) == "lightgbm"


def hold(model: Any) -> Any:
    """Let the estimators of the three in a model use one thread, write no files and say nothing, unless told otherwise.

    :param model: an unfitted estimator or pipeline; it is returned.
    """
    for estimator in filter(is_boosted, _parts(model)):
        library, said = _library(estimator), estimator.get_params(deep=False)
        if library == "catboost":
            # Its own thread pool is as large as the machine, and it writes to the working directory.
            quiet = {} if any(name in said for name in _LOUDNESS) else {"verbose": False}
            threads = {} if "thread_count" in said else {"thread_count": 1}
            estimator.set_params(allow_writing_files=False, **threads, **quiet)
        elif said.get("n_jobs") is None:
            estimator.set_params(n_jobs=1)
        if library == "lightgbm" and not {"verbose", "verbosity"} & set(said):
            estimator.set_params(verbose=-1)
    return model


def register() -> None:
    """Tell skl2onnx how to write the estimators of those libraries that are loaded: no other can be in a model."""
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes as of_classes,
    )
    from skl2onnx.common.shape_calculator import (
        calculate_linear_regressor_output_shapes as of_numbers,
    )

    for name, write in (("lightgbm", _write_lightgbm), ("xgboost", _write_xgboost), ("catboost", _write_catboost)):
        library = sys.modules.get(name)
        for kind in filter(None, (getattr(library, word, None) for word in _KINDS[name])):
            options = {"zipmap": [True, False], "nocl": [True, False]} if "Classifier" in kind.__name__ else None
            shapes = of_classes if options else of_numbers
            # skl2onnx takes for a classifier what has the class of scikit-learn's; CatBoost's has not.
            parser = _parsed if options and name == "catboost" else None
            update_registered_converter(
                kind, kind.__name__, shapes, write, overwrite=True, parser=parser, options=options
            )


_KINDS = {
    "lightgbm": ("LGBMClassifier", "LGBMRegressor"),
    "xgboost": ("XGBClassifier", "XGBRegressor", "XGBRFClassifier", "XGBRFRegressor"),
    "catboost": ("CatBoostClassifier", "CatBoostRegressor"),
}


def version(model: Any) -> dict[str, str]:
    """The versions of those of the three that made a part of a model.

    :param model: fitted or not.
    """
    names = {_library(part) for part in _parts(model)} & set(LIBRARIES)
    return {name: str(sys.modules[name].__version__) for name in sorted(names)}


def _library(estimator: Any) -> str:
    return type(estimator).__module__.partition(".")[0]


def _parts(model: Any) -> Iterator[Any]:
    """An estimator and those that it is made of."""
    yield model
    if not is_boosted(model) and hasattr(model, "get_params"):
        yield from (part for part in model.get_params(deep=True).values() if is_boosted(part))


def _parsed(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType

    operator = scope.declare_local_operator(type(model).__name__, model)
    operator.inputs = inputs
    for name, kind in (("label", Int64TensorType()), ("probabilities", FloatTensorType())):
        operator.outputs.append(scope.declare_local_variable(name, kind))
    return operator.outputs


def _write_lightgbm(scope: Any, operator: Any, container: Any) -> None:
    """By onnxmltools, from trees whose thresholds are rounded down to 32 bits.

    It rounds to the nearest: between two neighbours in 32 bits that may be the upper one, which is then led to the
    other side.
    """
    from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm

    model = operator.raw_operator
    trees = model.booster_.dump_model()
    for tree in trees["tree_info"]:
        _round_down(tree["tree_structure"])
    booster = SimpleNamespace(is_mock=True, dump_model=lambda: trees)
    operator.raw_operator = SimpleNamespace(
        booster_=booster, classes_=getattr(model, "classes_", None), boosting_type=model.boosting_type
    )
    try:
        convert_lightgbm(scope, operator, container)
    finally:
        operator.raw_operator = model


def _round_down(root: dict[str, Any]) -> None:
    import numpy as np

    waiting = [root]
    while waiting:
        node = waiting.pop()
        waiting += [node[side] for side in ("left_child", "right_child") if side in node]
        if isinstance(node.get("threshold"), float):
            with np.errstate(over="ignore"):
                narrow = np.float32(node["threshold"])
            above = float(narrow) > node["threshold"]
            node["threshold"] = float(np.nextafter(narrow, np.float32(-np.inf)) if above else narrow)


def _write_xgboost(scope: Any, operator: Any, container: Any) -> None:
    from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost

    convert_xgboost(scope, operator, container)


def _write_catboost(scope: Any, operator: Any, container: Any) -> None:
    """The one node with trees of the graph that CatBoost itself writes."""
    import onnx

    model = operator.raw_operator
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.onnx")
        model.save_model(str(path), format="onnx")
        node = onnx.load(path).graph.node[0]
    attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    if attributes.get("post_transform") == b"LOGISTIC":
        _one_score(attributes)
    # Of these CatBoost writes the logarithm, and says nothing.
    logarithm = str(model.get_all_params().get("loss_function")).startswith(("Poisson", "Tweedie"))
    outputs = [scope.get_unique_variable_name("logarithm")] if logarithm else operator.output_full_names
    name = scope.get_unique_operator_name(node.op_type)
    container.add_node(
        node.op_type, operator.input_full_names, outputs, op_domain="ai.onnx.ml", name=name, **attributes
    )
    if logarithm:
        exponent = scope.get_unique_operator_name("Exp")
        container.add_node("Exp", outputs, operator.output_full_names, op_version=13, name=exponent)


def _one_score(attributes: dict[str, Any]) -> None:
    """Of two classes keep the score of the second: CatBoost writes its negative for the first."""
    second = [place for place, label in enumerate(attributes["class_ids"]) if label == 1]
    for name in ("class_treeids", "class_nodeids", "class_weights"):
        attributes[name] = [attributes[name][place] for place in second]
    attributes["class_ids"] = [0] * len(second)
