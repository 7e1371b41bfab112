"""What a task remembers across retries: of its job, kept before the job is started, or of its update, kept before the
PATCH. Forgotten when the task succeeds.

The epoch tells a retry from a clear: Airflow leaves ``max_tries`` alone at a retry and raises it when a task is
cleared. Same epoch: take up the job again. Another one: the user wants a new job (seen on Airflow 3.3.2).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

log = logging.getLogger(__name__)

#: Key in Airflow's task state store. Renaming it would lose the jobs that are under way during an upgrade.
KEY = "azureml_classic_job"


@dataclass(frozen=True)
class JobState:
    """A submitted job.

    :param job_id: 32 hex digits.
    :param epoch: ``max_tries`` of the task instance at the time.
    :param deadline: seconds since 1970 until which it is waited for; ``None``: for ever.
    """

    job_id: str
    epoch: int
    deadline: float | None = None


class TaskMemory:
    """The task state store of one task instance; on an Airflow without one (before 3.3) it remembers nothing.

    :param context: Airflow's task context.
    :param key: under which the task keeps its one value.
    """

    def __init__(self, context: Mapping[str, Any], key: str) -> None:
        self._store = context.get("task_state_store")
        self._key = key
        self.epoch = int(getattr(context.get("ti"), "max_tries", 0) or 0)

    @property
    def lasts(self) -> bool:
        """Whether anything can be kept."""
        return self._store is not None

    def recall(self) -> Mapping[str, Any] | None:
        """What an earlier attempt kept."""
        value = self._store.get(self._key) if self._store is not None else None
        return value if isinstance(value, Mapping) else None

    def keep(self, value: Mapping[str, Any]) -> None:
        """Keep a value in place of the one before.

        :param value: plain JSON, without secrets.
        """
        if self._store is not None:
            self._store.set(self._key, dict(value))

    def forget(self) -> None:
        """The task succeeded, so that clearing it does its work again."""
        if self._store is not None:
            self._store.delete(self._key)


class Deadline:
    """When a wait in the triggerer ends. The task's own memory counts, not the event: it may be that of a trigger from
    before a clear, as Airflow on SQLite gives a new trigger the id of the deleted one.

    :param context: Airflow's task context.
    """

    def __init__(self, context: Mapping[str, Any]) -> None:
        self._memory = TaskMemory(context, "azureml_classic_deadline")

    def begin(self, seconds: float) -> float:
        """The deadline of a wait that begins now, in seconds since 1970.

        :param seconds: allowed.
        """
        deadline = time.time() + seconds
        self._memory.keep({"deadline": deadline})
        return deadline

    def resume(self, event: Mapping[str, Any]) -> float:
        """The deadline of the wait that goes on.

        :param event: of the trigger, for an Airflow without a task state store.
        """
        return float((self._memory.recall() or event)["deadline"])

    def forget(self) -> None:
        """The wait is over."""
        self._memory.forget()


class JobMemory:
    """What a task remembers of its job.

    :param context: Airflow's task context.
    """

    def __init__(self, context: Mapping[str, Any]) -> None:
        self._memory = TaskMemory(context, KEY)
        self.epoch = self._memory.epoch
        if not self._memory.lasts:
            log.warning("This Airflow has no task state store: a retry after a crash submits a new job.")

    def recall(self) -> JobState | None:
        """The job that an earlier attempt submitted."""
        kept = self._memory.recall()
        if kept is None or not kept.get("job_id"):
            return None
        # Member by member: another version of this package may have kept others.
        return JobState(str(kept["job_id"]), kept.get("epoch", self.epoch), kept.get("deadline"))

    def keep(self, state: JobState) -> None:
        """Remember a job.

        :param state: what was submitted.
        """
        self._memory.keep(asdict(state))

    def forget(self) -> None:
        """The task succeeded, so that clearing it trains again."""
        self._memory.forget()
