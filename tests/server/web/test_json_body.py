"""The fast JSON of the server reads and writes what the standard library does."""

from __future__ import annotations

import gc
import json
import math
from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_azureml_classic.server.web import json_body as json_text

_TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(_TEXTS, inner),
)


@pytest.mark.slow
@given(_VALUES, st.booleans())
def test_a_body_is_read_as_the_standard_library_reads_it(value: object, escaped: bool) -> None:
    """Equal values of equal types, with and without escapes."""
    text = json.dumps(value, ensure_ascii=escaped)
    assert repr(json_text.read(text.encode())) == repr(json.loads(text))


@pytest.mark.slow
@given(st.recursive(st.none() | _TEXTS, lambda inner: st.lists(inner) | st.dictionaries(_TEXTS, inner)))
def test_an_answer_is_read_back_unchanged(value: object) -> None:
    """What is written is JSON in UTF-8 that any client reads."""
    assert json.loads(json_text.write(value).decode()) == value


@pytest.mark.parametrize(
    "body",
    [b"1e400", b"-0", b"-0.0", b"18446744073709551616", b'{"a":1,"a":2}', b'"\\ud83d\\ude00"', b"0.1", b"[NaN,1]"],
)
def test_corners_are_read_as_the_standard_library_reads_them(body: bytes) -> None:
    """Numbers out of range, repeated members, escaped pairs and NaN keep their meaning."""
    assert repr(json_text.read(body)) == repr(json.loads(body))


def test_a_byte_order_mark_is_allowed() -> None:
    """Old clients of Windows send one."""
    assert json_text.read(b"\xef\xbb\xbf[1]") == [1]
    assert math.isinf(json_text.read(b"\xef\xbb\xbfInfinity"))


@pytest.mark.parametrize("body", [b'"\\ud800"', b'"\xff"', b'["\\udc00\\ud800"]', b'"\xed\xa0\x80"'])
def test_what_cannot_be_stored_as_text_is_refused(body: bytes) -> None:
    """Half of a surrogate pair, escaped or not, and bytes that are no UTF-8."""
    with pytest.raises(UnicodeError):
        json_text.read(body)
    for charset in ("utf-16-le", "utf-16-be"):
        assert json_text.read('"ä\\n"'.encode(charset), f"charset={charset}") == "ä\n"
        with pytest.raises(UnicodeEncodeError):
            json_text.read(b'"\\ud800"'.decode().encode(charset), f"charset={charset}")


def test_a_message_says_where() -> None:
    """Messages are those of the standard library, whichever reader found the mistake."""
    with pytest.raises(ValueError, match=r"Expecting value: line 1 column 4 \(char 3\)"):
        json_text.read(b"[1,]")
    with pytest.raises(RecursionError):
        json_text.read(b"[" * 100_000)


@pytest.mark.parametrize("end", ["]", ""])
def test_a_large_body_is_decoded_without_collections(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking for cycles that JSON cannot have took four times as long as to decode; afterwards they are looked for."""
    passes: list[str] = []

    def note(phase: str, _: object) -> None:
        passes.append(phase)

    body = f"[{'[],' * 30_000}[]{end}".encode()
    during: list[int] = []

    class Decoder:
        def decode(self, text: bytes) -> object:
            before = len(passes)
            try:
                return json.loads(text)
            finally:
                during.append(len(passes) - before)

    monkeypatch.setattr(json_text, "_decoder", Decoder())
    gc.callbacks.append(note)
    try:
        with nullcontext() if end else pytest.raises(ValueError, match="delimiter"):
            json_text.read(body)
    finally:
        gc.callbacks.remove(note)
    assert during == [0]
    assert gc.isenabled()
