"""What a person sees of each column, and what is noted."""

from __future__ import annotations

import pytest

from airflow_provider_azureml_classic.tables import kinds
from airflow_provider_azureml_classic.tables.description import Description, describe, lines
from airflow_provider_azureml_classic.tables.kinds import BOOLEAN, DATE, NUMBER, TEXT, UNDECIDED, Kind, declared_kind
from airflow_provider_azureml_classic.tables.table import Table
from tests.tables.support import case, column, decided, read


def described(table: Table, **declared: Kind) -> dict[str, Description]:
    """The descriptions of all columns by name."""
    return {one.column: one for one in describe(table, decided(table, **declared))}


def note(cells: list[str], **declared: Kind) -> str:
    """What is noted of a column."""
    return described(column(cells), **declared)["x"].note


def test_all_kinds() -> None:
    """Kind, missing, distinct, smallest, largest and example of each kind of column."""
    table = read(
        "n,t,b,d,e\n2.50,b,TRUE,2026-03-05,\nNA,a,FALSE,NA,\n-1,NA,TRUE,2026-03-04T12:00:00,\n1e3,,true,2026-03-05,\n"
    )
    found = described(table, d=Kind(DATE))
    assert found["n"] == Description("n", NUMBER, 1, 3, "-1", "1000", "2.50")
    assert found["t"] == Description(
        "t", TEXT, 1, 3, "NA", "b", "b", "NA is a text here; if it means no value, declare missing"
    )
    assert found["b"] == Description("b", BOOLEAN, 0, 2, "false", "true", "TRUE")
    assert found["d"] == Description("d", DATE, 1, 2, "2026-03-04T12:00:00", "2026-03-05", "2026-03-05")
    assert (found["e"].kind, found["e"].missing) == (UNDECIDED, 4)
    assert "has no value" in found["e"].note


@pytest.mark.parametrize(("sign", "other"), [(".", ","), (",", ".")])
def test_thousands_that_may_be_decimals(sign: str, other: str) -> None:
    """Where no comma separates cells, 12.345 is noted if no cell shows that the point stands before decimals."""
    cells = [f"{i}{sign}{i:03}" if i % 3 else str(i) for i in range(1, 60)]
    said = f'has three decimals or none (1{sign}001): declare decimal = "{other}" if they are thousands'
    assert described(read("\n".join(["x;y", *(f"{cell};a" for cell in cells), "NA;b"])))["x"].note == said
    assert described(read("\n".join(["x;y", *(f"{cell};a" for cell in cells), f"0{sign}5;b"])))["x"].note == ""
    table = read("\n".join(["x;y", "1" + sign + "001;a", "7;b"]))
    kind = decided(table, x=declared_kind("x", {"decimal": other})).check().kinds["x"]
    assert kinds.read_numbers(table, "x", kind).tolist() == [1001, 7]


