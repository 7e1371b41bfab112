"""A person is asked with the evidence in front of him, and the update takes no other model than the one agreed to."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.standard.exceptions import HITLTimeoutError
from airflow.sdk import DAG
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    DownstreamTasksSkipped,
    TaskAwaitingInput,
)
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import CreateHITLDetailPayload

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.exceptions import ServiceUnavailable
from airflow_provider_azureml_classic.notifications import ModelUpdatedNotifier
from airflow_provider_azureml_classic.operators import ApproveModelOperator, UpdateTrainedModelOperator, approval
from airflow_provider_azureml_classic.operators.ending import Ending
from airflow_provider_azureml_classic.protocol.messages import Request, Response
from airflow_provider_azureml_classic.retraining.approval import NOT_NEEDED
from airflow_provider_azureml_classic.retraining.question import evidence_digest
from tests.support import BIKES_SCORING, ServerProcess
from tests.support.tasks import DAY, added, context, live, one_line, refused, trained, update_to, wired
from tests.support.webhook import SECRET, Webhook

pytestmark = pytest.mark.usefixtures("airflow_connection")

AT = datetime(2026, 3, 2, 8, 30, tzinfo=UTC)


class Supervisor:
    """Keeps one question for a task, whatever later attempts ask, as Airflow's server does."""

    def __init__(self) -> None:
        self.asked: Any = None

    def send(self, msg: Any) -> Any:
        """Keep the first question, show it; whatever else a task asks has no answer."""
        if isinstance(msg, CreateHITLDetailPayload):
            self.asked = self.asked or msg
            return self.asked
        return None


class Attempt:
    """A task's context, with XComs in a dict."""

    def __init__(self) -> None:
        self.xcoms: dict[str, Any] = {}
        self.ti = SimpleNamespace(
            id=uuid.uuid4(),
            dag_id="gated",
            run_id="r1",
            task_id="approve",
            map_index=-1,
            xcom_push=lambda key, value: self.xcoms.update({key: json.loads(json.dumps(value))}),
            xcom_pull=lambda key, **_: self.xcoms.get(key),
            xcom_delete=lambda **_: None,
        )

    def context(self, task: Any) -> Any:
        """What Airflow gives the task."""
        return {**context(), "ti": self.ti, "task_instance": self.ti, "task": task}

    def ask(self, task: ApproveModelOperator) -> dict[str, Any]:
        """Ask, up to where the task waits."""
        with pytest.raises(TaskAwaitingInput):
            task.execute(self.context(task))
        return dict(self.xcoms)

    def answer(self, option: str, *, timed_out: bool = False, **changed: Any) -> Any:
        """Go on with an answer, in an operator that knows nothing of the first."""
        event = {"chosen_options": [option], "params_input": {}, "responded_at": AT, "timedout": timed_out}
        user = None if timed_out else {"id": "7", "name": "Ada"}
        task = changed.pop("task")
        return task.execute_complete(self.context(task), {**event, "responded_by_user": user, **changed})


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    """In the place of the process that a task talks to."""
    made = Supervisor()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", made, raising=False)
    return made


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses of tasks, which take no time; the clock goes on with them."""
    made: list[float] = []
    monkeypatch.setattr(Ending, "sleep", lambda _, seconds: made.append(seconds) if seconds else None)
    monkeypatch.setattr(approval, "time", SimpleNamespace(monotonic=lambda: sum(made)))
    return made


@pytest.fixture(scope="module")
def old(server: ServerProcess) -> dict[str, Any]:
    """A finished job."""
    return trained(server, server.client(), "approval", DAY, level=100)


@pytest.fixture(scope="module")
def new(server: ServerProcess) -> dict[str, Any]:
    """A finished job of a later day, whose model gives other answers."""
    return trained(server, server.client(), "approval", DAY + timedelta(days=1), level=300)


def approve(endpoint: str, job: dict[str, Any], **options: Any) -> ApproveModelOperator:
    """The operator."""
    return ApproveModelOperator(task_id="approve", web_service=BIKES_SCORING, endpoint=endpoint, job=job, **options)


def update(endpoint: str, job: dict[str, Any], approval: Any) -> UpdateTrainedModelOperator:
    """The update after it."""
    return UpdateTrainedModelOperator(
        task_id="update", web_service=BIKES_SCORING, endpoint=endpoint, job=job, approval=approval, deferrable=False
    )


@pytest.fixture
def agreed(supervisor: Supervisor, client: Client, old: Any, new: Any) -> tuple[str, dict[str, Any]]:
    """An endpoint on which the old model is live, and a "yes" to the new one."""
    name = f"agreed{uuid.uuid4().hex[:8]}"
    added(client, name)
    update_to(client, name, old)
    attempt = Attempt()
    attempt.ask(approve(name, new))
    return name, attempt.answer("Approve", task=approve(name, new))


@pytest.mark.slow
def test_what_is_shown_and_what_is_kept(supervisor: Supervisor, client: Client, new: Any) -> None:
    """Both models' digests, contract, gate and links; the answer names the text by its SHA-256, and who gave it."""
    added(client, "asked")
    gate = {"job_id": new["job_id"], "decision": "pass", "metrics": {"candidate": {"MAE |<b>": 1.5}, "live": {}}}
    attempt = Attempt()
    attempt.ask(approve("asked", new, gate=gate, note="Look *here*."))
    decision = attempt.answer("Approve", task=approve("asked", new))
    shown = supervisor.asked
    content = decision["model"]["content"]
    assert shown.subject == f"Put model {content[:12]} live on endpoint 'asked' of {BIKES_SCORING!r}?"
    assert shown.body.startswith("Look *here*.\n\n| ")
    for part in (
        f"| content | {content} |",
        "**Data contract**: ",
        "**Gate**: pass.",
        "| MAE &#124;&#60;b&#62; | 1.5 |",
    ):
        assert part in shown.body
    assert "**Rehearsal on real calls**: none, as the endpoint keeps no calls." in shown.body
    assert shown.defaults == ["Reject"]
    assert decision["evidence"] == evidence_digest(shown.subject, shown.body)
    assert (decision["decision"], decision["by"], decision["at"]) == ("approved", "Ada", AT.isoformat())
    assert decision["asked_in"] == "gated/r1/approve"


