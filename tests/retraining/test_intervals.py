"""Intervals of the difference of two models, and what several sets of rows say together."""

import math
import random
from collections.abc import Callable
from statistics import NormalDist, mean, stdev

import pytest
from scipy.stats import t

from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.retraining import intervals
from airflow_provider_azureml_classic.retraining.intervals import (
    FEW_ROWS,
    Difference,
    Verdict,
    difference,
    differences_of,
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


MAE, ACCURACY = METRICS["Mean Absolute Error"], METRICS["Accuracy"]


def test_an_interval_is_as_wide_as_theory_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many standard deviations of the mean difference to either side; also where samples are of some rows only."""
    source = random.Random(3)  # noqa: S311 - not for secrets
    mine, live = ([source.gauss(0, 1) for _ in range(200)] for _ in range(2))
    gaps = [abs(one) - abs(other) for one, other in zip(mine, live, strict=True)]
    zeros = [0.0] * 200
    for most in (2_000, 50):
        monkeypatch.setattr(intervals, "_LARGEST_SAMPLE", most)
        found = difference(MAE, _numbers(zeros, mine), _numbers(zeros, live), Allowance(0.1), 0.01)
        assert found.gap == pytest.approx(mean(gaps))
        assert found.high - found.gap == pytest.approx(found.gap - found.low)
        assert found.high - found.gap == pytest.approx(NormalDist().inv_cdf(0.99) * stdev(gaps) / 200**0.5, rel=0.15)
        assert (found.candidate, found.live) == (
            pytest.approx(mean(map(abs, mine))),
            pytest.approx(mean(map(abs, live))),
        )
        assert (found.allowed, found.rows, found.rule) == (0.1, 200, "0.1")


def test_a_constant_difference_has_no_width() -> None:
    """Where lower is better, and where it is not."""
    zeros = [0.0] * 40
    found = difference(MAE, _numbers(zeros, [3.0] * 40), _numbers(zeros, [1.0] * 40), Allowance(1.0), 0.01)
    assert (found.gap, found.low, found.high) == (2.0, 2.0, 2.0)
    texts = ["a"] * 40
    found = difference(ACCURACY, _numbers(texts, ["b"] * 40), _numbers(texts, texts), Allowance(0), 0.01)  # type: ignore[arg-type]
    assert (found.gap, found.low, found.high) == (1.0, 1.0, 1.0)


def test_a_share_that_is_allowed_varies_with_the_rows() -> None:
    """A model that is worse by just that share on each row is so on all samples: nothing is left open."""
    source = random.Random(4)  # noqa: S311 - not for secrets
    errors, zeros = [source.uniform(1, 9) for _ in range(60)], [0.0] * 60
    candidate, live = _numbers(zeros, [1.1 * error for error in errors]), _numbers(zeros, errors)
    found = difference(MAE, candidate, live, Allowance(0.1, relative=True), 0.01)
    assert found.allowed == pytest.approx(mean(errors) / 10)
    assert (found.low, found.high) == (pytest.approx(found.allowed), pytest.approx(found.allowed))
    assert (found.rule, found.verdict) == ("10%", Verdict.NO_WORSE)


def test_rows_that_are_not_the_same_are_drawn_by_themselves() -> None:
    """Equal answers to other rows differ by chance; of two sets the smaller one counts."""
    source = random.Random(5)  # noqa: S311 - not for secrets
    errors = [source.uniform(1, 9) for _ in range(60)]
    one, more = _numbers([0.0] * 60, errors), _numbers([0.0] * 80, [*errors, *errors[:20]])
    assert difference(MAE, one, one, Allowance(0), 0.01).high == 0
    assert difference(MAE, one, one, Allowance(0), 0.01, paired=False).high > 0.5
    assert difference(MAE, one, more, Allowance(0), 0.01, paired=False).rows == 60
    rules = {"Mean Absolute Error": Allowance(0)}
    assert differences_of(one, one, rules, METRICS)["Mean Absolute Error"].high == 0
    assert differences_of(one, one, rules, METRICS, paired=False)["Mean Absolute Error"].high > 0.5


def test_samples_on_which_a_metric_is_not_defined_are_left_out() -> None:
    """For either model; where too many are, the ends are not known, and all else is."""

    def some(answers: Answers) -> float | None:
        return None if answers.predictions[0] == 9.0 else float(sum(answers.predictions) / len(answers.predictions))

    zeros = [0.0] * 40
    odd = _numbers(zeros, [0.0] * 39 + [9.0])
    plain = _numbers(zeros, [1.0] * 40)
    assert not math.isnan(difference(Metric(some, True), odd, plain, Allowance(0), 0.01).low)
    hardly = _numbers(zeros, [0.0] + [9.0] * 39)
    found = difference(Metric(some, True), hardly, plain, Allowance(0.02, relative=True), 0.01)
    assert (found.candidate, found.live, found.gap) == (8.775, 1.0, 7.775)
    assert (found.allowed, found.rows, found.rule) == (0.02, 40, "2%")
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_the_risk_is_shared() -> None:
    """By all comparisons of all sets; one that is alone has it whole."""
    assert [shared(0.01, count) for count in (0, 1, 2, 4)] == [0.01, 0.01, 0.005, 0.0025]
    source = random.Random(6)  # noqa: S311 - not for secrets
    one, other = (_numbers([0.0] * 60, [source.uniform(1, 9) for _ in range(60)]) for _ in range(2))
    names = ("Mean Absolute Error", "Root Mean Squared Error")

    def width(sets: int, *rules: str) -> float:
        found = differences_of(one, other, dict.fromkeys(rules, Allowance(0)), METRICS, sets)[names[0]]
        return found.high - found.low

    assert width(1, *names) == width(2, names[0])
    assert width(2, *names) == width(4, names[0])
    assert width(1, names[0]) < width(2, names[0]) < width(4, names[0])
    only = differences_of(one, other, {names[0]: Allowance(0)}, METRICS)[names[0]]
    assert only.high - only.low == width(1, names[0])


def test_verdicts_at_the_edge() -> None:
    """What is allowed is allowed; a row more than too few is enough."""
    edge = Difference(0.0, 0.0, 1.0, 1.0, 1.0, 1.0, FEW_ROWS)
    assert (edge.verdict, edge.is_within) == (Verdict.NO_WORSE, True)
    assert Difference(0.0, 0.0, 1.0, 1.0, 1.0, 1.0, FEW_ROWS - 1).verdict is Verdict.UNDECIDED
    # Of large numbers the last digits are noise.
    assert Difference(-1e9, 2.0, 1.5, 1.5, 1.5, 1.0, 99).is_within
    assert Difference(2.0, -1e9, 1.5, 1.5, 1.5, 1.0, 99).is_within


def test_what_is_said_of_a_difference() -> None:
    """Both values, the gap, the rule as it was written, and the interval if it is known; as JSON likewise."""
    known = Difference(5.25, 4.0, 1.25, 1.0, 1.5, 0.08, 100, "2%")
    assert str(known) == ("5.25, the live model's 4: worse by 1.25, of which 2% is allowed; surely between 1 and 1.5")
    plain = Difference(5.25, 4.0, 1.25, math.nan, math.nan, 2.0, 100)
    assert str(plain) == (
        "5.25, the live model's 4: worse by 1.25, of which 2 is allowed; 100 rows are too few to be sure"
    )
    figures = {"candidate": 5.25, "live": 4.0, "gap": 1.25, "rows": 100}
    assert known.to_json() == {**figures, "allowed": 0.08, "low": 1.0, "high": 1.5, "verdict": "worse"}
    assert plain.to_json() == {**figures, "allowed": 2.0, "low": None, "high": None, "verdict": "undecided"}


def test_the_quantiles_are_students() -> None:
    """Nearly, for as many rows as decide anything; and by the formula, term for term."""
    for chance, freedom in ((0.99, 29), (0.995, 29), (0.9983, 79), (0.999, 1000)):
        assert intervals._quantile(chance, freedom) == pytest.approx(t.ppf(chance, freedom), rel=1e-4)
    formula = {1: 18.49374601572407, 2: 6.460643721107983, 3: 4.4537361666526865}
    assert {n: intervals._quantile(0.99, n) for n in formula} == pytest.approx(formula, rel=1e-12)
    assert intervals._quantile(0.99, 0) == intervals._quantile(0.99, 1)
