"""The ONNX graph of a model file that answers: by a session of ONNX Runtime, and for many rows by its trees' bits.

A graph that breaks :mod:`.graph_rules` is put in place no more. One that was put in place before is run for some
seconds at most, and never where it would hold up others.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, cause, rejection
from airflow_provider_azureml_classic.server.experiments import bit_trees, conversion, graph_rules
from airflow_provider_azureml_classic.server.experiments.declaration import CLASSIFICATION
from airflow_provider_azureml_classic.server.experiments.forest import Forest, Run
from airflow_provider_azureml_classic.server.experiments.ilearner import Manifest

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

#: From so many rows in one call on, tables of bits are faster than walking.
MANY = 200
#: Rows in such calls after which they have paid for making the tables.
ENOUGH = 10_000
#: Rows that trees without a session have answered when one is made again: it costs as much as some hundred rows.
WARM = 1_000
#: Bytes of a session: of any, and of one for each of its graph. Measured by ``python -m benchmarks.models``.
_SESSION_BYTES, _SESSION_FOR_EACH = 250_000, 6.0
#: Rows that a session is given at a time: at a model's trial, too, so that no call takes more memory than that.
STEP = 512
#: Bytes of distances between such rows and the largest constant of a graph.
_DISTANCES = 1 << 26
#: Seconds of a processor that a few rows may take where nobody else is served meanwhile.
AT_ONCE_SECONDS, _FEW = 0.005, 16
#: Seconds for a graph that breaks the rules.
LIMIT_SECONDS = 10.0
#: When whoever waits for the answer is told that it took too long, by the monotonic clock: a thread cannot be stopped.
DEADLINE: ContextVar[float] = ContextVar("deadline", default=float("inf"))


class Graph:
    """Answers to encoded rows. Safe to be used by several threads at once.

    :param manifest: what the model file says.
    :param content: the graph.
    :param reread: gives ``content`` again; without it nothing is made but the session, which stays.
    :raises RequestRejected: ``ModelInvalid``: manifest and graph do not fit each other.
    :ivar problem: the rule that the graph breaks.
    :ivar at_once: it answers a few rows so soon that others may wait meanwhile.
    """

    def __init__(self, manifest: Manifest, content: bytes, reread: Callable[[], bytes] | None = None) -> None:
        self.problem = graph_rules.problem(content)
        self._manifest = manifest
        self._features = len(manifest.schema.features)
        self._step = step_of(content)
        self._session_bytes = _SESSION_BYTES + int(_SESSION_FOR_EACH * len(content))
        run = self._opened(content)
        self.at_once = self.problem is None and self._step == STEP and _seconds(run, self._features) < AT_ONCE_SECONDS
        self._rows = self._without = 0
        self._trees: bit_trees.BitTrees | None = None
        self._reread = reread
        self._busy = threading.Lock()
        self._forest = _forest(content, run, self._features) if reread and self.problem is None else None
        self._run: Run | None = run

    @property
    def size(self) -> int:
        """Bytes that it takes in memory, as far as that can be told: of a session from its graph."""
        parts = self._forest, self._trees
        return (self._session_bytes if self._run else 0) + sum(part.nbytes for part in parts if part is not None)

    def slim(self) -> bool:
        """Do without the session and the tables, if the trees answer without; they are made again when they pay.

        :return: whether there is less in memory now.
        """
        if self._forest is None or (self._run is None and self._trees is None):
            return False
        self._run = self._trees = None
        self._rows = self._without = 0
        return True

    def __call__(self, matrix: NDArray[float32]) -> list[NDArray[Any]]:
        """Numbers, or positions of classes and, if the model gives them, their probabilities.

        :param matrix: one row at least.
        """
        run = self._run or self._without_session(len(matrix))
        if len(matrix) < MANY:
            return run(matrix)
        self._rows += len(matrix)
        if self._rows >= ENOUGH and self._forest is not None and self._trees is None:
            self._begin(self._make_tables)
        trees = self._trees
        return trees(matrix) if trees else _in_steps(run, matrix, self._step)

    def _without_session(self, rows: int) -> Run:
        """What answers without one: the trees; for many rows a session is made, which pays at once."""
        self._without += rows
        if rows > STEP:
            self._open_again()
        elif self._without >= WARM:
            self._begin(self._open_again)
        # Without trees, slim() has left the session.
        run: Any = self._run or self._forest
        return cast("Run", run)

    def _opened(self, content: bytes) -> Run:
        run = _runner(self._manifest, content, limited=self.problem is not None)
        return partial(_in_steps, run, step=self._step) if self._step < MANY else run

    def _begin(self, make: Callable[[], None]) -> None:
        """Make what is faster in a thread: whoever calls may be the event loop, which nothing may hold up."""
        if self._busy.acquire(blocking=False):
            threading.Thread(target=self._made, args=(make,), name="trees").start()

    def _made(self, make: Callable[[], None]) -> None:
        try:
            make()
        finally:
            self._busy.release()

    def _open_again(self) -> None:
        self._without = 0
        # Without its file, whatever the reason, the trees answer.
        with suppress(Exception):
            if self._run is None and self._reread is not None:
                self._run = self._opened(self._reread())

    def _make_tables(self) -> None:
        """Keep tables if both ways give the same answers."""
        forest, run = self._forest, self._run
        self._rows = -sys.maxsize  # once is enough
        # Who updates an endpoint chooses the graph: whatever the session took may be in it.
        with suppress(Exception):
            if forest is not None and run is not None:
                trees = bit_trees.BitTrees(forest)
                self._trees = trees if trees.agrees(run, self._features) else None


def _forest(graph: bytes, run: Run, features: int) -> Forest | None:
    """The trees of a graph, if it has nothing else and a session gives the same answers."""
    # Who updates an endpoint chooses the graph: whatever the session took may be in it.
    with suppress(Exception):
        forest = Forest.read(graph)
        return forest if forest.agrees(run, features) else None
    return None


def step_of(graph: bytes) -> int:
    """Rows that a graph is given at a time.

    :param graph: an ONNX model.
    """
    try:
        # Neighbours keep their training rows, and make a distance to each for each row.
        rows = graph_rules.largest_constant(graph) // 4
    except graph_rules.Malformed:
        return STEP
    return max(_FEW, min(STEP, _DISTANCES // max(1, 4 * rows)))


def _in_steps(run: Run, matrix: NDArray[float32], step: int) -> list[NDArray[Any]]:
    import numpy as np

    if len(matrix) <= step:
        return run(matrix)
    parts = []
    for start in range(0, len(matrix), step):
        # One step ends within the time of a trial; of many, nobody may wait for the answer any more.
        if time.monotonic() > DEADLINE.get():
            raise rejection("ScoreRequestTimeout", "Scoring took too long. Send fewer rows per call.")
        parts.append(run(matrix[start : start + step]))
    return [np.concatenate(answers) for answers in zip(*parts, strict=True)]


def _seconds(run: Run, features: int) -> float:
    """Seconds of this processor for a few rows; what else the machine does meanwhile does not count."""
    import numpy as np

    rows = np.zeros((_FEW, features), np.float32)
    start = time.thread_time()
    run(rows)
    return time.thread_time() - start


def _runner(manifest: Manifest, graph: bytes, *, limited: bool) -> Run:
    """The session's call, after one row of nothing has shown that graph and manifest fit."""
    _check_self_contained(graph)
    try:
        session = conversion.session(graph, as_written=limited)
        outputs = [output.name for output in session.get_outputs()][: 2 if manifest.probabilities else 1]
        run = _limited(session.run, outputs) if limited else _plain(session.run, outputs)
        fits = fits_rows(manifest, run, 1)
    except Exception as error:  # onnxruntime's errors have no common base
        raise _invalid(" ".join(str(error).split())[:300]) from None
    if not fits:
        raise _invalid("the graph's outputs are not those that the manifest describes")
    return run


