"""What a DAG file pays for this provider: modules beyond those of ``import airflow.sdk``, in fresh interpreters."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys

import pytest

from airflow_provider_azureml_classic import operators, sensors
from airflow_provider_azureml_classic.fleet.options import MAX_ACTIVE_JOBS
from airflow_provider_azureml_classic.hooks import AzureMLClassicHook
from airflow_provider_azureml_classic.operators import base
from airflow_provider_azureml_classic.protocol.values import DEFAULT_ENDPOINT
from tests.support import ROOT

PACKAGE = "airflow_provider_azureml_classic"
HEAVY = {
    "aiohttp",
    "azure",
    "numpy",
    "onnx",
    "onnxruntime",
    "openlineage",
    "pandas",
    "requests",
    "skl2onnx",
    "sklearn",
    "starlette",
    "uvicorn",
    "yarl",
}
ALL = f"""
from {PACKAGE}.operators import {", ".join(operators.__all__)}
from {PACKAGE}.sensors import JobSensor, ModelDriftSensor, ModelFreshnessSensor
from {PACKAGE}.notifications import ModelUpdatedNotifier
"""
#: A DAG file without this provider, and with it.
PLAIN = """
from datetime import timedelta
from airflow.sdk import DAG, Asset, BaseOperator, BaseSensorOperator
with DAG("d", schedule=Asset("a")):
    first = BaseOperator(task_id="first", outlets=[Asset("b")])
    BaseOperator(task_id="second", inlets=[first.output])
"""
EVERYTHING = f"""{ALL}
to = dict(web_service="s", endpoint="e")
with DAG("e", schedule=Asset("a")):
    up = UploadDataOperator(task_id="up", source="a.csv", destination="c/a.csv")
    WriteTableOperator(task_id="table", job={{}}, table="t", sql_conn_id="c")
    train = BatchExecutionOperator(task_id="train", web_service="t", inputs={{"input1": up.output["location"]}})
    gate = ModelQualityGate(task_id="gate", job=train.output, thresholds={{"AUC": {{"min": 0.9}}}}, **to)
    approve = ApproveModelOperator(task_id="approve", job=train.output, gate=gate.output, **to)
    update = UpdateTrainedModelOperator(
        task_id="update", job=train.output, approval=approve.output, on_success_callback=ModelUpdatedNotifier(), **to
    )
    fresh = ModelFreshnessSensor(task_id="fresh", max_age=timedelta(days=1), **to)
    ModelDriftSensor(task_id="drift", web_service="s")
    AddEndpointOperator(task_id="add", **to) >> train >> gate >> update >> fresh
    JobSensor(task_id="job", job=train.output) >> CancelJobOperator(task_id="cancel", job=train.output)
    ListEndpointsOperator(task_id="list", web_service="s") >> RefreshEndpointOperator(task_id="refresh", **to)
    RegenerateKeysOperator(task_id="keys", **to) >> DeleteEndpointOperator(task_id="delete", **to)
    BatchScoringOperator(task_id="score_file", source="a.csv", **to) >> ScoreOperator(task_id="rows", rows=[], **to)
    DataCheckOperator(task_id="look", model_for="a", **to) >> DoctorOperator(task_id="doctor")
    RollbackModelOperator(task_id="back", receipt=update.output)
    RetrainFleetOperator(task_id="fleet", training_service="t", scoring_service="s", items=[])
"""


def loaded(code: str, before: str = "import airflow.sdk") -> set[str]:
    """Modules that ``code`` loads on top of ``before``."""
    script = (
        f"import sys, json\n{before}\nbefore = set(sys.modules)\n{code}\n"
        "print('MODULES', json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("MODULES "))
    return set(json.loads(line.removeprefix("MODULES ")))


def heavy(modules: set[str]) -> list[str]:
    """Those that a DAG file must not load: HTTP and data libraries, and the server."""
    return [name for name in modules if name.partition(".")[0] in HEAVY or name.startswith(f"{PACKAGE}.server")]


@pytest.mark.slow
def test_importing_everything() -> None:
    """All operators, sensors and the notifier load nothing that is heavy."""
    found = loaded(ALL)
    assert f"{PACKAGE}.operators.batch" in found
    assert heavy(found) == []


@pytest.mark.slow
def test_a_dag_file_that_uses_everything() -> None:
    """A DAG of all of them loads nothing that is heavy either: making tasks opens no client."""
    found = loaded(EVERYTHING, PLAIN)
    assert heavy(found) == []


def test_the_dag_uses_everything() -> None:
    """No operator and no sensor is left out above, but for the base of the sensors."""
    names = {name for name, kind in inspect.getmembers(sensors, inspect.isclass) if kind.__module__ == sensors.__name__}
    assert {name for name in {*operators.__all__, *names} if f"{name}(" not in EVERYTHING} == {"WaitingSensor"}


@pytest.mark.slow
def test_triggers_and_watches() -> None:
    """What the triggerer loads, and DAGs with a watch, is not heavy either before it waits."""
    assert heavy(loaded(f"import {PACKAGE}.triggers, {PACKAGE}.watchers, {PACKAGE}.get_provider_info")) == []


def test_defaults_are_those_of_hook_and_protocol() -> None:
    """The defaults that are spelled twice, for the sake of imports, are the same."""
    assert AzureMLClassicHook.default_conn_name == base.DEFAULT_CONNECTION
    assert base.DEFAULT_ENDPOINT == DEFAULT_ENDPOINT
    fleet = operators.RetrainFleetOperator(task_id="fleet", training_service="t", scoring_service="s", items=[])
    assert fleet.max_active_jobs == MAX_ACTIVE_JOBS
