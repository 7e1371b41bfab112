"""Watches: when they tell, what they remember, and that they go on whatever happens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import structlog
from airflow.sdk import AssetWatcher
from airflow.triggers.base import TriggerEvent
from airflow.triggers.shared_stream import SharedStreamManager

from airflow_provider_azureml_classic.client import AsyncClient, Client
from airflow_provider_azureml_classic.exceptions import NotFound, ServiceUnavailable
from airflow_provider_azureml_classic.protocol.digests import Digests
from airflow_provider_azureml_classic.protocol.model_history import PastModel
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint, EndpointSettings, Resource, WebService
from airflow_provider_azureml_classic.server.experiments.ilearner import read_ilearner, write_ilearner
from airflow_provider_azureml_classic.watchers import EndpointWatch, ModelChangeTrigger, Origins, StaleModelTrigger
from tests.support import BIKES_SCORING, ServerProcess

NOW = datetime(2026, 2, 1, tzinfo=UTC)
SCORING = {"web_service": "Bikes [predictive exp.]", "endpoint": "bikes"}


def endpoint(path: str | None = "models/bikes/20260131T000000Z.ilearner", version: str = "v1") -> Endpoint:
    """An endpoint with this model."""
    place = BlobReference(path, "https://a/", "?sig=secret") if path else None
    return Endpoint("bikes", version=version, primary_key="secretkey", resources=(Resource("model", place),))


class Store:
    """An asset state store in a dict; only JSON can be kept.

    :param kept: what was kept before.
    """

    def __init__(self, kept: dict[str, Any] | None = None) -> None:
        self.kept = kept if kept is not None else {}
        self.error: Exception | None = None

    async def aget(self, key: str, default: Any = None) -> Any:
        """A value."""
        return self.kept.get(key, default)

    async def aset(self, key: str, value: Any) -> None:
        """Keep a value."""
        if self.error:
            raise self.error
        self.kept[key] = json.loads(json.dumps(value))


async def stream(*looks: Endpoint | Origins) -> AsyncIterator[Endpoint | Origins]:
    """Looks at an endpoint, as a shared stream yields them."""
    for look in looks:
        yield look


async def told(watch: EndpointWatch, *looks: Endpoint | Origins) -> list[dict[str, Any]]:
    """What a watch tells of these looks."""
    return [event.payload async for event in watch.filter_shared_stream(stream(*looks))]


def at(watch: EndpointWatch, store: Store | None) -> EndpointWatch:
    """A watch with a store, as the triggerer makes it."""
    watch.asset_state_store = store
    return watch


@pytest.mark.parametrize(
    "watch",
    [
        StaleModelTrigger(max_age=timedelta(days=2), repeat_every=3600, resource="r", poll_interval=5, **SCORING),
        ModelChangeTrigger(ours="models/", azureml_classic_conn_id="other", **SCORING),
    ],
    ids=lambda watch: type(watch).__name__,
)
def test_watches_survive_the_database(watch: EndpointWatch):
    """A watch is rebuilt from its class path and plain JSON arguments, and can be an asset's watcher."""
    path, arguments = watch.serialize()
    assert path == f"airflow_provider_azureml_classic.watchers.{type(watch).__name__}"
    again = type(watch)(**json.loads(json.dumps(arguments)))
    assert again.serialize() == watch.serialize()
    assert again.state_key == watch.state_key
    assert AssetWatcher(name="w", trigger=watch).trigger is watch
    assert type(watch).hash(path, arguments) == type(watch).hash(path, again.serialize()[1])


@pytest.mark.parametrize("max_age", [timedelta(seconds=-1), float("nan"), float("inf")])
def test_ages_are_checked_when_the_dag_is_parsed(max_age: Any):
    """An age that is none fails where the DAG's author sees it."""
    with pytest.raises(ValueError, match="must be a timedelta, or a number of seconds"):
        StaleModelTrigger(max_age=max_age, **SCORING)


# -- stale ---------------------------------------------------------------------------------------------------------


