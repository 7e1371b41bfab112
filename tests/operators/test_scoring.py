"""Scoring a file and a few rows, cancelling jobs and waiting for those of others, against the running server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

from airflow_provider_azureml_classic import triggers
from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.operators import (
    BatchExecutionOperator,
    BatchScoringOperator,
    CancelJobOperator,
    RegenerateKeysOperator,
    ScoreOperator,
)
from airflow_provider_azureml_classic.protocol.messages import Request, Response
from airflow_provider_azureml_classic.sensors import JobSensor
from airflow_provider_azureml_classic.triggers import JobTrigger
from tests.support import BIKES, BIKES_SCORING, ServerProcess, wait_for_job
from tests.support.tasks import wired
from tests.support.verbs import NOON, Store, context, own_endpoint, own_name, scoring_csv, submitted, training_csv

pytestmark = pytest.mark.usefixtures("airflow_connection")


# -- a file ------------------------------------------------------------------------------------------------------------


def batch(server: ServerProcess, client: Client, **options: Any) -> BatchScoringOperator:
    """A task that scores three rows."""
    path = f"scoring/{own_name()}.csv"
    server.upload(path, scoring_csv(3))
    given = {"web_service": BIKES_SCORING, "endpoint": own_endpoint(client).name, "source": path, "poll_interval": 0.2}
    return BatchScoringOperator(task_id="t", **{**given, **options})


@pytest.mark.slow
def test_batch_scoring(server: ServerProcess, client: Client) -> None:
    """A file is scored to the place that was asked for; the ticket says where it is, without a token."""
    destination = f"scored/{own_name()}.csv"
    task = batch(server, client, destination=destination)
    told = task.execute(context())
    assert told["location"] == f"{server.account.endpoint}/{destination}"
    header, *rows = client.fetch_blob(server.sas(destination)).decode().splitlines()
    assert header == "Scored Labels"
    assert len(rows) == 3
    assert told["status"] == "Finished"
    assert {"model_for", "model_output"} & set(told) == set()
    assert "sig=" not in str(told)


@pytest.mark.slow
def test_batch_scoring_is_submitted_once(server: ServerProcess, client: Client) -> None:
    """A second attempt takes up the job of the first one, which died while it waited."""
    store = Store()
    task = batch(server, client)
    wire = wired(task)

    def killed(request: Request, send: Callable[[Request], Response]) -> Response:
        raise KeyboardInterrupt

    wire.bends["start_job"] = killed
    with pytest.raises(KeyboardInterrupt):
        task.execute(context(store))
    again = BatchScoringOperator(
        task_id="t", web_service=BIKES_SCORING, endpoint=task.endpoint, source=task.source, poll_interval=0.2
    )
    job_id = store["azureml_classic_job"]["job_id"]
    told = again.execute(context(store))
    assert (told["job_id"], wire.journal.count("submit_job")) == (job_id, 1)
    assert told["location"].endswith(".csv")
    assert store == {}


@pytest.mark.slow
def test_batch_scoring_deferred(server: ServerProcess, client: Client) -> None:
    """Deferred, the task waits with the job's trigger, and tells the same afterwards."""
    task = batch(server, client, deferrable=True)
    wire = wired(task)
    wire.bends["get_job"] = lambda *_: Response.of_json({"StatusCode": "Running"})
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context())
    wire.bends.clear()
    trigger = deferred.value.trigger
    assert isinstance(trigger, JobTrigger)
    assert trigger.cancel_on_kill
    wait_for_job(client, client.get_endpoint(trigger.web_service_id, trigger.endpoint), trigger.job_id)
    told = task.execute_complete(context(), trigger.payload)
    assert told["location"].endswith(".csv")


def test_batch_scoring_not_awaited(server: ServerProcess, client: Client) -> None:
    """Without waiting the location is not known yet."""
    task = batch(server, client, wait_for_completion=False)
    wired(task).bends["get_job"] = lambda *_: Response.of_json({"StatusCode": "Running"})
    assert task.execute(context())["location"] is None


@pytest.mark.slow
def test_batch_scoring_of_a_training_service(server: ServerProcess, client: Client) -> None:
    """A training service given by mistake trains a model; the sentence says which service is meant."""
    path = f"training/{own_name()}.csv"
    server.upload(path, training_csv())
    task = BatchScoringOperator(task_id="t", web_service=BIKES, endpoint="default", source=path, poll_interval=0.2)
    with pytest.raises(AirflowFailException, match=r"it is the training web service. Give the scoring web service"):
        task.execute(context())


# -- a few rows --------------------------------------------------------------------------------------------------------


def score(client: Client, **options: Any) -> Any:
    """What the operator returns."""
    given = {"web_service": BIKES_SCORING, "endpoint": "default", "rows": [NOON]}
    return ScoreOperator(task_id="t", **{**given, **options}).execute(context())


