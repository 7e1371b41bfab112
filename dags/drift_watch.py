"""Retrain the models whose callers ask something else than they were trained on, and no others.

There is no schedule: the triggerer asks the service, in one call for all endpoints, and starts a run when some of them
have drifted; each model is told once. A customer's data are the file ``rentals.csv`` in the customer's folder, which is
``customers/NAME`` where the service does not keep its customers apart. Reads the connection ``azureml_classic_default``
and nothing else.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_azureml_classic.operators import RetrainFleetOperator
from airflow_provider_azureml_classic.watchers import ModelDriftTrigger

SCORING = "Bike Rental [predictive exp.]"

# Columns that follow the calendar are others in any week than in the year of the training.
DRIFTED = ModelDriftTrigger(
    web_service=SCORING,
    ignore=["season", "yr", "mnth", "weekday", "workingday", "holiday"],
    poll_interval=timedelta(minutes=15).total_seconds(),
)
CALLERS_DRIFT = Asset("bike_rental_callers_drift", watchers=[AssetWatcher(name="drift", trigger=DRIFTED)])

with DAG(
    "drift_watch",
    schedule=CALLERS_DRIFT,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["azureml-classic"],
):

    @task
    def customers(triggering_asset_events=None) -> list[dict[str, str]]:
        """The endpoints of the events; one of a customer has the customer's name."""
        events = (triggering_asset_events or {}).get(CALLERS_DRIFT, [])
        names = {one["endpoint"] for event in events for one in event.extra["payload"]["endpoints"]}
        return [{"endpoint": name, "inputs": "{folder}/rentals.csv"} for name in sorted(names - {"default"})]

    retrain = RetrainFleetOperator(
        task_id="retrain",
        training_service="Bike Rental",
        scoring_service=SCORING,
        items=customers(),
        thresholds={"Coefficient of Determination": {"min": 0.5}},
        deferrable=True,
    )
