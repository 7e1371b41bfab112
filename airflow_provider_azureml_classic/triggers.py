"""Waits in the triggerer: for the end of a job, for a model to be fresh, for the jobs of a fleet.

Rule 1: a trigger's arguments and events hold no secret and no verdict; the worker reads the outcome itself.
Rule 2: a failed poll says nothing about the job; only success, the end of the job or the deadline ends a wait.
Rule 3: the first poll comes some seconds after the deferral: an event that arrives before the scheduler has seen the
worker's exit fails the task (airflow issues 66374, 71580; seen on 3.3.2).

Class paths and arguments stand in Airflow's database with each deferred task, so they are those of earlier versions.
"""

from __future__ import annotations

import asyncio
import random
import time
from abc import abstractmethod
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from airflow_provider_azureml_classic import __version__
from airflow_provider_azureml_classic.client import AsyncClient
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError
from airflow_provider_azureml_classic.fleet.engine import Engine, Means, cancel_jobs
from airflow_provider_azureml_classic.fleet.options import Options
from airflow_provider_azureml_classic.fleet.rows import Ledger
from airflow_provider_azureml_classic.fleet.trainers import Trainers
from airflow_provider_azureml_classic.hooks import AzureMLClassicHook, jittered
from airflow_provider_azureml_classic.memory import FleetXComs, state_of
from airflow_provider_azureml_classic.protocol.drift import DRIFTED, Terms
from airflow_provider_azureml_classic.protocol.moments import to_utc
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.retraining.checkup import Finding, check_service
from airflow_provider_azureml_classic.retraining.evaluation import GoldenRows, evaluation_of
from airflow_provider_azureml_classic.retraining.freshness import Goal
from airflow_provider_azureml_classic.retraining.jobs import JobTicket
from airflow_provider_azureml_classic.retraining.placing import Overtaken, Placing
from airflow_provider_azureml_classic.retraining.proof import Level, Patch
from airflow_provider_azureml_classic.retraining.submitting import JobRunner

#: Seconds between deferral and first poll.
FIRST_LOOK = 8.0
#: Seconds that cancelling a job may take.
_CANCEL_TIMEOUT = 25.0
#: Airflow cancels ``on_kill`` itself after a second; cancellations go on here.
_BACKGROUND: set[asyncio.Task[None]] = set()


class CancellingTrigger(BaseTrigger):
    """A trigger that stops what it waits for when a person ends the task.

    :cvar subject: what it waits for, for the log.
    """

    subject = "What the task waited for"

    @property
    def can_cancel(self) -> bool:
        """Whether there is anything to cancel."""
        return True

    @abstractmethod
    async def cancel(self) -> None:
        """Cancel what is waited for."""

    async def on_kill(self) -> None:
        """Cancel, if it was a person who ended the task.

        Airflow cancels this coroutine after about a second, and calls it also when a trigger only moves to another
        triggerer (airflow pull request 73454; both seen on 3.3.2): so the work goes on in a task of its own, and asks
        for the state of the task first.
        """
        if not self.can_cancel:
            return
        work = asyncio.create_task(self._cancel_if_ended())
        _BACKGROUND.add(work)
        work.add_done_callback(_BACKGROUND.discard)
        while not work.done():
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError:
                if work.cancelled():
                    raise

    async def _cancel_if_ended(self) -> None:
        try:
            async with asyncio.timeout(_CANCEL_TIMEOUT):
                if await self._is_still_deferred():
                    self.log.info("The trigger moves to another triggerer. %s goes on.", self.subject)
                    return
                await self.cancel()
        except (AzureMLClassicError, TimeoutError) as error:
            self.log.warning("%s could not be cancelled: %s", self.subject, error or type(error).__name__)

    async def _is_still_deferred(self) -> bool:
        ti = self.task_instance
        if ti is None:
            return False
        with suppress(LookupError):
            return await sync_to_async(state_of)(ti) == "deferred"
        return False


class CheckupTrigger(BaseTrigger):
    """Asks the service once, from the triggerer.

    :param azureml_classic_conn_id: connection of type ``azureml_classic``.
    """

    def __init__(self, *, azureml_classic_conn_id: str) -> None:
        super().__init__()
        self.azureml_classic_conn_id = azureml_classic_conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments, for the database."""
        kind = type(self)
        return f"{kind.__module__}.{kind.__qualname__}", {"azureml_classic_conn_id": self.azureml_classic_conn_id}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Tell the version of the package here, and what was found of the connection."""
        await asyncio.sleep(FIRST_LOOK)
        try:
            async with await AzureMLClassicHook(self.azureml_classic_conn_id).async_client() as client:
                found = await client.perform(check_service(client, lambda: datetime.now(UTC)))
        except (AzureMLClassicError, AirflowNotFoundException, ValueError) as error:
            found = [Finding("connection", False, str(error), "Let the triggerer find the connection, too.")]
        # Its versions are told by the event itself.
        told = [asdict(replace(one, check=f"{one.check} (triggerer)")) for one in found if one.check != "versions"]
        yield TriggerEvent({"version": __version__, "found": told})