def test_score(client: Client) -> None:
    """Each row has its answer, the same as the client's."""
    answers = score(client, rows=[NOON, {**NOON, "hr": 3}])
    endpoint = client.get_endpoint(client.find_web_service(BIKES_SCORING).id, "default")
    assert answers == client.score(endpoint, [NOON, {**NOON, "hr": 3}]).rows
    assert len(answers) == 2


def test_score_expects(client: Client) -> None:
    """An answer that is not expected fails the task and is shown; the task may be retried."""
    assert score(client, expect=lambda answers: float(answers[0]["Scored Labels"]) > -1e9)
    with pytest.raises(AirflowException, match=r"does not answer as expected:.*Scored Labels") as caught:
        score(client, expect=lambda answers: False)
    assert not isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("{{ rows }}", "rows must be a list of dicts, one for each row, not str"),
        ([1], "rows must be a list of dicts"),
        ([], "rows is empty"),
        ([NOON] * 1001, r"1001 rows of \d+ bytes.*use BatchScoringOperator"),
        ([{**NOON, "x": "y" * (5 << 20)}], r"at most 1000 rows and \d+ bytes"),
    ],
    ids=["text", "numbers", "none", "many", "large"],
)
def test_score_refuses(client: Client, rows: Any, said: str) -> None:
    """What cannot be sent in one call is refused before it is sent, with what to do instead."""
    with pytest.raises(AirflowFailException, match=said):
        score(client, rows=rows)


def test_largest_rows_reach_the_server(client: Client) -> None:
    """The limit is the server's own: rows just below it are answered."""
    assert len(score(client, rows=[{**NOON, "unused": "y" * ((4 << 20) - 5_000)}])) == 1


def test_score_training_service(client: Client) -> None:
    """A training service has no answers to give, and the sentence says so."""
    with pytest.raises(AirflowFailException, match="training web service"):
        score(client, web_service=BIKES)


# -- other people's jobs -----------------------------------------------------------------------------------------------


def ticket(job_id: str) -> dict[str, Any]:
    """What a task that does not wait returns."""
    return {"web_service": BIKES, "endpoint": "default", "job_id": job_id, "window": {"start": None, "end": "2026"}}


def test_cancel(server: ServerProcess, client: Client) -> None:
    """A job is cancelled by its ticket; a second time it has ended already."""
    _, job_id = submitted(server, client)
    told = CancelJobOperator(task_id="t", job=ticket(job_id)).execute(context())
    said = {"web_service": BIKES, "endpoint": "default", "job_id": job_id, "status": "Cancelled"}
    assert told == {**said, "outcome": "cancelled"}
    again = CancelJobOperator(task_id="t", job_id=job_id, web_service=BIKES).execute(context())
    assert again == {**said, "outcome": "ended"}


def test_cancel_missing() -> None:
    """A job that is not there counts as cancelled, unless it must not."""
    missing = {"job_id": "0" * 32, "web_service": BIKES}
    told = CancelJobOperator(task_id="t", **missing).execute(context())
    assert (told["outcome"], told["status"]) == ("missing", None)
    with pytest.raises(AirflowFailException, match="has no job"):
        CancelJobOperator(task_id="t", missing_ok=False, **missing).execute(context())
    with pytest.raises(AirflowFailException, match="no web service is called 'Nobody'"):
        CancelJobOperator(task_id="t", job_id="0" * 32, web_service="Nobody").execute(context())


@pytest.mark.parametrize("kind", [CancelJobOperator, JobSensor])
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"job_id": "j"},
        {"job": ticket("j"), "job_id": "j", "web_service": "w"},
        {"job": "text"},
        {"job": {"job_id": 1}},
    ],
    ids=["nothing", "no service", "both", "text", "no ticket"],
)
def test_which_job(kind: type, given: dict[str, Any]) -> None:
    """A job that is not clearly named is refused with both ways to name one."""
    with pytest.raises(AirflowFailException, match=r"job.*what BatchExecutionOperator returned"):
        kind(task_id="t", **given).execute(context())


def sensor(job_id: str, **options: Any) -> JobSensor:
    """A sensor that looks often."""
    given = {"job_id": job_id, "web_service": BIKES, "poke_interval": 0.2, "timeout": 60}
    return JobSensor(task_id="t", **{**given, **options})


@pytest.mark.slow
def test_job_sensor(server: ServerProcess, client: Client) -> None:
    """The sensor waits for the job that another task started, and returns what the update operator takes."""
    path, model = f"training/{own_name()}.csv", own_name()
    server.upload(path, training_csv())
    given = {"web_service": BIKES, "inputs": {"input1": path}, "model_for": model}
    started = BatchExecutionOperator(task_id="t", wait_for_completion=False, **given).execute(context())
    assert started["outputs"] == {}
    told = JobSensor(task_id="t", job=started, poke_interval=0.2, timeout=60).execute(context())
    assert told == {**started, "status": "Finished", "outputs": told["outputs"]}
    assert f"/{model}/20260302T000000Z-" in told["outputs"]["output1"]
    assert "sig=" not in str(told)


