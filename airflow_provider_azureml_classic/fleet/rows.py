"""What is to be done for each endpoint, and how far it is. Pure: no I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from decimal import Decimal
from enum import Enum
from typing import Any

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError
from airflow_provider_azureml_classic.protocol.messages import check_members
from airflow_provider_azureml_classic.protocol.moments import to_utc
from airflow_provider_azureml_classic.protocol.values import check_endpoint_name
from airflow_provider_azureml_classic.retraining.freshness import Window

#: Rows that are kept under one key: 40 KB at most once all have ended, below the 64 KB at which Airflow warns.
CHUNK = 25


class Outcome(str, Enum):
    """What became of an endpoint."""

    UPDATED = "updated"
    KEPT = "kept"
    FAILED = "failed"
    ROLLED_BACK = "rolled back"
    UNTOUCHED = "untouched"


#: Outcomes that a retry leaves as they are.
DONE = frozenset({Outcome.UPDATED, Outcome.KEPT})
#: Outcomes that count against ``failure_threshold``.
BAD = frozenset({Outcome.FAILED, Outcome.ROLLED_BACK})

_MEMBERS = frozenset({"endpoint", "inputs", "global_parameters", "window_start", "window_end"})


@dataclass(frozen=True)
class Item:
    """One endpoint to retrain, as the user describes it.

    :param endpoint: name: 1 to 24 lower-case letters and digits.
    :param inputs: references to the data by input name; they may hold secrets, so they never leave the worker.
    :param window: of the training data.
    :param global_parameters: web service parameters by name.
    :param is_declared: the window is the item's own, and not that of the run.
    """

    endpoint: str
    inputs: Mapping[str, Any] = field(repr=False)
    window: Window
    global_parameters: Mapping[str, Any] = field(default_factory=dict)
    is_declared: bool = False


@dataclass
class Row:
    """What has become of one endpoint. Holds no secret: it is kept in Airflow's database.

    :param endpoint: its name.
    :param window: of the training data, as :meth:`Window.to_json` gives it.
    :param epoch: the attempts' epoch in which the job was submitted, see :mod:`..memory`.
    :param job_id: the training job, once it is submitted.
    :param started: seconds since 1970 at which it was started.
    :param outcome: how it ended, once it has.
    :param reason: one sentence.
    :param receipt: of the update.
    :param patch: the update under way, as :class:`~..retraining.proof.Patch` writes it: what was live before it.
    :param wave: number of the wave of this attempt that it is in, from 1; 0 for none yet.
    """

    endpoint: str
    window: dict[str, Any] = field(default_factory=dict)
    epoch: int = 0
    wave: int = 0
    job_id: str | None = None
    started: float | None = None
    outcome: Outcome | None = None
    reason: str = ""
    receipt: dict[str, Any] | None = None
    patch: dict[str, Any] | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Row:
        """What :meth:`to_json` made, by this or another version of the package.

        :param data: decoded JSON.
        :raises ValueError: it is something else.
        """
        check_members(data, _KINDS)
        if "endpoint" not in data:
            raise ValueError("a row of a fleet names no endpoint")
        values = {one.name: data[one.name] for one in fields(cls) if one.name in data}
        if values.get("outcome"):
            values["outcome"] = Outcome(values["outcome"])
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """For the task state store; members that say nothing are left out."""
        # Not `asdict`, which copies deeply: this is done for every row of a fleet every few seconds.
        values = {name: value for name, value in vars(self).items() if value not in (None, "", 0, {})}
        return {**values, "outcome": self.outcome.value} if self.outcome else values

    def end(self, outcome: Outcome, reason: str) -> None:
        """Say how it ended.

        :param outcome: the outcome.
        :param reason: one sentence.
        """
        self.outcome, self.reason = outcome, " ".join(reason.split())

    def open_again(self) -> None:
        """A new attempt: whatever did not end well is to be done again; what was under way stays in its wave."""
        if self.outcome is None:
            return
        self.wave = 0
        if self.outcome not in DONE:
            self.outcome, self.reason, self.receipt = None, "", None


_KINDS = {
    "endpoint": str,
    **dict.fromkeys(("job_id", "outcome"), str | None),
    **dict.fromkeys(("epoch", "wave"), int),
    "reason": str,
    "started": int | float | None,
    "window": dict,
    **dict.fromkeys(("receipt", "patch"), dict | None),
}


def parse_items(items: Iterable[Any], default: Window, input_name: str) -> list[Item]:
    """The items of a fleet, checked before anything is asked of the service.

    :param items: mappings with ``endpoint``, ``inputs`` and, optionally, ``global_parameters``, ``window_start`` and
        ``window_end``; ``inputs`` is a reference, or references by input name.
    :param default: window of those that name none.
    :param input_name: input that a single reference is for.
    :raises ValueError: naming the item at fault, by position.
    """
    by_name: dict[str, Item] = {}
    for number, data in enumerate(items, 1):
        try:
            item = _item(data, default, input_name)
        except (ValueError, AzureMLClassicError) as error:
            reason = error.message if isinstance(error, AzureMLClassicError) else str(error)
            raise ValueError(f"Item {number} of the fleet: {reason}") from None
        if item.endpoint in by_name:
            raise ValueError(f"Item {number} of the fleet: endpoint {item.endpoint!r} is in the list twice.")
        by_name[item.endpoint] = item
    return list(by_name.values())


def _item(data: Any, default: Window, input_name: str) -> Item:
    if not isinstance(data, Mapping):
        raise ValueError(f"it must be a mapping with endpoint and inputs, not {type(data).__name__}.")
    unknown = sorted(map(str, set(data) - _MEMBERS))
    if unknown:
        raise ValueError(f"it has {unknown[0]!r}, which is none of: {', '.join(sorted(_MEMBERS))}.")
    missing = [name for name in ("endpoint", "inputs") if not data.get(name)]
    if missing:
        raise ValueError(f"it has no {missing[0]}.")
    inputs = data["inputs"]
    if not isinstance(inputs, Mapping):
        inputs = {input_name: inputs}
    window = default
    if data.get("window_end"):
        window = Window(to_utc(data["window_end"]), to_utc(data["window_start"]) if data.get("window_start") else None)
    elif data.get("window_start"):
        raise ValueError("it has window_start, but no window_end.")
    endpoint, parameters = check_endpoint_name(str(data["endpoint"])), dict(data.get("global_parameters") or {})
    return Item(endpoint, inputs, window, parameters, is_declared=window is not default)


def chunks(rows: Sequence[Row]) -> Iterator[tuple[int, list[Row]]]:
    """Rows in the parts in which they are kept: number, rows.

    :param rows: all of the fleet.
    """
    for start in range(0, len(rows), CHUNK):
        yield start // CHUNK, list(rows[start : start + CHUNK])


def counted(rows: Iterable[Row]) -> dict[str, int]:
    """The number of rows by outcome, every outcome named.

    :param rows: any.
    """
    counter = Counter(row.outcome or Outcome.UNTOUCHED for row in rows)
    return {outcome.value: counter[outcome] for outcome in Outcome}


def allowed(threshold: float, total: int) -> int:
    """How many of ``total`` endpoints may fail.

    :param threshold: a share below 1, or a number of endpoints.
    :param total: of the fleet, or of a wave.
    """
    # By the digits that were written: in binary, 0.29 of 100 is a little less than 29.
    return int(Decimal(str(threshold)) * (total if isinstance(threshold, float) and threshold < 1 else 1))


def next_wave(rows: Sequence[Row], sizes: Sequence[int], number: int) -> list[Row]:
    """Put open rows into the next wave: as many as it is large; after the last size all that are left.

    What an attempt that was killed had begun goes on first, by itself: its jobs may run, and count among those that may
    run at a time.

    :param rows: all of the fleet.
    :param sizes: of the first waves.
    :param number: of the wave, from 1.
    """
    left = [row for row in rows if row.outcome is None]
    begun = [row for row in left if row.wave]
    wave = begun or (left[: sizes[number - 1]] if number <= len(sizes) else left)
    for row in wave:
        row.wave = number
    return wave


class Ledger:
    """Knows which parts of a fleet have changed since they were last kept.

    :param rows: all of the fleet.
    :param is_kept: whether they are kept as they are now.
    """

    def __init__(self, rows: Sequence[Row], *, is_kept: bool = False) -> None:
        self._rows = rows
        self._last: dict[int, list[dict[str, Any]]] = {}
        if is_kept:
            self.changed()

    def changed(self) -> list[tuple[int, list[dict[str, Any]]]]:
        """Number and content of each part that is to be kept now."""
        parts = [(number, [row.to_json() for row in part]) for number, part in chunks(self._rows)]
        changed = [(number, part) for number, part in parts if self._last.get(number) != part]
        self._last.update(changed)
        return changed
