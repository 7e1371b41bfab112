"""Measures how well a rehearsal tells a ruined retrain from a benign one, and renews the table of docs/rehearsal.md:
``make rehearsals``.

Of each seed: a live model, one retrain on benign new rows, one on rows that were damaged, and 1,000 other rows as the
endpoint's last calls. The adult data of the UCI repository where they lie beside the repository, else generated people.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from airflow_provider_azureml_classic.protocol.rehearsal import Rehearsal  # noqa: E402
from airflow_provider_azureml_classic.protocol.tables import Table  # noqa: E402
from airflow_provider_azureml_classic.server.experiments import datasets  # noqa: E402
from airflow_provider_azureml_classic.server.experiments.declaration import shipped_experiments  # noqa: E402
from airflow_provider_azureml_classic.server.experiments.replay import rehearse  # noqa: E402
from airflow_provider_azureml_classic.server.experiments.scorer import Scorer  # noqa: E402
from airflow_provider_azureml_classic.server.experiments.training import train  # noqa: E402

PAGE, WHOLE = ROOT / "docs" / "rehearsal.md", ROOT.parent / "shared" / "data" / "census"
SEEDS, ROWS, CALLS = 50, 3000, 1000
LABEL = "income"
Row = dict[str, Any]
Rows = list[Row]


def people() -> tuple[Rows, Rows]:
    """Rows to train on, and others."""
    if not WHOLE.is_dir():
        columns = [datasets.census(count, seed) for count, seed in ((20_000, 1), (5_000, 2))]
        return tuple([dict(zip(one, row, strict=True)) for row in zip(*one.values(), strict=True)] for one in columns)  # type: ignore[return-value]
    names = list(datasets.census(1))
    read = []
    for file in ("adult.data", "adult.test"):
        lines = (line.rstrip(".").split(",") for line in (WHOLE / file).read_text().splitlines())
        read.append(
            [
                dict(zip(names, map(str.strip, cells), strict=True))
                for cells in lines
                if len(cells) == 15 and cells[0] != names[0]
            ]
        )
    return read[0], read[1]


def each(**changes: Callable[[Row], Any]) -> Callable[[Rows, Any], Rows]:
    """A change of cells of each row."""
    return lambda rows, _: [
        {**row, **{name.replace("_", "-"): make(row) for name, make in changes.items()}} for row in rows
    ]


def shuffled(rows: Rows, generator: Any) -> Rows:
    """The labels in another order, as after a wrong join."""
    labels = [rows[place][LABEL] for place in generator.permutation(len(rows))]
    return [{**row, LABEL: label} for row, label in zip(rows, labels, strict=True)]


def flipped(rows: Rows, _: Any) -> Rows:
    """Each label the other one."""
    one, other = sorted({row[LABEL] for row in rows})
    return [{**row, LABEL: other if row[LABEL] == one else one} for row in rows]


def of_one_group(rows: Rows, _: Any) -> Rows:
    """Somebody else's file: unmarried people under 30 alone, over and over."""
    few = [row for row in rows if int(row["age"]) < 30 and row["marital-status"] == "Never-married"]
    return [few[place % len(few)] for place in range(len(rows))]


#: What ruins a model.
DAMAGES: dict[str, Callable[[Rows, Any], Rows]] = {
    "other units": each(age=lambda r: int(r["age"]) * 365, education_num=lambda r: int(r["education-num"]) * 10),
    "other spelling": each(
        **{
            name.replace("-", "_"): lambda r, n=name: str(r[n]).upper()
            for name in ("relationship", "marital-status", "occupation")
        }
    ),
    "shifted columns": each(
        age=lambda r: r["education-num"], education_num=lambda r: r["hours-per-week"], hours_per_week=lambda r: r["age"]
    ),
    "blanks": each(
        **dict.fromkeys(
            ("age", "education_num", "education", "capital_gain", "relationship", "marital_status"), lambda _: ""
        )
    ),
    "labels of other rows": shuffled,
    "flipped label": flipped,
    "somebody else's file": of_one_group,
}


