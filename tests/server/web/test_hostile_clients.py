"""Clients that mean harm, over bare sockets to a real server process: a clean refusal, and the next one is served."""

from __future__ import annotations

import gzip
import json
import pickle
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.protocol.values import Endpoint
from tests.support import BIKES_SCORING, ServerProcess
from tests.support.sockets import BODY, ROW, answer, assert_error, head

pytestmark = pytest.mark.slow

MIB = 1 << 20


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose limits a test can wait for."""
    running = ServerProcess(tmp_path_factory.mktemp("impatient") / "data", program=("tests.support.impatient_server",))
    yield running
    said = running.log.read_text()
    running.stop()
    assert "Traceback" not in said


@pytest.fixture
def client(impatient: ServerProcess) -> Iterator[Client]:
    """A client of it."""
    with impatient.client() as made:
        yield made


@pytest.fixture
def endpoint(client: Client) -> Endpoint:
    """The default endpoint of a scoring service."""
    return client.get_endpoint(client.find_web_service(BIKES_SCORING).id, "default")


@pytest.fixture
def dial(impatient: ServerProcess) -> Iterator[Callable[..., socket.socket]]:
    """Opens connections, which are closed at the end."""
    parts = urlsplit(impatient.url)
    with ExitStack() as stack:

        def begin(receive_buffer: int = 0) -> socket.socket:
            line = stack.enter_context(socket.socket())
            if receive_buffer:
                line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            line.settimeout(30)
            line.connect((parts.hostname, parts.port))
            return line

        yield begin


@pytest.fixture(autouse=True)
def still_there(client: Client, endpoint: Endpoint) -> Iterator[None]:
    """Whatever a test did, the next client is served."""
    yield
    assert client.score(endpoint, [ROW]).values


def ends(line: socket.socket) -> bytes:
    """All that is sent until the server closes the connection."""
    received = b""
    try:
        while piece := line.recv(65536):
            received += piece
    except ConnectionResetError:
        pass
    return received


def drip(line: socket.socket, piece: bytes) -> bytes:
    """Send a little again and again until the server has enough; returns what it said."""
    line.settimeout(0.1)
    for _ in range(300):
        try:
            line.sendall(piece)
            return line.recv(65536)
        except TimeoutError:
            continue
        except (BrokenPipeError, ConnectionResetError):
            return b""
    raise AssertionError("the server never had enough")


# -- slow ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "piece"),
    [(b"", b""), (b"GET / HTTP/1.1\r\n", b""), (b"GET / HTTP/1.1\r\n", b"X: y\r\n"), (b"GET /", b"a")],
)
def test_a_head_that_never_ends_is_left(dial, first: bytes, piece: bytes) -> None:
    """Silence, one header line after another, one letter after another: 408, however busy the client looks."""
    line = dial()
    line.sendall(first)
    received = drip(line, piece)
    assert received.startswith(b"HTTP/1.1 408 ")
    assert json.loads(received.partition(b"\r\n\r\n")[2])["error"]["details"]


def test_a_second_head_that_never_ends_is_left(dial, endpoint: Endpoint) -> None:
    """The limit holds again for each request of a connection, also when blank lines come in between."""
    line = dial()
    line.sendall(head(endpoint, f"Content-Length: {len(BODY)}") + BODY)
    assert answer(line)[0] == 200
    assert drip(line, b"\r\n")[:13] in (b"", b"HTTP/1.1 408 ")


@pytest.mark.parametrize("lines", [("Content-Length: 1000",), ("Transfer-Encoding: chunked",)])
def test_a_body_that_stops_is_left(dial, endpoint: Endpoint, lines: tuple[str, ...]) -> None:
    """408 in the protocol's shape, and the connection is closed."""
    line = dial()
    line.sendall(head(endpoint, *lines) + b"5\r\n")
    assert_error(answer(line), 408, "RequestTimeout")
    assert ends(line) == b""


def test_a_body_of_a_byte_now_and_then_is_left(dial, endpoint: Endpoint) -> None:
    """Not only gaps count, but how much comes in the long run."""
    line = dial()
    line.sendall(head(endpoint, "Content-Length: 100000"))
    assert drip(line, b" ").startswith(b"HTTP/1.1 408 ")


