"""The worker processes in which models are trained.

Behind ``concurrent.futures.Executor``, so that another executor can take its place.
"""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

log = logging.getLogger(__name__)

_PRELOADED = ["airflow_provider_azureml_classic.server.experiments.preload"]


class Workers:
    """A pool of processes that is made anew when one of them died.

    Workers fork from a server process that has the libraries loaded already, so that each starts at once and they
    share that memory.

    :param size: number of processes.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(_PRELOADED)
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None
        self._closed = False

    def __call__(self) -> Executor:
        """The executor to submit to.

        :raises BrokenExecutor: the server is stopping.
        """
        with self._lock:
            if self._closed:
                raise BrokenExecutor("the training processes have ended")
            if self._pool is not None and _is_broken(self._pool):
                log.warning("a training process died; starting new ones")
                self._pool.shutdown(wait=False, cancel_futures=True)
                self._pool = None
            if self._pool is None:
                self._pool = ProcessPoolExecutor(self._size, mp_context=self._context, initializer=_prepare)
            return self._pool

    def close(self) -> None:
        """End the processes; what they are doing is lost, and is done again at the next start."""
        with self._lock:
            pool, self._pool, self._closed = self._pool, None, True
        if pool is not None:
            processes = list((pool._processes or {}).values())
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.terminate()
            pool.shutdown(wait=True)


def _is_broken(pool: ProcessPoolExecutor) -> bool:
    try:
        pool.submit(_nothing)
    except BrokenProcessPool:
        return True
    return False


def _nothing() -> None:
    """Prove that the pool takes work."""


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
