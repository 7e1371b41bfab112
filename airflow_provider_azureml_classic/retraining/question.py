"""What a person is shown who is asked whether a model may be put live, as Markdown. Pure: no I/O, no Airflow.

Rule 1: the same evidence gives the same text, letter for letter: what is compared with an earlier question, and what an
approval names by its SHA-256, is this text. So nothing in it depends on when it is asked.
Rule 2: names of columns, categories and metrics come from files of others. Each is a cell of a table, in which nothing
is Markdown or HTML, and is cut where it is long.
Rule 3: what is not known is said, not left out: who agrees must see that there was no gate.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from airflow_provider_azureml_classic.protocol.data_check import NOT_KNOWN
from airflow_provider_azureml_classic.protocol.digests import Digests
from airflow_provider_azureml_classic.protocol.moments import moment_text

#: Letters of a cell, and rows of a table.
_LONGEST, _MOST = 200, 40
#: What means something in Markdown or HTML, within a line.
_SPECIAL = re.compile(r"[\\`*_{}\[\]<>()#|~&]")
_BLANKS = re.compile(r"\s+")


@dataclass(frozen=True)
class ModelSide:
    """One of the two models.

    :param digests: as far as the service tells them.
    :param location: where it lies, without a token.
    :param window_end: end of its training data, if known.
    """

    digests: Digests | None
    location: str | None
    window_end: datetime | None


@dataclass(frozen=True)
class Question:
    """What is asked, and what is shown for it.

    :param web_service: name of the scoring web service.
    :param endpoint: its endpoint.
    :param job_id: the job that trained the new model.
    :param new: the new model.
    :param live: the model that it would replace.
    :param data_check: what the data of the job were found to be, if that is known.
    :param gate: what a gate returned, if there is one.
    :param rehearsal: what a rehearsal on real calls said, if there was one.
    :param links: address by text.
    :param note: what the author of the DAG adds: Markdown.
    """

    web_service: str
    endpoint: str
    job_id: str
    new: ModelSide
    live: ModelSide
    data_check: Mapping[str, Any] | None = None
    gate: Mapping[str, Any] | None = None
    rehearsal: Mapping[str, Any] | None = None
    links: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    @property
    def subject(self) -> str:
        """One line."""
        content = self.new.digests.content or self.new.digests.file if self.new.digests else None
        model = f"model {content[:12]}" if content else f"the model of job {self.job_id[:8]}"
        return f"Put {model} live on endpoint {self.endpoint!r} of {self.web_service!r}?"

    @property
    def summary(self) -> str:
        """The verdicts, in one line, for a message."""
        return " ".join((f"Data contract: {_verdict(self.data_check)}.", f"Gate: {_decision(self.gate)}."))

    @property
    def body(self) -> str:
        """All of it."""
        parts = [self.note.strip(), self._models(), self._contract(), self._gate(), self._rehearsal(), self._links()]
        return "\n\n".join(filter(None, parts)) + "\n"

    def _models(self) -> str:
        sides = self.new, self.live
        rows = {
            "content": [side.digests.content if side.digests else None for side in sides],
            "file": [side.digests.file if side.digests else None for side in sides],
            "data up to": [moment_text(side.window_end) if side.window_end else None for side in sides],
            "path": [side.location for side in sides],
        }
        cells = [(name, *(cell or "not known" for cell in row)) for name, row in rows.items()]
        return table(("", "new model", "live model"), cells)

    def _contract(self) -> str:
        check = self.data_check or {}
        rows = f" {_figure(check['rows'])} rows" if check.get("rows") is not None else ""
        before = f", {_figure(check['rows_before'])} before" if rows and check.get("rows_before") is not None else ""
        head = f"**Data contract**: {escaped(_verdict(self.data_check))}.{rows}{before}{'.' if rows else ''}"
        found = [
            (one.get("level"), one.get("rule"), one.get("column") or "", one.get("message"))
            for one in check.get("findings") or ()
        ]
        return _block(head, table(("level", "rule", "column", "what was found"), found))

    def _gate(self) -> str:
        gate = self.gate or {}
        remarks = [(text,) for text in (*(gate.get("reasons") or ()), *(gate.get("notes") or ()))]
        head = f"**Gate**: {escaped(_decision(self.gate))}."
        return _block(head, *map(_metrics, _sets(gate)), table(("remarks of the gate",), remarks))

    def _rehearsal(self) -> str:
        if self.rehearsal is None:
            return "**Rehearsal on real calls**: none."
        if not self.rehearsal.get("rows", True):
            return "**Rehearsal on real calls**: none, as the endpoint keeps no calls."
        return _block("**Rehearsal on real calls**", table(("", "figure"), _flat(self.rehearsal)))

    def _links(self) -> str:
        return " · ".join(f"[{escaped(text)}](<{_address(url)}>)" for text, url in self.links.items() if _address(url))


def evidence_digest(subject: str, body: str) -> str:
    """What an approval names: SHA-256 of what the person was shown.

    :param subject: the line above.
    :param body: the text.
    """
    return hashlib.sha256(f"{subject}\n{body}".encode()).hexdigest()


def escaped(value: Any) -> str:
    """A text in which nothing is Markdown or HTML, in one line, cut where it is long.

    :param value: anything.
    """
    text = _BLANKS.sub(" ", str(value)).strip()
    text = f"{text[:_LONGEST]}…" if len(text) > _LONGEST else text
    printable = "".join(letter if letter.isprintable() else "�" for letter in text)
    # By reference, not by a backslash: a cell may end in one, and HTML knows no other way.
    return _SPECIAL.sub(lambda match: f"&#{ord(match.group())};", printable)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table of Markdown; nothing where there are no rows.

    :param head: of the columns: our own words.
    :param rows: cells, which may hold anything.
    """
    lines = [f"| {' | '.join(map(escaped, row))} |" for row in rows]
    if not lines:
        return ""
    more = [f"\n{len(lines) - _MOST} further rows are not shown."] if len(lines) > _MOST else []
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *lines[:_MOST], *more])


