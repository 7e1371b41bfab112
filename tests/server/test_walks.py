"""Walks through trainings, updates and rollbacks in any order: what is live is what the last receipt names.

Models are prepared files, and jobs are written into the database as finished, so that nothing is trained. Operators run
against the real service, through a transport that can end a task before and after each of its calls, and let somebody
else go in between: another update, another gate. In some walks two servers of one PostgreSQL answer in turns. ``make
walks`` takes many more walks.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.client.retries import NO_RETRIES
from airflow_provider_azureml_classic.hooks import AzureMLClassicHook, ConnectionSettings
from airflow_provider_azureml_classic.operators import (
    ModelQualityGate,
    RollbackModelOperator,
    UpdateTrainedModelOperator,
)
from airflow_provider_azureml_classic.protocol.jobs import JobRequest, JobStatus
from airflow_provider_azureml_classic.protocol.messages import Request, Response
from airflow_provider_azureml_classic.protocol.model_scoring import ModelCall
from airflow_provider_azureml_classic.protocol.operations import BLOB_SHA256
from airflow_provider_azureml_classic.protocol.purpose import Purpose
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.retraining.check_endpoints import is_check_endpoint
from airflow_provider_azureml_classic.retraining.freshness import MODEL_PATH, Window, model_path
from airflow_provider_azureml_classic.server.experiments.ilearner import content_digest, read_ilearner, write_ilearner
from airflow_provider_azureml_classic.server.models.facts import model_row
from airflow_provider_azureml_classic.server.models.store import ModelStore
from airflow_provider_azureml_classic.server.state.engine import checked_url
from airflow_provider_azureml_classic.server.state.history import add_models, add_trained, trained_row
from airflow_provider_azureml_classic.server.state.overview import Queries
from airflow_provider_azureml_classic.server.state.tables import jobs as jobs_table
from airflow_provider_azureml_classic.server.workspace.workspace import Caller
from tests.support.gates import TaskInstance
from tests.support.postgres import Cluster
from tests.support.processes import until
from tests.support.service import OTHER_SCORING, SCORING, TOKEN, TRAINING, WORKSPACE, Clock, Service
from tests.support.tasks import Store, context

WALKS = int(os.environ.get("AZUREML_CLASSIC_WALKS", "25"))
#: Of them, those with two servers.
SHARED = max(3, WALKS // 20)
DAY = datetime(2026, 3, 1, tzinfo=UTC)
SLOPES = {"three": 3.0, "ten": 10.0, "twenty": 20.0}
#: Rows that gates compare on: the model of slope 10 is right.
CHECKED, TRUTH = tuple(number / 20 for number in range(1, 41)), 10.0
ERROR = "Mean Absolute Error"
EXPERIMENTS = {SCORING: TRAINING, OTHER_SCORING: "Other Line"}


class Killed(BaseException):
    """The task's process is gone."""


@dataclass(frozen=True)
class Model:
    """What is live, or was trained.

    :param end: of its window; ``None`` of the model that a service began with.
    """

    file: str
    content: str
    slope: float
    end: datetime | None
    created: datetime | None = None
    location: str = ""


@dataclass(frozen=True)
class Trained:
    """A finished job."""

    ticket: dict[str, Any]
    place: tuple[str, str]
    model: Model


@dataclass
class Attempt:
    """A task, with what it remembers from one attempt to the next.

    :param replaced: files that were live before each of its PATCHes.
    """

    place: tuple[str, str]
    make: Callable[[], Any]
    meant: Model
    store: Store = field(default_factory=Store)
    replaced: list[str] = field(default_factory=list)


