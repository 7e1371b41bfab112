"""The smaller operators together in a DAG that Airflow runs, against the running server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.exceptions import NotFound
from tests.support import ServerProcess
from tests.support.verbs import own_name, scoring, scoring_csv, training_csv

DAG = """
from datetime import datetime, timezone
from airflow.sdk import DAG
from airflow_provider_azureml_classic.operators import *
from airflow_provider_azureml_classic.sensors import JobSensor

SCORING = {{"web_service": "Bike Rental [predictive exp.]"}}
with DAG("verbs", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)):
    add = [AddEndpointOperator(task_id=f"add{{n}}", endpoint=name, **SCORING) for n, name in enumerate({names})]
    training = UploadDataOperator(
        task_id="training", source="{folder}/training.csv", destination="{container}/{{{{ ds_nodash or 'x' }}}}.csv"
    )
    train = BatchExecutionOperator(
        task_id="train", web_service="Bike Rental", inputs={{"input1": training.output["location"]}},
        model_for="{names[0]}", wait_for_completion=False,
    )
    wait = JobSensor(task_id="wait", job=train.output, poke_interval=0.5)
    listed = ListEndpointsOperator(task_id="list", name_pattern="{pattern}", **SCORING)
    update = UpdateTrainedModelOperator.partial(
        task_id="update", job=wait.output, map_index_template="{{{{ task.endpoint }}}}", **SCORING
    ).expand_kwargs(listed.output.map(lambda found: {{"endpoint": found["name"]}}))
    rows = UploadDataOperator(task_id="rows", source="file://{folder}/rows.csv", destination="{container}/rows.csv")
    score = BatchScoringOperator(
        task_id="score", endpoint="{names[0]}", source=rows.output["location"], destination="{container}/scored.csv",
        poll_interval=0.5, **SCORING,
    )
    keys = RegenerateKeysOperator(task_id="keys", endpoint="{names[1]}", which="secondary", **SCORING)
    drop = [DeleteEndpointOperator(task_id=f"drop{{n}}", endpoint=name, **SCORING) for n, name in enumerate({names})]
    add >> listed
    update >> [score, keys]
    for one, other in zip(add, drop):
        [score, keys] >> other.as_teardown(setups=one)
"""
RUN = """
import json, os
from airflow.utils.db import initdb
initdb()
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
assert not bag.import_errors, bag.import_errors
run = bag.dags["verbs"].test()
from airflow.models.xcom import XComModel
from airflow.settings import Session
from sqlalchemy import select
with Session() as session:
    kept = [(x.task_id, x.map_index, x.key, XComModel.deserialize_value(x)) for x in session.scalars(select(XComModel))]
states = {f"{ti.task_id}[{ti.map_index}]": str(getattr(ti.state, "value", ti.state)) for ti in run.get_task_instances()}
print("ANSWER", json.dumps({"states": states, "kept": kept}, default=str))
"""


def ran(server: ServerProcess, folder: Path, **names: Any) -> dict[str, Any]:
    """States of the tasks, and all XComs, of one run of the DAG in an Airflow of its own."""
    (folder / "dags").mkdir()
    (folder / "dags" / "verbs.py").write_text(DAG.format(folder=folder, **names))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    environment |= {
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT": server.connection["airflow_conn"],
    }
    done = subprocess.run([sys.executable, "-c", RUN], env=environment, capture_output=True, text=True, timeout=300)
    lines = [line for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
    assert lines, done.stdout[-3000:] + done.stderr[-3000:]
    found: dict[str, Any] = json.loads(lines[0].removeprefix("ANSWER "))
    found["log"] = done.stdout + done.stderr
    return found


@pytest.mark.slow
def test_a_dag_of_them(server: ServerProcess, client: Client, tmp_path: Path) -> None:
    """Upload, train without waiting, await, update every listed endpoint, score a file, renew a key, tear down: each
    task succeeds on what the others returned, and no key or token is in any XCom or in the log."""
    (tmp_path / "training.csv").write_text(training_csv())
    (tmp_path / "rows.csv").write_text(scoring_csv(2))
    names, container = sorted([own_name(), own_name()]), own_name()
    found = ran(server, tmp_path, names=names, container=container, pattern="|".join(names))
    assert set(found["states"].values()) == {"success"}
    assert sorted(name for name in found["states"] if name.startswith("update")) == ["update[0]", "update[1]"]
    values = {(task, index, key): value for task, index, key, value in found["kept"]}
    assert values["training", -1, "rows"] == 240
    assert [item["name"] for item in values["list", -1, "return_value"]] == names
    assert {values["update", n, "return_value"]["endpoint"] for n in (0, 1)} == set(names)
    scored = client.fetch_blob(server.sas(f"{container}/scored.csv")).decode().splitlines()
    assert len(scored) == 3
    for name in names:
        with pytest.raises(NotFound):
            client.get_endpoint(scoring(client).id, name)
    assert "sig=" not in json.dumps(found["kept"])
    assert server.connection["token"] not in json.dumps(found)
