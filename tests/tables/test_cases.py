"""The files of ``data``: each as a person would read it, or refused."""

from __future__ import annotations

import pytest

from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.tables import kinds
from airflow_provider_azureml_classic.tables.kinds import BOOLEAN, NUMBER, TEXT, Kind
from tests.tables.support import case, decided, rows


@pytest.mark.parametrize(
    ("name", "count", "expected"),
    [
        ("01/na.csv", 120, {"x": NUMBER}),
        ("01/nan.csv", 120, {"x": NUMBER}),
        ("01/null.csv", 120, {"x": NUMBER}),
        ("01/backslash_n.csv", 120, {"x": NUMBER}),
        ("02/upper.csv", 40, {"b": BOOLEAN}),
        ("02/title.csv", 40, {"b": BOOLEAN}),
        ("02/lower.csv", 40, {"b": BOOLEAN}),
        ("03/euro.csv", 40, {"b": TEXT}),
        ("03/column_name.csv", 40, {"Preis €": NUMBER}),
        ("10/february.csv", 50, {"z": NUMBER}),
        ("11/mixed.csv", 80, {"x": NUMBER}),
        ("13/semicolon.csv", 60, {"x": NUMBER, "y": NUMBER}),
        ("13/tabs.tsv", 60, {"x": NUMBER, "y": NUMBER}),
        ("15/cr.csv", 60, {"x": NUMBER, "y": NUMBER}),
        ("15/utf16.csv", 60, {"x": NUMBER, "y": NUMBER}),
        ("16/score.csv", 3, {"x": NUMBER}),
        ("17/codes.csv", 60, {"b": TEXT}),
        ("18/break.csv", 50, {"length\nin cm": NUMBER, "y": NUMBER}),
        ("21/multiline_ok.csv", 100, {"note": TEXT}),
    ],
)
def test_read(name: str, count: int, expected: dict[str, str]) -> None:
    """All rows are there, and the columns are what a person takes them for."""
    table = case(name)
    assert table.rows == count
    found = decided(table).check().kinds
    assert {column: found[column].kind for column in expected} == expected


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("01/dash.csv", "Column 'x', row 4: '-' is not a number"),
        ("01/inf.csv", "Column 'x', row 4: 'inf' is an infinite number"),
        ("12/open_quote.csv", "in data row 1 a quote that opens a cell is never closed"),
        ("14/dollar.csv", r"Column 'x', row 1: '\$1,000.50'"),
        ("14/percent.csv", "Column 'x', row 1: '0.5%'"),
        ("14/thousands.csv", "Column 'x', row 1: '1,000'"),
        ("21/last_column.csv", "in data row 101 a quote that opens a cell is never closed"),
        ("21/label_last.csv", "in data row 101 a quote that opens a cell is never closed"),
        ("21/two_quotes.csv", "in data row 101 a quote opens a cell of 401 lines"),
        ("21/unquoted.tsv", "in data row 51 a quote that opens a cell is never closed"),
    ],
)
def test_refused(name: str, said: str) -> None:
    """The message names column, row and cell, and holds no rows of data."""
    with pytest.raises(RequestRejected, match=said) as caught:
        decided(case(name)).check()
    assert len(caught.value.message) < 400


def test_semicolons_and_tabs_mean_the_same() -> None:
    """Two files of the same numbers, one with semicolons and one with tabs."""
    columns = []
    for name in ("13/semicolon.csv", "13/tabs.tsv"):
        table = case(name)
        found = decided(table)
        columns.append([kinds.read_numbers(table, x, found.kinds[x], found.decimal).tolist() for x in ("x", "y")])
    assert columns[0] == columns[1]
    assert columns[0][0][0] == 0.5


def test_day_or_month() -> None:
    """A column in which a 13 stands second has the month first; one in which nothing tells is refused."""
    assert decided(case("09/us_13th.csv"), t=Kind("date")).check().kinds["t"].date_format == "%m/%d/%Y"
    assert decided(case("09/us_13th_seconds.csv"), t=Kind("date")).check().kinds["t"].date_format == "%m/%d/%Y"
    with pytest.raises(RequestRejected, match="'03/05/2026' is a date of which no cell"):
        decided(case("09/us_5th.csv"), t=Kind("date")).check()


def test_a_blank_line_is_a_row() -> None:
    """Of a file of one column, so that answers stand beside their rows."""
    assert rows(case("16/score.csv")) == [["1"], [""], ["50"]]
