"""What holds for every test: helpers are in ``tests/support``, and a test that hangs ends."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.support import ROOT

FILES = sorted((ROOT / "tests").rglob("*.py"))


def _nodes(kind: type[ast.AST]) -> Iterator[tuple[str, ast.AST]]:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, kind):
                yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}", node


@pytest.mark.slow
def test_nothing_is_imported_from_tests() -> None:
    """What two test modules share is a helper, where a reader looks for it: in ``tests/support``."""
    modules = {where: str(node.module) for where, node in _nodes(ast.ImportFrom) if isinstance(node, ast.ImportFrom)}
    last = {where: module.rpartition(".")[2] for where, module in modules.items() if module.startswith("tests.")}
    assert {where for where, name in last.items() if name == "conftest" or name.startswith("test_")} == set()


@pytest.mark.slow
def test_threads_are_daemons() -> None:
    """A thread that a failed test leaves behind does not keep the test process from ending."""
    calls = {
        where: node
        for where, node in _nodes(ast.Call)
        if ast.unparse(node).startswith(("threading.Thread(", "Thread("))
    }
    assert len(calls) > 5
    assert {where for where, node in calls.items() if "daemon=True" not in ast.unparse(node)} == set()


def test_every_test_has_a_time_limit(request: pytest.FixtureRequest) -> None:
    """A test that hangs fails by itself, with the stacks of its threads."""
    assert float(request.config.getini("timeout")) > 0