def stale(**options: Any) -> StaleModelTrigger:
    """A watch for models older than two days."""
    return StaleModelTrigger(max_age=timedelta(days=2), **{**SCORING, **options})


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("models/bikes/20260129T000000Z.ilearner", "trained on data up to 2026-01-29 00:00 UTC (3 d 0 h ago)"),
        ("firstmodels/x.ilearner", "names no training window"),
        (None, "does not name the live model"),
    ],
)
def test_stale_is_told_with_the_reason(path: str | None, reason: str):
    """A model that is too old, or whose age cannot be told, is stale; the event says why, and holds no secret."""
    verdict = stale().judge(endpoint(path), None, NOW)
    assert verdict.event is not None
    assert reason in verdict.event["reason"]
    assert verdict.event["location"] == (f"https://a/{path}" if path else None)
    assert "secret" not in json.dumps(verdict.event)


def test_the_limit_of_the_endpoint():
    """Without an argument the endpoint says what is stale."""
    watch = StaleModelTrigger(**SCORING)
    live = endpoint("models/bikes/20260129T000000Z.ilearner")
    days = timedelta(days=2)
    verdict = watch.judge(replace(live, stale_after=days), None, NOW)
    assert verdict.event is not None
    assert verdict.event["max_age"] == days.total_seconds()
    assert watch.judge(replace(live, stale_after=timedelta(days=4)), None, NOW).event is None


async def test_no_limit_is_said_once(caplog: pytest.LogCaptureFixture):
    """An endpoint without a limit is never stale, and the log says once what to set."""
    live = endpoint("models/bikes/20260129T000000Z.ilearner")
    assert await told(StaleModelTrigger(**SCORING), live, live, live) == []
    assert caplog.text.count("has no limit after which its model is stale") == 1


def test_fresh_is_not_told():
    """A model as old as is allowed is fresh."""
    assert stale().judge(endpoint("models/bikes/20260130T000000Z.ilearner"), None, NOW).event is None


def test_stale_is_told_once_for_each_model():
    """The same model is told once; a later one that became stale too is told again."""
    old, later = (endpoint(f"models/bikes/202601{day}T000000Z.ilearner") for day in (20, 25))
    first = stale().judge(old, None, NOW)
    assert stale().judge(old, first.state, NOW + timedelta(days=9)).event is None
    assert stale().judge(later, first.state, NOW).event is not None


def test_stale_is_told_again_if_asked_for():
    """With ``repeat_every`` a model that is still live is told again after that time, not before."""
    watch, old = stale(repeat_every=timedelta(hours=1)), endpoint("models/bikes/20260120T000000Z.ilearner")
    first = watch.judge(old, None, NOW)
    assert watch.judge(old, first.state, NOW + timedelta(minutes=59)).event is None
    assert watch.judge(old, first.state, NOW + timedelta(minutes=60)).event is not None


# -- changed -------------------------------------------------------------------------------------------------------


async def test_first_look_only_remembers():
    """Nothing is told before there is something to compare with; then a new location or version is."""
    other = endpoint("elsewhere/m.ilearner", "v2")
    events = await told(at(ModelChangeTrigger(**SCORING), Store()), endpoint(), endpoint(), other, other)
    assert events == [
        {
            **SCORING,
            "now": {"location": "https://a/elsewhere/m.ilearner", "version": "v2"},
            "before": {"location": "https://a/models/bikes/20260131T000000Z.ilearner", "version": "v1"},
        }
    ]


async def test_own_models_are_not_told():
    """A change to a model of our own DAGs is remembered but not told; one by somebody else after it is."""
    own, foreign = endpoint("models/bikes/20260201T000000Z.ilearner", "v2"), endpoint("x.ilearner", "v3")
    events = await told(at(ModelChangeTrigger(ours="/models/bikes/", **SCORING), Store()), endpoint(), own, foreign)
    assert [event["before"]["version"] for event in events] == ["v2"]


@pytest.mark.parametrize(("name", "is_told"), [("bikes", False), ("cars", True)])
async def test_own_paths_with_the_id_of_a_service_are_not_told(name: str, is_told: bool):
    """What was our own before paths held the id of the training service still is, and no more than that."""
    other = endpoint(f"models/{'0a' * 16}/{name}/20260201T000000Z-0123456789ab.ilearner", "v2")
    events = await told(at(ModelChangeTrigger(ours="models/bikes/", **SCORING), Store()), endpoint(), other)
    assert bool(events) is is_told


