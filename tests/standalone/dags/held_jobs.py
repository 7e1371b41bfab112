"""DAGs whose job, or whose proof, ends when the test says so, and whose task can be stopped between any two calls.

Each reads the endpoint of the training service from the run's configuration; a test gives every run its own endpoint,
so that the service can tell whose job is whose.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from airflow.sdk import DAG

from airflow_provider_azureml_classic.exceptions import ServiceUnavailable
from airflow_provider_azureml_classic.hooks import AzureMLClassicHook
from airflow_provider_azureml_classic.operators import BatchExecutionOperator, UpdateTrainedModelOperator

POINTS = Path(os.environ["STANDALONE_POINTS"])
ENDPOINT = "{{ dag_run.conf['endpoint'] }}"


def stop_at(point: str) -> None:
    """Stay here until killed, if a file asks for it; the file is renamed, so that the next attempt passes."""
    wanted = POINTS / point
    if wanted.exists():
        wanted.rename(wanted.with_suffix(".reached"))
        while True:
            time.sleep(60)


def stopping(drive: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A client's way to run a verb, with a place to stop before and after each call that changes or looks."""

    def run(steps: Any) -> Any:
        verb, endpoint = steps.gi_code.co_name, steps.gi_frame.f_locals.get("endpoint")
        if verb in ("score", "score_by") and (POINTS / f"{endpoint.name}.mute").exists():
            raise ServiceUnavailable("A test has muted this endpoint.")
        if verb not in ("submit_job", "start_job", "get_job", "patch_endpoint"):
            return drive(steps)
        stop_at(f"{endpoint.name}-before-{verb}")
        with (POINTS / f"{endpoint.name}.calls").open("a") as calls:
            calls.write(f"{verb}\n")
        answer = drive(steps)
        ended = "-ended" if verb == "get_job" and answer.status.terminal else ""
        stop_at(f"{endpoint.name}-after-{verb}{ended}")
        return answer

    return run


class StoppingHook(AzureMLClassicHook):
    """The hook with such a client."""

    @cached_property
    def client(self) -> Any:
        """A client that can stop."""
        client = super().client
        client.drive = stopping(client.drive)
        return client


class StoppingBatch(BatchExecutionOperator):
    """The operator with such a hook; nothing of its own code is changed."""

    @cached_property
    def hook(self) -> StoppingHook:
        """A hook that can stop."""
        return StoppingHook(self.azureml_classic_conn_id, sleep=self.ending.sleep)


class StoppingUpdate(UpdateTrainedModelOperator):
    """Likewise."""

    @cached_property
    def hook(self) -> StoppingHook:
        """A hook that can stop."""
        return StoppingHook(self.azureml_classic_conn_id, sleep=self.ending.sleep)


for name, options in {
    "proofinworker": {"deferrable": False},
    "proofdeferred": {"deferrable": True},
    "prooflate": {"deferrable": True, "proof_timeout": 3, "on_failure": "rollback"},
}.items():
    with DAG(
        name,
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        default_args={"retries": 2, "retry_delay": timedelta(seconds=1)},
        is_paused_upon_creation=False,
        render_template_as_native_obj=True,
    ) as dag:
        StoppingUpdate(
            task_id="train",
            web_service="Bike Rental [predictive exp.]",
            endpoint=ENDPOINT,
            job="{{ dag_run.conf['job'] }}",
            **{"proof_timeout": 900, **options},
        )
    globals()[name] = dag

for name, options in {
    "inworker": {"deferrable": False},
    "deferred": {"deferrable": True},
    "lateinworker": {"deferrable": False, "job_timeout": 5},
    "latedeferred": {"deferrable": True, "job_timeout": 5},
}.items():
    with DAG(
        name,
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        default_args={"retries": 2, "retry_delay": timedelta(seconds=1)},
        is_paused_upon_creation=False,
    ) as dag:
        StoppingBatch(
            task_id="train",
            web_service="Held Model",
            endpoint=ENDPOINT,
            inputs={"input1": f"held/{ENDPOINT}.csv"},
            poll_interval=1,
            **options,
        )
    globals()[name] = dag

for name, deferrable in {"chaininworker": False, "chaindeferred": True}.items():
    with DAG(
        name,
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        # More than are needed: a busy machine loses an attempt to a missed heartbeat now and then.
        default_args={"retries": 5, "retry_delay": timedelta(seconds=1)},
        is_paused_upon_creation=False,
    ) as dag:
        train = StoppingBatch(
            task_id="train",
            web_service="Held Model",
            endpoint=ENDPOINT,
            inputs={"input1": f"held/{ENDPOINT}.csv"},
            poll_interval=1,
            deferrable=deferrable,
        )
        UpdateTrainedModelOperator(
            task_id="update",
            web_service="Held Model [predictive exp.]",
            endpoint=ENDPOINT,
            job=train.output,
            deferrable=deferrable,
        )
    globals()[name] = dag
