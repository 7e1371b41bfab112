"""Web service parameters: what a caller may set with ``GlobalParameters``, as an experiment declares it.

::

    [experiment.parameters]
    "Learning Rate" = { sets = "estimator.learning_rate", default = 0.1, minimum = 0.001 }
    Location = { sets = "rows.location", default = "" }
    URI = { sets = "data" }

``"STEP.PARAMETER"`` sets a parameter of any step of the pipeline, by scikit-learn's names for both.

What a parameter sets decides which of the two web services has it: ``threshold`` is the scoring service's, the others
are the training service's. A parameter without a default must be given, but for two: ``data`` stands instead of the
input, and without a ``threshold`` the model's own labels stand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.limits import MAX_PARAMETER

#: What a parameter can set besides ``estimator.KEYWORD`` and ``rows.COLUMN``.
DATA, TEST_FRACTION, THRESHOLD = "data", "test_fraction", "threshold"
ESTIMATOR, ROWS = "estimator.", "rows."
TEXT, WHOLE, NUMBER, TRUTH = "string", "integer", "number", "boolean"

_KINDS: Mapping[type, str] = MappingProxyType({bool: TRUTH, int: WHOLE, float: NUMBER, str: TEXT})
_WORDS: Mapping[str, str] = MappingProxyType(
    {TEXT: "a text", WHOLE: "a whole number", NUMBER: "a number", TRUTH: "true or false"}
)
_KEYS = ("sets", "default", "type", "minimum", "maximum", "choices", "description")
#: Bounds of what is always a share.
_SHARES: Mapping[str, tuple[float, float]] = MappingProxyType({TEST_FRACTION: (0.01, 0.99), THRESHOLD: (0.0, 1.0)})


@dataclass(frozen=True)
class Parameter:
    """One declared web service parameter.

    :param name: as callers write it, case-sensitive.
    :param sets: ``data``, ``test_fraction``, ``threshold``, ``estimator.KEYWORD``, ``rows.COLUMN`` or
        ``STEP.PARAMETER``.
    :param kind: ``string``, ``integer``, ``number`` or ``boolean``.
    :param default: value where a caller gives none; ``None``: there is no default.
    :param minimum: least number allowed; likewise the greatest.
    :param choices: the values allowed; empty: any.
    :param description: for people.
    """

    name: str
    sets: str
    kind: str = TEXT
    default: Any = None
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[Any, ...] = ()
    description: str = ""

    @property
    def scoring(self) -> bool:
        """Whether the scoring web service has it, and not the training one."""
        return self.sets == THRESHOLD

    @property
    def is_of_step(self) -> bool:
        """Whether it sets a parameter of a step of the pipeline."""
        return "." in self.sets and not self.sets.startswith((ESTIMATOR, ROWS))

    @property
    def required(self) -> bool:
        """Whether a call without it is refused."""
        return self.default is None and self.sets not in (DATA, THRESHOLD)

    @property
    def meaning(self) -> str:
        """What it does, in a sentence's part."""
        if self.description:
            return self.description
        target = self.sets.partition(".")[2]
        if self.sets.startswith(ROWS):
            return f"use only the rows whose {target} is this" + (", all rows if empty" if self.default == "" else "")
        if self.sets.startswith(ESTIMATOR):
            return f"{target} of the estimator"
        if self.is_of_step:
            return f"{target} of the step {self.sets.partition('.')[0]}"
        return {
            DATA: "address of the training data, with its SAS token if it needs one; stands instead of the input",
            TEST_FRACTION: "share of the rows held out for the metrics",
            THRESHOLD: "least probability of the positive class that is labelled as such",
        }[self.sets]

    def value(self, given: Any) -> Any:
        """A given value in the parameter's type; numbers and truth values may be written as text.

        :param given: decoded JSON.
        :raises RequestRejected: ``BadParameterValue``, naming the parameter and what is allowed.
        """
        if isinstance(given, str) and len(given) > MAX_PARAMETER:
            raise rejection(
                "BadParameterValue", f"The parameter {self.name!r} has over {MAX_PARAMETER} letters.", target=self.name
            )
        found = _converted(self.kind, given)
        if found is None or (self.choices and found not in self.choices) or not self._within(found):
            shown = "what was sent" if self.sets == DATA else repr(given)
            raise rejection(
                "BadParameterValue",
                f"The parameter {self.name!r} is {shown}; it must be {self._expected()}.",
                target=self.name,
            )
        return found

    def _within(self, value: Any) -> bool:
        if self.kind not in (WHOLE, NUMBER):
            return self.sets != DATA or bool(value.strip())
        low = -math.inf if self.minimum is None else self.minimum
        return bool(low <= value <= (math.inf if self.maximum is None else self.maximum))

    def _expected(self) -> str:
        if self.choices:
            return "one of " + ", ".join(map(repr, self.choices))
        least = "" if self.minimum is None else f" from {self.minimum}"
        return f"{_WORDS[self.kind]}{least}" + ("" if self.maximum is None else f" to {self.maximum}")


