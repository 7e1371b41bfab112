"""The data check of a job, as far as both sides know it: what is done, how far rules go, and what is said of data."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

#: What is done with data that break the contract with the live model; ``only`` trains nothing.
WARN, FAIL, OFF, ONLY = "warn", "fail", "off", "only"
DATA_CHECKS = (WARN, FAIL, OFF, ONLY)
#: What is said of data as a whole.
SATISFIED, VIOLATED, NOT_KNOWN = "satisfied", "violated", "not known"
#: What is said of one finding.
NOTE, BROKEN, NEVER = "note", "broken", "never"
#: How far each rule goes where nothing else is said: shares, of what the comment says.
LIMITS: Mapping[str, float] = MappingProxyType(
    {
        # Numbers of a column that are far beyond the range of before.
        "outside": 0.1,
        # Texts of a column that are new.
        "unknown": 0.5,
        # Texts of a column that are old ones but for case, blanks and signs.
        "respelled": 0.05,
        # By how much the share of cells without a value may grow.
        "missing": 0.25,
        # By how much the share of rows that repeat an earlier one may grow.
        "duplicates": 0.5,
        # Rows, of those of before.
        "fewer": 0.2,
        # Labels that are others than before (total variation).
        "labels": 0.25,
        # Rows whose time lies outside the declared window, or in the future.
        "window": 0.01,
    }
)
_MOST_LIMITS = 50


def check_options(mode: str, limits: Any) -> None:
    """Return if what a user says of the data check of a training can be meant.

    :param mode: ``warn``, ``fail`` or ``off``.
    :param limits: see :func:`check_limits`, or nothing.
    :raises ValueError: naming the option.
    """
    if mode not in (WARN, FAIL, OFF):
        raise ValueError(f"data_check is {mode!r}; it must be one of: warn, fail, off.")
    check_limits(limits or {})


def check_limits(limits: Any) -> dict[str, float]:
    """Limits of a data check as a user writes them, checked.

    :param limits: number by rule (``outside``), or by ``column.rule`` (``age.outside``).
    :raises ValueError: another form, or a rule that there is none.
    """
    if not isinstance(limits, Mapping) or len(limits) > _MOST_LIMITS:
        raise ValueError(f"the limits of the data check must be a mapping of at most {_MOST_LIMITS} rules to numbers")
    for name, value in limits.items():
        number = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
        if str(name).rpartition(".")[2] not in LIMITS or not number:
            raise ValueError(
                f"the limit {name!r} of the data check is {value!r}: expected a share from 0 to 1 for one of "
                f"{', '.join(LIMITS)}, or for COLUMN.RULE"
            )
    return {str(name): float(value) for name, value in limits.items()}
