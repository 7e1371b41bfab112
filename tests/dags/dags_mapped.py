"""DAGs of tests/dags/test_mapped.py: mapped tasks that update endpoints, without a word about assets."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import DAG, Asset, AssetAlias

from airflow_provider_azureml_classic.operators import (
    AddEndpointOperator,
    BatchExecutionOperator,
    RetrainFleetOperator,
    UpdateTrainedModelOperator,
)

TRAINING, SCORING = "Bike Rental", "Bike Rental [predictive exp.]"
NAMES = ["ada", "bob"]
DATA = "bike-rental/current.csv"

with DAG("mapped_updates", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
    add = AddEndpointOperator.partial(task_id="add", web_service=SCORING).expand(endpoint=NAMES)
    train = BatchExecutionOperator(
        task_id="train", web_service=TRAINING, inputs={"input1": DATA}, model_for="all", poll_interval=0.5
    )
    update = UpdateTrainedModelOperator.partial(
        task_id="update", web_service=SCORING, job=train.output, deferrable=False
    ).expand(endpoint=NAMES)
    add >> train >> update

with DAG("mapped_fleets", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
    RetrainFleetOperator.partial(
        task_id="retrain", training_service=TRAINING, scoring_service=SCORING, deferrable=True, poll_interval=0.5
    ).expand(items=[[{"endpoint": name, "inputs": DATA}] for name in ("cy", "dan")])

with DAG("mapped_own_alias", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
    RetrainFleetOperator.partial(
        task_id="retrain",
        training_service=TRAINING,
        scoring_service=SCORING,
        deferrable=False,
        outlets=[Asset("table"), AssetAlias("mine")],
        poll_interval=0.5,
    ).expand(items=[[{"endpoint": "eve", "inputs": DATA}]])

with DAG("mapped_silent", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
    RetrainFleetOperator.partial(
        task_id="retrain", training_service=TRAINING, scoring_service=SCORING, deferrable=False, emit_asset=False
    ).expand(items=[[{"endpoint": "fay", "inputs": DATA}]])
