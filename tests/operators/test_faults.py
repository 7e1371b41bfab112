"""Each way in which a service can lie ends in a failed task with the right sentence, and the old model back if asked.

A real server process that misbehaves on demand; every test uses endpoints of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSensorTimeout

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.operators import (
    BatchExecutionOperator,
    ModelQualityGate,
    RollbackModelOperator,
    UpdateTrainedModelOperator,
)
from airflow_provider_azureml_classic.retraining.placing import Update
from airflow_provider_azureml_classic.sensors import ModelFreshnessSensor
from tests.support import BIKES, BIKES_SCORING, ServerProcess
from tests.support.gates import DAY, ERROR, added, context, live, one_sentence, rentals, trained, trainer

#: Each waits for real answers of a server: together they are what `make quick` has no time for.
pytestmark = pytest.mark.slow

NEXT = DAY + timedelta(days=1)
PROGRAM = "airflow_provider_azureml_classic.server.faults"
Plan = Callable[..., None]


@pytest.fixture(scope="module")
def liar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that misbehaves as its plan says; at first there is nothing in it."""
    folder = tmp_path_factory.mktemp("liar")
    (folder / "plan.json").write_text("{}")
    running = ServerProcess(folder / "data", program=(PROGRAM, str(folder / "plan.json")))
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def connection(liar: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lying server as Airflow's connection; calls that cannot be answered fail after a second."""
    said = json.loads(liar.connection["airflow_conn"])
    said["extra"]["timeout"] = 1
    monkeypatch.setenv("AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT", json.dumps(said))


@pytest.fixture
def plan(liar: ServerProcess) -> Plan:
    """Says what goes wrong with an endpoint from now on."""
    lock, path = threading.Lock(), liar.data_dir.parent / "plan.json"

    def write(endpoint: str, fault: str, **details: Any) -> None:
        with lock:
            known = json.loads(path.read_text())
            known[endpoint] = {"fault": fault, **details}
            path.with_suffix(".new").write_text(json.dumps(known))
            os.replace(path.with_suffix(".new"), path)

    return write


@pytest.fixture(scope="module")
def lied_to(liar: ServerProcess) -> Client:
    """A client of the lying server."""
    return liar.client()


@pytest.fixture(scope="module")
def old(liar: ServerProcess, lied_to: Client) -> dict[str, Any]:
    """A finished job of an early day."""
    return trained(liar, lied_to, "fault", DAY, rentals(100))


@pytest.fixture(scope="module")
def new(liar: ServerProcess, lied_to: Client) -> dict[str, Any]:
    """A finished job of the day after, whose model answers otherwise."""
    return trained(liar, lied_to, "fault", NEXT, rentals(300))


def update(name: str, job: Any, **options: Any) -> UpdateTrainedModelOperator:
    """The operator, not waiting long for a proof."""
    given = {"proof_timeout": 0.5, **options}
    return UpdateTrainedModelOperator(task_id="update", web_service=BIKES_SCORING, endpoint=name, job=job, **given)


def begun(client: Client, name: str, job: Any) -> str:
    """An endpoint with the model of an early day; its location."""
    added(client, name)
    return str(update(name, job, proof_timeout=10).execute(context())["model"]["location"])


def said_by(client: Client, name: str) -> float:
    """What the endpoint's model answers for noon."""
    noon = dict.fromkeys(rentals().partition("\n")[0].split(",")[1:-1], 1) | {"hr": 12}
    return float(client.score(added(client, name), [noon]).column("Scored Labels")[0])


class TestUpdates:
    """A PATCH that is answered 200."""

    @pytest.mark.parametrize("on_failure", ["keep", "rollback"])
    def test_ignored(self, lied_to: Client, plan: Plan, old: Any, new: Any, on_failure: Any) -> None:
        """Accepted and ignored: the task fails and names the model that is still there."""
        name = f"ignore{on_failure}"
        before = begun(lied_to, name, old)
        plan(name, "ignore")
        done = "Nothing was put back." if on_failure == "keep" else f"was put back: {before}; the endpoint names it"
        with one_sentence(AirflowFailException, "accepted the update", f"it still names {before} as its model.", done):
            update(name, new, on_failure=on_failure).execute(context())
        assert live(lied_to, name) == before

    def test_shown_but_not_served(self, lied_to: Client, plan: Plan, old: Any, new: Any) -> None:
        """The new location is shown, the old model goes on answering: only scoring finds out, and the old one is put
        back.
        """
        before = begun(lied_to, "pretend", old)
        plan("pretend", "pretend")
        with one_sentence(
            AirflowFailException, "not give the new model's answers to the golden rows.", f"was put back: {before};"
        ):
            update("pretend", new, on_failure="rollback").execute(context())
        assert live(lied_to, "pretend") == before

    def test_shown_but_not_served_and_kept(self, lied_to: Client, plan: Plan, old: Any, new: Any) -> None:
        """Without a roll-back the endpoint stays as it was left: naming the new model."""
        before = begun(lied_to, "pretendkeep", old)
        plan("pretendkeep", "pretend")
        with one_sentence(AirflowFailException, "golden rows.", "Nothing was put back."):
            update("pretendkeep", new).execute(context())
        assert live(lied_to, "pretendkeep") != before

    def test_weaker_proof_is_fooled(self, lied_to: Client, plan: Plan, old: Any, new: Any) -> None:
        """What proof="version" cannot see shows why "strongest" is the default."""
        begun(lied_to, "fooled", old)
        plan("fooled", "pretend")
        receipt = update("fooled", new, proof="version").execute(context())
        assert receipt["proof"]["level"] == "version"
        assert said_by(lied_to, "fooled") < 300

    def test_stale_on_every_second_call(self, lied_to: Client, plan: Plan, old: Any, new: Any) -> None:
        """One right answer is not enough: a service that is half updated is found out."""
        before = begun(lied_to, "stale", old)
        plan("stale", "stale")
        with one_sentence(AirflowFailException, "golden rows.", f"was put back: {before};"):
            update("stale", new, on_failure="rollback").execute(context())
        plan("stale", "ignore")
        assert {round(said_by(lied_to, "stale")) for _ in range(4)} == {round(said_by(lied_to, "stale"))}
        assert said_by(lied_to, "stale") < 300

    def test_gone_back_at_once(self, lied_to: Client, plan: Plan, old: Any, new: Any) -> None:
        """A service that goes back before the first look fails the update."""
        before = begun(lied_to, "revert", old)
        plan("revert", "revert", after=0)
        with one_sentence(AirflowFailException, f"names {before} as its model."):
            update("revert", new, on_failure="rollback").execute(context())
        assert live(lied_to, "revert") == before

    def test_gone_back_after_the_proof(self, lied_to: Client, plan: Plan, old: Any, new: Any) -> None:
        """A service that goes back later is found out by the sensor, which says what is live and what is awaited."""
        before = begun(lied_to, "later", old)
        plan("later", "revert", after=1)
        assert update("later", new).execute(context())["proof"]["level"] == "content"
        sensor = ModelFreshnessSensor(
            task_id="fresh", web_service=BIKES_SCORING, endpoint="later", job=new, timeout=60, deferrable=True
        )
        assert sensor.poke(context()) is False
        with one_sentence(AirflowSensorTimeout, "'later'", "not fresh within 60 s", f"Live: {before}."):
            sensor.execute_complete(context(), {"deadline": 0})

    def test_a_roll_back_that_is_ignored(self, lied_to: Client, plan: Plan, old: Any, new: Any) -> None:
        """A roll-back is proved like an update: it fails where the service ignores it."""
        begun(lied_to, "backignored", old)
        receipt = update("backignored", new, proof_timeout=10).execute(context())
        plan("backignored", "ignore")
        task = RollbackModelOperator(task_id="back", receipt=receipt, proof_timeout=0.5)
        with one_sentence(AirflowFailException, f"it still names {receipt['model']['location']} as its model."):
            task.execute(context())

    def test_somebody_else_was_faster(self, liar: ServerProcess, lied_to: Client, old: Any, new: Any) -> None:
        """A roll-back does not take away what somebody else has put in place meanwhile."""
        begun(lied_to, "faster", old)
        task, other = update("faster", new, on_failure="rollback"), update("faster", old, only_if_newer=False)
        other.location, other.job = "models/fault/copy.ilearner", None
        content = lied_to.fetch_blob(task._candidate(lied_to.perform(task._find())).location)
        liar.upload("models/fault/copy.ilearner", content)
        perform, placing = task.hook.client.perform, task._placing()
        target = perform(task._find())
        candidate = task._candidate(target)
        unproved = Update(target, candidate, perform(placing.begin(target, candidate)))
        perform(placing.put(target, unproved.patch))
        other.execute(context())
        said, put_back = perform(placing.roll_back(unproved))
        assert not put_back
        assert said.startswith("Somebody else has put ")
        assert live(lied_to, "faster").endswith("/models/fault/copy.ilearner")

    def test_cut_off_answer(self, lied_to: Client, plan: Plan, old: Any, new: Any) -> None:
        """A PATCH whose answer is cut off is looked up: here it came through, which is proved as usual."""
        before = begun(lied_to, "cutpatch", old)
        plan("cutpatch", "cut", verb="patch_endpoint")
        receipt = update("cutpatch", new, proof_timeout=10).execute(context())
        assert (receipt["proof"]["level"], receipt["replaced"]["location"]) == ("content", before)
        assert live(lied_to, "cutpatch") == receipt["model"]["location"]

    @pytest.mark.slow
    def test_gate_does_not_pass_what_it_cannot_compare(self, lied_to: Client, plan: Plan, old: Any, new: Any) -> None:
        """A live model that does not answer is an error that may be retried, not a reason to let the new one in."""
        begun(lied_to, "gatecut", old)
        plan("gatecut", "cut", verb="score_model")
        task = ModelQualityGate(
            task_id="gate", web_service=BIKES_SCORING, endpoint="gatecut", job=new, max_worse={ERROR: 0}
        )
        with one_sentence(AirflowException, "score"):
            task.execute(context())

    def test_gate_does_not_believe_half_an_update(
        self, liar: ServerProcess, lied_to: Client, plan: Plan, old: Any, new: Any
    ) -> None:
        """A check endpoint that still answers every second call with its old model is not measured."""
        for name in ("gatelive", "gatecheck"):
            begun(lied_to, name, old)
        liar.upload("check/half.csv", rentals(300, rows=48))
        plan("gatecheck", "stale")
        task = ModelQualityGate(
            task_id="gate",
            web_service=BIKES_SCORING,
            endpoint="gatelive",
            job=new,
            max_worse={ERROR: 0},
            check_data="check/half.csv",
            check_endpoint="gatecheck",
            check_timeout=0.5,
        )
        with one_sentence(AirflowFailException, "'gatecheck', but it was not seen to be live there", "golden rows."):
            task.execute(context())


class TestJobs:
    """A job that is accepted."""

    def job(self, liar: ServerProcess, client: Client, name: str, **options: Any) -> BatchExecutionOperator:
        """The operator, on a training endpoint of its own."""
        trainer(client, name)
        liar.upload(f"training/{name}.csv", rentals(rows=48))
        inputs = {"input1": f"training/{name}.csv"}
        return BatchExecutionOperator(
            task_id="train", web_service=BIKES, endpoint=name, inputs=inputs, poll_interval=0.2, **options
        )

    def test_lost(self, liar: ServerProcess, lied_to: Client, plan: Plan) -> None:
        """A job that the service no longer knows fails the task at once, with the job's id."""
        plan("lose", "lose")
        with one_sentence(AirflowFailException, "get_job", "'lose' has no job", "JobNotFound"):
            self.job(liar, lied_to, "lose").execute(context())

    def test_hanging(self, liar: ServerProcess, lied_to: Client, plan: Plan) -> None:
        """A job that never ends is cancelled at the deadline, and the task says how long it was waited for."""
        plan("hang", "hang")
        task = self.job(liar, lied_to, "hang", job_timeout=0.5)
        with one_sentence(AirflowFailException, "still Running after job_timeout=0.5 s; it was cancelled."):
            task.execute(context())
        assert task._running is not None
        runner, job_id = task._running
        assert lied_to.get_job(runner.endpoint, job_id).status.value == "Cancelled"

    def test_late_answer(self, liar: ServerProcess, lied_to: Client, plan: Plan) -> None:
        """A submission that is answered after the time-out is not sent again: the task fails and may be retried."""
        task = self.job(liar, lied_to, "late")
        plan("late", "delay", verb="submit_job", seconds=1.5)
        with one_sentence(AirflowException, "submit_job"):
            task.execute(context())

    def test_cut_off_answer(self, liar: ServerProcess, lied_to: Client, plan: Plan) -> None:
        """Likewise one whose answer is cut off."""
        task = self.job(liar, lied_to, "cut")
        plan("cut", "cut", verb="submit_job")
        with one_sentence(AirflowException, "submit_job"):
            task.execute(context())


class TestSwitch:
    """Nobody gets such a server by accident."""

    def test_the_server_itself_has_no_switch(self, tmp_path: Path) -> None:
        """Neither its help nor the modules that it loads know of faults."""
        code = (
            "import sys; from airflow_provider_azureml_classic.server import service\n"
            "from airflow_provider_azureml_classic.server.settings import options\n"
            "assert 'faults' not in options.parser().format_help().lower()\n"
            f"print('{PROGRAM}' in sys.modules)"
        )
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert result.stdout.strip() == "False"

    def test_it_says_what_it_is(self, liar: ServerProcess) -> None:
        """Its log begins with a warning."""
        assert "WRONG ANSWERS on purpose" in liar.log.read_text()

    def test_without_a_plan_it_does_not_start(self, tmp_path: Path) -> None:
        """The file comes first; without it the usage is shown."""
        command = [sys.executable, "-m", PROGRAM, "--data-dir", str(tmp_path / "data")]
        result = subprocess.run(command, capture_output=True, text=True)
        assert (result.returncode, result.stdout.split()[0]) == (2, "usage:")
        assert not (tmp_path / "data").exists()

    def test_a_fault_that_does_not_exist(self, lied_to: Client, plan: Plan) -> None:
        """A mistyped fault is not silently no fault."""
        added(lied_to, "mistyped")
        plan("mistyped", "pretent")
        from airflow_provider_azureml_classic.client.retries import NO_RETRIES
        from airflow_provider_azureml_classic.exceptions import ServiceUnavailable

        lied_to = Client(lied_to.management_url, lied_to.workspace_id, lied_to._token, retries=NO_RETRIES)
        with pytest.raises(ServiceUnavailable):
            added(lied_to, "mistyped")
