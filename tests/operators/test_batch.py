"""Running batch jobs, against the running server."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.exceptions import ServiceUnavailable
from airflow_provider_azureml_classic.operators import BatchExecutionOperator
from airflow_provider_azureml_classic.protocol.jobs import JobStatus
from airflow_provider_azureml_classic.protocol.keys import KeyType
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.triggers import JobTrigger
from tests.support import BIKES, ServerProcess, wait_for_job
from tests.support.tasks import (
    DAY,
    Store,
    context,
    one_line,
    refused,
    remembered,
    rentals,
    showing_status,
    submitted,
    trainer,
    wired,
)

pytestmark = pytest.mark.usefixtures("airflow_connection")

STARTED = ["submit_job", "start_job"]


@pytest.fixture(scope="module")
def data(server: ServerProcess) -> str:
    """Path of a training file."""
    server.upload("training/batch.csv", rentals())
    return "training/batch.csv"


def train(path: str = "training/batch.csv", **options: Any) -> BatchExecutionOperator:
    """The operator, looking often."""
    given = {"poll_interval": 0.05, "deferrable": False, **options}
    return BatchExecutionOperator(task_id="train", web_service=BIKES, inputs={"input1": path}, **given)


def state(client: Client, job_id: str) -> str:
    """State of a job."""
    return client.get_job(trainer(client), job_id).status.value


def calls(journal: list[str], *names: str) -> list[str]:
    """These calls of a journal, in order."""
    return [name for name in journal if name in names]


@pytest.mark.usefixtures("data")
class TestWorkerMode:
    """Submit, start, wait in the worker."""

    @pytest.mark.slow
    def test_end_to_end(self, client: Client, server: ServerProcess) -> None:
        """A job runs; the result says which one, where its outputs are, without tokens, and forgets the job."""
        journal: list[str] = []
        task, store = train(model_for="batchmodel"), Store(journal)
        wired(task, journal)
        found = task.execute(context(store))
        assert calls(journal, *STARTED, "keep", "forget") == ["submit_job", "keep", "start_job", "forget"]
        assert store.kept == {}
        folder = f"models/{trainer(client).web_service_id}/batchmodel"
        model = found["outputs"]["output1"].removeprefix(f"{server.account.endpoint}/")
        assert re.fullmatch(rf"{folder}/20260301T000000Z-[0-9a-f]{{12}}\.ilearner", model)
        assert sorted(found["outputs"]) == ["output1", "output2"]
        assert found["window"] == {"start": "2026-02-28T00:00:00+00:00", "end": "2026-03-01T00:00:00+00:00"}
        assert {key: found[key] for key in ("web_service", "endpoint", "status", "model_output", "model_for")} == {
            "web_service": BIKES,
            "endpoint": "default",
            "status": "Finished",
            "model_output": "output1",
            "model_for": "batchmodel",
        }
        assert state(client, found["job_id"]) == "Finished"
        assert "sig=" not in json.dumps(found)
        assert client.fetch_blob(server.sas(model))[:2] == b"PK"

    @pytest.mark.slow
    def test_window_of_the_path(self, server: ServerProcess) -> None:
        """A given window goes before the run's, in the path and in the result."""
        task = train(model_for="batchwin", window_end="2026-01-31T02:00:00+02:00", window_start="2026-01-01")
        found = task.execute(context())
        assert "/batchwin/20260131T000000Z-" in found["outputs"]["output1"]
        assert found["window"] == {"start": "2026-01-01T00:00:00+00:00", "end": "2026-01-31T00:00:00+00:00"}

    @pytest.mark.slow
    def test_own_paths(self, server: ServerProcess) -> None:
        """Outputs can be placed; a placed model is not placed again."""
        places = {"output1": "results/own.ilearner", "output2": "results/own.csv"}
        found = train(model_for="batchown", outputs=places).execute(context())
        assert found["outputs"] == {name: f"{server.account.endpoint}/{path}" for name, path in places.items()}
        assert (
            train(model_for="x", model_path="results/{endpoint}/{window_end}/m.ilearner")
            .execute(context())["outputs"]["output1"]
            .endswith("results/x/20260301T000000Z/m.ilearner")
        )

    @pytest.mark.slow
    def test_asset_triggered_run(self) -> None:
        """A run without a data interval is dated by when it was due."""
        found = train(model_for="batchasset").execute(context(end=None, run_after=DAY + timedelta(days=3)))
        assert found["outputs"]["output1"].rpartition("/")[2].startswith("20260304T000000Z-")
        assert found["window"]["start"] is None

    def test_wrong_window(self) -> None:
        """A wrong date fails before a job is submitted, even where it names no path."""
        task = train(window_end="tomorrow")
        wire = wired(task)
        with one_line(AirflowFailException, "'tomorrow' is not a time in ISO 8601"):
            task.execute(context())
        assert wire.journal == []

    @pytest.mark.slow
    def test_not_waiting(self, client: Client) -> None:
        """Without waiting, the task ends once the job is started, and forgets it."""
        store, task = Store(), train(wait_for_completion=False)
        wired(task).bends["get_job"] = showing_status("Running", 1)
        found = task.execute(context(store))
        assert (found["status"], found["outputs"]) == ("Running", {})
        assert store.kept == {}
        assert wait_for_job(client, trainer(client), found["job_id"]).status is JobStatus.FINISHED

    def test_failed_job(self, server: ServerProcess) -> None:
        """A failed job may be tried again; the error is the service's own words, and the job is kept in mind."""
        server.upload("training/batchbad.csv", b"a,b\n1,2\n")
        store = Store()
        with one_line(AirflowException, "Batch job", "failed: Input", "columns"):
            train("training/batchbad.csv").execute(context(store))
        assert store.kept

    def test_cancelled_job(self, client: Client) -> None:
        """A job that somebody cancelled is not tried again."""
        task = train()
        wire = wired(task)
        wire.bends["start_job"] = lambda request, send: send(request)
        wire.bends["get_job"] = showing_status("Cancelled", 1)
        with one_line(AirflowFailException, "was cancelled", "Clear the task to submit a new job."):
            task.execute(context())

    @pytest.mark.slow
    def test_unseen_job_goes_on(self) -> None:
        """A look that fails says nothing about the job: it is looked at again, and nothing is cancelled."""
        task = train()
        wire = wired(task)
        answers = ["busy", "running", "busy", "busy", "busy", "busy", "running"]
        running = showing_status("Running", answers.count("running"))

        def flaky(request: Any, send: Any) -> Any:
            answer = answers.pop(0) if answers else "as it is"
            if answer == "busy":
                return refused(503, "NoMoreResources", "Busy.")
            return running(request, send) if answer == "running" else send(request)

        wire.bends["get_job"] = flaky
        assert task.execute(context())["status"] == "Finished"
        assert answers == []
        assert "cancel_job" not in wire.journal

    @pytest.mark.slow
    def test_lost_answer_to_start(self) -> None:
        """A start whose answer was lost leaves the task failed for now, and the job for the retry to take up."""
        store, task = Store(), train()
        wire = wired(task)

        def lost(request: Any, send: Any) -> Any:
            send(request)
            raise ServiceUnavailable("No answer (ReadTimeout)")

        wire.bends["start_job"] = lost
        with one_line(AirflowException, "No answer"):
            task.execute(context(store))
        again = train()
        wire = wired(again)
        found = again.execute(context(store))
        assert found["status"] == "Finished"
        assert "submit_job" not in wire.journal


