"""A fleet's result: as a table for the log, as CSV and HTML, and in sentences. Pure: no I/O."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from html import escape
from typing import Any

from airflow_provider_azureml_classic.fleet.rows import BAD, Outcome, Row, counted

#: Rows in an XCom and in the log at most; the rest is in the report.
MOST_ROWS = 100
#: Failures that a task's error names.
_NAMED = 3
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
    told = row.receipt or {}
    model, proof, replaced = told.get("model") or {}, told.get("proof") or {}, told.get("replaced") or {}
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
    """A spreadsheet takes a cell that begins so for a formula; the service's own words are among them."""
    return {name: f"'{text}" if text[:1] in tuple("=+-@") else text for name, text in values.items()}


def as_html(rows: Sequence[Row], title: str) -> str:
    """All rows as a page that needs nothing else; what needs attention comes first.

    :param rows: all of the fleet.
    :param title: of the page.
    """
    ordered = sorted(rows, key=lambda row: (row.outcome not in BAD, row.outcome is Outcome.UPDATED))
    head = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in COLUMNS)
    body = "\n".join(
        f'<tr class="{escape(told["outcome"].replace(" ", "-"))}">'
        + "".join(f"<td>{escape(value)}</td>" for value in told.values())
        + "</tr>"
        for told in map(cells, ordered)
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
        f"<h1>{escape(title)}</h1><p>{escape(summary(rows))}</p><table><thead><tr>{head}</tr></thead>\n<tbody>\n"
        f"{body}\n</tbody></table></html>\n"
    )


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
    ordered = sorted(rows, key=lambda row: (row.outcome not in BAD, row.outcome is Outcome.UPDATED))
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
        f"{len(bad)} of {len(rows)} endpoints of {where} failed, {may_fail} may. {named}{more} "
        "A retry, or clearing the task, goes on with these and with what is left."
    )


def as_xcom(rows: Sequence[Row]) -> dict[str, Any]:
    """Counts, and the rows as far as an XCom should hold them: those that were not updated first.

    :param rows: all of the fleet.
    """
    ordered = sorted(rows, key=lambda row: (row.outcome not in BAD, row.outcome is Outcome.UPDATED))
    told = [{name: cells(row)[name] for name in ("endpoint", "outcome", "reason", "job_id")} for row in ordered]
    return {
        "total": len(rows),
        "counts": counted(rows),
        "rows": told[:MOST_ROWS],
        "rows_left_out": len(told[MOST_ROWS:]),
    }
