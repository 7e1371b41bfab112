"""Numbers that 32 bits would merge: what is served is what a pipeline fitted by hand in 64 bits predicts."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_diabetes
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor
from threadpoolctl import threadpool_limits

from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.server.experiments import (
    Column,
    Experiment,
    Schema,
    Scorer,
    TrainingSummary,
    estimators,
    train,
)
from airflow_provider_azureml_classic.server.experiments.batch import score_file

pytestmark = pytest.mark.slow

Numbers = NDArray[np.float64]
ROWS = 400


def drawn(seed: int = 0) -> tuple[Numbers, Numbers, Numbers]:
    """Whole numbers from 0 to 27, some decimals, and noise."""
    random = np.random.default_rng(seed)
    return random.integers(0, 28, ROWS).astype(float), random.normal(size=ROWS).round(3), random.normal(size=ROWS)


def made(kind: str) -> tuple[Numbers, Numbers]:
    """Two features and a label of one kind of data; the label depends on the smallest steps of the first feature."""
    whole, other, noise = drawn()
    first = {
        "dates": 20_260_101 + whole,
        "identifiers": 2.0**53 - 40 + whole,
        "seconds": 1_767_225_600 + whole,
        "cents": 1_000_000 + whole / 100,
        "coordinates": 52.519 + whole / 1e6,
    }.get(kind, whole)
    label = 3 * (whole % 2) + whole / 9 + other + noise / 10
    label = {"moments": 1.7e9 + 4 * label, "pressure": 101_325 + (20 * label).round(1)}.get(kind, label)
    return np.stack([first, other], axis=1), label


#: The pipelines of the package, written out by hand.
ESTIMATORS: dict[str, tuple[dict[str, Any], Callable[[], Any]]] = {
    "boosting-regressor": ({"max_iter": 40}, lambda: HistGradientBoostingRegressor(random_state=0, max_iter=40)),
    "linear-regressor": ({}, lambda: make_pipeline(StandardScaler(), Ridge())),
    "sklearn.ensemble.RandomForestRegressor": (
        {"n_estimators": 20, "random_state": 0},
        lambda: RandomForestRegressor(n_estimators=20, random_state=0),
    ),
    "sklearn.neighbors.KNeighborsRegressor": ({}, lambda: make_pipeline(StandardScaler(), KNeighborsRegressor())),
}


def trained(
    folder: Path, features: Numbers, label: NDArray[Any], estimator: str, **changes: object
) -> tuple[TrainingSummary, Scorer]:
    """A model trained from a CSV of these numbers."""
    with (folder / "d.csv").open("w", newline="") as stream:
        out = csv.writer(stream)
        out.writerow([*(f"x{i}" for i in range(features.shape[1])), "y"])
        out.writerows([*map(repr, row), label] for row, label in zip(features.tolist(), label.tolist(), strict=True))
    experiment = Experiment(name="T", estimator=estimator, label="y", first_data="d.csv", directory=folder)
    files = folder / "d.csv", folder / "m.ilearner", folder / "e.csv"
    summary = train(replace(experiment, **changes), None, *files)  # type: ignore[arg-type]
    return summary, Scorer.load(files[1])


def table(features: Numbers) -> Table:
    """Rows to be scored."""
    return Table(tuple(f"x{i}" for i in range(features.shape[1])), features.tolist())


def answers(scorer: Scorer, features: Numbers) -> Numbers:
    """The numbers that a model answers."""
    return np.array([float(cell) for cell in scorer.score(table(features)).column("Scored Labels")])


FEATURES = ("dates", "identifiers", "seconds", "cents", "coordinates")
LABELS = ("moments", "pressure", "ordinary")


@pytest.mark.parametrize(
    ("kind", "estimator"),
    [
        *((kind, name) for kind in (*FEATURES, *LABELS) for name in ("boosting-regressor", "linear-regressor")),
        *((kind, "sklearn.ensemble.RandomForestRegressor") for kind in LABELS),
        *((kind, "sklearn.neighbors.KNeighborsRegressor") for kind in ("dates", "moments")),
    ],
)
def test_what_is_served_is_what_scikit_learn_predicts_in_64_bits(tmp_path: Path, kind: str, estimator: str) -> None:
    """To 5e-6 of the spread, for rows of the training and others, where the reference is fitted on centred columns."""
    parameters, make = ESTIMATORS[estimator]
    features, label = made(kind)
    middle, level = np.zeros(2), 0.0
    if kind in ("moments", "pressure"):
        level = float(np.median(label))
    if kind in FEATURES:
        middle[0] = np.median(features[:, 0])
    with threadpool_limits(1):
        reference = make().fit(features - middle, label - level)
    _, scorer = trained(tmp_path, features, label, estimator, estimator_parameters=parameters)
    asked = np.concatenate([features, features[::-1] + np.array([[0, 0.0003]])])
    expected = reference.predict(asked - middle) + level
    same = abs(answers(scorer, asked) - expected) <= 5e-6 * expected.std()
    # Whole numbers have neighbours at equal distances, of which either may be taken.
    assert same.mean() > (0.97 if "KNeighbors" in estimator else 0.9999)


def test_a_forest_adds_its_trees_without_losing_digits(tmp_path: Path) -> None:
    """A hundred trees of a label that lies twelve times its spread from zero, which is not shifted."""
    features, label = made("ordinary")
    label = label + 12 * label.std()
    parameters = {"n_estimators": 100, "random_state": 0}
    summary, scorer = trained(
        tmp_path, features, label, "sklearn.ensemble.RandomForestRegressor", estimator_parameters=parameters
    )
    expected = RandomForestRegressor(**parameters).fit(features, label).predict(features)
    assert summary.schema.offset == 0
    assert abs(answers(scorer, features) - expected).max() <= 3e-6 * expected.std()


def test_columns_are_shifted_only_where_32_bits_merge_their_values(tmp_path: Path) -> None:
    """A tree's columns get an offset for values that would be merged and are told apart by it, and no others."""
    whole, other, noise = drawn()
    columns = {
        "dates": 20_260_101 + whole,
        "years": 1990 + whole,
        "neighbours": 2.0**23 + whole,
        "decimals": 100 + other,
        "fractions": noise,
        "two far apart": np.where(whole < 14, 1.0, 2.0**30 + 1),
        "mixed": np.where(whole < 2, 0, 2.0**30 + whole),
    }
    features = np.stack(list(columns.values()), axis=1)
    summary, _ = trained(tmp_path, features, whole + other, "sklearn.tree.DecisionTreeRegressor")
    offsets = dict(zip(columns, summary.schema.offsets, strict=True))
    assert {name: bool(offset) for name, offset in offsets.items()} == dict.fromkeys(columns, False) | {
        "dates": True,
        "mixed": True,
    }
    assert summary.schema.offset == 0
    assert offsets["dates"] in columns["dates"]


