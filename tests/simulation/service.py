"""A model of the service and of its store: what it must do, without files, threads or a database.

Each call is one step: nothing happens between its beginning and its end. What it keeps outlives its restarts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from urllib.parse import unquote, urlsplit

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol import operations as ops
from airflow_provider_azureml_classic.protocol.digests import Digests
from airflow_provider_azureml_classic.protocol.errors import to_response
from airflow_provider_azureml_classic.protocol.jobs import CHECK_ROWS, GOLDEN_ROWS, Job, JobRequest, JobStatus
from airflow_provider_azureml_classic.protocol.messages import Request, Response
from airflow_provider_azureml_classic.protocol.purpose import Purpose
from airflow_provider_azureml_classic.protocol.references import BlobReference, ToldWindow, window_end_of
from airflow_provider_azureml_classic.protocol.tables import INPUTS, Table, write_output, write_results
from airflow_provider_azureml_classic.protocol.values import Endpoint, EndpointSettings, Resource, WebService
from tests.simulation.world import World

BASE, STORE, WORKSPACE = "https://ml.example", "https://blobs.example/", "w"
TRAINING, SCORING = "t" * 32, "s" * 32
RESOURCE, ANSWER = "Model [trained model]", "Scored Labels"
#: Where the model lies that the web service began with.
FIRST = "models/first.ilearner"
SAS = "?sv=1&sig=x"


def digest(text: str) -> str:
    """A SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Model:
    """A model that is live, or was.

    :param trained: when, in seconds.
    :param by: who put it there.
    """

    location: BlobReference
    file: str
    content: str
    end: datetime | None
    trained: float = 0.0
    is_first: bool = False
    since: float = 0.0
    by: str = ""

    @property
    def answer(self) -> str:
        """What it answers to any row."""
        return str(int(self.content[:8], 16))


@dataclass
class LiveEndpoint:
    """An endpoint, with every model that it had."""

    name: str
    history: list[Model]
    version: int = 1

    @property
    def live(self) -> Model:
        """What it names."""
        return self.history[-1]


@dataclass
class Work:
    """A job."""

    id: str
    request: JobRequest
    purpose: Purpose | None
    by: str
    status: JobStatus = JobStatus.NOT_STARTED
    is_started: bool = False
    runs: int = 0
    results: dict[str, BlobReference] = field(default_factory=dict)
    model: Digests | None = None
    effects: int = 0


