"""Batch jobs over the API: the states, what may be read and written, and what a bad file is told."""

from __future__ import annotations

import csv
import io
import json
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_azureml_classic.exceptions import NotFound, RequestRejected, rejection
from airflow_provider_azureml_classic.protocol.jobs import JobRequest, JobStatus
from airflow_provider_azureml_classic.protocol.purpose import HEADER, Purpose
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.sas import expiry_of
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.server.experiments.ilearner import content_digest, read_ilearner
from airflow_provider_azureml_classic.server.jobs import work
from airflow_provider_azureml_classic.server.state.job_store import JobStore
from airflow_provider_azureml_classic.server.state.peers import Peers
from airflow_provider_azureml_classic.server.storage.locations import OwnLocation
from airflow_provider_azureml_classic.server.storage.scope import WHOLE_STORE
from tests.support.processes import until
from tests.support.service import Service, line


@pytest.fixture
def data(service: Service) -> BlobReference:
    """Training data of slope 5."""
    return service.put_blob("data/five.csv", line(5))


def refused(service: Service, endpoint: Endpoint, body: Any) -> tuple[str, str]:
    """Code and message of a refused submission."""
    response = service.ask("POST", service.api_path(endpoint, "/jobs"), body, key=endpoint.primary_key)
    assert response.status == 400, response.body
    error = json.loads(response.body)["error"]
    return error["details"][0]["code"], error["message"]


# -- the states ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_job_waits_until_it_is_started_and_is_started_once(
    service: Service, trainer: Endpoint, data: BlobReference
) -> None:
    """NotStarted, Running, Finished; results only at the end; a second start names the state."""
    client = service.client
    job_id = client.submit_job(trainer, JobRequest({"input1": data}))
    assert client.get_job(trainer, job_id).status is JobStatus.NOT_STARTED
    service.pool.gate.clear()
    service.pool.reached.clear()
    client.start_job(trainer, job_id)
    assert service.pool.reached.wait(20)
    running = client.get_job(trainer, job_id)
    assert (running.status, running.results, running.start_time) == (JobStatus.RUNNING, {}, service.clock.now)
    for _ in range(2):
        with pytest.raises(RequestRejected, match="because it is in Running state") as error:
            client.start_job(trainer, job_id)
        assert error.value.detail_code == "CannotStartJob"
    service.pool.gate.set()
    job = service.ended(trainer, job_id)
    assert (job.status, sorted(job.results)) == (JobStatus.FINISHED, ["output1", "output2"])
    with pytest.raises(RequestRejected, match="because it is in Finished state"):
        client.start_job(trainer, job_id)


def test_what_a_job_is_for_is_kept_with_it(service: Service, trainer: Endpoint, data: BlobReference) -> None:
    """It travels beside the body, which is that of the cloud's clients; a header that cannot be read is refused."""
    purpose = Purpose("mine", None, datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))
    request = JobRequest({"input1": data}, purpose=purpose)
    assert set(request.to_wire()) == {"Inputs", "Outputs", "GlobalParameters"}
    kept = service.app._jobs.facts(service.client.submit_job(trainer, request)).request
    assert (kept.purpose, kept.inputs) == (purpose, {"input1": data})
    plain = service.client.submit_job(trainer, JobRequest({"input1": data}))
    assert service.app._jobs.facts(plain).request.purpose is None
    answer = service.ask(
        "POST", service.api_path(trainer, "/jobs"), {}, key=trainer.primary_key, headers={HEADER: "soon"}
    )
    assert (answer.status, HEADER in answer.body.decode()) == (400, True)


def test_the_state_of_a_job_on_the_wire(service: Service, trainer: Endpoint, data: BlobReference) -> None:
    """Null results until finished; then base with a slash, path without, token with a question mark."""
    client = service.client
    job_id = client.submit_job(trainer, JobRequest({"input1": data}))
    path = service.api_path(trainer, f"/jobs/{job_id}")
    state = json.loads(service.ask("GET", path, key=trainer.primary_key).body)
    assert (state["StatusCode"], state["Results"], state["Details"]) == ("NotStarted", None, None)
    client.start_job(trainer, job_id)
    service.ended(trainer, job_id)
    state = json.loads(service.ask("GET", path, key=trainer.secondary_key).body)
    model = state["Results"]["output1"]
    assert list(model) == ["ConnectionString", "RelativeLocation", "BaseLocation", "SasBlobToken"]
    assert model["ConnectionString"] is None
    assert model["BaseLocation"] == "http://service.test:8080/mlclassic/"
    assert model["RelativeLocation"] == f"experimentoutput/{job_id}/{job_id}-output1.ilearner"
    assert model["SasBlobToken"].startswith("?")


