"""``docs/promises.md`` and the tests agree: each promise names tests, and each of those is there."""

from __future__ import annotations

import ast
import re

import pytest

from tests.support import ROOT

TEXT = (ROOT / "docs" / "promises.md").read_text()
ROWS = [row for row in re.findall(r"^\| (.+) \| (.+) \|$", TEXT, re.M) if row[0] != "promise"]


def functions(path: str) -> set[str]:
    """Names of the tests in a file."""
    tree = ast.parse((ROOT / path).read_text())
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds) and node.name.startswith("test_")}


@pytest.mark.parametrize(("promise", "held"), ROWS, ids=[promise[:50] for promise, _ in ROWS])
def test_each_promise_is_held(promise: str, held: str) -> None:
    """It is one sentence, and names tests that are there."""
    assert re.fullmatch(r"[A-Z][^.]*(?:\.\w[^.]*)*\.", promise)
    names = re.findall(r"`([^`]+)`", held)
    assert names
    assert ", ".join(f"`{name}`" for name in names) == held
    for name in names:
        path, _, function = name.partition("::")
        assert functions(path), name
        assert not function or function in functions(path), name


def test_there_are_promises() -> None:
    """The list is read as it is meant, and what is not promised stands there as well."""
    assert len(ROWS) > 20
    assert "## Not promised" in TEXT
