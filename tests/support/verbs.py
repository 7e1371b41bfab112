"""What the tests of the smaller operators share: a task's context, small data, endpoints of their own."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.protocol.jobs import JobRequest
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint, WebService
from tests.support import BIKES, BIKES_SCORING, ServerProcess

NOON = {
    "season": 2, "yr": 0, "mnth": 5, "hr": 12, "holiday": 0, "weekday": 3, "workingday": 1, "weathersit": 1,
    "temp": 0.6, "atemp": 0.6, "hum": 0.5, "windspeed": 0.2,
}  # fmt: skip


class Store(dict[str, Any]):
    """A task state store."""

    def set(self, key: str, value: Any) -> None:
        """Keep a value."""
        self[key] = value

    def delete(self, key: str) -> None:
        """Forget a value."""
        self.pop(key, None)


def context(store: Store | None = None) -> dict[str, Any]:
    """The context of a task of a run that was due on 2 March 2026."""
    run = SimpleNamespace(run_after=datetime(2026, 3, 2, tzinfo=UTC))
    return {"ti": SimpleNamespace(max_tries=1), "dag_run": run, "task_state_store": Store() if store is None else store}


def own_name() -> str:
    """A name that no other test uses."""
    return f"t{uuid.uuid4().hex[:12]}"


def scoring(client: Client) -> WebService:
    """The scoring web service of the tests."""
    return client.find_web_service(BIKES_SCORING)


def own_endpoint(client: Client) -> Endpoint:
    """A scoring endpoint of a test's own."""
    return client.add_endpoint(scoring(client).id, own_name())


def training_csv(rows: int = 240) -> str:
    """Data that the Bike Rental experiment trains on in a second."""
    lines = [",".join(["dteday", *NOON, "cnt"])]
    lines += [
        f"2026-01-{1 + n // 24:02},{1 + n % 4},0,{1 + n % 12},{n % 24},0,{n % 7},1,1,{n % 10 / 10},0.5,0.5,0.2,{9 * n}"
        for n in range(rows)
    ]
    return "\n".join([*lines, ""])


def scoring_csv(rows: int) -> str:
    """Rows to score."""
    return "\n".join([",".join(NOON), *[",".join(map(str, NOON.values()))] * rows, ""])


def submitted(server: ServerProcess, client: Client, content: str = "") -> tuple[Endpoint, str]:
    """A training job that is not started, and the endpoint that it is at."""
    path = f"training/{own_name()}.csv"
    server.upload(path, content or training_csv())
    trainer = client.get_endpoint(client.find_web_service(BIKES).id, "default")
    return trainer, client.submit_job(trainer, JobRequest({"input1": BlobReference(path)}))
