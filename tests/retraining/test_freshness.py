"""What "fresh" means: windows of runs, paths of models, goals."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_azureml_classic.protocol.moments import age_text, to_utc
from airflow_provider_azureml_classic.protocol.references import BlobReference, ToldWindow, window_end_of
from airflow_provider_azureml_classic.protocol.values import Endpoint, Resource
from airflow_provider_azureml_classic.retraining.freshness import (
    MODEL_PATH,
    Goal,
    Window,
    is_moment,
    limit_of,
    model_path,
    run_window,
    window_in_path,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PARTITION, START, END, DUE = (NOON + timedelta(days=n) for n in range(4))
WITH_END = {"data_interval_end": END}


def test_window_order() -> None:
    """A run's date is its partition date, else the end of its data interval, else when it was due."""
    everything = {
        "partition_date": PARTITION,
        "data_interval_start": START,
        "data_interval_end": END,
        "run_after": DUE,
    }
    assert run_window({"dag_run": SimpleNamespace(**everything)}) == Window(PARTITION)
    everything["partition_date"] = None
    assert run_window({"dag_run": SimpleNamespace(**everything)}) == Window(END, START)
    everything["data_interval_end"] = None
    assert run_window({"dag_run": SimpleNamespace(**everything)}) == Window(DUE)


def test_window_of_an_asset_triggered_run() -> None:
    """A run that an asset triggered has no logical date and no interval; it is dated by when it was due."""
    run = SimpleNamespace(logical_date=None, data_interval_start=None, data_interval_end=None, run_after=DUE)
    assert run_window({"dag_run": run}) == Window(DUE)


def test_window_of_an_interval_of_no_length() -> None:
    """Airflow 3's timetable for cron expressions: the end is the run's, and where the data begin is not known."""
    run = SimpleNamespace(data_interval_start=END, data_interval_end=END, run_after=DUE)
    assert run_window({"dag_run": run}) == Window(END)


@pytest.mark.parametrize("kind", ["scheduled", "backfill", "manual", "asset_triggered"])
@pytest.mark.parametrize("start", [START, END, None])
def test_moments(kind: str, start: datetime | None) -> None:
    """Only a run of a schedule or a backfill whose interval starts at its end is a moment by mistake."""
    run = SimpleNamespace(run_type=SimpleNamespace(value=kind), data_interval_start=start, data_interval_end=END)
    expected = start == END and kind in ("scheduled", "backfill")
    assert is_moment({"dag_run": run}) is expected
    assert is_moment({"dag_run": SimpleNamespace(run_type=kind), "data_interval_start": start, **WITH_END}) is expected
    assert not is_moment({"dag_run": run, "partition_date": PARTITION})
    assert not is_moment({})


def test_window_from_the_context_itself() -> None:
    """What Airflow puts into the context goes before what hangs on the run."""
    run = SimpleNamespace(data_interval_end=DUE, data_interval_start=None, run_after=DUE)
    assert run_window({"dag_run": run, "data_interval_end": END, "data_interval_start": START}) == Window(END, START)
    assert run_window({"dag_run": run, "partition_date": PARTITION}) == Window(PARTITION)


@pytest.mark.parametrize("context", [{}, {"dag_run": None}, {"dag_run": SimpleNamespace()}])
def test_window_of_nothing(context: dict[str, Any]) -> None:
    """A run without any date is told what to give."""
    with pytest.raises(ValueError, match="set window_end"):
        run_window(context)


@pytest.mark.parametrize(
    ("given", "moment"),
    [
        ("2026-03-01", NOON.replace(hour=0)),
        (" 2026-03-01T12:00:00 ", NOON),
        ("2026-03-01T12:00:00Z", NOON),
        ("2026-03-01T14:00:00+02:00", NOON),
        (datetime(2026, 3, 1, 12), NOON),
        (NOON, NOON),
    ],
)
def test_to_utc(given: Any, moment: datetime) -> None:
    """Moments in any spelling are in UTC; one without a time zone is UTC already."""
    assert to_utc(given) == moment
    assert to_utc(given).tzinfo is UTC


