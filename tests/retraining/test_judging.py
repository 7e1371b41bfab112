"""Which rows two models are compared on, and what is left out, with a service that gives made answers."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.client.retries import NO_RETRIES
from airflow_provider_azureml_classic.exceptions import RequestRejected, ServiceUnavailable, rejection
from airflow_provider_azureml_classic.protocol.digests import Digests
from airflow_provider_azureml_classic.protocol.jobs import HELD_OUT
from airflow_provider_azureml_classic.protocol.messages import Request, Response
from airflow_provider_azureml_classic.protocol.model_scoring import HeldOutRows, ModelAnswers, ModelCall
from airflow_provider_azureml_classic.protocol.references import BlobReference, ToldWindow
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.protocol.values import Endpoint, Resource
from airflow_provider_azureml_classic.retraining import judging
from airflow_provider_azureml_classic.retraining.comparison import Labelled
from airflow_provider_azureml_classic.retraining.evaluation import CheckRows, Evaluation
from airflow_provider_azureml_classic.retraining.intervals import differences_of
from airflow_provider_azureml_classic.retraining.judgement import Decision, Judgement
from airflow_provider_azureml_classic.retraining.judging import Comparison, Report, RowSet, Rules
from airflow_provider_azureml_classic.retraining.placing import Candidate
from airflow_provider_azureml_classic.retraining.quality import METRICS, Allowance, Answers
from tests.support.programs import Script

ERROR = "Mean Absolute Error"
ROWS, START = 80, datetime(2026, 1, 1, tzinfo=UTC)
NEW, LIVE = Digests("a" * 64, "b" * 64), Digests("c" * 64, "d" * 64)
LABELS = [float(row % 10) for row in range(ROWS)]


def off(by: float, seed: int = 1) -> Table:
    """Answers that are wrong by about so much."""
    source = random.Random(seed)  # noqa: S311 - test data
    return Table(("Scored Labels",), [[label + by * source.choice((-1.2, -1, 1, 1.2))] for label in LABELS])


#: The new model is wrong by 2 on its own rows, as the live one is on *its* own, which is wrong by 3 on other rows and
#: by 0.1 on those that it knows.
EVALUATION = Evaluation(
    {ERROR: 2.0},
    check=CheckRows(
        "y",
        LABELS,
        Table(("x",), [[row] for row in range(ROWS)]),
        off(2),
        [START + timedelta(days=n) for n in range(ROWS)],
    ),
)
HELD = HeldOutRows(LABELS, off(2, 2), list(range(ROWS)), LIVE, 0)


def judged(end: datetime | None, held: HeldOutRows | None = HELD, **more: Any) -> Report:
    """The report of a comparison with a live model whose window ends then."""
    window = ToldWindow(end, more.get("first", False))
    resource = Resource("r", BlobReference("models/live.ilearner"), digests=LIVE, window=window)
    endpoint = Endpoint("e", "s", resources=(resource,))
    after = replace(endpoint, resources=(replace(resource, digests=more.get("after", LIVE)),))

    def service(request: Request) -> Response:
        if request.operation.name == "get_endpoint":
            return Response.of_json(after.to_wire(), status=200)
        call = ModelCall.from_wire(json.loads(request.body))
        if call.rows is None:
            answers = Table(("Scored Labels",), [off(more.get("forgot", 2), 3).values[row] for row in HELD.asked])
            return Response.of_json(ModelAnswers(answers, NEW, held).to_wire(), status=200)
        positions = [int(row[0]) for row in call.rows.values]
        known = [end is not None and START + timedelta(days=row) < end for row in positions]
        cells = [off(0.1 if one else 3).values[row] for row, one in zip(positions, known, strict=True)]
        return Response.of_json(ModelAnswers(Table(("Scored Labels",), cells), LIVE).to_wire(), status=200)

    client = Client("http://service.test", "w", "t", transport=service, retries=NO_RETRIES)
    rules = Rules(allowances={ERROR: Allowance(0.5)})
    report = Report.of("job", EVALUATION, rules)
    asked = Comparison(
        client, rules, endpoint, resource, Candidate(BlobReference("models/new.ilearner"), None, digests=NEW)
    )
    found = {"verdict": "satisfied", "labels_as_before": True, "columns_as_before": more.get("as_before", True)}
    client.perform(asked.judge(report, EVALUATION, found))
    return report


def test_rows_that_the_live_model_knows_are_left_out() -> None:
    """The others decide, if there are enough; the live model is worse by nothing that it never saw."""
    report = judged(START + timedelta(days=30))
    assert [(one["rows"], one["verdict"]) for one in report.sets] == [(50, "no worse"), (80, "no worse")]
    assert report.reasons == []
    assert "30 rows held out of the training lie in the live model's window" in " ".join(report.notes)


def test_a_window_that_overlaps_much_makes_no_equal_model_worse() -> None:
    """Too few rows are new to the live model: each is measured on what was held out of its own training."""
    report = judged(START + timedelta(days=70))
    assert report.sets[0]["live"][ERROR] == pytest.approx(2.2, abs=0.1)
    assert (report.sets[0]["verdict"], report.reasons) == ("no worse", [])
    # Where nobody tells of such rows, those that it knows are all that there is, and a note says so.
    alone = judged(START + timedelta(days=70), None)
    assert alone.sets[0]["live"][ERROR] < 1
    assert "which favours it" in " ".join(alone.notes)


def test_rows_of_the_model_that_a_service_began_with_do_not_count() -> None:
    """They are rows of nobody in particular."""
    assert len(judged(None, first=True).sets) == 1


@pytest.mark.parametrize(("as_before", "kept"), [(True, False), (False, True)])
def test_a_model_that_forgot_what_the_live_one_knows(as_before: bool, kept: bool) -> None:
    """It is undecided, with both figures; columns that are spread in another way decide against it."""
    report = judged(START, forgot=4, as_before=as_before)
    assert report.judgement is not None
    assert report.judgement.undecided
    assert [one["verdict"] for one in report.sets] == ["no worse", "worse"]
    assert bool(report.reasons) is kept


def test_another_model_that_goes_live_meanwhile_leaves_nothing_decided() -> None:
    """The task may be retried: what was measured is live no more."""
    with pytest.raises(ServiceUnavailable, match="another one was put live"):
        judged(START + timedelta(days=30), after=NEW)


def numbers(*labels: float, wrong_by: float = 0.0) -> Answers:
    """Answers that are wrong by so much."""
    return Answers(list(labels), Table(("Scored Labels",), [[label + wrong_by] for label in labels]))


def test_rules_that_cannot_be_meant() -> None:
    """A metric that answers do not give, and an unknown way with what is open, are refused by the option's name."""
    Rules(allowances={ERROR: Allowance(0)}, on_undecided="keep").check()
    Rules().check()
    with pytest.raises(ValueError, match="on_undecided is 'shrug'; it must be one of: None, pass, keep, fail"):
        Rules(on_undecided="shrug").check()
    with pytest.raises(ValueError, match=r"max_worse names 'F1', .* those that can be: Mean Absolute Error, Root"):
        Rules(allowances={ERROR: Allowance(0), "F1": Allowance(0)}).check()
    with pytest.raises(ValueError, match="--max-worse names 'F1'"):
        Rules(allowances={"F1": Allowance(0)}).check("--max-worse")


