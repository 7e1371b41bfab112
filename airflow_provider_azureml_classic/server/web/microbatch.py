"""Small scoring calls, answered together: no task, no message of ASGI, no thread, one run of the model for many.

A bare ASGI application costs more than such a call does. So a connection that has sent one asks here first: calls
that arrive in the same turn of the event loop are scored together. Nothing waits for others to arrive.

Rule: only what is right is answered here. Anything unusual goes the way of all other requests, which says what it is.
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
from typing import Any, Protocol

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError
from airflow_provider_azureml_classic.protocol import operations as ops
from airflow_provider_azureml_classic.protocol.jobs import INPUT, SCORED_OUTPUT
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
from airflow_provider_azureml_classic.server.experiments.scorer import MANY
from airflow_provider_azureml_classic.server.state.tables import EndpointRow
from airflow_provider_azureml_classic.server.traffic import Observer
from airflow_provider_azureml_classic.server.web import json_body as json_text
from airflow_provider_azureml_classic.server.web.app import MAX_AT_ONCE, bearer
from airflow_provider_azureml_classic.server.workspace.scoring import Plain, Scoring
from airflow_provider_azureml_classic.server.workspace.workspace import Workspace

Headers = Iterable[tuple[bytes, bytes]]

_END_OF_LINE, _END_OF_HEAD = b"\r\n", b"\r\n\r\n"
#: Digits of a body's length.
_LONGEST = 7
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d{1,%d})(?=\r\n)" % _LONGEST, re.IGNORECASE)
#: Headers that change how a request is read or answered; the web server knows what they mean.
_UNUSUAL = frozenset({b"expect", b"transfer-encoding", b"upgrade"})
#: Rows that are scored together at most: about as much as one call of many rows.
_MOST_ROWS = 512


class Caller(Protocol):
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
class Known:
    """Head of a scoring call that the web server has read. What follows in the same words need not be read again.

    :param before: its bytes up to the length of the body.
    :param after: its bytes from there on.
    :param path: raw path.
    :param segments: of the path: workspace and GUID of the endpoint.
    :param objects: answer with a list of objects.
    :param types: answer with column types.
    :param key: what follows ``Bearer``.
    :param opened: the endpoint as it was when the key was last found to be right.
    """

    before: bytes = field(repr=False)
    after: bytes = field(repr=False)
    path: str
    segments: tuple[str, str]
    objects: bool
    types: bool
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


def known(data: bytes, method: bytes, url: bytes, headers: Headers) -> Known | None:
    """What is to be remembered of a request, if it was a small scoring call and nothing in it is unusual.

    :param data: what was read from the client: this request and perhaps more.
    :param method: HTTP method.
    :param url: path and query.
    :param headers: names in lower case.
    """
    path, _, query = url.decode("latin-1").partition("?")
    operation, segments, _ = ops.match(method.decode("latin-1"), path)
    given = dict(headers)
    values = ops.query_values(query)
    if operation is not ops.SCORE or values.get(ops.VERSION_PARAMETER) != ops.API_VERSION:
        return None
    head, end, body = data.partition(_END_OF_HEAD)
    head += end
    length = _LENGTH.search(head)
    one = length is not None and int(length[1]) == len(body) and given.get(b"content-length") == length[1]
    if length is None or not one or not _UNUSUAL.isdisjoint(given):
        return None
    return Known(
        before=head[: length.start(1)],
        after=head[length.end(1) :],
        path=path,
        segments=(segments["workspace"], segments["endpoint_id"]),
        objects=ops.wants_objects(values),
        types=ops.wants_types(values),
        key=bearer(given.get(b"authorization", b"").decode("latin-1")),
    )


@dataclass
class Asked:
    """A call that waits for the end of the loop's turn.

    :param caller: who asked.
    :param data: the request as it came.
    :param known: what its head says.
    :param body: its body.
    :param rows: its rows as the model takes them.
    """

    caller: Caller
    data: bytes
    known: Known
    body: bytes
    rows: list[list[float]] = field(default_factory=list)


class Express:
    """Answers small scoring calls.

    :param workspace: knows endpoints and keys.
    :param scoring: knows their models.
    :param observer: sees every answered request.
    """

    def __init__(self, workspace: Workspace, scoring: Scoring, observer: Observer) -> None:
        self._workspace = workspace
        self._scoring = scoring
        self._observer = observer
        self._asked: list[Asked] = []
        self._ids = (f"{secrets.token_hex(12)}{number:08x}" for number in count())

    def take(self, asked: Asked, loop: asyncio.AbstractEventLoop) -> None:
        """Answer a call soon: when everything that has arrived by now was read.

        :param asked: the call.
        :param loop: the running event loop.
        """
        self._asked.append(asked)
        if len(self._asked) == 1:
            loop.call_soon(self.flush, loop)

    def flush(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answer all calls that wait.

        :param loop: the running event loop.
        """
        start = perf_counter()
        asked, self._asked = self._asked, []
        ways: dict[str, Plain | None] = {}
        groups: dict[tuple[int, float | None], tuple[Plain, list[Asked]]] = {}
        for one in asked:
            way = self._way(one, ways)
            if way is None:
                one.caller.read(one.data)
            else:
                groups.setdefault((id(way.scorer), way.threshold), (way, []))[1].append(one)
        for way, group in groups.values():
            for part in _parts(group):
                self._score(way, part, loop, start)

    def _way(self, one: Asked, ways: dict[str, Plain | None]) -> Plain | None:
        """Read a call; ``None`` if there is anything unusual about it."""
        workspace_id, endpoint_id = one.known.segments
        try:
            row = self._workspace.cached(endpoint_id)
            if row is None:
                return None
            if one.known.opened is not row:
                one.known.opened = self._workspace.endpoint_for_call(workspace_id, endpoint_id, one.known.key)
            if endpoint_id not in ways:
                ways[endpoint_id] = self._scoring.plain(row)
            way = ways[endpoint_id]
            members = read_call(json_text.read(one.body))
            data = the_input(members, INPUT)
            # Before the table is made, which of many objects may be much larger than they are.
            if data.__class__ is list and len(data) >= MANY:
                return None
            table = read_input(INPUT, data)
            if way is None or global_parameters(members) or not 0 < len(table.values) < MANY:
                return None
            one.rows = way.scorer.encoded(table)
        except (AzureMLClassicError, ValueError, RecursionError):
            return None
        return way

    def _score(self, way: Plain, group: Sequence[Asked], loop: asyncio.AbstractEventLoop, start: float) -> None:
        try:
            answers = way.scorer.answers([row for one in group for row in one.rows], way.threshold)
        except Exception:  # whatever it is, it is said where each call is answered by itself
            for one in group:
                one.caller.read(one.data)
            return
        ids: dict[tuple[str, str], list[str]] = {}
        first, now = 0, loop.time()
        for one in group:
            rows = answers[first : first + len(one.rows)]
            first += len(one.rows)
            request_id = next(self._ids)
            one.caller.answer(_answer(way, one.known, rows, request_id), now)
            ids.setdefault((one.known.path, one.known.segments[1]), []).append(request_id)
        for (path, endpoint_id), request_ids in ids.items():
            self._observer.scored(path, endpoint_id, request_ids, perf_counter() - start)


