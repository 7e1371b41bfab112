"""A first run from end to end: put a CSV file where the service reads it, train on it, update an endpoint, score a row.

Reads the connection ``azureml_classic_default`` and nothing else. ``path`` is a file that the worker can read, with the
columns of the Census Model: ``airflow dags trigger first_retrain --conf '{"path": "/data/census.csv"}'``
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import DAG, Param

from airflow_provider_azureml_classic.operators import (
    AddEndpointOperator,
    BatchExecutionOperator,
    ScoreOperator,
    UpdateTrainedModelOperator,
    UploadDataOperator,
)

SCORING = {"web_service": "Census Model [predictive exp.]", "endpoint": "first"}
SOMEBODY = {
    "age": 44, "workclass": "Private", "fnlwgt": 160323, "education": "Masters", "education-num": 14,
    "marital-status": "Married-civ-spouse", "occupation": "Exec-managerial", "relationship": "Husband",
    "race": "White", "sex": "Male", "capital-gain": 7688, "capital-loss": 0, "hours-per-week": 45,
    "native-country": "United-States",
}  # fmt: skip

with DAG(
    "first_retrain",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    params={"path": Param("census.csv", type="string", description="CSV file on the worker's machine")},
    tags=["azureml-classic"],
):
    # [START upload]
    upload = UploadDataOperator(task_id="upload", source="{{ params.path }}", destination="census/first.csv")
    train = BatchExecutionOperator(
        task_id="train",
        web_service="Census Model",
        inputs={"input1": upload.output["location"]},
        model_for=SCORING["endpoint"],
    )
    # [END upload]
    add_endpoint = AddEndpointOperator(task_id="add_endpoint", **SCORING)
    update = UpdateTrainedModelOperator(task_id="update", job=train.output, **SCORING)
    score = ScoreOperator(task_id="score", rows=[SOMEBODY], **SCORING)
    add_endpoint >> train >> update >> score
