"""Forms: who may send how much, what is read of it, and what is said of those that are none."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import pytest

from airflow_provider_azureml_classic.server.portal.sessions import COOKIE, LIFE, Sessions
from airflow_provider_azureml_classic.server.portal.site import MAX_FORM, MAX_GUEST, MAX_UPLOAD
from airflow_provider_azureml_classic.server.state.ended_sessions import EndedSessions
from tests.support.portal import Visitor, text_of
from tests.support.service import Service

MULTIPART = "multipart/form-data; boundary=x"
URLENCODED = "application/x-www-form-urlencoded"
PART = b'--x\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n'


@pytest.fixture
def visitor(service: Service) -> Visitor:
    """Somebody who is not signed in."""
    return Visitor(service)


async def read_of(service: Service, path: str, kind: str, cookie: str = "", length: str = "") -> tuple[int, int]:
    """Send a form without end in pieces of a KiB; status of the answer, and bytes that were read."""
    read, status = 0, 0
    start = PART % (b"file", b'; filename="f"') if kind == MULTIPART else b"token="

    async def receive() -> MutableMapping[str, Any]:
        nonlocal read
        piece = start + bytes(b"x" * (1024 - len(start))) if not read else b"x" * 1024
        read += len(piece)
        return {"type": "http.request", "body": piece, "more_body": read < 4 << 20}

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal status
        status = message.get("status", status)

    headers = {"content-type": kind, "cookie": cookie, "content-length": length}
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items() if value],
    }
    await service.http(scope, receive, send)
    return status, read


@pytest.mark.slow
@pytest.mark.parametrize("kind", [MULTIPART, URLENCODED])
@pytest.mark.parametrize("path", ["/portal/sign-in", "/portal/sign-out"])
async def test_of_a_guest_some_kilobytes_are_read(service: Service, path: str, kind: str) -> None:
    """Without any credential nobody fills the disk or the memory; the rest of what is sent is not taken."""
    status, read = await read_of(service, path, kind)
    assert (status, read <= MAX_GUEST + 1024) == (413, True)


@pytest.mark.parametrize("kind", [MULTIPART, URLENCODED])
async def test_what_says_that_it_is_too_much_is_not_read(service: Service, kind: str) -> None:
    """Not a byte of it."""
    assert await read_of(service, "/portal/sign-in", kind, length="10000") == (413, 0)


@pytest.mark.parametrize("path", ["/portal/services", "/portal/jobs", "/portal/nothing"])
async def test_of_a_form_that_is_not_for_guests_nothing_is_read(service: Service, path: str) -> None:
    """They are sent to the entrance first."""
    status, read = await read_of(service, path, MULTIPART)
    assert status in (303, 404, 405)
    assert read == 0


async def test_a_form_without_a_file_is_a_megabyte_at_most(service: Service, visitor: Visitor) -> None:
    """Of somebody who is signed in, too."""
    visitor.sign_in()
    cookie = "; ".join(f"{name}={value}" for name, value in visitor.http.cookies.items())
    status, read = await read_of(service, "/portal/sign-out", URLENCODED, cookie)
    assert (status, MAX_FORM <= read <= MAX_FORM + 1024) == (413, True)
    assert MAX_UPLOAD > MAX_FORM


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (MULTIPART, b"this is no part"),
        (MULTIPART, PART % (b"a", b"") + b"1"),
        (MULTIPART, b"".join(PART % (b"f%d" % n, b"") + b"1\r\n" for n in range(300)) + b"--x--"),
        (MULTIPART, b"".join(PART % (b"f", b'; filename="f"') + b"1\r\n" for n in range(3)) + b"--x--"),
        (MULTIPART, b"--x\r\nContent-Disposition: nonsense\r\n\r\n1\r\n--x--"),
        ("multipart/form-data", b"--x"),
        ("multipart/form-data; boundary=x; charset=nonsense", PART % (b"a", b"") + b"\xff\r\n--x--"),
        (URLENCODED, b"&".join(b"f%d=1" % n for n in range(300))),
        (URLENCODED, b"token=\xff"),
    ],
)
def test_a_form_that_cannot_be_read_is_the_senders_fault(visitor: Visitor, kind: str, body: bytes) -> None:
    """400, or 403 if nothing of it was one of ours; never 500."""
    visitor.sign_in()
    answer = visitor.http.post("/portal/sign-out", content=body, headers={"content-type": kind})
    assert answer.status_code in (400, 403), text_of(answer.text)
    assert visitor.get("/portal/services").status_code == 200


def test_a_form_that_cannot_be_read_is_said_to_be(visitor: Visitor) -> None:
    """With what to do."""
    visitor.sign_in()
    body = b"&".join(b"f%d=1" % number for number in range(300))
    answer = visitor.http.post("/portal/sign-out", content=body, headers={"content-type": URLENCODED})
    assert answer.status_code == 400
    assert "The form cannot be read. Open its page again" in text_of(answer.text)


def test_what_browsers_send_is_read(visitor: Visitor) -> None:
    """Blanks, signs of other languages and empty fields."""
    visitor.get("/portal/sign-in")
    answer = visitor.post("/portal/sign-in", token=" wrong €+%&= ", next="")
    assert answer.status_code == 401
    assert visitor.sign_in(f" {visitor.service.settings.token} ").status_code == 303


async def test_of_who_has_signed_out_elsewhere_nothing_is_read(service: Service, visitor: Visitor) -> None:
    """A cookie that was signed out on another server is that of a guest."""
    visitor.sign_in()
    cookie = visitor.http.cookies[COOKIE]
    opened = Sessions(service.settings, service.clock).opened(cookie)
    assert opened is not None
    now = service.clock()
    EndedSessions(service.app._workspace._store._db).add(opened[0].id, now + LIFE, now)
    path = f"/portal/services/{service.scoring}/endpoints"
    status, read = await read_of(service, path, MULTIPART, f"{COOKIE}={cookie}")
    assert (status, read) == (303, 0)