def test_what_a_new_model_has_forgotten() -> None:
    """A share of what the live one knows; nothing where that is nothing, or is not known."""
    right, half = numbers(1, 2, 3), numbers(1, 2, 3, wrong_by=1 / 3)
    usual = Answers([1.0, 2.0, 3.0], Table(("Scored Labels",), [[2.0]] * 3))
    assert RowSet("x", half, right).lost == pytest.approx(0.5)
    assert RowSet("x", usual, half).lost == pytest.approx(1)
    assert RowSet("x", right, half).lost == pytest.approx(-1)
    assert RowSet("x", half, usual).lost == 0.0
    assert [RowSet("x", *pair).lost for pair in ((numbers(1, 1), right), (right, numbers(1, 1)))] == [0.0, 0.0]
    assert RowSet("x", numbers(1, 2), right).count == 2


TRAINED_ON = {ERROR: 2.0, HELD_OUT: 0.0}


@pytest.mark.parametrize(
    ("rules", "only_compared", "reasons"),
    [
        (Rules(), False, []),
        (Rules(limits={ERROR: {"max": 3.0}}), False, ["training rows"]),
        (Rules(limits={ERROR: {"max": 3.0}}), True, ["training rows"]),
        (Rules(limits={ERROR: {"max": 1.0}}), False, ["above the maximum", "training rows"]),
        (Rules(limits={ERROR: {"max": 1.0}}, allow_training_metrics=True), False, ["above the maximum"]),
        (Rules(allowances={ERROR: Allowance(0)}), False, ["training rows"]),
        (Rules(allowances={ERROR: Allowance(0)}), True, []),
        (Rules(allowances={ERROR: Allowance(0)}, allow_training_metrics=True), False, []),
    ],
)
def test_what_the_limits_say(rules: Rules, only_compared: bool, reasons: list[str]) -> None:
    """Metrics of the training rows count only where somebody says so, if metrics count at all."""
    report = Report.of("47e3", Evaluation({**TRAINED_ON, "Odd": float("nan")}), rules, only_compared=only_compared)
    assert len(report.reasons) == len(reasons)
    assert all(words in reason for words, reason in zip(reasons, report.reasons, strict=True))
    assert (report.job_id, report.evaluation) == ("47e3", {**TRAINED_ON, "Odd": None})
    if not only_compared:
        assert Report.of("47e3", Evaluation(TRAINED_ON), rules).reasons == report.reasons


