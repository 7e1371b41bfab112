"""Numbers that 32 bits would not tell apart: dates as numbers, identifiers, seconds since 1970, labels far from zero.

Models are asked in 32 bits. Where the data needs more, a column is shifted by its median, in 64 bits, before it is
encoded: what lies far from zero and close together then lies around zero. So is the label, whose shift is added to the
answers in 64 bits. Which columns that are depends on the estimator: one that compares needs values that 32 bits keep
apart; one that calculates also loses digits where a column is many times as far from zero as it is wide.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_provider_azureml_classic.exceptions import rejection
from airflow_provider_azureml_classic.server.experiments import estimators
from airflow_provider_azureml_classic.server.experiments.declaration import CLASSIFICATION, Experiment
from airflow_provider_azureml_classic.server.experiments.frame import Frame
from airflow_provider_azureml_classic.server.experiments.profile import spread
from airflow_provider_azureml_classic.server.experiments.schema import NUMBER, Schema, encode, encode_label

if TYPE_CHECKING:
    from numpy import float64, int64
    from numpy.typing import NDArray

#: How many standard deviations from zero a median costs digits that the answers show: with 2⁻²⁴ a rounding, some
#: roundings an answer, and extreme rows, their error comes near 5e-6 of the spread (measured: 3e-6).
_FAR = 16
#: How many times closer together than far from zero the usual values must be: less gains hardly a bit.
_CLOSER = 3
#: Share of the spread of a label that 32 bits may lose before a model that takes no shift is refused.
_LOST = 1e-4
#: Rows, and widths of a column or label, with which it is tried whether a shift changes the answers.
_TRIED, _AWAY = 300, 3.0
#: Share of their spread by which a shift changes answers that it changes at all (measured: a column 5e-3 and more, a
#: label 1 and more; splits of a forest that are equally good fall otherwise after a rounding of the label, 3e-2).
_CHANGED_BY_COLUMN, _CHANGED_BY_LABEL = 3e-3, 0.1


def shifted(experiment: Experiment, schema: Schema, frame: Frame) -> tuple[Schema, list[str]]:
    """The schema with the offsets that its columns and its label need, and notes about those that cannot have one.

    :param experiment: says which estimator is used.
    :param schema: a learnt schema.
    :param frame: the training data.
    :raises RequestRejected: 32 bits cannot hold the label, and the estimator takes no shift.
    """
    far, beside = not estimators.compares(experiment, schema), estimators.knows_zero(experiment)
    offsets = _offsets(schema, frame, far=far, beside=beside)
    label = _label_offset(schema, frame)
    if not offsets and not label:
        return schema, []
    wanted = schema.shifted(offsets, label)
    truth = encode_label(wanted, frame)
    rows = _tried(truth)
    matrix, truth = encode(wanted, frame, wide=True)[rows], truth[rows]
    notes = []
    if offsets and not estimators.is_scaled(experiment) and _changes(experiment, wanted, matrix, truth, list(offsets)):
        notes = [_note(experiment, name, offset) for name, offset in offsets.items()]
        offsets = {}
    if label and _changes(experiment, wanted, matrix, truth, []):
        _refuse_if_lost(experiment, schema, frame, label)
        notes.append(_note(experiment, schema.label, label))
        label = 0.0
    return schema.shifted(offsets, label), notes


def _offsets(schema: Schema, frame: Frame, *, far: bool, beside: bool) -> dict[str, float]:
    import numpy as np

    offsets = {}
    for column in schema.features:
        if column.kind != NUMBER or column.name not in frame.columns:
            continue
        values = schema.numbers(frame, column.name)
        values = values[~np.isnan(values)]
        if len(values) and np.ptp(values):
            median = float(np.median(values))
            if _merges(values, median) or (far and abs(median) > _FAR * values.std()):
                offsets[column.name] = _beside(values) if beside else median
    return offsets


def _beside(values: NDArray[float64]) -> float:
    """An offset that leaves all numbers on the side of zero where they are."""
    import numpy as np

    width = float(np.ptp(values))
    return float(values.min()) - width if values.min() > 0 else float(values.max()) + width


def _label_offset(schema: Schema, frame: Frame) -> float:
    import numpy as np

    if schema.task == CLASSIFICATION:
        return 0.0
    values = schema.numbers(frame, schema.label)
    median = float(np.median(values))
    return median if abs(median) > _FAR * values.std() > 0 else 0.0


def _merges(values: NDArray[float64], median: float) -> bool:
    """Whether 32 bits merge values, most of which they keep apart after the shift."""
    import numpy as np

    if not (values.astype(np.float32) != values).any():
        return False
    if np.median(abs(values)) <= _CLOSER * np.median(abs(values - median)):
        return False
    distinct = np.unique(values)
    merged, left = (len(distinct) - len(np.unique(part.astype(np.float32))) for part in (distinct, distinct - median))
    return merged > 0 and 2 * left <= merged


def _tried(truth: NDArray[Any]) -> NDArray[int64]:
    """Rows from everywhere, and one of each class."""
    import numpy as np

    rows = spread(len(truth), _TRIED)
    return np.union1d(rows, np.unique(truth, return_index=True)[1]) if truth.dtype.kind == "i" else rows


def _changes(
    experiment: Experiment, schema: Schema, matrix: NDArray[float64], truth: NDArray[Any], columns: list[str]
) -> bool:
    """Whether the estimator answers otherwise where these columns are shifted, or without any where the label is."""
    import numpy as np

    away, higher = np.zeros(matrix.shape[1]), 0.0
    for position, column in enumerate(schema.features):
        if column.name in columns:
            away[position] = _AWAY * ((column.maximum or 0.0) - (column.minimum or 0.0))
    if not columns:
        higher = _AWAY * float(np.ptp(truth))
    try:
        before = _fit(experiment, schema, matrix, truth)(matrix)
        after = _fit(experiment, schema, matrix + away, truth + higher if higher else truth)(matrix + away) - higher
    except Exception:  # counts must not be negative, for example; the estimator's own words follow when it is fitted
        return True
    change = float(np.sqrt(((after - before) ** 2).mean())) / (float(before.std()) or 1.0)
    return change > (_CHANGED_BY_COLUMN if columns else _CHANGED_BY_LABEL)


def _fit(
    experiment: Experiment, schema: Schema, matrix: NDArray[float64], truth: NDArray[Any]
) -> Callable[[NDArray[float64]], NDArray[float64]]:
    """What a model fitted on these rows answers, as numbers; equal draws of chance for every call."""
    import warnings

    import numpy as np

    state = np.random.get_state()
    np.random.seed(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = estimators.make(experiment, schema).fit(matrix, truth)
    finally:
        np.random.set_state(state)
    ask = next(
        getattr(model, name) for name in ("predict_proba", "decision_function", "predict") if hasattr(model, name)
    )
    return lambda rows: np.asarray(ask(rows), float)


def _note(experiment: Experiment, name: str, offset: float) -> str:
    remedy = (
        "Leave the column out" if estimators.counts(experiment) else f"Subtract {offset!r} from {name!r} in the data"
    )
    return (
        f"The numbers of {name!r} lie far from zero and close together, around {offset!r}: 32 bits, in which models "
        f"answer, keep fewer digits of them than the data has, and {experiment.estimator} answers otherwise where "
        f"they are shifted. {remedy}, or use another estimator."
    )


def _refuse_if_lost(experiment: Experiment, schema: Schema, frame: Frame, offset: float) -> None:
    import numpy as np

    values = schema.numbers(frame, schema.label)
    if np.spacing(np.float32(abs(values).max())) > _LOST * values.std():
        raise rejection(
            "ModuleExecutionError",
            f"Experiment {experiment.name!r}: {_note(experiment, schema.label, offset)}",
            target=schema.label,
        )
