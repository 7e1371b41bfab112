"""Where the rows of delimited text end: at line ends outside quotes. And whether its quotes are meant as quotes.

Well-formed text is recognized by looking at the two neighbours of each quote, for all quotes at once. Only where that
fails, cells in quotes are walked through one by one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

_QUOTE, _BLANK = b'" '
#: Texts up to this size are walked through: that needs no library.
_SMALL = 4096
_INSIDE = re.compile(rb'(?:[^"]|"")*+"(?!")')


class QuoteFault(Exception):
    """A quote opens a cell by accident.

    :param position: of the quote.
    :param message: what is wrong, as the end of a sentence that begins with the row.
    """

    def __init__(self, position: int, message: str) -> None:
        super().__init__(message)
        self.position = position
        self.message = message


NEVER_CLOSED = "a quote that opens a cell is never closed"
_ESCAPED = "a backslash stands before a quote within a cell"
_CLOSED_LATER = "a quote opens a cell and the next quote does not end one"


@dataclass(frozen=True)
class Rows:
    """The whole rows at the start of some text.

    :param text: of the rows, ready to be split into cells.
    :param used: how many bytes of what was read that is.
    """

    text: bytes
    used: int


def whole_rows(text: bytes, delimiter: bytes, *, final: bool) -> Rows:
    """As many whole rows as there are.

    :param text: UTF-8 that begins where a row begins.
    :param delimiter: between cells.
    :param final: whether nothing follows, so that the last row needs no line end.
    :raises QuoteFault: a quote is never closed, or closes a cell that it did not open.
    """
    if b'"' not in text:
        end = _line_end(text, 0, len(text), final=final)
        return Rows(text[:end], end)
    quotes = _well_formed(text, delimiter) if len(text) > _SMALL else None
    if quotes is None:
        return _walked(text, delimiter, final=final)
    if len(quotes) % 2 and final:
        raise QuoteFault(int(quotes[-1]), NEVER_CLOSED)
    end = _last_end(text, quotes, final=final)
    return Rows(text[:end], end)


def _line_end(text: bytes, start: int, stop: int, *, final: bool) -> int:
    """The position behind the last line end between two positions; 0 if there is none."""
    if final and stop == len(text):
        return stop
    # A carriage return at the very end may be the first half of a line end.
    found = max(text.rfind(b"\n", start, stop), text.rfind(b"\r", start, min(stop, len(text) - 1)))
    return found + 1


def _well_formed(text: bytes, delimiter: bytes) -> NDArray[Any] | None:
    """The positions of all quotes, if every second one stands where a cell begins and the others where one ends."""
    import numpy as np

    signs = np.frombuffer(text, np.uint8)
    quotes = np.flatnonzero(signs == _QUOTE)
    borders = np.zeros(256, bool)
    borders[list(delimiter + b'\r\n"')] = True
    opening, closing = quotes[::2], quotes[1::2]
    before = signs[opening[1:] - 1] if opening[0] == 0 else signs[opening - 1]
    inside = closing[:-1] if len(closing) and closing[-1] == len(signs) - 1 else closing
    return quotes if borders[before].all() and borders[signs[inside + 1]].all() else None


def _last_end(text: bytes, quotes: NDArray[Any], *, final: bool) -> int:
    """The position behind the last line end that is in no quotes."""
    stop = len(text)
    if len(quotes) % 2:
        stop, quotes = int(quotes[-1]), quotes[:-1]
    for index in range(len(quotes) - 1, 0, -2):
        end = _line_end(text, int(quotes[index]), stop, final=final)
        if end:
            return end
        stop = int(quotes[index - 1])
    return _line_end(text, 0, stop, final=final)


def _walked(text: bytes, delimiter: bytes, *, final: bool) -> Rows:
    """The same, one cell in quotes after the other."""
    behind, borders = _behind(delimiter), delimiter + b"\r\n"
    position = end = 0
    parts: list[bytes] = []
    quote = text.find(b'"')
    while quote >= 0:
        start = _start(text, quote, position, borders)
        if start < 0:
            quote = text.find(b'"', quote + 1)
            continue
        end = _line_end(text, position, start, final=False) or end
        inside = _INSIDE.match(text, quote + 1)
        if inside is None and final:
            raise QuoteFault(quote, NEVER_CLOSED)
        if inside is None:
            return _up_to(text, delimiter, end)
        tail = behind.match(text, inside.end())
        stop = tail.end() if tail else inside.end()
        _check_tail(text, delimiter, quote, inside.end(), stop)
        # Blanks before a quote would make it a part of the cell.
        parts += (text[position:start], text[quote:stop])
        position = stop
        quote = text.find(b'"', position)
    end = _line_end(text, position, len(text), final=final) or end
    # The last row may go on behind its last quote: it is read again with what follows.
    return _up_to(text, delimiter, end) if end < position else Rows(b"".join((*parts, text[position:end])), end)


@cache
def _behind(delimiter: bytes) -> re.Pattern[bytes]:
    """What may follow a closing quote in a cell."""
    return re.compile(rb"[^" + re.escape(delimiter) + rb"\r\n]*")


def _up_to(text: bytes, delimiter: bytes, end: int) -> Rows:
    return Rows(_walked(text[:end], delimiter, final=True).text, end) if end else Rows(b"", 0)


def _start(text: bytes, quote: int, position: int, borders: bytes) -> int:
    """Where the blanks before a quote begin, if a cell begins there; else -1."""
    start = quote
    while start > position and text[start - 1] == _BLANK:
        start -= 1
    return start if start == 0 or (text[start - 1] in borders) else -1


def _check_tail(text: bytes, delimiter: bytes, quote: int, closing: int, stop: int) -> None:
    """Refuse text behind a closing quote, unless the cell is the same however one reads it."""
    if text[closing:stop].strip(b" ") and stop < len(text):
        inside = text[quote + 1 : closing - 1]
        if inside.endswith(b"\\"):
            raise QuoteFault(quote, _ESCAPED)
        if b"\n" in inside or b"\r" in inside or delimiter in inside:
            raise QuoteFault(quote, _CLOSED_LATER)