def test_an_ordinary_model_has_no_offsets(tmp_path: Path) -> None:
    """Its manifest is the one of before."""
    summary, _ = trained(tmp_path, *made("ordinary"), "linear-regressor")
    assert summary.schema.offsets == ()
    assert "offset" not in str(summary.schema.to_json())


@pytest.mark.parametrize("kind", ["identifiers", "moments"])
def test_one_row_many_rows_and_files_are_answered_alike(tmp_path: Path, kind: str) -> None:
    """The quick ways to the model shift too: the same texts, whichever is taken."""
    features, label = made(kind)
    _, scorer = trained(tmp_path, features, label, "boosting-regressor")
    many = scorer.score(table(features)).values
    alone = [scorer.score(table(row[None])).values[0] for row in features[:50]]
    together = scorer.answers(scorer.matrix(scorer.encoded(table(features[:10]))))
    texts = Table(("x0", "x1"), [list(map(repr, row)) for row in features.tolist()])
    score_file(tmp_path / "m.ilearner", tmp_path / "d.csv", tmp_path / "s.csv")
    with (tmp_path / "s.csv").open(newline="") as stream:
        _, *rows = csv.reader(stream)
    assert (alone, together) == (many[:50], many[:10])
    assert scorer.score(texts).values == many
    assert [tuple(row) for row in rows] == many
    # A third of the rows have halves: as many answers as there are different rows.
    assert len({row[0] for row in many}) > 50


