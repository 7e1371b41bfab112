"""How far a fleet is, and its result: as a table for the log, as CSV and HTML, and in sentences. Pure: no I/O."""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta
from html import escape
from typing import Any

from airflow_provider_azureml_classic.fleet.rows import BAD, Outcome, Row, counted
from airflow_provider_azureml_classic.protocol.moments import age_text

#: Rows in an XCom and in the log at most; the rest is in the report.
MOST_ROWS = 100
#: Failures that a task's error names.
_NAMED = 3
#: Progress: seconds between two lines, at most; and share of the fleet.
_EVERY, _SHARE = 10.0, 0.05
#: Progress: the rate is that of the last minute.
_SPAN = 60.0
COLUMNS = ("endpoint", "outcome", "reason", "job_id", "window_end", "proof", "model", "sha256", "replaced")
_STYLE = (
    "body{font:14px system-ui;margin:2em}table{border-collapse:collapse}td,th{padding:.3em .6em;text-align:left;"
    "border-bottom:1px solid #ddd;vertical-align:top}th{position:sticky;top:0;background:#fff}"
    ".failed,.rolled-back{background:#fee2e2}.kept{background:#fef9c3}.untouched{color:#666}"
)


def cells(row: Row) -> dict[str, str]:
    """A row as the report shows it.

    :param row: of the fleet.
    """
    receipt = row.receipt or {}
    model, proof, replaced = (receipt.get(name) or {} for name in ("model", "proof", "replaced"))
    values = {
        "endpoint": row.endpoint,
        "outcome": (row.outcome or Outcome.UNTOUCHED).value,
        "reason": row.reason,
        "job_id": row.job_id,
        "window_end": row.window.get("end"),
        "proof": proof.get("level"),
        "model": model.get("location"),
        "sha256": model.get("sha256"),
        "replaced": replaced.get("location"),
    }
    return {name: str(values[name] or "") for name in COLUMNS}


def as_csv(rows: Sequence[Row]) -> str:
    """All rows with a header.

    :param rows: all of the fleet.
    """
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, COLUMNS)
    writer.writeheader()
    writer.writerows(_harmless(cells(row)) for row in rows)
    return stream.getvalue()


def _harmless(values: dict[str, str]) -> dict[str, str]:
    """A spreadsheet takes a cell that begins like this for a formula, and some cells are the service's own words."""
    return {name: f"'{text}" if text[:1] in tuple("=+-@") else text for name, text in values.items()}


def as_html(rows: Sequence[Row], title: str) -> str:
    """All rows as a page that needs nothing else; what needs attention comes first.

    :param rows: all of the fleet.
    :param title: of the page.
    """
    ordered = _by_need(rows)
    head = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in COLUMNS)
    body = "\n".join(
        f'<tr class="{escape(values["outcome"].replace(" ", "-"))}">'
        + "".join(f"<td>{escape(value)}</td>" for value in values.values())
        + "</tr>"
        for values in map(cells, ordered)
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
        f"<h1>{escape(title)}</h1><p>{escape(summary(rows))}</p><table><thead><tr>{head}</tr></thead>\n<tbody>\n"
        f"{body}\n</tbody></table></html>\n"
    )


def _by_need(rows: Sequence[Row]) -> list[Row]:
    """Those that need attention first."""
    return sorted(rows, key=lambda row: (row.outcome not in BAD, row.outcome is Outcome.UPDATED))


def summary(rows: Sequence[Row]) -> str:
    """Counts in one line.

    :param rows: all of the fleet.
    """
    counts = ", ".join(f"{number} {name}" for name, number in counted(rows).items() if number)
    return f"{len(rows)} endpoints: {counts or 'none'}."


def as_text(rows: Sequence[Row]) -> str:
    """What a log shows: those that were not updated, then the others, up to :data:`MOST_ROWS`.

    :param rows: all of the fleet.
    """
    ordered = _by_need(rows)
    shown = ordered[:MOST_ROWS]
    width = max((len(row.endpoint) for row in shown), default=0)
    lines = [f"{row.endpoint:{width}}  {(row.outcome or Outcome.UNTOUCHED).value:11}  {row.reason}" for row in shown]
    more = [f"... and {len(rows) - len(shown)} more."] if len(rows) > len(shown) else []
    return "\n".join([*lines, *more])


def failure(rows: Sequence[Row], may_fail: int, where: str) -> str:
    """Why a fleet's task fails, naming the first failures.

    :param rows: of the fleet, or of the wave that was stopped.
    :param may_fail: how many of them may fail.
    :param where: what they are, such as "the fleet".
    """
    bad = [row for row in rows if row.outcome in BAD]
    named = " ".join(
        f"{row.endpoint!r} ({row.outcome.value if row.outcome else ''}): {row.reason}" for row in bad[:_NAMED]
    )
    more = f" And {len(bad) - _NAMED} more." if len(bad) > _NAMED else ""
    return (
        f"{len(bad)} of {len(rows)} endpoints of {where} failed; {may_fail} may fail. {named}{more} "
        "A retry, or clearing the task, tries these again and goes on with what is left."
    )


def as_xcom(rows: Sequence[Row]) -> dict[str, Any]:
    """Counts, and the rows as far as an XCom should hold them: those that were not updated first.

    :param rows: all of the fleet.
    """
    ordered = _by_need(rows)
    lines = [{name: cells(row)[name] for name in ("endpoint", "outcome", "reason", "job_id")} for row in ordered]
    return {
        "total": len(rows),
        "counts": counted(rows),
        "rows": lines[:MOST_ROWS],
        "rows_left_out": len(lines[MOST_ROWS:]),
    }


class Progress:
    """Says now and then how far a fleet is.

    :param rows: all of the fleet.
    :param say: takes lines for the log.
    :param clock: seconds that never go back.
    """

    def __init__(self, rows: Sequence[Row], say: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._rows, self._say, self._clock = rows, say, clock
        self._points: deque[tuple[float, int]] = deque([(clock(), self._ended())])
        self._last = self._points[0]

    def _ended(self) -> int:
        return sum(row.outcome is not None for row in self._rows)

    def update(self, in_flight: int) -> None:
        """Say a line if it is time.

        :param in_flight: jobs that are started and have not ended.
        """
        now, ended = self._clock(), self._ended()
        since, before = self._last
        if ended == before and now - since < 3 * _EVERY:
            return
        if now - since < _EVERY and ended - before < max(1, _SHARE * len(self._rows)):
            return
        self._last = (now, ended)
        self._points.append(self._last)
        while len(self._points) > 2 and now - self._points[0][0] > _SPAN:
            self._points.popleft()
        self._say(self.line(in_flight))

    def line(self, in_flight: int) -> str:
        """How far it is.

        :param in_flight: jobs that are started and have not ended.
        """
        (start, first), (now, ended), total = self._points[0], self._points[-1], len(self._rows)
        counts = ", ".join(f"{n} {name}" for name, n in counted(r for r in self._rows if r.outcome).items() if n)
        text = f"{ended} of {total} ended ({100 * ended // max(1, total)} %{': ' + counts if counts else ''})"
        rate = (ended - first) / (now - start) if now > start else 0.0
        if rate <= 0:
            return f"{text}; {in_flight} jobs in flight."
        left = (total - ended) / rate
        shown = f"{left:.0f} s" if left < 120 else age_text(timedelta(seconds=left))
        return f"{text}; {in_flight} jobs in flight; {rate:.2f} a second; about {shown} left."
