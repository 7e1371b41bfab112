"""What our server adds about drift: how far the calls of each endpoint are from what its model was trained on.

The cloud service had nothing of it, so a client must not depend on it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from airflow_provider_azureml_classic.exceptions import ProtocolError, rejection
from airflow_provider_azureml_classic.protocol.messages import finite, read_json
from airflow_provider_azureml_classic.protocol.pages import AFTER_PARAMETER, LIMIT_PARAMETER, entries_of

#: Query parameters beside those of every list in pages: see :class:`Terms`; and the verdict of those that are wanted.
DAYS_PARAMETER, PSI_PARAMETER, ROWS_PARAMETER, IGNORE_PARAMETER = "days", "psi", "rows", "ignore"
VERDICT_PARAMETER = "verdict"
#: Endpoints of a page if no limit is given, and at most; features of an endpoint that are told.
PAGE, MAX_PAGE, MOST_FEATURES = 200, 1000, 20
#: Verdicts.
DRIFTED, STEADY, TOO_FEW, NOT_KNOWN = "drifted", "steady", "too few rows", "not known"
VERDICTS = (DRIFTED, STEADY, TOO_FEW, NOT_KNOWN)
#: Of what is called a drift, at most this share is none, in the long run.
FALSE_DISCOVERY_RATE = 0.01
MAX_DAYS = 30
_MAX_IGNORED = 200
#: Features that a sentence names.
_NAMED = 5


@dataclass(frozen=True)
class Terms:
    """What counts as a drift: a feature whose index is at least a limit, and whose difference is not chance.

    :param days: of the calls that are looked at, today included; whole weeks even weekdays out.
    :param psi: limit of the population stability index.
    :param rows: fewer tell nothing.
    :param ignore: names of features that are left out, as those that follow the calendar.
    """

    days: int = 7
    psi: float = 0.25
    rows: int = 100
    ignore: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        ranges = ((DAYS_PARAMETER, 1, MAX_DAYS), (PSI_PARAMETER, 0.01, 100), (ROWS_PARAMETER, 20, 10**9))
        for name, low, high in ranges:
            value = getattr(self, name)
            if not isinstance(value, int | float) or not low <= value <= high:
                raise rejection(
                    "InvalidQueryParameter", f"{name} is {value!r}; it must be from {low} to {high}.", target=name
                )
        if len(self.ignore) > _MAX_IGNORED:
            message = f"{len(self.ignore)} features are to be ignored; at most {_MAX_IGNORED} can be."
            raise rejection("InvalidQueryParameter", message, target=IGNORE_PARAMETER)

    def to_query(self) -> list[tuple[str, str]]:
        """Query parameters of what is not as by default."""
        usual = Terms()
        pairs = [
            # Fewer digits would make an exponent of a million rows.
            (name, f"{getattr(self, name):.15g}")
            for name in (DAYS_PARAMETER, PSI_PARAMETER, ROWS_PARAMETER)
            if getattr(self, name) != getattr(usual, name)
        ]
        return [*pairs, *([(IGNORE_PARAMETER, json.dumps(sorted(self.ignore)))] if self.ignore else [])]

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> Terms:
        """The terms of a call.

        :param query: its parameters.
        :raises RequestRejected: ``InvalidQueryParameter``.
        """
        numbers = {
            name: _number(name, query[name], whole)
            for name, whole in ((DAYS_PARAMETER, True), (PSI_PARAMETER, False), (ROWS_PARAMETER, True))
            if name in query
        }
        return cls(**numbers, ignore=_names(query.get(IGNORE_PARAMETER, "[]")))  # type: ignore[arg-type]


def _number(name: str, text: str, whole: bool) -> float:
    try:
        return int(text) if whole else float(text)
    except ValueError:
        raise rejection(
            "InvalidQueryParameter", f"{name} is {text[:40]!r}; it must be a number.", target=name
        ) from None


def _names(text: str) -> frozenset[str]:
    try:
        names = read_json(text)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise rejection(
            "InvalidQueryParameter",
            f"{IGNORE_PARAMETER} is {text[:40]!r}; it must be a JSON list of names of features.",
            target=IGNORE_PARAMETER,
        )
    return frozenset(names)


@dataclass(frozen=True)
class FeatureDrift:
    """One feature of the calls, beside the same of the training rows.

    :param name: of its column.
    :param psi: population stability index; ``None``: not compared.
    :param p: how likely chance alone makes such a difference, corrected for all features of all endpoints.
    :param missing: share of the rows without a value.
    :param missing_before: the same of the training rows.
    :param unknown: share of the rows with a text that the model does not know.
    :param outside: share of the rows with a number outside of the range of the training.
    """

    name: str
    psi: float | None
    p: float | None
    missing: float
    missing_before: float | None
    unknown: float
    outside: float

    def to_wire(self) -> dict[str, Any]:
        """As the service sends it."""
        return {
            "Name": self.name,
            "Psi": self.psi,
            "P": self.p,
            "Missing": self.missing,
            "MissingBefore": self.missing_before,
            "Unknown": self.unknown,
            "Outside": self.outside,
        }

    @classmethod
    def from_wire(cls, data: Any) -> FeatureDrift:
        """A feature as the service sends it.

        :param data: decoded JSON.
        :raises ProtocolError: it is none.
        """
        if not isinstance(data, Mapping):
            raise ProtocolError("A feature of the drift is not an object.")
        shares = (_share(data, name) or 0.0 for name in ("Missing", "Unknown", "Outside"))
        missing, unknown, outside = shares
        before = _share(data, "MissingBefore")
        return cls(str(data.get("Name")), _share(data, "Psi"), _share(data, "P"), missing, before, unknown, outside)


def _share(data: Mapping[str, Any], name: str) -> float | None:
    number = finite(data.get(name))
    if number is None and data.get(name) is not None:
        raise ProtocolError(f"{name} of a feature is not a number.")
    return number


@dataclass(frozen=True)
class EndpointDrift:
    """What an endpoint was asked of its live model.

    :param name: of the endpoint.
    :param verdict: one of :data:`VERDICTS`.
    :param model: SHA-256 of the file of the live model, which the counts belong to.
    :param calls: in the days that were looked at.
    :param rows: in these calls.
    :param counted: of the rows, those whose features were counted.
    :param since: first day of them, if there was a call.
    :param features: the largest index first, at most :data:`MOST_FEATURES`.
    :param drifted: names of those that drifted, all of them.
    """

    name: str
    verdict: str
    model: str
    calls: int = 0
    rows: int = 0
    counted: int = 0
    since: date | None = None
    features: tuple[FeatureDrift, ...] = ()
    drifted: tuple[str, ...] = ()

    @property
    def psi(self) -> float:
        """The largest index; 0 if nothing was compared."""
        return max((one.psi for one in self.features if one.psi is not None), default=0.0)

    def facts(self) -> dict[str, Any]:
        """What an event or a task's result says of an endpoint that has drifted."""
        return {
            "endpoint": self.name,
            "model": self.model,
            "psi": self.psi,
            "features": list(self.drifted[:MOST_FEATURES]),
            "rows": self.counted,
            "reason": str(self),
        }

    def __str__(self) -> str:
        """One sentence."""
        if self.verdict == DRIFTED:
            drifted = [one for one in self.features if one.name in self.drifted]
            named = ", ".join(f"{one.name} {one.psi:.2f}" for one in drifted[:_NAMED])
            return f"Endpoint {self.name!r} has drifted in {self.counted:,} rows; stability index: {named}."
        rows = f"{self.counted:,} rows, largest stability index {self.psi:.2f}"
        return f"Endpoint {self.name!r}: {self.verdict} ({rows})."

    def to_wire(self) -> dict[str, Any]:
        """As the service sends it."""
        return {
            "Name": self.name,
            "Verdict": self.verdict,
            "Model": self.model,
            "Calls": self.calls,
            "Rows": self.rows,
            "Counted": self.counted,
            "Since": self.since.isoformat() if self.since else None,
            "Drifted": list(self.drifted),
            "Features": [one.to_wire() for one in self.features],
        }

    @classmethod
    def from_wire(cls, data: Any) -> EndpointDrift:
        """An endpoint as the service sends it.

        :param data: decoded JSON.
        :raises ProtocolError: it is none.
        """
        if not isinstance(data, Mapping) or not data.get("Name") or data.get("Verdict") not in VERDICTS:
            raise ProtocolError("An endpoint of the drift has no name or no verdict that is known.")
        try:
            since = date.fromisoformat(data["Since"]) if data.get("Since") else None
            calls, rows, counted = (int(data.get(name) or 0) for name in ("Calls", "Rows", "Counted"))
            features, drifted = ([*(data.get(name) or ())] for name in ("Features", "Drifted"))
        except (TypeError, ValueError, OverflowError):
            raise ProtocolError(f"The counts of endpoint {data['Name']!r} cannot be read.") from None
        return cls(
            str(data["Name"]),
            data["Verdict"],
            str(data.get("Model") or ""),
            calls,
            rows,
            counted,
            since,
            tuple(map(FeatureDrift.from_wire, features)),
            tuple(map(str, drifted)),
        )


