"""ARFF, the attribute-relation file format of Weka: text of tables whose columns are declared before the rows.

Cells are read as they are written, never as numbers: whoever reads a table treats the cells of all formats alike.

Facts: "Attribute-Relation File Format (ARFF)" of the Weka documentation; quoting as in Weka's ``Utils.quote``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TextIO

from airflow_provider_azureml_classic.protocol.limits import FREE_SPARSE_CELLS, MAX_COLUMNS, SPARSE_CELLS_A_LETTER

#: Kinds of attributes. ``real`` and ``integer`` are numeric, too.
NUMERIC, NOMINAL, STRING, DATE = "numeric", "nominal", "string", "date"
#: How a cell without a value is written; it is read as an empty cell.
MISSING = "?"

_DECLARATION = re.compile(r"@([a-z]+)(?:\s+(.*))?", re.IGNORECASE | re.DOTALL)
# Possessive: what may be given back is remembered for each letter, a hundred bytes of it.
_QUOTED = r"""'((?:[^'\\]++|\\.)*+)'|"((?:[^"\\]++|\\.)*+)\""""
_NAME = re.compile(rf"(?:{_QUOTED}|([^\s{{'\"][^\s{{]*))\s*", re.DOTALL)
# A percent sign after a blank begins a comment, as at the start of a line; within a word it belongs to it.
_VALUE = re.compile(rf"(?:{_QUOTED}|([^,\t'\"{{}}%](?:[^,\t{{}}%]++|(?<!\s)%)*+))[ ]*", re.DOTALL)
_SEPARATOR = re.compile(r"\s*[,\t]\s*")
_INDEX = re.compile(r"(\d{1,9})\s+")
# A row without any of these is cut at its commas.
_NOT_PLAIN = re.compile(r"""['"{}%\t]""")
_ESCAPED = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}
_PLAIN = re.compile(r"[^\s,'\"{}%\\?@\x00-\x1f\x7f](?:[^\s,'\"{}%\\\x00-\x1f\x7f])*")
_TO_ESCAPE = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_SHOWN = 60


class ArffError(ValueError):
    """The text is not ARFF; the message names the line."""


@dataclass(frozen=True)
class Attribute:
    """A column.

    :param name: its name.
    :param kind: :data:`NUMERIC`, :data:`NOMINAL`, :data:`STRING` or :data:`DATE`.
    :param values: all values that a nominal one can have.
    """

    name: str
    kind: str
    values: tuple[str, ...] = ()

    @property
    def absent(self) -> str:
        """What a sparse row means that does not mention it: zero, which is the first value of a nominal one.

        Of texts and dates there is no zero: they have no value.
        """
        if self.kind == NUMERIC:
            return "0"
        return self.values[0] if self.kind == NOMINAL and self.values else ""


def read_arff(lines: Iterable[str]) -> tuple[tuple[Attribute, ...], Iterator[list[str]]]:
    """The columns of a table, and its rows one by one; a missing cell is empty.

    Rows are as long as they are written: whether that is right is for the caller to see.

    :param lines: the text; read as far as ``@data`` here, and further as rows are asked for.
    :raises ArffError: it is not ARFF; also from the rows.
    """
    numbered = enumerate(lines, 1)
    attributes = tuple(islice(_declared(numbered), MAX_COLUMNS + 1))
    if len(attributes) > MAX_COLUMNS:
        raise ArffError(f"It declares more than {MAX_COLUMNS:,} attributes; at most as many columns are read.")
    if not attributes:
        raise ArffError("No @attribute stands before @data; expected one for each column.")
    return attributes, _rows(numbered, attributes)


def _declared(numbered: Iterator[tuple[int, str]]) -> Iterator[Attribute]:
    for number, line in numbered:
        text = line.strip()
        if not text or text.startswith("%"):
            continue
        match = _DECLARATION.fullmatch(text)
        keyword = match[1].lower() if match else ""
        if keyword == "data":
            return
        if match and keyword == "attribute":
            yield _attribute(match[2] or "", number)
        elif keyword != "relation":
            raise ArffError(f"Line {number} is {_shown(text)}; expected @relation, @attribute or @data.")
    raise ArffError("There is no @data; expected @relation, an @attribute for each column, @data, and the rows.")


def _attribute(text: str, number: int) -> Attribute:
    match = _NAME.match(text)
    name, kind = (_unquoted(match), text[match.end() :]) if match else ("", "")
    word = (kind.partition("%")[0].split() or [""])[0].lower()
    if kind.startswith("{") and "}" in kind:
        return Attribute(name, NOMINAL, tuple(_split(kind[1:].lstrip(), number, closing="}")))
    if word in ("numeric", "real", "integer"):
        return Attribute(name, NUMERIC)
    if word in (STRING, DATE):
        return Attribute(name, word)
    raise ArffError(
        f"Line {number} declares an attribute as {_shown(text)}; expected a name and then numeric, real, integer, "
        "string, date or {value, value, ...}."
    )


