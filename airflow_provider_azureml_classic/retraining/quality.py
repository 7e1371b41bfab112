"""When a model is good enough: metrics computed from answers, thresholds, and "not worse than the live model".

The metrics have the names that Studio's *Evaluate Model* gives them, and are computed here for both models from their
answers to the same rows, so that a comparison never mixes two ways of measuring. Pure: no I/O, no Airflow.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from airflow_provider_azureml_classic.exceptions import ProtocolError
from airflow_provider_azureml_classic.protocol.jobs import HELD_OUT
from airflow_provider_azureml_classic.protocol.tables import Table

#: Columns of a scoring service's answer.
LABELS, PROBABILITIES = "Scored Labels", "Scored Probabilities"
#: Probabilities of 0 and 1 count as this far from it, so that one surely wrong answer does not cost infinitely much.
_SMALLEST = 1e-15


@dataclass(frozen=True)
class Answers:
    """A model's answers to rows whose labels are known.

    :param labels: the true labels.
    :param scored: the model's answers, one row each: the columns of a scoring service's answer.
    """

    labels: Sequence[Any]
    scored: Table

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.scored.values):
            raise ProtocolError(
                f"{len(self.labels)} rows were scored, but {len(self.scored.values)} answers came back."
            )

    @property
    def predictions(self) -> list[Any]:
        """The predicted labels."""
        return self.scored.column(LABELS)

    #: Its name in earlier versions, which a user's own metric may read.
    said = predictions

    def numbers(self) -> list[tuple[float, float]]:
        """Label and answer of each row.

        :raises ProtocolError: one of them is no number.
        """
        return [(_number(label), _number(answer)) for label, answer in zip(self.labels, self.predictions, strict=True)]

    def probabilities(self) -> dict[str, list[float]]:
        """Probability of each class in each row; empty for a model that gives none."""
        start = f'{PROBABILITIES} for Class "'
        columns = {name[len(start) : -1]: name for name in self.scored.column_names if name.startswith(start)}
        if columns:
            return {_text(label): [_number(cell) for cell in self.scored.column(c)] for label, c in columns.items()}
        if PROBABILITIES not in self.scored.column_names:
            return {}
        return self._two_classes([_number(cell) for cell in self.scored.column(PROBABILITIES)])

    def _two_classes(self, positive: list[float]) -> dict[str, list[float]]:
        """Classic's own form: one column, of a class that is not named: the one predicted where that is likely."""
        predictions = [_text(cell) for cell in self.predictions]
        votes = Counter(label if p > 0.5 else f"not {label}" for label, p in zip(predictions, positive, strict=True))
        classes = sorted({*predictions, *map(_text, self.labels)})
        if len(classes) > 2:
            return {}
        first, second = classes if len(classes) == 2 else (classes[0], f"not {classes[0]}")
        chosen = first if votes[first] + votes[f"not {second}"] > votes[second] + votes[f"not {first}"] else second
        other = second if chosen == first else first
        return {chosen: positive, other: [1 - p for p in positive]}


@dataclass(frozen=True)
class Metric:
    """A way to measure answers.

    :param compute: gives the value, ``None`` where it is not defined.
    :param lower_is_better: as for an error or a loss.
    """

    compute: Callable[[Answers], float | None]
    lower_is_better: bool


def _number(cell: Any) -> float:
    try:
        return float(cell)
    except (TypeError, ValueError):
        raise ProtocolError(f"{cell!r} is not a number, so it cannot be measured.") from None


def _text(cell: Any) -> str:
    """A label as text: the same whether it came as 1, 1.0 or "1"."""
    try:
        value = float(cell)
    except (TypeError, ValueError):
        return str(cell).strip()
    return str(int(value)) if value.is_integer() else str(value)


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _errors(answers: Answers, power: int) -> list[float]:
    return [abs(label - answer) ** power for label, answer in answers.numbers()]


def _relative(answers: Answers, power: int) -> float | None:
    """Error as a share of what always answering the mean would give."""
    labels = [label for label, _ in answers.numbers()]
    mean = _mean(labels)
    whole = math.fsum(abs(label - mean) ** power for label in labels) if mean is not None else 0.0
    return math.fsum(_errors(answers, power)) / whole if whole else None