class Service:
    """The service.

    :param world: its clock and its chance.
    :param tells: whether it has our additions: entity tags, digests, windows.
    :param spread: seconds after which every answer is a new model's, at most.
    """

    def __init__(self, world: World, *, tells: bool = True, spread: float = 0.0) -> None:
        self.world, self.tells, self.spread = world, tells, spread
        self.blobs: dict[str, bytes] = {}
        self.jobs: dict[str, Work] = {}
        self.endpoints: dict[str, LiveEndpoint] = {}
        #: Ends of windows, by digest of the model file: what the submissions said.
        self.ends: dict[str, datetime | None] = {}
        #: When each was trained, likewise.
        self.trained: dict[str, float] = {}
        self.boots = 0
        self.is_down = False
        #: Seconds that a job waits for its turn, and that it takes; its share of failures; how alike trainings may be.
        self.queues, self.durations, self.failures, self.likeness = (0.0, 60.0), (5.0, 600.0), 0.0, 0.0
        #: Told of each job that is started.
        self.on_start: Callable[[Work], None] = lambda _: None
        #: Told of each change of a live model: endpoint, who changed it.
        self.on_patch: Callable[[LiveEndpoint, Model, str], None] = lambda *_: None
        self.add("default")

    # -- what tests ask ------------------------------------------------------------------------------------------------

    def add(self, name: str) -> LiveEndpoint:
        """An endpoint with the service's first model."""
        self.blobs.setdefault(FIRST, json.dumps({"content": digest("first")}).encode())
        first = self._model(BlobReference(FIRST, STORE), "")
        return self.endpoints.setdefault(name, LiveEndpoint(name, [first]))

    def answers(self, endpoint: LiveEndpoint) -> list[Model]:
        """The models that may answer now."""
        recent = [model for model in endpoint.history[1:] if self.world.time() - model.since < self.spread]
        return endpoint.history[-1 - len(recent) :]

    def restart(self) -> None:
        """Running jobs begin anew; what was answered stays."""
        self.boots += 1
        for work in self.jobs.values():
            if work.status is JobStatus.RUNNING:
                work.status = JobStatus.NOT_STARTED
            if work.is_started and not work.status.terminal:
                self._queue(work)

    # -- calls ---------------------------------------------------------------------------------------------------------

    def handle(self, who: str, request: Request) -> Response:
        """Answer a request."""
        parts = urlsplit(request.url)
        path = unquote(parts.path.strip("/"))
        try:
            response = getattr(self, f"_{request.operation.name}")(who, request, path)
        except AzureMLClassicError as error:
            response = to_response(error)
        return replace(response, headers={**response.headers, "content-length": str(len(response.body))})

    def _list_web_services(self, who: str, request: Request, path: str) -> Response:
        return Response.of_json([WebService(TRAINING, "T").to_wire(), WebService(SCORING, "S").to_wire()])

    def _get_web_service(self, who: str, request: Request, path: str) -> Response:
        return Response.of_json(WebService(path.split("/")[3], "S").to_wire())

    def _list_endpoints(self, who: str, request: Request, path: str) -> Response:
        return Response.of_json([self._view(endpoint).to_wire() for endpoint in self.endpoints.values()])

    def _get_endpoint(self, who: str, request: Request, path: str) -> Response:
        if path.split("/")[3] == TRAINING:
            trainer = Endpoint("default", TRAINING, WORKSPACE, api_location=f"{BASE}/api/train", primary_key="k")
            return Response.of_json(trainer.to_wire())
        endpoint = self._endpoint(path)
        tag = {ops.ETAG: f'"{endpoint.version}"'} if self.tells else {}
        return Response.of_json(self._view(endpoint).to_wire(), headers=tag)

    def _add_endpoint(self, who: str, request: Request, path: str) -> Response:
        return Response.of_json(self._view(self.add(path.split("/")[5])).to_wire())

    def _delete_endpoint(self, who: str, request: Request, path: str) -> Response:
        del self.endpoints[self._endpoint(path).name]
        return Response(204)

    def _patch_endpoint(self, who: str, request: Request, path: str) -> Response:
        endpoint = self._endpoint(path)
        expected = request.headers.get(ops.IF_MATCH)
        if self.tells and expected not in (None, f'"{endpoint.version}"'):
            raise rejection("EndpointChanged", "The endpoint has changed.")
        resource = (EndpointSettings.from_wire(json.loads(request.body)).resources or ())[0]
        location = resource.location or BlobReference("")
        model = self._model(BlobReference(location.relative_location, STORE), who)
        meant = request.headers.get(ops.MODEL_FILE)
        if self.tells and meant not in (None, model.file):
            earlier = next((one for one in endpoint.history if one.file == meant), None)
            if earlier is None:
                raise rejection("ModelInvalid", "Another model lies there.")
            model = replace(earlier, location=model.location, since=self.world.time(), by=who)
        before = endpoint.live
        endpoint.history.append(model)
        endpoint.version += 1
        self.world.note("service", f"{endpoint.name} has {_name(model)} now, by {who}")
        self.on_patch(endpoint, before, who)
        return Response.of_json(self._view(endpoint).to_wire())

    def _score(self, who: str, request: Request, path: str) -> Response:
        endpoint = self.endpoints.get(path.split("/")[1])
        if endpoint is None:
            raise rejection("EndpointNotFound", "No such endpoint.")
        model = self.world.random.choice(self.answers(endpoint))
        sent = next(iter(json.loads(request.body)[INPUTS].values()))
        rows = [[model.answer] for _ in sent["Values"]]
        output = write_output(Table((ANSWER,), rows), swagger=False, details=False)
        headers = {ops.MODEL_HEADER: model.content} if self.tells else {}
        return Response.of_json(write_results({"output1": output}), headers=headers)

    # -- jobs ----------------------------------------------------------------------------------------------------------

    def _submit_job(self, who: str, request: Request, path: str) -> Response:
        job = self.world.uuid4().hex
        asked = JobRequest.from_wire(json.loads(request.body))
        self.jobs[job] = Work(job, asked, Purpose.from_headers(request.headers), who)
        return Response.of_json(job)

    def _start_job(self, who: str, request: Request, path: str) -> Response:
        work = self._work(path.split("/")[3])
        if work.status is not JobStatus.NOT_STARTED or work.is_started:
            raise rejection("CannotStartJob", "It was started.")
        work.is_started = True
        self.on_start(work)
        self._queue(work)
        return Response(204)

    def _get_job(self, who: str, request: Request, path: str) -> Response:
        work = self._work(path.split("/")[3])
        results = {name: replace(reference, sas_token=SAS) for name, reference in work.results.items()}
        samples = replace(results["samples"]) if "samples" in results else None
        results.pop("samples", None)
        window = None
        if work.model and self.tells:
            file = work.model.file or ""
            window = ToldWindow(self.ends.get(file), trained_at=_moment(self.trained[file]))
        model = work.model if self.tells else None
        details = "The data is bad." if work.status is JobStatus.FAILED else None
        job = Job(work.id, work.status, results, details, samples=samples, model=model, window=window)
        return Response.of_json(job.to_wire())

    def _cancel_job(self, who: str, request: Request, path: str) -> Response:
        work = self._work(path.split("/")[3])
        if not work.status.terminal:
            self._to(work, JobStatus.CANCELLED)
        return Response(204)

    def _queue(self, work: Work) -> None:
        work.runs += 1
        boot, run, random = self.boots, work.runs, self.world.random

        def go_on(status: JobStatus, call: Callable[[Work], None]) -> Callable[[], None]:
            # A run that a restart has ended, or a person, has no effect.
            return lambda: call(work) if (self.boots, work.status, work.runs) == (boot, status, run) else None

        def begin(work: Work) -> None:
            self._to(work, JobStatus.RUNNING)
            self.world.later(random.uniform(*self.durations), go_on(JobStatus.RUNNING, self._end))

        self.world.later(random.uniform(*self.queues), go_on(JobStatus.NOT_STARTED, begin))

    def _end(self, work: Work) -> None:
        if self.world.chance(self.failures):
            self._to(work, JobStatus.FAILED)
            return
        name, place = next(iter(work.request.outputs.items()))
        path, end = place.relative_location, work.purpose.end if work.purpose else None
        content = digest("alike" if self.world.chance(self.likeness) else f"{path} {work.id}")
        blob = json.dumps({"content": content, "job": work.id}).encode()
        self.blobs[path] = blob
        file = hashlib.sha256(blob).hexdigest()
        self.ends[file], self.trained[file] = end, self.world.time()
        answers = Table((ANSWER,), [[str(int(content[:8], 16))]]).to_wire()
        golden = {"Input": Table(("x",), [[1]]).to_wire(), "Output": answers}
        samples = f"samples/{work.id}.json"
        self.blobs[samples] = json.dumps({GOLDEN_ROWS: golden, CHECK_ROWS: None}).encode()
        work.results = {name: BlobReference(path, STORE), "samples": BlobReference(samples, STORE)}
        work.model = Digests(file, content)
        work.effects += 1
        self._to(work, JobStatus.FINISHED)

    def _to(self, work: Work, status: JobStatus) -> None:
        work.status = status
        self.world.note("service", f"job {work.id[:6]} of {work.by} is {status.value}")

    # -- blobs ---------------------------------------------------------------------------------------------------------

    def _fetch_blob(self, who: str, request: Request, path: str) -> Response:
        return Response(200, self._facts(path), self.blobs[path])

    def _probe_blob(self, who: str, request: Request, path: str) -> Response:
        return Response(200, self._facts(path))

    def _facts(self, path: str) -> dict[str, str]:
        if path not in self.blobs:
            raise rejection("BlobNotFound", "No such blob.")
        sha256 = hashlib.sha256(self.blobs[path]).hexdigest()
        return {ops.ETAG: "1", **({ops.BLOB_SHA256: sha256} if self.tells else {})}

    # ------------------------------------------------------------------------------------------------------------------

    def _model(self, location: BlobReference, who: str) -> Model:
        blob = self.blobs.get(location.relative_location)
        if blob is None:
            raise rejection("BlobNotFound", "No such blob.")
        file = hashlib.sha256(blob).hexdigest()
        end = self.ends.get(file) or window_end_of(location)
        content, is_first = json.loads(blob)["content"], location.relative_location == FIRST
        return Model(location, file, content, end, self.trained.get(file, 0.0), is_first, self.world.time(), who)

    def _view(self, endpoint: LiveEndpoint) -> Endpoint:
        live = endpoint.live
        digests = Digests(live.file, live.content) if self.tells else None
        trained = _moment(live.trained) if live.trained else None
        window = ToldWindow(live.end, live.is_first, trained_at=trained) if self.tells else None
        resources = (Resource(RESOURCE, live.location, digests=digests, window=window),)
        version = str(endpoint.version) if self.tells else "1"
        return Endpoint(
            endpoint.name,
            SCORING,
            WORKSPACE,
            api_location=f"{BASE}/api/{endpoint.name}",
            primary_key="k",
            version=version,
            resources=() if endpoint.name == "default" else resources,
        )

    def _endpoint(self, path: str) -> LiveEndpoint:
        endpoint = self.endpoints.get(path.split("/")[5])
        if endpoint is None:
            raise rejection("EndpointNotFound", "No such endpoint.")
        return endpoint

    def _work(self, job: str) -> Work:
        if job not in self.jobs:
            raise rejection("JobNotFound", "No such job.")
        return self.jobs[job]


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _name(model: Model) -> str:
    end = f" up to {model.end.astimezone(UTC):%d %H:%M}" if model.end else ""
    return f"{model.file[:6]}{end}"