def test_moments_are_compared_to_the_second() -> None:
    """The end of a run by hand has microseconds, the stamp in the path of its model has none: it is fresh."""
    end = datetime(2026, 3, 1, 12, 0, 7, 654321, UTC)
    window = run_window({"data_interval_start": end, "data_interval_end": end})
    live = Resource("m", BlobReference(model_path(MODEL_PATH, "training", "bikes", window), "https://acct.example/"))
    goal = Goal(trained_to=to_utc("2026-03-01T12:00:07.654321+00:00"))
    assert goal.check(live, end)[0]
    assert not Goal(trained_to=to_utc("2026-03-01T12:00:08+00:00")).check(live, end)[0]


def test_to_utc_wrong() -> None:
    """A text that is no time is shown, with an example."""
    with pytest.raises(ValueError, match="'yesterday' is not a time in ISO 8601, such as"):
        to_utc("yesterday")


def test_path_round_trip() -> None:
    """The window that names a path can be read back from it."""
    path = model_path("models/{endpoint}/{window_end}.ilearner", "training", "store7", Window(NOON))
    assert path == "models/store7/20260301T120000Z.ilearner"
    assert window_end_of(BlobReference(path)) == NOON


def test_no_two_models_have_one_path() -> None:
    """Training a window again, or in another service, gives another path; its window and endpoint are still read."""
    services = ("a", "a", "b")
    paths = [BlobReference(model_path(MODEL_PATH, service, "bikes", Window(NOON))) for service in services]
    assert len(set(paths)) == len(paths)
    assert {window_end_of(path) for path in paths} == {NOON}
    assert [path.relative_location.split("/")[:3] for path in paths] == [["models", s, "bikes"] for s in services]


@pytest.mark.parametrize(
    ("path", "end"),
    [
        ("c/model.ilearner", None),
        ("c/20260301.ilearner", None),
        ("c/120260301T120000Z.ilearner", None),
        ("c/20261301T120000Z.ilearner", None),
        ("c/20250101T000000Z/20260301T120000Z-v2.ilearner", NOON),
    ],
)
def test_window_end_of(path: str, end: datetime | None) -> None:
    """The last stamp in a path counts; what only looks like one is no window."""
    assert window_end_of(BlobReference(path)) == end


def test_window_end_of_no_location() -> None:
    """A service that does not say where its model is leaves its age unknown."""
    assert window_end_of(None) is None


@pytest.mark.parametrize("window", [Window(NOON), Window(NOON, NOON - timedelta(days=1))])
def test_window_json(window: Window) -> None:
    """A window survives XCom."""
    assert Window.from_json(window.to_json()) == window


@pytest.mark.parametrize("data", [None, {}, {"end": None, "start": "2026-01-01"}])
def test_window_json_of_nothing(data: Any) -> None:
    """Nothing known is no window."""
    assert Window.from_json(data) is None


MODEL = BlobReference("models/a/20260301T120000Z.ilearner", "http://own/", "?sig=s3cret")


def check(goal: Goal, location: BlobReference | None, now: datetime = NOON + timedelta(hours=30)) -> tuple[bool, str]:
    """What a goal says about a live model."""
    return goal.check(Resource("m", location), now)


@pytest.mark.parametrize(
    ("goal", "fresh"),
    [
        (Goal(location=BlobReference(MODEL.relative_location, "HTTP://OWN")), True),
        (Goal(location=BlobReference("models/a/other.ilearner", "http://own/")), False),
        (Goal(trained_to=NOON), True),
        (Goal(trained_to=NOON + timedelta(seconds=1)), False),
        (Goal(max_age=timedelta(hours=30)), True),
        (Goal(max_age=timedelta(hours=29, minutes=59)), False),
        (Goal(max_age=timedelta()), False),
    ],
)
def test_goals(goal: Goal, fresh: bool) -> None:
    """Each of the three meanings, on both sides of its border; the sentence names the model and no token."""
    found, said = check(goal, MODEL)
    assert found is fresh
    assert "http://own/models/a/20260301T120000Z.ilearner" in said
    assert "s3cret" not in said


