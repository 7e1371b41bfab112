"""The endpoints of a web service as partitions of one asset: a DAG that waits for some of them, and for no others.

A DAG with ``PartitionedAssetTimetable`` has one run for each partition key of an event. By itself that is a run for
each endpoint that is updated. :class:`OnlyEndpoints` leaves out those that a DAG does not name: Airflow then makes no
run, and writes nothing. (Airflow's ``AllowedKeyMapper`` is no such filter: each other key is an error in the audit log,
and a traceback in the log of the api-server; seen on 3.3.2.)

The class is registered by the plugin of this package, and must be known where events are recorded and runs are made: in
the api-server, the scheduler and the dag-processor. Restart them after the package is installed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from airflow.partition_mappers.base import PartitionMapper


class OnlyEndpoints(PartitionMapper):
    """Keeps the partition keys that are named; any other starts nothing.

    For a ``PartitionedAssetTimetable``, as ``default_partition_mapper`` or in ``partition_mapper_config``.

    :param endpoints: names of endpoints, or whatever the keys are.
    :param max_downstream_keys: as of Airflow's mappers.
    :raises ValueError: no name, or a text in place of a list of names.
    """

    def __init__(self, endpoints: Iterable[str], *, max_downstream_keys: int | None = None) -> None:
        super().__init__(max_downstream_keys=max_downstream_keys)
        if isinstance(endpoints, str):
            raise ValueError(f"endpoints is {endpoints!r}; it must be a list of names.")
        self.endpoints = frozenset(endpoints)
        if not self.endpoints:
            raise ValueError("endpoints is empty: such a DAG would never run.")

    def to_downstream(self, key: str) -> Iterable[str]:
        """The key itself, or nothing.

        :param key: of an event.
        """
        return [key] if key in self.endpoints else []

    def serialize(self) -> dict[str, Any]:
        """For Airflow's database, in an order that does not change."""
        return {"endpoints": sorted(self.endpoints), "max_downstream_keys": self.max_downstream_keys}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> OnlyEndpoints:
        """The mapper that :meth:`serialize` wrote.

        :param data: what it wrote.
        """
        return cls(data["endpoints"], max_downstream_keys=data.get("max_downstream_keys"))
