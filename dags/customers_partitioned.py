"""A customer's file starts that customer's retraining, and an update starts what waits for that customer.

Two DAGs. ``customers_partitioned`` has one run for each partition of the asset ``customer_files``: a task, or a program
with Airflow's API, that has put ``rentals.csv`` into the folder of the customer ``NAME`` records an event with the
partition key ``NAME``. The folder is the one that the service gives each customer if it keeps them apart, else
``customers/NAME``.
Its update records an event of the web service's asset, with the endpoint as the partition key. ``customer_report`` has
one run for each such event of the endpoints that it names, and none for the others. Reads the connection
``azureml_classic_default``, and needs the plugin of this package in api-server, scheduler and dag-processor (Airflow
3.3).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, Asset, PartitionedAssetTimetable, task

from airflow_provider_azureml_classic.assets import web_service_asset
from airflow_provider_azureml_classic.operators import (
    AddEndpointOperator,
    BatchExecutionOperator,
    UpdateTrainedModelOperator,
)
from airflow_provider_azureml_classic.scheduling.partitions import OnlyEndpoints

SCORING = "Bike Rental [predictive exp.]"
FILES = Asset("customer_files")
ENDPOINTS = web_service_asset(SCORING)

with DAG(
    "customers_partitioned",
    schedule=PartitionedAssetTimetable(assets=FILES),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    max_active_runs=4,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["azureml-classic"],
):
    add_endpoint = AddEndpointOperator(task_id="add_endpoint", web_service=SCORING, endpoint="{{ partition_key }}")
    train = BatchExecutionOperator(
        task_id="train",
        web_service="Bike Rental",
        inputs={"input1": "{folder}/rentals.csv"},
        model_for="{{ partition_key }}",
    )
    update = UpdateTrainedModelOperator(
        task_id="update",
        web_service=SCORING,
        endpoint="{{ partition_key }}",
        job=train.output,
        assets="partitions",
        outlets=[ENDPOINTS],
    )
    add_endpoint >> train >> update

# [START named]
named = PartitionedAssetTimetable(assets=ENDPOINTS, default_partition_mapper=OnlyEndpoints(["contoso", "fabrikam"]))
# [END named]

with DAG(
    "customer_report",
    schedule=named,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    tags=["azureml-classic"],
):

    @task
    def report(dag_run=None) -> str:
        """Whatever depends on one customer's model."""
        return f"The model of {dag_run.partition_key} is a new one."

    report()
