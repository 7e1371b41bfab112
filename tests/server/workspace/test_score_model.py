"""Rows are scored with a model that is on no endpoint, and nothing of what is served changes."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.client.retries import NO_RETRIES
from airflow_provider_azureml_classic.exceptions import AccessDenied, RequestRejected, ServiceUnavailable
from airflow_provider_azureml_classic.protocol.digests import Digests
from airflow_provider_azureml_classic.protocol.jobs import CHECK_ROWS
from airflow_provider_azureml_classic.protocol.messages import Request, Response
from airflow_provider_azureml_classic.protocol.model_scoring import MOST_ROWS, ModelCall
from airflow_provider_azureml_classic.protocol.operations import SCORE_MODEL
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.server.experiments import Experiment, train
from airflow_provider_azureml_classic.server.experiments.trial import Question, answered
from airflow_provider_azureml_classic.server.models import trials
from airflow_provider_azureml_classic.server.models.trials import Trials
from tests.support.service import TOKEN, WORKSPACE, Service

#: Where the models of the lines answer their slope.
ROWS = Table(("x",), [[1.0]])


def numbers(table: Table) -> list[float]:
    """The answers of a regressor."""
    return [round(float(cell), 2) for cell in table.column("Scored Labels")]


def test_a_model_answers_that_is_not_live(service: Service, scorer: Endpoint) -> None:
    """By its location, without loading it among those that serve; the endpoint is as before."""
    before, loaded = service.client.get_endpoint(service.scoring, "mine"), service.models.loaded
    files = service.models.digests()
    told = service.client.score_model(scorer, ModelCall(BlobReference("models/ten.ilearner"), None, ROWS))
    assert numbers(told.answers) == [10]
    assert told.held_out is None
    assert service.client.get_endpoint(service.scoring, "mine") == before
    assert (service.models.loaded, service.models.digests()) == (loaded, files)
    service.patch("mine", service.signed("models/ten.ilearner"))
    assert service.client.get_endpoint(service.scoring, "mine").resource().digests == told.model


def test_a_model_that_the_endpoint_has_had_answers_by_its_digest(service: Service, scorer: Endpoint) -> None:
    """Also when it is live no more; one that another endpoint has is not known by it."""
    live = scorer.resource().digests
    assert live is not None
    service.client.add_endpoint(service.scoring, "other")
    service.patch("other", service.signed("models/ten.ilearner"))
    ten = service.client.get_endpoint(service.scoring, "other").resource().digests
    service.patch("mine", service.signed("models/three.ilearner"))
    assert numbers(service.client.score_model(scorer, ModelCall(None, live.file, ROWS)).answers) == [2]
    with pytest.raises(RequestRejected, match="that endpoint 'mine' has had"):
        service.client.score_model(scorer, ModelCall(None, ten and ten.file, ROWS))


def test_another_file_than_the_one_that_is_meant_is_refused(service: Service, scorer: Endpoint) -> None:
    """What lies at the place by now is not what was trained."""
    with pytest.raises(RequestRejected, match=r"ten.ilearner' holds another model than the one that is meant"):
        service.client.score_model(scorer, ModelCall(BlobReference("models/ten.ilearner"), "0" * 64, ROWS))


def test_rows_held_out_of_the_live_models_training(service: Service, scorer: Endpoint) -> None:
    """They stay on the server; labels, and the answers of the model that did not see them, come back."""
    told = service.client.score_model(scorer, ModelCall(BlobReference("models/three.ilearner"), None))
    held = told.held_out
    assert held is not None
    assert len(held.labels) == 5
    # Three halves of each, about: the line has another slope.
    assert numbers(told.answers) == pytest.approx([1.5 * label for label in held.labels], abs=0.2)
    assert numbers(held.live) == pytest.approx(held.labels, abs=0.2)
    assert held.model == scorer.resource().digests
    assert (held.left_out, held.unlike, list(held.asked)) == (None, 0, [0, 1, 2, 3, 4])


@pytest.mark.parametrize("content", [b"", b'{"check', b"[]", b'{"CheckRows": {"Labels": 1}}', b"[" * 100_000])
def test_damaged_samples_are_no_fault_of_the_model(service: Service, scorer: Endpoint, content: bytes) -> None:
    """Whoever asks is told what is damaged, and that it is the server's."""
    for path in (service.settings.data_dir / "blobs").rglob("*-samples.json"):
        path.write_bytes(content.replace(b"CheckRows", CHECK_ROWS.encode()))
    with pytest.raises(ServiceUnavailable, match="held-out rows of the live model cannot be read"):
        service.client.score_model(scorer, ModelCall(BlobReference("models/three.ilearner"), None))


