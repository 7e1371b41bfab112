"""LightGBM, XGBoost and CatBoost: a model file like any other, which answers as the library itself does."""

from __future__ import annotations

import csv
import importlib
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import VotingRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.server.experiments import Experiment, Scorer, TrainingSummary, boosting, train
from airflow_provider_azureml_classic.server.experiments.graph import ENOUGH, Graph
from airflow_provider_azureml_classic.server.experiments.ilearner import read_ilearner

NAMES = ("day", "size", "colour")
ROWS = 500
#: The code of a colour that is not in the training data.
VIOLET = 3
KINDS = {"lightgbm": "LGBM", "xgboost": "XGB", "catboost": "CatBoost"}
#: So many trees that their sum shows whether they are added alike.
PARAMETERS: dict[str, dict[str, Any]] = {
    "lightgbm": {"n_estimators": 40},
    "xgboost": {"n_estimators": 40, "max_depth": 4},
    "catboost": {"n_estimators": 40, "depth": 4},
}


def drawn() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Dates as numbers, sizes of which some are missing, codes of colours; and a number that depends on all three."""
    random = np.random.default_rng(0)
    days = random.integers(0, 28, ROWS).astype(float)
    sizes = np.where(random.random(ROWS) < 0.2, np.nan, random.normal(size=ROWS).round(3))
    colours = random.integers(-1, 3, ROWS).astype(float)
    label = 3 * (days % 2) + np.nan_to_num(sizes, nan=2.0) + colours + random.normal(size=ROWS) / 10
    return np.stack([20_260_101 + days, sizes, colours], axis=1), label


def cells(features: NDArray[np.float64]) -> list[list[str]]:
    """Rows as they are sent."""
    colours = ("blue", "green", "red", "violet", "")
    return [
        ["" if day != day else f"{day:.0f}", "" if size != size else repr(size), colours[int(colour)]]
        for day, size, colour in features.tolist()
    ]


def trained(folder: Path, estimator: str, label: NDArray[Any], **parameters: Any) -> tuple[TrainingSummary, Scorer]:
    """A model of these rows."""
    with (folder / "d.csv").open("w", newline="") as stream:
        out = csv.writer(stream)
        out.writerow([*NAMES, "y"])
        out.writerows([*row, said] for row, said in zip(cells(drawn()[0]), label, strict=True))
    task = "regression" if label.dtype.kind == "f" else "classification"
    experiment = Experiment("T", estimator, "y", "d.csv", folder, task=task, estimator_parameters=parameters)
    summary = train(experiment, None, folder / "d.csv", folder / "m.ilearner", folder / "e.csv")
    return summary, Scorer.load(folder / "m.ilearner")


def asked() -> tuple[Table, NDArray[np.float64]]:
    """Rows of the training, and others with cells missing or unknown: as they are sent, and as a library takes them."""
    features, _ = drawn()
    others = features.copy()
    others[::2, 0], others[1::2, 1], others[::3, 2] = np.nan, np.nan, VIOLET
    rows = np.concatenate([features, others])
    table = Table(NAMES, cells(rows))
    rows[:, 2][rows[:, 2] == VIOLET] = -1
    return table, shifted(rows)


def shifted(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same with days that 32 bits tell apart; all above zero, as LightGBM distinguishes signs."""
    shifted_rows: NDArray[np.float64] = rows - [drawn()[0][:, 0].min() - 1, 0, 0]
    return shifted_rows


def by_hand(library: str, kind: str, label: NDArray[Any]) -> Any:
    """The library's own model, of days that 32 bits tell apart."""
    made = getattr(importlib.import_module(library), f"{KINDS[library]}{kind}")(**PARAMETERS[library])
    return boosting.hold(made).fit(shifted(drawn()[0]), label)


