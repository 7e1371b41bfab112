"""Files in, tables of texts out: rows, cells, delimiters, quotes, and errors that name the row."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.tables import delimited, quotes, reading
from airflow_provider_azureml_classic.tables import parquet as parquet_module
from airflow_provider_azureml_classic.tables.delimited import DelimitedParser
from tests.tables.support import CASES, case, read, rows


def refusal(content: str | bytes, title: str = "CSV", encoding: str | None = None) -> str:
    """The message with which a file is refused; never longer than a person reads."""
    with pytest.raises(RequestRejected) as caught:
        read(content, title, encoding)
    assert len(caught.value.message) < 500
    return caught.value.message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a,b\n1,2\n", [["1", "2"]]),
        ("\n \n\na,b\n\n1,2\n   \n3,4\n\n", [["1", "2"], ["3", "4"]]),
        ("a,b\n1,\n,\n,2", [["1", ""], ["", ""], ["", "2"]]),
        (' a , "b" \n "x, y" , 5" nail \n', [["x, y", '5" nail']]),
        ('a,b\n"p ""q""",""\n"" ,"r"s\n', [['p "q"', ""], ["", "rs"]]),
        ("a;b\r\n1,5;2\r\n", [["1,5", "2"]]),
        ("a\tb\r1\t2\r", [["1", "2"]]),
        ('"length\nin cm";y\n0,5;0\n', [["0,5", "0"]]),
        ('"a,b";c\n1;2\n', [["1", "2"]]),
        ("price, EUR;n\n1,5;3\n2,5;4\n", [["1,5", "3"], ["2,5", "4"]]),
        ("a;x,b\n1;2,3\n5,4\n6,7\n", [["1;2", "3"], ["5", "4"], ["6", "7"]]),
        ("x\n1\n\n50\n", [["1"], [""], ["50"]]),
        ("x\r\n1\r\n\r\n\r\n50", [["1"], [""], [""], ["50"]]),
        ("x\n\n\n", [[""], [""]]),
        ('"x"\n1;2\n3;4\n', [["1;2"], ["3;4"]]),
        ("a|b\n1,5|2\n", [["1,5", "2"]]),
        ('a|"b|c"\n1|"2|3"\n', [["1", "2|3"]]),
        ("a,b\nx|y|z,1\nu|v|w,2\n", [["x|y|z", "1"], ["u|v|w", "2"]]),
        ("sep=;\r\na,b;c\r\n1,5;2\r\n", [["1,5", "2"]]),
        ('"SEP=|"\na;b|c\n1|2\n', [["1", "2"]]),
        ("sep=\t\na\n1\n", [["1"]]),
        ("sep=,x\n1,2\n", [["1", "2"]]),
        ("city,2019,2020,2021\nRome,1,2,3\n", [["Rome", "1", "2", "3"]]),
    ],
)
def test_rows_and_cells(content: str, expected: list[list[str]]) -> None:
    """Blanks around a cell are none of it; blank lines are passed over unless the file has one column."""
    assert rows(read(content)) == expected


def test_a_named_delimiter_is_no_row() -> None:
    """Excel's line ``sep=;`` is not counted as a row, and one that names another sign is refused."""
    assert "at data row 2:" in refusal(
        "sep=;\na;b\n1;2\n\xe4;\xff\n3;4\n".encode("latin-1") + "\u20ac;1\n".encode() * 9
    )
    assert refusal("sep=:\na:b\n1:2\n") == "The CSV begins with 'sep=:': expected a comma, a semicolon, a tab or |."


