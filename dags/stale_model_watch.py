"""Retrain the Bike Rental model when the live one has become too old, and only then.

There is no schedule: the triggerer looks at the endpoint and starts a run when the data that its model was trained on
ended more than two days ago. Reads the connection ``azureml_classic_default`` and nothing else. The CSV file
``bike-rental/current.csv``, in the connection's storage account or in the service's own store, holds the latest data.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, Asset, AssetWatcher

from airflow_provider_azureml_classic.operators import BatchExecutionOperator, UpdateTrainedModelOperator
from airflow_provider_azureml_classic.watchers import StaleModelTrigger

SCORING = {"web_service": "Bike Rental [predictive exp.]", "endpoint": "bikes"}

# One event for each model that becomes stale; another one a day later if that model is live still.
STALE = StaleModelTrigger(
    max_age=timedelta(days=2),
    repeat_every=timedelta(days=1),
    poll_interval=timedelta(minutes=5).total_seconds(),
    **SCORING,
)

with DAG(
    "stale_model_watch",
    schedule=Asset("bike_rental_model_is_stale", watchers=[AssetWatcher(name="bikes", trigger=STALE)]),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["azureml-classic"],
):
    # A run that an asset starts has no logical date: the model counts as trained on data up to the moment it is due.
    train = BatchExecutionOperator(
        task_id="train",
        web_service="Bike Rental",
        inputs={"input1": "bike-rental/current.csv"},
        model_for=SCORING["endpoint"],
    )
    UpdateTrainedModelOperator(task_id="update", job=train.output, **SCORING)
