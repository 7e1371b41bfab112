"""Many rows through boosted trees at once: each tree is a table of bits, and no row is led from node to node.

A bit stands for a leaf, in their order from left to right. A split that a row fails cannot lead to the leaves on its
true side, so their bits are cleared; the lowest bit that is left after all splits is the row's leaf. What the splits of
one feature leave depends only on between which of its thresholds a value lies, so it is one row of a table for all
trees (Lucchese et al., "QuickScorer", SIGIR 2015; here over columns of rows, in numpy). ONNX Runtime walks, and waits
at each node for a branch that nobody can foresee: five times as long for the hundred trees of the Census Model.

The sums are made in the order of ONNX Runtime, in 32 bits, so that both give the same number to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_azureml_classic.server.experiments.ensemble import Unsuitable
from airflow_provider_azureml_classic.server.experiments.forest import Forest, Run, probes, same

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

#: Bytes that the tables of one model may take: enough for a hundred trees of 31 leaves, whatever their thresholds.
_LARGEST = 3 << 19
#: Rows at a time: what is made for them stays in the processor's cache.
_STEP = 256
#: Rows that must be answered like ONNX Runtime answers them.
_PROBES = 512


@dataclass(frozen=True)
class _Feature:
    """The splits of one feature.

    :param position: of its column.
    :param thresholds: sorted, ending with infinity, after which missing values are sorted.
    :param left: leaves that are left, thresholds + 1 by trees; the last row is of missing values.
    """

    position: int
    thresholds: NDArray[Any]
    left: NDArray[Any]


class BitTrees:
    """Answers as a session of the same graph does.

    :param forest: the trees.
    :raises Unsuitable: its tables would be too large.
    """

    def __init__(self, forest: Forest) -> None:
        import numpy as np

        self._forest = forest
        self._word = forest.word
        self._trees = len(forest.starts)
        self._features = _tables(forest)
        self._base = np.float32(forest.base)

    @property
    def nbytes(self) -> int:
        """Bytes that the tables take."""
        return sum(one.left.nbytes + one.thresholds.nbytes for one in self._features)

    def __call__(self, matrix: NDArray[float32]) -> list[NDArray[Any]]:
        """The outputs of the graph.

        :param matrix: encoded rows.
        """
        return self._forest.outputs(self._scores(matrix))

    def agrees(self, run: Run, features: int) -> bool:
        """Whether the session gives the same answers to rows on, between and beside all thresholds.

        :param run: the session's call.
        :param features: columns of a row.
        """
        rows = probes(self._forest, features, _PROBES)
        return same(self(rows), run(rows))

    def _scores(self, matrix: NDArray[float32]) -> NDArray[float32]:
        import numpy as np

        scores = np.empty(len(matrix), np.float32)
        places = [np.searchsorted(one.thresholds, matrix[:, one.position]) for one in self._features]
        # Room for all parts: memory that is new costs more than what is done with it.
        shape = (min(_STEP, len(matrix)), self._trees)
        left, other = np.empty(shape, self._word.bits), np.empty(shape, self._word.bits)
        room = left, other, other.view(self._word.number), np.empty(shape, np.float32)
        for start in range(0, len(matrix), _STEP):
            part = slice(start, min(start + _STEP, len(matrix)))
            rows = part.stop - start
            scores[part] = self._sums([place[part] for place in places], *(one[:rows] for one in room))
        return scores

    def _sums(
        self,
        places: Sequence[NDArray[Any]],
        left: NDArray[Any],
        other: NDArray[Any],
        number: NDArray[Any],
        values: NDArray[Any],
    ) -> NDArray[float32]:
        import numpy as np

        # "clip" only skips a check: all places are inside.
        self._features[0].left.take(places[0], axis=0, out=left, mode="clip")
        for feature, place in zip(self._features[1:], places[1:], strict=True):
            feature.left.take(place, axis=0, out=other, mode="clip")
            np.bitwise_and(left, other, out=left)
        np.bitwise_and(left, np.negative(left, out=other), out=left)
        np.copyto(number, left, casting="unsafe")
        leaf = number.view(self._word.integer)
        np.right_shift(leaf, self._word.shift, out=leaf)
        np.add(leaf, self._forest.offsets, out=leaf)
        self._forest.leaves.ravel().take(leaf, out=values, mode="clip")
        # Tree after tree, as ONNX Runtime adds: a sum along the rows would be made in pairs.
        total: NDArray[float32] = np.add.reduce(np.ascontiguousarray(values.T), axis=0)
        return total + self._base


def _tables(forest: Forest) -> list[_Feature]:
    import numpy as np

    trees = len(forest.starts)
    # Those that all pass are not the features' own, but where there is no other.
    real = np.ones(len(forest.features), bool)
    real[forest.starts] = False
    features = np.unique(forest.features[real]) if real.any() else np.zeros(1, np.int64)
    splits = [np.flatnonzero(real & (forest.features == feature)) for feature in features]
    thresholds = [np.unique(np.append(forest.thresholds[one], np.float32(np.inf))) for one in splits]
    size = sum(len(values) + 1 for values in thresholds) * trees * np.dtype(forest.word.bits).itemsize
    if size > _LARGEST:
        raise Unsuitable(f"its tables would take {size} bytes")
    return [
        _Feature(int(feature), values, _left(forest, one, values))
        for feature, one, values in zip(features, splits, thresholds, strict=True)
    ]


def _left(forest: Forest, splits: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    trees = np.searchsorted(forest.starts, splits, side="right") - 1
    left = np.full((len(values) + 1, len(forest.starts)), ~np.dtype(forest.word.bits).type(0))
    places = np.searchsorted(values, forest.thresholds[splits])
    # What is above infinity is nothing but a missing value, which the last row is of.
    above = places + 1 < len(values)
    np.bitwise_and.at(left, (places[above] + 1, trees[above]), forest.kept[splits][above])
    fails = np.ones(len(splits), bool) if forest.missing_passes is None else ~forest.missing_passes[splits]
    np.bitwise_and.at(left, (-1, trees[fails]), forest.kept[splits][fails])
    # A value above a threshold is above all lower ones.
    np.bitwise_and.accumulate(left[:-1], axis=0, out=left[:-1])
    return left
