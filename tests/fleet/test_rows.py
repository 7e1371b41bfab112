"""What is asked of a fleet, what is kept of it, and how its result reads. No service."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from airflow_provider_azureml_classic.fleet import report
from airflow_provider_azureml_classic.fleet.options import Options
from airflow_provider_azureml_classic.fleet.report import Progress
from airflow_provider_azureml_classic.fleet.rows import (
    CHUNK,
    Ledger,
    Outcome,
    Row,
    allowed,
    next_wave,
    parse_items,
)
from airflow_provider_azureml_classic.memory import FLEET_KEY, FleetMemory
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.retraining.freshness import Window
from airflow_provider_azureml_classic.retraining.quality import METRICS
from tests.support.gates import DAY
from tests.support.tasks import Store

WEEK = Window(DAY)


def rows(count: int) -> list[Row]:
    """Rows without an outcome."""
    return [Row(f"e{number}") for number in range(count)]


def test_items_are_read() -> None:
    """A place without a name is for the first input; an item without a window has the run's."""
    named = {"endpoint": "b", "inputs": {"x": "a/b.csv"}, "window_end": "2026-01-02", "global_parameters": {"p": 1}}
    named["window_start"] = "2026-01-01T02:00:00+02:00"
    first, second = parse_items([{"endpoint": " a ", "inputs": "c/d.csv"}, named], WEEK, "input1")
    assert (first.endpoint, first.inputs, first.window) == ("a", {"input1": "c/d.csv"}, WEEK)
    assert (first.is_declared, second.is_declared) == (False, True)
    assert (second.inputs, second.global_parameters) == ({"x": "a/b.csv"}, {"p": 1})
    assert second.window == Window(DAY.replace(month=1, day=2), DAY.replace(month=1, day=1))
    (without,) = parse_items([{"endpoint": "a", "inputs": "x", "window_end": "2026-01-02"}], WEEK, "input1")
    assert without.window == Window(DAY.replace(month=1, day=2))


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ("a", "it must be a mapping with endpoint and inputs, not str."),
        ({"inputs": "x"}, "it has no endpoint."),
        ({"endpoint": "a"}, "it has no inputs."),
        ({"endpoint": "a", "inputs": "x", "input": "y"}, "it has 'input', which is none of: endpoint, global_param"),
        ({"endpoint": "A-1", "inputs": "x"}, "'A-1' cannot be an endpoint's name"),
        ({"endpoint": "a", "inputs": "x", "window_end": "soon"}, "'soon' is not a time in ISO 8601"),
        ({"endpoint": "a", "inputs": "x", "window_start": "2026-01-01"}, "it has window_start, but no window_end"),
        ({"endpoint": "ok", "inputs": "x"}, "endpoint 'ok' is in the list twice."),
    ],
)
def test_bad_items(item: Any, said: str) -> None:
    """A bad item is named by its position before anything is asked of the service."""
    with pytest.raises(ValueError, match="Item 2 of the fleet: ") as caught:
        parse_items([{"endpoint": "ok", "inputs": "x"}, item], WEEK, "input1")
    assert str(caught.value).startswith(f"Item 2 of the fleet: {said}")
    # Without the codes of the service's errors.
    assert "[HTTP" not in str(caught.value)


def test_thresholds() -> None:
    """A number counts endpoints, a share below 1 is of the fleet or wave."""
    assert [allowed(0, 1000), allowed(3, 1000), allowed(0.05, 1000), allowed(0.05, 10)] == [0, 3, 50, 0]
    assert [allowed(1.0, 10), allowed(2.0, 10)] == [1, 2]
    # In binary each of these shares is a little less than what is written.
    assert [allowed(share / 100, 100) for share in range(100)] == list(range(100))


def test_waves() -> None:
    """One, then ten, then all that are left; what has ended is in none."""
    fleet = rows(20)
    fleet[0].outcome = Outcome.KEPT
    sizes = []
    for number in (1, 2, 3, 4):
        wave = next_wave(fleet, [1, 10], number)
        sizes.append(len(wave))
        for row in wave:
            assert row.wave == number
            row.outcome = Outcome.UPDATED
    assert sizes == [1, 10, 8, 0]


