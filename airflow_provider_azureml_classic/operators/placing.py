"""What an update and a rollback share: put a model live, prove that it is live, and report it.

The model that was live before is remembered in the task state store before the PATCH. So a task that is killed, cleared
or retried between its PATCH and its proof goes on with the proof: it sends no second PATCH, and its receipt names the
right model as the one that was replaced.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from airflow.sdk import conf
from airflow.sdk.exceptions import AirflowException

from airflow_provider_azureml_classic.assets import (
    check_partitions,
    record_partitions,
    record_update,
    spellings,
    with_endpoint_outlet,
)
from airflow_provider_azureml_classic.client.retries import Program
from airflow_provider_azureml_classic.client.verbs import Verbs
from airflow_provider_azureml_classic.links import EndpointHelpLink, PortalLink, UpdateHelpLink, push_help
from airflow_provider_azureml_classic.memory import TaskMemory
from airflow_provider_azureml_classic.operators.base import (
    AzureMLClassicOperator,
    airflow_errors,
    attempt_ends,
    attempt_over,
    first_of,
    skip,
)
from airflow_provider_azureml_classic.operators.lineage import lineage
from airflow_provider_azureml_classic.protocol.digests import Digests
from airflow_provider_azureml_classic.retraining.placing import (
    Overtaken,
    Placing,
    Target,
    Update,
    find_target,
)
from airflow_provider_azureml_classic.retraining.proof import Patch, shows
from airflow_provider_azureml_classic.retraining.receipt import receipt_of

if TYPE_CHECKING:
    from airflow.sdk import Asset, Context
    from airflow.sdk.definitions.mappedoperator import OperatorPartial

    from airflow_provider_azureml_classic.client.answers import BlobFacts
    from airflow_provider_azureml_classic.protocol.approval import Approval
    from airflow_provider_azureml_classic.protocol.references import BlobReference
    from airflow_provider_azureml_classic.protocol.values import WebService
    from airflow_provider_azureml_classic.retraining.approval import Decision
    from airflow_provider_azureml_classic.retraining.placing import Candidate

#: Key in Airflow's task state store.
KEY = "azureml_classic_placing"
#: Seconds that the worker waits for a proof before the task is deferred: a deferral takes longer than that.
AT_ONCE = 3.0


class UpdatingOperator(AzureMLClassicOperator):
    """Has the alias of all endpoints as an outlet, unless the user named an endpoint's asset or another alias.

    :param emit_asset: record updates as asset events.
    :param assets: which ones: ``both`` the endpoint's own and, where ``outlets`` has the asset of the web service (see
        ``assets.web_service_asset``), a partition of that one; or ``partitions`` alone.
    """

    def __init__(
        self, *, emit_asset: bool = True, assets: Literal["both", "partitions"] = "both", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.emit_asset = emit_asset
        self.assets = assets
        if emit_asset and assets != "partitions":
            self.outlets = with_endpoint_outlet(self.outlets)

    @classmethod
    def partial(cls, **kwargs: Any) -> OperatorPartial:
        """As Airflow's, with the outlet too: Airflow reads a mapped task's outlets from here. An alias that it found at
        no task it creates with the first event; with two such events at once it fails one of the tasks (code of 3.3.2).

        :param kwargs: of the operator, without those that are mapped.
        """
        template = super().partial(**kwargs)
        if template.kwargs.get("emit_asset", True) and template.kwargs.get("assets") != "partitions":
            template.kwargs["outlets"] = with_endpoint_outlet(template.kwargs.get("outlets") or [])
        return template

    def check_outlets(self, service: WebService) -> None:
        """Refuse outlets with which events would be lost.

        :param service: whose endpoints are updated.
        :raises ValueError: see :func:`~.assets.check_partitions`.
        """
        if self.emit_asset:
            check_partitions(self.outlets, self.assets, service)


class ModelPlacingOperator(UpdatingOperator):
    """Puts a model live, proves that it is, and records that as an event of the endpoint's asset.

    :param web_service: name or id of the scoring web service.
    :param endpoint: its endpoint, not the default one.
    :param location: a stored model.
    :param resource: name of the updatable resource; ``None`` means the only one.
    :param proof: level to reach: ``resource``, ``version``, ``score``, or ``strongest`` that the service offers.
    :param proof_timeout: seconds allowed from PATCH to proof.
    :param deferrable: wait for the proof in the triggerer, unless it comes at once.
    """

    operator_extra_links = (EndpointHelpLink(), UpdateHelpLink(), PortalLink())
    #: What to do with a model that could not be proved to be live: ``keep`` or ``rollback``.
    on_failure: str = "keep"

    def __init__(
        self,
        *,
        web_service: str,
        endpoint: str,
        location: Mapping[str, Any] | str | None = None,
        resource: str | None = None,
        proof: str = "strongest",
        proof_timeout: float = 120.0,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.web_service = web_service
        self.endpoint = endpoint
        self.location = location
        self.resource = resource
        self.proof = proof
        self.proof_timeout = proof_timeout
        self.deferrable = deferrable
        self._lineage: tuple[BlobReference, Asset, Digests] | None = None

    @abstractmethod
    def _candidate(self, target: Target, patch: Patch | None = None) -> Candidate:
        """The model to put live.

        :param target: with the live model.
        :param patch: that has put it live already, if one has.
        """

    @abstractmethod
    def _reason_to_keep(self, target: Target, candidate: Candidate) -> str | None:
        """Why the live model must not be replaced, as a sentence; ``None`` if it may be.

        :param target: with the live model.
        :param candidate: the model to put live.
        """

    def execute(self, context: Context) -> dict[str, Any]:
        """Read what is live, check whether it may be replaced, PATCH, prove; or take up an earlier attempt's proof."""
        with airflow_errors():
            memory, placing = TaskMemory(context, KEY), self._placing()

            def find() -> Program[tuple[Target, Candidate]]:
                target = yield from self._find()
                self.check_outlets(target.service)
                push_help(context, target.endpoint, UpdateHelpLink)
                return target, self._candidate(target)

            update = self.hook.client.perform(
                placing.place(
                    find,
                    check=self._check,
                    earlier=_earlier_patch(memory),
                    remember=lambda patch: memory.keep(patch.to_json()),
                )
            )
            if isinstance(update, str):
                raise skip(self, update)
            return self._prove(context, memory, update)

    def _check(self, target: Target, candidate: Candidate) -> Program[str | None]:
        reason = self._reason_to_keep(target, candidate)
        if reason is None:
            # A model that cannot be read is reported before anything is changed.
            yield from self._facts(candidate.location)
        return reason

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """Go on after the triggerer: the worker makes the proof, the event only ends the wait.

        :param context: Airflow's task context.
        :param event: ``placed``, for an Airflow without a task state store.
        """
        with airflow_errors():
            memory = TaskMemory(context, KEY)
            # The event may be that of a trigger from before a clear, as in BatchExecutionOperator.
            patch = _earlier_patch(memory) or Patch.from_json(event["placed"])
            target = self.hook.client.perform(self._find())
            return self._prove(context, memory, Update(target, self._candidate(target, patch), patch))

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """For OpenLineage: the model that was read, and the endpoint that was updated.

        :param task_instance: not used.
        """
        if self._lineage is None:
            return None
        model, endpoint, digests = self._lineage
        return lineage(self.hook.settings, [model], endpoint=endpoint, model=(model, digests))

    def _prove(self, context: Context, memory: TaskMemory, update: Update) -> dict[str, Any]:
        """The receipt, once the model is seen to be live; waits here, or a moment here and then in the triggerer."""
        perform, placing, patch = self.hook.client.perform, self._placing(), update.patch
        until = min(patch.deadline, time.time() + AT_ONCE) if self.deferrable else patch.deadline
        try:
            missing = perform(placing.wait(update, until))
        except Overtaken as overtaken:
            memory.forget()
            raise self._when_overtaken(overtaken) from None
        if missing is None:
            receipt = self._receipt(context, update)
            memory.forget()
            return receipt
        if self.deferrable and time.time() < patch.deadline:
            memory.keep(patch.to_json())
            if limit := attempt_over(self, context):
                # As after Airflow's own time-out in the worker, the model stays, and another attempt goes on.
                raise AirflowException(
                    f"The update was not proved within {limit}: {missing} The model stays; another attempt goes on "
                    "with the proof."
                )
            self.log.info("The model is not proved to be live yet; waiting in the triggerer.")
            defer_to_proof(self, context, update, patch.deadline)
        memory.keep(replace(patch, failed=True).to_json())
        raise perform(placing.failure(update, missing))

    def _when_overtaken(self, overtaken: Overtaken) -> Exception:
        """What ends a task whose model was replaced by a newer one before it was proved.

        :param overtaken: the reason.
        """
        return overtaken

    def _receipt(self, context: Context, update: Update) -> dict[str, Any]:
        """The receipt; it is also recorded at the endpoint's asset, and remembered for OpenLineage."""
        target, location = update.target, update.candidate.location
        # A service that told no digests before tells none now.
        if update.patch.model is None and target.resource.digests is not None:
            update = replace(update, patch=replace(update.patch, model=self._live_model(update)))
        receipt = receipt_of(update, self.hook.client.perform(self._facts(location)), self._approval())
        assets = spellings(self.hook.settings, self.web_service or target.service.name, target.service, target.endpoint)
        self._lineage = (location, assets[0], Digests.from_json(receipt["model"]) or Digests())
        if self.emit_asset:
            if self.assets != "partitions":
                record_update(context, self.outlets, receipt, assets)
            record_partitions(context, self.outlets, [target.endpoint.name])
        return receipt

    def _live_model(self, update: Update) -> Digests | None:
        """Digests of a model that was known by its place alone; ``None`` if the service tells none, or has another."""
        target, name = update.target, update.patch.resource
        endpoint = self.hook.client.get_endpoint(target.service.id, target.endpoint.name)
        is_there = shows(endpoint, name, update.candidate.location)
        return endpoint.resource(name).digests if is_there else None

    def _decision(self) -> Decision | None:
        """What a person has decided about this update; ``None``: nobody is asked."""
        return None

    def _approval(self) -> Approval | None:
        decision = self._decision()
        return decision.approval if decision else None

    def _placing(self) -> Placing:
        """How the model is put live."""
        return Placing(
            self.hook.client,
            self.hook.readable,
            lambda text: self.log.info("%s", text),
            self.proof,
            self.proof_timeout,
            self.on_failure,
            self._approval(),
        )

    def _find(self) -> Program[Target]:
        return find_target(self.hook.client, self.web_service, self.endpoint, self.resource)

    def _facts(self, reference: BlobReference) -> Program[BlobFacts | None]:
        return (yield Verbs.blob_facts.steps(self.hook.client, reference)) if reference.base_location else None


