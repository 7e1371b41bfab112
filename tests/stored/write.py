"""Writes what the present version stores, for later versions to read: ``python -m tests.stored.write`` at each release.

Makes ``tests/stored/v<version>``, which ``tests/test_stored.py`` of all later versions opens. Nothing in it is ever
changed again. It holds

- ``server.tar.xz``: a server's data directory, with its database, its blobs and its secrets, which are random;
- ``experiments/``: the declarations that the server was started with;
- ``airflow.json``: rows of an Airflow's database, each as Airflow wrote it: what tasks returned (``xcom``) and
  remember (``task_state_store``), triggers and the tasks and assets that wait for them, and what watches remember;
- ``facts.json``: what was seen when it was written: endpoints, states of jobs, answers, models in order.

Only public parts are used: operators, the client, and the server as a program. A task that is to stay deferred waits
for an endpoint that a fault of :mod:`airflow_provider_azureml_classic.server.faults` keeps from being ready; Airflow is
left before it runs the trigger. Deadlines are a century away, because what is stored is to be taken up years later.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import requests

from airflow_provider_azureml_classic import __version__
from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.protocol.jobs import JobRequest
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint, EndpointSettings, TraceLevel
from tests.support import ServerProcess, wait_for_job

HERE = Path(__file__).parent
LINE, SCORING = "Stored Line", "Stored Line [predictive exp.]"
#: What goes wrong while this runs, by endpoint.
PLAN = {
    "hanging": {"fault": "hang"},
    "pretended": {"fault": "pretend"},
    "retried": {"fault": "pretend"},
    "aside": {"fault": "pretend"},
}
#: Tables of Airflow's database, and the columns that are kept; ``*``: all.
TABLES = {
    "xcom": "dag_id, task_id, run_id, map_index, key, value",
    "task_state_store": "dag_id, task_id, run_id, map_index, key, value",
    "task_instance": "dag_id, task_id, run_id, map_index, max_tries, trigger_id, next_method, next_kwargs",
    "trigger": "id, classpath, kwargs",
    "asset_watcher": "*",
}
#: A row of each shipped experiment.
CENSUS = {
    "age": 40, "workclass": "Private", "fnlwgt": 200000, "education": "HS-grad", "education-num": 9,
    "marital-status": "Divorced", "occupation": "Sales", "relationship": "Unmarried", "race": "White", "sex": "Female",
    "capital-gain": 0, "capital-loss": 0, "hours-per-week": 40, "native-country": "United-States",
}  # fmt: skip
BIKES = {
    "season": 2, "yr": 0, "mnth": 5, "hr": 12, "holiday": 0, "weekday": 3, "workingday": 1, "weathersit": 1,
    "temp": 0.6, "atemp": 0.6, "hum": 0.5, "windspeed": 0.2,
}  # fmt: skip
#: Waves of a fleet that are run; the next stays deferred.
WAVES = 1


class Parked(BaseException):
    """A task is deferred; its trigger is not to be run."""


def main() -> None:
    """Write the folder."""
    target = HERE / f"v{__version__}"
    if target.exists():
        sys.exit(
            f"{target} is there already. What a version stored is never changed; remove it if it was not released."
        )
    work = Path(tempfile.mkdtemp(prefix="stored-"))
    try:
        shutil.copytree(HERE / "experiments", work / "experiments", ignore=shutil.ignore_patterns("__pycache__"))
        facts, rows = written(work)
        target.mkdir()
        shutil.copytree(work / "experiments", target / "experiments", ignore=shutil.ignore_patterns("__pycache__"))
        with tarfile.open(target / "server.tar.xz", "w:xz") as archive:
            archive.add(work / "server", "server")
        for name, content in (("facts", facts), ("airflow", rows)):
            (target / f"{name}.json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    finally:
        shutil.rmtree(work)


def server_arguments(experiments: Path) -> tuple[list[str], dict[str, str]]:
    """Arguments and environment that a server of the stored data directory needs.

    :param experiments: folder of the declarations.
    """
    arguments = ["--experiments", str(experiments / "stored.toml"), "--experiments", "stored_experiments:EXPERIMENTS"]
    return [*arguments, "--workers", "1"], {"PYTHONPATH": str(experiments)}


def written(work: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run server and Airflow; returns what was seen, and rows of Airflow's database.

    :param work: an empty folder but for the declarations.
    """
    plan = work / "plan.json"
    plan.write_text(json.dumps(PLAN))
    arguments, environment = server_arguments(work / "experiments")
    program = ("airflow_provider_azureml_classic.server.faults", str(plan))
    server = ServerProcess(work / "server", *arguments, environment=environment, program=program)
    try:
        with server.client() as client:
            prepare(client)
            rows = airflow_rows(work, server)
            plan.write_text("{}")
            odd_jobs(server, client)
            facts = seen(server, client)
    finally:
        server.stop()
    return facts, rows


