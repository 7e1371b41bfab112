"""A chart of models: one metric over the end of the training window. Geometry only; a template draws it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from airflow_provider_azureml_classic.server.state.overview import ModelLine

#: Measures of the drawing, in its own units.
WIDTH, HEIGHT = 720, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 16, 34
LIVE, PAST, UNUSED = "live", "past", "unused"
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
class Point:
    """A model on the chart.

    :param x: place in the drawing.
    :param y: place in the drawing.
    :param kind: :data:`LIVE`, :data:`PAST` or :data:`UNUSED`.
    :param model: the model.
    :param value: of the metric.
    :param moment: where it stands on the time axis.
    """

    x: float
    y: float
    kind: str
    model: ModelLine
    value: float
    moment: datetime


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
    """

    metric: str
    by_window: bool
    points: tuple[Point, ...]
    line: str
    rows: tuple[tuple[float, str], ...]
    columns: tuple[tuple[float, str], ...]
    left_out: int


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


def chart(models: Sequence[ModelLine], metric: str) -> Chart | None:
    """The chart of a metric; ``None`` if no model has it.

    :param models: newest first; of several entries of one model the live one counts, else the newest.
    :param metric: one of :func:`metric_names`.
    """
    single: dict[str, ModelLine] = {}
    for model in models:
        if model.digest not in single or model.live:
            single[model.digest] = model
    by_window = any(model.window_end for model in single.values() if metric in model.metrics)
    timed = [(model, model.window_end if by_window else model.created_at) for model in single.values()]
    shown = [(model, at) for model, at in timed if at and metric in model.metrics]
    if not shown:
        return None
    shown.sort(key=lambda pair: pair[1])
    lows, low, high = _values([model.metrics[metric] for model, _ in shown])
    times, first, last = _times(shown[0][1], shown[-1][1])
    across, up = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(at: datetime) -> float:
        return round(LEFT + across * ((at - first) / (last - first)), 1)

    def height(value: float) -> float:
        return round(TOP + up * (1 - (value - low) / (high - low)), 1)

    points = tuple(
        Point(place(at), height(model.metrics[metric]), _kind(model), model, model.metrics[metric], at)
        for model, at in shown
    )
    line = " ".join(f"{point.x},{point.y}" for point in points if point.kind != UNUSED)
    rows = tuple((height(value), _short(value)) for value in lows)
    columns = tuple((place(at), text) for at, text in times)
    return Chart(metric, by_window, points, line, rows, columns, len(single) - len(shown))


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
