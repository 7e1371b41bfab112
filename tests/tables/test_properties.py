"""Whatever Python's own csv module writes is read as it reads it, however the file is cut, ended and encoded."""

from __future__ import annotations

import csv
import io
from unittest import mock

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.tables import delimited, quotes
from airflow_provider_azureml_classic.tables.delimited import DelimitedParser
from airflow_provider_azureml_classic.tables.quotes import QuoteFault, whole_rows
from tests.tables.support import read, rows

_CELL = st.text('ab1é€,;\t" \r\n', max_size=6)
_TABLE = st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(_CELL, min_size=width, max_size=width), min_size=1))


def written(table: list[list[str]], delimiter: str, end: str, quoting: int) -> str:
    """A file as the csv module writes it, with a header row."""
    stream = io.StringIO(newline="")
    # The writer quotes only the line end that it writes itself.
    quoting = csv.QUOTE_ALL if any({"\r", "\n"} & set(cell) for row in table for cell in row) else quoting
    writer = csv.writer(stream, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerows([[f"column {number}" for number in range(len(table[0]))], *table])
    return stream.getvalue()


@pytest.mark.slow
@settings(database=None, deadline=None, max_examples=150)
@given(
    table=_TABLE,
    delimiter=st.sampled_from(",;\t"),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    block=st.integers(1, 40),
    small=st.booleans(),
)
def test_well_formed_files(
    table: list[list[str]], delimiter: str, end: str, quoting: int, encoding: str, block: int, small: bool
) -> None:
    """Every row and every cell, without the blanks around it."""
    # With one column nothing tells the delimiter but a comma.
    text = written(table, delimiter if len(table[0]) > 1 else ",", end, quoting)
    with mock.patch.multiple(delimited, BLOCK=block), mock.patch.multiple(quotes, _SMALL=100 if small else 0):
        found = rows(read(text.encode(encoding)))
    assert found == [[cell.strip() for cell in row] for row in table]


@pytest.mark.slow
@settings(database=None, deadline=None, max_examples=80)
@given(table=_TABLE, size=st.integers(1, 30), final=st.booleans())
def test_pieces(table: list[list[str]], size: int, final: bool) -> None:
    """How many rows there are does not depend on how a file arrives, nor on its last line end."""
    text = written(table, ",", "\n", csv.QUOTE_MINIMAL)
    content = (text if final or len(table[0]) == 1 else text.removesuffix("\n")).encode()
    parser = DelimitedParser("CSV")
    with mock.patch.multiple(delimited, BLOCK=64):
        counts = [
            one.rows for start in range(0, len(content), size) for one in parser.feed(content[start : start + size])
        ]
        counts += [one.rows for one in parser.close()]
    assert sum(counts) == parser.rows == len(table)


@pytest.mark.slow
@settings(database=None, deadline=None, max_examples=500)
@given(text=st.text('ab,"\n \r', max_size=24), final=st.booleans())
def test_both_ways_to_find_quotes_agree(text: str, final: bool) -> None:
    """What all neighbours of quotes tell at once is what a walk from cell to cell tells."""
    assume('"' in text)
    found = []
    for small in (0, 1000):
        with mock.patch.multiple(quotes, _SMALL=small):
            try:
                found.append(whole_rows(text.encode(), b",", final=final))
            except QuoteFault as fault:
                found.append(fault.message)
    assert found[0] == found[1]


@pytest.mark.slow
@settings(database=None, deadline=None, max_examples=80)
@given(table=_TABLE, position=st.integers(0), sign=st.sampled_from(['"', ",", "\n"]))
def test_a_damaged_file_loses_no_row(table: list[list[str]], position: int, sign: str) -> None:
    """One sign more: an error, or as many rows as the csv module's reader finds."""
    text = written(table, ",", "\n", csv.QUOTE_MINIMAL)
    start = text.index("\n") + 1
    position = start + position % (len(text) - start + 1)
    damaged = text[:position] + sign + text[position:]
    try:
        found = rows(read(damaged))
    except RequestRejected as error:
        event("refused")
        if "data row" not in error.message.lower():
            raise
        return
    again = list(csv.reader(io.StringIO(damaged, newline=""), skipinitialspace=True))
    width = len(table[0])
    expected = [row for row in again[1:] if width == 1 or len(row) == width or any(map(str.strip, row))]
    assert len(found) == len(expected)
