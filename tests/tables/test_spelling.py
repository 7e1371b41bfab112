"""Single cells: the same rule for a call of one row and for a file of a million."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_azureml_classic.tables import values
from airflow_provider_azureml_classic.tables.spelling import (
    NumberRule,
    category_key,
    dressed_number,
    listed,
    parse_number,
    shown,
    truth,
)

_NUMBER = st.one_of(st.floats().map(repr), st.integers().map(str), st.decimals(allow_nan=False).map(str))
_TEXT = st.text("0123456789+-.,eE infnaNA_xµ\uff11", max_size=6)


@pytest.mark.slow
@settings(database=None, deadline=None, max_examples=300)
@given(cells=st.lists(_NUMBER | _TEXT, max_size=8), decimal=st.sampled_from([".", ","]), repeated=st.booleans())
def test_files_and_calls_agree(cells: list[str], decimal: str, repeated: bool) -> None:
    """A column read at once has bit for bit the numbers of its cells read one by one."""
    rule = NumberRule(decimal=decimal)
    expected = [rule.number(cell) for cell in cells]
    column = pa.chunked_array([pa.array([cell or None for cell in cells], pa.string())])
    found = values.numbers(column.dictionary_encode() if repeated else column, rule)
    assert found.wrong.tolist() == [row for row, value in enumerate(expected) if value is None]
    for value, again in zip(expected, found.values.tolist(), strict=True):
        assert math.isnan(again) if value is None or math.isnan(value) else (value, str(value)) == (again, str(again))


@pytest.mark.parametrize(
    ("cell", "value"),
    [(1, 1.0), (2.5, 2.5), (True, 1.0), (" 1e3 ", 1000.0), ("TRUE", 1.0), (10**400, None), ("1_0", None), ([1], None)],
)
def test_numbers_of_calls(cell: object, value: float | None) -> None:
    """JSON has numbers, texts, truth values, and what is none of them."""
    assert NumberRule().number(cell) == value


@pytest.mark.parametrize("cell", [None, "", " NA ", "null", float("nan"), "?"])
def test_no_value_in_calls(cell: object) -> None:
    """Null, NaN and the usual signs are no value."""
    value = NumberRule().number(cell)
    assert value is not None
    assert math.isnan(value)


@pytest.mark.parametrize(
    ("text", "decimal", "value"),
    [("1,5", ",", 1.5), ("1.5", ",", None), ("1.000,5", ",", None), ("1,5", ".", None), ("-0,5e1", ",", -5.0)],
)
def test_decimal_signs(text: str, decimal: str, value: float | None) -> None:
    """One sign stands before decimals; the other one makes no number."""
    assert parse_number(text, decimal) == value


@pytest.mark.parametrize(
    ("text", "decimal", "value"),
    [
        ("$1,000.50", ".", 1000.5),
        ("1.000,50 €", ",", 1000.5),
        ("12 %", ".", 12.0),
        ("-5%", ".", -5.0),
        ("1 000 000", ".", 1e6),
        ("1'000", ".", 1000.0),
        ("1\u202f000,5", ",", 1000.5),
        ("(1,000)", ".", -1000.0),
        ("12,34,567", ".", 1234567.0),
        ("1\u2019234.50", ".", 1234.5),
        ("\u22125.5", ".", -5.5),
        ("5.5-", ".", -5.5),
        ("\u200e7\u200b", ".", 7.0),
        ("USD", ".", None),
        ("1,00", ".", None),
        ("1,0000", ".", None),
        ("0.75", ",", None),
        ("5 inch", ".", None),
        ("12.5.2026", ".", None),
        ("--5", ".", None),
        ("$", ".", None),
        ("", ".", None),
    ],
)
def test_numbers_of_spreadsheets(text: str, decimal: str, value: float | None) -> None:
    """Signs around a number are taken off; groups between separators have three digits."""
    assert dressed_number(text, decimal) == value


@pytest.mark.parametrize(
    ("cells", "key"),
    [
        ((1, 1.0, "1", "1.0", "1.00", "+1"), "1"),
        ((-3, "-3.0"), "-3"),
        (("0", "-0.0", 0.0, "0.0"), "0"),
        ((True, "true", "True", "TRUE"), "true"),
        ((2.5, "2.5"), "2.5"),
        (("01",), "01"),
        (("1.10",), "1.10"),
        (("Truth",), "Truth"),
        ((1e16, "10000000000000000"), "10000000000000000"),
    ],
)
def test_category_keys(cells: tuple[object, ...], key: str) -> None:
    """What is one category, in files and in JSON; codes with leading or trailing zeros are their own."""
    assert {category_key(cell) for cell in cells} == {key}


def test_truths() -> None:
    """Every spelling of true and false; nothing else is one."""
    assert {truth(cell) for cell in (True, 1, 1.0, "1", "T", "yes", "Y", "on", "TRUE")} == {"true"}
    assert {truth(cell) for cell in (False, 0, 0.0, "0.0", "f", "No", "n", "off", "False")} == {"false"}
    assert {truth(cell) for cell in (2, "2", "maybe", None, [], "", 0.5)} == {None}


def test_messages_are_short() -> None:
    """At most 80 characters of a cell are shown, and 40 names."""
    assert len(shown("x" * 1000)) < 90
    assert len(shown(["x"] * 1000)) <= 80
    assert len(listed(["x" * 1000] * 1000)) < 3500
    assert listed([str(i) for i in range(42)]).endswith("39, and 2 more")