@pytest.mark.usefixtures("data")
class TestRetry:
    """What an attempt does with the job of an earlier one."""

    def attempt(self, store: Store, **options: Any) -> tuple[dict[str, Any], list[str]]:
        """One attempt, and the calls that it made."""
        task = train(**options)
        wire = wired(task)
        return task.execute(context(store)), wire.journal

    @pytest.mark.slow
    def test_not_started(self, server: ServerProcess, client: Client) -> None:
        """A job that was only submitted is started: a crash in between loses and doubles nothing."""
        job_id = submitted(server, client, path="training/retry0.csv")
        found, journal = self.attempt(remembered(job_id))
        assert found["job_id"] == job_id
        assert calls(journal, *STARTED) == ["start_job"]

    @pytest.mark.slow
    def test_running(self, server: ServerProcess, client: Client) -> None:
        """A running job is waited for."""
        job_id = submitted(server, client, path="training/retry1.csv")
        client.start_job(trainer(client), job_id)
        task = train()
        wire = wired(task)
        wire.bends["get_job"] = showing_status("Running", 2)
        assert task.execute(context(remembered(job_id)))["job_id"] == job_id
        assert calls(wire.journal, *STARTED, "cancel_job") == []
        assert wire.journal.count("get_job") >= 3

    @pytest.mark.slow
    def test_queued(self, server: ServerProcess, client: Client) -> None:
        """A job that waits for its turn is started already: the refusal of a second start is no error."""
        job_id = submitted(server, client, path="training/retry2.csv")
        client.start_job(trainer(client), job_id)
        task = train()
        wire = wired(task)
        wire.bends["get_job"] = showing_status("NotStarted", 1)
        assert task.execute(context(remembered(job_id)))["job_id"] == job_id
        assert calls(wire.journal, *STARTED) == ["start_job"]

    @pytest.mark.slow
    def test_finished(self, server: ServerProcess, client: Client) -> None:
        """A job that finished meanwhile is returned."""
        job_id = submitted(server, client, path="training/retry3.csv")
        client.start_job(trainer(client), job_id)
        wait_for_job(client, trainer(client), job_id)
        store = remembered(job_id)
        found, journal = self.attempt(store)
        assert found["job_id"] == job_id
        assert calls(journal, *STARTED) == []
        assert store.kept == {}

    @pytest.mark.slow
    def test_failed_or_cancelled(self, server: ServerProcess, client: Client) -> None:
        """After a job that failed or was cancelled a new one is submitted."""
        failed = submitted(server, client, content=b"a\n1\n", path="training/retry4.csv")
        client.start_job(trainer(client), failed)
        assert wait_for_job(client, trainer(client), failed).status is JobStatus.FAILED
        cancelled = submitted(server, client, path="training/retry5.csv")
        client.cancel_job(trainer(client), cancelled)
        for job_id in (failed, cancelled):
            found, journal = self.attempt(remembered(job_id))
            assert found["job_id"] != job_id
            assert calls(journal, *STARTED, "cancel_job") == STARTED

    @pytest.mark.slow
    def test_gone(self) -> None:
        """After a job that the service does not know any more a new one is submitted."""
        found, journal = self.attempt(remembered(uuid4().hex))
        assert found["status"] == "Finished"
        assert calls(journal, *STARTED) == STARTED

    @pytest.mark.slow
    def test_cleared(self, server: ServerProcess, client: Client) -> None:
        """A cleared task cancels the job of before and submits a new one."""
        job_id = submitted(server, client, path="training/retry6.csv")
        found, journal = self.attempt(remembered(job_id, epoch=1))
        assert found["job_id"] != job_id
        assert calls(journal, *STARTED, "cancel_job") == ["cancel_job", *STARTED]
        assert state(client, job_id) == "Cancelled"

    @pytest.mark.slow
    def test_clearing_a_finished_task_trains_again(self) -> None:
        """After success the job is forgotten, so the next run of the task has a new one."""
        store = Store()
        first, _ = self.attempt(store)
        second, _ = self.attempt(store)
        assert first["job_id"] != second["job_id"]

    def test_unseen_job_is_not_replaced(self, server: ServerProcess, client: Client) -> None:
        """While the job cannot be seen, no second one is submitted."""
        job_id = submitted(server, client, path="training/retry7.csv")
        store, task = remembered(job_id), train()
        wire = wired(task)
        wire.bends["get_job"] = lambda *_: refused(503, "NoMoreResources", "Busy.")
        with one_line(AirflowException, "Busy."):
            task.execute(context(store))
        assert calls(wire.journal, *STARTED) == []
        assert store.kept


