"""Putting a retrained model in place, and proving that it is live."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk.exceptions import AirflowSkipException

from airflow_provider_azureml_classic.client.verbs import BlobFacts
from airflow_provider_azureml_classic.exceptions import (
    AzureMLClassicError,
    RequestRejected,
    UpdateNotProved,
)
from airflow_provider_azureml_classic.freshness import Window, to_utc, window_end_of
from airflow_provider_azureml_classic.hooks import airflow_errors, is_stale, jittered
from airflow_provider_azureml_classic.operators.base import AzureMLClassicOperator
from airflow_provider_azureml_classic.proof import ROUNDS, Evaluation, GoldenRows, Level, has_moved, shows
from airflow_provider_azureml_classic.protocol.references import DATA_EXTENSIONS, MODEL_EXTENSION, BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint, EndpointSettings, Resource, WebService

if TYPE_CHECKING:
    from airflow.sdk import Context

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
    """

    location: BlobReference
    window: Window | None
    job_id: str | None = None
    golden: GoldenRows | None = None


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


class UpdateTrainedModelOperator(AzureMLClassicOperator):
    """Updates an endpoint's trained model with the one that a batch job wrote, and proves that it is live.

    The job is asked again right before the PATCH, because each answer carries a fresh SAS token. A model that was
    trained on older data than the live one is not put in place: the task ends *skipped*, with the reason, so that a
    backfill never moves an endpoint backwards.

    Returns the receipt, a dict: ``web_service``, ``endpoint``, ``resource``, ``model`` (``location``, ``length``,
    ``sha256``), ``window``, ``job_id``, ``proof`` (``level`` reached: ``resource``, ``version`` or ``score``, and
    ``seconds`` from PATCH to proof), ``replaced`` (``location`` and ``window_end`` of the previous model).

    :param web_service: name or id of the scoring web service. (templated)
    :param endpoint: its endpoint, not the default one. (templated)
    :param job: what :class:`BatchExecutionOperator` returned. (templated)
    :param location: instead of ``job``, a model that is stored already: path, URL with SAS token or blob reference.
        (templated)
    :param model_output: the job's output that is the model; by default what the job says, else its only ``.ilearner``.
    :param resource: name of the updatable resource; ``None`` means the only one. (templated)
    :param window_end: end of the model's training data, ISO 8601; by default the job's, else what the model's path
        says. (templated)
    :param only_if_newer: skip when the live model was trained on newer data.
    :param proof: level to reach: ``resource``, ``version``, ``score``, or ``strongest`` that the service offers.
    :param proof_timeout: seconds allowed from PATCH to proof; the cloud service needed about 30.
    :param on_failure: when there is no proof in time, ``rollback`` puts the previous model back, ``keep`` does not;
        the task fails either way.
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
    )
    template_fields_renderers = {"job": "json"}  # noqa: RUF012
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
        only_if_newer: bool = True,
        proof: Literal["strongest", "resource", "version", "score"] = "strongest",
        proof_timeout: float = 120.0,
        on_failure: Literal["keep", "rollback"] = "keep",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.web_service = web_service
        self.endpoint = endpoint
        self.job = job
        self.location = location
        self.model_output = model_output
        self.resource = resource
        self.window_end = window_end
        self.only_if_newer = only_if_newer
        self.proof = proof
        self.proof_timeout = proof_timeout
        self.on_failure = on_failure

    def execute(self, context: Context) -> dict[str, Any]:
        """Read what is live, compare, PATCH, prove."""
        with airflow_errors():
            for _ in range(_RACES):
                target, candidate = self._target(), self._candidate()
                self._skip_if_older(target.resource, candidate)
                facts = self.hook.client.blob_facts(candidate.location) if candidate.location.base_location else None
                level = self._level(target.endpoint, candidate)
                patched_at = time.monotonic()
                if self._put(target, candidate):
                    self._prove(target, candidate, level)
                    proof = {"level": level.value, "seconds": round(time.monotonic() - patched_at, 3)}
                    return _receipt(target, candidate, facts, proof)
            raise UpdateNotProved(
                f"Endpoint {self.endpoint!r} was changed by somebody else {_RACES} times in a row; nothing was updated."
            )

    # -- what to put in place, and where -------------------------------------------------------------------------------

    def _target(self) -> Target:
        service, endpoint = self.hook.find_updatable(self.web_service, self.endpoint)
        return Target(service, endpoint, endpoint.resource(self.resource))

    def _candidate(self) -> Candidate:
        if (self.job is None) == (self.location is None):
            raise ValueError("Give exactly one of job (what BatchExecutionOperator returned) and location.")
        if self.location is not None:
            place = self.hook.readable(self.hook.reference(self.location))
            return Candidate(place, self._window_of(place, None))
        ticket = self.job
        if not isinstance(ticket, Mapping) or not {"web_service", "endpoint", "job_id"} <= set(ticket):
            raise ValueError(f"job must be what BatchExecutionOperator returned, not {type(ticket).__name__}.")
        _, trainer = self.hook.find(ticket["web_service"], ticket["endpoint"])
        job = self.hook.client.get_job(trainer, ticket["job_id"])
        job.raise_unless_finished()
        name = self.model_output or (ticket.get("model_output") if ticket.get("model_output") in job.results else None)
        _, place = job.output(name, extension=MODEL_EXTENSION)
        evaluation = [r for r in job.results.values() if r.extension == DATA_EXTENSIONS[0] and r.base_location]
        golden = Evaluation.from_csv(self.hook.client.fetch_blob(evaluation[0])).golden if evaluation else None
        return Candidate(place, self._window_of(place, Window.from_json(ticket.get("window"))), job.id, golden)

    def _window_of(self, place: BlobReference, told: Window | None) -> Window | None:
        if self.window_end:
            return Window(to_utc(self.window_end))
        if told is not None:
            return told
        end = window_end_of(place)
        return Window(end) if end else None

    def _skip_if_older(self, resource: Resource, candidate: Candidate) -> None:
        live = window_end_of(resource.location)
        if not self.only_if_newer or live is None:
            return
        if candidate.window is None:
            raise ValueError(
                f"The training window of {candidate.location.location} is unknown, so only_if_newer=True cannot be "
                "kept. Give window_end, or a model path with its stamp (20260131T000000Z), or only_if_newer=False."
            )
        if candidate.window.end < live:
            raise AirflowSkipException(
                f"Endpoint {self.endpoint!r} keeps its model: it was trained on data up to {live:%Y-%m-%d %H:%M} UTC, "
                f"this one only up to {candidate.window.end:%Y-%m-%d %H:%M} UTC."
            )

    # -- PATCH and prove -----------------------------------------------------------------------------------------------

    def _put(self, target: Target, candidate: Candidate) -> bool:
        """PATCH; false if the endpoint has changed since it was read, so that nothing was put in place."""
        try:
            self._patch(target, candidate.location, if_match=target.endpoint.etag)
        except RequestRejected as error:
            if not is_stale(error):
                raise
            # The answer to our own PATCH may have been lost: the client then sent it again.
            if self._shows(target, candidate.location):
                return True
            self.log.info("Endpoint %r changed in between; looking again.", target.endpoint.name)
            return False
        return True

    def _patch(self, target: Target, location: BlobReference, *, if_match: str | None = None) -> None:
        settings = EndpointSettings(resources=(Resource(target.resource.name, location),))
        self.hook.client.patch_endpoint(target.endpoint, settings, if_match=if_match)

    def _shows(self, target: Target, location: BlobReference) -> bool:
        after = self.hook.client.get_endpoint(target.service.id, target.endpoint.name)
        return shows(after, target.resource.name, location)

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
        return Level.VERSION if before.version or before.etag else Level.RESOURCE

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
        done = self._roll_back(target) if self.on_failure == "rollback" else "Nothing was put back."
        raise UpdateNotProved(
            f"The service accepted the update of {target.resource.name!r} on endpoint {target.endpoint.name!r}, but "
            f"after {self.proof_timeout:g} s {missing} {done}"
        )

    def _missing(self, target: Target, candidate: Candidate, level: Level) -> str | None:
        """What proof is still missing, as the end of a sentence; ``None`` if none is."""
        try:
            after = self.hook.client.get_endpoint(target.service.id, target.endpoint.name)
        except AzureMLClassicError as error:
            if not error.retryable:
                raise
            return f"it could not be seen: {error}"
        if not shows(after, target.resource.name, candidate.location):
            live = after.resource(target.resource.name).location
            return f"it still names {live.location if live else 'no location'} as its model."
        if level is not Level.RESOURCE and not has_moved(target.endpoint, after):
            return f"its version is still {after.version}."
        golden = candidate.golden
        if level is Level.SCORE and golden and not all(self._answers(after, golden) for _ in range(ROUNDS)):
            return "it does not give the new model's answers to the golden rows."
        return None

    def _roll_back(self, target: Target) -> str:
        previous = target.resource.location
        if previous is None:
            return "The previous model's location is unknown, so it could not be put back."
        try:
            self._patch(target, self.hook.readable(previous))
            if not self._shows(target, previous):
                return f"The service accepted to put the previous model back, {previous.location}, but does not name it."
        except AzureMLClassicError as error:
            return f"The previous model could not be put back: {error}"
        return f"The previous model was put back: {previous.location}."


def _receipt(
    target: Target, candidate: Candidate, facts: BlobFacts | None, proof: Mapping[str, Any]
) -> dict[str, Any]:
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
        "proof": dict(proof),
        "replaced": {
            "location": replaced.location if replaced else None,
            "window_end": replaced_end.isoformat() if replaced_end else None,
        },
        "updated_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