def prepare(client: Client) -> None:
    """Endpoints, and a setting of one."""
    line, scoring = client.find_web_service(LINE), client.find_web_service(SCORING)
    for name in ("hanging", "wholetrainer", "halfdonetrainer", "halfagaintrainer"):
        client.add_endpoint(line.id, name)
    for name in ("undone", "awaited", "pretended", "retried", "watched", "aside", "traced"):
        client.add_endpoint(scoring.id, name)
    settings = EndpointSettings(diagnostics_trace_level=TraceLevel.ALL, description="Traced")
    client.patch_endpoint(client.get_endpoint(scoring.id, "traced"), settings)


def odd_jobs(server: ServerProcess, client: Client) -> None:
    """A job that failed, one that was cancelled and one that was never started."""
    endpoint = client.get_endpoint(client.find_web_service(LINE).id, "default")
    server.upload("stored/bad.csv", "x,colour\n1,red\n")
    failed, cancelled, waiting = (
        client.submit_job(endpoint, JobRequest({"input1": BlobReference(f"stored/{name}.csv")}, {}, {}))
        for name in ("bad", "day1", "day1")
    )
    client.start_job(endpoint, failed)
    client.cancel_job(endpoint, cancelled)
    for job_id in (failed, cancelled):
        wait_for_job(client, endpoint, job_id)
    states = [client.get_job(endpoint, job_id).status.value for job_id in (failed, cancelled, waiting)]
    assert states == ["Failed", "Cancelled", "NotStarted"], states


# -- Airflow -----------------------------------------------------------------------------------------------------------


