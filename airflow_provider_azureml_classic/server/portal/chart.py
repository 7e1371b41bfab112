"""A chart of models: one metric over the end of the training window. Geometry only; a template draws it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from airflow_provider_azureml_classic.server.state.overview import ModelLine

#: Measures of the drawing, in its own units.
WIDTH, HEIGHT = 720, 290
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 28, 56
LIVE, PAST, UNUSED, FAILED = "live", "past", "unused", "failed"
#: A first model that is so many times as far from the others as these are from one another is left out.
_FAR = 2
#: Metrics in the order in which one is chosen if nobody asks.
_PREFERRED = (
    "AUC",
    "Accuracy",
    "Overall accuracy",
    "Coefficient of Determination",
    "Root Mean Squared Error",
    "Mean Absolute Error",
)
_STEPS = (1, 2, 2.5, 5, 10)
_DAY = 86_400
_SPANS = (60, 300, 900, 3600, 3 * 3600, 6 * 3600, 12 * 3600, *(_DAY * n for n in (1, 2, 7, 14, 30, 91, 182, 365, 730)))


@dataclass(frozen=True)
class Failure:
    """A training that wrote no model.

    :param job_id: the job.
    :param at: when it ended.
    :param window_end: end of its training data, if its submission said so.
    """

    job_id: str
    at: datetime
    window_end: datetime | None


@dataclass(frozen=True)
class Point:
    """A model on the chart.

    :param x: place in the drawing.
    :param y: place in the drawing.
    :param kind: :data:`LIVE`, :data:`PAST`, :data:`UNUSED`, or :data:`FAILED`: a training that wrote no model.
    :param job_id: that trained it, if it is known.
    :param value: of the metric; ``None`` of a failed one.
    :param moment: where it stands on the time axis.
    """

    x: float
    y: float
    kind: str
    job_id: str | None
    value: float | None
    moment: datetime

    @property
    def anchor(self) -> str:
        """How a text above it is aligned, so that it stays in the drawing."""
        return "start" if self.x < WIDTH / 4 else "end" if self.x > WIDTH * 3 / 4 else "middle"


@dataclass(frozen=True)
class Chart:
    """Everything that is drawn.

    :param metric: its name.
    :param by_window: the time axis is the end of the training window; else the time of training.
    :param points: from left to right.
    :param line: the points that were in place, for a line.
    :param rows: place and text of the values at the side.
    :param columns: place and text of the times below.
    :param left_out: models that have no such metric, or no time.
    :param first: time of the first model, if it is left out because it is far from all others.
    """

    metric: str
    by_window: bool
    points: tuple[Point, ...]
    line: str
    rows: tuple[tuple[float, str], ...]
    columns: tuple[tuple[float, str], ...]
    left_out: int
    first: datetime | None = None

    @property
    def direction(self) -> int:
        """See :func:`direction`."""
        return direction(self.metric)


def direction(metric: str) -> int:
    """1: higher is better; -1: lower is; 0: nobody knows.

    :param metric: its name.
    """
    name = metric.casefold()
    if any(word in name for word in ("error", "loss")):
        return -1
    good = ("auc", "accuracy", "coefficient of determination", "precision", "recall", "f1")
    return 1 if any(word in name for word in good) else 0


def metric_names(models: Iterable[ModelLine]) -> list[str]:
    """All metrics that any of the models has.

    :param models: used or not.
    """
    return ordered({name for model in models for name in model.metrics})


def ordered(names: Iterable[str]) -> list[str]:
    """Names of metrics, the ones that people look at first in front.

    :param names: in any order.
    """
    there = set(names)
    return [*(name for name in _PREFERRED if name in there), *sorted(there.difference(_PREFERRED))]


def chart(models: Sequence[ModelLine], metric: str, failed: Sequence[Failure] = ()) -> Chart | None:
    """The chart of a metric; ``None`` if fewer than two models have it: one is no development.

    :param models: newest first; of several entries of one model the live one counts, else the newest.
    :param metric: one of :func:`metric_names`.
    :param failed: trainings that failed.
    """
    single: dict[str, ModelLine] = {}
    for model in models:
        if model.digest not in single or model.live:
            single[model.digest] = model
    # One model with a window is no development; by the time of training the others may stand beside it.
    by_window = sum(1 for model in single.values() if model.window_end and metric in model.metrics) > 1
    timed = [(model, model.window_end if by_window else model.created_at) for model in single.values()]
    shown = [(model, at) for model, at in timed if at and metric in model.metrics]
    if len(shown) < 2:
        return None
    shown.sort(key=lambda pair: pair[1])
    oldest = _far_first(shown)
    shown = shown[1:] if oldest else shown
    lows, low, high = _values([model.metrics[metric] for model, _ in shown])
    fails = [(one.job_id, one.window_end if by_window else one.at) for one in failed]
    marks = [(job_id, at) for job_id, at in fails if at and at >= shown[0][1]]
    times, first, last = _times(shown[0][1], max([shown[-1][1], *(at for _, at in marks)]))
    across, up = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(at: datetime) -> float:
        return round(LEFT + across * ((at - first) / (last - first)), 1)

    def height(value: float) -> float:
        return round(TOP + up * (1 - (value - low) / (high - low)), 1)

    points = [
        Point(place(at), height(model.metrics[metric]), _kind(model), model.job_id, model.metrics[metric], at)
        for model, at in shown
    ]
    line = " ".join(f"{point.x},{point.y}" for point in points if point.kind != UNUSED)
    points += [Point(place(at), HEIGHT - BOTTOM - 12, FAILED, job_id, None, at) for job_id, at in marks]
    rows = tuple((height(value), _short(value)) for value in lows)
    columns = tuple((place(at), text) for at, text in times)
    left_out = len(single) - len(shown) - bool(oldest)
    return Chart(metric, by_window, tuple(points), line, rows, columns, left_out, oldest)


def _far_first(shown: Sequence[tuple[ModelLine, datetime]]) -> datetime | None:
    """The time of the model that an endpoint began with, if all others would be one point beside it."""
    if len(shown) < 4 or shown[0][0].live:
        return None
    begin, second, last = shown[0][1], shown[1][1], shown[-1][1]
    return begin if second - begin > _FAR * (last - second) else None


def _kind(model: ModelLine) -> str:
    return UNUSED if model.number is None else LIVE if model.live else PAST


def _values(values: Sequence[float]) -> tuple[list[float], float, float]:
    """Values to write at the side, and the lowest and highest value of the drawing."""
    low, high = min(values), max(values)
    spread = (high - low) or abs(high) * 0.1 or 1.0
    low, high = low - spread * 0.15, high + spread * 0.15
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in _STEPS if factor * power >= rough * 0.999)
    first = math.ceil(low / step)
    return [count * step for count in range(first, math.floor(high / step) + 1)], low, high


def _times(first: datetime, last: datetime) -> tuple[list[tuple[datetime, str]], datetime, datetime]:
    """Times to write below, and the first and last time of the drawing."""
    span = max((last - first).total_seconds(), 2 * 3600.0)
    margin = timedelta(seconds=span * 0.06)
    middle = first + (last - first) / 2
    first, last = min(first, middle - timedelta(seconds=span / 2)), max(last, middle + timedelta(seconds=span / 2))
    first, last = first - margin, last + margin
    step = next((size for size in _SPANS if span / size <= 6), 1460 * _DAY)
    form = "%Y-%m-%d" if step >= _DAY else "%m-%d %H:%M"
    at = datetime.fromtimestamp(math.ceil(first.timestamp() / step) * step, UTC)
    found = []
    while at <= last:
        found.append((at, f"{at:{form}}"))
        at += timedelta(seconds=step)
    return found, first, last


def _short(value: float) -> str:
    return f"{value:.6g}"
