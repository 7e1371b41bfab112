"""The data contract: whether new training data are like those that the live model was trained on.

Nobody writes it down: it is what the manifest of the live model says of its own training data. A rule is *broken*
where new days, growth, a season or a new shop do not explain what is seen, and *never* benign where a model cannot
come out of it that anybody wants. What is only worth a look is a note.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.data_check import (
    BROKEN,
    LIMITS,
    NEVER,
    NOT_KNOWN,
    NOTE,
    SATISFIED,
    VIOLATED,
)
from airflow_provider_azureml_classic.protocol.moments import to_utc
from airflow_provider_azureml_classic.server.experiments.frame import Frame
from airflow_provider_azureml_classic.server.experiments.ilearner import Manifest, Profile
from airflow_provider_azureml_classic.server.experiments.profile import QUANTILES
from airflow_provider_azureml_classic.server.experiments.schema import NUMBER, Column, Schema
from airflow_provider_azureml_classic.server.experiments.spread import (
    independent_share,
    numbers_elsewhere,
    texts_elsewhere,
)
from airflow_provider_azureml_classic.tables.description import ORDINARY, describe
from airflow_provider_azureml_classic.tables.kinds import DATE, Decision, read_numbers
from airflow_provider_azureml_classic.tables.spelling import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Rules about the values of a column.
_OF_VALUES = ("outside", "beyond", "respelled", "unknown", "spread")
#: A column is spread in another way if so large a share of its rows is elsewhere; fewer rows differ more by chance, by
#: so many times the root of the sum of 1/rows of both (Dvoretzky, Kiefer, Wolfowitz: one of 10,000 does).
_SPREAD, _BY_CHANCE = 0.15, 2.2
#: Most findings that are told.
_MOST = 50
#: Fewer rows than this show no leak: many columns are in the order of the label by chance.
_TELLING = 50
#: A class that had this share of the labels is missed.
_MISSED = 0.02
#: Clocks differ.
_CLOCKS = timedelta(hours=1)
#: A window may end at the end of a day that is not over.
_AHEAD = timedelta(days=1)
#: Share of a window that may have no row at its end.
_EMPTY_END = 1 / 3
#: Factors between units: length, mass, time, money, per cent; and degrees Fahrenheit.
_FACTORS = (1.609344, 2.2046, 2.54, 3.28084, 7.0, 10.0, 12.0, 24.0, 30.44, 60.0, 100.0, 365.25, 1000.0, 3600.0)
_UNITS = ((1.8, 32.0), (1 / 1.8, -32 / 1.8), *((unit, 0.0) for factor in _FACTORS for unit in (factor, 1 / factor)))
#: How near quantiles must be to those of before in another unit, as a share of their spread.
_CLOSE = 0.1


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    :param level: ``note``, ``broken`` or ``never`` (benign).
    :param rule: a short name.
    :param message: a sentence.
    :param column: that it is about; empty: about the file.
    """

    level: str
    rule: str
    message: str
    column: str = ""


@dataclass(frozen=True)
class Contract:
    """What a comparison found.

    :param known: whether the live model tells what its training data looked like.
    :param findings: the worst first.
    :param rows: of the new data.
    :param rows_before: of the live model's.
    """

    known: bool
    findings: tuple[Finding, ...] = ()
    rows: int = 0
    rows_before: int | None = None

    @property
    def verdict(self) -> str:
        """``satisfied``, ``violated`` or ``not known``; what is never benign violates in any case."""
        levels = {finding.level for finding in self.findings}
        if NEVER in levels or BROKEN in levels:
            return VIOLATED
        return SATISFIED if self.known else NOT_KNOWN

    @property
    def labels_as_before(self) -> bool | None:
        """Whether the labels are shared out as before; ``None``: not known."""
        return all(finding.rule != "labels" for finding in self.findings) if self.known else None

    @property
    def columns_as_before(self) -> bool | None:
        """Whether the values of all columns are spread as before; ``None``: not known."""
        broken = ((one.rule in _OF_VALUES and one.level == BROKEN) or one.rule == "spread" for one in self.findings)
        return not any(broken) if self.known else None

    def to_json(self) -> dict[str, Any]:
        """For a job's state, XCom and an asset's event: bounded, and without any row."""
        return {
            "verdict": self.verdict,
            "labels_as_before": self.labels_as_before,
            "columns_as_before": self.columns_as_before,
            "rows": self.rows,
            "rows_before": self.rows_before,
            "findings": [
                {"level": one.level, "rule": one.rule, "column": one.column, "message": one.message}
                for one in self.findings[:_MOST]
            ],
            "left_out": max(0, len(self.findings) - _MOST),
        }

    def problem(self, strict: bool) -> AzureMLClassicError | None:
        """Why the data are refused; ``None`` if they are not.

        :param strict: refuse also what may be benign.
        """
        bad = [finding for finding in self.findings if finding.level in ((NEVER, BROKEN) if strict else (NEVER,))]
        if not bad:
            return None
        more = f" And {len(bad) - 3} more." if len(bad) > 3 else ""
        softer = "'warn' or 'off'" if strict and NEVER not in {one.level for one in bad} else "'off'"
        return rejection(
            "InputMismatchError",
            f"The data break the contract with the live model: {' '.join(one.message for one in bad[:3])}{more} "
            f"If the data are meant to be so, set data_check (azureml-classic train: --data-check) to {softer}.",
            target=bad[0].column or None,
        )

    def lines(self) -> list[str]:
        """For the job's log."""
        if not self.known and not self.findings:
            return ["Data check: there is no live model that tells what the data of this endpoint look like."]
        before = f", before {self.rows_before:,}" if self.rows_before is not None else ""
        found = [f"Data check, {one.level}: {one.message}" for one in self.findings[:_MOST]]
        return [f"Data check: the contract is {self.verdict} ({self.rows:,} rows{before}).", *found]