@pytest.mark.usefixtures("data")
class TestEnds:
    """Killing and time-outs."""

    @pytest.mark.slow
    def test_key_regenerated(self, client: Client) -> None:
        """A key that is regenerated in the middle of a job is read again, and the wait goes on."""
        client.add_endpoint(client.find_web_service(BIKES).id, "rotatedw")
        task = train(endpoint="rotatedw")
        wire, regenerated = wired(task), []

        def regenerating(request: Any, send: Any) -> Any:
            if not regenerated:
                service = client.find_web_service(BIKES)
                regenerated.append(client.regenerate_key(service.id, "rotatedw", KeyType.PRIMARY))
            return send(request)

        wire.bends["get_job"] = regenerating
        assert task.execute(context())["status"] == "Finished"

    @pytest.mark.slow
    @pytest.mark.parametrize(("on_timeout", "done", "ends"), [("cancel", "cancelled", 1), ("leave", "left alone", 0)])
    def test_job_timeout(self, on_timeout: Any, done: str, ends: int) -> None:
        """A job past its time is cancelled or left, and the sentence says which; the task is not tried again."""
        task = train(job_timeout=0.2, on_timeout=on_timeout)
        wire = wired(task)
        wire.bends["get_job"] = showing_status("Running", 99)
        with one_line(AirflowFailException, f"still Running after job_timeout=0.2 s; it was {done}."):
            task.execute(context())
        assert wire.journal.count("cancel_job") == ends

    def test_deadline_survives_a_retry(self, server: ServerProcess, client: Client) -> None:
        """The deadline is the first submission's: a retry does not begin to count again, in either mode."""
        job_id = submitted(server, client, path="training/deadline.csv")
        for deferrable in (False, True):
            task = train(job_timeout=3600, deferrable=deferrable)
            wired(task).bends["get_job"] = showing_status("Running", 99)
            with one_line(AirflowFailException, "still Running", "it was cancelled."):
                task.execute(context(remembered(job_id, deadline=1.0)))
        assert state(client, job_id) == "Cancelled"

    @pytest.mark.slow
    def test_unseen_job_at_the_deadline(self, server: ServerProcess, client: Client) -> None:
        """When the time is over while the service does not answer, its error ends the attempt."""
        task = train(job_timeout=0.2)
        wire, looks = wired(task), iter(range(100))

        def gone(request: Any, send: Any) -> Any:
            if next(looks) == 0:
                return showing_status("Running", 1)(request, send)
            return refused(503, "NoMoreResources", "Busy.")

        wire.bends["get_job"] = gone
        with one_line(AirflowException, "get_job", "Busy."):
            task.execute(context())


