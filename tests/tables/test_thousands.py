"""Numbers of later files: never silently 1000 times too small."""

from __future__ import annotations

import pytest

from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.tables.thousands import check_thousands
from tests.tables.support import column, read


@pytest.mark.parametrize(
    ("cells", "sign", "ends"),
    [
        (["950", "1.000", "2.500"], ".", (800.5, 5000.5)),
        (["-1.234", "-2.345"], ".", (-3000.0, -1000.0)),
        (["1,000", "1,234"], ",", (900.0, 4000.0)),
        (["12", "1.500"], ".", (0.0, 5000.0)),
        (["12", "1.500", ""], ".", (None, None)),
    ],
)
def test_thousands_are_refused(cells: list[str], sign: str, ends: tuple[float | None, float | None]) -> None:
    """Where earlier data are 1000 times larger, or the zeros of a column can be no decimals, with row and cell."""
    row = next(row for row, cell in enumerate(cells, 1) if sign in cell)
    with pytest.raises(RequestRejected, match=rf"^Column 'x', row {row}: '.*' may be a number of thousands.*Write"):
        check_thousands(column(cells), "x", sign, ends)


@pytest.mark.parametrize(
    ("cells", "ends"),
    [
        (["0.950", "1.000", "12.345"], (0.1, 20.0)),
        (["1.000", "1.500"], (0.0, 5.0)),
        (["12", "1.5"], (0.0, 5000.0)),
        (["1.000", "1234.500"], (800.0, 5000.0)),
        (["12", "950"], (0.0, 5000.0)),
    ],
)
def test_decimals_are_numbers(cells: list[str], ends: tuple[float, float]) -> None:
    """Numbers that are as those of earlier data, or that show their decimals, are taken as they stand."""
    assert check_thousands(column(cells), "x", ".", ends) == ""
    assert not check_thousands(read("x,y\n" + "".join(f"{cell},a\n" for cell in cells * 9)), "x", ".", ends)


def test_what_may_be_meant_in_both_ways_is_noted() -> None:
    """Where earlier data have both, or are not known and no comma separates cells, the log says how it was read."""
    said = "Column 'x': '1.125' and the like were read as 1.125; if they are thousands, write 1000."
    assert check_thousands(column(["1.125", "2.375"]), "x", ".", (1.0, 3000.0)) == said
    assert check_thousands(read("x;y\n1.125;a\n"), "x", ".", (None, None)) == said
    assert check_thousands(read("x,y\n1.125,a\n"), "x", ".", (None, None)) == ""
