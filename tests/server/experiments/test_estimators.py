"""Pipelines of scikit-learn's estimators: whatever they ask of their rows, later data trains them again."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.compose import make_column_transformer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.impute import KNNImputer
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.server.experiments import Experiment, Scorer, train
from airflow_provider_azureml_classic.server.experiments.declaration import applied
from airflow_provider_azureml_classic.server.experiments.estimators import compares, make
from airflow_provider_azureml_classic.server.experiments.parameters import Parameter
from airflow_provider_azureml_classic.server.experiments.schema import Column, Schema

CASES = Path(__file__).with_name("cases")


def test_parameters_reach_any_step(tmp_path: Path) -> None:
    """By the pipeline's own names; a step that is not there fails the training by name."""
    shutil.copy(CASES / "four.csv", tmp_path)
    name = "sklearn.linear_model.LogisticRegression"
    declared = {"Missing": Parameter("Missing", "columns.numbers__impute__strategy"), "No": Parameter("No", "no.x")}
    experiment = Experiment("T", name, "y", "four.csv", tmp_path, parameters=declared)
    schema = train(experiment, None, tmp_path / "four.csv", tmp_path / "m.ilearner", tmp_path / "e.csv").schema
    made = make(applied(experiment, {"Missing": "median"}), schema)
    assert made.get_params()["columns__numbers__impute__strategy"] == "median"
    with pytest.raises(RequestRejected, match="Invalid parameter 'no'"):
        compares(applied(experiment, {"No": "x"}), schema)


@pytest.mark.parametrize(
    "name", ["linear-regressor", "sklearn.linear_model.Ridge", "sklearn.linear_model.LinearRegression"]
)
def test_linear_models_of_many_categories_are_the_exact_ones(name: str) -> None:
    """A bit for each category makes sparse rows, on which scikit-learn would stop a percent away from the solution."""
    draw = np.random.default_rng(0)
    codes, numbers = draw.integers(0, 60, 500), draw.lognormal(size=(500, 3)) + draw.normal(size=(500, 1))
    truth = numbers @ [20, -10, 5] + draw.normal(size=60)[codes] + 600
    columns = [Column(one, "number") for one in "abc"]
    schema = Schema((*columns, Column("c", "string", tuple(map(str, range(60))))), "y", "regression")
    matrix = np.column_stack([numbers, codes])
    answers = make(Experiment("T", name, "y", "-", Path()), schema).fit(matrix, truth).predict(matrix)
    dense = np.hstack([StandardScaler().fit_transform(numbers), np.eye(60)[codes]])
    exact = (LinearRegression() if "LinearRegression" in name else Ridge()).fit(dense, truth).predict(dense)
    assert abs(answers - exact).max() < 1e-6 * exact.std()
    loose = Experiment("T", name, "y", "-", Path(), estimator_parameters={"tol": 0.5})
    assert make(loose, schema).get_params()["estimator__tol"] == 0.5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sklearn.naive_bayes.GaussianNB", GaussianNB),
        ("sklearn.neighbors.KNeighborsClassifier", KNeighborsClassifier),
        ("sklearn.discriminant_analysis.LinearDiscriminantAnalysis", LinearDiscriminantAnalysis),
        ("sklearn.linear_model.LogisticRegression", None),
    ],
)
def test_categories_may_grow(tmp_path: Path, name: str, kind: type | None) -> None:
    """Four categories a column first, eight later: one-hot rows are dense for whoever needs that."""
    for case in ("four", "eight"):
        shutil.copy(CASES / f"{case}.csv", tmp_path)
    experiment = Experiment("T", name, "y", "four.csv", tmp_path)
    files = tmp_path / "m.ilearner", tmp_path / "e.csv"
    schema = train(experiment, None, tmp_path / "four.csv", *files).schema
    train(experiment, schema, tmp_path / "eight.csv", *files)
    if kind is None:
        return
    with (tmp_path / "eight.csv").open(newline="") as stream:
        names, *rows = csv.reader(stream)
    label = names.index("y")
    features = np.array([[*row[:2], float(row[2])] for row in rows], object)
    truth = np.array([row[label] for row in rows])
    by_column = make_column_transformer(
        (StandardScaler(), [2]), (OneHotEncoder(sparse_output=False), [0, 1]), sparse_threshold=0
    )
    model = make_pipeline(by_column, kind()).fit(features, truth)
    expected: NDArray[np.float64] = model.predict_proba(features)
    answer = Scorer.load(files[0]).score(Table(tuple(names), rows))
    got = [float(cell) for cell in answer.column(f'Scored Probabilities for Class "{model.classes_[0]}"')]
    assert np.mean(abs(np.array(got) - expected[:, 0]) < 5e-6 * expected.std()) > 0.98


