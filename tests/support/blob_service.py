"""The blob store as an account of its own on a free port, for tests of what clients see."""

from __future__ import annotations

import base64
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import requests
from azure.core.exceptions import HttpResponseError

from airflow_provider_azureml_classic.protocol.sas import sign
from airflow_provider_azureml_classic.server.blobs.store import BlobStore

KEY = base64.b64encode(b"not a real key, but long enough!").decode()
MAX_SIZE = 8 * 1024 * 1024
TIMEOUT = 20


def now() -> datetime:
    """The present moment."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Served:
    """A running server and the folder behind it."""

    store: BlobStore
    port: int

    @property
    def base(self) -> str:
        """Address of the account."""
        return self.store.account.endpoint

    def sas(self, container: str, blob: str | None = None, permissions: str = "rcwdl", hours: float = 1) -> str:
        """A token, made before the hours began."""
        start, expiry = now() - timedelta(days=1), now() + timedelta(hours=hours)
        return sign(self.store.account, container, blob, permissions=permissions, start=start, expiry=expiry)

    def ask(self, method: str, path: str, token: str, **more: object) -> requests.Response:
        """Send one request; ``path`` goes out as it is."""
        joint = "&" if "?" in path else "?"
        request = requests.Request(method, self.base, **more).prepare()
        request.url = f"{self.base}/{path}{joint}{token.lstrip('?')}"
        with requests.Session() as session:
            return session.send(request, timeout=TIMEOUT)

    def put(self, container: str, blob: str, data: bytes) -> None:
        """Write a blob behind the server's back."""
        with self.store.open_write(container, blob) as writer:
            writer.write(data)


def assert_error(answer: requests.Response, status: int, code: str) -> None:
    """The answer is an error in the service's form, and tells no secret."""
    assert (answer.status_code, answer.headers["x-ms-error-code"]) == (status, code)
    assert ET.fromstring(answer.content).findtext("Code") == code  # noqa: S314 - our own server's
    assert "sig=" not in answer.text
    assert KEY not in answer.text
    assert answer.headers["x-ms-request-id"]


def code_of(error: HttpResponseError) -> str:
    """The service's code, as the SDK read it from the header."""
    code = getattr(error, "error_code", "")
    return str(getattr(code, "value", code))
