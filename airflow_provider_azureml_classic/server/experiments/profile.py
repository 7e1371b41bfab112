"""What the rows of a training looked like, in about two kilobytes: so that later rows can be told to be others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_azureml_classic.server.experiments.ilearner import Profile
from airflow_provider_azureml_classic.server.experiments.schema import NUMBER, Column, Schema

if TYPE_CHECKING:
    from numpy import float32, int64
    from numpy.typing import NDArray

#: Characters that a profile may take: it must fit into the comment of a zip.
LIMIT = 48_000
#: Rows that quantiles are taken of; the smallest and the largest number are of all rows.
_ROWS = 50_000
#: Of which shares quantiles are told, beside the smallest and the largest number.
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
#: Categories and classes that are told, and characters of each.
_TOLD, LETTERS = 10, 40
#: An odd number that mixes bits well (2⁶⁴ divided by the golden ratio).
_MIX = 0x9E3779B97F4A7C15


def profile_of(schema: Schema, matrix: NDArray[Any], truth: NDArray[Any]) -> Profile:
    """Number of rows, how many repeat an earlier one, and for each column and the label: the share of missing cells;
    smallest number, quantiles and largest, and the shares of the numbers up to each of the quantiles that differ; or
    the number of different texts and the shares of the most frequent ones.

    :param schema: a learnt schema.
    :param matrix: the encoded rows.
    :param truth: their encoded labels.
    :return: a JSON object; ``left_out`` columns are not in it, where there are too many.
    """
    rows = len(matrix)
    profile: Profile = {"rows": rows, "duplicates": rows - _different(matrix, truth), "columns": {}}
    if schema.classes:
        profile["label"] = _shares(schema.classes, truth)
    else:
        profile["label"] = _quantiles(truth, schema.offset)
    left = LIMIT - len(json.dumps(profile))
    for position, column in enumerate(schema.features):
        part = _column(column, matrix[:, position])
        left -= len(json.dumps({column.name: part}))
        if left < 0:
            profile["left_out"] = len(schema.features) - position
            break
        profile["columns"][column.name] = part
    return profile


def _column(column: Column, values: NDArray[Any]) -> dict[str, Any]:
    import numpy as np

    if column.kind == NUMBER:
        known = values[~np.isnan(values)]
        numbers = _quantiles(known, column.offset)
        if numbers:
            numbers["bins"] = _bins(known, edges(numbers["quantiles"], column.offset))
        return {"missing": _share(len(values) - len(known), len(values)), **numbers}
    codes = values[values >= 0].astype(np.int64)
    share = _share(len(values) - len(codes), len(values))
    return {"missing": share, "distinct": len(column.categories), **_shares(column.categories, codes)}


def _quantiles(values: NDArray[Any], offset: float) -> dict[str, Any]:
    import numpy as np

    if not len(values):
        return {}
    some = np.quantile(values[spread(len(values), _ROWS)].astype(np.float64), QUANTILES)
    numbers = np.array([values.min(), *some, values.max()], np.float64) + offset
    return {"quantiles": [float(f"{number:.12g}") for number in numbers.tolist()]}


def edges(quantiles: Sequence[float], offset: float) -> NDArray[float32]:
    """Upper ends of the bins that numbers are counted in, but for the last bin, which has none: quantiles that differ.

    :param quantiles: of a profile.
    :param offset: of the column; the ends are as the model takes the numbers.
    """
    import numpy as np

    inner = sorted({number for number in quantiles[1:-1] if number < quantiles[-1]})
    return (np.array(inner, np.float64) - offset).astype(np.float32)


def _bins(values: NDArray[Any], ends: NDArray[float32]) -> list[float]:
    """Shares of the bins: where many numbers are equal, quantiles do not tell them."""
    import numpy as np

    counts = np.bincount(np.searchsorted(ends, values.astype(np.float32)), minlength=len(ends) + 1)
    return [_share(int(count), len(values)) for count in counts]


def _shares(names: tuple[str, ...], codes: NDArray[Any]) -> dict[str, Any]:
    import numpy as np

    counts = np.bincount(codes, minlength=len(names))
    first = np.argsort(-counts, kind="stable")[:_TOLD].tolist()
    return {"shares": {names[code][:LETTERS]: _share(int(counts[code]), len(codes)) for code in first}}


def _share(count: int, rows: int) -> float:
    return round(count / rows, 4) if rows else 0.0


def _different(matrix: NDArray[Any], truth: NDArray[Any]) -> int:
    """How many different rows there are, by 64 bits of each."""
    import numpy as np

    mixed = np.zeros(len(matrix), np.uint64)
    for column in (*matrix.T, truth):
        bits = np.ascontiguousarray(column, np.float64).view(np.uint64)
        mixed = (mixed ^ (bits + (mixed >> np.uint64(29)))) * np.uint64(_MIX)
        mixed ^= mixed >> np.uint64(32)
    return len(np.unique(mixed))


def spread(rows: int, count: int) -> NDArray[int64]:
    """Positions of at most ``count`` rows, evenly spread over all.

    :param rows: number of rows.
    :param count: how many are wanted.
    """
    import numpy as np

    return np.unique(np.linspace(0, rows - 1, min(rows, count)).astype(np.int64))