@dataclass(frozen=True)
class Terms:
    """What a user says of the contract.

    :param limits: number by rule, see :data:`~.protocol.data_check.LIMITS`; by ``column.rule`` for one column.
    :param window: start and end of the training data, if it is declared; the end is exclusive.
    :param now: the present time.
    :param strict: refuse also what may be benign.
    :param only: train nothing.
    :param first: the live model is the one that the web service began with: its data tell what columns there are, but
        not what those of this endpoint are like. So nothing but notes comes of it.
    """

    limits: Mapping[str, float] = field(default_factory=dict)
    window: tuple[datetime | None, datetime | None] = (None, None)
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    strict: bool = False
    only: bool = False
    first: bool = False

    def limit(self, rule: str, column: str = "") -> float:
        """How far a rule goes.

        :param rule: its name.
        :param column: that it is applied to.
        """
        return self.limits.get(f"{column}.{rule}", self.limits.get(rule, LIMITS[rule]))


@dataclass(frozen=True)
class NewData:
    """Training data that are looked at.

    :param frame: the rows.
    :param schema: learnt from them.
    :param matrix: the encoded rows.
    :param truth: their encoded labels.
    :param profile: of these, see :func:`~.profile.profile_of`.
    :param time_column: date of a row, if it is declared.
    """

    frame: Frame
    schema: Schema
    matrix: NDArray[Any]
    truth: NDArray[Any]
    profile: Profile
    time_column: str | None = None

    @property
    def labels(self) -> NDArray[Any]:
        """Positions of classes, or numbers as the file has them."""
        return self.truth if self.schema.classes else self.truth + self.schema.offset


def compare(live: Manifest | None, data: NewData, terms: Terms) -> Contract:
    """What new training data are, beside those of the live model.

    :param live: manifest of the live model; ``None``: there is none.
    :param data: the new data.
    :param terms: limits and window.
    """
    frame = data.frame
    findings = [*_leaks(data), *_moments(data, terms)]
    profile = live.profile if live else None
    if live is None or profile is None:
        return Contract(False, _sorted(findings), frame.rows)
    for column in live.schema.features:
        findings += _column(live.schema, column, profile, data, terms)
    findings = _without_odd(findings, data)
    findings += _file(live, profile, data, terms)
    findings += _labels(profile, data, terms)
    findings += [
        Finding(NOTE, "new", f"Column {name!r} is none of the model's.", name)
        for name in frame.table.origin.names
        if name and name not in (*live.schema.names, live.schema.label, data.time_column)
    ]
    if terms.first:
        findings = [replace(one, level=NOTE) if one.level == BROKEN else one for one in findings]
    return Contract(not terms.first, _sorted(findings), frame.rows, live.rows)


def _sorted(findings: list[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda one: (NEVER, BROKEN, NOTE).index(one.level)))


def _percent(share: float) -> str:
    return f"{share:.1%}" if 0 < share < 0.1 else f"{share:.0%}"


# -- columns -----------------------------------------------------------------------------------------------------------