def origins(look: Endpoint, file: str, *, job_id: str | None = None, how: str = "patch", lists: str = "") -> Origins:
    """A look at an endpoint, whose model a job wrote or none, as the service lists it; it may list another file."""
    resource = replace(look.resource(), digests=Digests(file * 64, file * 64))
    digests = Digests((lists or file) * 64, (lists or file) * 64)
    entry = PastModel(1, "model", resource.location or BlobReference(""), digests, how=how, is_live=True, job_id=job_id)
    return Origins(replace(look, resources=(resource,)), (entry,))


@pytest.mark.parametrize(
    ("job_id", "how", "is_told"), [("1", "patch", False), (None, "patch", True), ("1", "rollback", True)]
)
async def test_own_models_are_those_that_jobs_wrote(job_id: str | None, how: str, is_told: bool):
    """A model is our own by its digest, wherever it lies: a file of somebody else at our own path is not, nor is a
    rollback in the portal.
    """
    first = origins(endpoint(), "a")
    changed = origins(endpoint("models/bikes/again.ilearner", "v2"), "b", job_id=job_id, how=how)
    events = await told(at(ModelChangeTrigger(ours=True, **SCORING), Store()), first, changed, changed)
    assert bool(events) is is_told


async def test_a_change_between_two_answers_is_judged_at_the_next_poll():
    """Where the list names another model than the endpoint does, nothing is decided yet, and nothing is forgotten."""
    first, torn = origins(endpoint(), "a"), origins(endpoint("x.ilearner", "v2"), "b", job_id="1", lists="c")
    foreign = origins(endpoint("x.ilearner", "v2"), "b")
    watch = at(ModelChangeTrigger(ours=True, **SCORING), Store())
    assert await told(watch, first, torn) == []
    assert [event["before"]["version"] for event in await told(watch, foreign)] == ["v1"]


async def test_own_models_of_a_service_that_lists_none():
    """There the default path decides, as jobs have put models there."""
    looks = [endpoint(f"models/{'0a' * 16}/bikes/20260201T000000Z-0123456789ab.ilearner", "v2"), endpoint("x", "v3")]
    events = await told(at(ModelChangeTrigger(ours=True, **SCORING), Store()), endpoint(), *looks)
    assert [event["now"]["version"] for event in events] == ["v3"]


def test_who_wrote_a_model_has_a_poll_of_its_own():
    """Watches that need no list share the endpoint's poll as before; what they remember has the key that it had."""
    plain, path, own = (ModelChangeTrigger(ours=ours, **SCORING) for ours in (None, "models/", True))
    assert plain.shared_stream_key() == path.shared_stream_key() == stale().shared_stream_key()
    assert own.shared_stream_key() != plain.shared_stream_key()
    assert plain.state_key == ModelChangeTrigger(**SCORING).state_key
    assert len({one.state_key for one in (plain, path, own)}) == 3


# -- remembering ---------------------------------------------------------------------------------------------------


async def test_restart_repeats_no_event():
    """A triggerer that starts again knows from the asset state store what was told."""
    store, changed = Store(), endpoint("x.ilearner", "v2")
    assert len(await told(at(ModelChangeTrigger(**SCORING), store), endpoint(), changed)) == 1
    assert await told(at(ModelChangeTrigger(**SCORING), Store(store.kept)), changed) == []
    assert len(await told(at(stale(), store), endpoint("old.ilearner"))) == 1
    assert await told(at(stale(), Store(store.kept)), endpoint("old.ilearner")) == []


async def test_kept_before_it_is_told():
    """What is told was kept first, so a crash in between repeats nothing."""
    store = Store()
    async with aclosing(at(stale(), store).filter_shared_stream(stream(endpoint("old.ilearner")))) as events:
        await anext(events)
        [kept] = store.kept.values()
        assert kept["told"] == "https://a/old.ilearner"


async def test_what_cannot_be_kept_is_told_later():
    """A store that fails costs no event: the next look that can be kept tells it."""
    store = Store()
    store.error = RuntimeError("the API server restarts")

    async def looks() -> AsyncIterator[Endpoint]:
        yield endpoint("old.ilearner")
        store.error = None
        yield endpoint("old.ilearner")
        yield endpoint("old.ilearner")

    watch = at(stale(), store)
    assert len([event async for event in watch.filter_shared_stream(looks())]) == 1


