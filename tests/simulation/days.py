"""A simulation: some days of retraining some endpoints, and what must hold after every step."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from airflow_provider_azureml_classic.protocol.jobs import JobStatus
from airflow_provider_azureml_classic.retraining.freshness import Window
from tests.simulation.network import Faults, Network, Process, attempted
from tests.simulation.service import LiveEndpoint, Model, Service
from tests.simulation.tasks import Retraining, day
from tests.simulation.world import World

#: Of a bad day; seeds have none of these faults, these, or several times as many.
FAULTS = Faults(lost=0.01, late=0.005, twice=0.01, refused=0.01, cut=0.005, killed=0.003)
ATTEMPTS = 5


class Simulation(Protocol):
    """One seed's."""

    world: World

    @property
    def hours(self) -> float:
        """Simulated so far."""

    def run(self) -> None:
        """Run it.

        :raises Violation: something happened that must not.
        """


class Days:
    """Retrainings of each day, which overlap, are late, and come in any order.

    :param seed: decides everything.
    """

    def __init__(self, seed: int) -> None:
        self.world = world = World(seed)
        choose = world.random.choice
        self.faults = FAULTS.times(choose((0, 1, 1, 4)))
        self.service = Service(world, tells=world.chance(0.8), spread=choose((0.0, 0.0, 30.0)))
        self.service.durations = choose(((5.0, 60.0), (600.0, 7200.0)))
        self.service.failures, self.service.likeness = choose((0.0, 0.1)), choose((0.0, 0.2))
        self.service.on_patch = self._patched
        self.network = Network(world, self.service, self.faults)
        self.days, self.names = world.random.randint(2, 6), [f"e{n}" for n in range(world.random.randint(1, 3))]
        self.receipts: list[dict[str, Any]] = []
        #: Tasks that may put an older model live.
        self.backwards: set[str] = set()

    @property
    def hours(self) -> float:
        """Simulated so far."""
        return self.world.loop.time() / 3600

    def run(self) -> None:
        """Run it.

        :raises Violation: something happened that must not.
        """
        self.world.run(self._main())

    async def _main(self) -> None:
        for name in self.names:
            self.service.add(name)
        tasks = [
            asyncio.ensure_future(self._retraining(name, number)) for name in self.names for number in range(self.days)
        ]
        outages = asyncio.ensure_future(self._outages())
        await asyncio.wait_for(asyncio.gather(*tasks), (self.days + 5) * 86400)
        outages.cancel()
        self._check_jobs()

    # -- what happens --------------------------------------------------------------------------------------------------

    async def _outages(self) -> None:
        random = self.world.random
        while self.faults.lost:
            await asyncio.sleep(random.expovariate(1 / 43200))
            self.world.count("restarts")
            self.world.note("service", "stops")
            self.service.is_down = True
            await asyncio.sleep(random.choice((2.0, 30.0, 900.0)))
            self.service.is_down = False
            self.service.restart()
            self.world.note("service", "is back")

    async def _retraining(self, name: str, number: int) -> None:
        random, world = self.world.random, self.world
        # Most begin after their day; backfills and late ones begin at any time.
        await asyncio.sleep(86400 * (number + 1 if world.chance(0.7) else random.uniform(0, self.days)))
        options = {"on_failure": random.choice(("keep", "rollback"))}
        run = Retraining(world, name, Window(day(number + 1), day(number)), options=options)
        task = f"{name}.day{number}"
        ticket = await self._attempts(f"{task}.train", run, lambda client, process: run.train(client, process))
        if ticket is None:
            return
        update = f"{task}.update"
        if options["on_failure"] == "rollback":
            self.backwards.add(update)
        result = await self._attempts(update, run, lambda client, process: run.update(client, process, ticket))
        if isinstance(result, dict):
            self._check_receipt(result, update)

    async def _attempts(self, task: str, run: Retraining, work: Any) -> Any:
        for attempt in range(ATTEMPTS):
            who = f"{task}#{attempt}"
            process = Process(self.world, who, f"{task}@{run.memory.epoch}", self.faults.killed)
            result, error, dead = await attempted(process, work(self.network.client(process), process))
            if not dead and error is None:
                self.world.note(who, f"ends: {result if isinstance(result, str) else 'success'}")
                return result
            self.world.note(who, f"ends: {error or 'dead'}")
            await asyncio.sleep(self.world.random.uniform(1, 600))
        return None

    # -- what must hold ------------------------------------------------------------------------------------------------

    def _patched(self, endpoint: LiveEndpoint, before: Model, who: str) -> None:
        now = endpoint.live
        older = (now.is_first and not before.is_first) or (now.end and before.end and now.end < before.end)
        # A service without entity tags cannot refuse what comes late.
        if older and self.service.tells and who.split("@")[0] not in self.backwards:
            self.world.fail(f"{endpoint.name} went back from {before.end} to {now.end}, by {who}.")

    def _check_jobs(self) -> None:
        ended = Counter(work.by for work in self.service.jobs.values() if work.status is JobStatus.FINISHED)
        for who, count in ended.items():
            self.world.hold(count == 1, f"{who} trained {count} times.")
        for work in self.service.jobs.values():
            self.world.hold(work.effects <= 1, f"Job {work.id} had {work.effects} effects.")

    def _check_receipt(self, receipt: dict[str, Any], task: str) -> None:
        hold, history = self.world.hold, self.service.endpoints[receipt["endpoint"]].history
        file = receipt["model"]["sha256"]
        places = [index for index, model in enumerate(history) if model.file == file]
        hold(bool(places), f"The receipt of {task} names a model that was never live.")
        if places:
            replaced = receipt["replaced"]["sha256"]
            before = {history[index - 1].file for index in places if index}
            hold(replaced in (None, *before), f"The receipt of {task} names another model as replaced than was live.")
            hold(replaced != file, f"The receipt of {task} says that its model replaced itself.")
        self.receipts.append(receipt)


#: By name.
SIMULATIONS: dict[str, Callable[[int], Simulation]] = {"days": Days}