SETS = [
    {"source": "held out", "rows": 96, "candidate": {ERROR: 1.0}, "live": {ERROR: 2.0}, "differences": {ERROR: {}}},
    {"source": "of before", "rows": 80, "candidate": {ERROR: 3.0}, "live": {ERROR: 4.0}, "differences": {}},
]


def test_a_report_as_json() -> None:
    """What was measured mainly stands beside the evaluation; without any comparison that is empty."""
    report = Report("47e3", {ERROR: 5.0}, "m/live.ilearner", SETS, Judgement(Decision.KEEP, True), ["Worse."], ["New."])
    assert report.to_json() == {
        "decision": "kept",
        "reasons": ["Worse."],
        "notes": ["New."],
        "job_id": "47e3",
        "live_model": "m/live.ilearner",
        "metrics": {"evaluation": {ERROR: 5.0}, "candidate": {ERROR: 1.0}, "live": {ERROR: 2.0}},
        "compared_on": {"rows": 96, "source": "held out"},
        "differences": {ERROR: {}},
        "sets": SETS,
        "undecided": True,
    }
    bare = Report("47e3", {}).to_json()
    assert (bare["decision"], bare["undecided"], bare["sets"], bare["differences"]) == ("pass", False, [], {})
    assert bare["compared_on"] == {"rows": 0, "source": None}
    assert bare["metrics"] == {"evaluation": {}, "candidate": {}, "live": {}}
    assert Report("47e3", {}, judgement=Judgement(Decision.PASS)).to_json()["undecided"] is False


def test_a_report_as_text() -> None:
    """Tables, the main one with the rules, and a sentence on where the rows are from."""
    rules = Rules(limits={ERROR: {"min": 1, "max": 30}}, allowances={ERROR: Allowance(0.5), "AUC": Allowance(0.1)})
    assert Report("47e3", {ERROR: 5.0}, sets=SETS).text(rules).splitlines() == [
        "Job 47e3. Compared on 96 rows, held out.",
        "metric               evaluation  candidate  live  rule",
        "Mean Absolute Error           5          1     2  min 1, max 30, worse by 0.5 at most",
        "Compared on 80 rows, of before.",
        "metric               candidate  live",
        "Mean Absolute Error          3     4",
    ]
    assert Report("47e3", {ERROR: 5.0}).text(Rules()).splitlines() == [
        "Job 47e3.",
        "metric               evaluation",
        "Mean Absolute Error           5",
    ]


CLIENT: Any = SimpleNamespace()
PLACE = BlobReference("models/new.ilearner")
LIVE_RESOURCE = Resource("r", BlobReference("models/live.ilearner"), digests=LIVE, window=ToldWindow(START))
ENDPOINT = Endpoint("e", "s", resources=(Resource("q"), LIVE_RESOURCE))
NO_CALL = rejection("OperationNotSupported", "It has no such call.")


