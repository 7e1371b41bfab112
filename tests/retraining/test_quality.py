"""The rules of the gate, without any service: metrics as scikit-learn computes them, limits, and comparisons."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from sklearn import metrics as sk

from airflow_provider_azureml_classic.exceptions import ProtocolError
from airflow_provider_azureml_classic.protocol.jobs import HELD_OUT
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.retraining.intervals import Difference, Verdict
from airflow_provider_azureml_classic.retraining.quality import (
    METRICS,
    Allowance,
    Answers,
    Metric,
    check_limits,
    measured,
    on_training_rows,
    outside,
    skill,
    table_text,
)


def regression(pairs: list[tuple[float, float]]) -> Answers:
    """Answers of a regression; cells are strings, as in an answer."""
    return Answers([right for right, _ in pairs], Table(("Scored Labels",), [[str(said)] for _, said in pairs]))


def two_classes(labels: list[str], chances: list[float], *, detailed: bool = True) -> Answers:
    """Answers about ``no`` and ``yes`` by the chance of ``yes``; in this server's form, or in Classic's own."""
    said = ["yes" if p > 0.5 else "no" for p in chances]
    if not detailed:
        names = ("x", "Scored Labels", "Scored Probabilities")
        return Answers(labels, Table(names, [["", label, str(p)] for label, p in zip(said, chances, strict=True)]))
    classes = [f'Scored Probabilities for Class "{label}"' for label in ("no", "yes")]
    rows = [[label, str(p), str(1 - p), str(p)] for label, p in zip(said, chances, strict=True)]
    return Answers(labels, Table(("Scored Labels", "Scored Probabilities", *classes), rows))


def value(name: str, answers: Answers) -> float:
    """One metric."""
    found = METRICS[name].compute(answers)
    assert found is not None
    return found


def test_metrics_of_a_regression_are_scikit_learns() -> None:
    """The five figures of a regression agree with scikit-learn's."""
    draw = random.Random(1)  # noqa: S311 - test data
    pairs = [(x, x + draw.gauss(0, 3)) for x in (draw.uniform(-9, 90) for _ in range(200))]
    truth, said = zip(*pairs, strict=True)
    answers, mean = regression(pairs), sum(truth) / len(truth)
    assert value("Mean Absolute Error", answers) == pytest.approx(sk.mean_absolute_error(truth, said))
    assert value("Root Mean Squared Error", answers) == pytest.approx(sk.root_mean_squared_error(truth, said))
    assert value("Coefficient of Determination", answers) == pytest.approx(sk.r2_score(truth, said))
    assert value("Relative Squared Error", answers) == pytest.approx(1 - sk.r2_score(truth, said))
    spread = sk.mean_absolute_error(truth, [mean] * len(truth))
    assert value("Relative Absolute Error", answers) == pytest.approx(sk.mean_absolute_error(truth, said) / spread)
    assert answers.said == answers.predictions == [str(number) for number in said]


@pytest.mark.parametrize("detailed", [True, False])
def test_metrics_of_two_classes_are_scikit_learns(detailed: bool) -> None:
    """Accuracy, AUC (with many ties) and log loss agree with scikit-learn's, in both forms of an answer."""
    draw = random.Random(2)  # noqa: S311 - test data
    chances = [round(draw.random(), 1) * 0.98 + 0.01 for _ in range(300)]
    labels = ["yes" if draw.random() < p else "no" for p in chances]
    answers, truth = two_classes(labels, chances, detailed=detailed), [label == "yes" for label in labels]
    assert value("Accuracy", answers) == pytest.approx(sk.accuracy_score(truth, [p > 0.5 for p in chances]))
    assert value("AUC", answers) == pytest.approx(sk.roc_auc_score(truth, chances))
    assert value("Average Log Loss", answers) == pytest.approx(sk.log_loss(truth, chances))


