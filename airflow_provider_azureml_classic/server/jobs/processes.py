"""The processes of this machine in which models are trained.

Each is a ``ProcessPoolExecutor`` of one process, so that one that dies, or is killed because its job was cancelled,
takes nothing else with it: a pool of several processes fails everything that runs in it. (``pebble`` was tried: its
pool can stop one task, but is broken by the death of an idle process.)
"""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

from airflow_provider_azureml_classic.server.jobs.executor import Task, TaskExecutor, at_hand

log = logging.getLogger(__name__)

_PRELOADED = ["airflow_provider_azureml_classic.server.experiments.preload"]
#: How often work is begun whose process dies: once more, because it is often another's need of memory that killed it.
ATTEMPTS = 2
#: How often, beside that, the process that the others fork from may be lost to one piece of work. Killed, it closes its
#: socket some time before it can be told to be dead and is started again, so each time is waited for longer.
RESTARTS = 5
#: The exit code that ``multiprocessing`` gives a process whose end nobody told, as the one that it forked from is gone.
_UNTOLD = 255


class _NotItsOwn(BrokenExecutor):
    """Work was lost without the death of a process that it could have caused."""


class ProcessExecutor(TaskExecutor):
    """Training processes, started when they are needed.

    They fork from a server process that has the libraries loaded already, so that each starts at once and they share
    that memory.

    :param size: number of processes.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(_PRELOADED)
        self._lock = threading.Lock()
        self._idle: list[ProcessPoolExecutor] = []
        self._busy: list[ProcessPoolExecutor] = []

    def run(self, task: Task, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """Carry out one piece of work in a process; once more if the process dies.

        :param task: is told what stops the work.
        :param function: what to call.
        :param arguments: with what; inputs are fetched first.
        :raises BrokenExecutor: the process died again, or was stopped.
        """
        deaths = restarts = 0
        arguments = at_hand(arguments)
        while True:
            worker = self._take()
            try:
                return self._attempt(worker, task, function, arguments)
            except BrokenExecutor as error:
                if task.stopped or self.closed:
                    raise
                if isinstance(error, _NotItsOwn):
                    restarts += 1
                else:
                    deaths += 1
            finally:
                task.stop_with(None)
                self._release(worker)
            if deaths == ATTEMPTS:
                raise BrokenExecutor(
                    "The training process died, and so did a second one, perhaps for lack of memory: give the "
                    "server more, or start it with fewer --workers, then submit again."
                )
            if restarts > RESTARTS:
                raise BrokenExecutor(
                    "No training process could be started, perhaps for lack of memory or of processes: see the log of "
                    "the server, then submit again."
                )
            log.warning("a training process died; its work is started again")
            time.sleep(0.01 * 3**restarts if restarts else 0)

    def _attempt(
        self, worker: ProcessPoolExecutor, task: Task, function: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> Any:
        try:
            future = worker.submit(function, *arguments)
        except (BrokenExecutor, EOFError, ConnectionError) as error:
            raise _NotItsOwn(str(error)) from error
        processes = _processes(worker)
        # Only now is there a process to end.
        task.stop_with(partial(_kill, worker))
        if self.closed:
            # Its process began after close() had looked for processes to end, and close() waits for it.
            _kill(worker)
        try:
            return future.result()
        except BrokenExecutor as error:
            with self._lock:
                if self.closed:
                    raise
                # A thread of the worker reads exit codes too, and each can be read once. Behind the lock, because two
                # calls of shutdown() at a time, of which close() makes one, close the same pipe twice.
                worker.shutdown(wait=True)
            if any(process.exitcode == _UNTOLD for process in processes):
                raise _NotItsOwn(str(error)) from error
            raise

    def _take(self) -> ProcessPoolExecutor:
        with self._lock:
            if self.closed:
                raise BrokenExecutor("the training processes have ended")
            while self._idle and not _is_alive(self._idle[-1]):
                self._idle.pop().shutdown(wait=False)
            worker = self._idle.pop() if self._idle else self._new()
            self._busy.append(worker)
            return worker

    def _new(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, mp_context=self._context, initializer=_prepare)

    def _release(self, worker: ProcessPoolExecutor) -> None:
        with self._lock:
            self._busy.remove(worker)
            if _is_alive(worker) and not self.closed:
                self._idle.append(worker)
                return
        worker.shutdown(wait=False)

    def close(self) -> None:
        """End the processes; what they are doing is lost, and is done again at the next start."""
        super().close()
        with self._lock:
            workers = [*self._idle, *self._busy]
            self._idle.clear()
        for worker in workers:
            _kill(worker)
            worker.shutdown(wait=True, cancel_futures=True)


def _processes(worker: ProcessPoolExecutor) -> list[Any]:
    # Python 3.14 has kill_workers(); before, there is no public way to the process.
    return list((worker._processes or {}).values())


def _is_alive(worker: ProcessPoolExecutor) -> bool:
    processes = _processes(worker)
    return bool(processes) and all(process.is_alive() for process in processes)


def _kill(worker: ProcessPoolExecutor) -> None:
    for process in _processes(worker):
        with suppress(OSError):
            process.kill()


def _prepare() -> None:
    # Ctrl-C reaches the whole process group; the server decides when its workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_server, daemon=True).start()


def _end_with_server() -> None:
    """A worker whose server was killed would wait for work for ever."""
    server = multiprocessing.parent_process()
    if server is not None:
        multiprocessing.connection.wait([server.sentinel])
        os._exit(1)