def grown(rows: Rows, generator: Any) -> Rows:
    """A fifth more rows."""
    return [*rows, *(rows[place] for place in generator.choice(len(rows), len(rows) // 5, replace=False))]


def older(rows: Rows, generator: Any) -> Rows:
    """A season: fewer young people."""
    return [row for row in rows if int(row["age"]) > 25 or generator.random() < 0.5]


def with_a_new_shop(rows: Rows, generator: Any) -> Rows:
    """A tenth of the rows from a country that was not there before."""
    return [{**row, "native-country": "Atlantis"} if generator.random() < 0.1 else row for row in rows]


#: What does not.
BENIGN: dict[str, Callable[[Rows, Any], Rows]] = {
    "new days": lambda rows, _: rows,
    "growth": grown,
    "a season": older,
    "a new shop": with_a_new_shop,
}


def model(rows: Rows, schema: Any, folder: Path, name: str) -> Scorer:
    """Trained as a job does."""
    data, file = folder / f"{name}.csv", folder / f"{name}.ilearner"
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows), ""]
    data.write_text("\n".join(lines))
    train(
        next(one for one in shipped_experiments() if one.label == LABEL), schema, data, file, folder / f"{name}-e.csv"
    )
    return Scorer.load(file)


def auc(scorer: Scorer, table: Table, labels: list[bool]) -> float:
    """How good a model is on the calls, for which nobody else has labels."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, [float(value) for value in scorer.score(table).column("Scored Probabilities")]))


def seed(number: int, training: Rows, others: Rows, folder: Path) -> list[dict[str, Any]]:
    """One live model and two retrains."""
    generator = np.random.default_rng(number)
    order, asked = generator.permutation(len(training))[: 3 * ROWS], generator.choice(len(others), CALLS, replace=False)
    parts = [[training[place] for place in order[first::3]] for first in range(3)]
    calls = [others[place] for place in asked]
    names = tuple(name for name in calls[0] if name != LABEL)
    table = Table(names, [[row[name] for name in names] for row in calls])
    labels = [str(row[LABEL]).startswith(">") for row in calls]
    live = model(parts[0], None, folder, "live")
    found = []
    for kind, ways, rows in (("benign", BENIGN, parts[1]), ("ruined", DAMAGES, parts[2])):
        name = list(ways)[number % len(ways)]
        new = model(ways[name](rows, generator), live.manifest.schema, folder, kind)
        figures: Rehearsal = rehearse(live, new, [table])
        quality = auc(live, table, labels), auc(new, table, labels)
        found.append({"seed": number, "kind": kind, "name": name, "live": quality[0], "new": quality[1],
                      "changed": figures.changed, "stability": figures.stability})  # fmt: skip
        print(json.dumps(found[-1]), flush=True)
    return found


def table_of(found: list[dict[str, Any]]) -> str:
    """A line for each kind of retrain, and the detectors."""
    from sklearn.metrics import roc_auc_score

    lines = [
        "| retrain | seeds | AUC of the model on these calls, live and new | answers that change | stability index |",
        "|---|---|---|---|---|",
    ]
    for kind in ("benign", "ruined"):
        for name in sorted({one["name"] for one in found if one["kind"] == kind}):
            some = [one for one in found if (one["kind"], one["name"]) == (kind, name)]
            spans = [
                f"{min(v):.3f} to {max(v):.3f}" for v in ([one[m] for one in some] for m in ("changed", "stability"))
            ]
            live, new = (float(np.median([one[side] for one in some])) for side in ("live", "new"))
            lines.append(f"| {kind}: {name} | {len(some)} | {live:.3f}, {new:.3f} | {' | '.join(spans)} |")
    truth = [one["kind"] == "ruined" for one in found]
    scores = {name: roc_auc_score(truth, [one[name] for one in found]) for name in ("changed", "stability")}
    lines.append(
        f"| AUC of telling them apart | {len(found) // 2} | | {scores['changed']:.4f} | {scores['stability']:.4f} |"
    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    training, others = people()
    count = int(sys.argv[1]) if len(sys.argv) > 1 else SEEDS
    with tempfile.TemporaryDirectory() as folder:
        found = [one for number in range(count) for one in seed(number, training, others, Path(folder))]
    made = table_of(found)
    print(made)
    PAGE.write_text(re.sub(r"^\| retrain \|.*\n(?:\|.*\n)*", lambda _: made, PAGE.read_text(), flags=re.M))
