"""A fleet on a real server: each endpoint as if alone, and no job twice, whatever happens to the task.

The fleets are small; each has an endpoint of the training service of its own, so that its jobs can be counted.
"""

from __future__ import annotations

import csv
import json
import os
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowTaskTimeout

from airflow_provider_azureml_classic import triggers
from airflow_provider_azureml_classic.client import AsyncClient, Client
from airflow_provider_azureml_classic.client.retries import Pause, Program
from airflow_provider_azureml_classic.fleet.engine import Engine
from airflow_provider_azureml_classic.fleet.rows import Outcome, Row
from airflow_provider_azureml_classic.hooks import AzureMLClassicHook
from airflow_provider_azureml_classic.memory import FleetXComs
from airflow_provider_azureml_classic.operators import BatchExecutionOperator, UpdateTrainedModelOperator, ending
from airflow_provider_azureml_classic.operators import fleet as fleet_module
from airflow_provider_azureml_classic.retraining.placing import Placing
from airflow_provider_azureml_classic.retraining.submitting import JobRunner
from airflow_provider_azureml_classic.server.experiments.ilearner import read_ilearner
from airflow_provider_azureml_classic.triggers import FleetTrigger
from tests.support import BIKES, BIKES_SCORING, ServerProcess
from tests.support.fleets import FileStore, attempt, fleet, started, uploaded, wait_for
from tests.support.gates import DAY, added, context, live, one_sentence, rentals

pytestmark = pytest.mark.slow

QUESTIONS = [
    dict(zip(rentals().splitlines()[0].split(",")[:-1], row.split(","), strict=False))
    for row in rentals(rows=30).splitlines()[1:]
]


@pytest.fixture(autouse=True)
def connection(airflow_connection: ServerProcess) -> None:
    """The running server as Airflow's connection."""


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    """A task state store."""
    return FileStore(tmp_path / "store.json")


def outcomes(result: dict[str, Any]) -> dict[str, str]:
    """Outcome by endpoint."""
    return {row["endpoint"]: row["outcome"] for row in result["rows"]}


def model_file(server: ServerProcess, endpoint: str) -> Path:
    """Where the server keeps the model that was trained for an endpoint."""
    [path] = (server.data_dir / "blobs" / "models").glob(f"*/{endpoint}/{DAY:%Y%m%dT%H%M%SZ}-*.ilearner")
    return path


def test_each_endpoint_is_as_if_it_were_alone(
    server: ServerProcess, client: Client, store: FileStore, tmp_path: Path
) -> None:
    """Endpoints are added, trained and updated; the model of each is that of one retrained by the single operators."""
    items = uploaded(server, "alone", 4)
    added(client, "alone0")
    task = fleet("alone", items, report_path=str(tmp_path / "report"))
    ran = attempt(store)
    result = task.execute(ran)
    assert result["counts"] == {"updated": 4, "kept": 0, "failed": 0, "rolled back": 0, "untouched": 0}
    assert {row["reason"] for row in result["rows"]} == {"Trained, put live, and proved by content."}
    assert started(server, "alone") == ["Finished"] * 4
    assert store.kept == {}
    lines = list(csv.DictReader((tmp_path / "report" / "fleet.csv").read_text().splitlines()))
    assert [line["proof"] for line in lines] == ["content"] * 4
    assert result["report"] == str(tmp_path / "report" / "fleet.html")
    assert "alone3" in Path(result["report"]).read_text()
    for number in range(4):
        single = f"single{number}"
        endpoint = added(client, single)
        job = BatchExecutionOperator(
            task_id="t",
            web_service=BIKES,
            inputs={"input1": items[number]["inputs"]},
            model_for=single,
            poll_interval=0.2,
        ).execute(context())
        UpdateTrainedModelOperator(task_id="u", web_service=BIKES_SCORING, endpoint=single, job=job).execute(context())
        mine = client.score(added(client, f"alone{number}"), QUESTIONS)
        assert mine.values == client.score(endpoint, QUESTIONS).values
        manifests = [read_ilearner(model_file(server, name))[0] for name in (f"alone{number}", single)]
        assert manifests[0].sha256 == manifests[1].sha256
        assert manifests[0].metrics == manifests[1].metrics
        assert f"/alone{number}/20260301T000000Z-" in live(client, f"alone{number}")


