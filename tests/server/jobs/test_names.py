"""Inputs and outputs under the names and in the order that an experiment declares; clients and provider follow."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.client.retries import NO_RETRIES
from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.hooks import AzureMLClassicHook
from airflow_provider_azureml_classic.operators import (
    BatchExecutionOperator,
    BatchScoringOperator,
    RetrainFleetOperator,
    ScoreOperator,
    UpdateTrainedModelOperator,
)
from airflow_provider_azureml_classic.protocol.jobs import JobRequest
from airflow_provider_azureml_classic.protocol.messages import Request, Response
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.swagger import Names
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.server.experiments import load_experiments
from airflow_provider_azureml_classic.server.settings import ACCOUNT
from tests.support.service import FIVE_LINES, SCORING, TRAINING, Clock, Service, line
from tests.support.tasks import context

NAMES = """\
inputs = { rows = "train" }
outputs = { output2 = "model", Output1 = "evaluation" }
scoring_input = "lol"
scoring_output = "result_user"
"""


@pytest.fixture
def service(service_dir: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """The service as it is set up, declared with other names since."""
    texts = [FIVE_LINES.format(name=name) + NAMES * (name == TRAINING) for name in (TRAINING, "Other Line")]
    (service_dir.parent / "experiments.toml").write_text("\n".join(texts))
    running = Service(service_dir, clock, monkeypatch)
    yield running
    running.close()


@pytest.fixture
def data(service: Service) -> BlobReference:
    """Training data of slope 5."""
    return service.put_blob("data/five.csv", line(5))


def body_of(service: Service, endpoint: Endpoint, name: str, query: str = "") -> tuple[int, Any]:
    """Status and decoded answer of a scoring call with one row."""
    path = service.api_path(endpoint, "/execute") + query
    answer = service.ask("POST", path, {"Inputs": {name: [{"x": 1}]}}, key=endpoint.primary_key)
    return answer.status, json.loads(answer.body)


def test_jobs_have_the_declared_names(service: Service, trainer: Endpoint, data: BlobReference) -> None:
    """In the declared order; any other name is refused, and the extension goes by what the output is."""
    for outputs, code in (
        ({"output1": BlobReference("models/x.ilearner")}, "InvalidOutputOverrideName"),
        ({"Output1": BlobReference("models/x.ilearner")}, "InvalidBlobExtension"),
        ({"output2": BlobReference("models/x.csv")}, "InvalidBlobExtension"),
    ):
        with pytest.raises(RequestRejected) as refusal:
            service.client.submit_job(trainer, JobRequest({"rows": data}, outputs))
        assert refusal.value.detail_code == code
    with pytest.raises(RequestRejected, match="the inputs are: rows"):
        service.client.submit_job(trainer, JobRequest({"input1": data}))
    outputs = {"output2": BlobReference("models/x.ilearner")}
    job_id = service.client.submit_job(trainer, JobRequest({"rows": data}, outputs))
    service.client.start_job(trainer, job_id)
    job = service.ended(trainer, job_id)
    assert list(job.results) == ["output2", "Output1"]
    assert job.results["Output1"].relative_location == f"experimentoutput/{job_id}/{job_id}-Output1.csv"
    assert job.output(extension=".ilearner")[0] == "output2"
    assert service.read_blob("models/x.ilearner").startswith(b"PK")
    assert service.read_blob(job.results["Output1"].relative_location).startswith(b"Mean Absolute Error,")


def test_scoring_has_the_declared_names(service: Service, scorer: Endpoint) -> None:
    """At once, in both forms, and as a batch; the portal's and the help pages' calls are the same."""
    status, answer = body_of(service, scorer, "lol")
    assert (status, list(answer["Results"])) == (200, ["result_user"])
    assert list(body_of(service, scorer, "lol", "&format=swagger")[1]["Results"]) == ["result_user"]
    status, answer = body_of(service, scorer, "input1")
    assert (status, answer["error"]["details"][0]["code"]) == (400, "InvalidInputNames")
    assert "the inputs are: lol" in answer["error"]["details"][0]["message"]
    job = service.ended(scorer, service.submit_as(scorer, "lol", service.put_blob("data/one.csv", "x\n1\n")))
    assert list(job.results) == ["result_user"]
    other = service.client.get_endpoint(service.other_scoring, "default")
    assert list(body_of(service, other, "input1")[1]["Results"]) == ["output1"]


def test_tensors_do_not_know_the_declared_names(service: Service, scorer: Endpoint) -> None:
    """In the Open Inference Protocol columns have names, and inputs and outputs of the service have none."""
    path = f"/v2/models/{quote(SCORING)}~{scorer.name}/infer"
    body = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1.0]}]}
    answer = service.ask("POST", path, body, key=scorer.primary_key)
    assert (answer.status, json.loads(answer.body)["outputs"][0]["name"]) == (200, "Scored Labels")


def test_pages_and_documents_have_the_declared_names(service: Service, trainer: Endpoint, scorer: Endpoint) -> None:
    """No page shows a usual name that the service does not have, and the documents say which names are meant."""
    types = {"x": "number", "Scored Labels": "number"}
    for endpoint, first in ((trainer, Names("rows", "output2")), (scorer, Names("lol", "result_user", types))):
        document = json.loads(service.ask("GET", service.api_path(endpoint, "/swagger.json"), key=None).body)
        assert Names.of(document) == first
        assert service.client.names(endpoint) == first
        texts = [json.dumps(document)]
        path = endpoint.help_location.removeprefix(service.settings.public_url)
        texts += [
            service.ask("GET", f"{path}{page}", key=None).body.decode() for page in ("/score", "/jobs", "/update")
        ]
        assert first.input is not None
        assert all(word not in text for text in texts for word in ("input1", "output1"))
        assert first.input in texts[0]
    assert list(document["definitions"]["ExecutionOutputs"]["properties"]) == ["result_user"]


@pytest.mark.parametrize(
    ("document", "names"),
    [
        ({"definitions": {"ExecutionInputs": {"properties": {"lol": {}}}}}, Names("lol")),
        ({"definitions": {"ExecutionOutputs": {"properties": {"a": {}, "b": {}}}}}, Names()),
        ({"definitions": {"BatchInputs": {"x-first": 7}, "ExecutionInputs": []}}, Names()),
        ({"definitions": []}, Names()),
        ([], Names()),
    ],
)
def test_documents_of_other_services(document: Any, names: Names) -> None:
    """What a document says of names without our member, or does not."""
    assert Names.of(document) == names


def test_the_client_finds_the_name_of_the_input_once(service: Service, scorer: Endpoint) -> None:
    """A call with the usual name is refused, the document read, and from then on the right name sent; a name that was
    given is not replaced.
    """
    sent: list[str] = []

    def watch(request: Request) -> Response:
        sent.append(request.url.partition("?")[0].rpartition("/")[2])
        return service.app(request)

    client = Client(service.settings.public_url, service.settings.workspace_id, transport=watch, retries=NO_RETRIES)
    for _ in range(2):
        assert client.score(scorer, [{"x": 1}]).column("Scored Labels")
    assert sent == ["execute", "swagger.json", "execute", "execute"]
    with pytest.raises(RequestRejected, match="There is no input 'input1'"):
        client.score(scorer, [{"x": 1}], input_name="input1")


@pytest.fixture
def connected(service: Service, monkeypatch: pytest.MonkeyPatch) -> Service:
    """Airflow's connection leads to the service."""
    settings = service.settings
    connection = {"conn_type": "azureml_classic", "host": settings.public_url, "login": settings.workspace_id}
    connection["password"] = settings.token
    monkeypatch.setenv("AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT", json.dumps(connection))

    def send(request: Request) -> Response:
        path = urlsplit(request.url).path
        if path.startswith(f"/{ACCOUNT}/"):
            return Response(200, {}, service.read_blob(path.removeprefix(f"/{ACCOUNT}/")))
        return service.app(request)

    client = Client(settings.public_url, settings.workspace_id, settings.token, transport=send, retries=NO_RETRIES)
    monkeypatch.setattr(AzureMLClassicHook, "client", client)
    return service