def test_what_was_under_way_goes_on_first() -> None:
    """After a kill the wave that had begun is the first one, by itself: its jobs run, and with those of another wave
    they would be too many. What failed in it waits for the next.
    """
    fleet = rows(6)
    fleet[0].end(Outcome.UPDATED, "")
    fleet[1].end(Outcome.FAILED, "Why.")
    for row in fleet[:4]:
        row.wave = 2
    for row in fleet:
        row.open_again()
    assert [row.wave for row in fleet] == [0, 0, 2, 2, 0, 0]
    assert next_wave(fleet, [1], 1) == fleet[2:4]
    assert [row.wave for row in fleet] == [0, 0, 1, 1, 0, 0]
    for row in fleet[2:4]:
        row.end(Outcome.UPDATED, "")
    assert next_wave(fleet, [1], 2) == [fleet[1], *fleet[4:]]


def test_rows_survive() -> None:
    """A row reads back as it was written, as plain JSON; members of a later version are no obstacle."""
    row = Row("a", {"end": "2026-01-02", "start": None}, 3, 2, "ab", 12.5, Outcome.ROLLED_BACK, "Why.", {"x": 1})
    kept = json.loads(json.dumps(row.to_json()))
    assert type(row.to_json()["outcome"]) is str
    again = Row.from_json({**kept, "later": 1})
    assert again == row
    assert again.outcome is Outcome.ROLLED_BACK
    assert Row("a").to_json() == {"endpoint": "a"}


def test_a_new_attempt_opens_what_did_not_end_well() -> None:
    """Updated and kept stay; failed, rolled back and untouched are open again, with the job they had."""
    fleet = [Row("a", job_id="j", outcome=outcome, reason="Why.", receipt={"x": 1}) for outcome in Outcome]
    for row in fleet:
        row.open_again()
    assert [row.outcome for row in fleet] == [Outcome.UPDATED, Outcome.KEPT, None, None, None]
    assert {row.job_id for row in fleet} == {"j"}
    assert [(row.reason, row.receipt) for row in fleet] == [("Why.", {"x": 1})] * 2 + [("", None)] * 3


def test_only_changed_parts_are_written() -> None:
    """A change of one endpoint writes the part it is in, not the fleet; what is kept is recalled in order."""
    store, fleet = Store(), rows(2 * CHUNK + 1)
    memory = FleetMemory({"task_state_store": store})
    memory.begin(fleet, deadline=5.0)
    store.journal.clear()
    fleet[CHUNK].job_id = "j"
    assert memory.keep() == 1
    assert memory.keep() == 0
    assert store.journal == ["keep"]
    again = FleetMemory({"task_state_store": store})
    kept, head = again.recall()
    assert [row.endpoint for row in kept] == [row.endpoint for row in fleet]
    assert (kept[CHUNK].job_id, head["deadline"]) == ("j", 5.0)
    again.forget()
    assert store.kept == {}


def test_a_new_fleet_is_written_whole() -> None:
    """Every part of it, unless it was read as it is."""
    assert [number for number, _ in Ledger(rows(CHUNK + 1)).changed()] == [0, 1]
    assert Ledger(rows(CHUNK + 1), is_kept=True).changed() == []


def test_a_part_is_small() -> None:
    """25 rows that all have ended, with long names and receipts, stay below the size at which Airflow warns."""
    place = "https://account.blob.core.windows.net/container/models/abcdefghijklmnopqrstuvwx/20260101T000000Z.ilearner"
    answers = Table.of(
        [{"Scored Labels": "a" * 20, "Scored Probabilities": 0.123456789012} for _ in range(5)]
    ).to_wire()
    receipt = {
        "web_service": "W" * 40,
        "web_service_id": "a" * 32,
        "endpoint": "e" * 24,
        "resource": "R" * 40,
        "model": {"location": place, "length": 12345, "sha256": "a" * 64},
        "window": {"start": DAY.isoformat(), "end": DAY.isoformat()},
        "job_id": "a" * 32,
        "trained_by": {"web_service": "a" * 32, "endpoint": "e" * 24, "job_id": "a" * 32},
        "metrics": dict.fromkeys([f"Coefficient of Something {n}" for n in range(9)], 0.123456789012),
        "proof": {"level": "score", "seconds": 1.234},
        "replaced": {"location": place, "window_end": DAY.isoformat(), "answers": answers},
        "updated_at": DAY.isoformat(),
    }
    one = Row("e" * 24, receipt["window"], 2, 1, "a" * 32, 1e9, Outcome.UPDATED, "Why." * 20, receipt)
    [(_, part)] = Ledger([one] * CHUNK).changed()
    assert len(json.dumps(part)) < 65_535