def test_tsv_without_a_tab() -> None:
    """A file that is named .tsv and has no tab in its header row is read as CSV is."""
    assert rows(read("a,b\n1,2\n", "TSV")) == [["1", "2"]]
    assert rows(read("a,b\tc\n1,2\t3\n", "TSV")) == [["1,2", "3"]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty; expected a header row and data rows"),
        (" \n\n", "is empty"),
        ("a,b\n", "has a header row but no data rows"),
        ("1,2\n3,4\n", "needs a header row: its first row has the number 1 for a name"),
        ("a,b,a\n1,2,3\n", "'a' twice"),
        ("a,b\n1,2\n\n3\n", "Data row 2 has 1 cell; the header row has 2: '3'. It is the last row: the file may"),
        ("a,b\n1,2\n3,4,5\n6,7\n", "Data row 2 has 3 cells; the header row has 2: '3,4,5'."),
        ('a,b\n1,2\n"3,4\n5,6\n', "in data row 2 a quote that opens a cell is never closed"),
        ('a,"b\n1,2\n', "in the header row a quote that opens a cell is never closed"),
        ('a,b\n1,"5 in\n2,"6 in\n3,4\n', "in data row 1 a quote opens a cell and the next quote does not end one"),
        ('x\n1\n"5 in\n6\n"7 in\n', "in data row 2 a quote opens a cell and the next quote does not end one"),
        ("a,b\n1,x\0y\n", "data row 1 has a zero byte"),
        ("PAR1....", "it is a Parquet file; its name must end in .parquet"),
        ("PK\x03\x04...", "save it as CSV"),
    ],
)
def test_refused(content: str, said: str) -> None:
    """What cannot be read as it was meant is refused, with the row."""
    assert said in refusal(content)


@pytest.mark.parametrize("small", [0, 1 << 20], ids=["at once", "walked"])
@pytest.mark.parametrize("later", [3, 20, 400])
@pytest.mark.parametrize("header", ["x,y,note", "x;y;note", "note,y,x"])
def test_a_quote_that_closes_by_accident(monkeypatch: pytest.MonkeyPatch, header: str, later: int, small: int) -> None:
    """A cell that has swallowed rows is refused with the row in which it began, wherever its column stands."""
    monkeypatch.setattr(quotes, "_SMALL", small)
    sign = ";" if ";" in header else ","
    lines = [sign.join((str(i), "a", "fine") if header[0] == "x" else ("fine", "a", str(i))) for i in range(1000)]
    for position in (100, 100 + later):
        quoted = '"5 inch' if position == 100 else '6 inch"'
        lines[position] = lines[position].replace("fine", quoted)
    assert "in data row 101 a quote opens a cell" in refusal("\n".join([header, *lines]))


def test_cells_of_many_lines() -> None:
    """Texts of several lines are read, also with commas like a row's in each; beyond a bound they are not."""
    letter = "Dear all,\nthanks, and\nsee you, soon\n\nbye, X"
    assert rows(read(f'id,text\n1,"{letter}"\n2,ok\n')) == [["1", letter], ["2", "ok"]]
    long = "\n".join(["line"] * (delimited.MAX_LINES + 1))
    assert len(rows(read(f'id,text\n1,"{long}"\n'))) == 1
    assert "data row 2 a quote opens a cell of 502 lines" in refusal(f'id,text\n0,x\n1,"{long}\nx"\n')


def test_a_row_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row longer than the bound is refused before it is whole, and so is a header row."""
    monkeypatch.setattr(delimited, "BLOCK", 1 << 18)
    monkeypatch.setattr(delimited, "MAX_RECORD", 1 << 20)
    assert "data row 2: it is longer than 1 MiB" in refusal("a,b\n1,2\n" + "x" * (1 << 21))
    assert "data row 2 a quote that opens a cell is never closed within 1 MiB" in refusal(
        'a,b\n1,2\n"' + "x" * (1 << 21)
    )
    assert "the header row: it is longer than 1 MiB" in refusal("x" * (1 << 21))


@pytest.mark.parametrize("name", ["21/last_column.csv", "21/label_last.csv"])
@pytest.mark.parametrize("size", [1, 1000, 1 << 20])
def test_unclosed_in_pieces(name: str, size: int) -> None:
    """The row in which a quote opened is named, however the file arrives."""
    content = (CASES / name).read_bytes()
    parser = DelimitedParser("CSV")
    for start in range(0, len(content), size):
        list(parser.feed(content[start : start + size]))
    with pytest.raises(RequestRejected, match="in data row 101 a quote that opens a cell is never closed"):
        list(parser.close())


def test_rows_in_later_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are numbered through all blocks; columns that repeat their cells and such that do not are kept alike."""
    monkeypatch.setattr(delimited, "BLOCK", 200)
    lines = [f"{i},{'ab'[i % 2]},{i * 7 % 100}" for i in range(500)]
    table = read("\n".join(["id,kind,n", *lines]))
    assert rows(table) == [line.split(",") for line in lines]
    lines[321] = "321,a"
    assert "Data row 322 has 2 cells" in refusal("\n".join(["id,kind,n", *lines]))
    assert "the file may have been cut off" not in refusal("\n".join(["id,kind,n", *lines]))