@pytest.mark.parametrize("store", [None, "several"])
async def test_without_a_store_it_remembers_until_the_restart(store: str | None):
    """Without a store (Airflow 3.2), or one that several assets share, an event is still told only once."""
    kept = Store()
    if store:
        kept.error = ValueError("Task has 2 concrete inlets and outlets")
    watch = at(stale(), kept if store else None)
    assert len(await told(watch, *[endpoint("old.ilearner")] * 3)) == 1


def test_watches_of_one_asset_do_not_share_their_memory():
    """Each meaning has a key of its own; how often is looked is no part of the meaning."""
    watches = [
        stale(),
        stale(endpoint="scooters"),
        StaleModelTrigger(max_age=1, **SCORING),
        ModelChangeTrigger(**SCORING),
    ]
    assert len({watch.state_key for watch in watches}) == 4
    assert stale(poll_interval=1).state_key == stale(poll_interval=2).state_key


async def test_a_stale_model_that_comes_back_is_told_again():
    """Stale, then fresh, then rolled back to the stale one: it is news again."""
    old, new = endpoint("old.ilearner"), endpoint(f"models/bikes/{datetime.now(UTC):%Y%m%dT%H%M%SZ}.ilearner")
    assert len(await told(at(stale(), Store()), old, old, new, new, old, old)) == 2


def test_keys_outlast_moves_and_new_arguments(monkeypatch: pytest.MonkeyPatch):
    """A module that moves, an argument at its default, however it is given, and a later argument keep the key."""
    key = stale().state_key
    assert stale(repeat_every=None, resource=None).state_key == key
    monkeypatch.setattr(StaleModelTrigger, "__module__", "elsewhere")
    assert stale().state_key == key
    assert stale(repeat_every=60).state_key != key

    class Later(StaleModelTrigger):
        def __init__(self, *, patience: int = 7, **options: Any) -> None:
            super().__init__(**options)
            self.patience = patience

        def serialize(self) -> tuple[str, dict[str, Any]]:
            path, arguments = super().serialize()
            return path, {**arguments, "patience": self.patience}

    given = {"max_age": stale().max_age, **SCORING}
    assert Later(**given).state_key == key != Later(patience=8, **given).state_key


async def test_what_version_0_1_kept_is_read():
    """An upgrade tells nobody anything twice: the state under the old key counts until there is a new one."""
    watch, look = stale(), endpoint("old.ilearner")
    state = watch.judge(look, None, datetime.now(UTC)).state
    store = Store({watch._first_key: dict(state)})
    assert await told(at(watch, store), look) == []
    store.kept[watch.state_key] = {}
    assert len(await told(at(stale(), store), look)) == 1


async def test_wrong_resource_does_not_end_the_watch(caplog: pytest.LogCaptureFixture):
    """A resource that is not there is said in the log, and the watch goes on."""
    assert await told(at(stale(resource="other"), Store()), endpoint(), endpoint()) == []
    assert "has no updatable resource 'other'; it has: 'model'" in caplog.text


# -- looking -------------------------------------------------------------------------------------------------------


class Looks:
    """Stands in for the service: each look is the next of these, an error is raised.

    :param answers: endpoints and errors.
    """

    def __init__(self, *answers: Endpoint | Exception) -> None:
        self.answers = list(answers)
        self.count = 0

    async def __call__(self, *_: Any) -> Endpoint:
        """Look once; the last answer stays."""
        self.count += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def looking(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Looks]:
    """Makes a service that answers as told."""
    connection = {"conn_type": "azureml_classic", "host": "http://127.0.0.1:1", "login": "w", "password": "p"}
    monkeypatch.setenv("AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT", json.dumps(connection))

    def make(*answers: Endpoint | Exception) -> Looks:
        async def service(*_: Any) -> WebService:
            return WebService("id", "name")

        looks = Looks(*answers)
        monkeypatch.setattr(AsyncClient, "find_web_service", service)
        monkeypatch.setattr(AsyncClient, "get_endpoint", looks)
        return looks

    return make


async def test_watch_outlives_every_error(looking: Callable[..., Looks], caplog: pytest.LogCaptureFixture):
    """An outage, an endpoint that is not there yet, or a mistake of our own ends no watch, and each is said once."""
    gone = NotFound("There is no endpoint 'bikes'.")
    looking(ServiceUnavailable("No answer"), gone, gone, gone, RuntimeError("https://a/?sig=secret"), endpoint("x"))
    watch = at(stale(poll_interval=0.001), None)
    async with asyncio.timeout(5), aclosing(watch.run()) as events:
        event = await anext(events)
    assert event.payload["endpoint"] == "bikes"
    assert caplog.text.count("There is no endpoint 'bikes'.") == 1
    assert "RuntimeError" in caplog.text
    assert "sig=" not in caplog.text


