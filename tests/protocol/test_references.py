"""References to blobs: every spelling means one place, and what opens it is never shown."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_azureml_classic.exceptions import ProtocolError, RequestRejected
from airflow_provider_azureml_classic.protocol.references import BlobReference, ToldWindow

BASE = "https://acct.blob.core.windows.net/"
TOKEN = "?sv=2013-08-15&sr=b&sig=Zm9v%3D%2B&sp=r"
CAREFUL = BlobReference("models/feb.ilearner", BASE, TOKEN)
CONNECTION = "DefaultEndpointsProtocol=https;AccountName=acct;AccountKey=U0VDUkVU"
FEBRUARY = datetime(2026, 2, 1, tzinfo=UTC)
FACTORY = settings(database=None, deadline=None, max_examples=120)

# Texts made of the characters that normalising is about.
_texts = st.text(st.sampled_from("/?& \t\nab.%=\u00a0"), max_size=8)
_references = st.builds(BlobReference, _texts, _texts, _texts, st.sampled_from(["", CONNECTION]))


def wire(base: str | None, relative: str, token: str | None) -> dict[str, Any]:
    """A location as a client writes it."""
    return {"BaseLocation": base, "RelativeLocation": relative, "SasBlobToken": token, "ConnectionString": None}


@pytest.mark.parametrize(
    ("base", "relative", "token"),
    [
        (BASE, "models/feb.ilearner", TOKEN),
        (BASE.rstrip("/"), "/models/feb.ilearner", TOKEN),
        (BASE.rstrip("/"), "models/feb.ilearner", TOKEN),
        (BASE, "/models/feb.ilearner", TOKEN.lstrip("?")),
        (f" {BASE}/", " //models/feb.ilearner ", f" &{TOKEN[1:]} "),
    ],
    ids=["service", "net-sdk", "readme", "no-question-mark", "blanks"],
)
def test_slash_conventions(base: str, relative: str, token: str) -> None:
    """All conventions of wire document section 2.6 are read as the service's own, and name one place."""
    reference = BlobReference.from_wire(wire(base, relative, token))
    assert reference == CAREFUL
    assert reference.url == f"{BASE}models/feb.ilearner{TOKEN}"
    assert reference.same_place(CAREFUL)


@pytest.mark.parametrize(
    ("opened_by", "relative", "path"),
    [
        ("BlobEndpoint=http://127.0.0.1:8080/mlclassic;AccountName=a;AccountKey=a2V5", "/mlclassic/data/x.csv", None),
        (
            "AccountName=a;blobendpoint = http://127.0.0.1:8080/mlclassic/ ;AccountKey=a2V5",
            "/mlclassic/data/x.csv",
            None,
        ),
        ("UseDevelopmentStorage=true", "/devstoreaccount1/data/x.csv", None),
        ("http://127.0.0.1:8080/mlclassic", "/mlclassic/data/x.csv", None),
        ("http://127.0.0.1:8080/mlclassic/", "/data/x.csv", None),
        ("http://127.0.0.1:8080/mlclassic", "mlclassic/data/x.csv", "mlclassic/data/x.csv"),
        ("http://127.0.0.1:8080/mlclassic", "/mlclassic2/data/x.csv", "mlclassic2/data/x.csv"),
        ("https://mlclassic.blob.core.windows.net", "/mlclassic/x.csv", "mlclassic/x.csv"),
        ("AccountName=mlclassic;AccountKey=a2V5", "/mlclassic/x.csv", "mlclassic/x.csv"),
        ("", "/mlclassic/data/x.csv", "mlclassic/data/x.csv"),
        ("http://[mlclassic", "/mlclassic/x.csv", "mlclassic/x.csv"),
    ],
)
def test_account_in_the_path(opened_by: str, relative: str, path: str | None) -> None:
    """``Uri.LocalPath`` begins with the account where the address names it in its path; it is not said twice."""
    sent = wire(None, relative, None)
    sent["BaseLocation" if "://" in opened_by[:8] or not opened_by else "ConnectionString"] = opened_by
    assert BlobReference.from_wire(sent).relative_location == (path or "data/x.csv")


def test_plain_http_is_the_same_place() -> None:
    """The documents write ``http://`` where the service says ``https://``; the scheme is kept but not compared."""
    plain = BlobReference.from_wire(wire("HTTP://ACCT.blob.core.windows.net", "models/feb.ilearner", None))
    assert plain.same_place(CAREFUL)
    assert plain.url.startswith("HTTP://ACCT")


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (BlobReference("models/feb.ilearner", BASE, "?sig=other"), True),
        (BlobReference("feb.ilearner", BASE + "models/"), True),
        (BlobReference.at(BASE, "models/f%65b.ilearner"), True),
        (BlobReference("models/f%65b.ilearner", BASE), False),
        (BlobReference("models/Feb.ilearner", BASE), False),
        (BlobReference("models/feb.ilearner", "https://other.example/"), False),
        (BlobReference("models/feb.ilearner"), False),
    ],
)
def test_same_place(other: BlobReference, same: bool) -> None:
    """Host and path make a place, however a URL spells them; tokens do not, and the case of a path does."""
    assert CAREFUL.same_place(other) is other.same_place(CAREFUL) is same


