"""Kinds of columns: decided over whole columns, by nearly all of their cells, and never silently a text."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pytest

from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.tables import dates, kinds
from airflow_provider_azureml_classic.tables.kinds import BOOLEAN, DATE, NUMBER, TEXT, UNDECIDED, Kind, declared_kind
from airflow_provider_azureml_classic.tables.spelling import NO_VALUE
from airflow_provider_azureml_classic.tables.table import Origin, Table
from tests.tables.support import case, column, decided, read, texts

NUMBERS = [f"{i}.5" for i in range(60)]


def kind_of(cells: list[str], declared: Kind | None = None) -> str | None:
    """The kind of a column that has no problem."""
    return decided(column(cells), **({"x": declared} if declared else {})).check().kinds["x"].kind


def problem_of(cells: list[str], declared: Kind | None = None) -> str:
    """What is said of a column that is refused."""
    problem = decided(column(cells), **({"x": declared} if declared else {})).problems["x"]
    assert problem.details[0].target == "x"
    return problem.message


def numbers(cells: list[str], kind: Kind | None = None, decimal: str = ".") -> list[float | None]:
    """A column read as numbers; ``None`` where there is no value."""
    values = kinds.read_numbers(column(cells), "x", kind or Kind(NUMBER), decimal)
    return [None if math.isnan(value) else value for value in values.tolist()]


@pytest.mark.slow
@pytest.mark.parametrize("sign", sorted(NO_VALUE))
@pytest.mark.parametrize("position", [0, 3, 59])
def test_signs_of_no_value(sign: str, position: int) -> None:
    """Each usual sign is no value among numbers, also in the first row, and also with blanks around it."""
    cells = [*NUMBERS[:position], f" {sign} ", *NUMBERS[position:]]
    assert kind_of(cells) == NUMBER
    assert numbers(cells) == [*map(float, NUMBERS[:position]), None, *map(float, NUMBERS[position:])]


def test_a_sign_among_texts_is_a_text() -> None:
    """NA is the country code of Namibia; what the experiment says means no value does so among texts, too."""
    table = column(["DE", "NA", "FR", "?", "NaN", "NA", "null"])
    assert decided(table).kinds["x"].kind == TEXT
    assert texts(kinds.read_categories(table, "x", Kind(TEXT))) == ["DE", "NA", "FR", "", "", "NA", "null"]
    assert texts(kinds.read_categories(table, "x", Kind(TEXT, missing=("FR",))))[2:4] == ["", "?"]


@pytest.mark.parametrize("odd", ["-", "unknown", "12.5.1", "1_000", "0x10", "5 apples", "x" * 1000])
@pytest.mark.parametrize("count", [1, 6])
def test_nearly_all_numbers(odd: str, count: int) -> None:
    """A column of numbers with a few other cells is refused with column, row, cell and both remedies."""
    cells = [*NUMBERS[:10], *[odd] * count, *NUMBERS[10:]]
    message = problem_of(cells)
    assert message.startswith("Column 'x', row 11: ")
    assert repr(odd[:50])[1:-1] in message
    assert f"60 of {60 + count} cells" in message
    assert "missing = [" in message
    assert 'kind = "text"' in message
    assert len(message) < 400
    assert kind_of(cells, Kind(missing=(odd,))) == NUMBER
    assert kind_of(cells, Kind(TEXT)) == TEXT


def test_one_sign_in_half_of_the_cells() -> None:
    """Many numbers and one other text, however often, are a column of numbers with a sign of its own for no value."""
    assert "row 2: 'unknown'" in problem_of([cell for number in NUMBERS for cell in (number, "unknown")])
    assert "row 2: '--'" in problem_of([cell for number in NUMBERS for cell in (number, "--", "--", "--")])
    both = read("\n".join(["x;z", *(f"{i},25;.\n{i},5;{i}.5" for i in range(60))]))
    assert "row 2: '0.5' has another decimal sign" in decided(both).problems["z"].message


@pytest.mark.parametrize(
    ("cells", "kind", "note"),
    [
        (["1.0", "2.0", "other"] * 20, TEXT, "40 of 60 cells are numbers, 'other' is not"),
        ([f"A/5 {i}" if i % 3 == 0 else str(i) for i in range(90)], TEXT, "60 of 90 cells are numbers, 'A/5 0' is not"),
        (["a", "b", "1"] * 20, TEXT, ""),
        (["S", "M", "L", "36,5"] * 5, TEXT, ""),
        (["50 €", "100 €"] * 20, TEXT, "'50 €' is written as spreadsheets show numbers"),
        (["1,2,3", "4,5", "6"] * 20, TEXT, ""),
        ([f"SKU{i}" for i in range(1000, 1060)], TEXT, ""),
        ([f"ROW {i}" for i in range(60)], TEXT, ""),
    ],
)
def test_texts_with_numbers(cells: list[str], kind: str, note: str) -> None:
    """Codes and mixtures stay texts; where half of the cells are numbers, a note says so."""
    found = decided(column(cells)).check()
    assert found.kinds["x"].kind == kind
    assert found.notes.get("x", "").startswith(note)
    assert bool(note) == bool(found.notes)


@pytest.mark.parametrize("cell", ["inf", "-inf", "Infinity", "1e999", "INF"])
def test_infinite(cell: str) -> None:
    """An infinite number is refused by name; declared, it is no value."""
    cells = [*NUMBERS, cell]
    assert f"row 61: '{cell}' is an infinite number, which no model can use" in problem_of(cells)
    assert kind_of(cells, Kind(missing=(cell,))) == NUMBER
    with pytest.raises(RequestRejected, match=r"Column 'x', row 61: .* is not a number \(or too large\)"):
        numbers(cells)
    assert numbers(cells, Kind(NUMBER, missing=(cell,)))[-1] is None


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("{:,}", lambda i: float(i * 1000)),
        ("${:,}.50", lambda i: i * 1000 + 0.5),
        ("{} %", lambda i: float(i * 1000)),
        ("{}%", lambda i: float(i * 1000)),
        ("€ {}", lambda i: float(i * 1000)),
        ("{} EUR", lambda i: float(i * 1000)),
        ("({:,})", lambda i: -float(i * 1000)),
        ("-${:,}", lambda i: -float(i * 1000)),
        ("US${}", lambda i: float(i * 1000)),
        ("CHF {:,}.50", lambda i: i * 1000 + 0.5),
        ("{} kr", lambda i: float(i * 1000)),
        ("₹{:,}", lambda i: float(i * 1000)),
    ],
)
def test_spreadsheets(form: str, value: Any) -> None:
    """Thousands, percent and currency signs are refused with advice; declared, the number is read."""
    cells = [form.format(i * 1000) for i in range(1, 61)]
    message = problem_of(cells)
    assert f"row 1: {cells[0]!r} is written as spreadsheets show numbers" in message
    assert 'Declare kind = "number"' in message
    declared = declared_kind("x", {"kind": "number"})
    assert kind_of(cells, declared) == NUMBER
    assert numbers(cells, declared) == [value(i) for i in range(1, 61)]


@pytest.mark.parametrize("form", ["{:,}", "${}", "1e{}"])
def test_so_many_different_cells_that_not_all_are_looked_at(form: str) -> None:
    """They are refused as a few are, and not silently categories."""
    cells = [form.format(i) for i in range(1000, 4000)]
    assert problem_of([*cells, "a"]).startswith(f"Column 'x', row 1: {cells[0]!r}")


def test_declared_numbers_are_numbers_still() -> None:
    """A declaration of numbers lets spreadsheets' numbers be read, and nothing else."""
    with pytest.raises(RequestRejected, match="Column 'x', row 2: 'abc' is not a number"):
        numbers(["1", "abc"], declared_kind("x", {"kind": "number"}))
    with pytest.raises(RequestRejected, match="row 1: '1,00' is not a number"):
        numbers(["1,00"], declared_kind("x", {"kind": "number"}))
    assert numbers(["1.234,5 €", "7"], declared_kind("x", {"kind": "number", "decimal": ","})) == [1234.5, 7]


