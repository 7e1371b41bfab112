"""What is said of names of columns that are not those that are expected."""

from __future__ import annotations

import pytest

from airflow_provider_azureml_classic import exceptions
from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.tables.names import alike, check_names


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
