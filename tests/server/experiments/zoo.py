"""Estimators that experiments may declare: what converters are known to write for them is what a graph may hold."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from catboost import CatBoostClassifier, CatBoostRegressor
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn import (
    calibration,
    decomposition,
    ensemble,
    feature_selection,
    gaussian_process,
    impute,
    linear_model,
    multiclass,
    naive_bayes,
    neighbors,
    neural_network,
    preprocessing,
    random_projection,
    svm,
    tree,
)
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.gaussian_process import kernels
from sklearn.pipeline import Pipeline
from xgboost import XGBClassifier, XGBRegressor

from airflow_provider_azureml_classic.server.experiments import Column, Schema, boosting

COLUMNS = tuple(Column(name, "number") for name in "pqrs")
LOGISTIC = linear_model.LogisticRegression()
TREE = tree.DecisionTreeClassifier(max_depth=3)

CLASSIFIERS: dict[str, Any] = {
    "logistic": LOGISTIC,
    "ridge": linear_model.RidgeClassifier(),
    "perceptron": linear_model.Perceptron(),
    "sgd, logistic": linear_model.SGDClassifier(loss="log_loss"),
    "sgd": linear_model.SGDClassifier(),
    "naive Bayes": naive_bayes.GaussianNB(),
    "naive Bayes, Bernoulli": naive_bayes.BernoulliNB(binarize=0.5),
    "naive Bayes, multinomial": naive_bayes.MultinomialNB(),
    "naive Bayes, complement": naive_bayes.ComplementNB(),
    "naive Bayes, categories": naive_bayes.CategoricalNB(),
    "discriminant": QuadraticDiscriminantAnalysis(),
    "vectors": svm.SVC(),
    "vectors, linear": svm.LinearSVC(),
    "vectors, sigmoid": svm.NuSVC(kernel="sigmoid"),
    "tree": TREE,
    "forest": ensemble.RandomForestClassifier(5, max_depth=3),
    "boosting": ensemble.GradientBoostingClassifier(n_estimators=5),
    "boosting, histograms": ensemble.HistGradientBoostingClassifier(max_iter=5),
    "boosting, weights": ensemble.AdaBoostClassifier(n_estimators=3),
    "bagging": ensemble.BaggingClassifier(LOGISTIC, 3, max_features=2),
    "bagging of neighbours": ensemble.BaggingClassifier(neighbors.KNeighborsClassifier(), 3),
    "stacking": ensemble.StackingClassifier([("a", LOGISTIC), ("b", TREE)]),
    "voting": ensemble.VotingClassifier([("a", LOGISTIC), ("b", TREE)], flatten_transform=False),
    "voting, soft": ensemble.VotingClassifier([("a", LOGISTIC), ("b", TREE)], voting="soft", flatten_transform=False),
    "neighbours": neighbors.KNeighborsClassifier(),
    "neighbours, Manhattan": neighbors.KNeighborsClassifier(metric="manhattan"),
    "network": neural_network.MLPClassifier((5,), max_iter=20),
    "network, tanh": neural_network.MLPClassifier((5,), "tanh", max_iter=20),
    "network, logistic": neural_network.MLPClassifier((5,), "logistic", max_iter=20),
    "calibrated": calibration.CalibratedClassifierCV(svm.LinearSVC()),
    "one against the rest": multiclass.OneVsRestClassifier(LOGISTIC),
    "one against one": multiclass.OneVsOneClassifier(LOGISTIC),
    "LightGBM": LGBMClassifier(n_estimators=3),
    "XGBoost": XGBClassifier(n_estimators=3),
    "CatBoost": CatBoostClassifier(n_estimators=3),
}

REGRESSORS: dict[str, Any] = {
    "linear": linear_model.LinearRegression(),
    "gamma": linear_model.GammaRegressor(),
    "Poisson": linear_model.PoissonRegressor(),
    "consensus": linear_model.RANSACRegressor(),
    "vectors": svm.SVR(),
    "tree": tree.DecisionTreeRegressor(max_depth=3),
    "forest": ensemble.RandomForestRegressor(5, max_depth=3),
    "boosting": ensemble.GradientBoostingRegressor(n_estimators=5),
    "boosting, histograms": ensemble.HistGradientBoostingRegressor(max_iter=5),
    "boosting, weights": ensemble.AdaBoostRegressor(n_estimators=3),
    "bagging of neighbours": ensemble.BaggingRegressor(neighbors.KNeighborsRegressor(), 3),
    "stacking": ensemble.StackingRegressor([("a", linear_model.Ridge()), ("b", tree.DecisionTreeRegressor())]),
    "voting": ensemble.VotingRegressor([("a", linear_model.Ridge()), ("b", tree.DecisionTreeRegressor())]),
    "neighbours": neighbors.KNeighborsRegressor(),
    "neighbours, Manhattan": neighbors.KNeighborsRegressor(metric="manhattan"),
    "network": neural_network.MLPRegressor(hidden_layer_sizes=(5,), max_iter=20),
    "LightGBM, Poisson": LGBMRegressor(n_estimators=3, objective="poisson"),
    "XGBoost, Poisson": XGBRegressor(n_estimators=3, objective="count:poisson"),
    "CatBoost": CatBoostRegressor(n_estimators=3),
    "CatBoost, Poisson": CatBoostRegressor(n_estimators=3, loss_function="Poisson"),
    "CatBoost, Tweedie": CatBoostRegressor(n_estimators=3, loss_function="Tweedie:variance_power=1.5"),
    "Gaussian": gaussian_process.GaussianProcessRegressor(kernels.RBF() + kernels.WhiteKernel()),
    "Gaussian, Matern": gaussian_process.GaussianProcessRegressor(kernels.Matern(nu=1.5) + kernels.WhiteKernel()),
    "Gaussian, quadratic": gaussian_process.GaussianProcessRegressor(
        kernels.RationalQuadratic() + kernels.WhiteKernel()
    ),
}

#: Put before a regression.
TRANSFORMERS: dict[str, Any] = {
    "scaled": preprocessing.StandardScaler(),
    "between, cut": preprocessing.MinMaxScaler(clip=True),
    "by the largest": preprocessing.MaxAbsScaler(),
    "robust": preprocessing.RobustScaler(),
    "normal": preprocessing.Normalizer(),
    "powers": preprocessing.PolynomialFeatures(),
    "Yeo": preprocessing.PowerTransformer(),
    "quantiles": preprocessing.QuantileTransformer(n_quantiles=20),
    "bins": preprocessing.KBinsDiscretizer(encode="onehot-dense", quantile_method="averaged_inverted_cdf"),
    "bins, ordinal": preprocessing.KBinsDiscretizer(encode="ordinal", quantile_method="averaged_inverted_cdf"),
    "ones": preprocessing.Binarizer(threshold=0.5),
    "ordinal": preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
    "targets": preprocessing.TargetEncoder(cv=2),
    "best": feature_selection.SelectKBest(feature_selection.f_regression, k=2),
    "components": decomposition.PCA(2, whiten=True),
    "components, truncated": decomposition.TruncatedSVD(2),
    "projection": random_projection.GaussianRandomProjection(2),
    "imputed": impute.SimpleImputer(add_indicator=True),
    "imputed by neighbours": impute.KNNImputer(),
}


def models() -> Iterator[tuple[str, Schema, Any, Any, Any]]:
    """Each with its name, its schema, the fitted model, and the rows and labels that it was fitted on."""
    generator = np.random.default_rng(0)
    matrix = generator.random((80, 4)).astype(np.float32)
    number = matrix @ [1, 2, 3, 4] + 1
    for count, (name, estimator) in enumerate(CLASSIFIERS.items()):
        truth = (np.digitize(number, [5, 7]) if count % 2 else number > 6).astype(int)
        schema = Schema(COLUMNS, "y", "classification", tuple("abc"[: truth.max() + 1]))
        yield name, schema, _fitted(matrix, truth, estimator), matrix, truth
    schema = Schema(COLUMNS, "y", "regression")
    for name, estimator in REGRESSORS.items():
        yield name, schema, _fitted(matrix, number, estimator), matrix, number
    for name, transformer in TRANSFORMERS.items():
        pipeline = Pipeline([("before", transformer), ("estimator", linear_model.Ridge())])
        yield name, schema, _fitted(matrix, number, pipeline), matrix, number


def _fitted(matrix: Any, truth: Any, estimator: Any) -> Any:
    # Whatever draws draws the same each time: a fit by chance may be one whose graph is not faithful.
    drawn = [name for name, value in estimator.get_params().items() if name.endswith("random_state") and value is None]
    estimator.set_params(**dict.fromkeys(drawn, 0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return boosting.hold(Pipeline([("impute", impute.SimpleImputer()), ("model", estimator)])).fit(matrix, truth)
