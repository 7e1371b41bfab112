"""The service over a real socket: bodies of every transfer form and size, and odd bytes in request lines."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.server.web.connections import begun_upgrade, without_upgrade
from tests.support import BIKES_SCORING, ServerProcess
from tests.support.sockets import BODY, ROW, answer, assert_error, head

LIMIT = 4 << 20


@pytest.fixture
def endpoint(client: Client) -> Endpoint:
    """The default endpoint of a scoring service."""
    return client.get_endpoint(client.find_web_service(BIKES_SCORING).id, "default")


@pytest.fixture
def line_to(server: ServerProcess) -> Iterator[socket.socket]:
    """A bare connection to the server."""
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as connection:
        yield connection


def assert_scored(reply: tuple[int, dict[str, str], Any]) -> None:
    """The one row was scored."""
    status, _, body = reply
    assert status == 200, body
    assert float(body["Results"]["output1"]["value"]["Values"][0][0]) > 0


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Type: application/json; charset=us-ascii"],
        ["Content-Type: application/json;charset=UTF8"],
        ["Content-Type: text/json"],
        ["Content-Type: application/x-www-form-urlencoded"],
        ["Content-Encoding: UTF-8"],
        ["Content-Encoding: gzip"],
        ["Accept: application/xml", "Accept-Encoding: br"],
        [],
    ],
)
def test_headers_of_old_clients_do_not_matter(endpoint: Endpoint, line_to: socket.socket, lines: list[str]) -> None:
    """Whatever type, charset or encoding a client declares, the body is JSON in UTF-8."""
    line_to.sendall(head(endpoint, *lines, f"Content-Length: {len(BODY)}") + BODY)
    assert_scored(answer(line_to))


def test_a_body_may_come_in_chunks_and_pieces(endpoint: Endpoint, line_to: socket.socket) -> None:
    """Chunked, byte by byte at first, twice on one connection."""
    for _ in range(2):
        line_to.sendall(head(endpoint, "Transfer-Encoding: chunked"))
        for piece in (BODY[:1], BODY[1:2], BODY[2:]):
            line_to.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        line_to.sendall(b"0\r\n\r\n")
        assert_scored(answer(line_to))


def test_a_client_may_wait_for_100_continue(endpoint: Endpoint, line_to: socket.socket) -> None:
    """curl does, for bodies over a kilobyte."""
    line_to.sendall(head(endpoint, "Expect: 100-continue", f"Content-Length: {len(BODY)}"))
    assert line_to.recv(25).startswith(b"HTTP/1.1 100 ")
    line_to.sendall(BODY)
    assert_scored(answer(line_to))


@pytest.mark.parametrize("spelled", ["Upgrade: h2c", "upgrade:h2c"])
def test_a_client_may_wish_for_another_protocol(endpoint: Endpoint, line_to: socket.socket, spelled: str) -> None:
    """Java's ``HttpClient`` asks for HTTP/2 with each call: it is answered in HTTP/1.1, and its body is read."""
    wish = ["Connection: Upgrade, HTTP2-Settings", spelled, "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA"]
    for _ in range(2):
        line_to.sendall(head(endpoint, *wish, f"Content-Length: {len(BODY)}"))
        line_to.sendall(BODY)
        assert_scored(answer(line_to))


@pytest.mark.slow
@pytest.mark.parametrize(
    "at", [b"\r\nUpgr", b"\r", b"Connection: Upgrade\r", b"Upgrade:", b"Upgrade: h2c\r\n", b"h2c\r\nU", b"\r\n\r"]
)
def test_the_wish_may_come_in_two_pieces(endpoint: Endpoint, line_to: socket.socket, at: bytes) -> None:
    """However a network cuts the head, the body is read; twice on one connection."""
    whole = head(endpoint, "Connection: Upgrade", f"Content-Length: {len(BODY)}", "Upgrade: h2c", "User: x") + BODY
    end = (whole.rfind(at) if at == b"\r\n\r" else whole.find(at)) + len(at)
    for _ in range(2):
        line_to.sendall(whole[:end])
        time.sleep(0.05)
        line_to.sendall(whole[end:])
        assert_scored(answer(line_to))


def test_two_keys_are_none(endpoint: Endpoint, line_to: socket.socket) -> None:
    """Nobody could say which of two ``Authorization`` headers counts: a proxy and the server might differ."""
    line_to.sendall(head(endpoint, "authorization: Bearer other", f"Content-Length: {len(BODY)}") + BODY)
    status, _, body = answer(line_to)
    assert (status, body["error"]["details"][0]["code"]) == (400, "RequestBodyInvalid")


def test_wherever_a_head_is_cut_its_upgrade_is_found() -> None:
    """After each byte; what is held back for it comes with the next piece."""
    data = b"POST / HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nA: b\r\n\r\n"
    for cut in range(1, len(data)):
        held = begun_upgrade(data[:cut])
        begun = data[: cut - len(held)]
        assert without_upgrade(begun) + without_upgrade(held + data[cut:]) == without_upgrade(data)


