"""CSV on its way to the service: header row, number of rows, and conversion, piece by piece."""

from __future__ import annotations

import csv
import io
import math
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.retraining.data import (
    ArffMeter,
    CsvMeter,
    FileMeter,
    ParquetMeter,
    file_pieces,
    meter_of,
    parquet_pieces,
    row_pieces,
)
from airflow_provider_azureml_classic.tables import reading
from airflow_provider_azureml_classic.tables.rows import parse_rows


def cut(content: bytes, size: int) -> Iterator[bytes]:
    """The content in pieces."""
    return (content[start : start + size] for start in range(0, len(content), size))


def rows(content: bytes, size: int = 7) -> int:
    """Rows that pass a meter; everything passes unchanged."""
    meter = CsvMeter("data")
    assert b"".join(meter.watch(cut(content, size))) == content
    return meter.rows


@pytest.mark.parametrize(
    ("content", "count"),
    [
        (b"a,b\n", 0),
        (b"a,b", 0),
        (b"a,b\n1,2\n3,4\n", 2),
        (b"a,b\r\n1,2\r\n3,4", 2),
        (b"\n\na,b\n\n1,2\n\n\n", 1),
        (b'a,b\n"x\ny",2\n"p ""q""\n",4\n', 2),
        (b'a;b\n1;5" nail\n2;6" nail\n', 2),
        (b'"a","b"\n"",\n', 1),
        (b"\xef\xbb\xbfa,b\n1,2\n", 1),
        ("größe,b\n1,2\n".encode("latin-1"), 1),
    ],
    ids=["header", "no end", "rows", "windows", "blank", "quoted", "inches", "empty cells", "bom", "latin"],
)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_rows_are_counted(content: bytes, count: int, size: int) -> None:
    """Rows are counted below the header row, however the content is cut; blank and quoted line ends do not count."""
    assert rows(content, size) == count


@pytest.mark.slow
@settings(database=None, deadline=None, max_examples=200)
@given(st.lists(st.lists(st.text('ab", \n', max_size=4), min_size=2, max_size=2), max_size=6), st.integers(1, 9))
def test_rows_are_those_of_the_csv_module(cells: list[list[str]], size: int) -> None:
    """Whatever the csv module writes is counted as it counts."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows([["x", "y"], *cells])
    assert rows(buffer.getvalue().encode(), size) == len(cells)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "data is empty"),
        (b"\n \n", "data is empty"),
        (b"39,Private\n40,Public\n", "data has no header row: its first row has the number 39"),
        (b"a;b;1,5\n", "the number 1,5"),
        (b"a,b,a\n1,2,3\n", "has 'a' twice"),
        (b"PAR1\0\0", "data is not text"),
        (b"\n1,2\n", "the number 1 "),
        (b"\xff\xfe" + "例例".encode("utf-16-le"), "data is not text"),
        (b"\xfe\xff" + "例例".encode("utf-16-be"), "data is not text"),
        ("a,b\n1,2\n".encode("utf-16"), "data is not text in UTF-8"),
    ],
    ids=["nothing", "blank", "number", "decimal comma", "twice", "binary", "blank first", "little", "big", "utf-16"],
)
def test_header_row_is_needed(content: bytes, said: str) -> None:
    """What has no header row is refused, with what stands there instead."""
    with pytest.raises(ValueError, match=said):
        rows(content, 1000)


@pytest.mark.parametrize(
    "header",
    [
        b"aX1Xb,c",
        b"X1,b",
        # The delimiter is the one that is most frequent outside of quotes; in quotes it is none.
        b'"p;;;;",x;1;q,y,z,w',
        b'"p";x,1,y;z;w',
        b'a, "b,1,c"',
    ],
)
def test_what_looks_like_a_number_in_a_header(header: bytes) -> None:
    """It is one only if it is a whole cell."""
    assert rows(header + b"\n1,2\n", 1000) == 1


@pytest.mark.parametrize(
    ("content", "size", "count"),
    [
        (b'a,b\n1, "x\ny"\n', 1000, 1),
        (b'"a\nb",c\n1,2\n', 1000, 1),
        (b'a\n"x\ny"\n', 2, 1),
        (b'a,b\n1,X"x\n2,y"\n', 1000, 2),
    ],
)
def test_where_quotes_begin(content: bytes, size: int, count: int) -> None:
    """At the beginning of a cell, blanks aside, and of the file."""
    assert rows(content, size) == count


def test_a_header_behind_blank_lines_is_checked_whole() -> None:
    """Also where it is cut."""
    with pytest.raises(ValueError, match="the number 1 "):
        rows(b"\na,1\n2,3\n", 2)


def test_header_is_checked_first() -> None:
    """Data without a header row are refused before their first piece passes."""
    assert next(CsvMeter("data").watch(iter([b"a\n1\n"]))) == b"a\n1\n"
    with pytest.raises(ValueError, match="no header row"):
        next(CsvMeter("data").watch(iter([b"1\n2\n", b"3\n"])))


def test_an_index_column_may_have_no_name() -> None:
    """Unnamed columns pass, as the service takes them: pandas writes one."""
    assert rows(b",,a\n0,0,1\n") == 1


def test_rows_to_csv() -> None:
    """Rows become CSV batch by batch: absent cells are empty, and what needs quotes has them."""
    when = datetime(2026, 3, 1, 12, tzinfo=UTC)
    batches = [[(1, None, "a,b")], [(Decimal("1.50"), when, 'say "x"'), (True, date(2026, 3, 1), 0.1)]]
    first, second, rest = row_pieces(["n", "t", "s"], batches)
    assert first == b'n,t,s\n1,,"a,b"\n'
    assert second == b'1.50,2026-03-01 12:00:00+00:00,"say ""x"""\nTrue,2026-03-01,0.1\n'
    assert rest == b""
    assert b"".join(row_pieces(["n"], [])) == b"n\n"
    assert b"".join(row_pieces(["n"], [[["a\r\nb"]]])) == b'n\n"a\r\nb"\n'
    assert b"".join(row_pieces(["n"], [[(float("nan"),), (1.5,)]])) == b'n\n""\n1.5\n'