@pytest.mark.slow
def test_the_samples_of_a_model_are_named_beside_the_results(
    service: Service, trainer: Endpoint, data: BlobReference
) -> None:
    """As a file that its token opens, and that the server finds by what the model answers with."""
    job = service.ended(trainer, service.submit(trainer, data))
    samples, results = job.samples, job.results
    assert samples is not None
    assert samples.relative_location == f"experimentoutput/{job.id}/{job.id}-samples.json"
    assert "sig=" in samples.sas_token
    assert service.work._locations.resolve(WHOLE_STORE, BlobReference(samples.relative_location)).guarded
    rows = json.loads(service.read_blob(samples.relative_location))
    assert len(rows["Golden Rows"]["Input"]["Values"]) == 5
    assert len(rows["Check Rows"]["Labels"]) == 5
    (row,) = csv.DictReader(io.StringIO(service.read_blob(results["output2"].relative_location).decode()))
    assert all(float(cell) >= 0 for cell in row.values())
    content = content_digest(*read_ilearner(service.read_blob(results["output1"].relative_location)))
    assert service.store.samples_of(content) == samples.relative_location
    assert service.store.samples_of("0" * 64) is None
    again = service.ended(trainer, service.submit(trainer, data)).samples
    assert again is not None
    assert service.store.samples_of(content) == again.relative_location != samples.relative_location


def test_first_models_have_samples_too(service: Service) -> None:
    """The model that a web service starts with was trained as any other."""
    (digest,) = {row.digest for row in service.store.endpoints_of(service.scoring, 1)[0].resources}
    path = service.store.samples_of(content_digest(*read_ilearner(service.models.file(digest))))
    assert path is not None
    assert json.loads(service.read_blob(path))["Golden Rows"]["Spread"]


@pytest.mark.slow
@pytest.mark.parametrize("columns", [False, True])
def test_samples_are_columns_of_the_evaluation_if_that_is_wanted(
    service: Service, trainer: Endpoint, data: BlobReference, monkeypatch: pytest.MonkeyPatch, columns: bool
) -> None:
    """For providers of the first version; beside them the file is named, too."""
    monkeypatch.setattr(service.work, "_columns", columns)
    job = service.ended(trainer, service.submit(trainer, data))
    (row,) = csv.DictReader(io.StringIO(service.read_blob(job.results["output2"].relative_location).decode()))
    assert ("Golden Rows" in row, "Check Rows" in row, "Window End" in row) == (columns,) * 3
    assert job.samples is not None


@pytest.mark.slow
def test_each_answer_has_a_fresh_token(service: Service, trainer: Endpoint, data: BlobReference) -> None:
    """A job that ended days ago is asked again, and its model can be put in place."""
    scorer = service.client.add_endpoint(service.scoring, "mine")
    job_id = service.submit(trainer, data)
    first = service.ended(trainer, job_id).results["output1"]
    service.clock.advance(days=3)
    assert json.loads(service.patch("mine", first).body)["error"]["details"][0]["code"] == "ExpiryTimeInThePast"
    second = service.client.get_job(trainer, job_id).results["output1"]
    assert expiry_of(second.sas_token) > service.clock.now
    assert service.patch("mine", second).status == 200
    assert service.slope(scorer) == 5


def test_a_waiting_job_can_be_cancelled(service: Service, trainer: Endpoint, data: BlobReference) -> None:
    """It never runs, and cannot be started any more."""
    client = service.client
    job_id = client.submit_job(trainer, JobRequest({"input1": data}))
    client.cancel_job(trainer, job_id)
    assert client.get_job(trainer, job_id).status is JobStatus.CANCELLED
    with pytest.raises(RequestRejected, match="because it is in Cancelled state"):
        client.start_job(trainer, job_id)
    client.cancel_job(trainer, job_id)


