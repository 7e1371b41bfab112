"""Takes in what scoring calls ask, counts it off their path, and hands it to the ledger.

Rule 1: a call costs one append. Its rows are counted by a thread, some seconds later and many at a time.
Rule 2: of each endpoint at most :data:`MOST_ROWS` rows wait, of all together :data:`MOST_CELLS` cells, but for a few
rows of each; of what comes beyond that, calls and rows are counted, and their cells are not: a sample tells a drift as
well.
Rule 3: the database is written to once a minute. What it does not take is kept for the next time.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.server.clock import Clock
from airflow_provider_azureml_classic.server.counters.ledger import KEPT_DAYS, Key, Ledger, Sum
from airflow_provider_azureml_classic.server.experiments.histogram import Histogram, Unusual
from airflow_provider_azureml_classic.server.experiments.scorer import Scorer

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

#: Seconds between two counts, and counts between two writes.
COUNT_SECONDS, COUNTS_A_WRITE = 15.0, 4
#: Rows of an endpoint, cells of all and endpoints that may wait to be counted.
MOST_ROWS, MOST_CELLS, MOST_ENDPOINTS = 1024, 1 << 18, 1 << 14
#: So many rows of an endpoint wait also where others have taken the cells, up to so many times the cells.
_FEW_ROWS, _RESERVE = 8, 4
#: Sums that may wait to be written.
_MOST_SUMS = 1 << 14
_CLOSING_SECONDS = 10.0


class _Waiting:
    """Calls of an endpoint that wait to be counted."""

    __slots__ = ("calls", "endpoint_id", "parts", "rows", "scorer", "taken")

    def __init__(self, endpoint_id: str, scorer: Scorer) -> None:
        self.endpoint_id = endpoint_id
        self.scorer = scorer
        self.calls = self.rows = self.taken = 0
        self.parts: list[tuple[NDArray[float32], Sequence[Table]]] = []


class Intake:
    """Counts what is asked. Safe to be used by several threads.

    :param ledger: where the counts go.
    :param clock: gives the present time.
    """

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: dict[str, _Waiting] = {}
        #: Of models that were replaced since the last count.
        self._replaced: list[_Waiting] = []
        self._cells = 0
        self._writing = threading.Lock()
        self._sums: dict[Key, Sum] = {}
        self._histograms: dict[str, Histogram] = {}
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._forgot = 0
        #: Of the rows that were counted since the start.
        self.unusual = Unusual(0, 0, 0)

    def add(
        self, endpoint_id: str, scorer: Scorer, matrix: NDArray[float32], tables: Sequence[Table], rows: int
    ) -> None:
        """Take calls in that were answered.

        :param endpoint_id: of the endpoint called.
        :param scorer: its model.
        :param matrix: rows of theirs as the model takes them.
        :param tables: one for each call, with these rows in the same order.
        :param rows: how many there were.
        """
        with self._lock:
            waiting = self._waiting.get(endpoint_id)
            if waiting is None or waiting.scorer is not scorer:
                waiting = self._begin(endpoint_id, scorer)
                if waiting is None:
                    return
            waiting.calls += len(tables)
            waiting.rows += rows
            taken, cells = waiting.taken + len(matrix), self._cells + matrix.size
            most = MOST_CELLS if taken > _FEW_ROWS else _RESERVE * MOST_CELLS
            if taken <= MOST_ROWS and cells <= most:
                waiting.taken, self._cells = taken, cells
                waiting.parts.append((matrix, tables))

    def add_call(self, endpoint_id: str, scorer: Scorer, matrix: NDArray[float32], table: Table) -> None:
        """Take a call in that may have very many rows: some of them, from its beginning to its end, are counted.

        :param endpoint_id: of the endpoint called.
        :param scorer: its model.
        :param matrix: its rows as the model takes them.
        :param table: the call.
        """
        step = -(-len(matrix) // (MOST_ROWS // 4))
        some = table if step <= 1 else Table(table.column_names, table.values[::step])
        self.add(endpoint_id, scorer, matrix[::step].copy(), [some], len(matrix))

    def _begin(self, endpoint_id: str, scorer: Scorer) -> _Waiting | None:
        if len(self._waiting) + len(self._replaced) >= MOST_ENDPOINTS:
            return None
        if endpoint_id in self._waiting:
            self._replaced.append(self._waiting[endpoint_id])
        self._waiting[endpoint_id] = waiting = _Waiting(endpoint_id, scorer)
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="counters", daemon=True)
            thread.start()
            # Not before it is started: whoever closes waits for it.
            self._thread = thread
        return waiting

    def _run(self) -> None:
        counts = 0
        while not self._ending.wait(COUNT_SECONDS):
            counts += 1
            try:
                self._count()
                if counts % COUNTS_A_WRITE == 0:
                    self._write()
            except Exception:
                # Scoring goes on, and so does counting.
                log.exception("what was asked could not be counted")

    def settle(self) -> None:
        """Count and write what waits, so that whoever reads the ledger sees all calls of this server.

        :raises DatabaseDown: it is kept for the next time.
        """
        self._count()
        with self._writing:
            if self._sums:
                self._ledger.add(self._sums, self._histograms)
            self._histograms = {key.digest: self._histograms[key.digest] for key in self._sums}

    def close(self) -> None:
        """Write what waits, and end."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(_CLOSING_SECONDS)
            self._write()

    def _write(self) -> None:
        try:
            self.settle()
            today = self._today()
            if today != self._forgot:
                self._ledger.forget(today - KEPT_DAYS)
                self._forgot = today
        except AzureMLClassicError as error:
            log.warning("what was asked is not written yet: %s", error.message)

    def _today(self) -> int:
        return self._clock().toordinal()

    def _count(self) -> None:
        with self._lock:
            all_waiting = [*self._replaced, *self._waiting.values()]
            self._waiting, self._replaced, self._cells = {}, [], 0
        today = self._today()
        with self._writing:
            for waiting in all_waiting:
                try:
                    self._sum(waiting, today)
                except Exception:
                    # Of this model; those of others are counted.
                    log.exception("the calls of model %s could not be counted", waiting.scorer.digest)

    def _sum(self, waiting: _Waiting, today: int) -> None:
        import numpy as np

        key = Key(waiting.endpoint_id, waiting.scorer.digest, today)
        if key not in self._sums and len(self._sums) >= _MOST_SUMS:
            return
        histogram, taken = waiting.scorer.histogram, waiting.taken
        if waiting.parts:
            matrix = np.concatenate([part for part, _ in waiting.parts])
            counts = histogram.count(matrix, _cells(waiting))
        else:
            counts = np.zeros(histogram.size, np.int64)
        more = histogram.unusual(counts, taken)
        self.unusual = Unusual(*(before + new for before, new in zip(self.unusual, more, strict=True)))
        total = Sum(waiting.calls, waiting.rows, taken, counts.tolist())
        self._sums[key] = self._sums[key] + total if key in self._sums else total
        self._histograms[key.digest] = histogram


def _cells(waiting: _Waiting) -> Iterator[tuple[Sequence[Any], tuple[str, ...]]]:
    for _, tables in waiting.parts:
        for table in tables:
            for row in table.values:
                yield row, table.column_names