def test_file_in_pieces(tmp_path: Path) -> None:
    """A file is read in pieces."""
    (tmp_path / "x").write_bytes(b"x" * 600_000)
    with (tmp_path / "x").open("rb") as file:
        assert [len(piece) for piece in file_pieces(file)] == [262_144, 262_144, 75_712]


# -- Parquet -----------------------------------------------------------------------------------------------------------


def parquet(columns: dict[str, Any], rows_per_group: int = 10) -> io.BytesIO:
    """A Parquet file."""
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet as format_

    file = io.BytesIO()
    format_.write_table(arrow.table(columns), file, row_group_size=rows_per_group)
    file.seek(0)
    return file


def test_parquet() -> None:
    """Parquet becomes CSV with its column names, its absent cells empty and its text quoted where needed."""
    arrow = pytest.importorskip("pyarrow")
    category = arrow.array(["x", "y", None]).dictionary_encode()
    file = parquet({"a": [1, None, 3], "b, c": ["p", 'q"', None], "d": category, "e": [0.5, math.nan, 2.0]})
    text = b"".join(parquet_pieces(file, "x.parquet")).decode()
    found = list(csv.reader(io.StringIO(text)))
    assert found == [["a", "b, c", "d", "e"], ["1", "p", "x", "0.5"], ["", 'q"', "y", ""], ["3", "", "", "2"]]


def test_parquet_in_batches() -> None:
    """A large file is converted in several pieces, and none of its rows is lost."""
    pieces = list(parquet_pieces(parquet({"a": list(range(120_000))}, 60_000), "x.parquet"))
    assert len(pieces) > 2
    assert b"".join(pieces).split()[1:] == [str(n).encode() for n in range(120_000)]


def test_parquet_without_rows() -> None:
    """A file without rows is a header row."""
    arrow = pytest.importorskip("pyarrow")
    assert b"".join(parquet_pieces(parquet({"a": arrow.array([], arrow.int64())}), "x")) == b"a\n"


def test_nested_parquet() -> None:
    """Lists cannot be written as CSV; the column is named."""
    with pytest.raises(RequestRejected, match=r"x\.parquet: Column 'tags' of the Parquet file holds list"):
        list(parquet_pieces(parquet({"a": [1], "tags": [["x"]]}), "x.parquet"))


def test_not_parquet() -> None:
    """A file that only is called so is refused by name."""
    pytest.importorskip("pyarrow")
    with pytest.raises(RequestRejected, match=r"x\.parquet: The Parquet file cannot be read"):
        list(parquet_pieces(io.BytesIO(b"a,b\n1,2\n"), "x.parquet"))


def test_parquet_without_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyarrow one sentence says what to install."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"needs pyarrow and numpy, which are not installed"):
        list(parquet_pieces(io.BytesIO(), "x.parquet"))