def test_a_form_that_stops_is_left(dial) -> None:
    """Pages wait no longer for a body than calls do."""
    line = dial()
    form = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100"
    line.sendall(f"POST /portal/sign-in HTTP/1.1\r\nHost: x\r\n{form}\r\n\r\ntoken=".encode())
    assert re.match(rb"HTTP/1.1 4\d\d ", ends(line))


def test_an_upload_that_stops_is_left_and_leaves_nothing(dial, impatient: ServerProcess) -> None:
    """The store answers in its own shape, and the half blob is gone."""
    line = dial()
    place = urlsplit(impatient.sas("uploads/half.csv", "cw").url)
    request = f"PUT {place.path}?{place.query} HTTP/1.1\r\nHost: x\r\nx-ms-blob-type: BlockBlob\r\n"
    line.sendall(f"{request}Content-Length: 100\r\n\r\nhalf".encode())
    received = ends(line)
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b"<Code>OperationTimedOut</Code>" in received
    assert list((impatient.data_dir / "blobs" / ".tmp").iterdir()) == []


def test_an_answer_that_is_not_read_is_dropped(dial, impatient: ServerProcess) -> None:
    """Clients that ask for much and read nothing hold little memory, and are let go."""
    blob = impatient.upload("uploads/large.csv", b"x" * (32 * MIB))
    place = urlsplit(blob.url)
    process = psutil.Process(impatient.process.pid)
    before = process.memory_info().rss
    lines = [dial(receive_buffer=4096) for _ in range(20)]
    for line in lines:
        line.sendall(f"GET {place.path}?{place.query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    time.sleep(1)
    assert process.memory_info().rss - before < 128 * MIB
    ours = {line.getsockname()[1] for line in lines}
    deadline = time.monotonic() + 30
    while ours & {one.raddr.port for one in process.net_connections() if one.raddr}:
        assert time.monotonic() < deadline, "connections whose answer is not read stay open"
        time.sleep(0.2)


def test_too_many_connections_are_turned_away(dial, client: Client) -> None:
    """503 at once, for those over the limit; the others are served, and there is room again afterwards."""
    lines = [dial() for _ in range(75)]
    received = ends(lines[-1])
    assert received.startswith(b"HTTP/1.1 503 ")
    assert json.loads(received.partition(b"\r\n\r\n")[2])["error"]["details"][0]["code"] == "NoMoreResources"
    for line in lines:
        line.close()
    until = time.monotonic() + 20
    while True:
        with dial() as line:
            line.sendall(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
            if line.recv(100).startswith(b"HTTP/1.1 404 "):
                return
        assert time.monotonic() < until
        time.sleep(0.1)


# -- too large -------------------------------------------------------------------------------------------------------


def test_a_head_without_end_is_refused(dial) -> None:
    """Header lines as fast as they go: 431, and memory does not grow."""
    line = dial()
    line.sendall(b"GET / HTTP/1.1\r\n")
    for number in range(100_000):
        try:
            line.sendall(b"X-%d: %s\r\n" % (number, b"y" * 1000))
        except (BrokenPipeError, ConnectionResetError):
            assert number < 10_000
            break
    else:
        assert ends(line).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("what", ["header", "target", "many"])
def test_a_large_head_is_refused(dial, endpoint: Endpoint, what: str) -> None:
    """One long header, a long address, or many short headers."""
    line = dial()
    lines = {"header": ["X: " + "y" * 70_000], "many": [f"X{i}: y" for i in range(20_000)]}.get(what, [])
    target = "/" + "y" * 70_000 if what == "target" else ""
    line.sendall(head(endpoint, *lines, "Content-Length: 0", target=target))
    # A target over 64 KiB is no URL to the parser.
    assert ends(line)[:13] == (b"HTTP/1.1 400 " if what == "target" else b"HTTP/1.1 431 ")


def test_a_large_head_is_refused_by_the_store_too(dial, impatient: ServerProcess) -> None:
    """Blobs and pages have the same limit as calls."""
    for path in (urlsplit(impatient.account.endpoint).path + "/a/b", "/healthz", "/portal/"):
        line = dial()
        line.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nX: {'y' * 70_000}\r\n\r\n".encode())
        assert ends(line).startswith(b"HTTP/1.1 431 ")


def test_trailers_are_not_kept(dial, endpoint: Endpoint, impatient: ServerProcess) -> None:
    """Headers after a chunked body have no limit of their own, so nobody keeps them."""
    process = psutil.Process(impatient.process.pid)
    line = dial()
    line.sendall(head(endpoint, "Transfer-Encoding: chunked") + b"%x\r\n%s\r\n0\r\n" % (len(BODY), BODY))
    before = process.memory_info().rss
    for number in range(2000):
        line.sendall(b"".join(b"X-%d: %s\r\n" % (number, b"y" * 1000) for _ in range(32)))
    assert process.memory_info().rss - before < 32 * MIB
    line.sendall(b"\r\n")
    assert answer(line)[0] == 200


def test_many_large_bodies_of_nobody_are_not_held(dial, endpoint: Endpoint, impatient: ServerProcess) -> None:
    """Nearly whole bodies of 4 MB, with a wrong key or none: refused without waiting for the end."""
    process = psutil.Process(impatient.process.pid)
    before = process.memory_info().rss
    lines = [dial() for _ in range(20)]
    path, size = urlsplit(endpoint.api_location).path, f"Content-Length: {4 * MIB}"
    wrong = f"{path}/execute?api-version=2.0 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer wrong"
    for number, line in enumerate(lines):
        first = "/x HTTP/1.1\r\nHost: x" if number % 2 else wrong
        line.sendall(f"POST {first}\r\n{size}\r\n\r\n".encode() + b" " * (4 * MIB - 1))
    assert {answer(line)[0] for line in lines} == {404, 401}
    assert process.memory_info().rss - before < 60 * MIB


def test_many_large_bodies_at_once_hold_bounded_memory(dial, endpoint: Endpoint, impatient: ServerProcess) -> None:
    """Nearly whole bodies of 4 MB on fifty connections: the server stays within its budget."""
    process = psutil.Process(impatient.process.pid)
    before = process.memory_info().rss
    lines = [dial() for _ in range(50)]
    for line in lines:
        line.sendall(head(endpoint, f"Content-Length: {4 * MIB}") + b" " * (4 * MIB - 1))
    assert process.memory_info().rss - before < 400 * MIB
    for line in lines:
        line.sendall(b" ")
    assert {answer(line)[0] for line in lines} <= {400, 408, 503}


def test_a_compressed_body_is_not_expanded(dial, endpoint: Endpoint) -> None:
    """What a client says about encodings does not matter: a gzip file is no JSON."""
    bomb = gzip.compress(b" " * (256 * MIB), 9)
    line = dial()
    line.sendall(head(endpoint, "Content-Encoding: gzip", f"Content-Length: {len(bomb)}") + bomb)
    assert_error(answer(line), 400, "RequestBodyInvalid")


# -- odd JSON --------------------------------------------------------------------------------------------------------


def scoring(cell: str) -> bytes:
    """A scoring body with some JSON as the value of ``temp``."""
    return json.dumps({"Inputs": {"input1": [{**ROW, "temp": "CELL"}]}}).replace('"CELL"', cell).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"Inputs":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        scoring("[" * 900 + "]" * 900),
        scoring("9" * 5000),
        scoring("1e400"),
        scoring("-1e400"),
        scoring("NaN"),
        scoring("Infinity"),
        scoring('"\\ud800"'),
        scoring('"\\u0000"'),
        scoring("{}"),
        scoring("true"),
        b"\xff\xfe{}",
        b'{"Inputs": "\xc3\x28"}',
        b'{"Inputs": {"input1": [{}]}, "Inputs": {"input1": null}}',
        b"null",
        b'"text"',
        b"0",
        b"[]",
        b"{}",
        b"{",
        b'{"Inputs": {"input1": {"ColumnNames": null, "Values": 3}}}',
        b'{"Inputs": {"input1": {"ColumnNames": ["temp"], "Values": [[{}]]}}}',
    ],
)
def test_odd_json_is_refused_with_details(dial, endpoint: Endpoint, body: bytes) -> None:
    """Depth, numbers without end, halves of characters, duplicate names: never a fault of the server."""
    line = dial()
    line.sendall(head(endpoint, f"Content-Length: {len(body)}") + body)
    status, _, said = answer(line)
    if status != 200:
        assert 400 <= status < 500, said
        assert said["error"]["details"][0]["code"]


