"""Runs a wave of a fleet: one event loop, one session, a bounded number of jobs and of calls.

Rule 1: jobs are submitted and remembered before any of them is started, and starting one twice does nothing. So an
engine that is killed at any moment can be made anew from what is remembered: it starts what was not started, asks the
service what has become of the rest, and no job runs twice.
Rule 2: a failed look says nothing about a job, and a service that does not answer says nothing about an endpoint: both
are tried again until the deadline.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from airflow_provider_azureml_classic.client.aio import AsyncClient
from airflow_provider_azureml_classic.client.retries import jittered
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, NotFound, RequestRejected
from airflow_provider_azureml_classic.fleet.options import Options
from airflow_provider_azureml_classic.fleet.progress import Progress
from airflow_provider_azureml_classic.fleet.rows import BAD, Outcome, Row
from airflow_provider_azureml_classic.fleet.update import Updater, ended_badly
from airflow_provider_azureml_classic.protocol.jobs import Job, JobStatus
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.retraining.placing import Placing

#: Endpoints that are worked on at a time: a few calls in flight keep a server busy, more only wait there.
CALLS = 8
#: Seconds between two rounds; and between two checkpoints.
_ROUND, _CHECKPOINT = 1.0, 5.0
#: Statuses of a service that cannot answer now, "no answer" included.
_OUTAGE = frozenset({None, 408, 429, 502, 503, 504})
#: Times that another error that may pass is tried; longest pause while the service is away, in seconds.
_TRIES, _LONGEST_PAUSE = 3, 60.0


@dataclass(frozen=True)
class Means:
    """What an engine works with.

    :param client: open, of the workspace.
    :param readable: gives a reference a fresh token where the connection's account holds the blob.
    :param save: keeps the rows; called every few seconds and at the end.
    :param say: takes lines for the log.
    """

    client: AsyncClient
    readable: Callable[[BlobReference], BlobReference]
    save: Callable[[], Awaitable[None]]
    say: Callable[[str], None]


class Engine:
    """Runs the rows of one wave to their ends.

    :param means: what to work with.
    :param options: of the fleet.
    :param rows: all of the fleet, for the progress.
    :param wave: those to run; each has a job.
    :param may_fail: how many of them may fail before no further one is started.
    """

    def __init__(self, means: Means, options: Options, rows: Sequence[Row], wave: Sequence[Row], may_fail: int) -> None:
        self._means, self._options, self._wave, self._may_fail = means, options, wave, may_fail
        self._client = means.client
        self._waiting = deque(row for row in wave if row.job_id and not row.outcome)
        #: Jobs that are started and have not ended, by id, in the order of their start.
        self.flying: dict[str, Row] = {}
        self._updates: set[asyncio.Task[None]] = set()
        self._there: set[str] = set()
        self._tries: Counter[str] = Counter()
        #: Rounds in a row in which the service was away; and whether it was in this one.
        self._outages, self._away = 0, False
        self._next_sweep = self._next_save = 0.0
        self._calls = asyncio.Semaphore(CALLS)
        self._progress = Progress(rows, means.say, time.monotonic)

    async def run(self) -> None:
        """Run the wave. Being cancelled leaves the jobs in flight as they are.

        :raises AzureMLClassicError: the services themselves cannot be reached.
        """
        client, options = self._client, self._options
        self._trainer = await client.get_endpoint(options.training_id, options.training_endpoint)
        service = await client.get_web_service(options.scoring_id)
        self._there = {endpoint.name for endpoint in await client.list_endpoints(service.id)}
        proof = (options.proof, options.proof_timeout, options.on_failure)
        self._updater = Updater(Placing(client, self._means.readable, _quiet, *proof), service, options)
        try:
            while not self._is_interrupted() and (self._waiting or self.flying or self._updates):
                await self._round()
            if self._is_interrupted():
                await self.cancel(self.flying.values())
        finally:
            for task in self._updates:
                task.cancel()
        await self._means.save()

    def _is_interrupted(self) -> bool:
        ends = self._options.attempt_ends
        return ends is not None and time.time() >= ends

    async def _round(self) -> None:
        if self._options.deadline is not None and time.time() >= self._options.deadline:
            await self._give_up()
        self._away = False
        await self._launch()
        await self._look()
        if time.monotonic() >= self._next_save:
            await self._means.save()
            self._next_save = time.monotonic() + _CHECKPOINT
        self._progress.look(len(self.flying))
        for task in [task for task in self._updates if task.done()]:
            self._updates.discard(task)
            task.result()
        self._outages = self._outages + 1 if self._away else 0
        pause = min(_LONGEST_PAUSE, _ROUND * 2 ** min(self._outages, 6))
        if self._updates and not self.flying and not self._waiting:
            await asyncio.wait(self._updates, timeout=pause)
        elif self._waiting or self.flying:
            await asyncio.sleep(jittered(min(pause, max(_ROUND, self._options.poll_interval))))

    # -- starting ------------------------------------------------------------------------------------------------------

    async def _launch(self) -> None:
        failed = sum(row.outcome in BAD for row in self._wave)
        if failed > self._may_fail:
            self._leave(f"Not started: {failed} endpoints of its wave had failed, {self._may_fail} may.")
        room = self._options.max_active_jobs - len(self.flying)
        # While the service is away, one endpoint finds out when it is back.
        room = min(room, 1) if self._outages else room
        await self._together([self._waiting.popleft() for _ in range(min(room, len(self._waiting)))], self._start)

    async def _start(self, row: Row) -> None:
        try:
            if row.endpoint not in self._there:
                await self._client.add_endpoint(self._options.scoring_id, row.endpoint)
                self._there.add(row.endpoint)
            await self._start_job(row)
        except AzureMLClassicError as error:
            if self._is_to_try_again(row, error):
                self._waiting.appendleft(row)
            return
        row.started = row.started or time.time()
        self.flying[str(row.job_id)] = row

    async def _start_job(self, row: Row) -> None:
        try:
            await self._client.start_job(self._trainer, str(row.job_id))
        except RequestRejected as error:
            # It was started before: the answer was lost, or an earlier engine was. How it is, looks tell.
            if error.detail_code != "CannotStartJob":
                raise

    def _is_to_try_again(self, row: Row, error: AzureMLClassicError) -> bool:
        """Rule 2; an error that may not pass, or does not, ends the row."""
        if error.retryable and error.status in _OUTAGE:
            self._away = True
            self._means.say(f"Endpoint {row.endpoint!r} is tried again later: {error}")
            return True
        self._tries[row.endpoint] += 1
        if error.retryable and self._tries[row.endpoint] < _TRIES:
            return True
        ended_badly(row, error)
        return False

    # -- looking -------------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Look at the jobs in flight, oldest first, until some in a row have not ended: most services run jobs in the
        order of their start. Every ``poll_interval`` all are looked at.
        """
        sweep = time.monotonic() >= self._next_sweep
        if sweep:
            self._next_sweep = time.monotonic() + jittered(self._options.poll_interval)
        jobs = list(self.flying.values())
        for start in range(0, len(jobs), CALLS):
            before = len(self.flying)
            part = jobs[start : start + CALLS]
            await self._together(part, self._look_at)
            if self._away or (len(self.flying) == before and not sweep):
                return

    async def _look_at(self, row: Row) -> None:
        try:
            job = await self._client.get_job(self._trainer, str(row.job_id))
        except AzureMLClassicError as error:
            if error.retryable:
                self._away = self._away or error.status in _OUTAGE
                self._means.say(f"Cannot see job {row.job_id} of {row.endpoint!r} just now: {error}")
                return
            gone = isinstance(error, NotFound)
            row.end(Outcome.FAILED, f"Job {row.job_id} is gone: {error}" if gone else str(error))
        else:
            if not job.status.terminal and not await self._is_too_slow(row, job):
                return
            self._go_on(row, job)
        self.flying.pop(str(row.job_id), None)

    def _go_on(self, row: Row, job: Job) -> None:
        if job.status is JobStatus.FINISHED:
            self._updates.add(asyncio.create_task(self._update(row, job)))
        elif not row.outcome:
            try:
                job.raise_unless_finished()
            except AzureMLClassicError as error:
                row.end(Outcome.FAILED, error.message)

    async def _is_too_slow(self, row: Row, job: Job) -> bool:
        limit = self._options.job_timeout
        if limit is None or row.started is None or time.time() - row.started < limit:
            return False
        await self.cancel([row])
        row.end(
            Outcome.FAILED,
            f"Job {job.id} was still {job.status.value} after job_timeout={limit:g} s; it was cancelled.",
        )
        return True

    async def _update(self, row: Row, job: Job) -> None:
        async with self._calls:
            try:
                await self._client.perform(self._updater.update(row, job))
            except AzureMLClassicError as error:
                if self._is_to_try_again(row, error):
                    # The next look brings fresh tokens for the job's outputs.
                    self.flying[job.id] = row
            except ValueError as error:
                ended_badly(row, error)

    # -- ending --------------------------------------------------------------------------------------------------------

    async def _give_up(self) -> None:
        late = list(self.flying.values())
        await self.cancel(late)
        for row in late:
            row.end(Outcome.FAILED, f"Job {row.job_id} had not ended by the fleet's deadline; it was cancelled.")
        self.flying.clear()
        self._leave("Not started before the fleet's deadline.")

    def _leave(self, reason: str) -> None:
        for row in self._waiting:
            row.end(Outcome.UNTOUCHED, reason)
        self._waiting.clear()

    async def cancel(self, rows: Iterable[Row]) -> None:
        """Cancel jobs; one that cannot be is said and left.

        :param rows: whose jobs.
        """
        await cancel_jobs(self._client, self._trainer, [str(row.job_id) for row in rows], self._means.say)

    async def _together(self, rows: Sequence[Row], work: Callable[[Row], Awaitable[None]]) -> None:
        async def one(row: Row) -> None:
            async with self._calls:
                await work(row)

        await asyncio.gather(*(one(row) for row in rows))


async def cancel_jobs(
    client: AsyncClient, trainer: Endpoint, job_ids: Sequence[str], say: Callable[[str], None]
) -> None:
    """Cancel jobs; one that cannot be is said and left.

    :param client: open, of the workspace.
    :param trainer: the endpoint they were submitted to.
    :param job_ids: which.
    :param say: takes lines for the log.
    """
    calls = asyncio.Semaphore(CALLS)

    async def one(job_id: str) -> None:
        async with calls:
            try:
                await client.cancel_job(trainer, job_id)
            except AzureMLClassicError as error:
                say(f"Job {job_id} could not be cancelled: {error}")

    await asyncio.gather(*(one(job_id) for job_id in job_ids))


def _quiet(text: str) -> None:
    """Thousands of endpoints would drown the log; the row says how each ended."""
