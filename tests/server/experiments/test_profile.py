"""What a model file tells of its training data."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from airflow_provider_azureml_classic.server.experiments import Column, Experiment, Schema, read_ilearner, train
from airflow_provider_azureml_classic.server.experiments.ilearner import content_digest
from airflow_provider_azureml_classic.server.experiments.profile import LIMIT, profile_of


def test_a_model_tells_what_its_training_data_looked_like(tmp_path: Path) -> None:
    """Rows and repeated ones, missing cells, quantiles in the numbers of the data, shares of categories and classes."""
    draw = random.Random(0)  # noqa: S311 - test data
    rows = [f"{20_260_101 + n % 28},{draw.choice('aab')},{n / 10},{'yes' if n % 4 else 'no'}\n" for n in range(100)]
    rows += [rows[0], rows[1], ",,,no\n"]
    (tmp_path / "d.csv").write_text("day,c,n,y\n" + "".join(rows))
    experiment = Experiment(
        name="T", estimator="boosting-classifier", label="y", first_data="d.csv", directory=tmp_path
    )
    train(experiment, None, tmp_path / "d.csv", tmp_path / "m.ilearner", tmp_path / "e.csv")
    manifest, _ = read_ilearner(tmp_path / "m.ilearner")
    assert manifest.schema.offsets
    profile = manifest.profile
    assert profile is not None
    assert (profile["rows"], profile["duplicates"]) == (103, 2)
    assert profile["label"] == {"shares": {"yes": round(76 / 103, 4), "no": round(27 / 103, 4)}}
    day, text, number = (profile["columns"][name] for name in ("day", "c", "n"))
    assert day["quantiles"][0::6] == [20_260_101, 20_260_128]
    assert day["missing"] == text["missing"] == round(1 / 103, 4)
    assert text["distinct"] == 2
    assert sum(text["shares"].values()) == 1
    known = [n / 10 for n in range(100)] + [0.0, 0.1]
    np.testing.assert_allclose(
        number["quantiles"], np.quantile(known, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]), rtol=1e-6, atol=1e-7
    )


def test_a_profile_of_a_usual_table_takes_two_kilobytes() -> None:
    """Six numbers and seven texts."""
    random = np.random.default_rng(0)
    columns = [Column(f"number{i}", "number") for i in range(6)]
    columns += [Column(f"text{i}", "string", tuple(f"category {j}" for j in range(30))) for i in range(7)]
    matrix = np.concatenate([random.normal(size=(1000, 6)), random.integers(0, 30, (1000, 7))], axis=1)
    schema = Schema(tuple(columns), "y", "classification", ("no", "yes"))
    profile = profile_of(schema, matrix.astype(np.float32), random.integers(0, 2, 1000))
    assert len(json.dumps(profile, separators=(",", ":"))) < 3000


def test_a_profile_is_bounded() -> None:
    """Of a table of ten thousand columns it tells the first ones, and how many are left out."""
    columns = tuple(Column(f"a column with a long name, number {i}", "number") for i in range(10_000))
    profile = profile_of(Schema(columns, "y", "regression"), np.zeros((3, 10_000), np.float32), np.arange(3.0))
    assert len(json.dumps(profile)) < LIMIT + 100
    assert len(profile["columns"]) + profile["left_out"] == 10_000
    assert profile["duplicates"] == 0


@pytest.mark.slow
def test_the_same_rows_trained_twice_have_the_same_digest(tmp_path: Path) -> None:
    """Of graph and schema; other rows have another one."""
    digests = []
    for number, rows in enumerate((range(60), range(60), range(1, 61))):
        (tmp_path / "d.csv").write_text("x,y\n" + "".join(f"{n},{n % 7}\n" for n in rows))
        experiment = Experiment("T", "boosting-regressor", "y", "d.csv", tmp_path)
        model = tmp_path / f"{number}.ilearner"
        train(experiment, None, tmp_path / "d.csv", model, tmp_path / "e.csv")
        digests.append(content_digest(*read_ilearner(model)))
    assert digests[0] == digests[1] != digests[2]
