"""Micro-batching: small scoring calls are answered together, with no task, no message of ASGI and no thread, by one run
of the model for many.

A bare ASGI application costs more than such a call does. So a connection that has sent one asks here first: calls
that arrive in the same turn of the event loop are scored together. Nothing waits for others to arrive.

Rule: only what is right is answered here. Anything unusual is read again as any other request, whose answer says why.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError
from airflow_provider_azureml_classic.protocol import operations as ops
from airflow_provider_azureml_classic.protocol.keys import bearer
from airflow_provider_azureml_classic.protocol.messages import JSON_TYPE
from airflow_provider_azureml_classic.protocol.tables import (
    Table,
    global_parameters,
    read_call,
    read_input,
    the_input,
    write_output,
    write_results,
)
from airflow_provider_azureml_classic.server.counters.traffic import Observer
from airflow_provider_azureml_classic.server.experiments.scorer import MANY, Scorer
from airflow_provider_azureml_classic.server.state.tables import EndpointRow
from airflow_provider_azureml_classic.server.web import json_body as json_text
from airflow_provider_azureml_classic.server.web.app import NOT_KEPT
from airflow_provider_azureml_classic.server.web.lanes import MAX_AT_ONCE
from airflow_provider_azureml_classic.server.workspace.keeping import Buffer
from airflow_provider_azureml_classic.server.workspace.scoring import Predictor, Scoring
from airflow_provider_azureml_classic.server.workspace.workspace import Workspace

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

Headers = Iterable[tuple[bytes, bytes]]

_END_OF_LINE, _END_OF_HEAD = b"\r\n", b"\r\n\r\n"
#: Digits of a body's length.
_LONGEST = 7
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d{1,%d})(?=\r\n)" % _LONGEST, re.IGNORECASE)
#: Headers that change how a request is read or answered; the web server knows what they mean.
_UNUSUAL = frozenset({b"expect", b"transfer-encoding", b"upgrade"})
_NO_TABLE = Table((), [])
#: Rows that are scored together at most: about as much as one call of many rows.
_MOST_ROWS = 512


class Answerable(Protocol):
    """A connection, as far as it matters here."""

    def answer(self, content: bytes, now: float) -> None:
        """Send an answer.

        :param content: head and body.
        :param now: the loop's time.
        """

    def read(self, data: bytes) -> None:
        """Take a request the usual way.

        :param data: the request as it came.
        """


@dataclass
class Head:
    """Head of a scoring call that the web server has read. A head of the same bytes need not be read again.

    :param before: its bytes up to the length of the body.
    :param after: its bytes from there on.
    :param path: raw path.
    :param segments: of the path: workspace and GUID of the endpoint.
    :param objects: answer with a list of objects.
    :param types: answer with column types.
    :param trial: see :data:`~.protocol.operations.TRIAL`.
    :param key: what follows ``Bearer``.
    :param opened: the endpoint as it was when the key was last found to be right.
    """

    before: bytes = field(repr=False)
    after: bytes = field(repr=False)
    path: str
    segments: tuple[str, str]
    objects: bool
    types: bool
    trial: bool
    key: str = field(repr=False)
    opened: EndpointRow | None = field(default=None, repr=False)

    def body_in(self, data: bytes) -> bytes | None:
        """The body of a request that has this head, is whole and is nothing else; otherwise ``None``.

        :param data: what a client has sent.
        """
        if not data.startswith(self.before):
            return None
        end = data.find(_END_OF_LINE, len(self.before))
        length = data[len(self.before) : end]
        if not data.startswith(self.after, end) or not length.isdigit() or len(length) > _LONGEST:
            return None
        body = data[end + len(self.after) :]
        return body if len(body) == int(length) and len(body) <= MAX_AT_ONCE else None


def head_of(data: bytes, method: bytes, url: bytes, headers: Headers) -> Head | None:
    """The head of a request, if it was a small scoring call and nothing in it is unusual.

    :param data: what was read from the client: this request and perhaps more.
    :param method: HTTP method.
    :param url: path and query.
    :param headers: names in lower case.
    """
    path, _, query = url.decode("latin-1").partition("?")
    operation, segments, _ = ops.match(method.decode("latin-1"), path)
    by_name = dict(headers)
    values = ops.query_values(query)
    if operation is not ops.SCORE or values.get(ops.VERSION_PARAMETER) != ops.API_VERSION:
        return None
    head, end, body = data.partition(_END_OF_HEAD)
    head += end
    length = _LENGTH.search(head)
    whole = length is not None and int(length[1]) == len(body) and by_name.get(b"content-length") == length[1]
    if length is None or not whole or not _UNUSUAL.isdisjoint(by_name):
        return None
    return Head(
        before=head[: length.start(1)],
        after=head[length.end(1) :],
        path=path,
        segments=(segments["workspace"], segments["endpoint_id"]),
        objects=ops.wants_objects(values),
        types=ops.wants_types(values),
        trial=ops.TRIAL.encode() in by_name,
        key=bearer(by_name.get(b"authorization", b"").decode("latin-1")),
    )


@dataclass
class Pending:
    """A call that waits for the end of the loop's turn.

    :param connection: where it came from.
    :param data: the request as it came.
    :param head: its head.
    :param body: its body.
    :param table: its rows.
    :param rows: the same, encoded.
    :param buffer: where it is kept, if it is to be kept.
    """

    connection: Answerable
    data: bytes
    head: Head
    body: bytes
    table: Table = field(default=_NO_TABLE, repr=False)
    rows: list[list[float]] = field(default_factory=list, repr=False)
    buffer: Buffer | None = None


class MicroBatcher:
    """Answers small scoring calls.

    :param workspace: knows endpoints and keys.
    :param scoring: knows their models.
    :param observer: sees every answered request.
    """

    def __init__(self, workspace: Workspace, scoring: Scoring, observer: Observer) -> None:
        self._workspace = workspace
        self._scoring = scoring
        self._intake = scoring.intake
        scoring.keeper.decode = _table
        self._observer = observer
        self._pending: list[Pending] = []
        self._ids = (f"{secrets.token_hex(12)}{number:08x}" for number in count())

    def add(self, call: Pending, loop: asyncio.AbstractEventLoop) -> None:
        """Answer a call soon: when everything that has arrived by now was read.

        :param call: the call.
        :param loop: the running event loop.
        """
        self._pending.append(call)
        if len(self._pending) == 1:
            loop.call_soon(self.flush, loop)

    def flush(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answer all calls that wait.

        :param loop: the running event loop.
        """
        start = perf_counter()
        pending, self._pending = self._pending, []
        predictors: dict[str, Predictor | None] = {}
        groups: dict[tuple[int, float | None, tuple[str, str]], tuple[Predictor, list[Pending]]] = {}
        for call in pending:
            predictor = self._read(call, predictors)
            if predictor is None:
                call.connection.read(call.data)
            else:
                key = (id(predictor.scorer), predictor.threshold, predictor.names)
                groups.setdefault(key, (predictor, []))[1].append(call)
        for predictor, group in groups.values():
            for batch in _batches(group):
                self._score(predictor, batch, loop, start)

    def _read(self, call: Pending, predictors: dict[str, Predictor | None]) -> Predictor | None:
        """Read the rows of a call; ``None`` if there is anything unusual about it."""
        workspace_id, endpoint_id = call.head.segments
        try:
            row = self._workspace.cached(endpoint_id)
            if row is None:
                return None
            if call.head.opened is not row:
                opened = self._workspace.endpoint_for_call(workspace_id, endpoint_id, call.head.key, ops.SCORE)
                # A named key may end from one call to the next.
                call.head.opened = opened if call.head.key in (opened.primary_key, opened.secondary_key) else None
            if endpoint_id not in predictors:
                predictors[endpoint_id] = self._scoring.predictor(row)
            predictor = predictors[endpoint_id]
            members = read_call(json_text.read(call.body))
            if predictor is None:
                return None
            name, _ = predictor.names
            data = the_input(members, name)
            # Before the table is made, which of many objects may be much larger than they are.
            if data.__class__ is list and len(data) >= MANY:
                return None
            table = read_input(name, data)
            if global_parameters(members) or not 0 < len(table.values) < MANY:
                return None
            call.table, call.rows = table, predictor.scorer.encoded(table)
            if predictor.buffer is not None and not call.head.trial:
                call.buffer = predictor.buffer
        except (AzureMLClassicError, ValueError, RecursionError):
            return None
        return predictor

    def _score(
        self, predictor: Predictor, batch: Sequence[Pending], loop: asyncio.AbstractEventLoop, start: float
    ) -> None:
        try:
            matrix = predictor.scorer.matrix([row for call in batch for row in call.rows])
            answers = predictor.scorer.answers(matrix, predictor.threshold)
        except Exception:  # whatever it is, the error of each call says it where the call is answered by itself
            for call in batch:
                call.connection.read(call.data)
            return
        ids: dict[tuple[str, str], list[str]] = {}
        first, now, keep = 0, loop.time(), self._scoring.keeper.add
        for call in batch:
            rows = answers[first : first + len(call.rows)]
            first += len(call.rows)
            request_id = next(self._ids)
            call.connection.answer(_answer(predictor, call.head, rows, request_id), now)
            if call.buffer is not None:
                keep(call.buffer, call.body, len(call.body))
            ids.setdefault((call.head.path, call.head.segments[1]), []).append(request_id)
        for (path, endpoint_id), request_ids in ids.items():
            self._observer.scored(path, endpoint_id, request_ids, perf_counter() - start)
        tables = [call.table for call in batch if not call.head.trial]
        if len(ids) == 1 and len(tables) == len(batch):
            self._intake.add(endpoint_id, predictor.scorer, matrix, tables, len(matrix))
        else:
            self._count(predictor.scorer, batch, matrix)

    def _count(self, scorer: Scorer, batch: Sequence[Pending], matrix: NDArray[float32]) -> None:
        """Count what several endpoints were asked, or some calls only: those of people who use the answers."""
        first = 0
        for call in batch:
            end = first + len(call.rows)
            if not call.head.trial:
                self._intake.add(call.head.segments[1], scorer, matrix[first:end], [call.table], end - first)
            first = end