def test_metrics_of_many_classes_are_scikit_learns() -> None:
    """With three classes there is a log loss and an accuracy, but no AUC."""
    draw = random.Random(3)  # noqa: S311 - test data
    classes, rows, labels = ["a", "b", "c"], [], []
    for _ in range(200):
        weights = [draw.uniform(0.05, 1) for _ in classes]
        chances = [weight / sum(weights) for weight in weights]
        labels.append(draw.choices(classes, chances)[0])
        rows.append([classes[chances.index(max(chances))], *map(str, chances)])
    names = ("Scored Labels", *(f'Scored Probabilities for Class "{label}"' for label in classes))
    answers = Answers(labels, Table(names, rows))
    chances = [[float(cell) for cell in row[1:]] for row in rows]
    assert value("Average Log Loss", answers) == pytest.approx(sk.log_loss(labels, chances, labels=classes))
    accuracy = sk.accuracy_score(labels, [row[0] for row in rows])
    assert value("Overall accuracy", answers) == pytest.approx(accuracy)
    assert value("Average accuracy", answers) == pytest.approx(1 - 2 * (1 - accuracy) / 3)
    assert METRICS["AUC"].compute(answers) is None


def test_labels_agree_however_they_are_written() -> None:
    """1, 1.0 and "1" are the same label, and blanks around a label do not count."""
    answers = Answers([1, 0, "1", " yes"], Table(("Scored Labels",), [["1.0"], ["0"], ["0"], ["yes"]]))
    assert value("Accuracy", answers) == 0.75


def test_metrics_that_are_not_defined_are_none() -> None:
    """Neither no rows, nor one class, nor labels that are all alike give a number."""
    nothing = regression([])
    assert measured(nothing, ["Mean Absolute Error", "Coefficient of Determination"], METRICS) == {
        "Mean Absolute Error": None,
        "Coefficient of Determination": None,
    }
    assert METRICS["Coefficient of Determination"].compute(regression([(1, 2), (1, 0)])) is None
    assert METRICS["AUC"].compute(two_classes(["yes", "yes"], [0.2, 0.9])) is None
    assert METRICS["Average Log Loss"].compute(regression([(1, 1)])) is None
    assert measured(regression([(1, math.nan)]), ["Mean Absolute Error"], METRICS) == {"Mean Absolute Error": None}


def test_a_label_that_the_model_does_not_know_costs_much_but_not_infinitely() -> None:
    """A class without a probability counts as surely denied."""
    loss = value("Average Log Loss", two_classes(["perhaps"], [0.5]))
    assert 30 < loss < 40


def test_one_probability_of_three_classes_is_of_none() -> None:
    """Of more than two classes nobody can say to which the one column belongs."""
    answers = two_classes(["yes", "no", "perhaps"], [0.9, 0.1, 0.5], detailed=False)
    assert answers.probabilities() == {}


def test_answers_that_cannot_be_measured() -> None:
    """Too few answers, and a text where a number is measured, are said."""
    with pytest.raises(ProtocolError, match="2 rows were scored, but 1 answers"):
        Answers([1, 2], Table(("Scored Labels",), [["1"]]))
    with pytest.raises(ProtocolError, match="'many' is not a number"):
        METRICS["Mean Absolute Error"].compute(regression([(1, "many")]))  # type: ignore[list-item]
    with pytest.raises(ProtocolError, match="no column 'Scored Labels'"):
        METRICS["Accuracy"].compute(Answers([1], Table(("other",), [["1"]])))


def test_thresholds() -> None:
    """A metric outside its limits is a reason, one on a limit is not."""
    limits = check_limits({"AUC": {"min": 0.9}, "Mean Absolute Error": {"min": 1, "max": 30}})
    assert outside({"AUC": 0.9, "Mean Absolute Error": 30.0}, limits) == []
    assert outside({"AUC": 0.89, "Mean Absolute Error": 31.0}, limits) == [
        "AUC is 0.89, below the minimum of 0.9.",
        "Mean Absolute Error is 31, above the maximum of 30.",
    ]
    with pytest.raises(ValueError, match="'AUC' is missing or not defined; those that are: Rows"):
        outside({"AUC": None, "Rows": 3.0}, limits)
    with pytest.raises(ValueError, match="missing"):
        outside({"AUC": math.nan}, limits)
    with pytest.raises(ValueError, match=r"those that are: none\."):
        outside({}, limits)


@pytest.mark.parametrize(
    "limits", [{}, {"minimum": 1}, {"min": "much"}, 0.9, {"min": None}, {"max": math.nan}, {"min": "nan"}]
)
def test_thresholds_of_another_form(limits: Any) -> None:
    """A threshold that is mistyped is refused, never silently ignored."""
    with pytest.raises(ValueError, match=r"thresholds\['AUC'\] is .* it must be like"):
        check_limits({"AUC": limits})