@pytest.mark.parametrize("block", range(4, 10))
def test_a_line_end_that_is_cut(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """A block that ends between the two signs of a line end does not make a row more."""
    monkeypatch.setattr(delimited, "BLOCK", block)
    assert rows(read("x\r\n1\r\n\r\n22\r\n3\r\n")) == [["1"], [""], ["22"], ["3"]]


def test_blocks_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is given in blocks, each of which knows the number of its first row."""
    monkeypatch.setattr(delimited, "BLOCK", 1000)
    content = "a,b\n" + "1,2\n" * 1000
    blocks = list(reading.blocks(content.encode(), "CSV"))
    assert len(blocks) > 3
    assert [block.before for block in blocks] == [sum(b.rows for b in blocks[:i]) for i in range(len(blocks))]
    assert sum(block.rows for block in blocks) == 1000


def test_wanted_columns() -> None:
    """Only the columns that are wanted are kept, but rows are checked as a whole; without a name none is."""
    table = reading.read(b"a,,b\n1,2,3\n", "CSV", wanted={"b", "z", None})
    assert (table.names, table.rows) == (("b",), 1)
    assert read("a,,b\n1,2,3\n").names == ("a", "b")
    none = reading.read(b"a,b\n1,2\n3,4\n", "CSV", wanted=())
    assert (none.names, none.rows) == ((), 2)
    with pytest.raises(RequestRejected, match="expected the columns label"):
        reading.read(b"a,b\n1,2\n", "CSV", expected=["label"])


def test_names_need_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """The header row is read without a library, also in another encoding and with quotes."""
    for name in ("pyarrow", "numpy", "pyarrow.csv"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    assert reading.read_names(CASES / "18" / "break.csv", "CSV") == ("length\nin cm", "y")
    assert reading.read_names(CASES / "03" / "column_name.csv", "CSV") == ("Preis €", "y")
    assert reading.read_names(CASES / "15" / "utf16.csv", "CSV") == ("x", "z", "y")
    assert reading.read_names(b"@relation r\n@attribute 'a b' numeric\n@data\n1\n", "ARFF") == ("a b",)
    assert not reading.installed()


def test_arff() -> None:
    """ARFF gives the same tables; what the file declares is checked."""
    head = "@relation r\n@attribute n numeric\n@attribute c {a, b}\n@attribute s string\n@data\n"
    table = read(head + "1,a,'x y'\n?,b,?\n", "ARFF")
    assert rows(table) == [["1", "a", "x y"], ["", "b", ""]]
    assert "Column 'c', row 2: 'z', but the ARFF declares the column as nominal" in refusal(
        head + "1,a,x\n2,z,y\n", "ARFF"
    )
    assert "Data row 1 has 2 cells; the ARFF declares 3" in refusal(head + "1,a\n", "ARFF")
    assert "Line 7: the byte 0xFF is not UTF-8" in refusal(head.encode() + b"1,a,\xc3\xa9\n1,a,\xff\n", "ARFF")


def test_parquet(tmp_path: Path) -> None:
    """Texts stay texts, numbers numbers; truth values and times are spelled; null and NaN are no value."""
    path = tmp_path / "t.parquet"
    times = pa.array([0, None, 86_400_000], pa.timestamp("ms"))
    columns = {
        "n": [1.5, float("nan"), None],
        "i": [1, 2, None],
        "s": ["a", "", None],
        "b": [True, False, None],
        "t": times,
        "d": times.cast(pa.date32()),
        "c": pa.array(["x", "y", "x"]).dictionary_encode(),
    }
    parquet.write_table(pa.table(columns), path)
    table = reading.read(path, "Parquet")
    assert rows(table) == [
        ["1.5", "1", "a", "true", "1970-01-01T00:00:00.000", "1970-01-01", "x"],
        ["", "2", "", "false", "", "", "y"],
        ["", "", "", "", "1970-01-02T00:00:00.000", "1970-01-02", "x"],
    ]
    assert pa.types.is_dictionary(table.columns["s"].type), "texts that repeat must not be written out"
    assert reading.read_names(path, "Parquet") == tuple(columns)
    assert reading.read(path, "Parquet", wanted={"s"}).names == ("s",)


def test_parquet_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damaged files, lists, and files that stand for far more than they are."""
    path = tmp_path / "t.parquet"
    assert "cannot be read" in refusal(b"PAR1 no", "Parquet")
    parquet.write_table(pa.table({"x": [[1], [2]]}), path)
    with pytest.raises(RequestRejected, match="Column 'x' of the Parquet file holds list"):
        reading.read(path, "Parquet")
    parquet.write_table(pa.table({"x": pa.array([1.0] * 1_000_000)}), path)
    assert reading.read(path, "Parquet").rows == 1_000_000
    monkeypatch.setattr(parquet_module, "_ALWAYS", 1000)
    with pytest.raises(RequestRejected, match="more than 200 times the size"):
        reading.read(path, "Parquet")
    monkeypatch.setattr(parquet_module, "MAX_CELLS", 1000)
    with pytest.raises(RequestRejected, match="1,000,000 rows of 1 columns, more than 1,000 cells"):
        reading.read(path, "Parquet")


def test_sources() -> None:
    """A path, the content, and an open file are alike; the extension says the format."""
    path = CASES / "11" / "ints.csv"
    expected = rows(case("11/ints.csv"))
    assert rows(reading.read(path.read_bytes(), "CSV")) == expected
    with path.open("rb") as file:
        assert rows(reading.read(file, "CSV")) == expected
    assert rows(reading.read(io.BytesIO(path.read_bytes()), "CSV")) == expected
    names = ("a/b.CSV", "b.tsv", "c.Arff", "d.parquet", "e")
    assert [reading.title_of(name) for name in names] == ["CSV", "TSV", "ARFF", "Parquet", "CSV"]


@pytest.mark.parametrize("cell", [r'"say \"hi\" now"', r'"say \"hi, you\" now"'])
def test_quotes_behind_backslashes(cell: str) -> None:
    """Another way to write quotes than that of CSV is refused, however the rows are cut; a path may end in one."""
    for rest in ("", "1,2\n" * 2000):
        with pytest.raises(RequestRejected, match="in data row 1 a backslash stands before a quote within a cell"):
            read(f"x,y\n{cell},1\n{rest}")
    assert rows(read('x,y\n"C:\\dir\\",1\n')) == [["C:\\dir\\", "1"]]


def test_marks_within_a_file() -> None:
    """Files that were put together have byte order marks in the middle: no part of a cell, and no end of a header."""
    assert rows(read("\ufeffx,y\n1,2\n\ufeff3,4\n")) == [["1", "2"], ["3", "4"]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("x,y\n1,2,\n3,4,\n", "each row ends in a delimiter"),
        ("x,y\na,1,2\nb,3,4\n", "the rows begin with names of their own"),
        ("# made today\nx,y\n1,2\n", r"the header row has 1 \('# made today'\)"),
    ],
)
def test_rows_with_one_cell_more(content: str, said: str) -> None:
    """The habits of other programs are named with what to do."""
    with pytest.raises(RequestRejected, match=said):
        read(content)
