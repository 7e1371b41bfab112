"""Names of the tests in a file, for lists of what holds what."""

from __future__ import annotations

import ast

from tests.support import ROOT


def named_tests(path: str) -> set[str]:
    """Names of the tests in a file.

    :param path: below the repository.
    """
    tree = ast.parse((ROOT / path).read_text())
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds) and node.name.startswith("test_")}
