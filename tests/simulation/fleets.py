"""Fleets: the engine and what it remembers, taken up after kills, with a service and a network that fail."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_provider_azureml_classic.client.aio import AsyncClient
from airflow_provider_azureml_classic.fleet import engine
from airflow_provider_azureml_classic.fleet.engine import Engine, Means, Submitter
from airflow_provider_azureml_classic.fleet.options import Options
from airflow_provider_azureml_classic.fleet.rows import BAD, DONE, Item, Outcome, Row, allowed, next_wave
from airflow_provider_azureml_classic.fleet.trainers import Trainers
from airflow_provider_azureml_classic.retraining.freshness import Window
from tests.simulation.days import PROOF, Days
from tests.simulation.network import Process, attempted
from tests.simulation.service import SCORING, TRAINING, Work
from tests.simulation.tasks import PATIENCE, day, job_request

#: Seconds within which a fleet ends.
TIMEOUT = 12 * 3600.0


@dataclass
class Fleet:
    """A run of a fleet, with what it remembers.

    :param task: its name.
    :param items: by endpoint.
    :param options: of the engine.
    :param waves: sizes of the first ones.
    :param threshold: how many endpoints of a wave may fail.
    """

    task: str
    items: dict[str, Item]
    options: Options
    waves: tuple[int, ...]
    threshold: float
    rows: list[dict[str, Any]] = field(default_factory=list)
    #: Seconds at which the attempt is asked to end.
    ends_at: float = float("inf")
    #: When the attempt began.
    began: float = 0.0

    def recalled(self) -> list[Row]:
        """As the operator makes them of what the attempt before remembered."""
        before = {row.endpoint: row for row in map(Row.from_json, self.rows)}
        rows = [before.get(name) or Row(name) for name in self.items]
        for row in rows:
            row.window = self.items[row.endpoint].window.to_json()
            row.open_again()
        return rows


class Fleets(Days):
    """A fleet a day, over the same endpoints, and somebody else who updates some of them."""

    calm = 3600.0

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        random = self.world.random
        self.days, self.names = random.randint(1, 3), [f"e{n}" for n in range(random.randint(2, 8))]
        self.fleets: dict[str, Fleet] = {}
        self.service.on_start = self._started
        #: Seconds that the rows take to be kept, at most.
        self.saving = random.choice((0.1, 0.1, 5.0))
        #: Of long jobs, rounds of the engine; each costs a call for every eight jobs.
        self.round = 1.0 if self.timeout < 7200 else 30.0

    def run(self) -> None:
        """Run it."""
        before = engine._ROUND
        engine._ROUND = self.round
        try:
            super().run()
        finally:
            engine._ROUND = before

    def _runs(self) -> list[Awaitable[None]]:
        fleets = [self._fleet(number) for number in range(self.days)]
        others = [(name, number) for name in self.names for number in range(self.days) if self.world.chance(0.1)]
        return [*fleets, *(self._retraining(name, number, "b") for name, number in others)]

    # -- what happens --------------------------------------------------------------------------------------------------

    async def _fleet(self, number: int) -> None:
        random, world = self.world.random, self.world
        await asyncio.sleep(86400 * (number + 1 if world.chance(0.7) else random.uniform(0, self.days)))
        options = Options(
            TRAINING,
            "default",
            SCORING,
            max_active_jobs=random.randint(1, 5),
            poll_interval=random.choice((10.0, 60.0)),
            deadline=world.time() + TIMEOUT,
            on_failure=random.choice(("keep", "rollback")),
        )
        window = Window(day(number + 1), day(number))
        task = f"fleet{number}"
        items = {name: Item(name, {}, window) for name in self.names}
        fleet = Fleet(task, items, options, random.choice(((), (1,), (1, 3))), random.choice((0, 2, 0.5)))
        self.fleets[task] = fleet
        if options.on_failure == "rollback":
            self.backwards.add(task)
        for attempt in range(8):
            who = f"{task}#{attempt}"
            process, fleet.began = Process(world, who, f"{task}@0", self.faults.killed / 4), world.time()
            # An orderly shutdown of the worker, in some attempts.
            fleet.ends_at = world.time() + random.uniform(10, 3600) if world.chance(0.2) else float("inf")
            # As Airflow's `execution_timeout`: what is in flight is cancelled, and the next attempt begins it anew.
            interrupted = world.time() + random.uniform(10, 3600) if world.chance(0.1) else None
            fleet.options = replace(options, attempt_ends=interrupted)
            rows, error, dead = await attempted(process, self._attempt(fleet, self.network.client(process), process))
            world.note(who, f"ends: {'dead' if dead else error or {r.endpoint: r.outcome for r in rows}}")
            world.hold(error is None or error.retryable, f"{who} failed: {error}")
            if rows and all(row.outcome in DONE for row in rows):
                break
            await asyncio.sleep(random.uniform(1, 600))
        for row in fleet.recalled():
            self._check_row(fleet, row)

    async def _attempt(self, fleet: Fleet, client: AsyncClient, process: Process) -> list[Row]:
        rows, number = fleet.recalled(), 1
        while wave := next_wave(rows, fleet.waves, number):
            may_fail = allowed(fleet.threshold, len(wave))
            found = Trainers.find(client, fleet.options, lambda text: self.world.note(process.name, text[:160]))
            trainers = await client.perform(found)
            submitter = Submitter(client, trainers, lambda item, _: job_request(item.endpoint, item.window), 0)
            await submitter.prepare(wave, fleet.items, lambda: self._keep(fleet, process, rows), may_fail)
            await self._engine(fleet, client, process, rows, wave)
            self._check_wave(fleet, process, wave)
            if any(row.outcome is None for row in wave) or sum(row.outcome in BAD for row in wave) > may_fail:
                break
            number += 1
        return rows

    async def _engine(
        self, fleet: Fleet, client: AsyncClient, process: Process, rows: list[Row], wave: list[Row]
    ) -> None:
        async def save() -> None:
            kept = [row.to_json() for row in rows]
            await asyncio.sleep(self.world.random.uniform(0.0, self.saving))
            await process.step()
            fleet.rows = kept

        def say(text: str) -> None:
            self.world.note(process.name, text[:160])

        means = Means(client, lambda reference: reference, save, say, lambda: self.world.time() >= fleet.ends_at)
        await Engine(means, fleet.options, rows, wave, allowed(fleet.threshold, len(wave))).run()

    def _keep(self, fleet: Fleet, process: Process, rows: list[Row]) -> None:
        if process.is_alive:
            fleet.rows = [row.to_json() for row in rows]

    # -- what must hold ------------------------------------------------------------------------------------------------

    def _started(self, work: Work) -> None:
        fleet = self.fleets.get(work.by.split("@")[0])
        if fleet is not None:
            jobs = self.service.jobs.values()
            active = [job for job in jobs if job.by == work.by and job.is_started and not job.status.terminal]
            most = fleet.options.max_active_jobs
            self.world.hold(len(active) <= most, f"{fleet.task} has {len(active)} jobs at a time, and not {most}.")

    def _check_wave(self, fleet: Fleet, process: Process, wave: list[Row]) -> None:
        hold, now = self.world.hold, self.world.time()
        is_ended = now >= min(fleet.ends_at, fleet.options.attempt_ends or now + 1)
        hold(is_ended or all(row.outcome for row in wave), f"{process.name} ends, and not all of its wave.")
        ends = fleet.options.attempt_ends or now
        hold(now < ends + 2 * PATIENCE + 900, f"{process.name} goes on beyond its attempt's time.")
        late = max(fleet.options.deadline or 0, fleet.began)
        hold(now < late + 2 * PATIENCE + 900, f"{process.name} goes on beyond its deadline.")
        for row in wave:
            silent = (
                any(sign in row.reason for sign in ("No answer", "Busy.")) and "accepted the update" not in row.reason
            )
            hold(row.outcome is not Outcome.FAILED or not silent, f"{row.endpoint} failed by an outage: {row.reason}")
            cancelled = row.outcome is Outcome.FAILED and "was cancelled." in row.reason
            hold(not cancelled or "deadline" in row.reason, f"{row.endpoint} failed by its own fleet: {row.reason}")
            work = self.service.jobs.get(row.job_id or "")
            if row.outcome is Outcome.FAILED and not process.troubles and "deadline" not in row.reason:
                why = work is not None and work.status.value in row.reason
                slow = self.service.spread > PROOF and "accepted the update" in row.reason
                hold(why or slow or "failed" in row.reason, f"Without a fault {row.endpoint} failed: {row.reason}")

    def _check_row(self, fleet: Fleet, row: Row) -> None:
        if row.receipt is not None:
            self.check_receipt(row.receipt, f"{fleet.task}.{row.endpoint}")
