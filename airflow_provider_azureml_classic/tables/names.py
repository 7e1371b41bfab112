"""Names of columns, as a file gives them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from itertools import islice, pairwise
from unicodedata import normalize

from airflow_provider_azureml_classic.exceptions import MOST_COMPARED, nearest, rejection
from airflow_provider_azureml_classic.protocol.errors import repeated
from airflow_provider_azureml_classic.protocol.limits import MAX_COLUMNS
from airflow_provider_azureml_classic.tables.spelling import listed, parse_number

_YEAR = re.compile("(?:1[89]|20|21)[0-9]{2}")


def _misspelled(expected: Collection[str], names: Sequence[str]) -> tuple[str, str] | None:
    """A column that is expected, and a name that looks like it: then the first row is a header row."""
    few = islice(expected, max(1, MOST_COMPARED // (len(names) or 1)))
    return next(((wanted, near) for wanted in few if (near := alike(wanted, names))), None)


def alike(wanted: str, names: Iterable[str]) -> str | None:
    """The name that looks most like a column that is not there: it may be misspelled.

    :param wanted: the column.
    :param names: those that are there.
    """
    return nearest(wanted, names, _letters, 0.75)


def unified(names: Sequence[str], expected: Collection[str]) -> tuple[str, ...]:
    """Names of a file, spelled as those that are expected where only the form of their accents differs.

    A name may have é as one character or as e and an accent: nobody sees which.

    :param names: as the file has them.
    :param expected: names of columns.
    """
    if all(name.isascii() for name in names):
        return tuple(names)
    spelled = {normalize("NFC", name): name for name in expected if not name.isascii()}
    return tuple(name if name in expected else spelled.get(normalize("NFC", name), name) for name in names)


def hint(wanted: str, names: Iterable[str], expected: Collection[str]) -> str:
    """A question for the end of a message that says that a column is not there; empty if no name looks like it.

    :param wanted: the column.
    :param names: those that are there.
    :param expected: columns that are there rightly.
    """
    others = set(expected)
    near = alike(wanted, (name for name in names if name not in others))
    if near and normalize("NFC", near) == normalize("NFC", wanted):
        return f" The same letters are there in another form of Unicode: {near!a}, where {wanted!a} is expected."
    return f" Is {near!r} meant?" if near else ""


def _letters(name: str) -> str:
    return re.sub(r"[\s_.-]+", " ", normalize("NFC", name).casefold()).strip()


def check_names(names: Sequence[str], title: str, expected: Collection[str] = (), *, declared: bool = False) -> None:
    """Return if these can be the names of the columns of a file.

    :param names: cells of the header row, without blanks around them.
    :param title: the format, for messages.
    :param expected: columns of which at least one must be there; beside it a number is a name, too.
    :param declared: whether the file declares them, so that a number is a name, too.
    :raises RequestRejected: naming the cell at fault.
    """
    check_width(len(names), title)
    needs = f"The {title} needs {heading(title)}"
    first = "what it declares" if declared else "its first row"
    wish = f"; expected the columns {listed(expected)}" if expected else ""
    number = next(iter(no_names(names)), None)
    if number is not None and not declared and not set(expected) & set(names):
        raise rejection("InputParseError", f"{needs}: {first} has the number {listed([number])} for a name{wish}.")
    twice = repeated(list(filter(None, names)))
    if twice is not None:
        raise rejection("InputParseError", f"{needs} of different names: {first} has {twice!r} twice{wish}.")
    if expected and not set(expected) & set(names):
        wrong = _misspelled(expected, names)
        problem = f"The {title} has no column {wrong[0]!r}; is {wrong[1]!r} meant?" if wrong else f"{needs}{wish}."
        raise rejection("InputParseError", f"{problem} {first.capitalize()} is: {listed(names)}.")


def no_names(cells: Sequence[str]) -> list[str]:
    """The cells of a first row that are numbers and so no names; years in a row (``city,2019,2020``) may be names.

    :param cells: without blanks around them.
    """
    numbers = [cell for cell in cells if any(parse_number(cell, decimal) is not None for decimal in ".,")]
    years = [int(number) for number in numbers if _YEAR.fullmatch(number)]
    follow = len(years) > 1 and all(after - before == 1 for before, after in pairwise(years))
    return [] if follow and len(years) == len(numbers) else numbers


def check_width(columns: int, title: str, most: int | None = None) -> None:
    """Return if a file may have so many columns.

    :param columns: how many there are.
    :param title: the format, for messages.
    :param most: how many it may have; :data:`MAX_COLUMNS` by default.
    :raises RequestRejected: it may not.
    """
    most = MAX_COLUMNS if most is None else most
    if columns > most:
        raise rejection("InputParseError", f"The {title} has {columns} columns; at most {most:,} are read.")


def heading(title: str) -> str:
    """Where the names of the columns stand, for messages.

    :param title: ``CSV``, ``TSV``, ``ARFF`` or ``Parquet``.
    """
    return {"ARFF": "@attribute lines", "Parquet": "columns"}.get(title, "a header row")
