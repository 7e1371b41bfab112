"""What all operators share: the connection, the run's training window, and when an attempt ends.

A DAG file is read again and again, mostly by processes that run none of its tasks: what it loads from here loads no
HTTP library, no data library and nothing of the server.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from airflow_provider_azureml_classic.hooks import AzureMLClassicHook
from airflow_provider_azureml_classic.hooks import airflow_errors as airflow_errors
from airflow_provider_azureml_classic.operators.ending import Ending
from airflow_provider_azureml_classic.protocol.moments import to_utc
from airflow_provider_azureml_classic.protocol.purpose import Purpose
from airflow_provider_azureml_classic.protocol.values import DEFAULT_ENDPOINT as DEFAULT_ENDPOINT
from airflow_provider_azureml_classic.retraining.freshness import Window, is_moment, run_window

if TYPE_CHECKING:
    from airflow.sdk import Context


DEFAULT_CONNECTION = AzureMLClassicHook.default_conn_name


# -- the window of the training data -----------------------------------------------------------------------------------


def training_window(context: Context, start: str | None, end: str | None) -> Window:
    """The window that a task sets, else its DAG run's.

    :param context: Airflow's task context.
    :param start: ISO 8601; counts with ``end`` only.
    :param end: ISO 8601.
    :raises ValueError: a moment is not ISO 8601, or the run has no date.
    """
    if end:
        return Window(to_utc(end), to_utc(start) if start else None)
    return run_window(context)


def job_purpose(
    endpoint: str | None,
    web_service: str | None,
    window: Window,
    is_declared: bool,
    data_check: str,
    limits: Mapping[str, float] | None,
) -> Purpose:
    """What a training job is for. A start that is that of the run's interval is not told: a file need not begin there,
    many hold all days so far.

    :param endpoint: the scoring endpoint that the model is for.
    :param web_service: its web service, if it is known.
    :param window: of the training data.
    :param is_declared: a user has set the window; see :func:`training_window` for when that is.
    :param data_check: what to do with data that are not like those of the live model.
    :param limits: how far rules go.
    """
    start = window.start if is_declared else None
    return Purpose(endpoint, web_service, start, window.end, data_check, dict(limits or {}))


def warn_of_moment(task: BaseOperator, context: Context) -> None:
    """Log what a data interval of no length means; once for each attempt.

    :param task: without a window of its own.
    :param context: Airflow's task context.
    """
    if is_moment(context):
        task.log.warning(
            "The data interval of this run has no length: it starts and ends at %s. So the start of the training data "
            "is unknown, and {{ data_interval_start }} is no earlier than the end. To train on the period before the "
            "run, use CronDataIntervalTimetable as the DAG's schedule, or set [scheduler] create_cron_data_intervals. "
            "If that is intended, set window_end.",
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
    """The attempt's time limit if it is over, as text for a message; ``None`` before. To be called before a task is
    deferred again: it then raises an ``AirflowException``, so that it may be retried, as after Airflow's own time-out.

    :param task: an operator or a sensor.
    :param context: Airflow's task context.
    """
    ends = attempt_ends(task, context)
    return f"execution_timeout={task.execution_timeout}" if ends is not None and time.time() >= ends else None


def skip(task: BaseOperator, reason: str) -> AirflowSkipException:
    """The exception that skips a task. The reason is a line of the log: Airflow's own line of a skip hides it.

    :param task: an operator or a sensor.
    :param reason: a sentence.
    """
    task.log.info("Skipped: %s", reason)
    return AirflowSkipException(reason)


class AzureMLClassicOperator(BaseOperator):
    """An operator with a connection to a workspace.

    :param azureml_classic_conn_id: connection of type ``azureml_classic``.
    """

    def __init__(self, *, azureml_classic_conn_id: str = DEFAULT_CONNECTION, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.azureml_classic_conn_id = azureml_classic_conn_id
        self.ending = Ending()

    @cached_property
    def hook(self) -> AzureMLClassicHook:
        """The hook of the connection; its pauses end with the task."""
        return AzureMLClassicHook(self.azureml_classic_conn_id, sleep=self.ending.sleep)

    def on_kill(self) -> None:
        """The task is ended from outside: the wait sees it in its next pause. See :mod:`.ending`."""
        self.ending.asked = True