def test_an_outage_is_waited_out(supervisor: Supervisor, client: Client, new: Any, naps: list[float]) -> None:
    """A service that is away at any call, also at that for a rehearsal, is asked again until it is back; the person is
    asked once, with everything.
    """
    added(client, "askedlate")
    task, away = approve("askedlate", new), {"get_job": 5, "rehearse_update": 3}
    wire = wired(task)

    def down(request: Request, send: Callable[[Request], Response]) -> Response:
        name = request.operation.name
        away[name] -= 1
        if away[name] >= 0:
            raise ServiceUnavailable("no answer")
        return send(request)

    wire.bends = dict.fromkeys(away, down)
    Attempt().ask(task)
    assert supervisor.asked is not None
    assert max(away.values()) < 0
    assert len(naps) >= 3


@pytest.mark.slow
def test_an_outage_without_end_fails(supervisor: Supervisor, new: Any, naps: list[float]) -> None:
    """The wait is bounded, and nobody was asked; what no wait mends fails at once."""
    task = approve("askednever", new)
    wired(task).bends["get_job"] = lambda request, send: refused(503, "ServiceUnavailable", "away")
    with pytest.raises(AirflowException, match="away"):
        task.execute(Attempt().context(task))
    assert 20 <= len(naps) <= 60
    with one_line(AirflowFailException, "has no endpoint"):
        approve("askednever", new).execute(Attempt().context(None))
    assert supervisor.asked is None


@pytest.mark.slow
def test_the_update_tells_who_has_agreed(agreed: tuple[str, Any], client: Client, new: Any) -> None:
    """Its receipt, and so the event; the model is live."""
    name, decision = agreed
    receipt = update(name, new, decision).execute(context())
    assert receipt["approval"] == {
        "by": "Ada",
        "at": "2026-03-02T08:30:00Z",
        "evidence": decision["evidence"],
        "asked_in": "gated/r1/approve",
        "model": decision["model"],
    }
    assert live(client, name).endswith("20260302T000000Z.ilearner")


@pytest.mark.slow
def test_no_other_model_is_put_live(agreed: tuple[str, Any], client: Client, old: Any, new: Any) -> None:
    """Not another model, not another endpoint, not over a model that the person was not shown."""
    name, decision = agreed
    before = live(client, name)
    with one_line(AirflowFailException, "The approval is for the model", "is another one", "Nothing was changed."):
        update(name, old, decision).execute(context())
    added(client, f"not{name}"[:24])
    with one_line(AirflowFailException, f"The approval is for endpoint '{name}'"):
        update(f"not{name}"[:24], new, decision).execute(context())
    assert live(client, name) == before
    other = {**decision, "live": {"sha256": "ab" * 32, "content": "cd" * 32}}
    with one_line(AirflowFailException, "which nobody was shown"):
        update(name, new, other).execute(context())
    assert live(client, name) == before


