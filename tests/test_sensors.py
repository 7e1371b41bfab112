"""Waiting for a model to be fresh, against the running server."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.client.retries import RetryPolicy
from airflow_provider_azureml_classic.operators.ending import TaskEnded
from airflow_provider_azureml_classic.protocol.moments import moment_text
from airflow_provider_azureml_classic.protocol.values import EndpointSettings
from airflow_provider_azureml_classic.retraining.freshness import Goal
from airflow_provider_azureml_classic.sensors import ModelFreshnessSensor
from airflow_provider_azureml_classic.triggers import FreshnessTrigger
from tests.support import BIKES, BIKES_SCORING, ServerProcess
from tests.support.tasks import (
    DAY,
    NOON,
    Store,
    added,
    context,
    edited,
    one_line,
    refused,
    submitted,
    trained,
    update_to,
    wired,
)

pytestmark = pytest.mark.usefixtures("airflow_connection")

YESTERDAY = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)


@pytest.fixture(scope="module")
def model(server: ServerProcess) -> dict[str, Any]:
    """A finished job, whose model was trained on data up to a day ago."""
    with server.client() as client:
        return trained(server, client, "opsensor", YESTERDAY)


@pytest.fixture(scope="module")
def fresh(server: ServerProcess, model: dict[str, Any]) -> str:
    """An endpoint with that model."""
    with server.client() as client:
        added(client, "sensorfresh")
        update_to(client, "sensorfresh", model)
    return "sensorfresh"


@pytest.fixture(scope="module")
def first(server: ServerProcess) -> str:
    """An endpoint with the first model, whose path says nothing about its data."""
    with server.client() as client:
        return added(client, "sensorfirst").name


def wait(endpoint: str, **options: Any) -> ModelFreshnessSensor:
    """The sensor, poking often and not for long."""
    given = {"poke_interval": 0.05, "timeout": 0.3, "deferrable": False, **options}
    return ModelFreshnessSensor(task_id="wait", web_service=BIKES_SCORING, endpoint=endpoint, **given)


class TestMeanings:
    """The three meanings of fresh."""

    @pytest.mark.parametrize(
        ("goal", "is_fresh"),
        [
            ({"trained_to": YESTERDAY.isoformat()}, True),
            ({"trained_to": YESTERDAY}, True),
            ({"trained_to": (YESTERDAY + timedelta(seconds=1)).isoformat()}, False),
            ({"max_age": timedelta(days=1, hours=1)}, True),
            ({"max_age": timedelta(hours=23)}, False),
        ],
    )
    def test_by_age(self, fresh: str, goal: dict[str, Any], is_fresh: bool) -> None:
        """The end of the training data is compared with a moment, or with the present one."""
        assert wait(fresh, **goal).poke(context()) is is_fresh

    @pytest.mark.parametrize(
        "run",
        [
            {"end": YESTERDAY},
            {"end": YESTERDAY.replace(microsecond=123456)},
            {"end": None, "data_interval_start": None, "run_after": YESTERDAY.replace(microsecond=123456)},
            {"end": None, "partition_date": YESTERDAY, "run_after": YESTERDAY + timedelta(days=1)},
        ],
        ids=["scheduled", "by hand", "by an asset, or by API without a date", "partition"],
    )
    def test_by_run(self, fresh: str, run: dict[str, Any]) -> None:
        """The run's own window counts, however the run was started, and whatever fractions of a second it has."""
        assert wait(fresh, trained_to="run").poke(context(**run))
        later = {name: value + timedelta(seconds=1) if value else value for name, value in run.items()}
        assert not wait(fresh, trained_to="run").poke(context(**later))

    def test_by_run_without_a_date(self, fresh: str) -> None:
        """A run without any date fails the task, and says what to do."""
        with one_line(AirflowFailException, "no partition date, no data interval and no run-after"):
            wait(fresh, trained_to="run").poke(context(end=None, run_after=None))

    def test_by_job(self, client: Client, server: ServerProcess, fresh: str, model: Any) -> None:
        """The model that a job wrote is fresh, another one is not."""
        assert wait(fresh, job=model).poke(context())
        assert not wait("default", job=model).poke(context())

    def test_result(self, fresh: str, model: Any, server: ServerProcess) -> None:
        """The result names the live model, without a token."""
        path = f"models/opsensor/{YESTERDAY:%Y%m%dT%H%M%SZ}.ilearner"
        assert wait(fresh, job=model).execute(context()) == {
            "endpoint": fresh,
            "location": f"{server.account.endpoint}/{path}",
        }

    @pytest.mark.parametrize("goal", [{"job": None}, {"max_age": timedelta(1), "trained_to": DAY.isoformat()}])
    def test_exactly_one(self, fresh: str, goal: dict[str, Any]) -> None:
        """Several meanings are refused, and a job that an upstream task did not leave."""
        with one_line(AirflowFailException, "exactly one of job, trained_to and max_age"):
            wait(fresh, **goal).execute(context())

    @pytest.mark.slow
    def test_by_the_limit_of_the_endpoint(self, client: Client, fresh: str, first: str) -> None:
        """Without an argument the endpoint says what is stale, to the worker and to the trigger; one that says
        nothing is named, with what to do.
        """
        with one_line(AirflowFailException, f"Endpoint {first!r} has no limit"):
            wait(first).execute(context())
        endpoint = client.get_endpoint(client.find_web_service(BIKES_SCORING).id, fresh)
        client.patch_endpoint(endpoint, EndpointSettings(stale_after=timedelta(hours=25)))
        assert wait(fresh).execute(context())["endpoint"] == fresh
        client.patch_endpoint(endpoint, EndpointSettings(stale_after=timedelta(hours=23)))
        with pytest.raises(AirflowSensorTimeout, match=r"trained on data up to at most 23:00:00 ago"):
            wait(fresh).execute(context())
        with pytest.raises(TaskDeferred) as caught:
            wait(fresh, deferrable=True).execute(context())
        assert caught.value.trigger.goal(timedelta(hours=23)) == Goal(max_age=timedelta(hours=23))
        client.patch_endpoint(endpoint, EndpointSettings(stale_after=timedelta()))
        with one_line(AirflowFailException, "has no limit"):
            wait(fresh).execute(context())

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"trained_to": "soon"}, ("'soon' is not a time",)),
            ({"job": {"job_id": "x"}}, ("job must be what BatchExecutionOperator returned",)),
            ({"trained_to": "2026-01-01", "resource": "Other"}, ("no updatable resource 'Other'",)),
            ({"trained_to": "2026-01-01", "endpoint": "sensornowhere"}, ("no endpoint 'sensornowhere'",)),
        ],
    )
    def test_wrong_argument(self, fresh: str, options: dict[str, Any], words: tuple[str, ...]) -> None:
        """A wrong argument fails the task at once instead of waiting for what never comes."""
        with one_line(AirflowFailException, *words):
            wait(**{"endpoint": fresh, **options}).execute(context())

    def test_unfinished_job(self, client: Client, server: ServerProcess, fresh: str) -> None:
        """A job that has no model cannot be waited for."""
        job_id = submitted(server, client, path="training/sensor.csv")
        with one_line(AirflowFailException, "no single output"):
            wait(fresh, job={"web_service": BIKES, "endpoint": "default", "job_id": job_id}).execute(context())


