"""ARFF, read and written: the format as Weka's documentation has it, and what other programs write."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import arff as scipy_arff

from airflow_provider_azureml_classic.protocol import arff
from airflow_provider_azureml_classic.protocol.arff import (
    DATE,
    NOMINAL,
    NUMERIC,
    STRING,
    ArffError,
    ArffWriter,
    Attribute,
    read_arff,
)

HEADER = "@relation r\n@attribute n numeric\n@attribute c {a,b}\n@attribute s string\n@data\n"


def read(text: str) -> tuple[tuple[Attribute, ...], list[list[str]]]:
    """Columns and rows of a text."""
    attributes, rows = read_arff(io.StringIO(text, newline=""))
    return attributes, list(rows)


def written(attributes: list[Attribute], rows: list[list[str]], missing: tuple[str, ...] = ()) -> str:
    """The text of a table."""
    stream = io.StringIO(newline="")
    ArffWriter(stream, "r s", attributes, missing).writerows(rows)
    return stream.getvalue()


def test_declarations() -> None:
    """Keywords in any case, every type, names and values in either quotes, comments."""
    attributes, rows = read(
        "% a comment\n\n@RELATION 'two words'\n"
        "@Attribute 'x y' NUMERIC % another\n@attribute z Real\n@attribute i\tInteger\n"
        '@attribute cls{a, \'b c\' ,"d\\"e",50%}\n@attribute "it\'s" STRING\n'
        "@attribute d date 'yyyy-MM-dd'\n@attribute n1 real%c\n@attribute n2 { 'a}b',?} % {d, e}\n@DATA\n"
    )
    assert attributes == (
        Attribute("x y", NUMERIC),
        Attribute("z", NUMERIC),
        Attribute("i", NUMERIC),
        Attribute("cls", NOMINAL, ("a", "b c", 'd"e', "50%")),
        Attribute("it's", STRING),
        Attribute("d", DATE),
        Attribute("n1", NUMERIC),
        Attribute("n2", NOMINAL, ("a}b", "")),
    )
    assert rows == []


@pytest.mark.parametrize(
    ("line", "cells"),
    [
        ("1,a,x", ["1", "a", "x"]),
        (" 1.50 , 'a' , \"x, y\" ", ["1.50", "a", "x, y"]),
        ("1\ta\tx", ["1", "a", "x"]),
        ("?,?,?", ["", "", ""]),
        ("? , ?,'?'", ["", "", "?"]),
        (r"1,a,'it\'s \\ \n \t \u00e9 \%'", ["1", "a", "it's \\ \n \t é %"]),
        ("1,a,two words", ["1", "a", "two words"]),
        ("1,a,50%", ["1", "a", "50%"]),
        ("1,a,x % said", ["1", "a", "x"]),
        ("1,,x", ["1", "", "x"]),
        ("1,,'x'", ["1", "", "x"]),
        ("1 ,?, x", ["1", "", "x"]),
        (r"1,a,'\u20ac'", ["1", "a", "€"]),
        ("1,a", ["1", "a"]),
        ("{0 5, 2 'y z'}", ["5", "a", "y z"]),
        ("{1 b}", ["0", "b", ""]),
        ("{ 1 ?,2 ? } % said", ["0", "", ""]),
        ("{}", ["0", "a", ""]),
    ],
)
def test_rows(line: str, cells: list[str]) -> None:
    """A missing cell is empty, a cell in quotes is text; what a sparse row leaves out is zero, not missing."""
    assert read(f"{HEADER}% a comment\r\n\r\n{line}\r\n{line}\r\n")[1] == [cells, cells]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "There is no @data"),
        ("a,b\n1,2\n", "Line 1 is 'a,b'"),
        ("@relation r\n@data\n1\n", "No @attribute"),
        ("@attribute a\n@data\n", "Line 1 declares an attribute as 'a'"),
        ("@attribute 'a numeric\n@data\n", "Line 1 declares"),
        ("@attribute a relational\n", "Line 1 declares"),
        ("@attribute a {x,y\n", "Line 1 declares"),
        (f"{HEADER}'1,a,x\n", "Line 6 cannot be read from"),
        (f"{HEADER}1,'a'b,x\n", "Line 6 cannot be read from 'b,x'"),
        (f"{HEADER}1,a,x,{{5}}\n", "Weights of rows"),
        (f"{HEADER}{{0 1}}, {{5}}\n", "Weights of rows"),
        (f"{HEADER}{{3 1}}\n", "a sparse row is"),
        (f"{HEADER}{{0 1, 0 2}}\n", "different indices"),
        (f"{HEADER}{{0 1\n", "Line 6 cannot be read from its end on"),
        (f"{HEADER}{{0}}\n", "Line 6 cannot be read from '0}' on; a sparse row is"),
        (f"{HEADER}{{0 1}}x\n", "Line 6 cannot be read from '}x' on"),
        ("@attribute a {x, 'y'z}\n@data\n", "Line 1 cannot be read from 'z}' on; a value with quotes"),
        ("@attribute a {x, 'y}'\n@data\n", "Line 1 cannot be read from its end on"),
        ("@attribute\n", "Line 1 declares an attribute as ''"),
        (f"{'x' * 60}\n", f"Line 1 is '{'x' * 60}';"),
        (f"{'x' * 61}\n", f"Line 1 is '{'x' * 57}...';"),
    ],
)
def test_what_is_no_arff(text: str, said: str) -> None:
    """It is refused with its line and what was expected there."""
    with pytest.raises(ArffError, match=said):
        read(text)


def test_what_a_sparse_row_leaves_out() -> None:
    """Zero, or the first of the values; texts have none, nor has a column without values."""
    columns = (NUMERIC, ()), (NOMINAL, ("b", "a")), (NOMINAL, ()), (STRING, ()), (DATE, ())
    assert [Attribute("x", kind, values).absent for kind, values in columns] == ["0", "b", "", "", ""]


def test_the_text_that_is_written() -> None:
    """Words as they are, everything else in quotes; of the values of a column all in quotes or none; numbers never."""
    attributes = [
        Attribute("n", NUMERIC), Attribute("a b", NOMINAL, ("x", "y")), Attribute("c", NOMINAL, ("x", "it's")),
        Attribute("s", STRING), Attribute("@d", DATE),
    ]  # fmt: skip
    rows = [["1e5", "x", "it's", "word", "2026-03-01"], ["?5", "z,", "x", "a\tb\\", ""], ["-", "-", "-", "-", "-"]]
    assert written(attributes, rows, missing=("-",)) == (
        "@relation 'r s'\n\n@attribute n numeric\n@attribute 'a b' {x,y}\n@attribute c {'x','it\\'s'}\n"
        "@attribute s string\n@attribute '@d' date\n\n@data\n"
        "1e5,x,'it\\'s',word,2026-03-01\n?5,'z,','x','a\\tb\\\\',?\n?,?,?,?,?\n"
    )


def test_sparse_rows_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few bytes a row cannot stand for any number of cells."""
    monkeypatch.setattr(arff, "FREE_SPARSE_CELLS", 6)
    monkeypatch.setattr(arff, "SPARSE_CELLS_A_LETTER", 0)
    columns = len(read(f"{HEADER}{{}}\n")[0])
    rows = 6 // columns
    assert len(read(HEADER + "{}\n" * rows)[1]) == rows
    with pytest.raises(ArffError, match="stand for more than"):
        read(HEADER + "{}\n" * (rows + 1))
    monkeypatch.setattr(arff, "SPARSE_CELLS_A_LETTER", columns)
    assert len(read(HEADER + "{}\n" * 100)[1]) == 100