def _without_odd(findings: list[Finding], data: NewData) -> list[Finding]:
    """The findings without those of the values of columns that look like identifiers or dates: they are others each
    time. Only columns of which something was found are looked at.
    """
    columns = [one.column for one in findings if one.rule in _OF_VALUES]
    schema, frame = data.schema, data.frame
    kinds = Decision({name: schema.kind_of(name) for name in columns}, frame.decimal)
    odd = {
        one.column
        for one in describe(frame.table, kinds, schema.missing)
        if one.note and not one.note.startswith(ORDINARY)
    }
    return [one for one in findings if one.column not in odd or one.rule not in _OF_VALUES]


def _column(earlier: Schema, column: Column, profile: Profile, data: NewData, terms: Terms) -> Iterator[Finding]:
    """What is found of one feature."""
    name, frame, schema = column.name, data.frame, data.schema
    before = profile["columns"].get(name)
    if name not in frame.columns:
        # One that the model needs is missed when the data are read; this one is declared to be optional.
        if before and before["missing"] < 1:
            yield Finding(NOTE, "gone", f"Column {name!r} is gone.", name)
        return
    numbers, texts = None, None
    if column.kind == NUMBER:
        numbers = schema.numbers(frame, name)
        missing = float((numbers != numbers).mean())
    else:
        texts = schema.texts(frame, name, column.categories)
        missing = float((texts.codes < 0).mean())
    was = before["missing"] if before else 0.0
    if missing == 1 and was < 1:
        yield Finding(NEVER, "blank", f"Column {name!r} has no value any more.", name)
        return
    if missing - was > terms.limit("missing", name):
        yield Finding(
            BROKEN, "missing", f"Column {name!r} has no value in {_percent(missing)} of the rows, before in "
            f"{_percent(was)}.", name,
        )  # fmt: skip
    if earlier.kind_of(name).kind == DATE:
        return
    before = before or {}
    if numbers is not None:
        yield from _range(column, profile["columns"], numbers, terms)
        elsewhere = numbers_elsewhere(before.get("quantiles"), numbers[numbers == numbers])
    elif texts is not None:
        yield from _categories(column, texts.cells, texts.counts(), terms)
        elsewhere = texts_elsewhere(before.get("shares"), texts.cells, texts.counts())
    in_order = data.time_column in frame.columns
    share = independent_share(numbers if numbers is not None else texts.codes if texts else None) if in_order else 1.0
    yield from _spread(name, elsewhere, frame.rows * share, profile["rows"] * share)


def _spread(name: str, elsewhere: float, rows: float, before: float) -> Iterator[Finding]:
    if elsewhere > _SPREAD + _BY_CHANCE * math.sqrt(1 / max(1.0, rows) + 1 / max(1.0, before)):
        yield Finding(
            NOTE, "spread", f"Column {name!r} is spread in another way: {_percent(elsewhere)} of the rows at least are "
            "elsewhere.", name,
        )  # fmt: skip


def _range(column: Column, columns: Mapping[str, Any], values: NDArray[Any], terms: Terms) -> Iterator[Finding]:
    there = values[values == values]
    if column.minimum is None or column.maximum is None or not len(there):
        return
    name, low, high, limit = column.name, column.minimum, column.maximum, terms.limit("outside", column.name)
    far = _far(there, low, high)
    unit = _unit(columns.get(name, {}).get("quantiles"), there)
    other = _other_column(name, columns, there) if limit < 1 else None
    if other is not None:
        message = f"Column {name!r} has the numbers that column {other!r} had before. Have columns been shifted?"
        yield Finding(BROKEN, "outside", message, name)
        return
    if far > limit or (unit and limit < 1):
        where = (
            f"is far from {low:g} to {high:g} in {_percent(far)} of the rows" if far > limit else "has other numbers"
        )
        changed = f", those of before times {unit:.4g}" if unit else ""
        message = f"Column {name!r} {where}: {there.min():g} to {there.max():g}{changed}. Has its unit changed?"
        yield Finding(BROKEN, "outside", message, name)
        return
    beyond = float(((there < low) | (there > high)).mean())
    if beyond > limit:
        yield Finding(
            NOTE, "beyond", f"Column {name!r} goes beyond {low:g} to {high:g} in {_percent(beyond)} of the rows.", name
        )


def _far(values: NDArray[Any], low: float, high: float) -> float:
    """Share of values that no season and no growth explains.

    December is far from none of the months of a summer, nor twice the price of last year from that.
    """
    # A sign that was never set, as of a holiday, has no scale yet: 1 is as near to it as can be.
    reach = max((high - low) / 2, abs(low), abs(high)) or 1.0
    return float(((values < low - reach) | (values > high + reach)).mean())