def test_without_a_store_nothing_is_remembered() -> None:
    """An Airflow before 3.3 has no task state store; the fleet runs all the same."""
    memory = FleetMemory({})
    memory.begin(rows(1))
    assert memory.recall() == ([], {})
    memory.forget()


def test_progress_tells_rate_and_time_left() -> None:
    """A line comes with each 5 % or ten seconds, with the rate of the last minute; nothing new, no line."""
    now, said = [0.0], list[str]()
    fleet = rows(100)
    progress = Progress(fleet, said.append, lambda: now[0])
    for second in range(1, 31):
        now[0] = second
        fleet[second].outcome = Outcome.UPDATED
        progress.update(40)
    assert len(said) == 6
    expected = "30 of 100 ended (30 %: 30 updated); 40 jobs in flight; 1.00 a second; about 70 s left."
    assert said[-1] == expected
    now[0] += 12
    progress.update(40)
    assert len(said) == 6


def test_the_report_is_complete_and_harmless() -> None:
    """Every endpoint is in the CSV and in the page, what needs attention first; the service's words do no harm."""
    fleet = rows(150)
    for row in fleet:
        row.end(Outcome.UPDATED, "Proved.")
    fleet[120].end(Outcome.FAILED, "=cmd|' /C calc'!A0 <script>alert(1)</script>")
    read = list(csv.DictReader(io.StringIO(report.as_csv(fleet))))
    assert len(read) == 150
    assert read[120]["reason"].startswith("'=cmd")
    page = report.as_html(fleet, "Fleet <1>")
    assert page.count("<tr ") == 150
    assert page.index("e120") < page.index("e0<")
    assert "<script>" not in page
    told = report.as_xcom(fleet)
    assert (told["total"], told["counts"]["failed"], len(told["rows"]), told["rows_left_out"]) == (150, 1, 100, 50)
    assert told["rows"][0]["endpoint"] == "e120"
    assert report.as_text(fleet).count("\n") == 100
    said = report.failure(fleet, 0, "the fleet")
    assert said.startswith("1 of 150 endpoints of the fleet failed; 0 may fail. 'e120' (failed): =cmd")


RECEIPT = {
    "model": {"location": "http://own/m/new.ilearner", "sha256": "a" * 64},
    "proof": {"level": "score"},
    "replaced": {"location": "http://own/m/old.ilearner"},
}


def test_cells() -> None:
    """Every column, from the row and from its receipt; what is not known is empty."""
    whole = Row("e", {"end": "2026-03-01"}, job_id="1", outcome=Outcome.ROLLED_BACK, reason="Why.", receipt=RECEIPT)
    assert report.cells(whole) == {
        "endpoint": "e",
        "outcome": "rolled back",
        "reason": "Why.",
        "job_id": "1",
        "window_end": "2026-03-01",
        "proof": "score",
        "model": "http://own/m/new.ilearner",
        "sha256": "a" * 64,
        "replaced": "http://own/m/old.ilearner",
    }
    assert set(report.cells(Row("e")).values()) == {"e", "untouched", ""}
    assert report.cells(Row("e", receipt={"proof": None}))["proof"] == ""


def ended() -> list[Row]:
    """A row of each outcome, and one of none."""
    fleet = [Row(f"e{number}" * (number + 1)) for number in range(6)]
    for row, outcome in zip(fleet, Outcome, strict=False):
        row.end(outcome, f"It is {outcome.value}.")
    return fleet


def test_what_needs_attention_comes_first() -> None:
    """What went wrong, then what was kept or is left, then what was updated; each with its reason, aligned."""
    ordered = [("e2e2e2", "failed"), ("e3e3e3e3", "rolled back"), ("e1e1", "kept"), ("e4e4e4e4e4", "untouched")]
    lines = [f"{name:12}  {outcome:11}  It is {outcome}." for name, outcome in [*ordered, ("e0", "updated")]]
    lines.insert(4, f"{'e5e5e5e5e5e5':12}  {'untouched':11}  ")
    assert report.as_text(ended()) == "\n".join(lines)
    assert report.as_text([]) == ""
    assert report.as_text(rows(101)).splitlines()[-1] == "... and 1 more."
    assert len(report.as_text(rows(100)).splitlines()) == 100


