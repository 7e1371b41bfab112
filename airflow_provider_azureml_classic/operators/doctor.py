"""Is everything there that retraining needs, as seen from a worker and from the triggerer?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException, TaskDeferralError, TaskDeferralTimeout

from airflow_provider_azureml_classic import __version__
from airflow_provider_azureml_classic.exceptions import cause
from airflow_provider_azureml_classic.memory import DOCTOR_KEY, TaskStore
from airflow_provider_azureml_classic.operators.base import AzureMLClassicOperator
from airflow_provider_azureml_classic.retraining.checkup import Finding, lines, table_rows
from airflow_provider_azureml_classic.triggers import CheckupTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context


class DoctorOperator(AzureMLClassicOperator):
    """Checks what retraining needs, from Airflow's side: in the worker the connection, the versions on both sides, the
    clocks, a small upload and Airflow's state store; in the triggerer that the package is there, in the same version,
    and that the service can be reached from it, too.

    Logs a table, and returns its rows: ``check``, ``state`` (``ok``, ``WRONG``, or ``-`` where it cannot be told or
    matters little), ``found``, ``do``. The task fails if something is wrong.

    :param triggerer_timeout: how long the triggerer may take to answer.
    :param azureml_classic_conn_id: connection of type ``azureml_classic``. (templated)
    """

    template_fields: Sequence[str] = ("azureml_classic_conn_id",)
    ui_color = "#dbeafe"

    def __init__(self, *, triggerer_timeout: timedelta = timedelta(minutes=2), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.triggerer_timeout = triggerer_timeout

    def execute(self, context: Context) -> None:
        """Check what the worker sees, then go to the triggerer."""
        found = [asdict(one) for one in self._in_worker(context)]
        trigger = CheckupTrigger(azureml_classic_conn_id=self.azureml_classic_conn_id)
        kwargs = {"found": found}
        self.defer(trigger=trigger, method_name="finish", kwargs=kwargs, timeout=self.triggerer_timeout)

    def finish(self, context: Context, event: Mapping[str, Any], found: list[dict[str, Any]]) -> list[dict[str, str]]:
        """Tell what both have found.

        :param context: of the task.
        :param event: of the trigger.
        :param found: by the worker.
        """
        there = event["version"]
        same = Finding("triggerer", True, f"It runs, and has the package in version {there}.")
        if there != __version__:
            advice = "Install the same version everywhere, and restart the triggerer."
            same = Finding("triggerer", False, f"It has version {there}, this worker {__version__}.", advice)
        from_there = [Finding(**one) for one in event["found"]]
        return self._told([*(Finding(**one) for one in found), same, *from_there])

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """The triggerer has answered, or could not: that is one more thing that was found."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout:
            found = f"It has not answered within {self.triggerer_timeout}."
            advice = "Start `airflow triggerer`, or see why it does not run: waiting tasks need it."
        except TaskDeferralError as error:
            found = f"It cannot run the check: {cause(error)}."
            advice = "Install the package there, too, and restart it; its log has the reason."
        # What the worker had found did not come back.
        return self._told([*self._in_worker(context), Finding("triggerer", False, found, advice)])

    def _in_worker(self, context: Context) -> list[Finding]:
        return [*self.hook.checkup(), _state_store(context)]

    def _told(self, findings: Sequence[Finding]) -> list[dict[str, str]]:
        for line in lines(findings):
            self.log.info("%s", line)
        bad = [one for one in findings if one.good is False]
        if bad:
            raise AirflowFailException(" ".join(f"{one.check}: {one.found} {one.advice}".strip() for one in bad))
        return table_rows(findings)


def _state_store(context: Context) -> Finding:
    """Whether Airflow's state store keeps what a task remembers across its attempts."""
    store = TaskStore(context)
    if not store.lasts:
        found = "This Airflow has no state store: a retry after a crash submits a new job."
        return Finding("state store", None, found, "Airflow 3.3 has one.")
    try:
        store.set(DOCTOR_KEY, __version__)
        kept = store.get(DOCTOR_KEY)
        store.delete(DOCTOR_KEY)
    except Exception as error:  # whatever the API server or a custom backend raises
        return Finding("state store", False, f"It fails: {type(error).__name__}.", "Look at the API server's log.")
    if kept != __version__:
        advice = "Check [workers] and [state_store] of Airflow's configuration."
        return Finding("state store", False, "It does not give back what was kept.", advice)
    return Finding("state store", True, "It keeps what a task remembers.")
