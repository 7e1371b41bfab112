"""The table of the documents that says which estimators are served as they are fitted by hand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.server.experiments.agreement import AGREES, CHANGED, ESTIMATORS, FAR, KINDS, LABELS, outcome, shift_changes

PAGE = Path(__file__).parents[3] / "docs" / "estimators.md"


def table() -> dict[str, list[str]]:
    """The cells of each estimator."""
    lines = re.findall(r"^\| `([\w.-]+)` \| (.*) \|$", PAGE.read_text().partition("| estimator |")[2], re.M)
    return {estimator: cells.split(" | ") for estimator, cells in lines}


def test_the_table_is_whole() -> None:
    """Forty-five estimators at least, five kinds of data, and most of the cells agree."""
    cells = table()
    assert list(cells) == list(ESTIMATORS)
    assert len(cells) >= 45
    assert {len(row) for row in cells.values()} == {len(KINDS)}
    assert sum(row.count(AGREES) for row in cells.values()) >= 0.85 * len(KINDS) * len(cells)


@pytest.mark.slow
@pytest.mark.parametrize(
    "estimator",
    [
        "boosting-classifier",
        "lightgbm.LGBMRegressor",
        "sklearn.linear_model.PoissonRegressor",
        "sklearn.naive_bayes.CategoricalNB",
        "sklearn.naive_bayes.MultinomialNB",
    ],
)
def test_the_table_is_true(tmp_path: Path, estimator: str) -> None:
    """Five of its rows are made again; ``make estimators`` makes all."""
    assert [outcome(estimator, kind, tmp_path) for kind in KINDS] == table()[estimator]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [FAR, LABELS])
def test_the_table_names_those_that_a_shift_changes(tmp_path: Path, kind: str) -> None:
    """All of them, and no other: it is tried out for each estimator, without training it."""
    place = list(KINDS).index(kind)
    named = {estimator for estimator, cells in table().items() if CHANGED in cells[place]}
    # What does not take numbers at all is refused for that.
    tried = [estimator for estimator in ESTIMATORS if "Categorical" not in estimator]
    assert {estimator for estimator in tried if shift_changes(estimator, kind, tmp_path)} == named
