"""What "fresh" means: a model is as new as the data it was trained on.

The model's own path holds the end of its training window, and an endpoint's ``Resources[].Location`` names the live
model, so everyone can read freshness from the service itself. Pure: no I/O, no Airflow.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from airflow_provider_azureml_classic.protocol.messages import check_members
from airflow_provider_azureml_classic.protocol.moments import age_text, moment_text, to_utc
from airflow_provider_azureml_classic.protocol.references import STAMP, BlobReference, window_end_of
from airflow_provider_azureml_classic.protocol.values import Endpoint, Resource

#: Where a trained model is written, unless an operator sets another path: never the same place twice.
MODEL_PATH = "models/{service}/{endpoint}/{window_end}-{token}.ilearner"


@dataclass(frozen=True)
class Window:
    """The time span that training data come from.

    :param end: exclusive end, UTC.
    :param start: inclusive start, UTC, if known.
    """

    end: datetime
    start: datetime | None = None

    def __post_init__(self) -> None:
        # To the second, as the stamp in a model's path: a finer moment, as of a run by hand, is never reached.
        object.__setattr__(self, "end", self.end.replace(microsecond=0))
        object.__setattr__(self, "start", self.start.replace(microsecond=0) if self.start else None)

    def to_json(self) -> dict[str, str | None]:
        """For XCom: ISO 8601."""
        return {"start": self.start.isoformat() if self.start else None, "end": self.end.isoformat()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> Window | None:
        """The window that :meth:`to_json` wrote; ``None`` if it is unknown.

        :param data: from XCom.
        :raises ValueError: it is something else.
        """
        if not data:
            return None
        check_members(data, dict.fromkeys(("start", "end"), str | datetime | None))
        if not data.get("end"):
            return None
        return cls(to_utc(data["end"]), to_utc(data["start"]) if data.get("start") else None)


def run_window(context: Mapping[str, Any]) -> Window:
    """The training window of a DAG run: the one place that decides it.

    Its end is the partition date, else the end of the data interval, else the time at which the run was due: runs that
    an asset triggers have no logical date. Its start is unknown if the interval has no length, see :func:`is_moment`.

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
        raise ValueError("The DAG run has no partition date, no data interval and no run-after; set window_end.")
    return Window(to_utc(due))


def _interval_start(context: Mapping[str, Any]) -> datetime | None:
    return context.get("data_interval_start") or getattr(context.get("dag_run"), "data_interval_start", None)


def is_moment(context: Mapping[str, Any]) -> bool:
    """Whether a run of a schedule or a backfill has a data interval of no length: Airflow 3's timetable for a cron
    expression or a ``timedelta`` makes such. Manual runs are left out: theirs has no length in any DAG without a
    schedule.

    :param context: Airflow's task context.
    """
    run = context.get("dag_run")
    kind = getattr(run, "run_type", None)
    end = context.get("data_interval_end") or getattr(run, "data_interval_end", None)
    partition = context.get("partition_date") or getattr(run, "partition_date", None)
    timed = getattr(kind, "value", kind) in ("scheduled", "backfill")
    return bool(timed and partition is None and end is not None and end == _interval_start(context))


def model_path(template: str, service_id: str, endpoint: str, window: Window, folder: str = "") -> str:
    """Path of the model of one window; where the template has a token, each call gives another path.

    :param template: with ``{service}``, ``{endpoint}``, ``{window_end}`` and ``{token}``, as :data:`MODEL_PATH`; and,
        where wanted, ``{folder}``.
    :param service_id: of the training web service.
    :param endpoint: the scoring endpoint that the model is for.
    :param window: its training window.
    :param folder: the customer's.
    """
    names = {"service": service_id, "endpoint": endpoint, "folder": folder, "token": uuid.uuid4().hex[:12]}
    return template.format(window_end=f"{window.end:{STAMP}}", **names)


def limit_of(endpoint: Endpoint) -> timedelta:
    """After how long the model of an endpoint is stale, as the endpoint says.

    :param endpoint: as read.
    :raises ValueError: it says nothing.
    """
    if endpoint.stale_after is None:
        raise ValueError(
            f"Endpoint {endpoint.name!r} has no limit after which its model is stale. Set max_age, or the limit of the "
            "endpoint: AddEndpointOperator(stale_after=..., if_exists='update'), `azureml-classic endpoints set "
            "--stale-after` or the portal; both are of the self-hosted server."
        )
    return endpoint.stale_after


@dataclass(frozen=True)
class Goal:
    """The live model to wait for; exactly one member is set.

    :param location: the model at this location, without its SAS token.
    :param trained_to: a model trained on data up to at least this moment.
    :param max_age: a model whose training window ended at most this long ago.
    """

    location: BlobReference | None = None
    trained_to: datetime | None = None
    max_age: timedelta | None = None

    def __post_init__(self) -> None:
        if [self.location, self.trained_to, self.max_age].count(None) != 2:
            raise ValueError(
                "Set exactly one of job, trained_to and max_age: it defines what is fresh. A job that is an upstream "
                "task's output is empty if that task left no result in this run."
            )
        if self.trained_to is not None:
            # To the second, as windows are: see there.
            object.__setattr__(self, "trained_to", self.trained_to.replace(microsecond=0))

    def __str__(self) -> str:
        if self.location is not None:
            return f"the model at {self.location.location}"
        if self.trained_to is not None:
            return f"a model trained on data up to {moment_text(self.trained_to)} or later"
        return f"a model trained on data up to at most {self.max_age} ago"

    def check(self, resource: Resource, now: datetime) -> tuple[bool, str]:
        """Whether the live model is fresh, and a sentence that describes it.

        :param resource: the endpoint's resource as it is now.
        :param now: the present moment.
        """
        live = resource.location
        if live is None:
            return False, "The service does not name the live model, so its age is unknown."
        end = resource.data_end if self.max_age is not None else resource.window_end
        if self.location is not None:
            return live.same_place(self.location), f"Live is {live.location}."
        if end is None:
            return False, f"Live is {live.location}: its path names no training window, so its age is unknown."
        state = f"Live is {live.location}, trained on data up to {moment_text(end)} ({age_text(now - end)} ago)."
        if self.trained_to is not None:
            return end >= self.trained_to, state
        return now - end <= (self.max_age or timedelta()), state


def window_in_path(model: BlobReference) -> Window | None:
    """The training window that a model's path names.

    :param model: where it is stored.
    """
    end = window_end_of(model)
    return Window(end) if end else None