class EndpointTrigger(BaseTrigger):
    """Polls an endpoint until the wait is over.

    :param azureml_classic_conn_id: connection of type ``azureml_classic``.
    :param web_service_id: 32 hex digits.
    :param endpoint: name of the endpoint.
    :param deadline: seconds since 1970 at which to stop; ``None`` for never.
    :param poll_interval: seconds between two polls.
    :param first_look: seconds before the first poll, if more than :data:`FIRST_LOOK`: a worker has just polled in vain.
    """

    def __init__(
        self,
        *,
        azureml_classic_conn_id: str,
        web_service_id: str,
        endpoint: str,
        deadline: float | None,
        poll_interval: float,
        first_look: float = 0.0,
    ) -> None:
        super().__init__()
        self.azureml_classic_conn_id = azureml_classic_conn_id
        self.web_service_id = web_service_id
        self.endpoint = endpoint
        self.deadline = deadline
        self.poll_interval = poll_interval
        self.first_look = first_look

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments, for the database."""
        kind = type(self)
        names = ("azureml_classic_conn_id", "web_service_id", "endpoint", "deadline", "poll_interval", "first_look")
        return f"{kind.__module__}.{kind.__qualname__}", {name: getattr(self, name) for name in names}

    @property
    def payload(self) -> dict[str, Any]:
        """The content of the event."""
        return {"deadline": self.deadline}

    @abstractmethod
    async def poll(self, client: AsyncClient, endpoint: Endpoint) -> bool:
        """Whether the wait is over.

        :param client: of the workspace.
        :param endpoint: as read at the first poll; jobs are asked for with its key.
        """

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll until the wait is over, the deadline has come, or the worker has an error to read."""
        # Rule 3 goes before the deadline: a task that fails for Airflow's sake is worse than one some seconds late.
        first = FIRST_LOOK * random.uniform(1, 1.25)  # noqa: S311 - jitter, no secret
        await asyncio.sleep(max(first, min(jittered(self.first_look), self._left())))
        client = await self._client()
        if client is not None:
            async with client:
                await self._watch(client)
        yield TriggerEvent(self.payload)

    async def _client(self) -> AsyncClient | None:
        """A client; ``None``: the worker has an error to read, or the deadline has come."""
        conn_id, more = self.azureml_classic_conn_id, True
        while more:
            try:
                return await AzureMLClassicHook(conn_id).async_client()
            except (AirflowNotFoundException, ValueError, AzureMLClassicError) as error:
                self.log.info("The worker will read this error: %s", error)
                return None
            except Exception as error:  # whatever a secrets backend raises says as little as a failed poll: rule 2
                self.log.warning("Cannot read connection %r just now: %s", conn_id, type(error).__name__)
            more = await self._pause()
        return None

    async def _watch(self, client: AsyncClient, endpoint: Endpoint | None = None) -> None:
        more = True
        while more:
            try:
                endpoint = endpoint or await client.get_endpoint(self.web_service_id, self.endpoint)
                if await self.poll(client, endpoint):
                    return
            except AzureMLClassicError as error:
                if not error.retryable:
                    self.log.info("The worker will read this error: %s", error)
                    return
                self.log.info("Endpoint %r cannot be read just now: %s", self.endpoint, error)
            more = await self._pause()

    async def _pause(self) -> bool:
        """Wait until the next poll; false if the deadline has come."""
        left = self._left()
        if left > 0:
            await asyncio.sleep(min(jittered(self.poll_interval), left))
        return left > 0

    def _left(self) -> float:
        return self.deadline - time.time() if self.deadline is not None else float("inf")


