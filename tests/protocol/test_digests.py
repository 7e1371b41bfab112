"""What identifies a model."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_azureml_classic.protocol.digests import Digests, same_model

A, B, C = "a" * 64, "b" * 64, "c" * 64


@pytest.mark.parametrize(
    ("data", "digests"),
    [
        ({"File": A, "Content": B}, Digests(A, B)),
        ({"File": A}, Digests(A)),
        ({"File": "A" * 64, "Content": B}, Digests(None, B)),
        ({"File": A + "\n", "Content": "soon"}, None),
        ({"File": 5, "Content": None}, None),
        ({}, None),
        (None, None),
        ([A, B], None),
    ],
)
def test_what_a_service_tells(data: Any, digests: Digests | None) -> None:
    """Whatever is no SHA-256 in lower case tells nothing; tasks keep the same under other names."""
    assert Digests.from_wire(data) == digests
    kept = {"sha256": data.get("File"), "content": data.get("Content")} if isinstance(data, dict) else data
    assert Digests.from_json(kept) == digests
    if digests:
        assert Digests.from_wire(digests.to_wire()) == Digests.from_json(digests.to_json()) == digests
        assert digests.to_wire() == {"File": digests.file, "Content": digests.content}
        assert digests.to_json() == {"sha256": digests.file, "content": digests.content}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (Digests(A, B), Digests(A, B), True),
        (Digests(A, B), Digests(C, B), True),
        (Digests(A, B), Digests(A, C), False),
        (Digests(A, B), Digests(A), True),
        (Digests(A, B), Digests(C), None),
        (Digests(A), Digests(C), None),
        (Digests(None, B), Digests(None, C), False),
        (Digests(None, B), Digests(A), None),
        (Digests(), Digests(), None),
        (Digests(A, B), None, None),
    ],
)
def test_same_model(one: Digests | None, other: Digests | None, same: bool | None) -> None:
    """The content decides; the same file has the same content; other files tell nothing, and no file is not the same
    as no file."""
    assert same_model(one, other) is same
    assert same_model(other, one) is same
