"""Batch jobs: states in any spelling, bodies in either version, ids in any form."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_azureml_classic.exceptions import JobCancelled, JobFailed, ProtocolError, RequestRejected
from airflow_provider_azureml_classic.protocol.digests import Digests
from airflow_provider_azureml_classic.protocol.jobs import TRANSITIONS, Job, JobRequest, JobStatus, read_job_id
from airflow_provider_azureml_classic.protocol.references import BlobReference, ToldWindow

SAMPLES = Path(__file__).parents[1] / "samples"
ID = "7b6a5948372615f0e1d2c3b4a5968778"
BASE = "https://acct.blob.core.windows.net/"
MODEL = BlobReference("models/feb.ilearner", BASE, "?sig=U0VDUkVU")
EVALUATION = BlobReference("eval/feb.csv", BASE, "?sig=U0VDUkVU")
FACTORY = settings(database=None, deadline=None, max_examples=80)

_SPELLINGS = [
    (JobStatus.NOT_STARTED, 0, ["NotStarted", "Not started"]),
    (JobStatus.RUNNING, 1, ["Running"]),
    (JobStatus.FAILED, 2, ["Failed"]),
    (JobStatus.CANCELLED, 3, ["Cancelled", "Canceled"]),
    (JobStatus.FINISHED, 4, ["Finished"]),
]
_references = st.builds(
    BlobReference,
    st.text(st.sampled_from("abc/."), min_size=1, max_size=6).filter(
        lambda path: path.strip("/") and not {".", ".."} & set(path.split("/"))
    ),
    st.sampled_from(["", BASE]),
    st.sampled_from(["", "?sig=x%3D"]),
).map(BlobReference.normalised)
_named = st.dictionaries(st.text(min_size=1, max_size=5), _references, max_size=3)
_times = st.none() | st.datetimes(timezones=st.just(timezone.utc))  # noqa: UP017


def sample(name: str) -> Any:
    """A decoded sample."""
    return json.loads((SAMPLES / f"{name}.json").read_text())


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (spelling, status)
        for status, number, names in _SPELLINGS
        for spelling in (number, str(number), *(form for n in names for form in (n, n.upper(), n.lower(), f" {n} ")))
    ],
)
def test_status_spellings(value: Any, status: JobStatus) -> None:
    """A state is read from its number, its digits and its names in any case, with one or two l in Cancelled."""
    assert JobStatus.from_wire(value) is status


@pytest.mark.parametrize(
    "value", [None, "", "Done", 5, -1, "5", "9" * 5000, True, False, 1.5, [], {}, "²", "Finish ed!", "Failed\n2"]
)
def test_status_unknown(value: Any) -> None:
    """Anything else is an error that shows the raw value, never a guess."""
    with pytest.raises(ProtocolError) as caught:
        JobStatus.from_wire(value)
    assert repr(value) in caught.value.message


@FACTORY
@given(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers(), max_size=2))
def test_status_of_anything(value: Any) -> None:
    """Any JSON value is a known state or a protocol error."""
    try:
        assert JobStatus.from_wire(value) in JobStatus
    except ProtocolError:
        assert str(value).strip().lower() not in {state.value.lower() for state in JobStatus}


@pytest.mark.parametrize(("status", "number", "names"), _SPELLINGS)
def test_status_is_written_by_name(status: JobStatus, number: int, names: list[str]) -> None:
    """The careful form is the name with the enumeration's casing, as old clients compare it."""
    wire = Job(ID, status).to_wire()
    assert wire["StatusCode"] == names[0]
    assert list(JobStatus).index(status) == number
    assert json.loads(json.dumps(wire))["StatusCode"] == names[0]


def test_transitions() -> None:
    """Exactly these moves are allowed; the three ends allow none, and are terminal."""
    assert set(TRANSITIONS) == set(JobStatus)
    moves = {(a.value, b.value) for a, targets in TRANSITIONS.items() for b in targets}
    assert moves == {
        ("NotStarted", "Running"),
        ("NotStarted", "Cancelled"),
        ("NotStarted", "Failed"),
        ("Running", "Finished"),
        ("Running", "Failed"),
        ("Running", "Cancelled"),
        ("Running", "NotStarted"),
    }
    assert {s for s in JobStatus if s.terminal} == {JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.FINISHED}


