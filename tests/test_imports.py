"""A DAG file must parse fast: what importing the provider costs, in an interpreter of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PACKAGE = "airflow_provider_azureml_classic"
#: New modules outside the package; the aim is 20, two are Airflow's own bases.
MOST_NEW = 20
HEAVY = {
    "aiohttp",
    "azure",
    "numpy",
    "onnx",
    "onnxruntime",
    "pandas",
    "requests",
    "skl2onnx",
    "sklearn",
    "sqlalchemy",
    "starlette",
    "uvicorn",
    "yarl",
}
PROGRAM = f"""
import json, sys
import airflow.sdk, airflow.triggers.base
before = set(sys.modules)
import {PACKAGE}.operators, {PACKAGE}.sensors, {PACKAGE}.triggers, {PACKAGE}.hooks, {PACKAGE}.get_provider_info
print(json.dumps(sorted(set(sys.modules) - before)))
"""


@pytest.fixture(scope="module")
def new() -> list[str]:
    """Modules that the provider's modules bring in, over those of Airflow's own SDK."""
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    return list(json.loads(run.stdout.splitlines()[-1]))


@pytest.mark.slow
def test_nothing_heavy(new: list[str]) -> None:
    """No HTTP library, no data library and nothing of the server is imported with a DAG."""
    assert [name for name in new if name.partition(".")[0] in HEAVY] == []
    assert [name for name in new if name.startswith(f"{PACKAGE}.server")] == []
    assert f"{PACKAGE}.operators.batch" in new


@pytest.mark.slow
def test_few_modules(new: list[str]) -> None:
    """Few modules beyond our own come along, and of ours not many."""
    others = [name for name in new if not name.startswith(PACKAGE)]
    assert len(others) <= MOST_NEW, others
    assert len(new) - len(others) <= 50, new
