"""Every week: retrain the Bike Rental model on the data of the last four weeks, and put it live.

The data are the answer to a query: connection ``warehouse`` is a PostgreSQL (another database spells the query's
placeholders otherwise), whose table ``rentals`` has the columns of the Bike Rental experiment. Reads the connections
``warehouse``, ``azureml_classic_default`` and ``azureml_classic_webhook``; the latter is told of each update and each
failure. A model that cannot be proved to be live is taken back. What is tried again, and when, is decided by what the
service said (Airflow 3.3).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, CronDataIntervalTimetable

from airflow_provider_azureml_classic.notifications import ModelUpdatedNotifier
from airflow_provider_azureml_classic.operators import (
    AddEndpointOperator,
    BatchExecutionOperator,
    UpdateTrainedModelOperator,
    UploadDataOperator,
)
from airflow_provider_azureml_classic.scheduling.retry_policy import ServiceRetryPolicy

SCORING = {"web_service": "Bike Rental [predictive exp.]", "endpoint": "weekly"}
TELL = ModelUpdatedNotifier()

with DAG(
    "weekly_retrain",
    schedule=CronDataIntervalTimetable("0 0 * * MON", timezone="UTC"),
    start_date=datetime(2011, 1, 1, tzinfo=UTC),
    catchup=False,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5), "retry_policy": ServiceRetryPolicy()},
    tags=["azureml-classic"],
):
    add_endpoint = AddEndpointOperator(task_id="add_endpoint", **SCORING)
    # [START upload]
    upload = UploadDataOperator(
        task_id="upload",
        sql="SELECT dteday, season, yr, mnth, hr, holiday, weekday, workingday, weathersit, temp, "
        "atemp, hum, windspeed, cnt "
        "FROM rentals WHERE dteday >= %(start)s AND dteday < %(end)s ORDER BY dteday, hr",
        sql_conn_id="warehouse",
        sql_parameters={
            "start": "{{ data_interval_end - macros.timedelta(weeks=4) }}",
            "end": "{{ data_interval_end }}",
        },
        destination="weekly/{{ data_interval_end | ds }}.csv",
    )
    # [END upload]
    train = BatchExecutionOperator(
        task_id="train",
        web_service="Bike Rental",
        inputs={"input1": upload.output["location"]},
        model_for=SCORING["endpoint"],
        window_start="{{ data_interval_end - macros.timedelta(weeks=4) }}",
        window_end="{{ data_interval_end }}",
        deferrable=True,
    )
    update = UpdateTrainedModelOperator(
        task_id="update",
        job=train.output,
        on_failure="rollback",
        deferrable=True,
        on_success_callback=TELL,
        on_failure_callback=TELL,
        **SCORING,
    )
    add_endpoint >> train >> update