@pytest.mark.slow
def test_the_provider_follows_the_declared_names(connected: Service, data: BlobReference, scorer: Endpoint) -> None:
    """Nobody tells the operators a name: the model goes where it belongs, is put live and proved, and the endpoint
    scores, at once and as a batch.
    """
    path = data.relative_location
    train = BatchExecutionOperator(
        task_id="t", web_service=TRAINING, inputs={"rows": path}, model_for="mine", poll_interval=0.05
    )
    job = train.execute(context())
    assert job["model_output"] == "output2"
    assert re.search(r"/models/\w+/mine/20260301T000000Z-\w+\.ilearner$", job["outputs"]["output2"])
    update = UpdateTrainedModelOperator(task_id="u", web_service=SCORING, endpoint="mine", job=job)
    assert update.execute(context())["proof"]["level"] == "content"
    (answer,) = ScoreOperator(task_id="s", web_service=SCORING, endpoint="mine", rows=[{"x": 1.0}]).execute(context())
    assert round(float(answer["Scored Labels"])) == 5
    batch = BatchScoringOperator(
        task_id="b",
        web_service=SCORING,
        endpoint="mine",
        source=connected.put_blob("data/one.csv", "x\n1\n").relative_location,
        destination="scored/one.csv",
        poll_interval=0.05,
    )
    assert batch.execute(context())["location"].endswith("scored/one.csv")
    fleet = RetrainFleetOperator(task_id="f", training_service=TRAINING, scoring_service=SCORING, items=[])
    assert fleet._port_names() == ("rows", "output2")


