"""What an update and a rollback share: put a model in place, prove that it is live, and tell about it."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_azureml_classic.assets import record_update, spellings, with_endpoint_outlet
from airflow_provider_azureml_classic.client.verbs import BlobFacts
from airflow_provider_azureml_classic.exceptions import UpdateNotProved
from airflow_provider_azureml_classic.freshness import Window
from airflow_provider_azureml_classic.hooks import airflow_errors
from airflow_provider_azureml_classic.links import EndpointHelpLink, UpdateHelpLink, push_help
from airflow_provider_azureml_classic.operators.base import AzureMLClassicOperator
from airflow_provider_azureml_classic.operators.lineage import lineage
from airflow_provider_azureml_classic.placing import RACES, Candidate, Placing, Target, receipt
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.windows import window_end_of

if TYPE_CHECKING:
    from airflow.sdk import Asset, Context


class ModelPlacingOperator(AzureMLClassicOperator):
    """Puts a model in place, proves that it is live, and records that as an event of the endpoint's asset.

    :param web_service: name or id of the scoring web service.
    :param endpoint: its endpoint, not the default one.
    :param location: a model that is stored already.
    :param resource: name of the updatable resource; ``None`` means the only one.
    :param proof: level to reach: ``resource``, ``version``, ``score``, or ``strongest`` that the service offers.
    :param proof_timeout: seconds allowed from PATCH to proof.
    :param emit_asset: record it as an asset event.
    """

    operator_extra_links = (EndpointHelpLink(), UpdateHelpLink())
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
        emit_asset: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.web_service = web_service
        self.endpoint = endpoint
        self.location = location
        self.resource = resource
        self.proof = proof
        self.proof_timeout = proof_timeout
        self.emit_asset = emit_asset
        if emit_asset:
            self.outlets = with_endpoint_outlet(self.outlets)
        self._done: tuple[BlobReference, Asset] | None = None

    @abstractmethod
    def _candidate(self) -> Candidate:
        """The model to put in place."""

    @abstractmethod
    def _check(self, target: Target, candidate: Candidate) -> None:
        """Raise where the live model must not be replaced.

        :param target: what is live.
        :param candidate: what is to take its place.
        """

    def execute(self, context: Context) -> dict[str, Any]:
        """Read what is live, check whether it may be replaced, PATCH, prove."""
        with airflow_errors():
            perform, placing = self.hook.client.perform, self._placing()
            for _ in range(RACES):
                target, candidate = self._target(), self._candidate()
                push_help(context, target.endpoint, UpdateHelpLink)
                self._check(target, candidate)
                facts = self._facts(candidate.location)
                level = perform(placing.level(target.endpoint, candidate))
                patched_at = time.monotonic()
                if perform(placing.put(target, candidate)):
                    perform(placing.prove(target, candidate, level))
                    proof = {"level": level.value, "seconds": round(time.monotonic() - patched_at, 3)}
                    return self._told(context, target, candidate, receipt(target, candidate, facts, proof))
            raise UpdateNotProved(
                f"Endpoint {self.endpoint!r} was changed by somebody else {RACES} times in a row; nothing was updated."
            )

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """For OpenLineage: the model that was read, and the endpoint that was updated.

        :param task_instance: not needed.
        """
        model, endpoint = self._done or (None, None)
        return lineage(self.hook.settings, [model], endpoint=endpoint) if model else None

    def _told(self, context: Context, target: Target, candidate: Candidate, told: dict[str, Any]) -> dict[str, Any]:
        """The receipt, after it was told to the endpoint's asset and kept for OpenLineage."""
        assets = spellings(self.hook.settings, self.web_service, target.service, target.endpoint)
        self._done = (candidate.location, assets[0])
        if self.emit_asset:
            record_update(context, self.outlets, told, assets)
        return told

    def _placing(self) -> Placing:
        """How the model is put in place."""
        return Placing(
            self.hook.client,
            self.hook.readable,
            self.proof,
            self.proof_timeout,
            self.on_failure,
            lambda text: self.log.info("%s", text),
        )

    def _target(self) -> Target:
        service, endpoint = self.hook.find_updatable(self.web_service, self.endpoint)
        return Target(service, endpoint, endpoint.resource(self.resource))

    def _facts(self, place: BlobReference) -> BlobFacts | None:
        return self.hook.client.blob_facts(place) if place.base_location else None


def window_said_by(place: BlobReference) -> Window | None:
    """The training window that a model's path names.

    :param place: of the model.
    """
    end = window_end_of(place)
    return Window(end) if end else None