def compared(script: Script, evaluation: Evaluation = EVALUATION, check: Labelled | None = None, **more: Any) -> Report:
    """The report of a comparison on a service of canned answers."""
    rules = more.pop("rules", Rules(allowances={ERROR: Allowance(0.5)}))
    resource = more.pop("resource", LIVE_RESOURCE)
    found = more.pop("found", None)
    report = Report.of("job", evaluation, rules)
    report.notes.append("A note of before.")
    candidate = Candidate(PLACE, None, digests=more.pop("digests", NEW))
    comparison = Comparison(
        CLIENT, rules, replace(ENDPOINT, resources=(Resource("q"), resource)), resource, candidate, **more
    )
    script.perform(comparison.judge(report, evaluation, found, check))
    return report


def test_a_service_that_has_no_such_call() -> None:
    """The live model is asked as any caller asks it; the new one's answers come from its training."""
    script = Script(score_model=[NO_CALL], score_by=[(off(2, 5), "x")], get_endpoint=[ENDPOINT])
    report = compared(script)
    assert [name for name, _ in script.calls] == ["score_model", "score_by", "get_endpoint"]
    assert script.calls[0][1] == {"endpoint": ENDPOINT, "asked": ModelCall(PLACE, NEW.file)}
    assert script.calls[1][1]["endpoint"] == ENDPOINT
    assert script.calls[2][1] == {"service_id": "s", "name": "e"}
    (one,) = report.sets
    assert (one["source"], one["rows"], one["earlier"]) == ("held out of the training", ROWS, False)
    assert one["candidate"][ERROR] == METRICS[ERROR].compute(Answers(LABELS, off(2)))
    assert one["live"][ERROR] == METRICS[ERROR].compute(Answers(LABELS, off(2, 5)))
    assert set(one["candidate"]) == {ERROR}
    assert set(one["differences"]) == {ERROR}
    assert report.judgement is not None
    without = compared(
        Script(score_model=[NO_CALL], score_by=[(off(2, 5), "x")], get_endpoint=[ENDPOINT]), digests=None
    )
    assert without.sets == report.sets


@pytest.mark.parametrize("code", ["InputParseError", "InputMismatchError", "ModelInvalid"])
def test_a_service_that_refuses_the_call(code: str) -> None:
    """A model that does not fit the rows of before is told so; any other refusal is raised."""
    error = rejection(code, "It cannot be asked.")
    script = Script(score_model=[error, ModelAnswers(off(2, 5), LIVE)], get_endpoint=[ENDPOINT])
    if code in judging._NOT_FITTING:
        notes = compared(script).notes
        assert notes[1:] == ["The new model cannot be asked for the live model's own rows: It cannot be asked."]
        return
    with pytest.raises(RequestRejected):
        compared(script)


def test_further_rows() -> None:
    """Both models are asked for them, by their digests, or the new one aside; what was held out counts beside them."""
    rows = Labelled(Table(("x",), [[row] for row in range(ROWS)]), LABELS, "of a file")
    told = [ModelAnswers(Table((), []), NEW), ModelAnswers(off(1), NEW), ModelAnswers(off(3), LIVE)]
    script = Script(score_model=[*told, ModelAnswers(off(3), LIVE)], get_endpoint=[ENDPOINT])
    report = compared(script, check=rows)
    asked = [given["asked"] for name, given in script.calls if name == "score_model"]
    assert [(call.location, call.file) for call in asked[1:]] == [
        (PLACE, NEW.file),
        (None, LIVE.file),
        (None, LIVE.file),
    ]
    assert all(call.rows == rows.rows for call in asked[1:])
    assert [one["source"] for one in report.sets] == ["of a file", "held out of the training"]
    assert "The service keeps no rows that were held out" in report.notes[1]
    alone = Script(score_model=told, get_endpoint=[ENDPOINT])
    assert [one["source"] for one in compared(alone, Evaluation({ERROR: 2.0}), rows).sets] == ["of a file"]


@pytest.mark.parametrize(
    ("answers", "prefer", "aside"),
    [(NO_CALL, False, True), (NO_CALL, True, True), (None, True, True), (None, False, False)],
)
def test_who_asks_the_new_model(answers: Any, prefer: bool, aside: bool) -> None:
    """An endpoint of its own, where the service cannot be asked by a digest, or that is preferred."""
    rows = Labelled(Table(("x",), [[row] for row in range(ROWS)]), LABELS, "of a file")
    seen: list[Any] = []
    first = answers or ModelAnswers(Table((), []), NEW)
    script = Script(
        score_model=[first, *([] if aside else [ModelAnswers(off(1), NEW)]), ModelAnswers(off(1), LIVE)],
        score_by=[(off(1), "x")],
        get_endpoint=[ENDPOINT],
    )
    compared(
        script,
        Evaluation({}),
        rows,
        aside=lambda part: seen.append(part) or Answers(part.labels, off(1)),
        prefer_aside=prefer,
    )
    assert seen == [rows] * aside


