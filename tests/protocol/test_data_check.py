"""What a user says of the data check of a training."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_azureml_classic.protocol.data_check import LIMITS, check_limits, check_options


def test_limits() -> None:
    """Shares by rule, or by column and rule, where the column may have dots."""
    limits = {"outside": 0, "age.missing": 1, "a.b.unknown": 0.5}
    assert check_limits(limits) == {"outside": 0.0, "age.missing": 1.0, "a.b.unknown": 0.5}
    assert all(type(value) is float for value in check_limits(limits).values())
    assert check_limits({}) == {}
    many = {f"c{number}.outside": 0.5 for number in range(50)}
    assert check_limits(many) == many
    assert check_limits(LIMITS) == LIMITS


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (None, "at most 50 rules"),
        ([], "at most 50 rules"),
        ({f"c{number}.outside": 0.5 for number in range(51)}, "at most 50 rules"),
        ({"ouside": 0.5}, "'ouside' of the data check is 0.5: expected a share from 0 to 1"),
        ({"outside.age": 0.5}, "'outside.age'"),
        ({"outside": -0.1}, "is -0.1"),
        ({"outside": 1.1}, "is 1.1"),
        ({"outside": True}, "is True"),
        ({"outside": "0.5"}, "is '0.5'"),
        ({"outside": float("nan")}, "is nan"),
        ({"outside": 10**400}, "is 1000"),
    ],
)
def test_no_limits(limits: Any, words: str) -> None:
    """Anything else is refused: a misspelt rule would silently not be applied."""
    with pytest.raises(ValueError, match=words):
        check_limits(limits)


def test_options() -> None:
    """What is done about broken rules, and how far they go, if that is said."""
    for mode in ("warn", "fail", "off"):
        check_options(mode, None)
        check_options(mode, {"outside": 0.5})
    for mode, limits in (("only", None), ("", None), ("warn", {"ouside": 0.5}), ("warn", [1])):
        with pytest.raises(ValueError, match=r"data_check is|the limit"):
            check_options(mode, limits)