def _plain(run: Callable[..., list[NDArray[Any]]], outputs: list[str]) -> Run:
    return lambda matrix: run(outputs, {conversion.INPUT: matrix})


def _limited(run: Callable[..., list[NDArray[Any]]], outputs: list[str]) -> Run:
    """A call that ends after some seconds; ONNX Runtime looks whether it shall between two operators."""

    def call(matrix: NDArray[float32]) -> list[NDArray[Any]]:
        options = conversion.run_options()
        timer = threading.Timer(LIMIT_SECONDS, setattr, (options, "terminate", True))
        timer.daemon = True
        timer.start()
        try:
            return run(outputs, {conversion.INPUT: matrix}, options)
        except Exception:
            if not options.terminate:
                raise
            raise rejection(
                "ScoreRequestTimeout",
                f"This model was ended after {LIMIT_SECONDS:g} s: its graph is none that would be put in place today. "
                "Train it again.",
            ) from None
        finally:
            timer.cancel()

    return call


def fits_rows(manifest: Manifest, run: Run, rows: int) -> bool:
    """Whether a graph gives what its manifest describes, one answer for each row.

    :param manifest: of the model.
    :param run: gives the answers.
    :param rows: number of rows to try.
    """
    import numpy as np

    # Not all alike, so that classes differ.
    matrix = (np.arange(rows * len(manifest.schema.features)) % 7).reshape(rows, -1).astype(np.float32)
    answers, classes = run(matrix), manifest.schema.classes
    if answers[0].size != rows or len(answers[0]) != rows:
        return False
    if manifest.task != CLASSIFICATION:
        return answers[0].dtype.kind == "f"
    labels = answers[0].dtype.kind in "iu" and (not rows or 0 <= answers[0].min() <= answers[0].max() < len(classes))
    known = len(classes) != 2 or manifest.positive in classes
    return bool(labels and known and (not manifest.probabilities or answers[1].shape == (rows, len(classes))))


def _check_self_contained(graph: bytes) -> None:
    # A tensor may name a file to be read; a model from elsewhere must not choose files of this server. The key is
    # written as it is, so a graph without these bytes has none, and the library, which is large, is not needed.
    if b"location" not in graph:
        return
    import onnx

    try:
        model = onnx.load_from_string(graph)
    except Exception as error:
        raise _invalid(cause(error)[:200]) from None
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