class TestLog:
    """A poke tells what is live and what is awaited."""

    def test_fresh(self, fresh: str, capsys: pytest.CaptureFixture[str]) -> None:
        """Live and awaited model are in one line."""
        wait(fresh, trained_to=YESTERDAY).poke(context())
        out = capsys.readouterr().out
        assert f"trained on data up to {moment_text(YESTERDAY)} (1 d 0 h ago). Awaited: a model trained" in out
        assert "or later. Fresh." in out

    def test_unknown_age(self, first: str, capsys: pytest.CaptureFixture[str]) -> None:
        """A model whose window is unknown does not reach any moment, and that is said; its age is that of the last
        time in its data, as in the portal.
        """
        assert wait(first, max_age=timedelta(days=9999)).poke(context())
        assert not wait(first, trained_to=DAY).poke(context())
        out = capsys.readouterr().out
        assert "its path names no training window, so its age is unknown." in out
        assert "Not fresh yet." in out

    def test_silent_service(self, first: str, capsys: pytest.CaptureFixture[str]) -> None:
        """A service that does not say which model is live is not fresh either."""
        task = wait(first, max_age=timedelta(days=9999))
        wired(task).bends["get_endpoint"] = lambda request, send: edited(
            send(request), Resources=[{"Name": "m", "Location": None}]
        )
        assert not task.poke(context())
        assert "The service does not name the live model" in capsys.readouterr().out


