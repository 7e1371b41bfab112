"""The ONNX graph of a model file that answers: by a session of ONNX Runtime, and for many rows by its trees' bits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.server.experiments import bit_trees, conversion
from airflow_provider_azureml_classic.server.experiments.declaration import CLASSIFICATION
from airflow_provider_azureml_classic.server.experiments.ilearner import Manifest

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

#: From so many rows in one call on, tables of bits are faster than walking.
MANY = 200
#: Rows in such calls after which they have paid for making the tables.
ENOUGH = 10_000


class Graph:
    """Answers to encoded rows. Safe to be used by several threads at once.

    :param manifest: what the model file says.
    :param content: the graph.
    :param reread: gives ``content`` again; without it, no tables are made.
    :raises RequestRejected: ``ModelInvalid``: manifest and graph do not fit each other.
    """

    def __init__(self, manifest: Manifest, content: bytes, reread: Callable[[], bytes] | None = None) -> None:
        self._run = _runner(manifest, content)
        self._features = len(manifest.schema.features)
        self._rows = 0
        self._trees: bit_trees.BitTrees | None = None
        self._reread = reread
        self._once = threading.Lock()

    def __call__(self, matrix: NDArray[float32]) -> list[NDArray[Any]]:
        """Numbers, or positions of classes and, if the model gives them, their probabilities.

        :param matrix: one row at least.
        """
        if len(matrix) < MANY:
            return self._run(matrix)
        self._rows += len(matrix)
        if self._rows >= ENOUGH and self._reread is not None:
            self._begin()
        trees = self._trees
        return trees(matrix) if trees else self._run(matrix)

    def _begin(self) -> None:
        """Make the tables in a thread: whoever calls may be the event loop, which nothing may hold up."""
        with self._once:
            reread, self._reread = self._reread, None
        if reread is not None:
            threading.Thread(target=self._make, args=(reread,), name="trees").start()

    def _make(self, reread: Callable[[], bytes]) -> None:
        """Keep tables if the graph has nothing but trees and both ways give the same answers."""
        # Who updates an endpoint chooses the graph: whatever the session took may be in it.
        with suppress(Exception):
            trees = bit_trees.BitTrees(reread(), self._run)
            self._trees = trees if trees.agrees(self._features) else None


def _runner(manifest: Manifest, graph: bytes) -> Callable[[NDArray[float32]], list[NDArray[Any]]]:
    """The session's call, after one row of nothing has shown that graph and manifest fit."""
    import numpy as np

    _check_self_contained(graph)
    try:
        session = conversion.session(graph)
        outputs = [output.name for output in session.get_outputs()][: 2 if manifest.probabilities else 1]
        answers = session.run(outputs, {conversion.INPUT: np.zeros((1, len(manifest.schema.features)), np.float32)})
        fits = _fits(manifest, answers)
    except Exception as error:  # onnxruntime's errors have no common base
        raise _invalid(" ".join(str(error).split())[:300]) from None
    if not fits:
        raise _invalid("the graph's outputs are not those that the manifest describes")
    run = session.run
    return lambda matrix: run(outputs, {conversion.INPUT: matrix})


def _fits(manifest: Manifest, answers: list[NDArray[Any]]) -> bool:
    classes = manifest.schema.classes
    if manifest.task != CLASSIFICATION:
        return answers[0].size == 1 and answers[0].dtype.kind == "f"
    if answers[0].size != 1 or answers[0].dtype.kind not in "iu":
        return False
    known = len(classes) != 2 or manifest.positive in classes
    return known and (not manifest.probabilities or answers[1].shape == (1, len(classes)))


def _check_self_contained(graph: bytes) -> None:
    # A tensor may name a file to be read; a model from elsewhere must not choose files of this server. The key is
    # written as it is, so a graph without these bytes has none, and the library, which is large, is not needed.
    if b"location" not in graph:
        return
    import onnx

    try:
        model = onnx.load_from_string(graph)
    except Exception as error:
        raise _invalid(str(error)[:200]) from None
    if any(getattr(message, "external_data", None) for message in _messages(model)):
        raise _invalid("the graph refers to files outside of it")


def _messages(message: Any) -> Iterator[Any]:
    """A Protocol Buffers message and all messages in it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for item in [value] if hasattr(value, "ListFields") else value:
                yield from _messages(item)


def _invalid(reason: str) -> AzureMLClassicError:
    return rejection("ModelInvalid", f"The trained model cannot be used: {reason}. Train it again.")