def test_a_backfill_moves_nothing_backwards(server: ServerProcess, client: Client, store: FileStore) -> None:
    """Older data are trained on, and the newer models stay; an item's own window counts."""
    items = uploaded(server, "older", 2)
    fleet("older", items).execute(attempt(store))
    before = live(client, "older0")
    items[1]["window_end"] = (DAY + timedelta(days=1)).isoformat()
    # Other data than before: a model that gives the answers that are given already is not put live again.
    items[1]["inputs"] = items[0]["inputs"]
    result = fleet("older", items).execute(attempt(store, end=DAY - timedelta(days=1)))
    assert outcomes(result) == {"older0": "kept", "older1": "updated"}
    [kept] = [row["reason"] for row in result["rows"] if row["outcome"] == "kept"]
    assert "keeps its model: it was trained on data up to 2026-03-01 00:00 UTC, this one only up to 2026-02-28" in kept
    assert live(client, "older0") == before
    assert len(started(server, "older")) == 4


def test_a_model_that_is_not_good_enough_is_kept_back(server: ServerProcess, store: FileStore) -> None:
    """Thresholds keep a model back, which is no failure; a metric that is missing is one."""
    items = uploaded(server, "gated", 1)
    result = fleet("gated", items, thresholds={"Mean Absolute Error": {"max": 0.001}}).execute(attempt(store))
    assert result["counts"]["kept"] == 1
    assert "The new model is not good enough: Mean Absolute Error is " in result["rows"][0]["reason"]
    with pytest.raises(AirflowException, match="The metric 'Nonsense' is missing"):
        fleet("gated", items, thresholds={"Nonsense": {"max": 1}}).execute(attempt(store))


def test_a_retry_runs_what_failed_and_nothing_else(server: ServerProcess, store: FileStore) -> None:
    """Above the threshold the task fails, naming the failures; its retry runs one job more for each, no other."""
    items = uploaded(server, "again", 4)
    good, items[1]["inputs"] = items[1]["inputs"], "fleets/missing.csv"
    ran = attempt(store)
    with one_sentence(
        AirflowException, "1 of 4 endpoints of wave 1 failed; 0 may fail.", "'again1' (failed)", "missing.csv"
    ):
        fleet("again", items).execute(ran)
    assert ran["ti"].pushed["return_value"]["counts"] == {
        "updated": 3,
        "kept": 0,
        "failed": 1,
        "rolled back": 0,
        "untouched": 0,
    }
    assert sorted(started(server, "again")) == ["Failed", "Finished", "Finished", "Finished"]
    kept = [row for part in store.kept.values() if isinstance(part, list) for row in part if row.get("receipt")]
    # As in the receipt of a single update, with which a rollback proves that the model is back.
    assert all(row["receipt"]["replaced"]["answers"]["Values"] for row in kept)
    items[1]["inputs"] = good
    result = fleet("again", items).execute(attempt(store))
    assert result["counts"]["updated"] == 4
    assert sorted(started(server, "again")) == ["Failed", *["Finished"] * 4]


def test_a_share_of_failures_is_tolerated(server: ServerProcess, store: FileStore) -> None:
    """Within the threshold the task succeeds, and its table tells what failed."""
    items = uploaded(server, "share", 2)
    items[0]["inputs"] = "fleets/missing.csv"
    result = fleet("share", items, failure_threshold=0.5).execute(attempt(store))
    assert outcomes(result) == {"share0": "failed", "share1": "updated"}
    assert store.kept == {}


def test_a_failed_canary_saves_the_others(server: ServerProcess, store: FileStore) -> None:
    """When the first wave fails nothing else is submitted; once it is mended the retry runs the rest."""
    items = uploaded(server, "canary", 3)
    good, items[0]["inputs"] = items[0]["inputs"], "fleets/missing.csv"
    ran = attempt(store)
    with one_sentence(AirflowException, "1 of 1 endpoints of wave 1 failed"):
        fleet("canary", items, waves=[1]).execute(ran)
    assert outcomes(ran["ti"].pushed["return_value"]) == {
        "canary0": "failed",
        "canary1": "untouched",
        "canary2": "untouched",
    }
    assert started(server, "canary") == ["Failed"]
    items[0]["inputs"] = good
    assert fleet("canary", items, waves=1).execute(attempt(store))["counts"]["updated"] == 3
    assert started(server, "canary") == ["Failed", *["Finished"] * 3]


