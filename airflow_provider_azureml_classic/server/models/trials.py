"""Processes in which models are tried before they are put in place, or asked without being put in place; one that takes
too long is killed.
"""

from __future__ import annotations

import json
import logging
import selectors
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.model_scoring import ModelAnswers
from airflow_provider_azureml_classic.protocol.rehearsal import Rehearsal
from airflow_provider_azureml_classic.server.experiments import trial
from airflow_provider_azureml_classic.server.experiments.trial import Question

log = logging.getLogger(__name__)

#: Seconds for a trial in all, on a machine that is busy: the processor's time is limited by the process itself.
TRIAL_SECONDS = 60.0
#: Seconds of a processor for a trial; of a large model some more.
CPU_SECONDS = 10
#: Trials at a time.
PROCESSES = 2
#: Questions at work or waiting: each has a thread of those that management calls have as well.
MOST_QUESTIONS = 12


class Trials:
    """Tries models, each in a process that is started when it is needed, and kept.

    :param size: trials at a time; others wait.
    :param cpu_seconds: of a processor, for each.
    """

    def __init__(self, size: int = PROCESSES, cpu_seconds: int = CPU_SECONDS) -> None:
        self._cpu_seconds = cpu_seconds
        self._places = threading.Semaphore(MOST_QUESTIONS)
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
        self._ask(Question(path))

    def ask(self, question: Question) -> ModelAnswers:
        """Ask a model.

        :param question: with the experiment that the model must be of.
        :raises RequestRejected: see :func:`~.trial.answered`.
        :raises ServiceUnavailable: ``TooManyConcurrentRequests``.
        """
        return ModelAnswers.from_wire(self._asked(question))

    def rehearse(self, question: Question) -> Rehearsal:
        """Ask two models the same.

        :param question: with the live model and its calls.
        :raises RequestRejected: see :func:`~.trial.answered`.
        :raises ServiceUnavailable: ``TooManyConcurrentRequests``.
        """
        return Rehearsal.from_json(self._asked(question))

    def _asked(self, question: Question) -> Any:
        if not self._places.acquire(blocking=False):
            text = f"This server is asking {MOST_QUESTIONS} models already that are on no endpoint. Try again."
            raise rejection("TooManyConcurrentRequests", text)
        try:
            return self._ask(question)
        finally:
            self._places.release()

    def _ask(self, question: Question) -> Any:
        with self._free:
            process = self._take()
            answer, refused = None, _ENDED
            try:
                answer, refused = _ask(process, question)
            except (OSError, ValueError):
                log.warning("the trial of a model ended with its process")
            finally:
                self._give_back(process, whole=refused is not _ENDED)
        if refused is not None:
            raise rejection(*refused)
        return answer

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


#: Code and message of what is wrong.
Refused = tuple[str, str] | None
_ENDED: Refused = (
    "ModelInvalid",
    f"The trained model cannot be used: its trial was ended, as it took more than {CPU_SECONDS} s or too much "
    "memory. Train it again, as a smaller model.",
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


def _ask(process: subprocess.Popen[str], question: Question) -> tuple[Any, Refused]:
    """What a process answers; ``ValueError`` if it says nothing."""
    if process.stdin is None or process.stdout is None:
        raise ValueError
    process.stdin.write(json.dumps(question.to_json()) + "\n")
    process.stdin.flush()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(TRIAL_SECONDS):
            raise ValueError
    answer, refused = json.loads(process.stdout.readline())
    return answer, tuple(refused) if refused else None


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