@pytest.mark.parametrize(
    ("name", "new", "old", "allowed", "is_worse"),
    [
        ("Mean Absolute Error", 10.5, 10.0, 0.5, False),
        ("Mean Absolute Error", 10.6, 10.0, 0.5, True),
        ("Mean Absolute Error", 1.0, 10.0, 0, False),
        ("Mean Absolute Error", 10.2, 10.0, "2%", False),
        ("Mean Absolute Error", 10.3, 10.0, "2 %", True),
        ("AUC", 0.9, 0.91, 0, True),
        ("AUC", 0.9, 0.91, 0.02, False),
        ("AUC", 0.95, 0.91, 0, False),
        ("Coefficient of Determination", -0.6, -0.5, "10%", True),
        ("Average Log Loss", 0.3, 0.3 + 1e-16, 0, False),
    ],
)
def test_no_worse_than_the_live_model(name: str, new: float, old: float, allowed: Any, is_worse: bool) -> None:
    """A number allows so much in the metric's own unit, a percentage so much of the live model's value."""
    allowance, gap = Allowance.parse(name, allowed), new - old if METRICS[name].lower_is_better else old - new
    found = Difference(new, old, gap, gap, gap, allowance.of(old), 100, str(allowance))
    assert found.is_within is not is_worse
    assert found.verdict is (Verdict.WORSE if is_worse else Verdict.NO_WORSE)
    assert "worse by" in str(found)


@pytest.mark.parametrize("value", [-1, "-2%", "5X%", "little", "", True, math.nan, math.inf, None])
def test_allowances_of_another_form(value: Any) -> None:
    """What is neither a number nor a percentage is refused."""
    with pytest.raises(ValueError, match="max_worse of 'AUC' is"):
        Allowance.parse("AUC", value)


def test_the_table_is_aligned() -> None:
    """The log shows metrics side by side, with a dash where there is none and the rule at the end."""
    columns = {"evaluation": {"Mean Absolute Error": 24.1234567, "Rows": 100.0}, "live": {"Mean Absolute Error": None}}
    assert table_text(columns, {"Mean Absolute Error": "max 30"}).splitlines() == [
        "metric               evaluation  live  rule",
        "Mean Absolute Error     24.1235     -  max 30",
        "Rows                        100     -",
    ]


def test_what_a_model_knows() -> None:
    """Nothing, if it always answers the same; everything, if it is always right; by what its answers allow."""
    right, labels = [(1.0, 1.0), (2.0, 2.0), (6.0, 6.0)], ["no", "yes"] * 5
    assert skill(regression(right)) == 1
    assert skill(regression([(label, 3.0) for label, _ in right])) == pytest.approx(0)
    assert skill(two_classes(labels, [0.1, 0.9] * 5)) == 1
    assert skill(two_classes(labels, [0.5] * 10)) == pytest.approx(0)
    texts = Answers(["a", "a", "b", "c"], Table(("Scored Labels",), [["a"], ["a"], ["a"], ["c"]]))
    assert skill(texts) == pytest.approx(0.5)
    # Who ranks rightly knows all, whatever is said of each row.
    assert skill(two_classes(["no", "yes"], [0.6, 0.7])) == 1
    alike = Table(("Scored Labels",), [["a"], ["b"]])
    assert skill(Answers(["a", "a"], alike)) is None
    assert skill(regression([])) is None


def test_some_of_the_answers() -> None:
    """By position, which may repeat, with their labels and all columns."""
    answers = Answers(["a", "b"], Table(("Scored Labels", "x"), [["a", 1], ["c", 2]]))
    assert answers.at([1, 1, 0]) == Answers(
        ["b", "b", "a"], Table(("Scored Labels", "x"), [["c", 2], ["c", 2], ["a", 1]])
    )


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if metric.sampled])
def test_samples_are_measured_as_all_rows_are(name: str) -> None:
    """The value over some rows is that of answers which are only these rows."""
    draw = random.Random(5)  # noqa: S311 - test data
    chances = [round(draw.uniform(0.01, 0.99), 2) for _ in range(60)]
    numbers = regression([(draw.uniform(0, 9), draw.uniform(0, 9)) for _ in range(60)])
    answers = numbers if "Error" in name or "Determination" in name else two_classes(["yes", "no"] * 30, chances)
    metric, rows = METRICS[name], [draw.randrange(60) for _ in range(40)]
    # This one goes on measuring from the middle of all rows.
    near = 0.02 if name == "Relative Absolute Error" else 1e-9
    assert metric.over(answers)(rows) == pytest.approx(metric.compute(answers.at(rows)), rel=near)
    own = Metric(metric.compute, True)
    assert own.over(answers)(rows) == metric.compute(answers.at(rows))
    assert metric.over(answers)([]) is None