@dataclass(frozen=True)
class DriftPage:
    """Some of a web service's endpoints, by name.

    :param endpoints: those of the page.
    :param next: what to ask for as ``after`` to get the next page; ``None``: this is the last.
    """

    endpoints: tuple[EndpointDrift, ...] = field(default=())
    next: str | None = None

    @classmethod
    def of(cls, endpoints: Iterable[EndpointDrift], query: Mapping[str, str]) -> DriftPage:
        """The page that a call asks for.

        :param endpoints: all of them, by name.
        :param query: parameters of the call.
        :raises RequestRejected: ``InvalidQueryParameter``.
        """
        limit = _number(LIMIT_PARAMETER, query.get(LIMIT_PARAMETER, str(PAGE)), True)
        if not 1 <= limit <= MAX_PAGE:
            message = f"{LIMIT_PARAMETER} is {limit}; it must be from 1 to {MAX_PAGE}."
            raise rejection("InvalidQueryParameter", message, target=LIMIT_PARAMETER)
        after, verdict = query.get(AFTER_PARAMETER, ""), query.get(VERDICT_PARAMETER)
        if verdict is not None and verdict not in VERDICTS:
            message = f"{VERDICT_PARAMETER} is {verdict[:40]!r}; it must be one of {', '.join(VERDICTS)}."
            raise rejection("InvalidQueryParameter", message, target=VERDICT_PARAMETER)
        wanted = [one for one in endpoints if one.name > after and verdict in (None, one.verdict)]
        page = tuple(wanted[: int(limit)])
        return cls(page, page[-1].name if len(wanted) > len(page) else None)

    def to_wire(self) -> dict[str, Any]:
        """As the service sends it."""
        return {"Endpoints": [one.to_wire() for one in self.endpoints], "Next": self.next}

    @classmethod
    def from_wire(cls, data: Any) -> DriftPage:
        """A page as the service sends it.

        :param data: decoded JSON.
        :raises ProtocolError: it is none.
        """
        items, following = entries_of(data, "Endpoints", "a list of the drift of endpoints")
        return cls(tuple(map(EndpointDrift.from_wire, items)), following)
