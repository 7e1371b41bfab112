"""Intervals of the difference of two models, and what several sets of rows say together."""

import math
import random
from collections.abc import Callable

import pytest

from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.retraining.intervals import (
    FEW_ROWS,
    Difference,
    Verdict,
    difference,
    shared,
)
from airflow_provider_azureml_classic.retraining.judgement import Decision, Evidence, Judgement, judge
from airflow_provider_azureml_classic.retraining.quality import METRICS, Allowance, Answers, Metric

#: Two models for rows of a normal label; the second one's errors are so many times as large.
Pair = Callable[[int, float], tuple[Answers, Answers]]


@pytest.fixture
def pair() -> Pair:
    """Answers of two models whose errors have a large part in common."""
    source = random.Random(7)  # noqa: S311 - not for secrets

    def answers(rows: int, factor: float) -> tuple[Answers, Answers]:
        labels = [source.gauss(0, 10) for _ in range(rows)]
        hard = [source.gauss(0, 1) for _ in labels]
        live, candidate = ([h + source.gauss(0, 0.5) for h in hard] for _ in range(2))
        near = [label + factor * error for label, error in zip(labels, candidate, strict=True)]
        far = [label + error for label, error in zip(labels, live, strict=True)]
        return _numbers(labels, near), _numbers(labels, far)

    return answers


def _numbers(labels: list[float], predictions: list[float]) -> Answers:
    return Answers(labels, Table(("Scored Labels",), [[value] for value in predictions]))


def _classes(labels: list[str], chances: list[float]) -> Answers:
    names = ("Scored Labels", 'Scored Probabilities for Class "a"', 'Scored Probabilities for Class "b"')
    return Answers(labels, Table(names, [["a" if p > 0.5 else "b", p, 1 - p] for p in chances]))


@pytest.mark.slow
def test_an_equal_model_is_rarely_worse_and_a_worse_one_is_found(pair: Pair) -> None:
    """Of two models that are equally good, one is called worse in at most one of a hundred comparisons."""
    names = ("Mean Absolute Error", "Root Mean Squared Error", "Coefficient of Determination")
    risk = shared(0.01, len(names))

    def found(factor: float) -> int:
        worse = 0
        for _ in range(60):
            answers = pair(80, factor)
            worse += any(
                difference(METRICS[name], *answers, Allowance(0), risk).verdict is Verdict.WORSE for name in names
            )
        return worse

    assert found(1.0) <= 2
    assert found(2.0) >= 58


@pytest.mark.slow
def test_an_interval_covers_the_truth_as_often_as_it_says(pair: Pair) -> None:
    """Nine of ten intervals with a risk of a twentieth at each end hold the true difference, which is none."""
    covered = 0
    for _ in range(200):
        one = difference(METRICS["Mean Absolute Error"], *pair(60, 1.0), Allowance(0), 0.05)
        covered += one.low <= 0 <= one.high
    assert 168 <= covered <= 195


@pytest.mark.slow
def test_what_is_allowed_moves_the_verdict(pair: Pair) -> None:
    """A model that is surely worse is no worse once that much is allowed, in its own unit or as a share."""
    answers = pair(400, 1.5)
    mae = METRICS["Mean Absolute Error"]
    verdicts = [difference(mae, *answers, allowance, 0.001).verdict for allowance in _allowances()]
    assert verdicts == [Verdict.WORSE, Verdict.UNDECIDED, Verdict.NO_WORSE, Verdict.NO_WORSE]


def _allowances() -> list[Allowance]:
    return [Allowance(0.1), Allowance(0.45), Allowance(2.0), Allowance(1.0, relative=True)]


def test_answers_that_are_the_same_are_no_worse() -> None:
    """Without any difference the interval is a point, which lies within what is allowed."""
    labels = ["a", "b"] * 40
    answers = _classes(labels, [0.7, 0.4] * 40)
    for name in ("AUC", "Accuracy", "Average Log Loss", "Average accuracy"):
        assert difference(METRICS[name], answers, answers, Allowance(0), 0.001).verdict is Verdict.NO_WORSE


