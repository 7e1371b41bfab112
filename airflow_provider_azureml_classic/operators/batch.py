"""Training: a batch job whose output is a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_azureml_classic.operators.base import job_purpose, training_window, warn_of_moment
from airflow_provider_azureml_classic.operators.running import JobOperator
from airflow_provider_azureml_classic.protocol.data_check import check_options
from airflow_provider_azureml_classic.protocol.jobs import MODEL_OUTPUT
from airflow_provider_azureml_classic.protocol.purpose import Purpose
from airflow_provider_azureml_classic.protocol.references import MODEL_EXTENSION, BlobReference
from airflow_provider_azureml_classic.protocol.values import DEFAULT_ENDPOINT, Endpoint
from airflow_provider_azureml_classic.retraining.customers import model_place
from airflow_provider_azureml_classic.retraining.freshness import Window

if TYPE_CHECKING:
    from airflow.sdk import Context


class BatchExecutionOperator(JobOperator):
    """Runs a batch job of a web service: submit, start, wait.

    The job's id is kept in the task state store before the job is started, so that a retry, a restarted worker or a
    restarted triggerer takes up the same job. Marking the task failed or success, or clearing it, cancels the job; a
    worker that is shut down leaves it to the retry. Clearing a finished task runs a new one.

    Returns a dict: ``web_service``, ``web_service_id``, ``endpoint``, ``job_id``, ``status``, ``outputs`` (location by
    output name, without SAS tokens: a task that reads an output asks the job again for a fresh one), ``model_for``,
    ``window`` (``start`` and ``end`` of the training data) and ``data_check`` (what
    :class:`~.data_check.DataCheckOperator` returns, ``None`` where nothing was checked).

    :param web_service: name or id of the web service that runs the job. (templated)
    :param endpoint: its endpoint; by default the default one, or, where customers are kept apart, the one that is named
        as ``model_for``. (templated)
    :param inputs: by input name, where the data are: a path ``container/file.csv`` in the connection's storage account
        or in the service's own store, a URL with its SAS token, or a blob reference. A path may begin with
        ``{folder}/``: the customer's folder where customers are kept apart, elsewhere ``customers/`` and the name of
        ``model_for``. (templated)
    :param outputs: by output name, where to write, in the same forms. (templated)
    :param global_parameters: web service parameters by name. (templated)
    :param model_for: the scoring endpoint that the trained model is for; names the model's path. (templated)
    :param model_output: output that is the trained model; by default the one of ``outputs`` that ends in ``.ilearner``,
        else the one that the service says, else ``output1``.
    :param model_path: path of the model, if ``model_for`` is set and ``outputs`` does not name one; by default
        ``models/{service}/{endpoint}/{window_end}-{token}.ilearner``, where each job has a token of its own, and below
        the customer's folder where customers are kept apart. (templated)
    :param window_start: start of the training data, ISO 8601; by default the DAG run's. (templated)
    :param window_end: end of the training data, ISO 8601; by default the DAG run's: its partition date, else the end
        of its data interval, else when it was due. (templated)
    :param data_check: what to do, before anything is trained, with data that are not like those of the live model of
        ``model_for``: ``warn``, ``fail`` or ``off``. What is never benign, such as a column without any value where
        there were some, fails unless it is ``off``. Services without this addition check nothing.
    :param data_limits: how far its rules go, see :class:`~.data_check.DataCheckOperator`.
    :param wait_for_completion: ``False`` returns once the job is started.
    :param deferrable: wait in the triggerer; by default Airflow's ``[operators] default_deferrable``.
    :param poll_interval: seconds between two polls of the job, at most.
    :param job_timeout: seconds that the job may take in all, counted from its submission; ``None`` for no limit.
        Airflow's ``execution_timeout`` ends one attempt, deferred or not, and cancels the job.
    :param on_timeout: ``cancel`` the job at the time-out, or ``leave`` it.
    :param azureml_classic_conn_id: connection of type ``azureml_classic``. (templated)
    """

    template_fields: Sequence[str] = (
        *JobOperator.template_fields,
        "model_for",
        "model_path",
        "window_start",
        "window_end",
    )
    ui_color = "#fef3c7"

    def __init__(
        self,
        *,
        model_for: str | None = None,
        model_output: str | None = None,
        model_path: str | None = None,
        window_start: str | None = None,
        window_end: str | None = None,
        data_check: Literal["warn", "fail", "off"] = "warn",
        data_limits: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model_for = model_for
        self.model_output = model_output
        self.model_path = model_path
        self.window_start = window_start
        self.window_end = window_end
        self.data_check = data_check
        self.data_limits = data_limits

    def _check(self, context: Context) -> None:
        check_options(self.data_check, self.data_limits)
        self._window(context)
        if not self.window_end:
            warn_of_moment(self, context)

    def _destinations(self, context: Context, service_id: str) -> dict[str, Any]:
        outputs = super()._destinations(context, service_id)
        named = self.model_output or next(iter(_models(outputs)), None)
        if self.model_for and named not in outputs:
            name = named or self._names().output or MODEL_OUTPUT
            # Where customers are kept apart, a job writes into its own customer's folder only.
            trainer = self._target or Endpoint(DEFAULT_ENDPOINT)
            outputs[name] = model_place(trainer, service_id, self.model_for, self._window(context), self.model_path)
        return outputs

    def _purpose(self, context: Context) -> Purpose | None:
        window = self._window(context)
        return job_purpose(self.model_for, None, window, bool(self.window_end), self.data_check, self.data_limits)

    def _window(self, context: Context) -> Window:
        return training_window(context, self.window_start, self.window_end)

    def _result(self, context: Context, facts: dict[str, Any]) -> dict[str, Any]:
        window = self._window(context).to_json()
        models = _models(facts["outputs"])
        name = self.model_output or (models[0] if len(models) == 1 else None)
        return {**facts, "model_output": name, "model_for": self.model_for, "window": window}


def _models(outputs: Mapping[str, Any]) -> list[str]:
    """Names of the outputs that are models.

    :param outputs: by name, where each is.
    """
    return [name for name, value in outputs.items() if BlobReference.parse(value).extension == MODEL_EXTENSION]
