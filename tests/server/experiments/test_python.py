"""Experiments declared in Python: objects instead of names, the same checks, and models that answer as they should."""

from __future__ import annotations

import csv
import pickle
import random
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.ensemble import (
    AdaBoostClassifier,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.linear_model import HuberRegressor, Lasso, LinearRegression, LogisticRegression, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.server.__main__ import declared
from airflow_provider_azureml_classic.server.experiments import Scorer, declare, estimators, train
from airflow_provider_azureml_classic.server.experiments.frame import Frame, read_table
from airflow_provider_azureml_classic.server.experiments.schema import encode, encode_label

CLASSIFIERS = [
    LogisticRegression(C=0.5),
    SGDClassifier(loss="log_loss", random_state=0),
    GaussianNB(),
    DecisionTreeClassifier(max_depth=4, random_state=0),
    RandomForestClassifier(8, random_state=0),
    ExtraTreesClassifier(8, random_state=0),
    GradientBoostingClassifier(n_estimators=8, random_state=0),
    HistGradientBoostingClassifier(max_iter=8, random_state=0),
    AdaBoostClassifier(DecisionTreeClassifier(max_depth=1), n_estimators=5, random_state=0),
    MLPClassifier((4,), max_iter=300, random_state=0),
    make_pipeline(MinMaxScaler(), LogisticRegression()),
]
REGRESSORS = [
    LinearRegression(),
    Lasso(0.01),
    HuberRegressor(),
    DecisionTreeRegressor(max_depth=5, random_state=0),
    ExtraTreesRegressor(8, random_state=0),
    GradientBoostingRegressor(n_estimators=8, random_state=0),
    HistGradientBoostingRegressor(max_iter=8, random_state=0),
]


def first_rows(stream: Any) -> None:
    """First data of an experiment."""
    stream.write("a,b,c,y\n1,2,red,3\n")


def pipeline(schema: Any, depth: int = 2) -> Any:
    """A pipeline of a user."""
    return DecisionTreeRegressor(max_depth=depth)


def experiment(estimator: Any, **more: Any) -> Any:
    """An experiment over the columns of :func:`text_of`."""
    return declare(name="T", estimator=estimator, label="y", first_data=first_rows, **more)


def text_of(seed: int, classes: int, missing: float) -> str:
    """CSV with numbers, texts and holes; ``classes`` of 0 means a number as label."""
    draw = random.Random(seed)  # noqa: S311 - test data
    lines = ["a,b,c,y"]
    for number in range(120):
        a, b, c = draw.gauss(0, 1), draw.uniform(-5, 900), draw.choice(("red", "green", "blue"))
        value = a + b / 300 + (c == "red")
        label = f"{value:.4f}" if not classes else f"k{number if number < classes else int(abs(value) * 2) % classes}"
        cells = (f"{a:.4f}", f"{b:.2f}", c)
        lines.append(",".join(["" if draw.random() < missing else cell for cell in cells] + [label]))
    return "\n".join(lines) + "\n"


@pytest.mark.slow
@pytest.mark.parametrize("estimator", [*CLASSIFIERS, *REGRESSORS], ids=lambda one: type(one).__name__)
@pytest.mark.filterwarnings("ignore")
def test_any_estimator_answers_as_scikit_learn_does(tmp_path_factory: Any, estimator: Any) -> None:
    """Two and more classes, or numbers; few and many missing cells: the model file answers what the estimator does."""
    declared_once = experiment(estimator)

    @given(seed=st.integers(0, 10_000), classes=st.integers(2, 5), missing=st.sampled_from([0.0, 0.1, 0.4]))
    @settings(max_examples=2, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def check(seed: int, classes: int, missing: float) -> None:
        regression = estimator in REGRESSORS
        folder = tmp_path_factory.mktemp("run")
        (folder / "d.csv").write_text(text_of(seed, 0 if regression else classes, missing))
        schema = train(declared_once, None, folder / "d.csv", folder / "m.ilearner", folder / "e.csv").schema
        frame = Frame(read_table(folder / "d.csv"))
        # What calculates is fitted in 64 bits; on data like these its path may depend on the last digits.
        matrix = encode(schema, frame, wide=not estimators.compares(declared_once, schema))
        fitted = estimators.make(declared_once, schema).fit(matrix, encode_label(schema, frame))
        with (folder / "d.csv").open(newline="") as stream:
            names, *rows = csv.reader(stream)
        answer = Scorer.load(folder / "m.ilearner").score(Table(tuple(names), rows)).column("Scored Labels")
        if regression:
            got, want = np.array([float(x) for x in answer]), fitted.predict(matrix)
            assert np.isclose(got, want, 1e-3, 1e-3 * np.abs(want).mean()).mean() > 0.98
        else:
            assert (np.array(answer) == np.array(schema.classes)[fitted.predict(matrix)]).mean() > 0.98

    check()


def test_an_estimator_is_declared_with_its_parameters() -> None:
    """Class and parameters that differ from the defaults; it can be sent to a worker process."""
    made = experiment(HistGradientBoostingClassifier(max_iter=7), task="classification", optional=("a",))
    assert made.estimator.endswith(".HistGradientBoostingClassifier")
    assert made.estimator_parameters == {"max_iter": 7}
    assert pickle.loads(pickle.dumps(made)) == made  # noqa: S301 - our own
    assert made.first_rows().startswith(b"a,b,c,y")


def test_a_function_is_declared_by_its_name() -> None:
    """It must be found by worker processes."""
    made = experiment(pipeline, task="regression", estimator_parameters={"depth": 3})
    assert made.estimator == f"{__name__}:pipeline"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"estimator": lambda schema: None, "task": "regression"}, "cannot be found by a worker process"),
        ({"estimator": pipeline}, "the key 'task' is missing"),
        ({"estimator": Lasso(), "estimator_parameters": {}}, "remove estimator_parameters"),
        ({"estimator": "magic"}, "is neither a pipeline of this package"),
        ({"estimator": Lasso(), "test_fraction": 2}, "test_fraction = 2 is wrong"),
        ({"estimator": Lasso(), "tset_fraction": 0.1}, "Did you mean 'test_fraction'"),
        ({"estimator": Lasso(), "first_data": "nothing.csv"}, "there is no file"),
        ({"estimator": Lasso(), "ignore": ("y",)}, "the label 'y' is among 'ignore'"),
    ],
)
def test_a_mistake_is_told(arguments: dict[str, Any], said: str) -> None:
    """The same checks as for a TOML file, at the moment of the declaration."""
    with pytest.raises(ValueError, match=re.escape(said)):
        declare(**{"name": "T", "label": "y", "first_data": first_rows, **arguments})