def test_few_rows_decide_nothing(pair: Pair) -> None:
    """However clear they look."""
    one = difference(METRICS["Mean Absolute Error"], *pair(FEW_ROWS - 1, 50.0), Allowance(0), 0.01)
    assert not one.is_within
    assert one.verdict is Verdict.UNDECIDED
    assert f"{FEW_ROWS - 1} rows are too few to be sure" in str(one)


def test_a_metric_that_hardly_any_sample_defines_decides_nothing() -> None:
    """One row of the second class is missing in a third of all samples: where in most, no interval is known."""
    labels = ["a"] * 99 + ["b"]
    answers = _classes(labels, [0.9] * 100)
    hardly = Metric(lambda some: METRICS["AUC"].compute(some) if some.labels.count("b") == 1 else None, False)
    one = difference(hardly, answers, answers, Allowance(0), 0.01)
    assert math.isnan(one.low)
    assert one.verdict is Verdict.UNDECIDED
    assert one.to_json()["low"] is None


def test_a_users_own_metric_is_compared_as_the_others_are(pair: Pair) -> None:
    """It only computes a value from answers; the same interval comes out as by the quicker way."""
    answers = pair(60, 1.3)
    mae = METRICS["Mean Absolute Error"]
    own = Metric(mae.compute, lower_is_better=True)
    quick, plain = (difference(metric, *answers, Allowance(0), 0.01) for metric in (mae, own))
    assert plain.low == pytest.approx(quick.low)
    assert plain.high == pytest.approx(quick.high)


def test_a_metric_that_is_not_defined_says_of_which_model() -> None:
    """A model without probabilities has no log loss."""
    labels = ["a", "b"] * 20
    without = Answers(labels, Table(("Scored Labels",), [[label] for label in labels]))
    with pytest.raises(ValueError, match="the live model"):
        difference(METRICS["Average Log Loss"], _classes(labels, [0.5] * 40), without, Allowance(0), 0.01)


@pytest.mark.parametrize("name", ["AUC", "Accuracy"])
def test_where_higher_is_better_less_is_worse(name: str) -> None:
    """A model that is often wrong is found worse by a metric that should be high, and a better one no worse."""
    source = random.Random(3)  # noqa: S311 - not for secrets
    labels = [source.choice("ab") for _ in range(300)]

    def answers(right: float) -> Answers:
        chances = [0.8 if (label == "a") == (source.random() < right) else 0.2 for label in labels]
        return _classes(labels, [chance + source.random() / 10 for chance in chances])

    good, bad = answers(0.95), answers(0.7)
    found, other = (difference(METRICS[name], *pair, Allowance(0), 0.001) for pair in ((bad, good), (good, bad)))
    assert (found.verdict, other.verdict) == (Verdict.WORSE, Verdict.NO_WORSE)
    assert found.gap == pytest.approx(found.live - found.candidate)
    assert found.gap > 0.1


@pytest.mark.slow
def test_four_times_the_rows_make_half_the_interval(pair: Pair) -> None:
    """Also where no sample is as large: the spread of what is drawn shrinks with the root of all rows."""
    mae = METRICS["Mean Absolute Error"]
    widths = []
    for rows in (2_000, 8_000):
        one = difference(mae, *pair(rows, 1.2), Allowance(0), 0.01)
        widths.append((one.high - one.low) / 2)
    assert widths[1] == pytest.approx(widths[0] / 2, rel=0.25)


@pytest.mark.slow
def test_models_that_were_measured_on_rows_of_their_own(pair: Pair) -> None:
    """What is hard for both does not cancel out: the interval is wider, and as wide as that of two samples."""
    mae = METRICS["Mean Absolute Error"]
    new, live = pair(400, 1.0)
    _, other = pair(400, 1.0)
    paired = difference(mae, new, live, Allowance(0), 0.01)
    apart = difference(mae, new, other, Allowance(0), 0.01, paired=False)
    assert apart.high - apart.low > 1.5 * (paired.high - paired.low)
    assert apart.low < 0 < apart.high
    assert difference(mae, pair(400, 3.0)[0], other, Allowance(0), 0.01, paired=False).verdict is Verdict.WORSE


def _evidence(low: float, high: float, *, earlier: bool = False, rows: int = 500, unseen: bool = True) -> Evidence:
    one = Difference(0.0, 0.0, (low + high) / 2, low, high, 0.0, rows)
    return Evidence("the rows", {"Mean Absolute Error": one}, earlier, unseen)