def _root_mean_squared_error(answers: Answers) -> float | None:
    mean = _mean(_errors(answers, 2))
    return None if mean is None else math.sqrt(mean)


def _determination(answers: Answers) -> float | None:
    share = _relative(answers, 2)
    return None if share is None else 1 - share


def _accuracy(answers: Answers) -> float | None:
    return _mean([float(_text(a) == _text(b)) for a, b in zip(answers.labels, answers.predictions, strict=True)])


def _average_accuracy(answers: Answers) -> float | None:
    classes, accuracy = len(answers.probabilities()), _accuracy(answers)
    return 1 - 2 * (1 - accuracy) / classes if accuracy is not None and classes else None


def _log_loss(answers: Answers) -> float | None:
    chances = answers.probabilities()
    if not chances:
        return None
    # A class that the model does not know has no chance.
    hits = [chances[_text(label)][row] if _text(label) in chances else 0.0 for row, label in enumerate(answers.labels)]
    return _mean([-math.log(min(max(p, _SMALLEST), 1 - _SMALLEST)) for p in hits])


def _auc(answers: Answers) -> float | None:
    """Chance that a row of one class is ranked above one of the other; the same whichever of both is "positive"."""
    chances = answers.probabilities()
    if len(chances) != 2:
        return None
    positive, scores = next(iter(chances.items()))
    ranked = sorted(zip(scores, (_text(label) == positive for label in answers.labels), strict=True))
    positives = sum(is_positive for _, is_positive in ranked)
    negatives = len(ranked) - positives
    if not positives or not negatives:
        return None
    ranks, at = 0.0, 0
    while at < len(ranked):
        end = at
        while end < len(ranked) and ranked[end][0] == ranked[at][0]:
            end += 1
        # Rows with the same score share the mean of their ranks.
        ranks += sum(is_positive for _, is_positive in ranked[at:end]) * (at + 1 + end) / 2
        at = end
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives)


#: Metrics that are computed from answers, by Studio's names.
METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "Mean Absolute Error": Metric(lambda answers: _mean(_errors(answers, 1)), True),
        "Root Mean Squared Error": Metric(_root_mean_squared_error, True),
        "Relative Absolute Error": Metric(lambda answers: _relative(answers, 1), True),
        "Relative Squared Error": Metric(lambda answers: _relative(answers, 2), True),
        "Coefficient of Determination": Metric(_determination, False),
        "Accuracy": Metric(_accuracy, False),
        "Overall accuracy": Metric(_accuracy, False),
        "Average accuracy": Metric(_average_accuracy, False),
        "AUC": Metric(_auc, False),
        "Average Log Loss": Metric(_log_loss, True),
    }
)


@dataclass(frozen=True)
class Allowance:
    """By how much a candidate may be worse than the live model.

    :param amount: in the metric's own unit, or as a share of the live model's value.
    :param relative: which of the two.
    """

    amount: float
    relative: bool = False

    @classmethod
    def parse(cls, name: str, value: float | str) -> Allowance:
        """The allowance that a user wrote: a number in the metric's own unit, or ``"2%"`` of the live model's value.

        :param name: the metric, for the message.
        :param value: a number of 0 or more, or a text of one with a percent sign.
        :raises ValueError: neither.
        """
        text = str(value).strip()
        relative = text.endswith("%")
        try:
            amount = float(text.rstrip("% ")) / (100 if relative else 1)
        except ValueError:
            amount = -1.0
        if isinstance(value, bool) or not 0 <= amount < math.inf:
            raise ValueError(
                f"max_worse of {name!r} is {value!r}; it must be a number of 0 or more, or a text such as '2%'."
            )
        return cls(amount, relative)

    def of(self, live: float) -> float:
        """The allowance in the metric's own unit.

        :param live: the live model's value.
        """
        return self.amount * abs(live) if self.relative else self.amount

    def __str__(self) -> str:
        return f"{self.amount * 100:g}%" if self.relative else f"{self.amount:g}"


def measured(answers: Answers, names: Sequence[str], metrics: Mapping[str, Metric]) -> dict[str, float | None]:
    """Metrics of answers; those that are not defined are ``None``.

    :param answers: of one model.
    :param names: which to compute.
    :param metrics: how, by name.
    """
    return finite({name: metrics[name].compute(answers) for name in names})


