"""Parquet as tables: texts stay texts, numbers stay numbers, and everything else is spelled."""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.tables.delimited import Keep
from airflow_provider_azureml_classic.tables.names import check_names, unified
from airflow_provider_azureml_classic.tables.parquet_pages import pages_of
from airflow_provider_azureml_classic.tables.table import Origin, Table

if TYPE_CHECKING:
    import pyarrow as pa

_TITLE = "Parquet"
#: Columns in which pandas keeps the row numbers of a frame, which it does not read as columns either.
_INDEX = re.compile(r"__index_level_\d+__")
_ROWS, _CELLS = 50_000, 2_000_000
#: Most cells of a file, and most bytes that one byte of it may become: few bytes can stand for very many equal rows.
MAX_CELLS = 1 << 30
MAX_RATIO, _ALWAYS = 200, 64 << 20


def parquet_names(file: IO[bytes]) -> tuple[str, ...]:
    """The columns of a Parquet file.

    :param file: opened for reading bytes; it must be seekable.
    :raises RequestRejected: it cannot be read.
    """
    return tuple(_opened(file).schema_arrow.names)


def parquet_tables(file: IO[bytes], *, expected: Collection[str] = (), keep: Keep = bool) -> Iterator[Table]:
    """The rows of a Parquet file; at least one table, which has no rows if the file has none.

    :param file: opened for reading bytes; it must be seekable.
    :param expected: columns of which at least one must be there.
    :param keep: tells for a column whether its cells are wanted.
    :raises RequestRejected: it cannot be read, a wanted column holds what no table of texts can, or the file stands
        for too much.
    """
    import pyarrow as pa

    size = file.seek(0, 2)
    opened = _opened(file)
    schema = opened.schema_arrow  # made anew each time that it is asked for
    names = unified([name.strip() for name in schema.names], expected)
    check_names(names, _TITLE, expected, declared=True)
    kept = [
        i for i, name in enumerate(names) if name and keep(name) and (name in expected or not _INDEX.fullmatch(name))
    ]
    if opened.metadata.num_rows * max(1, len(kept)) > MAX_CELLS:
        raise _too_much(f"{opened.metadata.num_rows:,} rows of {len(kept)} columns, more than {MAX_CELLS:,} cells")
    spelled, types = schema.names, schema.types
    wanted = {spelled[i]: types[i] for i in kept}
    for i in kept:
        _plain(names[i], pa.array([], types[i]))
    left = _ALWAYS + MAX_RATIO * size
    before = 0
    try:
        rows = _ALWAYS // _check_pages(file, opened, wanted, size, left)
        for batch in opened.iter_batches(
            max(1, min(_ROWS, _CELLS // max(1, len(names)), rows)), columns=list(wanted), use_threads=False
        ):
            # Texts of a damaged file may be none.
            batch.validate(full=True)
            left -= batch.nbytes
            if left < 0:
                raise _too_much(f"more than {MAX_RATIO} times the size of the file")
            columns = {
                names[i]: pa.chunked_array([_plain(names[i], c)]) for i, c in zip(kept, batch.columns, strict=True)
            }
            yield Table(Origin(_TITLE, tuple(names)), columns, batch.num_rows, before)
            before += batch.num_rows
        if not before:
            empty = pa.chunked_array([pa.array([], pa.string())])
            yield Table(Origin(_TITLE, tuple(names)), {names[i]: empty for i in kept}, 0)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(error) from None


def _check_pages(file: IO[bytes], opened: Any, wanted: Mapping[str, pa.DataType], size: int, most: int) -> int:
    """Refuse what its pages would unpack to before any is; returns how long a row may be, in bytes.

    :param wanted: types of the columns that are read, by name.
    :param size: of the file: pages of different columns are different bytes of it, or there would be no end of them.
    :param most: bytes of all pages together.
    """
    unpacked, longest = 0, 1
    columns = [opened.schema.column(number) for number in range(opened.metadata.num_columns)]
    leaves = [number for number, one in enumerate(columns) if one.path == one.name and one.name in wanted]
    texts = {i: _is_text(wanted[columns[i].name]) for i in leaves}
    for group in range(opened.metadata.num_row_groups):
        chunks = opened.metadata.row_group(group)
        for number in leaves:
            chunk = chunks.column(number)
            begin = chunk.dictionary_page_offset or chunk.data_page_offset
            size -= chunk.total_compressed_size
            if size < 0:
                raise ValueError("its columns stand for more bytes than it has")
            for page in pages_of(file, begin, begin + chunk.total_compressed_size):
                unpacked += page.size
                # Each row may be as long as such a page.
                if page.shares or (page.dictionary and texts[number]):
                    longest = max(longest, page.size)
                if unpacked > most:
                    raise _too_much(f"more than {MAX_RATIO} times the size of the file")
    return longest


def _opened(file: IO[bytes]) -> Any:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        opened = parquet.ParquetFile(file, pre_buffer=False)
        # Texts that repeat stay one text and a number a row, whatever they would fill.
        shared = _with_shared_beginnings(opened.metadata)
        texts = [field.name for field in opened.schema_arrow if _is_text(field.type) and field.name not in shared]
        return parquet.ParquetFile(file, read_dictionary=texts, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(error) from None


def _with_shared_beginnings(metadata: Any) -> set[str]:
    """Columns of which Arrow cannot tell what repeats: texts that are told by what they share with the one before."""
    chunks = (
        metadata.row_group(group).column(number)
        for group in range(metadata.num_row_groups)
        for number in range(metadata.num_columns)
    )
    return {chunk.path_in_schema for chunk in chunks if "DELTA_BYTE_ARRAY" in chunk.encodings}


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _unreadable(error: Exception) -> AzureMLClassicError:
    return rejection("InputParseError", f"The Parquet file cannot be read: {str(error)[:200]}")


def _too_much(what: str) -> AzureMLClassicError:
    return rejection("InputParseError", f"The Parquet file stands for {what}. Write it as several files.")


def csv_of(table: Table) -> bytes:
    """The rows of a table as CSV, without a header row; NaN is an empty cell.

    :param table: of :func:`parquet_tables`.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv

    def column(values: pa.ChunkedArray) -> pa.ChunkedArray:
        if pa.types.is_floating(values.type):
            return pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
        return values.cast(pa.string()) if pa.types.is_dictionary(values.type) else values

    plain = pa.table({name: column(values) for name, values in table.columns.items()})
    buffer = io.BytesIO()
    csv.write_csv(plain, buffer, csv.WriteOptions(include_header=False))
    return buffer.getvalue()


def _plain(name: str, column: pa.Array) -> pa.Array:
    """A column as texts or as numbers; null where it has no value."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_dictionary(kind):
        if not pa.types.is_string(kind.value_type) and not pa.types.is_large_string(kind.value_type):
            return _plain(name, column.dictionary_decode())
        return column.cast(pa.dictionary(pa.int32(), pa.string()))
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return column
    if pa.types.is_decimal(kind):
        return column.cast(pa.float64())
    if pa.types.is_null(kind) or pa.types.is_boolean(kind) or pa.types.is_large_string(kind) or _is_view(kind):
        return column.cast(pa.string())
    if pa.types.is_string(kind):
        return column
    if pa.types.is_date(kind):
        return pc.strftime(column.cast(pa.date32()).cast(pa.timestamp("s")), "%Y-%m-%d")
    if pa.types.is_time(kind):
        return column.cast(pa.string())
    if pa.types.is_timestamp(kind):
        return pc.strftime(column, "%Y-%m-%dT%H:%M:%S" + ("%z" if kind.tz else ""))
    raise rejection(
        "InputParseError",
        f"Column {name!r} of the Parquet file holds {kind}; expected numbers, texts, truth values, dates or times.",
        target=name,
    )


def _is_view(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string_view(kind))