@pytest.mark.parametrize(
    ("content", "title", "decimal"),
    [
        ("x;y\n0,5;1\n1,5;2\n", "CSV", ","),
        ("x\ty\n0,5\t1\n1,5\t2\n", "TSV", ","),
        ('x,y\n"0,5",1\n"1,5",2\n', "CSV", ","),
        ("x;y\n1,000;1\n2,000;2\n", "CSV", ","),
        ('x,y\n"1,000",1\n"2,000",2\n', "CSV", "."),
        ("x;y\n0.5;1\n1.5;2\n", "CSV", "."),
        ("x;y\n1;1\n2;2\n", "CSV", "."),
        ("x;y;z\n0,5;1.5;a\n1,5;2.5;b\n", "CSV", ","),
        ("x;y;z\n0,5;1.5;1.5\n1,5;2.5;2.5\n", "CSV", "."),
        ("x\ty\n0,5\t1.5\n1,5\t2.5\n", "TSV", "."),
        ("x;y\nNA;1\n1,5;2\n0,5;3\n", "CSV", ","),
        ("x;y\na,b;1\nc,d;2\n", "CSV", "."),
    ],
)
def test_one_decimal_sign_for_a_file(content: str, title: str, decimal: str) -> None:
    """The sign before the decimals is decided over all columns, whatever the delimiter is."""
    assert decided(read(content, title)).decimal == decimal