def test_the_metrics_are_those_of_served_answers(tmp_path: Path) -> None:
    """A label of 1.7e9 ± 10 has the metrics of the label less 1.7e9, and is answered that well."""
    features, label = made("moments")
    (tmp_path / "low").mkdir()
    summary, scorer = trained(tmp_path, features, label, "linear-regressor")
    low, _ = trained(tmp_path / "low", features, label - 1.7e9, "linear-regressor")
    assert summary.metrics == pytest.approx(low.metrics, rel=1e-4)
    error = np.sqrt(np.mean((answers(scorer, features) - label) ** 2))
    assert error == pytest.approx(summary.metrics["Root Mean Squared Error"], rel=0.2)


def test_an_answer_is_spelled_with_the_digits_that_it_has(tmp_path: Path) -> None:
    """Not with those that come of adding an offset in binary numbers."""
    features, label = made("moments")
    _, scorer = trained(tmp_path, features, label, "boosting-regressor")
    assert max(len(row[0]) for row in scorer.score(table(features)).values) <= len("1700000012.1234567") + 2


@pytest.mark.parametrize(
    ("estimator", "parameters", "reference"),
    [
        ("linear-regressor", {}, Ridge),
        ("sklearn.neural_network.MLPRegressor", {"random_state": 0, "max_iter": 40, "solver": "lbfgs"}, MLPRegressor),
    ],
)
def test_what_calculates_is_fitted_in_64_bits(
    tmp_path: Path, estimator: str, parameters: dict[str, Any], reference: Callable[..., Any]
) -> None:
    """In 32, equations lose digits, and an optimizer goes another way: people with diabetes, of whom two measurements
    are almost the same.
    """
    features, label = load_diabetes(return_X_y=True, scaled=False)
    _, scorer = trained(tmp_path, features, label, estimator, estimator_parameters=parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = make_pipeline(StandardScaler(), reference(**parameters)).fit(features, label)
    expected = model.predict(features)
    assert abs(answers(scorer, features) - expected).max() <= 5e-6 * expected.std()


@pytest.mark.parametrize(
    ("estimator", "parameters"),
    [
        ("boosting-regressor", {"min_samples_leaf": 1, "max_iter": 30}),
        ("sklearn.ensemble.GradientBoostingRegressor", {"n_estimators": 30}),
        ("lightgbm.LGBMRegressor", {"min_child_samples": 1, "n_estimators": 30}),
        ("xgboost.XGBRegressor", {"n_estimators": 30}),
    ],
)
def test_neighbours_in_32_bits_are_told_apart(tmp_path: Path, estimator: str, parameters: dict[str, Any]) -> None:
    """Where two whole numbers have no number between them, a threshold must not be rounded to the upper one."""
    whole, _, _ = drawn()
    features, label = (2.0**23 + whole)[:, None], whole % 2
    _, scorer = trained(tmp_path, features, label, estimator, estimator_parameters=parameters | {"learning_rate": 0.5})
    assert ((answers(scorer, features) > 0.5) == label).all()


def test_an_estimator_that_a_shift_of_the_label_changes_is_refused(tmp_path: Path) -> None:
    """Where 32 bits would lose the label, in words that name column and remedy; which they are, the table says."""
    features, label = made("moments")
    with pytest.raises(RequestRejected, match=r"Subtract 1700000\d+\.\d+ from 'y' in the data, or use another"):
        trained(tmp_path, features, label, "sklearn.linear_model.PoissonRegressor")


PIPELINES = """
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.naive_bayes import BernoulliNB, MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, Normalizer, PolynomialFeatures, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

MADE = {
    "counts": lambda: MultinomialNB(),
    "bits": lambda: BernoulliNB(),
    "lengths": lambda: make_pipeline(Normalizer(), LogisticRegression()),
    "largest": lambda: make_pipeline(MaxAbsScaler(), LogisticRegression()),
    "powers": lambda: make_pipeline(PolynomialFeatures(2), LogisticRegression()),
    "no intercept": lambda: LogisticRegression(fit_intercept=False),
    "liblinear": lambda: LogisticRegression(solver="liblinear"),
    "polynomial kernel": lambda: SVC(kernel="poly"),
    "tree": lambda: DecisionTreeClassifier(random_state=0),
    "scaled": lambda: make_pipeline(StandardScaler(), LogisticRegression()),
}


def make(schema, which):
    return MADE[which]()
"""


@pytest.mark.parametrize(
    "which",
    [
        "counts",
        "bits",
        "lengths",
        "largest",
        "powers",
        "no intercept",
        "liblinear",
        "polynomial kernel",
        "tree",
        "scaled",
    ],
)
def test_a_pipeline_that_a_shift_of_a_column_changes_gets_none(tmp_path: Path, which: str) -> None:
    """That is tried out, whatever a user's pipeline is made of; a note names column and remedy."""
    (tmp_path / "pipelines_for_shifts.py").write_text(PIPELINES)
    features, label = made("dates")
    changes = {"task": "classification", "estimator_parameters": {"which": which}}
    text = np.where(label > 4, "high", "low")
    try:
        summary, _ = trained(tmp_path, features, text, "pipelines_for_shifts:make", **changes)
        offsets, said = summary.schema.offsets, " ".join(summary.notes)
    except RequestRejected as error:
        offsets, said = (), error.message
    assert bool(offsets) == (which in ("tree", "scaled"))
    expected = ("Subtract 202601", "does not convert faithfully", "Negative values")
    assert any(part in said for part in expected) == (which not in ("tree", "scaled"))


def test_a_refusal_names_the_column_that_got_no_shift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row and both answers alone would not say what to do."""
    monkeypatch.setattr("airflow_provider_azureml_classic.server.experiments.conversion._TOLERANCE", -1.0)
    features, label = made("seconds")
    text = np.where(label > 4, "high", "low")
    with pytest.raises(RequestRejected) as caught:
        trained(tmp_path, abs(features), text, "sklearn.naive_bayes.ComplementNB")
    assert "its answers differ in" in caught.value.message
    assert "The numbers of 'x0' lie far from zero" in caught.value.message
    assert "Leave the column out, or use another estimator." in caught.value.message


@pytest.mark.parametrize(
    ("estimator", "parameters", "compares", "scaled"),
    [
        ("sklearn.ensemble.BaggingRegressor", {}, True, True),
        ("sklearn.ensemble.BaggingRegressor", {"estimator": DecisionTreeRegressor()}, True, True),
        ("sklearn.ensemble.BaggingRegressor", {"estimator": Ridge()}, False, False),
        ("sklearn.ensemble.VotingRegressor", {"estimators": [("a", Ridge()), ("b", MLPRegressor())]}, False, False),
        ("sklearn.svm.SVR", {}, False, True),
    ],
)
def test_what_is_made_of_other_estimators_is_no_tree(
    estimator: str, parameters: dict[str, Any], compares: bool, scaled: bool
) -> None:
    """Trees are fitted in 32 bits, and never changed by a shift of a column; what votes or is bagged may be."""
    experiment = Experiment("T", estimator, "y", "d.csv", Path(), estimator_parameters=parameters)
    assert estimators.compares(experiment, Schema((Column("x", "number"),), "y", "regression")) == compares
    assert estimators.is_scaled(experiment) == scaled
