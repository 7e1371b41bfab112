"""Many rows through boosted trees at once: each tree is a table of bits, and no row is led from node to node.

A bit stands for a leaf, in their order from left to right. A split that a row fails cannot lead to the leaves on its
true side, so their bits are cleared; the lowest bit that is left after all splits is the row's leaf. What the splits of
one feature leave depends only on between which of its thresholds a value lies, so it is one row of a table for all
trees (Lucchese et al., "QuickScorer", SIGIR 2015; here over columns of rows, in numpy). ONNX Runtime walks, and waits
at each node for a branch that nobody can foresee: five times as long for the hundred trees of the Census Model.

The sums are made in the order of ONNX Runtime, in 32 bits, so that both give the same number to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

Run = Callable[["NDArray[float32]"], list["NDArray[Any]"]]

#: Bytes that the tables of one model may take: enough for a hundred trees of 31 leaves, whatever their thresholds, and
#: so few that those of all loaded models stay below a gigabyte.
_LARGEST = 3 << 19
#: Rows at a time: what is made for them stays in the processor's cache.
_STEP = 256
#: Rows that must be answered like ONNX Runtime answers them.
_PROBES = 512
#: Share of the last bit by which the exponential function of a C library may miss.
_DOUBT = 0.005


#: Comparisons, each as "at most": whether what passes and what fails change places, and whether the threshold is the
#: next lower number. scikit-learn and LightGBM write the first, XGBoost "below", CatBoost "above".
_MODES = {
    b"BRANCH_LEQ": (False, False),
    b"BRANCH_LT": (False, True),
    b"BRANCH_GT": (True, False),
    b"BRANCH_GTE": (True, True),
}


class Unsuitable(Exception):
    """This graph is left to ONNX Runtime."""


class _Word(NamedTuple):
    """Types of as many bits as a tree may have leaves, and where a number of this size keeps its exponent."""

    bits: str
    number: str
    integer: str
    shift: int
    bias: int


_WORDS = {32: _Word("u4", "f4", "i4", 23, 127), 64: _Word("u8", "f8", "i8", 52, 1023)}


class _Split(NamedTuple):
    """A node with a threshold; what fails it clears ``bits``."""

    feature: int
    threshold: float
    tree: int
    bits: int
    missing_passes: bool


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

    :param graph: one ensemble of boosted trees with one output: a regression, or a classification of two classes.
    :param run: the session's call, for the few rows whose rounding is in doubt.
    :raises Unsuitable: the graph has another form, or is too large.
    """

    def __init__(self, graph: bytes, run: Run) -> None:
        import numpy as np

        attributes = _ensemble(graph)
        self._run = run
        self._classes = attributes.get("classlabels_int64s")
        splits, leaves = _read(attributes)
        width = next(width for width in _WORDS if width >= max(map(len, leaves)))
        self._word = _WORDS[width]
        self._trees = len(leaves)
        self._features = _tables(splits, self._trees, self._word.bits)
        self._leaves = np.zeros((self._trees, width), np.float32)
        for tree, values in enumerate(leaves):
            self._leaves[tree, : len(values)] = values
        # The exponent of the lowest bit, which is a power of two, is its place, but for the bias.
        self._offsets = (np.arange(self._trees) * width - self._word.bias).astype(self._word.integer)
        self._base = np.float32((attributes.get("base_values") or [0])[0])

    def __call__(self, matrix: NDArray[float32]) -> list[NDArray[Any]]:
        """The outputs of the graph.

        :param matrix: encoded rows.
        """
        import numpy as np

        scores = self._scores(matrix)
        if self._classes is None:
            return [scores[:, None]]
        labels = np.where(scores > 0, self._classes[1], self._classes[0])
        probability, doubtful = _logistic(scores)
        probabilities = np.stack([np.float32(1) - probability, probability], axis=1)
        if len(doubtful):
            probabilities[doubtful] = self._run(matrix[doubtful])[1]
        return [labels, probabilities]

    def agrees(self, features: int) -> bool:
        """Whether the session gives the same answers to rows on, between and beside all thresholds.

        :param features: columns of a row.
        """
        import numpy as np

        random = np.random.default_rng(0)
        rows = np.zeros((_PROBES, features), np.float32)
        for feature in self._features:
            values = feature.thresholds[:-1]
            around = [values, np.nextafter(values, np.float32(np.inf)), np.array([np.nan, -3e38, 3e38], np.float32)]
            rows[:, feature.position] = random.choice(np.concatenate(around), _PROBES)
        return all(np.array_equal(mine, theirs) for mine, theirs in zip(self(rows), self._run(rows), strict=True))

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
        np.add(leaf, self._offsets, out=leaf)
        self._leaves.ravel().take(leaf, out=values, mode="clip")
        # Tree after tree, as ONNX Runtime adds: a sum along the rows would be made in pairs.
        total: NDArray[float32] = np.add.reduce(np.ascontiguousarray(values.T), axis=0)
        return total + self._base


def _logistic(scores: NDArray[float32]) -> tuple[NDArray[float32], NDArray[Any]]:
    """The logistic function as ONNX Runtime computes it, and the rows where its last bit is in doubt: C libraries round
    the exponential function the other way where the value lies almost in the middle between two numbers.
    """
    import numpy as np

    exact = np.exp(-np.abs(scores).astype(np.float64))
    rounded = exact.astype(np.float32)
    off = np.abs(exact - rounded) / np.spacing(rounded)
    doubtful = np.flatnonzero(np.abs(off - 0.5) < _DOUBT)
    one = np.float32(1)
    part = one / (one + rounded)
    return np.where(scores < 0, one - part, part), doubtful


