"""ARFF as tables of texts: read as :mod:`~.protocol.arff` reads it, with what the file declares checked."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.arff import NOMINAL, NUMERIC, ArffError, Attribute, read_arff
from airflow_provider_azureml_classic.protocol.limits import MAX_RECORD
from airflow_provider_azureml_classic.tables.delimited import Keep
from airflow_provider_azureml_classic.tables.encodings import FOREIGN, IMPLAUSIBLE, Decoder, no_text
from airflow_provider_azureml_classic.tables.names import check_names, unified
from airflow_provider_azureml_classic.tables.spelling import listed, shown
from airflow_provider_azureml_classic.tables.table import Origin, Table

if TYPE_CHECKING:
    import pyarrow as pa

_TITLE = "ARFF"
#: Rows of one table, and cells: a few bytes of a sparse file may stand for a wide row.
_ROWS, _CELLS = 10_000, 1_000_000
_SHOWN_VALUES = 20


def arff_attributes(pieces: Iterable[bytes], encoding: str | None = None) -> tuple[Attribute, ...]:
    """The columns that an ARFF file declares.

    :param pieces: of the file, read as far as the declarations.
    :param encoding: of the file; by default it is recognized.
    :raises RequestRejected: it cannot be read.
    """
    try:
        return read_arff(_lines(pieces, Decoder(_TITLE, encoding)))[0]
    except ArffError as error:
        raise _unreadable(error) from None


def arff_tables(
    pieces: Iterable[bytes], *, encoding: str | None = None, expected: Collection[str] = (), keep: Keep = bool
) -> Iterator[Table]:
    """The rows of an ARFF file.

    :param pieces: of the file.
    :param encoding: of the file; by default it is recognized.
    :param expected: columns of which at least one must be there.
    :param keep: tells for a column whether its cells are wanted.
    :raises RequestRejected: it cannot be read, or a cell is none that the file itself declares.
    """
    decoder = Decoder(_TITLE, encoding)
    try:
        attributes, rows = read_arff(_lines(pieces, decoder))
        names = unified([attribute.name.strip() for attribute in attributes], expected)
        check_names(names, _TITLE, expected, declared=True)
        origin = Origin(_TITLE, tuple(names), encoding=decoder.name, declared=dict(zip(names, attributes, strict=True)))
        kept = {i: name for i, name in enumerate(names) if name and keep(name)}
        before, whole = 0, _of_width(rows, len(names))
        while chunk := list(islice(whole, max(1, min(_ROWS, _CELLS // len(names))))):
            columns = {name: _column(chunk, i) for i, name in kept.items()}
            # The encoding may turn out later than the names.
            table = Table(replace(origin, encoding=decoder.name, word=decoder.word), columns, len(chunk), before)
            for name in columns:
                _check_declared(table, name)
            yield table
            before += len(chunk)
    except ArffError as error:
        raise _unreadable(error) from None


def _unreadable(error: ArffError) -> AzureMLClassicError:
    return rejection("InputParseError", f"The ARFF cannot be read: {error}")


def _lines(pieces: Iterable[bytes], decoder: Decoder) -> Iterator[str]:
    rest, number, doubt = "", 1, ""
    for piece, final in _with_last(pieces):
        content = decoder.feed(piece, final=final)
        text = rest + content.decode()
        if decoder.doubt is not None:
            doubt = f"line {number + _line_ends(rest + content[: decoder.doubt].decode(errors='replace'))}"
        *lines, rest = io.StringIO(text, newline=None).read().split("\n")
        for line in lines:
            if "\0" in line:
                raise no_text(_TITLE, f"line {number}")
            yield line
            number += 1
        if decoder.fault:
            raise ArffError(f"Line {number}: {decoder.fault}")
        if len(rest) > MAX_RECORD:
            raise ArffError(f"Line {number} is longer than {MAX_RECORD >> 20} MiB.")
    if doubt and decoder.foreign:
        raise ArffError(f"{doubt.capitalize()} {FOREIGN}")
    if doubt and decoder.implausible:
        raise ArffError(f"{doubt.capitalize()} {IMPLAUSIBLE.format(word=shown(decoder.word))}")
    if doubt and decoder.mixed:
        raise ArffError(f"{doubt.capitalize()} is not UTF-8, but much of the file is. Save it in one encoding.")
    if "\0" in rest:
        raise no_text(_TITLE, f"line {number}")
    yield rest


def _line_ends(text: str) -> int:
    return text.count("\n")


def _with_last(pieces: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    for piece in pieces:
        yield piece, False
    yield b"", True


def _of_width(rows: Iterator[list[str]], width: int) -> Iterator[list[str]]:
    """The rows, each looked at before the next one is read: a row that is too long may be very long."""
    for number, row in enumerate(rows, 1):
        if len(row) != width:
            raise rejection(
                "InputParseError",
                f"Data row {number} has {len(row)} cells; the ARFF declares {width}: {shown(','.join(row))}.",
            )
        yield row


def _column(chunk: list[list[str]], position: int) -> pa.ChunkedArray:
    import pyarrow as pa

    return pa.chunked_array([pa.array([row[position] or None for row in chunk], pa.string())])


def _check_declared(table: Table, name: str) -> None:
    """Refuse a cell that the file's own declaration rules out."""
    attribute = table.origin.declared[name]
    values = {value.strip() for value in attribute.values}
    allowed = {NOMINAL: values.__contains__, NUMERIC: _is_number}.get(attribute.kind)
    if allowed is None:
        return
    column = table.encoded(name)
    wrong = next((code for code, cell in enumerate(column.cells) if not allowed(cell)), None)
    if wrong is None:
        return
    wish = f"one of {listed(sorted(values), _SHOWN_VALUES)}" if attribute.kind == NOMINAL else "a number"
    raise rejection(
        "InputParseError",
        f"Column {name!r}, row {table.number_of(column.first(wrong))}: {shown(column.cells[wrong])}, but the ARFF "
        f"declares the column as {attribute.kind}; expected {wish}, or ? for no value.",
        target=name,
    )


def _is_number(text: str) -> bool:
    try:
        float(text)  # NaN is none for a model, but a number to whoever writes ARFF
    except ValueError:
        return False
    return True