@pytest.mark.filterwarnings("ignore")
def test_what_does_not_convert_is_refused_with_the_reason(tmp_path: Path) -> None:
    """An estimator without an ONNX form never becomes a web service."""
    (tmp_path / "d.csv").write_text(text_of(1, 2, 0))
    with pytest.raises(RequestRejected, match="does not convert faithfully to ONNX"):
        train(
            experiment(SVC(kernel=measure_nothing)), None, tmp_path / "d.csv", tmp_path / "m.ilearner", tmp_path / "e"
        )


def measure_nothing(left: Any, right: Any) -> Any:
    """A kernel that only Python can compute."""
    return left @ right.T


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Writes a module beside which the server is started, and returns its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def write(code: str) -> str:
        name = f"declared_{abs(hash(code))}"
        (tmp_path / f"{name}.py").write_text(code)
        return name

    return write


CODE = """
from sklearn.linear_model import Ridge
from airflow_provider_azureml_classic.server.experiments import declare

def rows(stream):
    stream.write("x,y\\n1,2\\n")

ONE = declare(name="One", estimator=Ridge(alpha=2), label="y", first_data=rows)
MANY = [ONE, declare(name="Two", estimator="linear-regressor", label="y", first_data=rows)]
def make():
    return MANY
WRONG = [1]
TWICE = [ONE, ONE]
"""


@pytest.mark.parametrize(("name", "names"), [("ONE", ["One"]), ("MANY", ["One", "Two"]), ("make", ["One", "Two"])])
def test_the_command_line_takes_a_module(module: Callable[[str], str], name: str, names: list[str]) -> None:
    """``--experiments module:NAME``: one experiment, a list of them, or a function that makes them."""
    assert [one.name for one in declared([f"{module(CODE)}:{name}"])][2:] == names


@pytest.mark.parametrize(
    ("name", "said"), [("WRONG", "made by declare()"), ("NO", "has no attribute"), ("TWICE", "the name is used twice")]
)
def test_a_wrong_name_is_told(module: Callable[[str], str], name: str, said: str) -> None:
    """With what was given and what is expected."""
    with pytest.raises(ValueError, match=re.escape(said)):
        declared([f"{module(CODE)}:{name}"])
