"""Moments as texts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider_azureml_classic.protocol.moments import age_text, moment_text, read_time, stamp, to_utc

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.usefixtures("in_tokyo")
def test_no_time_zone_is_utc() -> None:
    """Wherever the machine stands."""
    assert to_utc(datetime(2026, 3, 1, 12)) == to_utc("2026-03-01T12:00:00") == NOON


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+01:00", "9999-12-31T23:00:00-01:00", "soon", ""])
def test_what_is_no_moment(text: str) -> None:
    """Also one before the first or after the last that there is in UTC: one kind of error, which all callers expect."""
    with pytest.raises(ValueError, match=f"'{text[:9]}.*is not a time in ISO 8601".replace("+", r"\+")):
        to_utc(text)
    assert read_time(text) is None


def test_moments_as_texts() -> None:
    """As the service writes them, with what there is of a second; and in sentences."""
    late = NOON + timedelta(seconds=7, milliseconds=250)
    assert (stamp(NOON), stamp(late), stamp(None)) == ("2026-03-01T12:00:00Z", "2026-03-01T12:00:07.250000Z", None)
    assert (moment_text(NOON), moment_text(late)) == ("2026-03-01 12:00 UTC", "2026-03-01 12:00:07 UTC")
    assert read_time(stamp(late)) == late
    assert read_time(5) is None


def test_ages_begin_at_zero() -> None:
    """A clock that is ahead of ours makes no negative ages; parts of a minute are not counted."""
    assert [age_text(timedelta(seconds=one)) for one in (-30, 59, 119, 90_059)] == [
        "0 min",
        "0 min",
        "1 min",
        "1 d 1 h",
    ]
