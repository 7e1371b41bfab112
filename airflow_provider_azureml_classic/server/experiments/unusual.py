"""Cells that a model did not see in its training: categories that it does not know, numbers outside their range."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_azureml_classic.server.experiments.schema import UNKNOWN

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray


class Unusual(NamedTuple):
    """What is unusual in the rows of a call.

    :param rows: rows that were looked at.
    :param unknown: cells whose category the model does not know; missing ones are not counted.
    :param outside: numbers below the smallest or above the largest of the training.
    """

    rows: int
    unknown: int
    outside: int


class UnusualCells:
    """Counts them, of all calls since the start. Safe to be used by several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.total = Unusual(0, 0, 0)

    def add(self, call: Unusual) -> Unusual:
        """Count a call.

        :param call: what is unusual in it.
        :return: the same.
        """
        with self._lock:
            self.total = Unusual(*(before + more for before, more in zip(self.total, call, strict=True)))
        return call


class Ranges:
    """What a model saw in its training.

    :param bounds: for each feature its smallest and largest number; ``None`` for a category.
    :param missing: for each feature the texts that mean "no value".
    :param offsets: of the features, if there are any: a matrix has its numbers without them.
    """

    def __init__(
        self,
        bounds: Sequence[tuple[float, float] | None],
        missing: Sequence[frozenset[str]],
        offsets: Sequence[float],
    ) -> None:
        self._bounds, self._offsets = bounds, offsets
        self._numbers = [(index, *bound) for index, bound in enumerate(bounds) if bound is not None]
        self._texts = [index for index, bound in enumerate(bounds) if bound is None]
        self._missing = missing

    def in_rows(
        self, rows: Sequence[Sequence[float]], cells: Sequence[Sequence[Any]], places: Sequence[int | None]
    ) -> Unusual:
        """What is unusual in a few rows.

        :param rows: as they are encoded, before any offset.
        :param cells: as they were sent.
        :param places: position of each feature among the cells; ``None``: it was not sent.
        """
        unknown = outside = 0
        for row, sent in zip(rows, cells, strict=True):
            for index, smallest, largest in self._numbers:
                # A missing number is neither.
                outside += row[index] < smallest or row[index] > largest
            for index in self._texts:
                if row[index] == UNKNOWN:
                    unknown += self._is_unknown(index, places[index], sent)
        return Unusual(len(rows), unknown, outside)

    def in_matrix(
        self, matrix: NDArray[float32], cells: Sequence[Sequence[Any]], places: Sequence[int | None]
    ) -> Unusual:
        """What is unusual in many rows.

        :param matrix: as the model takes them.
        :param cells: as they were sent.
        :param places: see :meth:`in_rows`.
        """
        smallest, largest = self._limits
        outside = (matrix < smallest).sum() + (matrix > largest).sum()
        unknown = 0
        for index in self._texts:
            for row in (matrix[:, index] == UNKNOWN).nonzero()[0].tolist():
                unknown += self._is_unknown(index, places[index], cells[row])
        return Unusual(len(matrix), unknown, int(outside))

    @cached_property
    def _limits(self) -> NDArray[float32]:
        """Smallest and largest numbers, as the matrix has them."""
        import numpy as np

        bounds = np.array([bound or (-np.inf, np.inf) for bound in self._bounds], np.float64).T
        shifted = bounds - np.array(self._offsets, np.float64) if self._offsets else bounds
        return shifted.astype(np.float32)

    def _is_unknown(self, index: int, place: int | None, cells: Sequence[Any]) -> bool:
        if place is None or cells[place] is None:
            return False
        cell = cells[place]
        return not (isinstance(cell, str) and cell.strip() in self._missing[index])
