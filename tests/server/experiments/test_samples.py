"""The samples of a model: golden rows, and check rows, held out, with labels and honest answers."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_azureml_classic.exceptions import ProtocolError
from airflow_provider_azureml_classic.retraining.evaluation import Evaluation
from airflow_provider_azureml_classic.retraining.quality import METRICS, Answers, measured
from airflow_provider_azureml_classic.server.experiments import Experiment, Scorer, train


def csv_of(kind: str, rows: int = 300, *, wide: int = 0) -> str:
    """Rows with missing numbers and texts and a noisy label; ``wide`` adds a text of that length to each."""
    draw = random.Random(7)  # noqa: S311 - test data
    lines = ["a,colour,note,y"]
    for number in range(rows):
        a, colour = draw.gauss(0, 1), draw.choice(("red", "green"))
        value = a + (colour == "red") + draw.gauss(0, 0.5)
        label = {"number": f"{value:.3f}", "two": ("no", "yes")[value > 0.5], "three": "abc"[int(abs(value)) % 3]}[kind]
        lines.append(f"{'' if number % 7 == 0 else round(a, 3)},{colour},{'n' * wide}{number % 3},{label}")
    return "\n".join(lines) + "\n"


def trained(
    folder: Path, text: str, estimator: str = "boosting-regressor", *, columns: bool = False
) -> tuple[Evaluation, dict[str, Any]]:
    """The evaluation of a training run, read as the gate reads it, and its check rows as they stand in their file; with
    ``columns`` as they stand in the evaluation.
    """
    declared = Experiment(name="T", estimator=estimator, label="y", first_data="x.csv", directory=Path("/nowhere"))
    (folder / "d.csv").write_text(text)
    files = (folder / "d.csv", folder / "m.ilearner", folder / "e.csv", None, folder / "s.json")
    train(declared, None, *files, columns)
    with (folder / "e.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    evaluation, samples = Evaluation.read((folder / "e.csv").read_bytes()), (folder / "s.json").read_bytes()
    if columns:
        return evaluation, json.loads(row["Check Rows"])
    assert evaluation == Evaluation(evaluation.metrics)
    return evaluation.with_samples(samples), json.loads(samples)["Check Rows"] or {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "estimator"),
    [
        ("number", "boosting-regressor"),
        ("two", "linear-classifier"),
        ("three", "boosting-classifier"),
        ("three", "sklearn.linear_model.RidgeClassifier"),
    ],
)
def test_check_rows_give_the_metrics_of_the_evaluation(tmp_path: Path, kind: str, estimator: str) -> None:
    """Computed from the check rows, every metric that the gate knows is the one that the evaluation states."""
    evaluation, _ = trained(tmp_path, csv_of(kind), estimator)
    assert evaluation.check is not None
    names = [name for name in METRICS if name in evaluation.metrics and name != "Average accuracy"]
    assert len(names) >= 1
    found = measured(Answers(evaluation.check.labels, evaluation.check.answers), names, METRICS)
    assert found == {name: pytest.approx(evaluation.metrics[name], rel=1e-4) for name in names}


@pytest.mark.slow
def test_check_rows_are_not_answered_by_the_model_that_knows_them(tmp_path: Path) -> None:
    """The answers are of the model fitted without these rows: the one written, fitted on all, does better on them."""
    evaluation, _ = trained(tmp_path, csv_of("number"))
    assert evaluation.check is not None
    written = Scorer.load(tmp_path / "m.ilearner").score(evaluation.check.rows)
    labels, error = evaluation.check.labels, METRICS["Mean Absolute Error"].compute
    honest, knowing = error(Answers(labels, evaluation.check.answers)), error(Answers(labels, written))
    assert honest is not None
    assert knowing is not None
    assert knowing < 0.9 * honest


def test_check_rows_can_be_scored_as_they_are(tmp_path: Path) -> None:
    """They hold the features without the label, missing cells as null, and answers in the endpoint's columns."""
    evaluation, raw = trained(tmp_path, csv_of("two"), "linear-classifier")
    assert raw["Label"] == "y"
    assert raw["Input"]["ColumnNames"] == ["a", "colour", "note"]
    assert any(row[0] is None for row in raw["Input"]["Values"])
    assert set(raw["Labels"]) == {"no", "yes"}
    assert evaluation.check is not None
    scored = Scorer.load(tmp_path / "m.ilearner").score(evaluation.check.rows)
    assert scored.column_names == evaluation.check.answers.column_names


@pytest.mark.slow
def test_check_rows_are_at_most_500(tmp_path: Path) -> None:
    """Of many held-out rows 500 are taken, evenly spread."""
    evaluation, _ = trained(tmp_path, csv_of("number", 5000), "linear-regressor")
    assert evaluation.check is not None
    assert len(evaluation.check.labels) == 500


