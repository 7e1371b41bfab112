"""A deadline that is counted from the end of a run's training window: "not live by 06:00".

Airflow counts its own deadlines from a run's logical date, which asset-triggered and partitioned runs do not have and
which is the *start* of an interval, or from when the run was queued. A model is as new as its data: what matters is how
long after the window's end it is live.

The process that makes a run counts: the api-server for a manual one, the scheduler for others. Both have to know this
class, by the plugin of this package. Where they do not, Airflow makes no run of such a DAG (seen on 3.3.2): "Custom
deadline reference class ... is not registered".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions.deadline import BaseDeadlineReference

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(eq=False)
class WindowEnd(BaseDeadlineReference):
    """The end of a run's training window, as the operators have it: the partition date, else the end of the data
    interval, else the moment when the run was due. A ``window_end`` that a task sets is not known when a run is made.

    For a ``DeadlineAlert``: ``DeadlineAlert(reference=WindowEnd(), interval=timedelta(hours=6), callback=...)``.
    """

    # Airflow's reference for runs, by name, as it calls this one with the same facts.
    required_kwargs = frozenset({"dag_id", "run_id"})

    def _evaluate_with(self, *, session: Any, dag_id: str, run_id: str, **kwargs: Any) -> datetime | None:
        """The moment, for Airflow; ``None``: no deadline is made.

        :param session: of Airflow's database.
        :param dag_id: of the run.
        :param run_id: of the run.
        :param kwargs: what later versions give.
        """
        # Airflow's database classes, which only the process that makes a run has.
        from airflow.models.dagrun import DagRun
        from sqlalchemy import select

        columns = (DagRun.partition_date, DagRun.data_interval_end, DagRun.run_after)
        row = session.execute(select(*columns).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)).one_or_none()
        return next((moment for moment in row or () if moment is not None), None)
