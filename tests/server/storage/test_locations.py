"""Places on other hosts: only those that are allowed are asked, nothing is followed, and no token is ever told."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError
from airflow_provider_azureml_classic.protocol import sas
from airflow_provider_azureml_classic.protocol.jobs import JobStatus
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.sas import StorageAccount
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.server.blobs.store import BlobStore
from airflow_provider_azureml_classic.server.storage import allowed_hosts as reach_module
from airflow_provider_azureml_classic.server.storage import http as fetching_module
from airflow_provider_azureml_classic.server.storage import locations as module
from airflow_provider_azureml_classic.server.storage.accounts import Accounts
from airflow_provider_azureml_classic.server.storage.allowed_hosts import Reach
from airflow_provider_azureml_classic.server.storage.locations import WRITE, Locations
from airflow_provider_azureml_classic.server.storage.scope import WHOLE_STORE
from tests.support.listeners import serving
from tests.support.service import Clock, Service

TOKEN = "?sv=2020-12-06&sig=secretsignature"


class Elsewhere(BaseHTTPRequestHandler):
    """Another host's store: answers by the name of what is asked."""

    asked: list[tuple[str, str]]
    hosts: list[str]
    written: dict[str, bytes]

    def do_GET(self) -> None:
        """The status that the path names, with a redirect's target."""
        self.asked.append((self.command, self.path))
        self.hosts.append(self.headers["Host"])
        if "drip" in self.path:
            self.drip()
            return
        status = int(self.path.split("/")[2][:3])
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/data/200.csv")
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"x,y\n")

    def drip(self) -> None:
        """Answer for ever, in little pieces, until the other side leaves."""
        self.send_response(200)
        if "unknown" in self.path:
            self.end_headers()
            self.wfile.write(b"x,y\n1,2\n")
            return
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        with suppress(OSError):
            while True:
                self.wfile.write(b"x")
                time.sleep(0.02)

    def do_HEAD(self) -> None:
        """Whether it was written; some tokens do not open even that."""
        self.send_response(403 if "403" in self.path else 200 if self.path in self.written else 404)
        self.end_headers()

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
        self.asked, self.hosts, self.written = handler.asked, handler.hosts, handler.written

    def place(self, name: str) -> BlobReference:
        """A reference with a token."""
        return BlobReference(f"data/{name}", self.base, TOKEN).normalised()


@pytest.fixture
def other() -> Iterator[Other]:
    """Another host."""
    handler = type("Handler", (Elsewhere,), {"asked": [], "hosts": [], "written": {}})
    with serving(handler) as server:
        yield Other(server.server_port, handler)


@pytest.fixture
def make(tmp_path: Path):
    """Makes the locations of a server that may ask some hosts."""
    account = StorageAccount("mlclassic", "a" * 88, "http://service.test:8080/mlclassic")
    store = BlobStore(tmp_path / "blobs", account)
    return lambda *hosts, private=(): Locations(store, Reach(hosts, private), Clock())


def fails(act) -> AzureMLClassicError:
    """The error of a call, which never repeats the token."""
    with pytest.raises(AzureMLClassicError) as caught:
        act()
    assert "secretsignature" not in str(caught.value)
    return caught.value


def test_an_allowed_host_is_read(make, other: Other, tmp_path: Path) -> None:
    """By host and port, or by host alone; the token goes with the request."""
    for allowed in (other.host, "127.0.0.1", f" {other.host.upper()} "):
        make(allowed).resolve(WHOLE_STORE, other.place("200.csv")).fetch(tmp_path / "got")
        assert (tmp_path / "got").read_bytes() == b"x,y\n"
    assert other.asked == [("GET", f"/data/200.csv{TOKEN}")] * 3


@pytest.mark.parametrize("allowed", [(), ("127.0.0.1:1",), ("localhost",), ("127.0.0.1.evil.test",)])
def test_a_host_that_is_not_allowed_is_not_asked(make, other: Other, tmp_path: Path, allowed: tuple[str, ...]) -> None:
    """Neither for reading nor for writing; another port of an allowed host is another host."""
    (tmp_path / "file").write_bytes(b"x")
    locations = make(*allowed)
    reading = fails(lambda: locations.resolve(WHOLE_STORE, other.place("200.csv")).fetch(tmp_path / "got"))
    writing = fails(lambda: locations.resolve(WHOLE_STORE, other.place("201.csv"), WRITE).deliver(tmp_path / "file"))
    assert {reading.detail_code, writing.detail_code} == {"LocationNotAllowed"}
    assert other.asked == []


