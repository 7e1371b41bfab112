"""Whether a new model takes the place of the live one: every combination of what the rows can say."""

from __future__ import annotations

from itertools import product

import pytest

from airflow_provider_azureml_classic.retraining.data_contract import MOVED, UNLIKE
from airflow_provider_azureml_classic.retraining.intervals import Difference, Verdict
from airflow_provider_azureml_classic.retraining.judgement import Decision, Evidence, Judgement, judge

#: Verdict of a difference by its interval, where 1 is allowed.
INTERVALS = {Verdict.WORSE: (2.0, 3.0), Verdict.NO_WORSE: (-1.0, 0.5), Verdict.UNDECIDED: (0.0, 2.0)}


def difference(verdict: Verdict, gap: float = 0.0, rows: int = 100) -> Difference:
    """One metric of which the rows say so."""
    return Difference(5.0, 5.0 - gap, gap, *INTERVALS[verdict], allowed=1.0, rows=rows)


def evidence(
    verdict: Verdict, gap: float = 0.0, *, rows: int = 100, earlier: bool = False, unseen: bool = True
) -> Evidence:
    """One set of rows that says so, in all metrics."""
    return Evidence("some rows", {"MAE": difference(verdict, gap, rows)}, earlier, unseen)


def test_what_a_set_of_rows_says() -> None:
    """Worse if one metric is, no worse if all are; a set is small if it is for all metrics."""
    for one, other in product(Verdict, Verdict):
        both = Evidence("rows", {"a": difference(one), "b": difference(other)})
        worst = next(each for each in (Verdict.WORSE, Verdict.UNDECIDED, Verdict.NO_WORSE) if each in (one, other))
        assert both.verdict is worst
    small, large = difference(Verdict.UNDECIDED, rows=29), difference(Verdict.UNDECIDED, rows=30)
    assert [Evidence("r", {"a": one, "b": other}).is_small for one, other in product((small, large), repeat=2)] == [
        True,
        False,
        False,
        False,
    ]


def test_sentences_name_the_metrics_that_say_so() -> None:
    """With the rows that they were measured on."""
    both = Evidence("some rows", {"a": difference(Verdict.WORSE), "b": difference(Verdict.NO_WORSE)})
    (sentence,) = both.sentences(Verdict.WORSE)
    assert sentence == f"On some rows, a is {both.differences['a']}."


def test_worse_on_its_own_rows_is_kept() -> None:
    """Whatever others say, and whatever is to be done with what is undecided."""
    worse = evidence(Verdict.WORSE)
    for other, expected, asked in product(Verdict, (True, False, None), ("pass", "fail", None)):
        judgement = judge([evidence(other), worse, evidence(other, earlier=True)], asked, expected)
        assert (judgement.decision, judgement.undecided) == (Decision.KEEP, False)
        assert set(judgement.reasons) == set(worse.sentences(Verdict.WORSE))


def test_no_worse_everywhere_passes() -> None:
    """Without any reason, where the file is as those before, or nobody knows."""
    for expected, asked in product((True, None), ("keep", "fail", None)):
        sets = [evidence(Verdict.NO_WORSE), evidence(Verdict.NO_WORSE, earlier=True)]
        assert judge(sets, asked, expected) == Judgement(Decision.PASS)
        assert judge(sets[:1], asked, expected) == Judgement(Decision.PASS)


@pytest.mark.parametrize(
    ("earlier", "unseen", "passes"),
    [
        (Verdict.NO_WORSE, True, True),
        (Verdict.NO_WORSE, False, False),
        (Verdict.UNDECIDED, True, False),
        (None, True, False),
    ],
)
def test_an_unlikely_file(earlier: Verdict | None, unseen: bool, passes: bool) -> None:
    """It is believed only if the model is no worse on rows that the file did not bring and it never saw."""
    sets = [evidence(Verdict.NO_WORSE)]
    if earlier:
        sets.append(evidence(earlier, earlier=True, unseen=unseen))
    judgement = judge(sets, None, False)
    assert judgement == (Judgement(Decision.PASS) if passes else Judgement(Decision.KEEP, True, [UNLIKE]))
    assert judge(sets, None, True) == Judgement(Decision.PASS)


