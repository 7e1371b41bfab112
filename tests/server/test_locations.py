"""Places on other hosts: only those that are allowed are asked, nothing is followed, and no token is ever told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.sas import StorageAccount
from airflow_provider_azureml_classic.server import locations as module
from airflow_provider_azureml_classic.server.blobs import BlobStore
from airflow_provider_azureml_classic.server.locations import Locations
from tests.server.conftest import Clock

TOKEN = "?sv=2020-12-06&sig=secretsignature"


class Elsewhere(BaseHTTPRequestHandler):
    """Another host's store: answers by the name of what is asked."""

    asked: list[tuple[str, str]]
    written: dict[str, bytes]

    def do_GET(self) -> None:
        """The status that the path names, with a redirect's target."""
        self.asked.append((self.command, self.path))
        status = int(self.path.split("/")[2][:3])
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/data/200.csv")
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"x,y\n")

    def do_PUT(self) -> None:
        """Keep a block blob."""
        self.asked.append((self.command, self.path))
        content = self.rfile.read(int(self.headers["Content-Length"]))
        status = int(self.path.split("/")[2][:3])
        if self.headers["x-ms-blob-type"] == "BlockBlob" and status == 201:
            self.written[self.path] = content
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Other:
    """The other host, running.

    :param port: where.
    """

    def __init__(self, port: int, handler: type[Elsewhere]) -> None:
        self.base = f"http://127.0.0.1:{port}"
        self.host = f"127.0.0.1:{port}"
        self.asked, self.written = handler.asked, handler.written

    def place(self, name: str) -> BlobReference:
        """A reference with a token."""
        return BlobReference(f"data/{name}", self.base, TOKEN).normalised()


@pytest.fixture
def other() -> Iterator[Other]:
    """Another host."""
    handler = type("Handler", (Elsewhere,), {"asked": [], "written": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield Other(server.server_port, handler)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def make(tmp_path: Path):
    """Makes the locations of a server that may ask some hosts."""
    account = StorageAccount("mlclassic", "a" * 88, "http://service.test:8080/mlclassic")
    return lambda *hosts: Locations(BlobStore(tmp_path / "blobs", account), frozenset(hosts), Clock())


def fails(act) -> AzureMLClassicError:
    """The error of a call, which never repeats the token."""
    with pytest.raises(AzureMLClassicError) as caught:
        act()
    assert "secretsignature" not in str(caught.value)
    return caught.value


def test_an_allowed_host_is_read(make, other: Other, tmp_path: Path) -> None:
    """By host and port, or by host alone; the token goes with the request."""
    for allowed in (other.host, "127.0.0.1", f" {other.host.upper()} "):
        make(allowed).fetch(other.place("200.csv"), tmp_path / "got")
        assert (tmp_path / "got").read_bytes() == b"x,y\n"
    assert other.asked == [("GET", f"/data/200.csv{TOKEN}")] * 3


@pytest.mark.parametrize("allowed", [(), ("127.0.0.1:1",), ("localhost",), ("127.0.0.1.evil.test",)])
def test_a_host_that_is_not_allowed_is_not_asked(make, other: Other, tmp_path: Path, allowed: tuple[str, ...]) -> None:
    """Neither for reading nor for writing; another port of an allowed host is another host."""
    (tmp_path / "file").write_bytes(b"x")
    locations = make(*allowed)
    reading = fails(lambda: locations.fetch(other.place("200.csv"), tmp_path / "got"))
    writing = fails(lambda: locations.deliver(tmp_path / "file", other.place("201.csv")))
    assert {reading.detail_code, writing.detail_code} == {"LocationNotAllowed"}
    assert other.asked == []


def test_a_name_before_the_host_does_not_deceive(make, other: Other, tmp_path: Path) -> None:
    """``http://allowed@evil`` is on the host ``evil``."""
    place = BlobReference("data/200.csv", f"http://allowed.test@{other.host}/", TOKEN)
    error = fails(lambda: make("allowed.test").fetch(place, tmp_path / "got"))
    assert (error.detail_code, other.asked) == ("LocationNotAllowed", [])


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("302.csv", "InvalidBlob"),
        ("403.csv", "InvalidBlob"),
        ("401.csv", "InvalidBlob"),
        ("404.csv", "BlobNotFound"),
        ("500.csv", "InvalidBlob"),
    ],
)
def test_what_the_host_answers_is_told(make, other: Other, tmp_path: Path, name: str, code: str) -> None:
    """Its status and the location without its token; a redirect is not followed."""
    error = fails(lambda: make(other.host).fetch(other.place(name), tmp_path / "got"))
    assert error.detail_code == code
    assert f"HTTP {name[:3]}" in error.message
    assert f"{other.base}/data/{name}" in error.message
    assert len(other.asked) == 1


def test_a_host_that_does_not_answer_is_told(make, tmp_path: Path) -> None:
    """Nobody listens there."""
    place = BlobReference("data/x.csv", "http://127.0.0.1:1/", TOKEN)
    error = fails(lambda: make("127.0.0.1:1").fetch(place, tmp_path / "got"))
    assert (error.detail_code, "ConnectionError" in error.message) == ("BlobNotFound", True)


def test_a_download_ends_at_the_limit(make, other: Other, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever length the host declares."""
    monkeypatch.setattr(module, "MAX_DOWNLOAD", 3)
    error = fails(lambda: make(other.host).fetch(other.place("200.csv"), tmp_path / "got"))
    assert (error.status, error.detail_code) == (413, "OutOfMemoryLimit")


def test_an_expired_token_is_not_sent(make, other: Other, tmp_path: Path) -> None:
    """Its expiry is in the token itself."""
    place = BlobReference("data/200.csv", other.base, "?se=2016-03-01T11%3A59%3A59Z&sig=secretsignature").normalised()
    error = fails(lambda: make(other.host).fetch(place, tmp_path / "got"))
    assert (error.detail_code, "2016-03-01 11:59:59" in error.message) == ("ExpiryTimeInThePast", True)
    assert other.asked == []


def test_an_output_is_written_to_an_allowed_host(make, other: Other, tmp_path: Path) -> None:
    """As a block blob, with the token; a refusal is told."""
    source = tmp_path / "file"
    source.write_bytes(b"model")
    make(other.host).deliver(source, other.place("201.ilearner"))
    assert other.written == {f"/data/201.ilearner{TOKEN}": b"model"}
    error = fails(lambda: make(other.host).deliver(source, other.place("403.ilearner")))
    assert "cannot be written" in error.message
    assert error.detail_code == "InvalidBlob"
