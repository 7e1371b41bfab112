"""Putting a model live and proving it, written once: for the update, the rollback, the fleet, the gate's check
endpoint, the command line, and the wait in the triggerer. No Airflow, no I/O of its own.

What returns a :data:`Program` is run by either client: ``client.perform(placing.place(...))``, awaited on an
asynchronous one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from airflow_provider_azureml_classic.client.retries import Pause, Program, jittered
from airflow_provider_azureml_classic.client.verbs import BlobFacts, Verbs
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, UpdateNotProved, is_stale, rejection
from airflow_provider_azureml_classic.protocol.references import BlobReference, window_end_of
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.protocol.values import (
    DEFAULT_ENDPOINT,
    Endpoint,
    EndpointSettings,
    Resource,
    WebService,
)
from airflow_provider_azureml_classic.retraining.evaluation import GoldenRows
from airflow_provider_azureml_classic.retraining.freshness import Window
from airflow_provider_azureml_classic.retraining.jobs import JobTicket
from airflow_provider_azureml_classic.retraining.proof import ROUNDS, Level, Placed, shows

#: Times that an endpoint may change between a look and the PATCH before the task gives up.
RACES = 5
_PAUSE = 2.0
T = TypeVar("T")


@dataclass(frozen=True)
class Candidate:
    """The model to put in place.

    :param location: with a fresh SAS token where one is needed.
    :param window: its training window, if known.
    :param job: the job that made it, if any.
    :param golden: rows to prove it with, if any.
    :param metrics: of the job's evaluation, if there is one.
    """

    location: BlobReference
    window: Window | None
    job: JobTicket | None = None
    golden: GoldenRows | None = None
    metrics: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Target:
    """What is updated.

    :param service: the scoring web service.
    :param endpoint: its endpoint, as it was read.
    :param resource: the endpoint's resource, with the model that is replaced.
    """

    service: WebService
    endpoint: Endpoint
    resource: Resource

    def earlier(self, placed: Placed | None, candidate: Candidate) -> Placed | None:
        """What an earlier attempt has put in place, if it is this model and the endpoint names it.

        :param placed: what that attempt remembered.
        :param candidate: the model to put in place.
        """
        if placed is None or not shows(self.endpoint, placed.resource, candidate.location):
            return None
        same = placed.replaced is not None and placed.replaced.same_place(placed.location)
        return placed if placed.location.same_place(candidate.location) and not same else None


def find_updatable(client: Verbs, web_service: str, endpoint: str) -> Program[tuple[WebService, Endpoint]]:
    """An endpoint whose model may be replaced.

    :param client: of the workspace.
    :param web_service: name or id.
    :param endpoint: name.
    :raises RequestRejected: the default endpoint, or one without updatable resources.
    :raises NotFound: the message lists what is there.
    """
    service: WebService = yield Verbs.find_web_service.steps(client, web_service)
    row: Endpoint = yield Verbs.get_endpoint.steps(client, service.id, endpoint)
    if row.name in (DEFAULT_ENDPOINT, service.default_endpoint_name):
        raise rejection(
            "DefaultEndpointReadOnly",
            f"{row.name!r} is the default endpoint of {service.name!r}, whose model cannot be replaced.",
        )
    if not row.resources:
        raise rejection(
            "NoUpdatableResources",
            f"Endpoint {row.name!r} of web service {service.name!r} has no updatable resources.",
        )
    return service, row


def find_target(client: Verbs, web_service: str, endpoint: str, resource: str | None) -> Program[Target]:
    """What an update replaces, as it is now.

    :param client: of the workspace.
    :param web_service: name or id.
    :param endpoint: name.
    :param resource: name of the updatable resource; ``None`` means the only one.
    :raises RequestRejected: see :func:`find_updatable`; likewise for a resource that is not there.
    """
    service, row = yield from find_updatable(client, web_service, endpoint)
    return Target(service, row, row.resource(resource))


#: Reads what is to be updated.
Find = Callable[[], Program[Target]]
#: Why the live model has to stay, as a sentence; ``None`` if it may be replaced.
Check = Callable[[Target], Program["str | None"]]


@dataclass(frozen=True)
class Placing:
    """How models are put live.

    :param client: of the workspace; blocking or asynchronous.
    :param readable: gives a reference a fresh token where the connection's account holds the blob.
    :param proof: level to reach: ``resource``, ``version``, ``score``, or ``strongest`` that the service offers.
    :param proof_timeout: seconds allowed from PATCH to proof.
    :param on_failure: when there is no proof in time: ``keep``, or ``rollback`` to the previous model.
    :param log: takes lines for the log.
    """

    client: Verbs
    readable: Callable[[BlobReference], BlobReference]
    log: Callable[[str], object]
    proof: str = "strongest"
    proof_timeout: float = 120.0
    on_failure: str = "keep"

    def place(
        self,
        find: Find,
        candidate: Candidate,
        *,
        check: Check | None = None,
        earlier: Placed | None = None,
        remember: Callable[[Placed], object] = lambda _: None,
    ) -> Program[tuple[Target, Placed] | str]:
        """Read what is live, check whether it may be replaced, PATCH; :meth:`prove` or :meth:`wait` comes next.

        :param find: reads what is to be updated; again after each race that was lost.
        :param candidate: the model to put live.
        :param check: see :data:`Check`.
        :param earlier: what an earlier attempt remembered; if its proof may still come, there is no second PATCH.
        :param remember: called before the PATCH.
        :return: the target and what is to be proved; or the sentence of ``check``, and nothing was changed.
        :raises UpdateNotProved: the endpoint was changed by somebody else each time; nothing was updated.
        """

        def attempt(target: Target) -> Program[tuple[Target, Placed] | str | None]:
            begun = target.earlier(earlier, candidate)
            if begun is not None and not begun.failed:
                self.log(f"An earlier attempt put {begun.location.location} live; its proof goes on.")
                return target, replace(begun, deadline=time.time() + self.proof_timeout)
            reason = (yield from check(target)) if check else None
            if reason is not None:
                return reason
            placed = yield from self.begin(target, candidate, begun)
            remember(placed)
            return (target, placed) if (yield from self.put(target, placed)) else None

        result: tuple[Target, Placed] | str = yield from _without_races(find, attempt)
        return result

    def try_out(self, find: Find, candidate: Candidate) -> Program[tuple[Target, Placed]]:
        """Put a model into an endpoint that exists for trying models out, unless it names it already.

        :param find: reads that endpoint.
        :param candidate: the model to try.
        :raises UpdateNotProved: see :meth:`place`.
        """
        level = Level.SCORE if candidate.golden else Level.RESOURCE

        def attempt(target: Target) -> Program[tuple[Target, Placed] | None]:
            placed = Placed(target.resource.name, candidate.location, level)
            if shows(target.endpoint, placed.resource, placed.location):
                return target, placed
            return (target, placed) if (yield from self.put(target, placed)) else None

        return (yield from _without_races(find, attempt))

    def begin(self, target: Target, candidate: Candidate, earlier: Placed | None = None) -> Program[Placed]:
        """What there is to remember before the PATCH.

        :param target: as read just before.
        :param candidate: the model that is to be put in place.
        :param earlier: of an attempt that did so already, without proof: the model before that one is what is replaced.
        :raises ValueError: the level of proof cannot be reached.
        """
        level, answers = yield from self._level(target.endpoint, candidate)
        now = time.time()
        return Placed(
            resource=target.resource.name,
            location=candidate.location,
            level=level,
            replaced=earlier.replaced if earlier else target.resource.location,
            answers=earlier.answers if earlier else answers,
            version=target.endpoint.version,
            etag=target.endpoint.etag,
            patched_at=now,
            deadline=now + self.proof_timeout,
        )

    def put(self, target: Target, placed: Placed) -> Program[bool]:
        """PATCH; false if the endpoint has changed since it was read, so that nothing was put in place.

        :param target: as read just before.
        :param placed: of :meth:`begin`.
        """
        try:
            yield self._patch(target, placed.location, if_match=target.endpoint.etag)
        except AzureMLClassicError as error:
            if not (error.retryable or is_stale(error)):
                raise
            # It may have come through, only its answer was lost.
            after: Endpoint = yield self._fetch(target.endpoint)
            if shows(after, placed.resource, placed.location) and placed.has_moved(after):
                return True
            if not is_stale(error):
                raise
            self.log(f"Endpoint {target.endpoint.name!r} changed in between; reading it again.")
            return False
        return True

    def prove(self, target: Target, candidate: Candidate, placed: Placed) -> Program[None]:
        """Look until the model is seen to be live.

        :param target: what was updated.
        :param candidate: the model that was put in place.
        :param placed: of :meth:`begin`.
        :raises UpdateNotProved: not seen in time.
        """
        missing = yield from self.wait(target, candidate, placed, placed.deadline)
        if missing is not None:
            raise (yield from self.failure(target, placed, missing))

    def wait(self, target: Target, candidate: Candidate, placed: Placed, until: float) -> Program[str | None]:
        """Look until the model is seen to be live; what proof is still missing at the end, ``None`` if none is.

        :param target: what was updated.
        :param candidate: the model that was put in place.
        :param placed: of :meth:`begin`.
        :param until: seconds since 1970.
        """
        pause = 0.2
        while (missing := (yield from self.missing(target.endpoint, candidate.golden, placed))) is not None:
            left = until - time.time()
            if left <= 0:
                return missing
            yield Pause(min(jittered(pause), left))
            pause = min(pause * 2, _PAUSE)
        self.log(
            f"Proved by {placed.level.value}: {candidate.location.location} is live on endpoint "
            f"{target.endpoint.name!r}."
        )
        return None

    def failure(self, target: Target, placed: Placed, missing: str) -> Program[UpdateNotProved]:
        """Put the previous model back, if that is wanted; the error that says what is missing.

        :param target: what was updated.
        :param placed: of :meth:`begin`.
        :param missing: the end of a sentence.
        """
        done, put_back = "Nothing was put back.", False
        if self.on_failure == "rollback":
            done, put_back = yield from self._roll_back(target, placed)
        return UpdateNotProved(
            f"The service accepted the update of {placed.resource!r} on endpoint {target.endpoint.name!r}, but after "
            f"{self.proof_timeout:g} s {missing} {done}",
            put_back=put_back,
        )

    def missing(self, endpoint: Endpoint, golden: GoldenRows | None, placed: Placed) -> Program[str | None]:
        """What proof is still missing, as the end of a sentence; ``None`` if none is.

        :param endpoint: which was updated.
        :param golden: rows to prove it with, if any.
        :param placed: what has to be seen.
        """
        try:
            after: Endpoint = yield self._fetch(endpoint)
        except AzureMLClassicError as error:
            if not error.retryable:
                raise
            return f"it could not be seen: {error}"
        missing = placed.missing(after)
        if missing is not None or placed.level is not Level.SCORE:
            return missing
        if golden is None:
            return "the golden rows to prove it with are gone."
        for _ in range(ROUNDS):
            answers = yield from self._answers(after, golden)
            if answers is None or not golden.agrees(answers):
                return "it does not give the new model's answers to the golden rows."
        return None

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _patch(self, target: Target, location: BlobReference, *, if_match: str | None = None) -> Any:
        settings = EndpointSettings(resources=(Resource(target.resource.name, location),))
        return Verbs.patch_endpoint.steps(self.client, target.endpoint, settings, if_match=if_match)

    def _fetch(self, endpoint: Endpoint) -> Any:
        return Verbs.get_endpoint.steps(self.client, endpoint.web_service_id, endpoint.name)

    def _level(self, before: Endpoint, candidate: Candidate) -> Program[tuple[Level, Table | None]]:
        """The level to reach, and what the live model says to the golden rows; "score" needs a live model that answers
        them otherwise.
        """
        if self.proof not in ("strongest", *(level.value for level in Level)):
            raise ValueError(f"proof is {self.proof!r}; it must be strongest, resource, version or score.")
        if self.proof not in ("strongest", Level.SCORE.value):
            return Level(self.proof), None
        golden = candidate.golden
        answers = (yield from self._answers(before, golden)) if golden else None
        if golden is not None and (answers is None or not golden.agrees(answers)):
            return Level.SCORE, answers
        why = "the live model gives the same answers" if golden else "there are no golden rows"
        if self.proof == Level.SCORE.value:
            raise ValueError(f"proof='score' cannot be reached: {why}. Use proof='strongest'.")
        self.log(f"The update of {before.name!r} cannot be proved by scoring: {why}.")
        # Without an ETag nothing says that the version changes with a model: the cloud service's was of the graph.
        return (Level.VERSION if before.etag else Level.RESOURCE), answers

    def _answers(self, endpoint: Endpoint, golden: GoldenRows) -> Program[Table | None]:
        """What the endpoint says to the golden rows; ``None`` if it cannot answer them."""
        try:
            return golden.narrowed((yield Verbs.score.steps(self.client, endpoint, golden.rows)))
        except AzureMLClassicError as error:
            self.log(f"Endpoint {endpoint.name!r} does not score just now: {error}")
            return None

    def _roll_back(self, target: Target, placed: Placed) -> Program[tuple[str, bool]]:
        """Put the previous model back; what came of it, as a sentence, and whether it is back."""
        previous, name = placed.replaced, placed.resource
        if previous is None:
            return "The previous model's location is unknown, so it could not be put back.", False
        try:
            now: Endpoint = yield self._fetch(target.endpoint)
            live = now.resource(name).location
            if live and not any(shows(now, name, place) for place in (placed.location, previous)):
                return f"Somebody else has put {live.location} in place since; it was left alone.", False
            yield self._patch(target, self.readable(previous), if_match=now.etag)
            if not shows((yield self._fetch(target.endpoint)), name, previous):
                return f"The service accepted the previous model, {previous.location}, but does not name it.", False
        except AzureMLClassicError as error:
            return f"The previous model could not be put back: {error}", False
        return f"The previous model was put back: {previous.location}; the endpoint names it again.", True


def _without_races(find: Find, attempt: Callable[[Target], Program[T | None]]) -> Program[T]:
    """Read and attempt until nobody else has changed the endpoint between the two."""
    for _ in range(RACES):
        target = yield from find()
        result = yield from attempt(target)
        if result is not None:
            return result
    raise UpdateNotProved(
        f"Endpoint {target.endpoint.name!r} was changed by somebody else {RACES} times in a row; nothing was updated."
    )


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


def window_said_by(place: BlobReference) -> Window | None:
    """The training window that a model's path names.

    :param place: of the model.
    """
    end = window_end_of(place)
    return Window(end) if end else None


def receipt(target: Target, candidate: Candidate, facts: BlobFacts | None, placed: Placed) -> dict[str, Any]:
    """What an update returns: plain JSON, and nothing secret.

    :param target: what was updated.
    :param candidate: what is live now.
    :param facts: of its file, if known.
    :param placed: what was proved.
    """
    replaced, replaced_end, job = placed.replaced, window_end_of(placed.replaced), candidate.job
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
        "job_id": job.job_id if job else None,
        "trained_by": job.to_json() if job else None,
        "metrics": {name: value for name, value in (candidate.metrics or {}).items() if math.isfinite(value)} or None,
        "proof": {"level": placed.level.value, "seconds": round(max(0.0, time.time() - placed.patched_at), 3)},
        "replaced": {
            "location": replaced.location if replaced else None,
            "window_end": replaced_end.isoformat() if replaced_end else None,
            "answers": placed.answers.to_wire() if placed.answers else None,
        },
        "updated_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
