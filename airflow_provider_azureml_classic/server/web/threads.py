"""The threads that answer: how many scoring calls run at a time, and how long one may keep its caller waiting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Protocol

from anyio import CapacityLimiter, to_thread

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.messages import Response
from airflow_provider_azureml_classic.protocol.values import MAX_CONCURRENCY
from airflow_provider_azureml_classic.server.experiments.graph import DEADLINE
from airflow_provider_azureml_classic.server.web.bodies import MAX_DECODED, Turns
from airflow_provider_azureml_classic.server.web.lanes import Lane

#: Calls and pages that are at work at a time, besides scoring calls that need no database.
DATABASE_THREADS = 40


class Answerer(Protocol):
    """The service, as far as it matters here."""

    def answer(self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Response:
        """Answer a request."""

    def refuse(self, method: str, path: str, error: AzureMLClassicError) -> Response:
        """Answer a request with an error."""

    def lane(self, method: str, path: str, body: bytes) -> Lane:
        """Where a request is answered."""

    def admit(self, method: str, path: str, query: str, headers: Mapping[str, str]) -> None:
        """Return if whoever asks may ask for this."""


def database_threads() -> CapacityLimiter:
    """Threads for those who may wait for the database; what needs none of it has others, and goes on meanwhile."""
    return CapacityLimiter(DATABASE_THREADS)


class Threads:
    """Answers, each in a thread: scoring calls within a time, and some at a time.

    :param app: the service.
    :param score_timeout: seconds after which a scoring call is answered that it took too long.
    :param limiter: threads of those who may wait for the database.
    :param most: scoring calls that run or wait for a thread, of all endpoints together.
    """

    def __init__(
        self, app: Answerer, score_timeout: float, limiter: CapacityLimiter, most: int = MAX_CONCURRENCY
    ) -> None:
        self._app = app
        self._limiter = limiter
        self._timeout = score_timeout
        self._most = most
        self._running: set[asyncio.Task[Response]] = set()
        self._turns = Turns()

    async def admit(self, method: str, path: str, query: str, headers: Mapping[str, str]) -> None:
        """See :meth:`~.app.App.admit`; what needs no database does not wait for it."""
        remembered = self._app.lane(method, path, b"") in (Lane.LOOP, Lane.THREAD)
        limiter = None if remembered else self._limiter
        await to_thread.run_sync(self._app.admit, method, path, query, headers, limiter=limiter)

    async def answer(
        self, lane: Lane, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes
    ) -> Response:
        """Answer a request; see :meth:`~.app.App.answer`.

        :param lane: of the request.
        """
        arguments = (method, path, query, headers, body)
        weight = MAX_DECODED // 2 if lane is Lane.FILE else len(body)
        if lane is Lane.OTHER:
            return await self._run(self._limiter, weight, *arguments)
        if len(self._running) >= self._most:
            message = f"This server is already running {self._most} scoring calls. Try again."
            return self._app.refuse(method, path, rejection("TooManyConcurrentRequests", message))
        limiter = None if lane is Lane.THREAD else self._limiter
        DEADLINE.set(time.monotonic() + self._timeout)
        call = asyncio.ensure_future(self._run(limiter, weight, *arguments))
        self._running.add(call)
        call.add_done_callback(self._running.discard)
        # A thread cannot be stopped: what runs on is counted until it ends.
        done, _ = await asyncio.wait({call}, timeout=self._timeout)
        if done:
            return call.result()
        message = (
            f"Scoring takes more than {self._timeout:g} s. Send fewer rows per call, or score them as a batch job."
        )
        return self._app.refuse(method, path, rejection("ScoreRequestTimeout", message))

    async def _run(
        self,
        limiter: CapacityLimiter | None,
        weight: int,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        body: bytes,
    ) -> Response:
        try:
            await self._turns.begin(weight)
        except AzureMLClassicError as error:
            return self._app.refuse(method, path, error)
        try:
            return await to_thread.run_sync(self._app.answer, method, path, query, headers, body, limiter=limiter)
        finally:
            self._turns.end(weight)
