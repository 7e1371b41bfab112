"""One endpoint for each customer, each retrained every week on that customer's data.

The customers are the names in ``CUSTOMERS``, or those in the run's configuration:
``airflow dags trigger customers_mapped --conf '{"customers": ["contoso", "fabrikam"]}'``. A customer's data are
the file ``rentals.csv`` in the customer's folder: the one that the service gives each customer if it keeps them
apart, else ``customers/NAME`` in the connection's storage account, or in the service's own store. Each customer is a
chain of its own: one that fails holds up no other. Reads the connection ``azureml_classic_default`` and nothing else.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, CronDataIntervalTimetable, Param, task, task_group

from airflow_provider_azureml_classic.operators import (
    AddEndpointOperator,
    BatchExecutionOperator,
    UpdateTrainedModelOperator,
)

SCORING = "Bike Rental [predictive exp.]"
CUSTOMERS = ["contoso", "fabrikam", "northwind"]
DATA = "{folder}/rentals.csv"

with DAG(
    "customers_mapped",
    schedule=CronDataIntervalTimetable("@weekly", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    params={"customers": Param(CUSTOMERS, type="array", items={"type": "string", "pattern": "^[a-z0-9]{1,24}$"})},
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["azureml-classic"],
):

    @task
    def customers(params=None) -> list[dict[str, str]]:
        """Each customer's endpoint, which has the customer's name."""
        return [{"endpoint": name} for name in params["customers"]]

    # The grid shows the customer's name instead of a number: map_index_template.
    @task_group
    def retrain(endpoint: str) -> None:
        """Add the customer's endpoint if it is not there, train on the customer's data, put the model live."""
        add = AddEndpointOperator(
            task_id="add_endpoint", web_service=SCORING, endpoint=endpoint, map_index_template="{{ task.endpoint }}"
        )
        train = BatchExecutionOperator(
            task_id="train",
            web_service="Bike Rental",
            inputs={"input1": DATA},
            model_for=endpoint,
            map_index_template="{{ task.model_for }}",
        )
        update = UpdateTrainedModelOperator(
            task_id="update",
            web_service=SCORING,
            endpoint=endpoint,
            job=train.output,
            map_index_template="{{ task.endpoint }}",
        )
        add >> train >> update

    retrain.expand_kwargs(customers())
