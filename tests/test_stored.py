"""What earlier versions stored is read for good: a data directory, and what tasks left in Airflow's database.

``tests/stored/write.py`` says what a folder holds. Classes are found by the paths that are stored, as Airflow does.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.operators import (
    BatchExecutionOperator,
    BatchScoringOperator,
    ModelQualityGate,
    RetrainFleetOperator,
    RollbackModelOperator,
    UpdateTrainedModelOperator,
)
from airflow_provider_azureml_classic.sensors import JobSensor, ModelFreshnessSensor
from tests.stored import write
from tests.support import ServerProcess
from tests.support.tasks import Store

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("at_once", "connection")]

LINE, SCORING = write.LINE, write.SCORING
FOLDERS = sorted((Path(__file__).parent / "stored").glob("v*"))
assert FOLDERS, "no version has left anything: run python -m tests.stored.write"
FIRST, SECOND = "models/sequence/20260302T000000Z.ilearner", "models/sequence/20260303T000000Z.ilearner"


@dataclass
class Stored:
    """What a version stored, opened by this one.

    :param facts: what was seen when it was written.
    :param rows: of Airflow's database, with the address that the server has now.
    :param fernet_key: Airflow's.
    :param server: this version's, on a copy of the data directory.
    :param now: the endpoints of ``facts`` before any test changed one.
    :param jobs: states by id, before any test started one.
    """

    facts: dict[str, Any]
    rows: dict[str, Any]
    fernet_key: str
    server: ServerProcess
    now: list[dict[str, Any]]
    jobs: dict[str, str]

    def here(self, value: Any) -> Any:
        """A stored value; the server has another port than when it was written."""
        return json.loads(json.dumps(value).replace(self.facts["url"], self.server.url))

    def returned(self, dag: str, task: str, key: str = "return_value") -> Any:
        """An XCom, read as Airflow does."""
        from airflow.sdk.serde import deserialize

        [value] = [row["value"] for row in self._of("xcom", dag, task) if row["key"] == key]
        return self.here(deserialize(json.loads(value)))

    def memory(self, dag: str, task: str) -> Store:
        """What a task remembers."""
        store = Store()
        store.kept = {
            row["key"]: self.here(json.loads(row["value"])) for row in self._of("task_state_store", dag, task)
        }
        assert store.kept
        return store

    def trigger(self, dag: str, task: str) -> Any:
        """The trigger that a deferred task waits for, made as the triggerer makes it."""
        [ti] = self._of("task_instance", dag, task)
        assert ti["next_method"] == "execute_complete"
        return self.made(ti["trigger_id"])

    def made(self, trigger_id: int) -> Any:
        """A stored trigger."""
        from airflow._shared.module_loading import import_string
        from airflow.models.trigger import Trigger
        from airflow.serialization.decoders import smart_decode_trigger_kwargs

        [row] = [row for row in self.rows["trigger"] if row["id"] == trigger_id]
        arguments = Trigger._decrypt_kwargs(row["kwargs"])
        decoded = {name: smart_decode_trigger_kwargs(value) for name, value in arguments.items()}
        return import_string(row["classpath"])(**self.here(decoded))

    def attempt(self, dag: str, task: str, store: Store) -> dict[str, Any]:
        """The context of the next attempt at a stored task."""
        [row] = self._of("task_instance", dag, task)
        moment = datetime(2026, 3, 3, tzinfo=UTC)
        names = ("dag_id", "task_id", "run_id", "map_index", "max_tries")
        ti = SimpleNamespace(**{name: row[name] for name in names}, xcom_push=lambda key, value: None)
        run = SimpleNamespace(run_after=moment, data_interval_start=moment, data_interval_end=moment)
        return {"ti": ti, "dag_run": run, "task_state_store": store}

    def _of(self, table: str, dag: str, task: str) -> list[dict[str, Any]]:
        return [row for row in self.rows[table] if (row["dag_id"], row["task_id"]) == (f"stored_{dag}", task)]


@pytest.fixture(scope="module", params=FOLDERS, ids=lambda folder: folder.name)
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    """Each version's folder, with this version's server on a copy of the data directory."""
    folder, copy = request.param, tmp_path_factory.mktemp("stored")
    with tarfile.open(folder / "server.tar.xz") as archive:
        archive.extractall(copy, filter="data")
    facts, rows = (json.loads((folder / f"{name}.json").read_text()) for name in ("facts", "airflow"))
    arguments, environment = write.server_arguments(folder / "experiments")
    server = ServerProcess(copy / "server", *arguments, environment=environment)
    try:
        with server.client() as client:
            now = [endpoint_now(server, client, fact) for fact in facts["endpoints"]]
            jobs = write.job_states(client)
        yield Stored(facts, rows, rows["fernet_key"], server, now, jobs)
    finally:
        server.stop()


@pytest.fixture
def connection(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Airflow's connection to the server, and Airflow's key."""
    from airflow.models import crypto

    monkeypatch.setenv("AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT", stored.server.connection["airflow_conn"])
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", stored.fernet_key)
    crypto.get_fernet.cache_clear()
    yield
    crypto.get_fernet.cache_clear()


