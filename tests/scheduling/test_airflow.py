"""Which Airflow has what a DAG may name here, and how Airflow knows it."""

from __future__ import annotations

import importlib.util
import runpy
from importlib.metadata import version

import pytest
from airflow import plugins_manager

from airflow_provider_azureml_classic import scheduling
from airflow_provider_azureml_classic.scheduling.deadlines import WindowEnd
from airflow_provider_azureml_classic.scheduling.partitions import OnlyEndpoints


def test_an_older_airflow_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Airflow lacks what these classes stand on, the error says which Airflow is there, and which is needed."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ImportError, match=rf"needs Airflow 3\.3 or newer; this is Airflow {version('apache-airflow')}"):
        runpy.run_path(str(scheduling.__file__))


def test_the_plugin_has_what_dags_may_name() -> None:
    """Airflow makes no run of a DAG whose deadline or mapper none of its plugins has."""
    assert WindowEnd in plugins_manager.get_deadline_references_plugins().values()
    assert OnlyEndpoints in plugins_manager.get_partition_mapper_plugins().values()
