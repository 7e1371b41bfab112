"""Putting a model live and proving it, written once: for the update, the rollback, the fleet, the gate's check
endpoint, the command line, and the wait in the triggerer. No Airflow, no I/O of its own.

Either client performs a :data:`Program`: ``client.perform(placing.place(...))``, awaited on an asynchronous one.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from airflow_provider_azureml_classic.client.answers import BlobFacts
from airflow_provider_azureml_classic.client.retries import Pause, Program, jittered
from airflow_provider_azureml_classic.client.verbs import Verbs
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, UpdateNotProved, is_stale, rejection
from airflow_provider_azureml_classic.protocol.approval import Approval
from airflow_provider_azureml_classic.protocol.digests import Digests, same_model
from airflow_provider_azureml_classic.protocol.moments import moment_text, to_utc
from airflow_provider_azureml_classic.protocol.purpose import Purpose
from airflow_provider_azureml_classic.protocol.references import BlobReference, ToldWindow
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
from airflow_provider_azureml_classic.retraining.proof import ROUNDS, Level, Patch, shows
from airflow_provider_azureml_classic.retraining.rehearsing import Outcome, Rehearsing

#: Times that an endpoint may change between the GET and the PATCH before the task gives up.
RACES = 5
_PAUSE = 2.0
T = TypeVar("T")


class ChangedMeanwhile(Exception):
    """Somebody else changed the endpoint between reading it and the PATCH."""


class Overtaken(UpdateNotProved):
    """Between PATCH and proof somebody else put a model live that was trained on data as new, or newer."""


@dataclass(frozen=True)
class Candidate:
    """The model to put live.

    :param location: with a fresh SAS token where one is needed.
    :param window: its training window, if known.
    :param job: the job that trained it, if any.
    :param golden: rows to prove it with, if any.
    :param metrics: from the job's evaluation, if there is one.
    :param digests: of the model, if the service told them.
    :param told: what the service tells of its training data, where it trained it.
    """

    location: BlobReference
    window: Window | None
    job: JobTicket | None = None
    golden: GoldenRows | None = None
    metrics: Mapping[str, float] | None = None
    digests: Digests | None = None
    told: ToldWindow | None = None


@dataclass(frozen=True)
class Target:
    """What is updated.

    :param service: the scoring web service.
    :param endpoint: its endpoint, as read just before.
    :param resource: the endpoint's resource, with the model that is replaced.
    """

    service: WebService
    endpoint: Endpoint
    resource: Resource

    def earlier(self, patch: Patch | None, candidate: Candidate) -> Patch | None:
        """The PATCH of an earlier attempt, if it put this model live and the endpoint still names it.

        :param patch: what that attempt remembered.
        :param candidate: the model to put live.
        """
        if patch is None or not shows(self.endpoint, patch.resource, candidate.location):
            return None
        live = self.endpoint.resource(patch.resource).digests
        if same_model(patch.model, patch.replaced_model) is False:
            same = not same_model(patch.model, live)
        else:
            same = patch.replaced is not None and patch.replaced.same_place(patch.location)
        return patch if patch.location.same_place(candidate.location) and not same else None


def find_updatable(client: Verbs, web_service: str, endpoint: str) -> Program[tuple[WebService, Endpoint]]:
    """An endpoint whose model may be replaced.

    :param client: of the workspace.
    :param web_service: name or id.
    :param endpoint: name.
    :raises RequestRejected: the default endpoint, or one without updatable resources.
    :raises NotFound: the message lists those that exist.
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
    """What an update replaces, as the service describes it now.

    :param client: of the workspace.
    :param web_service: name or id.
    :param endpoint: name.
    :param resource: name of the updatable resource; ``None`` means the only one.
    :raises RequestRejected: see :func:`find_updatable`; likewise for a resource that does not exist.
    """
    service, row = yield from find_updatable(client, web_service, endpoint)
    return Target(service, row, row.resource(resource))


#: Reads the target of an update, and the model to put live.
Find = Callable[[], Program["tuple[Target, Candidate]"]]
#: Keeps what an update must remember; an asynchronous client awaits its result.
Remember = Callable[[Patch], object]
#: Why the live model has to stay, as a sentence; ``None`` if it may be replaced.
Check = Callable[[Target, Candidate], Program["str | None"]]


