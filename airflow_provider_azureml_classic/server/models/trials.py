"""Processes in which models are tried before they are put in place; one that takes too long is killed."""

from __future__ import annotations

import json
import logging
import selectors
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.server.experiments import trial

log = logging.getLogger(__name__)

#: Seconds for a trial in all, on a machine that is busy: the processor's time is limited by the process itself.
TRIAL_SECONDS = 60.0
#: Seconds of a processor for a trial; of a large model some more.
CPU_SECONDS = 10
#: Trials at a time.
PROCESSES = 2


class Trials:
    """Tries models, each in a process that is started when it is needed, and kept.

    :param size: trials at a time; others wait.
    :param cpu_seconds: of a processor, for each.
    """

    def __init__(self, size: int = PROCESSES, cpu_seconds: int = CPU_SECONDS) -> None:
        self._cpu_seconds = cpu_seconds
        self._free = threading.Semaphore(size)
        self._lock = threading.Lock()
        self._idle: list[subprocess.Popen[str]] = []
        self._busy: set[subprocess.Popen[str]] = set()
        self._closed = False

    def __call__(self, path: Path) -> None:
        """Try a model.

        :param path: its file.
        :raises RequestRejected: ``ModelInvalid``: the message says why it cannot be used.
        """
        with self._free:
            process = self._take()
            try:
                said = _ask(process, path)
            except (OSError, ValueError):
                said = _ENDED
                log.warning("the trial of a model ended with its process")
            finally:
                self._give_back(process, whole=said is not _ENDED)
        if said is not None:
            raise rejection("ModelInvalid", said)

    def _take(self) -> subprocess.Popen[str]:
        with self._lock:
            if self._closed:
                raise _stopping()
            process = self._idle.pop() if self._idle else _started(self._cpu_seconds)
            self._busy.add(process)
            return process

    def _give_back(self, process: subprocess.Popen[str], *, whole: bool) -> None:
        with self._lock:
            self._busy.discard(process)
            if whole and not self._closed:
                self._idle.append(process)
                return
        _end(process)

    def close(self) -> None:
        """End the processes."""
        with self._lock:
            self._closed = True
            idle, busy = self._idle, list(self._busy)
        for process in idle:
            _end(process)
        for process in busy:
            # Whoever waits for its answer is told, and closes what it has open.
            process.kill()


_ENDED = (
    f"The trained model cannot be used: its trial was ended, as it took more than {CPU_SECONDS} s or too much "
    "memory. Train it again, as a smaller model."
)


def _started(cpu_seconds: int) -> subprocess.Popen[str]:
    # Ctrl-C reaches the whole process group; the server decides when its processes end.
    return subprocess.Popen(  # noqa: S603 - this interpreter, with a module of ours
        [sys.executable, "-m", trial.__name__, str(cpu_seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _ask(process: subprocess.Popen[str], path: Path) -> str | None:
    """What a process says of a model; ``ValueError`` if it says nothing."""
    if process.stdin is None or process.stdout is None:
        raise ValueError
    process.stdin.write(json.dumps(str(path)) + "\n")
    process.stdin.flush()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(TRIAL_SECONDS):
            raise ValueError
    said: str | None = json.loads(process.stdout.readline())
    return said


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        # What was not written yet is lost with the process.
        with suppress(OSError):
            if stream:
                stream.close()


def _stopping() -> AzureMLClassicError:
    return rejection("NoMoreResources", "The server is stopping; try again.")