def _sets(gate: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What a gate measured on each set of rows; where it compared nothing, what the training measured."""
    if sets := gate.get("sets"):
        return list(sets)
    metrics, compared = gate.get("metrics") or {}, gate.get("compared_on") or {}
    new = metrics.get("candidate") or metrics.get("evaluation") or {}
    return [{"candidate": new, "live": metrics.get("live"), "differences": gate.get("differences"), **compared}]


def _metrics(found: Mapping[str, Any]) -> str:
    live, differences = found.get("live") or {}, found.get("differences") or {}
    head = ("metric", "new model", "live model", "worse by", "allowed")
    rows = []
    for name, value in (found.get("candidate") or {}).items():
        one = differences.get(name) or {}
        gap = f"{_figure(one.get('low'))} to {_figure(one.get('high'))}" if one.get("low") is not None else "-"
        rows.append((name, _figure(value), _figure(live.get(name)), gap, _figure(one.get("allowed"))))
    number = found.get("rows")
    where = f"Compared on {_figure(number)} rows {escaped(found.get('source') or '')}".rstrip() if number else ""
    return _block(f"{where}." if where else "", table(head, rows))


def _flat(data: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Names and figures of nested mappings; what is a list counts its items."""
    rows: list[tuple[str, str]] = []
    for name, value in data.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{before}{name}, ")
        elif isinstance(value, list | tuple):
            rows.append((f"{before}{name}", ", ".join(map(_figure, value)) or "none"))
        else:
            rows.append((f"{before}{name}", _figure(value)))
    return rows


def _verdict(check: Mapping[str, Any] | None) -> str:
    return str((check or {}).get("verdict") or NOT_KNOWN)


def _decision(gate: Mapping[str, Any] | None) -> str:
    if not gate:
        return "none"
    return f"{gate.get('decision')}{', undecided by the rows' if gate.get('undecided') else ''}"


def _figure(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _address(url: str) -> str:
    """An address that a link may lead to, such that it cannot end early; nothing for any other."""
    return url if re.fullmatch(r"https?://[^\s<>\\]+", url) else ""


def _block(*parts: str) -> str:
    return "\n\n".join(filter(None, parts))
