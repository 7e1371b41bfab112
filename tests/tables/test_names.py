"""What is said of names of columns that are not those that are expected."""

from __future__ import annotations

import pytest

from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.tables.names import check_names


@pytest.mark.parametrize("name", ["Income", "incom", "imcome"])
def test_a_misspelled_label_is_named(name: str) -> None:
    """Where only the spelling differs there is a header row, and the message names what is probably meant."""
    with pytest.raises(RequestRejected, match=f"has no column 'income'; is '{name}' meant"):
        check_names(["age", name], "CSV", ["income"])
    with pytest.raises(RequestRejected, match="needs a header row; expected the columns"):
        check_names(["red", "no"], "CSV", ["income"])