def defer_to_proof(task: AzureMLClassicOperator, context: Context, update: Update, deadline: float) -> NoReturn:
    """Wait in the triggerer until a model is seen to be live; the task goes on in ``execute_complete``.

    :param task: the time-out of its attempt counts as well.
    :param context: Airflow's task context.
    :param update: the update, or a gate's trial.
    :param deadline: seconds since 1970.
    """
    # Only what defers pays for the triggers: reading a DAG file would take a twentieth longer with them.
    from airflow_provider_azureml_classic.triggers import PROOF_INTERVAL, ProofTrigger

    trained_by = update.candidate.job
    task.defer(
        trigger=ProofTrigger(
            azureml_classic_conn_id=task.azureml_classic_conn_id,
            web_service_id=update.target.service.id,
            endpoint=update.target.endpoint.name,
            deadline=first_of(deadline, attempt_ends(task, context)),
            poll_interval=PROOF_INTERVAL,
            placed=update.patch.to_json(),
            trained_by=trained_by.to_json() if trained_by else None,
        ),
        method_name="execute_complete",
        timeout=None,
    )


def _earlier_patch(memory: TaskMemory) -> Patch | None:
    """The PATCH that an earlier attempt remembered."""
    state = memory.recall()
    return Patch.from_json(state) if state is not None else None
