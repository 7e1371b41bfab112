"""Text in any encoding; a bad byte is an error with its row, never another reading of the file."""

from __future__ import annotations

import pytest

from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.tables import delimited
from airflow_provider_azureml_classic.tables.encodings import check_encoding
from tests.tables.support import case, read, rows

TEXT = "größe,y\n50 €,a\n100 €,é\n"


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8"),
        ("utf-16", "utf-16-le"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("utf-32", "utf-32-le"),
        ("cp1252", "windows-1252"),
    ],
)
@pytest.mark.parametrize("block", [5, 1 << 20])
def test_recognized(monkeypatch: pytest.MonkeyPatch, encoding: str, name: str, block: int) -> None:
    """By a mark, as UTF-8 or UTF-16, or as what Excel writes."""
    monkeypatch.setattr(delimited, "BLOCK", block)
    table = read(TEXT.encode(encoding))
    assert (table.names, rows(table)) == (("größe", "y"), [["50 €", "a"], ["100 €", "é"]])
    assert table.origin.encoding == name


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16-be", "utf-16", "shift_jis", "UTF8"])
def test_declared(encoding: str) -> None:
    """A declared encoding is used; a mark at the start is no part of the text."""
    text = "größe,y\né,b\n" if encoding != "shift_jis" else "値,y\n日本,b\n"
    table = read(text.encode(encoding), encoding=encoding)
    assert [table.names[0], rows(table)[0][0]] == [text.split(",")[0], text.split("\n")[1].split(",")[0]]


@pytest.mark.parametrize("byte", [0x81, 0x8D, 0x8F, 0x90, 0x9D])
def test_undefined_bytes(byte: int) -> None:
    """A byte that Windows-1252 leaves undefined is the sign of another encoding, unless that is declared."""
    content = b"x,y\n\xe9" + bytes([byte]) + b",b\n"
    with pytest.raises(RequestRejected, match="at data row 1: it is neither UTF-8 nor Windows-1252, in which"):
        read(content)
    assert rows(read(content, encoding="cp1252")) == [["é" + chr(byte), "b"]]


@pytest.mark.parametrize("title", ["CSV", "ARFF"])
@pytest.mark.parametrize(
    ("encoding", "words", "shown"),
    [
        ("cp437", "Köln Zürich", "K”ln"),
        ("cp850", "Málaga café", "caf\u201a"),
        ("mac_roman", "Köln Männer", "MŠnner"),
        ("mac_roman", "Malmö café", "cafŽ"),
        ("cp1250", "Łódź Kraków", "£ódŸ"),
        ("iso8859-2", "Łódź Kraków", "£ód¼"),
    ],
)
def test_letters_where_no_word_has_them(title: str, encoding: str, words: str, shown: str) -> None:
    """Files of DOS, the Macintosh and Central Europe are refused where their words are none of Windows-1252."""
    head = "x,y" if title == "CSV" else "@relation r\n@attribute x string\n@attribute y string\n@data"
    content = f"{head}\n" + "".join(f"{word},1\n" for word in words.split())
    with pytest.raises(RequestRejected, match=f"neither UTF-8 nor Windows-1252, in which it has the word '{shown}"):
        read(content.encode(encoding), title)
    assert read(content.encode(encoding), title, encoding=encoding).cell("x", 1) == words.split()[1]