def test_a_name_before_the_host_does_not_deceive(make, other: Other, tmp_path: Path) -> None:
    """``http://allowed@evil`` is on the host ``evil``."""
    place = BlobReference("data/200.csv", f"http://allowed.test@{other.host}/", TOKEN)
    error = fails(lambda: make("allowed.test").resolve(WHOLE_STORE, place).fetch(tmp_path / "got"))
    assert (error.detail_code, other.asked) == ("LocationNotAllowed", [])


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("302.csv", "InvalidBlob"),
        ("403.csv", "InvalidBlob"),
        ("401.csv", "InvalidBlob"),
        ("404.csv", "BlobNotFound"),
        ("500.csv", "NoMoreResources"),
    ],
)
def test_what_the_host_answers_is_told(make, other: Other, tmp_path: Path, name: str, code: str) -> None:
    """Its status and the location without its token; a redirect is not followed."""
    error = fails(lambda: make(other.host).resolve(WHOLE_STORE, other.place(name)).fetch(tmp_path / "got"))
    assert error.detail_code == code
    assert f"HTTP {name[:3]}" in error.message
    assert f"{other.base}/data/{name}" in error.message
    assert len(other.asked) == 1


def test_a_host_that_does_not_answer_is_told(make, tmp_path: Path) -> None:
    """Nobody listens there."""
    place = BlobReference("data/x.csv", "http://127.0.0.1:1/", TOKEN)
    error = fails(lambda: make("127.0.0.1:1").resolve(WHOLE_STORE, place).fetch(tmp_path / "got"))
    assert (error.status, error.detail_code, "ConnectionError" in error.message) == (503, "NoMoreResources", True)


def test_a_download_ends_at_the_limit(make, other: Other, tmp_path: Path) -> None:
    """Whatever length the host declares."""
    location = make(other.host).resolve(WHOLE_STORE, other.place("200.csv"))
    error = fails(lambda: replace(location, limit=3).fetch(tmp_path / "got"))
    assert (error.status, error.detail_code) == (413, "OutOfMemoryLimit")


def test_an_expired_token_is_not_sent(make, other: Other, tmp_path: Path) -> None:
    """Its expiry is in the token itself."""
    place = BlobReference("data/200.csv", other.base, "?se=2016-03-01T11%3A59%3A59Z&sig=secretsignature").normalised()
    error = fails(lambda: make(other.host).resolve(WHOLE_STORE, place).fetch(tmp_path / "got"))
    assert (error.detail_code, "2016-03-01 11:59:59" in error.message) == ("ExpiryTimeInThePast", True)
    assert other.asked == []


def test_an_output_is_written_to_an_allowed_host(make, other: Other, tmp_path: Path) -> None:
    """As a block blob, with the token; a refusal is told."""
    source = tmp_path / "file"
    source.write_bytes(b"model")
    make(other.host).resolve(WHOLE_STORE, other.place("201.ilearner"), WRITE).deliver(source)
    assert other.written == {f"/data/201.ilearner{TOKEN}": b"model"}
    error = fails(lambda: make(other.host).resolve(WHOLE_STORE, other.place("403.ilearner"), WRITE).deliver(source))
    assert "cannot be written" in error.message
    assert error.detail_code == "InvalidBlob"


def test_what_lies_at_a_place_is_overwritten_and_told(make, other: Other, tmp_path: Path) -> None:
    """Whether a file lies there is told where it can be seen, and its delivery does not fail for that."""
    locations = make(other.host)
    for place in (BlobReference("data/m.ilearner"), other.place("201.ilearner")):
        location, seen = locations.resolve(WHOLE_STORE, place, WRITE), []
        for content in (b"old", b"new"):
            source = tmp_path / "file"
            source.write_bytes(content)
            seen.append(location.is_taken())
            location.deliver(source)
        assert (place, seen) == (place, [False, True])
    assert not locations.resolve(WHOLE_STORE, other.place("403.ilearner"), WRITE).is_taken()
    assert list(other.written.values()) == [b"new"]
    assert (tmp_path / "blobs" / "data" / "m.ilearner").read_bytes() == b"new"


