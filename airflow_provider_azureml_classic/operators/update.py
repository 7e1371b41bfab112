"""Putting a retrained model live, and proving that it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk import conf

from airflow_provider_azureml_classic.operators.base import skip
from airflow_provider_azureml_classic.operators.placing import ModelPlacingOperator
from airflow_provider_azureml_classic.protocol.moments import to_utc
from airflow_provider_azureml_classic.retraining.approval import NOT_NEEDED, Decision
from airflow_provider_azureml_classic.retraining.evaluation import evaluation_of
from airflow_provider_azureml_classic.retraining.freshness import Window, window_in_path
from airflow_provider_azureml_classic.retraining.jobs import NO_RESULT, JobTicket, trained_model
from airflow_provider_azureml_classic.retraining.order import older_than_live
from airflow_provider_azureml_classic.retraining.placing import Candidate, Placing
from airflow_provider_azureml_classic.retraining.rehearsing import Rehearsing

if TYPE_CHECKING:
    from airflow_provider_azureml_classic.protocol.references import BlobReference
    from airflow_provider_azureml_classic.retraining.placing import Overtaken, Target
    from airflow_provider_azureml_classic.retraining.proof import Patch


class UpdateTrainedModelOperator(ModelPlacingOperator):
    """Updates an endpoint's trained model with the one that a batch job wrote, and proves that it is live.

    The job is read again right before the PATCH, because each answer carries a fresh SAS token. A model that was
    trained on older data than the live one is not put live: the task ends *skipped*, with the reason, so that a
    backfill never moves an endpoint backwards. So does one whose model is replaced by a newer one before it is proved.

    Returns the receipt, a dict: ``web_service``, ``endpoint``, ``resource``, ``model`` (``location``, ``length``,
    ``sha256`` of the file, digest of the ``content``), ``window``, ``job_id``, ``metrics`` of the job's evaluation,
    ``rehearsal`` (``text``, whether it is ``unusual``, ``figures``), ``proof`` (``level`` reached: ``resource``,
    ``version``, ``score`` or ``content``, and ``seconds`` from PATCH to proof), ``replaced`` (``location``,
    ``window_end``, ``sha256`` and ``content`` of the previous model, and its ``answers`` to the new one's golden rows,
    with which a rollback proves that it is back), ``approval`` (``by``, ``at``, ``evidence``, ``asked_in`` and
    ``model``; ``None`` where nobody was asked).

    An update is first rehearsed where the service offers that and the endpoint keeps its calls: both models answer the
    last ones inside the server, before anything is put live. What came of it is in the log and the receipt.

    A training that gave the very model that is live already is *skipped* as that; its window is recorded.

    A task that is killed, cleared or retried between PATCH and proof leaves the new model live; its next attempt goes
    on with the proof.

    An update emits an event of the endpoint's asset, with the receipt as its extra; a skipped or failed one emits
    none.

    :param web_service: name or id of the scoring web service. (templated)
    :param endpoint: its endpoint, not the default one. (templated)
    :param job: what :class:`BatchExecutionOperator` returned. (templated)
    :param location: instead of ``job``, a stored model: path, URL with SAS token or blob reference. (templated)
    :param model_output: the job's output that is the model; by default the one that ``job`` names, else its only
        ``.ilearner``.
    :param resource: name of the updatable resource; ``None`` means the only one. (templated)
    :param window_end: end of the model's training data, ISO 8601; by default the job's, else the one in the
        model's path. (templated)
    :param only_if_newer: skip when the live model was trained on newer data.
    :param approval: what :class:`ApproveModelOperator` returned: only the model that it is about is put live, and only
        instead of the one that it was compared with; a rejection skips the task. By default nobody is asked; an empty
        one fails the task. (templated)
    :param unknown_window: with ``only_if_newer``, if it is not known on which data the live model was trained:
        ``replace`` it, or ``refuse``, which fails the task; by default ``refuse`` where the service tells windows, as
        the server in this package does, and ``replace`` elsewhere. The model that a web service began with is replaced.
    :param rehearsal: ``auto``, or ``require``, which fails the task where the update cannot be rehearsed, or ``off``.
    :param max_change: what of the answers may change, or the endpoint keeps its model and the task ends *skipped*: a
        share such as ``0.1``, or a mapping of ``changed`` (share), ``stability`` (population stability index) and
        ``refused`` (share of the rows that the new model refuses beyond those that the live one does). (templated)
    :param proof: level to reach: ``resource``, ``version``, ``score``, ``content``, or ``strongest`` that the
        service offers.
    :param proof_timeout: seconds allowed from PATCH to proof; the cloud service needed about 30.
    :param deferrable: wait for the proof in the triggerer, unless it comes within seconds; by default Airflow's
        ``[operators] default_deferrable``.
    :param on_failure: without proof in time, ``rollback`` puts the previous model back, ``keep`` does not;
        the task fails either way.
    :param emit_asset: record an update as an asset event, through the alias of all endpoints unless ``outlets`` names
        an endpoint's asset or an alias of your own.
    :param assets: which events: ``both`` the endpoint's own and, where ``outlets`` has the asset of the web service, a
        partition of that one; or ``partitions`` alone.
    :param azureml_classic_conn_id: connection of type ``azureml_classic``. (templated)
    """

    template_fields: Sequence[str] = (
        "azureml_classic_conn_id",
        "web_service",
        "endpoint",
        "job",
        "location",
        "resource",
        "window_end",
        "approval",
        "max_change",
    )
    template_fields_renderers = {"job": "json", "approval": "json"}  # noqa: RUF012
    ui_color = "#dcfce7"

    def __init__(
        self,
        *,
        web_service: str,
        endpoint: str,
        job: Mapping[str, Any] | None = None,
        location: Mapping[str, Any] | str | None = None,
        model_output: str | None = None,
        resource: str | None = None,
        window_end: str | None = None,
        approval: Mapping[str, Any] | str | None = NOT_NEEDED,
        only_if_newer: bool = True,
        unknown_window: Literal["replace", "refuse"] | None = None,
        rehearsal: Literal["auto", "require", "off"] = "auto",
        max_change: float | Mapping[str, float] | None = None,
        proof: Literal["strongest", "resource", "version", "score", "content"] = "strongest",
        proof_timeout: float = 120.0,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        on_failure: Literal["keep", "rollback"] = "keep",
        emit_asset: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            web_service=web_service,
            endpoint=endpoint,
            location=location,
            resource=resource,
            proof=proof,
            proof_timeout=proof_timeout,
            deferrable=deferrable,
            emit_asset=emit_asset,
            **kwargs,
        )
        self.job = job
        self.model_output = model_output
        self.window_end = window_end
        self.approval = approval
        self.only_if_newer = only_if_newer
        self.unknown_window = unknown_window
        self.rehearsal = rehearsal
        self.max_change = max_change
        self.on_failure = on_failure

    def _candidate(self, target: Target, patch: Patch | None = None) -> Candidate:
        if self.job is None and self.location is None:
            raise ValueError(f"{NO_RESULT} Otherwise set job or location.")
        if self.job is not None and self.location is not None:
            raise ValueError("Set exactly one of job (what BatchExecutionOperator returned) and location.")
        if self.location is not None:
            model = self.hook.readable(self.hook.reference(self.location))
            return Candidate(model, self._window_of(model, None))
        job, result = self.hook.finished_job(self.job), self.job or {}
        model = trained_model(job, result, self.model_output)
        window = self._window_of(model, Window.from_json(result.get("window")))
        evaluation = self.hook.client.perform(evaluation_of(self.hook.client, job, self.log.info))
        trained_by = JobTicket.from_json(result)
        return Candidate(model, window, trained_by, evaluation.golden, evaluation.metrics, job.model, job.window)

    def _window_of(self, model: BlobReference, window: Window | None) -> Window | None:
        """The window that the task sets, else that of the job, else that of the model's path."""
        return Window(to_utc(self.window_end)) if self.window_end else window or window_in_path(model)

    def _placing(self) -> Placing:
        return replace(
            super()._placing(),
            rehearsing=Rehearsing.of(self.rehearsal, self.max_change),
            warn=lambda text: self.log.warning("%s", text),
        )

    def _when_overtaken(self, overtaken: Overtaken) -> Exception:
        return skip(self, str(overtaken))

    def _decision(self) -> Decision | None:
        return Decision.from_json(self.approval)

    def _reason_to_keep(self, target: Target, candidate: Candidate) -> str | None:
        decision, reason = self._decision(), None
        if decision is not None:
            decision.check(target, candidate)
            if not decision.approved:
                return f"Endpoint {self.endpoint!r} keeps its model: {decision.approval.by or 'nobody'} did not agree."
        if self.only_if_newer:
            reason = older_than_live(target, candidate, self.unknown_window, self.log.warning)
        if decision is not None and reason is None:
            decision.check_live(target, candidate)
        return reason