def test_the_page() -> None:
    """A title, a sentence, a heading for each column, and a row for each endpoint with the class of its outcome."""
    page = report.as_html(ended()[3:4], "A & B")
    for part in (
        "<title>A &amp; B</title>",
        "<h1>A &amp; B</h1><p>1 endpoints: 1 rolled back.</p>",
        "<th>endpoint</th><th>outcome</th><th>reason</th><th>job id</th><th>window end</th>",
        '<tr class="rolled-back"><td>e3e3e3e3</td><td>rolled back</td><td>It is rolled back.</td>' + "<td></td>" * 6,
    ):
        assert part in page
    assert report.as_html(ended(), "x").count("</tr>\n<tr") == 5
    assert report.as_csv(ended()[:1]).count("\r\n") == 2
    assert report.as_csv(ended()[:1]).splitlines() == [
        "endpoint,outcome,reason,job_id,window_end,proof,model,sha256,replaced",
        "e0,updated,It is updated.,,,,,,",
    ]


@pytest.mark.parametrize("sign", "=+-@")
def test_cells_of_a_spreadsheet_are_no_formulas(sign: str) -> None:
    """Whatever sign makes one."""
    fleet = [Row("e", reason=f"{sign}1"), Row("f", reason=f"1{sign}"), Row("g", reason="X")]
    first, second, third = csv.DictReader(io.StringIO(report.as_csv(fleet)))
    assert (first["reason"], second["reason"], third["reason"]) == (f"'{sign}1", f"1{sign}", "X")


def test_sentences_of_a_fleet() -> None:
    """Counts of what there is; the first three failures by name, and how many more."""
    assert report.summary(ended()) == ("6 endpoints: 1 updated, 1 kept, 1 failed, 1 rolled back, 2 untouched.")
    assert report.summary([]) == "0 endpoints: none."
    bad = rows(5)
    for row in bad:
        row.end(Outcome.FAILED, f"Why {row.endpoint}.")
    assert report.failure(bad[:3], 1, "wave 2").startswith(
        "3 of 3 endpoints of wave 2 failed; 1 may fail. 'e0' (failed): Why e0. 'e1' (failed): Why e1. "
        "'e2' (failed): Why e2. A retry"
    )
    assert "'e2' (failed): Why e2. And 2 more. A retry" in report.failure(bad, 1, "wave 2")


def test_an_xcom() -> None:
    """All is counted, and the rows that need attention are in it."""
    told = report.as_xcom(ended())
    assert told["rows"][0] == {"endpoint": "e2e2e2", "outcome": "failed", "reason": "It is failed.", "job_id": ""}
    assert (told["total"], told["rows_left_out"], len(told["rows"])) == (6, 0, 6)
    assert told["counts"] == {"updated": 1, "kept": 1, "failed": 1, "rolled back": 1, "untouched": 2}


def test_when_progress_is_told() -> None:
    """Each twentieth of a fleet; each ten seconds if there is news; half a minute of silence breaks it."""
    now, lines, fleet = [0.0], list[str](), rows(100)
    progress = Progress(fleet, lines.append, lambda: now[0])

    def at(second: float, ended: int) -> int:
        now[0] = second
        for row in fleet[:ended]:
            row.outcome = Outcome.UPDATED
        count = len(lines)
        progress.update(1)
        return len(lines) - count

    assert [at(1, 4), at(2, 5), at(2, 9), at(11, 9), at(12, 9), at(41, 9), at(42, 9), at(42, 14)] == [
        0, 1, 0, 0, 1, 0, 1, 1,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("total", "seconds", "ended", "line"),
    [
        (10, 0.0, 0, "0 of 10 ended (0 %); 3 jobs in flight."),
        (10, 10.0, 5, "5 of 10 ended (50 %: 5 updated); 3 jobs in flight; 0.50 a second; about 10 s left."),
        (25, 10.0, 1, "1 of 25 ended (4 %: 1 updated); 3 jobs in flight; 0.10 a second; about 4 min left."),
        (0, 10.0, 0, "0 of 0 ended (0 %); 3 jobs in flight."),
        (1, 10.0, 1, "1 of 1 ended (100 %: 1 updated); 3 jobs in flight; 0.10 a second; about 0 s left."),
        (10, 1.0, 10, "10 of 10 ended (100 %: 10 updated); 3 jobs in flight; 10.00 a second; about 0 s left."),
        (130, 10.0, 10, "10 of 130 ended (7 %: 10 updated); 3 jobs in flight; 1.00 a second; about 2 min left."),
    ],
)
def test_lines_of_progress(total: int, seconds: float, ended: int, line: str) -> None:
    """How many have ended, at which rate, and how long the others take at it."""
    now, lines, fleet = [0.0], list[str](), rows(total)
    progress = Progress(fleet, lines.append, lambda: now[0])
    for row in fleet[:ended]:
        row.outcome = Outcome.UPDATED
    now[0] = seconds
    progress.update(3)
    assert (lines or [progress.line(3)]) == [line]