def test_refused_items_do_not_stop_the_task_at_once(server: ServerProcess, store: FileStore) -> None:
    """What the service refuses at submission is a failure of that endpoint, told in its row."""
    items = uploaded(server, "refused", 2)
    items[0]["inputs"] = {"nonsense": "a/b.csv"}
    result = fleet("refused", items, failure_threshold=1).execute(attempt(store))
    assert outcomes(result) == {"refused0": "failed", "refused1": "updated"}
    assert "There is no input 'nonsense'" in result["rows"][0]["reason"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"waves": [0]}, "waves is [0]"),
        ({"data_check": "perhaps"}, "data_check is 'perhaps'"),
        ({"data_limits": {"ouside": 0.5}}, "the limit 'ouside' of the data check"),
        ({"failure_threshold": -1}, "failure_threshold is -1"),
        ({"failure_threshold": float("nan")}, "failure_threshold is nan"),
        ({"failure_threshold": float("inf")}, "failure_threshold is inf"),
        ({"proof": "hope"}, "proof is 'hope'"),
        ({"items": "a"}, "items must be a list of mappings, not str."),
        ({"items": [{"endpoint": "default", "inputs": "a/b.csv"}]}, "The default endpoint of"),
        ({"scoring_service": BIKES}, "are the same, 'Bike Rental'."),
    ],
)
def test_mistakes_are_told_before_anything_is_asked(store: FileStore, options: dict[str, Any], said: str) -> None:
    """A mistake in the operator's parameters fails the task at once with one sentence."""
    task = fleet("default", [{"endpoint": "a", "inputs": "a/b.csv"}])
    for name, value in options.items():
        setattr(task, name, value)
    with one_sentence(AirflowFailException, said):
        task.execute(attempt(store))