def _ensemble(graph: bytes) -> dict[str, Any]:
    """The attributes of the graph's only node, but for such that rename an output."""
    import onnx

    nodes = [node for node in onnx.load_from_string(graph).graph.node if node.op_type != "Identity"]
    if len(nodes) != 1 or nodes[0].op_type not in ("TreeEnsembleRegressor", "TreeEnsembleClassifier"):
        raise Unsuitable("more than one ensemble of trees")
    found = {one.name: onnx.helper.get_attribute_value(one) for one in nodes[0].attribute}
    classifies = nodes[0].op_type == "TreeEnsembleClassifier"
    kind = "class" if classifies else "target"
    if found["post_transform"] != (b"LOGISTIC" if classifies else b"NONE"):
        raise Unsuitable("no boosted trees")
    if set(found[f"{kind}_ids"]) != {0} or found.get("aggregate_function", b"SUM") != b"SUM":
        raise Unsuitable("more than one output")
    if classifies and len(found["classlabels_int64s"]) != 2:
        raise Unsuitable("not two classes")
    if not set(found["nodes_modes"]) <= {*_MODES, b"LEAF"}:
        raise Unsuitable("other comparisons")
    names = {f"{kind}_{name}": f"leaf_{name}" for name in ("treeids", "nodeids", "weights")}
    return {names.get(name, name): value for name, value in found.items()}


def _as_at_most(
    mode: bytes, feature: int, threshold: float, passed: int, failed: int, missing: int
) -> tuple[bytes, int, float, int, int, bool]:
    """A node as one that passes what is at most its threshold."""
    import numpy as np

    swapped, below = _MODES.get(mode, (False, False))
    if below:
        threshold = float(np.nextafter(np.float32(threshold), np.float32(-np.inf)))
    if swapped:
        passed, failed = failed, passed
    return mode, feature, threshold, passed, failed, bool(missing) != swapped


def _read(attributes: Mapping[str, Any]) -> tuple[list[_Split], list[list[float]]]:
    """All splits, and the values of each tree's leaves from left to right."""
    keys = list(zip(attributes["nodes_treeids"], attributes["nodes_nodeids"], strict=True))
    rows = zip(
        attributes["nodes_modes"],
        attributes["nodes_featureids"],
        attributes["nodes_values"],
        attributes["nodes_truenodeids"],
        attributes["nodes_falsenodeids"],
        attributes.get("nodes_missing_value_tracks_true") or [0] * len(keys),
        strict=True,
    )
    nodes = dict(zip(keys, starmap(_as_at_most, rows), strict=True))
    ends = zip(attributes["leaf_treeids"], attributes["leaf_nodeids"], strict=True)
    weights = dict(zip(ends, attributes["leaf_weights"], strict=True))
    splits: list[_Split] = []
    leaves: list[list[float]] = []

    def walk(tree: int, node: int, found: list[float]) -> None:
        mode, feature, threshold, passed, failed, missing = nodes[tree, node]
        if mode == b"LEAF":
            found.append(weights[tree, node])
            if len(found) > max(_WORDS):  # at once: nodes with two parents would be walked for ever
                raise Unsuitable("a tree has more leaves than a word has bits")
            return
        first = len(found)
        walk(tree, passed, found)
        bits = (1 << len(found)) - (1 << first)
        walk(tree, failed, found)
        splits.append(_Split(feature, threshold, len(leaves), bits, missing))

    # The first node of a tree is its root, and trees are added in this order.
    roots = dict(reversed(keys))
    for tree in dict(keys):
        found: list[float] = []
        walk(tree, roots[tree], found)
        leaves.append(found)
    return splits, leaves


def _tables(splits: Sequence[_Split], trees: int, bits: str) -> list[_Feature]:
    import numpy as np

    by_feature: dict[int, list[_Split]] = {}
    for split in splits:
        by_feature.setdefault(split.feature, []).append(split)
    thresholds = {
        feature: np.unique(np.array([*(one.threshold for one in found), np.inf], np.float32))
        for feature, found in by_feature.items()
    }
    size = sum(len(values) + 1 for values in thresholds.values()) * trees * np.dtype(bits).itemsize
    if not 0 < size <= _LARGEST:
        raise Unsuitable(f"its tables would take {size} bytes")
    return [_table(feature, by_feature[feature], thresholds[feature], trees, bits) for feature in sorted(by_feature)]


def _table(feature: int, splits: Sequence[_Split], values: NDArray[Any], trees: int, bits: str) -> _Feature:
    import numpy as np

    every = int(np.iinfo(bits).max)
    left = np.full((len(values) + 1, trees), every, bits)
    places = np.searchsorted(values, np.array([split.threshold for split in splits], np.float32)).tolist()
    for split, place in zip(splits, places, strict=True):
        kept = np.dtype(bits).type(every & ~split.bits)
        if place + 1 < len(values):
            left[place + 1, split.tree] &= kept
        if not split.missing_passes:
            left[-1, split.tree] &= kept
    # A value above a threshold is above all lower ones.
    np.bitwise_and.accumulate(left[:-1], axis=0, out=left[:-1])
    return _Feature(feature, values, left)
