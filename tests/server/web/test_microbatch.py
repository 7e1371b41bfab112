"""Small scoring calls that are answered together: the same answers as one by one, and everything unusual elsewhere."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn
from uvicorn.server import ServerState

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.protocol.keys import KeyType
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.protocol.values import Endpoint, EndpointSettings, Resource, TraceLevel
from airflow_provider_azureml_classic.server.web.connections import Connection
from tests.support import ServerProcess
from tests.support.mutated import mutated
from tests.support.service import RESOURCE, SCORING, Service, declaration

#: Requests that are mutated, and which; `make faults-long` makes more.
LONG = bool(os.environ.get("FAULTS_LONG"))
MUTATIONS = 20_000 if LONG else 40
FUZZ_SEED = int(os.environ.get("FUZZ_SEED", str(random.SystemRandom().randrange(10**6) if LONG else 1)))


class Line:
    """A bare connection that sends each request in one piece.

    :param endpoint: the endpoint to call.
    :param query: of each call.
    """

    def __init__(self, endpoint: Endpoint, query: str = "api-version=2.0") -> None:
        parts = urlsplit(endpoint.api_location)
        self.endpoint, self._target = endpoint, f"{parts.path}/execute?{query}"
        self.socket = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=30)
        self._file = self.socket.makefile("rb")

    def request(self, body: bytes | dict[str, Any], *lines: str, key: str = "", length: int | None = None) -> bytes:
        """The bytes of a request."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        size = len(content) if length is None else length
        head = [f"POST {self._target} HTTP/1.1", "Host: x", f"Content-Length: {size}", *lines]
        head.append(f"Authorization: Bearer {key or self.endpoint.primary_key}")
        return "\r\n".join([*head, "", ""]).encode() + content

    def answer(self) -> tuple[int, dict[str, str], Any]:
        """Status, headers and decoded body of the next answer."""
        status = int(self._file.readline().split()[1])
        headers = {}
        while (line := self._file.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        return status, headers, json.loads(self._file.read(int(headers["content-length"])))

    def ask(self, body: bytes | dict[str, Any], *lines: str, key: str = "") -> tuple[int, dict[str, str], Any]:
        """Send a request in one piece; its answer."""
        self.socket.sendall(self.request(body, *lines, key=key))
        return self.answer()

    def close(self) -> None:
        """Close it."""
        self._file.close()
        self.socket.close()


def table(*numbers: Any) -> dict[str, Any]:
    """A call in the table form."""
    return {"Inputs": {"input1": {"ColumnNames": ["x"], "Values": [[number] for number in numbers]}}}


def cells(reply: tuple[int, dict[str, str], Any]) -> list[float]:
    """The answers of a call in the table form."""
    assert reply[0] == 200, reply
    return [round(float(row[0]), 2) for row in reply[2]["Results"]["output1"]["value"]["Values"]]


def code(reply: tuple[int, dict[str, str], Any]) -> tuple[int, str]:
    """Status and code of an error."""
    return reply[0], reply[2]["error"]["details"][0]["code"]


@pytest.fixture(scope="module")
def lines_server(tmp_path_factory: pytest.TempPathFactory, trained: Path) -> Iterator[ServerProcess]:
    """A server whose models answer the slope of a line: 2 at first; models of slopes 3 and 10 are in its store."""
    folder = tmp_path_factory.mktemp("express")
    declared = declaration(folder, "Line", "Named")
    declared.write_text(
        declared.read_text() + 'scoring_input = "lol"\nscoring_output = "result_user"\nkeep_calls = 9\n'
    )
    server = ServerProcess(folder / "data", "--experiments", str(declared), "--workers", "1", "--access-log")
    for name in ("three", "ten"):
        server.upload(f"models/{name}.ilearner", trained / "data" / "blobs" / "models" / f"{name}.ilearner")
    yield server
    server.stop()


@pytest.fixture
def admin(lines_server: ServerProcess) -> Iterator[Client]:
    """Client of the server's workspace."""
    with lines_server.client() as client:
        yield client


@pytest.fixture
def endpoint(admin: Client, request: pytest.FixtureRequest) -> Endpoint:
    """An endpoint of the test's own."""
    name = f"e{abs(hash(request.node.name)) % 10**12}"
    return admin.add_endpoint(admin.find_web_service(SCORING).id, name)


@pytest.fixture
def warm(endpoint: Endpoint) -> Iterator[Callable[..., Line]]:
    """Makes connections whose next call is one that may be answered together with others."""
    made: list[Line] = []

    def open_line(query: str = "api-version=2.0", of: Endpoint | None = None) -> Line:
        made.append(Line(of or endpoint, query))
        for _ in range(2):
            assert made[-1].ask(table(1))[0] == 200
        return made[-1]

    yield open_line
    for line in made:
        line.close()


@pytest.mark.slow
def test_calls_of_a_service_with_names_of_its_own(admin: Client) -> None:
    """They are answered together as all others are, under the names that its experiment declares."""
    named = admin.get_endpoint(admin.find_web_service("Named [predictive exp.]").id, "default")
    line = Line(named)
    body = {"Inputs": {"lol": [{"x": 1}]}}
    replies = [line.ask(body) for _ in range(4)]
    assert [reply[0] for reply in replies] == [200] * 4
    assert [reply[2] for reply in replies[1:]] == [replies[0][2]] * 3
    assert list(replies[0][2]["Results"]) == ["result_user"]
    assert code(line.ask(table(1))) == (400, "InvalidInputNames")
    line.close()


@pytest.mark.slow
def test_calls_that_are_answered_together_are_kept(admin: Client) -> None:
    """An experiment that keeps its calls keeps these as well, but for those that only try the model."""
    service = admin.find_web_service("Named [predictive exp.]").id
    named = admin.add_endpoint(service, "kept")
    line = Line(named)
    for number in range(4):
        assert line.ask({"Inputs": {"lol": [{"x": number}]}})[0] == 200
        assert line.ask({"Inputs": {"lol": [{"x": number}]}}, "x-azureml-classic-trial: 1")[0] == 200
    line.close()
    assert admin.rehearse_update(named, named.resource()).rows == 4


def put_in_place(server: ServerProcess, client: Client, endpoint: Endpoint, name: str) -> None:
    """PATCH the endpoint with a model of the store."""
    place = server.sas(f"models/{name}.ilearner")
    client.patch_endpoint(endpoint, EndpointSettings(resources=(Resource(RESOURCE, place),)))


@pytest.mark.parametrize("query", ["api-version=2.0", "api-version=2.0&details=true", "api-version=2.0&format=swagger"])
def test_the_answer_is_the_same_whichever_way_it_came(warm: Callable[..., Line], query: str) -> None:
    """The first call of a connection is answered by itself, the next ones together: body and headers are alike."""
    bodies = [table(0.25, 1, "1.5"), {**table(3), "GlobalParameters": {}}, {"Inputs": {"input1": [{"x": 7}, {"x": 8}]}}]
    line = warm(query)
    for body in bodies:
        alone = Line(line.endpoint, query)
        first, second = alone.ask(body), line.ask(body)
        alone.close()
        assert second[0] == 200
        assert second[2] == first[2]
        assert second[1].keys() == first[1].keys()
        ids = {reply[1]["x-ms-request-id"] for reply in (first, second)}
        assert len(ids) == 2
        assert all(re.fullmatch("[0-9a-f]{32}", one) for one in ids)


@pytest.mark.slow
def test_calls_of_many_connections_at_once_get_their_own_answers(
    lines_server: ServerProcess, admin: Client, endpoint: Endpoint, warm: Callable[..., Line]
) -> None:
    """Calls of two endpoints with different models, of one to five rows, on the way at once: none gets another's."""
    service = admin.find_web_service(SCORING).id
    other = admin.add_endpoint(service, f"{endpoint.name[:20]}b")
    put_in_place(lines_server, admin, other, "ten")
    pairs = [(warm(of=one), slope) for number in range(20) for one, slope in [(endpoint, 2), (other, 10)]]
    for turn in range(10):
        wanted = []
        for number, (line, slope) in enumerate(pairs):
            numbers = [number + turn + row / 10 for row in range(1 + number % 5)]
            line.socket.sendall(line.request(table(*numbers)))
            wanted.append((line, numbers, slope))
        for line, numbers, slope in wanted:
            one_by_one = Line(line.endpoint)
            assert cells(line.answer()) == cells(one_by_one.ask(table(*numbers))), slope
            one_by_one.close()


def test_the_next_call_after_a_patch_has_the_new_model(
    lines_server: ServerProcess, admin: Client, endpoint: Endpoint, warm: Callable[..., Line]
) -> None:
    """Connections that are warm when a PATCH is answered get the new model's answer at their next call."""
    lines = [warm() for _ in range(4)]
    for name, slope in [("three", 3.0), ("ten", 10.0), ("three", 3.0)]:
        put_in_place(lines_server, admin, endpoint, name)
        assert [cells(line.ask(table(1))) for line in lines] == [[slope]] * 4


def test_a_key_that_is_replaced_opens_nothing_any_more(
    admin: Client, endpoint: Endpoint, warm: Callable[..., Line]
) -> None:
    """A head that was right is refused once its key is replaced; the other key goes on."""
    line, other = warm(), warm()
    admin.regenerate_key(endpoint.web_service_id or "", endpoint.name, KeyType.PRIMARY)
    assert code(line.ask(table(1))) == (401, "ScoreRequestUnauthorized")
    assert cells(other.ask(table(1), key=endpoint.secondary_key)) == [2.0]


def test_a_refused_head_stays_refused(endpoint: Endpoint) -> None:
    """A wrong key is not remembered as a right one, however often it is sent."""
    line = Line(endpoint)
    for _ in range(3):
        assert code(line.ask(table(1), key=endpoint.primary_key[:-3] + "x==")) == (401, "ScoreRequestUnauthorized")
    line.close()


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b"{", (400, "RequestBodyInvalid")),
        (b"", (400, "RequestBodyInvalid")),
        (b"[" * 5000, (400, "RequestBodyInvalid")),
        (table("abc"), (400, "InputParseError")),
        ({"Inputs": {"input1": {"ColumnNames": ["y"], "Values": [[1]]}}}, (400, "InputMismatchError")),
        ({"Inputs": {"other": []}}, (400, "InvalidInputNames")),
        ({**table(1), "GolbalParameters": {}}, (400, "UnexpectedParameter")),
        ({**table(1), "GlobalParameters": {"no": 1}}, (400, "UnexpectedParameter")),
    ],
)
def test_what_is_wrong_is_said_as_for_any_call(
    warm: Callable[..., Line], body: bytes | dict[str, Any], wanted: tuple[int, str]
) -> None:
    """A wrong call on a warm connection gets the error that it gets on a fresh one; the connection goes on."""
    line = warm()
    assert code(line.ask(body)) == wanted
    assert cells(line.ask(table(1))) == [2.0]


