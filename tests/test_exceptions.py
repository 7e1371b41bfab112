"""The error tree: complete, told apart by status, the same on both sides of the wire, and free of secrets."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

from airflow_provider_azureml_classic import exceptions
from airflow_provider_azureml_classic.exceptions import (
    CODES,
    HINTS,
    OURS,
    PUBLISHED,
    AccessDenied,
    AzureMLClassicError,
    Detail,
    JobCancelled,
    JobFailed,
    NotFound,
    ProtocolError,
    RequestRejected,
    ServiceUnavailable,
    UpdateNotProved,
    WaitTimeout,
    cause,
    error_class,
    rejection,
    without_query,
)
from airflow_provider_azureml_classic.protocol import operations as ops
from airflow_provider_azureml_classic.protocol.errors import from_response, to_response
from airflow_provider_azureml_classic.protocol.jobs import Job, JobStatus
from airflow_provider_azureml_classic.protocol.messages import Request

URL = "https://management.example/workspaces/w1/webservices/s1"
ASKED = Request(ops.GET_SERVICE, f"{URL}?sv=2015&sig=SECRET")

ANSWERABLE = [
    RequestRejected("The name is wrong.", code="BadArgument", details=[Detail("BadParameterValue", "m")], status=400),
    RequestRejected("No such method.", code="MethodNotAllowed", details=[Detail("MethodNotAllowed", "m")], status=405),
    RequestRejected("It changed.", code="PreconditionFailed", details=[Detail("EndpointChanged", "m")], status=412),
    AccessDenied(
        "The key is wrong.", code="Unauthorized", details=[Detail("ScoreRequestUnauthorized", "m")], status=401
    ),
    AccessDenied("Not yours.", code="Forbidden", details=[Detail("Forbidden", "m")], status=403),
    NotFound("No such job.", code="NotFound", details=[Detail("JobNotFound", "m", "7b6a")], status=404),
    ServiceUnavailable("Busy.", code="ServiceUnavailable", details=[Detail("RequestThrottled", "m")], status=503),
]


def every_class() -> list[type[AzureMLClassicError]]:
    """All subclasses that the module defines."""
    found = [
        value
        for value in vars(exceptions).values()
        if isinstance(value, type) and issubclass(value, AzureMLClassicError) and value is not AzureMLClassicError
    ]
    return sorted(found, key=lambda kind: kind.__name__)


def sample_errors() -> list[AzureMLClassicError]:
    """One error of each class with every fact filled in, among them a detail."""
    return [
        kind(
            "It went wrong.",
            code="BadArgument",
            details=(Detail("InvalidBlob", "The location is wrong.", "output1"),),
            status=400,
            request_id="r-1",
            verb="get_job",
            url=f"{URL}?sig=SECRET",
            hint="Do this.",
        )
        for kind in every_class()
    ]


def test_tree_in_docstring() -> None:
    """The tree that the module's docstring draws is the set of classes, all directly below the root."""
    assert exceptions.__doc__
    drawn = re.findall(r"^    [|`]-- (\w+)", exceptions.__doc__, re.MULTILINE)
    assert sorted(drawn) == [kind.__name__ for kind in every_class()]
    assert {kind.__base__ for kind in every_class()} == {AzureMLClassicError}


@pytest.mark.parametrize(
    ("statuses", "kind"),
    [
        ((400, 405, 409, 411, 412, 413, 422, 440), RequestRejected),
        ((401, 403), AccessDenied),
        ((404,), NotFound),
        ((408, 429, 500, 502, 503, 504, 509, 599), ServiceUnavailable),
        ((300, 301, 302, 304, 307), ProtocolError),
    ],
)
def test_error_class_by_status(statuses: tuple[int, ...], kind: type[AzureMLClassicError]) -> None:
    """Each status of the architecture's table, and any other of its hundred, has its class."""
    assert {error_class(status) for status in statuses} == {kind}


