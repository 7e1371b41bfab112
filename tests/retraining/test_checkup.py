"""What the connection test and ``doctor`` find, on a service of canned answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_azureml_classic import __version__
from airflow_provider_azureml_classic.client.answers import ServiceFacts
from airflow_provider_azureml_classic.exceptions import (
    AccessDenied,
    AzureMLClassicError,
    NotFound,
    ProtocolError,
    RequestRejected,
    ServiceUnavailable,
)
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.retraining.checkup import TRIAL, Finding, check_service, check_storage
from tests.support.programs import Script

NOW = datetime(2026, 3, 1, tzinfo=UTC)
CLIENT: Any = SimpleNamespace(workspace_id="the-workspace")
ACCOUNT = "DefaultEndpointsProtocol=https;AccountName=mine;AccountKey=a2V5;EndpointSuffix=core.windows.net"
WRITTEN = b"written,by\n1,the connection test\n"


def service(answer: ServiceFacts | AzureMLClassicError) -> list[Finding]:
    """What is found of a service that says this of itself."""
    return Script(service_facts=[answer]).perform(check_service(CLIENT, lambda: NOW))


def facts(version: str = __version__, ahead: timedelta = timedelta()) -> ServiceFacts:
    """What a service says of itself."""
    return ServiceFacts(7, version, format_datetime(NOW + ahead, usegmt=True))


def test_all_is_well() -> None:
    """The connection with the number of web services, equal versions, clocks that agree: nothing to be done."""
    connection, versions, clocks = service(facts())
    assert connection == Finding("connection", True, "Workspace the-workspace has 7 web services.")
    assert versions == Finding("versions", True, f"This side is {__version__}, the server {__version__}.")
    assert clocks == Finding("clocks", True, "The clocks of both sides differ by 0 s.")


@pytest.mark.parametrize(
    ("error", "begins", "advice"),
    [
        (ServiceUnavailable("no answer"), "Host: ", "host and port"),
        (AccessDenied("wrong token"), "Password: ", "token of the workspace"),
        (NotFound("gone"), "Login: ", "workspace id"),
        (ProtocolError("no JSON"), "no JSON", ""),
    ],
)
def test_a_service_that_refuses(error: AzureMLClassicError, begins: str, advice: str) -> None:
    """The field of the connection that is wrong is named, with the service's words and what to do."""
    (finding,) = service(error)
    assert (finding.check, finding.good) == ("connection", False)
    assert finding.found.startswith(begins)
    assert str(error) in finding.found
    assert advice in finding.advice
    assert bool(advice) is bool(finding.advice)


@pytest.mark.parametrize(("version", "words"), [("", "does not tell its version"), ("0.0.1", "the server 0.0.1.")])
def test_versions_that_differ(version: str, words: str) -> None:
    """Another version, or none, is not in order and not wrong."""
    finding = service(facts(version))[1]
    assert (finding.check, finding.good) == ("versions", None)
    assert words in finding.found
    assert bool(finding.advice) is bool(version)


@pytest.mark.parametrize(("seconds", "good"), [(300, True), (-300, True), (301, False), (-301, False)])
def test_clocks_that_differ(seconds: int, good: bool) -> None:
    """Up to five minutes, in either direction, SAS tokens that are signed on one side hold on the other."""
    finding = service(facts(ahead=timedelta(seconds=seconds)))[2]
    assert (finding.check, finding.good) == ("clocks", good)
    assert f"differ by {abs(seconds)} s." in finding.found
    assert bool(finding.advice) is not good


def test_a_service_that_tells_no_time() -> None:
    """Then nothing is said of the clocks."""
    assert service(ServiceFacts(1, "1", ""))[2] == Finding("clocks", None, "The service does not tell its time.")


def test_own_store() -> None:
    """Without an account a file is written into the service's store, at a place that it signs."""
    signed = BlobReference(TRIAL, "https://ml.example/", "?sig=x")
    script = Script(sign_blob=[signed], store_blob=[None])
    finding = script.perform(check_storage(CLIENT, "", lambda: NOW))
    assert (finding.check, finding.good, finding.advice) == ("storage", True, "")
    assert "a file can be written there" in finding.found
    assert script.calls == [
        ("sign_blob", {"reference": BlobReference(TRIAL)}),
        ("store_blob", {"reference": signed, "content": WRITTEN}),
    ]


@pytest.mark.parametrize(
    ("error", "good", "advice"),
    [
        (RequestRejected("not here"), None, "storage_connection_string"),
        (ServiceUnavailable("no answer"), False, "service's store"),
    ],
)
def test_an_own_store_that_refuses(error: AzureMLClassicError, good: bool | None, advice: str) -> None:
    """A service without a store of its own is no fault; one that does not answer is."""
    finding = Script(sign_blob=[error]).perform(check_storage(CLIENT, "", lambda: NOW))
    assert (finding.check, finding.good) == ("storage", good)
    assert finding.found.startswith("No storage connection string: ")
    assert (str(error) in finding.found) is (good is False)
    assert advice in finding.advice


def test_an_account() -> None:
    """A file is written with a token that is signed here, for writing, and for ten minutes."""
    script = Script(store_blob=[None])
    finding = script.perform(check_storage(CLIENT, ACCOUNT, lambda: NOW))
    assert finding == Finding("storage", True, "A file can be written into storage account 'mine'.")
    ((_, given),) = script.calls
    place = given["reference"]
    assert (place.location, place.base_location) == (
        f"https://mine.blob.core.windows.net/{TRIAL}",
        "https://mine.blob.core.windows.net/",
    )
    assert place.sas_token.endswith("sp=cw")
    assert "se=2026-03-01T00%3A10%3A00Z" in place.sas_token
    assert given["content"] == WRITTEN


@pytest.mark.parametrize(
    ("error", "good", "words", "advice"),
    [
        (NotFound("no container"), True, "Storage account 'mine' takes the key.", ""),
        (ServiceUnavailable("no answer"), False, "account 'mine' does not answer", "BlobEndpoint"),
        (AccessDenied("no"), False, "account 'mine' refuses the key", "AccountKey"),
        (ProtocolError("odd"), False, "Storage connection string: odd", "storage_connection_string"),
    ],
)
def test_an_account_that_refuses(error: AzureMLClassicError, good: bool, words: str, advice: str) -> None:
    """A missing container shows that the key is taken; anything else names what is to be checked."""
    finding = Script(store_blob=[error]).perform(check_storage(CLIENT, ACCOUNT, lambda: NOW))
    assert (finding.check, finding.good) == ("storage", good)
    assert words in finding.found
    assert good or str(error) in finding.found
    assert advice in finding.advice
    assert bool(advice) is bool(finding.advice)


def test_a_broken_connection_string() -> None:
    """It is told as what it is, and nothing is written."""
    finding = Script().perform(check_storage(CLIENT, "AccountName", lambda: NOW))
    assert (finding.check, finding.good) == ("storage", False)
    assert finding.found.startswith("Storage connection string: ")