@pytest.mark.slow
def test_rows_are_read_one_at_a_time() -> None:
    """However many rows there are, those that were read are not held."""

    def lines() -> Iterator[str]:
        yield from HEADER.splitlines(keepends=True)
        for number in range(100_000):
            yield f"{number},a,'a rather long text of row {number}'\n"

    tracemalloc.start()
    _, rows = read_arff(lines())
    assert sum(1 for _ in rows) == 100_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


CELL = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBER = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False)).map(repr)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Attribute], list[list[str]]]:
    """Columns of all kinds with any names, and rows that fit."""
    names = draw(st.lists(CELL.filter(bool), min_size=1, max_size=4, unique=True))
    attributes, cells = [], []
    for name in names:
        kind = draw(st.sampled_from([NUMERIC, NOMINAL, STRING, DATE]))
        values = draw(st.lists(CELL.filter(bool), min_size=1, max_size=4, unique=True)) if kind == NOMINAL else []
        attributes.append(Attribute(name, kind, tuple(values)))
        filled = {NUMERIC: NUMBER, NOMINAL: st.sampled_from(values or [""])}.get(kind, CELL)
        cells.append(st.one_of(st.just(""), filled))
    return attributes, draw(st.lists(st.tuples(*cells).map(list), max_size=5))


@pytest.mark.slow
@settings(database=None, deadline=None, max_examples=300)
@given(tables())
def test_what_is_written_is_read(table: tuple[list[Attribute], list[list[str]]]) -> None:
    """Any names, values and texts, of whatever characters, come back as they were, missing ones too."""
    attributes, rows = table
    assert read(written(attributes, rows)) == (tuple(attributes), rows)


