"""DAGs of tests/dags/test_seen.py: an update that declares its endpoint's asset and tells a webhook."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from airflow.sdk import DAG, Asset, AssetAlias

from airflow_provider_azureml_classic.assets import endpoint_asset
from airflow_provider_azureml_classic.notifications import ModelUpdatedNotifier
from airflow_provider_azureml_classic.operators import (
    AddEndpointOperator,
    BatchExecutionOperator,
    UpdateTrainedModelOperator,
)

SCORING = {"web_service": "Bike Rental [predictive exp.]", "endpoint": "declared"}
ENDPOINT = endpoint_asset(
    management_url=os.environ["TEST_MANAGEMENT_URL"], workspace_id=os.environ["TEST_WORKSPACE_ID"], **SCORING
)
TELL = ModelUpdatedNotifier(note="@bikes")

with DAG("declared", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
    train = BatchExecutionOperator(
        task_id="train",
        web_service="Bike Rental",
        inputs={"input1": "bike-rental/current.csv"},
        model_for="declared",
        poll_interval=0.5,
    )
    update = UpdateTrainedModelOperator(
        task_id="update",
        job=train.output,
        outlets=[ENDPOINT],
        on_success_callback=TELL,
        on_skipped_callback=TELL,
        on_failure_callback=TELL,
        **SCORING,
    )
    AddEndpointOperator(task_id="add_endpoint", **SCORING) >> train >> update

with DAG("deferred", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
    BatchExecutionOperator(
        task_id="train", web_service="Bike Rental", inputs={"input1": "bike-rental/current.csv"}, deferrable=True
    )

with DAG("broken", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
    # The default endpoint cannot be updated.
    UpdateTrainedModelOperator(
        task_id="update",
        web_service=SCORING["web_service"],
        endpoint="default",
        location="models/none.ilearner",
        outlets=[AssetAlias("mine")],
        on_failure_callback=TELL,
    )

with DAG("consumer", schedule=[ENDPOINT], start_date=datetime(2026, 1, 1, tzinfo=UTC)):
    AddEndpointOperator(task_id="never", outlets=[Asset("nothing")], **SCORING)
