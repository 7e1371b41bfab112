"""Which estimators are served as they are fitted by hand, on which data: what a table of the documents shows.

By hand means: in 64 bits, columns centred where 32 bits would merge them, and put together from scikit-learn's parts
without this package. ``make estimators`` runs all of it; the tests run some rows of the table.
"""

from __future__ import annotations

import csv
import importlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.server.experiments import Column, Experiment, Schema, Scorer, precision, train
from airflow_provider_azureml_classic.server.experiments.frame import Frame, read_table

Matrix = NDArray[Any]
ROWS, FRESH = 300, 200
#: How far an answer may be from the one by hand: a number as a share of their spread, a probability as it is.
EXACT = 5e-6
#: Share of rows in which it may be farther: a number may be a threshold, in one of the two ways.
FEW = 0.005
_TIED = 1e-5
AGREES, CHANGED = "agrees", "changed by a shift"

_DRAWN = {"random_state": 0}
#: Fewer trees than usual, which take less time and show the same.
_FEW = _DRAWN | {"n_estimators": 30}
_SHORT = _DRAWN | {"max_iter": 30}
#: Estimators as a declaration names them, and their parameters.
CLASSIFIERS: dict[str, dict[str, Any]] = {
    "boosting-classifier": {"max_iter": 30},
    "linear-classifier": {},
    "catboost.CatBoostClassifier": {"iterations": 50},
    "lightgbm.LGBMClassifier": {"n_estimators": 30},
    "sklearn.calibration.CalibratedClassifierCV": {},
    "sklearn.discriminant_analysis.LinearDiscriminantAnalysis": {},
    "sklearn.discriminant_analysis.QuadraticDiscriminantAnalysis": {"reg_param": 0.1},
    "sklearn.ensemble.AdaBoostClassifier": _DRAWN,
    "sklearn.ensemble.BaggingClassifier": _DRAWN,
    "sklearn.ensemble.ExtraTreesClassifier": _FEW,
    "sklearn.ensemble.GradientBoostingClassifier": _FEW,
    "sklearn.ensemble.HistGradientBoostingClassifier": _SHORT,
    "sklearn.ensemble.RandomForestClassifier": _FEW,
    "sklearn.gaussian_process.GaussianProcessClassifier": {},
    "sklearn.linear_model.Perceptron": {},
    "sklearn.linear_model.RidgeClassifier": {},
    "sklearn.linear_model.SGDClassifier": _DRAWN | {"loss": "log_loss"},
    "sklearn.naive_bayes.BernoulliNB": {},
    "sklearn.naive_bayes.CategoricalNB": {},
    "sklearn.naive_bayes.ComplementNB": {},
    "sklearn.naive_bayes.GaussianNB": {},
    "sklearn.naive_bayes.MultinomialNB": {},
    "sklearn.neighbors.KNeighborsClassifier": {},
    "sklearn.neural_network.MLPClassifier": _DRAWN | {"solver": "lbfgs", "max_iter": 100},
    "sklearn.svm.LinearSVC": _DRAWN,
    "sklearn.svm.NuSVC": {"nu": 0.2},
    "sklearn.svm.SVC": {},
    "sklearn.tree.DecisionTreeClassifier": _DRAWN,
    "xgboost.XGBClassifier": {"n_estimators": 30},
}
REGRESSORS: dict[str, dict[str, Any]] = {
    "boosting-regressor": {"max_iter": 30},
    "linear-regressor": {},
    "catboost.CatBoostRegressor": {"iterations": 50},
    "lightgbm.LGBMRegressor": {"n_estimators": 30},
    "sklearn.ensemble.AdaBoostRegressor": _DRAWN,
    "sklearn.ensemble.ExtraTreesRegressor": _FEW,
    "sklearn.ensemble.GradientBoostingRegressor": _FEW,
    "sklearn.ensemble.HistGradientBoostingRegressor": _SHORT,
    "sklearn.ensemble.RandomForestRegressor": _FEW,
    "sklearn.gaussian_process.GaussianProcessRegressor": {"alpha": 0.1, "normalize_y": True},
    "sklearn.kernel_ridge.KernelRidge": {},
    "sklearn.linear_model.ARDRegression": {},
    "sklearn.linear_model.BayesianRidge": {},
    "sklearn.linear_model.ElasticNet": {"alpha": 0.01},
    "sklearn.linear_model.GammaRegressor": {},
    "sklearn.linear_model.HuberRegressor": {"max_iter": 1000},
    "sklearn.linear_model.LassoLars": {"alpha": 0.01},
    "sklearn.linear_model.LinearRegression": {},
    "sklearn.linear_model.PoissonRegressor": {},
    "sklearn.linear_model.QuantileRegressor": {"alpha": 0.01},
    "sklearn.linear_model.SGDRegressor": _DRAWN,
    "sklearn.linear_model.TweedieRegressor": {"power": 1.5},
    "sklearn.neighbors.KNeighborsRegressor": {},
    "sklearn.neural_network.MLPRegressor": _DRAWN | {"solver": "lbfgs", "max_iter": 100},
    "sklearn.svm.LinearSVR": _DRAWN,
    "sklearn.svm.SVR": {},
    "sklearn.tree.DecisionTreeRegressor": _DRAWN,
    "xgboost.XGBRegressor": {"n_estimators": 30},
}
ESTIMATORS = CLASSIFIERS | REGRESSORS