def finite(values: Mapping[str, float | None]) -> dict[str, float | None]:
    """The same metrics, ``None`` where one is no finite number.

    :param values: metrics by name.
    """
    return {name: value if value is not None and math.isfinite(value) else None for name, value in values.items()}


def check_limits(thresholds: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Thresholds as a user writes them, checked.

    :param thresholds: ``min`` and ``max``, or one of them, by metric.
    :raises ValueError: another form.
    """
    checked = {}
    for name, limits in thresholds.items():
        good = isinstance(limits, Mapping) and limits and set(limits) <= {"min", "max"}
        try:
            checked[name] = {bound: float(value) for bound, value in limits.items()} if good else {}
        except (TypeError, ValueError):
            good = False
        if not good:
            raise ValueError(f"thresholds[{name!r}] is {limits!r}; it must be like {{'min': 0.9}} or {{'max': 30}}.")
    return checked


def outside(metrics: Mapping[str, float | None], limits: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The metrics outside their limits, one sentence each.

    :param metrics: of the candidate.
    :param limits: see :func:`check_limits`.
    :raises ValueError: a metric is missing; the message lists those that exist.
    """
    reasons = []
    for name, bounds in limits.items():
        value = _known(name, metrics)
        if value < bounds.get("min", -math.inf):
            reasons.append(f"{name} is {value:.6g}, below the minimum of {bounds['min']:g}.")
        if value > bounds.get("max", math.inf):
            reasons.append(f"{name} is {value:.6g}, above the maximum of {bounds['max']:g}.")
    return reasons


def on_training_rows(metrics: Mapping[str, float | None]) -> list[str]:
    """One sentence if metrics are those of the training rows, which a model may know by heart; none if they are not, or
    the service does not tell.

    :param metrics: of the evaluation.
    """
    if metrics.get(HELD_OUT) != 0:
        return []
    return [
        f"{HELD_OUT} is 0: the metrics are those of the training rows, which say little about others. Train on more "
        "rows, or set allow_training_metrics=True."
    ]


def _known(name: str, metrics: Mapping[str, float | None]) -> float:
    value = metrics.get(name)
    if value is None or not math.isfinite(value):
        defined = ", ".join(name for name, value in metrics.items() if value is not None) or "none"
        raise ValueError(f"The metric {name!r} is missing or not defined; those that are: {defined}.")
    return value


def worse(
    candidate: Mapping[str, float | None],
    live: Mapping[str, float | None],
    allowances: Mapping[str, Allowance],
    metrics: Mapping[str, Metric],
) -> list[str]:
    """Where the candidate is worse than the live model by more than is allowed, one sentence each.

    :param candidate: its metrics.
    :param live: those of the live model, on the same rows.
    :param allowances: by metric.
    :param metrics: directions.
    :raises ValueError: a metric of the candidate is missing.
    """
    reasons = []
    for name, allowance in allowances.items():
        new, old = _known(name, candidate), live.get(name)
        if old is None:
            raise ValueError(f"The metric {name!r} of the live model is not defined on these rows.")
        gap = new - old if metrics[name].lower_is_better else old - new
        # A rounding error is no difference.
        if gap > allowance.of(old) + 1e-9 * max(abs(new), abs(old)):
            reasons.append(
                f"{name} is {new:.6g}, the live model's {old:.6g}: worse by {gap:.6g}, of which {allowance} is allowed."
            )
    return reasons


def table_text(columns: Mapping[str, Mapping[str, float | None]], marks: Mapping[str, str]) -> str:
    """Metrics side by side, aligned, for a log.

    :param columns: metrics by heading.
    :param marks: a last cell by metric, for example its limits.
    """
    names = list(dict.fromkeys(name for values in columns.values() for name in values))
    head = ["metric", *columns, "rule"] if marks else ["metric", *columns]
    rows = [head]
    for name in names:
        cells = [values.get(name) for values in columns.values()]
        shown = ["-" if value is None else f"{value:.6g}" for value in cells]
        rows.append([name, *shown, *([marks.get(name, "")] if marks else [])])
    widths = [max(len(row[at]) for row in rows) for at in range(len(head))]
    numeric = range(1, 1 + len(columns))
    return "\n".join(
        "  ".join(
            c.rjust(w) if at in numeric else c.ljust(w) for at, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