@pytest.mark.slow
def test_check_rows_fit_into_a_cell_that_python_reads(tmp_path: Path) -> None:
    """Rows with long texts are fewer, so that the CSV stays below the 131,072 characters of Python's own reader."""
    before = csv.field_size_limit(131_072)
    try:
        _, raw = trained(tmp_path, csv_of("number", 1000, wide=2000), "linear-regressor", columns=True)
    finally:
        csv.field_size_limit(before)
    assert 20 < len(raw["Labels"]) < 50


def test_too_few_rows_have_no_check_rows(tmp_path: Path) -> None:
    """Where nothing could be held out, nothing is said to have been."""
    evaluation, raw = trained(tmp_path, csv_of("number", 2), "linear-regressor")
    assert evaluation.check is None
    assert raw == {}


@pytest.mark.parametrize("cell", ["{", "{}", '{"Label": "y", "Labels": [1], "Input": {}, "Output": {}}', "[]"])
def test_check_rows_that_cannot_be_read(cell: str) -> None:
    """Damaged check rows are said to be that, not left out."""
    text = "Check Rows\n" + '"' + cell.replace('"', '""') + '"\n'
    with pytest.raises(ProtocolError, match="'Check Rows' of the evaluation cannot be read"):
        Evaluation.read(text.encode())


def test_check_rows_of_different_lengths() -> None:
    """A label without a row is a damage too."""
    table = {"ColumnNames": ["a"], "Values": [[1]]}
    cell = json.dumps({"Label": "y", "Labels": [1, 2], "Input": table, "Output": table}).replace('"', '""')
    with pytest.raises(ProtocolError, match="different lengths"):
        Evaluation.read(f'Check Rows\n"{cell}"\n'.encode())


@pytest.mark.slow
def test_a_file_of_samples_has_500_check_rows_however_wide_the_table(tmp_path: Path) -> None:
    """While the evaluation's cell keeps to its limit; its golden rows are those of the file."""
    evaluation, _ = trained(tmp_path, csv_of("number", 3000, wide=300), "linear-regressor", columns=True)
    written = Evaluation({}).with_samples((tmp_path / "s.json").read_bytes())
    assert written.check is not None
    assert {len(part.values) for part in (written.check.rows, written.check.answers)} == {500}
    assert evaluation.check is not None
    assert len(evaluation.check.labels) < 400
    assert evaluation.golden == written.golden is not None


def labelled(offset: float, shift: float = 0.0) -> str:
    """Rows whose label is far from zero and hardly spread; ``shift`` moves it by a part of that."""
    draw = random.Random(3)  # noqa: S311 - test data
    rows = [(draw.random(), draw.random()) for _ in range(300)]
    return "x,z,y\n" + "".join(f"{x},{z},{offset + 10 * x + 5 * z + shift}\n" for x, z in rows)


@pytest.mark.parametrize("offset", [0.0, 101_325.0, 1.7e9])
def test_golden_rows_tell_models_apart_by_the_spread_of_their_answers(tmp_path: Path, offset: float) -> None:
    """Wherever the label lies: a model that answers higher by 2e-5 of the spread is another one."""
    evaluation, _ = trained(tmp_path, labelled(offset), "linear-regressor")
    golden = evaluation.golden
    assert golden is not None
    assert golden.spread == {"Scored Labels": pytest.approx(3.2, rel=0.2)}
    model = Scorer.load(tmp_path / "m.ilearner")
    assert golden.agrees(model.score(golden.rows))
    trained(tmp_path, labelled(offset, 2e-5 * golden.spread["Scored Labels"]), "linear-regressor")
    assert not golden.agrees(Scorer.load(tmp_path / "m.ilearner").score(golden.rows))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("estimator", "widths"),
    [("boosting-classifier", [1.0, 1.0, 1.0]), ("sklearn.linear_model.RidgeClassifier", [])],
)
def test_probabilities_are_as_widely_spread_as_they_can_be(tmp_path: Path, estimator: str, widths: list[float]) -> None:
    """And labels not at all: they are equal or not."""
    evaluation, _ = trained(tmp_path, csv_of("three"), estimator)
    assert evaluation.golden is not None
    assert list((evaluation.golden.spread or {}).values()) == widths


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "'samples' of the evaluation cannot be read"),
        (b"[" * 100_000, "'samples' of the evaluation cannot be read"),
        (b"[]", "not a JSON object"),
        (b'{"Golden Rows": {"Input": {}}}', "'Golden Rows' of the evaluation cannot be read"),
        (b'{"Golden Rows": {"Spread": {"a": "b"}}}', "'Golden Rows' of the evaluation cannot be read"),
        (b'{"Check Rows": 7}', "'Check Rows' of the evaluation cannot be read"),
    ],
)
def test_samples_that_cannot_be_read(content: bytes, reason: str) -> None:
    """A damaged file of samples is said to be that."""
    with pytest.raises(ProtocolError, match=reason):
        Evaluation({}).with_samples(content)
