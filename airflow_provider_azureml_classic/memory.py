"""What a task remembers across its attempts: its job, before the job is started; its update, before the PATCH;
the rows of its fleet. Forgotten when the task succeeds.

The epoch tells a retry from a clear: Airflow leaves ``max_tries`` alone at a retry and raises it when a task is
cleared. Same epoch: take up the job again. Another one: the user wants a new job (seen on Airflow 3.3.2).

Keys and members are those of earlier versions: renaming one would lose what is under way during an upgrade.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from airflow.sdk.execution_time.xcom import XCom

from airflow_provider_azureml_classic.fleet.rows import Ledger, Row, chunks
from airflow_provider_azureml_classic.retraining.submitting import JobState as JobState

log = logging.getLogger(__name__)

#: Keys in Airflow's task state store. Those of a fleet's parts are keys of XComs as well.
KEY = "azureml_classic_job"
DEADLINE_KEY = "azureml_classic_deadline"
FLEET_KEY = "azureml_classic_fleet"
DOCTOR_KEY = "azureml_classic_doctor"


def state_of(ti: Any) -> str | None:
    """The state that Airflow has for a task instance now; ``None`` after a clear, before the task is scheduled again.

    :param ti: of a task's or a trigger's context.
    :raises LookupError: Airflow does not know it any more.
    """
    # Loaded in a worker and a triggerer anyway; to read a DAG file it is half of the Task SDK.
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    states = RuntimeTaskInstance.get_task_states(
        dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
    )
    key = ti.task_id if ti.map_index < 0 else f"{ti.task_id}_{ti.map_index}"
    state = states[ti.run_id][key]
    return None if state is None else str(getattr(state, "value", state))


class TaskStore:
    """Airflow's task state store of one task instance; on an Airflow without one (before 3.3) it remembers nothing.

    :param context: Airflow's task context.
    """

    def __init__(self, context: Mapping[str, Any]) -> None:
        self._store = context.get("task_state_store")
        self.epoch = int(getattr(context.get("ti"), "max_tries", 0) or 0)

    @property
    def lasts(self) -> bool:
        """Whether anything can be kept."""
        return self._store is not None

    def get(self, key: str) -> Any:
        """The value of a key; ``None`` if there is none.

        :param key: one of this module's.
        """
        return self._store.get(key) if self._store is not None else None

    def set(self, key: str, value: Any) -> None:
        """Keep a value in place of the one before.

        :param key: one of this module's.
        :param value: plain JSON, without secrets.
        """
        if self._store is not None:
            self._store.set(key, value)

    def delete(self, key: str) -> None:
        """Forget a value.

        :param key: one of this module's.
        """
        if self._store is not None:
            self._store.delete(key)


class TaskMemory:
    """One value of a task.

    :param context: Airflow's task context.
    :param key: under which it is kept.
    """

    def __init__(self, context: Mapping[str, Any], key: str) -> None:
        self._store, self._key = TaskStore(context), key
        self.epoch, self.lasts = self._store.epoch, self._store.lasts

    def recall(self) -> Mapping[str, Any] | None:
        """The value that an earlier attempt kept."""
        value = self._store.get(self._key)
        return value if isinstance(value, Mapping) else None

    def keep(self, value: Mapping[str, Any]) -> None:
        """Keep a value in place of the one before.

        :param value: plain JSON, without secrets.
        """
        self._store.set(self._key, dict(value))

    def forget(self) -> None:
        """The task succeeded, so that clearing it does its work again."""
        self._store.delete(self._key)


class Deadline:
    """When a wait in the triggerer ends. The task's own memory counts, not the event: it may be that of a trigger from
    before a clear, as Airflow on SQLite gives a new trigger the id of the deleted one.

    :param context: Airflow's task context.
    """

    def __init__(self, context: Mapping[str, Any]) -> None:
        self._memory = TaskMemory(context, DEADLINE_KEY)

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
    """The job of a task.

    :param context: Airflow's task context.
    """

    def __init__(self, context: Mapping[str, Any]) -> None:
        self._memory = TaskMemory(context, KEY)
        self.epoch = self._memory.epoch
        if not self._memory.lasts:
            log.warning("This Airflow has no task state store: a retry after a crash submits a new job.")

    def recall(self) -> JobState | None:
        """The job that an earlier attempt submitted."""
        value = self._memory.recall()
        if value is None or not value.get("job_id"):
            return None
        # Member by member: another version of this package may have kept others.
        return JobState(str(value["job_id"]), value.get("epoch", self.epoch), value.get("deadline"))

    def keep(self, state: JobState) -> None:
        """Remember a job.

        :param state: what was submitted.
        """
        self._memory.keep(asdict(state))

    def forget(self) -> None:
        """The task succeeded, so that clearing it trains again."""
        self._memory.forget()


def part_key(number: int) -> str:
    """Key of a part of a fleet's rows.

    :param number: from 0.
    """
    return f"{FLEET_KEY}_{number}"


def _rows(parts: Sequence[Any]) -> list[Row]:
    return [Row.from_json(data) for part in parts for data in part or []]


class FleetMemory:
    """The rows of a fleet across attempts: a key for every 25 endpoints.

    Measured on Airflow 3.3.2 with 1,000 endpoints: see ``docs/fleet.md``. One key for each endpoint costs as many calls
    of the execution API as there are endpoints; one key for all is over the size at which Airflow warns.

    :param context: Airflow's task context.
    """

    def __init__(self, context: Mapping[str, Any]) -> None:
        self._store = TaskStore(context)
        self.epoch = self._store.epoch
        self._parts = 0
        self._ledger: Ledger | None = None
        if not self._store.lasts:
            log.warning("This Airflow has no task state store: a retry after a crash begins the fleet anew.")

    def recall(self) -> tuple[list[Row], Mapping[str, Any]]:
        """The rows of earlier attempts, and the facts that :meth:`begin` kept."""
        head = self._store.get(FLEET_KEY)
        if not isinstance(head, Mapping):
            return [], {}
        self._parts = int(head.get("parts", 0))
        return _rows([self._store.get(part_key(number)) for number in range(self._parts)]), head

    def begin(self, rows: Sequence[Row], **facts: Any) -> None:
        """Remember which rows there are.

        :param rows: all of the fleet; later changes to them are kept by :meth:`keep`.
        :param facts: plain JSON that :meth:`recall` gives back.
        """
        self._ledger = Ledger(rows)
        self._parts = max(self._parts, self.keep())
        self._store.set(FLEET_KEY, {**facts, "parts": self._parts})

    def keep(self) -> int:
        """Remember the rows as they are now; returns how many parts were written."""
        changed = self._ledger.changed() if self._ledger is not None else []
        for number, part in changed:
            self._store.set(part_key(number), part)
        return len(changed)

    def forget(self) -> None:
        """The task succeeded, so that clearing it trains again."""
        for key in [FLEET_KEY, *(part_key(number) for number in range(self._parts))]:
            self._store.delete(key)


@dataclass(frozen=True)
class FleetXComs:
    """The rows of a fleet as XComs of its task, in which worker and trigger hand them to each other: a trigger cannot
    reach the task state store (Airflow 3.3.2).

    :param key: ``dag_id``, ``task_id``, ``run_id`` and ``map_index`` of the task.
    """

    key: Mapping[str, Any]

    @classmethod
    def of(cls, ti: Any) -> FleetXComs:
        """Those of a task instance.

        :param ti: of the task's context.
        """
        return cls({name: getattr(ti, name) for name in ("dag_id", "task_id", "run_id", "map_index")})

    def read(self, parts: int) -> list[Row]:
        """The rows.

        :param parts: how many XComs hold them.
        """
        return _rows([XCom.get_one(key=part_key(number), **self.key) for number in range(parts)])

    def write(self, parts: Iterable[tuple[int, list[dict[str, Any]]]]) -> None:
        """Write parts of the rows.

        :param parts: as :meth:`Ledger.changed` gives them.
        """
        for number, part in parts:
            XCom.set(key=part_key(number), value=part, **self.key)

    def delete(self, rows: Sequence[Row]) -> None:
        """The task succeeded: nobody needs the rows between worker and trigger any more.

        :param rows: all of the fleet.
        """
        for number, _ in chunks(rows):
            XCom.delete(key=part_key(number), **self.key)
