"""A simulation: some days of retraining some endpoints, and what must hold after every step."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from airflow_provider_azureml_classic.client.aio import AsyncClient
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, JobFailed, UpdateNotProved
from airflow_provider_azureml_classic.protocol.jobs import JobStatus
from airflow_provider_azureml_classic.retraining.freshness import MODEL_PATH, Goal, Window
from tests.simulation.network import Faults, Network, Process, attempted
from tests.simulation.service import SCORING, LiveEndpoint, Model, Service
from tests.simulation.tasks import Retraining, day
from tests.simulation.world import World

#: Of a bad day; seeds have none of these faults, these, or several times as many.
FAULTS = Faults(lost=0.01, late=0.005, twice=0.01, refused=0.01, cut=0.01, killed=0.003)
ATTEMPTS = 5
#: Seconds for which a proof is waited for.
PROOF = 120.0
#: A place that users name, which each training of an endpoint writes to.
SHARED = "models/{endpoint}.ilearner"


class Days:
    """Retrainings of each day, which overlap, are late, are repeated and come in any order.

    :param seed: decides everything.
    """

    #: Seconds between two outages, on the average.
    calm = 43200.0

    def __init__(self, seed: int) -> None:
        self.world = world = World(seed)
        choose = world.random.choice
        self.faults = FAULTS.times(choose((0, 1, 1, 4)))
        self.service = Service(world, tells=world.chance(0.8), spread=choose((0.0, 0.0, 30.0, 300.0)))
        self.service.durations, self.timeout = choose(
            (((5.0, 60.0), 3600.0), ((600.0, 7200.0), 21600.0), ((600.0, 9000.0), 7200.0))
        )
        self.service.failures, self.service.likeness = choose((0.0, 0.1)), choose((0.0, 0.2))
        self.service.on_patch = self._patched
        self.network = Network(world, self.service, self.faults, choose((1.0, 1.0, 15.0)))
        self.days, self.names = world.random.randint(2, 6), [f"e{n}" for n in range(world.random.randint(1, 3))]
        self.poll = choose((30.0, 300.0))
        #: A backfill: all days are trained at once.
        self.at_once = world.chance(0.3)
        #: Receipts by task; ends of the windows of updates that succeeded, by endpoint.
        self.receipts: dict[str, dict[str, Any]] = {}
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
        runs = self._runs()
        outages = asyncio.ensure_future(
            outages_of(self.world, self.service, self.calm) if self.faults.lost else asyncio.sleep(0)
        )
        await asyncio.wait_for(asyncio.gather(*runs), (self.days + 5) * 86400)
        outages.cancel()
        check_jobs(self.world, self.service)

    def _runs(self) -> list[Awaitable[None]]:
        """Every retraining."""
        runs = [self._retraining(name, number, "") for name in self.names for number in range(self.days)]
        # The same window again, by another DAG, which may have the same schedule, or by hand.
        again = [(name, number) for name in self.names for number in range(self.days) if self.world.chance(0.2)]
        return [*runs, *(self._retraining(name, number, "b") for name, number in again)]

    # -- what happens --------------------------------------------------------------------------------------------------

    async def _retraining(self, name: str, number: int, again: str) -> None:
        random, world = self.world.random, self.world
        # Most begin after their day; late ones at any time, and those of a backfill nearly at once.
        late = random.uniform(0, 90) if self.at_once else 86400 * random.uniform(0, self.days)
        is_late = self.at_once or world.chance(0.5 if again else 0.3)
        await asyncio.sleep(late if is_late else 86400 * (number + 1))
        options = {"on_failure": random.choice(("keep", "keep", "rollback"))}
        # Of runs by hand the window ends at a moment with microseconds.
        end = day(number + 1) + timedelta(microseconds=random.choice((0, 123456)))
        # Users name places without a stamp, and some that are written again and again.
        path = random.choice(
            (MODEL_PATH, MODEL_PATH, "models/{endpoint}/{token}.ilearner", "models/{endpoint}.ilearner")
        )
        window, path = Window(end, day(number)), path if self.service.tells else MODEL_PATH
        run = Retraining(world, name, window, path, timeout=self.timeout, poll=self.poll, options=options)
        task = f"{name}.day{number}{again}"
        if world.chance(0.1):
            world.later(random.uniform(0, 7200), run.clear)
        ticket = await self._attempts(f"{task}.train", run, run.train)
        if ticket is None:
            return
        trained, epoch = self.service.jobs[ticket.job_id].by, run.memory.epoch
        world.hold(trained == f"{task}.train@{epoch}", f"{task} was cleared, and has the job of {trained}.")
        run.process = None
        if world.chance(0.2):
            # Somebody is asked whether he agrees.
            await asyncio.sleep(random.uniform(0, 7200))
        update = f"{task}.update"
        if options["on_failure"] == "rollback":
            self.backwards.add(update)

        def work(client: AsyncClient, process: Process) -> Awaitable[Any]:
            return run.update(client, process, ticket)

        result = await self._attempts(update, run, work)
        if isinstance(result, dict):
            self.check_receipt(result, update)
        if result is not None and self.service.tells:
            await self._check_fresh(name, Goal(trained_to=end), update)

    async def _attempts(
        self, task: str, run: Retraining, work: Callable[[AsyncClient, Process], Awaitable[Any]]
    ) -> Any:
        for attempt in range(ATTEMPTS):
            who = f"{task}#{attempt}"
            process = Process(self.world, who, f"{task}@{run.memory.epoch}", self.faults.killed)
            if task.endswith(".train"):
                run.process = process
            began = self.world.time()
            result, error, dead = await attempted(process, work(self.network.client(process), process))
            if not dead and error is None:
                self.world.note(who, f"ends: {result if isinstance(result, str) else 'success'}")
                return result
            self.world.note(who, f"ends: {error or 'dead'}")
            if isinstance(error, AzureMLClassicError):
                self._check_error(error, process, run, began)
            await asyncio.sleep(self.world.random.uniform(1, 600))
        return None

    # -- what must hold ------------------------------------------------------------------------------------------------

    def _patched(self, endpoint: LiveEndpoint, before: Model, who: str) -> None:
        now = endpoint.live
        older = (now.is_first and not before.is_first) or (
            now.end and before.end and (now.end, now.trained) < (before.end, before.trained)
        )
        # A service without entity tags cannot refuse what comes late.
        if older and self.service.tells and not (self._may_put_back(now) and before.by == who):
            self.world.fail(f"{endpoint.name} went back from {before.end} to {now.end}, by {who}.")

    def _may_put_back(self, model: Model) -> bool:
        """Whether who put a model live may have put an older one back."""
        return model.by.split("@")[0] in self.backwards

    def _check_error(self, error: AzureMLClassicError, process: Process, run: Retraining, began: float) -> None:
        """An attempt fails for a fault that it met, and for what that fault is."""
        text = f"{process.name} failed: {error}"
        if isinstance(error, JobFailed):
            return
        if isinstance(error, UpdateNotProved) and ".train" in process.task:
            return
        if error.detail_code == "ModelInvalid" and run.path == SHARED:
            # Another job has written to the same place since.
            return
        self.world.hold(error.retryable or isinstance(error, UpdateNotProved), text)
        if not (isinstance(error, UpdateNotProved) and self.service.spread > PROOF):
            self.world.hold(bool(process.troubles), f"Without a fault {text}")
            self.world.hold(process.troubles != [("patch_endpoint", "answer")], f"Though its update was made, {text}")
        live = self.service.endpoints[run.endpoint].live
        is_newer = live.end is not None and live.end >= run.window.end and live.by != process.task
        if isinstance(error, UpdateNotProved) and self.service.tells and is_newer and not self._may_put_back(live):
            self.world.hold(live.since > self.world.time() - 60, f"Overtaken, {text}")

    def check_receipt(self, receipt: dict[str, Any], task: str) -> None:
        """It tells what was live, and what before."""
        hold, history = self.world.hold, self.service.endpoints[receipt["endpoint"]].history
        file, trained = receipt["model"]["sha256"], self.service.jobs[receipt["job_id"]].model
        hold(trained is not None and file == trained.file, f"The receipt of {task} names another model than its job.")
        places = [index for index, model in enumerate(history) if model.file == file]
        hold(bool(places), f"The receipt of {task} names a model that was never live.")
        if places and self.service.tells:
            replaced, before = receipt["replaced"]["sha256"], [history[index - 1] for index in places if index]
            # A model does not replace itself: of one that was live already from another place nothing is said.
            is_itself = replaced is None and history[min(places) - 1].content == receipt["model"]["content"]
            true = is_itself or replaced in {one.file for one in before} - {file}
            hold(true, f"The receipt of {task} names another model as replaced than was live.")
        self.receipts[task] = receipt

    async def _check_fresh(self, name: str, goal: Goal, task: str) -> None:
        """An update that succeeded, or was not needed, is what a sensor waits for."""
        process = Process(self.world, f"{task}.sensor", task)
        client = self.network.client(process)
        for _ in range(ATTEMPTS):
            try:
                endpoint = await client.get_endpoint(SCORING, name)
            except AzureMLClassicError:
                await asyncio.sleep(300)
                continue
            fresh, text = goal.check(endpoint.resource(None), day(self.world.loop.time() / 86400))
            gone_back = any(map(self._may_put_back, self.service.endpoints[name].history))
            self.world.hold(fresh or gone_back, f"After {task} the endpoint is not fresh: {text}")
            return


async def outages_of(world: World, service: Service, calm: float) -> None:
    """The service stops, for a while, now and then."""
    while True:
        await asyncio.sleep(world.random.expovariate(1 / calm))
        world.count("restarts")
        world.note("service", "stops")
        service.is_down = True
        await asyncio.sleep(world.random.choice((2.0, 30.0, 900.0)))
        service.is_down = False
        service.restart()
        world.note("service", "is back")


def check_jobs(world: World, service: Service) -> None:
    """No task trained twice, and no job had two effects."""
    finished = (work for work in service.jobs.values() if work.status is JobStatus.FINISHED)
    for (who, name), count in Counter((work.by, work.request.global_parameters["for"]) for work in finished).items():
        world.hold(count == 1, f"{who} trained {count} times for {name}.")
    for work in service.jobs.values():
        world.hold(work.effects <= 1, f"Job {work.id} had {work.effects} effects.")