@FACTORY
@given(_references)
def test_normalised_is_idempotent(reference: BlobReference) -> None:
    """Normalising what is normalised changes nothing."""
    once = reference.normalised()
    assert once.normalised() == once


@FACTORY
@given(_references)
def test_normalised_form(reference: BlobReference) -> None:
    """The careful form: base ends in a slash, relative does not begin with one, token begins with a question mark."""
    careful = reference.normalised()
    assert not careful.base_location or careful.base_location.endswith("/")
    assert careful.relative_location == careful.relative_location.lstrip("/")
    assert not careful.sas_token or careful.sas_token.startswith("?")


@pytest.mark.slow
@FACTORY
@given(st.lists(st.text(st.sampled_from("abc123-_.%?#+ é")).map("x{}x".format), min_size=1, max_size=4).map("/".join))
def test_wire_round_trip(path: str) -> None:
    """What is written is read back equal, in each of the forms that a reference takes."""
    for reference in (
        BlobReference(path, BASE, TOKEN),
        BlobReference(path, BASE),
        BlobReference(path, connection_string=CONNECTION),
        BlobReference(path),
    ):
        assert BlobReference.from_wire(reference.to_wire(), strict=True) == reference
    assert BlobReference.from_url(BlobReference(path, BASE, TOKEN).url) == BlobReference(path, BASE, TOKEN)


def test_wire_members() -> None:
    """All four members are written; the token is null beside a connection string and an empty text otherwise."""
    assert CAREFUL.to_wire() == wire(BASE, "models/feb.ilearner", TOKEN)
    assert BlobReference("a.csv").to_wire() == wire(None, "a.csv", "")
    assert BlobReference("a.csv", connection_string=CONNECTION).to_wire() == {
        "ConnectionString": CONNECTION,
        "RelativeLocation": "a.csv",
        "BaseLocation": None,
        "SasBlobToken": None,
    }


@pytest.mark.parametrize(
    ("value", "reference"),
    [
        (CAREFUL, CAREFUL),
        (CAREFUL.url, CAREFUL),
        (f" {CAREFUL.url}\n", CAREFUL),
        (CAREFUL.to_wire(), CAREFUL),
        ("models/feb.ilearner", BlobReference("models/feb.ilearner")),
        ("/models/feb.ilearner", BlobReference("models/feb.ilearner")),
        ("models/feb.ilearner?&", BlobReference("models/feb.ilearner?&")),
        ("http://h/a.csv", BlobReference("a.csv", "http://h/")),
    ],
)
def test_parse(value: Any, reference: BlobReference) -> None:
    """A user may write a reference as itself, as a URL, as its wire form, or as a path."""
    assert BlobReference.parse(value) == reference


def test_token_pasted_with_its_path_is_hidden() -> None:
    """A token that came inside the relative location is a secret as much as one in its own member."""
    reference = BlobReference.from_wire({"RelativeLocation": "a/b.csv?sig=U0VDUkVU", "BaseLocation": BASE})
    assert reference == BlobReference("a/b.csv", BASE, "?sig=U0VDUkVU")
    assert "U0VDUkVU" not in f"{reference!r}{reference.location}"


@pytest.mark.parametrize(
    ("data", "code", "named"),
    [
        (None, "MissingInputBlobInformation", "Input"),
        ("https://acct.example/a.csv", "MissingInputBlobInformation", "Input"),
        ([], "MissingInputBlobInformation", "Input"),
        ({}, "InputBlobRelativeLocationInvalid", "Input"),
        ({"RelativeLocation": " / "}, "InputBlobRelativeLocationInvalid", "Input"),
        ({"RelativeLocation": 5}, "InvalidBlob", "RelativeLocation"),
        ({"RelativeLocation": "a.csv", "SasBlobToken": ["x"]}, "InvalidBlob", "SasBlobToken"),
        ({"RelativeLocation": "a.csv", "BaseLocation": "x" * 4097}, "InvalidBlob", "BaseLocation"),
        ({"RelativeLocation": "a.csv", "ConnetionString": "x"}, "UnexpectedParameter", "ConnetionString"),
    ],
)
def test_bad_reference(data: Any, code: str, named: str) -> None:
    """A reference that cannot be used is refused with its code, and what is wrong is named."""
    with pytest.raises(RequestRejected, match=rf"^Input\b.*{named}|^{named}") as caught:
        BlobReference.from_wire(data, what="Input", strict=True)
    assert caught.value.detail_code == code
    assert caught.value.details[0].target == (None if named == "Input" else named)


