"""How good a model is, in the words of Studio's *Evaluate Model*."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_azureml_classic.server.experiments.declaration import CLASSIFICATION

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Metrics; ``None`` where one is not defined (for example AUC with a single class in the held-out rows).
Metrics = dict[str, float | None]


#: Probabilities of 0 and 1 count as this far from it, so that one surely wrong answer does not cost infinitely much.
_SMALLEST = 1e-15


def evaluate(answers: Sequence[NDArray[Any]], truth: NDArray[Any], task: str, classes: int) -> Metrics:
    """The metrics of a model by its answers to rows it should not have seen.

    :param answers: as the model that is served gives them: numbers, or positions of classes and their probabilities.
    :param truth: the labels of the rows, encoded.
    :param task: ``classification`` or ``regression``.
    :param classes: number of classes.
    """
    import numpy as np

    predicted, *others = answers
    if task != CLASSIFICATION:
        return _regression(truth, predicted.astype(np.float64))
    probabilities = others[0].astype(np.float64) if others else None
    if classes == 2:
        return _two_classes(truth, predicted, probabilities)
    return _many_classes(truth, predicted, probabilities, classes)


def _regression(truth: NDArray[Any], predicted: NDArray[Any]) -> Metrics:
    errors = abs(truth - predicted)
    spread = abs(truth - truth.mean())
    relative_squares = _ratio(float((errors**2).sum()), float((spread**2).sum()))
    return {
        "Mean Absolute Error": float(errors.mean()),
        "Root Mean Squared Error": math.sqrt(float((errors**2).mean())),
        "Relative Absolute Error": _ratio(float(errors.sum()), float(spread.sum())),
        "Relative Squared Error": relative_squares,
        "Coefficient of Determination": None if relative_squares is None else 1 - relative_squares,
    }


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _two_classes(truth: NDArray[Any], predicted: NDArray[Any], probabilities: NDArray[Any] | None) -> Metrics:
    from sklearn.metrics import roc_auc_score

    hits = int(((predicted == 1) & (truth == 1)).sum())
    precision = _ratio(hits, int((predicted == 1).sum()))
    recall = _ratio(hits, int((truth == 1).sum()))
    both = 0 < truth.sum() < len(truth)
    score = None
    if both and probabilities is not None:
        score = float(roc_auc_score(truth, probabilities[:, 1]))
    return {
        "Accuracy": float((predicted == truth).mean()),
        "Precision": precision,
        "Recall": recall,
        "F-Score": _ratio(2 * (precision or 0) * (recall or 0), (precision or 0) + (recall or 0)),
        "AUC": score,
        "Average Log Loss": _log_loss(truth, probabilities),
    }


def _many_classes(
    truth: NDArray[Any], predicted: NDArray[Any], probabilities: NDArray[Any] | None, classes: int
) -> Metrics:
    from sklearn.metrics import precision_score, recall_score

    accuracy = float((predicted == truth).mean())
    options = {"labels": range(classes), "average": "macro", "zero_division": 0}
    return {
        "Overall accuracy": accuracy,
        # Mean over classes of "this class or not", as Studio defines it: each wrong row is wrong for two classes.
        "Average accuracy": 1 - 2 * (1 - accuracy) / classes,
        "Micro-averaged precision": accuracy,
        "Macro-averaged precision": float(precision_score(truth, predicted, **options)),
        "Micro-averaged recall": accuracy,
        "Macro-averaged recall": float(recall_score(truth, predicted, **options)),
        "Average Log Loss": _log_loss(truth, probabilities),
    }


def _log_loss(truth: NDArray[Any], probabilities: NDArray[Any] | None) -> float | None:
    """As a gate computes it from the answers of an endpoint, whose 32 bits need not add up to one."""
    if probabilities is None:
        return None
    import numpy as np

    right = probabilities[np.arange(len(truth)), truth]
    return float(-np.log(np.clip(right, _SMALLEST, 1 - _SMALLEST)).mean())
