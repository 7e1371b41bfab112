"""An executor whose work can be stopped while it runs: the seam between jobs and the processes that train.

Training processes of this machine (:mod:`.processes`) and a Dask cluster (:mod:`.dask`) both stand behind it.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


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


class TaskExecutor(Executor):
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

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Start a piece of work.

        :param function: what to call, in another process.
        :raises BrokenExecutor: the server is stopping.
        """
        task = Task()
        try:
            self._threads.submit(self._carry_out, task, function, args)
        except RuntimeError:
            raise BrokenExecutor("the training processes have ended") from None
        return task

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