def test_the_other_decimal_sign() -> None:
    """A column that has another sign than the file is refused unless that is declared."""
    lines = [f"{i},5;{i},25;{i}.75" for i in range(30)]
    table = read("\n".join(["x;y;z", *lines]))
    found = decided(table)
    assert found.decimal == ","
    assert "row 1: '0.75' has another decimal sign" in found.problems["z"].message
    assert 'decimal = "."' in found.problems["z"].message
    said = decided(table, z=Kind(NUMBER, decimal=".")).check()
    assert kinds.read_numbers(table, "z", said.kinds["z"], ",").tolist()[:2] == [0.75, 1.75]
    assert kinds.read_numbers(table, "x", said.kinds["x"], ",").tolist()[:2] == [0.5, 1.5]


@pytest.mark.parametrize(
    "cells",
    [
        ["TRUE", "FALSE"],
        ["True", "false", "TRUE"],
        ["yes", "NO", "No"],
        ["t", "f"],
        ["Y", "N"],
        ["on", "off"],
        ["true"],
        ["true", "", "false", "NA"],
    ],
)
def test_truth_values(cells: list[str]) -> None:
    """Two spellings of true and false, in any case, are truth values; all spellings of later data are known."""
    assert kind_of(cells * 10) == BOOLEAN
    first = kinds.read_categories(column(cells), "x", Kind(BOOLEAN))
    assert len(first.cells) <= 2
    later = ["true", "TRUE", "1", "1.0", "yes", "false", "False", "0", "no"]
    if len(first.cells) == 2:
        found = texts(kinds.read_categories(column(later), "x", Kind(BOOLEAN), first.cells))
        assert found[:5] == [found[0]] * 5
        assert found[5:] == [found[5]] * 4
        assert {found[0], found[5]} == set(first.cells)


def test_zero_and_one_are_numbers() -> None:
    """A column of 0 and 1 holds numbers, and knows truth values of later data; a mixture is not decided silently."""
    assert kind_of(["0", "1"] * 20) == NUMBER
    assert numbers(["0", "1.0", "true", "FALSE", "True"]) == [0, 1, 1, 0, 1]
    assert "'true' is not a number, as 40 of 41 cells are" in problem_of([*["0", "1"] * 20, "true"])


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1", "2", "other"], ["1", "2", "other"]),
        (["1.0", "2.0", "1.0"], ["1.0", "2.0"]),
        (["0", "0.0", "1.0", "x"], ["0", "1", "x"]),
        (["01", "1", "1.10", "1.1"], ["01", "1", "1.10", "1.1"]),
        (["True", "TRUE", "maybe"], ["true", "maybe"]),
        ([" a", "a ", "a"], ["a"]),
    ],
)
def test_one_category(cells: list[str], expected: list[str]) -> None:
    """Spellings of one number or truth value are one category, spelled as the data spell it."""
    assert list(kinds.read_categories(column(cells), "x", Kind(TEXT)).cells) == expected


def test_spelling_of_the_first_data() -> None:
    """Later data keep the spelling of the first ones; new categories are spelled as they come."""
    found = kinds.read_categories(case("11/floats.csv"), "y", Kind(TEXT), ["0", "1"])
    assert sorted(found.cells) == ["0", "1"]
    assert sorted(kinds.read_categories(case("11/mixed.csv"), "y", Kind(TEXT)).cells) == ["0", "1"]
    assert sorted(kinds.read_categories(case("11/floats.csv"), "y", Kind(TEXT)).cells) == ["0.0", "1.0"]
    assert texts(kinds.read_categories(column(["2.0", "1"]), "x", Kind(TEXT), ["1.0"])) == ["2.0", "1.0"]


