"""Data contract: are new data like those that the live model was trained on?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_provider_azureml_classic.operators.base import job_purpose, training_window
from airflow_provider_azureml_classic.operators.running import JobOperator
from airflow_provider_azureml_classic.protocol.data_check import NOT_KNOWN, ONLY, VIOLATED, check_limits
from airflow_provider_azureml_classic.protocol.purpose import Purpose
from airflow_provider_azureml_classic.retraining.data_contract import sentences

if TYPE_CHECKING:
    from airflow.sdk import Context


class DataCheckOperator(JobOperator):
    """Compares a training file with what the live model's manifest says of its own training data, and trains nothing.

    The server runs it as a job of the training web service: columns that are gone, new, blank or of another kind;
    numbers far from their range; new or respelled categories; blanks, repeated rows, number of rows; labels that are
    shared out in another way; a column that tells the label; times outside the declared window. Nobody has to write
    the contract. Services without this addition train the model, and the check is *not known*.

    Returns a dict, which is in XCom whether the data pass or not: ``verdict`` (``satisfied``, ``violated`` or
    ``not known``), ``labels_as_before``, ``rows``, ``rows_before``, ``findings`` (``level``, ``rule``, ``column``,
    ``message``), ``left_out`` and ``job_id``.

    :param web_service: name or id of the training web service. (templated)
    :param endpoint: its endpoint; by default as there. (templated)
    :param model_for: the scoring endpoint whose live model the data are compared with. (templated)
    :param inputs: by input name, where the data are; see :class:`~.batch.BatchExecutionOperator`. (templated)
    :param on_violation: ``fail`` or ``skip`` the task, or ``pass``.
    :param data_limits: how far rules go: a share from 0 to 1 by rule (``{"outside": 0.2}``), or by column and rule
        (``{"age.outside": 0.5}``).
    :param window_start: start of the training data, ISO 8601; by default none that is checked. (templated)
    :param window_end: end of the training data, ISO 8601, exclusive; by default the DAG run's. (templated)
    :param outputs: not needed, as nothing is written. (templated)
    :param global_parameters: web service parameters by name. (templated)
    :param wait_for_completion: not to be set: the task is about what is found.
    :param deferrable: wait in the triggerer; by default Airflow's ``[operators] default_deferrable``.
    :param poll_interval: seconds between two polls of the job, at most.
    :param job_timeout: seconds that the job may take in all, counted from its submission; ``None`` for no limit.
    :param on_timeout: ``cancel`` the job at the time-out, or ``leave`` it.
    :param azureml_classic_conn_id: connection of type ``azureml_classic``. (templated)
    """

    template_fields: Sequence[str] = (*JobOperator.template_fields, "model_for", "window_start", "window_end")
    ui_color = "#fef3c7"

    def __init__(
        self,
        *,
        model_for: str,
        on_violation: Literal["fail", "skip", "pass"] = "fail",
        data_limits: Mapping[str, float] | None = None,
        window_start: str | None = None,
        window_end: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model_for = model_for
        self.on_violation = on_violation
        self.data_limits = data_limits
        self.window_start = window_start
        self.window_end = window_end

    def _check(self, context: Context) -> None:
        if self.on_violation not in ("fail", "skip", "pass"):
            raise ValueError(f"on_violation is {self.on_violation!r}; it must be one of: fail, skip, pass.")
        check_limits(self.data_limits or {})

    def _purpose(self, context: Context) -> Purpose:
        window = training_window(context, self.window_start, self.window_end)
        return job_purpose(self.model_for, None, window, bool(self.window_end), ONLY, self.data_limits)

    def _result(self, context: Context, facts: dict[str, Any]) -> dict[str, Any]:
        found = facts["data_check"] or {"verdict": NOT_KNOWN, "labels_as_before": None, "findings": []}
        result = {**found, "job_id": facts["job_id"]}
        if found["verdict"] != VIOLATED or self.on_violation == "pass":
            return result
        # What a skipped or failed task returns is lost, so it is pushed before.
        context["ti"].xcom_push(key="return_value", value=result)
        reason = f"The data break the contract with the live model of endpoint {self.model_for!r}: {sentences(found)}"
        raise AirflowSkipException(reason) if self.on_violation == "skip" else AirflowFailException(reason)
