"""The same as ``bike_rental_retrain``, scheduled by partition: a run belongs to a day of data, not to a moment.

Reads the connection ``azureml_classic_default`` and nothing else. The run at midnight trains on the day that has just
ended; its partition key is that day, such as ``2026-01-15``, and its data are ``bike-rental/2026-01-15.csv`` in the
connection's storage account, or in the service's own store. ``airflow backfill create`` makes a run for each day.
Needs Airflow 3.3.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, CronPartitionTimetable

from airflow_provider_azureml_classic.operators import (
    AddEndpointOperator,
    BatchExecutionOperator,
    UpdateTrainedModelOperator,
)

SCORING = {"web_service": "Bike Rental [predictive exp.]", "endpoint": "partitions"}

with DAG(
    "bike_rental_partitioned",
    schedule=CronPartitionTimetable("0 0 * * *", timezone="UTC", run_offset=-1, key_format="%Y-%m-%d"),
    start_date=datetime(2011, 1, 1, tzinfo=UTC),  # the first day that can be backfilled
    catchup=False,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["azureml-classic"],
):
    add_endpoint = AddEndpointOperator(task_id="add_endpoint", **SCORING)
    # Such a run has no data interval: the window is said by the partition, a day that begins at its date.
    train = BatchExecutionOperator(
        task_id="train",
        web_service="Bike Rental",
        inputs={"input1": "bike-rental/{{ partition_key }}.csv"},
        window_start="{{ partition_date }}",
        window_end="{{ partition_date + macros.timedelta(days=1) }}",
        model_for=SCORING["endpoint"],
    )
    update = UpdateTrainedModelOperator(task_id="update", job=train.output, **SCORING)
    add_endpoint >> train >> update