@pytest.mark.slow
@FACTORY
@given(
    st.builds(
        Job,
        id=st.just(ID),
        status=st.sampled_from(JobStatus),
        results=_named,
        details=st.none() | st.text(max_size=8),
        created_at=_times,
        start_time=_times,
        end_time=_times,
        samples=st.none() | _references,
    )
)
def test_job_round_trip(job: Job) -> None:
    """A job is read back equal through JSON, times included."""
    assert Job.from_wire(ID, json.loads(json.dumps(job.to_wire()))) == job


@pytest.mark.slow
@FACTORY
@given(
    st.builds(JobRequest, _named, _named, st.dictionaries(st.text(max_size=5), st.text() | st.integers(), max_size=3))
)
def test_job_request_round_trip(request: JobRequest) -> None:
    """A submission is read back equal through JSON."""
    assert JobRequest.from_wire(json.loads(json.dumps(request.to_wire()))) == request


def test_a_job_on_the_wire() -> None:
    """Every member under its name; what only we add is left out where there is nothing to say."""
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    samples = BlobReference("eval/rows.csv", BASE)
    times = [noon.replace(minute=minute) for minute in range(3)]
    digests, window, check = Digests("a" * 64), ToldWindow(noon, False), {"status": "satisfied"}
    job = Job(
        ID, JobStatus.FAILED, {"output1": MODEL}, "It broke.", *times, "Fitting.", samples, digests, window, check
    )
    wire = {
        "StatusCode": "Failed",
        "Results": {"output1": MODEL.to_wire()},
        "Details": "It broke.",
        "CreatedAt": "2026-03-01T12:00:00Z",
        "StartTime": "2026-03-01T12:01:00Z",
        "EndTime": "2026-03-01T12:02:00Z",
        "Progress": "Fitting.",
        "Samples": samples.to_wire(),
        "ModelDigests": digests.to_wire(),
        "ModelWindow": window.to_wire(),
        "DataCheck": check,
    }
    assert job.to_wire() == wire
    assert Job.from_wire(ID, wire) == job
    assert list(Job(ID, JobStatus.RUNNING).to_wire()) == list(wire)[:7]


def test_a_submission_on_the_wire() -> None:
    """With its three members, empty ones too."""
    request = JobRequest({"input1": EVALUATION}, {"output1": MODEL}, {"Rounds": 20})
    wire = {
        "Inputs": {"input1": EVALUATION.to_wire()},
        "Outputs": {"output1": MODEL.to_wire()},
        "GlobalParameters": {"Rounds": 20},
    }
    assert request.to_wire() == wire
    assert JobRequest.from_wire(wire) == request
    assert JobRequest().to_wire() == {"Inputs": {}, "Outputs": {}, "GlobalParameters": {}}


def test_only_a_finished_job_raises_nothing() -> None:
    """A failed one raises the reason that it has; one that goes on is left alone."""
    for status in (JobStatus.NOT_STARTED, JobStatus.RUNNING, JobStatus.FINISHED):
        Job(ID, status).raise_unless_finished()
    with pytest.raises(JobFailed, match=f"Batch job {ID} failed: No label column."):
        Job(ID, JobStatus.FAILED, details="No label column.").raise_unless_finished()
    with pytest.raises(JobFailed, match="gave no details"):
        Job(ID, JobStatus.FAILED).raise_unless_finished()
    with pytest.raises(JobCancelled, match="was cancelled"):
        Job(ID, JobStatus.CANCELLED).raise_unless_finished()


def test_job_request_sample() -> None:
    """A documented submission is read: references without a leading slash, parameters as they were sent."""
    request = JobRequest.from_wire(sample("job_request"))
    assert list(request.inputs) == ["input1"]
    assert request.outputs["output1"].relative_location == "models/feb.ilearner"
    assert request.global_parameters == {"URI": "https://acct.blob.core.windows.net/data/feb.csv", "Rounds": 20}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"Inputs": None, "Outputs": None, "GlobalParameters": None},
        {"Inputs": {}, "Outputs": {}, "GlobalParameters": {}},
        {"Input": None, "AzureBatchPoolId": "pool"},
    ],
)
def test_empty_job_request(body: dict[str, Any]) -> None:
    """Absent, null and empty members mean the same: a service without inputs takes them all."""
    assert JobRequest.from_wire(body) == JobRequest()


def test_single_input_form() -> None:
    """The single-input form is the input without a name, beside an empty ``Inputs``."""
    request = JobRequest.from_wire({"Input": {"RelativeLocation": "/data/feb.csv"}, "Inputs": {}})
    assert request.inputs == {"": BlobReference("data/feb.csv")}