@pytest.fixture
def client(stored: Stored) -> Iterator[Client]:
    """A client of the server."""
    with stored.server.client() as made:
        yield made


@pytest.fixture
def model_stays(stored: Stored, client: Client) -> Iterator[None]:
    """For a test whose job writes where the model of another stored job is, which other tests ask by its digest."""
    content = client.fetch_blob(stored.server.sas(SECOND))
    yield
    stored.server.upload(SECOND, content)


def endpoint_now(server: ServerProcess, client: Client, fact: dict[str, Any]) -> dict[str, Any]:
    """What was written of an endpoint, as it is now."""
    endpoint = client.get_endpoint(client.find_web_service(fact["service"]).id, fact["endpoint"])
    keys = "".join((endpoint.primary_key, endpoint.secondary_key))
    now = {"trace": endpoint.diagnostics_trace_level, "keys_sha256": hashlib.sha256(keys.encode()).hexdigest()}
    if "live" in fact:
        now["live"] = live_in(endpoint)
        now["history"] = write.history(server, endpoint)
        now["answers"] = client.score(endpoint, fact["rows"]).to_wire()
    return {**fact, **now}


def live_in(endpoint: Any) -> str | None:
    """Path of an endpoint's model."""
    place = endpoint.resource().location
    return place.relative_location if place else None


def live(client: Client, name: str) -> str | None:
    """Path of the model that an endpoint of the fixture names."""
    return live_in(client.get_endpoint(client.find_web_service(SCORING).id, name))


def event_of(trigger: Any) -> dict[str, Any]:
    """What a trigger ends with."""

    async def fired() -> dict[str, Any]:
        return dict((await anext(trigger.run())).payload)

    return json.loads(json.dumps(asyncio.run(asyncio.wait_for(fired(), 60))))


def update(endpoint: str, job: Any, **options: Any) -> UpdateTrainedModelOperator:
    """An update of an endpoint of the fixture."""
    return UpdateTrainedModelOperator(task_id="update", web_service=SCORING, endpoint=endpoint, job=job, **options)


def fleet(name: str, **options: Any) -> RetrainFleetOperator:
    """The fleet that is half done."""
    return RetrainFleetOperator(
        task_id="fleet",
        training_service=LINE,
        training_endpoint=f"{name}trainer",
        scoring_service=SCORING,
        items=[{"endpoint": f"{name}{number}", "inputs": f"stored/day{1 + number % 2}.csv"} for number in range(3)],
        window_start="2026-03-01T00:00:00+00:00",
        window_end="2026-03-03T00:00:00+00:00",
        waves=[1],
        poll_interval=0.2,
        fleet_timeout=None,
        **options,
    )


# -- the server's own --------------------------------------------------------------------------------------------------


def test_endpoints(stored: Stored) -> None:
    """Every endpoint has its keys, settings, live model and history of before, and gives the same answers."""
    assert len(stored.facts["endpoints"]) > 20
    assert stored.now == stored.facts["endpoints"]


def test_services_list_the_same_endpoints(stored: Stored, client: Client) -> None:
    """Nothing is missing in the lists; only endpoints that fleets of other tests add may be more."""
    listed = {
        (service.name, endpoint.name)
        for service in client.list_web_services()
        for endpoint in client.list_endpoints(service.id)
    }
    written = {(fact["service"], fact["endpoint"]) for fact in stored.facts["endpoints"]}
    assert written <= listed
    assert {name for _, name in listed - written} <= {
        f"{name}{n}" for name in ("halfdone", "halfagain") for n in (1, 2)
    }


def test_jobs(stored: Stored) -> None:
    """Every job has the state that it was left in; there is one of each kind."""
    assert stored.jobs == stored.facts["jobs"]
    assert set(stored.jobs.values()) == {"Finished", "Failed", "Cancelled", "NotStarted"}


# -- what tasks returned -----------------------------------------------------------------------------------------------


