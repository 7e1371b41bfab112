"""The sequence of the vendor's walk-through: retrain the Census Model on a CSV file, then update an endpoint with it.

Reads the connection ``azureml_classic_default`` and nothing else. Trigger it with the place of your data: a path in the
connection's storage account or in the service's own store, or a URL with its SAS token:
``airflow dags trigger census_retrain --conf '{"training_data": "census/adult.csv"}'``
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import DAG, Param

from airflow_provider_azureml_classic.operators import (
    AddEndpointOperator,
    BatchExecutionOperator,
    UpdateTrainedModelOperator,
)

SCORING = {"web_service": "Census Model [predictive exp.]", "endpoint": "{{ params.endpoint }}"}

with DAG(
    "census_retrain",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    params={
        "training_data": Param("census/training.csv", type="string", description="CSV file to train on"),
        "endpoint": Param("census", type="string", description="scoring endpoint to update"),
    },
    tags=["azureml-classic"],
):
    add_endpoint = AddEndpointOperator(task_id="add_endpoint", **SCORING)
    train = BatchExecutionOperator(
        task_id="train",
        web_service="Census Model",
        inputs={"input1": "{{ params.training_data }}"},
        model_for=SCORING["endpoint"],
    )
    update = UpdateTrainedModelOperator(task_id="update", job=train.output, **SCORING)
    add_endpoint >> train >> update
