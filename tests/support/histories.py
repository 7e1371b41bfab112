"""What clients asked, when, and what they were told; and whether there is one order in which all of it can be true.

Each thing that is changed and read (the model of an endpoint, a blob, a key) is a register. Its history is *one order*
if each call can be given a moment between its beginning and its end, such that each read tells what the last write
before it wrote (linearizability; searched as by Wing and Gong, with states that were seen remembered). A write that was
not answered may have happened or not, at the latest a while after its client gave up.
"""

from __future__ import annotations

import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

#: Seconds after which a write that was not answered has happened, or never will.
LATE = 2.0
#: A value that nobody was told.
UNTOLD = object()
WRITE, READ, WEAK = "write", "read", "weak read"


@dataclass(eq=False)
class Call:
    """One call of one client.

    :param kind: of the three.
    :param register: what it is about.
    :param value: what was written; what was read, once it was answered.
    :param server: which was asked.
    :param invoked: when it began.
    :param returned: when it was answered; of a write that was not, when it has happened at the latest.
    :param answered: whether it was.
    """

    kind: str
    register: Hashable
    value: Any
    server: str
    invoked: float
    returned: float = math.inf
    answered: bool = False

    def __str__(self) -> str:
        """For messages."""
        told = "" if self.answered else ", not answered"
        return f"{self.kind} {self.value!r} through {self.server} [{self.invoked:.3f}, {self.returned:.3f}]{told}"


class Unanswered(Exception):
    """What was asked may have happened, or not."""


class Unreached(Unanswered):
    """Nobody was there to ask: it has not happened."""


class Refused(Exception):
    """It has not happened."""


@dataclass
class History:
    """Calls of all clients.

    :param clock: gives seconds.
    """

    clock: Callable[[], float] = time.monotonic
    calls: list[Call] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def call(self, kind: str, register: Hashable, server: str, value: Any = None) -> Iterator[Call]:
        """Note one call; a block that raises nothing was answered. Of a read, set its value."""
        made = Call(kind, register, value, server, self.clock())
        try:
            yield made
        except Refused as error:
            if kind == WRITE:
                return
            raise AssertionError(f"{register} could not be read: {error.__cause__}") from error
        except Unanswered as error:
            made.returned = self.clock() + LATE
            if kind == WRITE and not isinstance(error, Unreached):
                self.add(made)
            raise
        made.returned, made.answered = self.clock(), True
        self.add(made)

    def add(self, call: Call) -> None:
        """Note a call that has ended."""
        with self._lock:
            self.calls.append(call)

    def forget(self) -> int:
        """Drop what was noted; how many calls it was."""
        with self._lock:
            forgotten = len(self.calls)
            self.calls.clear()
        return forgotten

    def check(
        self, first: Callable[[Hashable], Any], stale: float, seen: Callable[[Any], Any] = lambda value: value
    ) -> None:
        """Fail where there is no such order.

        :param first: gives the value of a register before the first call.
        :param stale: seconds for which a weak read through a server may miss what was written through another one.
        :param seen: gives what a weak read tells of a value.
        """
        registers = defaultdict(list)
        for call in self.calls:
            registers[call.register].append(call)
        for register, calls in registers.items():
            strong = [call for call in calls if call.kind != WEAK]
            if not one_order(strong, first(register)):
                raise AssertionError(f"{register}: no one order of\n" + told(strong))
            writes = [replace(call, value=seen(call.value)) for call in strong if call.kind == WRITE]
            for read in calls:
                if read.kind == WEAK and not was_live(read, writes, seen(first(register)), stale):
                    raise AssertionError(f"{register}: {read} told what was never live then:\n" + told(strong))


def told(calls: Iterable[Call]) -> str:
    """One line a call."""
    return "\n".join(map(str, sorted(calls, key=lambda call: call.invoked)))


def one_order(calls: list[Call], first: Any) -> bool:
    """Whether calls of one register can have happened one after the other.

    :param calls: reads, and writes that were answered or not.
    :param first: the value before.
    """
    read = {call.value for call in calls if call.kind == READ}
    # What was not answered and never read may as well not have happened.
    calls = [call for call in calls if call.answered or call.value in read or call.value is UNTOLD]
    calls.sort(key=lambda call: call.invoked)
    # What somebody was told, or what was there, is not what somebody else was not told.
    untold = read - {first} - {call.value for call in calls if call.kind == WRITE}
    needed = sum(1 << number for number, call in enumerate(calls) if call.answered)
    begun: list[tuple[int, Any]] = [(0, first)]
    seen = {(0, first)}
    while begun:
        done, state = begun.pop()
        if done & needed == needed:
            return True
        for step in _steps(calls, done, state, untold):
            if step not in seen:
                seen.add(step)
                begun.append(step)
    return False


def _steps(calls: list[Call], done: int, state: Any, untold: set[Any]) -> Iterator[tuple[int, Any]]:
    """What may have happened next, and the value after it."""
    left = [(number, call) for number, call in enumerate(calls) if not done >> number & 1]
    until = min(call.returned for _, call in left if call.answered)
    now = max((call.invoked for number, call in enumerate(calls) if done >> number & 1), default=-math.inf)
    for number, call in left:
        if call.invoked > until:
            return
        if call.returned < now:
            continue
        if call.kind == WRITE or state == call.value or (state is UNTOLD and call.value in untold):
            yield done | 1 << number, call.value


def was_live(read: Call, writes: list[Call], first: Any, stale: float) -> bool:
    """Whether what was read can have been the value at some moment of the call, or not long before it.

    :param read: the call.
    :param writes: of its register, with what a weak read tells of each.
    :param first: the value before.
    :param stale: see :meth:`History.check`.
    """
    ends = [call.returned for call in writes if call.value == read.value and call.invoked <= read.returned]
    if first == read.value:
        ends.append(-math.inf)

    def is_over(end: float) -> bool:
        return any(
            call.answered
            and call.invoked > end
            and call.returned < read.invoked - (0.0 if call.server == read.server else stale)
            for call in writes
        )

    return any(not is_over(end) for end in ends)