def test_a_receipt_undoes_its_update(stored: Stored, client: Client) -> None:
    """A rollback by the receipt of an update puts the model of before back, proved by the stored answers."""
    receipt = stored.returned("sequence", "sequence2")
    undone = RollbackModelOperator(task_id="undo", receipt=receipt).execute(fresh())
    assert undone["proof"]["level"] == "score"
    assert live(client, "sequence") == FIRST


def test_a_receipt_of_a_rollback_undoes_it(stored: Stored, client: Client) -> None:
    """A rollback can be rolled back by its own receipt."""
    receipt = stored.returned("sequence", "rollback")
    RollbackModelOperator(task_id="undo", receipt=receipt).execute(fresh())
    assert live(client, "undone") == SECOND


def test_a_training_updates_and_is_judged(stored: Stored, client: Client) -> None:
    """What a training returned is taken by the gate, the update and the sensors."""
    job = stored.returned("sequence", "train2")
    limits = {"Mean Absolute Error": {"max": 1000.0}}
    gate = ModelQualityGate(
        task_id="gate",
        web_service=SCORING,
        endpoint="traced",
        job=job,
        thresholds=limits,
        max_worse={"Mean Absolute Error": "100000%"},
    )
    judged, before = gate.execute(fresh()), stored.returned("sequence", "gate")
    assert judged["decision"] == "pass"
    assert judged["metrics"]["evaluation"] == before["metrics"]["evaluation"]
    assert update("traced", job).execute(fresh())["proof"]["level"] == "score"
    assert live(client, "traced") == SECOND
    JobSensor(task_id="ended", job=job).execute(fresh())
    ModelFreshnessSensor(task_id="fresh", web_service=SCORING, endpoint="traced", job=job).execute(fresh())


def test_an_upload_is_an_input(stored: Stored) -> None:
    """The location that an upload returned is still an input of a job."""
    source = stored.returned("sequence", "upload1")["location"]
    task = BatchScoringOperator(task_id="score", web_service=SCORING, source=source, poll_interval=0.2)
    assert task.execute(fresh())["status"] == "Finished"


# -- what tasks remember, and what they wait for -----------------------------------------------------------------------


def test_every_class_of_trigger(stored: Stored) -> None:
    """Every stored trigger is made from its path and arguments, and says the same of itself, under any path."""
    made = [stored.made(row["id"]) for row in stored.rows["trigger"]]
    kinds = {
        "JobTrigger",
        "FreshnessTrigger",
        "FleetTrigger",
        "ProofTrigger",
        "StaleModelTrigger",
        "ModelChangeTrigger",
    }
    assert {type(one).__name__ for one in made} == kinds
    for one in made:
        _, arguments = one.serialize()
        assert type(one)(**arguments).serialize()[1] == arguments


@pytest.mark.usefixtures("model_stays")
def test_a_job_that_was_not_started(stored: Stored) -> None:
    """A task whose job was submitted and not started starts that job, waits for it and returns it."""
    store = stored.memory("job", "train")
    trigger = stored.trigger("job", "train")

    def task() -> BatchExecutionOperator:
        return BatchExecutionOperator(task_id="train", web_service=LINE, endpoint="hanging", deferrable=True)

    context = stored.attempt("job", "train", store)
    with pytest.raises(TaskDeferred) as deferred:
        task().execute(context)
    assert deferred.value.trigger.job_id == trigger.job_id
    ended = task().execute_complete(context, event_of(trigger))
    assert ended["job_id"] == trigger.job_id
    assert store.kept == {}


@pytest.mark.parametrize("name", ["pretended", "retried"])
def test_between_patch_and_proof(stored: Stored, client: Client, name: str) -> None:
    """A task that was deferred, or tried again, between PATCH and proof goes on with the proof: no second PATCH."""
    store, job = stored.memory(name, "update"), stored.returned("sequence", "train2")
    before = client.get_endpoint(client.find_web_service(SCORING).id, name)
    context, task = stored.attempt(name, "update", store), update(name, job, deferrable=True)
    if name == "pretended":
        receipt = task.execute_complete(context, event_of(stored.trigger(name, "update")))
    else:
        receipt = task.execute(context)
    after = client.get_endpoint(before.web_service_id, name)
    assert (after.version, after.etag) == (before.version, before.etag)
    assert receipt["proof"]["level"] == "score"
    assert receipt["replaced"]["location"].endswith(FIRST)
    assert receipt["model"]["location"].endswith(SECOND)
    assert store.kept == {}


