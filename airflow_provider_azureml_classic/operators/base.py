"""What all operators share: the connection, the run's training window, and when an attempt ends.

A DAG file is read again and again, mostly by processes that run none of its tasks: what it loads from here loads no
HTTP library, no data library and nothing of the server.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_provider_azureml_classic import hooks
from airflow_provider_azureml_classic.hooks import AzureMLClassicHook
from airflow_provider_azureml_classic.retraining.freshness import Window, is_moment, run_window, to_utc

if TYPE_CHECKING:
    from airflow.sdk import Context


#: Defaults of parameters, spelled here as well as where they belong, which is not imported; a test compares.
DEFAULT_CONNECTION = "azureml_classic_default"
DEFAULT_ENDPOINT = "default"


def airflow_errors() -> AbstractContextManager[None]:
    """See :func:`airflow_provider_azureml_classic.hooks.airflow_errors`."""
    return hooks.airflow_errors()


# -- the window of the training data -----------------------------------------------------------------------------------


def training_window(context: Context, start: str | None, end: str | None) -> Window:
    """The window that a task was given, else its DAG run's.

    :param context: Airflow's task context.
    :param start: ISO 8601; counts with ``end`` only.
    :param end: ISO 8601.
    :raises ValueError: a moment is not ISO 8601, or the run has no date.
    """
    if end:
        return Window(to_utc(end), to_utc(start) if start else None)
    return run_window(context)


def warn_of_moment(task: BaseOperator, context: Context) -> None:
    """Say in the log what a data interval of no length means; once for each attempt.

    :param task: without a window of its own.
    :param context: Airflow's task context.
    """
    if is_moment(context):
        task.log.warning(
            "The data interval of this run has no length, it starts and ends at %s: where the training data begin is "
            "not known, and {{ data_interval_start }} is not earlier. For the period before the run use "
            "CronDataIntervalTimetable as the DAG's schedule, or [scheduler] create_cron_data_intervals. If that is "
            "intended, set window_end.",
            context.get("data_interval_end"),
        )


# -- execution_timeout, which Airflow does not count while a task is deferred (3.3.2) ----------------------------------


def attempt_ends(task: BaseOperator, context: Context) -> float | None:
    """When the task's ``execution_timeout`` is over, in seconds since 1970; ``None``: never.

    :param task: an operator or a sensor.
    :param context: Airflow's task context.
    """
    # A deferral keeps the start of the attempt.
    start = getattr(context.get("ti"), "start_date", None)
    return (start + task.execution_timeout).timestamp() if task.execution_timeout and start else None


def first_of(*moments: float | None) -> float | None:
    """The earliest of several deadlines; ``None``: never.

    :param moments: seconds since 1970; ``None``: never.
    """
    return min((moment for moment in moments if moment is not None), default=None)


def attempt_over(task: BaseOperator, context: Context) -> str | None:
    """What to say when ``execution_timeout`` is over, ``None`` before: to be asked before a task is deferred again. It
    then raises an ``AirflowException``, so that it may be tried again, as after Airflow's own time-out in the worker.

    :param task: an operator or a sensor.
    :param context: Airflow's task context.
    """
    ends = attempt_ends(task, context)
    return f"execution_timeout={task.execution_timeout}" if ends is not None and time.time() >= ends else None


class AzureMLClassicOperator(BaseOperator):
    """An operator with a connection to a workspace.

    :param azureml_classic_conn_id: connection of type ``azureml_classic``.
    """

    def __init__(self, *, azureml_classic_conn_id: str = DEFAULT_CONNECTION, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.azureml_classic_conn_id = azureml_classic_conn_id

    @cached_property
    def hook(self) -> AzureMLClassicHook:
        """The hook of the connection."""
        return AzureMLClassicHook(self.azureml_classic_conn_id)
