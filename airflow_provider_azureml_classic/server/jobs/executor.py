"""The contract between jobs and what trains: work is submitted by references, polled and cancelled.

Training processes of this machine (:mod:`.processes`) and a Dask cluster (:mod:`.dask`) both stand behind it, and
either gives the same graph for the same data: they call the same function.
"""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from airflow_provider_azureml_classic.exceptions import ServiceUnavailable
from airflow_provider_azureml_classic.server.storage.locations import Location, naming


@dataclass(frozen=True)
class Input:
    """A file that work reads: a reference to it, which whoever does the work follows.

    :param path: where it lies on this machine, or is to lie; its extension says how it is read.
    :param location: where it comes from; ``None``: it lies at the path already.
    :param name: of the job's input, for messages.
    """

    path: Path
    location: Location | None = None
    name: str = ""

    def fetch(self) -> Path:
        """Let it lie at its path.

        :raises AzureMLClassicError: it cannot be read; the message names the input.
        """
        if self.location is not None:
            with naming(self.name):
                self.location.fetch(self.path)
        return self.path


@dataclass(frozen=True)
class Output:
    """A file that work may write.

    :param path: where it lies on this machine afterwards.
    """

    path: Path


def at_hand(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of work that is done on this machine: paths, with what is to be read there.

    :param arguments: as they were submitted.
    :raises AzureMLClassicError: see :meth:`Input.fetch`.
    """

    def path(argument: Any) -> Any:
        if isinstance(argument, Input):
            return argument.fetch()
        return argument.path if isinstance(argument, Output) else argument

    return tuple(path(argument) for argument in arguments)


def patiently(location: Location, act: Callable[[], None], again: Callable[[ServiceUnavailable], None]) -> None:
    """Read or write what a training made: a store that is away for a moment costs no training.

    :param location: whose patience it is.
    :param act: reads or writes it.
    :param again: waits before the next attempt; may raise.
    :raises ServiceUnavailable: the store is away for longer.
    """
    ends = time.monotonic() + location.patience
    while True:
        try:
            act()
            return
        except ServiceUnavailable as error:
            if time.monotonic() >= ends:
                raise
            again(error)


class Task(Future[Any]):
    """A future that can be cancelled while its work runs: the work is stopped, and :meth:`result` raises
    ``CancelledError`` soon.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._stop: Callable[[], object] | None = None
        self.stopped = False

    def cancel(self) -> bool:
        """Stop the work; ``False`` if it has ended."""
        if super().cancel():
            return True
        with self._lock:
            if self.done():
                return False
            self.stopped = True
            if self._stop:
                self._stop()
        return True

    def stop_with(self, stop: Callable[[], object] | None) -> None:
        """Say what stops the work from now on.

        :param stop: called at most once at a time, and at once if the task was cancelled already; ``None`` when the
            work has let go of what would be stopped.
        """
        with self._lock:
            self._stop = stop
            if self.stopped and stop:
                stop()


class Engine(Protocol):
    """What trains, somewhere else than in this process."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        """Begin a piece of work, or let it wait for its turn.

        :param function: what to call: one of this package, at the head of its module.
        :param arguments: with what: plain values, :class:`Input` and :class:`Output`.
        :return: the work; its result is what the function returns or raises, or ``CancelledError``, or
            ``BrokenExecutor``: what did it died.
        """

    def poll(self, work: Future[Any], seconds: float) -> bool:
        """Whether the work has ended.

        :param work: of :meth:`submit`.
        :param seconds: to wait for that.
        """

    def cancel(self, work: Future[Any]) -> bool:
        """Stop the work, which ends within two seconds wherever it is done; ``False``: it has ended.

        :param work: of :meth:`submit`.
        """


class TaskExecutor:
    """Carries out each piece of work from a thread of its own; how is :meth:`run`'s.

    :param size: pieces of work at a time; the others wait in order.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="work")
        self.closed = False

    @abstractmethod
    def run(self, task: Task, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """Carry out one piece of work and return its result.

        :param task: is told what stops the work.
        :param function: what to call, in another process.
        :param arguments: with what.
        :raises BrokenExecutor: the process is gone.
        """

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        """See :class:`Engine`.

        :raises BrokenExecutor: the server is stopping.
        """
        task = Task()
        try:
            self._threads.submit(self._carry_out, task, function, arguments)
        except RuntimeError:
            raise BrokenExecutor("the training processes have ended") from None
        return task

    def poll(self, work: Future[Any], seconds: float) -> bool:
        """See :class:`Engine`."""
        return bool(wait([work], seconds).done)

    def cancel(self, work: Future[Any]) -> bool:
        """See :class:`Engine`."""
        return work.cancel()

    def _carry_out(self, task: Task, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        if not task.set_running_or_notify_cancel():
            return
        try:
            if self.closed:
                raise BrokenExecutor("the training processes have ended")
            result = self.run(task, function, arguments)
        except BaseException as error:
            task.set_exception(CancelledError() if task.stopped else error)
        else:
            task.set_result(result)

    def close(self) -> None:
        """End; what is being done is lost, and is done again at the next start."""
        self.closed = True
        # What waits is not dropped, but told: somebody may be waiting for its result.
        self._threads.shutdown(wait=False)