def _converted(kind: str, given: Any) -> Any:
    if kind == TEXT:
        return str(given) if isinstance(given, str | int | float) and not isinstance(given, bool) else None
    if kind == TRUTH:
        text = given.strip().lower() if isinstance(given, str) else given
        return {"true": True, "false": False, True: True, False: False}.get(text) if text in _TRUTHS else None
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        return None
    try:
        number = float(given)
    except (ValueError, OverflowError):
        return None
    if not math.isfinite(number) or (isinstance(given, str) and "_" in given):
        return None
    if kind == NUMBER:
        return number
    return int(given) if isinstance(given, int) else int(number) if number.is_integer() else None


_TRUTHS = ("true", "false", True, False)


def checked(declared: Mapping[str, Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a call: those given, in their types, and the defaults of the others.

    :param declared: the web service's parameters by name.
    :param given: ``GlobalParameters`` as sent.
    :raises RequestRejected: an unknown name, a wrong value, or a missing one; the message names it.
    """
    for name in given:
        if name not in declared:
            known = ", ".join(declared) or "none"
            raise rejection(
                "UnexpectedParameter", f"The web service has no parameter {name!r}; it has: {known}.", target=name
            )
    # Null means "not given", as clients of typed languages send every member.
    values = {name: declared[name].value(value) for name, value in given.items() if value is not None}
    missing = [name for name, parameter in declared.items() if parameter.required and name not in values]
    if missing:
        raise rejection(
            "MissingRequiredGlobalParameters",
            f"The parameter {missing[0]!r} has no default and must be given: {declared[missing[0]].meaning}.",
            target=missing[0],
        )
    defaults = {name: parameter.default for name, parameter in declared.items() if parameter.default is not None}
    return {**defaults, **values}


def threshold_of(declared: Mapping[str, Parameter], values: Mapping[str, Any]) -> float | None:
    """The threshold that the values of a call set; ``None``: the model's own labels stand.

    :param declared: the scoring web service's parameters.
    :param values: by parameter name.
    """
    found: dict[str, float] = {one.sets: values[name] for name, one in declared.items() if name in values}
    return found.get(THRESHOLD)


def problem(table: Any) -> str | None:
    """What is wrong with a table of declarations, in a sentence; ``None`` if nothing is.

    :param table: as read from TOML.
    """
    for name, entry in table.items():
        said = "must not be empty" if not name.strip() else _entry_problem(entry)
        if said is None:
            try:
                read(name, entry)
            except AzureMLClassicError as error:
                said = f"has a default that it does not allow: {error.message}"
        if said:
            return f"the parameter {name!r} {said}"
    twice = [e["sets"] for e in table.values() if [o["sets"] for o in table.values()].count(e["sets"]) > 1]
    return f"two parameters set {twice[0]!r}. Remove one." if twice else None


def _entry_problem(entry: Any) -> str | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("sets"), str):
        return 'must be a table with at least "sets", for example { sets = "estimator.max_iter", default = 100 }.'
    unknown = [key for key in entry if key not in _KEYS]
    if unknown:
        return f"has the unknown key {unknown[0]!r}. Known keys: {', '.join(_KEYS)}."
    sets = entry["sets"]
    prefixed = all(sets.partition("."))
    if not prefixed and sets not in (DATA, TEST_FRACTION, THRESHOLD):
        return (
            f"sets {sets!r}. It must set one of: {DATA}, {TEST_FRACTION}, {THRESHOLD}, {ESTIMATOR}KEYWORD, "
            f"{ROWS}COLUMN, STEP.PARAMETER."
        )
    if entry.get("type", TEXT) not in _WORDS:
        return f"has type = {entry['type']!r}. It must be one of: {', '.join(_WORDS)}."
    if type(entry.get("default", "")) not in _KINDS:
        return f"has default = {entry['default']!r}. It must be a text, a number, or true or false."
    bounds = [key for key in ("minimum", "maximum") if type(entry.get(key, 0)) not in (int, float)]
    if bounds:
        return f"has {bounds[0]} = {entry[bounds[0]]!r}. It must be a number."
    if not isinstance(entry.get("choices", []), list) or not isinstance(entry.get("description", ""), str):
        return "must have a list as choices and a text as description."
    return None


def read(name: str, entry: Mapping[str, Any]) -> Parameter:
    """The parameter that a table declares.

    :param name: its name.
    :param entry: a table without problems.
    :raises RequestRejected: its default or a choice is not of its type, or not allowed.
    """
    sets, default = entry["sets"], entry.get("default")
    kind = entry.get("type") or (_KINDS[type(default)] if default is not None else TEXT)
    low, high = _SHARES.get(sets, (None, None))
    if sets in _SHARES:
        kind = NUMBER
    elif sets == DATA or sets.startswith(ROWS):
        kind = TEXT
    bare = Parameter(name, sets, kind, description=entry.get("description", ""))
    made = replace(
        bare,
        minimum=entry.get("minimum", low),
        maximum=entry.get("maximum", high),
        choices=tuple(bare.value(choice) for choice in entry.get("choices", ())),
    )
    return made if default is None else replace(made, default=made.value(default))
