"""Moments as texts. They are read here for client and server alike: one without a time zone is UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any


def to_utc(value: datetime | str) -> datetime:
    """A moment in UTC; one without a time zone counts as UTC, as Airflow's own do.

    :param value: a datetime, or ISO 8601.
    :raises ValueError: not ISO 8601, or before year 1 or after 9999 in UTC; the message shows the value.
    """
    try:
        moment = datetime.fromisoformat(value.strip()) if isinstance(value, str) else value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{str(value)!r} is not a time in ISO 8601, such as 2026-01-31T00:00:00+00:00.") from None


def read_time(value: Any) -> datetime | None:
    """A moment as the service writes it; ``None`` where it wrote none.

    :param value: decoded JSON.
    """
    try:
        return to_utc(value) if isinstance(value, str) else None
    except ValueError:
        return None


def moment_text(value: datetime) -> str:
    """A moment in a sentence: to the second, unless it is a whole minute.

    :param value: a moment in UTC.
    """
    return f"{value:%Y-%m-%d %H:%M:%S} UTC" if value.second else f"{value:%Y-%m-%d %H:%M} UTC"


def stamp(value: datetime | None) -> str | None:
    """A moment as jobs show it, ISO 8601 in UTC.

    :param value: a moment in UTC, if there is one.
    """
    return value.isoformat().replace("+00:00", "Z") if value else None


def age_text(age: timedelta) -> str:
    """An age in its two largest units.

    :param age: a duration; a negative one reads as zero.
    """
    minutes = max(0, age // timedelta(minutes=1))
    days, hours, rest = minutes // 1440, minutes // 60 % 24, minutes % 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {rest} min" if hours else f"{rest} min"