def test_retryable_classes() -> None:
    """Exactly the classes that a repetition can mend say so."""
    assert {kind for kind in every_class() if kind.retryable} == {ServiceUnavailable, ProtocolError, JobFailed}
    assert not AzureMLClassicError.retryable


@pytest.mark.parametrize("error", ANSWERABLE, ids=lambda error: f"{type(error).__name__}-{error.status}")
def test_error_survives_wire(error: AzureMLClassicError) -> None:
    """What the server raises is what the client raises: class, codes, message, details and request id."""
    received = from_response(ASKED, to_response(error, {"x-ms-request-id": "r-77"}))
    assert type(received) is type(error)
    facts = ("code", "detail_code", "message", "details", "status", "hint")
    assert [getattr(received, fact) for fact in facts] == [getattr(error, fact) for fact in facts]
    assert (received.request_id, received.verb, received.url) == ("r-77", "get_web_service", URL)


@pytest.mark.parametrize("detail", sorted(CODES))
def test_code_survives_wire(detail: str) -> None:
    """Every known code keeps its class, status and detail code between server and client."""
    raised = rejection(detail, "The sentence.", target="input1")
    received = from_response(ASKED, to_response(raised))
    assert type(received) is type(raised) is error_class(CODES[detail][1])
    assert (received.code, received.status) == CODES[detail]
    assert received.detail_code == detail
    assert received.details == (Detail(detail, "The sentence.", "input1"),)


def test_error_without_status_is_internal() -> None:
    """An error that has neither status nor code is answered as an internal error, with a detail all the same."""
    received = from_response(ASKED, to_response(ServiceUnavailable("Lost.")))
    assert (received.status, received.code, received.detail_code) == (500, "InternalError", "UnknownError")


@pytest.mark.parametrize(
    ("status", "kind"),
    [(JobStatus.FAILED, JobFailed), (JobStatus.CANCELLED, JobCancelled)],
    ids=["failed", "cancelled"],
)
def test_job_error_survives_wire(status: JobStatus, kind: type[AzureMLClassicError]) -> None:
    """A job's end is read back from its answer as the error that it is, with the service's details."""
    job = Job.from_wire("7b6a", Job("7b6a", status, details="Module 'Train Model': label is constant.").to_wire())
    with pytest.raises(kind, match="7b6a") as caught:
        job.raise_unless_finished()
    assert type(caught.value) is kind
    assert ("label is constant" in str(caught.value)) == (kind is JobFailed)


@pytest.mark.parametrize("status", [JobStatus.NOT_STARTED, JobStatus.RUNNING, JobStatus.FINISHED])
def test_job_without_error(status: JobStatus) -> None:
    """A job that runs, waits or finished raises nothing."""
    Job("7b6a", status).raise_unless_finished()


def test_job_failed_without_details() -> None:
    """A failed job whose server gives no reason says that there was none."""
    with pytest.raises(JobFailed, match="the service gave no details"):
        Job("7b6a", JobStatus.FAILED).raise_unless_finished()


@pytest.mark.parametrize("error", sample_errors(), ids=lambda error: type(error).__name__)
def test_pickle_keeps_everything(error: AzureMLClassicError) -> None:
    """An error raised in a training worker arrives in the server's process with all its facts."""
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - the test's own bytes
    assert type(copy) is type(error)
    assert vars(copy) == vars(error)
    assert (str(copy), copy.args, copy.hint) == (str(error), error.args, "Do this.")


def test_str_names_everything() -> None:
    """The sentence names verb, URL, message, detail, status, both codes, request id and what to do next."""
    error = sample_errors()[0]
    assert str(error) == (
        f"get_job {URL}: It went wrong: The location is wrong. [HTTP 400, BadArgument/InvalidBlob, request id r-1] "
        "Do this."
    )


def test_str_without_facts() -> None:
    """An error that knows nothing but its message is that message, with its hint as a second sentence."""
    assert str(WaitTimeout("It took too long.")) == "It took too long."
    assert str(UpdateNotProved("Not live.", hint="Try again.")) == "Not live. Try again."