@pytest.mark.parametrize(
    ("name", "first", "said"),
    [
        ("MultinomialNB", -2, r"on the column 'n': it takes counts, and here is -2\.0\. Leave the column out"),
        ("ComplementNB", -2, r"on the column 'n': it takes counts, and here is -2\.0\. Leave the column out"),
        ("CategoricalNB", 2, "on the column 'n': it takes categories, and this column holds numbers. Leave the column"),
        ("BernoulliNB", -2, None),
    ],
)
def test_a_column_that_naive_bayes_does_not_take_is_named(
    tmp_path: Path, name: str, first: int, said: str | None
) -> None:
    """With what to do about it, instead of what the estimator says of a matrix."""
    rows = "".join(f"{'red' if n % 2 else 'blue'},{n + first},{'yes' if n % 3 else 'no'}\n" for n in range(40))
    (tmp_path / "d.csv").write_text("colour,n,y\n" + rows)
    experiment = Experiment("T", f"sklearn.naive_bayes.{name}", "y", "d.csv", tmp_path)
    files = tmp_path / "d.csv", tmp_path / "m.ilearner", tmp_path / "e.csv"
    if said is None:
        train(experiment, None, *files)
        return
    with pytest.raises(RequestRejected, match=said):
        train(experiment, None, *files)


def test_neighbours_give_missing_numbers(tmp_path: Path) -> None:
    """``KNNImputer`` in a user's pipeline: as scikit-learn's, also for rows of which nothing is there."""
    (tmp_path / "imputed_by_neighbours.py").write_text(
        "from sklearn.impute import KNNImputer\nfrom sklearn.linear_model import Ridge\n"
        "from sklearn.pipeline import make_pipeline\nfrom sklearn.preprocessing import StandardScaler\n\n"
        "def make(schema, neighbours):\n"
        "    return make_pipeline(StandardScaler(), KNNImputer(n_neighbors=neighbours), Ridge())\n"
    )
    random = np.random.default_rng(0)
    features = random.normal(size=(200, 3))  # in full, so that hardly two are equally near
    features[random.random(features.shape) < 0.2] = np.nan
    label = np.nan_to_num(features, nan=0.5) @ [1, 2, 3]
    rows = [["" if cell != cell else repr(cell) for cell in row] for row in features.tolist()]
    lines = [",".join([*row, repr(float(y))]) for row, y in zip(rows, label, strict=True)]
    (tmp_path / "d.csv").write_text("a,b,c,y\n" + "\n".join(lines) + "\n")
    experiment = Experiment(
        "T",
        "imputed_by_neighbours:make",
        "y",
        "d.csv",
        tmp_path,
        task="regression",
        estimator_parameters={"neighbours": 4},
    )
    train(experiment, None, tmp_path / "d.csv", tmp_path / "m.ilearner", tmp_path / "e.csv")
    others = np.where(random.random(features.shape) < 0.4, np.nan, features[::-1])
    others[0] = np.nan
    asked = Table(("a", "b", "c"), [[None if cell != cell else cell for cell in row] for row in others.tolist()])
    got = [float(row[0]) for row in Scorer.load(tmp_path / "m.ilearner").score(asked).values]
    expected = make_pipeline(StandardScaler(), KNNImputer(n_neighbors=4), Ridge()).fit(features, label).predict(others)
    assert abs(np.array(got) - expected).max() < 5e-6 * expected.std()
