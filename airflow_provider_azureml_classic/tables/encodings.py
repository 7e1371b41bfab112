"""Bytes of a text file, in whatever encoding it is, as UTF-8.

Rule 1: a mark at the start decides; else a declared encoding; else UTF-8, or UTF-16 where every other byte is zero.
Rule 2: a file that is not UTF-8 is Windows-1252 only where nothing beyond ASCII in it is UTF-8. A bad byte in a file of
UTF-8 is an error that names the row, never another reading of the file.
Rule 3: Windows-1252 is a guess. It is given up where letters stand as no language writes them, as in files of DOS and
the Macintosh, and else shown with a word of the file: only a person can tell é of Western from é of Central Europe.
"""

from __future__ import annotations

import codecs
import re

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection

WINDOWS = "windows-1252"
#: Windows-1252 as browsers read it (https://encoding.spec.whatwg.org/#windows-1252): no byte is undefined.
_WINDOWS_TABLE = "".join(bytes([byte]).decode("cp1252", errors="replace") for byte in range(256))
_WINDOWS_TABLE = "".join(chr(byte) if sign == "\ufffd" else sign for byte, sign in enumerate(_WINDOWS_TABLE))
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
#: What is said of a file in another encoding, as the end of a sentence.
FOREIGN = (
    "is neither UTF-8 nor Windows-1252: whole words are beyond ASCII. Save it as UTF-8, or declare the key 'encoding' "
    'of the experiment, for example "windows-1251" or "shift_jis".'
)
#: The same of a file whose words have signs of Windows-1252 where no word has any.
IMPLAUSIBLE = (
    "is neither UTF-8 nor Windows-1252, in which it has the word {word}. Save it as UTF-8, or declare the "
    'key \'encoding\' of the experiment, for example "cp850" (DOS), "mac_roman" or "windows-1250" (Central Europe).'
)
_LONGEST_MARK, _WORD_SHOWN = 4, 40
#: How much at the start of a file tells UTF-16 without a mark.
_HEAD = 16
#: Files that are often named as if they were text: how they start.
_NO_TEXT = (
    (b"PAR1", "a Parquet file; its name must end in .parquet"),
    (b"PK\x03\x04", "an Excel workbook or a zip file; save it as CSV"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook; save it as CSV"),
    (b"\x1f\x8b", "compressed with gzip; unpack it"),
)
#: Of this many bytes that are not UTF-8, one or more valid sequences are taken for accidents of Windows-1252.
_ACCIDENTS = 10
#: Bytes beyond ASCII that stand together in words of other scripts, and hardly ever in Windows-1252.
#: But for one sign that is repeated, as in three euro signs.
_RUN = re.compile("([\udc80-\udcff])(?!\\1\\1)[\udc80-\udcff]{2,}")
#: What Windows-1252 has for letters of other encodings, where no word has it: bytes that are no sign, signs between
#: letters, capitals inside of words, low quotes behind a letter, and the pound before an accented one.
_ODD = re.compile(
    "[\x81\x8d\x8f\x90\x9d]|[A-Za-z][\u0192\u201a\u201e\u02c6\u02dc\u201d\u2021\u2030\u203a\u2039¡¢¤¥\u0160\u0152\u017d\u0178][a-z]|"
    "[a-z][\u201a\u201e\u0192\u0160\u0152\u017d\u0178]|£[à-ÿ]"
)
_WORD = re.compile('[^\\s,;|"]*[^\x00-\x7f][^\\s,;|"]*')
_INVALID = re.compile("[\udc80-\udcff]")
_BEYOND = re.compile("[^\x00-\x7f\udc80-\udcff]")


def check_encoding(name: str) -> str:
    """The encoding of a text file, as Python calls it.

    :param name: for example ``utf-8``, ``windows-1252``, ``latin-1``, ``utf-16``, ``shift_jis``.
    :raises ValueError: there is none of that name.
    """
    try:
        found = codecs.lookup(name).name
        # Codecs of bytes, such as zip, are found, too.
        text = isinstance(codecs.getincrementaldecoder(name)().decode(b""), str)
    except (LookupError, ValueError, TypeError):
        text = False
    if not text:
        raise ValueError(
            f"{name!r} is no encoding. Expected for example utf-8, windows-1252, latin-1 or utf-16."
        ) from None
    return WINDOWS if found == "cp1252" else found


class Decoder:
    """Turns pieces of a file into UTF-8.

    How a file is read does not depend on how it is cut, if pieces are always cut at the same places.

    :param title: what the file is, for messages: ``CSV``.
    :param encoding: as declared; by default it is recognized.
    :ivar name: the encoding, as far as it is known.
    :ivar fault: what is wrong with the byte behind the last output; no further pieces are decoded.
    :ivar doubt: position in the last output of the first byte that is not UTF-8, where the reading was changed.
    :ivar word: the first one beyond ASCII of a file that is taken for Windows-1252, or the first that is none; empty
        where nothing was guessed.
    """

    def __init__(self, title: str, encoding: str | None = None) -> None:
        self._title = title
        self._declared = check_encoding(encoding) if encoding else None
        self.name = self._declared or "utf-8"
        self.fault = ""
        self.doubt: int | None = None
        self.word = ""
        self._odd = 0
        self._decoder: codecs.IncrementalDecoder | None = None
        self._rest = b""
        self._started = False
        self._beyond = self._invalid = self._runs = 0
        self._counter = codecs.getincrementaldecoder("utf-8")("surrogateescape")

    def feed(self, piece: bytes, *, final: bool = False) -> bytes:
        """The next part of the file in UTF-8.

        :param piece: bytes of the file.
        :param final: whether these are the last ones.
        :raises RequestRejected: it is no text at all.
        """
        self.doubt = None
        piece = self._rest + piece
        self._rest = b""
        if not self._started and len(piece) < _LONGEST_MARK and not final:
            self._rest = piece
            return b""
        if not self._started:
            piece = self._start(piece)
        if self.name == WINDOWS:
            return self._windows(piece, final=final)
        if self.name == "utf-8":
            return self._utf8(piece, final=final)
        return self._others(piece, final=final)

    @property
    def mixed(self) -> bool:
        """Whether a file that was read as Windows-1252 has so much valid UTF-8 that it was read wrongly."""
        return self._declared is None and self._beyond * _ACCIDENTS > self._invalid

    @property
    def foreign(self) -> bool:
        """Whether a file that was read as Windows-1252 has whole words beyond ASCII: it is in another encoding."""
        return self._declared is None and self._runs * 2 > self._invalid

    @property
    def implausible(self) -> bool:
        """Whether a file that was read as Windows-1252 has words that nobody writes: it is in another encoding."""
        return self._declared is None and self._odd * _ACCIDENTS > self._invalid

    def _start(self, piece: bytes) -> bytes:
        self._started = True
        for start, said in _NO_TEXT:
            if piece.startswith(start):
                raise rejection("InputParseError", f"The {self._title} is not text: it is {said}.")
        for mark, name in _MARKS:
            if piece.startswith(mark):
                if self._declared is None or name.startswith(self._declared):
                    self.name = name
                    while piece.startswith(mark):  # files that were put together have several
                        piece = piece[len(mark) :]
                    return piece
                break
        else:
            self.name = self._declared or _without_mark(piece) or self.name
        return piece

    def _utf8(self, piece: bytes, *, final: bool) -> bytes:
        if piece.isascii():
            return piece
        try:
            text, used = codecs.utf_8_decode(piece, "strict", final)
        except UnicodeDecodeError as error:
            return self._not_utf8(piece, error.start, final=final)
        self._beyond += len(text) < used
        self._rest = piece[used:]
        return piece[:used] if self._rest else piece

    def _not_utf8(self, piece: bytes, position: int, *, final: bool) -> bytes:
        before = self._beyond
        self._count(piece, final=final)
        if self._declared or before or self.mixed:
            advice = (
                "" if self._declared else " If the file is in another encoding, declare it with the key 'encoding'."
            )
            self.fault = f"the byte 0x{piece[position]:02X} is not UTF-8, as the rest of the file is.{advice}"
            return piece[:position]
        self.name = WINDOWS
        self.doubt = position
        return self._guessed(piece)

    def _windows(self, piece: bytes, *, final: bool) -> bytes:
        if piece.isascii():
            return piece
        if self._declared is None:
            self._count(piece, final=final)
            return self._guessed(piece)
        return _from_windows(piece)

    def _guessed(self, piece: bytes) -> bytes:
        read = _from_windows(piece)
        text = read.decode()
        odd = _ODD.search(text)
        if odd and not self._odd:
            start = max(text.rfind(sign, 0, odd.start()) for sign in ' ,;|"\t\r\n') + 1
            self.word = (_WORD.match(text, start) or odd)[0][:_WORD_SHOWN]
        self._odd += len(_ODD.findall(text)) if odd else 0
        found = None if self.word else _WORD.search(text)
        self.word = found[0][:_WORD_SHOWN] if found else self.word
        return read

    def _count(self, piece: bytes, *, final: bool) -> None:
        text = self._counter.decode(piece, final)
        self._invalid += len(_INVALID.findall(text))
        self._beyond += len(_BEYOND.findall(text))
        self._runs += sum(len(run[0]) for run in _RUN.finditer(text))

    def _others(self, piece: bytes, *, final: bool) -> bytes:
        self._decoder = self._decoder or codecs.getincrementaldecoder(self.name)()
        try:
            return self._decoder.decode(piece, final).encode()
        except UnicodeDecodeError as error:
            text = bytes(error.object)
            self.fault = f"{text[error.start : error.start + 4].hex(' ')} (hexadecimal) is not {self.name}."
            self._decoder.reset()
            return self._decoder.decode(text[: error.start]).encode(errors="replace")
        except UnicodeEncodeError:
            self.fault = f"half of a pair of surrogates is not {self.name}."
            return b""


def _without_mark(piece: bytes) -> str:
    """UTF-16 without a mark, as some databases export it: its header row is ASCII and so half of its bytes zero."""
    first, second = piece[:_HEAD:2], piece[1:_HEAD:2]
    for zeros, others, name in ((second, first, "utf-16-le"), (first, second, "utf-16-be")):
        if len(zeros) > 1 and not any(zeros) and all(others):
            return name
    return ""


def _from_windows(piece: bytes) -> bytes:
    return codecs.charmap_decode(piece, "strict", _WINDOWS_TABLE)[0].encode()


def no_text(title: str, row: str) -> AzureMLClassicError:
    """The error for a zero byte.

    :param title: what the file is: ``CSV``.
    :param row: where it stands, for example ``data row 5``.
    """
    return rejection("InputParseError", f"The {title} is not text: {row} has a zero byte.")