@pytest.mark.slow
def test_mutated_requests_get_the_same_answer_either_way(warm: Callable[..., Line]) -> None:
    """By itself or together with others: the same status, and the same table or the same words of refusal."""
    print(f"FUZZ_SEED={FUZZ_SEED}")
    choices, line = random.Random(FUZZ_SEED), warm()  # noqa: S311 - to be repeated, not kept secret
    bodies = [table(0.25, 1, "1.5"), {**table(3), "GlobalParameters": {}}, {"Inputs": {"input1": [{"x": 7}, {"x": 8}]}}]
    answers: Counter[int] = Counter()
    for _ in range(MUTATIONS):
        body = mutated(choices, json.dumps(choices.choice(bodies)).encode())
        alone = Line(line.endpoint)
        first, second = alone.ask(body), line.ask(body)
        alone.close()
        assert second[0] == first[0], body
        if first[0] == 200:
            assert second[2] == first[2], body
        else:
            assert second[2]["error"]["details"] == first[2]["error"]["details"], body
        answers[first[0]] += 1
    assert answers[200]
    assert answers[400]


@pytest.mark.parametrize("count", [0, 15, 16, 100])
def test_tables_of_any_length_are_answered(warm: Callable[..., Line], count: int) -> None:
    """No rows, the most that go together, one more, and many."""
    assert cells(warm().ask(table(*[1] * count))) == [2.0] * count