@pytest.mark.usefixtures("data")
class TestDeferrable:
    """Waiting in the triggerer."""

    def deferred(self, task: BatchExecutionOperator, store: Store) -> TaskDeferred:
        """The deferral of a task whose job goes on running."""
        wired(task).bends["get_job"] = showing_status("Running", 1)
        with pytest.raises(TaskDeferred) as caught:
            task.execute(context(store))
        return caught.value

    def test_defers(self, server: ServerProcess, client: Client) -> None:
        """The wait goes to the triggerer with ids only: no key, no token; the job is kept before that."""
        store = Store()
        deferral = self.deferred(train(deferrable=True, job_timeout=60), store)
        assert isinstance(deferral.trigger, JobTrigger)
        assert (deferral.method_name, deferral.timeout) == ("execute_complete", None)
        (kept,) = store.kept.values()
        text = json.dumps(deferral.trigger.serialize())
        assert kept["job_id"] in text
        assert deferral.trigger.deadline == kept["deadline"]
        endpoint = trainer(client)
        secrets = (endpoint.primary_key, endpoint.secondary_key, server.connection["token"], server.account.key, "sig=")
        assert [secret for secret in secrets if secret in text] == []

    @pytest.mark.slow
    def test_resumes(self, client: Client) -> None:
        """What became of the job is read by the worker; then the job is forgotten."""
        store = Store()
        deferral = self.deferred(train(deferrable=True, model_for="batchdefer"), store)
        event = deferral.trigger.payload
        wait_for_job(client, trainer(client), event["job_id"])
        found = train(deferrable=True, model_for="batchdefer").execute_complete(context(store), event)
        assert found["status"] == "Finished"
        assert "/batchdefer/20260301T000000Z-" in found["outputs"]["output1"]
        assert store.kept == {}

    @pytest.mark.slow
    def test_finished_already(self, server: ServerProcess, client: Client) -> None:
        """A job that has ended needs no triggerer."""
        job_id = submitted(server, client, path="training/defer1.csv")
        client.start_job(trainer(client), job_id)
        wait_for_job(client, trainer(client), job_id)
        assert train(deferrable=True).execute(context(remembered(job_id)))["job_id"] == job_id

    @pytest.mark.slow
    def test_resumes_with_a_failed_job(self, server: ServerProcess, client: Client) -> None:
        """The event holds no verdict: a failed job is seen as such by the worker."""
        job_id = submitted(server, client, content=b"a\n1\n", path="training/defer2.csv")
        client.start_job(trainer(client), job_id)
        wait_for_job(client, trainer(client), job_id)
        with one_line(AirflowException, "failed: InputParseError"):
            train(deferrable=True).execute_complete(context(), {"job_id": job_id, "deadline": None})

    def test_execution_timeout(self, server: ServerProcess, client: Client) -> None:
        """Airflow's ``execution_timeout`` counts in the triggerer too, from the start of the attempt: as in the worker,
        it cancels the job, and the task may be tried again.
        """
        job_id = submitted(server, client, path="training/defer4.csv")
        limit = timedelta(minutes=30)
        for started, ends in ((datetime.now(UTC), False), (datetime.now(UTC) - limit, True)):
            given = context(remembered(job_id))
            given["ti"].start_date = started
            task = train(deferrable=True, execution_timeout=limit)
            if ends:
                with one_line(AirflowException, "still NotStarted after execution_timeout=0:30:00; it was cancelled."):
                    task.execute_complete(given, {"job_id": job_id, "deadline": None})
                continue
            with pytest.raises(TaskDeferred) as caught:
                task.execute_complete(given, {"job_id": job_id, "deadline": None})
            assert caught.value.trigger.deadline == (started + limit).timestamp()
        assert state(client, job_id) == "Cancelled"

    def test_resumes_too_early(self, server: ServerProcess, client: Client) -> None:
        """A job that still runs is waited for again with the same deadline; past it, it is cancelled."""
        job_id = submitted(server, client, path="training/defer3.csv")
        later = (datetime.now(UTC) + timedelta(hours=1)).timestamp()
        with pytest.raises(TaskDeferred) as caught:
            train(deferrable=True).execute_complete(context(), {"job_id": job_id, "deadline": later})
        assert (caught.value.trigger.deadline, caught.value.trigger.first_look) == (later, 0.05)
        with one_line(AirflowFailException, "still NotStarted after job_timeout=86400 s; it was cancelled."):
            train(deferrable=True).execute_complete(context(), {"job_id": job_id, "deadline": 1.0})
        assert state(client, job_id) == "Cancelled"


