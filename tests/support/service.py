"""A whole service in this process, and the small experiment that it has."""

from __future__ import annotations

import base64
import json
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.client.retries import NO_RETRIES
from airflow_provider_azureml_classic.protocol.jobs import Job, JobRequest
from airflow_provider_azureml_classic.protocol.messages import Response
from airflow_provider_azureml_classic.protocol.model_scoring import ModelAnswers
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.rehearsal import Rehearsal
from airflow_provider_azureml_classic.protocol.sas import sign
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.server import service as service_module
from airflow_provider_azureml_classic.server.blobs.store import BlobStore
from airflow_provider_azureml_classic.server.experiments import load_experiments
from airflow_provider_azureml_classic.server.experiments.trial import Question, answered, tried
from airflow_provider_azureml_classic.server.jobs.executor import at_hand
from airflow_provider_azureml_classic.server.jobs.retention import Remover
from airflow_provider_azureml_classic.server.jobs.work import JobWork
from airflow_provider_azureml_classic.server.models.pins import Pins
from airflow_provider_azureml_classic.server.models.store import ModelStore
from airflow_provider_azureml_classic.server.models.trials import Trials
from airflow_provider_azureml_classic.server.settings import Retention, Settings
from airflow_provider_azureml_classic.server.state.audit_store import AuditStore
from airflow_provider_azureml_classic.server.state.database import Database
from airflow_provider_azureml_classic.server.state.endpoint_store import Store
from airflow_provider_azureml_classic.server.workspace.audit import Audit
from airflow_provider_azureml_classic.server.workspace.updates import Updates
from airflow_provider_azureml_classic.server.workspace.workspace import Workspace

TOKEN, READ_TOKEN = "workspace-token-of-the-tests", "read-only-token-of-the-tests"


WORKSPACE = "1c2d3e4f5a6b47c8d9e0f1a2b3c4d5e6"


TRAINING, SCORING = "Line", "Line [predictive exp.]"


OTHER_SCORING = "Other Line [predictive exp.]"


RESOURCE = "Line [trained model]"


FIVE_LINES = """\
[[experiment]]
name = "{name}"
estimator = "linear-regressor"
label = "y"
first_data = "line.csv"
"""


def line(slope: float, rows: int = 21) -> str:
    """CSV of ``y = slope * x`` around ``x = 1``, where a model of it answers ``slope`` however it is regularized."""
    return "x,y\n" + "".join(f"{x / 10},{slope * x / 10}\n" for x in range(rows))


def declaration(folder: Path, *names: str) -> Path:
    """A TOML file that declares experiments on the line of slope 2."""
    (folder / "line.csv").write_text(line(2))
    path = folder / "experiments.toml"
    path.write_text("\n".join(FIVE_LINES.format(name=name) for name in names))
    return path


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2016, 3, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        """The time."""
        return self.now

    def advance(self, **units: float) -> None:
        """Move it forward."""
        self.now += timedelta(**units)


class Held:
    """An executor that begins nothing while its gate is closed."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self._ended = False
        self.reached = threading.Event()
        self._threads = ThreadPoolExecutor(1)

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Run it once the gate is open."""
        return self._threads.submit(self._run, function, *args)

    def poll(self, work: Future[Any], seconds: float) -> bool:
        """Whether it has ended."""
        return bool(wait([work], seconds).done)

    def cancel(self, work: Future[Any]) -> bool:
        """Cancel what is not begun."""
        return work.cancel()

    def _run(self, function: Callable[..., Any], /, *args: Any) -> Any:
        self.reached.set()
        assert self.gate.wait(60)
        if self._ended:
            raise BrokenExecutor("the worker process was terminated")
        return function(*at_hand(args))

    def close(self) -> None:
        """End what is held, as worker processes are ended."""
        self._ended = not self.gate.is_set()
        self.gate.set()
        self._threads.shutdown()


class Tried(Trials):
    """Tries models in this process."""

    def __call__(self, path: Path) -> None:
        """Try one."""
        tried(path)

    def ask(self, question: Question) -> ModelAnswers:
        """Ask one."""
        return ModelAnswers.from_wire(self._answered(question))

    def rehearse(self, question: Question) -> Rehearsal:
        """Ask two."""
        return Rehearsal.from_json(self._answered(question))

    @staticmethod
    def _answered(question: Question) -> Any:
        sent = Question.from_json(json.loads(json.dumps(question.to_json())))
        return json.loads(json.dumps(answered(sent).to_wire()))  # type: ignore[union-attr]