def _unit(quantiles: list[float] | None, values: NDArray[Any]) -> float | None:
    """The factor of a change of units that explains what has become of a column."""
    import numpy as np

    if not quantiles or len(values) < _TELLING:
        return None
    old = np.array(quantiles[1:-1])
    new = np.quantile(values, QUANTILES)
    spread = old[-1] - old[0]
    if not _is_elsewhere(old, new):
        return None
    for factor, offset in _UNITS:
        if (abs(factor * old + offset - new) <= _CLOSE * factor * spread).all():
            return factor
    return None


def _other_column(name: str, columns: Mapping[str, Any], values: NDArray[Any]) -> str | None:
    """The column whose numbers of before a column has now, and not its own."""
    import numpy as np

    own = columns.get(name, {}).get("quantiles")
    if not own or len(values) < _TELLING:
        return None
    new = np.quantile(values, QUANTILES)
    if not _is_elsewhere(np.array(own[1:-1]), new):
        return None
    for other, before in columns.items():
        old = np.array((before.get("quantiles") or ())[1:-1])
        # Of few different numbers, quantiles are alike by chance.
        if other != name and len(np.unique(old)) > 2 and (abs(new - old) <= _CLOSE * (old[-1] - old[0])).all():
            return other
    return None


def _is_elsewhere(old: NDArray[Any], new: NDArray[Any]) -> bool:
    """Whether quantiles are so far from those of before that another column may explain it."""
    spread = old[-1] - old[0]
    return bool(spread > 0 and (abs(new - old) > spread / 2).any())


def _categories(column: Column, cells: Any, counts: NDArray[Any], terms: Terms) -> Iterator[Finding]:
    known, rows = set(column.categories), int(counts.sum())
    if not known or not rows:
        return
    new = {cell: int(count) for cell, count in zip(cells, counts.tolist(), strict=True) if cell not in known and count}
    plain = {_plain(cell): cell for cell in known}
    same = {cell: count for cell, count in new.items() if _plain(cell) in plain}
    if same and sum(same.values()) > terms.limit("respelled", column.name) * rows:
        cell = max(same, key=lambda cell: same[cell])
        yield Finding(
            BROKEN,
            "respelled",
            f"Column {column.name!r} is spelled in another way in {_percent(sum(same.values()) / rows)} of the rows: "
            f"{shown(cell)}, before {shown(plain[_plain(cell)])}.",
            column.name,
        )
        return
    share = sum(new.values()) / rows
    if not new:
        return
    examples = ", ".join(shown(cell) for cell in sorted(new, key=lambda cell: -new[cell])[:3])
    broken = share > terms.limit("unknown", column.name)
    yield Finding(
        BROKEN if broken else NOTE,
        "unknown",
        f"Column {column.name!r} has texts that are new in {_percent(share)} of the rows, for example {examples}.",
        column.name,
    )


def _plain(cell: str) -> str:
    return "".join(letter for letter in cell.casefold() if letter.isalnum())


# -- the file as a whole -----------------------------------------------------------------------------------------------


def _file(live: Manifest, profile: Profile, data: NewData, terms: Terms) -> Iterator[Finding]:
    """What is found of the rows as such."""
    rows = data.frame.rows
    if rows < terms.limit("fewer") * live.rows:
        yield Finding(BROKEN, "fewer", f"There are {rows:,} rows, before there were {live.rows:,}.")
    if all(profile.get(name) == value for name, value in data.profile.items()):
        yield Finding(NOTE, "again", "The data are those that the live model was trained on.")
    share = data.profile["duplicates"] / rows
    was = profile["duplicates"] / max(1, profile["rows"])
    if share - was > terms.limit("duplicates"):
        yield Finding(
            BROKEN, "duplicates", f"{_percent(share)} of the rows repeat an earlier one, before {_percent(was)}."
        )


