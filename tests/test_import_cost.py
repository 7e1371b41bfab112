"""What a DAG file pays for this provider: modules beyond those of ``import airflow.sdk``."""

from __future__ import annotations

import json
import os
import pkgutil
import subprocess
import sys

import pytest

import airflow_provider_azureml_classic
from airflow_provider_azureml_classic import operators
from tests.support import ROOT

PACKAGE = "airflow_provider_azureml_classic"
MODULES = [
    *(f"{PACKAGE}.{name}" for name in ("assets", "links", "notifications", "sensors", "triggers", "watchers")),
    *(f"{PACKAGE}.operators.{module.name}" for module in pkgutil.iter_modules(operators.__path__)),
]
MAX_MODULES = 20
HEAVY = ["requests", "aiohttp", "yarl", "openlineage", "pandas", "numpy", "azure", "sklearn", "starlette"]
USE = f"""
from datetime import timedelta
from airflow.sdk import DAG, Asset, AssetWatcher
from {PACKAGE}.notifications import ModelUpdatedNotifier
from {PACKAGE}.operators import AddEndpointOperator, BatchExecutionOperator, UpdateTrainedModelOperator
from {PACKAGE}.sensors import ModelFreshnessSensor
from {PACKAGE}.watchers import ModelChangeTrigger, StaleModelTrigger
to = dict(web_service="s", endpoint="e")
watchers = [StaleModelTrigger(max_age=timedelta(days=1), **to), ModelChangeTrigger(**to)]
with DAG("d", schedule=Asset("a", watchers=[AssetWatcher(str(n), w) for n, w in enumerate(watchers)])):
    train = BatchExecutionOperator(task_id="train", web_service="t")
    tell = ModelUpdatedNotifier()
    update = UpdateTrainedModelOperator(task_id="u", job=train.output, on_success_callback=tell, **to)
    AddEndpointOperator(task_id="a", **to) >> train >> update >> ModelFreshnessSensor(
        task_id="f", max_age=timedelta(days=1), **to
    )
"""


def added(code: str) -> list[str]:
    """Modules of others that ``code`` loads after ``airflow.sdk``, in a process of its own."""
    script = (
        f"import sys\nimport airflow.sdk\nbefore = set(sys.modules)\n{code}\nimport json\n"
        "print('MODULES', json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, env=os.environ)
    assert done.returncode == 0, done.stderr[-2000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("MODULES "))
    return [name for name in json.loads(line.removeprefix("MODULES ")) if name.partition(".")[0] != PACKAGE]


@pytest.mark.slow
def test_importing_everything_is_cheap():
    """All operators, sensors, triggers, watches and the notifier add at most 20 modules of others, none heavy."""
    found = added("".join(f"import {name}\n" for name in MODULES))
    assert len(found) <= MAX_MODULES, found
    assert [name for name in found if name.partition(".")[0] in HEAVY] == []


@pytest.mark.slow
def test_a_dag_file_that_uses_everything_is_cheap():
    """A DAG of all tasks and watches stays within 20 modules too, though half of them are Airflow's own for any DAG."""
    found = added(USE)
    assert len(found) <= MAX_MODULES, found
    assert [name for name in found if name.partition(".")[0] in HEAVY] == []


def test_every_module_is_measured():
    """A module that is added to the provider's side is measured too."""
    here = {name for _, name, _ in pkgutil.iter_modules(airflow_provider_azureml_classic.__path__)}
    others = {
        "client",
        "csv_data",
        "exceptions",
        "fleet",
        "freshness",
        "get_provider_info",
        "hooks",
        "job_state",
        "job_ticket",
        "placing",
        "proof",
        "protocol",
        "quality",
    }
    measured = {name.split(".")[1] for name in MODULES}
    assert here - others - {"server", "cli", "plugin"} == measured
