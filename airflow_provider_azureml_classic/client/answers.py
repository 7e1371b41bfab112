"""Reading answers: what every verb does with a response."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from airflow_provider_azureml_classic.client.retries import Steps
from airflow_provider_azureml_classic.exceptions import rejection
from airflow_provider_azureml_classic.protocol.errors import from_response, has_error
from airflow_provider_azureml_classic.protocol.messages import Request, Response


def clean_url(url: str) -> str:
    """A base URL as pasted from a document, without what does not belong to it.

    :param url: may have blanks around it, and a slash or a full stop at its end: the latter was in an early page of
        the vendor's and broke its readers' pipelines (azure-docs pull request 21348).
    :raises RequestRejected: not an http(s) URL.
    """
    cleaned = url.strip().rstrip("./")
    if not cleaned.startswith(("http://", "https://")):
        raise rejection(
            "BadParameterValue",
            f"The management URL {cleaned!r} must start with http:// or https://, as in https://management.azureml.net.",
        )
    return cleaned


def ask(request: Request, *, unchanged: bool = False) -> Steps[Response]:
    """Send ``request``; return its answer or raise the error that it is.

    :param request: what to send.
    :param unchanged: 304 is an answer too.
    """
    response = yield request
    if not (unchanged and response.status == 304):
        check(request, response)
    return response


def check(request: Request, response: Response) -> None:
    """Raise the error that ``response`` is, if it is one."""
    if response.status >= 300:
        raise from_response(request, response)


def decoded(request: Request, response: Response) -> Any:
    """Decoded body; an empty one is ``None``, an error object under a 2xx is the error that it says."""
    if not response.body.strip():
        return None
    try:
        data = json.loads(response.body)
    except ValueError:
        raise from_response(request, Response(300, response.headers, response.body)) from None
    refuse_error_object(request, response)
    return data


def refuse_error_object(request: Request, response: Response) -> None:
    """Raise the error that an answer is although its status says success."""
    if response.body.lstrip()[:1] == b"{" and has_error(json.loads(response.body)):
        raise from_response(request, response)


def items(data: Any) -> list[Any]:
    """The items of a list answer: a bare array, an envelope, or a single object (wire document, section 2.2)."""
    if isinstance(data, Mapping):
        value = data.get("value")
        return value if isinstance(value, list) else [data]
    return data if isinstance(data, list) else []


def encoded(data: Any) -> bytes:
    """A JSON body."""
    return json.dumps(data).encode()
