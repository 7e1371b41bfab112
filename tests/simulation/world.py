"""One clock, one scheduler, one source of chance: everything that a seed decides.

The clock stands still while anything can run, and then jumps to the next moment at which something is due. What runs
is the code of the package: its clients' verbs, its programs, the engine of a fleet. What it waits for (answers,
pauses) is a timer of this loop, so that the order of all steps follows from the seed.
"""

from __future__ import annotations

import asyncio
import random
import selectors
import uuid
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from airflow_provider_azureml_classic.client import retries
from airflow_provider_azureml_classic.fleet import engine
from airflow_provider_azureml_classic.retraining import freshness, placing, receipt, submitting

#: When each simulation begins, in seconds since 1970.
EPOCH = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
#: Lines of a trace.
_LINES = 80


class Violation(AssertionError):
    """Something happened that must never happen."""


class _Timers(selectors.SelectSelector):
    """Waits for nothing but time, and for that not at all."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        """The next moment."""
        if timeout is None:
            raise Violation("Nothing is due any more, and somebody waits.")
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only while nothing can run."""

    def __init__(self) -> None:
        self._timers = _Timers()
        super().__init__(self._timers)
        # Sums of long and short pauses differ in the last digits.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        """Seconds since the beginning."""
        return self._timers.now


class World:
    """What the parts of a simulation share.

    :param seed: decides everything.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)  # noqa: S311 - no secret
        self.loop = VirtualLoop()
        self.trace: deque[str] = deque(maxlen=_LINES)
        self._over: asyncio.Future[None] = self.loop.create_future()
        #: Messages delivered, faults made, processes killed: to see that a seed does something.
        self.counts: dict[str, int] = {}

    # -- the modules of `time`, `random` and `uuid`, for the package ---------------------------------------------------

    def time(self) -> float:
        """Seconds since 1970."""
        return EPOCH + self.loop.time()

    def monotonic(self) -> float:
        """Seconds since the beginning."""
        return self.loop.time()

    def uniform(self, low: float, high: float) -> float:
        """Jitter."""
        return self.random.uniform(low, high)

    def uuid4(self) -> uuid.UUID:
        """The next token."""
        return uuid.UUID(int=self.random.getrandbits(128), version=4)

    # ------------------------------------------------------------------------------------------------------------------

    def chance(self, share: float) -> bool:
        """Whether something of this probability happens."""
        return share > 0 and self.random.random() < share

    def count(self, name: str) -> None:
        """One more of them."""
        self.counts[name] = self.counts.get(name, 0) + 1

    def note(self, who: str, text: str) -> None:
        """A line of the trace."""
        day, seconds = divmod(self.loop.time(), 86400)
        moment = f"{int(seconds // 3600):02}:{int(seconds // 60 % 60):02}:{seconds % 60:06.3f}"
        self.trace.append(f"day {int(day):2} {moment}  {who:<22} {text}")

    def fail(self, text: str) -> None:
        """End the simulation: a promise is broken."""
        self.note("!", text)
        if not self._over.done():
            self._over.set_exception(Violation(text))

    def hold(self, condition: bool, text: str) -> None:
        """Fail unless a condition holds."""
        if not condition:
            self.fail(text)

    def later(self, seconds: float, call: Callable[[], object]) -> None:
        """Do something after a while, whoever is alive then."""
        self.loop.call_later(seconds, self._safely, call)

    def _safely(self, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception as error:
            self.note("!", f"{type(error).__name__}: {error}")
            if not self._over.done():
                self._over.set_exception(error)

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Run a simulation to its end."""
        try:
            with _instead_of_real_time(self):
                self.loop.run_until_complete(self._until_over(main))
        finally:
            self.loop.close()

    async def _until_over(self, main: Coroutine[Any, Any, None]) -> None:
        # What a violation cuts short has nobody who reads its end.
        self.loop.set_exception_handler(lambda *_: None)
        task = asyncio.ensure_future(main)
        await asyncio.wait({task, self._over}, return_when=asyncio.FIRST_COMPLETED)
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for other in rest:
            other.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        if self._over.done():
            self._over.result()
        task.result()


@contextmanager
def _instead_of_real_time(world: World) -> Iterator[None]:
    names = [
        (engine, "time"),
        (placing, "time"),
        (receipt, "time"),
        (submitting, "time"),
        (retries, "random"),
        (freshness, "uuid"),
    ]
    before = [getattr(module, name) for module, name in names]
    try:
        for module, name in names:
            setattr(module, name, world)
        yield
    finally:
        for (module, name), value in zip(names, before, strict=True):
            setattr(module, name, value)
