"""Which Airflow has what a DAG may name here."""

from __future__ import annotations

import importlib.util
import runpy
from importlib.metadata import version

import pytest

from airflow_provider_azureml_classic import scheduling


def test_an_older_airflow_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Airflow lacks what these classes stand on, the error says which Airflow is there, and which is needed."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ImportError, match=rf"needs Airflow 3\.3 or newer; this is Airflow {version('apache-airflow')}"):
        runpy.run_path(str(scheduling.__file__))