@pytest.mark.parametrize("rows", [29, 30])
def test_few_rows_are_told(rows: int) -> None:
    """They decide nothing."""
    few = Evaluation(
        {},
        check=CheckRows(
            "y", LABELS[:rows], Table(("x",), [[0]] * rows), Table(("Scored Labels",), off(1).values[:rows])
        ),
    )
    live = Table(("Scored Labels",), off(1, 4).values[:rows])
    script = Script(score_model=[NO_CALL], score_by=[(live, "x")], get_endpoint=[ENDPOINT])
    notes = compared(script, few).notes
    assert any("too few to decide by: at least 30 are needed" in note for note in notes) is (rows < 30)
    assert rows == 30 or notes[1] == (
        "The 29 rows held out of the training are too few to decide by: at least 30 are needed."
    )


@pytest.mark.parametrize("told", ["first", "held", "call"])
def test_another_model_that_answers(told: str) -> None:
    """Whoever it is, and whenever: nothing is decided."""
    held = HeldOutRows(LABELS, off(2, 2), list(range(ROWS)), NEW if told == "held" else LIVE, 0)
    first = ModelAnswers(off(2), LIVE if told == "first" else NEW, held)
    later = ModelAnswers(off(2), NEW if told == "call" else LIVE)
    with pytest.raises(ServiceUnavailable, match="Nothing was decided"):
        compared(Script(score_model=[first, later], get_endpoint=[ENDPOINT]))
    rows = Labelled(Table(("x",), [[row] for row in range(ROWS)]), LABELS, "of a file")
    script = Script(score_model=[ModelAnswers(Table((), []), NEW), later], get_endpoint=[ENDPOINT])
    if told != "call":
        with pytest.raises(ServiceUnavailable, match="Nothing was decided"):
            compared(script, check=rows)


def test_many_rows_are_asked_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """All answers count, in order."""
    monkeypatch.setattr(judging, "_CALL", 30)
    rows = Labelled(Table(("x",), [[row] for row in range(ROWS)]), LABELS, "of a file")

    def answer(asked: ModelCall, **_: Any) -> ModelAnswers:
        wanted = [] if asked.rows is None else [int(row[0]) for row in asked.rows.values]
        assert len(wanted) <= 30
        cells = [off(2).values[row] for row in wanted]
        return ModelAnswers(Table(("Scored Labels",), cells), LIVE if asked.location is None else NEW)

    report = compared(Script(score_model=[answer], get_endpoint=[ENDPOINT]), Evaluation({}), rows)
    assert report.sets[0]["candidate"] == report.sets[0]["live"]
    assert report.sets[0]["live"][ERROR] == METRICS[ERROR].compute(Answers(LABELS, off(2)))


def test_notes_are_added() -> None:
    """To those that there are."""
    held = HeldOutRows(LABELS, off(2, 2), list(range(ROWS - 1)), LIVE, 1)
    told = ModelAnswers(Table(("Scored Labels",), off(2).values[:-1]), NEW, held)
    notes = compared(Script(score_model=[told, ModelAnswers(off(2), LIVE)], get_endpoint=[ENDPOINT])).notes
    assert notes[:1] + held.notes() == notes[: 1 + len(held.notes())]
    assert notes[0] == "A note of before."


def test_what_is_done_with_what_is_open() -> None:
    """As the rules say; reasons if it is kept, notes if it passes."""
    for asked, kept in (("keep", True), ("pass", False)):
        rules = Rules(allowances={ERROR: Allowance(0.0)}, on_undecided=asked)
        script = Script(score_model=[NO_CALL], score_by=[(off(2, 5), "x")], get_endpoint=[ENDPOINT])
        report = compared(script, rules=rules)
        assert report.judgement is not None
        assert report.judgement.undecided
        assert bool(report.reasons) is kept
        assert any("80 rows held out of the training" in line for line in (report.reasons or report.notes))