@pytest.mark.parametrize(
    ("body", "code", "named", "target"),
    [
        (None, "RequestBodyInvalid", "JSON object", None),
        ("text", "RequestBodyInvalid", "JSON object", None),
        ({"GolbalParameters": {}}, "UnexpectedParameter", "The job .* 'GolbalParameters'", "GolbalParameters"),
        (
            {"Outputs": {"output1": {"ConnetionString": "x", "RelativeLocation": "a.ilearner"}}},
            "UnexpectedParameter",
            "'ConnetionString'",
            "ConnetionString",
        ),
        (
            {"Input": {"RelativeLocation": "a"}, "Inputs": {"i": {}}},
            "DuplicateInputInBatchCall",
            "both Input and Inputs",
            None,
        ),
        ({"Inputs": [1]}, "RequestBodyInvalid", "Inputs must be an object", "Inputs"),
        ({"Outputs": [1]}, "RequestBodyInvalid", "Outputs must be an object", "Outputs"),
        ({"GlobalParameters": "x"}, "RequestBodyInvalid", "GlobalParameters must be an object", "GlobalParameters"),
        ({"Inputs": {"input1": None}}, "MissingInputBlobInformation", r"Inputs\['input1'\]", None),
        ({"Input": "a.csv"}, "MissingInputBlobInformation", "Input must", None),
        ({"Inputs": {"": {"RelativeLocation": "data/a.csv"}}}, "InvalidInputNames", "without a name", "Inputs"),
        ({"Outputs": {"output1": {}}}, "MissingOutputOverrideSpecification", r"Outputs\['output1'\]", "output1"),
        ({"Outputs": {"output1": None}}, "MissingOutputOverrideSpecification", r"Outputs\['output1'\]", "output1"),
        (
            {"Outputs": {"output1": {"BaseLocation": "https://a.example"}}},
            "InputBlobRelativeLocationInvalid",
            r"Outputs\['output1'\]",
            None,
        ),
    ],
)
def test_bad_job_request(body: Any, code: str, named: str, target: str | None) -> None:
    """A submission that cannot be meant is refused with its code, and the member at fault is named."""
    with pytest.raises(RequestRejected, match=named) as caught:
        JobRequest.from_wire(body)
    assert (caught.value.detail_code, caught.value.details[0].target) == (code, target)


@pytest.mark.parametrize("name", ["job_finished", "job_finished_v1"])
def test_finished_samples(name: str) -> None:
    """Version 1 members (``Status Code``, ``Result``, numbers) read like those of version 2."""
    job = Job.from_wire(ID, sample(name))
    assert job.status is JobStatus.FINISHED
    assert job.results["output1"].url.startswith("https://acct.blob.core.windows.net/models/feb.ilearner?sv=")
    assert (job.details, job.created_at) == (None, None)


def test_failed_sample() -> None:
    """A failed job has its reason and no results."""
    job = Job.from_wire(ID, sample("job_failed"))
    assert (job.status, job.results) == (JobStatus.FAILED, {})
    assert job.details
    assert "label column" in job.details


def test_results_are_null_until_finished() -> None:
    """``Results`` is null, not an empty object, as long as there are none."""
    assert Job(ID, JobStatus.RUNNING).to_wire()["Results"] is None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "is not an object"),
        ([], "is not an object"),
        ("Finished", "is not an object"),
        ({}, "status None"),
        ({"StatusCode": None}, "status None"),
        ({"StatusCode": "Finished", "Results": [1]}, "The job's state cannot be read: Results must be an object"),
        ({"StatusCode": "Finished", "Results": {"output1": None}}, "must be an object with a RelativeLocation"),
        ({"StatusCode": "Finished", "Results": {"output1": {"BaseLocation": BASE}}}, "RelativeLocation"),
        ({"StatusCode": "Finished", "DataCheck": "satisfied"}, "DataCheck must be an object"),
        ({"StatusCode": "Finished", "Samples": "rows.csv"}, "must be an object with a RelativeLocation"),
    ],
)
def test_broken_job(data: Any, words: str) -> None:
    """An answer that is no job is a protocol error, which a task may retry, and not a rejected request."""
    with pytest.raises(ProtocolError, match=words):
        Job.from_wire(ID, data)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2016-01-29T13:27:14.153Z", datetime(2016, 1, 29, 13, 27, 14, 153000, timezone.utc)),  # noqa: UP017
        ("2016-01-29T13:27:14.1531234Z", datetime(2016, 1, 29, 13, 27, 14, 153123, timezone.utc)),  # noqa: UP017
        ("2016-01-29T13:27:14+02:00", datetime(2016, 1, 29, 11, 27, 14, tzinfo=timezone.utc)),  # noqa: UP017
        ("2016-01-29T13:27:14", datetime(2016, 1, 29, 13, 27, 14, tzinfo=timezone.utc)),  # noqa: UP017
        ("yesterday", None),
        (5, None),
        (None, None),
    ],
)
def test_times(text: Any, moment: datetime | None) -> None:
    """Times are read with .NET's seven digits, and are UTC afterwards; what is no time is none, because no source names
    these members.
    """
    time = Job.from_wire(ID, {"StatusCode": 1, "StartTime": text}).start_time
    assert time == moment
    assert time is None or time.tzinfo is UTC


