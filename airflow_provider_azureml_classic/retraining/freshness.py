"""What "fresh" means: a model is as new as the data it was trained on.

The end of the training window stands in the model's own path, and an endpoint's ``Resources[].Location`` says which
model is live, so everyone can read freshness from the service itself. Pure: no I/O, no Airflow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_provider_azureml_classic.protocol.references import STAMP, BlobReference, window_end_of
from airflow_provider_azureml_classic.protocol.values import Resource

#: Where a trained model is written, unless an operator is told otherwise.
MODEL_PATH = "models/{endpoint}/{window_end}.ilearner"


@dataclass(frozen=True)
class Window:
    """The time span that training data come from.

    :param end: exclusive end, UTC.
    :param start: inclusive start, UTC, if known.
    """

    end: datetime
    start: datetime | None = None

    def to_json(self) -> dict[str, str | None]:
        """For XCom: ISO 8601."""
        return {"start": self.start.isoformat() if self.start else None, "end": self.end.isoformat()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> Window | None:
        """What :meth:`to_json` made; ``None`` where nothing is known.

        :param data: from XCom.
        """
        if not data or not data.get("end"):
            return None
        return cls(to_utc(data["end"]), to_utc(data["start"]) if data.get("start") else None)


def to_utc(value: datetime | str) -> datetime:
    """A moment in UTC; one without a time zone is taken as UTC, as Airflow's own are.

    :param value: a datetime, or ISO 8601.
    :raises ValueError: not ISO 8601; the message shows the value.
    """
    try:
        moment = datetime.fromisoformat(value.strip()) if isinstance(value, str) else value
    except ValueError:
        raise ValueError(f"{value!r} is not a time in ISO 8601, such as 2026-01-31T00:00:00+00:00.") from None
    # To the second, as the stamp in a model's path: a finer moment, such as that of a run by hand, is never reached.
    moment = moment.replace(microsecond=0)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def run_window(context: Mapping[str, Any]) -> Window:
    """The training window of a DAG run: the one place that decides it.

    Its end is the partition date, else the end of the data interval, else when the run was due: runs that an asset
    triggers have no logical date. Its start is unknown where the interval has no length, see :func:`is_moment`.

    :param context: Airflow's task context.
    :raises ValueError: the run has none of these.
    """
    run = context.get("dag_run")
    partition = context.get("partition_date") or getattr(run, "partition_date", None)
    if partition is not None:
        return Window(to_utc(partition))
    end = context.get("data_interval_end") or getattr(run, "data_interval_end", None)
    if end is not None:
        start = _interval_start(context)
        return Window(to_utc(end), to_utc(start) if start is not None and start != end else None)
    due = getattr(run, "run_after", None)
    if due is None:
        raise ValueError("The DAG run has no partition date, no data interval and no run-after; give window_end.")
    return Window(to_utc(due))


def _interval_start(context: Mapping[str, Any]) -> datetime | None:
    return context.get("data_interval_start") or getattr(context.get("dag_run"), "data_interval_start", None)


def is_moment(context: Mapping[str, Any]) -> bool:
    """Whether a run that a schedule or a backfill made has a data interval of no length: Airflow 3's timetable for a
    cron expression or a ``timedelta`` gives such. Manual runs are left out: theirs is of no length in any DAG without a
    schedule.

    :param context: Airflow's task context.
    """
    run = context.get("dag_run")
    kind = getattr(run, "run_type", None)
    end = context.get("data_interval_end") or getattr(run, "data_interval_end", None)
    partition = context.get("partition_date") or getattr(run, "partition_date", None)
    timed = getattr(kind, "value", kind) in ("scheduled", "backfill")
    return bool(timed and partition is None and end is not None and end == _interval_start(context))


def model_path(template: str, endpoint: str, window: Window) -> str:
    """Path of the model of one window.

    :param template: with ``{endpoint}`` and ``{window_end}``, for example :data:`MODEL_PATH`.
    :param endpoint: the scoring endpoint that the model is for.
    :param window: its training window.
    """
    return template.format(endpoint=endpoint, window_end=f"{window.end:{STAMP}}")


@dataclass(frozen=True)
class Goal:
    """What a live model has to be; exactly one member is given.

    :param location: the model at this place, without its SAS token.
    :param trained_to: trained on data up to at least this moment.
    :param max_age: its training window ended at most this long ago.
    """

    location: BlobReference | None = None
    trained_to: datetime | None = None
    max_age: timedelta | None = None

    def __post_init__(self) -> None:
        given = [self.location, self.trained_to, self.max_age]
        if sum(value is not None for value in given) != 1:
            raise ValueError("Say what fresh means by exactly one of: job, trained_to, max_age.")

    def __str__(self) -> str:
        if self.location is not None:
            return f"the model at {self.location.location}"
        if self.trained_to is not None:
            return f"a model trained on data up to {self.trained_to:%Y-%m-%d %H:%M} UTC or later"
        return f"a model trained on data up to at most {self.max_age} ago"

    def check(self, resource: Resource, now: datetime) -> tuple[bool, str]:
        """Whether the live model is fresh, and a sentence about what is live.

        :param resource: the endpoint's resource as it is now.
        :param now: the present moment.
        """
        live = resource.location
        if live is None:
            return False, "The service does not say which model is live, so its age is unknown."
        end = window_end_of(live)
        if self.location is not None:
            return live.same_place(self.location), f"Live is {live.location}."
        if end is None:
            return False, f"Live is {live.location}: its path names no training window, so its age is unknown."
        said = f"Live is {live.location}, trained on data up to {end:%Y-%m-%d %H:%M} UTC ({age_text(now - end)} ago)."
        if self.trained_to is not None:
            return end >= self.trained_to, said
        return now - end <= (self.max_age or timedelta()), said


def age_text(age: timedelta) -> str:
    """An age as people say it: the largest two units.

    :param age: a duration; a negative one reads as zero.
    """
    minutes = max(0, int(age.total_seconds() // 60))
    days, hours, rest = minutes // 1440, minutes // 60 % 24, minutes % 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {rest} min" if hours else f"{rest} min"