def test_only_the_head_loses_its_upgrade() -> None:
    """A body may have any lines; the number of bytes stays."""
    data = b"POST / HTTP/1.1\r\nUPGRADE: h2c\r\n\r\n{\r\nUpgrade: 1}"
    assert without_upgrade(data) == data.replace(b"UPGRADE", b"x-asked")


def members(body: bytes) -> bytes:
    """A body as Java's writers of beans make it: members begin in lower case, names of columns and inputs do not."""
    return body.replace(b"Inputs", b"inputs").replace(b"GlobalParameters", b"globalParameters")


@pytest.mark.parametrize(
    ("target", "content_type", "body"),
    [
        ("/execute?api-version=2.0&format=", "application/json", members(BODY)),
        ("/Execute?API-Version=2.0", "application/json", BODY),
        ("//execute?api-version=2.0", "application/json", BODY),
        ("/execute?api-version=2.0", "application/json; charset=utf-16", BODY.decode().encode("utf-16-le")),
        ("/execute?api-version=2.0", 'application/json; charset="UTF-16"', BODY.decode().encode("utf-16")),
        ("/execute?api-version=2.0", "application/json; charset=utf-16", BODY),
        ("/execute?api-version=2.0", "application/json; charset=ISO-8859-1", BODY[:-1] + b', "Outputs": {"\xe4": 1}}'),
    ],
    ids=["members", "path and query", "slashes", "UTF-16", "UTF-16 with a mark", "not UTF-16", "Latin-1"],
)
def test_spellings_that_the_cloud_service_read(
    endpoint: Endpoint, line_to: socket.socket, target: str, content_type: str, body: bytes
) -> None:
    """Cases of members, paths and parameters, a slash too many, and charsets of Windows."""
    path = urlsplit(endpoint.api_location).path + target
    lines = [f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    line_to.sendall(head(endpoint, *lines, target=path) + body)
    assert_scored(answer(line_to))


def test_the_table_form_in_lower_case(endpoint: Endpoint, line_to: socket.socket) -> None:
    """The members of a table are the protocol's as well."""
    table = {"columnNames": list(ROW), "values": [list(ROW.values())]}
    body = json.dumps({"inputs": {"input1": table}}).encode()
    line_to.sendall(head(endpoint, f"Content-Length: {len(body)}") + body)
    assert_scored(answer(line_to))


def test_later_calls_of_a_connection_are_read_like_the_first(endpoint: Endpoint, line_to: socket.socket) -> None:
    """What is no call, or has a member too many, is refused, and members in lower case are read, there as well."""
    for body, wrong in (
        (BODY, ""),
        (b"[]", "RequestBodyInvalid"),
        (BODY[:-1] + b', "Outputz": {}}', "UnexpectedParameter"),
        (members(BODY), ""),
    ):
        line_to.sendall(head(endpoint, f"Content-Length: {len(body)}") + body)
        reply = answer(line_to)
        if wrong:
            assert_error(reply, 400, wrong)
        else:
            assert_scored(reply)


@pytest.mark.parametrize(
    ("charset", "body"), [("unicode_escape", rb"\x7b}"), ("utf-7", b"+AHs-}"), ("none-such", b"+")]
)
def test_other_charsets_are_not_tried(endpoint: Endpoint, line_to: socket.socket, charset: str, body: bytes) -> None:
    """Codecs that Python has besides are left alone: some are no charset, some take long."""
    lines = [f"Content-Type: application/json; charset={charset}", f"Content-Length: {len(body)}"]
    line_to.sendall(head(endpoint, *lines) + body)
    assert_error(answer(line_to), 400, "RequestBodyInvalid")


def test_head_is_get_without_a_body(endpoint: Endpoint, line_to: socket.socket) -> None:
    """What can be read can be asked for."""
    path = f"{urlsplit(endpoint.api_location).path}/swagger.json"
    line_to.sendall(f"HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    received = b"".join(iter(lambda: line_to.recv(65536), b""))
    assert received.startswith(b"HTTP/1.1 200 ")
    assert received.endswith(b"\r\n\r\n")
    assert int(re.search(rb"content-length: (\d+)", received)[1]) > 1000  # type: ignore[index]


def test_a_body_over_the_limit_is_refused_before_it_is_read(endpoint: Endpoint, line_to: socket.socket) -> None:
    """The declared length is enough: not one byte of the body is waited for."""
    line_to.sendall(head(endpoint, f"Content-Length: {LIMIT + 1}"))
    assert_error(answer(line_to), 413, "RequestBodyTooLarge")


def test_chunks_over_the_limit_are_refused_in_between(endpoint: Endpoint, line_to: socket.socket) -> None:
    """A body without a declared length is cut off at the limit, however long it would go on."""
    line_to.sendall(head(endpoint, "Transfer-Encoding: chunked"))
    chunk = b"%x\r\n%s\r\n" % (1 << 20, b" " * (1 << 20))
    for _ in range(4):
        line_to.sendall(chunk)
    line_to.sendall(b"1\r\n \r\n")
    assert_error(answer(line_to), 413, "RequestBodyTooLarge")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_client_that_sends_all_before_it_reads_sees_the_refusal(endpoint: Endpoint, chunked: bool) -> None:
    """As ``urllib2`` and ``HttpClient`` do: a connection closed too early would be reset, and the answer be lost."""
    url = f"{endpoint.api_location}/execute?api-version=2.0"
    connection = HTTPConnection(urlsplit(url).netloc, timeout=60)
    body = b" " * (5 * LIMIT)
    headers = {"Authorization": f"Bearer {endpoint.primary_key}"}
    sent = iter([body]) if chunked else body
    connection.request("POST", url, sent, headers, encode_chunked=chunked)
    refused = connection.getresponse()
    assert refused.status == 413
    assert json.load(refused)["error"]["details"][0]["code"] == "RequestBodyTooLarge"


@pytest.mark.slow
def test_a_client_that_asks_first_sends_nothing_to_a_refusal(endpoint: Endpoint, line_to: socket.socket) -> None:
    """``Expect: 100-continue`` with too long a body: the answer is whole, and nothing comes after it but the end."""
    line_to.sendall(head(endpoint, "Expect: 100-continue", f"Content-Length: {LIMIT + 1}"))
    received = b"".join(iter(lambda: line_to.recv(65536), b""))
    assert received.startswith(b"HTTP/1.1 413 ")
    assert received.count(b"HTTP/1.1") == 1
    assert json.loads(received.partition(b"\r\n\r\n")[2])["error"]["details"][0]["code"] == "RequestBodyTooLarge"


def test_a_body_of_just_the_limit_is_read(endpoint: Endpoint, line_to: socket.socket) -> None:
    """4 MB, as documented for the cloud service."""
    line_to.sendall(head(endpoint, f"Content-Length: {LIMIT}") + BODY.ljust(LIMIT))
    assert_scored(answer(line_to))


@pytest.mark.parametrize("depth", [5_000, 1_000_000])
def test_a_deeply_nested_body_is_refused(endpoint: Endpoint, line_to: socket.socket, depth: int) -> None:
    """Small ones are answered on the event loop itself, large ones in a thread: neither falls over."""
    line_to.sendall(head(endpoint, f"Content-Length: {depth}") + b"[" * depth)
    assert_error(answer(line_to), 400, "RequestBodyInvalid")


@pytest.mark.parametrize(
    "target",
    [
        "/%00",
        "/%ff%fe/execute",
        "//",
        "/workspaces//webservices",
        "/execute?api-version=2.0",
        "/a/execute",
    ],
)
def test_odd_paths_are_not_found(endpoint: Endpoint, line_to: socket.socket, target: str) -> None:
    """No byte in a path is a fault of the server."""
    line_to.sendall(head(endpoint, "Content-Length: 2", target=target) + b"{}")
    assert_error(answer(line_to), 404, "PageNotFound")


@pytest.mark.parametrize(
    "raw", [b"GET / HTTP/9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\r\n\r\n\0"]
)
def test_what_is_no_http_does_not_harm(endpoint: Endpoint, line_to: socket.socket, client: Client, raw: bytes) -> None:
    """A TLS greeting or rubbish is refused; the next client is served."""
    line_to.sendall(raw)
    line_to.shutdown(socket.SHUT_WR)
    line_to.recv(1000)
    assert client.score(endpoint, [ROW]).values


def test_a_client_that_leaves_in_the_middle_does_not_harm(
    endpoint: Endpoint, line_to: socket.socket, client: Client, server: ServerProcess
) -> None:
    """Half a body, then nothing: no traceback in the log, and the next client is served."""
    line_to.sendall(head(endpoint, "Content-Length: 100") + b'{"Inputs"')
    line_to.close()
    assert client.score(endpoint, [ROW]).values
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b'""', b"not json"])
def test_the_body_of_a_start_is_ignored(client: Client, line_to: socket.socket, body: bytes) -> None:
    """Clients send none, an empty one, or whatever their library adds; an unknown job stays unknown."""
    trainer = client.get_endpoint(client.find_web_service("Bike Rental").id, "default")
    path = f"{urlsplit(trainer.api_location).path}/jobs/{'0' * 32}/start?api-version=2.0"
    line_to.sendall(head(trainer, f"Content-Length: {len(body)}", target=path) + body)
    assert_error(answer(line_to), 404, "JobNotFound")