_PLAIN, FAR, _TEXTS, _MISSING, LABELS = "plain", "far", "texts", "missing", "labels"
#: Kinds of data, and how the table calls them.
KINDS = {
    _PLAIN: "plain numbers",
    FAR: "seconds since 1970, ids near 2⁵³",
    _TEXTS: "categories, also unknown ones",
    _MISSING: "missing cells",
    LABELS: "labels 1.7 billion ± 10",
}
COLOURS = ("", "blue", "green", "red", "yellow")


def drawn(kind: str, rows: int, seed: int) -> tuple[Matrix, NDArray[np.float64]]:
    """Two columns of a kind, and a positive number that depends on both.

    :param kind: one of :data:`KINDS`.
    :param rows: how many.
    :param seed: of the draw.
    """
    random = np.random.default_rng(seed)
    first, second = random.random((2, rows))
    noise = random.random(rows) / 4
    columns: list[Any] = [first.round(6), (4 * second).round(6)]
    if kind == FAR:
        first, second = random.integers(0, 1000, (2, rows)) / 1000
        columns = [1_767_225_600.0 + 1000 * first, 2.0**53 - 1500 + 1000 * second]
    if kind == _TEXTS:
        codes = random.integers(0, len(COLOURS), rows)
        columns = [np.array(COLOURS, object)[codes], (4 * second).round(6)]
        first = codes / 4
    if kind == _MISSING:
        columns = [np.where(random.random(rows) < 0.15, np.nan, column) for column in columns]
    matrix = np.empty((rows, 2), object)
    matrix[:, 0], matrix[:, 1] = columns
    return matrix, 1 + 2 * first + np.sin(5 * second) + noise


