"""Boosted trees in a few tens of kilobytes, and a few rows through them without a session of ONNX Runtime.

A session takes five times the bytes of its graph, over a megabyte for the hundred trees of the Census Model; here they
take 44 KB. Splits of all trees lie in one row, tree after tree. A bit stands for a leaf, in their order from left to
right; a split that a row fails clears the bits of the leaves on its true side, and the lowest bit that is left is the
row's leaf (Lucchese et al., "QuickScorer", SIGIR 2015).

The sums are made in the order of ONNX Runtime, in 32 bits, so that both give the same number to the last bit. Where a
graph may have been drawn by anybody, :meth:`Forest.agrees` proves it before use.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_azureml_classic.server.experiments.ensemble import LEAF, MODES, Unsuitable, ensemble

if TYPE_CHECKING:
    from numpy import bool_, float32, int64
    from numpy.typing import NDArray

Run = Callable[["NDArray[float32]"], list["NDArray[Any]"]]

#: Rows at a time: what is made for them stays in the processor's cache.
_STEP = 16
#: Rows that must be answered like ONNX Runtime answers them.
_PROBES = 128
#: Share of the last bit by which the exponential function of a C library may miss.
_DOUBT = 0.005

#: Comparisons of :data:`MODES`, each as "at most": those where what passes and what fails change places, and those
#: where the threshold is the next lower number. scikit-learn and LightGBM write the first, XGBoost "below", CatBoost
#: "above".
_SWAPPED = [MODES.index(b"BRANCH_GT"), MODES.index(b"BRANCH_GTE")]
_BELOW = [MODES.index(b"BRANCH_LT"), MODES.index(b"BRANCH_GTE")]


class Word(NamedTuple):
    """Types of as many bits as a tree may have leaves, and where a number of this size keeps its exponent."""

    bits: str
    number: str
    integer: str
    shift: int
    bias: int


WORDS = {32: Word("u4", "f4", "i4", 23, 127), 64: Word("u8", "f8", "i8", 52, 1023)}


@dataclass(frozen=True)
class Forest:
    """Answers as a session of the same graph does.

    :param word: as many bits as a tree may have leaves.
    :param starts: where each tree begins in the next four; each begins with a split that all rows pass.
    :param features: columns of the splits.
    :param thresholds: what passes is at most that.
    :param kept: bits of the leaves that are left to a row that fails.
    :param missing_passes: whether a missing value passes; ``None``: nowhere.
    :param leaves: values, trees by leaves.
    :param offsets: of each tree's leaves among all, less the bias of an exponent.
    :param base: added to their sum.
    :param classes: of a classification of two classes.
    """

    word: Word
    starts: NDArray[Any]
    features: NDArray[Any]
    thresholds: NDArray[float32]
    kept: NDArray[Any]
    missing_passes: NDArray[bool_] | None
    leaves: NDArray[float32]
    offsets: NDArray[Any]
    base: float
    classes: list[int] | None

    @classmethod
    def read(cls, graph: bytes) -> Forest:
        """The trees of a graph.

        :param graph: one ensemble of boosted trees with one output: a regression, or a classification of two classes.
        :raises Unsuitable: the graph has another form.
        """
        import numpy as np

        attributes = ensemble(graph)
        nodes = _Nodes(attributes)
        count, width = len(nodes.roots), next(width for width in WORDS if width >= nodes.most_leaves)
        word = WORDS[width]
        splits = np.flatnonzero(~nodes.ends)
        # One that all pass before those of each tree: no tree is without.
        trees = np.concatenate([np.arange(count), nodes.trees[splits]])
        order = np.argsort(trees, kind="stable")

        def in_order(first: Any, values: NDArray[Any]) -> NDArray[Any]:
            return np.concatenate([np.full(count, first, values.dtype), values])[order]

        thresholds = in_order(np.inf, nodes.thresholds[splits])
        features, missing = in_order(0, nodes.features[splits]), in_order(False, nodes.missing[splits])
        kept = in_order(np.iinfo(np.uint64).max, nodes.kept(splits))
        return cls(
            word,
            np.searchsorted(trees[order], np.arange(count)),
            features.astype(np.min_scalar_type(int(features.max()))),
            thresholds,
            kept.astype(word.bits),
            missing if missing.any() else None,
            nodes.leaves(width),
            (np.arange(count) * width - word.bias).astype(word.integer),
            float(attributes["base_values"][0]) if "base_values" in attributes else 0.0,
            attributes["classlabels_int64s"].tolist() if "classlabels_int64s" in attributes else None,
        )

    @property
    def nbytes(self) -> int:
        """Bytes that the trees take."""
        arrays = (
            self.starts,
            self.features,
            self.thresholds,
            self.kept,
            self.missing_passes,
            self.leaves,
            self.offsets,
        )
        return sum(array.nbytes for array in arrays if array is not None)

    def __call__(self, matrix: NDArray[float32]) -> list[NDArray[Any]]:
        """The outputs of the graph.

        :param matrix: encoded rows.
        """
        import numpy as np

        parts = [self._scores(matrix[start : start + _STEP]) for start in range(0, len(matrix), _STEP)]
        return self.outputs(parts[0] if len(parts) == 1 else np.concatenate(parts))

    def outputs(self, scores: NDArray[float32]) -> list[NDArray[Any]]:
        """The outputs of the graph for rows whose trees have been added.

        :param scores: the sums.
        """
        import numpy as np

        if self.classes is None:
            return [scores[:, None]]
        labels = np.where(scores > 0, *self.classes[::-1])
        probability = _logistic(scores)
        return [labels, np.stack([np.float32(1) - probability, probability], axis=1)]

    def agrees(self, run: Run, columns: int) -> bool:
        """Whether a session gives the same answers to rows on, between and beside all thresholds.

        :param run: the session's call.
        :param columns: of a row.
        """
        rows = probes(self, columns)
        one = rows[:1]
        return same(self(rows), run(rows)) and same(self(one), run(one))

    def _scores(self, matrix: NDArray[float32]) -> NDArray[float32]:
        import numpy as np

        cells = matrix.take(self.features, axis=1)
        passed = cells <= self.thresholds
        if self.missing_passes is not None and np.isnan(matrix).any():
            passed |= np.isnan(cells) & self.missing_passes
        bits = np.where(passed, ~self.kept.dtype.type(0), self.kept)
        left = np.bitwise_and.reduceat(bits, self.starts, axis=1)
        left &= np.negative(left)
        # The exponent of the lowest bit, which is a power of two, is its place, but for the bias.
        leaf = left.astype(self.word.number).view(self.word.integer) >> self.word.shift
        values = self.leaves.ravel().take(leaf + self.offsets)
        # Tree after tree, as ONNX Runtime adds: a sum would be made in pairs.
        total: NDArray[float32] = np.add.accumulate(values, axis=1)[:, -1]
        return total + np.float32(self.base)


def probes(forest: Forest, columns: int, count: int = _PROBES) -> NDArray[float32]:
    """Rows on, between and beside all thresholds.

    :param forest: the trees.
    :param columns: of a row.
    :param count: of rows.
    """
    import numpy as np

    random = np.random.default_rng(0)
    rows = np.zeros((count, columns), np.float32)
    for feature in np.unique(forest.features):
        values = forest.thresholds[(forest.features == feature) & np.isfinite(forest.thresholds)]
        with np.errstate(all="ignore"):
            above = np.nextafter(values, np.float32(np.inf))
        around = [values, above, np.array([np.nan, -3e38, 3e38], np.float32)]
        rows[:, feature] = random.choice(np.concatenate(around), count)
    return rows


def same(mine: list[NDArray[Any]], theirs: list[NDArray[Any]]) -> bool:
    """Whether two answers are equal in all bits.

    :param mine: outputs.
    :param theirs: outputs.
    """
    import numpy as np

    return len(mine) <= len(theirs) and all(map(np.array_equal, mine, theirs))


def _logistic(scores: NDArray[float32]) -> NDArray[float32]:
    """The logistic function as ONNX Runtime computes it: with ``expf`` of the C library, which rounds as it likes where
    the value lies almost in the middle between two numbers. It is asked there; elsewhere all round alike.
    """
    import numpy as np

    if len(scores) <= _STEP:
        rounded = np.array([_expf()(-abs(score)) for score in scores.tolist()], np.float32)
    else:
        rounded = _exponential(scores)
    one = np.float32(1)
    part = one / (one + rounded)
    return np.where(scores < 0, one - part, part)


def _exponential(scores: NDArray[float32]) -> NDArray[float32]:
    import numpy as np

    exact = np.exp(-np.abs(scores).astype(np.float64))
    rounded = exact.astype(np.float32)
    off = np.abs(exact - rounded) / np.spacing(rounded)
    for doubtful in np.flatnonzero(np.abs(off - 0.5) < _DOUBT).tolist():
        rounded[doubtful] = _expf()(-abs(float(scores[doubtful])))
    return rounded


@cache
def _expf() -> Callable[[float], float]:
    """``expf`` of the C library that this process has loaded.

    :raises Unsuitable: there is none.
    """
    for name in (None, "libm.so.6", "libm.dylib"):
        try:
            function = ctypes.CDLL(name).expf
        except (OSError, AttributeError):
            continue
        function.argtypes, function.restype = [ctypes.c_float], ctypes.c_float
        found: Callable[[float], float] = function
        return found
    raise Unsuitable("this system has no expf")


class _Nodes:
    """All nodes of all trees: arrays with one item for each, but for ``roots``.

    :param attributes: of the ensemble.
    :raises Unsuitable: they are no trees, or a tree has more leaves than a word has bits.
    :ivar roots: trees are added in this order; the first node of a tree is its root.
    """

    def __init__(self, attributes: Mapping[str, Any]) -> None:
        import numpy as np

        trees = attributes["nodes_treeids"]
        self._key = trees * (1 << 32) + attributes["nodes_nodeids"]
        self._sorted = np.argsort(self._key)
        names, first = np.unique(trees, return_index=True)
        by_place = np.argsort(first)
        self.roots = first[by_place]
        self.trees = np.argsort(by_place)[np.searchsorted(names, trees)]
        modes = attributes["nodes_modes"]
        self.ends = modes == LEAF
        self.features = attributes["nodes_featureids"]
        self._as_at_most(attributes, modes, trees)
        self._first, self._size = self._counted()
        places = self._places(attributes["leaf_treeids"], attributes["leaf_nodeids"])
        if sorted(places.tolist()) != np.flatnonzero(self.ends).tolist():
            raise Unsuitable("a leaf without a value, or with several")
        self._weights = places, attributes["leaf_weights"]

    @property
    def most_leaves(self) -> int:
        """Of one tree."""
        return int(self._size[self.roots].max())

    def _places(self, trees: NDArray[Any], numbers: NDArray[Any]) -> NDArray[int64]:
        import numpy as np

        key = trees.astype(np.int64) * (1 << 32) + numbers
        places: NDArray[int64] = self._sorted[
            np.searchsorted(self._key, key, sorter=self._sorted).clip(max=len(self._key) - 1)
        ]
        if (self._key[places] != key).any():
            raise Unsuitable("a node that is not there")
        return places

    def _as_at_most(self, attributes: Mapping[str, Any], modes: NDArray[Any], trees: NDArray[int64]) -> None:
        """Splits as such that pass what is at most their threshold."""
        import numpy as np

        swapped, values = np.isin(modes, _SWAPPED), attributes["nodes_values"]
        # Those below zero and below all numbers are unusual ones, of which numpy warns.
        with np.errstate(all="ignore"):
            self.thresholds = np.where(np.isin(modes, _BELOW), np.nextafter(values, np.float32(-np.inf)), values)
        inner = ~self.ends
        passed, failed = (np.full(len(trees), -1) for _ in range(2))
        for target, name in ((passed, "nodes_truenodeids"), (failed, "nodes_falsenodeids")):
            target[inner] = self._places(trees[inner], attributes[name][inner])
        self._passed, self._failed = np.where(swapped, failed, passed), np.where(swapped, passed, failed)
        missing = attributes.get("nodes_missing_value_tracks_true", np.zeros(len(trees), np.int64))
        self.missing = missing.astype(bool) != swapped

    def _counted(self) -> tuple[NDArray[int64], NDArray[int64]]:
        """Of each node: the first of its leaves, and how many there are."""
        import numpy as np

        inner = np.flatnonzero(~self.ends)
        parents = np.bincount(np.concatenate([self._passed[inner], self._failed[inner]]), minlength=len(self.ends))
        parents[self.roots] += 1
        if (parents != 1).any():
            raise Unsuitable("more leaves than a tree of so many nodes has: a node has several parents, or none")
        levels = [self.roots]
        while len(level := levels[-1][~self.ends[levels[-1]]]):
            # Each node has one parent: what is reached is reached once.
            levels.append(np.concatenate([self._passed[level], self._failed[level]]))
        if sum(map(len, levels)) != len(self.ends):
            raise Unsuitable("nodes that no root leads to")
        size, first = self.ends.astype(np.int64), np.zeros(len(self.ends), np.int64)
        for level in reversed(levels):
            at = level[~self.ends[level]]
            size[at] = size[self._passed[at]] + size[self._failed[at]]
        if size.max() > max(WORDS):
            raise Unsuitable("a tree has more leaves than a word has bits")
        for level in levels:
            at = level[~self.ends[level]]
            first[self._passed[at]] = first[at]
            first[self._failed[at]] = first[at] + size[self._passed[at]]
        return first, size

    def kept(self, splits: NDArray[int64]) -> NDArray[Any]:
        """Bits of the leaves that are left to what fails these splits.

        :param splits: places of nodes.
        """
        import numpy as np

        passed, one = self._passed[splits], np.uint64(1)
        bits = ((one << self._size[passed].astype(np.uint64)) - one) << self._first[passed].astype(np.uint64)
        return ~bits

    def leaves(self, width: int) -> NDArray[float32]:
        """Values of the leaves, trees by leaves.

        :param width: leaves of a tree, with those that it has not.
        """
        import numpy as np

        places, weights = self._weights
        values = np.zeros((len(self.roots), width), np.float32)
        values[self.trees[places], self._first[places]] = weights
        return values
