"""Three of the ways to hurt an endpoint of docs/damages.md, with real operators against a real server."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

pytestmark = pytest.mark.slow
damages = import_module("docs.damages")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server with one experiment, and the model that is live on each endpoint."""
    one = damages.DECLARATION.rpartition("[[experiment]]")[0]
    with damages.house(tmp_path_factory.mktemp("damages"), one) as made:
        yield made


@pytest.mark.parametrize(
    ("name", "by", "words"),
    [
        ("shifted column", "gate", "not as those before"),
        ("labels of other rows", "update", "Of the answers to its last calls change"),
        ("a future window", "gate", "not as those before"),
    ],
)
def test_a_damage_is_stopped_before_the_swap(house: Any, name: str, by: str, words: str) -> None:
    """By the part that its row names: the contract through the gate, or the rehearsal on real calls."""
    expected, do = damages.DAMAGES[name]
    ending = do(house)
    assert (ending.what, ending.by) == (expected, by), ending
    assert words in ending.says