class TestScoring:
    """Fresh may also mean that the endpoint answers."""

    def test_answers(self, fresh: str) -> None:
        """The answers are in the result."""
        found = wait(fresh, trained_to=YESTERDAY, score_with=[NOON, NOON]).execute(context())
        assert [float(row["Scored Labels"]) > 0 for row in found["answers"]] == [True, True]

    def test_expectation(self, fresh: str, capsys: pytest.CaptureFixture[str]) -> None:
        """Answers that are not as expected are not fresh yet."""
        goal = {"trained_to": YESTERDAY, "score_with": [NOON]}
        assert wait(fresh, **goal, expect=lambda rows: float(rows[0]["Scored Labels"]) > 0).poke(context())
        assert not wait(fresh, **goal, expect=lambda rows: False).poke(context())
        assert "The endpoint answers, but not as expected" in capsys.readouterr().out

    def test_expected_rows(self, fresh: str) -> None:
        """The answers themselves can be expected, within a tolerance."""
        given = {"trained_to": YESTERDAY, "score_with": [NOON]}
        [answer] = wait(fresh, **given).execute(context())["answers"]
        near = {"Scored Labels": float(answer["Scored Labels"]) * 1.01}
        assert wait(fresh, expect=[near], tolerance=0.05, **given).poke(context())
        assert not wait(fresh, expect=[near], **given).poke(context())
        assert not wait(fresh, expect=[near, near], tolerance=0.05, **given).poke(context())
        assert not wait(fresh, expect=[{"Other": 1}], tolerance=0.05, **given).poke(context())

    def test_not_answering_yet(self, fresh: str, capsys: pytest.CaptureFixture[str]) -> None:
        """An endpoint that cannot score just now is asked again."""
        task = wait(fresh, trained_to=YESTERDAY, score_with=[NOON])
        wired(task).bends["score"] = lambda *_: refused(503, "InitializingContainers", "Not yet.")
        assert not task.poke(context())
        assert "Not yet." in capsys.readouterr().out

    def test_rows_that_do_not_fit(self, fresh: str) -> None:
        """Rows that the endpoint refuses fail the task: waiting would not help."""
        with one_line(AirflowFailException, "score", "HTTP 400"):
            wait(fresh, trained_to=YESTERDAY, score_with=[{"nothing": 1}]).execute(context())


#: What a time-out says, in both modes.
LATE = ("was not fresh within 0.3 s", "Awaited: a model trained on data up to at most 1 day", "firstmodels/")


