"""``docs/promises.md``, ``docs/compare.md`` and the tests agree: each claim names tests, and each of those is there."""

from __future__ import annotations

import re

import pytest

from tests.support import ROOT
from tests.support.names import named_tests

TEXT = (ROOT / "docs" / "promises.md").read_text()
#: What the comparison says of this package.
CLAIMS = re.findall(
    r"^\| (.+) \| (`tests/.+) \|$", (ROOT / "docs" / "compare.md").read_text().partition("rests on\n")[2], re.M
)
ROWS = [row for row in re.findall(r"^\| (.+) \| (.+) \|$", TEXT, re.M) if row[0] != "promise"]


@pytest.mark.parametrize(("promise", "held"), ROWS, ids=[promise[:50] for promise, _ in ROWS])
def test_each_promise_is_held(promise: str, held: str) -> None:
    """It is one sentence, and names tests that are there."""
    assert re.fullmatch(r"[A-Z][^.]*(?:\.\w[^.]*)*\.", promise)
    check(held)


def test_each_claim_of_the_comparison_is_held() -> None:
    """It names tests that are there."""
    assert len(CLAIMS) > 15
    for _, held in CLAIMS:
        check(held)


def check(held: str) -> None:
    """Fail unless this is a list of tests that are there."""
    names = re.findall(r"`([^`]+)`", held)
    assert names
    assert ", ".join(f"`{name}`" for name in names) == held
    for name in names:
        path, _, function = name.partition("::")
        assert named_tests(path), name
        assert not function or function in named_tests(path), name


def test_there_are_promises() -> None:
    """The list is read as it is meant, and what is not promised stands there as well."""
    assert len(ROWS) > 20
    assert "## Not promised" in TEXT