def airflow_rows(work: Path, server: ServerProcess) -> dict[str, Any]:
    """Run the DAGs in a private Airflow.

    :param work: for the home and the data.
    :param server: the service.
    """
    from cryptography.fernet import Fernet

    first = (work / "experiments" / "first.csv").read_text()
    (work / "day1.csv").write_text(first)
    # Another model: `y` of the second day is higher.
    head, *lines = first.splitlines()
    higher = [f"{rest},{float(y) + 40}" for rest, y in (line.rsplit(",", 1) for line in lines)]
    (work / "day2.csv").write_text("\n".join([head, *higher, ""]))
    fernet = Fernet.generate_key().decode()
    os.environ |= {
        "AIRFLOW_HOME": str(work / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(HERE / "dags"),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__FERNET_KEY": fernet,
        "AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT": server.connection["airflow_conn"],
        "STORED_WORK": str(work),
    }
    watches = run_dags()
    with closing(sqlite3.connect(work / "airflow" / "airflow.db")) as database:
        database.row_factory = sqlite3.Row
        found = {
            table: [dict(row) for row in database.execute(f"SELECT {columns} FROM {table}")]  # noqa: S608 - fixed
            for table, columns in TABLES.items()
        }
    return {"fernet_key": fernet, "asset_state_store": watches, **found}


def run_dags() -> dict[str, Any]:
    """Run each DAG once, as far as its first deferral; returns what the watches remember."""
    import airflow.sdk.definitions.dag as testing
    from airflow.utils.db import initdb

    initdb()
    from airflow.dag_processing.dagbag import DagBag

    real = testing._run_inline_trigger

    def inline(trigger: Any, ti: Any) -> Any:
        if trigger.serialize()[1].get("wave") == WAVES:
            return real(trigger, ti)
        raise Parked

    testing._run_inline_trigger = inline
    bag = DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    assert not bag.import_errors, bag.import_errors
    watch = bag.dags.pop("stored_watch")
    sequence = bag.dags.pop("stored_sequence").test()
    assert sequence.state == "success"
    job = next(ti for ti in sequence.get_task_instances() if ti.task_id == "train2").xcom_pull(task_ids="train2")
    for name, dag in bag.dags.items():
        try:
            run = dag.test(run_conf={"job": job})
        except Parked:
            continue
        assert name == "stored_fleet", f"{name} was to be deferred"
        assert run.state == "success"
    store_watches()
    return asyncio.run(watched(watch))


def store_watches() -> None:
    """Have Airflow write the assets' watchers and their triggers, as its DAG processor does."""
    for _ in range(2):  # the first time the asset becomes known, the second time its watchers are written
        subprocess.run([sys.executable, "-m", "airflow", "dags", "reserialize"], check=True, timeout=180)


class AssetStore:
    """An asset state store in a dict."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}
        self.full = asyncio.Event()

    async def aget(self, key: str) -> Any:
        """A value."""
        return self.kept.get(key)

    async def aset(self, key: str, value: Any) -> None:
        """Keep a value."""
        self.kept[key] = json.loads(json.dumps(value))
        self.full.set()


async def watched(dag: Any) -> dict[str, Any]:
    """What each watch remembers after its first look, by its name."""
    found = {}
    for watcher in dag.timetable.asset_condition.watchers:
        store = watcher.trigger.asset_state_store = AssetStore()
        look = asyncio.create_task(anext(watcher.trigger.run()))
        await asyncio.wait_for(store.full.wait(), 60)
        look.cancel()
        await asyncio.gather(look, return_exceptions=True)
        found[watcher.name] = store.kept
    return found


# -- what is seen ------------------------------------------------------------------------------------------------------


def seen(server: ServerProcess, client: Client) -> dict[str, Any]:
    """Endpoints with their live models and answers, and all jobs that have ended or wait."""
    facts: dict[str, Any] = {"url": server.url, "endpoints": [], "jobs": job_states(client)}
    for service in client.list_web_services():
        for endpoint in sorted(client.list_endpoints(service.id), key=lambda one: one.name):
            full = client.get_endpoint(service.id, endpoint.name)
            keys = "".join((full.primary_key, full.secondary_key))
            fact = {"service": service.name, "endpoint": endpoint.name, "trace": full.diagnostics_trace_level}
            fact["keys_sha256"] = hashlib.sha256(keys.encode()).hexdigest()
            if full.resources:
                place = full.resource().location
                fact["live"] = place.relative_location if place else None
                fact["rows"] = rows_for(service.name)
                fact["answers"] = client.score(full, fact["rows"]).to_wire()
                fact["history"] = history(server, full)
            facts["endpoints"].append(fact)
    return facts


def job_states(client: Client) -> dict[str, str]:
    """Status of every job by its id.

    :param client: of the service.
    """
    services = client.list_web_services()
    endpoints = [endpoint for service in services for endpoint in client.list_endpoints(service.id)]
    return {job.id: job.status.value for endpoint in endpoints for job in client.list_jobs(endpoint).jobs}


def history(server: ServerProcess, endpoint: Endpoint) -> list[str]:
    """Models that an endpoint had, newest first, as the portal tells it.

    :param server: the service.
    :param endpoint: the endpoint.
    """
    with requests.Session() as browser:
        form = browser.get(f"{server.url}/portal/sign-in", timeout=30)
        [csrf] = re.findall(r'name="csrf" value="(\w+)"', form.text)
        said = {"csrf": csrf, "token": server.connection["token"]}
        browser.post(f"{server.url}/portal/sign-in", data=said, timeout=30).raise_for_status()
        page = f"{server.url}/portal/services/{endpoint.web_service_id}/endpoints/{endpoint.name}"
        answer = browser.get(page, timeout=30)
    answer.raise_for_status()
    return re.findall(r'title="([^"]+\.ilearner)"', answer.text)


def rows_for(service: str) -> list[dict[str, Any]]:
    """Rows to score.

    :param service: name of a scoring web service.
    """
    if service.startswith("Stored"):
        names = {"Forest": ("x", "y"), "Tree": ("x",), "Function": ("x",)}.get(service.split()[1], ("x", "colour"))
        values = [(1.5, "red", 4.5), (6.0, "blue", 28.0), (9.25, "green", 32.75)]
        return [{name: dict(zip(("x", "colour", "y"), row, strict=True))[name] for name in names} for row in values]
    return [CENSUS] if service.startswith("Census") else [BIKES]


if __name__ == "__main__":
    main()
