"""Waits in the triggerer, on an event loop, against the running server."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from airflow.triggers.base import TriggerEvent

from airflow_provider_azureml_classic import triggers
from airflow_provider_azureml_classic.client import AsyncClient, Client
from airflow_provider_azureml_classic.client.aio import SharedSession
from airflow_provider_azureml_classic.client.retries import RetryPolicy
from airflow_provider_azureml_classic.exceptions import ServiceUnavailable
from airflow_provider_azureml_classic.hooks import AzureMLClassicHook
from airflow_provider_azureml_classic.protocol.messages import Request, Response
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.retraining.freshness import Goal
from airflow_provider_azureml_classic.triggers import EndpointTrigger, FreshnessTrigger, JobTrigger
from tests.support import BIKES, BIKES_SCORING, ServerProcess
from tests.support.tasks import DAY, added, live, refused, submitted, trained, trainer, update_to

#: The limit of an endpoint.
DAYS = timedelta(days=2)
Send = Callable[[Request], Awaitable[Response]]


@pytest.fixture(autouse=True)
def at_once(airflow_connection: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first look comes at once, and calls are repeated without pauses."""
    monkeypatch.setattr(triggers, "FIRST_LOOK", 0.0)
    made = AsyncClient.__init__

    def quick(self: AsyncClient, *args: Any, **options: Any) -> None:
        made(self, *args, **{**options, "retries": RetryPolicy(attempts=2, base=0.0)})

    monkeypatch.setattr(AsyncClient, "__init__", quick)


def job_trigger(client: Client, job_id: str, **options: Any) -> JobTrigger:
    """A trigger that looks often."""
    given = {"azureml_classic_conn_id": "azureml_classic_default", "endpoint": "default", "poll_interval": 0.05}
    given |= {"web_service_id": client.find_web_service(BIKES).id, "deadline": time.time() + 30}
    return JobTrigger(job_id=job_id, **{**given, **options})


def fresh_trigger(client: Client, endpoint: str, **options: Any) -> FreshnessTrigger:
    """A trigger that looks often."""
    given = {"azureml_classic_conn_id": "azureml_classic_default", "endpoint": endpoint, "poll_interval": 0.05}
    given |= {"web_service_id": client.find_web_service(BIKES_SCORING).id, "deadline": time.time() + 30}
    return FreshnessTrigger(**{**given, **options})


async def fired(trigger: EndpointTrigger) -> dict[str, Any]:
    """The payload of a trigger's one event."""
    events = [event async for event in trigger.run()]
    assert len(events) == 1
    assert isinstance(events[0], TriggerEvent)
    payload = events[0].payload
    assert payload == json.loads(json.dumps(payload))
    return dict(payload)


def bend(monkeypatch: pytest.MonkeyPatch, how: Callable[[Request, Send], Awaitable[Response]]) -> list[str]:
    """Put a bend between all triggers and the server; returns the journal of calls."""
    journal: list[str] = []
    real = SharedSession.send

    async def send(self: SharedSession, request: Request) -> Response:
        journal.append(request.operation.name)
        return await how(request, lambda asked: real(self, asked))

    monkeypatch.setattr(SharedSession, "send", send)
    return journal


@pytest.mark.parametrize(
    "own",
    [
        (JobTrigger, {"job_id": "0" * 32}),
        (FreshnessTrigger, {"location": ["http://own/", "models/x.ilearner"], "resource": "m"}),
        (FreshnessTrigger, {"trained_to": DAY.isoformat(), "deadline": None}),
        (FreshnessTrigger, {"max_age": 3600.0}),
    ],
)
def test_serialize_round_trip(own: tuple[type[EndpointTrigger], dict[str, Any]]) -> None:
    """A trigger survives the database: its arguments are plain JSON and make the same trigger again."""
    kind, options = own
    given = {"azureml_classic_conn_id": "c", "web_service_id": "w", "endpoint": "e", "deadline": 1.5}
    first = kind(**{**given, "poll_interval": 2.0, **options})
    path, arguments = first.serialize()
    assert path == f"airflow_provider_azureml_classic.triggers.{kind.__name__}"
    assert arguments == json.loads(json.dumps(arguments))
    assert kind(**arguments).serialize() == (path, arguments)
    assert {name: arguments[name] for name in options} == options