def _rows(numbered: Iterator[tuple[int, str]], attributes: Sequence[Attribute]) -> Iterator[list[str]]:
    absent = [attribute.absent for attribute in attributes]
    # Cells that sparse rows stand for, absent ones included.
    budget = FREE_SPARSE_CELLS
    for number, line in numbered:
        text = line.strip()
        if not text or text[0] == "%":
            continue
        if text[0] != "{":
            yield _cells(text, number)
            continue
        budget += len(line) * SPARSE_CELLS_A_LETTER - len(absent)
        if budget < 0:
            raise ArffError(
                f"The sparse rows up to line {number} stand for more than {SPARSE_CELLS_A_LETTER} times as many cells "
                "as they have letters. Leave out columns that are nearly always absent."
            )
        yield _sparse(text, absent, number)


def _cells(text: str, number: int) -> list[str]:
    if _NOT_PLAIN.search(text):
        return list(_split(text, number))
    cells = text.split(",")
    if " " in text:
        cells = [cell.strip() for cell in cells]
    return ["" if cell == MISSING else cell for cell in cells] if MISSING in text else cells


def _split(text: str, number: int, *, closing: str = "%") -> Iterator[str]:
    position = 0
    while True:
        cell, position = _cell(text, position)
        yield cell
        separator = _SEPARATOR.match(text, position)
        if separator:
            position = separator.end()
        elif text.startswith(closing, position) or (position == len(text) and closing == "%"):
            return
        else:
            raise _unexpected(text, position, number)


def _cell(text: str, position: int) -> tuple[str, int]:
    """The cell that begins at a position, and where it ends; nothing at all is a missing cell."""
    match = _VALUE.match(text, position)
    if match is None:
        return "", position
    return "" if match[3] and match[3].strip() == MISSING else _unquoted(match), match.end()


def _sparse(text: str, absent: Sequence[str], number: int) -> list[str]:
    cells, indices = list(absent), set[int]()
    position = len(text) - len(text[1:].lstrip())
    while not text.startswith("}", position):
        match = _INDEX.match(text, position)
        if match is None or (index := int(match[1])) >= len(cells) or index in indices:
            raise _unexpected(text, position, number)
        indices.add(index)
        cells[index], position = _cell(text, match.end())
        separator = _SEPARATOR.match(text, position)
        if separator:
            position = separator.end()
        elif not text.startswith("}", position):
            raise _unexpected(text, position, number)
    rest = text[position + 1 :].strip()
    if rest and not rest.startswith("%"):
        raise _unexpected(text, position, number)
    return cells


def _unexpected(text: str, position: int, number: int) -> ArffError:
    message = f"Line {number} cannot be read from {_shown(text[position:]) if text[position:] else 'its end'} on"
    if "{" in text:
        return ArffError(
            f"{message}; a sparse row is {{index value, index value}}, with different indices from 0. "
            "Weights of rows, in braces behind them, are not supported; a value with braces needs quotes."
        )
    return ArffError(f"{message}; a value with quotes, commas, braces or blanks in it stands in quotes.")


def _unquoted(match: re.Match[str]) -> str:
    bare: str | None = match[3]
    if bare is not None:
        return bare.strip()
    quoted: str = match[1] if match[1] is not None else match[2]
    return _ESCAPED.sub(_unescaped, quoted)


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    return chr(int(code[1:], 16)) if len(code) == 5 else _ESCAPES.get(code, code)


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}...")


class ArffWriter:
    """Writes ARFF, as ``csv.writer`` does CSV.

    :param stream: where to.
    :param relation: name of the table.
    :param attributes: the columns.
    :param missing: cells that have no value; an empty one never has.
    """

    def __init__(
        self, stream: TextIO, relation: str, attributes: Sequence[Attribute], missing: Collection[str] = ()
    ) -> None:
        self._write = stream.write
        self._spellings = [_spellings(attribute, missing) for attribute in attributes]
        self._write(f"@relation {_quoted(relation)}\n\n")
        for attribute, spellings in zip(attributes, self._spellings, strict=True):
            kind = attribute.kind
            if kind == NOMINAL:
                kind = f"{{{','.join(spellings[value] for value in attribute.values)}}}"
            self._write(f"@attribute {_quoted(attribute.name)} {kind}\n")
        self._write("\n@data\n")

    def writerows(self, rows: Iterable[Sequence[str | None]]) -> None:
        """Append rows.

        :param rows: one cell for each attribute.
        """
        for row in rows:
            self._write(
                ",".join([spellings[cell] for spellings, cell in zip(self._spellings, row, strict=True)]) + "\n"
            )


class _Spellings(dict[str | None, str]):
    """What is written for a cell; those not known are quoted, or written as they are."""

    def __init__(self, spellings: Mapping[str | None, str], *, quote: bool) -> None:
        super().__init__(spellings)
        self._quote = quote

    def __missing__(self, cell: str | None) -> str:
        return _quoted(str(cell)) if self._quote else str(cell)


def _spellings(attribute: Attribute, missing: Collection[str]) -> _Spellings:
    always = any(_PLAIN.fullmatch(value) is None for value in attribute.values)
    # Readers that guess how a file quotes from its first row see it there: all values of a column, or none.
    values: dict[str | None, str] = {value: _quoted(value, always=always) for value in attribute.values}
    return _Spellings(values | dict.fromkeys([None, "", *missing], MISSING), quote=attribute.kind != NUMERIC)


def _quoted(text: str, *, always: bool = False) -> str:
    if not always and _PLAIN.fullmatch(text):
        return text
    return f"'{''.join(_TO_ESCAPE.get(character, character) for character in text)}'"
