"""Retrain the Bike Rental model as soon as new data have arrived.

The data are the asset ``bike_rental_data``: a task that writes them has it as an outlet, a program outside of Airflow
posts an event to Airflow's API. The event's extra may say where the data are and when they end:
``{"path": "bike-rental/2026-01-15.csv", "until": "2026-01-16T00:00:00+00:00"}``. Without it the file
``bike-rental/current.csv`` is taken, and the moment the run is due: such runs have no logical date.
Reads the connection ``azureml_classic_default`` and nothing else.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, Asset, task

from airflow_provider_azureml_classic.operators import BatchExecutionOperator, UpdateTrainedModelOperator

SCORING = {"web_service": "Bike Rental [predictive exp.]", "endpoint": "bikes"}
DATA = Asset("bike_rental_data")

with DAG(
    "retrain_on_arrival",
    schedule=DATA,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["azureml-classic"],
):

    @task
    def newest(triggering_asset_events=None, dag_run=None) -> dict[str, str]:
        """Where the newest data are, and when they end: several events may have started one run."""
        events = triggering_asset_events[DATA] if triggering_asset_events and DATA in triggering_asset_events else []
        found = {"path": "bike-rental/current.csv", "until": dag_run.run_after.isoformat()}
        return found | max((event.extra for event in events), key=lambda extra: extra.get("until", ""), default={})

    arrived = newest()
    train = BatchExecutionOperator(
        task_id="train",
        web_service="Bike Rental",
        inputs={"input1": arrived["path"]},
        window_end=arrived["until"],
        model_for=SCORING["endpoint"],
    )
    UpdateTrainedModelOperator(task_id="update", job=train.output, **SCORING)
