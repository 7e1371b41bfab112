"""What a person is shown: all evidence there is, what is missing, and nothing that the author of a file could write."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_azureml_classic.protocol.digests import Digests
from airflow_provider_azureml_classic.retraining.question import ModelSide, Question, escaped, evidence_digest, table

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


WHOLE = question(
    data_check={
        "verdict": "violated",
        "rows": 120,
        "rows_before": 100.0,
        "findings": [
            {"level": "broken", "rule": "missing", "column": "a", "message": "Much is missing."},
            {"level": "note", "rule": "fewer", "message": "x" * 201},
        ],
    },
    gate={
        "decision": "kept",
        "reasons": ["It is worse."],
        "notes": ["It is new."],
        "metrics": {"candidate": {"MAE": 1.23456789, "AUC": None}, "live": {"MAE": 2}},
        "differences": {"MAE": {"low": 0.5, "high": None, "allowed": 3}},
        "compared_on": {"rows": 96, "source": "held  out"},
    },
    rehearsal={"rows": 60, "labels": {"new": {"yes": 0.25}}, "parts": [], "two": (1, 2.5)},
    links={"a [b]": "https://h/p", "bad": "ftp://h", "c": "http://h"},
    note="  Look **here**.\n",
)


def test_the_whole_text() -> None:
    """Letter for letter, as an approval names it by its digest."""
    assert (
        WHOLE.body
        == f"""\
Look **here**.

|  | new model | live model |
|---|---|---|
| content | {"a" * 64} | {"b" * 64} |
| file | {"a" * 64} | {"b" * 64} |
| data up to | 2026-03-01 00:00 UTC | 2026-03-01 00:00 UTC |
| path | models/a.ilearner | models/b.ilearner |

**Data contract**: violated. 120 rows, 100 before.

| level | rule | column | what was found |
|---|---|---|---|
| broken | missing | a | Much is missing. |
| note | fewer |  | {"x" * 200}… |

**Gate**: kept.

Compared on 96 rows held out.

| metric | new model | live model | worse by | allowed |
|---|---|---|---|---|
| MAE | 1.23457 | 2 | 0.5 to - | 3 |
| AUC | - | - | - | - |

| remarks of the gate |
|---|
| It is worse. |
| It is new. |

**Rehearsal on real calls**

|  | figure |
|---|---|
| rows | 60 |
| labels, new, yes | 0.25 |
| parts | none |
| two | 1, 2.5 |

[a &#91;b&#93;](<https://h/p>) · [c](<http://h>)
"""
    )
    assert WHOLE.summary == "Data contract: violated. Gate: kept."
    assert question().summary == "Data contract: not known. Gate: none."
    digest = hashlib.sha256(f"{WHOLE.subject}\n{WHOLE.body}".encode()).hexdigest()
    assert evidence_digest(WHOLE.subject, WHOLE.body) == digest


def test_the_bare_text() -> None:
    """What is not known is said, and nothing else."""
    bare = Question("Bikes", "bikes", "47e3" * 8, ModelSide(None, None, None), ModelSide(Digests("c" * 64), None, None))
    assert (
        bare.body
        == f"""\
|  | new model | live model |
|---|---|---|
| content | not known | not known |
| file | not known | {"c" * 64} |
| data up to | not known | not known |
| path | not known | not known |

**Data contract**: not known.

**Gate**: none.

**Rehearsal on real calls**: none.
"""
    )
    assert bare.subject == "Put the model of job 47e347e3 live on endpoint 'bikes' of 'Bikes'?"
    assert question().subject == "Put model aaaaaaaaaaaa live on endpoint 'bikes' of 'Bikes'?"
    by_file = Question("B", "e", "1", ModelSide(Digests("d" * 64), None, None), LIVE)
    assert by_file.subject == "Put model dddddddddddd live on endpoint 'e' of 'B'?"


def test_what_a_rehearsal_does_not_say() -> None:
    """One that found no calls is none; one that does not count them is shown."""
    assert "none, as the endpoint keeps no calls." in question(rehearsal={"rows": 0}).body
    assert "| changed | 0.5 |" in question(rehearsal={"changed": 0.5}).body
    assert "| rows | 1234567 |" in question(rehearsal={"rows": 1234567}).body


def test_sets_without_rows() -> None:
    """Are shown without a sentence; one whose rows are known, without a source, says how many."""
    body = question(gate={"decision": "pass", "sets": [{"candidate": {"AUC": 1.5}}, {"rows": 5}]}).body
    assert "**Gate**: pass.\n\n| metric |" in body
    assert "\n\nCompared on 5 rows.\n\n" in body


def test_a_rows_count_without_the_one_before() -> None:
    """Either may be missing."""
    assert "**Data contract**: satisfied. 0 rows.\n" in question(data_check={"verdict": "satisfied", "rows": 0}).body
    check = {"verdict": "satisfied", "rows_before": 7}
    assert "**Data contract**: satisfied.\n" in question(data_check=check).body


@pytest.mark.parametrize(("rows", "lines", "last"), [(40, 42, "| 39 |"), (41, 44, "1 further rows are not shown.")])
def test_how_long_a_table_is(rows: int, lines: int, last: str) -> None:
    """Forty rows, and a word on the others, after a blank line."""
    shown = table(("n",), [(number,) for number in range(rows)]).splitlines()
    assert (len(shown), shown[-1]) == (lines, last)
    assert table(("n",), []) == ""


def test_cells() -> None:
    """Blanks are one blank, what cannot be printed is shown as such, and 200 letters are enough."""
    assert escaped(" a\n\tb ") == "a b"
    assert escaped("a\x07b") == "a�b"
    assert escaped("x" * 200) == "x" * 200
    assert escaped("<|>") == "&#60;&#124;&#62;"