WORSE, BETTER, OPEN = (1.0, 2.0), (-2.0, -1.0), (-1.0, 1.5)


@pytest.mark.parametrize(
    ("brought", "earlier", "expected", "decision", "undecided"),
    [
        (WORSE, BETTER, True, Decision.KEEP, False),
        (BETTER, None, True, Decision.PASS, False),
        (BETTER, BETTER, None, Decision.PASS, False),
        (BETTER, OPEN, True, Decision.PASS, False),
        (BETTER, OPEN, False, Decision.KEEP, True),
        (BETTER, None, False, Decision.KEEP, True),
        (BETTER, BETTER, False, Decision.PASS, False),
        (BETTER, WORSE, True, Decision.PASS, True),
        (BETTER, WORSE, False, Decision.KEEP, True),
        (BETTER, WORSE, None, Decision.KEEP, True),
        (OPEN, BETTER, True, Decision.PASS, True),
        (OPEN, BETTER, False, Decision.KEEP, True),
        (OPEN, None, None, Decision.KEEP, True),
        ((-1.5, 1.0), None, None, Decision.PASS, True),
    ],
)
def test_the_judgement(
    brought: tuple[float, float],
    earlier: tuple[float, float] | None,
    expected: bool | None,
    decision: Decision,
    undecided: bool,
) -> None:
    """What the file brought decides if it can; what the live model was measured on can only leave it open."""
    evidence = [_evidence(*brought)]
    if earlier:
        evidence.append(_evidence(*earlier, earlier=True))
    judgement = judge(evidence, None, expected)
    assert (judgement.decision, judgement.undecided) == (decision, undecided)
    assert bool(judgement.reasons) == (undecided or decision is not Decision.PASS)


@pytest.mark.parametrize(
    ("on_undecided", "decision"), [("pass", Decision.PASS), ("keep", Decision.KEEP), ("fail", Decision.FAIL)]
)
def test_a_user_says_what_is_done_with_what_is_open(on_undecided: str, decision: Decision) -> None:
    """Both figures are told; a model that is surely worse is kept out whatever is said."""
    evidence = [_evidence(*BETTER), _evidence(*WORSE, earlier=True)]
    judgement = judge(evidence, on_undecided, True)
    assert judgement.decision is decision
    assert "between 1 and 2" in judgement.reasons[0]
    assert judge([_evidence(*WORSE)], on_undecided, True).decision is Decision.KEEP


def test_a_file_that_is_spread_in_another_way_and_a_model_that_forgot_much() -> None:
    """Each alone may be a changed world; both together keep the live model, unless a user says otherwise."""
    evidence = [_evidence(*BETTER), _evidence(*WORSE, earlier=True)]
    kept = judge(evidence, None, True, moved=True)
    assert (kept.decision, kept.undecided) == (Decision.KEEP, True)
    assert "spread in another way" in kept.reasons[-1]
    assert judge(evidence, "pass", True, moved=True).decision is Decision.PASS
    assert judge(evidence[:1], None, True, moved=True) == Judgement(Decision.PASS)


def test_a_changed_world_makes_the_new_model_the_better_one_on_its_own_rows() -> None:
    """One that is not, by the plain value of any metric, and is worse on the rows of before, is kept out."""
    against = _evidence(*WORSE, earlier=True)
    beyond, within = _evidence(*OPEN), _evidence(-1.5, 1.0)
    assert judge([beyond, against], None, True).decision is Decision.KEEP
    assert judge([within, against], None, True).decision is Decision.PASS


def test_too_few_rows_leave_nothing_open_that_others_decide() -> None:
    """Rows held out of a small file beside a large file of check data; alone they do."""
    few, many = _evidence(*OPEN, rows=FEW_ROWS - 1), _evidence(*BETTER)
    assert judge([many, few], "keep", True) == Judgement(Decision.PASS)
    assert judge([few], "keep", True).decision is Decision.KEEP


def test_rows_that_the_new_model_may_know_vouch_for_nothing() -> None:
    """That it is no worse on them does not make a file good that breaks the contract."""
    known = _evidence(*BETTER, earlier=True, unseen=False)
    assert judge([_evidence(*BETTER), known], None, False).decision is Decision.KEEP