@pytest.mark.slow
def test_a_running_job_that_is_cancelled_delivers_nothing(
    service: Service, trainer: Endpoint, data: BlobReference
) -> None:
    """It is Cancelled at once and stays so when its training ends; the next job runs."""
    client = service.client
    service.pool.gate.clear()
    job_id = service.submit(trainer, data, output1=BlobReference("models/cancelled.ilearner"))
    waiting = service.submit(trainer, data)
    also_cancelled = service.submit(trainer, data)
    assert service.pool.reached.wait(20)
    assert client.get_job(trainer, waiting).status is JobStatus.NOT_STARTED
    for number in (job_id, also_cancelled):
        client.cancel_job(trainer, number)
        assert client.get_job(trainer, number).status is JobStatus.CANCELLED
    service.pool.gate.set()
    assert service.ended(trainer, waiting).status is JobStatus.FINISHED
    for number in (job_id, also_cancelled):
        job = client.get_job(trainer, number)
        assert (job.status, job.results) == (JobStatus.CANCELLED, {})
    with pytest.raises(Exception, match="cancelled"):
        service.read_blob("models/cancelled.ilearner")


@pytest.mark.slow
def test_a_job_that_is_cancelled_while_it_delivers_delivers_nothing(
    service: Service, trainer: Endpoint, data: BlobReference, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has delivered by then is taken back, and its log says so; the rest is not delivered."""
    client, deliver = service.client, OwnLocation.deliver
    names = ["models/half.ilearner", "models/half.csv"]
    job_id = client.submit_job(
        trainer, JobRequest({"input1": data}, dict(zip(("output1", "output2"), map(BlobReference, names), strict=True)))
    )
    delivered: list[str] = []

    def cancelled_meanwhile(self: OwnLocation, source: Path) -> None:
        deliver(self, source)
        delivered.append(self.reference.relative_location)
        if delivered[-1] == names[0]:
            client.cancel_job(trainer, job_id)

    monkeypatch.setattr(OwnLocation, "deliver", cancelled_meanwhile)
    client.start_job(trainer, job_id)
    until("it is taken back", lambda: "Removed models/half.ilearner" in str(client.job_log(trainer, job_id)))
    assert names[0] in delivered
    assert names[1] not in delivered
    assert client.get_job(trainer, job_id).status is JobStatus.CANCELLED
    for name in names:
        with pytest.raises(RequestRejected, match="There is no blob"):
            service.read_blob(name)


@pytest.mark.slow
def test_a_job_that_is_cancelled_before_its_end_is_recorded_leaves_nothing(
    service: Service, trainer: Endpoint, data: BlobReference, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is delivered, and nobody asks again whether the job is wanted: it is taken back when it cannot end."""
    client, end = service.client, JobStore.end
    job_id = client.submit_job(
        trainer, JobRequest({"input1": data}, {"output1": BlobReference("models/late.ilearner")})
    )

    def cancelled_before(self: JobStore, *arguments: Any) -> bool:
        assert service.read_blob("models/late.ilearner")
        client.cancel_job(trainer, job_id)
        return end(self, *arguments)

    monkeypatch.setattr(JobStore, "end", cancelled_before)
    client.start_job(trainer, job_id)
    until("it is taken back", lambda: "Removed models/late.ilearner" in str(client.job_log(trainer, job_id)))
    assert client.get_job(trainer, job_id).status is JobStatus.CANCELLED
    with pytest.raises(RequestRejected, match="There is no blob"):
        service.read_blob("models/late.ilearner")


@pytest.mark.slow
def test_what_may_be_taken_for_dead_delivers_nothing(
    service: Service, trainer: Endpoint, data: BlobReference, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another server may be about to do the job, so its outputs wait until that cannot be."""
    asked, held = threading.Event(), [False]

    def is_held(self: Peers) -> bool:
        asked.set()
        return held[0]

    monkeypatch.setattr(Peers, "held", property(is_held))
    job_id = service.submit(trainer, data, output1=BlobReference("models/held.ilearner"))
    assert asked.wait(60)
    with pytest.raises(RequestRejected, match="There is no blob"):
        service.read_blob("models/held.ilearner")
    held[0] = True
    assert service.ended(trainer, job_id).status is JobStatus.FINISHED
    assert service.read_blob("models/held.ilearner")


@pytest.mark.slow
def test_a_store_that_is_away_for_a_while_costs_no_training(
    service: Service, trainer: Endpoint, data: BlobReference, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An output is written again until its store answers, and the job's log says so."""
    client, deliver, away = service.client, OwnLocation.deliver, [2]

    def flaky(self: OwnLocation, source: Path) -> None:
        if self.reference.relative_location == "models/late.ilearner" and away[0]:
            away[0] -= 1
            raise rejection("NoMoreResources", "The store does not answer.")
        deliver(self, source)

    monkeypatch.setattr(OwnLocation, "deliver", flaky)
    monkeypatch.setattr(OwnLocation, "patience", 600.0)
    monkeypatch.setattr(work, "POLL_SECONDS", 0.01)
    request = JobRequest({"input1": data}, {"output1": BlobReference("models/late.ilearner")})
    job_id = client.submit_job(trainer, request)
    client.start_job(trainer, job_id)
    service.ended(trainer, job_id)
    assert client.get_job(trainer, job_id).status is JobStatus.FINISHED
    lines = [line.text for line in client.job_log(trainer, job_id)]
    assert lines.count("The store does not answer. It is tried again.") == 2


@pytest.mark.slow
def test_deleting_a_finished_job_leaves_it_finished(service: Service, trainer: Endpoint, data: BlobReference) -> None:
    """Old clients delete every job they ran, and may still look at it."""
    job_id = service.submit(trainer, data)
    service.ended(trainer, job_id)
    path = service.api_path(trainer, f"/jobs/{job_id}")
    for _ in range(2):
        response = service.ask("DELETE", path, key=trainer.primary_key)
        assert (response.status, response.body) == (200, b"")
    assert service.client.get_job(trainer, job_id).status is JobStatus.FINISHED


@pytest.mark.parametrize("verb", ["get_job", "start_job", "cancel_job"])
def test_a_job_belongs_to_its_endpoint(service: Service, trainer: Endpoint, data: BlobReference, verb: str) -> None:
    """Another endpoint of the same service does not see it, and nobody sees one that is not there."""
    other = service.client.add_endpoint(service.training, "other")
    job_id = service.client.submit_job(trainer, JobRequest({"input1": data}))
    for endpoint, wanted in ((other, job_id), (trainer, "0" * 32), (trainer, "%00")):
        with pytest.raises(NotFound) as error:
            getattr(service.client, verb)(endpoint, wanted)
        assert error.value.detail_code == "JobNotFound"


# -- what is read and written ----------------------------------------------------------------------------------------

GOOD = {"RelativeLocation": "data/five.csv"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ({}, "BatchJobInputsNotSpecified", ("input1",)),
        ({"Input": None, "Inputs": None}, "BatchJobInputsNotSpecified", ()),
        ({"Inputs": {}}, "BatchJobInputsNotSpecified", ()),
        ({"Input": GOOD, "Inputs": {"input1": GOOD}}, "DuplicateInputInBatchCall", ("Input", "Inputs")),
        ({"Inputs": {"Input1": GOOD}}, "InvalidInputNames", ("'Input1'", "input1")),
        ({"Inputs": {"input1": GOOD, "input2": GOOD}}, "InvalidInputNames", ("'input2'",)),
        (
            {"Input": GOOD, "Outputs": {"Output1": {"RelativeLocation": "m/x.ilearner"}}},
            "InvalidOutputOverrideName",
            ("'Output1'", "output1, output2", "case-sensitive"),
        ),
        ({"Input": {"RelativeLocation": "data/five.xlsx"}}, "InvalidBlobExtension", (".csv", "five.xlsx")),
        ({"Input": {"RelativeLocation": "data/five"}}, "InvalidBlobExtension", (".csv or .tsv or .arff",)),
        ({"Input": {"RelativeLocation": "data/five.ilearner"}}, "InvalidBlobExtension", (".csv or .tsv or .arff",)),
        (
            {"Input": GOOD, "Outputs": {"output1": {"RelativeLocation": "models/x.csv"}}},
            "InvalidBlobExtension",
            (".ilearner",),
        ),
        (
            {"Input": GOOD, "Outputs": {"output2": {"RelativeLocation": "models/x.ilearner"}}},
            "InvalidBlobExtension",
            (".csv",),
        ),
        ({"Input": GOOD, "GlobalParameters": {"URI": "x"}}, "UnexpectedParameter", ("'URI'",)),
        ({"Input": GOOD, "GolbalParameters": {}}, "UnexpectedParameter", ("'GolbalParameters'", "GlobalParameters")),
        (
            {"Input": {"ConnetionString": "x", "RelativeLocation": "data/five.csv"}},
            "UnexpectedParameter",
            ("'ConnetionString'", "ConnectionString"),
        ),
        ({"Input": {}, "Inputs": {"input1": {}}}, "InputBlobRelativeLocationInvalid", ()),
        ({"Inputs": [GOOD]}, "RequestBodyInvalid", ("Inputs",)),
        ([], "RequestBodyInvalid", ("object",)),
        ("x", "RequestBodyInvalid", ()),
        (
            {"Input": GOOD, "Outputs": {"output1": {"RelativeLocation": "M/x.ilearner"}}},
            "ContainerSegmentInvalid",
            ("'M'",),
        ),
        (
            {"Input": GOOD, "Outputs": {"output1": {"RelativeLocation": "models/../x.ilearner"}}},
            "InputBlobRelativeLocationInvalid",
            ("'.' or '..'",),
        ),
        ({"Input": {"RelativeLocation": "five.csv"}}, "InputBlobRelativeLocationInvalid", ("container/path",)),
        (
            {"Input": {"BaseLocation": "http://[", "RelativeLocation": "data/five.csv"}},
            "InvalidBlob",
            ("BaseLocation",),
        ),
        (
            {"Input": {"BaseLocation": "http://169.254.169.254/", "RelativeLocation": "latest/meta.csv"}},
            "LocationNotAllowed",
            ("169.254.169.254",),
        ),
    ],
)
def test_a_submission_is_refused_by_the_member_at_fault(
    service: Service, trainer: Endpoint, data: BlobReference, body: Any, code: str, words: tuple[str, ...]
) -> None:
    """Nothing is accepted and ignored: a mistyped member would silently read or write elsewhere."""
    found, message = refused(service, trainer, body)
    assert found == code, message
    assert all(word in message for word in words), message


@pytest.mark.parametrize("form", ["Input", "Inputs"])
def test_both_forms_of_the_input_run(service: Service, trainer: Endpoint, data: BlobReference, form: str) -> None:
    """The single-input form, and the one by name with null members beside it."""
    body: dict[str, Any] = {"GlobalParameters": None, "Outputs": {}}
    body[form] = GOOD if form == "Input" else {"input1": {**GOOD, "BaseLocation": None, "ConnectionString": None}}
    response = service.ask("POST", service.api_path(trainer, "/jobs"), body, key=trainer.primary_key)
    job_id = json.loads(response.body)
    service.client.start_job(trainer, job_id)
    assert service.ended(trainer, job_id).status is JobStatus.FINISHED


def override(service: Service, kind: str, path: str, permissions: str) -> BlobReference:
    """A place in the own store in one of the ways to write it."""
    if kind == "path":
        return BlobReference(path)
    if kind == "sas":
        return service.signed(path, permissions)
    text = service.settings.account.connection_string
    if kind == "account":
        text = text.partition(";BlobEndpoint")[0]
    return BlobReference(f"/{path}", connection_string=text)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["path", "sas", "connection", "account"])
