"""A browser without a screen: asks the pages of a service in this process."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

from starlette.testclient import TestClient

from airflow_provider_azureml_classic.protocol.values import Endpoint
from tests.support import ServerProcess
from tests.support.service import TOKEN, Service

BASE = "http://service.test:8080"


class Visitor:
    """Asks the pages of a service.

    :param service: the one.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self.http = TestClient(service.http, base_url=BASE, follow_redirects=False)

    def sign_in(self, token: str = TOKEN, **more: str) -> Any:
        """Send the form; returns the answer."""
        self.get("/portal/sign-in")
        return self.post("/portal/sign-in", token=token, **more)

    def get(self, path: str) -> Any:
        """A page; its CSRF token is kept for the next form."""
        return self._kept(self.http.get(path))

    def post(self, path: str, csrf: str | None = None, files: Any = None, **fields: str) -> Any:
        """Send a form, with the CSRF token of the last page."""
        return self._kept(self.http.post(path, data={"csrf": csrf or self.csrf, **fields}, files=files))

    csrf = ""

    def _kept(self, answer: Any) -> Any:
        found = re.search(r'name="csrf" value="(\w+)"', answer.text)
        self.csrf = found[1] if found else self.csrf
        return answer

    def page(self, path: str) -> str:
        """The HTML of a page that is there."""
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        return str(answer.text)

    def did(self, path: str, **fields: str) -> str:
        """Send a form that succeeds; returns the page that it leads to."""
        answer = self.post(path, **fields)
        assert answer.status_code == 303, text_of(answer.text)
        return self.page(answer.headers["location"])


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []

    def handle_data(self, data: str) -> None:
        self.parts.append(data)


def text_of(html: str) -> str:
    """The words of a page, with single blanks."""
    parser = _Text()
    parser.feed(html)
    return " ".join(" ".join(parser.parts).split())


def keep_calls(server: ServerProcess, endpoint: Endpoint, calls: int) -> None:
    """Let an endpoint of a running server keep its calls, as its owner does in the portal."""
    import requests

    base = f"{server.url}/portal"
    with requests.Session() as browser:

        def send(path: str, **fields: str) -> None:
            page = browser.get(base + fields.pop("page"), timeout=30).text
            token = re.search(r'name="csrf" value="(\w+)"', page)
            assert token, page
            assert browser.post(base + path, data={"csrf": token[1], **fields}, timeout=30).ok

        send("/sign-in", page="/sign-in", token=server.connection["token"])
        page = f"/services/{endpoint.web_service_id}/endpoints/{endpoint.name}"
        send(f"{page}/do/keep", page=page, calls=str(calls))