def test_the_longest_location() -> None:
    """So many letters of each member are read, and no more."""
    sent = wire(f"https://{'h' * 4087}/", "r" * 4096, "?" + "t" * 4095)
    assert BlobReference.from_wire(sent).to_wire() == sent


def test_unknown_member_of_an_answer_is_ignored() -> None:
    """A client reads what other servers add to a location."""
    assert BlobReference.from_wire({**CAREFUL.to_wire(), "Added": 1}) == CAREFUL


@pytest.mark.parametrize("url", ["models/feb.csv", "ftp://h/a.csv", "https:///a.csv", ""])
def test_bad_url(url: str) -> None:
    """Only an absolute http(s) URL with a host is a location."""
    with pytest.raises(RequestRejected, match="https://"):
        BlobReference.from_url(url)


def test_url_without_base() -> None:
    """A blob of the service's own store has no address of its own; the message names it."""
    with pytest.raises(ProtocolError, match=r"'a/b\.csv' has no BaseLocation"):
        _ = BlobReference("a/b.csv").url


def test_url_is_encoded_once() -> None:
    """A path is the plain name and encoded as such, however it was written; the token stays byte for byte."""
    url = f"{BASE}data/f%20eb%2520%C3%A9.csv?sig=a%2Bb+c%3D"
    assert BlobReference("data/f eb%20é.csv", BASE, "?sig=a%2Bb+c%3D").url == url
    for path in ("data/f eb%2520é.csv", "data/f%20eb%2520%C3%A9.csv", "data%2Ff%20eb%2520%c3%a9.csv"):
        assert BlobReference.from_wire(wire(BASE, path, "sig=a%2Bb+c%3D")).url == url


@pytest.mark.parametrize(
    ("path", "extension"),
    [
        ("a/b.csv", ".csv"),
        ("a/b.ILearner", ".ilearner"),
        ("a.b/c", ""),
        ("x/a.b/c", ""),
        ("a/b.tar.gz", ".gz"),
        ("a/b.", "."),
    ],
)
def test_extension(path: str, extension: str) -> None:
    """The extension is the file name's, in lower case."""
    assert BlobReference(path).extension == extension


def test_secrets_are_named_and_not_shown() -> None:
    """Token and connection string are told to who masks them, and are in no ``repr`` and no ``location``."""
    reference = BlobReference("a.csv", BASE, TOKEN, CONNECTION)
    assert reference.secrets == (TOKEN[1:], CONNECTION)
    assert BlobReference("a.csv", BASE).secrets == ()
    for shown in (repr(reference), str(reference), reference.location):
        assert "Zm9v" not in shown
        assert "U0VDUkVU" not in shown
    assert reference.location == f"{BASE}a.csv"


def test_error_does_not_show_what_was_given() -> None:
    """A refused reference, or URL, is not quoted: it may hold a token."""
    with pytest.raises(RequestRejected) as by_wire:
        BlobReference.from_wire({"SasBlobToken": "sig=U0VDUkVU", "ConnectionString": CONNECTION})
    with pytest.raises(RequestRejected) as by_url:
        BlobReference.from_url("acct.example/a?x=U0VDUkVU")
    assert "U0VDUkVU" not in f"{by_wire.value}{by_url.value}"


def test_container_and_blob() -> None:
    """The container is the first part of the path; a path of one part, or that ends there, names no blob."""
    assert BlobReference("data/2026/jan.csv").container_and_blob() == ("data", "2026/jan.csv")
    for path in ("data", "data/"):
        with pytest.raises(RequestRejected, match=f"'{path}' must be container/path") as caught:
            BlobReference(path).container_and_blob()
        assert caught.value.details[0].target == "RelativeLocation"


@pytest.mark.parametrize(
    ("sent", "window"),
    [
        ({"End": None, "IsFirst": True}, ToldWindow(is_first=True)),
        ({"End": "2026-02-01T00:00:00Z", "IsFirst": False}, ToldWindow(FEBRUARY)),
        (
            {"End": None, "IsFirst": False, "Last": "2026-02-01T00:00:00Z", "TrainedAt": "2026-02-01T00:00:00Z"},
            ToldWindow(last=FEBRUARY, trained_at=FEBRUARY),
        ),
    ],
)
def test_a_told_window(sent: dict[str, Any], window: ToldWindow) -> None:
    """What a service tells of a model's training data is read as it is written."""
    assert ToldWindow.from_wire(sent) == window
    assert window.to_wire() == sent
    assert ToldWindow.from_wire("2026-02-01") is None