def test_numbers_are_described_without_a_list_of_their_different_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of millions of rows, each with a number of its own, it would be larger than all else of a training."""
    table = column([f"{i}.25" for i in range(4000)])
    decision = decided(table)
    monkeypatch.setattr(Table, "encoded", None)
    assert describe(table, decision)[0].distinct == 4000


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([f"C-{i:05}" for i in range(40)], "looks like an identifier"),
        ([str(i) for i in range(1, 41)], "looks like a row number"),
        ([str(100_003 + 7919 * i) for i in range(40)], "looks like an identifier"),
        ([f"202601{i % 28 + 1:02}" for i in range(40)], "looks like dates (yyyymmdd)"),
        ([str(1_767_225_600 + 86_400 * i) for i in range(40)], "looks like moments in seconds since 1970"),
        ([f"2026-01-{i % 28 + 1:02}" for i in range(40)], "looks like dates"),
        ([f"01/{i % 28 + 1:02}/2026 10:00" for i in range(40)], "looks like dates"),
        ([f"2026/{i % 12 + 1:02}/03" for i in range(40)], "looks like dates"),
        ([f"{2020 + i % 5}-{i % 12 + 1:02}" for i in range(40)], "looks like dates"),
        ([f"{i % 28 + 1} Mar 2026" for i in range(40)], "looks like dates"),
        ([f"March {i % 28 + 1:02}, 2026" for i in range(40)], 'looks like dates: declare kind = "date"'),
        ([f"2026-W{i + 1:02}" for i in range(40)], 'looks like dates: declare kind = "date"'),
        ([f"2026-W{i + 1:02}-5" for i in range(40)], 'looks like dates: declare kind = "date"'),
        (
            [f"Sun, {i % 28 + 1:02} Mar 2026 10:00:00 +0000" for i in range(40)],
            'looks like dates: declare kind = "date"',
        ),
        ([f"{i % 28 + 1:02}MAR2026:14:30:00" for i in range(40)], 'looks like dates: declare kind = "date"'),
        ([f"{i % 9 + 1:02}/03/2026" for i in range(40)], 'looks like dates: declare kind = "date" with date_format'),
        ([f"{i % 28 + 1}. März 2026" for i in range(40)], "looks like dates: write them as 2026-03-01"),
        ([f"2026Q{i % 4 + 1}" for i in range(40)], "looks like dates: write them as 2026-03-01"),
        ([f"{i % 24:02}:30" for i in range(40)], "looks like times of day"),
        ([f"{i % 12 + 1}:05:30 PM" for i in range(40)], "looks like times of day"),
        ([hex(i) for i in range(40)], "looks like hexadecimal numbers (0x0)"),
        ([f'="{i:03}"' for i in range(40)], "is written as formulas of a spreadsheet"),
        (
            ["Yes", "yes", "Maybe", "YES "] * 9,
            "has texts that differ in their spelling only ('Yes' and 'yes')",
        ),
        (["e\u0301", "\u00e9"] * 9, "has texts that differ in their spelling only ('e\\u0301' and '\\xe9')"),
        (["TRUE", "1", "true", "0"] * 9, "mixes spellings of truth values"),
        ([*"abc" * 9, "Total"], "ends with 'Total'"),
        ([str(1_760_000_000_007 + 86_400_000 * i) for i in range(40)], "looks like moments in milliseconds since 1970"),
        ([*(f"{i}.5" for i in range(40)), "-999"], "has -999, far from its other numbers: declare missing = "),
        ([*(f"{i % 7}" for i in range(40)), "9999"], "has 9999, far"),
        ([*(f"{i * 100}.5" for i in range(40)), "999"], ""),
        ([str(10**25 + i) for i in range(40)], "has whole numbers beyond 2^53"),
        ([f"{i * 251:05}" for i in range(40)], "has leading zeros (00000)"),
        ([f"{i} kg" for i in range(40)], "is a text, for what stands around its numbers"),
        ([str(2**60 + i) for i in range(40)], "has whole numbers beyond 2^53"),
        ([f"0.{i}" for i in range(40)], ""),
        (["a", "b"] * 20, ""),
        ([f"{i}.25" for i in range(40)], ""),
        ([str(i % 30) for i in range(40)], ""),
        (["x", "y", "z"], ""),
    ],
)
def test_notes(cells: list[str], said: str) -> None:
    """Identifiers and dates are noted; ordinary columns are not."""
    assert note(cells).startswith(said)
    assert bool(note(cells)) == bool(said)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([f"C-{i:05}" for i in range(40)], "has a label of its own in each row: is this"),
        ([str(i) for i in range(1, 41)], "looks like a row number: is this"),
        ([f"202601{i % 28 + 1:02}" for i in range(40)], "looks like dates (yyyymmdd): is this"),
        ([f"2026-01-{i % 28 + 1:02}" for i in range(40)], "looks like dates: is this"),
        ([str(100_003 + 7919 * i) for i in range(40)], ""),
        (["a", "b"] * 20, ""),
    ],
)
def test_notes_of_the_label(cells: list[str], said: str) -> None:
    """Nobody is told to ignore the label or to declare it a date; prices are none but a label."""
    table = column(cells)
    (seen,) = describe(table, decided(table), label="x")
    assert seen.note.startswith(said)
    assert bool(seen.note) == bool(said)
    assert "ignore" not in seen.note


def test_spellings_of_truth_in_a_label() -> None:
    """A label is a text: each spelling is a class of its own, which is noted with what to declare."""
    for cells in (["Yes", "no", "yes", "No"], ["TRUE", "1", "0"]):
        table = column(cells * 10)
        (seen,) = describe(table, decided(table, x=Kind(TEXT)), label="x")
        assert seen.note == (
            f'mixes spellings of truth values ({", ".join(cells)}), each a class of its own: declare kind = "boolean"'
        )


def test_years_of_two_digits() -> None:
    """Which century they are read as is noted."""
    table = column(["13/01/68", "14/01/72"])
    (seen,) = describe(table, decided(table, x=Kind(DATE)))
    assert seen.note == "has years of two digits, read as those from 1972 to 2068"


def test_problems_are_shown() -> None:
    """A column that is refused stands in the table with its problem, beside the others."""
    found = described(case("01/dash.csv"))
    assert found["x"].note.startswith("Column 'x', row 4: '-' is not a number")
    assert found["z"].kind == NUMBER


def test_printed() -> None:
    """Columns stand below one another; long cells and line ends do not break that."""
    printed = lines(describe(case("21/multiline_ok.csv"), decided(case("21/multiline_ok.csv"))))
    assert printed[0].split() == ["column", "kind", "missing", "distinct", "smallest", "largest", "example", "note"]
    assert len(printed) == 4
    assert {line.index(word) for line, word in zip(printed, ("kind", "number", "text", "text"), strict=True)} == {8}
    wide = column(["x" * 500, "y"])
    assert max(map(len, lines(describe(wide, decided(wide))))) < 200


def test_absent() -> None:
    """A declared column that the data lack is shown as such."""
    table = column(["1"])
    found = describe(table, kinds.decide(table, ["x", "gone"]))
    assert found[1] == Description("gone", UNDECIDED, note="the data has no such column")
