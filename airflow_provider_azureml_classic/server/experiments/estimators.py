"""The scikit-learn pipeline of an experiment.

All take the one matrix of :func:`~.schema.encode`: numbers (NaN: missing) and category codes (-1: missing, unknown).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.server.experiments import boosting, imports
from airflow_provider_azureml_classic.server.experiments.declaration import (
    CLASSIFICATION,
    PIPELINES,
    REGRESSION,
    Experiment,
)
from airflow_provider_azureml_classic.server.experiments.schema import NUMBER, Schema

#: Where trees, and what is made of several estimators, come from.
_ENSEMBLES = ("sklearn.ensemble.", "sklearn.tree.")
#: Naive Bayes that counts: numbers are how often something was there, or whether it was, so they are not scaled.
_OF_BITS, _OF_CATEGORIES = "BernoulliNB", "CategoricalNB"
_OF_COUNTS = ("MultinomialNB", "ComplementNB", _OF_BITS)
#: Estimators that solve equations: exactly if rows are dense, else by iterations. By default these end up to 3 % of the
#: spread of the answers away from the solution (measured); with this tolerance within 1e-7.
_SOLVERS, _EXACTLY = ("LinearRegression", "Ridge", "RidgeClassifier"), 1e-10


def task_of(experiment: Experiment) -> str:
    """``classification`` or ``regression``: as declared, else as the estimator says.

    :param experiment: the declaration.
    :raises RequestRejected: the estimator cannot be made, or is neither.
    """
    declared = experiment.task or PIPELINES.get(experiment.estimator)
    if declared:
        return declared
    from sklearn.base import is_classifier, is_regressor

    estimator = guarded(experiment, lambda: _bare(experiment))
    if is_classifier(estimator):
        return CLASSIFICATION
    if is_regressor(estimator):
        return REGRESSION
    raise rejection(
        "ModuleExecutionError",
        f"Experiment {experiment.name!r}: {experiment.estimator} is neither a classifier nor a regressor of "
        "scikit-learn. Declare 'task', or use another estimator.",
    )


def make(experiment: Experiment, schema: Schema) -> Any:
    """The unfitted pipeline.

    :param experiment: the declaration.
    :param schema: a learnt schema.
    """
    model = _made(experiment, schema)
    # Unknown steps and parameters are refused by name.
    return model.set_params(**experiment.steps) if experiment.steps else model


def _made(experiment: Experiment, schema: Schema) -> Any:
    if _is_function(experiment):
        made = imports.load(experiment.estimator, experiment.directory)
        return boosting.hold(made(schema, **experiment.estimator_parameters))
    estimator = boosting.hold(_bare(experiment))
    if _takes_missing(estimator):
        return estimator
    if _is_ensemble(estimator):
        return _imputed(estimator)
    kind = type(estimator).__name__
    if kind in _OF_COUNTS and kind != _OF_BITS:
        _check_counts(experiment, schema)
    if kind == _OF_CATEGORIES:
        return _of_categories(experiment, schema, estimator)
    if kind in _SOLVERS and "tol" not in experiment.estimator_parameters:
        estimator.set_params(tol=_EXACTLY)
    return _one_hot(schema, estimator)


def compares(experiment: Experiment, schema: Schema) -> bool:
    """Whether the estimator only compares numbers with one another, as trees do: it is then fitted on the 32 bits in
    which it will be asked. Others calculate, and are fitted on 64.

    :param experiment: the declaration.
    :param schema: a learnt schema.
    """
    return _has_trees(last_step(guarded(experiment, lambda: make(experiment, schema))))


def alternative(experiment: Experiment, task: str) -> str:
    """An estimator that may do where this one does not: another family, that of this package's own pipelines.

    :param experiment: whose estimator does not do.
    :param task: ``classification`` or ``regression``.
    """
    own = experiment.estimator.startswith("boosting-") or "HistGradientBoosting" in experiment.estimator
    family = "linear" if own else "boosting"
    return f"{family}-{'classifier' if task == CLASSIFICATION else 'regressor'}"


def last_step(model: Any) -> Any:
    """The estimator at the end of a pipeline, or what is no pipeline.

    :param model: fitted or not.
    """
    return model.steps[-1][1] if hasattr(model, "steps") else model


def is_scaled(experiment: Experiment) -> bool:
    """Whether it is known that a shift of a column changes no answer: it is compared, or centred first.

    :param experiment: the declaration.
    """
    if _is_function(experiment):
        return False
    estimator = _bare(experiment)
    return _has_trees(estimator) or not (_counts(estimator) or _is_ensemble(estimator))


def counts(experiment: Experiment) -> bool:
    """Whether numbers are to it how often something was there, and less than nothing is no number.

    :param experiment: the declaration.
    """
    return not _is_function(experiment) and _counts(_bare(experiment))


def _counts(estimator: Any) -> bool:
    return type(estimator).__name__ in _OF_COUNTS


def knows_zero(experiment: Experiment) -> bool:
    """Whether numbers above zero, below it and zero itself are different things to the estimator: LightGBM never puts
    them into one bin, and takes a missing number for zero where the training had none.

    :param experiment: the declaration.
    """
    return not _is_function(experiment) and boosting.is_lightgbm(_bare(experiment))


def _is_function(experiment: Experiment) -> bool:
    return ":" in experiment.estimator


def _takes_missing(estimator: Any) -> bool:
    """Whether it knows what to do with missing numbers, and finds its way among the codes of categories."""
    return boosting.is_boosted(estimator) or type(estimator).__name__.startswith("HistGradientBoosting")


def _is_ensemble(estimator: Any) -> bool:
    return type(estimator).__module__.startswith(_ENSEMBLES)


def _has_trees(estimator: Any) -> bool:
    """Whether it is made of trees only: what votes, is stacked, bagged or boosted may also be something else."""
    if not _is_ensemble(estimator):
        return boosting.is_boosted(estimator)
    parts = estimator.get_params(deep=False)
    return "estimators" not in parts and (parts.get("estimator") is None or _has_trees(parts["estimator"]))


def guarded(experiment: Experiment, work: Callable[[], Any]) -> Any:
    """The result of ``work``; what it raises is said as the estimator's failure.

    :param experiment: whose estimator runs.
    :param work: runs code of scikit-learn or of the user.
    :raises RequestRejected: ``ModuleExecutionError``.
    """
    try:
        return work()
    except AzureMLClassicError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:500]
        raise rejection(
            "ModuleExecutionError",
            f"Experiment {experiment.name!r}: the estimator {experiment.estimator} failed with "
            f"{type(error).__name__}: {text}",
            target=experiment.estimator,
        ) from error


def _bare(experiment: Experiment) -> Any:
    parameters = experiment.estimator_parameters
    if experiment.estimator in PIPELINES:
        return _shipped(experiment.estimator, parameters)
    return imports.load(experiment.estimator, experiment.directory)(**parameters)


def _shipped(name: str, parameters: dict[str, Any]) -> Any:
    if name == "linear-classifier":
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(**{"max_iter": 1000, **parameters})
    if name == "linear-regressor":
        from sklearn.linear_model import Ridge

        return Ridge(**parameters)
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    kind = HistGradientBoostingClassifier if name == "boosting-classifier" else HistGradientBoostingRegressor
    # Codes count as numbers: skl2onnx converts categorical_features without a word into a model that answers wrongly.
    return kind(**{"random_state": 0, **parameters})


def _imputed(estimator: Any) -> Any:
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline

    return Pipeline([("impute", SimpleImputer()), ("estimator", estimator)])


def _one_hot(schema: Schema, estimator: Any) -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = [i for i, column in enumerate(schema.features) if column.kind == NUMBER]
    # A text column without any text has nothing to encode.
    texts = [i for i, column in enumerate(schema.features) if column.categories]
    scaled = (
        SimpleImputer() if _counts(estimator) else Pipeline([("impute", SimpleImputer()), ("scale", StandardScaler())])
    )
    codes = [list(range(len(schema.features[i].categories))) for i in texts]
    dense = _needs_dense_rows(estimator)
    encoded = OneHotEncoder(categories=codes, handle_unknown="ignore", sparse_output=not dense)
    parts = [part for part in (("numbers", scaled, numbers), ("texts", encoded, texts)) if part[2]]
    columns = ColumnTransformer(parts, **({"sparse_threshold": 0} if dense else {}))
    return Pipeline([("columns", columns), ("estimator", estimator)])


def _of_categories(experiment: Experiment, schema: Schema, estimator: Any) -> Any:
    """Codes that begin at 0, which stands for missing and unknown ones."""
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OrdinalEncoder

    number = next((column.name for column in schema.features if column.kind == NUMBER), None)
    if number is not None:
        raise _unfit(experiment, number, "it takes categories, and this column holds numbers")
    codes = [list(range(-1, len(column.categories))) for column in schema.features]
    estimator.set_params(min_categories=[len(column) for column in codes])
    return Pipeline([("codes", OrdinalEncoder(categories=codes)), ("estimator", estimator)])


def _check_counts(experiment: Experiment, schema: Schema) -> None:
    for column in schema.features:
        if column.kind == NUMBER and (column.minimum or 0.0) < 0:
            raise _unfit(experiment, column.name, f"it takes counts, and here is {column.minimum!r}")


def _unfit(experiment: Experiment, column: str, reason: str) -> AzureMLClassicError:
    return rejection(
        "ModuleExecutionError",
        f"Experiment {experiment.name!r}: {experiment.estimator} cannot be trained on the column {column!r}: {reason}. "
        "Leave the column out ('ignore'), or use another estimator, for example 'sklearn.naive_bayes.GaussianNB'.",
        target=column,
    )


def _needs_dense_rows(estimator: Any) -> bool:
    """Whether it refuses sparse rows, or keeps them, which skl2onnx cannot write (neighbours)."""
    from sklearn.utils import get_tags

    return hasattr(estimator, "kneighbors") or not get_tags(estimator).input_tags.sparse


def with_positive(experiment: Experiment, schema: Schema) -> tuple[Schema, str | None]:
    """The schema, and the class that *Scored Probabilities* is about (two classes only).

    :param experiment: the declaration.
    :param schema: a learnt schema.
    :raises RequestRejected: the declared positive class is not among the labels.
    """
    if experiment.positive is not None and experiment.positive not in schema.classes:
        raise rejection(
            "InputMismatchError",
            f"The label {schema.label!r} never is {experiment.positive!r}, the declared positive class; "
            f"its values are: {', '.join(schema.classes[:20])}.",
            target=schema.label,
        )
    if len(schema.classes) != 2:
        return schema, None
    positive = experiment.positive or schema.classes[1]
    # The positive class comes second, so that scikit-learn and we mean the same one.
    negative = next(label for label in schema.classes if label != positive)
    return replace(schema, classes=(negative, positive)), positive
