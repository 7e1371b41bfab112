"""Metrics are about rows that were held out, of a model that did not see them, or say that they are not."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from airflow_provider_azureml_classic.server.experiments import Experiment, TrainingSummary, read_ilearner, train
from airflow_provider_azureml_classic.server.experiments.training import split


def trained(folder: Path, text: str, estimator: str, held: str | None = None) -> tuple[TrainingSummary, dict[str, Any]]:
    """What a training on CSV text says, and the row of its evaluation, check rows included."""
    (folder / "d.csv").write_text(text)
    aside = None
    if held is not None:
        aside = folder / "h.csv"
        aside.write_text(held)
    experiment = Experiment(name="T", estimator=estimator, label="y", first_data="d.csv", directory=folder)
    summary = train(experiment, None, folder / "d.csv", folder / "m.ilearner", folder / "e.csv", aside, None, True)
    with (folder / "e.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    return summary, row


def coins(rows: int, more: str = "") -> str:
    """Rows whose label has nothing to do with them."""
    draw = random.Random(1)  # noqa: S311 - test data
    return "x,z,y\n" + "".join(f"{draw.random()},{draw.random()},{draw.choice('ab')}\n" for _ in range(rows)) + more


@pytest.mark.parametrize("more", ["", "0.5,0.5,c\n", "0.5,0.5,c\n0.4,0.4,d\n0.3,0.3,e\n0.2,0.2,e\n"])
def test_a_rare_class_does_not_make_the_metrics_those_of_the_training_rows(tmp_path: Path, more: str) -> None:
    """Labels are coin flips: a tree that knows its training by heart is right half of the time."""
    summary, row = trained(tmp_path, coins(500, more), "sklearn.tree.DecisionTreeClassifier")
    accuracy = summary.metrics["Overall accuracy" if more else "Accuracy"]
    assert accuracy is not None
    assert 0.35 < accuracy < 0.65
    assert 100 <= float(row["Rows Held Out"]) <= 101
    assert len(json.loads(row["Check Rows"])["Labels"]) == float(row["Rows Held Out"])
    assert (summary.manifest.profile or {})["fitted"] == {
        "rows": summary.rows,
        "metrics": "a model fitted without the held-out rows, on these",
        "held_out": float(row["Rows Held Out"]),
    }
    assert summary.notes == ()


def test_metrics_that_are_those_of_the_training_rows_say_so(tmp_path: Path) -> None:
    """In a number of the evaluation and of the manifest, not in a note alone."""
    summary, row = trained(tmp_path, coins(5), "sklearn.tree.DecisionTreeClassifier")
    assert float(row["Rows Held Out"]) == 0
    assert row["Check Rows"] == ""
    manifest, _ = read_ilearner(tmp_path / "m.ilearner")
    assert manifest.metrics["Rows Held Out"] == 0
    assert (manifest.profile or {})["fitted"] == {
        "rows": 5,
        "metrics": "this model, on the training rows",
        "held_out": 0,
    }
    assert "training rows" in summary.notes[0]


def test_rows_of_another_file_are_held_out(tmp_path: Path) -> None:
    """They were not trained on either."""
    _, row = trained(tmp_path, coins(100), "sklearn.tree.DecisionTreeClassifier", coins(30))
    assert float(row["Rows Held Out"]) == 30


def test_metrics_are_those_of_a_model_fitted_by_hand_without_these_rows(tmp_path: Path) -> None:
    """The same rows held out, the same pipeline in 64 bits."""
    random = np.random.default_rng(0)
    features = random.normal(size=(200, 2)).round(4)
    label = (features[:, 0] * 2 + random.normal(size=200)).round(4)
    text = "x,z,y\n" + "".join(f"{x},{z},{y}\n" for (x, z), y in zip(features, label, strict=True))
    summary, _ = trained(tmp_path, text, "linear-regressor")
    fitting, held = train_test_split(np.arange(200), test_size=40, random_state=0)
    fitting, held = np.sort(fitting), np.sort(held)
    model = make_pipeline(StandardScaler(), Ridge()).fit(features[fitting], label[fitting])
    assert summary.metrics["Coefficient of Determination"] == pytest.approx(
        model.score(features[held], label[held]), abs=1e-6
    )


def test_a_category_that_the_measured_model_did_not_see_counts_as_unknown(tmp_path: Path) -> None:
    """So it would be if that model were served; the model that is written knows it."""
    random = np.random.default_rng(0)
    _, held = train_test_split(np.arange(200), test_size=40, random_state=0)
    colour = np.where(random.random(200) < 0.5, "a", "b").astype(object)
    colour[held] = "z"
    label = np.select([colour == "a", colour == "b"], [-5.0, 5.0], 100.0)
    text = "c,y\n" + "".join(f"{c},{y}\n" for c, y in zip(colour, label, strict=True))
    summary, row = trained(tmp_path, text, "sklearn.tree.DecisionTreeRegressor")
    answers = {answer for (answer,) in json.loads(row["Check Rows"])["Output"]["Values"]}
    # -1, as a missing text: beside the first category, not beside the last.
    assert answers == {"-5.0"}
    assert summary.schema.features[0].categories == ("a", "b", "z")


@pytest.mark.parametrize(
    ("labels", "held"),
    [
        ([0] * 50 + [1] * 50, 20),
        ([0] * 60 + [1] * 39 + [2], 20),
        (list(range(60)) + [0] * 40, 20),
        ([0, 1, 2, 3, 4], 0),
        ([0] * 5 + [1], 2),
        (list(range(40)) * 2, 16),
    ],
)
def test_every_class_is_fitted_on(labels: list[int], held: int) -> None:
    """Whatever is held out, a row of each class is left, and no row is on both sides."""
    truth = np.array(labels)
    fitting, test = split(truth, 0.2, len(set(labels)))
    assert set(truth[fitting]) == set(labels)
    assert len(test) == held
    assert sorted([*fitting, *test]) == list(range(len(labels)))


def test_usual_data_is_split_as_before() -> None:
    """By scikit-learn's own split, with as large a share of each class."""
    truth = np.array([0, 1, 1] * 40)
    fitting, test = train_test_split(np.arange(120), test_size=24, random_state=0, stratify=truth)
    mine = split(truth, 0.2, 2)
    assert (mine[0].tolist(), mine[1].tolist()) == (sorted(fitting), sorted(test))
