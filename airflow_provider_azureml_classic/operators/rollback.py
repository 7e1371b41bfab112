"""Putting a previous model back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk import conf

from airflow_provider_azureml_classic.client.retries import Program
from airflow_provider_azureml_classic.exceptions import AccessDenied, AzureMLClassicError, NotFound, rejection
from airflow_provider_azureml_classic.operators.base import airflow_errors
from airflow_provider_azureml_classic.operators.placing import ModelPlacingOperator
from airflow_provider_azureml_classic.protocol.digests import Digests, same_model
from airflow_provider_azureml_classic.protocol.moments import to_utc
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.retraining.evaluation import GoldenRows, evaluation_of
from airflow_provider_azureml_classic.retraining.freshness import Window, window_in_path
from airflow_provider_azureml_classic.retraining.past_models import Choice, past_candidate
from airflow_provider_azureml_classic.retraining.placing import Candidate, Target, find_target
from airflow_provider_azureml_classic.retraining.proof import shows

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_azureml_classic.client.answers import BlobFacts
    from airflow_provider_azureml_classic.retraining.proof import Patch


class RollbackModelOperator(ModelPlacingOperator):
    """Puts a previous model back, and proves that it is live, as an update does.

    The receipt of an update says what to undo. An endpoint that somebody else has updated since is left alone: the task
    ends *skipped*, with the reason. Rolling back twice does no harm.

    Returns a receipt in the form of :class:`UpdateTrainedModelOperator`'s, so a rollback can be rolled back as well.

    :param receipt: what :class:`UpdateTrainedModelOperator` returned. (templated)
    :param location: instead of ``receipt``, the model to put back: path, URL with SAS token or blob reference.
        (templated)
    :param window_end: instead of both, end of the training window of the model to put back, ISO 8601: of those that the
        endpoint had, the one of that window that was put live last. The server in this package lists them; other
        services do not. (templated)
    :param web_service: name or id of the scoring web service; by default the receipt's. (templated)
    :param endpoint: its endpoint; by default the receipt's. (templated)
    :param resource: name of the updatable resource; by default the receipt's, else the only one. (templated)
    :param only_if_live: the model that must be live now, by its location; ``True`` means the receipt's model, ``False``
        any model. (templated)
    :param proof: level to reach: ``resource``, ``version``, ``score``, ``content``, or ``strongest`` that can be
        reached. ``score`` compares with the answers that the receipt holds of the previous model, ``content`` with its
        digests too, so they need a receipt; ``content`` goes with ``window_end``, too.
    :param proof_timeout: seconds allowed from PATCH to proof.
    :param deferrable: wait for the proof in the triggerer, unless it comes within seconds; by default Airflow's
        ``[operators] default_deferrable``.
    :param emit_asset: record the rollback as an asset event, as an update does.
    :param assets: which events: ``both`` the endpoint's own and, where ``outlets`` has the asset of the web service, a
        partition of that one; or ``partitions`` alone.
    :param azureml_classic_conn_id: connection of type ``azureml_classic``. (templated)
    """

    template_fields: Sequence[str] = (
        "azureml_classic_conn_id",
        "receipt",
        "location",
        "window_end",
        "web_service",
        "endpoint",
        "resource",
        "only_if_live",
    )
    template_fields_renderers = {"receipt": "json"}  # noqa: RUF012
    ui_color = "#ffedd5"

    def __init__(
        self,
        *,
        receipt: Mapping[str, Any] | None = None,
        location: Mapping[str, Any] | str | None = None,
        window_end: str | None = None,
        web_service: str = "",
        endpoint: str = "",
        resource: str | None = None,
        only_if_live: str | bool = True,
        proof: Literal["strongest", "resource", "version", "score", "content"] = "strongest",
        proof_timeout: float = 120.0,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
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
        self.receipt = receipt
        self.window_end = window_end
        self.only_if_live = only_if_live

    def execute(self, context: Context) -> dict[str, Any]:
        """Find the model to put back, compare with the live one, PATCH, prove."""
        with airflow_errors():
            self._check_arguments()
        return super().execute(context)

    def _check_arguments(self) -> None:
        if [self.receipt, self.location, self.window_end].count(None) != 2:
            raise ValueError(
                "Set exactly one of receipt (what UpdateTrainedModelOperator returned), location and window_end. A "
                "receipt that is an upstream task's output is empty if that task left no result in this run."
            )
        receipt = self.receipt
        if receipt is None:
            if not self.web_service or not self.endpoint:
                raise ValueError("Set web_service and endpoint along with location or window_end.")
        elif not isinstance(receipt, Mapping) or not {"endpoint", "model", "replaced"} <= set(receipt):
            raise ValueError(f"receipt must be what UpdateTrainedModelOperator returned, not {receipt!r:.60}.")
        elif not receipt["replaced"]["location"]:
            raise ValueError("The receipt does not say which model was replaced; set location to that model's.")

    def _parameter(self, name: str) -> Any:
        """A parameter, else the receipt's member of that name."""
        return getattr(self, name) or (self.receipt or {}).get(name)

    def _find(self) -> Program[Target]:
        web_service, endpoint = self._parameter("web_service"), self._parameter("endpoint")
        return find_target(self.hook.client, web_service, endpoint, self._parameter("resource"))

    def _facts(self, reference: BlobReference) -> Program[BlobFacts | None]:
        try:
            return (yield from super()._facts(reference))
        except (AccessDenied, NotFound):
            # A receipt holds no token. The service may read from its own store what we may not, or keep its own copy.
            self.log.info("The length and checksum of %s are unknown: it cannot be read from here.", reference.location)
            return None

    def _check(self, target: Target, candidate: Candidate) -> Program[str | None]:
        reason = self._reason_to_keep(target, candidate)
        told = candidate.digests is not None and target.resource.digests is not None
        if reason is None and not told:
            reason = yield from self._check_place(target, candidate)
        return reason

    def _check_place(self, target: Target, candidate: Candidate) -> Program[str | None]:
        """Report a model that cannot be read, or is another one by now, before anything is changed; returns why to keep
        the live one, if a path leads to nothing else.
        """
        changed: str | None = None
        try:
            if candidate.digests is None:
                facts = yield from super()._facts(candidate.location)
                if self.location is not None and facts is not None and _is_live(facts, target):
                    return (
                        f"Endpoint {target.endpoint.name!r} keeps its model: what lies at "
                        f"{candidate.location.location} is live already. If another model lay there before, put it "
                        "back by window_end or by the receipt of its update."
                    )
            else:
                changed = yield from self._placing().changed(candidate.location, candidate.digests, target.resource)
        except AccessDenied:
            self.log.info("Only the service can tell whether %s can be read.", candidate.location.location)
        if changed is not None:
            raise rejection("ModelInvalid", f"{changed} Nothing was changed.")
        return None

    def _candidate(self, target: Target, patch: Patch | None = None) -> Candidate:
        if self.window_end is not None:
            return self._of_window(target, patch, self.window_end)
        receipt = self.receipt
        location = self.location if receipt is None else receipt["replaced"]["location"]
        model = self.hook.readable(self.hook.reference(location or ""))
        golden = self._golden(receipt) if receipt is not None else None
        digests = Digests.from_json(receipt["replaced"]) if receipt is not None else None
        window = Window.from_json({"end": receipt["replaced"].get("window_end")}) if receipt is not None else None
        return Candidate(model, window or window_in_path(model), golden=golden, digests=digests)

    def _of_window(self, target: Target, patch: Patch | None, window_end: str) -> Candidate:
        choice, client = Choice(to_utc(window_end)), self.hook.client
        if patch is None:
            return client.perform(past_candidate(client, target, choice, self.hook.readable))
        # What was put live is what is proved, whatever the endpoint got since.
        model, window = self.hook.readable(patch.location), Window.from_json({"end": patch.window_end})
        return Candidate(model, window, digests=patch.model)

    def _golden(self, receipt: Mapping[str, Any]) -> GoldenRows | None:
        """The golden rows of the model that is undone, with the answers that the previous one gave to them."""
        ticket, answers = receipt.get("trained_by"), receipt["replaced"].get("answers")
        if not ticket or not answers:
            return None
        try:
            job, client = self.hook.finished_job(ticket), self.hook.client
            golden = client.perform(evaluation_of(client, job, self.log.info)).golden
            return replace(golden, answers=Table.from_wire(answers)) if golden else None
        except AzureMLClassicError as error:
            # The job may no longer exist; the model to put back is none the worse for it.
            self.log.info("The golden rows cannot be read: %s", error)
        return None

    def _reason_to_keep(self, target: Target, candidate: Candidate) -> str | None:
        expected, live_model = self._expected(), target.resource.digests
        if (
            self.receipt is not None
            and self.only_if_live is True
            and same_model(candidate.digests, live_model) is not True
        ):
            undone = self.receipt["model"]
            is_there = shows(target.endpoint, target.resource.name, BlobReference.parse(undone["location"]))
            if is_there and same_model(Digests.from_json(undone), live_model) is False:
                return (
                    f"Endpoint {target.endpoint.name!r} keeps its model: at {undone['location']} lies another one "
                    "by now than the receipt's, so somebody else has updated it since."
                )
        # The model to put back may be live already: an earlier attempt put it live, and its proof was lost.
        if expected is None or any(
            shows(target.endpoint, target.resource.name, model) for model in (expected, candidate.location)
        ):
            return None
        live = target.resource.location
        return (
            f"Endpoint {target.endpoint.name!r} keeps its model: {live.location if live else 'an unknown model'} is "
            f"live, not {expected.location}, so somebody else has updated it since."
        )

    def _expected(self) -> BlobReference | None:
        """The model that must be live now; ``None`` if any may be."""
        if isinstance(self.only_if_live, str):
            return BlobReference.parse(self.only_if_live)
        if self.only_if_live and self.receipt is not None:
            return BlobReference.parse(self.receipt["model"]["location"])
        return None


def _is_live(facts: BlobFacts, target: Target) -> bool:
    """Whether a file is the one that the endpoint answers with; ``False`` where the service does not tell."""
    live = target.resource.digests
    return live is not None and live.file is not None and facts.sha256 == live.file
