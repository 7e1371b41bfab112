"""Swaps under load: no request fails, and no request sent after a PATCH was answered gets the old model."""

from __future__ import annotations

import http.client
import json
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint, EndpointSettings, Resource
from tests.support import ServerProcess
from tests.support.service import RESOURCE, SCORING, declaration

pytestmark = pytest.mark.slow

SWAPS = 50
THREADS = 4
BODY = json.dumps({"Inputs": {"input1": [{"x": 1.0}]}, "GlobalParameters": {}})


@dataclass(frozen=True)
class Call:
    """One scoring call: when it was sent, when it was answered, and the answer."""

    sent: float
    answered: float
    status: int
    slope: float


class Load:
    """Scores without a pause from several threads.

    :param endpoint: the endpoint to score with.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._stop = threading.Event()
        self.calls: list[list[Call]] = [[] for _ in range(THREADS)]
        self.errors: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run, args=(calls,), daemon=True) for calls in self.calls]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self, calls: list[Call]) -> None:
        parts = urlsplit(self._endpoint.api_location)
        headers = {"Authorization": f"Bearer {self._endpoint.primary_key}"}
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
        try:
            while not self._stop.is_set():
                sent = time.monotonic()
                connection.request("POST", f"{parts.path}/execute?api-version=2.0", BODY, headers)
                answer = connection.getresponse()
                content = answer.read()
                answered = time.monotonic()
                ((cell,),) = json.loads(content)["Results"]["output1"]["value"]["Values"]
                calls.append(Call(sent, answered, answer.status, round(float(cell), 2)))
        except BaseException as error:
            self.errors.append(error)
        finally:
            connection.close()

    def wait(self, more: int) -> None:
        """Until every thread has made some more calls."""
        wanted = [len(calls) + more for calls in self.calls]
        deadline = time.monotonic() + 30
        while any(len(calls) < count for calls, count in zip(self.calls, wanted, strict=True)):
            assert not self.errors, self.errors
            assert time.monotonic() < deadline
            time.sleep(0.001)


def test_fifty_swaps_under_load(trained: Path, tmp_path: Path) -> None:
    """Two models take turns while four clients score: each call has the answer of a model that was in place."""
    declared = declaration(tmp_path, "Line")
    server = ServerProcess(tmp_path / "data", "--experiments", str(declared), "--workers", "1")
    try:
        with server.client() as client:
            places = {}
            for name, slope in (("three", 3.0), ("ten", 10.0)):
                content = (trained / "data" / "blobs" / "models" / f"{name}.ilearner").read_bytes()
                server.upload(f"models/{name}.ilearner", content)
                places[slope] = server.sas(f"models/{name}.ilearner")
            endpoint = client.add_endpoint(client.find_web_service(SCORING).id, "swapped")
            patches = [(0.0, 0.0, 2.0)]
            with Load(endpoint) as load:
                for number in range(SWAPS):
                    load.wait(3)
                    slope = 3.0 if number % 2 else 10.0
                    patches.append(swap(client, endpoint, places[slope], slope))
                load.wait(3)
    finally:
        server.stop()
    assert not load.errors
    calls = [call for calls in load.calls for call in calls]
    assert {call.status for call in calls} == {200}
    wrong = [call for call in calls if call.slope not in possible(call, patches)]
    assert wrong == []
    print(f"{len(calls)} calls during {SWAPS} swaps, none failed, none with a model that was not in place")


def swap(client: Client, endpoint: Endpoint, place: BlobReference, slope: float) -> tuple[float, float, float]:
    """When the PATCH was sent and answered, and the slope of its model."""
    sent = time.monotonic()
    client.patch_endpoint(endpoint, EndpointSettings(resources=(Resource(RESOURCE, place),)))
    return sent, time.monotonic(), slope


def possible(call: Call, patches: list[tuple[float, float, float]]) -> set[float]:
    """Answers that a call may give: the last model in place before it was sent, and those put in place during it."""
    before = [slope for _, answered, slope in patches if answered <= call.sent]
    during = [slope for sent, answered, slope in patches if sent < call.answered and answered > call.sent]
    return {before[-1], *during}