@dataclass(frozen=True)
class Update:
    """An update whose PATCH was sent, and whose proof is to come.

    :param target: what was updated, as read before the PATCH.
    :param candidate: the model that was put live.
    :param patch: what has to be seen.
    """

    target: Target
    candidate: Candidate
    patch: Patch


@dataclass(frozen=True)
class Placing:
    """How models are put live.

    :param client: of the workspace; blocking or asynchronous.
    :param readable: gives a reference a fresh token where the connection's account holds the blob.
    :param log: takes lines for the log.
    :param proof: level to reach: ``resource``, ``version``, ``score``, ``content``, or ``strongest`` that the service
        offers.
    :param proof_timeout: seconds allowed from PATCH to proof.
    :param on_failure: without proof in time: ``keep`` the new model, or ``rollback`` to the previous one.
    :param approval: who has agreed, for the endpoint's history.
    :param rehearsing: whether updates are rehearsed, and what stops them.
    :param warn: takes lines for the log that somebody should see; by default as ``log``.
    """

    client: Verbs
    readable: Callable[[BlobReference], BlobReference]
    log: Callable[[str], object]
    proof: str = "strongest"
    proof_timeout: float = 120.0
    on_failure: str = "keep"
    approval: Approval | None = None
    rehearsing: Rehearsing = field(default_factory=Rehearsing)
    warn: Callable[[str], object] | None = None

    def place(
        self,
        find: Find,
        *,
        check: Check | None = None,
        earlier: Patch | None = None,
        remember: Remember = lambda _: None,
    ) -> Program[Update | str]:
        """Read what is live, check whether it may be replaced, PATCH; :meth:`prove` or :meth:`wait` comes next.

        :param find: see :data:`Find`; called again whenever somebody else changed the endpoint before the PATCH.
        :param check: see :data:`Check`.
        :param earlier: what an earlier attempt remembered; if its proof may still come, there is no second PATCH.
        :param remember: called before the PATCH, and awaited if its result can be.
        :return: the update to prove; or the reason that ``check`` gave, and nothing was changed.
        :raises UpdateNotProved: somebody else changed the endpoint every time; nothing was updated.
        """

        def attempt(target: Target, candidate: Candidate) -> Program[Update | str]:
            before = target.earlier(earlier, candidate)
            if before is not None and not before.failed:
                self.log(f"An earlier attempt put {before.location.location} live; its proof goes on.")
                return Update(target, candidate, replace(before, deadline=time.time() + self.proof_timeout))
            reason = (yield from check(target, candidate)) if check else None
            if reason is not None:
                return reason
            if before is None and (yield from self._is_live_already(target, candidate)):
                # Nothing changes but the place that is named, and with it the end of the window.
                yield from self.put(target, _only_named(target, candidate))
                return (
                    f"Endpoint {target.endpoint.name!r} keeps its model: this training gave the very model that is "
                    f"live already. Its window is recorded: the endpoint names {candidate.location.location} now."
                )
            rehearsal = (yield from self._rehearsed(target, candidate)) if before is None else None
            if rehearsal is not None and rehearsal.reason is not None:
                return rehearsal.reason
            patch = yield from self.begin(target, candidate, before)
            told = rehearsal.to_json() if rehearsal else before.rehearsal if before else None
            patch = replace(patch, rehearsal=told)
            kept = remember(patch)
            if isinstance(kept, Awaitable):
                yield kept
            yield from self.put(target, patch)
            return Update(target, candidate, patch)

        return (yield from _without_races(find, attempt, self.log))

    def try_out(self, find: Find) -> Program[Update]:
        """Put a model live on an endpoint that serves for trying models out, unless the endpoint names it already.

        :param find: reads that endpoint, and the model to try.
        :raises UpdateNotProved: see :meth:`place`.
        """

        def attempt(target: Target, candidate: Candidate) -> Program[Update]:
            told = self._tells(target.resource, candidate)
            level = Level.CONTENT if told else Level.SCORE if candidate.golden else Level.RESOURCE
            patch = Patch(target.resource.name, candidate.location, level, model=candidate.digests)
            other = same_model(candidate.digests, target.resource.digests) is False
            if other or not shows(target.endpoint, patch.resource, patch.location):
                yield from self.put(target, patch)
            return Update(target, candidate, patch)

        return (yield from _without_races(find, attempt, self.log))

    def begin(self, target: Target, candidate: Candidate, earlier: Patch | None = None) -> Program[Patch]:
        """What has to be remembered before the PATCH.

        :param target: as read just before.
        :param candidate: the model to put live.
        :param earlier: the PATCH of an attempt that was not proved: what that one replaced counts as replaced.
        :raises ValueError: the level of proof cannot be reached.
        """
        level, answers = yield from self._level(target, candidate)
        now, replaced, model = time.time(), target.resource.location, target.resource.digests
        end = target.resource.window_end
        other = same_model(candidate.digests, model) is False
        if shows(target.endpoint, target.resource.name, candidate.location) and not other:
            # What lay at this place before is gone: a model does not replace itself.
            replaced = answers = model = end = None
        return Patch(
            resource=target.resource.name,
            location=candidate.location,
            level=level,
            replaced=earlier.replaced if earlier else replaced,
            answers=earlier.answers if earlier else answers,
            version=target.endpoint.version,
            etag=target.endpoint.etag,
            patched_at=now,
            deadline=now + self.proof_timeout,
            window_end=_end_of(candidate),
            model=candidate.digests,
            replaced_model=earlier.replaced_model if earlier else model,
            replaced_end=earlier.replaced_end if earlier else end.isoformat() if end else None,
        )

    def put(self, target: Target, patch: Patch) -> Program[None]:
        """Send the PATCH.

        :param target: as read just before.
        :param patch: from :meth:`begin`.
        :raises ChangedMeanwhile: the endpoint has changed since it was read, so nothing was put live.
        """
        try:
            etag = target.endpoint.etag
            end = patch.window_end
            yield self._patch(target, patch.location, patch.model, end, if_match=etag, approval=self.approval)
        except AzureMLClassicError as error:
            if not (error.retryable or is_stale(error)):
                raise
            # It may have succeeded, with only its answer lost.
            after: Endpoint = yield self._fetch(target.endpoint)
            own = patch.has_window(after) if is_stale(error) else True
            if own and shows(after, patch.resource, patch.location) and patch.has_moved(after):
                return
            if is_stale(error):
                raise ChangedMeanwhile from error
            raise

    def prove(self, update: Update) -> Program[None]:
        """Poll until the model is seen to be live.

        :param update: from :meth:`place`.
        :raises UpdateNotProved: not seen in time, or overtaken.
        """
        missing = yield from self.wait(update, update.patch.deadline)
        if missing is not None:
            raise (yield from self.failure(update, missing))

    def wait(self, update: Update, until: float) -> Program[str | None]:
        """Poll until the model is seen to be live; returns the proof that is still missing at the end, if any.

        :param update: from :meth:`place` or :meth:`try_out`.
        :param until: seconds since 1970.
        :raises Overtaken: somebody else put a newer model live.
        """
        pause, endpoint, golden, patch = 0.2, update.target.endpoint, update.candidate.golden, update.patch
        while (missing := (yield from self.missing(endpoint, golden, patch))) is not None:
            left = until - time.time()
            if left <= 0:
                if until >= patch.deadline:
                    # Answers may come long after the endpoint was read, and be a newer model's.
                    yield from self._look(endpoint, patch)
                return missing
            yield Pause(min(jittered(pause), left))
            pause = min(pause * 2, _PAUSE)
        self.log(f"Proved by {patch.level.value}: {patch.location.location} is live on endpoint {endpoint.name!r}.")
        return None

    def failure(self, update: Update, missing: str) -> Program[UpdateNotProved]:
        """Put the previous model back, if ``on_failure`` says so; returns the error to raise.

        :param update: from :meth:`place`.
        :param missing: from :meth:`wait`.
        """
        outcome, put_back = "Nothing was put back.", False
        if self.on_failure == "rollback":
            outcome, put_back = yield from self.roll_back(update)
        return UpdateNotProved(
            f"The service accepted the update of {update.patch.resource!r} on endpoint "
            f"{update.target.endpoint.name!r}, but after {self.proof_timeout:g} s {missing} {outcome}",
            put_back=put_back,
        )

    def roll_back(self, update: Update) -> Program[tuple[str, bool]]:
        """Put the previous model back; returns the outcome as a sentence, and whether it is back.

        :param update: from :meth:`place`.
        """
        target, patch = update.target, update.patch
        previous, name = patch.replaced, patch.resource
        if previous is None:
            return "The previous model's location is unknown, so it could not be put back.", False
        try:
            now: Endpoint = yield self._fetch(target.endpoint)
            live = now.resource(name).location
            if live and not any(shows(now, name, reference) for reference in (patch.location, previous)):
                return f"Somebody else has put {live.location} live since; it was left alone.", False
            model = patch.replaced_model
            if reason := (yield from self.changed(self.readable(previous), model, now.resource(name))):
                return f"The previous model could not be put back: {reason}", False
            yield self._patch(target, self.readable(previous), model, patch.replaced_end, if_match=now.etag)
            after: Endpoint = yield self._fetch(target.endpoint)
            if not shows(after, name, previous):
                return f"The service accepted the previous model, {previous.location}, but does not name it.", False
            if same_model(model, after.resource(name).digests) is False:
                return f"Another model than the previous one is live from {previous.location}.", False
        except AzureMLClassicError as error:
            return f"The previous model could not be put back: {error}", False
        return f"The previous model was put back: {previous.location}; the endpoint names it again.", True

    def changed(self, location: BlobReference, model: Digests | None, live: Resource) -> Program[str | None]:
        """Why a place does not hold the file that is meant, as a sentence; ``None`` if it does, or that is not known.

        A service that tells its models compares by itself, and may have kept a file that its store has no more.

        :param location: with what opens it.
        :param model: digests of the model that is meant.
        :param live: what the endpoint has now.
        """
        if model is None or model.file is None or live.digests is not None or not location.base_location:
            return None
        facts: BlobFacts = yield Verbs.blob_facts.steps(self.client, location)
        if facts.sha256 == model.file:
            return None
        return f"{location.location} holds another model now than the one that is meant."

    def missing(self, endpoint: Endpoint, golden: GoldenRows | None, patch: Patch) -> Program[str | None]:
        """Which proof is still missing, as the end of a sentence; ``None`` if none is.

        :param endpoint: the endpoint that was updated.
        :param golden: rows to prove it with, if any.
        :param patch: what has to be seen.
        :raises Overtaken: somebody else put a newer model live.
        """
        after = yield from self._look(endpoint, patch)
        if isinstance(after, str):
            return after
        missing = patch.missing(after)
        if missing is not None or not patch.level.is_scored:
            return missing
        if golden is None and patch.level is Level.SCORE:
            return "the golden rows to prove it with no longer exist."
        for _ in range(ROUNDS):
            answers, model = yield from self._answers(after, golden)
            if golden is not None and (answers is None or not golden.agrees(answers)):
                return "it does not give the new model's answers to the golden rows."
            if patch.level is Level.CONTENT and (patch.model is None or model != patch.model.content):
                return "another model gives its answers than the one that was meant."
        return None

    def _look(self, endpoint: Endpoint, patch: Patch) -> Program[Endpoint | str]:
        """The endpoint as it is now, or why it cannot be read, unless somebody else put a newer model live."""
        try:
            after: Endpoint = yield self._fetch(endpoint)
        except AzureMLClassicError as error:
            if not error.retryable:
                raise
            return f"the endpoint could not be read: {error}"
        if reason := _overtaken(after, patch):
            raise Overtaken(reason)
        return after

    def _rehearsed(self, target: Target, candidate: Candidate) -> Program[Outcome | None]:
        """What both models answer to the last calls of the endpoint; it is told in any case."""
        outcome = yield from self.rehearsing.ask(
            self.client, target.endpoint, target.resource, candidate.location, candidate.digests
        )
        if outcome is not None and outcome.reason is None:
            (self.warn or self.log if outcome.is_unusual else self.log)(outcome.text)
        return outcome

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _patch(
        self,
        target: Target,
        location: BlobReference,
        model: Digests | None,
        window_end: str | None,
        *,
        if_match: str | None = None,
        approval: Approval | None = None,
    ) -> Any:
        settings = EndpointSettings(resources=(Resource(target.resource.name, location),))
        options: Any = {"if_match": if_match, "model_file": model.file if model else None, "approval": approval}
        if window_end:
            options["purpose"] = Purpose(end=to_utc(window_end))
        return Verbs.patch_endpoint.steps(self.client, target.endpoint, settings, **options)

    def _fetch(self, endpoint: Endpoint) -> Any:
        return Verbs.get_endpoint.steps(self.client, endpoint.web_service_id, endpoint.name)

    def _level(self, target: Target, candidate: Candidate) -> Program[tuple[Level, Table | None]]:
        """The level to reach, and the live model's answers to the golden rows; ``score`` needs answers that differ from
        the new model's, ``content`` a service that tells which model it is.
        """
        if self.proof not in ("strongest", *(level.value for level in Level)):
            raise ValueError(f"proof is {self.proof!r}; it must be strongest, resource, version, score or content.")
        if self.proof in (Level.RESOURCE.value, Level.VERSION.value):
            return Level(self.proof), None
        before, golden, wanted = target.endpoint, candidate.golden, self.proof
        answers = (yield from self._answers(before, golden))[0] if golden else None
        if wanted != Level.SCORE.value and self._tells(target.resource, candidate):
            return Level.CONTENT, answers
        if wanted == Level.CONTENT.value:
            raise ValueError(
                "proof='content' cannot be reached: the digests of the models are not known. Use proof='strongest'."
            )
        if golden is not None and (answers is None or not golden.agrees(answers)):
            return Level.SCORE, answers
        why = "the live model gives the same answers" if golden else "there are no golden rows"
        if wanted == Level.SCORE.value:
            raise ValueError(f"proof='score' cannot be reached: {why}. Use proof='strongest'.")
        self.log(f"The update of {before.name!r} cannot be proved by scoring: {why}.")
        # Without an ETag a new model need not change the version: the cloud service's was that of the graph.
        return (Level.VERSION if before.etag else Level.RESOURCE), answers

    @staticmethod
    def _tells(resource: Resource, candidate: Candidate) -> bool:
        """Whether the service tells which model an endpoint has, and it is known which one is meant."""
        return resource.digests is not None and candidate.digests is not None and candidate.digests.content is not None

    def _answers(self, endpoint: Endpoint, golden: GoldenRows | None) -> Program[tuple[Table | None, str | None]]:
        """The endpoint's answers to the golden rows, ``None`` if it cannot answer them; and which model answered.
        Without golden rows it is asked for none, which a service that tells its model answers.
        """
        try:
            rows = golden.rows if golden else Table((), [])
            table, model = yield Verbs.score_by.steps(self.client, endpoint, rows, trial=True)
        except AzureMLClassicError as error:
            self.log(f"Endpoint {endpoint.name!r} does not score just now: {error}")
            return None, None
        return golden.narrowed(table) if golden else table, model

    def _is_live_already(self, target: Target, candidate: Candidate) -> Program[bool]:
        """Whether a training gave the very model that is live from another training, and that is seen to answer."""
        if candidate.job is None or shows(target.endpoint, target.resource.name, candidate.location):
            return False
        if candidate.digests is None or not same_model(candidate.digests, target.resource.digests):
            return False
        _, model = yield from self._answers(target.endpoint, candidate.golden)
        return model is not None and model == candidate.digests.content