def test_age_is_said() -> None:
    """The sentence tells how old the live model is."""
    assert check(Goal(trained_to=NOON), MODEL)[1].endswith("trained on data up to 2026-03-01 12:00 UTC (1 d 6 h ago).")


@pytest.mark.parametrize("goal", [Goal(trained_to=NOON), Goal(max_age=timedelta(days=9999))])
def test_unknown_age_is_not_fresh(goal: Goal) -> None:
    """What cannot be told is not fresh, and is said."""
    assert check(goal, None) == (False, "The service does not name the live model, so its age is unknown.")
    fresh, said = check(goal, BlobReference("c/first.ilearner"))
    assert not fresh
    assert "its path names no training window, so its age is unknown" in said


@pytest.mark.parametrize("given", [{}, {"trained_to": NOON, "max_age": timedelta(1)}])
def test_exactly_one_meaning(given: dict[str, Any]) -> None:
    """None or several meanings are refused."""
    with pytest.raises(ValueError, match="exactly one of job, trained_to and max_age"):
        Goal(**given)


@pytest.mark.parametrize(
    ("goal", "text"),
    [
        (Goal(location=MODEL), "the model at http://own/models/a/20260301T120000Z.ilearner"),
        (Goal(trained_to=NOON), "a model trained on data up to 2026-03-01 12:00 UTC or later"),
        (Goal(max_age=timedelta(days=2)), "a model trained on data up to at most 2 days, 0:00:00 ago"),
    ],
)
def test_goal_as_text(goal: Goal, text: str) -> None:
    """A goal reads as what is awaited, without a token."""
    assert str(goal) == text


@pytest.mark.parametrize(
    ("minutes", "text"), [(-5, "0 min"), (59, "59 min"), (60, "1 h 0 min"), (1439, "23 h 59 min"), (1440, "1 d 0 h")]
)
def test_age_text(minutes: int, text: str) -> None:
    """Ages read in their two largest units."""
    assert age_text(timedelta(minutes=minutes)) == text


def test_how_far_the_data_reach() -> None:
    """An age is that of the last row, where the window is not known; other goals ask for a window."""
    told = Resource("m", BlobReference("m/x.ilearner"), window=ToldWindow(last=NOON))
    now = NOON + timedelta(hours=1)
    assert Goal(max_age=timedelta(hours=1)).check(told, now)[0]
    assert not Goal(max_age=timedelta(minutes=59)).check(told, now)[0]
    assert Goal(trained_to=NOON).check(told, now) == (
        False,
        "Live is m/x.ilearner: its path names no training window, so its age is unknown.",
    )


def test_the_limit_of_an_endpoint() -> None:
    """As it says; one that says none is named, with what to do."""
    assert limit_of(Endpoint("e", stale_after=timedelta(days=2))) == timedelta(days=2)
    with pytest.raises(ValueError, match="Endpoint 'e' has no limit"):
        limit_of(Endpoint("e"))


def test_the_window_that_a_path_names() -> None:
    """Its end, if it names one."""
    assert window_in_path(BlobReference("m/20260301T120000Z.ilearner")) == Window(NOON)
    assert window_in_path(BlobReference("m/x.ilearner")) is None


def test_windows_are_to_the_second() -> None:
    """Both ends."""
    fine = timedelta(microseconds=5)
    window = Window(NOON + fine, NOON - timedelta(days=1) + fine)
    assert (window.end, window.start) == (NOON, NOON - timedelta(days=1))


def test_a_partition_is_no_moment() -> None:
    """Wherever the context tells it."""
    members = {"run_type": "scheduled", "data_interval_start": NOON, "data_interval_end": NOON}
    assert is_moment({"dag_run": SimpleNamespace(**members)})
    assert not is_moment({"dag_run": SimpleNamespace(**members, partition_date=NOON)})
    assert not is_moment({"dag_run": SimpleNamespace(**members), "partition_date": NOON})