class House:
    """The service of all walks, and prepared models.

    :param service: that stands for all in what tests look at.
    :param folder: for files.
    :param others: further servers of the same database and data.
    """

    def __init__(self, service: Service, folder: Path, *others: Service) -> None:
        self.service, self.folder, self.servers = service, folder, (service, *others)
        self.prepared = {name: read_ilearner(service.read_blob(f"models/{name}.ilearner")) for name in SLOPES}
        services = {one.name: one.id for one in service.client.list_web_services()}
        self.ids = {name: services[name] for name in EXPERIMENTS}
        self.trainers = {
            name: service.client.get_endpoint(services[trainer], "default") for name, trainer in EXPERIMENTS.items()
        }
        self.count = 0
        #: Never the same twice: the window of a model is known by its file.
        self.clock = self.ended = DAY + timedelta(days=100)
        source = service.put_blob("data/rows.csv", "x,y\n1,2\n")
        self.request = JobRequest({"input1": source})
        self.check_data = f"{service.settings.account.endpoint}/data/check.csv"
        service.put_blob("data/check.csv", "x,y\n" + "".join(f"{x},{TRUTH * x}\n" for x in CHECKED))
        service.put_blob("data/evaluation.csv", f"{ERROR},Rows Held Out\n1.5,15\n")
        asked = service.client.get_endpoint(self.ids[SCORING], "default")
        first = {slope: BlobReference(f"models/{name}.ilearner") for name, slope in SLOPES.items()}
        first[2.0] = asked.resource().location or BlobReference("")
        #: By slope: the mean absolute error on the rows that gates compare on.
        self.errors = {slope: self._error_of(asked, place) for slope, place in first.items()}

    def _error_of(self, asked: Endpoint, place: BlobReference) -> float:
        call = ModelCall(place, None, Table.of([{"x": x} for x in CHECKED]))
        answers = self.service.client.score_model(asked, call).answers.column("Scored Labels")
        return sum(abs(float(answer) - TRUTH * x) for answer, x in zip(answers, CHECKED, strict=True)) / len(CHECKED)

    def file(self, name: str, scoring: str, created: datetime) -> tuple[Any, bytes]:
        """A model file: graph of a slope, trained at a time."""
        manifest, graph = self.prepared[name]
        manifest = replace(manifest, experiment=EXPERIMENTS[scoring], created=created.isoformat(), profile=None)
        path = self.folder / "made.ilearner"
        write_ilearner(path, graph, manifest)
        return manifest, path.read_bytes()


class Wire:
    """Between a task and the service: blobs too; something can happen before and after each call."""

    def __init__(self, house: House, turns: Random) -> None:
        self.service, self.servers, self.turns = house.service, house.servers, turns
        self.missing: set[str] = set()
        self.before: Callable[[str], None] = lambda name: None
        self.after: Callable[[str], None] = lambda name: None

    def __call__(self, request: Request) -> Response:
        """Send."""
        name = request.operation.name
        self.before(name)
        if name in self.missing:
            response = Response(404, {}, b"")
        elif request.operation.path:
            response = self.turns.choice(self.servers).app(request)
        else:
            response = self._blob(request)
        self.after(name)
        return response

    def _blob(self, request: Request) -> Response:
        path = request.url.partition("?")[0].removeprefix(f"{self.service.settings.account.endpoint}/")
        try:
            content = self.service.read_blob(path)
        except Exception:  # whatever the store says: it is not there
            return Response(404)
        digest = _sha256(content)
        headers = {"content-length": str(len(content)), BLOB_SHA256: digest}
        return Response(200, headers, b"" if request.operation.method == "HEAD" else content)