ARFF = (
    b"% said\n@RELATION r\n@attribute a numeric\n\n@attribute 'b c' {x,'y z'}\n@data\n1,x\n% said\n\n2,'y z'\r\n{0 1}"
)


@pytest.mark.slow
@settings(database=None, deadline=None, max_examples=50)
@given(st.lists(st.lists(st.text('ab", \n', max_size=4), min_size=2, max_size=2), max_size=6), st.integers(1, 9))
def test_with_the_library_all_passes(cells: list[list[str]], size: int) -> None:
    """Whatever the csv module writes is passed on as it is by the meter that reads it."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows([["x", "y"], *cells])
    meter = meter_of("data", "CSV")
    assert isinstance(meter, FileMeter)
    assert b"".join(meter.watch(cut(buffer.getvalue().encode(), size))) == buffer.getvalue().encode()
    assert meter.rows == len(cells)


def test_a_file_is_read_as_it_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows are counted over all its parts; what the service would refuse is refused by name."""
    meter = FileMeter("data", "CSV")
    assert b"".join(meter.watch(cut(b"a,b\n1,2\n3,4\n", 5))) == b"a,b\n1,2\n3,4\n"
    assert (meter.rows, meter.name) == (2, "data")
    with pytest.raises(RequestRejected, match=r"^data: ") as caught:
        list(FileMeter("data", "CSV").watch(cut(b"a,b\n1,2,3\n", 1000)))
    assert caught.value.detail_code == "InputParseError"
    parts = [SimpleNamespace(rows=2), SimpleNamespace(rows=3)]
    monkeypatch.setattr(reading, "blocks", lambda *_, **__: iter(parts))
    meter = FileMeter("data", "CSV")
    list(meter.watch(iter([b"a"])))
    assert meter.rows == 5


def test_parquet_passes_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read before, from its start to its end, if the library is there."""
    file = parquet({"a": list(range(25))})
    meter = meter_of("data", "Parquet")
    assert isinstance(meter, ParquetMeter)
    assert meter.rows == 0
    meter.check(file)
    assert (meter.rows, meter.name, file.tell()) == (25, "data", 0)
    assert list(meter.watch(iter([b"a", b"b"]))) == [b"a", b"b"]
    with pytest.raises(RequestRejected, match=r"^data: ") as caught:
        meter.check(io.BytesIO(b"PAR1"))
    assert caught.value.detail_code == "InputParseError"
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    meter.check(io.BytesIO(b"PAR1"))
    assert meter.rows is None


def test_without_the_library_rows_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker without pyarrow uploads as before; the server reads the file."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for title, kind in (("CSV", CsvMeter), ("ARFF", ArffMeter)):
        meter = meter_of("data", title)
        assert isinstance(meter, kind)
        assert meter.name == "data"
    with pytest.raises(ValueError, match=r"rows\.csv cannot be read: that needs pyarrow"):
        parse_rows(b"a\n1\n", "rows.csv")


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_rows_of_arff_are_counted(size: int) -> None:
    """One row a line behind the declarations, however the content is cut; comments and blank lines are none."""
    meter = ArffMeter("data")
    assert b"".join(meter.watch(cut(b"\xef\xbb\xbf" + ARFF, size))).endswith(ARFF)
    assert meter.rows == 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "data is not ARFF: There is no @data"),
        (b"a,b\n1,2\n", "data is not ARFF: 'a,b' stands before @data"),
        (b"x" * 3000, "data is not ARFF: 'xxx"),
        (b"@relation r\n@data\n1\n", "No @attribute"),
        (b"@attribute a what\n@data\n", "Line 1 declares an attribute as 'a what'"),
        (b"@attribute a real\n@attribute a real\n@data\n", "data has two columns of one name.* has 'a' twice"),
        (b"Xa\n@attribute a real\n@data\n", "'Xa' stands before @data"),
        (b"\xffa,b\n", "data is not ARFF: '\ufffda,b' stands before @data"),
        (b"@attribute a real\n", "There is no @data"),
    ],
)
def test_declarations_are_needed(content: bytes, said: str) -> None:
    """What has none is refused, with what stands there instead."""
    with pytest.raises(ValueError, match=said):
        list(ArffMeter("data").watch(cut(content, 1000)))


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_names_of_attributes(size: int) -> None:
    """A number may be one, and so may a name in another encoding; blanks before a declaration do not count."""
    content = b"    @relation r\n  @attribute 1 real\n@attribute gr\xf6\xdfe real\n@data\n1,2\n"
    meter = ArffMeter("data")
    assert b"".join(meter.watch(cut(content, size))) == content
    assert meter.rows == 1
