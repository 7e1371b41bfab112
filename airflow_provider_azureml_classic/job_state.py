"""What a task remembers of its job across retries: kept before the job is started, forgotten when the task succeeds.

The epoch tells a retry from a clear: Airflow leaves ``max_tries`` alone at a retry and raises it when a task is
cleared. Same epoch: take up the job again. Another one: the user wants a new job (seen on Airflow 3.3.2).
"""

from __future__ import annotations

import logging
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


class JobMemory:
    """The task state store of one task instance; on an Airflow without one (before 3.3) it remembers nothing.

    :param context: Airflow's task context.
    """

    def __init__(self, context: Mapping[str, Any]) -> None:
        self._store = context.get("task_state_store")
        self.epoch = int(getattr(context.get("ti"), "max_tries", 0) or 0)
        if self._store is None:
            log.warning("This Airflow has no task state store: a retry after a crash submits a new job.")

    def recall(self) -> JobState | None:
        """The job that an earlier attempt submitted."""
        kept = self._store.get(KEY) if self._store is not None else None
        if not isinstance(kept, Mapping) or not kept.get("job_id"):
            return None
        # Member by member: another version of this package may have kept others.
        return JobState(str(kept["job_id"]), kept.get("epoch", self.epoch), kept.get("deadline"))

    def keep(self, state: JobState) -> None:
        """Remember a job.

        :param state: what was submitted.
        """
        if self._store is not None:
            self._store.set(KEY, asdict(state))

    def forget(self) -> None:
        """The task succeeded, so that clearing it trains again."""
        if self._store is not None:
            self._store.delete(KEY)