def test_a_gate_that_waits(stored: Stored) -> None:
    """A gate that waited for its check endpoint judges once the stored trigger has seen the model there."""
    store, job = stored.memory("gate", "gate"), stored.returned("sequence", "train2")
    gate = ModelQualityGate(
        task_id="gate",
        web_service=SCORING,
        endpoint="default",
        job=job,
        max_worse={"Mean Absolute Error": "100000%"},
        check_data="stored/day1.csv",
        check_endpoint="aside",
        deferrable=True,
    )
    judged = gate.execute_complete(stored.attempt("gate", "gate", store), event_of(stored.trigger("gate", "gate")))
    assert judged["compared_on"]["rows"] == 80


def test_a_wait_for_freshness(stored: Stored) -> None:
    """A sensor's stored trigger ends once the endpoint has the model, and the sensor succeeds."""
    store = stored.memory("fresh", "fresh")
    update("awaited", None, location=SECOND).execute(fresh())
    event = event_of(stored.trigger("fresh", "fresh"))
    sensor = ModelFreshnessSensor(
        task_id="fresh",
        web_service=SCORING,
        endpoint="awaited",
        trained_to="2026-03-03T00:00:00+00:00",
        deferrable=True,
    )
    assert sensor.execute_complete(stored.attempt("fresh", "fresh", store), event)["location"].endswith(SECOND)


@pytest.mark.parametrize("name", ["halfdone", "halfagain"])
def test_a_fleet_that_is_half_done(stored: Stored, client: Client, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A fleet goes on with what is left, in the triggerer or by another attempt: no job is submitted again."""
    from airflow.sdk.execution_time.xcom import XCom

    key = "azureml_classic_fleet_0"
    values, store = {key: stored.returned(name, "fleet", key)}, stored.memory(name, "fleet")
    monkeypatch.setattr(XCom, "get_one", lambda *, key, **_: values.get(key))
    monkeypatch.setattr(XCom, "set", lambda *, key, value, **_: values.update({key: value}))
    monkeypatch.setattr(XCom, "delete", lambda *, key, **_: values.pop(key))
    trainer = client.get_endpoint(client.find_web_service(LINE).id, f"{name}trainer")
    before = {job.id for job in client.list_jobs(trainer).jobs}
    context = stored.attempt(name, "fleet", store)
    if name == "halfdone":
        event = event_of(stored.trigger(name, "fleet"))
        result = fleet(name, deferrable=True).execute_complete(context, event)
    else:
        result = fleet(name, deferrable=False).execute(context)
    assert result["counts"]["updated"] == 3
    assert {job.id for job in client.list_jobs(trainer).jobs} == before
    assert len(before) == 3
    assert store.kept == {}


class Remembered:
    """An asset state store that holds what was stored.

    :param kept: values by key.
    """

    def __init__(self, kept: dict[str, Any]) -> None:
        self.kept = kept

    async def aget(self, key: str) -> Any:
        """A value."""
        return self.kept.get(key)

    async def aset(self, key: str, value: Any) -> None:
        """Keep a value."""
        self.kept[key] = value


def watch(stored: Stored, name: str) -> tuple[Any, Remembered]:
    """A stored watch, with what it remembers."""
    [trigger_id] = [row["trigger_id"] for row in stored.rows["asset_watcher"] if row["name"] == name]
    trigger = stored.made(trigger_id)
    store = trigger.asset_state_store = Remembered(stored.here(stored.rows["asset_state_store"][name]))
    return trigger, store


def test_watches_remember(stored: Stored, client: Client) -> None:
    """A watch knows what it saw before: what was told is told no more, and a change is one since then."""
    endpoint = client.get_endpoint(client.find_web_service(SCORING).id, "watched")
    for name in ("stale", "change"):
        trigger, store = watch(stored, name)
        [state] = store.kept.values()
        assert asyncio.run(trigger._recall()) == state
        assert trigger.judge(endpoint, state, datetime.now(UTC)).event is None
    update("watched", None, location=SECOND).execute(fresh())
    trigger, store = watch(stored, "change")
    told = event_of(trigger)
    assert told["before"]["location"].endswith(FIRST)
    assert told["now"]["location"].endswith(SECOND)


def fresh() -> dict[str, Any]:
    """The context of a new task."""
    moment = datetime(2026, 3, 4, tzinfo=UTC)
    run = SimpleNamespace(run_after=moment, data_interval_start=moment, data_interval_end=moment)
    ti = SimpleNamespace(max_tries=0, xcom_push=lambda key, value: None)
    return {"ti": ti, "dag_run": run, "task_state_store": Store()}
