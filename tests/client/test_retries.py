"""When a call is repeated, and what both transports make of a network that does not answer."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_provider_azureml_classic.client import AsyncClient, Client, RetryPolicy
from airflow_provider_azureml_classic.client.aio import SharedSession
from airflow_provider_azureml_classic.client.blocking import RequestsTransport
from airflow_provider_azureml_classic.client.retries import NO_RETRIES, Pause, Steps, persevere
from airflow_provider_azureml_classic.exceptions import (
    AzureMLClassicError,
    ProtocolError,
    RequestRejected,
    ServiceUnavailable,
)
from airflow_provider_azureml_classic.protocol import operations as ops
from airflow_provider_azureml_classic.protocol.jobs import JobRequest
from airflow_provider_azureml_classic.protocol.messages import Request, Response
from airflow_provider_azureml_classic.protocol.operations import Operation
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint

EVERYTHING = (*ops.OPERATIONS, ops.FETCH_BLOB, ops.PROBE_BLOB, ops.STORE_BLOB)
POLICY = RetryPolicy(attempts=4, base=0.5, cap=20.0)
QUICK = RetryPolicy(attempts=2, base=0.001)
BUSY = Response(503, {}, b"busy")
LOST = ServiceUnavailable("No answer (ConnectionError)")


def once(operation: Operation) -> Steps[Response]:
    """A verb that sends one request of this operation."""
    response = yield Request(operation, "https://h.example/x?sig=SECRET")
    return response


def run(operation: Operation, *outcomes: Response | ServiceUnavailable, policy: RetryPolicy = POLICY) -> Any:
    """Drive a verb through these outcomes; returns its result, the requests sent and the pauses made."""
    left, sent, pauses = list(outcomes), [], []
    steps = persevere(once(operation), policy)
    outcome = None
    while True:
        try:
            command = steps.send(outcome)
        except StopIteration as stop:
            assert not left, "not all outcomes were asked for"
            return stop.value, sent, pauses
        except AzureMLClassicError as error:
            assert not left, "not all outcomes were asked for"
            return error, sent, pauses
        if isinstance(command, Pause):
            pauses.append(command.seconds)
            outcome = None
        else:
            sent.append(command)
            outcome = left.pop(0)


@pytest.mark.parametrize("outcome", [BUSY, LOST], ids=["503", "lost"])
@pytest.mark.parametrize("operation", EVERYTHING, ids=lambda o: o.name)
def test_only_idempotent_operations_are_repeated(operation: Operation, outcome: Response | ServiceUnavailable) -> None:
    """What may be sent twice is repeated until it is answered; a submission or a start is sent once."""
    if operation.idempotent:
        result, sent, pauses = run(operation, outcome, outcome, Response(200))
        assert (result, len(sent), len(pauses)) == (Response(200), 3, 2)
        assert sent[0] is sent[1] is sent[2]
    else:
        result, sent, pauses = run(operation, outcome)
        assert (len(sent), pauses) == (1, [])
        assert result is outcome


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_repeated_statuses(status: int) -> None:
    """These answers say that the same request may succeed later."""
    assert run(ops.GET_JOB, Response(status), Response(200))[0].status == 200


@pytest.mark.parametrize("status", [200, 204, 301, 304, 400, 401, 403, 404, 409, 412, 413, 501])
def test_final_statuses(status: int) -> None:
    """Any other answer is final."""
    result, sent, pauses = run(ops.GET_JOB, Response(status))
    assert (result.status, len(sent), pauses) == (status, 1, [])


def test_attempts_exhausted_by_answers() -> None:
    """After the last attempt its own answer is what the verb gets."""
    last = Response(504, {}, b"last")
    result, sent, pauses = run(ops.GET_JOB, BUSY, LOST, BUSY, last)
    assert result is last
    assert (len(sent), len(pauses)) == (4, 3)


def test_attempts_exhausted_by_silence() -> None:
    """If the last attempt was not answered either, the verb is told so at the point where it waits."""
    last = ServiceUnavailable("No answer (the last)")
    result, sent, _ = run(ops.GET_JOB, LOST, BUSY, LOST, last)
    assert result is last
    assert len(sent) == 4
    assert (result.verb, result.url) == ("get_job", "https://h.example/x")


def test_one_attempt() -> None:
    """With one attempt nothing is repeated."""
    assert run(ops.GET_JOB, BUSY, policy=NO_RETRIES) == (
        BUSY,
        [Request(ops.GET_JOB, "https://h.example/x?sig=SECRET")],
        [],
    )


def test_each_request_of_a_verb_has_its_own_attempts() -> None:
    """A verb of several requests repeats each of them, not itself."""

    def twice() -> Steps[list[int]]:
        first = yield Request(ops.GET_JOB, "u1")
        second = yield Request(ops.GET_ENDPOINT, "u2")
        return [first.status, second.status]

    sent: list[str] = []
    outcomes = [BUSY, Response(200)] * 2

    def send(request: Request) -> Response:
        sent.append(request.url)
        return outcomes.pop(0)

    client = Client("https://h.example", "w", transport=send, retries=QUICK)
    assert client.drive(twice()) == [200, 200]
    assert sent == ["u1", "u1", "u2", "u2"]


@pytest.mark.parametrize("attempt", [1, 2, 3, 6, 40])
def test_pause_bounds(attempt: int) -> None:
    """A pause is drawn between half of its bound and the bound, which doubles up to the cap."""
    bound = min(20.0, 0.5 * 2 ** (attempt - 1))
    drawn = [POLICY.pause(attempt, LOST).seconds for _ in range(200)]
    assert all(bound / 2 <= seconds <= bound for seconds in drawn)
    assert len(set(drawn)) > 1


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("5", 5.25, 5.5),
        ("0", 0.25, 0.5),
        ("120", 20.0, 20.0),
        ("9" * 400, 20.0, 20.0),
        ("-3", 0.25, 0.5),
        ("²", 0.25, 0.5),
        ("", 0.25, 0.5),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 0.25, 0.5),
    ],
)
def test_retry_after(header: str, least: float, most: float) -> None:
    """``Retry-After`` in seconds is waited for and more, up to the cap; what is not a number is not asked for."""
    seconds = POLICY.pause(1, Response(503, {"retry-after": header})).seconds
    assert least <= seconds <= most


def test_persevere_needs_outcomes() -> None:
    """A driver that forgets to send the outcome back is told at once."""
    steps = persevere(once(ops.GET_JOB), POLICY)
    next(steps)
    with pytest.raises(TypeError, match="its outcome"):
        next(steps)


def test_client_sleeps_and_succeeds() -> None:
    """The blocking client makes the pauses with its own sleep, between the attempts."""
    events: list[str] = []
    answers = [Response(503, {"retry-after": "7"}), Response(200, {}, b"[]")]

    def send(request: Request) -> Response:
        events.append("sent")
        return answers.pop(0)

    def sleep(seconds: float) -> None:
        events.append("slept")
        assert 7 <= seconds <= 8

    assert Client("https://h.example", "w", transport=send, sleep=sleep).list_web_services() == []
    assert events == ["sent", "slept", "sent"]


def test_client_does_not_submit_twice() -> None:
    """A submission that was not answered is not repeated: the first one may have made a job."""
    sent: list[Request] = []

    def send(request: Request) -> Response:
        sent.append(request)
        raise LOST

    client = Client("https://h.example", "w", transport=send, sleep=lambda seconds: pytest.fail("slept"))
    with pytest.raises(ServiceUnavailable, match="No answer"):
        client.submit_job(Endpoint("e", api_location="https://h.example/s", primary_key="K"), JobRequest())
    assert [request.operation for request in sent] == [ops.SUBMIT_JOB]


def test_other_exceptions_are_not_caught() -> None:
    """A mistake in a transport is not taken for an unanswered call."""

    def send(request: Request) -> Response:
        raise KeyError("mistake")

    with pytest.raises(KeyError):
        Client("https://h.example", "w", transport=send, sleep=lambda seconds: pytest.fail("slept")).list_web_services()


# -- real sockets ------------------------------------------------------------------------------------------------------

#: What a server does with one accepted connection; the event is set when the test is over.
Behaviour = Callable[[socket.socket, threading.Event], None]


class Peer:
    """A server of bare sockets on a free port."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.connections = 0
        self._over = threading.Event()
        self._behaviour = behaviour
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            if self._over.is_set():
                connection.close()
                return
            self.connections += 1
            self._threads.append(threading.Thread(target=self._serve, args=(connection,), daemon=True))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(10)  # a client that fails to close it must fail the test, not hold it up
        with connection, contextlib.suppress(OSError):
            self._behaviour(connection, self._over)

    def close(self) -> None:
        """Stop and wait for every connection's end."""
        self._over.set()
        with contextlib.suppress(OSError):  # wakes `accept`
            socket.create_connection(self._listening.getsockname()).close()
        for thread in self._threads:
            thread.join()
        self._listening.close()