def test_which_direction_is_better() -> None:
    """Errors and losses are, the lower the better."""
    assert {name for name, metric in METRICS.items() if metric.lower_is_better} == {
        "Mean Absolute Error",
        "Root Mean Squared Error",
        "Relative Absolute Error",
        "Relative Squared Error",
        "Average Log Loss",
    }


def test_large_labels_keep_their_spread() -> None:
    """Their squares would lose it."""
    pairs = [(1e9 + number, 1e9 + number + 1) for number in range(9)]
    assert value("Coefficient of Determination", regression(pairs)) == pytest.approx(1 - 9 / 60)


def test_probabilities() -> None:
    """Of each class by name; in Classic's own form of the class that is predicted where they are high."""
    detailed = two_classes(["yes"], [0.75]).probabilities()
    assert detailed == {"no": [0.25], "yes": [0.75]}
    for chances in ([0.9, 0.2], [0.6, 0.4, 0.3]):
        labels = ["yes" if p > 0.5 else "no" for p in chances]
        other = pytest.approx([1 - p for p in chances])
        assert two_classes(labels, chances, detailed=False).probabilities() == {"yes": chances, "no": other}
    # Where one class alone is known, it is the one that its probability speaks for.
    always = Answers(["yes"], Table(("Scored Labels", "Scored Probabilities"), [["yes", "0.9"]]))
    assert always.probabilities() == {"yes": [0.9], "not yes": [pytest.approx(0.1)]}
    never = Answers(["no"], Table(("Scored Labels", "Scored Probabilities"), [["no", "0.1"]]))
    assert never.probabilities() == {"not no": [0.1], "no": [0.9]}
    assert regression([(1, 1)]).probabilities() == {}


def test_metrics_of_the_training_rows() -> None:
    """They are told, unless rows were held out, or nobody knows."""
    assert on_training_rows({HELD_OUT: 0}) != []
    assert on_training_rows({HELD_OUT: 5}) == on_training_rows({HELD_OUT: None}) == on_training_rows({}) == []


def test_allowances() -> None:
    """A number, or a share of the live model's value, whatever its sign; written as it was meant."""
    for text, live, amount, shown in (
        (0.5, 10, 0.5, "0.5"),
        ("5%", 10, 0.5, "5%"),
        (" 5 % ", -10, 0.5, "5%"),
        (0, 1, 0, "0"),
    ):
        allowance = Allowance.parse("AUC", text)
        assert (allowance.of(live), str(allowance)) == (pytest.approx(amount), shown)


def test_limits_are_numbers() -> None:
    """As they are compared."""
    assert check_limits({"a": {"min": "1", "max": 2}, "b": {"max": math.inf}}) == {
        "a": {"min": 1.0, "max": 2.0},
        "b": {"max": math.inf},
    }
    assert outside({"a": 1.0}, {"a": {}}) == []


def test_a_table_without_rules() -> None:
    """Has no column for them."""
    assert table_text({"live": {"AUC": 1.0}}, {}).splitlines() == ["metric  live", "AUC        1"]


def test_numbers_as_labels() -> None:
    """They are compared as numbers are, to the last digit; zero has no sign."""
    for label, answer, hit in ((1.5, "1.5", 1), (1.5, "1.25", 0), (0.0, "-0", 1), (1e16, "10000000000000000", 1)):
        assert value("Accuracy", Answers([label], Table(("Scored Labels",), [[answer]]))) == hit


def test_the_class_that_is_always_denied() -> None:
    """A column of chances below one half is of the class that was not predicted."""
    table = Table(("Scored Labels", "Scored Probabilities"), [["yes", "0.25"], ["yes", "0.125"]])
    assert Answers(["no", "yes"], table).probabilities() == {"no": [0.25, 0.125], "yes": [0.75, 0.875]}


def test_without_probabilities_the_number_of_classes_is_not_known() -> None:
    """And so is their average accuracy."""
    answers = Answers(["a", "b"], Table(("Scored Labels",), [["a"], ["a"]]))
    assert (METRICS["Average accuracy"].compute(answers), METRICS["Accuracy"].compute(answers)) == (None, 0.5)
