"""What the command line prints: tables for people, JSON and CSV for programs; progress only on a terminal."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import dropwhile
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress

#: A row: value by column.
Row = Mapping[str, Any]


class Output:
    """Prints answers.

    :param form: ``table``, ``json`` or ``csv``.
    :param out: where answers go.
    :param err: where everything else goes.
    """

    def __init__(self, form: str, out: IO[str] | None = None, err: IO[str] | None = None) -> None:
        self._form = form
        self._out = out or sys.stdout
        self._err = err or sys.stderr

    def rows(self, rows: Sequence[Row], columns: Sequence[str]) -> None:
        """Print a list.

        :param rows: what was found.
        :param columns: those to show, in order; in JSON all are shown.
        """
        if self._form == "json":
            self._json(list(rows))
        elif self._form == "csv":
            self._csv(rows, columns)
        else:
            self._table([_title(name) for name in columns], ([row.get(name) for name in columns] for row in rows))

    def record(self, record: Row) -> None:
        """Print one thing.

        :param record: value by name.
        """
        if self._form == "json":
            self._json(dict(record))
        elif self._form == "csv":
            self._csv([record], list(record))
        else:
            self._table(["", ""], ([_title(name), value] for name, value in record.items()), header=False)

    def lines(self, lines: Sequence[str]) -> None:
        """Print text, such as a log.

        :param lines: without line ends.
        """
        if self._form == "json":
            self._json(list(lines))
            return
        for line in lines:
            print(printable(line), file=self._out, flush=True)

    def say(self, text: str) -> None:
        """Tell the person something that is no part of the answer.

        :param text: a sentence.
        """
        print(printable(text), file=self._err, flush=True)

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """A progress bar; silent where nobody watches."""
        from rich.console import Console
        from rich.progress import Progress

        console = Console(file=self._err)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            yield progress

    def _json(self, data: Any) -> None:
        print(json.dumps(data, indent=2, ensure_ascii=False, default=_cell), file=self._out)

    def _csv(self, rows: Iterable[Row], columns: Sequence[str]) -> None:
        writer = csv.writer(self._out, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)

    def _table(self, titles: Sequence[str], rows: Iterable[Sequence[Any]], *, header: bool = True) -> None:
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        console = Console(file=self._out)
        if not console.is_terminal:
            # A pipe has no width: nothing may be cut off.
            console = Console(file=self._out, width=10_000)
        table = Table(*titles, box=box.SIMPLE_HEAD if header else None, show_header=header, pad_edge=False)
        for column in table.columns:
            column.overflow = "fold"
        for row in rows:
            table.add_row(*(Text(printable(_cell(value))) for value in row))
        with console.capture() as drawn:
            console.print(table)
        # Rich fills every line up to the table's width.
        # Rich begins some with an empty line, which would be all that `head -n 1` shows.
        lines = (line.rstrip() for line in drawn.get().rstrip().splitlines())
        print("\n".join(dropwhile(lambda line: not line, lines)), file=self._out)


def printable(text: str) -> str:
    """``text`` without characters that a terminal would obey: names and messages come from elsewhere.

    :param text: from anywhere.
    """
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _title(name: str) -> str:
    return name.replace("_", " ")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_cell(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={_cell(item)}" for name, item in value.items())
    return str(value)