def test_ids_are_kept_before_jobs_start(
    server: ServerProcess, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a job is started its id is in the store already, so that no crash can come between."""
    start, known = JobRunner.start, list[bool]()

    def noted(self: JobRunner, job_id: str) -> Program[None]:
        known.append(job_id in json.dumps(store.kept))
        return start(self, job_id)

    monkeypatch.setattr(JobRunner, "start", noted)
    fleet("before", uploaded(server, "before", 2)).execute(attempt(store))
    assert known == [True, True]


def test_cleared_fleets_share_no_job(server: ServerProcess, client: Client, store: FileStore) -> None:
    """After a clear, jobs that have not ended are cancelled and new ones run; what has ended well is not run again."""
    items = uploaded(server, "cleared", 2)
    task, ran = fleet("cleared", items), attempt(store)
    service = client.find_web_service(BIKES)
    trainer = client.get_endpoint(service.id, "cleared")
    rows = [Row(item["endpoint"], {"end": DAY.isoformat()}, 2) for item in items]
    store.set("azureml_classic_fleet", {"parts": 0})
    task._items(ran)
    submit(task, rows, items, ran)
    client.start_job(trainer, str(rows[0].job_id))
    wait_for(lambda: client.get_job(trainer, str(rows[0].job_id)).status.terminal)
    store.set("azureml_classic_fleet", {"parts": 1, "epoch": 2})
    store.set("azureml_classic_fleet_0", [row.to_json() for row in rows])
    result = fleet("cleared", items).execute(attempt(store, max_tries=3))
    assert result["counts"]["updated"] == 2
    assert client.get_job(trainer, str(rows[1].job_id)).status.value == "Cancelled"
    assert {row["job_id"] for row in result["rows"]} & {row.job_id for row in rows} == {rows[0].job_id}


def submit(task: Any, rows: list[Row], items: list[dict[str, Any]], ran: dict[str, Any]) -> None:
    """Submit the jobs of rows, and start none."""
    import asyncio

    from airflow_provider_azureml_classic.memory import FleetMemory

    asyncio.run(task._submit(rows, task._items(ran), FleetMemory(ran)))


def test_no_secret_is_kept(server: ServerProcess, client: Client, store: FileStore) -> None:
    """Tokens in the items reach neither the store, nor the trigger, nor the result."""
    items = uploaded(server, "secret", 1)
    items[0]["inputs"] = server.sas(items[0]["inputs"]).url
    seen: list[str] = []
    keep = FileStore.set
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            FileStore, "set", lambda self, key, value: (seen.append(json.dumps(value)), keep(self, key, value))
        )
        result = fleet("secret", items).execute(attempt(store))
    seen += [json.dumps(result), str(wave_trigger(client, "secret").serialize())]
    assert len(seen) > 3
    trainer = client.get_endpoint(client.find_web_service(BIKES).id, "secret")
    secrets = ["sig=", trainer.primary_key, server.connection["token"]]
    assert [secret for secret in secrets for text in seen if secret in text] == []


# -- the trigger -------------------------------------------------------------------------------------------------------


def wave_trigger(client: Client, trainer: str, **options: Any) -> FleetTrigger:
    """A trigger for the first wave."""
    training, scoring = client.find_web_service(BIKES).id, client.find_web_service(BIKES_SCORING).id
    given = {"training_id": training, "training_endpoint": trainer, "scoring_id": scoring, "deadline": None}
    given |= {"poll_interval": 0.3, "proof_timeout": 20, **options}
    key = {"dag_id": "d", "task_id": "t", "run_id": "r", "map_index": -1}
    return FleetTrigger(
        azureml_classic_conn_id="azureml_classic_default", key=key, parts=1, wave=1, may_fail=0, options=given
    )


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """The rows that XComs hold; reading and writing them is Airflow's, and tested in a real one."""
    rows: list[Row] = []

    def read(self: FleetXComs, parts: int) -> list[Row]:
        return [Row.from_json(row.to_json()) for row in rows]

    def write(self: FleetXComs, parts: list[tuple[int, list[dict[str, Any]]]]) -> None:
        for _, part in parts:
            rows[:] = [Row.from_json(json.loads(json.dumps(data))) for data in part]

    monkeypatch.setattr(triggers, "FIRST_LOOK", 0.0)
    monkeypatch.setattr(FleetXComs, "read", read)
    monkeypatch.setattr(FleetXComs, "write", write)
    return rows


def submitted(server: ServerProcess, name: str, count: int, tmp_path: Path) -> list[Row]:
    """Rows of the first wave, whose jobs are submitted and not started."""
    items = uploaded(server, name, count)
    ran = attempt(FileStore(tmp_path / "s.json"))
    rows = [Row(item["endpoint"], {"end": DAY.isoformat()}, 2, 1) for item in items]
    submit(fleet(name, items), rows, items, ran)
    return rows


async def test_a_trigger_is_taken_over(
    server: ServerProcess, client: Client, kept: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trigger that dies in the middle is made anew from its arguments, and starts no job a second time."""
    import asyncio

    kept[:] = await asyncio.to_thread(submitted, server, "taken", 5, tmp_path)
    first = wave_trigger(client, "taken", max_active_jobs=2)
    path, arguments = first.serialize()
    assert path == "airflow_provider_azureml_classic.triggers.FleetTrigger"
    run = asyncio.create_task(anext(first.run()))
    while started(server, "taken").count("Finished") < 2:
        await asyncio.sleep(0.05)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    event = await anext(FleetTrigger(**json.loads(json.dumps(arguments))).run())
    assert event.payload == {"parts": 1, "deadline": None}
    assert [row.outcome for row in kept] == [Outcome.UPDATED] * 5
    assert started(server, "taken") == ["Finished"] * 5


async def test_killing_the_task_cancels_what_is_in_flight(
    server: ServerProcess, client: Client, kept: list[Row], tmp_path: Path
) -> None:
    """A person who kills the deferred task cancels the jobs that were started; the others are not started."""
    import asyncio

    kept[:] = await asyncio.to_thread(submitted, server, "shot", 4, tmp_path)
    trigger = wave_trigger(client, "shot", max_active_jobs=2)
    run = asyncio.create_task(anext(trigger.run()))
    while not trigger.can_cancel:
        await asyncio.sleep(0.01)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    await trigger.on_kill()
    states = started(server, "shot")
    assert 1 <= len(states) <= 3
    assert "Cancelled" in states


@pytest.mark.parametrize("state", ["running", "failed"])
def test_ended_from_outside(
    server: ServerProcess, client: Client, store: FileStore, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """An evicted task leaves its jobs to the next attempt; one that a person ended cancels them. Neither counts an
    endpoint as failed.
    """
    name = f"ended{state}"
    items = uploaded(server, name, 2)
    task = fleet(name, items, poll_interval=60.0)
    monkeypatch.setattr(ending, "state_of", lambda ti: state)
    poll = Engine._poll

    async def ended(engine: Engine) -> None:
        # Jobs that are not polled have not ended for the engine, however fast they are.
        task.on_kill()

    monkeypatch.setattr(Engine, "_poll", ended)
    words = "the 2 jobs in flight were cancelled" if state == "failed" else "the 2 jobs in flight go on"
    with one_sentence(AirflowException, words):
        task.execute(attempt(store))
    rows = [Row.from_json(row) for row in store.kept["azureml_classic_fleet_0"]]
    assert [row.outcome for row in rows] == [None, None]
    monkeypatch.setattr(Engine, "_poll", poll)
    assert fleet(name, items).execute(attempt(store))["counts"]["updated"] == 2
    states = started(server, name)
    assert states.count("Finished") >= 2
    assert state == "failed" or states == ["Finished"] * 2


def test_execution_timeout_in_the_worker(
    server: ServerProcess, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow's time-out ends the attempt in the middle of whatever it does: the jobs in flight are cancelled, nothing
    counts as failed, and what is known is kept.
    """
    items = uploaded(server, "timeout", 2)

    async def late(engine: Engine) -> None:
        raise AirflowTaskTimeout

    monkeypatch.setattr(Engine, "_poll", late)
    with pytest.raises(AirflowTaskTimeout):
        fleet("timeout", items).execute(attempt(store))
    rows = [Row.from_json(row) for row in store.kept["azureml_classic_fleet_0"]]
    assert [(row.outcome, bool(row.job_id)) for row in rows] == [(None, True), (None, True)]
    assert "Running" not in started(server, "timeout")


def killed(self: Placing, *_: Any) -> Program[None]:
    """What ``kill -9`` does between PATCH and proof."""
    raise SystemExit("killed")
    yield  # pragma: no cover


def test_killed_between_patch_and_proof(
    server: ServerProcess, client: Client, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next attempt goes on with the proof: it sends no second PATCH, and its receipt is that of the first."""
    items = uploaded(server, "between", 1)
    fleet("between", items).execute(attempt(store))
    first = live(client, "between0")
    server.upload(items[0]["inputs"], rentals(600, 60))
    after = DAY + timedelta(days=1)
    with monkeypatch.context() as patch:
        patch.setattr(Placing, "prove", killed)
        with pytest.raises(SystemExit):
            fleet("between", items).execute(attempt(store, end=after))
    receipts: list[Any] = []
    monkeypatch.setattr(fleet_module, "event_extra", lambda receipt: receipts.append(receipt) or {})
    monkeypatch.setattr(Placing, "put", killed)
    fleet("between", items).execute({**attempt(store, end=after), "outlet_events": Events()})
    [receipt] = receipts
    assert receipt["replaced"]["location"].endswith(first)
    assert receipt["replaced"]["answers"]
    assert receipt["proof"]["level"] == "content"
    assert receipt["model"]["sha256"]
    assert live(client, "between0") != first


async def test_a_trigger_that_is_restarted_forgets_no_update(
    server: ServerProcess, client: Client, kept: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that is cancelled keeps what has ended, and what each update that is under way replaces."""
    import asyncio

    kept[:] = await asyncio.to_thread(submitted, server, "orderly", 2, tmp_path)
    trigger, proving = wave_trigger(client, "orderly", max_active_jobs=1), asyncio.Event()
    prove = Placing.prove
    proofs: list[int] = []

    def second_waits(self: Placing, update: Any) -> Program[None]:
        proofs.append(1)
        if len(proofs) == 2:
            proving.set()
            yield Pause(600)
        yield from prove(self, update)

    monkeypatch.setattr(Placing, "prove", second_waits)
    run = asyncio.create_task(anext(trigger.run()))
    await asyncio.wait_for(proving.wait(), 60)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert [row.outcome for row in kept] == [Outcome.UPDATED, None]
    assert kept[0].receipt
    assert kept[1].patch


class Events(dict[Any, Any]):
    """As much of Airflow's outlet events as a task uses: what is added to an alias."""

    def __missing__(self, alias: Any) -> Any:
        added: list[Any] = []
        self[alias] = SimpleNamespace(added=added, add=lambda asset, extra: added.append((asset.uri, extra)))
        return self[alias]


@pytest.mark.parametrize(("limit", "count"), [(3, 2), (1, 1)])
def test_updates_are_asset_events(store: FileStore, limit: int, count: int) -> None:
    """Each update is an event with its receipt; more than the limit are one event of all endpoints."""
    task = fleet("default", [], max_asset_events=limit)
    receipt = {"web_service": "S", "endpoint": "a", "resource": "r", "job_id": "j", "window": None, "metrics": {}}
    receipt |= {"model": {"location": "m", "sha256": "s"}, "replaced": {"location": None}, "proof": {"level": "score"}}
    rows = [Row(name, outcome=Outcome.UPDATED, receipt=receipt) for name in ("a", "b")]
    rows.append(Row("c", outcome=Outcome.KEPT))
    events = Events()
    task._record({"outlet_events": events}, rows)
    [told] = [one.added for one in events.values()]
    assert len(told) == count
    assert {uri.rpartition("/")[2] for uri, _ in told} == ({"a", "b"} if count == 2 else {"%2A"})
    assert told[0][1].get("updated") == (None if count == 2 else 2)


async def test_settings_are_read_once_in_a_trigger(server: ServerProcess) -> None:
    """The hook of a trigger knows its settings without asking Airflow again, which would block the loop."""
    hook = AzureMLClassicHook()
    assert isinstance(await hook.async_client(), AsyncClient)
    assert "settings" in vars(hook)
    assert os.environ["AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT"]
