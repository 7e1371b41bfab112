"""A fleet whose second half trains when the test says so. The run's configuration names its training endpoint."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG

from airflow_provider_azureml_classic.operators import RetrainFleetOperator

RUN = "{{ dag_run.conf['endpoint'] }}"
HALF = 3

for name, deferrable in {"fleetinworker": False, "fleetdeferred": True}.items():
    with DAG(
        name,
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        # More than are needed: a busy machine loses an attempt to a missed heartbeat now and then.
        default_args={"retries": 5, "retry_delay": timedelta(seconds=1)},
        is_paused_upon_creation=False,
    ) as dag:
        RetrainFleetOperator(
            task_id="train",
            training_service="Held Model",
            scoring_service="Held Model [predictive exp.]",
            training_endpoint=RUN,
            items=[
                {"endpoint": f"{RUN}x{number}", "inputs": f"held/{RUN}{'' if number < HALF else 'late'}.csv"}
                for number in range(2 * HALF)
            ],
            poll_interval=1,
            deferrable=deferrable,
        )
    globals()[name] = dag