# -- paths -----------------------------------------------------------------------------------------------------------

CLIMBING = ["../state.db", "%2e%2e/state.db", "..%2fstate.db", "%2e%2e%2fsecrets.json", "..%5csecrets.json"]
CLIMBING += ["....//secrets.json", "data/..%2f..%2f..%2fsecrets.json", "%2fetc%2fpasswd", "data/%00", ".tmp/x", "x/%0a"]


@pytest.mark.parametrize("path", CLIMBING)
def test_a_blobs_name_does_not_climb(dial, impatient: ServerProcess, path: str) -> None:
    """With a good signature for the whole account, no spelling of a path leaves the store or its containers."""
    from airflow_provider_azureml_classic.protocol.sas import hmac_sha256

    account = impatient.account
    root = urlsplit(account.endpoint).path
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())
    raw = f"{root}/{path}"
    text = f"GET{chr(10) * 12}x-ms-date:{date}\nx-ms-version:2020-12-06\n/{account.name}{raw}"
    signature = hmac_sha256(account, text)
    line = dial()
    line.sendall(
        f"GET {raw} HTTP/1.1\r\nHost: x\r\nx-ms-date: {date}\r\nx-ms-version: 2020-12-06\r\n"
        f"Authorization: SharedKey {account.name}:{signature}\r\nConnection: close\r\n\r\n".encode()
    )
    received = ends(line)
    assert re.match(rb"HTTP/1.1 (4\d\d|501) ", received), received[:200]
    assert b"cipher_key" not in received
    assert b"SQLite" not in received