@pytest.mark.slow
def test_requests_in_pieces_and_in_a_row_are_answered_in_order(warm: Callable[..., Line]) -> None:
    """A warm connection that sends half a head, half a body, or three requests at once gets each answer in turn."""
    line = warm()
    for cut in (1, 60, 200):
        content = line.request(table(1))
        line.socket.sendall(content[:cut])
        threading.Event().wait(0.05)
        line.socket.sendall(content[cut:])
        assert cells(line.answer()) == [2.0]
    content = line.request(table(1))
    line.socket.sendall(content[:-5])
    threading.Event().wait(0.05)
    line.socket.sendall(content[-5:])
    assert cells(line.answer()) == [2.0]
    line.socket.sendall(b"".join(line.request(table(*[1] * rows)) for rows in (1, 2, 3)))
    assert [len(cells(line.answer())) for _ in range(3)] == [1, 2, 3]
    line.socket.sendall(line.request(table(1)))
    line.socket.sendall(line.request(table(1, 1)))
    assert [len(cells(line.answer())) for _ in range(2)] == [1, 2]


def test_a_length_that_is_no_number_is_refused(warm: Callable[..., Line]) -> None:
    """The length is read anew in each head: what is none closes the connection with an error."""
    line = warm()
    line.socket.sendall(line.request(table(1)).replace(b"Content-Length: ", b"Content-Length: " + b"9" * 5000, 1))
    assert line.answer()[0] in (400, 413)