def test_outputs_go_where_they_are_wanted(service: Service, trainer: Endpoint, data: BlobReference, kind: str) -> None:
    """By path, by a token that allows writing, by connection string with and without the store's address.

    The answer always has a token for reading, never what the client wrote with.
    """
    scorer = service.client.add_endpoint(service.scoring, "mine")
    job_id = service.submit(
        trainer,
        override(service, kind, "data/five.csv", "r"),
        output1=override(service, kind, "models/five.ilearner", "cw"),
        output2=override(service, kind, "models/five.csv", "w"),
    )
    job = service.ended(trainer, job_id)
    assert job.details is None
    assert [place.relative_location for place in job.results.values()] == ["models/five.ilearner", "models/five.csv"]
    assert all("sp=r&" in f"{place.sas_token}&" for place in job.results.values())
    (row,) = csv.DictReader(io.StringIO(service.read_blob("models/five.csv").decode()))
    assert row["Rows"] == "21"
    assert service.patch("mine", job.results["output1"]).status == 200
    assert service.slope(scorer) == 5


def test_what_a_job_needs_is_checked_when_it_is_submitted(
    service: Service, trainer: Endpoint, data: BlobReference, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token that expires while the job waits does not matter; nor does another address after a restart."""
    source = service.signed("data/five.csv", hours=1)
    target = service.signed("models/late.ilearner", "cw", hours=1)
    job_id = service.client.submit_job(trainer, JobRequest({"input1": source}, {"output1": target}))
    service.clock.advance(hours=2)
    service.client.start_job(trainer, job_id)
    job = service.ended(trainer, job_id)
    assert (job.status, job.details) == (JobStatus.FINISHED, None)


@pytest.mark.parametrize(
    ("member", "reference", "code"),
    [
        ("Outputs", lambda s: s.signed("models/x.ilearner", "r"), "InvalidBlob"),
        ("Outputs", lambda s: s.signed("models/x.ilearner", "cw", hours=-1), "ExpiryTimeInThePast"),
        ("Outputs", lambda s: s.signed("models/y.ilearner", "cw"), "InvalidBlob"),
        ("Inputs", lambda s: s.signed("data/five.csv", "cw"), "InvalidBlob"),
        ("Inputs", lambda s: s.signed("data/five.csv", hours=-1), "ExpiryTimeInThePast"),
    ],
    ids=["cannot write", "expired", "for another blob", "cannot read", "input expired"],
)
def test_a_token_must_allow_what_is_done_with_it(
    service: Service, trainer: Endpoint, data: BlobReference, member: str, reference: Any, code: str
) -> None:
    """Refused at submission, before anything is trained."""
    wire = reference(service).to_wire()
    if "/y." in wire["RelativeLocation"]:
        wire["RelativeLocation"] = "models/x.ilearner"
    body = {"Inputs": {"input1": GOOD}, member: {"input1" if member == "Inputs" else "output1": wire}}
    assert refused(service, trainer, body)[0] == code


def test_a_wrong_account_key_is_refused(service: Service, trainer: Endpoint, data: BlobReference) -> None:
    """Neither by the store's address nor by its account name; the key is not repeated."""
    right = service.settings.account.connection_string
    wrong = right.replace(f"AccountKey={service.settings.account_key}", "AccountKey=d3Jvbmc=")
    by_address = {"Input": {"ConnectionString": wrong, "RelativeLocation": "data/five.csv"}}
    code, message = refused(service, trainer, by_address)
    assert (code, "d3Jvbmc" in message) == ("InvalidBlob", False)
    by_name = {"Input": {**by_address["Input"], "ConnectionString": wrong.partition(";BlobEndpoint")[0]}}
    assert refused(service, trainer, by_name)[0] == "LocationNotAllowed"


# -- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("1,2\n2,4\n3,6\n", ("header row", "expected the columns x, y")),
        ("x,z\n1,2\n2,4\n", ("'y'", "its columns are")),
        ("", ("empty",)),
        ("x,y\n", ("no data rows",)),
        ("y\n1\n2\n", ("'x'",)),
        ("x,y\n1,2\nabc,4\n3,6\n", ("'x'", "'abc'", "row 2")),
        ("x,y\n1,2\n2,high\n3,6\n", ("'y'", "'high'", "row 2")),
        ('{"error": "sign in"}', ("header",)),
    ],
    ids=["no header", "no label", "empty", "no rows", "no column", "text", "text label", "json"],
)
def test_a_bad_file_fails_the_job_with_what_is_wrong_in_it(
    service: Service, trainer: Endpoint, content: str, words: tuple[str, ...]
) -> None:
    """``Details`` name the column and the row, and what was expected."""
    job = service.ended(trainer, service.submit(trainer, service.put_blob("data/bad.csv", content)))
    assert (job.status, job.results) == (JobStatus.FAILED, {})
    assert job.details
    assert all(word in job.details for word in words), job.details


