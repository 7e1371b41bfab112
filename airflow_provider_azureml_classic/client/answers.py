"""Reading answers: what every verb does with a response."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_azureml_classic.client.retries import Steps
from airflow_provider_azureml_classic.exceptions import (
    AzureMLClassicError,
    NotFound,
    ProtocolError,
    did_you_mean,
    rejection,
    without_query,
)
from airflow_provider_azureml_classic.protocol.errors import from_response, has_error
from airflow_provider_azureml_classic.protocol.jobs import SCORED_OUTPUT
from airflow_provider_azureml_classic.protocol.messages import Request, Response, read_json
from airflow_provider_azureml_classic.protocol.operations import SERVER_VERSION, WORKSPACES
from airflow_provider_azureml_classic.protocol.tables import RESULTS, Table, read_output
from airflow_provider_azureml_classic.protocol.values import WebService


def clean_url(url: str) -> str:
    """A base URL as pasted from a document, without what does not belong to it.

    :param url: may have blanks around it, and a slash or a full stop at its end: the latter was in an early page of
        the vendor's and broke its readers' pipelines (azure-docs pull request 21348).
    :raises RequestRejected: not an http(s) URL, or that of an endpoint.
    """
    cleaned = url.strip().rstrip("./ \t")
    if not cleaned.startswith(("http://", "https://")):
        raise rejection(
            "BadParameterValue",
            f"The management URL {cleaned!r} must start with http:// or https://, as in https://management.azureml.net.",
        )
    base, separator, _ = cleaned.partition(WORKSPACES)
    if separator:
        raise rejection(
            "BadParameterValue",
            f"{without_query(cleaned)!r} is the URL of a web service or of one of its endpoints, such as the "
            f"request/response or batch URL of its help page; the management URL ends before {WORKSPACES}: {base!r} "
            "(on the cloud service, https://management.azureml.net).",
        )
    return cleaned


def ask(request: Request, *, unchanged: bool = False, content: bool = False) -> Steps[Response]:
    """Send ``request``; return its answer or raise the error that it is.

    :param request: what to send.
    :param unchanged: 304 is an answer too.
    :param content: the body is a blob's content, whatever it looks like.
    """
    response = yield request
    if not (unchanged and response.status == 304):
        check(request, response, content=content)
    return response


def check(request: Request, response: Response, *, content: bool = False) -> None:
    """Raise the error that ``response`` is, if it is one: by its status, or an error object or a page under a 2xx."""
    if response.status >= 300 or not (content or _plausible(response.body)):
        raise from_response(request, response)


def _plausible(body: bytes) -> bool:
    start = body.lstrip()[:64]
    # A large answer is not decoded twice: the member "error" of an error object stands at its beginning.
    if not start.startswith(b"{") or b'rror"' not in start:
        return not start.startswith(b"<")
    try:
        return not has_error(read_json(body))
    except ValueError:
        return True


def decoded(request: Request, response: Response) -> Any:
    """Decoded body.

    :param request: what was asked, for the message.
    :param response: an answer that must have a body.
    :raises ProtocolError: it has none, or ``null``.
    """
    try:
        data = read_json(response.body)
    except ValueError:
        raise from_response(request, response) from None
    if data is None:
        raise from_response(request, response)
    return data


def items(data: Any) -> list[Any]:
    """The items of a list answer: a bare array, an envelope, or a single object (wire document, section 2.2).

    :param data: decoded JSON.
    :raises ProtocolError: none of these.
    """
    if isinstance(data, Mapping):
        value = data.get("value", [data])
        data = value if isinstance(value, list) else None
    if not isinstance(data, list):
        raise ProtocolError("The answer is not a list.", hint="Check that the URL of the connection is the service's.")
    return data


def encoded(data: Any) -> bytes:
    """A JSON body."""
    return json.dumps(data).encode()


@dataclass(frozen=True)
class ServiceFacts:
    """What a service tells of itself; what it does not tell is empty.

    :param web_services: how many the workspace has.
    :param version: of this package on the server.
    :param date: its time, as HTTP writes it.
    """

    web_services: int
    version: str
    date: str

    @classmethod
    def of(cls, request: Request, response: Response) -> ServiceFacts:
        """From the list of its web services.

        :param request: that asked for it.
        :param response: its answer.
        """
        headers = response.headers
        count = len(items(decoded(request, response)))
        return cls(count, headers.get(SERVER_VERSION, ""), headers.get("date", ""))


def the_service(services: Sequence[WebService], name: str, workspace: str) -> WebService:
    """The web service with this id, or the only one with this name.

    :param services: all of the workspace.
    :param name: or id.
    :param workspace: its id, for the message.
    :raises NotFound: none has it, or several have the name; the message lists what is there.
    """
    matches = [s for s in services if s.id == name] or [s for s in services if s.name == name]
    if len(matches) == 1:
        return matches[0]
    choices = ", ".join(f"{s.name!r} ({s.id})" for s in matches or services) or "none at all"
    problem = "several web services are" if matches else "no web service is"
    near = "" if matches else did_you_mean(name, (s.name for s in services))
    raise NotFound(
        f"In workspace {workspace} {problem} called {name!r}; there are: {choices}.{near}",
        hint="Give one of these names, or the id where a name is not unique.",
        verb="find_web_service",
    )


def output_of(data: Any, name: str | None, url: str) -> Table:
    """The output of a scoring call's answer.

    :param data: decoded JSON.
    :param name: of the output; ``None``: the only one.
    :param url: that was called.
    :raises ProtocolError: there is none, or it is no table.
    """
    results = data.get(RESULTS) if isinstance(data, Mapping) else None
    if name is None:
        name = next(iter(results)) if isinstance(results, Mapping) and len(results) == 1 else SCORED_OUTPUT
    if not isinstance(results, Mapping) or name not in results:
        names = ", ".join(results) if isinstance(results, Mapping) else "none"
        raise ProtocolError(f"The answer has no output {name!r}; it has: {names}.", verb="score", url=url)
    return read_output(name, results[name])


@dataclass(frozen=True)
class BlobFacts:
    """What identifies a blob's content.

    :param length: bytes.
    :param sha256: hex digest.
    """

    length: int
    sha256: str


#: Details of a 404 that are about what was asked for; any other one is about the call itself.
_ABSENT = frozenset(
    {
        *("WorkspaceNotFound", "WebServiceNotFound", "WebServiceIdNotFoundInWorkspace"),
        *("EndpointNotFound", "JobNotFound", "BlobNotFound"),
    }
)
#: Statuses of an address that a service does not have.
_UNKNOWN_CALL = frozenset({404, 405, 501})


def check_offered(request: Request, response: Response, what: str, instead: str) -> None:
    """Raise the error that ``response`` is, if it is one; a sentence where a service does not have a call of ours.

    :param request: the call.
    :param response: its answer.
    :param what: what the call does.
    :param instead: what to do without it.
    :raises RequestRejected: ``OperationNotSupported``.
    """
    try:
        check(request, response)
    except AzureMLClassicError as error:
        raise offered(error, what, instead) from None


def offered(error: AzureMLClassicError, what: str, instead: str) -> AzureMLClassicError:
    """The error of a call of ours: a sentence where the service does not have it.

    :param error: as it was raised.
    :param what: what the call does.
    :param instead: what to do without it.
    """
    if error.status not in _UNKNOWN_CALL or error.detail_code in _ABSENT:
        return error
    return rejection(
        "OperationNotSupported",
        f"This service offers no call that {what} (it answered HTTP {error.status}); it is an addition of "
        f"azureml-classic-server. {instead}",
    )


def ask_addition(request: Request, what: str, instead: str) -> Steps[Response]:
    """Send a call of ours.

    :param request: what to send.
    :param what: what the call does.
    :param instead: what to do without it.
    :raises RequestRejected: ``OperationNotSupported``.
    """
    response = yield request
    check_offered(request, response, what, instead)
    return response
