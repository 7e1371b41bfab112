"""A model is served if its graph answers as scikit-learn does; ties are no difference, all else is told in words."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.server.experiments import Experiment, Scorer, TrainingSummary, conversion, train

CASES = Path(__file__).with_name("cases")


def trained(folder: Path, data: str | Path, estimator: str, **changes: Any) -> TrainingSummary:
    """A training on CSV text, or on a file of :data:`CASES`."""
    text = data.read_text() if isinstance(data, Path) else data
    (folder / "d.csv").write_text(text)
    experiment = Experiment(name="T", estimator=estimator, label="y", first_data="d.csv", directory=folder)
    return train(replace(experiment, **changes), None, folder / "d.csv", folder / "m.ilearner", folder / "e.csv")


@pytest.mark.parametrize(
    ("case", "estimator", "parameters"),
    [
        ("noisy", "sklearn.ensemble.RandomForestClassifier", {"n_estimators": 20, "random_state": 0}),
        ("twins", "sklearn.ensemble.ExtraTreesClassifier", {"n_estimators": 20, "random_state": 0}),
        ("ties", "sklearn.neighbors.KNeighborsClassifier", {}),
        ("ties", "sklearn.neighbors.KNeighborsClassifier", {"n_neighbors": 4}),
    ],
)
def test_ties_are_no_difference(tmp_path: Path, case: str, estimator: str, parameters: dict[str, Any]) -> None:
    """Of classes with as many votes, and of neighbours at equal distances, either may be taken."""
    assert trained(tmp_path, CASES / f"{case}.csv", estimator, estimator_parameters=parameters).rows > 50


def test_ties_are_no_excuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forest whose probabilities really differ is refused, although some of its votes are tied."""
    converted = conversion._converted

    def other(*arguments: Any) -> Any:
        graph = converted(*arguments)
        for node in graph.graph.node:
            for attribute in node.attribute:
                if attribute.name == "class_weights":
                    attribute.floats[:] = [0.99 * number for number in attribute.floats]
        return graph

    monkeypatch.setattr(conversion, "_converted", other)
    with pytest.raises(RequestRejected, match="its answers differ in"):
        trained(
            tmp_path,
            CASES / "noisy.csv",
            "sklearn.ensemble.RandomForestClassifier",
            estimator_parameters={"n_estimators": 20, "random_state": 0},
        )


@pytest.mark.parametrize(
    ("changed", "refused"), [(lambda y: y + 0.003, True), (lambda y: y + 3e-6, False), (lambda y: y * np.nan, True)]
)
def test_numbers_are_compared_against_their_spread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: Any, refused: bool
) -> None:
    """Of 293.11 ± 1, a difference of 0.003 is large, although it is a hundred-thousandth of the number."""
    draw = random.Random(0)  # noqa: S311 - test data
    text = "x,y\n" + "".join(f"{(x := draw.random()):.6f},{293.11 + 3 * x:.3f}\n" for _ in range(200))
    session = conversion.session

    class Changed:
        """A session that answers something else."""

        def __init__(self, content: bytes) -> None:
            self._session = session(content)

        def run(self, *arguments: Any) -> list[Any]:
            return [changed(self._session.run(*arguments)[0])]

    monkeypatch.setattr(conversion, "session", Changed)
    monkeypatch.setattr("airflow_provider_azureml_classic.server.experiments.training.Scorer", _NoScorer)
    if not refused:
        trained(tmp_path, text, "linear-regressor")
        return
    with pytest.raises(RequestRejected) as caught:
        trained(tmp_path, text, "linear-regressor")
    message = caught.value.message
    assert "its answers differ in 200 of 200 rows; to data row " in message
    assert " it says 29" in message
    assert ", its graph " in message
    assert "for example 'boosting-regressor'" in message


class _NoScorer:
    """Stands in where a graph is not to be loaded."""

    content = "0" * 64

    def __init__(self, manifest: Any, *_: Any) -> None:
        self.manifest = manifest

    def score(self, table: Table) -> Table:
        """No answers."""
        return table


@pytest.mark.parametrize("estimator", ["boosting-classifier", "sklearn.dummy.DummyClassifier"])
def test_the_estimator_that_was_refused_is_not_recommended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, estimator: str
) -> None:
    """Another family is."""
    monkeypatch.setattr(conversion, "_TOLERANCE", -1.0)
    with pytest.raises(RequestRejected) as caught:
        trained(tmp_path, CASES / "noisy.csv", estimator)
    _, _, advice = caught.value.message.partition("Use another estimator")
    assert estimator not in advice
    assert "classifier'" in advice


def test_an_estimator_that_fails_when_it_is_asked_is_told(tmp_path: Path) -> None:
    """Five neighbours of three rows: the estimator's own words, not an internal error."""
    with pytest.raises(RequestRejected, match=r"KNeighborsClassifier failed with ValueError: Expected n_neighbors"):
        trained(tmp_path, "x,y\n1,a\n2,b\n3,a\n", "sklearn.neighbors.KNeighborsClassifier")


def test_a_small_difference_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is more than rounding, and not so much that the model is refused."""
    monkeypatch.setattr(conversion, "_NOTED", 0.0)
    notes = trained(tmp_path, CASES / "noisy.csv", "linear-classifier").notes
    assert any("differs from what linear-classifier says by up to" in note for note in notes)


@pytest.mark.slow
def test_answers_that_are_almost_the_same_are_not_compared_against_their_rounding(tmp_path: Path) -> None:
    """A regression that has learnt nothing, and one of a label that never changes."""
    rows = "".join(f"{x},{x % 3}\n" for x in range(60))
    trained(tmp_path, f"x,y\n{rows}", "linear-regressor", estimator_parameters={"alpha": 1e12})
    trained(tmp_path, "x,y\n" + "".join(f"{x},5.1\n" for x in range(60)), "linear-regressor")
    assert Scorer.load(tmp_path / "m.ilearner").score(Table(("x",), [[3]])).values == [("5.1",)]
