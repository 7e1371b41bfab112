"""What a person is shown: all evidence there is, what is missing, and nothing that the author of a file could write."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_azureml_classic.protocol.digests import Digests
from airflow_provider_azureml_classic.retraining.question import ModelSide, Question, escaped, table

NEW, LIVE = (ModelSide(Digests(c * 64, c * 64), f"models/{c}.ilearner", datetime(2026, 3, 1, tzinfo=UTC)) for c in "ab")


def question(**evidence: Any) -> Question:
    """A question with this evidence."""
    return Question("Bikes", "bikes", "47e3", NEW, LIVE, **evidence)


def test_what_is_missing_is_said() -> None:
    """Who agrees without a gate must see that there was none."""
    body = question().body
    for part in ("**Data contract**: not known.", "**Gate**: none.", "**Rehearsal on real calls**: none."):
        assert part in body
    bare = Question("Bikes", "bikes", "47e3", ModelSide(None, None, None), ModelSide(None, None, None))
    assert "| content | not known | not known |" in bare.body
    assert bare.subject == "Put the model of job 47e3 live on endpoint 'bikes' of 'Bikes'?"


def test_each_set_of_rows_has_its_table() -> None:
    """As the gate measured it; the figures of the training where nothing was compared."""
    one = {"low": -1.5, "high": 0.25, "allowed": 0.5}
    sets = [
        {"rows": 96, "source": "held out of the training", "candidate": {"MAE": 1.0}, "live": {"MAE": 2.0}},
        {"rows": 80, "source": "of before", "candidate": {"MAE": 3.0}, "live": {}, "differences": {"MAE": one}},
    ]
    body = question(gate={"decision": "kept", "undecided": True, "sets": sets, "reasons": ["worse"]}).body
    assert "**Gate**: kept, undecided by the rows." in body
    assert "Compared on 96 rows held out of the training." in body
    assert "| MAE | 1 | 2 | - | - |" in body
    assert "| MAE | 3 | - | -1.5 to 0.25 | 0.5 |" in body
    assert "| worse |" in body
    assert (
        "| AUC | 0.9 | - | - | - |" in question(gate={"decision": "pass", "metrics": {"evaluation": {"AUC": 0.9}}}).body
    )


def test_figures_of_a_rehearsal() -> None:
    """By their names, however deep they stand."""
    body = question(
        rehearsal={"rows": 60, "changed": 0.125, "refused": {"new": 2}, "quantiles": {"live": [1.0, 2.5]}}
    ).body
    for row in ("| changed | 0.125 |", "| refused, new | 2 |", "| quantiles, live | 1, 2.5 |"):
        assert row in body
    assert "keeps no calls" in question(rehearsal={"rows": 0, "changed": None}).body


@pytest.mark.parametrize(
    "nasty", ["a|b", "<img src=x>", "[x](http://y)", "`a`", "**b**", "_c_", "a\\", "~~d~~", "&lt;", "a\n\n# b"]
)
def test_nothing_of_a_file_is_markdown(nasty: str) -> None:
    """A cell stays one cell of one line, in which nothing is marked up."""
    check = {"verdict": "violated", "findings": [{"level": "broken", "rule": "new", "column": nasty, "message": nasty}]}
    (line,) = [row for row in question(data_check=check).body.splitlines() if row.startswith("| broken")]
    assert line.count("|") == 5
    assert not set("<>[]`*_~\\") & set(line)


def test_what_is_long_is_cut() -> None:
    """Cells and tables have a bound, and say so."""
    assert len(escaped("x" * 10_000)) == 201
    shown = table(("name",), [(str(n),) for n in range(1000)])
    assert len(shown.splitlines()) < 50
    assert shown.endswith("960 further rows are not shown.")


def test_links_lead_to_pages_only() -> None:
    """An address that is none, or that could end early, is left out."""
    links = {"a": "http://h/p?q=1", "b": "javascript:alert(1)", "c": "http://h/<x>", "d": ""}
    assert question(links=links).body.splitlines()[-1] == "[a](<http://h/p?q=1>)"
