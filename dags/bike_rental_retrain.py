"""Every day: retrain the Bike Rental model on that day's data and put it live.

Reads the connection ``azureml_classic_default`` and nothing else. The data of a day are the CSV file
``bike-rental/YYYY-MM-DD.csv`` in the connection's storage account, or in the service's own store.
Run it for past days with ``airflow backfill create``: days may run in any order and side by side, because a model
never replaces one that was trained on newer data.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, CronDataIntervalTimetable

from airflow_provider_azureml_classic.operators import (
    AddEndpointOperator,
    BatchExecutionOperator,
    UpdateTrainedModelOperator,
)
from airflow_provider_azureml_classic.sensors import ModelFreshnessSensor

SCORING = {"web_service": "Bike Rental [predictive exp.]", "endpoint": "bikes"}
NOON_IN_SPRING = {
    "season": 2, "yr": 3, "mnth": 5, "hr": 12, "holiday": 0, "weekday": 3, "workingday": 1, "weathersit": 1,
    "temp": 0.6, "atemp": 0.6, "hum": 0.5, "windspeed": 0.2,
}  # fmt: skip

with DAG(
    "bike_rental_retrain",
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2011, 1, 1, tzinfo=UTC),  # the first day that can be backfilled
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
    update = UpdateTrainedModelOperator(task_id="update", job=train.output, **SCORING)
    wait_until_fresh = ModelFreshnessSensor(
        task_id="wait_until_fresh",
        trained_to="run",
        score_with=[NOON_IN_SPRING],
        timeout=600,
        **SCORING,
    )
    add_endpoint >> train >> update >> wait_until_fresh
