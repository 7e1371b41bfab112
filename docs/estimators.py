"""Renews the table of docs/estimators.md: ``make estimators``."""

from __future__ import annotations

import re
import sys
import tempfile
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.server.experiments.agreement import ESTIMATORS, KINDS, outcome  # noqa: E402

PAGE = ROOT / "docs" / "estimators.md"


def row(estimator: str, folder: Path) -> str:
    """A line of the table.

    :param estimator: one of the table.
    :param folder: where files are written.
    """
    return f"| `{estimator}` | {' | '.join(outcome(estimator, kind, folder) for kind in KINDS)} |\n"


def rows() -> str:
    """All of them."""
    warnings.simplefilter("ignore")
    made = []
    with tempfile.TemporaryDirectory() as folder:
        for estimator in ESTIMATORS:
            made.append(row(estimator, Path(folder)))
            print(made[-1], end="", flush=True)
    return "".join(made)


if __name__ == "__main__":
    head = f"| estimator | {' | '.join(KINDS.values())} |\n|{'---|' * (len(KINDS) + 1)}\n"
    made = head + rows()
    PAGE.write_text(re.sub(r"^\| estimator \|.*\n(?:\|.*\n)*", lambda _: made, PAGE.read_text(), flags=re.M))