class JobTrigger(CancellingTrigger, EndpointTrigger):
    """Waits for the end of a batch job. Killing or clearing the deferred task cancels the job.

    :param job_id: the job.
    :param cancel_on_kill: ``False`` leaves the job running then, because it is somebody else's.
    :param options: see :class:`EndpointTrigger`.
    """

    def __init__(self, *, job_id: str, cancel_on_kill: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.job_id = job_id
        self.subject = f"Job {job_id}"
        self.cancel_on_kill = cancel_on_kill

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments, for the database."""
        path, arguments = super().serialize()
        return path, {**arguments, "job_id": self.job_id, "cancel_on_kill": self.cancel_on_kill}

    @property
    def payload(self) -> dict[str, Any]:
        """The content of the event."""
        return {"job_id": self.job_id, "deadline": self.deadline}

    async def poll(self, client: AsyncClient, endpoint: Endpoint) -> bool:
        """Whether the job has ended."""
        return (await client.get_job(endpoint, self.job_id)).status.terminal

    @property
    def can_cancel(self) -> bool:
        """Whether killing the task is to cancel the job."""
        return self.cancel_on_kill

    async def cancel(self) -> None:
        """Cancel the job."""
        async with await AzureMLClassicHook(self.azureml_classic_conn_id).async_client() as client:
            endpoint = await client.get_endpoint(self.web_service_id, self.endpoint)
            info, warn = partial(self.log.info, "%s"), partial(self.log.warning, "%s")
            await client.perform(JobRunner(client, endpoint, info, warn).cancel(self.job_id))


class FreshnessTrigger(EndpointTrigger):
    """Waits until an endpoint's model is fresh.

    :param resource: name of the resource; ``None`` means the only one.
    :param location: of the model to wait for: base location and path, no token.
    :param trained_to: end of the training data, at least, ISO 8601.
    :param max_age: age in seconds, at most. Without it and the others, the limit of the endpoint.
    :param options: see :class:`EndpointTrigger`.
    """

    def __init__(
        self,
        *,
        resource: str | None = None,
        location: tuple[str, str] | list[str] | None = None,
        trained_to: str | None = None,
        max_age: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.resource = resource
        self.location = list(location) if location else None
        self.trained_to = trained_to
        self.max_age = max_age

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments, for the database."""
        path, arguments = super().serialize()
        own = ("resource", "location", "trained_to", "max_age")
        return path, {**arguments, **{name: getattr(self, name) for name in own}}

    def goal(self, limit: timedelta | None) -> Goal | None:
        """What is waited for; ``None`` if nothing says it.

        :param limit: of the endpoint, if it has one.
        """
        location = BlobReference.at(*self.location) if self.location else None
        trained_to = to_utc(self.trained_to) if self.trained_to else None
        max_age = timedelta(seconds=self.max_age) if self.max_age is not None else None
        if location or trained_to or max_age is not None:
            return Goal(location, trained_to, max_age)
        return Goal(max_age=limit) if limit is not None else None

    async def poll(self, client: AsyncClient, endpoint: Endpoint) -> bool:
        """Whether the live model is fresh."""
        now = await client.get_endpoint(self.web_service_id, self.endpoint)
        goal = self.goal(now.stale_after)
        # The worker says what is wrong where a limit was taken away meanwhile.
        return goal is None or goal.check(now.resource(self.resource), datetime.now(UTC))[0]


class DriftTrigger(EndpointTrigger):
    """Waits until callers ask endpoints of a web service for something else than their models were trained on.

    :param only: the endpoint that is waited for; ``None``: any.
    :param terms: what counts as a drift, as arguments of :class:`~.protocol.drift.Terms`.
    :param options: see :class:`EndpointTrigger`; ``endpoint`` is any that is there.
    """

    def __init__(self, *, only: str | None, terms: dict[str, Any], **options: Any) -> None:
        super().__init__(**options)
        self.only = only
        self.terms = terms

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments, for the database."""
        path, arguments = super().serialize()
        return path, {**arguments, "only": self.only, "terms": self.terms}

    async def poll(self, client: AsyncClient, endpoint: Endpoint) -> bool:
        """Whether one of them has drifted."""
        terms = Terms(**{**self.terms, "ignore": frozenset(self.terms["ignore"])})
        drifted = await client.get_drift(self.web_service_id, terms, verdict=DRIFTED)
        return any(self.only in (None, one.name) for one in drifted)


class FleetTrigger(CancellingTrigger):
    """Runs a wave of a fleet: starts its jobs, waits for them, updates and proves its endpoints.

    The rows, which hold job ids and no secrets, are read at the start and written as endpoints end, so that another
    triggerer goes on from there. Killing or clearing the task cancels the jobs in flight.

    :param azureml_classic_conn_id: connection of type ``azureml_classic``.
    :param key: ``dag_id``, ``task_id``, ``run_id`` and ``map_index`` of the task.
    :param parts: XComs that hold the rows.
    :param wave: number of the wave.
    :param may_fail: endpoints of it that may fail before no further one is started.
    :param options: see :class:`~airflow_provider_azureml_classic.fleet.options.Options`.
    """

    def __init__(
        self,
        *,
        azureml_classic_conn_id: str,
        key: dict[str, Any],
        parts: int,
        wave: int,
        may_fail: int,
        options: dict[str, Any],
    ) -> None:
        super().__init__()
        self.azureml_classic_conn_id = azureml_classic_conn_id
        self.key = key
        self.parts = parts
        self.wave = wave
        self.may_fail = may_fail
        self.options = options
        self._engine: Engine | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments, for the database."""
        kind = type(self)
        names = ("azureml_classic_conn_id", "key", "parts", "wave", "may_fail", "options")
        return f"{kind.__module__}.{kind.__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Run the wave."""
        earliest = time.monotonic() + FIRST_LOOK * random.uniform(1, 1.25)  # noqa: S311 - jitter, no secret
        xcoms = FleetXComs(self.key)
        # In threads: the asynchronous forms do not exist where ``dag.test`` runs a trigger (Airflow 3.3.2).
        rows = await sync_to_async(xcoms.read)(self.parts)
        ledger = Ledger(rows, is_kept=True)
        hook = AzureMLClassicHook(self.azureml_classic_conn_id)

        async def save() -> None:
            await sync_to_async(xcoms.write)(ledger.changed())

        try:
            async with await hook.async_client() as client:
                means = Means(client, hook.readable, save, partial(self.log.info, "%s"))
                wave = [row for row in rows if row.wave == self.wave]
                self._engine = Engine(means, Options(**self.options), rows, wave, self.may_fail)
                await self._engine.run()
        except AzureMLClassicError as error:
            self.log.info("The worker will read this error: %s", error)
            await save()
        # Rule 3.
        await asyncio.sleep(max(0.0, earliest - time.monotonic()))
        yield TriggerEvent({"parts": self.parts, "deadline": self.options["deadline"]})

    @property
    def can_cancel(self) -> bool:
        """Whether jobs are in flight."""
        return self._engine is not None and bool(self._engine.in_flight)

    async def cancel(self) -> None:
        """Cancel the jobs in flight."""
        rows = list(self._engine.in_flight.values()) if self._engine else []
        async with await AzureMLClassicHook(self.azureml_classic_conn_id).async_client() as client:
            found = Trainers.find(client, Options(**self.options), partial(self.log.warning, "%s"))
            await cancel_jobs(client, await client.perform(found), rows)
        self.log.info("Cancelled the %d jobs in flight.", len(rows))


#: Seconds between two polls for a proof.
PROOF_INTERVAL = 5.0


class ProofTrigger(EndpointTrigger):
    """Waits until a model that was put live is seen to be live. The golden rows are scored here if the job that wrote
    them is known; in any case the worker scores them again.

    :param placed: what has to be seen, as :class:`~airflow_provider_azureml_classic.retraining.proof.Patch` writes it.
    :param trained_by: the job whose evaluation carries the golden rows: ``web_service``, ``endpoint``, ``job_id``.
    :param options: see :class:`EndpointTrigger`.
    """

    def __init__(self, *, placed: dict[str, Any], trained_by: dict[str, str] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.placed = placed
        self.trained_by = trained_by
        self._golden: GoldenRows | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments, for the database."""
        path, arguments = super().serialize()
        return path, {**arguments, "placed": self.placed, "trained_by": self.trained_by}

    @property
    def payload(self) -> dict[str, Any]:
        """The content of the event."""
        return {"placed": self.placed, "deadline": self.deadline}

    async def poll(self, client: AsyncClient, endpoint: Endpoint) -> bool:
        """Whether the worker has a chance to prove it."""
        patch = Patch.from_json(self.placed)
        if patch.level.is_scored and self.trained_by is not None and self._golden is None:
            self._golden = await self._golden_rows(client, JobTicket.from_json(self.trained_by))
        if patch.level is Level.SCORE and self._golden is None:
            # The worker may know golden rows of its own, such as those of a receipt.
            patch = replace(patch, level=Level.VERSION if patch.etag else Level.RESOURCE)
        placing = Placing(client, lambda reference: reference, self.log.info)
        try:
            return await client.perform(placing.missing(endpoint, self._golden, patch)) is None
        except Overtaken:
            return True

    async def _golden_rows(self, client: AsyncClient, ticket: JobTicket) -> GoldenRows | None:
        service = await client.find_web_service(ticket.web_service)
        job = await client.get_job(await client.get_endpoint(service.id, ticket.endpoint), ticket.job_id)
        return (await client.perform(evaluation_of(client, job, self.log.info))).golden