def test_where_customers_are_kept_apart_a_model_goes_into_the_folder() -> None:
    """The default path is below the folder of the endpoint that trains; elsewhere, and with a path given, it is not."""
    folder = f"customers/{'a' * 32}"
    for endpoint, more, begin in (
        (Endpoint("custa", folder=folder), {}, f"{folder}/models/service/custa/"),
        (Endpoint("custa"), {}, "models/service/custa/"),
        (Endpoint("custa", folder=folder), {"model_path": "mine/{window_end}.ilearner"}, "mine/"),
        (Endpoint("custa", folder=folder), {"model_path": "{folder}/m.ilearner"}, f"{folder}/m.ilearner"),
        (Endpoint("default"), {"model_path": "{folder}/m.ilearner"}, "customers/custa/m.ilearner"),
    ):
        task = train(model_for="custa", model_output="output1", **more)
        task._target = endpoint
        assert task._destinations(context(), "service")["output1"].startswith(begin)


def test_a_path_may_begin_with_the_customers_folder() -> None:
    """The one of the endpoint that trains; without one, that of his name. All else stays as written."""
    for endpoint, folder in (
        (Endpoint("custa", folder="customers/1"), "customers/1"),
        (Endpoint("default"), "customers/custa"),
    ):
        parameters = {"URI": "{folder}/b.csv", "Rate": 0.1, "Text": "x{folder}/"}
        task = train("{folder}/a.csv", model_for="custa", model_output="o", global_parameters=parameters)
        task._target = endpoint
        request = task._request(context(), "service")
        assert request.inputs["input1"].relative_location == f"{folder}/a.csv"
        assert request.global_parameters == {"URI": f"{folder}/b.csv", "Rate": 0.1, "Text": "x{folder}/"}
