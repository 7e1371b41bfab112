"""Every week: retrain the Bike Rental model, and put it live if it is good enough and a person agrees.

Before the training the data are compared with those of the live model; what was found stands in the question, beside
the gate's figures and the digests of both models. The update takes the one model that the person agreed to.

Reads the connection ``azureml_classic_default`` and nothing else. The data of a week are the CSV file
``bike-rental/YYYY-MM-DD.csv``, named after its first day, in the connection's storage account or in the service's own
store. Three ways to end: *updated*, *kept* because the gate saw that the new model is worse (everything after the gate
is skipped, the reason is in its log), and *kept* because nobody approved. To undo an update, give its receipt to
``RollbackModelOperator``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, CronDataIntervalTimetable

from airflow_provider_azureml_classic.operators import (
    AddEndpointOperator,
    ApproveModelOperator,
    BatchExecutionOperator,
    ModelQualityGate,
    UpdateTrainedModelOperator,
)
from airflow_provider_azureml_classic.sensors import ModelFreshnessSensor

SCORING = {"web_service": "Bike Rental [predictive exp.]", "endpoint": "approved"}

with DAG(
    "bike_rental_gated",
    schedule=CronDataIntervalTimetable("@weekly", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["azureml-classic"],
):
    add_endpoint = AddEndpointOperator(task_id="add_endpoint", **SCORING)
    train = BatchExecutionOperator(
        task_id="train",
        web_service="Bike Rental",
        inputs={"input1": "bike-rental/{{ data_interval_start | ds }}.csv"},
        model_for=SCORING["endpoint"],
    )
    # Good in itself, and at most 5 % worse than the live model on the rows that the training held out.
    gate = ModelQualityGate(
        task_id="gate",
        job=train.output,
        thresholds={"Coefficient of Determination": {"min": 0.5}},
        max_worse={"Mean Absolute Error": "5%"},
        **SCORING,
    )
    # Waits without a worker slot; who does not answer within two days has said no.
    approve = ApproveModelOperator(
        task_id="approve",
        job=train.output,
        gate=gate.output,
        note="Is it the file of {{ data_interval_start | ds }}?",
        defaults="Reject",
        response_timeout=timedelta(days=2),
        **SCORING,
    )
    # The job is asked again, so its answer carries a fresh SAS token however long the approval took.
    update = UpdateTrainedModelOperator(
        task_id="update", job=train.output, approval=approve.output, on_failure="rollback", **SCORING
    )
    wait_until_fresh = ModelFreshnessSensor(task_id="wait_until_fresh", job=train.output, timeout=600, **SCORING)
    add_endpoint >> train >> gate >> approve >> update >> wait_until_fresh