def test_a_file_that_is_not_there_fails_the_job(service: Service, trainer: Endpoint) -> None:
    """The name of the file is told; the next job runs."""
    job = service.ended(trainer, service.submit(trainer, BlobReference("data/absent.csv")))
    assert (job.status, "absent.csv" in (job.details or "")) == (JobStatus.FAILED, True)


def test_an_error_of_the_servers_own_ends_the_job(
    service: Service, trainer: Endpoint, data: BlobReference, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever happens, a job that was started ends."""

    def broken(*args: Any, **more: Any) -> None:
        raise RuntimeError("disk on fire")

    monkeypatch.setattr(service.pool, "submit", broken)
    job = service.ended(trainer, service.submit(trainer, data))
    assert (job.status, job.details) == (JobStatus.FAILED, "Internal error: RuntimeError: disk on fire")


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(2, "No such file or directory", "/srv/data/models/x.ilearner"),
        RuntimeError("cannot open '/srv/data/models/x.ilearner' now"),
    ],
)
def test_the_details_show_no_path_of_the_server(
    service: Service, trainer: Endpoint, data: BlobReference, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """What the server has where is in its own log only."""

    def broken(*args: Any, **more: Any) -> None:
        raise error

    monkeypatch.setattr(service.pool, "submit", broken)
    job = service.ended(trainer, service.submit(trainer, data))
    assert job.status is JobStatus.FAILED
    assert "Internal error" in (job.details or "")
    assert "/srv" not in (job.details or "")


def test_a_scoring_service_scores_files(service: Service, scorer: Endpoint) -> None:
    """CSV in, scored CSV out, with the model of the endpoint that was called."""
    service.patch("mine", BlobReference("models/ten.ilearner"))
    source = service.put_blob("data/rows.csv", "x\n1\n1.0\n")
    job = service.ended(scorer, service.submit(scorer, source, output1=BlobReference("scored/rows.csv")))
    assert (job.details, list(job.results)) == (None, ["output1"])
    rows = list(csv.DictReader(io.StringIO(service.read_blob("scored/rows.csv").decode())))
    assert [round(float(row["Scored Labels"]), 2) for row in rows] == [10, 10]


def test_files_to_score_are_in_the_declared_encoding(
    service: Service, scorer: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As files to train on are; what is read in another way has no column of the model."""
    experiments = service.work._catalogue.experiments
    monkeypatch.setitem(experiments, "Line", replace(experiments["Line"], encoding="cp037"))
    source = service.put_blob("data/rows.csv", "x\n1\n2\n".encode("cp037"))
    job = service.ended(scorer, service.submit(scorer, source, output1=BlobReference("scored/rows.csv")))
    assert (job.details, service.read_blob("scored/rows.csv").count(b"\n")) == (None, 3)


@pytest.mark.slow
def test_a_job_of_a_deleted_endpoint_ends_quietly(service: Service, data: BlobReference, caplog: Any) -> None:
    """Its endpoint is deleted while it runs: nobody can ask for it, and the next job runs."""
    endpoint = service.client.add_endpoint(service.training, "gone")
    service.pool.gate.clear()
    service.submit(endpoint, data)
    assert service.pool.reached.wait(20)
    service.client.delete_endpoint(service.training, "gone")
    service.pool.gate.set()
    trainer = service.client.get_endpoint(service.training, "default")
    assert service.ended(trainer, service.submit(trainer, data)).status is JobStatus.FINISHED
    assert not [record for record in caplog.records if record.exc_info]


# -- a stop in the middle --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_jobs_that_a_stop_interrupts_run_at_the_next_start(
    service_dir: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One was running, one was waiting for room, one was not started: the first two run, the last one waits on."""
    first = Service(service_dir, clock, monkeypatch)
    trainer = first.client.get_endpoint(first.training, "default")
    data = first.put_blob("data/five.csv", line(5))
    first.pool.gate.clear()
    running, queued = first.submit(trainer, data), first.submit(trainer, data)
    registered = first.client.submit_job(trainer, JobRequest({"input1": data}))
    assert first.pool.reached.wait(20)
    first.close()
    second = Service(service_dir, clock, monkeypatch)
    states = [second.ended(trainer, job_id).status for job_id in (running, queued)]
    assert states == [JobStatus.FINISHED] * 2
    assert second.client.get_job(trainer, registered).status is JobStatus.NOT_STARTED
    second.close()
