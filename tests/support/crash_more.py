"""What else a client may ask of a server that is killed: pages of the portal, refreshes, removed blobs."""

from __future__ import annotations

import re
from collections.abc import Callable

import requests

from airflow_provider_azureml_classic.exceptions import NotFound, ServiceUnavailable
from tests.support.crash_clients import CrashClient

_ROW = re.compile(r"<tr>.*?</tr>", re.DOTALL)
_NUMBER = re.compile(r"rollback\?number=(\d+)")


class Browser:
    """A browser that has signed in once; its session outlives the server.

    :param url: of the server.
    :param token: of the workspace.
    """

    def __init__(self, url: str, token: str) -> None:
        self._url = f"{url}/portal"
        self._session = requests.Session()
        self._csrf = ""
        self.page("/sign-in")
        self.send("/sign-in", token=token)

    def page(self, path: str) -> str:
        """The HTML of a page."""
        return self._answer("GET", path, 200, {})

    def send(self, path: str, **fields: str) -> None:
        """Send a form that succeeds."""
        self._answer("POST", path, 303, {"csrf": self._csrf, **fields})

    def _answer(self, method: str, path: str, wanted: int, form: dict[str, str]) -> str:
        try:
            answer = self._session.request(method, self._url + path, data=form, allow_redirects=False, timeout=60)
        except requests.RequestException as error:
            raise ServiceUnavailable(f"no answer: {type(error).__name__}") from None
        if answer.status_code == 503:
            raise ServiceUnavailable("not now", status=503)
        assert answer.status_code == wanted, (method, path, answer.status_code, answer.text[-2000:])
        found = re.search(r'name="csrf" value="(\w+)"', answer.text)
        self._csrf = found[1] if found else self._csrf
        return answer.text


class BusyClient(CrashClient):
    """A client that does all of it."""

    _browser: Browser | None = None

    def actions(self) -> list[Callable[[], None]]:
        """See the base class."""
        return [*super().actions(), self._refresh, self._roll_back, self._roll_back, self._remove]

    def _refresh(self) -> None:
        known = self._some()
        if known is None:
            return
        self.ask(
            lambda: self.client.refresh_endpoint(self.scoring, known.name, overwrite_resources=True),
            lambda: known.slopes.add(2.0),
        )
        known.slopes = {2.0}

    def _roll_back(self) -> None:
        known = self._some()
        if known is None:
            return
        browser = self._browser = self._browser or self.ask(lambda: Browser(*self.address))
        path = f"/services/{self.scoring}/endpoints/{known.name}"
        html = self.ask(lambda: browser.page(path))
        # Of older ones the files may be no longer kept.
        rows = [row for row in _ROW.findall(html) if _NUMBER.search(row)][:3]
        if not rows:
            return
        row = self._random.choice(rows)
        slope, (number,) = self.slope_of(row), _NUMBER.findall(row)
        self.ask(lambda: browser.send(f"{path}/do/rollback", number=number), lambda: known.slopes.add(slope))
        known.slopes = {slope}
        self._rounds.counts["models put back"] += 1

    def _remove(self) -> None:
        paths = [path for path, may in self._blobs.items() if may != {None}]
        if not paths:
            return
        path = self._random.choice(paths)
        self.ask(lambda: self._delete_blob(path), lambda: self._blobs[path].add(None))
        self._blobs[path] = {None}

    def _delete_blob(self, path: str) -> None:
        try:
            answer = requests.delete(self._place(path, "d").url, timeout=60)
        except requests.RequestException as error:
            raise ServiceUnavailable(f"no answer: {type(error).__name__}") from None
        if answer.status_code == 503:
            raise ServiceUnavailable("not now", status=503)
        if answer.status_code == 404:
            raise NotFound("no such blob", status=404)
        assert answer.status_code == 202, answer.text