class TestWorkerMode:
    """Waiting in the worker."""

    @pytest.mark.slow
    def test_time_out(self, first: str) -> None:
        """What does not get fresh in time is a sensor time-out that says what was awaited and what is live."""
        with one_line(AirflowSensorTimeout, *LATE):
            wait(first, max_age=timedelta(days=1)).execute(context())

    @pytest.mark.slow
    def test_soft_fail(self, first: str) -> None:
        """``soft_fail`` makes it a skip."""
        with one_line(AirflowSkipException, *LATE):
            wait(first, max_age=timedelta(days=1), soft_fail=True).execute(context())

    @pytest.mark.parametrize("rule", ["soft_fail", "silent_fail", "never_fail", "retries"])
    def test_ended_from_outside(self, first: str, rule: str) -> None:
        """SIGTERM while it waits for an hour: it ends at once, as something that may be retried, whatever the rule."""
        sensor = wait(
            first, max_age=timedelta(0), poke_interval=3600, timeout=7200, **{rule: 1 if rule == "retries" else True}
        )
        sensor.on_kill()
        with one_line(TaskEnded, "ended from outside", "Its next attempt goes on"):
            sensor.execute(context())
        assert issubclass(TaskEnded, AirflowException)
        assert not issubclass(TaskEnded, AirflowFailException)

    def test_ended_while_the_service_is_away(self, fresh: str) -> None:
        """The pauses between repeated calls end as well, and silent_fail does not make the sensor stay."""
        sensor = wait(fresh, max_age=timedelta(0), poke_interval=3600, timeout=7200, silent_fail=True)
        wired(sensor).bends["get_endpoint"] = lambda *_: refused(503, "ServiceUnavailable", "later")
        sensor.hook.client._retries = RetryPolicy(attempts=2, base=60.0)
        sensor.on_kill()
        with one_line(TaskEnded, "ended from outside"):
            sensor.execute(context())

    @pytest.mark.slow
    def test_waits(self, client: Client, server: ServerProcess) -> None:
        """A model that gets live meanwhile ends the wait."""
        added(client, "sensorwaits")
        job = trained(server, client, "sensorwaits", DAY)
        task = wait("sensorwaits", trained_to=DAY, timeout=30)
        wire = wired(task)

        def later(request: Any, send: Any) -> Any:
            if wire.journal.count("get_endpoint") == 2:
                update_to(client, "sensorwaits", job)
            return send(request)

        wire.bends["get_endpoint"] = later
        assert task.execute(context())["location"].endswith("20260301T000000Z.ilearner")
        assert wire.journal.count("get_endpoint") == 2

    @pytest.mark.slow
    def test_out_of_order(self, fresh: str, capsys: pytest.CaptureFixture[str]) -> None:
        """A service that does not answer is asked again until the time-out, as in the triggerer."""
        task = wait(fresh, trained_to=YESTERDAY)
        wired(task).bends["list_web_services"] = lambda *_: refused(503, "NoMoreResources", "Busy.")
        with pytest.raises(AirflowSensorTimeout):
            task.execute(context())
        assert "Cannot read endpoint" in capsys.readouterr().out