class Service:
    """A running service and everything needed to ask it.

    :param data_dir: its data directory.
    :param clock: its clock.
    :param monkeypatch: puts the executor in place of the worker processes.
    :param more: for the server.
    """

    def __init__(self, data_dir: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
        self.clock = clock
        data_dir.mkdir(exist_ok=True)
        self.pool = Held()
        monkeypatch.setattr(service_module, "ProcessExecutor", lambda size: self.pool)
        monkeypatch.setattr(service_module, "Trials", Tried)
        self.settings = Settings(
            data_dir=data_dir,
            public_url="http://service.test:8080",
            workspace_id=WORKSPACE,
            token=TOKEN,
            read_token=READ_TOKEN,
            account_key=base64.b64encode(b"k" * 64).decode(),
            cipher_key=base64.urlsafe_b64encode(b"c" * 32).decode(),
            allowed_hosts=frozenset({"allowed.test"}),
            workers=1,
            database=more.pop("database", ""),
            adopt=more.pop("adopt", False),
            redeclared=more.pop("redeclared", frozenset()),
            retention=more.pop("retention", Retention()),
            storage=more.pop("storage", None),
            storage_accounts=more.pop("storage_accounts", {}),
        )
        self._stack = ExitStack()
        experiments = load_experiments(data_dir.parent / "experiments.toml")
        running = service_module.running(self.settings, experiments, clock=clock, **more)
        self.app, self.http = self._stack.enter_context(running)
        self.blobs = BlobStore(data_dir / "blobs", self.settings.account)
        self.client = Client(self.settings.public_url, WORKSPACE, TOKEN, transport=self.app, retries=NO_RETRIES)
        services = {service.name: service.id for service in self.client.list_web_services()}
        self.training, self.scoring = services[TRAINING], services[SCORING]
        self.other_scoring = services[OTHER_SCORING]

    def close(self) -> None:
        """Stop it."""
        self._stack.close()

    # -- what stands behind the API, for tests that look at it from there ---------------------------------------------

    @property
    def workspace(self) -> Workspace:
        """Web services and endpoints."""
        return self.app._workspace

    @property
    def updates(self) -> Updates:
        """What puts models live."""
        return self.app._updates

    @property
    def work(self) -> JobWork:
        """What does the work of jobs."""
        work: JobWork = self.app._jobs._queue._work  # type: ignore[attr-defined]
        return work

    def remover(self) -> Remover:
        """What removes what is old, as it runs in the background."""
        selection = service_module.selection_of(self.settings, self.database, self.updates._locations, self.clock)
        audit = Audit(self.settings, AuditStore(self.database), self.store, self.clock)
        pins: Pins = self.updates._pinned.__self__  # type: ignore[attr-defined]
        return Remover(selection, self.blobs, pins, audit)

    @property
    def models(self) -> ModelStore:
        """The stored models."""
        return self.updates._models

    @property
    def store(self) -> Store:
        """The stored endpoints."""
        return self.workspace._store

    @property
    def database(self) -> Database:
        """Where they are."""
        return self.store._db

    # -- asking ------------------------------------------------------------------------------------------------------

    def ask(
        self,
        method: str,
        path: str,
        body: Any = b"",
        *,
        key: str | None = TOKEN,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send one request; ``path`` may have a query, and a ``body`` that is not bytes is sent as JSON."""
        path, _, query = path.partition("?")
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {**({} if key is None else {"authorization": f"Bearer {key}"}), **(headers or {})}
        return self.app.answer(method, path, query, sent, content).joined()

    def endpoint_path(self, name: str, service: str | None = None) -> str:
        """Path of an endpoint of the scoring service, or of another one."""
        return f"/workspaces/{WORKSPACE}/webservices/{service or self.scoring}/endpoints/{name}"

    def api_path(self, endpoint: Endpoint, tail: str) -> str:
        """Path and query of a job or scoring call."""
        return f"/workspaces/{WORKSPACE}/services/{endpoint.api_location.rpartition('/')[2]}{tail}?api-version=2.0"

    def patch(self, name: str, location: Any, *, resource: str = RESOURCE, **more: Any) -> Response:
        """PATCH one resource of an endpoint."""
        wire = location.to_wire() if isinstance(location, BlobReference) else location
        body = {"Resources": [{"Name": resource, "Location": wire}]}
        return self.ask("PATCH", self.endpoint_path(name), body, **more)

    def slope(self, endpoint: Endpoint) -> float:
        """What the endpoint's model answers where ``x`` is 1."""
        (answer,) = self.client.score(endpoint, [{"x": 1.0}]).column("Scored Labels")
        return round(float(answer), 2)

    # -- blobs and jobs ----------------------------------------------------------------------------------------------

    def put_blob(self, path: str, content: bytes | str) -> BlobReference:
        """Write a blob of the own store; returns its bare path."""
        container, _, blob = path.partition("/")
        source = self.settings.data_dir / "upload.tmp"
        source.write_bytes(content if isinstance(content, bytes) else content.encode())
        self.blobs.commit_file(container, blob, source)
        return BlobReference(path)

    def read_blob(self, path: str) -> bytes:
        """Content of a blob of the own store."""
        file, _ = self.blobs.open_read(*path.split("/", 1))
        with file:
            return file.read()

    def signed(self, path: str, permissions: str = "r", *, hours: float = 1) -> BlobReference:
        """A reference with a token; a negative life gives an expired one."""
        account = self.settings.account
        start, expiry = self.clock.now - timedelta(days=1), self.clock.now + timedelta(hours=hours)
        token = sign(account, *path.split("/", 1), permissions=permissions, start=start, expiry=expiry)
        return BlobReference(path, account.endpoint, token).normalised()

    def submit(self, endpoint: Endpoint, source: BlobReference, **outputs: BlobReference) -> str:
        """Register and start a job."""
        return self.submit_as(endpoint, "input1", source, **outputs)

    def submit_as(self, endpoint: Endpoint, name: str, source: BlobReference, **outputs: BlobReference) -> str:
        """Register and start a job whose input has this name."""
        job_id = self.client.submit_job(endpoint, JobRequest({name: source}, outputs))
        self.client.start_job(endpoint, job_id)
        return job_id

    def ended(self, endpoint: Endpoint, job_id: str) -> Job:
        """The job once it has ended."""
        poll = threading.Event()
        for _ in range(3000):
            job = self.client.get_job(endpoint, job_id)
            if job.status.terminal:
                return job
            poll.wait(0.02)
        raise AssertionError(f"job {job_id} is still {job.status.value}")


@contextmanager
def copied(trained: Path, folder: Path) -> Iterator[Service]:
    """A service on a copy of the trained one, for tests that change nothing and share it."""
    shutil.copytree(trained, folder / "service")
    with pytest.MonkeyPatch.context() as patch:
        running = Service(folder / "service" / "data", Clock(), patch)
    yield running
    running.close()