def test_secrets_of_a_job() -> None:
    """The tokens of all results are told to who masks them, and no ``repr`` shows one."""
    job = Job(ID, JobStatus.FINISHED, {"output1": MODEL, "output2": EVALUATION})
    assert job.secrets == ("sig=U0VDUkVU", "sig=U0VDUkVU")
    assert "U0VDUkVU" not in repr(job)
    request = JobRequest(
        {"input1": BlobReference("a.csv", connection_string="AccountKey=U0VDUkVU")}, {"output1": MODEL}
    )
    assert "U0VDUkVU" not in repr(request)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"name": "output2"}, "output2"),
        ({"extension": ".ilearner"}, "output1"),
        ({"extension": ".csv"}, "output2"),
        ({"name": "output1", "extension": ".csv"}, "output1"),
    ],
)
def test_output(arguments: dict[str, str], name: str) -> None:
    """An output is found by its name, or as the only one with an extension; the name decides."""
    job = Job(ID, JobStatus.FINISHED, {"output1": MODEL, "output2": EVALUATION})
    assert job.output(**arguments) == (name, job.results[name])


def test_output_the_only_one() -> None:
    """Without a name or extension the only output is meant."""
    assert Job(ID, JobStatus.FINISHED, {"model": MODEL}).output() == ("model", MODEL)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "no single output to choose"),
        ({"name": "Output1"}, "no single output named 'Output1'"),
        ({"name": ""}, "no single output named ''"),
        ({"extension": ".arff"}, r"no single output ending in \.arff"),
    ],
)
def test_output_not_found(arguments: dict[str, str], said: str) -> None:
    """None or several: the outputs are listed with their places and without their tokens."""
    with pytest.raises(RequestRejected, match=said) as caught:
        Job(ID, JobStatus.FINISHED, {"output1": MODEL, "output2": EVALUATION}).output(**arguments)
    assert f"output1 ({BASE}models/feb.ilearner), output2 ({BASE}eval/feb.csv)" in str(caught.value)
    assert "U0VDUkVU" not in str(caught.value)


def test_output_of_a_job_without_any() -> None:
    """A job without outputs says so."""
    with pytest.raises(RequestRejected, match="it has: none"):
        Job(ID, JobStatus.FINISHED).output("output1")


@pytest.mark.parametrize(
    "body",
    [
        f'"{ID}"',
        f' "{ID}" \r\n',
        f'\ufeff"{ID}"',
        ID,
        f"{ID}\n",
        f'{{"id": "{ID}"}}',
        f'{{"Id": "{ID}", "other": 1}}',
        f'{{"JobId": "{ID}"}}',
    ],
)
def test_job_id(body: str) -> None:
    """An id is read from a JSON string, from bare text and from an object, with blanks or a byte order mark."""
    assert read_job_id(body.encode()) == ID


@pytest.mark.parametrize("text", ["12345678901234567890123456789012", "12345678e12345678901234567890123"])
def test_job_id_that_looks_like_a_number(text: str) -> None:
    """An unquoted id of hex digits may read as a JSON number; it stays the text that it is."""
    assert read_job_id(text.encode()) == text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  ",
        b'""',
        b"null",
        b"true",
        b"[]",
        b"{}",
        b'{"id": null}',
        b'{"id": 5}',
        b"<html>",
        b"{broken",
        b"busy now",
        b'{"error": {"code": "x"}}',
        b"\xff\xfe",
    ],
)
def test_job_id_missing(body: bytes) -> None:
    """A body without an id is a protocol error, not an id made of whatever was there."""
    with pytest.raises(ProtocolError, match="no job id"):
        read_job_id(body)