def test_goal_survives() -> None:
    """What is waited for is the same on both sides."""
    options = {
        "azureml_classic_conn_id": "c",
        "web_service_id": "w",
        "endpoint": "e",
        "deadline": 1,
        "poll_interval": 1,
    }
    assert FreshnessTrigger(location=("http://own/", "a/b.ilearner"), **options).goal(DAYS) == Goal(
        location=BlobReference("a/b.ilearner", "http://own/")
    )
    assert FreshnessTrigger(trained_to="2026-03-01T00:00:00+00:00", **options).goal(DAYS) == Goal(trained_to=DAY)
    assert FreshnessTrigger(max_age=0.0, **options).goal(DAYS) == Goal(max_age=timedelta())
    assert FreshnessTrigger(**options).goal(DAYS) == Goal(max_age=DAYS)
    assert FreshnessTrigger(**options).goal(None) is None


def test_names_of_airflow_are_free() -> None:
    """No argument takes a name that the base class uses itself."""
    _, arguments = JobTrigger(
        azureml_classic_conn_id="c", web_service_id="w", endpoint="e", deadline=1, poll_interval=1, job_id="j"
    ).serialize()
    assert not {"task_id", "task_instance", "trigger_id", "template_fields"} & set(arguments)


class TestJob:
    """Waiting for the end of a job."""

    @pytest.mark.slow
    async def test_end_of_the_job(self, server: ServerProcess, client: Client) -> None:
        """The event comes when the job has ended; it names the job and no verdict."""
        job_id = submitted(server, client, path="training/trigger1.csv")
        trigger = job_trigger(client, job_id)
        waiting = asyncio.create_task(fired(trigger))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        await asyncio.to_thread(client.start_job, trainer(client), job_id)
        assert await waiting == {"job_id": job_id, "deadline": trigger.deadline}
        assert client.get_job(trainer(client), job_id).status.terminal

    @pytest.mark.slow
    async def test_deadline(self, server: ServerProcess, client: Client) -> None:
        """At the deadline the event comes too; the job is left for the worker to judge."""
        job_id = submitted(server, client, path="training/trigger2.csv")
        assert (await fired(job_trigger(client, job_id, deadline=time.time() + 0.2)))["job_id"] == job_id
        assert client.get_job(trainer(client), job_id).status.value == "NotStarted"

    async def test_first_look_comes_late(
        self, server: ServerProcess, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """However near the deadline is, an event never comes before the scheduler has seen the worker's exit."""
        naps: list[float] = []

        async def nap(seconds: float) -> None:
            naps.append(seconds)

        monkeypatch.setattr(triggers, "FIRST_LOOK", 8.0)
        monkeypatch.setattr(triggers.asyncio, "sleep", nap)
        job_id = submitted(server, client, path="training/trigger3.csv")
        await fired(job_trigger(client, job_id, deadline=1.0))
        assert 8.0 <= naps[0] <= 10.0

    @pytest.mark.slow
    async def test_outage(self, server: ServerProcess, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        """While the service does not answer, or answers nonsense, the wait goes on."""
        job_id = submitted(server, client, path="training/trigger4.csv")
        client.start_job(trainer(client), job_id)
        answers = iter(["none"] * 4 + ["503"] * 2 + ["page"] + ["none"] * 2)

        async def flaky(request: Request, send: Send) -> Response:
            how = next(answers, "")
            if how == "none":
                raise ServiceUnavailable("No answer (ClientConnectorError)")
            if how == "page":
                return Response(200, {"content-type": "text/html"}, b"<html>Sign in</html>")
            return refused(503, "NoMoreResources", "Busy.") if how else await send(request)

        journal = bend(monkeypatch, flaky)
        assert (await fired(job_trigger(client, job_id)))["job_id"] == job_id
        assert len(journal) > 9
        assert "cancel_job" not in journal

    @pytest.mark.slow
    async def test_outage_to_the_deadline(
        self, server: ServerProcess, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A service that stays away ends the wait at the deadline, and not before."""
        trigger = job_trigger(client, uuid4().hex, deadline=time.time() + 0.3)

        async def away(request: Request, send: Send) -> Response:
            raise ServiceUnavailable("No answer (ClientConnectorError)")

        bend(monkeypatch, away)
        await fired(trigger)
        assert time.time() >= (trigger.deadline or 0)

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 405])
    async def test_errors_for_the_worker(
        self, server: ServerProcess, client: Client, monkeypatch: pytest.MonkeyPatch, status: int
    ) -> None:
        """An error that no waiting mends ends the wait at once, so that the worker reads and tells it."""
        trigger = job_trigger(client, uuid4().hex, deadline=None)

        async def refusing(request: Request, send: Send) -> Response:
            return refused(status, "X", "No.") if request.operation.name == "get_job" else await send(request)

        journal = bend(monkeypatch, refusing)
        await asyncio.wait_for(fired(trigger), 10)
        assert journal.count("get_job") == 1

    async def test_unknown_job(self, client: Client) -> None:
        """A job that the real server does not know is such an error."""
        await asyncio.wait_for(fired(job_trigger(client, uuid4().hex, deadline=None)), 10)

    async def test_pause_after_a_worker_looked(
        self, client: Client, server: ServerProcess, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A trigger of a task that has just been resumed in vain pauses before its first look, up to its deadline."""
        naps: list[float] = []

        async def nap(seconds: float) -> None:
            naps.append(seconds)

        monkeypatch.setattr(triggers.asyncio, "sleep", nap)
        job_id = uuid4().hex
        await fired(job_trigger(client, job_id, first_look=300.0, deadline=None))
        await fired(job_trigger(client, job_id, first_look=300.0, deadline=time.time() + 50))
        assert 270 <= naps[0] <= 330
        assert 40 <= naps[1] <= 50

    @pytest.mark.parametrize(
        "wrong",
        [
            {"AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT": None},
            {"AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT": "azureml-classic://h"},
        ],
        ids=["missing", "incomplete"],
    )
    async def test_wrong_connection(
        self, client: Client, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, str | None]
    ) -> None:
        """A connection that is missing or wrong is for the worker to tell; the trigger does not fail the task."""
        trigger = job_trigger(client, uuid4().hex, deadline=None)
        for name, value in wrong.items():
            monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
        await asyncio.wait_for(fired(trigger), 10)

    @pytest.mark.slow
    async def test_secrets_backend_is_away(
        self, server: ServerProcess, client: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """While the connection cannot be read, the wait goes on; what the backend raised is not quoted."""
        job_id = submitted(server, client, path="training/trigger6.csv")
        client.cancel_job(trainer(client), job_id)
        answers, read = iter(["away", "away"]), AzureMLClassicHook.async_client

        async def backend(self: AzureMLClassicHook) -> AsyncClient:
            if next(answers, ""):
                raise RuntimeError("https://vault/?token=secret")
            return await read(self)

        monkeypatch.setattr(AzureMLClassicHook, "async_client", backend)
        assert (await fired(job_trigger(client, job_id)))["job_id"] == job_id
        assert next(answers, None) is None
        said = capsys.readouterr().out
        assert "Cannot read connection 'azureml_classic_default' just now: RuntimeError" in said
        assert "secret" not in said

    @pytest.mark.slow
    async def test_one_session(self, server: ServerProcess, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        """Many triggers share one session, and the last one closes it."""
        job_id = submitted(server, client, path="training/trigger5.csv")
        sessions: set[int] = set()
        connect = SharedSession._connect

        def counted(self: SharedSession) -> Any:
            made = connect(self)
            sessions.add(id(made))
            return made

        monkeypatch.setattr(SharedSession, "_connect", counted)
        waiting = [asyncio.create_task(fired(job_trigger(client, job_id))) for _ in range(40)]
        await asyncio.sleep(0.3)
        await asyncio.to_thread(client.start_job, trainer(client), job_id)
        assert len(await asyncio.gather(*waiting)) == 40
        assert len(sessions) == 1
        assert SharedSession._open.get(asyncio.get_running_loop(), {}) == {}


class TestFreshness:
    """Waiting for a model to be fresh."""

    @pytest.mark.slow
    async def test_gets_fresh(self, server: ServerProcess, client: Client) -> None:
        """The event comes when the awaited model is live."""
        added(client, "triggerfresh")
        job = trained(server, client, "triggerfresh", DAY)
        trigger = fresh_trigger(client, "triggerfresh", trained_to=DAY.isoformat())
        waiting = asyncio.create_task(fired(trigger))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        await asyncio.to_thread(update_to, client, "triggerfresh", job)
        assert await waiting == {"deadline": trigger.deadline}
        place = [f"{server.account.endpoint}/", live(client, "triggerfresh")]
        await fired(fresh_trigger(client, "triggerfresh", location=place, deadline=None))

    @pytest.mark.slow
    async def test_deadline(self, client: Client) -> None:
        """A model that is too old is waited for until the deadline."""
        added(client, "triggerstale")
        trigger = fresh_trigger(client, "triggerstale", max_age=1.0, deadline=time.time() + 0.3)
        await fired(trigger)
        assert time.time() >= (trigger.deadline or 0)

    async def test_resource_is_gone(self, client: Client) -> None:
        """A resource that the endpoint does not have is an error for the worker."""
        added(client, "triggergone")
        trigger = fresh_trigger(client, "triggergone", max_age=1.0, resource="Other", deadline=None)
        await asyncio.wait_for(fired(trigger), 10)


class TestKill:
    """A person ends the deferred task."""

    def states(self, monkeypatch: pytest.MonkeyPatch, state: str | None, map_index: int = -1) -> SimpleNamespace:
        """A task instance in this state."""
        key = "train" if map_index < 0 else f"train_{map_index}"

        def get(**asked: Any) -> dict[str, Any]:
            assert asked == {"dag_id": "d", "task_ids": ["train"], "run_ids": ["r"], "map_index": map_index}
            time.sleep(0.3)
            return {"r": {key: state}} if state else {}

        monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", staticmethod(get))
        return SimpleNamespace(dag_id="d", task_id="train", run_id="r", map_index=map_index)

    def held(self, server: ServerProcess, client: Client, ti: Any) -> JobTrigger:
        """A trigger of a job that stays as it is."""
        trigger = job_trigger(client, submitted(server, client, path=f"training/kill{uuid4().hex[:6]}.csv"))
        trigger._task_instance = ti
        return trigger

    def status(self, client: Client, trigger: JobTrigger) -> str:
        """State of the trigger's job."""
        return client.get_job(trainer(client), trigger.job_id).status.value

    async def kill(self, trigger: JobTrigger, cancels: int) -> None:
        """Kill as Airflow does it: the coroutine is cancelled again and again while it works."""
        killing = asyncio.create_task(trigger.on_kill())
        for _ in range(cancels):
            await asyncio.sleep(0.05)
            killing.cancel()
        await asyncio.gather(killing, return_exceptions=True)

    @pytest.mark.slow
    @pytest.mark.parametrize("state", ["failed", "success", None])
    @pytest.mark.parametrize("cancels", [0, 3])
    async def test_cancels(
        self, server: ServerProcess, client: Client, monkeypatch: pytest.MonkeyPatch, state: str | None, cancels: int
    ) -> None:
        """The job is cancelled, even when Airflow cancels the cancellation."""
        trigger = self.held(server, client, self.states(monkeypatch, state))
        await self.kill(trigger, cancels)
        assert self.status(client, trigger) == "Cancelled"
        assert not triggers._BACKGROUND

    @pytest.mark.slow
    @pytest.mark.parametrize("map_index", [-1, 3])
    async def test_moves(
        self, server: ServerProcess, client: Client, monkeypatch: pytest.MonkeyPatch, map_index: int
    ) -> None:
        """A trigger that only moves to another triggerer leaves its job alone: the task is still deferred."""
        trigger = self.held(server, client, self.states(monkeypatch, "deferred", map_index))
        await self.kill(trigger, 2)
        assert self.status(client, trigger) == "NotStarted"

    async def test_without_a_task_instance(self, server: ServerProcess, client: Client) -> None:
        """A trigger that does not know its task takes the kill at its word."""
        trigger = self.held(server, client, None)
        await trigger.on_kill()
        assert self.status(client, trigger) == "Cancelled"

    async def test_service_is_away(
        self, server: ServerProcess, client: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A job that cannot be cancelled is told in the log, and the kill ends."""
        trigger = self.held(server, client, None)

        async def away(request: Request, send: Send) -> Response:
            raise ServiceUnavailable("No answer (ClientConnectorError)")

        bend(monkeypatch, away)
        await trigger.on_kill()
        assert f"Job {trigger.job_id} could not be cancelled" in capsys.readouterr().out