def test_str_does_not_repeat() -> None:
    """A detail or a hint that the message already contains, and a code that is both, are said once."""
    error = RequestRejected(
        "The name is wrong. Use another.",
        code="BadArgument",
        details=[Detail("BadArgument", "The name is wrong.")],
        hint="Use another.",
    )
    assert str(error) == "The name is wrong. Use another. [BadArgument]"


@pytest.mark.parametrize(
    "url",
    [
        "https://acct.example/c/m.ilearner?sv=2015&sig=SECRET",
        "https://acct.example/c/m.ilearner#sig=SECRET",
        "https://user:SECRET@acct.example/c/m.ilearner",
        "/c/m.ilearner?sig=SECRET",
        "c/m.ilearner?next=https://other.example/&sig=SECRET",
        "https://[bad/c/m.ilearner?sig=SECRET",
    ],
)
def test_url_is_kept_without_secrets(url: str) -> None:
    """Whatever its form, the URL of an error keeps host and path, and neither query, fragment nor password."""
    error = NotFound("No such blob.", url=url, verb="fetch_blob")
    shown = f"{error} {error!r} {error.url} {vars(error)}"
    assert "SECRET" not in shown
    assert "c/m.ilearner" in str(error)
    assert without_query(str(error.url)) == error.url


@pytest.mark.parametrize(
    "text",
    [
        "cannot read https://acct.example/c/m.csv?sv=2015&sig=SECRET%3D&se=2016",
        "cannot read 'https://acct.example/c/m.csv?SIG=SECRET'",
        "bad DefaultEndpointsProtocol=https;AccountName=acct;AccountKey=SECRET==;EndpointSuffix=example",
        "bad BlobEndpoint=https://a.example;SharedAccessSignature=sv=2015&sig=SECRET",
    ],
)
def test_message_is_kept_without_secrets(text: str) -> None:
    """A server that quotes a location with its token, or a connection string, does not get it into a log."""
    error = RequestRejected(text, details=[Detail("InvalidBlob", f"about it: {text}")])
    assert "SECRET" not in f"{error} {error!r} {error.args} {vars(error)}"
    assert "***" in error.message


def test_hints_are_for_known_codes() -> None:
    """A hint whose code is in no table would never be shown."""
    assert set(HINTS) <= set(CODES)


@pytest.mark.parametrize("code", sorted(HINTS))
def test_hint_is_looked_up(code: str) -> None:
    """The hint of a code is part of the text, without being given."""
    assert str(rejection(code, "The sentence.")).endswith(HINTS[code])


def test_tables_agree() -> None:
    """No detail code stands in both tables with different meanings, and none is spelled twice within one."""
    for table in (PUBLISHED, OURS):
        details = [detail for _, text in table.values() for detail in text.split()]
        assert len(details) == len(set(details))
    published = {detail for _, text in PUBLISHED.values() for detail in text.split()}
    assert not published & {detail for _, text in OURS.values() for detail in text.split()}


def test_rejection_of_unknown_code() -> None:
    """A code in neither table is a mistake of the caller's author, found at once."""
    with pytest.raises(KeyError, match="NoSuchCode"):
        rejection("NoSuchCode", "x")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (FileNotFoundError(2, "No such file or directory", "a.csv"), "a.csv: No such file or directory"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (OverflowError("bind(): port must be 0-65535."), "bind(): port must be 0-65535"),
        (ValueError("Expected a value (at line 1)"), "Expected a value (at line 1)"),
    ],
)
def test_the_cause_of_an_error_stands_in_a_sentence(error: Exception, text: str) -> None:
    """It has no number of the system's, names the file, and leaves the full stop to the sentence."""
    assert cause(error) == text


def test_no_message_ends_in_two_full_stops() -> None:
    """An error of another's making is put before a full stop by `cause` alone, which takes away its own."""
    root = Path(exceptions.__file__).parent
    raw = [
        str(path)
        for path in root.rglob("*.py")
        if re.search(r"\{(str\()?(error|exc)\)?\}\.(\s|[\"'])", path.read_text())
    ]
    assert not raw