# -- where names lead ------------------------------------------------------------------------------------------------


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """Let every name resolve to the next of these addresses, the last one again and again; returns what was asked."""
    asked: list[str] = []
    left = list(answers)
    real = socket.getaddrinfo

    def answer(host: str, port: int, *args: object, **more: object) -> list:
        if host[:1].isdigit() or ":" in host:
            return real(host, port, *args, **more)
        asked.append(host)
        return real(left.pop(0) if len(left) > 1 else left[0], port, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return asked


PRIVATE = ["127.0.0.1", "10.1.2.3", "169.254.169.254", "168.63.129.16", "100.64.0.1", "0.0.0.0"]  # noqa: S104 - refused, not bound
PRIVATE += ["::1", "fe80::1", "fd00:ec2::254", "::ffff:127.0.0.1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::1"]


@pytest.mark.parametrize("address", PRIVATE)
def test_a_listed_name_must_not_lead_inside(make, monkeypatch, tmp_path: Path, address: str) -> None:
    """A name that resolves to a private, loopback, link-local or metadata address is refused before anything is
    sent there, whatever family carries it.
    """
    resolving(monkeypatch, address)
    place = BlobReference("data/200.csv", "http://allowed.test/").normalised()
    error = fails(lambda: make("allowed.test").resolve(WHOLE_STORE, place).fetch(tmp_path / "out"))
    assert error.detail_code == "LocationNotAllowed"
    assert "--allow-private-host allowed.test" in error.message


def test_a_listed_private_name_is_read(make, other: Other, monkeypatch, tmp_path: Path) -> None:
    """A name that is listed as private may lead inside, and keeps its name in the request."""
    resolving(monkeypatch, "127.0.0.1")
    port = other.host.rpartition(":")[2]
    place = BlobReference("data/200.csv", f"http://inside.test:{port}/").normalised()
    make(private=[f"inside.test:{port}"]).resolve(WHOLE_STORE, place).fetch(tmp_path / "out")
    assert (tmp_path / "out").read_text() == "x,y\n"
    assert other.hosts == [f"inside.test:{port}"]


def test_a_name_that_changes_its_address_gains_nothing(make, other: Other, monkeypatch, tmp_path: Path) -> None:
    """The address that was checked is the one that is connected to: a name is looked up once."""
    asked = resolving(monkeypatch, "203.0.113.7", "127.0.0.1")
    monkeypatch.setattr(reach_module, "is_public", lambda address: address == "203.0.113.7")
    monkeypatch.setattr(fetching_module, "TIMEOUT", (0.05, 1))
    monkeypatch.setattr(module, "TIMEOUT", (0.05, 1))
    port = other.host.rpartition(":")[2]
    place = BlobReference("data/200.csv", f"http://rebound.test:{port}/").normalised()
    error = fails(lambda: make("rebound.test").resolve(WHOLE_STORE, place).fetch(tmp_path / "out"))
    assert error.detail_code == "NoMoreResources"
    assert (asked, other.asked) == (["rebound.test"], [])


@pytest.mark.parametrize(
    "base",
    [
        "http://2130706433:{port}/",
        "http://0177.0.0.1:{port}/",
        "http://0x7f.1:{port}/",
        "http://127.1:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://127.0.0.1.:{port}/",
        "http://user:password@127.0.0.1:{port}/",
        "http://127.0.0.1:{port}\\@evil.test/",
        "http://evil.test\\@127.0.0.1:{port}/",
        "http://127.0.0.1:{port}#@evil.test/",
        "http://127.0.0.1 .evil.test:{port}/",
        "http://127.0.0.1:{port}0/",
        "http://127.0.0.1:99999/",
        "file:///etc/passwd",
        "ftp://127.0.0.1:{port}/",
        "gopher://127.0.0.1:{port}/",
        "//127.0.0.1:{port}/",
        "http:///data/",
    ],
)
def test_another_spelling_of_a_listed_host_is_not_asked(make, other: Other, tmp_path: Path, base: str) -> None:
    """A host is asked under the name that the list has, by http or https, and under no other spelling."""
    place = BlobReference("data/200.csv", base.format(port=other.host.rpartition(":")[2]))
    error = fails(lambda: make(other.host).resolve(WHOLE_STORE, place).fetch(tmp_path / "out"))
    assert error.detail_code in ("LocationNotAllowed", "InvalidBlob")
    assert other.asked == []


@pytest.mark.slow
def test_a_source_that_never_ends_is_left(make, other: Other, tmp_path: Path) -> None:
    """Time for one transfer is limited, also for a host that sends a byte now and then."""
    error = fails(lambda: make(other.host).resolve(WHOLE_STORE, other.place("drip.csv")).fetch(tmp_path / "out", 0.5))
    assert "not finished after" in error.message


def test_what_may_be_cut_is_not_read(make, other: Other, tmp_path: Path) -> None:
    """Without a length nobody can tell rows that are all from rows that a lost connection left."""
    error = fails(
        lambda: make(other.host).resolve(WHOLE_STORE, other.place("drip-unknown.csv")).fetch(tmp_path / "out")
    )
    assert "does not say how long it is" in error.message


def test_the_environments_proxy_is_not_used(make, other: Other, monkeypatch, tmp_path: Path) -> None:
    """A proxy resolves names itself, where nothing is checked."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9/")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9/")
    make(other.host).resolve(WHOLE_STORE, other.place("200.csv")).fetch(tmp_path / "out")
    assert (tmp_path / "out").read_text() == "x,y\n"


@pytest.mark.parametrize("act", ["fetch", "deliver"])
def test_azure_storage_is_asked_over_the_same_connections(make, monkeypatch, tmp_path: Path, act: str) -> None:
    """The SDK of Azure Storage neither goes to a private address behind a listed name."""
    asked = resolving(monkeypatch, "127.0.0.1")
    text = f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={'a' * 86}==;BlobEndpoint=https://a.blob.test/a"
    place = BlobReference("data/x.csv", connection_string=text)
    (tmp_path / "file").write_text("x")
    locations = make("a.blob.test")
    calls = {
        "fetch": lambda: locations.resolve(WHOLE_STORE, place).fetch(tmp_path / "out"),
        "deliver": lambda: locations.resolve(WHOLE_STORE, place, WRITE).deliver(tmp_path / "file"),
    }
    assert fails(calls[act]).detail_code == "LocationNotAllowed"
    assert asked == ["a.blob.test"]


@pytest.mark.parametrize("entry", ["http://host", "host/path", "user@host", "host:port", "", "a b"])
def test_an_entry_that_is_no_host_is_told(make, entry: str) -> None:
    """A wrong entry would silently allow nothing."""
    with pytest.raises(ValueError, match="is not a host"):
        Reach([entry])


@pytest.mark.parametrize("base", ["", "https://home.blob.core.windows.net/"])
@pytest.mark.parametrize(
    ("path", "permission", "guarded"),
    [
        ("experimentoutput/job/model.ilearner", "r", True),
        ("ml-diagnostics/log.csv", "r", True),
        ("firstmodels/first.ilearner", "r", False),
        ("firstmodels/first.ilearner", "w", True),
        ("data/x.csv", "w", False),
    ],
)
def test_outputs_in_a_storage_account_are_guarded_too(tmp_path, base, path, permission, guarded) -> None:
    """A place that the server would open with its account's key is no more open than one in its own store."""
    own = StorageAccount("mlclassic", "a" * 88, "http://service.test:8080/mlclassic")
    home = StorageAccount("home", "a" * 86 + "==", "https://home.blob.core.windows.net")
    accounts = Accounts(own, home=home)
    locations = Locations(BlobStore(tmp_path / "blobs", own), Reach(accounts.hosts), Clock(), accounts)

    def guarded_path(reference: BlobReference) -> str | None:
        location = locations.resolve(WHOLE_STORE, reference, permission)
        return location.reference.relative_location if location.guarded else None

    place = BlobReference(path, base)
    assert guarded_path(place) == (path if guarded else None)
    if guarded:
        assert fails(lambda: locations.checked(WHOLE_STORE, place, permission)).detail_code == "InvalidBlob"
    signed = BlobReference(path, base or "https://home.blob.core.windows.net/", "?sig=secretsignature")
    assert guarded_path(signed) is None
    beside_a_path = BlobReference(path, "", "?sig=anything")  # opened with the key, so the token proves nothing
    assert guarded_path(beside_a_path) == (path if guarded else None)


@pytest.mark.slow
def test_a_reference_is_resolved_once(service: Service, scorer: Endpoint, trainer: Endpoint, monkeypatch) -> None:
    """An update and a submission look once at each address, and verify each SAS token once; the job verifies none."""
    counts: Counter[str] = Counter()

    def counted(owner: object, name: str) -> None:
        real = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            counts[name] += 1
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)

    model, data = service.signed("models/three.ilearner"), service.signed("data/line.csv")
    service.put_blob("data/line.csv", "x,y\n0,0\n1,2\n2,4\n3,6\n4,8\n5,10\n")
    counted(sas, "verify")
    counted(Accounts, "resolved")
    assert service.patch("mine", model).status == 200
    assert counts == {"resolved": 1, "verify": 1}
    job_id = service.submit(trainer, data)
    assert counts == {"resolved": 2, "verify": 2}
    assert service.ended(trainer, job_id).status is JobStatus.FINISHED
    # The input, the samples of the model and two outputs.
    assert counts == {"resolved": 6, "verify": 2}
