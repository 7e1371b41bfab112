"""Putting a model in place and proving that it is live, written once for both clients. No Airflow, no I/O of its own.

The methods of :class:`Placing` are programs: ``client.perform(placing.put(...))``, awaited on an asynchronous client.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from airflow_provider_azureml_classic.client.additions import AllVerbs
from airflow_provider_azureml_classic.client.retries import Pause, Program, jittered
from airflow_provider_azureml_classic.client.verbs import BlobFacts
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, UpdateNotProved, is_stale
from airflow_provider_azureml_classic.freshness import Window
from airflow_provider_azureml_classic.proof import ROUNDS, GoldenRows, Level, has_moved, shows
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint, EndpointSettings, Resource, WebService
from airflow_provider_azureml_classic.protocol.windows import window_end_of

#: Times that an endpoint may change between a look and the PATCH before the task gives up.
RACES = 5
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


@dataclass(frozen=True)
class Placing:
    """How models are put in place.

    :param client: of the workspace; blocking or asynchronous.
    :param readable: gives a reference a fresh token where the connection's account holds the blob.
    :param proof: level to reach: ``resource``, ``version``, ``score``, or ``strongest`` that the service offers.
    :param proof_timeout: seconds allowed from PATCH to proof.
    :param on_failure: when there is no proof in time: ``keep``, or ``rollback`` to the previous model.
    :param say: takes lines for the log.
    """

    client: AllVerbs
    readable: Callable[[BlobReference], BlobReference]
    proof: str
    proof_timeout: float
    on_failure: str
    say: Callable[[str], None]

    def put(self, target: Target, candidate: Candidate) -> Program[bool]:
        """PATCH; false if the endpoint has changed since it was read, so that nothing was put in place.

        :param target: as read just before.
        :param candidate: the model.
        """
        try:
            yield self._patch(target, candidate.location, if_match=target.endpoint.etag)
        except AzureMLClassicError as error:
            if not (error.retryable or is_stale(error)):
                raise
            # It may have come through, only its answer was lost.
            after: Endpoint = yield self._seen(target)
            if shows(after, target.resource.name, candidate.location) and has_moved(target.endpoint, after):
                return True
            if not is_stale(error):
                raise
            self.say(f"Endpoint {target.endpoint.name!r} changed in between; looking again.")
            return False
        return True

    def level(self, before: Endpoint, candidate: Candidate) -> Program[Level]:
        """The level to reach; "score" needs golden rows that the live model answers otherwise.

        :param before: the endpoint with the live model.
        :param candidate: the model that is to replace it.
        :raises ValueError: it cannot be reached.
        """
        if self.proof not in ("strongest", *(level.value for level in Level)):
            raise ValueError(f"proof is {self.proof!r}; it must be strongest, resource, version or score.")
        if self.proof not in ("strongest", Level.SCORE.value):
            return Level(self.proof)
        if candidate.golden is not None and not (yield from self._answers(before, candidate.golden)):
            return Level.SCORE
        why = "the live model gives the same answers" if candidate.golden else "there are no golden rows"
        if self.proof == Level.SCORE.value:
            raise ValueError(f"proof='score' cannot be reached: {why}. Use proof='strongest'.")
        self.say(f"The update of {before.name!r} cannot be proved by scoring: {why}.")
        # Without an ETag nothing says that the version changes with a model: the cloud service's was of the graph.
        return Level.VERSION if before.etag else Level.RESOURCE

    def prove(self, target: Target, candidate: Candidate, level: Level) -> Program[None]:
        """Look until the model is seen to be live.

        :param target: as it was before the PATCH.
        :param candidate: the model that was put in place.
        :param level: to reach.
        :raises UpdateNotProved: not seen in time.
        """
        deadline = time.monotonic() + self.proof_timeout
        pause = 0.2
        while True:
            missing = yield from self._missing(target, candidate, level)
            if missing is None:
                self.say(f"Proved by {level.value}: {candidate.location.location} is live.")
                return
            if time.monotonic() >= deadline:
                break
            yield Pause(min(jittered(pause), max(0.0, deadline - time.monotonic())))
            pause = min(pause * 2, _PAUSE)
        done, put_back = "Nothing was put back.", False
        if self.on_failure == "rollback":
            done, put_back = yield from self._roll_back(target, candidate)
        raise UpdateNotProved(
            f"The service accepted the update of {target.resource.name!r} on endpoint {target.endpoint.name!r}, but "
            f"after {self.proof_timeout:g} s {missing} {done}",
            put_back=put_back,
        )

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _patch(self, target: Target, location: BlobReference, *, if_match: str | None = None) -> Any:
        settings = EndpointSettings(resources=(Resource(target.resource.name, location),))
        return AllVerbs.patch_endpoint.steps(self.client, target.endpoint, settings, if_match=if_match)

    def _seen(self, target: Target) -> Any:
        return AllVerbs.get_endpoint.steps(self.client, target.service.id, target.endpoint.name)

    def _answers(self, endpoint: Endpoint, golden: GoldenRows) -> Program[bool]:
        """Whether the endpoint now gives the new model's answers; one that cannot answer does not."""
        try:
            return golden.agrees((yield AllVerbs.score.steps(self.client, endpoint, golden.rows)))
        except AzureMLClassicError as error:
            self.say(f"Endpoint {endpoint.name!r} does not score just now: {error}")
            return False

    def _missing(self, target: Target, candidate: Candidate, level: Level) -> Program[str | None]:
        """What proof is still missing, as the end of a sentence; ``None`` if none is."""
        try:
            after: Endpoint = yield self._seen(target)
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
        if level is Level.SCORE and candidate.golden:
            for _ in range(ROUNDS):
                if not (yield from self._answers(after, candidate.golden)):
                    return "it does not give the new model's answers to the golden rows."
        return None

    def _roll_back(self, target: Target, candidate: Candidate) -> Program[tuple[str, bool]]:
        """Put the previous model back; what came of it, as a sentence, and whether it is back."""
        previous, name = target.resource.location, target.resource.name
        if previous is None:
            return "The previous model's location is unknown, so it could not be put back.", False
        try:
            now: Endpoint = yield self._seen(target)
            live = now.resource(name).location
            if live and not any(shows(now, name, place) for place in (candidate.location, previous)):
                return f"Somebody else has put {live.location} in place since; it was left alone.", False
            yield self._patch(target, self.readable(previous), if_match=now.etag)
            if not shows((yield self._seen(target)), name, previous):
                return f"The service accepted the previous model, {previous.location}, but does not name it.", False
        except AzureMLClassicError as error:
            return f"The previous model could not be put back: {error}", False
        return f"The previous model was put back: {previous.location}; the endpoint names it again.", True


