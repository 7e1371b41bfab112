"""What an update and a rollback share: put a model in place, prove that it is live, and tell about it.

What was there before is kept in the task state store before the PATCH. So a task that is killed, cleared or tried again
between its PATCH and its proof goes on with the proof: it sends no second PATCH, and its receipt names the right model
as the one that was replaced.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import conf
from airflow.sdk.exceptions import AirflowException, AirflowSkipException

from airflow_provider_azureml_classic.assets import record_update, spellings, with_endpoint_outlet
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
)
from airflow_provider_azureml_classic.operators.lineage import lineage
from airflow_provider_azureml_classic.retraining.placing import Begun, Placing, Target, find_target, receipt
from airflow_provider_azureml_classic.retraining.proof import Placed
from airflow_provider_azureml_classic.triggers import PROOF_INTERVAL, ProofTrigger

if TYPE_CHECKING:
    from airflow.sdk import Asset, Context
    from airflow.sdk.definitions.mappedoperator import OperatorPartial

    from airflow_provider_azureml_classic.client.verbs import BlobFacts
    from airflow_provider_azureml_classic.protocol.references import BlobReference
    from airflow_provider_azureml_classic.retraining.placing import Candidate

#: Key in Airflow's task state store.
KEY = "azureml_classic_placing"
#: Seconds that a proof is waited for in the worker before the task is deferred: a deferral takes longer than that.
AT_ONCE = 3.0


class UpdatingOperator(AzureMLClassicOperator):
    """Has the alias of all endpoints as an outlet, unless the user named an endpoint's asset or another alias.

    :param emit_asset: record updates as asset events.
    """

    def __init__(self, *, emit_asset: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.emit_asset = emit_asset
        if emit_asset:
            self.outlets = with_endpoint_outlet(self.outlets)

    @classmethod
    def partial(cls, **kwargs: Any) -> OperatorPartial:
        """As Airflow's, with the outlet too. Airflow reads a mapped task's from here. An alias that it has read of no
        task it makes with the first event; two such events at once, and it fails one of the tasks (code of 3.3.2).

        :param kwargs: of the operator, without those that are mapped.
        """
        made = super().partial(**kwargs)
        if made.kwargs.get("emit_asset", True):
            made.kwargs["outlets"] = with_endpoint_outlet(made.kwargs.get("outlets") or [])
        return made


class ModelPlacingOperator(UpdatingOperator):
    """Puts a model in place, proves that it is live, and records that as an event of the endpoint's asset.

    :param web_service: name or id of the scoring web service.
    :param endpoint: its endpoint, not the default one.
    :param location: a model that is stored already.
    :param resource: name of the updatable resource; ``None`` means the only one.
    :param proof: level to reach: ``resource``, ``version``, ``score``, or ``strongest`` that the service offers.
    :param proof_timeout: seconds allowed from PATCH to proof.
    :param deferrable: wait for the proof in the triggerer, if it does not come at once.
    """

    operator_extra_links = (EndpointHelpLink(), UpdateHelpLink(), PortalLink())
    #: What becomes of a model that could not be proved to be live: ``keep`` or ``rollback``.
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
        self._done: tuple[BlobReference, Asset] | None = None

    @abstractmethod
    def _candidate(self) -> Candidate:
        """The model to put in place."""

    @abstractmethod
    def _reason_to_keep(self, target: Target, candidate: Candidate) -> str | None:
        """Why the live model must not be replaced, as a sentence; ``None`` if it may be.

        :param target: what is live.
        :param candidate: what is to take its place.
        """

    def execute(self, context: Context) -> dict[str, Any]:
        """Read what is live, check whether it may be replaced, PATCH, prove; or take up an earlier attempt's proof."""
        with airflow_errors():
            memory, placing = TaskMemory(context, KEY), self._placing()

            def find() -> Program[tuple[Target, Candidate]]:
                target = yield from self._find()
                push_help(context, target.endpoint, UpdateHelpLink)
                return target, self._candidate()

            begun = self.hook.client.perform(
                placing.place(
                    find,
                    check=self._check,
                    earlier=_recalled(memory),
                    remember=lambda placed: memory.keep(placed.to_json()),
                )
            )
            if isinstance(begun, str):
                raise AirflowSkipException(begun)
            return self._prove(context, memory, begun)

    def _check(self, target: Target, candidate: Candidate) -> Program[str | None]:
        reason = self._reason_to_keep(target, candidate)
        if reason is None:
            # A model that cannot be read is reported before anything is changed.
            yield from self._facts(candidate.location)
        return reason

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """Go on after the triggerer: the proof is made here, the event only ends the wait.

        :param context: Airflow's task context.
        :param event: ``placed``, for an Airflow without a task state store.
        """
        with airflow_errors():
            memory = TaskMemory(context, KEY)
            # The event may be that of a trigger from before a clear, as in BatchExecutionOperator.
            placed = _recalled(memory) or Placed.from_json(event["placed"])
            target = self.hook.client.perform(self._find())
            return self._prove(context, memory, Begun(target, self._candidate(), placed))

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """For OpenLineage: the model that was read, and the endpoint that was updated.

        :param task_instance: not needed.
        """
        model, endpoint = self._done or (None, None)
        return lineage(self.hook.settings, [model], endpoint=endpoint) if model else None

    def _prove(self, context: Context, memory: TaskMemory, begun: Begun) -> dict[str, Any]:
        """The receipt, once the model is seen to be live; waits here, or a moment here and then in the triggerer."""
        perform, placing, placed = self.hook.client.perform, self._placing(), begun.placed
        until = min(placed.deadline, time.time() + AT_ONCE) if self.deferrable else placed.deadline
        missing = perform(placing.wait(begun, until))
        if missing is None:
            written = self._receipt(context, begun)
            memory.forget()
            return written
        if self.deferrable and time.time() < placed.deadline:
            memory.keep(placed.to_json())
            if limit := attempt_over(self, context):
                # As after Airflow's own time-out in the worker, the model stays, and another attempt goes on.
                raise AirflowException(f"{missing} It was not proved within {limit}; another attempt goes on with it.")
            self._defer(context, begun)
        memory.keep(replace(placed, failed=True).to_json())
        raise perform(placing.failure(begun, missing))

    def _defer(self, context: Context, begun: Begun) -> NoReturn:
        self.log.info("The model is not proved to be live yet; waiting in the triggerer.")
        defer_to_proof(self, context, begun, begun.placed.deadline)

    def _receipt(self, context: Context, begun: Begun) -> dict[str, Any]:
        """The receipt, after it was told to the endpoint's asset and kept for OpenLineage."""
        target, location = begun.target, begun.candidate.location
        written = receipt(begun, self.hook.client.perform(self._facts(location)))
        assets = spellings(self.hook.settings, self.web_service or target.service.name, target.service, target.endpoint)
        self._done = (location, assets[0])
        if self.emit_asset:
            record_update(context, self.outlets, written, assets)
        return written

    def _placing(self) -> Placing:
        """How the model is put in place."""
        return Placing(
            self.hook.client,
            self.hook.readable,
            lambda text: self.log.info("%s", text),
            self.proof,
            self.proof_timeout,
            self.on_failure,
        )

    def _find(self) -> Program[Target]:
        return find_target(self.hook.client, self.web_service, self.endpoint, self.resource)

    def _facts(self, reference: BlobReference) -> Program[BlobFacts | None]:
        return (yield Verbs.blob_facts.steps(self.hook.client, reference)) if reference.base_location else None


def defer_to_proof(task: AzureMLClassicOperator, context: Context, begun: Begun, deadline: float) -> NoReturn:
    """Wait in the triggerer until a model is seen to be live; the task goes on in ``execute_complete``.

    :param task: of which the attempt's own time-out counts as well.
    :param context: Airflow's task context.
    :param begun: the update, or the try-out of a gate.
    :param deadline: seconds since 1970.
    """
    trained_by = begun.candidate.job
    task.defer(
        trigger=ProofTrigger(
            azureml_classic_conn_id=task.azureml_classic_conn_id,
            web_service_id=begun.target.service.id,
            endpoint=begun.target.endpoint.name,
            deadline=first_of(deadline, attempt_ends(task, context)),
            poll_interval=PROOF_INTERVAL,
            placed=begun.placed.to_json(),
            trained_by=trained_by.to_json() if trained_by else None,
        ),
        method_name="execute_complete",
        timeout=None,
    )


def _recalled(memory: TaskMemory) -> Placed | None:
    """What an earlier attempt remembered."""
    kept = memory.recall()
    return Placed.from_json(kept) if kept is not None else None