@pytest.mark.parametrize("library", KINDS)
def test_numbers_are_those_of_the_library(tmp_path: Path, library: str, capfd: pytest.CaptureFixture[str]) -> None:
    """To 5e-6 of their spread, with missing and unknown cells, for dates that 32 bits merge; nothing is said."""
    _, label = drawn()
    summary, scorer = trained(tmp_path, f"{library}.{KINDS[library]}Regressor", label, **PARAMETERS[library])
    table, rows = asked()
    expected = by_hand(library, "Regressor", label).predict(rows)
    got = np.array([float(row[0]) for row in scorer.score(table).values])
    assert abs(got - expected).max() <= 5e-6 * expected.std()
    # What the reader notes of a column is not the library's.
    assert [note for note in summary.notes if not note.startswith("Column")] == []
    assert capfd.readouterr() == ("", "")
    assert summary.manifest.versions[library] == sys.modules[library].__version__


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("library", KINDS)
def test_classes_are_those_of_the_library(tmp_path: Path, library: str, classes: int) -> None:
    """Labels, and probabilities to 2e-6."""
    number = np.digitize(drawn()[1], np.quantile(drawn()[1], np.arange(1, classes) / classes))
    _, scorer = trained(
        tmp_path, f"{library}.{KINDS[library]}Classifier", np.array(list("abc"))[number], **PARAMETERS[library]
    )
    table, rows = asked()
    model = by_hand(library, "Classifier", number)
    answer = scorer.score(table)
    assert answer.column("Scored Labels") == [("a", "b", "c")[int(code)] for code in model.predict(rows).ravel()]
    got = np.array([list(map(float, row[-classes:])) for row in answer.values])
    assert abs(got - model.predict_proba(rows)).max() <= 2e-6


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Regressor", "Classifier"])
@pytest.mark.parametrize("library", KINDS)
def test_many_rows_are_scored_by_tables_of_bits(tmp_path: Path, library: str, kind: str) -> None:
    """Their comparisons are written as "below", "at most" or "above": the same answers, to the last bit."""
    _, label = drawn()
    said = label if kind == "Regressor" else np.where(label > 2, "high", "low")
    trained(tmp_path, f"{library}.{KINDS[library]}{kind}", said, **PARAMETERS[library])
    manifest, content = read_ilearner(tmp_path / "m.ilearner")
    graph = Graph(manifest, content, lambda: content)
    matrix = np.resize(asked()[1], (ENOUGH, 3)).astype(np.float32)
    before = graph(matrix)
    for thread in threading.enumerate():
        if thread.name == "trees":
            thread.join(60)
    assert graph._trees
    assert [part.tolist() for part in graph(matrix)] == [part.tolist() for part in before]


MADE = """
from catboost import CatBoostRegressor
from lightgbm import LGBMRegressor
from sklearn.ensemble import VotingRegressor
from sklearn.linear_model import Ridge
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from xgboost import XGBRegressor


def several(schema):
    parts = [("l", LGBMRegressor(n_estimators=9)), ("x", XGBRegressor(n_estimators=9)), ("r", Ridge())]
    parts.append(("c", CatBoostRegressor(n_estimators=9)))
    return make_pipeline(SimpleImputer(), VotingRegressor(parts))
"""


@pytest.mark.slow
def test_they_may_be_parts_of_a_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function's pipeline of all three is held to one thread and converted like any other; it writes no files."""
    (tmp_path / "made_of_three.py").write_text(MADE)
    monkeypatch.chdir(tmp_path)
    _, label = drawn()
    summary, scorer = trained(tmp_path, "made_of_three:several", label)
    table, _ = asked()
    assert len(scorer.score(table).values) == len(table.values)
    assert {"catboost", "lightgbm", "xgboost"} <= set(summary.manifest.versions)
    assert not (tmp_path / "catboost_info").exists()


def test_they_are_held_to_one_thread_unless_told_otherwise() -> None:
    """Workers are one a core; what somebody says of threads or output stays."""
    from catboost import CatBoostClassifier
    from lightgbm import LGBMClassifier
    from xgboost import XGBClassifier

    made = [boosting.hold(kind()).get_params() for kind in (CatBoostClassifier, LGBMClassifier, XGBClassifier)]
    assert [one.get("thread_count") or one["n_jobs"] for one in made] == [1, 1, 1]
    assert made[0]["allow_writing_files"] is False
    told = boosting.hold(CatBoostClassifier(thread_count=2, silent=True)).get_params()
    assert (told["thread_count"], told["silent"], "verbose" in told) == (2, True, False)
    assert boosting.hold(LGBMClassifier(n_jobs=2, verbose=0)).get_params()["n_jobs"] == 2
    inner = boosting.hold(make_pipeline(VotingRegressor([("a", Ridge()), ("b", XGBClassifier())])))
    assert inner[0].estimators[1][1].n_jobs == 1


def test_a_library_that_is_not_installed_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the declaration is read, not after a training."""
    from airflow_provider_azureml_classic.server.experiments import imports

    def absent(module: str, directory: Path) -> set[str]:
        raise ModuleNotFoundError(name="catboost")

    monkeypatch.setattr(imports, "_words", absent)
    assert "(the extra 'boosting' has it)" in str(imports.problem("catboost.CatBoostClassifier", tmp_path))