def _end_of(candidate: Candidate) -> str | None:
    return candidate.window.end.isoformat() if candidate.window else None


def _only_named(target: Target, candidate: Candidate) -> Patch:
    """A PATCH after which the same model answers, from another place and of another window."""
    return Patch(target.resource.name, candidate.location, window_end=_end_of(candidate), model=candidate.digests)


def _without_races(
    find: Find, attempt: Callable[[Target, Candidate], Program[T]], log: Callable[[str], object]
) -> Program[T]:
    """Read and attempt until nobody else changes the endpoint between the two."""
    for _ in range(RACES):
        target, candidate = yield from find()
        try:
            return (yield from attempt(target, candidate))
        except ChangedMeanwhile:
            log(f"Endpoint {target.endpoint.name!r} changed in between; reading it again.")
    raise UpdateNotProved(
        f"Endpoint {target.endpoint.name!r} was changed by somebody else {RACES} times in a row; nothing was updated."
    )


def _overtaken(after: Endpoint, patch: Patch) -> str | None:
    """Why a proof will never come, as another model is live that is as new or newer; ``None`` if none is."""
    resource = after.resource(patch.resource)
    live, end, own = resource.location, resource.window_end, Window.from_json({"end": patch.window_end})
    if live is None or end is None or own is None or end < own.end:
        return None
    if shows(after, patch.resource, patch.location) or (patch.replaced and live.same_place(patch.replaced)):
        return None
    than = f"this one only up to {moment_text(own.end)}" if end > own.end else "so was this one"
    return (
        f"While the update of endpoint {after.name!r} was being proved, somebody else put {live.location} live, which "
        f"was trained on data up to {moment_text(end)}; {than}."
    )