@pytest.mark.slow
@settings(database=None, deadline=None, max_examples=300)
@given(st.text("ab,'\"{}%\\? \t0", max_size=12))
def test_any_line_is_read_or_refused(line: str) -> None:
    """Quotes, braces and escapes in any order are cells or an error with a line, never something else."""
    said = "Line 6"
    try:
        read(f"{HEADER}{line}\n")
    except ArffError as error:
        said = str(error)
    assert "Line 6" in said


@pytest.mark.parametrize("first", ["?", "1"])
def test_scipy_reads_what_is_written(first: str) -> None:
    """An independent reader finds the numbers, the categories and what is missing, quotes and all."""
    attributes = [
        Attribute("Scored Labels", NOMINAL, ("<=50K", ">50K")),
        Attribute('Scored Probabilities for Class ">50K"', NUMERIC),
        Attribute("job", NOMINAL, ("it, or so", "craft")),
    ]
    rows = [[">50K", first, "craft"], ["<=50K", "0.25", "it, or so"], ["", "NaN", "craft"]]
    text = written(attributes, rows, missing=("?", "NaN"))
    data, meta = scipy_arff.loadarff(io.StringIO(text))
    assert meta.names() == [attribute.name for attribute in attributes]
    assert [row[0] for row in data] == [b">50K", b"<=50K", b"?"]
    assert [row[2] for row in data] == [b"craft", b"it, or so", b"craft"]
    expected = [float("nan") if first == "?" else 1.0, 0.25, float("nan")]
    np.testing.assert_array_equal([row[1] for row in data], expected)


def test_attributes_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more are read than a table may have columns."""
    monkeypatch.setattr(arff, "MAX_COLUMNS", 3)
    assert len(read(HEADER)[0]) == 3
    with pytest.raises(ArffError, match="more than 3 attributes"):
        read(HEADER.replace("@data", "@attribute d real\n@attribute"))


def test_a_text_takes_what_its_letters_take() -> None:
    """Whatever it is made of, and whether or not it ends."""
    for cell in ("'" + "\\\\" * 100_000 + "'", "'" + "x\\'" * 100_000, "a %" + "b%" * 100_000):
        tracemalloc.start()
        try:
            with suppress(ArffError):
                read(f"@relation r\n@attribute s string\n@data\n{cell}\n")
            assert tracemalloc.get_traced_memory()[1] < 20 * len(cell)
        finally:
            tracemalloc.stop()
