"""Other ways for the same fleet: deferred chunks, one task, and three tasks for each endpoint."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, task, task_group

from airflow_provider_azureml_classic.operators import (
    AddEndpointOperator,
    BatchExecutionOperator,
    RetrainFleetOperator,
    UpdateTrainedModelOperator,
)

ENDPOINTS, CHUNKS = 40, 4
TRAINING, SCORING = "Bike Rental", "Bike Rental [predictive exp.]"
COMMON: dict[str, Any] = {
    "schedule": None,
    "start_date": datetime(2026, 1, 1, tzinfo=UTC),
    "is_paused_upon_creation": False,
    "default_args": {"retries": 1, "retry_delay": timedelta(seconds=5)},
}


def customers(letter: str) -> list[dict[str, str]]:
    """The fleet; each way has endpoints of its own.

    :param letter: the names of its endpoints begin with.
    """
    return [{"endpoint": f"{letter}{number}", "inputs": f"customers/{number}.csv"} for number in range(ENDPOINTS)]


with DAG("fleet_deferred", **COMMON):

    @task
    def parts() -> list[list[dict[str, str]]]:
        """The fleet in parts of about the same size."""
        return [customers("d")[part::CHUNKS] for part in range(CHUNKS)]

    deferred = RetrainFleetOperator.partial(
        task_id="retrain",
        training_service=TRAINING,
        scoring_service=SCORING,
        max_active_jobs=10,
        deferrable=True,
    ).expand(items=parts())

with DAG("fleet_one", **COMMON):
    RetrainFleetOperator(
        task_id="retrain",
        training_service=TRAINING,
        scoring_service=SCORING,
        items=customers("o"),
        deferrable=False,
    )

with DAG("fleet_mapped", **COMMON, max_active_tasks=64):

    @task_group
    def each(endpoint: str, inputs: str) -> None:
        """Three tasks for an endpoint."""
        add = AddEndpointOperator(task_id="add", web_service=SCORING, endpoint=endpoint)
        fit = BatchExecutionOperator(
            task_id="fit", web_service=TRAINING, model_for=endpoint, inputs={"input1": inputs}, deferrable=False
        )
        put = UpdateTrainedModelOperator(task_id="retrain", web_service=SCORING, endpoint=endpoint, job=fit.output)
        add >> fit >> put

    each.expand_kwargs(customers("m"))
