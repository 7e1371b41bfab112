"""What the tests of gate, rollback and faults share: task contexts, small training data, and finished jobs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.protocol.jobs import JobRequest
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint
from tests.support import BIKES, BIKES_SCORING, ServerProcess, wait_for_job

DAY = datetime(2026, 3, 1, tzinfo=UTC)
ERROR = "Mean Absolute Error"


class TaskInstance(SimpleNamespace):
    """As much of a task instance as our tasks use; keeps what is pushed."""

    def xcom_push(self, key: str, value: Any) -> None:
        """Keep a value."""
        self.pushed[key] = value


def context(end: datetime = DAY) -> dict[str, Any]:
    """The context of a task of a daily run."""
    run = SimpleNamespace(run_after=end, data_interval_start=end - timedelta(days=1), data_interval_end=end)
    kept: dict[str, Any] = {}
    store = SimpleNamespace(get=kept.get, set=kept.__setitem__, delete=lambda key: kept.pop(key, None))
    return {"ti": TaskInstance(max_tries=0, pushed={}), "dag_run": run, "task_state_store": store}


@cache
def rentals(level: int = 100, rows: int = 480, noise: float = 5.0, month: int = 1) -> str:
    """Training data of the Bike Rental experiment: rentals rise by the hour, above a level, in the days of a month."""
    draw = random.Random(level)  # noqa: S311 - test data
    names = "dteday,season,yr,mnth,hr,holiday,weekday,workingday,weathersit,temp,atemp,hum,windspeed,cnt"
    lines = [
        f"2026-{month:02}-{1 + n // 24 % 28:02},{1 + n % 4},0,{1 + n % 12},{n % 24},0,{n % 7},1,1,{n % 10 / 10},"
        f"0.3,0.5,0.2,{level + n % 24 * 10 + draw.gauss(0, noise):.0f}"
        for n in range(rows)
    ]
    return "\n".join([names, *lines, ""])


def trainer(client: Client, name: str = "default") -> Endpoint:
    """An endpoint of the training service; it is added unless it is the default one."""
    service = client.find_web_service(BIKES)
    return client.get_endpoint(service.id, name) if name == "default" else client.add_endpoint(service.id, name)


def trained(
    server: ServerProcess, client: Client, name: str, end: datetime, content: str, *, start: datetime | None = None
) -> dict[str, Any]:
    """A finished training job, as ``BatchExecutionOperator`` returns it; its model's path has the name and the end."""
    data, model = f"training/{name}-{end:%Y%m%d}.csv", f"models/{name}/{end:%Y%m%dT%H%M%SZ}.ilearner"
    server.upload(data, content)
    endpoint = trainer(client)
    request = JobRequest({"input1": BlobReference(data)}, {"output1": BlobReference(model)}, {})
    job_id = client.submit_job(endpoint, request)
    client.start_job(endpoint, job_id)
    job = wait_for_job(client, endpoint, job_id)
    assert job.status.value == "Finished", job.details
    return {
        "web_service": BIKES,
        "endpoint": "default",
        "job_id": job_id,
        "model_output": "output1",
        "window": {"start": start.isoformat() if start else None, "end": end.isoformat()},
    }


def added(client: Client, name: str) -> Endpoint:
    """An endpoint of the scoring service."""
    return client.add_endpoint(client.find_web_service(BIKES_SCORING).id, name)


def live(client: Client, name: str) -> str:
    """Address of the model that an endpoint names."""
    place = client.get_endpoint(client.find_web_service(BIKES_SCORING).id, name).resource().location
    assert place is not None
    return place.location


@contextmanager
def one_sentence(kind: type[BaseException], *words: str) -> Iterator[None]:
    """Expects an error of exactly this class whose text is one line, holds these words, and no secret."""
    with pytest.raises(kind) as caught:
        yield
    text = str(caught.value)
    assert type(caught.value) is kind, repr(caught.value)
    assert "\n" not in text
    assert "sig=" not in text
    assert [word for word in words if word not in text] == [], text
