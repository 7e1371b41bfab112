"""Task contexts without Airflow's machinery, and a wire to the real server that can be watched and bent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.client.retries import RetryPolicy
from airflow_provider_azureml_classic.hooks import AzureMLClassicHook
from airflow_provider_azureml_classic.memory import KEY, JobState
from airflow_provider_azureml_classic.protocol.jobs import JobRequest
from airflow_provider_azureml_classic.protocol.messages import Request, Response
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint, EndpointSettings, Resource
from tests.support import BIKES, BIKES_SCORING, ServerProcess, wait_for_job

DAY = datetime(2026, 3, 1, tzinfo=UTC)


class Store:
    """A task state store in a dict.

    :param journal: told of every change, in order.
    """

    def __init__(self, journal: list[str] | None = None) -> None:
        self.kept: dict[str, Any] = {}
        self.journal = journal if journal is not None else []

    def get(self, key: str, default: Any = None) -> Any:
        """A value."""
        return self.kept.get(key, default)

    def set(self, key: str, value: Any) -> None:
        """Keep a value; only JSON can be kept."""
        self.kept[key] = json.loads(json.dumps(value))
        self.journal.append("keep")

    def delete(self, key: str) -> None:
        """Forget a value."""
        self.kept.pop(key, None)
        self.journal.append("forget")


def context(
    store: Store | None = None, *, max_tries: int = 2, end: datetime | None = DAY, **run: Any
) -> dict[str, Any]:
    """The context of a task of a daily run."""
    start = end - timedelta(days=1) if end else None
    values = {"run_after": DAY, "data_interval_start": start, "data_interval_end": end, **run}
    return {
        "ti": SimpleNamespace(max_tries=max_tries),
        "dag_run": SimpleNamespace(**values),
        "task_state_store": store or Store(),
    }


class Wire:
    """Between an operator and the real server: notes what is sent, and bends answers.

    :param transport: the real one.
    :param journal: told the name of every call, in order.
    """

    def __init__(self, transport: Callable[[Request], Response], journal: list[str] | None = None) -> None:
        self.transport = transport
        self.journal = journal if journal is not None else []
        self.bends: dict[str, Callable[[Request, Callable[[Request], Response]], Response]] = {}

    def __call__(self, request: Request) -> Response:
        """Send."""
        name = request.operation.name
        self.journal.append(name)
        bend = self.bends.get(name)
        return bend(request, self.transport) if bend else self.transport(request)


def wired(task: Any, journal: list[str] | None = None) -> Wire:
    """Put a wire between a task, or a hook, and the server; calls are repeated without pauses."""
    client = task.client if isinstance(task, AzureMLClassicHook) else task.hook.client
    client._retries = RetryPolicy(attempts=2, base=0.0)
    wire = Wire(client._transport, journal)
    client._transport = wire
    return wire


def answer(status: int, data: Any) -> Response:
    """A JSON answer."""
    return Response.of_json(data, status=status)


def refused(status: int, code: str, message: str) -> Response:
    """An error answer."""
    detail = {"code": code, "message": message}
    return answer(status, {"error": {"code": code, "message": message, "details": [detail]}})


def edited(response: Response, **members: Any) -> Response:
    """An answer with other members."""
    return replace(response, body=json.dumps({**json.loads(response.body), **members}).encode())


def showing_status(status: str, times: int) -> Callable[..., Response]:
    """Shows a job in ``status`` for the first ``times`` looks, then as it is."""
    left = [times]

    def bend(request: Request, send: Callable[[Request], Response]) -> Response:
        response = send(request)
        left[0] -= 1
        return edited(response, StatusCode=status, Results=None) if left[0] >= 0 else response

    return bend


def standing_still(client: Any, endpoint: Any) -> Callable[..., Response]:
    """Shows an endpoint for ever as it is now."""
    seen: list[Response] = []

    def remember(request: Request, send: Callable[[Request], Response]) -> Response:
        seen.append(send(request))
        return seen[-1]

    # The endpoint as the service itself describes it, whatever becomes of it later.
    recorder = Wire(client._transport)
    recorder.bends["get_endpoint"] = remember
    with patch.object(client, "_transport", recorder):
        client.get_endpoint(endpoint.web_service_id, endpoint.name)

    resources = json.loads(seen[0].body)["Resources"]

    def still(request: Request, send: Callable[[Request], Response]) -> Response:
        response = send(request)
        same = request.url.split("?")[0].endswith(f"/{endpoint.name}")
        return edited(response, Resources=resources) if same else response

    return still


@cache
def rentals(level: int = 100) -> bytes:
    """A small training file of the Bike Rental experiment; models of different levels give different answers."""
    names = "dteday,season,yr,mnth,hr,holiday,weekday,workingday,weathersit,temp,atemp,hum,windspeed,cnt"
    rows = [
        f"2026-01-{1 + n // 24:02},{1 + n % 4},0,{1 + n % 12},{n % 24},0,{n % 7},1,1,{n % 10 / 10},{n % 9 / 10},0.5,0,"
        f"{level + n % 24 * 3}"
        for n in range(240)
    ]
    return "\n".join([names, *rows, ""]).encode()


NOON = {
    "season": 2, "yr": 0, "mnth": 5, "hr": 12, "holiday": 0, "weekday": 3, "workingday": 1, "weathersit": 1,
    "temp": 0.6, "atemp": 0.6, "hum": 0.5, "windspeed": 0.2,
}  # fmt: skip


def trainer(client: Client) -> Endpoint:
    """The endpoint that trains."""
    return client.get_endpoint(client.find_web_service(BIKES).id, "default")


def submitted(server: ServerProcess, client: Client, *, content: bytes = b"", path: str, model: str = "") -> str:
    """A job that is not started."""
    server.upload(path, content or rentals())
    outputs = {"output1": BlobReference(model)} if model else {}
    return client.submit_job(trainer(client), JobRequest({"input1": BlobReference(path)}, outputs, {}))


def trained(server: ServerProcess, client: Client, endpoint: str, end: datetime, *, level: int = 100) -> dict[str, Any]:
    """A finished training job, as ``BatchExecutionOperator`` returns it."""
    path = f"models/{endpoint}/{end:%Y%m%dT%H%M%SZ}.ilearner"
    job_id = submitted(server, client, content=rentals(level), path=f"training/{endpoint}-{level}.csv", model=path)
    client.start_job(trainer(client), job_id)
    job = wait_for_job(client, trainer(client), job_id)
    assert job.status.value == "Finished", job.details
    return {
        "web_service": BIKES,
        "endpoint": "default",
        "job_id": job_id,
        "model_output": "output1",
        "window": {"start": None, "end": end.isoformat()},
    }


def added(client: Client, name: str) -> Endpoint:
    """An endpoint of the scoring service."""
    return client.add_endpoint(client.find_web_service(BIKES_SCORING).id, name)


def live(client: Client, name: str) -> str:
    """Path of the model that an endpoint names as live."""
    found = client.get_endpoint(client.find_web_service(BIKES_SCORING).id, name).resource().location
    return found.relative_location if found else ""


def remembered(job_id: str, epoch: int = 2, deadline: float | None = None, journal: list[str] | None = None) -> Store:
    """A store that holds a job of an earlier attempt."""
    store = Store(journal)
    store.kept[KEY] = {"job_id": job_id, "epoch": epoch, "deadline": deadline}
    assert JobState(**store.kept[KEY]).job_id == job_id
    return store


@contextmanager
def one_line(kind: type[BaseException], *words: str) -> Iterator[None]:
    """Expects an error of exactly this class whose text is one line, holds these words, and no secret."""
    with pytest.raises(kind) as caught:
        yield
    text = str(caught.value)
    assert type(caught.value) is kind
    assert "\n" not in text
    assert "sig=" not in text.replace("sig=***", "")
    assert [word for word in words if word not in text] == [], text


def update_to(client: Client, name: str, job: dict[str, Any]) -> None:
    """Put the model of a finished job in place, without any operator."""
    service = client.find_web_service(BIKES_SCORING)
    endpoint = client.get_endpoint(service.id, name)
    place = client.get_job(trainer(client), job["job_id"]).results["output1"]
    client.patch_endpoint(endpoint, EndpointSettings(resources=(Resource(endpoint.resource().name, place),)))


RECEIPT: dict[str, Any] = {
    "web_service": "Bike Rental [predictive exp.]",
    "endpoint": "bikes",
    "resource": "Bike Rental [trained model]",
    "model": {"location": "https://a/models/bikes/20260116T000000Z.ilearner", "length": 3, "sha256": "ab"},
    "window": {"start": None, "end": "2026-01-16T00:00:00+00:00"},
    "job_id": "47e3",
    "metrics": {"Mean Absolute Error": 16.2, "R": float("nan")},
    "proof": {"level": "score", "seconds": 0.02},
    "replaced": {"location": "https://a/models/old.ilearner", "window_end": None},
}
