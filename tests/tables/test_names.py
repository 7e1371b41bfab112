"""What is said of names of columns that are not those that are expected."""

from __future__ import annotations

import pytest

from airflow_provider_azureml_classic import exceptions
from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.tables import reading
from airflow_provider_azureml_classic.tables.names import alike, check_names, hint, unified


@pytest.mark.parametrize("name", ["Income", "incom", "imcome"])
def test_a_misspelled_label_is_named(name: str) -> None:
    """Where only the spelling differs there is a header row, and the message names what is probably meant."""
    with pytest.raises(RequestRejected, match=f"has no column 'income'; is '{name}' meant"):
        check_names(["age", name], "CSV", ["income"])
    with pytest.raises(RequestRejected, match="needs a header row; expected the columns"):
        check_names(["red", "no"], "CSV", ["income"])


def test_of_very_many_names_some_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message costs the same however many columns a file has, and however long their names are."""
    monkeypatch.setattr(exceptions, "MOST_COMPARED", 2)
    assert alike("price", ["a", "prices"]) == "prices"
    assert alike("price", ["a", "b", "prices"]) is None
    assert alike("x" * 300 + "y", ["x" * 300 + "z" * 100_000]) == "x" * 300 + "z" * 100_000


def test_accents_in_another_form_of_unicode() -> None:
    """A name that nobody can tell from the expected one is that one in a file; elsewhere the message shows both."""
    assert unified(["o\u0308", "e\u0301", "y"], ["\u00f6", "y"]) == ("\u00f6", "e\u0301", "y")
    assert unified(["\u00e9", "e\u0301"], ["e\u0301"]) == ("e\u0301", "e\u0301")
    assert reading.read("e\u0301,z\n1,2\n".encode(), "CSV", expected=["\u00e9"]).names == ("\u00e9", "z")
    said = hint("\u00e9t\u00e9", ["e\u0301te\u0301"], [])
    assert r"'e\u0301te\u0301', where '\xe9t\xe9' is expected" in said