def _labels(profile: Profile, data: NewData, terms: Terms) -> Iterator[Finding]:
    import numpy as np

    schema, truth = data.schema, data.labels
    label, limit = schema.label, terms.limit("labels", schema.label)
    if not schema.classes:
        yield from _label_numbers(label, profile["label"].get("quantiles"), truth, limit)
        return

    was = profile["label"]["shares"]
    shares = np.bincount(truth, minlength=len(schema.classes)) / len(truth)
    now = {name[:40]: float(share) for name, share in zip(schema.classes, shares.tolist(), strict=True)}
    for name, share in was.items():
        if name not in now and share >= _MISSED:
            yield Finding(
                BROKEN, "labels", f"No row has the label {name!r} any more, before {_percent(share)} had.", label
            )
    moved = sum(abs(now.get(name, 0.0) - was.get(name, 0.0)) for name in {*now, *was}) / 2
    if moved > limit:
        name = max({*now, *was}, key=lambda name: abs(now.get(name, 0.0) - was.get(name, 0.0)))
        yield Finding(
            BROKEN,
            "labels",
            f"The labels are shared out in another way: {name!r} has {_percent(now.get(name, 0.0))} of the rows, "
            f"before {_percent(was.get(name, 0.0))}.",
            label,
        )


def _label_numbers(label: str, quantiles: list[float] | None, truth: NDArray[Any], limit: float) -> Iterator[Finding]:
    if not quantiles:
        return
    low, *_, high = quantiles
    share = _far(truth, low, high)
    if share > limit:
        yield Finding(
            BROKEN,
            "labels",
            f"The label {label!r} is far from {low:g} to {high:g} in {_percent(share)} of the rows. Has its unit "
            "changed?",
            label,
        )


def _moments(data: NewData, terms: Terms) -> Iterator[Finding]:
    start, end = terms.window
    if end is not None and to_utc(end) > to_utc(terms.now) + _AHEAD:
        yield Finding(
            BROKEN,
            "future",
            f"The declared window ends in the future, on {end:%Y-%m-%d}: no later model would count as newer.",
        )
    time_column, schema, frame = data.time_column, data.schema, data.frame
    if time_column is None or time_column not in frame.columns:
        return
    kind = replace(schema.kind_of(time_column), kind=DATE)
    days = read_numbers(frame.table, time_column, kind, usual=schema.missing)
    there = days[days == days]
    if not len(there):
        return
    limit = terms.limit("window", time_column)
    future = float((there > _days(terms.now + _CLOCKS)).mean())
    if future > limit:
        yield Finding(
            BROKEN,
            "future",
            f"Column {time_column!r} lies in the future in {_percent(future)} of the rows.",
            time_column,
        )
    early = (there < _days(start)) if start else there != there
    late = (there >= _days(end)) if end else there != there
    outside = float((early | late).mean())
    if outside > limit and not future > limit:
        yield Finding(
            BROKEN,
            "window",
            f"Column {time_column!r} lies outside the declared window in {_percent(outside)} of the rows.",
            time_column,
        )
    elif start and end and terms.limit("window", time_column) < 1:
        yield from _ends_early(time_column, float(there.max()), _days(start), _days(end))


def _ends_early(time_column: str, last: float, start: float, end: float) -> Iterator[Finding]:
    """Whether the last part of the window has no row: half a file. One that begins late may be of a new shop."""
    # Days have rows until their end.
    empty = (end - last - 1) / (end - start)
    if empty > _EMPTY_END:
        yield Finding(
            BROKEN,
            "window",
            f"The last {_percent(empty)} of the declared window has no row in column {time_column!r}. "
            "Is the file whole?",
            time_column,
        )


def _days(moment: datetime) -> float:
    return to_utc(moment).timestamp() / 86_400


# -- a label that stands among the features ----------------------------------------------------------------------------


def _leaks(data: NewData) -> Iterator[Finding]:
    """Columns that tell the label exactly."""
    if data.frame.rows < _TELLING:
        return
    for position, column in enumerate(data.schema.features):
        if _tells(column, data.matrix[:, position], data.truth, bool(data.schema.classes)):
            yield Finding(
                NOTE, "leak", f"Column {column.name!r} tells the label exactly. Is it known when the model is asked?",
                column.name,
            )  # fmt: skip


def _tells(column: Column, values: NDArray[Any], truth: NDArray[Any], classes: bool) -> bool:
    import numpy as np

    if np.isnan(values).any() or values.min() == values.max() or truth.min() == truth.max():
        return False
    if column.kind == NUMBER and not classes:
        return bool(abs(np.corrcoef(values, truth)[0, 1]) > 1 - 1e-9)
    # In the order of the column, the label must change as rarely as it can, and never within one value.
    order = np.argsort(values, kind="stable")
    same = values[order][1:] == values[order][:-1]
    changes = truth[order][1:] != truth[order][:-1]
    if (same & changes).any():
        return False
    if column.kind == NUMBER:
        return int(changes.sum()) == len(np.unique(truth)) - 1
    # Texts of their own in each row tell anything.
    return int((~same).sum() + 1) * 2 <= len(values)