@pytest.mark.slow
async def test_missing_connection_is_waited_out(caplog: pytest.LogCaptureFixture):
    """A connection that does not exist is said in the log once, not once a look."""
    watch = at(stale(poll_interval=0.01, azureml_classic_conn_id="not_there"), None)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5), aclosing(watch.run()) as events:
            await anext(events)
    assert caplog.text.count("Cannot read endpoint 'bikes'") == 1


async def test_siblings_share_one_poll(looking: Callable[..., Looks]):
    """Watches of one endpoint are fed by one poll of Airflow's stream manager; another endpoint has its own."""
    looks = looking(endpoint("old.ilearner"))
    watches = [stale(poll_interval=0.2), StaleModelTrigger(max_age=5, poll_interval=0.2, **SCORING)]
    assert stale(endpoint="scooters", poll_interval=0.2).shared_stream_key() != watches[0].shared_stream_key()
    manager = SharedStreamManager(log=structlog.get_logger())

    async def first(number: int, watch: EndpointWatch) -> TriggerEvent:
        shared = manager.subscribe(trigger_id=number, trigger=watch, key=watch.shared_stream_key())
        return await anext(aiter(watch.filter_shared_stream(shared)))

    async with asyncio.timeout(5):
        events = await asyncio.gather(*(first(number, at(watch, None)) for number, watch in enumerate(watches)))
    assert {event.payload["max_age"] for event in events} == {5.0, 172800.0}
    assert looks.count == 1
    await manager.stop_all()


def other_model(content: bytes) -> bytes:
    """A model file that answers the same, and is another one."""
    manifest, graph = read_ilearner(content)
    with TemporaryDirectory() as folder:
        write_ilearner(Path(folder) / "m", graph, replace(manifest, positive="other"))
        return (Path(folder) / "m").read_bytes()


@pytest.mark.parametrize(("content", "is_told"), [("a", False), ("b", True)])
async def test_the_same_content_is_no_change(content: str, is_told: bool):
    """Where the service tells the content of models, a change is another content, wherever it lies; also after a
    state of an earlier version, which has none."""
    first, moved, later = endpoint(), endpoint("x.ilearner", "v2"), endpoint("y.ilearner", "v3")
    known = [
        replace(one, resources=(replace(one.resources[0], digests=Digests(content=letter * 64)),))
        for one, letter in ((first, "a"), (moved, "a"), (later, content))
    ]
    events = await told(at(ModelChangeTrigger(**SCORING), Store()), first, *known)
    assert bool(events) is is_told


@pytest.mark.slow
async def test_on_the_real_service(airflow_connection: ServerProcess, client: Client):
    """Against the running server: a first model is as old as its data, and a PATCH by somebody else is told."""
    service = client.find_web_service(BIKES_SCORING)
    before = client.add_endpoint(service.id, "watched")
    where = {"web_service": BIKES_SCORING, "endpoint": "watched", "poll_interval": 0.1}
    store, first = Store(), before.resource()
    content = other_model(client.fetch_blob(airflow_connection.sas(first.location.relative_location)))
    settings = EndpointSettings(
        resources=(Resource(first.name, airflow_connection.upload("moved/m.ilearner", content)),)
    )
    async with asyncio.timeout(20):
        async with aclosing(at(StaleModelTrigger(max_age=60, **where), Store()).run()) as events:
            assert "trained on data up to 2025-12-31 00:00 UTC" in (await anext(events)).payload["reason"]
        # The server lists who wrote the model: no job of it did.
        async with aclosing(at(ModelChangeTrigger(ours=True, **where), store).run()) as events:
            waiting = asyncio.ensure_future(anext(events))
            while not store.kept:
                await asyncio.sleep(0.02)
            await asyncio.to_thread(client.patch_endpoint, before, settings)
            told_now = (await waiting).payload
    assert told_now["now"]["location"].endswith("moved/m.ilearner")
    assert told_now["before"]["location"] == first.location.location
    assert "sig=" not in json.dumps(told_now)
