"""The attributes of an ensemble of boosted trees, read from the bytes of a graph at once: six thousand nodes have fifty
thousand numbers, for which a loop takes longer than ONNX Runtime takes for a session, and the library that reads all of
ONNX is large.

https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_azureml_classic.server.experiments import graph_rules
from airflow_provider_azureml_classic.server.experiments.graph_rules import Malformed, Node

if TYPE_CHECKING:
    from numpy import float32, int64
    from numpy.typing import NDArray

#: Members of an attribute: its name, a text, and lists of floats, whole numbers and texts.
_NAME, _TEXT, _FLOATS, _INTS, _TEXTS = 1, 4, 7, 8, 9
#: Tags of items that are written one by one.
_FLOAT, _INT = _FLOATS << 3 | 5, _INTS << 3
_TYPES = b"\xa0\x01"
#: Comparisons of nodes, and the ends of trees.
MODES = (b"BRANCH_LEQ", b"BRANCH_LT", b"BRANCH_GT", b"BRANCH_GTE", b"LEAF")
LEAF = MODES.index(b"LEAF")


class Unsuitable(Exception):
    """This graph is left to ONNX Runtime."""


def ensemble(graph: bytes) -> dict[str, Any]:
    """The attributes of a graph's only node, but for such that rename an output; those of leaves are called ``leaf_``,
    and modes are positions in :data:`MODES`.

    :param graph: an ONNX model.
    :raises Unsuitable: it is something else than boosted trees with one output.
    """
    try:
        nodes = [node for node in graph_rules.nodes(graph) if node.kind != ("", "Identity")]
        if len(nodes) != 1 or nodes[0].kind[1] not in ("TreeEnsembleRegressor", "TreeEnsembleClassifier"):
            raise Unsuitable("more than one ensemble of trees")
        return _attributes(nodes[0])
    except (Malformed, UnicodeError, IndexError, KeyError, ValueError) as error:
        raise Unsuitable(f"it is written in another way: {error}") from None


def _attributes(node: Node) -> dict[str, Any]:
    messages = {str(message[2 : 2 + message[1]], "utf-8"): message for message in node.attributes}
    classifies = node.kind[1] == "TreeEnsembleClassifier"
    kind = "class" if classifies else "target"
    if _text(messages["post_transform"]) != (b"LOGISTIC" if classifies else b"NONE"):
        raise Unsuitable("no boosted trees")
    if "aggregate_function" in messages and _text(messages["aggregate_function"]) != b"SUM":
        raise Unsuitable("trees that are not added")
    numbers = ("nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_truenodeids", "nodes_falsenodeids")
    leaves = (f"{kind}_treeids", f"{kind}_nodeids", f"{kind}_ids")
    optional = ("nodes_missing_value_tracks_true", "classlabels_int64s")
    found: dict[str, Any] = {name: ints(messages[name]) for name in (*numbers, *leaves)}
    found |= {name: ints(messages[name]) for name in optional if name in messages}
    found |= {name: floats(messages[name]) for name in ("nodes_values", f"{kind}_weights")}
    if "base_values" in messages:
        found["base_values"] = floats(messages["base_values"])
    if found[f"{kind}_ids"].any():
        raise Unsuitable("more than one output")
    if classifies and len(found.get("classlabels_int64s", ())) != 2:
        raise Unsuitable("not two classes")
    found["nodes_modes"] = _modes(messages["nodes_modes"])
    names = {f"{kind}_{name}": f"leaf_{name}" for name in ("treeids", "nodeids", "weights")}
    return {names.get(name, name): value for name, value in found.items()}


def _text(message: memoryview) -> bytes:
    return bytes(dict(graph_rules.fields(message))[_TEXT])


def _items(message: memoryview) -> bytes:
    """The items of a list, without the attribute's name before and its kind after them."""
    content = bytes(message)
    if content[0] != _NAME << 3 | 2 or content[1] > 127:
        raise Malformed("an attribute begins with something else than its name")
    content = content[2 + content[1] :]
    return content[:-3] if content[-3:-1] == _TYPES else content


def ints(message: memoryview) -> NDArray[int64]:
    """The whole numbers of an attribute.

    :param message: its bytes.
    :raises Malformed: it has others.
    """
    import numpy as np

    content = np.frombuffer(_items(message), np.uint8)
    ends = np.flatnonzero(content < 128)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if not len(content) or ends[-1] != len(content) - 1 or (ends - starts).max() > 9:
        raise Malformed("an attribute is cut")
    shifts = 7 * (np.arange(len(content)) - np.repeat(starts, ends - starts + 1))
    values = np.add.reduceat((content & 127).astype(np.int64) << shifts, starts)
    if len(values) % 2 or (values[::2] != _INT).any():
        raise Malformed("an attribute has something else than whole numbers")
    return values[1::2]


def floats(message: memoryview) -> NDArray[float32]:
    """The floats of an attribute.

    :param message: its bytes.
    :raises Malformed: it has others.
    """
    import numpy as np

    items = np.frombuffer(_items(message), [("tag", "u1"), ("value", "<f4")])
    if (items["tag"] != _FLOAT).any():
        raise Malformed("an attribute has something else than floats")
    return np.ascontiguousarray(items["value"])


def _modes(message: memoryview) -> NDArray[int64]:
    import numpy as np

    tag = bytes([_TEXTS << 3 | 2])
    # No mode has the letter of the tag.
    words = _items(message).split(tag)[1:]
    places = {bytes([len(mode)]) + mode: place for place, mode in enumerate(MODES)}
    if not set(words) <= set(places):
        raise Unsuitable("other comparisons")
    return np.fromiter(map(places.__getitem__, words), np.int64, len(words))
