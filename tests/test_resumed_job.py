"""A task that the triggerer resumes: which job it goes on with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_provider_azureml_classic.memory import KEY
from airflow_provider_azureml_classic.operators import BatchExecutionOperator
from airflow_provider_azureml_classic.protocol.jobs import Job, JobStatus

OLD, NEW = "0" * 32, "1" * 32


class Hook:
    """A service with two jobs: the one of before a clear is cancelled, the one of after it is running."""

    def __init__(self) -> None:
        self.client = self

    def find_web_service(self, web_service: str) -> Any:
        """Any web service."""
        return SimpleNamespace(id="service")

    def perform(self, program: Any) -> Any:
        """Any endpoint."""
        program.close()
        return SimpleNamespace(name="default")

    def get_job(self, endpoint: Any, job_id: str) -> Job:
        """One of the two jobs."""
        return Job(job_id, JobStatus.CANCELLED if job_id == OLD else JobStatus.RUNNING)


def test_event_of_a_trigger_from_before_a_clear() -> None:
    """An event that names the job of before a clear does not end the task: it waits on for the job it remembers."""
    kept = {KEY: {"job_id": NEW, "epoch": 3, "deadline": None}}
    operator = BatchExecutionOperator(task_id="train", web_service="any")
    operator.__dict__["hook"] = Hook()
    context: Any = {"task_state_store": kept, "ti": SimpleNamespace(max_tries=3)}
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute_complete(context, {"job_id": OLD, "deadline": 1.0})
    assert deferred.value.trigger.job_id == NEW
    assert deferred.value.trigger.deadline is None
