"""How often a gate calls an equally good model worse: ``python -m tests.support.equal_gates GATES ROWS``.

Each gate compares two models of equal skill, whose errors have a part in common, by three metrics on three sets of
rows. Prints how many gates called one worse on any set, for numbers and for two classes.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable

from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.retraining.intervals import Verdict, differences_of
from airflow_provider_azureml_classic.retraining.quality import METRICS, Allowance, Answers

SETS = 3
Pair = tuple[Answers, Answers]


def numbers(source: random.Random, rows: int) -> Pair:
    """Two regressors: half of the spread of their errors is common to both, and some errors are large."""
    labels = [source.gauss(0, 10) for _ in range(rows)]
    hard = [source.gauss(0, 1) * (4 if source.random() < 0.05 else 1) for _ in labels]

    def answers() -> Answers:
        cells = [[label + part + source.gauss(0, 1)] for label, part in zip(labels, hard, strict=True)]
        return Answers(labels, Table(("Scored Labels",), cells))

    return answers(), answers()


def classes(source: random.Random, rows: int) -> Pair:
    """Two classifiers of a class that a quarter of the rows have."""
    labels = ["yes" if source.random() < 0.25 else "no" for _ in range(rows)]
    hard = [source.gauss(0, 0.15) for _ in labels]
    names = ("Scored Labels", 'Scored Probabilities for Class "no"', 'Scored Probabilities for Class "yes"')

    def answers() -> Answers:
        chances = [
            min(0.99, max(0.01, (0.65 if label == "yes" else 0.3) + part + source.gauss(0, 0.1)))
            for label, part in zip(labels, hard, strict=True)
        ]
        return Answers(labels, Table(names, [["yes" if p > 0.5 else "no", 1 - p, p] for p in chances]))

    return answers(), answers()


def is_worse(pair: Callable[[random.Random, int], Pair], metrics: tuple[str, ...], rows: int, seed: int) -> bool:
    """Whether a gate with three sets calls a model worse than its equal."""
    source = random.Random(seed)  # noqa: S311 - not for secrets
    allowances = dict.fromkeys(metrics, Allowance(0))
    found = [differences_of(*pair(source, rows), allowances, METRICS, SETS) for _ in range(SETS)]
    return any(one.verdict is Verdict.WORSE for differences in found for one in differences.values())


def main() -> None:
    """Count."""
    gates, rows = int(sys.argv[1]), int(sys.argv[2])
    for pair, metrics in (
        (numbers, ("Mean Absolute Error", "Root Mean Squared Error", "Coefficient of Determination")),
        (classes, ("AUC", "Accuracy", "Average Log Loss")),
    ):
        worse = sum(is_worse(pair, metrics, rows, seed) for seed in range(gates))
        print(f"{pair.__name__}: {worse} of {gates} gates of {SETS} sets of {rows} rows call an equal model worse")


if __name__ == "__main__":
    main()
