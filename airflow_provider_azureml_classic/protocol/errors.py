"""Errors on the wire: ``{"error": {"code", "message", "details": [{"code", "message", "target"}]}}``.

The careful form always has at least one detail, because old clients index it (wire document, section 7.1).
What is read is more tolerant: the Studio API's PascalCase, plain text, HTML, nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from airflow_provider_azureml_classic.exceptions import (
    CODES,
    AzureMLClassicError,
    Detail,
    ProtocolError,
    RequestRejected,
    ServiceUnavailable,
    error_class,
    rejection,
)
from airflow_provider_azureml_classic.protocol.messages import Request, Response, read_json
from airflow_provider_azureml_classic.protocol.operations import REQUEST_ID

P = ParamSpec("P")
T = TypeVar("T")

_SNIPPET = 300
# Azure Storage answers <Error><Code>BlobNotFound</Code><Message>...</Message></Error>.
_STORAGE_CODE = re.compile(r"<Error>\s*<Code>(\w+)</Code>\s*<Message>([^<]*)", re.IGNORECASE)
_STORAGE_HINTS = {
    "ContainerNotFound": "Make the container in the storage account first; a SAS token for one blob cannot do that."
}


def to_response(error: AzureMLClassicError, headers: Mapping[str, str] | None = None) -> Response:
    """The answer that carries ``error``.

    :param error: an error with a status; one without is answered as 500.
    :param headers: further headers.
    """
    details = error.details or (Detail(error.code or "UnknownError", error.message),)
    body = {
        "error": {
            "code": error.code or "InternalError",
            "message": error.message,
            "details": [
                {"code": d.code, "message": d.message, **({"target": d.target} if d.target else {})} for d in details
            ],
        }
    }
    return Response.of_json(body, status=error.status or 500, headers=headers)


def from_response(request: Request, response: Response) -> AzureMLClassicError:
    """The error that ``response`` carries; its class follows from the status.

    :param request: what was asked, for the message.
    :param response: an answer with a status of 300 or more, or an error object under a 2xx.
    """
    context: dict[str, Any] = {
        "status": response.status,
        "request_id": response.headers.get(REQUEST_ID),
        "verb": request.operation.name,
        "url": request.url,
    }
    error = _error_object(response.body)
    if error is None:
        return _unreadable(response, context)
    code, message, details = _pick(error, "code"), _pick(error, "message"), _details(error)
    return _class_of(response.status, details[0].code if details else str(code))(
        str(message or code or "The service gave no reason."),
        code=str(code) if code else None,
        details=details,
        **context,
    )


def _class_of(status: int, code: str) -> type[AzureMLClassicError]:
    if status >= 400:
        return error_class(status)
    # An error object under a 2xx: its code says what the status should have.
    return error_class(CODES[code][1]) if code in CODES else ServiceUnavailable


def _unreadable(response: Response, context: dict[str, Any]) -> AzureMLClassicError:
    text = response.body.decode("utf-8-sig", "replace").strip()
    storage = _STORAGE_CODE.search(text)
    if storage and response.status >= 400:
        return error_class(response.status)(
            " ".join(storage[2].split()), code=storage[1], hint=_STORAGE_HINTS.get(storage[1]), **context
        )
    html = text[:1] == "<" or "html" in response.headers.get("content-type", "")
    snippet = " ".join(text.split())[:_SNIPPET]
    if html or response.status < 400:
        return ProtocolError(
            f"The answer is not the service's: {snippet or 'an empty body'!r}",
            hint="A proxy may have answered; check the URL of the connection.",
            **context,
        )
    return error_class(response.status)(snippet or "The service gave no reason.", **context)


def _error_object(body: bytes) -> Mapping[str, Any] | None:
    try:
        data = read_json(body)
    except ValueError:
        return None
    error = _pick(data, "error") if isinstance(data, Mapping) else None
    return error if isinstance(error, Mapping) else None


def has_error(data: Any) -> bool:
    """Whether decoded JSON is an error object, which some failures were even under 200.

    :param data: decoded JSON.
    """
    return isinstance(data, Mapping) and isinstance(_pick(data, "error"), Mapping)


def reading_answer(what: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Makes a reader raise :class:`ProtocolError` for a rejected value, or one of another type than any service writes:
    it was in an answer, not in a request.

    :param what: name of the object, for the message.
    """

    def decorated(read: Callable[P, T]) -> Callable[P, T]:
        @wraps(read)
        def reader(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return read(*args, **kwargs)
            except RequestRejected as error:
                raise ProtocolError(f"{what} cannot be read: {error.message}") from None
            except (AttributeError, TypeError) as error:
                raise ProtocolError(f"{what} cannot be read: a member is of another type ({error}).") from None

        return reader

    return decorated


def _details(error: Mapping[str, Any]) -> tuple[Detail, ...]:
    items = _pick(error, "details")
    details = [item for item in items if isinstance(item, Mapping)] if isinstance(items, list) else []
    return tuple(
        Detail(str(_pick(d, "code") or ""), str(_pick(d, "message") or ""), _pick(d, "target") or None) for d in details
    )


def _pick(data: Mapping[str, Any], name: str) -> Any:
    for key in (name, name.capitalize()):
        if key in data:
            return data[key]
    return None


def known_members(what: str, data: Mapping[str, Any], names: frozenset[str]) -> Mapping[str, Any]:
    """The members of an object under the names that the protocol gives them.

    Their case does not matter: the cloud service ran on .NET, whose readers of JSON disregard it, and Java's writers
    begin names in lower case. A member that the protocol does not have is refused: it would silently be ignored; null
    is nothing that could be, and typed clients write every member that they have.

    :param what: name of the object, for the message.
    :param data: decoded JSON.
    :param names: of the members that it may have.
    :raises RequestRejected: ``UnexpectedParameter``, naming the member.
    """
    if names.issuperset(data):
        return data
    spelled = {name.lower(): name for name in names}
    members: dict[str, Any] = {}
    for key, value in data.items():
        name = spelled.get(key.lower())
        if name is None and value is None:
            continue
        if name is None:
            message = f"{what} has the unknown member {key!r}; it takes: {', '.join(sorted(names))}."
            raise rejection("UnexpectedParameter", message, target=key)
        if name in members:
            raise rejection("UnexpectedParameter", f"{what} has the member {name} twice.", target=key)
        members[name] = value
    return members


def repeated(names: Sequence[str]) -> str | None:
    """The first of some names that is there more than once; ``None``: all are different.

    :param names: in order.
    """
    if len(set(names)) == len(names):
        return None
    return next(name for name, count in Counter(names).items() if count > 1)


def json_object(name: str, data: Any) -> Mapping[str, Any]:
    """A member of a body that holds values by name.

    :param name: of the member, for the message.
    :param data: decoded JSON.
    :raises RequestRejected: ``RequestBodyInvalid``: it is no object.
    """
    if not isinstance(data, Mapping):
        raise rejection("RequestBodyInvalid", f'{name} must be an object: {{"NAME": ...}}.', target=name)
    return data
