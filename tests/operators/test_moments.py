"""Runs whose data interval has no length: what the tasks say about them, and which window they write down."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_azureml_classic.operators import BatchExecutionOperator
from tests.support import BIKES, ServerProcess
from tests.support.fleets import fleet
from tests.support.tasks import DAY, context

NAMED = ("2026-03-01 00:00:00+00:00", "CronDataIntervalTimetable", "create_cron_data_intervals", "window_end")


def moment(kind: str = "scheduled") -> dict[str, Any]:
    """The context of a run that Airflow 3 makes of ``schedule="@daily"``."""
    given = context(data_interval_start=DAY, run_type=kind)
    return {**given, "data_interval_start": DAY, "data_interval_end": DAY}


def warnings(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What was warned of since the last time; tasks log to the standard output here."""
    return [line for line in capsys.readouterr().out.splitlines() if "[warning" in line]


def train(**options: Any) -> BatchExecutionOperator:
    """A training task."""
    return BatchExecutionOperator(task_id="train", web_service=BIKES, model_for="bikes", **options)


@pytest.mark.parametrize("kind", ["scheduled", "backfill"])
def test_training_warns(capsys: pytest.CaptureFixture[str], kind: str) -> None:
    """The log names the moment and the remedies; the window has an end, and no start."""
    task = train()
    task._check(moment(kind))
    [said] = warnings(capsys)
    assert [word for word in NAMED if word not in said] == []
    assert task._result(moment(kind), {"outputs": {}})["window"] == {"start": None, "end": DAY.isoformat()}
    path = task._destinations(moment(kind), "training")["output1"]
    assert path.startswith("models/training/bikes/20260301T000000Z-")


def test_who_says_the_window_is_not_warned(capsys: pytest.CaptureFixture[str]) -> None:
    """Nor is a manual run, or one whose interval has a length."""
    task = train(window_end=DAY.isoformat())
    task._check(moment())
    train()._check(moment("manual"))
    train()._check(context(run_type="scheduled"))
    assert warnings(capsys) == []


def test_the_purpose_has_a_start_only_if_it_was_declared() -> None:
    """The start of a run's interval is not that of the data, which may hold all days so far: only a window that was set
    has one, and one without an end counts for nothing."""
    run = context()
    start, end = DAY.replace(day=2), DAY.replace(day=3)
    declared = {"window_start": start.isoformat(), "window_end": end.isoformat()}
    purposes = [train(**options)._purpose(run) for options in ({}, {"window_start": start.isoformat()}, declared)]
    assert [(purpose.start, purpose.end) for purpose in purposes if purpose] == [(None, DAY), (None, DAY), (start, end)]
    assert {purpose.endpoint for purpose in purposes if purpose} == {"bikes"}


@pytest.mark.usefixtures("airflow_connection")
def test_fleet_warns(server: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    """A fleet warns unless each of its items has a window of its own."""
    day = datetime(2026, 3, 1, tzinfo=UTC).isoformat()
    items = [{"endpoint": "ada", "inputs": "a.csv", "window_end": day}]
    fleet("default", items)._items(moment())
    assert warnings(capsys) == []
    [_, item] = fleet("default", [*items, {"endpoint": "bob", "inputs": "b.csv"}])._items(moment())
    assert len(warnings(capsys)) == 1
    assert item.window.to_json() == {"start": None, "end": day}
