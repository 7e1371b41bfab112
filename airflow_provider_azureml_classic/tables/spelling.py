"""What a single cell means: a number, a truth value, a category, or no value. The same in files and in calls.

Pure Python without a library: a call of one row is encoded with these functions.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

#: Texts that mean "no value" in a column of numbers: those that pandas knows
#: (https://pandas.pydata.org/docs/reference/api/pandas.read_csv.html, ``na_values``), the sign of ARFF, and that of the
#: text formats of MySQL and PostgreSQL.
# fmt: off
NO_VALUE = frozenset({
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null", "?", r"\N",
})
# fmt: on
#: Spellings of true and false in lower case; a column that has both of a pair, and nothing else, holds truth values.
TRUTH_PAIRS = (("true", "false"), ("yes", "no"), ("y", "n"), ("t", "f"), ("on", "off"))
#: Most characters of a cell in a message.
SHOWN = 80

_TRUTH = {
    word: truth for pair in (*TRUTH_PAIRS, ("1", "0")) for word, truth in zip(pair, ("true", "false"), strict=True)
}
_INTEGER = re.compile(r"([+-]?)(0|[1-9][0-9]*)(\.0+)?")
#: Signs of money, some of which countries put letters before; and what stands behind amounts in some languages.
_CURRENCY = "[A-Z]{0,3}[$€£¥₹₽₩₺₪₫₴฿]"
# Any three letters before digits may be a code.
_BEFORE = (
    f"{_CURRENCY}|USD|EUR|GBP|CHF|JPY|CNY|INR|CAD|AUD|NZD|BRL|MXN|SEK|NOK|DKK|PLN|CZK|HUF|TRY|ZAR|SGD|HKD|KRW|kr\\.?"
)
_BEHIND = f"{_CURRENCY}|[%‰]|[A-Z]{{3}}|kr|zł|Kč|Ft|лв"
#: In front of a group of three digits, or of two that more groups follow, as in India: 12,34,567.
_SEPARATOR = re.compile(r"(?<=[0-9])[.,\s'](?=(?:[0-9]{2},)*[0-9]{3}(?![0-9]))")
#: What spreadsheets write around a number: an amount of money, or a share.
_DRESSED = re.compile(rf"([+-]?)\s*(?:(?:{_BEFORE})\s*)?([+-]?[0-9][0-9.,\s']*?)\s*({_BEHIND})?")
#: A number as Fortran shows it in double precision; with a point, since codes have none.
_FORTRAN = re.compile(r"([+-]?(?:[0-9]+\.[0-9]*|\.[0-9]+))[dD]([+-]?[0-9]{1,3})")
#: Signs as typesetters and spreadsheets write them, and characters that nobody sees.
_PLAIN = str.maketrans({"\u2212": "-", "\ufe63": "-", "\uff0d": "-", "\u2019": "'", "\u066b": ".", "\u066c": ","})
_UNSEEN = (0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F), 0x2060, *range(0x2066, 0x206A), 0xFEFF)
_PLAIN |= dict.fromkeys(_UNSEEN, "")


def shown(cell: object) -> str:
    """A cell as messages show it, in quotes if it is a text; at most 80 characters of it.

    :param cell: of a file or a call.
    """
    if isinstance(cell, str):
        return repr(cell) if len(cell) <= SHOWN else f"{cell[: SHOWN - 3]!r}..."
    text = repr(cell)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def listed(names: Iterable[str], most: int = 40) -> str:
    """Names or cells in a sentence: no more than ``most`` of them, each cut to what :func:`shown` shows.

    :param names: of columns, or cells.
    :param most: how many are shown.
    """
    every = list(names)
    text = ", ".join(name if len(name) <= SHOWN else f"{name[: SHOWN - 3]}..." for name in every[:most])
    return f"{text}, and {len(every) - most} more" if len(every) > most else text


def parse_number(text: str, decimal: str = ".") -> float | None:
    """The finite number that a text writes, else ``None``; blanks around it do not matter.

    Unlike Python, ``1_000`` is no number; ``1,000`` is none either, unless commas are decimal.

    :param text: one cell.
    :param decimal: the sign before the decimals, a point or a comma.
    """
    if decimal != ".":
        # Where commas are decimal a point separates thousands: not a number as it stands.
        text = text.replace(decimal, ".") if "." not in text else "."
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def is_infinite(text: str) -> bool:
    """Whether a text writes a number without bounds, such as ``inf`` or ``1e999``.

    :param text: one cell.
    """
    try:
        return math.isinf(float(text))
    except ValueError:
        return False


def dressed_number(text: str, decimal: str = ".") -> float | None:
    """The number in a cell that a spreadsheet has dressed: ``$1,000.50``, ``12 %``, ``1.000,50 €``; else ``None``.

    ``12 %`` is 12. Groups between separators must be of three digits, or as in ``12,34,567``. A minus sign may be
    longer than a hyphen, or stand behind the number.

    :param text: one cell.
    :param decimal: the sign before the decimals, a point or a comma.
    """
    stripped = text.translate(_PLAIN).strip()
    negative = stripped.startswith("(") and stripped.endswith(")")
    if stripped.endswith("-"):
        negative, stripped = True, f"({stripped[:-1]})"
    match = _DRESSED.fullmatch(stripped[1:-1].strip() if negative else stripped)
    if match is None:
        return None
    whole, _, part = match[2].partition(decimal)
    digits = _SEPARATOR.sub("", whole)
    if not re.fullmatch(r"[+-]?[0-9]+", digits) or (part and not part.isdecimal()) or (match[1] and digits[0] in "+-"):
        return None
    value = parse_number(f"{digits}.{part or 0}")
    return None if value is None else -value if negative or match[1] == "-" else value


def fortran_number(text: str) -> float | None:
    """The number in a cell such as ``1.5D+03``, else ``None``.

    :param text: one cell.
    """
    match = _FORTRAN.fullmatch(text.strip())
    return parse_number(f"{match[1]}e{match[2]}") if match else None


def truth(cell: object) -> str | None:
    """``"true"`` or ``"false"`` for any spelling of a truth value, else ``None``.

    :param cell: of a file or a call: ``true``, ``TRUE``, ``yes``, ``1``, ``1.0``, ``True``.
    """
    if isinstance(cell, str):
        return _TRUTH.get(category_key(cell.strip().lower()))
    return _TRUTH.get(category_key(cell)) if isinstance(cell, int | float) else None


def category_key(cell: object) -> str:
    """What cells of one category have in common: ``1``, ``1.0`` and ``"1"`` are one, and so are ``True`` and ``TRUE``.

    ``01`` and ``1.10`` are codes of their own.

    :param cell: a text without blanks around it, or a number or truth value of a call.
    """
    if not isinstance(cell, str):
        cell = _text(cell)
    match = _INTEGER.fullmatch(cell)
    if match:
        return match[2] if match[1] != "-" or match[2] == "0" else f"-{match[2]}"
    lowered = cell.lower() if len(cell) in (4, 5) else cell
    return lowered if lowered in ("true", "false") else cell


def _text(cell: object) -> str:
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell)


def truth_key(cell: object) -> str:
    """The same for a column of truth values: all spellings of true are one.

    :param cell: see :func:`category_key`.
    """
    return truth(cell) or category_key(cell)


def spellings(
    cells: Iterable[str], known: Iterable[str] = (), key: Callable[[str], str] = category_key
) -> dict[str, str]:
    """How each category is spelled, by its key.

    As an earlier spelling, else as the cells spell it; where the cells themselves spell a category in two ways, all
    are spelled by their keys.

    :param cells: different texts, without blanks around them.
    :param known: spellings of earlier data.
    :param key: what cells of one category have in common.
    """
    earlier = {key(cell): cell for cell in known}
    found: dict[str, str] = {}
    twice = False
    for cell in cells:
        twice = found.setdefault(key(cell), cell) != cell or twice
    return {one: earlier.get(one, one if twice else cell) for one, cell in found.items()}


@dataclass(frozen=True)
class NumberRule:
    """How the cells of a column of numbers are read.

    :param missing: texts that mean "no value".
    :param decimal: the sign before the decimals, a point or a comma.
    :param dressed: whether ``$1,000`` and ``12 %`` are numbers: see :func:`dressed_number`.
    :param words: whether ``true`` is 1 and ``false`` is 0.
    """

    missing: frozenset[str] = NO_VALUE
    decimal: str = "."
    dressed: bool = False
    words: bool = True

    def number(self, cell: object) -> float | None:
        """The number that a cell means: NaN for no value, ``None`` if it is no finite number.

        :param cell: a text, or what a call has: a number, a truth value (1 or 0), or nothing.
        """
        if cell is None:
            return math.nan
        if isinstance(cell, int | float):
            return None if abs(cell) > sys.float_info.max else float(cell)
        return self.text(cell.strip()) if isinstance(cell, str) else None

    def text(self, text: str) -> float | None:
        """The same of a text without blanks around it.

        :param text: one cell.
        """
        if text in self.missing:
            return math.nan
        value = parse_number(text, self.decimal)
        if value is None and self.dressed:
            value = dressed_number(text, self.decimal)
            value = fortran_number(text) if value is None else value
        return word_number(text) if value is None and self.words else value

    @property
    def numbers_missing(self) -> bool:
        """Whether a text that means "no value" could be taken for a number."""
        return any(parse_number(text, self.decimal) is not None for text in self.missing)


def word_number(text: str) -> float | None:
    """1 for ``true`` and 0 for ``false`` in any case: how truth values stand in a column of numbers.

    :param text: one cell, without blanks around it.
    """
    return {"true": 1.0, "false": 0.0}.get(text.lower())