def _parts(group: list[Asked]) -> Iterable[list[Asked]]:
    part: list[Asked] = []
    rows = 0
    for one in group:
        if part and rows + len(one.rows) > _MOST_ROWS:
            yield part
            part, rows = [], 0
        part.append(one)
        rows += len(one.rows)
    yield part


def _answer(way: Plain, asked: Known, rows: Sequence[tuple[str, ...]], request_id: str) -> bytes:
    """Everything behind the status line and the headers that all answers have."""
    names = way.scorer.names
    before, after = _around(names, way.scorer.types, asked.objects, asked.types)
    written = json_text.write([dict(zip(names, row, strict=True)) for row in rows] if asked.objects else rows)
    body = b"%b%b%b" % (before, written, after)
    return b"%b%b\r\ncontent-length: %d\r\n\r\n%b" % (_HEAD, request_id.encode(), len(body), body)


_HEAD = "".join(f"{name}: {value}\r\n" for name, value in JSON_TYPE.items()).encode() + f"{ops.REQUEST_ID}: ".encode()


@lru_cache(maxsize=256)
def _around(names: tuple[str, ...], types: tuple[str, ...], objects: bool, with_types: bool) -> tuple[bytes, bytes]:
    """What stands before and after the rows of an answer."""
    nothing: Any = write_output(Table(names, [], types), swagger=objects, details=with_types)
    before, _, after = json_text.write(write_results({SCORED_OUTPUT: nothing})).rpartition(b"[]")
    return before, after
