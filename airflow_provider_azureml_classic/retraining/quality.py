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

    def at(self, rows: Sequence[int]) -> Answers:
        """The answers to some of the rows.

        :param rows: their positions, which may repeat.
        """
        cells = [self.scored.values[row] for row in rows]
        return Answers([self.labels[row] for row in rows], Table(self.scored.column_names, cells))

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
    :param sampled: gives a function of row positions that computes the value over these rows, where that is quicker
        than to compute each sample from the beginning.
    """

    compute: Callable[[Answers], float | None]
    lower_is_better: bool
    sampled: Callable[[Answers], Callable[[Sequence[int]], float | None]] | None = None

    def over(self, answers: Answers) -> Callable[[Sequence[int]], float | None]:
        """A function of row positions, which may repeat, that gives the value over these rows.

        :param answers: of one model.
        """
        if self.sampled is not None:
            return self.sampled(answers)
        return lambda rows: self.compute(answers.at(rows))


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


#: The value of a metric over rows at these positions, which may repeat; ``None`` where it is not defined.
Resample = Callable[[Sequence[int]], float | None]
#: Number columns, a value for each row; ``None``: the metric is not defined for such answers.
Columns = list[list[float]] | None


def _of_means(columns: Callable[[Answers], Columns], combine: Callable[..., float | None]) -> Callable[..., Resample]:
    """A metric that is a function of means over the rows.

    :param columns: gives the values that means are taken of.
    :param combine: makes the metric of the means.
    """

    def sampled(answers: Answers) -> Resample:
        values = columns(answers)

        def value(rows: Sequence[int]) -> float | None:
            if values is None or not rows:
                return None
            return combine(*(math.fsum(map(column.__getitem__, rows)) / len(rows) for column in values))

        return value

    return sampled


def _errors(power: int) -> Callable[[Answers], Columns]:
    return lambda answers: [[abs(label - answer) ** power for label, answer in answers.numbers()]]


def _squares(answers: Answers) -> Columns:
    """Squared errors, labels and their squares, so that the spread of any rows is known."""
    numbers = answers.numbers()
    middle = math.fsum(label for label, _ in numbers) / (len(numbers) or 1)
    # Around the middle, or the squares of large labels would lose their spread.
    labels = [label - middle for label, _ in numbers]
    return [[(label - answer) ** 2 for label, answer in numbers], labels, [label**2 for label in labels]]


def _deviations(answers: Answers) -> Columns:
    numbers = answers.numbers()
    middle = math.fsum(label for label, _ in numbers) / (len(numbers) or 1)
    return [[abs(label - answer) for label, answer in numbers], [abs(label - middle) for label, _ in numbers]]


def _share(error: float, whole: float) -> float | None:
    """Error as a share of what always answering the mean would give."""
    return error / whole if whole > 0 else None


def _relative_squared(error: float, label: float, square: float) -> float | None:
    return _share(error, square - label * label)


def _determination(error: float, label: float, square: float) -> float | None:
    share = _relative_squared(error, label, square)
    return None if share is None else 1 - share


def _hits(answers: Answers) -> list[float]:
    return [float(_text(a) == _text(b)) for a, b in zip(answers.labels, answers.predictions, strict=True)]


def _hits_and_classes(answers: Answers) -> Columns:
    classes = len(answers.probabilities())
    return [_hits(answers), [float(classes)] * len(answers.labels)] if classes else None


def _losses(answers: Answers) -> Columns:
    chances = answers.probabilities()
    if not chances:
        return None
    # A class that the model does not know has no chance.
    hits = [chances[_text(label)][row] if _text(label) in chances else 0.0 for row, label in enumerate(answers.labels)]
    return [[-math.log(min(max(p, _SMALLEST), 1 - _SMALLEST)) for p in hits]]


def _auc(answers: Answers) -> Resample:
    """Chance that a row of one class is ranked above one of the other; the same whichever of both is "positive"."""
    chances = answers.probabilities()
    if len(chances) != 2:
        return lambda rows: None
    positive, scores = next(iter(chances.items()))
    places = {score: place for place, score in enumerate(sorted(set(scores)))}
    # Rows with the same score share a place, and so the mean of their ranks.
    place_of = [places[score] for score in scores]
    is_positive = [_text(label) == positive for label in answers.labels]

    def value(rows: Sequence[int]) -> float | None:
        hits, others = [0] * len(places), [0] * len(places)
        for row in rows:
            (hits if is_positive[row] else others)[place_of[row]] += 1
        below = above = 0.0
        for hit, other in zip(hits, others, strict=True):
            above += hit * (below + other / 2)
            below += other
        positives = len(rows) - below
        return above / (positives * below) if positives and below else None

    return value


def _identity(value: float) -> float:
    return value


def _by_rows(sampled: Callable[[Answers], Resample], *, lower_is_better: bool) -> Metric:
    return Metric(lambda answers: sampled(answers)(range(len(answers.labels))), lower_is_better, sampled)


_ACCURACY = _of_means(lambda answers: [_hits(answers)], _identity)

#: Metrics that are computed from answers, by Studio's names.
METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "Mean Absolute Error": _by_rows(_of_means(_errors(1), _identity), lower_is_better=True),
        "Root Mean Squared Error": _by_rows(_of_means(_errors(2), math.sqrt), lower_is_better=True),
        "Relative Absolute Error": _by_rows(_of_means(_deviations, _share), lower_is_better=True),
        "Relative Squared Error": _by_rows(_of_means(_squares, _relative_squared), lower_is_better=True),
        "Coefficient of Determination": _by_rows(_of_means(_squares, _determination), lower_is_better=False),
        "Accuracy": _by_rows(_ACCURACY, lower_is_better=False),
        "Overall accuracy": _by_rows(_ACCURACY, lower_is_better=False),
        "Average accuracy": _by_rows(
            _of_means(_hits_and_classes, lambda hits, classes: 1 - 2 * (1 - hits) / classes), lower_is_better=False
        ),
        "AUC": _by_rows(_auc, lower_is_better=False),
        "Average Log Loss": _by_rows(_of_means(_losses, _identity), lower_is_better=True),
    }
)


def skill(answers: Answers) -> float | None:
    """What a model knows, between 0, as much as who always answers the same, and 1, everything; ``None``: not defined.

    :param answers: of the model.
    """
    ranked = METRICS["AUC"].compute(answers)
    if ranked is not None:
        return 2 * ranked - 1
    try:
        error = METRICS["Relative Absolute Error"].compute(answers)
        return None if error is None else 1 - error
    except ProtocolError:  # some labels are no numbers
        usual = max(Counter(map(_text, answers.labels)).values()) / len(answers.labels)
        hits = METRICS["Accuracy"].compute(answers)
        return None if hits is None or usual == 1 else (hits - usual) / (1 - usual)


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
        # Nothing is below or above "not a number".
        if not good or any(math.isnan(value) for value in checked[name].values()):
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
        "rows, or set allow_training_metrics=True (on the command line: --allow-training-metrics)."
    ]


def _known(name: str, metrics: Mapping[str, float | None]) -> float:
    value = metrics.get(name)
    if value is None or not math.isfinite(value):
        defined = ", ".join(name for name, value in metrics.items() if value is not None) or "none"
        raise ValueError(f"The metric {name!r} is missing or not defined; those that are: {defined}.")
    return value


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
