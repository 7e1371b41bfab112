"""Watches for ``AssetWatcher``: a DAG runs when an endpoint's model has become stale, has drifted, or was changed.

Rule 1: the last state is kept in the asset state store before the event is sent, so a restart of the triggerer repeats
no event. Before Airflow 3.3 there is no such store: there a restart may repeat one.
Rule 2: a watch never ends. Airflow would restart one that failed at once, so an endpoint that cannot be read is polled
again later.
Rule 3: watches of one endpoint share one poll; neither their arguments nor their events hold a secret.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
import logging
import re
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Hashable, Iterable, Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_provider_azureml_classic.client import AsyncClient
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError
from airflow_provider_azureml_classic.hooks import AzureMLClassicHook, jittered
from airflow_provider_azureml_classic.protocol.drift import DRIFTED, EndpointDrift, Terms
from airflow_provider_azureml_classic.protocol.model_history import PastModel
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint, Resource
from airflow_provider_azureml_classic.retraining.freshness import Goal, limit_of

log = logging.getLogger(__name__)

State = Mapping[str, Any]
_SERVICE_ID = re.compile("[0-9a-f]{32}")
#: Raised by the store of a watch that belongs to several assets: such a watch remembers until the next restart.
_Unaddressable = ValueError
#: Arguments that the keys of version 0.1 were made of.
_FIRST_MEMBERS = (
    "web_service", "endpoint", "resource", "azureml_classic_conn_id", "max_age", "repeat_every", "ours",
)  # fmt: skip
#: Endpoints of an event.
_MOST_TOLD = 200
#: Models of an endpoint that are asked for, to find the live one of each resource.
_LAST_MODELS = 50
#: How the portal puts a model back, in the list of an endpoint's models.
_ROLLED_BACK = "rollback"
#: Equal to no argument.
_NOTHING = object()


@dataclass(frozen=True)
class Verdict:
    """The outcome of one poll.

    :param state: to remember, if it is not remembered already.
    :param event: to send, if any.
    """

    state: State
    event: dict[str, Any] | None = None


class EndpointWatch(BaseEventTrigger):
    """Polls an endpoint for ever.

    :cvar name: what it is called in the key of its state; empty: its class path.
    :param web_service: name or id of the scoring web service.
    :param endpoint: its endpoint; it need not exist yet. ``None``: all of them, where a watch can do that.
    :param resource: name of the updatable resource; ``None`` means the only one.
    :param poll_interval: seconds between two polls.
    :param azureml_classic_conn_id: connection of type ``azureml_classic``.
    """

    name = ""

    def __init__(
        self,
        *,
        web_service: str,
        endpoint: str | None,
        resource: str | None = None,
        poll_interval: float = 60.0,
        azureml_classic_conn_id: str = AzureMLClassicHook.default_conn_name,
    ) -> None:
        super().__init__()
        self.web_service = web_service
        self.endpoint = endpoint
        self.resource = resource
        self.poll_interval = float(poll_interval)
        self.azureml_classic_conn_id = azureml_classic_conn_id
        self._seen: State | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments, for the database."""
        kind = type(self)
        return f"{kind.__module__}.{kind.__qualname__}", {
            "web_service": self.web_service,
            "endpoint": self.endpoint,
            "resource": self.resource,
            "poll_interval": self.poll_interval,
            "azureml_classic_conn_id": self.azureml_classic_conn_id,
        }

    @abstractmethod
    def judge(self, endpoint: Any, seen: State | None, now: datetime) -> Verdict:
        """The state to remember, and the event to send.

        :param endpoint: as it is now, or what :meth:`poll` gives.
        :param seen: the state that was remembered; ``None`` at the very first poll.
        :param now: the present moment.
        """

    # -- one poll for all watches of an endpoint (Airflow 3.3) -----------------------------------------------------

    def shared_stream_key(self) -> Hashable | None:
        """Watches with the same key share one poll."""
        return (self.azureml_classic_conn_id, self.web_service, self.endpoint, self.poll_interval)

    @staticmethod
    async def poll(client: AsyncClient, service_id: str, kwargs: Mapping[str, Any]) -> Any:
        """The endpoint as it is.

        :param client: of the workspace.
        :param service_id: id of the web service.
        :param kwargs: arguments of one of the watches.
        """
        return await client.get_endpoint(service_id, kwargs["endpoint"])

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncGenerator[Any, None]:
        """What :meth:`poll` gives, again and again.

        :param kwargs: arguments of one of the watches.
        """
        hook, last_problem = AzureMLClassicHook(kwargs["azureml_classic_conn_id"]), ""
        while True:
            try:
                async with aclosing(_polls(cls, hook, kwargs)) as polls:
                    async for endpoint in polls:
                        last_problem = ""
                        yield endpoint
            # A missing connection and a failing secrets backend raise whatever they like (rule 2).
            except Exception as error:
                problem = _safe_text(error)
                if problem != last_problem:
                    log.warning("Cannot read endpoint %r of %r: %s", kwargs["endpoint"], kwargs["web_service"], problem)
                last_problem = problem
            await asyncio.sleep(jittered(kwargs["poll_interval"]))

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Any]) -> AsyncIterator[TriggerEvent]:
        """The polls that bring news.

        :param shared_stream: of :meth:`open_shared_stream`.
        """
        last_problem = ""
        async for endpoint in shared_stream:
            try:
                seen = await self._recall()
                verdict = self.judge(endpoint, seen, datetime.now(UTC))
                if verdict.state != (seen or {}):
                    await self._remember(verdict.state)
            except Exception as error:  # rule 2: what is not remembered is not sent, so the next poll sends it
                problem = _safe_text(error)
                if problem != last_problem:
                    log.warning("Endpoint %r cannot be watched: %s", self.endpoint, problem)
                last_problem = problem
                continue
            last_problem = ""
            if verdict.event is not None:
                yield TriggerEvent({"web_service": self.web_service, "endpoint": self.endpoint, **verdict.event})

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """The same with a poll of its own."""
        async with aclosing(self.open_shared_stream(self.serialize()[1])) as stream:
            async for event in self.filter_shared_stream(stream):
                yield event

    # -- the last state --------------------------------------------------------------------------------------------

    @property
    def state_key(self) -> str:
        """Key in the asset state store: one for each meaning, as an asset may have several watches. Neither a module
        that moves nor an argument that is added later changes it, so that an upgrade repeats no event.
        """
        path, arguments = self.serialize()
        defaults = {**_defaults(type(self)), "poll_interval": arguments["poll_interval"]}
        telling = {name: value for name, value in arguments.items() if value != defaults.get(name, _NOTHING)}
        return _key(self.name or path, telling)

    @property
    def _first_key(self) -> str:
        """The key in version 0.1."""
        path, arguments = self.serialize()
        members = {name: arguments[name] for name in _FIRST_MEMBERS if name in arguments}
        return _key(path, {**members, "poll_interval": None})

    async def _recall(self) -> State | None:
        store = getattr(self, "asset_state_store", None)
        if self._seen is None and store is not None:
            with suppress(_Unaddressable):
                self._seen = await store.aget(self.state_key)
                if self._seen is None:
                    self._seen = await store.aget(self._first_key)
        return self._seen

    async def _remember(self, state: State) -> None:
        store = getattr(self, "asset_state_store", None)
        if store is not None:
            with suppress(_Unaddressable):
                await store.aset(self.state_key, dict(state))
        self._seen = state


