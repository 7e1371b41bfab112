"""32-bit numbers as the shortest text that reads as the same number, many at a time.

The ``str`` of a number of numpy is such a text, but takes a microsecond each; here all candidates of a column are tried
at once, and ``msgspec`` writes the ones that fit.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

#: From this many numbers on it pays to try them together.
_MANY = 40
#: Digits that tell any 32-bit number from every other.
_DIGITS = 9
#: Beyond these numpy writes an exponent.
_SMALLEST, _LARGEST = 1e-4, 1e6


def texts_of(numbers: NDArray[Any], offset: float = 0.0) -> list[str]:
    """The shortest text of each number.

    :param numbers: one dimension, 32 bits.
    :param offset: added to what the text of a number says, digit by digit.
    """
    import numpy as np

    size = np.abs(numbers)
    if len(numbers) < _MANY or not ((size >= _SMALLEST) & (size < _LARGEST)).all():
        texts = [str(number) for number in numbers]
    else:
        texts = msgspec.json.encode(_shortest(numbers, size).tolist()).decode()[1:-1].split(",")
    if not offset:
        return texts
    shift = Decimal(repr(offset))
    return [str(Decimal(text) + shift) for text in texts]


def _shortest(numbers: NDArray[Any], size: NDArray[Any]) -> NDArray[float64]:
    """The number of 64 bits that each shortest text writes."""
    import numpy as np

    wide = numbers.astype(np.float64)
    # A power of ten is exact up to 22, so a quotient below is a decimal number itself, as near as 64 bits come.
    scale = 10.0 ** (_DIGITS - 1 - np.floor(np.log10(size.astype(np.float64))))
    found = wide
    # From many digits to few: the last one that still is the number is the shortest.
    for _ in range(_DIGITS):
        candidate = np.rint(wide * scale) / scale
        same = candidate.astype(np.float32) == numbers
        if not same.any():
            break
        found = np.where(same, candidate, found)
        scale = np.maximum(scale / 10, 1.0)
    return found
