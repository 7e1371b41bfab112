"""Submits and runs a wave of a fleet: one event loop, one session, a bounded number of jobs and of calls.

Rule 1: jobs are submitted and remembered before any of them is started, and starting one twice does nothing. So an
engine that is killed at any moment can be made anew from what is remembered: it starts what was not started, asks the
service what has become of the rest, and no job runs twice.
Rule 2: a failed poll says nothing about a job, and a service that does not answer says nothing about an endpoint: both
are tried again until the deadline.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from airflow_provider_azureml_classic.client.aio import AsyncClient
from airflow_provider_azureml_classic.client.retries import jittered
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, NotFound, ServiceUnavailable
from airflow_provider_azureml_classic.fleet.options import Options
from airflow_provider_azureml_classic.fleet.report import Progress
from airflow_provider_azureml_classic.fleet.rows import BAD, CHUNK, Item, Outcome, Row
from airflow_provider_azureml_classic.fleet.trainers import Trainers
from airflow_provider_azureml_classic.fleet.update import Updater, ended_badly
from airflow_provider_azureml_classic.protocol.jobs import Job, JobRequest, JobStatus
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.retraining.placing import Placing
from airflow_provider_azureml_classic.retraining.rehearsing import Rehearsing
from airflow_provider_azureml_classic.retraining.submitting import JobRunner, JobState, next_pause

#: Endpoints that are worked on at a time: a few calls in flight keep a server busy, more only wait there.
CALLS = 8
#: Seconds between two rounds; and between two checkpoints.
_ROUND, _CHECKPOINT = 1.0, 5.0
#: Seconds that the rows may take to be kept when the engine is cancelled.
_LAST_SAVE = 3.0
#: Statuses of a service that cannot answer now, "no answer" included.
_OUTAGE = frozenset({None, 408, 429, 502, 503, 504})
#: Times that another error that may pass is tried; longest pause while the service is away, in seconds.
_TRIES, _LONGEST_PAUSE = 3, 60.0
#: Seconds between the submissions of a job while the service does not answer.
_SUBMIT_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class Means:
    """What an engine works with.

    :param client: open, of the workspace.
    :param readable: gives a reference a fresh token where the connection's account holds the blob.
    :param save: keeps the rows; called every few seconds and at the end.
    :param say: takes lines for the log.
    :param is_ended: whether whoever runs the engine is ended from outside; looked at once a second.
    """

    client: AsyncClient
    readable: Callable[[BlobReference], BlobReference]
    save: Callable[[], Awaitable[None]]
    say: Callable[[str], None]
    is_ended: Callable[[], bool] = lambda: False


class Submitter:
    """Gives each row of a wave a job: that of an earlier attempt if it can still end well, else a new one.

    :param client: open, of the workspace.
    :param trainers: who trains.
    :param make_request: the job of an item, at the endpoint that trains for it.
    :param epoch: of this attempt; see :mod:`..memory`.
    """

    def __init__(
        self,
        client: AsyncClient,
        trainers: Trainers,
        make_request: Callable[[Item, Endpoint], JobRequest],
        epoch: int,
    ) -> None:
        self._client, self._trainers, self._make_request, self._epoch = client, trainers, make_request, epoch
        self.submitted = 0

    async def prepare(
        self, wave: Sequence[Row], items: Mapping[str, Item], save: Callable[[], object], may_fail: int
    ) -> None:
        """Submit what is to be submitted, and remember it part by part.

        :param wave: rows to prepare.
        :param items: by endpoint.
        :param save: keeps the rows.
        :param may_fail: how many may be refused before no further one is submitted.
        :raises ServiceUnavailable: the service does not answer; what was submitted is remembered.
        """
        for start in range(0, len(wave), CHUNK):
            part = wave[start : start + CHUNK]
            failed = sum(row.outcome in BAD for row in wave)
            if failed > may_fail:
                for row in part:
                    row.end(Outcome.UNTOUCHED, f"Not submitted: {failed} endpoints of its wave had failed.")
                continue
            try:
                await self._part(part, items)
            finally:
                save()

    async def _part(self, part: Sequence[Row], items: Mapping[str, Item]) -> None:
        calls = asyncio.Semaphore(CALLS)

        async def one(row: Row) -> None:
            async with calls:
                await self._one(row, items.get(row.endpoint))

        try:
            async with asyncio.TaskGroup() as group:
                for row in part:
                    group.create_task(one(row))
        except ExceptionGroup as group:
            # The calls in flight say the same, and a task fails with one sentence.
            raise group.exceptions[0] from None

    async def _one(self, row: Row, item: Item | None) -> None:
        if item is None:
            row.end(Outcome.UNTOUCHED, "It is no longer among the items.")
            return
        for left in reversed(range(_TRIES)):
            try:
                await self._give_job(row, item)
                return
            except ServiceUnavailable:
                raise
            except (AzureMLClassicError, ValueError) as error:
                # A page of a proxy in place of an answer says nothing about the endpoint.
                if not left or not (isinstance(error, AzureMLClassicError) and error.retryable):
                    ended_badly(row, error)
                    return

    async def _give_job(self, row: Row, item: Item) -> None:
        runner = await self._client.perform(self._trainers.added(row.endpoint))
        if row.job_id and await self._take_up(runner, row, JobState(row.job_id, row.epoch)):
            return
        row.job_id, row.started = None, None
        submit = runner.submit(self._make_request(item, runner.endpoint), _SUBMIT_PAUSES)
        row.job_id, row.epoch = await self._client.perform(submit), self._epoch
        self.submitted += 1

    async def _take_up(self, runner: JobRunner, row: Row, state: JobState) -> bool:
        job = await self._client.perform(runner.take_up(state, self._epoch, keep_finished=True))
        if job is not None and job.status is not JobStatus.NOT_STARTED:
            # Started just before its attempt was killed, which was not remembered.
            row.started = row.started or time.time()
        return job is not None


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
        # Those of an earlier attempt that run come first: they count among the jobs that may run at a time.
        open_ = [row for row in wave if row.job_id and not row.outcome]
        self._waiting = deque(sorted(open_, key=lambda row: row.started is None))
        #: Jobs that are started and have not ended, by id, in the order of their start.
        self.in_flight: dict[str, Row] = {}
        self._updates: set[asyncio.Task[None]] = set()
        #: Names of the endpoints that exist.
        self._existing: set[str] = set()
        self._tries: Counter[str] = Counter()
        #: Rounds in a row in which the service was away; and whether it was in this one.
        self._outages, self._away = 0, False
        self._next_save = 0.0
        #: By job in flight: the pause before its next poll, and when that is over.
        self._polls: dict[str, tuple[float, float]] = {}
        self._calls, self._saving = asyncio.Semaphore(CALLS), asyncio.Lock()
        #: Calls of :meth:`_save`, and how many of them the last write has covered.
        self._changes = self._kept = 0
        self._progress = Progress(rows, means.say, time.monotonic)

    async def run(self) -> None:
        """Run the wave. Being cancelled, or ended from outside, leaves the jobs in flight as they are.

        :raises AzureMLClassicError: the services themselves cannot be reached.
        """
        client, options = self._client, self._options
        self._trainers = await client.perform(Trainers.find(client, options, self._means.say))
        service = await client.get_web_service(options.scoring_id)
        proof = (options.proof, options.proof_timeout, options.on_failure)
        rehearsing = Rehearsing.of(options.rehearsal, options.max_change)
        placing = Placing(client, self._means.readable, _quiet, *proof, rehearsing=rehearsing)
        self._updater = Updater(placing, service, options, self._save)
        try:
            while not self._stops() and (self._waiting or self.in_flight or self._updates):
                await self._round()
            if self._is_interrupted():
                await self.cancel(self.in_flight.values())
        except asyncio.CancelledError:
            # A triggerer that is shut down waits for a moment only.
            with suppress(Exception):
                async with asyncio.timeout(_LAST_SAVE):
                    await self._save()
            raise
        finally:
            for task in self._updates:
                task.cancel()
        await self._save()

    async def _save(self) -> None:
        """Keep the rows as they are at the call. Several calls at a time share one write."""
        self._changes += 1
        change = self._changes
        async with self._saving:
            if self._kept < change:
                until = self._changes
                await self._means.save()
                self._kept = until

    def _stops(self) -> bool:
        return self._means.is_ended() or self._is_interrupted()

    def _is_interrupted(self) -> bool:
        ends = self._options.attempt_ends
        return ends is not None and time.time() >= ends

    async def _round(self) -> None:
        if self._options.deadline is not None and time.time() >= self._options.deadline:
            await self._give_up()
        self._away = False
        await self._launch()
        await self._poll()
        if time.monotonic() >= self._next_save:
            await self._save()
            self._next_save = time.monotonic() + _CHECKPOINT
        self._progress.update(len(self.in_flight))
        for task in [task for task in self._updates if task.done()]:
            self._updates.discard(task)
            task.result()
        self._outages = self._outages + 1 if self._away else 0
        pause = min(_LONGEST_PAUSE, _ROUND * 2 ** min(self._outages, 6))
        if self._updates and not self.in_flight and not self._waiting:
            await asyncio.wait(self._updates, timeout=_ROUND)
        elif self._waiting or self.in_flight:
            await self._pause(jittered(min(pause, max(_ROUND, self._options.poll_interval))))

    async def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._means.is_ended():
            await asyncio.sleep(min(left, _ROUND))

    # -- starting ------------------------------------------------------------------------------------------------------

    async def _launch(self) -> None:
        failed = sum(row.outcome in BAD for row in self._wave)
        if failed > self._may_fail:
            self._leave(f"Not started: {failed} endpoints of its wave had failed; {self._may_fail} may fail.")
        room = self._options.max_active_jobs - len(self.in_flight)
        # While the service is away, one endpoint finds out when it is back.
        room = min(room, 1) if self._outages else room
        await self._together([self._waiting.popleft() for _ in range(min(room, len(self._waiting)))], self._start)

    async def _start(self, row: Row) -> None:
        try:
            await self._ensure(row.endpoint)
            runner = await self._client.perform(self._trainers.runner(row.endpoint))
            await self._client.perform(runner.start(str(row.job_id)))
        except AzureMLClassicError as error:
            if self._may_try_again(row, error):
                self._waiting.appendleft(row)
            return
        row.started = row.started or time.time()
        self.in_flight[str(row.job_id)] = row
        self._postpone(str(row.job_id))

    async def _ensure(self, name: str) -> None:
        """Add an endpoint that is not there. Only those of the wave are asked for: its web service may have 10,000."""
        if name in self._existing:
            return
        try:
            await self._client.get_endpoint(self._options.scoring_id, name)
        except NotFound:
            await self._client.add_endpoint(self._options.scoring_id, name)
        self._existing.add(name)

    def _may_try_again(self, row: Row, error: AzureMLClassicError) -> bool:
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

    # -- polling -------------------------------------------------------------------------------------------------------

    async def _poll(self) -> None:
        """Poll the jobs whose pause is over, oldest first. A job's pauses grow with its age alone, so that an endpoint
        costs as many polls in a small part of a fleet as in a large one.
        """
        now = time.monotonic()
        due = [row for job, row in self.in_flight.items() if job not in self._polls or self._polls[job][1] <= now]
        for start in range(0, len(due), CALLS):
            await self._together(due[start : start + CALLS], self._poll_job)
            if self._away:
                return

    def _postpone(self, job_id: str) -> None:
        pause, _ = self._polls.get(job_id, (0.0, 0.0))
        pause = next_pause(pause, self._options.poll_interval)
        self._polls[job_id] = pause, time.monotonic() + jittered(pause)

    async def _poll_job(self, row: Row) -> None:
        try:
            runner = await self._client.perform(self._trainers.runner(row.endpoint))
            job = await self._client.get_job(runner.endpoint, str(row.job_id))
        except AzureMLClassicError as error:
            if error.retryable:
                self._away = self._away or error.status in _OUTAGE
                self._means.say(f"The state of job {row.job_id} of {row.endpoint!r} cannot be read just now: {error}")
                return
            missing = isinstance(error, NotFound)
            row.end(Outcome.FAILED, f"Job {row.job_id} no longer exists: {error}" if missing else str(error))
        else:
            if not job.status.terminal and not await self._is_too_slow(row, job):
                self._postpone(job.id)
                return
            self._go_on(row, job)
        self.in_flight.pop(str(row.job_id), None)
        self._polls.pop(str(row.job_id), None)

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
                if self._may_try_again(row, error):
                    # The next poll brings fresh tokens for the job's outputs.
                    self.in_flight[job.id] = row
            except ValueError as error:
                ended_badly(row, error)

    # -- ending --------------------------------------------------------------------------------------------------------

    async def _give_up(self) -> None:
        late = list(self.in_flight.values())
        await self.cancel(late)
        for row in late:
            row.end(Outcome.FAILED, f"Job {row.job_id} had not ended by the fleet's deadline; it was cancelled.")
        self.in_flight.clear()
        self._leave("Not started before the fleet's deadline.")

    def _leave(self, reason: str) -> None:
        for row in self._waiting:
            row.end(Outcome.UNTOUCHED, reason)
        self._waiting.clear()

    async def cancel(self, rows: Iterable[Row]) -> None:
        """Cancel jobs; the log names those that cannot be cancelled.

        :param rows: whose jobs.
        """
        await cancel_jobs(self._client, self._trainers, list(rows))

    async def _together(self, rows: Sequence[Row], work: Callable[[Row], Awaitable[None]]) -> None:
        async def one(row: Row) -> None:
            async with self._calls:
                await work(row)

        await asyncio.gather(*(one(row) for row in rows))


async def cancel_jobs(client: AsyncClient, trainers: Trainers, rows: Sequence[Row]) -> None:
    """Cancel jobs; the log names those that cannot be cancelled.

    :param client: open, of the workspace.
    :param trainers: who trains.
    :param rows: whose jobs.
    """
    calls = asyncio.Semaphore(CALLS)

    async def one(row: Row) -> None:
        async with calls:
            await client.perform(trainers.cancel(row))

    await asyncio.gather(*(one(row) for row in rows))


def _quiet(text: str) -> None:
    """Nothing."""
