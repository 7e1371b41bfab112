"""What a DAG run costs Airflow, by looking at its task instances again and again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from airflow_provider_azureml_classic.protocol.jobs import Job, JobStatus
from airflow_provider_azureml_classic.protocol.values import Endpoint

#: Of task instances that come to an end by themselves no more.
_ENDED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})


@dataclass
class Part:
    """A task instance, as it was seen.

    :param state: the last one.
    :param attempts: how many there were.
    :param workers: that ran it, in order; one twice if another came in between.
    :param held: seconds in which it held a slot of a worker.
    :param wall: seconds from its first attempt's start to its end.
    """

    state: str = ""
    attempts: int = 0
    workers: list[str] = field(default_factory=list)
    held: float = 0.0
    wall: float = 0.0


class Watch:
    """Looks at the task instances of a DAG run again and again."""

    def __init__(self) -> None:
        self.parts: dict[tuple[str, int], Part] = {}
        self._last: float | None = None

    def look(self, rows: Sequence[tuple[str, int, str | None, str | None, int]], now: float) -> None:
        """One look; what a task instance is now it is taken to have been since the look before.

        :param rows: task id, map index, state, host and number of the attempt.
        :param now: seconds of a clock that does not go back.
        """
        gone, self._last = now - (now if self._last is None else self._last), now
        for task_id, number, state, worker, attempt in rows:
            part = self.parts.setdefault((task_id, number), Part())
            if state == "running":
                part.held += gone
            # It keeps its host when it is deferred: a short time in a worker may fall between two looks.
            if worker and part.workers[-1:] != [worker]:
                part.workers.append(worker)
            if part.workers and part.state not in _ENDED:
                part.wall += gone
            part.state, part.attempts = state or "", max(part.attempts, attempt)

    @property
    def held(self) -> float:
        """Seconds of workers' slots, of all tasks together."""
        return sum(part.held for part in self.parts.values())

    def table(self, task_id: str) -> list[str]:
        """Lines about the mapped instances of a task.

        :param task_id: the task.
        """
        lines = [f"{'chunk':6} {'state':8} {'attempts':>8} {'wall s':>7} {'slot s':>7} {'slot':>5}  workers"]
        for (name, number), part in sorted(self.parts.items()):
            if name == task_id and number >= 0:
                share = f"{part.held / part.wall:.0%}" if part.wall else "-"
                lines.append(
                    f"{number:<6} {part.state:8} {part.attempts:>8} {part.wall:7.1f} {part.held:7.1f} {share:>5}  "
                    f"{', '.join(part.workers)}"
                )
        return lines


@dataclass(frozen=True)
class Outcome:
    """What became of a fleet at the service.

    :param wanted: endpoints of the fleet.
    :param own: of these, those whose live model was trained for them.
    :param started: jobs that were started for the fleet.
    :param idle: jobs that were submitted and never started: what a killed attempt leaves, and does nothing.
    """

    wanted: int
    own: int
    started: int
    idle: int

    @classmethod
    def of(cls, names: Sequence[str], endpoints: Sequence[Endpoint], jobs: Sequence[Job]) -> Outcome:
        """Count.

        :param names: endpoints of the fleet.
        :param endpoints: of the scoring web service.
        :param jobs: those of the training web service that are newer than the fleet's DAG run.
        """
        places = {one.name: one.resource().location for one in endpoints if one.name in set(names)}
        own = sum(place is not None and f"/{name}/" in place.location for name, place in places.items())
        idle = sum(job.status is JobStatus.NOT_STARTED for job in jobs)
        return cls(len(names), own, len(jobs) - idle, idle)

    @property
    def right(self) -> bool:
        """Whether each endpoint has its own model, of the one job that was started for it."""
        return self.own == self.started == self.wanted

    def __str__(self) -> str:
        idle = f" ({self.idle} more were submitted and never started)" if self.idle else ""
        return (
            f"{self.own} of {self.wanted} endpoints have a model of their own; {self.started} jobs were started{idle}."
        )