def asked(kind: str) -> Matrix:
    """Rows of the training, and fresh ones of the same kind: with unknown categories, if it has any.

    :param kind: one of :data:`KINDS`.
    """
    fresh = drawn(kind, FRESH, 1)[0]
    if kind == _TEXTS:
        fresh[:: FRESH // 20, 0] = "violet"
    return np.concatenate([drawn(kind, ROWS, 0)[0], fresh])


def labels(estimator: str, kind: str) -> Matrix:
    """What is learnt: numbers, or which third of them.

    :param estimator: one of :data:`ESTIMATORS`.
    :param kind: one of :data:`KINDS`.
    """
    number = drawn(kind, ROWS, 0)[1]
    if estimator in REGRESSORS:
        return 1.7e9 + 10 * (number - number.mean()) / 2 if kind == LABELS else number
    third = np.digitize(number, np.quantile(number, [1 / 3, 2 / 3]))
    return 1_700_000_000 + third if kind == LABELS else np.array(["high", "low", "middle"])[third]


def declared(estimator: str, kind: str, folder: Path) -> Experiment:
    """The experiment, with its data beside it.

    :param estimator: one of :data:`ESTIMATORS`.
    :param kind: one of :data:`KINDS`.
    :param folder: where files are written.
    """
    with (folder / "d.csv").open("w", newline="") as stream:
        out = csv.writer(stream)
        out.writerow(["a", "b", "y"])
        rows = zip(drawn(kind, ROWS, 0)[0], labels(estimator, kind).tolist(), strict=True)
        out.writerows([*_cells(row), label] for row, label in rows)
    used, parameters = _features(estimator, kind), ESTIMATORS[estimator]
    return Experiment("T", estimator, "y", "d.csv", folder, features=used, estimator_parameters=parameters)


def shift_changes(estimator: str, kind: str, folder: Path) -> bool:
    """Whether columns or label of this kind get no shift, because the estimator would answer otherwise.

    :param estimator: one of :data:`ESTIMATORS`.
    :param kind: :data:`FAR` or :data:`LABELS`.
    :param folder: where files are written.
    """
    experiment = declared(estimator, kind, folder)
    frame = Frame(read_table(folder / "d.csv"), ".")
    task = "regression" if estimator in REGRESSORS else "classification"
    schema = Schema((Column("a", "number"), Column("b", "number")), "y", task).learnt(frame)
    try:
        return bool(precision.shifted(experiment, schema, frame)[1])
    except RequestRejected:
        return True


def outcome(estimator: str, kind: str, folder: Path) -> str:
    """``agrees``, or how far, or in words why not.

    :param estimator: one of :data:`ESTIMATORS`.
    :param kind: one of :data:`KINDS`.
    :param folder: where files are written.
    """
    experiment, rows = declared(estimator, kind, folder), asked(kind)
    try:
        summary = train(experiment, None, folder / "d.csv", folder / "m.ilearner", folder / "e.csv")
    except RequestRejected as error:
        return f"refused: {_reason(error.message)}"
    if any("are shifted" in note for note in summary.notes):
        return f"noted: {CHANGED}"
    answers = Scorer.load(folder / "m.ilearner").score(Table(("a", "b"), [_cells(row) for row in rows]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        off = ByHand(estimator, kind).differences(answers, rows)
    if np.mean(off > EXACT) <= FEW:
        return AGREES
    return f"to {10.0 ** np.ceil(np.log10(off.max())):.0e}"


class ByHand:
    """An estimator fitted without this package.

    :param estimator: one of :data:`ESTIMATORS`.
    :param kind: one of :data:`KINDS`.
    """

    def __init__(self, estimator: str, kind: str) -> None:
        truth, data = labels(estimator, kind), drawn(kind, ROWS, 0)[0]
        self._texts = kind == _TEXTS
        self._columns = len(_features(estimator, kind))
        self._level = float(np.median(truth)) if estimator in REGRESSORS and kind == LABELS else 0.0
        numbers = data.astype(float) if kind == FAR else np.zeros((1, 2))
        # Ids near 2⁵³ have no number between them, which LightGBM needs; what is above zero must stay there for it.
        self._centre = numbers.min(axis=0) - 1 if "lightgbm" in estimator else np.median(numbers, axis=0)
        self._model = _pipeline(estimator, texts=self._texts)
        self._classes = np.array([]) if estimator in REGRESSORS else np.unique(truth)
        target = np.searchsorted(self._classes, truth) if len(self._classes) else truth - self._level
        self._model.fit(self._prepared(data), target)

    def differences(self, answers: Table, rows: Matrix) -> NDArray[np.float64]:
        """How far the answers of a service to some rows are from those by hand."""
        matrix = self._prepared(rows)
        said = np.asarray(self._model.predict(matrix)).reshape(len(rows))
        off = self._of_classes(answers, said, matrix) if len(self._classes) else self._of_numbers(answers, said)
        off[self._equally_near(matrix)] = 0
        return off

    def _prepared(self, rows: Matrix) -> NDArray[np.float64]:
        if self._texts:
            codes = {colour: place for place, colour in enumerate(COLOURS[1:])}
            return np.array([[codes.get(colour, -1), number] for colour, number in rows], float)[:, : self._columns]
        centred: NDArray[np.float64] = rows.astype(float) - self._centre
        return centred

    def _of_numbers(self, answers: Table, said: Matrix) -> NDArray[np.float64]:
        got = np.array(answers.column("Scored Labels"), float)
        return np.asarray(abs(got - (said.astype(float) + self._level)) / said.std())

    def _of_classes(self, answers: Table, said: Matrix, matrix: Matrix) -> NDArray[np.float64]:
        ask = next(name for name in ("predict_proba", "decision_function") if hasattr(self._model, name))
        scores, off = getattr(self._model, ask)(matrix), np.zeros(len(matrix))
        if ask == "predict_proba":
            names = (f'Scored Probabilities for Class "{label}"' for label in self._classes)
            off = abs(np.array(list(map(answers.column, names)), float).T - scores).max(axis=1)
        # Of classes that are thought of as equally likely either may be taken.
        lead = np.diff(np.sort(scores, axis=1)[:, -2:])[:, 0]
        other = np.array(answers.column("Scored Labels")) != self._classes[said].astype(str)
        return np.where(other & (lead > _TIED), 1.0, off)

    def _equally_near(self, matrix: Matrix) -> NDArray[np.bool_]:
        """Rows of which the last neighbour that counts is as near as the next."""
        last = self._model.steps[-1][1] if hasattr(self._model, "steps") else self._model
        if not hasattr(last, "kneighbors"):
            return np.zeros(len(matrix), bool)
        distances = last.kneighbors(self._model[:-1].transform(matrix), last.n_neighbors + 1)[0]
        return np.asarray(np.diff(distances[:, -2:])[:, 0] < _TIED)


_SHIPPED = {
    "boosting-classifier": ("sklearn.ensemble.HistGradientBoostingClassifier", {"random_state": 0}),
    "boosting-regressor": ("sklearn.ensemble.HistGradientBoostingRegressor", {"random_state": 0}),
    "linear-classifier": ("sklearn.linear_model.LogisticRegression", {"max_iter": 1000}),
    "linear-regressor": ("sklearn.linear_model.Ridge", {}),
}
_QUIET = {"catboost": {"allow_writing_files": False, "verbose": False}, "lightgbm": {"verbose": -1, "n_jobs": 1}}


def _pipeline(name: str, *, texts: bool) -> Any:
    dotted, parameters = _SHIPPED.get(name, (name, {}))
    module, _, kind = dotted.rpartition(".")
    library = module.partition(".")[0]
    estimator = getattr(importlib.import_module(module), kind)(
        **parameters | ESTIMATORS[name] | _QUIET.get(library, {})
    )
    if library != "sklearn" or kind.startswith("Hist"):
        return estimator
    if module in ("sklearn.ensemble", "sklearn.tree"):
        return make_pipeline(SimpleImputer(), estimator)
    if kind == "CategoricalNB":
        estimator.set_params(min_categories=len(COLOURS))
        return make_pipeline(FunctionTransformer(lambda matrix: matrix + 1), estimator)
    counts = kind in ("BernoulliNB", "ComplementNB", "MultinomialNB")
    numbers = SimpleImputer() if counts else make_pipeline(SimpleImputer(), StandardScaler())
    bits = OneHotEncoder(categories=[list(range(4))], handle_unknown="ignore", sparse_output=False)
    parts = [(numbers, [1]), (bits, [0])] if texts else [(numbers, [0, 1])]
    return make_pipeline(make_column_transformer(*parts, sparse_threshold=0), estimator)


def _cells(row: Matrix) -> list[str]:
    return [cell if isinstance(cell, str) else "" if cell != cell else repr(float(cell)) for cell in row]


def _features(estimator: str, kind: str) -> tuple[str, ...]:
    """The columns that are used: what takes categories only gets no others where there are such."""
    return ("a",) if "Categorical" in estimator and kind == _TEXTS else ("a", "b")


#: How the table says what a message says.
_REASONS = {
    "are shifted": CHANGED,
    "takes categories, and": "categories only",
    "Only binary classification": "two classes only",
    "MissingShapeCalculator": "not convertible",
}


def _reason(message: str) -> str:
    return next((short for part, short in _REASONS.items() if part in message), message)
