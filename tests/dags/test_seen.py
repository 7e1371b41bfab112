"""The example DAGs, and what is seen of them in Airflow: real runs with a metadata database and the real server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from airflow_provider_azureml_classic.assets import ENDPOINTS, endpoint_asset, web_service_asset
from demo.days import generated
from tests.support import BIKES_SCORING, ROOT, ServerProcess
from tests.support.dag_process import DagProcess
from tests.support.postgres import cluster
from tests.support.webhook import SECRET, Webhook

pytestmark = pytest.mark.slow
CURRENT, ARRIVED = generated(2)


@pytest.fixture(scope="module")
def webhook() -> Iterator[Webhook]:
    """A server that takes messages."""
    with Webhook().running() as running:
        yield running


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server of its own, as the example DAGs name their endpoints; with data, and the endpoint ``bikes``."""
    running = ServerProcess(tmp_path_factory.mktemp("studio") / "data")
    running.upload("bike-rental/current.csv", CURRENT.training)
    running.upload("bike-rental/arrived.csv", ARRIVED.training)
    for customer in ("contoso", "default"):
        running.upload(f"customers/{customer}/rentals.csv", CURRENT.training)
    with running.client() as client:
        client.add_endpoint(client.find_web_service(BIKES_SCORING).id, "bikes")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def warehouse() -> Iterator[dict[str, Any]]:
    """A connection to a PostgreSQL with the rentals of two months, 1 February to 31 March 2026."""
    names = "season, yr, mnth, hr, holiday, weekday, workingday, weathersit, temp, atemp, hum, windspeed, cnt"
    with cluster() as made:
        parts = urlsplit(made.new_database())
        with psycopg.connect(parts.geturl(), autocommit=True) as connection:
            connection.execute(f"CREATE TABLE rentals (dteday date, {names.replace(',', ' float,')} float)")
            connection.execute(
                "INSERT INTO rentals SELECT day::date, 1, 3, 2, hour, 0, extract(dow FROM day), 1, 1, 0.5, 0.5, 0.5, "
                "0.1, 100 + 10 * hour FROM generate_series('2026-02-01'::date, '2026-03-31', '1 day') AS day, "
                "generate_series(0, 23) AS hour"
            )
        yield {
            "conn_type": "postgres",
            "host": parts.hostname,
            "port": parts.port,
            "schema": parts.path[1:],
            "login": parts.username,
            "password": parts.password,
        }


@pytest.fixture(scope="module")
def lineage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that OpenLineage's own transport appends its events to."""
    return tmp_path_factory.mktemp("lineage") / "events.jsonl"


