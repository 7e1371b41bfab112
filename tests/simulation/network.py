"""Processes that can die between any two steps, and a network that delays, loses, repeats and cuts their messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_azureml_classic.client.aio import AsyncClient
from airflow_provider_azureml_classic.client.integrity import whole
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, ServiceUnavailable
from airflow_provider_azureml_classic.protocol.messages import Request, Response
from tests.simulation.service import BASE, WORKSPACE, Service
from tests.simulation.world import World

#: Seconds of an answer that is said to be slow.
_SLOW = 10.0


@dataclass(frozen=True)
class Faults:
    """How often something goes wrong, each as a share of the calls.

    :param lost: the request, or only its answer, never arrives.
    :param late: the request arrives minutes after its caller has given it up.
    :param twice: the request arrives twice.
    :param refused: the service answers that it is busy, or a proxy that it timed out.
    :param cut: an answer of 200 comes without its body.
    :param killed: a step after which the process is dead.
    """

    lost: float = 0.0
    late: float = 0.0
    twice: float = 0.0
    refused: float = 0.0
    cut: float = 0.0
    killed: float = 0.0

    def times(self, factor: float) -> Faults:
        """More of the same."""
        return Faults(**{name: value * factor for name, value in vars(self).items()})


@dataclass
class Process:
    """What runs an attempt at a task. After its death it does nothing, though its last messages may still arrive.

    :param name: for traces, and what the service knows its caller by.
    :param task: the task that it is an attempt at.
    """

    world: World
    name: str
    task: str
    deadly: float = 0.0
    is_alive: bool = True
    #: Faults that it met: the call, and the fault; "answer" where the call was made and only its answer was lost.
    troubles: list[tuple[str, str]] = field(default_factory=list)
    died: asyncio.Event = field(default_factory=asyncio.Event)

    async def step(self) -> None:
        """Before and after whatever others can see."""
        if self.is_alive and self.world.chance(self.deadly):
            self.kill()
        if not self.is_alive:
            # Whatever the code does about it has no effect: a dead process sends and keeps nothing.
            raise asyncio.CancelledError

    def kill(self) -> None:
        """It ends here."""
        if self.is_alive:
            self.world.count("killed")
            self.world.note(self.name, "is killed")
            self.is_alive = False
            self.died.set()


class Network:
    """Between processes and the service.

    :param world: decides.
    :param service: answers.
    :param faults: how bad it is.
    :param slow: how many times as long as usual a message takes.
    """

    def __init__(self, world: World, service: Service, faults: Faults, slow: float = 1.0) -> None:
        self.world, self.service, self.faults, self.slow = world, service, faults, slow

    def client(self, process: Process) -> AsyncClient:
        """The real asynchronous client, on this network."""
        client = AsyncClient(BASE, WORKSPACE, "token")
        client._shared = _Session(self, process)  # type: ignore[assignment]
        return client

    async def send(self, process: Process, request: Request) -> Response:
        """Send a request, wait for its answer."""
        world, faults, chance = self.world, self.faults, self.world.chance
        world.count("messages")
        await process.step()
        answer: asyncio.Future[Response | None] = world.loop.create_future()
        latency = self._latency() * (20 if chance(0.02) else 1)
        fault = next(
            (name for name in ("lost", "late", "twice", "refused", "cut") if chance(getattr(faults, name))), ""
        )
        if fault:
            world.count(fault)
            world.note(process.name, f"{request.operation.name}: {fault}")
        if fault == "lost" and chance(0.5):
            fault = "answer"
        if fault:
            process.troubles.append((request.operation.name, fault))
        elif latency > _SLOW:
            process.troubles.append((request.operation.name, "slow"))
        deliver = self._delivery(process, request, answer)
        if fault == "late":
            world.later(world.random.uniform(30, 900), deliver)
        elif fault == "lost":
            pass
        elif fault == "refused":
            # A proxy that does not wait any longer says nothing about what becomes of the request.
            executed = chance(0.3)
            world.later(latency, deliver if executed else lambda: None)
            world.later(latency * 1.5, lambda: _set(answer, Response(504 if executed else 503, {}, b"Busy.")))
        else:
            world.later(latency, deliver)
        if fault == "twice":
            world.later(world.random.uniform(0.001, 0.4), deliver)
        if fault in ("lost", "late", "answer"):
            answer = world.loop.create_future()
        response = await self._awaited(answer, request)
        await process.step()
        if response is None:
            raise ServiceUnavailable("No answer (Simulated)", verb=request.operation.name, url=request.url)
        if fault == "cut" and response.status == 200:
            # Cut in its head, it has no length either.
            body = world.random.choice((b"", b"null", response.body[: len(response.body) // 2]))
            headers = response.headers if chance(0.5) or not request.operation.path else {}
            response = Response(200, headers, body)
        return whole(request, response)

    def _delivery(
        self, process: Process, request: Request, answer: asyncio.Future[Response | None]
    ) -> Callable[[], None]:
        def deliver() -> None:
            if self.service.is_down:
                process.troubles.append((request.operation.name, "down"))
                _set(answer, None)
                return
            response = self.service.handle(process.task, request)
            self.world.note(process.name, f"{request.operation.name} -> {response.status}")
            if self.service.is_down:
                return
            # An answer needs its time as well.
            self.world.later(self._latency(), lambda: _set(answer, response))

        return deliver

    def _latency(self) -> float:
        return self.world.random.uniform(0.001, 0.2) * self.slow

    async def _awaited(self, answer: asyncio.Future[Response | None], request: Request) -> Response | None:
        try:
            return await asyncio.wait_for(answer, request.timeout or 60)
        except TimeoutError:
            return None


def _set(answer: asyncio.Future[Any], value: Any) -> None:
    if not answer.done():
        answer.set_result(value)


class _Session:
    """What a client of :mod:`aiohttp` is in reality."""

    def __init__(self, network: Network, process: Process) -> None:
        self._network, self._process = network, process

    async def send(self, request: Request) -> Response:
        """Send and wait."""
        return await self._network.send(self._process, request)


async def attempted(process: Process, work: Any) -> tuple[Any, BaseException | None, bool]:
    """Run an attempt until it ends or its process dies: its result, its error, and whether it died."""
    task, death = asyncio.ensure_future(work), asyncio.ensure_future(process.died.wait())
    await asyncio.wait({task, death}, return_when=asyncio.FIRST_COMPLETED)
    death.cancel()
    if not process.is_alive:
        task.cancel()
        await asyncio.wait({task})
        return None, None, True
    error = task.exception()
    if error is not None and not isinstance(error, AzureMLClassicError):
        raise error
    return (task.result() if error is None else None), error, False
