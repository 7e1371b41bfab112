"""Every verb through a network that breaks answers, with both clients: the right result or an error, never another
result. ``FAULTS_LONG=1`` cuts at every byte."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_azureml_classic.client import AsyncClient, Client, RetryPolicy, integrity
from airflow_provider_azureml_classic.client.verb import verb
from airflow_provider_azureml_classic.client.verbs import Verbs
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, ProtocolError, ServiceUnavailable
from airflow_provider_azureml_classic.protocol.customers import Quota, Usage
from airflow_provider_azureml_classic.protocol.drift import STEADY, DriftPage, EndpointDrift
from airflow_provider_azureml_classic.protocol.jobs import JobRequest
from airflow_provider_azureml_classic.protocol.keys import KeyKind, KeyType, NamedKey
from airflow_provider_azureml_classic.protocol.model_scoring import ModelAnswers, ModelCall
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.rehearsal import Rehearsal
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.protocol.values import Endpoint, EndpointSettings, Resource
from tests.support.broken_network import BrokenNetwork, Fault, http, untouched

WORKSPACE, SERVICE, GUID = "1" * 32, "2" * 32, "3" * 32
LONG = bool(os.environ.get("FAULTS_LONG"))
#: A cut answer is asked for twice.
TWICE = RetryPolicy(attempts=2, base=0.001)
CONTENT = b"x,y\n1,2\n3,4\n"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Answers:
    """What a service without faults answers."""

    url = ""

    def __call__(self, method: str, path: str, body: bytes) -> bytes:
        """Head and body."""
        if path.startswith("/store/"):
            return self._blob(method)
        tail = path.rpartition("/")[2]
        if method in ("DELETE", "PATCH") or tail == "start":
            return http(b"", "200 OK")
        return http(json.dumps(self._data(method, path, tail)).encode())

    def _blob(self, method: str) -> bytes:
        if method == "PUT":
            return http(b"", "201 Created")
        md5 = base64.b64encode(hashlib.md5(CONTENT).digest()).decode()  # noqa: S324 - as Azure Storage has it
        whole = http(CONTENT, "200 OK", f"x-ms-meta-sha256: {DIGEST}", f"Content-MD5: {md5}")
        return whole.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if method == "HEAD" else whole

    def _data(self, method: str, path: str, tail: str) -> Any:
        service = {"Id": SERVICE, "Name": "Line", "WorkspaceId": WORKSPACE}
        api = f"{self.url}/workspaces/{WORKSPACE}/services/{GUID}"
        endpoint = {
            "Name": "one",
            "WebServiceId": SERVICE,
            "ApiLocation": api,
            "PrimaryKey": "k1",
            "SecondaryKey": "k2",
        }
        job = {"JobId": "j1", "StatusCode": "Running", "Results": None, "Details": None}
        table = {"type": "table", "value": {"ColumnNames": ["y"], "ColumnTypes": ["Double"], "Values": [["1"]]}}
        model = {"Number": 1, "Resource": "m", "Location": {"RelativeLocation": "models/one.ilearner"}}
        key = NamedKey("laptop", KeyKind.SCORE, datetime(2026, 1, 1, tzinfo=UTC)).to_wire()
        by_tail = {
            "webservices": [service],
            SERVICE: service,
            "endpoints": [endpoint, {**endpoint, "Name": "two"}],
            "one": endpoint,
            "models": {"Models": [model], "Next": None},
            "regeneratekeys": endpoint,
            "keys": [key],
            "laptop": key,
            "quota": {**Quota(1, 2).to_wire(), **Usage(0, 0, datetime(2026, 1, 1, tzinfo=UTC)).to_wire()},
            "audit": {"Entries": [], "Next": None},
            "drift": DriftPage((EndpointDrift("one", STEADY, "m"),)).to_wire(),
            "rehearse": Rehearsal(3).to_json(),
            "scoremodel": ModelAnswers(Table(("y",), [[1]]), None).to_wire(),
            "sign": {"RelativeLocation": "c/b.csv", "BaseLocation": f"{self.url}/store/", "SasBlobToken": "?sig=x"},
            "rows": Table(("x", "y"), [[1, 2], [3, 4]]).to_wire(),
            "execute": {"Results": {"output1": table}},
            "jobs": "j1" if method == "POST" else {"Jobs": [job], "Next": None},
            "j1": job,
            "log": {"Lines": [{"Time": "2026-01-01T00:00:00Z", "Text": "begun"}]},
            "refresh": {},
            "swagger.json": {"definitions": {"BatchInputs": {"x-first": "rows"}}},
        }
        return by_tail[tail]


@pytest.fixture(scope="module")
def network() -> Iterator[BrokenNetwork]:
    """A network in front of it."""
    answers = Answers()
    with BrokenNetwork(answers) as made:
        answers.url = made.url
        yield made


def calls(url: str) -> dict[str, tuple[Any, ...]]:
    """The arguments of each verb."""
    api = f"{url}/workspaces/{WORKSPACE}/services/{GUID}"
    endpoint = Endpoint(name="one", web_service_id=SERVICE, api_location=api, primary_key="k1")
    blob = BlobReference("c/b.csv", f"{url}/store/", "?sig=x")
    return {
        "list_web_services": (),
        "service_facts": (),
        "get_web_service": (SERVICE,),
        "find_web_service": ("Line",),
        "delete_web_service": (SERVICE,),
        "list_endpoints": (SERVICE,),
        "get_endpoint": (SERVICE, "one"),
        "add_endpoint": (SERVICE, "one"),
        "patch_endpoint": (endpoint, EndpointSettings(description="d")),
        "refresh_endpoint": (SERVICE, "one"),
        "get_drift": (SERVICE,),
        "rehearse_update": (endpoint, Resource("r", BlobReference("m/a.ilearner"))),
        "delete_endpoint": (SERVICE, "one"),
        "submit_job": (endpoint, JobRequest({"input1": blob})),
        "start_job": (endpoint, "j1"),
        "get_job": (endpoint, "j1"),
        "cancel_job": (endpoint, "j1"),
        "score": (endpoint, [{"x": 1}]),
        "score_by": (endpoint, [{"x": 1}]),
        "score_model": (endpoint, ModelCall(BlobReference("m/a.ilearner"), None, Table.of([{"x": 1}]))),
        "read_rows": (endpoint, CONTENT, "a.csv"),
        "sign_blob": (BlobReference("c/b.csv"),),
        "names": (endpoint,),
        "fetch_blob": (blob,),
        "store_blob": (blob, CONTENT),
        "blob_facts": (blob,),
        "regenerate_key": (SERVICE, "one", KeyType.PRIMARY),
        "list_keys": (SERVICE, "one"),
        "make_key": (SERVICE, "one", "laptop", KeyKind.SCORE),
        "revoke_key": (SERVICE, "one", "laptop"),
        "get_quota": (SERVICE, "one"),
        "set_quota": (SERVICE, "one", Quota()),
        "list_audit": (),
        "list_models": (SERVICE, "one"),
        "list_jobs": (endpoint,),
        "job_log": (endpoint, "j1"),
        "store_stream": (blob, [CONTENT]),
    }


def blocking(url: str, name: str) -> Any:
    """The result of a verb, or its error."""
    with Client(url, WORKSPACE, "token", timeout=5, retries=TWICE) as client:
        try:
            return getattr(client, name)(*calls(url)[name])
        except AzureMLClassicError as error:
            return error


def asynchronous(url: str, name: str) -> Any:
    """The same with the other client."""

    async def run() -> Any:
        async with AsyncClient(url, WORKSPACE, "token", timeout=5, retries=TWICE) as client:
            try:
                return await getattr(client, name)(*calls(url)[name])
            except AzureMLClassicError as error:
                return error

    return asyncio.run(run())


def instead(body: bytes, status: str = "200 OK", *headers: str) -> Fault:
    """Something else answers."""
    return lambda answer: http(body, status, *headers)


def cut(share: float) -> Fault:
    """The connection ends after a part of the answer."""
    return lambda answer: answer[: int(len(answer) * share)]


def cut_at(at: int, name: str) -> Fault:
    """The connection ends after so many bytes; not in the length that a HEAD tells, which nobody can see (and
    docs/promises.md says so)."""

    def fault(answer: bytes) -> bytes | None:
        unseen = name == "blob_facts" and re.search(rb"\nContent-Length: \d+$", answer[:at])
        return None if unseen else answer[:at]

    return fault


def of_the_body(share: float) -> Fault:
    """The connection ends in the body, which had no length."""

    def fault(answer: bytes) -> bytes:
        head, _, body = answer.partition(b"\r\n\r\n")
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
        return b"\r\n".join(lines) + b"\r\n\r\n" + body[: int(len(body) * share)]

    return fault


def changed(answer: bytes) -> bytes:
    """A byte of the body is another one; not where nobody could see it."""
    head, end, body = answer.partition(b"\r\n\r\n")
    if body[:1] != CONTENT[:1]:
        return answer
    return head + end + body[:4] + b"7" + body[5:]


FAULTS: dict[str, Fault] = {
    "reset": lambda answer: None,
    "nothing": lambda answer: b"",
    "garbage": lambda answer: b"\x00\xff\x16\x03\x01" * 20,
    "empty": instead(b""),
    "null": instead(b"null"),
    "blank": instead(b" \r\n"),
    "page": instead(b"<html>Sign in</html>", "200 OK", "Content-Type: text/html"),
    "text": instead(b"ok"),
    "error object": instead(b'{"error": {"code": "InternalError", "message": "m", "details": []}}'),
    "elsewhere": instead(b"", "302 Found", "Location: http://127.0.0.1:1/"),
    "proxy": instead(b"<html>Bad gateway</html>", "502 Bad Gateway"),
    "early end": lambda answer: answer[:-1],
    "no length": of_the_body(0.5),
    "no length, no body": of_the_body(0),
    "changed": changed,
    "more than was said": lambda answer: answer + b"HTTP/1.1 200 OK\r\n\r\n{}",
    **{f"cut at {share / 40:.0%}": cut(share / 40) for share in range(1, 40, 3)},
}
#: No content is expected from these: a good status says all.
SILENT = {
    "delete_web_service",
    "patch_endpoint",
    "delete_endpoint",
    "start_job",
    "cancel_job",
    "store_blob",
    "revoke_key",
}
SILENT |= {"store_stream", "refresh_endpoint"}
#: What is sent instead may be what was asked for: a blob may have any content, and an id be any word.
CONTENTS = ("null", "blank", "page", "text", "error object")
UNSEEN = {"fetch_blob": CONTENTS, "blob_facts": CONTENTS, "submit_job": ("text",)}
#: Calls whose second, unconditional look at the service makes up for an answer without content.
LOOKS_AGAIN = {"add_endpoint"}
CLIENTS = {"blocking": blocking, "asynchronous": asynchronous}


def test_every_verb_has_a_row() -> None:
    """A new verb is tried as well."""
    verbs = {name for name, value in vars(Verbs).items() if isinstance(value, verb)}
    assert verbs == set(calls("http://h"))


@pytest.mark.slow
@pytest.mark.parametrize("ask", CLIENTS.values(), ids=CLIENTS)
@pytest.mark.parametrize("name", calls("http://h"))
def test_faults(network: BrokenNetwork, name: str, ask: Callable[[str, str], Any]) -> None:
    """The result is the one of a network without faults, or an error of ours; after one lost answer, what may be
    repeated gives the result."""
    network.fault, network.first = untouched, 0
    right = ask(network.url, name)
    assert not isinstance(right, Exception), right
    faults = dict(FAULTS)
    if LONG:
        faults |= {f"cut at {at}": cut_at(at, name) for at in range(1, 700)}
    wrong = {}
    for fault in UNSEEN.get(name, ()):
        del faults[fault]
    for fault, network.fault in faults.items():
        result = ask(network.url, name)
        if not isinstance(result, AzureMLClassicError) and result != right:
            wrong[fault] = result
    assert wrong == {}


def without_content() -> list[tuple[str, str]]:
    """Verbs that want content, and faults that take it away."""
    names = sorted(set(calls("http://h")) - SILENT - LOOKS_AGAIN - {"blob_facts"})
    faults = ("empty", "null", "blank", "cut at 32%", "no length, no body")
    return [(name, fault) for name in names for fault in faults if fault not in UNSEEN.get(name, ())]


@pytest.mark.slow
@pytest.mark.parametrize("ask", CLIENTS.values(), ids=CLIENTS)
@pytest.mark.parametrize(("name", "fault"), without_content())
def test_no_content_is_no_result(network: BrokenNetwork, name: str, fault: str, ask: Callable[[str, str], Any]) -> None:
    """What asks for content never takes an answer without any for a result."""
    network.fault, network.first = FAULTS[fault], 0
    assert isinstance(ask(network.url, name), AzureMLClassicError)


@pytest.mark.parametrize("ask", CLIENTS.values(), ids=CLIENTS)
def test_an_empty_blob(network: BrokenNetwork, ask: Callable[[str, str], Any]) -> None:
    """It is one if its head is that of a store."""
    network.fault, network.first = instead(b"", "200 OK", 'ETag: "0x1"'), 0
    assert ask(network.url, "fetch_blob") == b""


@pytest.mark.parametrize("ask", CLIENTS.values(), ids=CLIENTS)
@pytest.mark.parametrize("fault", ["reset", "cut at 62%", "changed", "no length", "no length, no body"])
def test_a_blob_that_came_in_part(network: BrokenNetwork, fault: str, ask: Callable[[str, str], Any]) -> None:
    """It is asked for again, and if that is no better either, it is an error that may pass."""
    network.fault, network.first, network.requests = FAULTS[fault], 0, 0
    result = ask(network.url, "fetch_blob")
    assert isinstance(result, ServiceUnavailable)
    # aiohttp repeats by itself what was not answered at all.
    assert TWICE.attempts <= network.requests <= 2 * TWICE.attempts


@pytest.mark.parametrize("ask", CLIENTS.values(), ids=CLIENTS)
@pytest.mark.parametrize("status", ["204 No Content", "206 Partial Content"])
def test_a_blob_of_another_status(network: BrokenNetwork, status: str, ask: Callable[[str, str], Any]) -> None:
    """Nothing is not the blob, and neither is a part of it."""
    network.fault, network.first = instead(b"" if status[:3] == "204" else b"x", status, 'ETag: "0x1"'), 0
    assert isinstance(ask(network.url, "fetch_blob"), ServiceUnavailable)


@pytest.mark.parametrize("ask", CLIENTS.values(), ids=CLIENTS)
@pytest.mark.parametrize("name", ["list_web_services", "fetch_blob"])
def test_an_answer_without_end(
    network: BrokenNetwork, name: str, ask: Callable[[str, str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither what some bytes unpack to nor what goes on for ever fills the memory."""
    monkeypatch.setattr(integrity, "MAX_ANSWER", 1000)
    content = gzip.compress(b"[" + b" " * 100_000 + b"]")
    network.fault, network.first = instead(content, "200 OK", "Content-Encoding: gzip"), 0
    result = ask(network.url, name)
    assert isinstance(result, ProtocolError)
    assert "more than" in str(result)


def test_a_cut_head_shows_no_signature(network: BrokenNetwork, caplog: pytest.LogCaptureFixture) -> None:
    """The HTTP library logs the URL of an answer that it cannot read: without the signature of its SAS token."""
    network.fault, network.first = FAULTS["cut at 32%"], 0
    with caplog.at_level("DEBUG"):
        blocking(network.url, "fetch_blob")
    assert "c/b.csv" in caplog.text
    assert "sig=x" not in caplog.text