@pytest.mark.slow
def test_logs_of_calls_that_were_answered_together(
    lines_server: ServerProcess, admin: Client, endpoint: Endpoint, warm: Callable[..., Line]
) -> None:
    """The access log has each of them with its request id; an endpoint with diagnostics logs has one log for each."""
    line = warm()
    request_id = line.ask(table(1))[1]["x-ms-request-id"]
    logged: list[Any] = []
    for _ in range(200):
        logged = [json.loads(row) for row in lines_server.log.read_text().splitlines() if request_id in row]
        if logged:
            break
        threading.Event().wait(0.05)
    assert [(row["route"], row["status"]) for row in logged] == [("score", 200)]
    admin.patch_endpoint(endpoint, EndpointSettings(diagnostics_trace_level=TraceLevel.ALL))
    traced = line.ask(table(1))[1]["x-ms-request-id"]
    folder = lines_server.data_dir / "blobs" / "ml-diagnostics"
    for _ in range(200):
        if any(traced in path.name for path in folder.rglob("*.json")):
            break
        threading.Event().wait(0.05)
    assert any(traced in path.name for path in folder.rglob("*.json"))


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        """Keep it."""
        self.written.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        """Nothing is left over."""
        return 0

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self.closed

    def close(self) -> None:
        """Close it."""
        self.closed = True

    def pause_reading(self) -> None:
        """Nothing to pause."""

    def resume_reading(self) -> None:
        """Nothing to resume."""


@pytest.fixture
def way(service: Service, scorer: Endpoint) -> Callable[..., Any]:
    """Opens a connection of the service with a transport of our own; counts what goes through ASGI."""

    def opened() -> tuple[Connection, Wire, list[str], Callable[[Any], bytes]]:
        seen: list[str] = []

        async def application(scope: Any, receive: Any, send: Any) -> None:
            seen.append(scope["path"])
            await service.http(scope, receive, send)

        config = uvicorn.Config(
            application,
            http=partial(Connection, batcher=service.http.batcher),  # type: ignore[arg-type]
            ws="none",
            log_config=None,
        )
        config.load()
        connection = config.http_protocol_class(config=config, server_state=ServerState(), app_state={})
        wire = Wire()
        connection.connection_made(wire)
        path = service.api_path(scorer, "/execute")

        def request(body: Any, place: int = 1, query: str = "") -> bytes:
            content = json.dumps(body).encode()
            lines = ["Host: x", f"Authorization: Bearer {scorer.primary_key}"]
            lines.insert(place, f"Content-Length: {len(content)}")
            return "\r\n".join([f"POST {path}{query} HTTP/1.1", *lines, "", ""]).encode() + content

        return connection, wire, seen, request

    return opened


