"""A model for each of many customers, retrained every week by one task.

The customers are those in ``CUSTOMERS``, or in the run's configuration, or wherever the task ``customers`` reads them;
it may return thousands. A customer's data are the file ``rentals.csv`` in the customer's folder: the one that the
service gives each customer if it keeps them apart, else ``customers/NAME`` in the connection's storage account, or in
the service's own store. Reads the connection ``azureml_classic_default`` and nothing else.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, CronDataIntervalTimetable, Param, task

from airflow_provider_azureml_classic.operators import RetrainFleetOperator

SCORING = "Bike Rental [predictive exp.]"
CUSTOMERS = ["contoso", "fabrikam", "northwind"]
DATA = "{folder}/rentals.csv"

with DAG(
    "fleet_retrain",
    schedule=CronDataIntervalTimetable("@weekly", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    params={"customers": Param(CUSTOMERS, type="array", items={"type": "string", "pattern": "^[a-z0-9]{1,24}$"})},
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["azureml-classic"],
):

    @task
    def customers(params=None) -> list[dict[str, str]]:
        """Each customer's endpoint, which has the customer's name, and data."""
        return [{"endpoint": name, "inputs": DATA} for name in params["customers"]]

    retrain = RetrainFleetOperator(
        task_id="retrain",
        training_service="Bike Rental",
        scoring_service=SCORING,
        items=customers(),
        waves=[1, 10],
        failure_threshold=0.05,
        thresholds={"Coefficient of Determination": {"min": 0.5}},
        deferrable=True,
    )
