"""A task that is ended from outside while it waits in the worker: by a person, or by what runs the worker.

Airflow calls ``on_kill`` in both cases, in a signal handler. If the code that was interrupted just talks to the
supervisor (an XCom, a connection, the task state store), whatever the handler asks of Airflow waits for ever (seen on
3.3.2). So the handler sets a flag, and the wait, which looks at it in every pause, goes on from there:

Rule 1: the task asks for its own state. ``running``: nobody wants it to end, its machine does. What it waits for goes
on, and the next attempt takes it up. Ended or cleared by a person: what it waits for is cancelled.
Rule 2: an answer that does not come within :data:`PATIENCE` counts as ``running``: the supervisor ends a task whose
server it cannot reach, and kills it after 5 s.
Rule 3: the attempt fails in a way that may be retried. Airflow keeps the state that a person has set.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from airflow.sdk.exceptions import AirflowException, AirflowTaskTimeout

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError
from airflow_provider_azureml_classic.memory import state_of

#: Seconds that the answer to the question for the own state may take.
PATIENCE = 2.0
#: Seconds between two looks at the flag.
STEP = 0.5
#: States that only a person gives to a running task; ``None`` is a cleared one.
BY_A_PERSON = frozenset({"failed", "success", "skipped", "restarting", None})


class TaskEnded(AirflowException):
    """The task is ended from outside; raised once, from a pause."""

    def __init__(self) -> None:
        super().__init__("The task was ended from outside (SIGTERM). Its next attempt goes on from here.")


class Ending:
    """Whether a task is ended from outside."""

    def __init__(self) -> None:
        self.asked = False
        self._raised = False

    def check(self) -> None:
        """Raise if the task is ended; what has to be done at its end may pause again.

        :raises TaskEnded: at the first call after ``on_kill``.
        """
        if self.asked and not self._raised:
            self._raised = True
            raise TaskEnded

    def sleep(self, seconds: float) -> None:
        """A pause that ends with the task.

        :param seconds: how long.
        :raises TaskEnded: see :meth:`check`.
        """
        until = time.monotonic() + seconds
        self.check()
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, STEP))
            self.check()


@contextmanager
def ends(ending: Ending, outcome: Callable[[], str], cancel: Callable[[], object]) -> Iterator[None]:
    """What becomes of the jobs of a task that is ended from outside, or by ``execution_timeout``.

    :param ending: of the task.
    :param outcome: does what a task that is ended from outside has to do, and tells it as a sentence.
    :param cancel: cancels the jobs.
    """
    try:
        yield
    except (AzureMLClassicError, AirflowException):
        if not ending.asked:
            raise
        raise AirflowException(outcome()) from None
    except AirflowTaskTimeout:
        cancel()
        raise


def ended_by_a_person(ti: Any) -> str | None:
    """How a person has ended the task, as the end of a sentence; ``None``: it was not a person.

    :param ti: of the task's context.
    """
    states: list[str | None] = []

    def ask() -> None:
        with suppress(Exception):  # rule 2: whatever goes wrong with the question says nothing
            states.append(state_of(ti))

    # A thread of its own: the call cannot be given a time-out, and the supervisor repeats it for minutes.
    thread = threading.Thread(target=ask, daemon=True, name="azureml-classic-own-state")
    thread.start()
    thread.join(PATIENCE)
    if not states or states[0] not in BY_A_PERSON:
        return None
    return "cleared" if states[0] in ("restarting", None) else f"marked {states[0]}"
