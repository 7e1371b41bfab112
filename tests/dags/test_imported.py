"""DAGs made of Data Factory files, run by Airflow against the running server."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_azureml_classic.cli import __main__ as cli
from airflow_provider_azureml_classic.client import Client
from tests.support import BIKES, BIKES_SCORING, ServerProcess
from tests.support.dag_process import DagProcess
from tests.support.verbs import own_endpoint, scoring_csv, training_csv


def activity(name: str, kind: str, service: str, outputs: list[str], **settings: Any) -> dict[str, Any]:
    """An activity of version 1."""
    return {
        "name": name,
        "type": kind,
        "linkedServiceName": service,
        "inputs": [{"name": "rides"}],
        "outputs": [{"name": one} for one in outputs],
        "typeProperties": settings,
        "scheduler": {"frequency": "Day", "interval": 1},
    }


def filled(place: Path) -> None:
    """A database with rides to train on and to score, and a table for the scores."""
    with sqlite3.connect(place) as connection:
        for table, text in (("rides", training_csv()), ("new", scoring_csv(3))):
            names, *rows = csv.reader(io.StringIO(text))
            connection.execute(f"CREATE TABLE {table} ({', '.join(names)})")
            connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(names))})", rows)  # noqa: S608
        connection.execute('CREATE TABLE scores ("Scored Labels" REAL)')


@pytest.mark.long
@pytest.mark.slow
def test_a_factory_runs(server: ServerProcess, client: Client, tmp_path: Path) -> None:
    """A query is trained on, the endpoint updated, new rows scored, and the scores written into their table."""
    endpoint = own_endpoint(client).name
    query = r"$$Text.Format('select * from rides where dteday < \'{0:yyyy-MM-dd}\'', WindowEnd)"
    train = activity("Train", "AzureMLBatchExecution", "trainer", ["model"], webServiceOutputs={"output1": "model"},
                     globalParameters={"Database query": query, "Password": "x"})  # fmt: skip
    update = activity(
        "Update", "AzureMLUpdateResource", "scorer", ["none"], trainedModelName="x", trainedModelDatasetName="model"
    )
    update["inputs"] = [{"name": "model"}]
    sides = {"Database query": "select * from new", "Data table name": "scores"}
    score = activity("Score", "AzureMLBatchScoring", "scorer", ["scores"], webServiceParameters=sides)
    model = {
        "type": "AzureBlob",
        "linkedServiceName": "s",
        "typeProperties": {"folderPath": f"{endpoint}/m", "fileName": "m.ilearner"},
    }
    table = {"type": "AzureSqlTable", "linkedServiceName": "warehouse", "typeProperties": {"tableName": "rides"}}
    files = [
        {"name": "factory", "properties": {"activities": [train, update, score], "start": "2026-01-01T00:00:00Z"}},
        {"name": "model", "properties": model},
        {"name": "rides", "properties": table},
    ]
    for number, content in enumerate(files):
        (tmp_path / f"{number}.json").write_text(json.dumps(content))
    services = ["--service", f"trainer={BIKES}", "--service", f"scorer={BIKES_SCORING}/{endpoint}"]
    assert cli.main(["import", str(tmp_path), "--into", str(tmp_path / "dags"), *services]) == cli.DONE
    filled(tmp_path / "db.sqlite")
    environment = {
        "AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT": server.connection["airflow_conn"],
        "AIRFLOW_CONN_WAREHOUSE": json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "db.sqlite")}),
    }
    airflow = DagProcess(tmp_path, tmp_path / "dags", environment)
    try:
        run = airflow.run("factory", logical_date="2026-02-01T00:00:00+00:00")
    finally:
        airflow.stop()
    assert set(run["tasks"].values()) == {"success"}, run
    with sqlite3.connect(tmp_path / "db.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM scores").fetchone() == (3,)