@pytest.mark.slow
def test_without_an_approval_nothing_is_put_live(agreed: tuple[str, Any], client: Client, new: Any) -> None:
    """A rejection is skipped; what is empty or something else never counts as "nobody is asked"."""
    name, decision = agreed
    before = live(client, name)
    with pytest.raises(AirflowSkipException, match="Ada did not agree"):
        update(name, new, {**decision, "decision": "rejected"}).execute(context())
    for wrong in (None, "", {}, {"decision": "approved"}, {**decision, "evidence": "none"}):
        with pytest.raises(AirflowFailException, match=r"^approval "):
            update(name, new, wrong).execute(context())
    assert live(client, name) == before
    assert UpdateTrainedModelOperator(task_id="u", web_service="s", endpoint="e").approval == NOT_NEEDED


@pytest.mark.slow
def test_an_old_question_is_refused(supervisor: Supervisor, client: Client, old: Any, new: Any) -> None:
    """Airflow shows the first question of a run again: the same one is asked again, one with other evidence is not."""
    added(client, "askedtwice")
    attempt = Attempt()
    attempt.ask(approve("askedtwice", new))
    attempt.ask(approve("askedtwice", new))
    update_to(client, "askedtwice", old)
    task = approve("askedtwice", new)
    with pytest.raises(AirflowFailException, match=r"was asked with other evidence.*Trigger a new DAG run"):
        task.execute(attempt.context(task))


@pytest.mark.slow
def test_a_gate_of_another_model_is_refused(supervisor: Supervisor, client: Client, old: Any, new: Any) -> None:
    """Before anybody is asked."""
    added(client, "askedwrong")
    task = approve("askedwrong", new, gate={"job_id": old["job_id"], "decision": "pass"})
    with pytest.raises(AirflowFailException, match="gate is about the model of job"):
        task.execute(Attempt().context(task))
    assert supervisor.asked is None


@pytest.mark.slow
def test_a_rejection_and_a_time_out_leave_a_result(supervisor: Supervisor, client: Client, new: Any) -> None:
    """Though Airflow keeps nothing of what such a task returns; without a default the task fails."""
    added(client, "askednot")
    with DAG("gated"):
        first, second = (approve("askednot", new), update("askednot", new, NOT_NEEDED))
        first >> second
    attempt = Attempt()
    attempt.ask(first)
    for timed_out, who in ((False, "Ada"), (True, None)):
        with pytest.raises(DownstreamTasksSkipped):
            attempt.answer("Reject", task=first, timed_out=timed_out)
        kept = attempt.xcoms["return_value"]
        assert (kept["decision"], kept["by"], kept["timed_out"]) == ("rejected", who, timed_out)
    with pytest.raises(HITLTimeoutError):
        attempt.answer("Reject", task=first, error="no answer", error_type="timeout")


@pytest.mark.slow
def test_it_is_announced(
    supervisor: Supervisor,
    client: Client,
    new: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By any notifier, with what was found and the answer in case of none; one that fails stops nothing."""
    added(client, "announced")
    with Webhook().running() as webhook:
        connection = {"conn_type": "http", "host": f"{webhook.url}/services", "password": SECRET}
        monkeypatch.setenv("AIRFLOW_CONN_AZUREML_CLASSIC_WEBHOOK", json.dumps(connection))
        missing = ModelUpdatedNotifier(webhook_conn_id="nowhere")
        Attempt().ask(approve("announced", new, notifiers=[missing, ModelUpdatedNotifier(note="@ada")]))
    [(_, message)] = webhook.messages
    assert message["text"].startswith(f"@ada {supervisor.asked.subject} Data contract: not known. Gate: none. ")
    assert "Without an answer within 2 days, 0:00:00: Reject." in message["text"]
    assert "The question was not announced" in capsys.readouterr().out


@pytest.mark.slow
def test_no_attempt_asks_twice() -> None:
    """There are no retries, whatever a DAG's defaults are, mapped or not; the body is not the author's."""
    with DAG("gated", default_args={"retries": 3}):
        job = {"job_id": "1"}
        one = approve("asked", job)
        many = ApproveModelOperator.partial(task_id="many", web_service="s", endpoint="e").expand(job=[job])
    assert one.retries == 0
    assert many.partial_kwargs["retries"] == 0
    with pytest.raises(ValueError, match="put a text of your own in note"):
        approve("asked", job, body="mine")
