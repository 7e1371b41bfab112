"""The DAGs whose traces in Airflow's database are stored: what tasks return and remember, and what they defer."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher

from airflow_provider_azureml_classic.operators import (
    AddEndpointOperator,
    BatchExecutionOperator,
    BatchScoringOperator,
    CancelJobOperator,
    ListEndpointsOperator,
    ModelQualityGate,
    RetrainFleetOperator,
    RollbackModelOperator,
    ScoreOperator,
    UpdateTrainedModelOperator,
    UploadDataOperator,
)
from airflow_provider_azureml_classic.sensors import JobSensor, ModelFreshnessSensor
from airflow_provider_azureml_classic.watchers import ModelChangeTrigger, StaleModelTrigger

LINE, SCORING = "Stored Line", "Stored Line [predictive exp.]"
#: No deadline of what is stored may ever have passed.
CENTURY = 100 * 366 * 86400.0
DAYS = [datetime(2026, 3, day, tzinfo=UTC).isoformat() for day in (1, 2, 3)]
#: Where the files of training data are.
WORK = os.environ.get("STORED_WORK", ".")


def dag(name: str, **options: Any) -> DAG:
    """A DAG that is run by hand."""
    return DAG(f"stored_{name}", **{"schedule": None, "start_date": datetime(2026, 1, 1, tzinfo=UTC), **options})


def train(task_id: str, number: int, **options: Any) -> BatchExecutionOperator:
    """Training on the data of a day."""
    return BatchExecutionOperator(
        task_id=task_id,
        web_service=LINE,
        inputs={"input1": f"stored/day{number}.csv"},
        model_for="sequence",
        window_start=DAYS[number - 1],
        window_end=DAYS[number],
        poll_interval=0.5,
        job_timeout=None,
        **options,
    )


def update(task_id: str, endpoint: str, job: Any, **options: Any) -> UpdateTrainedModelOperator:
    """An update of an endpoint."""
    return UpdateTrainedModelOperator(
        task_id=task_id, web_service=SCORING, endpoint=endpoint, job=job, proof_timeout=CENTURY, **options
    )


#: What training on the second day returned, in runs that are given it.
SECOND = "{{ dag_run.conf['job'] }}"


def fleet(task_id: str, name: str, count: int, **options: Any) -> RetrainFleetOperator:
    """A small fleet."""
    items = [{"endpoint": f"{name}{number}", "inputs": f"stored/day{1 + number % 2}.csv"} for number in range(count)]
    return RetrainFleetOperator(
        task_id=task_id,
        training_service=LINE,
        training_endpoint=f"{name}trainer",
        scoring_service=SCORING,
        items=items,
        window_start=DAYS[0],
        window_end=DAYS[2],
        poll_interval=0.2,
        proof_timeout=60,
        fleet_timeout=None,
        **options,
    )


# What ended well, task by task.
with dag("sequence") as sequence:
    for number in (1, 2):
        UploadDataOperator(
            task_id=f"upload{number}", destination=f"stored/day{number}.csv", source=f"{WORK}/day{number}.csv"
        )
    AddEndpointOperator(task_id="add", web_service=SCORING, endpoint="sequence")
    ends = [train("train1", 1), train("train2", 2)]
    jobs = [task.output for task in ends]
    for endpoint in ("sequence", "undone", "awaited", "pretended", "retried", "watched"):
        update(f"{endpoint}1", endpoint, jobs[0])
    ModelQualityGate(
        task_id="gate",
        web_service=SCORING,
        endpoint="sequence",
        job=jobs[1],
        thresholds={"Mean Absolute Error": {"max": 1000.0}},
        max_worse={"Mean Absolute Error": "100000%"},
    )
    for endpoint in ("sequence", "undone"):
        update(f"{endpoint}2", endpoint, jobs[1])
    receipt = sequence.get_task("undone2").output  # type: ignore[attr-defined]
    RollbackModelOperator(task_id="rollback", receipt=receipt)
    ScoreOperator(task_id="score", web_service=SCORING, endpoint="sequence", rows=[{"x": 4, "colour": "red"}])
    BatchScoringOperator(task_id="scorebatch", web_service=SCORING, source="stored/day1.csv", poll_interval=0.5)
    ListEndpointsOperator(task_id="list", web_service=SCORING)
    JobSensor(task_id="jobsensor", job=jobs[0])
    ModelFreshnessSensor(task_id="fresh", web_service=SCORING, endpoint="sequence", job=jobs[1])
    CancelJobOperator(task_id="cancel", job=jobs[1])
    # One after the other, in the order above.
    tasks = list(sequence.tasks)
    for before, after in pairwise(tasks):
        before.set_downstream(after)

with dag("fleet"):
    fleet("fleet", "whole", 2, deferrable=False)

# What is deferred still.
with dag("job"):
    train("train", 2, deferrable=True, endpoint="hanging")
with dag("fresh"):
    ModelFreshnessSensor(
        task_id="fresh",
        web_service=SCORING,
        endpoint="awaited",
        trained_to=DAYS[2],
        deferrable=True,
        timeout=CENTURY,
        poke_interval=0.5,
    )
for name in ("pretended", "retried"):
    with dag(name, render_template_as_native_obj=True):
        update("update", name, SECOND, deferrable=True)
with dag("gate", render_template_as_native_obj=True):
    ModelQualityGate(
        task_id="gate",
        web_service=SCORING,
        endpoint="watched",
        job=SECOND,
        max_worse={"Mean Absolute Error": "100000%"},
        check_data="stored/day1.csv",
        check_endpoint="aside",
        check_timeout=CENTURY,
        deferrable=True,
    )
for name in ("halfdone", "halfagain"):
    with dag(name):
        fleet("fleet", name, 3, deferrable=True, waves=[1])

# Watches of an endpoint.
WATCHED = {"web_service": SCORING, "endpoint": "watched", "poll_interval": 0.2}
WATCHES = {
    "stale": StaleModelTrigger(max_age=86400.0, **WATCHED),
    "change": ModelChangeTrigger(ours="models/somebody/", **WATCHED),
}
with dag(
    "watch",
    schedule=Asset("stored_watch", watchers=[AssetWatcher(name=name, trigger=one) for name, one in WATCHES.items()]),
):
    ListEndpointsOperator(task_id="list", web_service=SCORING)