@pytest.mark.parametrize("relative", ["../secrets.json", "data/../../secrets.json", "data/a\x00b.csv"])
def test_a_jobs_input_does_not_climb(client: Client, relative: str) -> None:
    """References of jobs pass the same check as blobs over HTTP."""
    trainer = client.get_endpoint(client.find_web_service("Bike Rental").id, "default")
    body = {"Input": {"ConnectionString": None, "RelativeLocation": relative}, "GlobalParameters": {}}
    status, said = post(trainer, "/jobs", body)
    assert (status, bool(said["error"]["details"])) == (400, True)


def post(endpoint: Endpoint, tail: str, body: Any) -> tuple[int, Any]:
    """POST to an endpoint's API; returns status and decoded answer."""
    import requests

    answered = requests.post(
        f"{endpoint.api_location}{tail}?api-version=2.0",
        json=body,
        headers={"Authorization": f"Bearer {endpoint.primary_key}"},
        timeout=30,
    )
    return answered.status_code, answered.json()


# -- code ------------------------------------------------------------------------------------------------------------


class Exploit:
    """Makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


def test_a_pickle_as_model_is_not_run(client: Client, impatient: ServerProcess, tmp_path) -> None:
    """A PATCH with a pickle is refused, and says what it found; nothing of it was executed."""
    import requests

    mark = tmp_path / "executed"
    blob = impatient.upload("uploads/model.ilearner", pickle.dumps(Exploit(str(mark))))
    service = client.find_web_service(BIKES_SCORING)
    made = client.add_endpoint(service.id, "pickled")
    resources = [{"Name": made.resources[0].name, "Location": blob.to_wire()}]
    url = (
        f"{impatient.url}/workspaces/{impatient.connection['workspace_id']}/webservices/{service.id}/endpoints/pickled"
    )
    answered = requests.patch(
        url, json={"Resources": resources}, headers={"Authorization": f"Bearer {made.primary_key}"}, timeout=30
    )
    assert answered.status_code == 400
    assert "a Python pickle" in answered.json()["error"]["message"]
    assert not mark.exists()


# -- what is said ----------------------------------------------------------------------------------------------------


def test_no_answer_names_the_software(dial, endpoint: Endpoint) -> None:
    """No ``Server`` or ``X-Powered-By`` header, whatever is asked."""
    targets = ["/", "/nothing", urlsplit(endpoint.help_location).path, "/mlclassic/a/b", "/apihelp/style.css"]
    for target in targets:
        line = dial()
        line.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        received = ends(line).partition(b"\r\n\r\n")[0].lower()
        assert b"\r\nserver:" not in received
        assert b"x-powered-by" not in received
        assert b"uvicorn" not in received
        if b"text/html" in received:
            assert b"content-security-policy: default-src 'none'" in received


def test_an_upgrade_is_not_taken(dial) -> None:
    """There are no WebSockets here: the request is answered as if it were a plain one."""
    line = dial()
    line.sendall(
        b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert answer(line)[0] == 404