def test_a_model_that_the_task_places_itself_is_the_model(connected: Service, data: BlobReference) -> None:
    """An output that ends in .ilearner is the model, whatever it is called: no other place is added."""
    outputs = {"output2": "models/own.ilearner"}
    train = BatchExecutionOperator(
        task_id="t",
        web_service=TRAINING,
        inputs={"rows": data.relative_location},
        outputs=outputs,
        model_for="mine",
        poll_interval=0.05,
    )
    job = train.execute(context())
    assert (job["model_output"], job["outputs"]["output2"].endswith("models/own.ilearner")) == ("output2", True)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('outputs = { a = "evaluation" }', '"model" (one)'),
        ('outputs = { a = "model", b = "model" }', '"model" (one)'),
        ('outputs = { a = "model", b = ["evaluation"] }', '"model" (one)'),
        ('outputs = { "a b" = "model" }', "a table of names"),
        ('outputs = ["model"]', "a table of names"),
        ('scoring_input = "a/b"', "at most 64 letters"),
        ("scoring_output = 7", "at most 64 letters"),
    ],
)
def test_names_that_cannot_be(tmp_path: Path, line: str, words: str) -> None:
    """They are parts of paths and of documents; one output is the model, and one may be the evaluation."""
    (tmp_path / "line.csv").write_text("x,y\n1,2\n")
    (tmp_path / "e.toml").write_text(FIVE_LINES.format(name="Line") + line)
    with pytest.raises(ValueError, match="is wrong") as caught:
        load_experiments(tmp_path / "e.toml")
    assert words in str(caught.value)


@pytest.mark.slow
def test_an_evaluation_may_be_left_out(service_dir: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service with a model alone writes nothing else, but for the samples."""
    texts = [FIVE_LINES.format(name=name) for name in (TRAINING, "Other Line")]
    texts[0] += 'outputs = { result_user = "model" }\n'
    (service_dir.parent / "experiments.toml").write_text("\n".join(texts))
    service = Service(service_dir, clock, monkeypatch)
    trainer = service.client.get_endpoint(service.training, "default")
    job = service.ended(trainer, service.submit(trainer, service.put_blob("data/five.csv", line(5))))
    service.close()
    assert (list(job.results), job.samples is not None) == (["result_user"], True)