@pytest.mark.parametrize(
    ("asked", "decision"), [("pass", Decision.PASS), ("keep", Decision.KEEP), ("fail", Decision.FAIL)]
)
def test_what_a_user_wants_of_the_undecided(asked: str, decision: Decision) -> None:
    """It is done, and said to be undecided, with the rows' own words."""
    open_ = evidence(Verdict.UNDECIDED)
    judgement = judge([open_], asked, True)
    assert judgement == Judgement(decision, True, open_.sentences(Verdict.UNDECIDED))
    assert [one.value for one in Decision] == ["pass", "kept", "failed"]


@pytest.mark.parametrize(
    ("gap", "expected", "decision"),
    [
        (0.5, None, Decision.PASS),
        (1.5, None, Decision.KEEP),
        (1.5, True, Decision.PASS),
        (0.5, False, Decision.KEEP),
    ],
)
def test_the_undecided(gap: float, expected: bool | None, decision: Decision) -> None:
    """A file as those before passes; where that is not known, the plain values decide."""
    judgement = judge([evidence(Verdict.UNDECIDED, gap)], None, expected)
    assert (judgement.decision, judgement.undecided) == (decision, True)
    # All sets, and all metrics of each, must be within.
    if expected is None:
        mixed = Evidence("r", {"a": difference(Verdict.UNDECIDED, 0.5), "b": difference(Verdict.UNDECIDED, 1.5)})
        assert judge([evidence(Verdict.UNDECIDED, gap), mixed], None, None).decision is Decision.KEEP


def test_few_rows_leave_nothing_open_that_others_decide() -> None:
    """Alone they do."""
    small = evidence(Verdict.UNDECIDED, rows=29)
    assert judge([small, evidence(Verdict.NO_WORSE)], "fail", True) == Judgement(Decision.PASS)
    assert judge([small], "fail", True).decision is Decision.FAIL
    assert judge([small, evidence(Verdict.UNDECIDED)], "fail", True).reasons == evidence(Verdict.UNDECIDED).sentences(
        Verdict.UNDECIDED
    )


@pytest.mark.parametrize(
    ("gap", "moved", "expected", "decision"),
    [
        (0.5, False, True, Decision.PASS),
        (0.5, True, True, Decision.KEEP),
        (1.5, False, True, Decision.KEEP),
        (0.5, False, None, Decision.KEEP),
        (0.5, False, False, Decision.KEEP),
    ],
)
def test_worse_on_rows_of_before(gap: float, moved: bool, expected: bool | None, decision: Decision) -> None:
    """The world may have changed: it passes if the file is as expected, its columns too, and some value is better."""
    brought, before = evidence(Verdict.NO_WORSE, gap), evidence(Verdict.WORSE, 2.5, earlier=True)
    judgement = judge([brought, before], None, expected, moved=moved)
    assert (judgement.decision, judgement.undecided) == (decision, True)
    assert judgement.reasons[0] == before.sentences(Verdict.WORSE)[0]
    assert "The world may have changed" in judgement.reasons[1]
    assert (MOVED in judgement.reasons) is moved
    assert (UNLIKE in judgement.reasons) is (expected is False)


def test_one_metric_that_is_better_on_the_new_rows_is_enough() -> None:
    """In each set of them."""
    mixed = Evidence("r", {"a": difference(Verdict.NO_WORSE, 0.5), "b": difference(Verdict.NO_WORSE, 1.5)})
    before = evidence(Verdict.WORSE, earlier=True)
    assert judge([mixed, before], None, True).decision is Decision.PASS
    assert judge([mixed, evidence(Verdict.NO_WORSE, 1.5), before], None, True).decision is Decision.KEEP


def test_columns_that_moved_decide_nothing_alone() -> None:
    """As a season does."""
    assert judge([evidence(Verdict.NO_WORSE)], None, True, moved=True) == Judgement(Decision.PASS)
    assert judge([evidence(Verdict.UNDECIDED, 1.5)], None, True, moved=True).decision is Decision.PASS