def _key(name: str, arguments: Mapping[str, Any]) -> str:
    meaning = json.dumps([name, arguments], sort_keys=True)
    return f"azureml_classic_watch_{hashlib.sha256(meaning.encode()).hexdigest()[:16]}"


def _defaults(kind: type[EndpointWatch]) -> dict[str, Any]:
    """The defaults of a watch's arguments, those that it hands on to its base included."""
    makers = [vars(base)["__init__"] for base in kind.__mro__ if "__init__" in vars(base) and base is not object]
    return {
        name: parameter.default
        for maker in reversed(makers)
        for name, parameter in inspect.signature(maker).parameters.items()
        if parameter.default is not parameter.empty
    }


def _safe_text(error: Exception) -> str:
    """An error's text, if the error is ours; others may quote an address with its query."""
    return str(error) if isinstance(error, AzureMLClassicError | ValueError) else type(error).__name__


async def _polls(
    kind: type[EndpointWatch], hook: AzureMLClassicHook, kwargs: Mapping[str, Any]
) -> AsyncGenerator[Any, None]:
    async with await hook.async_client() as client:
        service = await client.find_web_service(kwargs["web_service"])
        while True:
            yield await kind.poll(client, service.id, kwargs)
            await asyncio.sleep(jittered(kwargs["poll_interval"]))


