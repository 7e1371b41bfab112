"""Threads of servers on the virtual clock: the code as it is, one thread at a time, in an order that the seed decides.

A thread is a greenlet: where the code waits (for an event, a lock, the database) others run. A machine may stand still,
as in a long collection of garbage, and wake up as if no time had passed; it may die; its clocks are its own.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace, TracebackType
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet

from tests.simulation.world import World

#: Seconds for which a machine stands still, at most: several leases.
LONGEST = 40.0
#: The greenlet of the loop, to which a thread that waits goes back.
_hub: greenlet = getcurrent()


class Machine:
    """A process on a machine: threads that stand still and die together, and clocks of their own.

    :param world: the true time.
    :param name: for traces.
    :param skew: how wrong its wall clock is.
    :param rate: seconds of its monotonic clock in one true second.
    """

    def __init__(self, world: World, name: str, skew: timedelta = timedelta(), rate: float = 1.0) -> None:
        self.world, self.name, self.skew, self.rate = world, name, skew, rate
        self.is_alive, self.frozen_until = True, 0.0
        self.threads: list[Fiber] = []

    def clock(self) -> datetime:
        """What it takes the time to be."""
        return datetime.fromtimestamp(self.world.time(), UTC) + self.skew

    def monotonic(self) -> float:
        """Seconds since something."""
        return self.world.loop.time() * self.rate

    def run(self, function: Callable[..., object], *arguments: Any) -> None:
        """Begin a thread, unless the machine is dead."""
        if self.is_alive:
            self.threads = [thread for thread in self.threads if not thread.dead]
            thread = Fiber(self, function, arguments)
            self.threads.append(thread)
            self.world.later(0.0, thread.go_on)

    def freeze(self, seconds: float) -> None:
        """Stand still."""
        self.world.count("frozen")
        self.world.note(self.name, f"stands still for {seconds:.1f} s")
        self.frozen_until = self.world.loop.time() + seconds

    def kill(self) -> None:
        """End all threads where they are."""
        self.is_alive = False
        for thread in self.threads:
            if not thread.dead and thread is not getcurrent():
                thread.throw(GreenletExit)


class Fiber(greenlet):
    """A thread of a machine."""

    def __init__(self, machine: Machine, function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        super().__init__(lambda: function(*arguments), _hub)
        self.machine, self.turn = machine, 0

    def go_on(self, turn: int = 0) -> None:
        """Called by the loop: take the next step, once the machine runs."""
        if self.dead or turn != self.turn:
            return
        if (left := self.machine.frozen_until - self.machine.world.loop.time()) > 0:
            self.machine.world.later(left, lambda: self.go_on(turn))
            return
        self.turn += 1
        self.switch()


def current() -> Fiber:
    """The thread that runs."""
    thread = getcurrent()
    assert isinstance(thread, Fiber)
    return thread


def park(seconds: float | None) -> None:
    """Wait until somebody calls ``go_on`` with this turn of the thread, or for a while of its machine's clock."""
    thread = current()
    machine, turn = thread.machine, thread.turn
    if not machine.is_alive:
        # What a dead thread leaves behind, its `finally` blocks do not do.
        raise GreenletExit
    if seconds is not None:
        machine.world.later(max(0.0, seconds) / machine.rate, lambda: thread.go_on(turn))
    _hub.switch()
    if not machine.is_alive:
        raise GreenletExit


def sleep(seconds: float) -> None:
    """Wait."""
    park(seconds)


class Signal:
    """Threads that wait for something, and are told."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Fiber, int]] = []

    def wait(self, seconds: float | None) -> None:
        """Until told, or for so long."""
        thread = current()
        self._waiting.append((thread, thread.turn))
        park(seconds)

    def tell(self) -> None:
        """All of them."""
        waiting, self._waiting = self._waiting, []
        for thread, turn in waiting:
            thread.machine.world.later(0.0, lambda thread=thread, turn=turn: thread.go_on(turn))


class Event:
    """Of :mod:`threading`."""

    def __init__(self) -> None:
        self._is_set, self._signal = False, Signal()

    def is_set(self) -> bool:
        """Whether it is."""
        return self._is_set

    def set(self) -> None:
        """Set it."""
        self._is_set = True
        self._signal.tell()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for it."""
        if not self._is_set:
            self._signal.wait(timeout)
        return self._is_set


class Lock:
    """Of :mod:`threading`."""

    def __init__(self) -> None:
        self._is_held, self._signal = False, Signal()

    def __enter__(self) -> None:
        while self._is_held:
            self._signal.wait(None)
        self._is_held = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_held = False
        self._signal.tell()


class ThreadOfModule:
    """Of :mod:`threading`, for the package."""

    def __init__(self, target: Callable[[], object], name: str = "", daemon: bool = False) -> None:
        self._target, self._ended = target, Event()
        self._begun = False

    def start(self) -> None:
        """On the machine of whoever starts it."""
        self._begun = True
        current().machine.run(self._run)

    def _run(self) -> None:
        self._target()
        self._ended.set()

    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._begun and not self._ended.is_set()

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""
        self._ended.wait(timeout)


#: Instead of :mod:`threading`.
THREADING = SimpleNamespace(Event=Event, Lock=Lock, Thread=ThreadOfModule)


class Pool:
    """Of :mod:`concurrent.futures`: so many threads at a time."""

    def __init__(self, max_workers: int, thread_name_prefix: str = "") -> None:
        self._free, self._waiting, self._is_over = max_workers, deque[Callable[[], object]](), False

    def submit(self, function: Callable[[], object]) -> None:
        """Run it when there is room."""
        if self._is_over:
            raise RuntimeError("cannot schedule new futures after shutdown")
        self._waiting.append(function)
        self._begin()

    def _begin(self) -> None:
        while self._free and self._waiting:
            self._free -= 1
            current().machine.run(self._work, self._waiting.popleft())

    def _work(self, function: Callable[[], object]) -> None:
        try:
            function()
        finally:
            self._free += 1
            self._begin()

    def shutdown(self, wait: bool = True, cancel_futures: bool = False) -> None:
        """No more from now on."""
        self._is_over = True
        self._waiting.clear()


class Work:
    """What another process does, for so many seconds: a future of :mod:`concurrent.futures`."""

    def __init__(self, seconds: float, error: Exception | None) -> None:
        self._ends, self._error, self._signal = current().machine.world.loop.time() + seconds, error, Signal()
        self._is_cancelled = False

    def cancel(self) -> None:
        """Stop it."""
        self._is_cancelled = True
        self._signal.tell()

    def done(self, seconds: float) -> bool:
        """Whether it has ended after so long."""
        left = self._ends - current().machine.world.loop.time()
        if left > 0 and not self._is_cancelled:
            self._signal.wait(min(seconds, left))
        return self._is_cancelled or self._ends <= current().machine.world.loop.time()

    def result(self) -> None:
        """How it ended."""
        if self._is_cancelled:
            raise CancelledError
        if self._error:
            raise self._error


class Time:
    """Instead of :mod:`time`: each machine has its own."""

    @staticmethod
    def monotonic() -> float:
        """Of the machine whose thread asks."""
        thread = getcurrent()
        return thread.machine.monotonic() if isinstance(thread, Fiber) else -math.inf
