"""Keeping the last calls of endpoints whose owner wants that, beside the hot path: a call is handed over as it was
decoded, and a thread writes it to the database within a minute.

Rule 1: no operation returns a kept row; they leave the database for rehearsals alone.
Rule 2: only the columns that are features of the experiment are written.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.server.clock import Clock
from airflow_provider_azureml_classic.server.state.endpoint_store import Store
from airflow_provider_azureml_classic.server.state.kept_calls import Keeping, KeptCalls
from airflow_provider_azureml_classic.server.state.tables import EndpointRow
from airflow_provider_azureml_classic.server.workspace.catalogue import Catalogue

log = logging.getLogger(__name__)

#: Seconds after which a call is in the database at the latest.
FLUSH_SECONDS = 60.0
#: Rows of one call that are kept, evenly spread over it.
ROWS_A_CALL = 100
#: Bytes of calls that have come since calls were last written, about; while there are more, no call is kept.
MAX_WAITING = 32 << 20
#: Seconds between two looks for calls that are kept no longer.
_SWEEP_SECONDS = 3600.0


class Buffer:
    """The calls of one endpoint that wait to be written; the last ones only.

    :param endpoint: the endpoint, as it was when they came.
    :param keeping: how it keeps its calls.
    :param experiment: of the endpoint.
    """

    def __init__(self, endpoint: EndpointRow, keeping: Keeping, experiment: str) -> None:
        self.endpoint, self.keeping, self.experiment = endpoint, keeping, experiment
        #: Tables, and bodies of small calls: one object each instead of one for each cell, until they are written.
        self.calls: deque[Table | bytes] = deque(maxlen=keeping.calls)


class Keeper:
    """Keeps calls. Safe to be used by several threads.

    :param store: the endpoints.
    :param catalogue: what is declared of them.
    :param kept: where the calls are written.
    :param clock: gives the present time.
    """

    def __init__(self, store: Store, catalogue: Catalogue, kept: KeptCalls, clock: Clock) -> None:
        self._store, self._catalogue, self.kept, self._clock = store, catalogue, kept, clock
        #: Reads the body of a call: the table of the input that is named. Whoever adds bodies sets it.
        self.decode: Callable[[str, bytes], Table] = _no_bodies
        self._buffers: dict[str, Buffer] = {}
        self._waiting = 0
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._wake, self._closed = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="kept-calls", daemon=True)

    def keeping(self, endpoint: EndpointRow, experiment: str) -> Keeping:
        """How an endpoint keeps its calls.

        :param endpoint: the endpoint.
        :param experiment: of the endpoint.
        """
        calls, days = self._catalogue.keep_calls(experiment)
        return Keeping(calls if endpoint.keep_calls is None else endpoint.keep_calls, days)

    def buffer(self, endpoint: EndpointRow, experiment: str) -> Buffer | None:
        """Where :meth:`add` puts the calls of an endpoint; ``None`` if it keeps none.

        :param endpoint: the endpoint called.
        :param experiment: of the endpoint.
        """
        buffer = self._buffers.get(endpoint.id)
        # An endpoint is the same object until it changes.
        if buffer is not None and buffer.endpoint is endpoint:
            return buffer
        if endpoint.keep_calls == 0 or (endpoint.keep_calls is None and not self._catalogue.keep_calls(experiment)[0]):
            return None
        with self._lock:
            made = self._buffers[endpoint.id] = Buffer(endpoint, self.keeping(endpoint, experiment), experiment)
            if buffer is not None:
                made.calls.extend(buffer.calls)
        return made

    def add(self, buffer: Buffer, call: Table | bytes, size: int) -> None:
        """Keep a call that was answered.

        :param buffer: of its endpoint.
        :param call: as it was decoded; or the body of a small call, of which nothing is unusual.
        :param size: of it, in bytes, about.
        """
        # Two threads may add at once; then one size may be missed, which does not matter. Nothing else is done here:
        # a call of a few rows takes some fifty microseconds in all.
        if self._waiting > MAX_WAITING:
            return
        self._waiting += size
        buffer.calls.append(call)
        if self._waiting > MAX_WAITING:
            self._wake.set()

    def add_large(self, endpoint: EndpointRow, experiment: str, table: Table) -> None:
        """Keep a call of any size, or some rows of it, if its endpoint keeps calls.

        :param endpoint: the endpoint called.
        :param experiment: of the endpoint.
        :param table: as it was decoded.
        """
        buffer = self.buffer(endpoint, experiment) if table.values else None
        if buffer is not None:
            names = self._catalogue.schema(experiment).names
            few = _features(Table(table.column_names, table.values[:: -(-len(table.values) // ROWS_A_CALL)]), names)
            self.add(buffer, few, sum(len(cell) if isinstance(cell, str) else 8 for row in few.values for cell in row))

    def last(self, endpoint: EndpointRow, experiment: str) -> list[Table]:
        """The last calls of an endpoint, newest first; those of other servers as of a minute ago.

        :param endpoint: the endpoint.
        :param experiment: of the endpoint.
        """
        keeping = self.keeping(endpoint, experiment)
        if not keeping.calls:
            return []
        self.flush()
        return self.kept.read(endpoint.id, keeping.calls, self._clock())

    def count(self, endpoint: EndpointRow) -> int:
        """How many calls of an endpoint are in the database.

        :param endpoint: the endpoint.
        """
        return self.kept.count(endpoint.id, self._clock())

    def settle(self, endpoint: EndpointRow, experiment: str) -> None:
        """Delete the calls of an endpoint that keeps none any more.

        :param endpoint: the endpoint, as it was changed.
        :param experiment: of the endpoint.
        """
        if not self.keeping(endpoint, experiment).calls:
            with self._lock:
                self._buffers.pop(endpoint.id, None)
            self.kept.forget(endpoint.id)

    def flush(self) -> None:
        """Write what waits."""
        with self._writing:
            with self._lock:
                buffers, self._buffers, self._waiting = self._buffers, {}, 0
            for endpoint_id, buffer in buffers.items():
                if buffer.calls:
                    self.kept.add(endpoint_id, self._tables(buffer), buffer.keeping, self._clock())

    def _tables(self, buffer: Buffer) -> list[Table]:
        names = self._catalogue.schema(buffer.experiment).names
        name, _ = self._catalogue.scoring_names(buffer.experiment)
        calls = (call if isinstance(call, Table) else self.decode(name, call) for call in list(buffer.calls))
        return [_features(call, names) for call in calls]

    def sweep(self) -> None:
        """Delete the calls that are kept no longer: by their time, or because nothing wants them any more."""
        self.kept.expire(self._clock())
        for endpoint_id in self.kept.endpoints():
            row = self._store.endpoint(endpoint_id)
            service = row and self._store.service(row.service_id)
            if row and service and not self.keeping(row, service.experiment).calls:
                self.kept.forget(endpoint_id)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def close(self) -> None:
        """Write what waits, and end."""
        self._closed = True
        self._wake.set()
        self._thread.join(10)

    def _run(self) -> None:
        swept = 0.0
        while not self._closed:
            self._wake.wait(FLUSH_SECONDS)
            self._wake.clear()
            try:
                self.flush()
                if time.monotonic() - swept > _SWEEP_SECONDS or not swept:
                    swept = time.monotonic()
                    self.sweep()
            except AzureMLClassicError as error:
                log.warning("calls of the last minute could not be kept: %s", error.message)
            except Exception:
                log.exception("calls of the last minute could not be kept")


def _no_bodies(name: str, body: bytes) -> Table:
    raise NotImplementedError


def _features(table: Table, names: Sequence[str]) -> Table:
    """The columns of a call that are features."""
    kept = [place for place, name in enumerate(table.column_names) if name in names]
    if len(kept) == len(table.column_names):
        return table
    columns = tuple(table.column_names[place] for place in kept)
    return Table(columns, [[row[place] for place in kept] for row in table.values])