@pytest.mark.parametrize(
    ("points", "rate"),
    [
        # What was quick an hour ago promises nothing.
        ([(10, 500), (20, 560), (80, 570), (90, 590)], "2.00"),
        ([(30, 100), (59, 118)], "2.00"),
        ([(100, 50)], "0.50"),
    ],
)
def test_the_rate_is_that_of_the_last_minute(points: list[tuple[int, int]], rate: str) -> None:
    """Or of the last two lines, if these are rarer."""
    now, lines, fleet = [1000.0], list[str](), rows(1000)
    progress = Progress(fleet, lines.append, lambda: now[0])
    for second, ended in points:
        now[0] = 1000.0 + second
        for row in fleet[:ended]:
            row.outcome = Outcome.UPDATED
        progress.update(0)
    assert f"; {rate} a second; " in lines[-1]


def test_each_of_a_few_is_told() -> None:
    """A twentieth of them is less than one."""
    now, lines, fleet = [0.0], list[str](), rows(5)
    progress = Progress(fleet, lines.append, lambda: now[0])
    fleet[0].outcome = Outcome.KEPT
    now[0] = 1.0
    progress.update(2)
    assert lines == ["1 of 5 ended (20 %: 1 kept); 2 jobs in flight; 1.00 a second; about 4 s left."]


def test_who_trains() -> None:
    """The endpoint that is named, or the customer's own."""
    shared, paired = (Options("a", "trainer", "b", paired=one) for one in (False, True))
    assert (shared.trainer_of("store7"), paired.trainer_of("store7")) == ("trainer", "store7")


def test_options_are_plain_json() -> None:
    """As arguments of a trigger, from which they are made again."""
    options = Options(
        "a", "default", "b", thresholds={"AUC": {"min": 0.5}}, max_worse={"AUC": "2%"}, on_undecided="keep"
    )
    assert Options(**json.loads(json.dumps(options.to_json()))) == options
    rules = options.rules()
    assert (rules.limits, rules.on_undecided, rules.allow_training_metrics) == ({"AUC": {"min": 0.5}}, "keep", False)
    assert {name: str(one) for name, one in rules.allowances.items()} == {"AUC": "2%"}
    assert rules.metrics is METRICS
    assert Options("a", "default", "b", allow_training_metrics=True).rules().allow_training_metrics
    with pytest.raises(ValueError, match="max_worse of 'AUC'"):
        Options("a", "default", "b", max_worse={"AUC": -1}).rules()
    for good in (
        {},
        {"proof": "content"},
        {"on_failure": "keep"},
        {"unknown_window": "refuse"},
        {"max_active_jobs": 1},
    ):
        Options("a", "default", "b", **good).check()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("rehearsal", "on"),
        ("max_change", 0.1),
        ("max_worse", {"AUC": -1}),
        ("on_undecided", "shrug"),
        ("proof", "hope"),
        ("on_failure", "shrug"),
        ("max_active_jobs", 0),
        ("unknown_window", "hope"),
        ("thresholds", {"AUC": 1}),
    ],
)
def test_bad_options(option: str, value: Any) -> None:
    """An option that would fail every endpoint is refused at once, by name."""
    with pytest.raises(ValueError, match=option):
        Options("a", "default", "b", **{option: value}).check()


def test_the_first_key_is_stable() -> None:
    """Another version of the package finds what this one has kept."""
    assert FLEET_KEY == "azureml_classic_fleet"
