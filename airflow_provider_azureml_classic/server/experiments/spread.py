"""By how much the values of a column are spread in another way than before, and how sure that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_azureml_classic.server.experiments.profile import LETTERS, QUANTILES

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Fewer cells do not tell how alike neighbours are.
_FEW = 50


def independent_share(cells: NDArray[Any] | None) -> float:
    """As how large a share of them these cells tell: neighbours in time are alike, as the weather of two hours is (the
    effective size of a sample whose neighbours correlate).

    :param cells: numbers, or codes of texts, in the order of the file.
    """
    import numpy as np

    there = cells[cells == cells] if cells is not None else np.zeros(0)
    if len(there) < _FEW or (there == there[0]).all():
        return 1.0
    if there.dtype.kind == "f":
        alike = float(np.corrcoef(there[1:], there[:-1])[0, 1])
    else:
        by_chance = float(((np.unique(there, return_counts=True)[1] / len(there)) ** 2).sum())
        alike = (float((there[1:] == there[:-1]).mean()) - by_chance) / (1 - by_chance)
    alike = min(max(alike, 0.0), 1 - 1 / len(there)) if alike == alike else 0.0
    return (1 - alike) / (1 + alike)


def numbers_elsewhere(quantiles: list[float] | None, values: NDArray[Any]) -> float:
    """By how much a share of rows below a quantile of before differs from what it was, at least.

    Many rows may have the very number of a quantile, so the share is one of an interval.

    :param quantiles: of before, with the smallest and the largest number.
    :param values: of now, without missing ones.
    """
    if not quantiles or not len(values):
        return 0.0
    shares: dict[float, list[float]] = {}
    for share, place in zip(QUANTILES, quantiles[1:-1], strict=True):
        shares.setdefault(place, []).append(share)
    # One number may be several quantiles: below it was no more than the least of these, up to it all of them.
    return max(
        max(float((values < place).mean()) - shares[place][0], shares[place][-1] - float((values <= place).mean()))
        for place in shares
    )


def texts_elsewhere(shares: Mapping[str, float] | None, cells: Any, counts: NDArray[Any]) -> float:
    """Half the sum of the differences of the shares of the texts that were the most frequent ones, and of the rest.

    :param shares: of before.
    :param cells: different texts of now.
    :param counts: how often each is there.
    """
    rows = int(counts.sum())
    if not shares or not rows:
        return 0.0
    now: Counter[str] = Counter()
    for cell, count in zip(cells, counts.tolist(), strict=True):
        now[cell[:LETTERS] if cell[:LETTERS] in shares else ""] += count / rows
    was = {**shares, "": 1 - sum(shares.values())}
    return sum(abs(now[name] - share) for name, share in was.items()) / 2
