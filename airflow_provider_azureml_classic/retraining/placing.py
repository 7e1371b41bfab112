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


class ChangedMeanwhile(Exception):
    """Somebody else changed the endpoint between reading it and the PATCH."""


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


#: Reads what is to be updated, and the model to put live.
Find = Callable[[], Program["tuple[Target, Candidate]"]]
#: Why the live model has to stay, as a sentence; ``None`` if it may be replaced.
Check = Callable[[Target, Candidate], Program["str | None"]]


@dataclass(frozen=True)
class Begun:
    """An update whose PATCH was sent, and whose proof is to come.

    :param target: what was updated, as it was read before.
    :param candidate: the model that was put live.
    :param placed: what has to be seen.
    """

    target: Target
    candidate: Candidate
    placed: Placed


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
        *,
        check: Check | None = None,
        earlier: Placed | None = None,
        remember: Callable[[Placed], object] = lambda _: None,
    ) -> Program[Begun | str]:
        """Read what is live, check whether it may be replaced, PATCH; :meth:`prove` or :meth:`wait` comes next.

        :param find: see :data:`Find`; called again after each race that was lost.
        :param check: see :data:`Check`.
        :param earlier: what an earlier attempt remembered; if its proof may still come, there is no second PATCH.
        :param remember: called before the PATCH.
        :return: what is to be proved; or the sentence of ``check``, and nothing was changed.
        :raises UpdateNotProved: the endpoint was changed by somebody else each time; nothing was updated.
        """

        def attempt(target: Target, candidate: Candidate) -> Program[Begun | str]:
            before = target.earlier(earlier, candidate)
            if before is not None and not before.failed:
                self.log(f"An earlier attempt put {before.location.location} live; its proof goes on.")
                return Begun(target, candidate, replace(before, deadline=time.time() + self.proof_timeout))
            reason = (yield from check(target, candidate)) if check else None
            if reason is not None:
                return reason
            placed = yield from self.begin(target, candidate, before)
            remember(placed)
            yield from self.put(target, placed)
            return Begun(target, candidate, placed)

        return (yield from _without_races(find, attempt, self.log))

    def try_out(self, find: Find) -> Program[Begun]:
        """Put a model into an endpoint that exists for trying models out, unless it names it already.

        :param find: reads that endpoint, and the model to try.
        :raises UpdateNotProved: see :meth:`place`.
        """

        def attempt(target: Target, candidate: Candidate) -> Program[Begun]:
            level = Level.SCORE if candidate.golden else Level.RESOURCE
            placed = Placed(target.resource.name, candidate.location, level)
            if not shows(target.endpoint, placed.resource, placed.location):
                yield from self.put(target, placed)
            return Begun(target, candidate, placed)

        return (yield from _without_races(find, attempt, self.log))

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

    def put(self, target: Target, placed: Placed) -> Program[None]:
        """PATCH.

        :param target: as read just before.
        :param placed: of :meth:`begin`.
        :raises ChangedMeanwhile: the endpoint has changed since it was read, so nothing was put live.
        """
        try:
            yield self._patch(target, placed.location, if_match=target.endpoint.etag)
        except AzureMLClassicError as error:
            if not (error.retryable or is_stale(error)):
                raise
            # It may have come through, only its answer was lost.
            after: Endpoint = yield self._fetch(target.endpoint)
            if shows(after, placed.resource, placed.location) and placed.has_moved(after):
                return
            if is_stale(error):
                raise ChangedMeanwhile from error
            raise

    def prove(self, begun: Begun) -> Program[None]:
        """Poll until the model is seen to be live.

        :param begun: of :meth:`place`.
        :raises UpdateNotProved: not seen in time.
        """
        missing = yield from self.wait(begun, begun.placed.deadline)
        if missing is not None:
            raise (yield from self.failure(begun, missing))

    def wait(self, begun: Begun, until: float) -> Program[str | None]:
        """Poll until the model is seen to be live; what proof is still missing at the end, ``None`` if none is.

        :param begun: of :meth:`place` or :meth:`try_out`.
        :param until: seconds since 1970.
        """
        pause, endpoint, golden, placed = 0.2, begun.target.endpoint, begun.candidate.golden, begun.placed
        while (missing := (yield from self.missing(endpoint, golden, placed))) is not None:
            left = until - time.time()
            if left <= 0:
                return missing
            yield Pause(min(jittered(pause), left))
            pause = min(pause * 2, _PAUSE)
        self.log(f"Proved by {placed.level.value}: {placed.location.location} is live on endpoint {endpoint.name!r}.")
        return None

    def failure(self, begun: Begun, missing: str) -> Program[UpdateNotProved]:
        """Put the previous model back, if that is wanted; the error that says what is missing.

        :param begun: of :meth:`place`.
        :param missing: the end of a sentence.
        """
        outcome, put_back = "Nothing was put back.", False
        if self.on_failure == "rollback":
            outcome, put_back = yield from self.roll_back(begun)
        return UpdateNotProved(
            f"The service accepted the update of {begun.placed.resource!r} on endpoint {begun.target.endpoint.name!r}, "
            f"but after {self.proof_timeout:g} s {missing} {outcome}",
            put_back=put_back,
        )

    def roll_back(self, begun: Begun) -> Program[tuple[str, bool]]:
        """Put the previous model back; what came of it, as a sentence, and whether it is back.

        :param begun: of :meth:`place`.
        """
        target, placed = begun.target, begun.placed
        previous, name = placed.replaced, placed.resource
        if previous is None:
            return "The previous model's location is unknown, so it could not be put back.", False
        try:
            now: Endpoint = yield self._fetch(target.endpoint)
            live = now.resource(name).location
            if live and not any(shows(now, name, reference) for reference in (placed.location, previous)):
                return f"Somebody else has put {live.location} live since; it was left alone.", False
            yield self._patch(target, self.readable(previous), if_match=now.etag)
            if not shows((yield self._fetch(target.endpoint)), name, previous):
                return f"The service accepted the previous model, {previous.location}, but does not name it.", False
        except AzureMLClassicError as error:
            return f"The previous model could not be put back: {error}", False
        return f"The previous model was put back: {previous.location}; the endpoint names it again.", True

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


def _without_races(
    find: Find, attempt: Callable[[Target, Candidate], Program[T]], log: Callable[[str], object]
) -> Program[T]:
    """Read and attempt until nobody else has changed the endpoint between the two."""
    for _ in range(RACES):
        target, candidate = yield from find()
        try:
            return (yield from attempt(target, candidate))
        except ChangedMeanwhile:
            log(f"Endpoint {target.endpoint.name!r} changed in between; reading it again.")
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


def receipt(begun: Begun, facts: BlobFacts | None) -> dict[str, Any]:
    """What an update returns: plain JSON, and nothing secret.

    :param begun: the update, which was proved.
    :param facts: of the model's file, if known.
    """
    target, candidate, placed = begun.target, begun.candidate, begun.placed
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