async def settle(wire: Wire, count: int) -> None:
    """Wait for a number of answers."""
    for _ in range(2000):
        if sum(part.startswith(b"HTTP/1.1") for part in wire.written) >= count:
            return
        await asyncio.sleep(0.005)
    raise AssertionError(wire.written)


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_calls_after_the_first_do_not_go_through_asgi(way: Callable[..., Any], place: int) -> None:
    """The first call of a connection goes the usual way, the next ones do not: whatever their length, and wherever in
    the head it stands.
    """
    connection, wire, seen, request = way()
    for number in range(1, 6):
        connection.data_received(request(table(*[1] * number), place))
        await settle(wire, number)
    assert len(seen) == 1


async def test_what_is_asked_together_is_counted_for_each_endpoint(way: Callable[..., Any], service: Service) -> None:
    """Calls, rows and unusual cells, of the first call that goes another way too."""
    intake = service.app._scoring.intake
    intake.settle()
    before = intake.unusual
    connection, wire, seen, request = way()
    for number in range(1, 4):
        connection.data_received(request(table(1, 1e9)))
        await settle(wire, number)
    assert len(seen) == 1
    intake.settle()
    assert [late - early for late, early in zip(intake.unusual, before, strict=True)] == [6, 0, 3]
    (mine,) = [one for one in intake._ledger.of_service(service.scoring, 0) if one.name == "mine"]
    assert mine.total is not None
    assert (mine.total.calls, mine.total.rows, mine.total.counted) == (3, 6, 6)


async def test_what_waits_is_answered_before_the_server_stops_and_before_what_comes_next(
    way: Callable[..., Any],
) -> None:
    """A call that waits for the end of the turn is answered by a shutdown, and before a request that follows it."""
    connection, wire, _, request = way()
    for number in (1, 2):
        connection.data_received(request(table(1)))
        await settle(wire, number)
    connection.data_received(request(table(1)))
    answered = len(wire.written)
    connection.data_received(request(table(1, 1)))
    assert len(wire.written) == answered + 1
    connection.shutdown()
    assert len(wire.written) == answered + 2
    assert wire.closed


@pytest.mark.slow
async def test_no_table_is_made_of_many_objects_on_the_event_loop(
    way: Callable[..., Any], scorer: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few bytes may stand for a large table: it is made in a thread, where it counts as a call at work, on each of as
    many connections as somebody opens.
    """
    gate, on_loop = threading.Event(), []
    table_of = Table.of

    def slow(rows: Any) -> Table:
        on_loop.append(asyncio._get_running_loop() is not None)
        assert on_loop[-1] or gate.wait(30)
        return table_of(rows)

    connections = [way() for _ in range(8)]
    for connection, wire, _, request in connections:
        for number in (1, 2):
            connection.data_received(request(table(1)))
            await settle(wire, number)
    monkeypatch.setattr(Table, "of", slow)
    hostile = {"Inputs": {"input1": [{f"x{number}": 1} for number in range(700)]}}
    for connection, _, _, request in connections:
        connection.data_received(request(hostile))
    full = len(connections) - scorer.max_concurrent_calls
    for _ in range(2000):
        if sum(b" 503 " in b"".join(wire.written) for _, wire, _, _ in connections) >= full:
            break
        await asyncio.sleep(0.005)
    gate.set()
    for _, wire, _, _ in connections:
        await settle(wire, 3)
    assert on_loop == [False] * scorer.max_concurrent_calls
    answers = [b"".join(wire.written) for _, wire, _, _ in connections]
    assert sum(b"RequestThrottled" in answer for answer in answers) == full
    assert sum(b"different column names" in answer for answer in answers) == scorer.max_concurrent_calls


@pytest.mark.slow
async def test_an_idle_connection_is_closed_some_seconds_after_its_last_call(way: Callable[..., Any]) -> None:
    """A call that was answered together with others counts as activity; without any, the connection is closed."""
    connection, wire, _, request = way()
    # Longer than any sleep below becomes on a busy machine, shorter than all of them together.
    connection.timeout_keep_alive = 2
    for number in (1, 2):
        connection.data_received(request(table(1)))
        await settle(wire, number)
    for number in range(10):
        await asyncio.sleep(0.25)
        assert not wire.closed
        connection.data_received(request(table(1)))
        await settle(wire, number + 3)
    for _ in range(200):
        if wire.closed:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the connection was not closed")
