"""The same rows answered by a model file, whatever else is live: without any endpoint, and without an end for one bad
row. And what two models' answers to the same rows have in common.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError
from airflow_provider_azureml_classic.protocol.rehearsal import AT, LIVE, MIN_ROWS, NEW, Rehearsal
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.server.experiments.declaration import CLASSIFICATION
from airflow_provider_azureml_classic.server.experiments.scorer import PROBABILITIES, Scorer

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

#: Rows that a model is given at a time, and seconds after which it is given no more.
_PIECE, SECONDS = 500, 3.0
#: Rows that are timed one by one.
_TIMED = 25
#: Parts of the live model's answers that a stability index compares, and what an empty one counts as.
_PARTS, _EMPTY = 10, 1e-4
#: Of what lies between the outer quantiles of the live model's answers: a number that moves by less has not changed.
_MOVED = 0.25
_MOST_LABELS = 50


@dataclass(frozen=True)
class Answers:
    """What a model answered.

    :param names: columns of an answer.
    :param rows: an answer for each row that was asked before the time was over; ``None``: it was refused.
    """

    names: tuple[str, ...]
    rows: list[tuple[str, ...] | None]


def answered(
    scorer: Scorer, tables: Sequence[Table], threshold: float | None = None, seconds: float = SECONDS
) -> Answers:
    """Ask a model, a piece at a time; rows of a piece that is refused are asked one by one.

    :param scorer: the model.
    :param tables: rows; further columns are ignored.
    :param threshold: see :meth:`~.scorer.Scorer.score`.
    :param seconds: after which nothing more is asked.
    """
    until, rows = time.monotonic() + seconds, list[tuple[str, ...] | None]()
    for piece in _pieces(tables):
        if time.monotonic() > until:
            break
        whole = _asked(scorer, piece, threshold)
        if whole is not None:
            rows += whole
            continue
        for row in piece.values:
            if time.monotonic() > until:
                break
            one = _asked(scorer, Table(piece.column_names, [row]), threshold)
            rows.append(one[0] if one else None)
    return Answers(scorer.names, rows)


def _asked(scorer: Scorer, piece: Table, threshold: float | None) -> list[tuple[str, ...]] | None:
    try:
        return [tuple(map(str, row)) for row in scorer.score(piece, (), threshold).values]
    except AzureMLClassicError:
        return None


def _pieces(tables: Sequence[Table]) -> Iterator[Table]:
    """The rows in their order; tables of the same columns are put together."""
    names: tuple[str, ...] = ()
    values: list[Any] = []
    for table in tables:
        if values and (table.column_names != names or len(values) >= _PIECE):
            yield Table(names, values)
            values = []
        names = table.column_names
        for row in table.values:
            values.append(row)
            if len(values) >= _PIECE:
                yield Table(names, values)
                values = []
    if values:
        yield Table(names, values)


def rehearse(live: Scorer, new: Scorer, tables: Sequence[Table], threshold: float | None = None) -> Rehearsal:
    """Both models' answers to the same rows, in figures.

    :param live: the model that answers now.
    :param new: the one that is to take its place.
    :param tables: calls, newest first.
    :param threshold: see :meth:`~.scorer.Scorer.score`.
    """
    before, after = answered(live, tables, threshold), answered(new, tables, threshold)
    asked = min(len(before.rows), len(after.rows))
    pairs = list(zip(before.rows[:asked], after.rows[:asked], strict=True))
    refused = {LIVE: sum(one is None for one, _ in pairs), NEW: sum(one is None for _, one in pairs)}
    both = [(one, other) for one, other in pairs if one is not None and other is not None]
    if asked < MIN_ROWS:
        return Rehearsal(len(tables), asked, refused)
    said = _compared(live, before.names, after.names, both) if both else {"changed": 1.0}
    milliseconds = {LIVE: _milliseconds(live, tables, threshold), NEW: _milliseconds(new, tables, threshold)}
    return Rehearsal(len(tables), asked, refused, milliseconds=milliseconds, **said)


def _milliseconds(scorer: Scorer, tables: Sequence[Table], threshold: float | None) -> float:
    """Median time for one row."""
    times = []
    for table in tables[:_TIMED]:
        start = time.perf_counter()
        _asked(scorer, Table(table.column_names, table.values[:1]), threshold)
        times.append(time.perf_counter() - start)
    return round(1000 * median(times), 4)


def _compared(
    live: Scorer,
    before: tuple[str, ...],
    after: tuple[str, ...],
    both: Sequence[tuple[tuple[str, ...], tuple[str, ...]]],
) -> dict[str, Any]:
    import numpy as np  # heavy: the server starts without it

    if live.manifest.task != CLASSIFICATION:
        old, new = (np.array([float(pair[side][0]) for pair in both]) for side in (0, 1))
        low, high = np.quantile(old, (AT[0], AT[-1]))
        changed = float(np.mean(np.abs(new - old) > max(_MOVED * (high - low), 1e-12 * np.abs(old).max())))
        return {"changed": changed, "stability": stability(old, new), "quantiles": _quantiles(old, new)}
    changed = float(np.mean([one[0] != other[0] for one, other in both]))
    shares = {LIVE: _shares([one[0] for one, _ in both]), NEW: _shares([other[0] for _, other in both])}
    figures: dict[str, Any] = {"changed": changed, "labels": shares}
    probabilities = [name for name in before if name.startswith(f"{PROBABILITIES} for")]
    if not probabilities:
        return {**figures, "stability": _index(_aligned(shares[LIVE], shares[NEW]))}
    columns = [(_column(both, 0, before, name), _column(both, 1, after, name)) for name in probabilities]
    if PROBABILITIES in before and PROBABILITIES in after:
        chosen = _column(both, 0, before, PROBABILITIES), _column(both, 1, after, PROBABILITIES)
    else:
        chosen = np.max([one for one, _ in columns], axis=0), np.max([one for _, one in columns], axis=0)
    return {**figures, "stability": max(stability(*pair) for pair in columns), "quantiles": _quantiles(*chosen)}


def _column(both: Sequence[Any], side: int, names: tuple[str, ...], name: str) -> NDArray[float64]:
    """Numbers of one column of the answers; a class that a model does not know has the probability 0."""
    import numpy as np  # heavy, as above

    if name not in names:
        return np.zeros(len(both))
    place = names.index(name)
    return np.array([float(pair[side][place]) for pair in both])


def _quantiles(old: NDArray[float64], new: NDArray[float64]) -> dict[str, list[float]]:
    import numpy as np  # heavy, as above

    return {LIVE: np.quantile(old, AT).tolist(), NEW: np.quantile(new, AT).tolist()}


def _shares(labels: Sequence[str]) -> dict[str, float]:
    """The most frequent labels."""
    counts: dict[str, int] = {}
    for label in labels:
        counts[label] = counts.get(label, 0) + 1
    most = sorted(counts.items(), key=lambda one: -one[1])[:_MOST_LABELS]
    return {label: count / len(labels) for label, count in most}


def _aligned(one: Mapping[str, float], other: Mapping[str, float]) -> list[tuple[float, float]]:
    return [(one.get(name, 0.0), other.get(name, 0.0)) for name in {**one, **other}]


def stability(old: NDArray[float64], new: NDArray[float64]) -> float:
    """Population stability index of ``new`` beside ``old``: 0 where they are distributed alike, over 0.25 where, as
    is usually said, the population is another one.

    :param old: numbers, over whose ten parts both are compared.
    :param new: numbers.
    """
    import numpy as np  # heavy, as above

    edges = np.unique(np.quantile(old, np.linspace(0, 1, _PARTS + 1)[1:-1]))
    counts = [np.bincount(np.searchsorted(edges, many), minlength=len(edges) + 1) for many in (old, new)]
    return _index([(one / len(old), other / len(new)) for one, other in zip(*counts, strict=True)])


def _index(pairs: Sequence[tuple[float, float]]) -> float:
    import numpy as np  # heavy, as above

    one, other = (np.array([pair[side] for pair in pairs]) + _EMPTY for side in (0, 1))
    return float(((other - one) * np.log(other / one)).sum())
