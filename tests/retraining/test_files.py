"""Rows of a file for scoring calls: read here, or by the service where the library is not installed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, RequestRejected, rejection
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.retraining.files import file_rows
from airflow_provider_azureml_classic.tables import reading
from tests.support.programs import Script

CLIENT: Any = SimpleNamespace()
ENDPOINT = Endpoint("e", "s")
CONTENT = b"n;t;y\n1,5;1,5;2,5\n"


@pytest.mark.parametrize(
    ("types", "cells"),
    [
        ({"n": "number", "t": "string", "Scored Labels": "number"}, ["1.5", "1,5", "2.5"]),
        ({"n": "integer", "t": "string", "Scored Labels": "string"}, ["1.5", "1,5", "2,5"]),
    ],
)
def test_columns_are_of_the_models_kinds(types: dict[str, str], cells: list[str]) -> None:
    """A number is written as one, a text stays as it is; the label is of the kind of the answers."""
    script = Script(names=[SimpleNamespace(types=types)])
    table = script.perform(file_rows(CLIENT, ENDPOINT, CONTENT, "a/b.csv", label="y"))
    assert table.column_names == ("n", "t", "y")
    assert [str(cell) for cell in table.values[0]] == cells
    assert script.calls == [("names", {"endpoint": ENDPOINT})]


def test_a_file_that_cannot_be_read() -> None:
    """Its name is in the message."""
    with pytest.raises(RequestRejected, match=r"^a/b\.parquet"):
        Script(names=[SimpleNamespace(types={})]).perform(file_rows(CLIENT, ENDPOINT, b"PAR1", "a/b.parquet"))


def test_the_service_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name without folders."""
    monkeypatch.setattr(reading, "installed", lambda: False)
    table = Table(("a",), [["1"]])
    script = Script(read_rows=[table])
    assert script.perform(file_rows(CLIENT, ENDPOINT, CONTENT, "a/x/b.csv")) is table
    assert script.calls == [("read_rows", {"endpoint": ENDPOINT, "content": CONTENT, "name": "b.csv"})]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (rejection("OperationNotSupported", "It has no such call."), ValueError),
        (rejection("RequestBodyTooLarge", "It is too large."), ValueError),
        (rejection("InputParseError", "Row 2 is short."), RequestRejected),
    ],
)
def test_nobody_reads_it(monkeypatch: pytest.MonkeyPatch, error: AzureMLClassicError, kind: Any) -> None:
    """Then the message says which library would, what the service said, and what else may be done."""
    monkeypatch.setattr(reading, "installed", lambda: False)
    with pytest.raises(kind) as caught:
        Script(read_rows=[error]).perform(file_rows(CLIENT, ENDPOINT, CONTENT, "a/b.csv", otherwise="Or so."))
    assert error.message in str(caught.value)
    if kind is ValueError:
        assert str(caught.value).startswith("a/b.csv cannot be read: ")
        assert str(caught.value).endswith(" Or so.")
        with pytest.raises(ValueError, match=r"\.$"):
            Script(read_rows=[error]).perform(file_rows(CLIENT, ENDPOINT, CONTENT, "a/x/b.csv"))