@pytest.fixture(scope="module")
def airflow(
    studio: ServerProcess,
    webhook: Webhook,
    warehouse: dict[str, Any],
    lineage: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[DagProcess]:
    """An Airflow with the example DAGs as they are, and those of :mod:`tests.dags.dags_seen`."""
    dags = tmp_path_factory.mktemp("dags")
    for path in [*(ROOT / "dags").glob("*.py"), ROOT / "tests" / "dags" / "dags_seen.py"]:
        shutil.copy(path, dags)
    hook = {"conn_type": "http", "host": webhook.url, "password": SECRET}
    started = DagProcess(
        tmp_path_factory.mktemp("airflow"),
        dags,
        {
            "AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT": studio.connection["airflow_conn"],
            "AIRFLOW_CONN_AZUREML_CLASSIC_WEBHOOK": json.dumps(hook),
            "AIRFLOW_CONN_WAREHOUSE": json.dumps(warehouse),
            "AIRFLOW__OPENLINEAGE__DISABLED": "False",
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(
                {"type": "file", "log_file_path": str(lineage), "append": True}
            ),
            "TEST_MANAGEMENT_URL": studio.url,
            "TEST_WORKSPACE_ID": studio.connection["workspace_id"],
        },
    )
    yield started
    started.stop()


def asset_of(studio: ServerProcess, endpoint: str) -> str:
    """The URI of an endpoint."""
    where = {"management_url": studio.url, "workspace_id": studio.connection["workspace_id"]}
    return endpoint_asset(**where, web_service=BIKES_SCORING, endpoint=endpoint).uri


def other_data(studio: ServerProcess, number: int) -> None:
    """Change the usual file a little: the same data give the model that is live already, which is not put live."""
    *rows, last = CURRENT.training.decode().rstrip().split("\n")
    head, _, count = last.rpartition(",")
    studio.upload("bike-rental/current.csv", "\n".join([*rows, f"{head},{int(count) + 300 * number}", ""]))


def test_update_is_an_event_with_the_receipt(airflow: DagProcess, studio: ServerProcess):
    """A DAG without a word about assets records one event, whose extra is the receipt; the model is due's.

    The run has no logical date, as one that a watch starts: its window ends when it is due.
    """
    run = airflow.run("stale_model_watch", run_after="2026-03-01T00:00:00+00:00")
    assert run["tasks"] == {"train": "success", "update": "success"}
    receipt = run["xcoms"]["update"]["return_value"]
    assert receipt["window"] == {"start": None, "end": "2026-03-01T00:00:00+00:00"}
    [event] = run["events"]
    assert (event["uri"], event["task"], event["aliases"]) == (asset_of(studio, "bikes"), "update", [ENDPOINTS.name])
    assert event["extra"] == {
        "web_service": BIKES_SCORING,
        "endpoint": "bikes",
        "resource": receipt["resource"],
        "job": run["xcoms"]["train"]["return_value"]["job_id"],
        "window": receipt["window"],
        "metrics": receipt["metrics"],
        "model": receipt["model"]["location"],
        "sha256": receipt["model"]["sha256"],
        "replaced": receipt["replaced"]["location"],
        "proof": "content",
        "content": receipt["model"]["content"],
        "replaced_content": receipt["replaced"]["content"],
        "rehearsal": receipt["rehearsal"]["text"],
        "approval": None,
    }
    assert event["extra"]["metrics"]["Mean Absolute Error"] > 0
    assert "/bikes/20260301T000000Z-" in event["extra"]["model"]


def test_arrival_trains_on_the_newest_data_told(airflow: DagProcess):
    """Of several events that started one run the newest is taken: its file, and the moment its data end."""
    extras = [
        {"path": "bike-rental/arrived.csv", "until": "2026-03-03T00:00:00+00:00"},
        {"path": "bike-rental/missing.csv", "until": "2026-03-02T00:00:00+00:00"},
    ]
    run = airflow.run("retrain_on_arrival", run_after="2026-04-01T00:00:00+00:00", events={"bike_rental_data": extras})
    assert run["tasks"] == {"newest": "success", "train": "success", "update": "success"}
    assert run["xcoms"]["newest"]["path"] == "bike-rental/arrived.csv"
    assert run["xcoms"]["update"]["return_value"]["window"]["end"] == "2026-03-03T00:00:00+00:00"
    assert run["xcoms"]["update"]["return_value"]["metrics"]["Rows"] == ARRIVED.rows


def test_arrival_without_a_word(airflow: DagProcess):
    """An event without extra, or a run by hand, takes the usual file and the moment the run is due."""
    run = airflow.run("retrain_on_arrival", run_after="2026-04-02T00:00:00+00:00", events={"bike_rental_data": [{}]})
    assert run["state"] == "success"
    assert run["xcoms"]["update"]["return_value"]["window"]["end"] == "2026-04-02T00:00:00+00:00"
    assert run["xcoms"]["update"]["return_value"]["metrics"]["Rows"] == CURRENT.rows


def test_skipped_update_is_no_event(airflow: DagProcess, webhook: Webhook):
    """An update that is skipped because a newer model is live records nothing, and its callback tells so."""
    newer = airflow.run("declared", logical_date="2026-03-10T00:00:00+00:00")
    older = airflow.run("declared", logical_date="2026-03-09T00:00:00+00:00")
    assert (newer["tasks"]["update"], older["tasks"]["update"]) == ("success", "skipped")
    assert (len(newer["events"]), older["events"]) == (1, [])
    texts = [body["text"] for _, body in webhook.messages if "DAG declared" in body["text"]]
    assert "now answers with" in texts[-2]
    assert "trained on data up to 2026-03-10 00:00 UTC" in texts[-2]
    assert texts[-2].startswith("@bikes Endpoint 'declared'")
    assert "the endpoint keeps its model" in texts[-1]


def test_declared_asset_has_the_only_event(airflow: DagProcess, studio: ServerProcess):
    """An asset that the task declares has one event with the extra; the alias of all endpoints has none then."""
    other_data(studio, 1)
    run = airflow.run("declared", logical_date="2026-03-11T00:00:00+00:00")
    [event] = run["events"]
    assert (event["uri"], event["aliases"]) == (asset_of(studio, "declared"), [])
    assert event["extra"]["job"] == run["xcoms"]["train"]["return_value"]["job_id"]
    assert run["xcoms"]["update"]["azureml_classic_update_help"].endswith("/update")


def test_links_survive_the_deferral(airflow: DagProcess, studio: ServerProcess):
    """A task that waited in the triggerer keeps the links that it pushed before."""
    run = airflow.run("deferred")
    links = run["xcoms"]["train"]
    assert links["azureml_classic_batch_job"].endswith(f"/jobs/{links['return_value']['job_id']}?api-version=2.0")
    assert links["azureml_classic_endpoint_help"].startswith(f"{studio.url}/apihelp/")


def test_failed_update_is_no_event(airflow: DagProcess, webhook: Webhook):
    """An update that fails records nothing, and its callback tells the error's own sentence."""
    run = airflow.run("broken")
    assert (run["state"], run["events"]) == ("failed", [])
    text = next(body["text"] for _, body in webhook.messages if "DAG broken" in body["text"])
    assert "The update failed: 'default' is the default endpoint" in text


def test_customers_have_names_events_and_chains_of_their_own(airflow: DagProcess, studio: ServerProcess):
    """Each customer shows by name; one whose endpoint cannot be updated holds up no other, and has no event."""
    run = airflow.run(
        "customers_mapped", logical_date="2026-01-25T00:00:00+00:00", conf={"customers": ["contoso", "default"]}
    )
    names = {task: name for task, name in run["names"].items() if task.startswith("retrain.")}
    tasks = ("add_endpoint", "train", "update")
    expected = {f"retrain.{task}[{n}]": name for task in tasks for n, name in enumerate(("contoso", "default"))}
    assert names == expected
    assert run["tasks"]["retrain.update[0]"] == "success"
    assert run["tasks"]["retrain.update[1]"] == "failed"
    assert [event["uri"] for event in run["events"]] == [asset_of(studio, "contoso")]


def test_every_week(airflow: DagProcess, webhook: Webhook):
    """The weekly DAG trains on the rows of the four weeks that end with its run, and tells the webhook."""
    run = airflow.run("weekly_retrain", logical_date="2026-03-23T00:00:00+00:00")
    assert set(run["tasks"].values()) == {"success"}
    assert run["xcoms"]["upload"]["return_value"]["rows"] == 28 * 24
    receipt = run["xcoms"]["update"]["return_value"]
    assert receipt["window"] == {"start": "2026-02-23T00:00:00+00:00", "end": "2026-03-23T00:00:00+00:00"}
    assert any("'weekly'" in body["text"] and "Proof: content" in body["text"] for _, body in webhook.messages)


def test_a_customers_file_retrains_that_customer(airflow: DagProcess, studio: ServerProcess):
    """A run of one partition trains on that customer's file alone; its update is that partition of the web service."""
    studio.upload("customers/fabrikam/rentals.csv", CURRENT.training)
    run = airflow.run("customers_partitioned", partition="fabrikam")
    assert set(run["tasks"].values()) == {"success"}
    assert run["xcoms"]["train"]["return_value"]["model_for"] == "fabrikam"
    [event] = run["events"]
    asset = web_service_asset(BIKES_SCORING)
    assert (event["name"], event["partition"], event["extra"]) == (asset.name, "fabrikam", {})


def test_lineage(airflow: DagProcess, studio: ServerProcess, lineage: Path):
    """Airflow's own listener tells OpenLineage: the data make the model, the model serves the endpoint."""
    other_data(studio, 2)
    run = airflow.run("declared", logical_date="2026-03-13T00:00:00+00:00")
    events = [json.loads(line) for line in lineage.read_text().splitlines()]

    def told(task: str) -> tuple[set[str], set[str]]:
        mine = [
            event
            for event in events
            if event["eventType"] == "COMPLETE"
            and event["job"]["name"] == f"declared.{task}"
            and event["run"]["facets"]["airflow"]["dagRun"]["run_id"] == run["run_id"]
        ]
        [event] = mine
        return tuple({f"{one['namespace']}/{one['name']}" for one in event[side]} for side in ("inputs", "outputs"))

    model = run["xcoms"]["update"]["return_value"]["model"]["location"]
    read, written = told("train")
    assert {name.rpartition("/")[2] for name in read} == {"current.csv"}
    assert model in written
    assert told("update") == (
        {model},
        {asset_of(studio, "declared").replace("%20", " ").replace("%5B", "[").replace("%5D", "]")},
    )


def test_no_secret_is_kept(airflow: DagProcess, studio: ServerProcess, lineage: Path):
    """After a run neither database, log nor lineage of Airflow holds a key, a token, a signature or the webhook."""
    airflow.run("declared", logical_date="2026-03-12T00:00:00+00:00")
    with studio.client() as client:
        endpoint = client.get_endpoint(client.find_web_service(BIKES_SCORING).id, "declared")
    secrets = [SECRET, studio.account.key, studio.connection["token"], endpoint.primary_key, endpoint.secondary_key]
    files = [lineage, *(path for path in Path(airflow.home).rglob("*") if path.is_file())]
    assert any(path.suffix == ".db" for path in files)
    for path in files:
        content = path.read_bytes()
        found: list[Any] = [secret for secret in secrets if secret.encode() in content]
        assert found == [], path
        assert b"sig=" not in content.replace(b"sig=***", b""), path
