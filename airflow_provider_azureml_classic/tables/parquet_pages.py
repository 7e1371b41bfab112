"""What the pages of a Parquet file become when they are unpacked, read from their heads before anything is unpacked.

A page of some bytes may say that it unpacks to gigabytes, and a reader gets the memory first. Format: Apache Parquet,
``parquet.thrift`` (``PageHeader``), in Thrift's compact protocol.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

#: ``Encoding.DELTA_BYTE_ARRAY``: a text is told by how much it shares with the one before it.
_SHARED_BEGINNINGS = 7
#: Bytes in which the head of a page is looked for at first, and at most: it holds the least and largest value.
_HEAD, _LONGEST_HEAD = 128, 4 << 20
_DEEPEST = 8
# Fields of a page's head, and of the three kinds of heads in it.
_UNPACKED, _PACKED, _DATA, _DICTIONARY, _DATA_2 = 2, 3, 5, 7, 8
_ENCODING = {_DATA: 2, _DICTIONARY: 2, _DATA_2: 4}


@dataclass(frozen=True)
class Page:
    """One page.

    :param size: bytes that it unpacks to.
    :param dictionary: it has the values that the other pages name by a number.
    :param shares: its texts are told by what they share, so that each may have as many letters as the page bytes.
    """

    size: int
    dictionary: bool
    shares: bool


def pages_of(file: IO[bytes], begin: int, end: int) -> Iterator[Page]:
    """The pages of a column in a row group.

    :param file: opened for reading bytes.
    :param begin: of its first page.
    :param end: of its last one.
    :raises ValueError: there is something else.
    """
    while begin < end:
        head, length = _head(file, begin)
        unpacked, packed = head.get(_UNPACKED), head.get(_PACKED)
        if not isinstance(unpacked, int) or not isinstance(packed, int) or unpacked < 0 or packed < 0:
            raise ValueError(f"the page at byte {begin} has no size")
        encodings = [head[kind].get(field) for kind, field in _ENCODING.items() if isinstance(head.get(kind), dict)]
        yield Page(unpacked, _DICTIONARY in head, _SHARED_BEGINNINGS in encodings)
        begin += length + packed


def _head(file: IO[bytes], begin: int) -> tuple[dict[int, Any], int]:
    size = _HEAD
    while True:
        file.seek(begin)
        data = file.read(size)
        reader = _Compact(data)
        try:
            return reader.struct(), reader.at
        except IndexError:
            if len(data) < size or size >= _LONGEST_HEAD:
                raise ValueError(f"the page at byte {begin} has no head") from None
            size *= 32


class _Compact:
    """Reads a struct of numbers and structs; everything else is passed over.

    :param data: begins with it.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Values by their field's number."""
        if depth > _DEEPEST:
            raise ValueError("a page's head is nested too deeply")
        fields: dict[int, Any] = {}
        number = 0
        while (byte := self._byte()) != 0:
            number = number + (byte >> 4) if byte >> 4 else self._number()
            # The value of a truth value is its kind.
            fields[number] = None if byte & 15 in (1, 2) else self._value(byte & 15, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (4, 5, 6):
            return self._number()
        if kind == 12:
            return self.struct(depth + 1)
        if kind in (9, 10):
            return self._list(depth)
        if kind not in (1, 2, 3, 7, 8):
            raise ValueError(f"a page's head has a value of the unknown kind {kind}")
        self._skip(self._varint() if kind == 8 else 8 if kind == 7 else 1)
        return None

    def _list(self, depth: int) -> None:
        byte = self._byte()
        for _ in range(byte >> 4 if byte >> 4 < 15 else self._varint()):
            self._value(byte & 15, depth + 1)

    def _skip(self, count: int) -> None:
        self.at += count
        if self.at > len(self._data):
            raise IndexError

    def _byte(self) -> int:
        self.at += 1
        return self._data[self.at - 1]

    def _varint(self) -> int:
        number = shift = 0
        while True:
            byte = self._byte()
            number |= (byte & 127) << shift
            if byte < 128:
                return number
            shift += 7
            if shift > 63:
                raise ValueError("a page's head has a number without end")

    def _number(self) -> int:
        number = self._varint()
        return number >> 1 ^ -(number & 1)