@pytest.fixture
def peer() -> Iterator[Callable[[Behaviour], Peer]]:
    """Starts servers of bare sockets and stops them at the end."""
    started: list[Peer] = []

    def start(behaviour: Behaviour) -> Peer:
        started.append(Peer(behaviour))
        return started[-1]

    yield start
    for one in started:
        one.close()


def read_head(connection: socket.socket) -> bytes:
    """The request up to the blank line."""
    head = b""
    while b"\r\n\r\n" not in head:
        part = connection.recv(65536)
        if not part:
            break
        head += part
    return head


def hang(connection: socket.socket, over: threading.Event) -> None:
    """Never answer."""
    over.wait(30)


def hang_up(connection: socket.socket, over: threading.Event) -> None:
    """Read the request and close the connection."""
    read_head(connection)


def break_off(connection: socket.socket, over: threading.Event) -> None:
    """Close the connection in the middle of the answer."""
    read_head(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n[{")


def babble(connection: socket.socket, over: threading.Event) -> None:
    """Answer with something that is not HTTP."""
    read_head(connection)
    connection.sendall(b"\x00\x01\x02 not http\r\n\r\n")


Ask = Callable[..., Any]


def ask_blocking(url: str, verb: str = "list_web_services", *arguments: Any, **options: Any) -> Any:
    """One call of the blocking client."""
    with Client(url, "w1", "KEY", **{"retries": QUICK, **options}) as client:
        return getattr(client, verb)(*arguments)


def ask_async(url: str, verb: str = "list_web_services", *arguments: Any, **options: Any) -> Any:
    """One call of the asynchronous client."""

    async def call() -> Any:
        async with AsyncClient(url, "w1", "KEY", **{"retries": QUICK, **options}) as client:
            return await getattr(client, verb)(*arguments)

    return asyncio.run(call())


both = pytest.mark.parametrize("ask", [ask_blocking, ask_async], ids=["requests", "aiohttp"])


def assert_no_answer(error: ServiceUnavailable, verb: str = "list_web_services") -> None:
    """The error says that there was no answer, to what, and what to do; and no more than that."""
    assert error.status is None
    text = str(error)
    assert text.startswith(f"{verb} http://127.0.0.1:")
    assert "No answer (" in text
    assert "HTTP" not in text
    assert "Check that the service runs" in text
    assert "SECRET" not in text
    assert "?" not in text


@both
def test_connection_refused(ask: Ask) -> None:
    """Nobody listens: no answer."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ServiceUnavailable) as caught:
        ask(f"http://127.0.0.1:{port}")
    assert_no_answer(caught.value)


@both
@pytest.mark.parametrize("behaviour", [hang_up, break_off, babble], ids=lambda value: value.__name__)
def test_broken_connection(ask: Ask, behaviour: Behaviour, peer: Callable[[Behaviour], Peer]) -> None:
    """A connection that is closed, cut or garbled is no answer; an idempotent call is made again."""
    server = peer(behaviour)
    with pytest.raises(ServiceUnavailable) as caught:
        ask(server.url)
    assert_no_answer(caught.value)
    assert server.connections >= QUICK.attempts


@pytest.mark.slow
@both
def test_server_that_hangs(ask: Ask, peer: Callable[[Behaviour], Peer]) -> None:
    """A server that never answers is given up after the client's time-out."""
    server = peer(hang)
    with pytest.raises(ServiceUnavailable, match=r"[Tt]imeout") as caught:
        ask(server.url, timeout=0.2, retries=NO_RETRIES)
    assert_no_answer(caught.value)
    assert server.connections == 1


@both
@pytest.mark.parametrize("behaviour", [hang_up, break_off, babble], ids=lambda value: value.__name__)
def test_submission_is_sent_once(ask: Ask, behaviour: Behaviour, peer: Callable[[Behaviour], Peer]) -> None:
    """No layer, the transports' libraries included, sends a submission a second time."""
    server = peer(behaviour)
    endpoint = Endpoint("e", api_location=f"{server.url}/workspaces/w/services/g", primary_key="K")
    with pytest.raises(ServiceUnavailable) as caught:
        ask(server.url, "submit_job", endpoint, JobRequest())
    assert_no_answer(caught.value, "submit_job")
    assert server.connections == 1


@both
def test_lost_blob_call_does_not_show_its_token(ask: Ask, peer: Callable[[Behaviour], Peer]) -> None:
    """The libraries put the whole URL into their errors; ours has no token, nor has its chain of causes as shown."""
    server = peer(hang_up)
    with pytest.raises(ServiceUnavailable) as caught:
        ask(server.url, "fetch_blob", BlobReference("c/m.ilearner", f"{server.url}/", "?sig=SECRET"))
    assert_no_answer(caught.value, "fetch_blob")
    assert caught.value.__suppress_context__
    assert caught.value.__cause__ is None


@both
def test_retry_after_silence_succeeds(ask: Ask, peer: Callable[[Behaviour], Peer]) -> None:
    """A call that was lost once is answered the second time."""
    calls: list[bytes] = []

    def second_time(connection: socket.socket, over: threading.Event) -> None:
        calls.append(read_head(connection))
        if len(calls) > 1:
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n[]")

    assert ask(peer(second_time).url) == []
    assert len(calls) == 2


@both
def test_redirect_is_not_followed(ask: Ask, peer: Callable[[Behaviour], Peer]) -> None:
    """A redirect is no part of the protocol, and following it would show the key to another host."""
    elsewhere = peer(hang_up)

    def redirect(connection: socket.socket, over: threading.Event) -> None:
        read_head(connection)
        answer = f"HTTP/1.1 302 Found\r\nlocation: {elsewhere.url}/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        connection.sendall(answer.encode())

    with pytest.raises(ProtocolError) as caught:
        ask(peer(redirect).url)
    assert (caught.value.status, elsewhere.connections) == (302, 0)


class Heads:
    """A behaviour that keeps the heads of requests and answers each with an empty list."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []

    def __call__(self, connection: socket.socket, over: threading.Event) -> None:
        """Keep and answer."""
        while head := read_head(connection):
            self.heads.append(head)
            connection.sendall(b"HTTP/1.1 200 OK\r\nset-cookie: c=1\r\ncontent-length: 2\r\n\r\n[]")


@both
@pytest.mark.parametrize(
    "token", ["sig=a%3D%3D", "sig=a%2Bb%2Fc%3D", "sig=a+b", "sig=a+b%20c&se=2016-03-02T10%3A00%3A00Z"]
)
def test_token_reaches_the_server_as_it_is(ask: Ask, token: str, peer: Callable[[Behaviour], Peer]) -> None:
    """A token is signed as it is spelled: neither transport encodes, decodes or reorders a byte of it."""
    keep = Heads()
    server = peer(keep)
    ask(server.url, "fetch_blob", BlobReference("c/f eb .csv", f"{server.url}/", f"?{token}"))
    assert keep.heads[0].split(b" ")[1] == f"/c/f%20eb%20.csv?{token}".encode()
    assert b"uthorization" not in keep.heads[0]


@both
def test_netrc_does_not_replace_the_key(
    ask: Ask, peer: Callable[[Behaviour], Peer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry for the host in the user's ``.netrc`` is no key of the service, and no business of a blob's host."""
    keep = Heads()
    server = peer(keep)
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password other\n")
    monkeypatch.setenv("NETRC", str(netrc))
    ask(server.url)
    ask(server.url, "fetch_blob", BlobReference("c/m.csv", f"{server.url}/", "?sig=x"))
    assert b"authorization: bearer key\r\n" in keep.heads[0].lower()
    assert b"authorization" not in keep.heads[1].lower()


def test_blocking_client_reuses_its_connection(peer: Callable[[Behaviour], Peer]) -> None:
    """All calls of a client go over one pooled connection; closed and used again, it opens another."""
    keep = Heads()
    server = peer(keep)
    transport = RequestsTransport()
    with Client(server.url, "w1", transport=transport) as client:
        client.list_web_services()
        client.list_web_services()
        assert server.connections == 1
        client.close()
        client.list_web_services()
    assert (server.connections, len(keep.heads)) == (2, 3)
    transport.close()


@pytest.mark.slow
@pytest.mark.filterwarnings("error::ResourceWarning")
def test_clients_of_a_loop_share_a_session(peer: Callable[[Behaviour], Peer]) -> None:
    """Clients of one event loop share one session and its connections; the last to leave closes it."""
    keep = Heads()
    server = peer(keep)
    url = server.url.replace("127.0.0.1", "localhost")  # cookies of a bare address are never kept

    async def several() -> None:
        first, second = AsyncClient(url, "w1"), AsyncClient(url, "w2")
        async with first:
            await first.list_web_services()
            async with second:
                await second.list_web_services()
                assert first._shared is second._shared
                shared = first._shared
                assert shared is not None
                session = shared._session
            assert (shared.users, session is shared._session) == (1, True)
            await first.list_web_services()
        assert session is not None
        assert (shared.users, shared._session, session.closed) == (0, None, True)
        async with second:
            assert second._shared is not shared

    asyncio.run(several())
    gc.collect()
    assert (server.connections, len(keep.heads)) == (1, 3)
    assert not any(b"cookie" in head.lower() for head in keep.heads)


def test_sessions_are_apart_by_certificates_and_loop() -> None:
    """Clients that check certificates differently, or run in other loops, do not share."""

    async def joined(*verify: bool) -> list[SharedSession]:
        clients = [AsyncClient("http://h.example", "w", verify=value) for value in verify]
        async with contextlib.AsyncExitStack() as stack:
            for client in clients:
                await stack.enter_async_context(client)
            return [client._shared for client in clients if client._shared]

    checked, unchecked, again = asyncio.run(joined(True, False, True))
    (other,) = asyncio.run(joined(True))
    assert checked is again
    assert len({id(checked), id(unchecked), id(other)}) == 3


def test_many_waits_at_a_time(peer: Callable[[Behaviour], Peer]) -> None:
    """Calls of many clients in one loop run side by side over the shared session."""
    arrived = threading.Barrier(8, timeout=10)

    def together(connection: socket.socket, over: threading.Event) -> None:
        read_head(connection)
        arrived.wait()
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n[]")

    server = peer(together)

    async def ask(number: int) -> Any:
        async with AsyncClient(server.url, f"w{number}", retries=NO_RETRIES) as client:
            return await client.list_web_services()

    async def all_of_them() -> list[Any]:
        return await asyncio.gather(*(ask(number) for number in range(8)))

    assert asyncio.run(all_of_them()) == [[]] * 8


def test_error_of_one_client_leaves_the_session_open(peer: Callable[[Behaviour], Peer]) -> None:
    """A client that fails inside its block leaves like any other."""

    def refuse(connection: socket.socket, over: threading.Event) -> None:
        read_head(connection)
        connection.sendall(b"HTTP/1.1 400 Bad\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno")

    server = peer(refuse)

    async def failing() -> SharedSession:
        async with AsyncClient(server.url, "w") as other:
            with pytest.raises(RequestRejected):
                async with AsyncClient(server.url, "w") as client:
                    await client.list_web_services()
            assert other._shared is not None
            assert other._shared.users == 1
            return other._shared

    assert asyncio.run(failing()).users == 0


def test_pause_of_the_async_client_lets_others_run() -> None:
    """A pause of the asynchronous client does not hold up its event loop."""
    events: list[str] = []

    class Announcing(RetryPolicy):
        def pause(self, attempt: int, outcome: Response | ServiceUnavailable) -> Pause:
            asyncio.get_running_loop().call_soon(events.append, "other")
            return Pause(0.01)

    class Unreachable(SharedSession):
        async def send(self, request: Request) -> Response:
            events.append("sent")
            raise LOST

    async def call() -> None:
        client = AsyncClient("https://h.example", "w", retries=Announcing(attempts=2))
        client._shared = Unreachable(True)
        with pytest.raises(ServiceUnavailable):
            await client.list_web_services()

    asyncio.run(call())
    assert events == ["sent", "other", "sent"]


def test_time_out_of_the_request_is_used() -> None:
    """The blocking transport has a time-out of its own for connecting and takes the request's for the rest."""
    given: list[Any] = []

    class Session:
        def request(self, method: str, url: str, **options: Any) -> Any:
            given.append((method, url, options["timeout"], options["verify"]))
            answer = requests.Response()
            answer.status_code, answer.headers["ETag"], answer.raw = 200, "1", io.BytesIO()
            return answer

    transport = RequestsTransport(verify="bundle.pem", connect_timeout=3.0)
    transport._session = Session()
    response = transport(Request(ops.SCORE, "https://h.example/", timeout=100.0))
    assert given == [("POST", "https://h.example/", (3.0, 100.0), "bundle.pem")]
    assert response == Response(200, {"etag": "1"})


def test_default_sleep_is_the_clock() -> None:
    """Unless told otherwise the client really waits."""
    assert Client("https://h.example", "w")._sleep is time.sleep


def test_a_deletion_whose_answer_was_lost() -> None:
    """The second call finds nothing: the first one has done it. A first call that finds nothing is refused."""
    result, sent, _ = run(ops.DELETE_ENDPOINT, LOST, Response(404, {}, b"{}"))
    assert (result.status, len(sent)) == (204, 2)
    assert run(ops.DELETE_ENDPOINT, Response(404, {}, b"{}"))[0].status == 404
    assert run(ops.GET_ENDPOINT, LOST, Response(404, {}, b"{}"))[0].status == 404


@pytest.mark.parametrize("status", [200, 400])
def test_an_answer_that_is_nested_beyond_sense_is_no_answer(status: int) -> None:
    """It is neither a list nor a job id nor an error object, and ends in no traceback of Python's own."""
    body = b"[" * 100_000 if status == 200 else b'{"error":' * 20_000
    client = Client("https://h.example", "w", transport=lambda _: Response(status, {}, body), retries=NO_RETRIES)
    with pytest.raises(AzureMLClassicError):
        client.list_web_services()
