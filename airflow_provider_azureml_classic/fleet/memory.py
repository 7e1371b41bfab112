"""What a task remembers of its fleet across attempts: Airflow's task state store, a key for every 25 endpoints.

Measured on Airflow 3.3.2 with 1,000 endpoints: see ``docs/fleet.md``. One key for each endpoint costs as many calls of
the execution API as there are endpoints; one key for all is over the size at which Airflow warns.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_azureml_classic.fleet.rows import Ledger, Row

log = logging.getLogger(__name__)

#: Keys in Airflow's task state store and of XComs. Renaming them would lose what is under way during an upgrade.
KEY = "azureml_classic_fleet"


def part_key(number: int) -> str:
    """Key of a part of the rows.

    :param number: from 0.
    """
    return f"{KEY}_{number}"


class FleetMemory:
    """The task state store of one task instance; on an Airflow without one (before 3.3) it remembers nothing.

    :param context: Airflow's task context.
    """

    def __init__(self, context: Mapping[str, Any]) -> None:
        self._store = context.get("task_state_store")
        self.epoch = int(getattr(context.get("ti"), "max_tries", 0) or 0)
        self._parts = 0
        self._ledger: Ledger | None = None
        if self._store is None:
            log.warning("This Airflow has no task state store: a retry after a crash begins the fleet anew.")

    def recall(self) -> tuple[list[Row], Mapping[str, Any]]:
        """The rows of earlier attempts, and what was said with :meth:`begin`."""
        head = self._store.get(KEY) if self._store is not None else None
        if self._store is None or not isinstance(head, Mapping):
            return [], {}
        self._parts = int(head.get("parts", 0))
        kept = [self._store.get(part_key(number)) or [] for number in range(self._parts)]
        return [Row.from_json(data) for part in kept for data in part], head

    def begin(self, rows: Sequence[Row], **facts: Any) -> None:
        """Remember which rows there are.

        :param rows: all of the fleet; later changes to them are kept by :meth:`keep`.
        :param facts: plain JSON to be given back by :meth:`recall`.
        """
        self._ledger = Ledger(rows)
        parts = self.keep()
        self._parts = max(self._parts, parts)
        if self._store is not None:
            self._store.set(KEY, {**facts, "parts": self._parts})

    def keep(self) -> int:
        """Remember the rows as they are now; returns how many parts were written."""
        new = self._ledger.changed() if self._ledger is not None else []
        if self._store is not None:
            for number, part in new:
                self._store.set(part_key(number), part)
        return len(new)

    def forget(self) -> None:
        """The task succeeded, so that clearing it trains again."""
        if self._store is not None:
            for key in [KEY, *(part_key(number) for number in range(self._parts))]:
                self._store.delete(key)