def _sha256(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()


class Walk(RuleBasedStateMachine):
    """One walk: three endpoints of two services, two of them of one name."""

    house: ClassVar[House]
    trained = Bundle("trained")
    pending = Bundle("pending")
    receipts = Bundle("receipts")

    def __init__(self) -> None:
        super().__init__()
        house = self.house
        house.count += 1
        self.turns, self.attempts, self.undecided = Random(house.count), 0, 0  # noqa: S311 - a walk is to be repeatable
        self.places = [(SCORING, f"a{house.count}"), (SCORING, f"b{house.count}"), (OTHER_SCORING, f"a{house.count}")]
        self.live: dict[tuple[str, str], Model] = {}
        for place in self.places:
            digests = house.service.client.add_endpoint(house.ids[place[0]], place[1]).resource().digests
            assert digests is not None
            assert digests.file
            assert digests.content
            self.live[place] = Model(digests.file, digests.content, 2.0, None)
        self.checked = dict(self.live)
        self.files: set[str] = set()
        self.models = dict.fromkeys(self.live.values())

    def teardown(self) -> None:
        """What nobody touched is as it was, too; remove what this walk made."""
        try:
            for place, model in self.live.items():
                self._check(place, model)
            # A gate that could not decide leaves its own to its next attempt.
            assert len(self._left()) <= self.undecided
        finally:
            for scoring, name in [*self.places, *self._left()]:
                self.house.service.client.delete_endpoint(self.house.ids[scoring], name)
            for file in self.files:
                self.house.service.models.path(file).unlink(missing_ok=True)

    def _left(self) -> list[tuple[str, str]]:
        """Check endpoints."""
        listed = {name: self.house.service.client.list_endpoints(self.house.ids[name]) for name in EXPERIMENTS}
        return [(name, one.name) for name, each in listed.items() for one in each if is_check_endpoint(one.name)]

    # -- what there is -------------------------------------------------------------------------------------------------

    def _endpoint(self, place: tuple[str, str]) -> Endpoint:
        return self.house.service.client.get_endpoint(self.house.ids[place[0]], place[1])

    def _known(self, file: str) -> Model:
        return next(model for model in self.models if model.file == file)

    def _observed(self, place: tuple[str, str]) -> Model:
        """What is live now, as the service tells it."""
        resource = self._endpoint(place).resource()
        assert resource.digests is not None
        assert resource.digests.file
        return replace(self._known(resource.digests.file), end=resource.window_end)

    @invariant()
    def what_answers_is_what_was_put_live(self) -> None:
        """Description, history and answers of an endpoint tell the model that is meant to be live."""
        for place, model in self.live.items():
            if model != self.checked[place]:
                self._check(place, model)
        self.checked = dict(self.live)

    def _check(self, place: tuple[str, str], model: Model) -> None:
        client = self.turns.choice(self.house.servers).client
        endpoint = client.get_endpoint(self.house.ids[place[0]], place[1])
        digests, end = endpoint.resource().digests, endpoint.resource().window_end
        assert digests is not None
        assert (digests.file, digests.content, end) == (model.file, model.content, model.end)
        entries = client.list_models(endpoint.web_service_id, endpoint.name).models
        assert [entry.is_live for entry in entries] == [True, *[False] * (len(entries) - 1)]
        assert entries[0].digests == digests
        assert entries[0].window_end == end
        # Another server than the one that put it live hears of it a moment later.
        until("the live model answers", lambda: self._answer(client, endpoint) == (model.content, model.slope), 60)

    @staticmethod
    def _answer(client: Client, endpoint: Endpoint) -> tuple[str | None, float]:
        table, content = client.score_by(endpoint, [{"x": 1.0}])
        return content, round(float(table.column("Scored Labels")[0]), 2)

    # -- trainings -----------------------------------------------------------------------------------------------------

    _TRAINING: ClassVar[dict[str, Any]] = {
        "where": st.integers(0, 2), "day": st.integers(0, 3), "name": st.sampled_from(sorted(SLOPES)),
        "own_path": st.booleans(), "same": st.booleans(),
    }  # fmt: skip

    @initialize(target=trained, **_TRAINING)
    def first_training(self, **how: Any) -> Trained:
        """No walk begins with nothing."""
        return self._train(**how)

    @rule(target=trained, **_TRAINING)
    def train(self, **how: Any) -> Trained:
        """A job for an endpoint on the data up to a day."""
        return self._train(**how)

    def _train(self, where: int, day: int, name: str, own_path: bool, same: bool) -> Trained:
        """A job: at a path of its own, or at one that is used again; the file may be byte for byte that of another."""
        house, place = self.house, self.places[where]
        house.clock += timedelta(seconds=0 if same else 1)
        end = DAY + timedelta(days=day)
        manifest, content = house.file(name, place[0], house.clock)
        trainer = house.trainers[place[0]]
        template = "models/own/{endpoint}/model.ilearner" if own_path else MODEL_PATH
        path = model_path(template, trainer.web_service_id, place[1], Window(end))
        house.service.put_blob(path, content)
        digest, told = _sha256(content), content_digest(manifest, house.prepared[name][1])
        model = Model(digest, told, SLOPES[name], end, house.clock, path)
        purpose = Purpose(place[1], house.ids[place[0]], end=end)
        job_id = house.service.client.submit_job(trainer, replace(house.request, purpose=purpose))
        database, reference = house.service.database, BlobReference(path)
        house.ended += timedelta(seconds=1)
        with database.write() as connection:
            values = {"status": JobStatus.FINISHED.value, "start_time": DAY, "end_time": house.ended}
            outputs = {"output1": reference.to_wire(), "output2": BlobReference("data/evaluation.csv").to_wire()}
            which = jobs_table.c.id == job_id
            connection.execute(
                sa.update(jobs_table).where(which).values(**values, results=database.encrypt_json(outputs))
            )
            add_models(connection, [model_row(manifest, digest, len(content), told)])
            add_trained(connection, trained_row(job_id, reference, digest, purpose))
        self.files.add(digest)
        self.models[model] = None
        ticket = {"web_service": EXPERIMENTS[place[0]], "endpoint": "default", "job_id": job_id}
        return Trained({**ticket, "model_output": "output1", "window": Window(end).to_json()}, place, model)

    # -- updates -------------------------------------------------------------------------------------------------------

    def _task(self, attempt: Attempt) -> tuple[Any, Wire]:
        task = attempt.make()
        wire = Wire(self.house, self.turns)
        client = Client(
            "http://service.test:8080", WORKSPACE, TOKEN, transport=wire, retries=NO_RETRIES, sleep=lambda seconds: None
        )
        hook = AzureMLClassicHook("none")
        vars(hook).update(client=client, settings=ConnectionSettings(client.management_url, WORKSPACE, TOKEN))
        vars(task)["hook"] = hook

        def note(name: str) -> None:
            if name == "patch_endpoint":
                attempt.replaced.append(self._observed(attempt.place).file)

        wire.before = note
        return task, wire

    def _update(self, job: Trained, on_failure: str = "keep") -> Attempt:
        def make() -> Any:
            return UpdateTrainedModelOperator(
                task_id="update", web_service=self.house.ids[job.place[0]], endpoint=job.place[1], job=job.ticket,
                proof_timeout=0.02, on_failure=on_failure, emit_asset=False,
            )  # fmt: skip

        return Attempt(job.place, make, job.model)

    def _run(self, attempt: Attempt, task: Any) -> tuple[str, Any]:
        """The outcome of a task, and its receipt or reason."""
        try:
            receipt = task.execute(context(attempt.store))
        except AirflowSkipException as skipped:
            return "skipped", str(skipped)
        except AirflowFailException as failed:
            return "failed", str(failed)
        except AirflowException as failed:
            return "failed", str(failed)
        return "done", receipt

    def _settled(self, attempt: Attempt, before: Model, outcome: str, what: Any) -> Any:
        """Check every claim of an update that nobody disturbed, and what is live after it."""
        place, meant, now = attempt.place, attempt.meant, self._observed(attempt.place)
        if outcome == "done":
            assert now.file == meant.file
            assert now.end == meant.end
            self._check_receipt(attempt, what, meant)
        elif "live already" in what:
            assert (now.file, now.end, before.content) == (meant.file, meant.end, meant.content)
        else:
            assert now == before, what
        if before.end is not None:
            assert now.end is not None
            assert now.end >= before.end, "an update has moved the endpoint backwards"
        self.live[place] = now
        return what if outcome == "done" else None

    def _check_receipt(self, attempt: Attempt, receipt: Any, meant: Model) -> None:
        assert (receipt["model"]["sha256"], receipt["model"]["content"]) == (meant.file, meant.content)
        replaced = receipt["replaced"]["sha256"]
        # What answers the same at the same place is not replaced.
        same = any(self._known(file).content == meant.content for file in attempt.replaced)
        assert replaced in attempt.replaced or (replaced is None and same)
        assert receipt["proof"]["level"] == "content"

    @rule(target=receipts, job=trained)
    def update(self, job: Trained) -> Any:
        """An update that nobody disturbs ends as the order of windows says."""
        before, attempt = self._observed(job.place), self._update(job)
        task, _ = self._task(attempt)
        outcome, what = self._run(attempt, task)
        kept = before.end is not None and (job.model.end, job.model.created) < (before.end, before.created)
        blob = _sha256(self.house.service.read_blob(job.model.location)) == job.model.file
        had = any(
            entry.digests and entry.digests.file == job.model.file
            for entry in self.house.service.client.list_models(self.house.ids[job.place[0]], job.place[1]).models[1:]
        )
        if kept:
            assert (outcome, "keeps its model" in what) == ("skipped", True), what
        elif outcome == "failed":
            assert not blob
            assert not had
            assert "holds another model" in what
        receipt = self._settled(attempt, before, outcome, what)
        return {"place": job.place, "receipt": receipt, "replaced": receipt["replaced"]["sha256"]} if receipt else None

    @rule(target=pending, job=trained, step=st.integers(0, 7), when=st.sampled_from(["before", "after"]))
    def killed_update(self, job: Trained, step: int, when: str) -> Any:
        """A task that is gone before or after one of its calls has put its model live, or has changed nothing."""
        return self._killed(self._update(job), step, when)

    @rule(target=pending, attempt=pending, step=st.integers(0, 7), when=st.sampled_from(["before", "after"]))
    def killed_again(self, attempt: Attempt | None, step: int, when: str) -> Any:
        """Its next attempt is gone as well."""
        return self._killed(attempt, step, when) if attempt else None

    def _killed(self, attempt: Attempt, step: int, when: str) -> Attempt | None:
        before = self._observed(attempt.place)
        task, wire = self._task(attempt)
        note, left = wire.before, [step]

        def gone(name: str) -> None:
            if left[0] == 0:
                raise Killed
            left[0] -= 1

        if when == "after":
            wire.after = gone
        else:
            wire.before = lambda name: (gone(name), note(name))  # type: ignore[func-returns-value, assignment]
        try:
            outcome, what = self._run(attempt, task)
        except Killed:
            now = self._observed(attempt.place)
            assert now in (before, replace(attempt.meant, end=attempt.meant.end)) or now.file == attempt.meant.file
            assert (
                before.end is None
                or now.end is None
                or now.end >= before.end
                or attempt.make().task_type.startswith("Roll")
            )
            self.live[attempt.place] = now
            return attempt
        if attempt.make().task_type.startswith("Roll"):
            self._undone(attempt, before, outcome, what)
        else:
            self._settled(attempt, before, outcome, what)
        return None

    @rule(target=receipts, attempt=pending)
    def repeated(self, attempt: Attempt | None) -> Any:
        """The next attempt of a task that is gone."""
        if attempt is None:
            return None
        before = self._observed(attempt.place)
        task, _ = self._task(attempt)
        outcome, what = self._run(attempt, task)
        if task.task_type.startswith("Roll"):
            return self._undone(attempt, before, outcome, what)
        if outcome == "done" and before.file == attempt.meant.file:
            self._check_receipt(attempt, what, attempt.meant)
            self.live[attempt.place] = self._observed(attempt.place)
            receipt = what
        else:
            receipt = self._settled(attempt, before, outcome, what)
        if not receipt:
            return None
        return {"place": attempt.place, "receipt": receipt, "replaced": receipt["replaced"]["sha256"]}

    @rule(
        job=trained, other=trained, moment=st.sampled_from(["before", "after"]),
        on_failure=st.sampled_from(["keep", "rollback"]),
    )  # fmt: skip
    def overtaken(self, job: Trained, other: Trained, moment: str, on_failure: str) -> None:
        """Somebody else updates the endpoint right before or right after the PATCH of an update."""
        other = replace(other, place=other.place)
        if other.place != job.place:
            return
        before, attempt, between = self._observed(job.place), self._update(job, on_failure), self._update(other)
        task, wire = self._task(attempt)
        note, left = wire.before, [1]
        seen: list[Model] = [before]
        # Somebody else may put the very same model live: that is not told apart from a lost answer to the own PATCH.
        attempt.replaced.append(before.file)

        def interrupt(name: str) -> None:
            if name == "patch_endpoint" and left[0]:
                left[0] = 0
                earlier = self._observed(job.place)
                second, _ = self._task(between)
                outcome, what = self._run(between, second)
                self._settled(between, earlier, outcome, what)
                seen.append(self._observed(job.place))

        if moment == "after":
            wire.after = interrupt
        else:
            wire.before = lambda name: (interrupt(name), note(name))  # type: ignore[func-returns-value, assignment]
        outcome, what = self._run(attempt, task)
        now = self._observed(job.place)
        if outcome == "done":
            # The same bytes of a newer window answer as well, once this update was proved.
            ends = {job.model.end, *([other.model.end] if moment == "after" else [])}
            assert now.file == job.model.file
            assert now.end in (ends if other.model.file == now.file else {job.model.end})
            self._check_receipt(attempt, what, job.model)
        elif "was put back" in what:
            assert now.file == before.file
        elif "live already" in what:
            assert (now.content, now.file) == (job.model.content, job.model.file)
        elif moment == "after" or "keeps its model" in what:
            assert now == seen[-1], what
        if "somebody else put" in what:
            assert outcome == "skipped"
            assert now.end is not None
            assert job.model.end is not None
            assert now.end >= job.model.end
        if before.end is not None:
            assert now.end is not None
            assert now.end >= before.end
        self.live[job.place] = now

    # -- gates -------------------------------------------------------------------------------------------------------

    def _gate(self, job: Trained) -> Attempt:
        self.attempts += 1
        number = self.attempts

        def make() -> Any:
            return ModelQualityGate(
                task_id=f"gate{number}", web_service=self.house.ids[job.place[0]], endpoint=job.place[1],
                job=job.ticket, max_worse={ERROR: "5%"}, check_data=self.house.check_data, label_column="y",
                first_model="compare", check_timeout=0.5, deferrable=False,
            )  # fmt: skip

        return Attempt(job.place, make, job.model)

    def _judged(self, attempt: Attempt, task: Any) -> tuple[str, dict[str, Any]]:
        """How a gate ends, and its figures."""
        ran = context(attempt.store)
        ran["ti"] = ti = TaskInstance(
            max_tries=2, pushed={}, dag_id="walk", run_id=f"{self.house.count}", map_index=-1, task_id=task.task_id
        )
        try:
            return "pass", task.execute(ran)
        except AirflowSkipException:
            return "kept", ti.pushed["return_value"]
        except (AirflowFailException, AirflowException) as failed:
            return str(failed), {}

    def _measured(self, attempt: Attempt, outcome: str, found: dict[str, Any], lives: list[Model]) -> None:
        """A gate has measured its own model, and one that was live while it ran; or it says what kept it from that."""
        if outcome not in ("pass", "kept"):
            overwritten = _sha256(self.house.service.read_blob(attempt.meant.location)) != attempt.meant.file
            self.undecided += 1
            changed = "Nothing was decided" in outcome and len(lives) > 1
            assert changed or overwritten, outcome
            return
        sets = found["sets"]
        if not sets:
            assert any("live already" in note for note in found["notes"]), found
            assert any(live.content == attempt.meant.content for live in lives)
            return
        own, live = (float(sets[0][side][ERROR]) for side in ("candidate", "live"))
        assert own == pytest.approx(self.house.errors[attempt.meant.slope], rel=1e-4)
        assert any(live == pytest.approx(self.house.errors[one.slope], rel=1e-4) for one in lives)
        assert (outcome == "kept") == (own > live * 1.05), found

    @rule(
        job=trained, other=trained, step=st.integers(0, 12), aside=st.booleans(),
        between=st.sampled_from(["gate", "update", "kill"]),
    )  # fmt: skip
    def gates_side_by_side(self, job: Trained, other: Trained, step: int, aside: bool, between: str) -> None:
        """Between any two calls of a gate another gate runs, or the live model changes, or the gate is gone and runs
        again; the service answers for model files, or the gate has to make a check endpoint.
        """
        other = other if other.place == job.place else job
        attempt, left, lives = self._gate(job), [step], [self._observed(job.place)]
        task, wire = self._task(attempt)
        missing = {"score_model"} if aside else set()

        def meanwhile(name: str) -> None:
            left[0] -= 1
            if left[0] != -1:
                return
            if between == "kill":
                raise Killed
            if between == "update":
                self.update(other)
                lives.append(self._observed(job.place))
                return
            second = self._gate(other)
            their, theirs = self._task(second)
            theirs.missing = missing
            self._measured(second, *self._judged(second, their), lives)

        wire.before, wire.missing = meanwhile, missing
        try:
            outcome, found = self._judged(attempt, task)
        except Killed:
            task, wire = self._task(attempt)
            wire.missing = missing
            outcome, found = self._judged(attempt, task)
        self._measured(attempt, outcome, found, lives)
        assert self._observed(job.place) == lives[-1]

    # -- undone --------------------------------------------------------------------------------------------------------

    def _rollback(self, place: tuple[str, str], meant: Model, **options: Any) -> Attempt:
        def make() -> Any:
            return RollbackModelOperator(
                task_id="undo", web_service=self.house.ids[place[0]], endpoint=place[1], proof_timeout=0.02,
                emit_asset=False, **options,
            )  # fmt: skip

        return Attempt(place, make, meant)

    def _undone(self, attempt: Attempt, before: Model, outcome: str, what: Any) -> Any:
        now = self._observed(attempt.place)
        self.live[attempt.place] = now
        if outcome != "done":
            assert now == before, what
            assert outcome == "skipped", what
            assert "keeps its model" in what
            return None
        assert now.file == attempt.meant.file
        assert what["model"]["sha256"] == attempt.meant.file
        return {"place": attempt.place, "receipt": what, "replaced": what["replaced"]["sha256"]}

    @rule(target=receipts, kept=receipts, anyway=st.booleans())
    def roll_back(self, kept: Any, anyway: bool) -> Any:
        """A rollback by a receipt restores the very file that the receipt names, or changes nothing."""
        attempt = self._of_receipt(kept, anyway)
        if attempt is None:
            return None
        before = self._observed(attempt.place)
        task, _ = self._task(attempt)
        return self._undone(attempt, before, *self._run(attempt, task))

    @rule(target=pending, kept=receipts, step=st.integers(0, 7), when=st.sampled_from(["before", "after"]))
    def killed_rollback(self, kept: Any, step: int, when: str) -> Any:
        """A rollback is gone before or after one of its calls."""
        attempt = self._of_receipt(kept, True)
        return self._killed(attempt, step, when) if attempt else None

    def _of_receipt(self, kept: Any, anyway: bool) -> Attempt | None:
        if kept is None or kept["replaced"] is None:
            return None
        meant = self._known(kept["replaced"])
        return self._rollback(kept["place"], meant, receipt=kept["receipt"], only_if_live=not anyway)

    @rule(target=receipts, where=st.integers(0, 2), day=st.integers(0, 3))
    def roll_back_to_a_window(self, where: int, day: int) -> Any:
        """A rollback by window restores the model of that window that was live last, or changes nothing."""
        place, end = self.places[where], DAY + timedelta(days=day)
        entries = self.house.service.client.list_models(self.house.ids[place[0]], place[1]).models
        files = [entry.digests.file for entry in entries if entry.digests and entry.window_end == end]
        before = self._observed(place)
        meant = self._known(str(files[0])) if files else before
        attempt = self._rollback(place, meant, window_end=end.isoformat())
        task, _ = self._task(attempt)
        outcome, what = self._run(attempt, task)
        if not files:
            assert (outcome, "never had a model" in what) == ("failed", True)
            assert self._observed(place) == before
            return None
        return self._undone(attempt, before, outcome, what)

    @rule(where=st.integers(0, 2))
    def refresh(self, where: int) -> None:
        """Back to the model that the service began with."""
        place = self.places[where]
        self.house.service.client.refresh_endpoint(self.house.ids[place[0]], place[1], overwrite_resources=True)
        self.live[place] = self._observed(place)
        assert self.live[place].end is None

    @rule(where=st.integers(0, 2), back=st.integers(0, 4))
    def roll_back_in_the_portal(self, where: int, back: int) -> None:
        """An entry of the history, by its number."""
        place, service = self.places[where], self.house.service
        endpoint = self._endpoint(place)
        entries = Queries(service.database).history(endpoint.api_location.rpartition("/")[2])
        entry = entries[min(back, len(entries) - 1)]
        assert entry.number is not None
        service.updates.roll_back(Caller(), endpoint.web_service_id, place[1], entry.number)
        self.live[place] = self._observed(place)
        assert self.live[place].file == entry.digest


def _steady(patch: pytest.MonkeyPatch) -> None:
    """What a walk needs not: copies of files are not read again to check them, and nothing survives a lack of power."""
    patch.setattr(ModelStore, "check", lambda self, digest: None)
    patch.setattr(os, "fsync", lambda descriptor: None)


@contextmanager
def serving(folder: Path, trained: Path, databases: tuple[str, ...]) -> Iterator[House]:
    """A house on a copy of what is trained, with a server for each database that is named."""
    shutil.copytree(trained, folder / "service")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        _steady(patch)
        services = []
        for database in databases:
            service = Service(folder / "service" / "data", Clock(), patch, database=database, adopt=bool(database))
            stack.callback(service.close)
            service.models._trial = lambda path: None
            services.append(service)
        yield House(services[0], folder, *services[1:])


def walk(house: House, walks: int) -> None:
    """Take walks: in the suite the same ones each time, others where their number is set."""
    Walk.house = house
    many = settings(
        max_examples=walks, phases=[Phase.generate], stateful_step_count=10, deadline=None, database=None,
        suppress_health_check=list(HealthCheck), print_blob=True, derandomize="AZUREML_CLASSIC_WALKS" not in os.environ,
    )  # fmt: skip
    run_state_machine_as_test(Walk, settings=many)


@pytest.mark.slow
def test_walks(trained: Path, tmp_path: Path) -> None:
    """After every step of every walk, all that is claimed is true."""
    with serving(tmp_path, trained, ("",)) as house:
        walk(house, WALKS)


@pytest.mark.slow
def test_walks_with_two_servers(trained: Path, tmp_path: Path, postgres: Cluster) -> None:
    """The same where two servers share a PostgreSQL, and each call goes to either."""
    with serving(tmp_path, trained, (checked_url(postgres.new_database()),) * 2) as house:
        walk(house, SHARED)