def older_than_live(target: Target, candidate: Candidate) -> str | None:
    """Why the live model must stay, as it was trained on newer data; ``None`` if it need not.

    :param target: what is live.
    :param candidate: what is to take its place.
    :raises ValueError: the candidate's training window is not known.
    """
    live = window_end_of(target.resource.location)
    if live is None:
        return None
    if candidate.window is None:
        raise ValueError(
            f"The training window of {candidate.location.location} is unknown, so only_if_newer=True cannot be "
            "kept. Give window_end, or a model path with its stamp (20260131T000000Z), or only_if_newer=False."
        )
    if candidate.window.end >= live:
        return None
    return (
        f"Endpoint {target.endpoint.name!r} keeps its model: it was trained on data up to {live:%Y-%m-%d %H:%M} UTC, "
        f"this one only up to {candidate.window.end:%Y-%m-%d %H:%M} UTC."
    )


def receipt(target: Target, candidate: Candidate, facts: BlobFacts | None, proof: Mapping[str, Any]) -> dict[str, Any]:
    """What an update returns.

    :param target: what was live.
    :param candidate: what is live now.
    :param facts: of its file, if known.
    :param proof: level and seconds.
    """
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
        "metrics": {name: value for name, value in (candidate.metrics or {}).items() if math.isfinite(value)} or None,
        "proof": dict(proof),
        "replaced": {
            "location": replaced.location if replaced else None,
            "window_end": replaced_end.isoformat() if replaced_end else None,
        },
        "updated_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
