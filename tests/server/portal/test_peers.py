"""Who a client is: the peer of its connection, unless a proxy that is trusted says so."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests
from azure.storage.blob import generate_blob_sas

from airflow_provider_azureml_classic.server.settings import checked_proxy
from tests.support import ServerProcess
from tests.support.service import declaration

Start = Callable[..., ServerProcess]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Servers of one data directory after the other."""
    folder = tmp_path_factory.mktemp("peers")
    arguments = ["--experiments", str(declaration(folder, "Line")), "--workers", "1"]
    running: list[ServerProcess] = []

    def start(*more: str) -> ServerProcess:
        if running:
            running.pop().stop()
        running.append(ServerProcess(folder / "data", *arguments, *more))
        return running[-1]

    yield start
    for one in running:
        one.stop()


def guess(server: ServerProcess, address: str, times: int = 6) -> list[int]:
    """Send wrong tokens, all of them from one address as a header says."""
    with requests.Session() as browser:
        page = browser.get(f"{server.url}/portal/sign-in", timeout=30).text
        found = re.search(r'name="csrf" value="(\w+)"', page)
        assert found
        form = {"csrf": found[1], "token": "wrong"}
        return [
            browser.post(
                f"{server.url}/portal/sign-in", form, headers={"X-Forwarded-For": address}, timeout=30
            ).status_code
            for _ in range(times)
        ]


def fetched(server: ServerProcess, address: str) -> int:
    """Ask for a blob that a token opens for one address, from which a header says that it is."""
    server.upload("some/blob.csv", b"a\n1\n")
    token = generate_blob_sas(
        server.account.name,
        "some",
        "blob.csv",
        account_key=server.account.key,
        permission="r",
        expiry=datetime.now(UTC) + timedelta(hours=1),
        ip="203.0.113.5",
    )
    url = f"{server.account.endpoint}/some/blob.csv?{token}"
    return requests.get(url, headers={"X-Forwarded-For": address}, timeout=30).status_code


@pytest.mark.slow
def test_nobody_says_who_he_is(servers: Start) -> None:
    """Whatever a client writes, its wrong tokens and its tokens for an address are those of its connection."""
    server = servers()
    assert guess(server, "203.0.113.5") == [401] * 5 + [429]
    assert guess(server, "203.0.113.6", 1) == [429]
    assert fetched(server, "203.0.113.5") == 403


@pytest.mark.slow
def test_a_trusted_proxy_says_who_its_client_is(servers: Start) -> None:
    """One of them who guesses makes nobody else wait; what the client itself wrote before does not count."""
    server = servers("--trusted-proxy", "127.0.0.1")
    assert guess(server, "203.0.113.5") == [401] * 5 + [429]
    assert guess(server, "203.0.113.6", 1) == [401]
    assert guess(server, "203.0.113.6, 203.0.113.5", 1) == [429]
    assert fetched(server, "203.0.113.5") == 200
    assert fetched(server, "203.0.113.5, 203.0.113.6") == 403


@pytest.mark.slow
def test_a_proxy_elsewhere_is_not_this_one(servers: Start) -> None:
    """Trusted is the address that was named, and no other."""
    server = servers("--trusted-proxy", "198.51.100.0/24")
    assert guess(server, "203.0.113.5") == [401] * 5 + [429]
    assert guess(server, "203.0.113.6", 1) == [429]


@pytest.mark.parametrize(
    ("text", "read"), [("127.0.0.1", "127.0.0.1"), (" ::1 ", "::1"), ("10.0.5.0/28", "10.0.5.0/28")]
)
def test_a_proxy_is_an_address_or_a_network(text: str, read: str) -> None:
    """As the web server takes it."""
    assert checked_proxy(text) == read


@pytest.mark.parametrize("text", ["*", "", "localhost", "0.0.0.0/0", "::/0", "10.0.0.1/8", "127.0.0.1:80"])
def test_everybody_is_no_proxy(text: str) -> None:
    """Nor is a name, which could come to mean anybody."""
    with pytest.raises(ValueError, match="--trusted-proxy"):
        checked_proxy(text)


def test_the_guide_names_header_and_option() -> None:
    """What is needed behind a proxy stands where the proxy stands."""
    guide = (Path(__file__).parents[3] / "docs" / "deploy.md").read_text()
    assert "proxy_set_header X-Forwarded-For $remote_addr;" in guide
    assert "--trusted-proxy 127.0.0.1" in guide
