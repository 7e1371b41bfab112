"""What an update and a rollback share: put a model in place, prove that it is live, and tell about it."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_azureml_classic.assets import finite, record_update, spellings, with_endpoint_outlet
from airflow_provider_azureml_classic.client.verbs import BlobFacts
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, UpdateNotProved
from airflow_provider_azureml_classic.freshness import Window
from airflow_provider_azureml_classic.hooks import airflow_errors, is_stale, jittered
from airflow_provider_azureml_classic.links import EndpointHelpLink, UpdateHelpLink, push_help
from airflow_provider_azureml_classic.operators.base import AzureMLClassicOperator
from airflow_provider_azureml_classic.operators.lineage import lineage
from airflow_provider_azureml_classic.proof import ROUNDS, GoldenRows, Level, has_moved, shows
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint, EndpointSettings, Resource, WebService
from airflow_provider_azureml_classic.protocol.windows import window_end_of

if TYPE_CHECKING:
    from airflow.sdk import Asset, Context

#: Times that an endpoint may change between our look and our PATCH before the task gives up.
_RACES = 5
_PAUSE = 2.0


@dataclass(frozen=True)
class Candidate:
    """The model to put in place.

    :param location: with a fresh SAS token where one is needed.
    :param window: its training window, if known.
    :param job_id: the job that made it, if any.
    :param golden: rows to prove it with, if any.
    :param metrics: of the job's evaluation, if there is one.
    """

    location: BlobReference
    window: Window | None
    job_id: str | None = None
    golden: GoldenRows | None = None
    metrics: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Target:
    """What is updated, as it was before the PATCH.

    :param service: the scoring web service.
    :param endpoint: its endpoint.
    :param resource: the endpoint's resource, with the model that is replaced.
    """

    service: WebService
    endpoint: Endpoint
    resource: Resource


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
            for _ in range(_RACES):
                target, candidate = self._target(), self._candidate()
                push_help(context, target.endpoint, UpdateHelpLink)
                self._check(target, candidate)
                facts = self._facts(candidate.location)
                level = self._level(target.endpoint, candidate)
                patched_at = time.monotonic()
                if self._put(target, candidate):
                    self._prove(target, candidate, level)
                    proof = {"level": level.value, "seconds": round(time.monotonic() - patched_at, 3)}
                    return self._told(context, target, candidate, _receipt(target, candidate, facts, proof))
            raise UpdateNotProved(
                f"Endpoint {self.endpoint!r} was changed by somebody else {_RACES} times in a row; nothing was updated."
            )

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """For OpenLineage: the model that was read, and the endpoint that was updated.

        :param task_instance: not needed.
        """
        model, endpoint = self._done or (None, None)
        return lineage(self.hook.settings, [model], endpoint=endpoint) if model else None

    def _told(self, context: Context, target: Target, candidate: Candidate, receipt: dict[str, Any]) -> dict[str, Any]:
        """The receipt, after it was told to the endpoint's asset and kept for OpenLineage."""
        assets = spellings(self.hook.settings, self.web_service, target.service, target.endpoint)
        self._done = (candidate.location, assets[0])
        if self.emit_asset:
            record_update(context, self.outlets, receipt, assets)
        return receipt

    def _target(self) -> Target:
        service, endpoint = self.hook.find_updatable(self.web_service, self.endpoint)
        return Target(service, endpoint, endpoint.resource(self.resource))

    def _facts(self, place: BlobReference) -> BlobFacts | None:
        return self.hook.client.blob_facts(place) if place.base_location else None

    # -- PATCH and prove -----------------------------------------------------------------------------------------------

    def _put(self, target: Target, candidate: Candidate) -> bool:
        """PATCH; false if the endpoint has changed since it was read, so that nothing was put in place."""
        try:
            self._patch(target, candidate.location, if_match=target.endpoint.etag)
        except AzureMLClassicError as error:
            if not (error.retryable or is_stale(error)):
                raise
            # It may have come through, only its answer was lost.
            after = self._seen(target)
            if shows(after, target.resource.name, candidate.location) and has_moved(target.endpoint, after):
                return True
            if not is_stale(error):
                raise
            self.log.info("Endpoint %r changed in between; looking again.", target.endpoint.name)
            return False
        return True

    def _patch(self, target: Target, location: BlobReference, *, if_match: str | None = None) -> None:
        settings = EndpointSettings(resources=(Resource(target.resource.name, location),))
        self.hook.client.patch_endpoint(target.endpoint, settings, if_match=if_match)

    def _seen(self, target: Target) -> Endpoint:
        return self.hook.client.get_endpoint(target.service.id, target.endpoint.name)

    def _level(self, before: Endpoint, candidate: Candidate) -> Level:
        """The level to reach; "score" needs golden rows that the live model answers otherwise."""
        if self.proof not in ("strongest", *(level.value for level in Level)):
            raise ValueError(f"proof is {self.proof!r}; it must be strongest, resource, version or score.")
        if self.proof not in ("strongest", Level.SCORE.value):
            return Level(self.proof)
        telling = candidate.golden is not None and not self._answers(before, candidate.golden)
        if telling:
            return Level.SCORE
        why = "the live model gives the same answers" if candidate.golden else "there are no golden rows"
        if self.proof == Level.SCORE.value:
            raise ValueError(f"proof='score' cannot be reached: {why}. Use proof='strongest'.")
        self.log.info("The update cannot be proved by scoring: %s.", why)
        # Without an ETag nothing says that the version changes with a model: the cloud service's was of the graph.
        return Level.VERSION if before.etag else Level.RESOURCE

    def _answers(self, endpoint: Endpoint, golden: GoldenRows) -> bool:
        """Whether the endpoint now gives the new model's answers; one that cannot answer does not."""
        try:
            return golden.agrees(self.hook.client.score(endpoint, golden.rows))
        except AzureMLClassicError as error:
            self.log.info("Endpoint %r does not score just now: %s", endpoint.name, error)
            return False

    def _prove(self, target: Target, candidate: Candidate, level: Level) -> None:
        deadline = time.monotonic() + self.proof_timeout
        pause = 0.2
        while True:
            missing = self._missing(target, candidate, level)
            if missing is None:
                self.log.info("Proved by %s: %s is live.", level.value, candidate.location.location)
                return
            if time.monotonic() >= deadline:
                break
            time.sleep(min(jittered(pause), max(0.0, deadline - time.monotonic())))
            pause = min(pause * 2, _PAUSE)
        done = self._roll_back(target, candidate) if self.on_failure == "rollback" else "Nothing was put back."
        raise UpdateNotProved(
            f"The service accepted the update of {target.resource.name!r} on endpoint {target.endpoint.name!r}, but "
            f"after {self.proof_timeout:g} s {missing} {done}"
        )

    def _missing(self, target: Target, candidate: Candidate, level: Level) -> str | None:
        """What proof is still missing, as the end of a sentence; ``None`` if none is."""
        try:
            after = self._seen(target)
        except AzureMLClassicError as error:
            if not error.retryable:
                raise
            return f"it could not be seen: {error}"
        if not shows(after, target.resource.name, candidate.location):
            live = after.resource(target.resource.name).location
            return f"it still names {live.location if live else 'no location'} as its model."
        must_move = level is Level.VERSION or (level is Level.SCORE and target.endpoint.etag is not None)
        if must_move and not has_moved(target.endpoint, after):
            return f"its version is still {after.version}."
        golden = candidate.golden
        if level is Level.SCORE and golden and not all(self._answers(after, golden) for _ in range(ROUNDS)):
            return "it does not give the new model's answers to the golden rows."
        return None

    def _roll_back(self, target: Target, candidate: Candidate) -> str:
        """Put the previous model back; what came of it, as a sentence."""
        previous, name = target.resource.location, target.resource.name
        if previous is None:
            return "The previous model's location is unknown, so it could not be put back."
        try:
            now = self._seen(target)
            live = now.resource(name).location
            if live and not any(shows(now, name, place) for place in (candidate.location, previous)):
                return f"Somebody else has put {live.location} in place since; it was left alone."
            self._patch(target, self.hook.readable(previous), if_match=now.etag)
            if not shows(self._seen(target), name, previous):
                return f"The service accepted the previous model, {previous.location}, but does not name it."
        except AzureMLClassicError as error:
            return f"The previous model could not be put back: {error}"
        return f"The previous model was put back: {previous.location}; the endpoint names it again."


def window_said_by(place: BlobReference) -> Window | None:
    """The training window that a model's path names.

    :param place: of the model.
    """
    end = window_end_of(place)
    return Window(end) if end else None


def _receipt(target: Target, candidate: Candidate, facts: BlobFacts | None, proof: Mapping[str, Any]) -> dict[str, Any]:
    replaced, replaced_end = target.resource.location, window_end_of(target.resource.location)
    return {
        "web_service": target.service.name,
        "web_service_id": target.service.id,
        "endpoint": target.endpoint.name,
        "resource": target.resource.name,
        "model": {
            "location": candidate.location.location,
            "length": facts.length if facts else None,
            "sha256": facts.sha256 if facts else None,
        },
        "window": candidate.window.to_json() if candidate.window else None,
        "job_id": candidate.job_id,
        "metrics": finite(candidate.metrics) or None,
        "proof": dict(proof),
        "replaced": {
            "location": replaced.location if replaced else None,
            "window_end": replaced_end.isoformat() if replaced_end else None,
        },
        "updated_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