def test_no_value_yet() -> None:
    """A column without a value is decided when the first values come, and stays so."""
    january = decided(case("10/january.csv"))
    assert january.kinds["z"].kind == UNDECIDED
    february = case("10/february.csv")
    later = kinds.decide(february, february.names, earlier=january.kinds)
    assert later.kinds["z"].kind == NUMBER
    again = kinds.decide(column(["a"], "z"), ["z"], earlier=later.kinds)
    assert again.kinds["z"].kind == NUMBER


def test_absent_columns() -> None:
    """A column that the table does not have stays undecided, or what it was."""
    found = kinds.decide(column(["1"]), ["x", "y", "z"], earlier={"z": Kind(TEXT)})
    assert {name: kind.kind for name, kind in found.kinds.items()} == {"x": NUMBER, "y": UNDECIDED, "z": TEXT}


@pytest.mark.parametrize(
    ("cells", "form", "first"),
    [
        (["2026-03-05", "2026-03-06"], "", 20517.0),
        (["2026-03-05T12:00:00"], "", 20517.5),
        (["2026-03-05T12:00:00+12:00"], "", 20517.0),
        (["03/13/2026", "03/05/2026"], "%m/%d/%Y", 20525.0),
        (["13/03/2026 12:00:00", "05/03/2026 6:00"], "%d/%m/%Y", 20525.5),
        (["13-03-26"], "%d-%m-%y", 20525.0),
        (["5.3.2026"], "%d.%m.%Y", 20517.0),
        (["2026/03/05"], "%Y/%m/%d", 20517.0),
    ],
)
def test_dates(cells: list[str], form: str, first: float) -> None:
    """A declared date finds its form over the whole column; its number is days since 1970."""
    decision = decided(column([*cells, ""]), x=Kind(DATE)).check()
    assert decision.kinds["x"] == Kind(DATE, date_format=form)
    values = kinds.read_numbers(column([*cells, "NA"]), "x", decision.kinds["x"])
    assert values[0] == first
    assert math.isnan(values[-1])


def test_month_or_day() -> None:
    """Where no cell tells, or two cells contradict each other, the column is refused; a declaration decides."""
    assert "row 1: '03/05/2026' is a date of which no cell" in problem_of(["03/05/2026", "03/06/2026"], Kind(DATE))
    mixed = problem_of(["03/13/2026", "13/03/2026"], Kind(DATE))
    assert "row 1: '03/13/2026' has the month first, but '13/03/2026' has the day first" in mixed
    declared = declared_kind("x", {"date_format": "%m/%d/%Y"})
    assert decided(column(["03/05/2026"]), x=declared).check().kinds["x"].date_format == "%m/%d/%Y"
    with pytest.raises(RequestRejected, match="row 2: '13/03/2026' is not a date in the form %m/%d/%Y"):
        kinds.read_numbers(column(["03/05/2026", "13/03/2026"]), "x", declared)
    assert "'soon' is no date in the form of the others" in problem_of(["2026-01-01", "soon"], Kind(DATE))


@pytest.mark.parametrize(
    ("cell", "iso"),
    [
        ("06 Jun 2020", "2020-06-06"),
        ("06 Jun 2020 7:30", "2020-06-06T07:30:00"),
        ("06 Jun", None),
        ("06 Jun 2020 soon", None),
    ],
)
def test_a_form_of_dates_may_have_blanks(cell: str, iso: str | None) -> None:
    """The words that it has are the date, and what follows them is a time of day."""
    found = dates.parse_time(cell, "%d %b %Y")
    assert (found[1] if found else None) == iso


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"kind": "integer"}, "kind = 'integer' is wrong. It must be one of number, text, boolean, date, ignore"),
        ({"missing": "-"}, "missing = '-' is wrong. It must be a list of texts"),
        ({"decimal": ";"}, "decimal = ';' is wrong"),
        ({"date_format": "%H:%M"}, "'%H:%M' does not give a day"),
        ({"date_format": "%Q"}, "'%Q' is no format of dates"),
        ({"format": "x"}, "'format' is not a known key. Known keys: kind, missing, decimal, date_format"),
        ({"kind": "text", "decimal": ","}, 'decimal needs kind = "number"'),
        ({"kind": "number", "date_format": "%Y-%m-%d"}, 'date_format needs kind = "date"'),
        ("number", "is not a table"),
    ],
)
def test_wrong_declarations(table: Any, said: str) -> None:
    """A declaration that says nothing sensible names the column, the key and what is expected."""
    with pytest.raises(ValueError, match=r"^column 'x': ") as caught:
        declared_kind("x", table)
    assert said in str(caught.value)