@pytest.mark.parametrize("block", [5, 1 << 20])
def test_a_guess_is_shown(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """What is taken for Windows-1252 is noted with a word of it, wherever that stands; what is declared is not."""
    monkeypatch.setattr(delimited, "BLOCK", block)
    content = ("x,y\n" + "a,1\n" * 20 + "l\u2019été,1\nKöln \u2013 Süd,2\n£m,3\nred•green,4\n5 €,5\n").encode("cp1252")
    note = read(content).origin.note
    assert note.startswith("The CSV is not UTF-8; it was read as Windows-1252, for example 'l\u2019été'. If")
    assert read(content, encoding="cp1252").origin.note == ""
    assert read("x,y\né,1\n").origin.note == ""
    assert "'Èapek'" in read("x,y\nČapek,1\n".encode("cp1250")).origin.note


@pytest.mark.parametrize(
    ("content", "row"),
    [
        ("x,y\né,1\nb,2\n".encode() + b"caf\xe9,3\n", "data row 3"),
        (b"x,y\n" + b"caf\xe9,3\n" + "é,1\nb,2\n".encode(), "data row 1"),
        ("é,y\n1,2\n".encode() + b'"a\nb\n\xff",3\n', "data row 2"),
        ("é,".encode() + b"\xff\n1,2\n", "the header row"),
        ("x,y\n1,é\n2,é".encode()[:-1], "data row 2"),
    ],
    ids=["later", "before", "in quotes", "header", "cut off"],
)
@pytest.mark.parametrize("block", [6, 1 << 20])
def test_one_bad_byte(monkeypatch: pytest.MonkeyPatch, content: bytes, row: str, block: int) -> None:
    """A file of UTF-8 with a byte that is not: the row is named, wherever the file is cut."""
    monkeypatch.setattr(delimited, "BLOCK", block)
    with pytest.raises(RequestRejected, match=rf"The CSV cannot be read at {row}: .*not UTF-8"):
        read(content)


def test_declared_and_wrong() -> None:
    """What is declared is not given up: a byte that does not fit names the row."""
    with pytest.raises(RequestRejected, match="at data row 1: the byte 0xE9 is not UTF-8"):
        read(b"x,y\ncaf\xe9,1\n", encoding="utf-8")
    with pytest.raises(RequestRejected, match=r"at data row 2: 00 d8 .* is not utf-16"):
        read(b"\xff\xfe" + "x\na\n".encode("utf-16-le") + b"\x00\xd8b\x00")
    with pytest.raises(RequestRejected, match=r"at data row 1: ff .* is not ascii"):
        read(b"x,y\n1,\xff\n", encoding="ascii")
    with pytest.raises(ValueError, match="'zip' is no encoding"):
        check_encoding("zip")
    with pytest.raises(ValueError, match="'utf-9' is no encoding"):
        check_encoding("utf-9")


def test_cut_off_in_utf16() -> None:
    """Half a character at the end is an error."""
    with pytest.raises(RequestRejected, match=r"at data row 2: 35 \(hexadecimal\) is not utf-16-le"):
        read("x\n1\n25".encode("utf-16")[:-1])


def test_accidents_of_windows() -> None:
    """Two signs of Windows-1252 that happen to be one of UTF-8 do not change how a file is read."""
    lines = ["x,y", *["é,ü"] * 20, "ß“,b"]
    assert rows(read("\n".join(lines).encode("cp1252")))[-1] == ["ß“", "b"]


@pytest.mark.parametrize("name", ["03/euro.csv", "03/column_name.csv"])
def test_what_excel_saves(name: str) -> None:
    """The euro sign of Windows-1252 is one."""
    table = case(name)
    assert "€" in table.names[0] or rows(table)[0][0] == "100 €"


@pytest.mark.parametrize("encoding", ["cp1251", "koi8-r", "shift_jis"])
def test_other_scripts_are_refused(encoding: str) -> None:
    """A file in an encoding that is not recognized is not read as Windows-1252, unless it is declared."""
    content = "x,y\n" + ("Москва,a\n" if encoding != "shift_jis" else "東京,a\n") * 3
    with pytest.raises(RequestRejected, match="neither UTF-8 nor Windows-1252"):
        read(content.encode(encoding))
    assert rows(read(content.encode(encoding), encoding=encoding)) == rows(read(content))
    assert rows(read("x,y\n€€€,a\n".encode("cp1252"))) == [["€€€", "a"]]


def test_several_marks() -> None:
    """Files that were put together have several marks; none is a part of a name."""
    assert read(b"\xef\xbb\xbf" * 2 + b"x,y\n1,2\n").names == ("x", "y")
