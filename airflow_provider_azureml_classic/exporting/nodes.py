"""Nodes and constants of an ONNX graph that is being put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: Domain of the operators of machine learning.
ML = "ai.onnx.ml"
_OURS = "columns/"


class Nodes:
    """What has been put together so far.

    :ivar nodes: in an order in which they can run.
    :ivar constants: that they take.
    """

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._known: dict[Any, str] = {}

    def extend(self, graph: Any) -> None:
        """Take in another graph.

        :param graph: whose names are not used here.
        """
        self.nodes += graph.node
        self.constants += graph.initializer

    def add(
        self, operator: str, inputs: Sequence[str], *, output: str = "", domain: str = "", **attributes: Any
    ) -> str:
        """Add a node of one output; returns the name of that.

        :param operator: of ONNX.
        :param inputs: names of what it takes.
        :param output: what its result is called; a new name by default.
        :param domain: of the operator.
        :param attributes: of the operator.
        """
        import onnx

        result = output or self._new()
        self.nodes.append(onnx.helper.make_node(operator, list(inputs), [result], domain=domain, **attributes))
        return result

    def _new(self) -> str:
        return f"{_OURS}{len(self.nodes)}.{len(self.constants)}"

    def split(self, texts: str, sign: str) -> tuple[str, str]:
        """What stands before the first of a sign in each text, and what stands after it.

        :param texts: name of a tensor, rows by 1, of which one has the sign at least.
        :param sign: one letter or more.
        """
        import onnx

        parts, counts = self._new(), f"{self._new()}.counts"
        node = onnx.helper.make_node("StringSplit", [texts], [parts, counts], delimiter=sign, maxsplit=1)
        self.nodes.append(node)
        return self.add("Gather", [parts, self.number(0)], axis=-1), self.add(
            "Gather", [parts, self.number(1)], axis=-1
        )

    def lookup(self, texts: str, numbers: Mapping[str, float], otherwise: float) -> str:
        """The number of each text.

        :param texts: name of a tensor.
        :param numbers: by text.
        :param otherwise: of all other texts.
        """
        keys, values = list(numbers), list(numbers.values())
        return self.add(
            "LabelEncoder", [texts], domain=ML, default_float=otherwise, keys_strings=keys, values_floats=values
        )

    def spell(self, codes: str, texts: Sequence[str], *, output: str) -> str:
        """The text of each code.

        :param codes: name of a tensor of positions.
        :param texts: by position.
        :param output: what the result is called.
        """
        keys, values = list(range(len(texts))), list(texts)
        return self.add("LabelEncoder", [codes], output=output, domain=ML, keys_int64s=keys, values_strings=values)

    def cast(self, name: str, kind: str) -> str:
        """The same numbers in another type.

        :param name: of a tensor.
        :param kind: name of the type, as ONNX calls it.
        """
        import onnx

        return self.add("Cast", [name], to=getattr(onnx.TensorProto, kind))

    def number(self, value: int) -> str:
        """A whole number.

        :param value: of it.
        """
        return self._constant(("number", value), "INT64", [], [value])

    def numbers(self, values: Sequence[int]) -> str:
        """Whole numbers in one dimension.

        :param values: of them.
        """
        return self._constant(("numbers", *values), "INT64", [len(values)], values)

    def wide(self, value: float) -> str:
        """A number of 64 bits.

        :param value: of it.
        """
        return self._constant(("wide", repr(value)), "DOUBLE", [], [value])

    def narrow(self, value: float) -> str:
        """A number of 32 bits.

        :param value: of it.
        """
        return self._constant(("narrow", repr(value)), "FLOAT", [], [value])

    def text(self, value: str) -> str:
        """A text, in one row of one.

        :param value: of it.
        """
        return self._constant(("text", value), "STRING", [1, 1], [value.encode()])

    def _constant(self, key: Any, kind: str, shape: Sequence[int], values: Sequence[Any]) -> str:
        import onnx

        if key not in self._known:
            self._known[key] = f"{_OURS}constant{len(self._known)}"
            tensor = onnx.helper.make_tensor(self._known[key], getattr(onnx.TensorProto, kind), shape, values)
            self.constants.append(tensor)
        return self._known[key]
