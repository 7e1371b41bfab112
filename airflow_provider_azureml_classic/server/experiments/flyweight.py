"""What many loaded models have alike is in memory once, for as long as one of them has it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, TypeVar
from weakref import WeakValueDictionary

T = TypeVar("T")

#: By hash: two values of one hash are not shared, which costs memory only.
_values: WeakValueDictionary[int, Any] = WeakValueDictionary()


def shared(value: T, key: Hashable | None = None) -> T:
    """The value, or another one that is equal.

    :param value: one that nobody changes and that may be referred to weakly.
    :param key: what stands for a value that has no hash; equal values have equal ones.
    """
    other: T = _values.setdefault(hash((type(value), value if key is None else key)), value)
    return other if other.__class__ is value.__class__ and other == value else value
