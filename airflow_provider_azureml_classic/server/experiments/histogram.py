"""What a model is asked, counted in the bins of what it was trained on: how often each bin was hit, and what was
missing, not known or outside of the range of the training. A histogram holds no row and no text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_azureml_classic.server.experiments.ilearner import Manifest
from airflow_provider_azureml_classic.server.experiments.profile import LETTERS, edges
from airflow_provider_azureml_classic.server.experiments.schema import NUMBER, UNKNOWN, Column
from airflow_provider_azureml_classic.tables.kinds import DATE

if TYPE_CHECKING:
    from numpy import float32, int64, intp
    from numpy.typing import NDArray

#: A row as it was sent, and the names of its columns.
_Sent = tuple[Sequence[Any], tuple[str, ...]]
#: Cells of each feature behind its bins: rows without a value, with a text that is not known, with a number outside.
_MISSING, _UNKNOWN, _OUTSIDE, MORE = 0, 1, 2, 3
#: A column of texts of which more than this share of the rows has one of its own tells rows apart: it is always new.
_APART = 0.5


class Unusual(NamedTuple):
    """What is unusual in some rows.

    :param rows: rows that were looked at.
    :param unknown: cells whose category the model does not know; missing ones are not counted.
    :param outside: numbers below the smallest or above the largest of the training.
    """

    rows: int
    unknown: int
    outside: int


@dataclass(frozen=True)
class Expected:
    """What of a feature the training rows were.

    :param name: of its column.
    :param bins: number of its bins.
    :param shares: of the training rows in each bin, then of those without a value; ``None``: other rows are not to be
        compared with them, or the model does not tell.
    """

    name: str
    bins: int
    shares: tuple[float, ...] | None


class _Bins:
    """The bins of one feature.

    :param column: of the schema.
    :param told: of the profile, if it tells of the column.
    :param texts: those that mean "no value".
    """

    def __init__(self, column: Column, told: dict[str, Any] | None, texts: frozenset[str]) -> None:
        self._texts = texts
        self._told = told or {}
        self._column = column
        self.is_number = column.kind == NUMBER
        self.shares = list(self._told.get("bins") or ()) if self.is_number else self._of_texts()
        self.count = max(1, len(self.shares))

    def _of_texts(self) -> list[float]:
        """Those of the most frequent texts, and that of all others together."""
        shares = list((self._told.get("shares") or {}).values())
        return [*shares, max(0.0, 1 - sum(shares))] if shares else []

    @cached_property
    def ends(self) -> NDArray[float32]:
        """Upper ends of the bins of numbers, but for the last."""
        return edges(self._told["quantiles"] if self.count > 1 else (), self._column.offset)

    @cached_property
    def limits(self) -> NDArray[float32]:
        """Smallest and largest number of the training."""
        import numpy as np

        column = self._column
        known = column.minimum is not None and column.maximum is not None
        bounds = (column.minimum, column.maximum) if known else (-np.inf, np.inf)
        return (np.array(bounds, np.float64) - column.offset).astype(np.float32)

    @cached_property
    def places(self) -> NDArray[intp]:
        """The bin of each code; the last is that of no known text."""
        import numpy as np

        names = {name: place for place, name in enumerate(self._told.get("shares") or {})}
        bins = [names.get(text[:LETTERS], len(names)) for text in self._column.categories]
        return np.array([*bins, self.count + _MISSING], np.intp)

    def is_unknown(self, cell: Any) -> bool:
        """Whether a cell that is no known text is one at all."""
        return cell is not None and not (isinstance(cell, str) and cell.strip() in self._texts)


class Histogram:
    """The bins of all features of a model.

    :param manifest: what the model file says.
    :param missing: for each feature the texts that mean "no value".
    :ivar rows: of the training; 0: not known.
    :ivar size: cells of all features together.
    """

    def __init__(self, manifest: Manifest, missing: Sequence[frozenset[str]]) -> None:
        schema, profile = manifest.schema, manifest.profile or {}
        self.rows = int(profile.get("rows", 0))
        told = profile.get("columns", {})
        self._bins = [_Bins(c, told.get(c.name), texts) for c, texts in zip(schema.features, missing, strict=True)]
        dates = {column.name for column in schema.features if schema.kind_of(column.name).kind == DATE}
        self.expected = tuple(
            Expected(column.name, bins.count, self._shares(column.name, bins, told, dates))
            for column, bins in zip(schema.features, self._bins, strict=True)
        )
        self.size = sum(one.bins + MORE for one in self.expected)

    def _shares(self, name: str, bins: _Bins, told: dict[str, Any], dates: set[str]) -> tuple[float, ...] | None:
        if not self.rows or not bins.shares or name in dates:
            return None
        if not bins.is_number and told[name]["distinct"] > _APART * self.rows:
            return None
        gone = float(told[name]["missing"])
        return (*(round(share * (1 - gone), 6) for share in bins.shares), gone)

    def count(self, matrix: NDArray[float32], cells: Iterable[_Sent]) -> NDArray[int64]:
        """Rows in each bin of each feature; then those without a value, not known and outside.

        :param matrix: the rows as the model takes them.
        :param cells: the same rows as they were sent.
        """
        import numpy as np

        counts, start, sent = np.zeros(self.size, np.int64), 0, None
        for index, bins in enumerate(self._bins):
            values, end = matrix[:, index], start + bins.count
            if bins.is_number:
                missing, (low, high) = np.isnan(values), bins.limits
                places = np.where(missing, bins.count, np.searchsorted(bins.ends, values))
                counts[end + _OUTSIDE] = ((values < low) | (values > high)).sum()
            else:
                places = bins.places[values.astype(np.intp)]
                nowhere = (values == UNKNOWN).nonzero()[0].tolist()
                if nowhere:
                    sent = list(cells) if sent is None else sent
                    name = self.expected[index].name
                    counts[end + _UNKNOWN] = sum(bins.is_unknown(_cell(sent[row], name)) for row in nowhere)
            counts[start : end + 1] = np.bincount(places, minlength=bins.count + 1)
            counts[end + _MISSING] -= counts[end + _UNKNOWN]
            start = end + MORE
        return counts

    def unusual(self, counts: NDArray[int64], rows: int) -> Unusual:
        """What is unusual in the rows that were counted.

        :param counts: see :meth:`count`.
        :param rows: how many.
        """
        ends, end = [], 0
        for bins in self._bins:
            ends.append(end + bins.count)
            end += bins.count + MORE
        return Unusual(rows, *(sum(int(counts[end + more]) for end in ends) for more in (_UNKNOWN, _OUTSIDE)))


def _cell(row: _Sent, name: str) -> Any:
    cells, names = row
    return cells[names.index(name)] if name in names else None
