"""A fleet in mapped parts that run at once in one process, as in a triggerer; what it asks, and what it keeps."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from airflow_provider_azureml_classic.fleet.engine import Engine, Means, Submitter
from airflow_provider_azureml_classic.fleet.options import Options
from airflow_provider_azureml_classic.fleet.rows import Item, Row
from airflow_provider_azureml_classic.fleet.trainers import Trainers
from airflow_provider_azureml_classic.memory import FleetMemory
from airflow_provider_azureml_classic.retraining.freshness import Window
from tests.simulation.network import Faults, Network, Process
from tests.simulation.service import SCORING, TRAINING, Service, Work
from tests.simulation.tasks import day, job_request
from tests.simulation.world import EPOCH, World

#: Jobs that all parts together have in flight at most.
MOST = 40
_END = EPOCH + 30 * 86400


@dataclass
class Part:
    """One mapped task.

    :param number: of the part.
    :param rows: of its endpoints.
    :param state: its task state store.
    """

    number: int
    rows: list[Row]
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def context(self) -> dict[str, Any]:
        """As far as its memory reads one."""
        state = self.state
        store = SimpleNamespace(get=state.get, set=state.__setitem__, delete=lambda key: state.pop(key, None))
        return {"ti": SimpleNamespace(max_tries=0), "task_state_store": store}


class Parts:
    """A fleet in parts, without faults.

    :param endpoints: of all parts together.
    :param parts: how many.
    :param there: endpoints of the web service that belong to no part.
    :ivar calls: answered calls by operation.
    :ivar active: the most jobs that were in flight at once.
    """

    def __init__(self, endpoints: int, parts: int, there: int = 0) -> None:
        self.world = World(1)
        self.service = Service(self.world)
        self.service.durations = 5.0, 60.0
        self.service.on_start = self._started
        for number in range(there):
            self.service.add(f"other{number}")
        names = [f"c{number:05}" for number in range(endpoints)]
        self.parts = [Part(number, [Row(name) for name in names[number::parts]]) for number in range(parts)]
        self.calls: Counter[str] = Counter()
        self.active, self._running = 0, list[Work]()
        handle = self.service.handle

        def counted(who: str, request: Any) -> Any:
            self.calls[request.operation.name] += 1
            return handle(who, request)

        self.service.handle = counted  # type: ignore[method-assign]

    def run(self) -> None:
        """Run all parts to their end."""
        self.world.run(self._main())

    def state_sizes(self) -> list[int]:
        """Bytes under each key of all task state stores."""
        return [len(json.dumps(value)) for part in self.parts for value in part.state.values()]

    def _started(self, work: Work) -> None:
        self._running = [one for one in self._running if not one.status.terminal and one is not work] + [work]
        self.active = max(self.active, len(self._running))

    async def _main(self) -> None:
        await asyncio.gather(*map(self._run, self.parts))

    async def _run(self, part: Part) -> None:
        window = Window(day(1), day(0))
        items = {row.endpoint: Item(row.endpoint, {}, window) for row in part.rows}
        for row in part.rows:
            row.window = window.to_json()
        memory, name = FleetMemory(part.context), f"part{part.number}"
        memory.begin(part.rows)
        network = Network(self.world, self.service, Faults())
        client = network.client(Process(self.world, name, name))
        options = Options(
            TRAINING, "default", SCORING, max_active_jobs=MOST // len(self.parts), poll_interval=10.0, deadline=_END
        )
        trainers = await client.perform(Trainers.find(client, options, print))
        submitter = Submitter(client, trainers, lambda item, _: job_request(item.endpoint, item.window), 0)
        await submitter.prepare(part.rows, items, memory.keep, 0)

        async def save() -> None:
            memory.keep()

        means = Means(client, lambda reference: reference, save, lambda _: None)
        await Engine(means, options, part.rows, part.rows, 0).run()
        memory.keep()