def _table(name: str, body: bytes) -> Table:
    """The rows of a call that was answered here."""
    return read_input(name, the_input(read_call(json_text.read(body)), name))


def _batches(group: list[Pending]) -> Iterable[list[Pending]]:
    batch: list[Pending] = []
    rows = 0
    for call in group:
        if batch and rows + len(call.rows) > _MOST_ROWS:
            yield batch
            batch, rows = [], 0
        batch.append(call)
        rows += len(call.rows)
    yield batch


def _answer(predictor: Predictor, head: Head, rows: Sequence[tuple[str, ...]], request_id: str) -> bytes:
    """Everything behind the status line and the headers that all answers have."""
    names = predictor.scorer.names
    before, after = _around(predictor.names[1], names, predictor.scorer.types, head.objects, head.types)
    values = json_text.write([dict(zip(names, row, strict=True)) for row in rows] if head.objects else rows)
    body = b"%b%b%b" % (before, values, after)
    start = _head(predictor.scorer.content)
    return b"%b%b\r\ncontent-length: %d\r\n\r\n%b" % (start, request_id.encode(), len(body), body)


@lru_cache(maxsize=1024)
def _head(content: str) -> bytes:
    """The headers of a model's answers, up to the id of the request."""
    lines = {**JSON_TYPE, **NOT_KEPT, ops.MODEL_HEADER: content}
    return "".join(f"{name}: {value}\r\n" for name, value in lines.items()).encode() + f"{ops.REQUEST_ID}: ".encode()


@lru_cache(maxsize=256)
def _around(
    output: str, names: tuple[str, ...], types: tuple[str, ...], objects: bool, with_types: bool
) -> tuple[bytes, bytes]:
    """What stands before and after the rows of an answer."""
    nothing: Any = write_output(Table(names, [], types), swagger=objects, details=with_types)
    before, _, after = json_text.write(write_results({output: nothing})).rpartition(b"[]")
    return before, after
