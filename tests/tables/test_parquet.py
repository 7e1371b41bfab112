"""Parquet that stands for more than it looks like, that is damaged, and that Spark writes."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.tables import parquet
from airflow_provider_azureml_classic.tables.parquet import parquet_tables
from tests.support.memory import peak

MIB = 1 << 20
LONG = "a" * (MIB - 100_000)


def written(cells: Any, **options: Any) -> bytes:
    """A file of one column; its pages are as large as they may be."""
    buffer = io.BytesIO()
    usual = {"compression": "zstd", "use_dictionary": False, "write_statistics": False, "data_page_size": 1 << 30}
    pq.write_table(pa.table({"x": cells}), buffer, **usual | options)
    return buffer.getvalue()


def read(content: bytes) -> list[Any]:
    """All cells."""
    return [cell for table in parquet_tables(io.BytesIO(content)) for cell in table.columns["x"].to_pylist()]


DICTIONARY = {"use_dictionary": True, "dictionary_pagesize_limit": 1 << 30}
SHARED = {"column_encoding": {"x": "DELTA_BYTE_ARRAY"}}
BOMBS: dict[str, Callable[[], bytes]] = {
    "a page of zeros": lambda: written(pa.array(bytes(2 * MIB), pa.uint8())),
    "a text": lambda: written(pa.array(["a" * (8 * MIB)])),
    "a text of a dictionary": lambda: written(pa.array(["a" * (8 * MIB)]), **DICTIONARY),
    "a text in many rows": lambda: written(pa.array([LONG] * 40), **DICTIONARY),
    "a large text in many rows": lambda: written(pa.array([LONG] * 40, pa.large_string()), **DICTIONARY),
    "a beginning that all texts share": lambda: written(pa.array([LONG] * 40), **SHARED),
    "a list": lambda: written(pa.array([bytes(2 * MIB)], pa.list_(pa.uint8()))),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_what_a_file_stands_for_is_seen_before_it_is_made(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some hundred bytes of many MiB: no more is made of them than a few times what may be in any case."""
    content = BOMBS[name]()
    assert len(content) < 10_000
    monkeypatch.setattr(parquet, "_ALWAYS", MIB)
    with peak() as so_far:
        with suppress(RequestRejected):
            for _ in parquet_tables(io.BytesIO(content)):
                pass
        assert so_far() < 8 * MIB


def test_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do."""
    monkeypatch.setattr(parquet, "_ALWAYS", MIB)
    with pytest.raises(RequestRejected, match=r"more than 200 times the size .* Write it as several files"):
        read(written(pa.array(["a" * (4 * MIB)])))


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()], ids=str)
@pytest.mark.parametrize("options", [{}, DICTIONARY, SHARED, {**SHARED, "data_page_version": "2.0"}], ids=str)
def test_all_encodings_of_texts_are_read(kind: pa.DataType, options: dict[str, Any]) -> None:
    """As they were written; Spark writes beginnings that are shared."""
    cells = [None if number % 7 == 0 else f"customer {number // 3}" for number in range(1000)]
    assert read(written(pa.array(cells, kind), **options)) == cells


def test_a_damaged_file_is_refused() -> None:
    """Whichever of its bytes is another one: it is read, or refused as what cannot be read."""
    cells = pa.array([f"customer {number // 3}" for number in range(300)])
    content = written(cells, write_statistics=True, **SHARED)
    choices = random.Random(1)  # noqa: S311 - to be repeated, not kept secret
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        damaged[choices.randrange(len(damaged))] = choices.randrange(256)
        try:
            read(bytes(damaged))
        except RequestRejected:
            refused += 1
    assert refused > 50


def test_a_wide_file_is_described_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrow makes the description of all columns anew each time that it is asked: with each column it were a square."""
    asked: list[int] = []
    usual = pq.ParquetFile.schema_arrow
    monkeypatch.setattr(pq.ParquetFile, "schema_arrow", property(lambda file: asked.append(1) or usual.fget(file)))
    buffer = io.BytesIO()
    pq.write_table(pa.table({f"c{number}": [1] for number in range(50)}), buffer)
    assert len(next(iter(parquet_tables(buffer))).columns) == 50
    assert len(asked) < 5


def test_columns_are_different_bytes_of_a_file() -> None:
    """Pages that stand in several columns would have no end."""
    file = io.BytesIO(written(pa.array([1, 2])))
    opened = parquet._opened(file)
    with pytest.raises(ValueError, match="more bytes than it has"):
        parquet._check_pages(file, opened, {"x": pa.int64()}, 10, MIB)


def test_the_index_of_pandas_is_no_column() -> None:
    """Unless a model that was trained before expects it."""
    buffer = io.BytesIO()
    pq.write_table(pa.table({"x": [1], "__index_level_0__": [7]}), buffer)
    assert [table.names for table in parquet_tables(buffer)] == [("x",)]
    (table,) = parquet_tables(buffer, expected=("x", "__index_level_0__"))
    assert table.names == ("x", "__index_level_0__")
