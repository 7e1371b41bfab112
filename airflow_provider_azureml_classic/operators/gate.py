"""A gate before an update: is the new model good enough, and no worse than the live one?"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk import conf
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from airflow_provider_azureml_classic.client.retries import Program
from airflow_provider_azureml_classic.exceptions import NotFound, UpdateNotProved
from airflow_provider_azureml_classic.memory import Deadline
from airflow_provider_azureml_classic.operators.base import (
    AzureMLClassicOperator,
    airflow_errors,
    attempt_over,
)
from airflow_provider_azureml_classic.operators.placing import AT_ONCE, defer_to_proof
from airflow_provider_azureml_classic.protocol.digests import same_model
from airflow_provider_azureml_classic.protocol.references import CSV_EXTENSION
from airflow_provider_azureml_classic.retraining.check_endpoints import check_endpoint_name, removed, taken_up
from airflow_provider_azureml_classic.retraining.comparison import Labelled, answers_of, read_rows
from airflow_provider_azureml_classic.retraining.evaluation import Evaluation, read_evaluation
from airflow_provider_azureml_classic.retraining.freshness import Window
from airflow_provider_azureml_classic.retraining.jobs import JobTicket, trained_model
from airflow_provider_azureml_classic.retraining.judgement import Decision
from airflow_provider_azureml_classic.retraining.judging import Comparison, Report, Rules
from airflow_provider_azureml_classic.retraining.placing import Candidate, Placing, Target, Update, find_target
from airflow_provider_azureml_classic.retraining.quality import METRICS, Allowance, check_limits

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_azureml_classic.protocol.jobs import Job
    from airflow_provider_azureml_classic.protocol.references import BlobReference
    from airflow_provider_azureml_classic.protocol.values import Endpoint
    from airflow_provider_azureml_classic.retraining.quality import Answers, Metric

#: Airflow's task context, and the event of the triggerer that the task goes on with, if any.
Attempt = tuple["Context", Mapping[str, Any] | None]


class ModelQualityGate(AzureMLClassicOperator):
    """Lets an update happen only if the new model is good enough.

    There are two kinds of rules, at least one of which must be set. ``thresholds`` are limits of the metrics that the
    training job wrote. ``max_worse`` compares with the live model: both models' metrics are computed here, from their
    answers to the same rows.

    These are the rows that the new training held out, those that the live model's training held out, if the service
    keeps them, and those of ``check_data``, if it is set. Rows that one of the models was trained on are left out where
    that can be told. A service that cannot be asked for the answers of a model file is asked through endpoints: for
    ``check_data``, the new model is then put live on one that serves nobody else.

    A model that is not good enough ends the task *skipped*, and with it the update after it; that is a normal outcome.
    A metric that a rule names and that is missing fails the task.

    Returns a dict, which is in XCom whether the model passes or not: ``decision`` (``pass`` or ``kept``), ``reasons``,
    ``notes``, ``job_id``, ``live_model``, ``metrics`` (``evaluation``, ``candidate``, ``live``), ``compared_on``
    (``rows``, ``source``), ``differences``, ``undecided``, ``sets`` (the same figures for each set of rows).

    :param web_service: name or id of the scoring web service. (templated)
    :param endpoint: the endpoint whose model is live. (templated)
    :param job: what :class:`BatchExecutionOperator` returned. (templated)
    :param thresholds: limits by metric of the evaluation: ``{"AUC": {"min": 0.9}}``, ``min``, ``max`` or both.
        (templated)
    :param max_worse: by metric, how much worse than the live model the new one may be: a number is in the metric's own
        unit, a text such as ``"2%"`` is relative to the live model's value, 0 means "no worse at all". Errors and
        losses are better when lower, the others when higher. (templated)
    :param first_model: what to do if the path of the live model names no training window, as with the model that a web
        service starts with, or if the endpoint does not exist yet: ``compare`` (fails without an endpoint), ``pass``
        without a comparison, or ``fail``.
    :param on_worse: ``skip`` or ``fail`` the task.
    :param on_undecided: what to do where the rows do not tell whether the model is worse: ``pass``, ``keep`` the live
        model or ``fail``. By default *pass* if the training file satisfies the data contract with labels shared out as
        before, *keep* if it does not; where no contract is known, the plain values decide.
    :param allow_training_metrics: let a model pass whose metrics are those of its training rows, because there were too
        few to hold any out (``Rows Held Out`` of the evaluation is 0). Without it such a model is not good enough,
        unless ``check_data`` is all that it is judged by.
    :param check_data: besides the held-out rows, a file with labels (CSV, TSV, ARFF, Parquet): path, URL with SAS
        token or blob reference. It is read on the worker if that has the extra ``data``, else by the
        service, where that is azureml-classic-server, up to 4 MiB. (templated)
    :param check_endpoint: endpoint of the web service on which the new model is tried with ``check_data``; its model is
        replaced. By default the service is asked for the answers of the model file, and where it cannot be, the gate
        makes an endpoint for itself and removes it. (templated)
    :param label_column: column of ``check_data`` that is predicted; by default the one that the evaluation names.
    :param own_metrics: further metrics for ``max_worse``, by name: how to compute them, and which direction is better.
    :param resource: name of the updatable resource; ``None`` means the only one. (templated)
    :param evaluation_output: the job's output that is the evaluation; by default the only CSV file.
    :param model_output: the job's output that is the model; by default the one that ``job`` names, else its only
        ``.ilearner``.
    :param check_timeout: seconds allowed until the new model answers on ``check_endpoint``.
    :param deferrable: wait for that in the triggerer, unless it comes within seconds; by default Airflow's
        ``[operators] default_deferrable``.
    :param azureml_classic_conn_id: connection of type ``azureml_classic``. (templated)
    """

    template_fields: Sequence[str] = (
        "azureml_classic_conn_id",
        "web_service",
        "endpoint",
        "job",
        "thresholds",
        "max_worse",
        "check_data",
        "check_endpoint",
        "resource",
    )
    template_fields_renderers = {"job": "json", "thresholds": "json", "max_worse": "json"}  # noqa: RUF012
    ui_color = "#fee2e2"

    def __init__(
        self,
        *,
        web_service: str,
        endpoint: str,
        job: Mapping[str, Any],
        thresholds: Mapping[str, Mapping[str, float]] | None = None,
        max_worse: Mapping[str, float | str] | None = None,
        first_model: Literal["compare", "pass", "fail"] = "compare",
        on_worse: Literal["skip", "fail"] = "skip",
        on_undecided: Literal["pass", "keep", "fail"] | None = None,
        allow_training_metrics: bool = False,
        check_data: Mapping[str, Any] | str | None = None,
        check_endpoint: str | None = None,
        label_column: str | None = None,
        own_metrics: Mapping[str, Metric] | None = None,
        resource: str | None = None,
        evaluation_output: str | None = None,
        model_output: str | None = None,
        check_timeout: float = 120.0,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.web_service = web_service
        self.endpoint = endpoint
        self.job = job
        self.thresholds = thresholds
        self.max_worse = max_worse
        self.first_model = first_model
        self.on_worse = on_worse
        self.on_undecided = on_undecided
        self.allow_training_metrics = allow_training_metrics
        self.check_data = check_data
        self.check_endpoint = check_endpoint
        self.label_column = label_column
        self.own_metrics = own_metrics
        self.resource = resource
        self.evaluation_output = evaluation_output
        self.model_output = model_output
        self.check_timeout = check_timeout
        self.deferrable = deferrable

    def execute(self, context: Context) -> dict[str, Any]:
        """Read the evaluation, apply the thresholds, compare with the live model."""
        return self._judge(context)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """Go on after the triggerer: everything is read again, only the deadline stays.

        :param context: Airflow's task context.
        :param event: the ``deadline``, for an Airflow without a task state store.
        """
        return self._judge(context, event)

    def _judge(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        with airflow_errors():
            rules = self._rules()
            job = self.hook.finished_job(self.job)
            _, output = job.output(self.evaluation_output, extension=CSV_EXTENSION)
            client = self.hook.client
            reading = read_evaluation(client, job, self.hook.readable(output), self.log.info)
            evaluation = client.perform(reading)
            report = Report.of(job.id, evaluation, rules, only_compared=bool(self.check_data))
            if rules.allowances:
                self._compare(report, job, evaluation, rules, (context, event))
        self._print(report, rules)
        result = report.to_json()
        if report.reasons:
            # What a skipped or failed task returns is lost, so it is pushed before.
            context["ti"].xcom_push(key="return_value", value=result)
            reason = f"Endpoint {self.endpoint!r} keeps its model: {' '.join(report.reasons)}"
            fails = self.on_worse == "fail" or (report.judgement and report.judgement.decision is Decision.FAIL)
            raise AirflowFailException(reason) if fails else AirflowSkipException(reason)
        return result

    # -- the rules -----------------------------------------------------------------------------------------------------

    def _rules(self) -> Rules:
        """Thresholds and allowances, checked before the first call."""
        if not self.thresholds and not self.max_worse:
            raise ValueError("The gate has no rule: set thresholds, max_worse or both.")
        for name, value, allowed in (
            ("first_model", self.first_model, ("compare", "pass", "fail")),
            ("on_worse", self.on_worse, ("skip", "fail")),
        ):
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}; it must be one of: {', '.join(map(str, allowed))}.")
        if self.check_endpoint and not self.check_data:
            raise ValueError("check_endpoint is set, and no check_data: there would be nothing to ask it.")
        allowances = {name: Allowance.parse(name, value) for name, value in (self.max_worse or {}).items()}
        metrics = {**METRICS, **(self.own_metrics or {})}
        limits = check_limits(self.thresholds or {})
        rules = Rules(limits, allowances, metrics, self.on_undecided, self.allow_training_metrics)
        rules.check()
        return rules

    # -- the comparison ------------------------------------------------------------------------------------------------

    def _compare(self, report: Report, job: Job, evaluation: Evaluation, rules: Rules, attempt: Attempt) -> None:
        model = trained_model(job, self.job, self.model_output)
        live = self._live(report, job, model, evaluation)
        if live is None:
            return
        ticket, client = JobTicket.from_json(self.job), self.hook.client
        candidate = Candidate(self.hook.readable(model), None, ticket, evaluation.golden, digests=job.model)

        def aside(rows: Labelled) -> Answers:
            return self._aside(live, candidate, rows, attempt)

        asked = Comparison(
            *(client, rules, live, live.resource(self.resource), candidate),
            aside=aside,
            prefer_aside=bool(self.check_endpoint),
        )
        client.perform(asked.judge(report, evaluation, job.data_check, self._check_rows(live, evaluation)))

    def _check_rows(self, live: Endpoint, evaluation: Evaluation) -> Labelled | None:
        """The rows of ``check_data``."""
        if not self.check_data:
            return None
        label = self.label_column or (evaluation.check.label if evaluation.check else None)
        if label is None:
            raise ValueError("The evaluation does not name the label column of check_data; set label_column.")
        file = self.hook.readable(self.hook.reference(self.check_data))
        client = self.hook.client
        return client.perform(read_rows(client, live, client.fetch_blob(file), label, file.location))

    def _live(self, report: Report, job: Job, model: BlobReference, evaluation: Evaluation) -> Endpoint | None:
        """The endpoint to compare with; ``None`` if there is nothing to compare with."""
        service = self.hook.client.find_web_service(self.web_service)
        try:
            endpoint = self.hook.client.get_endpoint(service.id, self.endpoint)
        except NotFound as error:
            if self.first_model != "pass":
                hint = "first_model='pass' lets a first model through."
                raise ValueError(f"There is no live model to compare with: {error.message} {hint}") from error
            report.notes.append(f"There is no endpoint {self.endpoint!r} yet, so there is no model to compare with.")
            return None
        resource = endpoint.resource(self.resource)
        live, same = resource.location, same_model(job.model, resource.digests)
        report.live_model = live.location if live else None
        # A place says which model it is only where nothing else does.
        if same or (same is None and live is not None and live.same_place(model)):
            report.notes.append("The new model is live already.")
            return None
        if resource.window_end is not None:
            if not (evaluation.check and evaluation.check.times):
                self._note_overlap(report, resource.window_end)
            return endpoint
        if self.first_model == "fail":
            raise ValueError(
                f"The live model of endpoint {self.endpoint!r}, {report.live_model or 'whose location is unknown'}, "
                "names no training window, and first_model='fail'."
            )
        if self.first_model == "pass":
            report.notes.append("The live model names no training window, so it was not compared with.")
            return None
        return endpoint

    def _note_overlap(self, report: Report, end: datetime) -> None:
        window = Window.from_json(self.job.get("window"))
        if window and window.start and window.start < end and not self.check_data:
            report.notes.append(
                f"The live model was trained on data up to {end:%Y-%m-%d %H:%M} UTC, this one on data from "
                f"{window.start:%Y-%m-%d %H:%M} UTC on: the live one may have seen some of the rows, which favours it."
            )

    def _aside(self, live: Endpoint, candidate: Candidate, rows: Labelled, attempt: Attempt) -> Answers:
        """The new model's answers, on an endpoint that serves nobody else."""
        if self.check_endpoint and self.check_endpoint.strip() == live.name:
            raise ValueError(f"check_endpoint is {live.name!r}, the endpoint whose model is live; set another one.")
        client, ti = self.hook.client, attempt[0]["ti"]
        name = self.check_endpoint
        if name is None:
            task = (getattr(ti, key, "") for key in ("dag_id", "task_id", "run_id", "map_index"))
            name = check_endpoint_name(*task, live.web_service_id, live.name)
            client.perform(taken_up(client, live.web_service_id, name, datetime.now(UTC)))
        trial = self._try(candidate, name, attempt)
        answers = client.perform(answers_of(client, trial.target.endpoint, rows))
        self._check_measured(trial)
        if self.check_endpoint is None:
            client.perform(removed(client, live.web_service_id, name))
        return answers

    def _check_measured(self, trial: Update) -> None:
        """Refuse what was measured if another model was put on the check endpoint meanwhile, perhaps by a gate."""
        missing = self.hook.client.perform(
            self._placing().missing(trial.target.endpoint, trial.candidate.golden, trial.patch)
        )
        if missing is not None:
            raise AirflowException(
                f"While the new model was measured on check_endpoint {trial.target.endpoint.name!r}, {missing} Nothing "
                "was decided. Let each gate have a check endpoint of its own."
            )

    def _placing(self) -> Placing:
        return Placing(self.hook.client, self.hook.readable, lambda text: self.log.info("%s", text))

    def _try(self, candidate: Candidate, check_endpoint: str, attempt: Attempt) -> Update:
        """Put the new model live on the check endpoint and wait until it answers there, here or in the triggerer."""
        client, (context, event) = self.hook.client, attempt
        placing = self._placing()

        def find() -> Program[tuple[Target, Candidate]]:
            return (yield from find_target(client, self.web_service, check_endpoint, None)), candidate

        trial = client.perform(placing.try_out(find))
        wait = Deadline(context)
        deadline = wait.begin(self.check_timeout) if event is None else wait.resume(event)
        here = min(deadline, time.time() + AT_ONCE) if self.deferrable else deadline
        missing = client.perform(placing.wait(trial, here))
        if missing is None:
            return trial
        unseen = f"The new model was put on check_endpoint {check_endpoint!r}, but it was not seen to be live there"
        if time.time() >= deadline:
            raise UpdateNotProved(f"{unseen} within {self.check_timeout:g} s: {missing}")
        if limit := attempt_over(self, context):
            raise AirflowException(f"{unseen} within {limit}.")
        return defer_to_proof(self, context, trial, deadline)

    # -- the outcome ---------------------------------------------------------------------------------------------------

    def _print(self, report: Report, rules: Rules) -> None:
        self.log.info("%s", report.text(rules))
        for note in report.notes:
            self.log.info("%s", note)
        self.log.info("%s", " ".join(report.reasons) or "The new model is good enough.")
