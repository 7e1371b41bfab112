"""A fleet in chunks: one task instance for each, which runs on whichever worker is free."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, task

from airflow_provider_azureml_classic.operators import RetrainFleetOperator

ENDPOINTS, CHUNKS = 40, 4

with DAG(
    "fleet_chunks",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    is_paused_upon_creation=False,
    default_args={"retries": 1, "retry_delay": timedelta(seconds=5)},
):

    @task
    def chunks() -> list[list[dict[str, str]]]:
        """The fleet in parts of about the same size."""
        items = [{"endpoint": f"c{number}", "inputs": f"customers/{number}.csv"} for number in range(ENDPOINTS)]
        return [items[part::CHUNKS] for part in range(CHUNKS)]

    retrain = RetrainFleetOperator.partial(
        task_id="retrain",
        training_service="Bike Rental",
        scoring_service="Bike Rental [predictive exp.]",
        max_active_jobs=10,
        deferrable=False,
    ).expand(items=chunks())