class StaleModelTrigger(EndpointWatch):
    """Sends an event when an endpoint's model has become too old, once for each model.

    A model of unknown age is stale. The event holds ``location``, ``trained_to``, ``max_age`` in seconds and, as a
    sentence, the ``reason``.

    :param max_age: a model whose training data end longer ago than this is stale; a timedelta, or seconds. ``None``:
        as the endpoint says (``StaleAfter``, which the self-hosted server keeps); the log says it where it does not.
    :param repeat_every: send it again after this time if the same model is still live; ``None`` for never.
    :param options: see :class:`EndpointWatch`.
    """

    name = "stale model"

    def __init__(
        self,
        *,
        max_age: timedelta | float | None = None,
        repeat_every: timedelta | float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.max_age = _seconds(max_age) if max_age is not None else None
        self.repeat_every = _seconds(repeat_every) if repeat_every is not None else None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments, for the database."""
        path, arguments = super().serialize()
        return path, {**arguments, "max_age": self.max_age, "repeat_every": self.repeat_every}

    def judge(self, endpoint: Endpoint, seen: State | None, now: datetime) -> Verdict:
        """Stale, and no event sent yet, or long ago."""
        resource = endpoint.resource(self.resource)
        limit = limit_of(endpoint) if self.max_age is None else timedelta(seconds=self.max_age)
        fresh, reason = Goal(max_age=limit).check(resource, now)
        if fresh:
            # A stale model that comes back, as by a rollback, is news again.
            return Verdict({})
        live, end = resource.location, resource.window_end
        location = live.location if live else None
        sent_at = (seen or {}).get("told_at")
        if sent_at is not None and (seen or {}).get("told") == location and not self._is_due(sent_at, now):
            return Verdict(seen or {})
        facts = {"location": location, "trained_to": end.isoformat() if end else None, "max_age": limit.total_seconds()}
        return Verdict({"told": location, "told_at": now.timestamp()}, {**facts, "reason": reason})

    def _is_due(self, sent_at: float, now: datetime) -> bool:
        return self.repeat_every is not None and now.timestamp() - sent_at >= self.repeat_every


class ModelDriftTrigger(EndpointWatch):
    """Sends an event when callers ask endpoints for something else than their models were trained on, once for each
    model. The server counts and tells it in one call for all endpoints of a web service; services without this addition
    never send one.

    The event holds ``endpoints``: for each that has drifted since the last event, its name (``endpoint``), ``model``
    (SHA-256 of the file), the largest stability index (``psi``), the ``features`` that drifted and, as a sentence, the
    ``reason``.

    :param endpoint: watch this one; ``None``: all endpoints of the web service.
    :param days: the calls of so many days, today included.
    :param psi: least population stability index of a drift.
    :param rows: fewer rows tell nothing.
    :param ignore: features that are left out, as those that follow the calendar.
    :param options: see :class:`EndpointWatch`.
    """

    name = "model drift"

    def __init__(
        self,
        *,
        endpoint: str | None = None,
        days: int = Terms.days,
        psi: float = Terms.psi,
        rows: int = Terms.rows,
        ignore: Iterable[str] = (),
        **options: Any,
    ) -> None:
        super().__init__(endpoint=endpoint, **options)
        with _as_value_error():
            terms = Terms(days, psi, rows, frozenset(ignore))
        self.terms = {**vars(terms), "ignore": sorted(terms.ignore)}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments, for the database."""
        path, arguments = super().serialize()
        return path, {**arguments, **self.terms}

    def shared_stream_key(self) -> Hashable | None:
        """Watches of any endpoints of a web service share one poll."""
        terms = json.dumps(self.terms, sort_keys=True)
        return (self.name, self.azureml_classic_conn_id, self.web_service, self.poll_interval, terms)

    @staticmethod
    async def poll(client: AsyncClient, service_id: str, kwargs: Mapping[str, Any]) -> list[EndpointDrift]:
        """The endpoints that have drifted."""
        terms = Terms(kwargs["days"], kwargs["psi"], kwargs["rows"], frozenset(kwargs["ignore"]))
        return await client.get_drift(service_id, terms, verdict=DRIFTED)

    def judge(self, endpoint: list[EndpointDrift], seen: State | None, now: datetime) -> Verdict:
        """Endpoints that drifted, of whose model no event was sent yet; not more at once than an event holds."""
        sent: dict[str, str] = dict((seen or {}).get("sent", {}))
        news = [one for one in endpoint if self.endpoint in (None, one.name) and sent.get(one.name) != one.model]
        if not news:
            return Verdict(seen or {})
        news = news[:_MOST_TOLD]
        state = {"sent": {**sent, **{one.name: one.model for one in news}}}
        return Verdict(state, {"endpoints": [one.facts() for one in news]})


class ModelChangeTrigger(EndpointWatch):
    """Sends an event when an endpoint got another model: by content where the service tells it, so that the same model
    trained again is none; else by location and version.

    The event holds ``now`` and ``before``, each with ``location``, ``version`` and, where it is known, ``content``.
    The very first poll only remembers.

    :param ours: a change to a model of your own DAGs sends no event. ``True``: to one whose file, by its digest, a
        training job of the service wrote, wherever it lies, unless the portal put it back; services that do not list
        the models of an endpoint go by the default path. A path: to one below it, for example ``models/bikes/``,
        whatever lies there. ``None``: every change sends one.
    :param options: see :class:`EndpointWatch`.
    """

    name = "model change"

    def __init__(self, *, ours: str | bool | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.ours = ours

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments, for the database."""
        path, arguments = super().serialize()
        return path, {**arguments, "ours": self.ours}

    def shared_stream_key(self) -> Hashable | None:
        """Watches that have to know who wrote the model share a poll of their own."""
        key = (self.azureml_classic_conn_id, self.web_service, self.endpoint, self.poll_interval)
        return (self.name, *key) if self.ours is True else key

    @staticmethod
    async def poll(client: AsyncClient, service_id: str, kwargs: Mapping[str, Any]) -> Endpoint | Origins:
        """The endpoint as it is; with what the service tells of its models if that is needed."""
        endpoint = await client.get_endpoint(service_id, kwargs["endpoint"])
        if kwargs.get("ours") is not True:
            return endpoint
        try:
            page = await client.list_models(service_id, kwargs["endpoint"], limit=_LAST_MODELS)
        except AzureMLClassicError as error:
            if error.detail_code != "OperationNotSupported":
                raise
            return endpoint
        return Origins(endpoint, page.models)

    def _own_paths(self, live: BlobReference) -> tuple[str, ...]:
        """Beginnings of own paths: ``models/bikes/`` stands for ``models/{id of a training service}/bikes/`` too, where
        the same DAG's models lie by default since paths hold that id."""
        own = (f"models/{self.endpoint}/" if self.ours is True else self.ours or "").lstrip("/")
        folder, _, rest = own.partition("/")
        service = live.relative_location.split("/")[1:2]
        return own, *(f"{folder}/{one}/{rest}" for one in service if rest and _SERVICE_ID.fullmatch(one))

    def judge(self, endpoint: Endpoint | Origins, seen: State | None, now: datetime) -> Verdict:
        """Another model than the one remembered."""
        origins, endpoint = (endpoint, endpoint.endpoint) if isinstance(endpoint, Origins) else (None, endpoint)
        resource = endpoint.resource(self.resource)
        live, digests = resource.location, resource.digests
        state = {"location": live.location if live else None, "version": endpoint.version}
        if digests and digests.content:
            state["content"] = digests.content
        if seen is None or _is_same(seen, state):
            return Verdict(state)
        if origins is not None:
            entry = origins.entry(resource)
            if entry is None:
                # Changed between the two answers: the next poll tells.
                return Verdict(seen)
            own = entry.job_id is not None and entry.how != _ROLLED_BACK
        else:
            own = bool(self.ours and live and live.relative_location.startswith(self._own_paths(live)))
        return Verdict(state) if own else Verdict(state, {"now": state, "before": dict(seen)})


@dataclass(frozen=True)
class Origins:
    """An endpoint, and where its models are from.

    :param endpoint: as it is.
    :param models: that it had, those put live last first.
    """

    endpoint: Endpoint
    models: tuple[PastModel, ...]

    def entry(self, resource: Resource) -> PastModel | None:
        """What is told of the live model of a resource; ``None``: another one is live by now.

        :param resource: of the endpoint.
        """
        live = next((model for model in self.models if model.is_live and model.resource == resource.name), None)
        return live if live and live.digests == resource.digests else None


@contextmanager
def _as_value_error() -> Iterator[None]:
    """What is wrong with an argument, as any other trigger says it."""
    try:
        yield
    except AzureMLClassicError as error:
        raise ValueError(error.message) from None


def _is_same(seen: State, state: State) -> bool:
    """Whether an endpoint has the model that was seen: by content where both are known, else by place and version."""
    names = ("content",) if seen.get("content") and state.get("content") else ("location", "version")
    return all(seen.get(name) == state.get(name) for name in names)


def _seconds(value: timedelta | float) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{value!r} must be a timedelta, or a number of seconds from 0 up.")
    return seconds