@pytest.mark.slow
def test_job_sensor_tells_why(server: ServerProcess, client: Client) -> None:
    """A job that fails fails the sensor at once, with the service's details; soft_fail skips instead."""
    trainer, job_id = submitted(server, client, "dteday,season\n2026-01-01,1\n")
    client.start_job(trainer, job_id)
    details = wait_for_job(client, trainer, job_id).details
    with pytest.raises(AirflowFailException, match=r"Batch job .* failed: ") as caught:
        sensor(job_id).execute(context())
    assert details in str(caught.value)
    for deferrable in (False, True):
        with pytest.raises(AirflowSkipException, match="failed: "):
            sensor(job_id, soft_fail=True, deferrable=deferrable).execute(context())


def test_job_sensor_cancelled(server: ServerProcess, client: Client) -> None:
    """A job that somebody cancelled fails the sensor."""
    trainer, job_id = submitted(server, client)
    client.cancel_job(trainer, job_id)
    with pytest.raises(AirflowFailException, match="was cancelled"):
        sensor(job_id).execute(context())


@pytest.mark.slow
@pytest.mark.parametrize("deferrable", [False, True])
def test_job_sensor_time_out(server: ServerProcess, client: Client, deferrable: bool) -> None:
    """Too late: the sentence names the job and its state, and the job goes on."""
    trainer, job_id = submitted(server, client)
    task = sensor(job_id, timeout=0.3, deferrable=deferrable)
    late = {"job_id": job_id, "deadline": time.time() - 1}
    wait = partial(task.execute_complete, context(), late) if deferrable else partial(task.execute, context())
    with pytest.raises(
        AirflowSensorTimeout, match=rf"Job {job_id} of 'Bike Rental' did not end within 0\.3 s; it is Not"
    ):
        wait()
    assert client.get_job(trainer, job_id).status.value == "NotStarted"


@pytest.mark.slow
def test_job_sensor_bears_an_outage(server: ServerProcess, client: Client) -> None:
    """A service that is away for a moment says nothing about the job: the sensor looks again."""
    trainer, job_id = submitted(server, client)
    client.cancel_job(trainer, job_id)
    task = sensor(job_id)
    away = [Response(503)] * 4
    wired(task).bends["get_job"] = lambda request, send: away.pop() if away else send(request)
    with pytest.raises(AirflowFailException, match="was cancelled"):
        task.execute(context())
    assert away == []


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Triggers look at once."""
    monkeypatch.setattr(triggers, "FIRST_LOOK", 0.0)
    return


def deferred(task: JobSensor) -> JobTrigger:
    """What the sensor waits with, as it comes back from the database."""
    with pytest.raises(TaskDeferred) as caught:
        task.execute(context())
    path, arguments = caught.value.trigger.serialize()
    assert path == f"{JobTrigger.__module__}.JobTrigger"
    return JobTrigger(**arguments)


@pytest.mark.slow
async def test_kill_leaves_the_job_alone(server: ServerProcess, client: Client, at_once: None) -> None:
    """Killing the deferred sensor cancels nothing; killing the task that owns the job does."""
    trainer, job_id = submitted(server, client)
    trigger = await asyncio.to_thread(deferred, sensor(job_id, deferrable=True))
    await trigger.on_kill()
    assert (await asyncio.to_thread(client.get_job, trainer, job_id)).status.value == "NotStarted"
    await JobTrigger(**{**trigger.serialize()[1], "cancel_on_kill": True}).on_kill()
    assert (await asyncio.to_thread(client.get_job, trainer, job_id)).status.value == "Cancelled"


@pytest.mark.slow
async def test_job_sensor_deferred(server: ServerProcess, client: Client, at_once: None) -> None:
    """Deferred, the wait goes on though the key of the endpoint is regenerated in its middle."""
    trainer, job_id = await asyncio.to_thread(submitted, server, client)
    task = sensor(job_id, deferrable=True)
    trigger = await asyncio.to_thread(deferred, task)
    waiting = asyncio.create_task(anext(trigger.run()))  # type: ignore[arg-type]
    await asyncio.sleep(0.5)
    rotate = RegenerateKeysOperator(task_id="r", web_service=BIKES, endpoint="default")
    await asyncio.to_thread(rotate.execute, context())
    await asyncio.to_thread(client.start_job, trainer, job_id)
    event = await asyncio.wait_for(waiting, 60)
    told = await asyncio.to_thread(task.execute_complete, context(), event.payload)
    assert (told["job_id"], told["status"]) == (job_id, "Finished")