class TestDeferrable:
    """Waiting in the triggerer."""

    def test_fresh_already(self, fresh: str) -> None:
        """What is fresh needs no triggerer."""
        assert wait(fresh, trained_to=YESTERDAY, deferrable=True).execute(context())["endpoint"] == fresh

    def test_defers(self, client: Client, server: ServerProcess, first: str, model: Any) -> None:
        """The wait goes to the triggerer with names, moments and places only: no key, no token."""
        endpoint = client.get_endpoint(client.find_web_service(BIKES_SCORING).id, first)
        goals: list[dict[str, Any]] = [{"job": model}, {"trained_to": DAY.isoformat()}, {"max_age": timedelta(hours=2)}]
        for goal in goals:
            task = wait(first, deferrable=True, timeout=60, **goal)
            with pytest.raises(TaskDeferred) as caught:
                task.execute(context())
            deferral = caught.value
            assert isinstance(deferral.trigger, FreshnessTrigger)
            assert (deferral.method_name, deferral.timeout) == ("execute_complete", None)
            assert deferral.trigger.goal(None) == task.goal
            assert 0 < (deferral.trigger.deadline or 0) - time.time() <= 60
            text = json.dumps(deferral.trigger.serialize())
            secrets = (endpoint.primary_key, server.connection["token"], server.account.key, "sig=")
            assert [secret for secret in secrets if secret in text] == []

    def test_resumes(self, fresh: str) -> None:
        """The worker looks again and returns what is live."""
        task = wait(fresh, trained_to=YESTERDAY, score_with=[NOON], deferrable=True)
        found = task.execute_complete(context(), {"deadline": time.time() + 9})
        assert found["endpoint"] == fresh
        assert found["answers"]

    def test_resumes_too_early(self, first: str) -> None:
        """What is not fresh when the worker looks is waited for again, with the same deadline."""
        deadline = time.time() + 99
        with pytest.raises(TaskDeferred) as caught:
            wait(first, max_age=timedelta(1), deferrable=True).execute_complete(context(), {"deadline": deadline})
        assert caught.value.trigger.deadline == deadline

    def test_event_of_before_a_clear(self, first: str) -> None:
        """An event of a trigger from before a clear brings an old deadline, which counts for nothing."""
        store = Store()
        task = wait(first, max_age=timedelta(1), deferrable=True, timeout=60)
        with pytest.raises(TaskDeferred) as caught:
            task.execute(context(store))
        deadline = caught.value.trigger.deadline
        with pytest.raises(TaskDeferred) as again:
            task.execute_complete(context(store), {"deadline": 1.0})
        assert again.value.trigger.deadline == deadline

    def test_past_the_deadline(self, first: str) -> None:
        """Past the deadline it is a sensor time-out that says what was awaited and what is live."""
        with one_line(AirflowSensorTimeout, *LATE):
            wait(first, max_age=timedelta(1), deferrable=True).execute_complete(context(), {"deadline": 1.0})

    def test_soft_fail(self, first: str) -> None:
        """``soft_fail`` makes that a skip, as Airflow resumes the task."""
        task = wait(first, max_age=timedelta(1), deferrable=True, soft_fail=True)
        with pytest.raises(AirflowSkipException):
            task.resume_execution("execute_complete", {"event": {"deadline": 1.0}}, context())

    def test_worker_and_trigger_do_not_chase_each_other(self, fresh: str) -> None:
        """A fresh model whose answers are not as expected is seen again after ``poke_interval``: the trigger, which
        does not ask for answers, would send the task to a worker at once, again and again.
        """
        given = {"trained_to": YESTERDAY, "score_with": [NOON], "expect": lambda rows: False}
        task = wait(fresh, deferrable=True, poke_interval=300, **given)
        with pytest.raises(TaskDeferred) as first:
            task.execute(context())
        with pytest.raises(TaskDeferred) as again:
            task.execute_complete(context(), {"deadline": time.time() + 999})
        looks = [caught.value.trigger.serialize()[1]["first_look"] for caught in (first, again)]
        assert looks == [0.0, 300.0]

    @pytest.mark.slow
    def test_service_is_away(self, fresh: str, model: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
        """While the service is away at the first look, the sensor waits in the worker, and defers once it is back."""
        task = wait(fresh, job={**model, "model_output": "none"}, deferrable=True, timeout=30)
        wire = wired(task)
        wire.bends["list_web_services"] = lambda request, send: (
            refused(503, "NoMoreResources", "Busy.") if wire.journal.count("list_web_services") < 12 else send(request)
        )
        wire.bends["get_endpoint"] = lambda request, send: edited(
            send(request), Resources=[{"Name": "m", "Location": None}]
        )
        with pytest.raises(TaskDeferred):
            task.execute(context())
        assert "Cannot read endpoint" in capsys.readouterr().out

    @pytest.mark.slow
    @pytest.mark.parametrize(("soft_fail", "kind"), [(False, AirflowSensorTimeout), (True, AirflowSkipException)])
    @pytest.mark.parametrize("deferrable", [False, True])
    def test_service_stays_away(
        self, fresh: str, model: dict[str, Any], deferrable: bool, soft_fail: bool, kind: type[Exception]
    ) -> None:
        """A service that never answers ends the wait at its time-out, with words that need no answer of it."""
        task = wait(fresh, job=model, deferrable=deferrable, soft_fail=soft_fail)
        wired(task).bends["list_web_services"] = lambda *_: refused(503, "NoMoreResources", "Busy.")
        with one_line(kind, "not fresh within 0.3 s", f"Awaited: the model of job {model['job_id']}. Live: not seen."):
            task.execute(context())

    @pytest.mark.parametrize("rule", ["soft_fail", "never_fail"])
    @pytest.mark.parametrize("deferrable", [False, True])
    def test_error_that_may_not_fail_the_task(self, deferrable: bool, rule: str) -> None:
        """``soft_fail`` and ``never_fail`` make any lasting error a skip that tells it, at the first look as well."""
        task = wait("nosuchendpoint", max_age=timedelta(1), deferrable=deferrable, **{rule: True})
        with one_line(AirflowSkipException, rule, "nosuchendpoint"):
            task.execute(context())
