"""Texts of 32-bit numbers: the ones that numpy writes, and they read as the same numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_azureml_classic.server.experiments.number_text import texts_of

usual = st.floats(2**-13, 2**19, width=32) | st.floats(-(2**19), -(2**-13), width=32)


@pytest.mark.slow
@given(st.lists(usual, min_size=40, max_size=200))
def test_many_usual_numbers_are_written_as_numpy_writes_them(numbers: list[float]) -> None:
    """Tried together or one by one, the shortest text is the same, and reads as the number."""
    column = np.array(numbers, np.float32)
    assert texts_of(column) == [str(number) for number in column]
    assert [np.float32(text) for text in texts_of(column)] == list(column)


@given(st.lists(st.floats(width=32), min_size=1, max_size=120))
def test_any_number_reads_as_itself(numbers: list[float]) -> None:
    """Also tiny, huge, infinite and missing ones, whatever their count."""
    column = np.array(numbers, np.float32)
    for text, number in zip(texts_of(column), column.tolist(), strict=True):
        read = float(np.float32(text))
        assert read == number or (math.isnan(read) and math.isnan(number))


@pytest.mark.parametrize("count", [1, 39, 40, 1000])
def test_the_text_does_not_depend_on_how_many_are_written(count: int) -> None:
    """One number has the same text alone and among many."""
    column = np.full(count, 0.1, np.float32)
    assert texts_of(column) == ["0.1"] * count