def test_declarations() -> None:
    """What is declared decides, and is kept as JSON, in which later versions may have more."""
    every = {"kind": "number", "missing": ["-"], "decimal": ","}
    kind = declared_kind("x", every)
    assert kind == Kind(NUMBER, ("-",), ",", None, True)
    assert Kind.from_json({**kind.to_json(), "later": 1}) == kind
    assert declared_kind("x", {"date_format": "%d/%m/%Y"}).kind == DATE
    assert declared_kind("x", {"decimal": ","}).kind == NUMBER
    assert declared_kind("x", {"missing": ["-"]}) == Kind(missing=("-",))
    assert Kind.from_json(Kind(TEXT).to_json()) == Kind(TEXT)


def test_a_number_that_means_no_value() -> None:
    """A declared number is no value, in texts and in numbers of the file."""
    kind = Kind(NUMBER, missing=("-999",))
    assert numbers(["1", "-999", "3"], kind) == [1, None, 3]
    table = Table(Origin("Parquet"), {"x": pa.chunked_array([[1, -999, 3]])}, 3)
    assert math.isnan(kinds.read_numbers(table, "x", kind)[1])
    assert texts(kinds.read_categories(table, "x", Kind(TEXT))) == ["1", "-999", "3"]


def test_numbers_of_parquet() -> None:
    """NaN and null are no value, infinity is refused, and whole numbers are spelled like texts' ones."""
    table = Table(Origin("Parquet"), {"x": pa.chunked_array([[1.0, float("nan"), None, 2.5]])}, 4)
    assert decided(table).check().kinds["x"].kind == NUMBER
    assert texts(kinds.read_categories(table, "x", Kind(TEXT), ["1"])) == ["1", "", "", "2.5"]
    table = Table(Origin("Parquet"), {"x": pa.chunked_array([[1.0], [float("inf")]])}, 2)
    with pytest.raises(RequestRejected, match="Column 'x', row 2: 'inf'"):
        kinds.read_numbers(table, "x", Kind(NUMBER))
    assert "infinite" in decided(table).problems["x"].message


def test_a_repeated_header_row_is_refused() -> None:
    """Files that were put together with their headers do not make a class of its name."""
    with pytest.raises(RequestRejected, match="Data row 3 repeats the header row"):
        decided(read("c,d\np,a\nq,b\nc,d\np,a\n"))
    decided(read("c,d\np,a\nc,b\nq,d\n")).check()


def test_numbers_of_fortran() -> None:
    """D before an exponent is refused with advice, and read where a number is declared; codes are texts."""
    assert "is written as Fortran shows numbers" in problem_of([f"{i}.5D+03" for i in range(40)])
    assert numbers(["1.5D+03", "-.5d2", "7"], Kind(NUMBER, dressed=True)) == [1500.0, -50.0, 7.0]
    assert kind_of([f"{i}D3" for i in range(40)]) == TEXT


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["TRUE", "0", "true", "1"], BOOLEAN),
        (["yes", "1", "0", "no"], BOOLEAN),
        (["T", "0", "1"], TEXT),
        (["true", "2", "0"], TEXT),
        (["yes", "true", "0"], TEXT),
    ],
)
def test_truths_beside_bits(cells: list[str], kind: str) -> None:
    """Words for true and false beside 1 and 0 are truth values, which is noted."""
    decision = decided(column(cells))
    assert decision.kinds["x"].kind == kind
    assert ("mixes" in decision.notes.get("x", "")) == (kind == BOOLEAN)


@pytest.mark.parametrize(
    "cell", ["March 01, 2026", "1 Mar 2026", "01MAR2026", "01-Mar-2026", "2026年3月1日", "2026-W09-7"]
)
def test_dates_without_doubt_need_no_format(cell: str) -> None:
    """A month in words, or a week, is read where a date is declared."""
    table = column([cell])
    kind = decided(table, x=Kind(DATE)).check().kinds["x"]
    assert kinds.read_numbers(table, "x", kind).tolist() == [dates.days("2026-03-01")]


def test_numbers_are_no_dates() -> None:
    """Seconds since 1970 in a column of dates: the advice is not a date_format that does not exist."""
    message = problem_of([str(1_760_000_000 + i) for i in range(5)], Kind(DATE))
    assert "'1760000000' is a number, as all cells of the column are" in message
    assert "date_format" not in message
