"""How far a fleet is: one line with rate and time left. Pure: the clock is given."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta

from airflow_provider_azureml_classic.fleet.rows import Row, counted
from airflow_provider_azureml_classic.retraining.freshness import age_text

#: Seconds between two lines, at most; and share of the fleet.
_EVERY, _SHARE = 10.0, 0.05
#: The rate is that of the last minute, so that it tells of now.
_SPAN = 60.0


class Progress:
    """Says now and then how far a fleet is.

    :param rows: all of the fleet.
    :param say: takes lines for the log.
    :param clock: seconds that never go back.
    """

    def __init__(self, rows: Sequence[Row], say: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._rows, self._say, self._clock = rows, say, clock
        self._seen: deque[tuple[float, int]] = deque([(clock(), self._ended())])
        self._said = self._seen[0]

    def _ended(self) -> int:
        return sum(row.outcome is not None for row in self._rows)

    def look(self, in_flight: int) -> None:
        """Say a line if it is time.

        :param in_flight: jobs that are started and have not ended.
        """
        now, ended = self._clock(), self._ended()
        since, before = self._said
        if ended == before and now - since < 3 * _EVERY:
            return
        if now - since < _EVERY and ended - before < max(1, _SHARE * len(self._rows)):
            return
        self._said = (now, ended)
        self._seen.append(self._said)
        while len(self._seen) > 2 and now - self._seen[0][0] > _SPAN:
            self._seen.popleft()
        self._say(self.line(in_flight))

    def line(self, in_flight: int) -> str:
        """How far it is.

        :param in_flight: jobs that are started and have not ended.
        """
        (start, first), (now, ended), total = self._seen[0], self._seen[-1], len(self._rows)
        counts = ", ".join(f"{n} {name}" for name, n in counted(r for r in self._rows if r.outcome).items() if n)
        said = f"{ended} of {total} ended ({100 * ended // max(1, total)} %{': ' + counts if counts else ''})"
        rate = (ended - first) / (now - start) if now > start else 0.0
        if rate <= 0:
            return f"{said}; {in_flight} jobs in flight."
        left = (total - ended) / rate
        shown = f"{left:.0f} s" if left < 120 else age_text(timedelta(seconds=left))
        return f"{said}; {in_flight} jobs in flight; {rate:.2f} a second; about {shown} left."