def test_a_live_model_without_samples(service: Service, scorer: Endpoint) -> None:
    """One that was trained elsewhere has none here: nothing is told, and nothing goes wrong."""
    service.patch("mine", service.signed("models/ten.ilearner"))
    told = service.client.score_model(scorer, ModelCall(BlobReference("models/three.ilearner"), None))
    assert (told.held_out, list(told.answers.values)) == (None, [])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"Rows": ROWS.to_wire()}, "names no model"),
        ({"Location": {"RelativeLocation": "models/ten.ilearner"}}, "either Rows, a table, or HeldOut: true"),
        (
            {"Location": {"RelativeLocation": "models/ten.ilearner"}, "Rows": ROWS.to_wire(), "HeldOut": True},
            "either Rows",
        ),
        ({"Location": {"RelativeLocation": "models/ten.csv"}, "HeldOut": True}, "does not end in .ilearner"),
        (
            {"Location": {"RelativeLocation": "models/other.ilearner"}, "HeldOut": True},
            "of the experiment 'Other Line'",
        ),
        ({"Location": {"RelativeLocation": "models/ten.ilearner"}, "Rows": [{"z": 1}]}, "no column 'x'"),
        ({"Location": {"RelativeLocation": "models/ten.ilearner"}, "Rows": [{"x": 1}] * (MOST_ROWS + 1)}, "too many"),
        ({"Location": {"RelativeLocation": "models/ten.ilearner"}, "Model": "ten", "HeldOut": True}, "'Model'"),
    ],
)
def test_what_is_refused(service: Service, scorer: Endpoint, body: dict[str, Any], words: str) -> None:
    """A sentence says what is wrong with the call."""
    answer = service.ask("POST", service.endpoint_path("mine") + "/scoremodel", body)
    assert answer.status == 400
    assert words in json.loads(answer.body)["error"]["message"]


def test_a_model_of_somebody_elses_job_needs_its_token(service: Service, scorer: Endpoint) -> None:
    """An endpoint key opens what it could put in place, and no more."""
    service.put_blob("experimentoutput/job/job-output1.ilearner", service.read_blob("models/ten.ilearner"))
    place = BlobReference("experimentoutput/job/job-output1.ilearner")
    own = Client(service.settings.public_url, WORKSPACE, scorer.primary_key, transport=service.app, retries=NO_RETRIES)
    with pytest.raises(AccessDenied, match="an endpoint key alone does not open it"):
        own.score_model(scorer, ModelCall(place, None, ROWS))
    assert numbers(own.score_model(scorer, ModelCall(service.signed(place.location), None, ROWS)).answers) == [10]
    assert TOKEN not in own.__repr__()


def test_a_service_without_the_call(service: Service, scorer: Endpoint) -> None:
    """An earlier server, and the cloud service, have nothing at that address: the error says so."""

    def absent(request: Request) -> Response:
        assert request.operation is SCORE_MODEL
        return service.app.answer("POST", "/nothing/here", "", request.headers, b"")

    older = Client(service.settings.public_url, WORKSPACE, TOKEN, transport=absent, retries=NO_RETRIES)
    with pytest.raises(RequestRejected) as caught:
        older.score_model(scorer, ModelCall(BlobReference("models/ten.ilearner"), None, ROWS))
    assert caught.value.detail_code == "OperationNotSupported"


def _dated(folder: Path, name: str, start: date, beyond: int = 0) -> Question:
    """A model of thirty days of a line, which begins there, and its samples."""
    declared = Experiment(
        name="T", estimator="linear-regressor", label="y", first_data="x.csv", directory=folder, time_column="day"
    )
    rows = [f"{start + timedelta(days=n)},{n + beyond},{2 * n}" for n in range(30)]
    (folder / f"{name}.csv").write_text("\n".join(["day,x,y", *rows, ""]))
    files = [folder / f"{name}{end}" for end in (".csv", ".ilearner", "-e.csv", "-s.json")]
    train(declared, None, *files[:3], None, files[3])
    return Question(files[1], "T", None, files[3])


@pytest.mark.parametrize(("later", "left_out"), [(0, 6), (60, 0)])
def test_rows_in_the_new_models_window_are_left_out(tmp_path: Path, later: int, left_out: int) -> None:
    """And counted: a model that was trained on a row knows its label."""
    start = date(2026, 1, 1)
    earlier = _dated(tmp_path, "earlier", start)
    new = _dated(tmp_path, "new", start + timedelta(days=later))
    told = answered(Question(new.model, "T", None, earlier.samples))
    assert told is not None
    assert told.held_out is not None
    assert told.held_out.left_out == left_out
    assert len(told.held_out.labels) == 6
    assert len(told.held_out.asked) == len(told.answers.values) == 6 - left_out


def test_rows_that_are_unlike_the_new_models_are_left_out(tmp_path: Path) -> None:
    """And counted: of values beyond those of its training it never claimed to know anything."""
    earlier = _dated(tmp_path, "earlier", date(2026, 1, 1))
    new = _dated(tmp_path, "new", date(2026, 3, 1), beyond=20)
    told = answered(Question(new.model, "T", None, earlier.samples))
    assert told is not None
    assert told.held_out is not None
    assert 0 < len(told.held_out.asked) < 6
    assert told.held_out.unlike == 6 - len(told.held_out.asked)
    assert all(told.held_out.labels[row] >= 40 for row in told.held_out.asked)


def test_more_than_a_server_can_do_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks beyond that is told at once, and no thread waits."""
    monkeypatch.setattr(trials, "MOST_QUESTIONS", 0)
    with pytest.raises(ServiceUnavailable, match="Try again"):
        Trials(1).ask(Question(Path("none"), "T"))


def test_digests_of_a_call() -> None:
    """What is written is what is read."""
    call = ModelCall(BlobReference("models/a.ilearner"), "ab" * 32, ROWS)
    read = ModelCall.from_wire(call.to_wire())
    assert (read.location, read.file) == (call.location, call.file)
    assert ModelCall.from_wire({"ModelDigests": Digests("ab" * 32).to_wire(), "HeldOut": True}).rows is None