def test_thirty_rows_are_enough() -> None:
    """Of those that the live model does not know; else of those that were held out of its own training."""
    assert judged(START + timedelta(days=50)).sets[0]["rows"] == 30
    few, asked = off(2, 2).values[:30], list(range(30))
    held = HeldOutRows(LABELS[:30], Table(("Scored Labels",), few), asked, LIVE, 0)
    told = ModelAnswers(Table(("Scored Labels",), off(2, 3).values[:30]), NEW, held)
    known = replace(LIVE_RESOURCE, window=ToldWindow(START + timedelta(days=70)))
    report = compared(Script(score_model=[told], get_endpoint=[ENDPOINT]), resource=known)
    assert report.sets[0]["source"] == "held out of the training, the live model's held out of its own"
    assert report.sets[0]["rows"] == 30
    assert report.sets[0]["live"][ERROR] == METRICS[ERROR].compute(Answers(LABELS[:30], held.live))


def test_earlier_rows_on_which_nothing_is_defined() -> None:
    """They are left out, with a note; of the new rows that is an error."""
    alike = [5.0] * ROWS
    held = HeldOutRows(alike, off(2, 2), list(range(ROWS)), LIVE, 0)
    rules = Rules(allowances={"Relative Absolute Error": Allowance(0.5)})
    script = Script(
        score_model=[ModelAnswers(off(2, 3), NEW, held), ModelAnswers(off(2, 5), LIVE)], get_endpoint=[ENDPOINT]
    )
    report = compared(script, rules=rules)
    assert [one["earlier"] for one in report.sets] == [False]
    assert report.notes[-1].startswith(
        "On 80 rows held out of the live model's training: The metric 'Relative Absolute Error' cannot be compared."
    )
    assert EVALUATION.check is not None
    constant = replace(EVALUATION, check=replace(EVALUATION.check, labels=alike))
    with pytest.raises(ValueError, match="'Relative Absolute Error' cannot be compared"):
        compared(
            Script(score_model=[NO_CALL], score_by=[(off(2), "x")], get_endpoint=[ENDPOINT]), constant, rules=rules
        )


def test_what_is_measured() -> None:
    """The metrics that the evaluation has or a rule names, of those that can be computed; and of the set all."""
    rules = Rules(allowances={"Root Mean Squared Error": Allowance(0.5)})
    held = HeldOutRows(LABELS, off(2, 2), list(range(ROWS)), LIVE, None)
    told = [ModelAnswers(off(2, 3), NEW, held), ModelAnswers(off(2, 5), LIVE)]
    report = compared(Script(score_model=told, get_endpoint=[ENDPOINT]), rules=rules)
    first, second = report.sets
    assert set(first["candidate"]) == set(first["live"]) == {ERROR, "Root Mean Squared Error"}
    assert set(first["differences"]) == {"Root Mean Squared Error"}
    assert (second["source"], second["earlier"], second["rows"]) == (
        "held out of the live model's training",
        True,
        ROWS,
    )
    assert set(first) == {"source", "rows", "earlier", "candidate", "live", "differences", "verdict"}
    pairs = Answers(LABELS, off(2)), Answers(LABELS, off(2, 5))
    exact = differences_of(*pairs, rules.allowances, METRICS, 2)
    assert first["differences"] == {name: one.to_json() for name, one in exact.items()}
    # The risk is shared by both sets: alone the first one's interval is narrower.
    alone = compared(Script(score_model=[NO_CALL], score_by=[(off(2, 5), "x")], get_endpoint=[ENDPOINT]), rules=rules)
    wide, narrow = (one["differences"]["Root Mean Squared Error"] for one in (first, alone.sets[0]))
    assert wide["high"] - wide["low"] > narrow["high"] - narrow["low"]


@pytest.mark.parametrize(("left_out", "kept"), [(0, False), (None, True)])
def test_an_unlikely_file_is_believed_on_rows_that_the_new_model_never_saw(left_out: int | None, kept: bool) -> None:
    """Where nobody tells whether it did, they vouch for nothing."""
    held = HeldOutRows(LABELS, off(2, 2), list(range(ROWS)), LIVE, left_out)
    told = [ModelAnswers(off(2, 2), NEW, held), ModelAnswers(off(2), LIVE)]
    found = {"verdict": "violated", "labels_as_before": True, "columns_as_before": True}
    assert bool(compared(Script(score_model=told, get_endpoint=[ENDPOINT]), found=found).reasons) is kept
