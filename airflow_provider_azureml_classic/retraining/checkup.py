"""Is everything there that retraining needs? For the connection test in Airflow and ``azureml-classic doctor``.

The checks are programs, which a client performs; none raises for what it finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from airflow_provider_azureml_classic import __version__
from airflow_provider_azureml_classic.client.answers import ServiceFacts
from airflow_provider_azureml_classic.client.retries import Program
from airflow_provider_azureml_classic.client.verbs import Verbs
from airflow_provider_azureml_classic.exceptions import (
    AccessDenied,
    AzureMLClassicError,
    NotFound,
    RequestRejected,
    ServiceUnavailable,
)
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.sas import StorageAccount

#: What is written to try the storage: always the same place, so that nothing piles up.
TRIAL = "azureml-classic/connection-test.csv"
_CONTENT = b"written,by\n1,the connection test\n"
#: By how much two clocks may differ: the SAS tokens that are signed here hold from some minutes before.
_SKEW = timedelta(minutes=5)
_SAS_LIFE = timedelta(minutes=10)


@dataclass(frozen=True)
class Finding:
    """What one check has found.

    :param check: what was checked.
    :param good: whether it is in order; ``None``: it cannot be told, or matters little.
    :param found: a sentence.
    :param advice: what to do, where something is wrong.
    """

    check: str
    good: bool | None
    found: str
    advice: str = ""


#: How states are told.
_STATES = {True: "ok", False: "WRONG", None: "-"}


def table_rows(findings: Iterable[Finding]) -> list[dict[str, str]]:
    """Findings as rows of a table: ``check``, ``state``, ``found``, ``do``.

    :param findings: in order.
    """
    return [{"check": one.check, "state": _STATES[one.good], "found": one.found, "do": one.advice} for one in findings]


def lines(findings: Sequence[Finding]) -> Iterator[str]:
    """The same as lines of a log.

    :param findings: in order.
    """
    width = max(len(one.check) for one in findings)
    for row in table_rows(findings):
        yield f"{row['check']:{width}}  {row['state']:5}  {row['found']} {row['do']}".rstrip()


def check_service(client: Verbs, now: Callable[[], datetime]) -> Program[list[Finding]]:
    """The connection, the versions on both sides, and the clocks.

    :param client: of the workspace.
    :param now: gives the present moment.
    """
    try:
        facts: ServiceFacts = yield Verbs.service_facts.steps(client)
    except AzureMLClassicError as error:
        return [_refused(error)]
    services = f"Workspace {client.workspace_id} has {facts.web_services} web services."
    return [Finding("connection", True, services), _versions(facts), _clocks(facts, now())]


def _refused(error: AzureMLClassicError) -> Finding:
    if isinstance(error, ServiceUnavailable):
        return Finding("connection", False, f"Host: the service does not answer. {error}", "Check host and port.")
    if isinstance(error, AccessDenied):
        advice = "Take the token of the workspace, not the key of an endpoint."
        return Finding("connection", False, f"Password: the workspace token was refused. {error}", advice)
    if isinstance(error, NotFound):
        return Finding("connection", False, f"Login: there is no such workspace. {error}", "Check the workspace id.")
    return Finding("connection", False, str(error))


def _versions(facts: ServiceFacts) -> Finding:
    if not facts.version:
        return Finding("versions", None, f"This side is {__version__}; the service does not tell its version.")
    found = f"This side is {__version__}, the server {facts.version}."
    if facts.version == __version__:
        return Finding("versions", True, found)
    return Finding("versions", None, found, "Different versions work together; install the same on both sides.")


def _clocks(facts: ServiceFacts, now: datetime) -> Finding:
    try:
        there = parsedate_to_datetime(facts.date).astimezone(UTC)
    except ValueError:
        return Finding("clocks", None, "The service does not tell its time.")
    gap = abs(there - now)
    found = f"The clocks of both sides differ by {gap.total_seconds():.0f} s."
    if gap <= _SKEW:
        return Finding("clocks", True, found)
    return Finding("clocks", False, found, "SAS tokens signed on one side are refused on the other: set the clocks.")


def _check_own_store(client: Verbs) -> Program[Finding]:
    """The same where bare paths are in the service's store, which the workspace token opens."""
    found = "No storage connection string: bare paths are in the service's store"
    try:
        place = yield Verbs.sign_blob.steps(client, BlobReference.parse(TRIAL))
        yield Verbs.store_blob.steps(client, place, _CONTENT)
    except RequestRejected:
        advice = "Uploads need storage_connection_string, or a destination that is a URL with a SAS token."
        return Finding("storage", None, f"{found}, which the token does not open.", advice)
    except AzureMLClassicError as error:
        return Finding("storage", False, f"{found}. {error}", "Check that this machine reaches the service's store.")
    return Finding("storage", True, f"{found}, and a file can be written there.")


def check_storage(client: Verbs, connection_string: str, now: Callable[[], datetime]) -> Program[Finding]:
    """Whether a file can be written into the storage account, as an upload does.

    :param client: of the workspace.
    :param connection_string: of the account; empty: there is none.
    :param now: gives the present moment.
    """
    if not connection_string:
        return (yield from _check_own_store(client))
    try:
        account = StorageAccount.from_connection_string(connection_string)
        place = account.opened(BlobReference.parse(TRIAL), "cw", _SAS_LIFE, now())
        yield Verbs.store_blob.steps(client, place or BlobReference.parse(TRIAL), _CONTENT)
    except NotFound:
        # The account takes the key, and has no container of this name; which ones there are is its owner's affair.
        return Finding("storage", True, f"Storage account {account.name!r} takes the key.")
    except ServiceUnavailable as error:
        advice = "Check BlobEndpoint from the machine that this runs on."
        return Finding("storage", False, f"Storage: account {account.name!r} does not answer. {error}", advice)
    except AccessDenied as error:
        advice = "Check AccountKey, what a SharedAccessSignature permits, and the clocks."
        return Finding("storage", False, f"Storage: account {account.name!r} refuses the key. {error}", advice)
    except AzureMLClassicError as error:
        return Finding("storage", False, f"Storage connection string: {error}", "Correct storage_connection_string.")
    return Finding("storage", True, f"A file can be written into storage account {account.name!r}.")
