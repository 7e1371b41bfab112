"""One error tree, used by the client and by the server.

::

    AzureMLClassicError
    |-- RequestRejected       400, 405, 409, 411, 412, 413, 431: the request is wrong; the same request fails again
    |-- AccessDenied          401, 403: the key or the token is wrong
    |-- NotFound              404: no such service, endpoint, job or blob
    |-- ServiceUnavailable    408, 429, 5xx, no answer: the same request may succeed later
    |-- ProtocolError         the answer is not what the protocol says (a proxy's page, a missing member)
    |-- JobFailed             the batch job ended ``Failed``
    |-- JobCancelled          the batch job ended ``Cancelled``
    |-- WaitTimeout           a deadline of ours passed while waiting
    `-- UpdateNotProved       the service accepted an update that could not be seen to be live

Rule 1: what a class means for a retry is said here (:attr:`AzureMLClassicError.retryable`) and nowhere else.
Rule 2: codes of the service are spelled here and nowhere else; the published ones are the table of
"Machine Learning Web service error codes" (azure-docs, ``studio/web-service-error-codes``, 11/16/2016).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import islice
from types import MappingProxyType
from typing import Any, ClassVar

_SECRET = re.compile(r"\b(sig|AccountKey|SharedAccessSignature)=[^&;\s'\"<>]+", re.IGNORECASE)


@dataclass(frozen=True)
class Detail:
    """One item of ``error.details``: the useful code, its text, and the module or input it is about."""

    code: str
    message: str
    target: str | None = None


class AzureMLClassicError(Exception):
    """Base of everything this package raises about the service.

    :param message: what went wrong, one sentence that names the offending input; signatures and account keys in it (a
        server may quote a location) are blotted out, here and in the details.
    :param code: the service's class of error, for example ``BadArgument``.
    :param details: items of ``error.details``; the first one carries the useful code.
    :param status: HTTP status, ``None`` when there was no answer.
    :param request_id: the service's ``x-ms-request-id``.
    :param verb: the operation that was asked for, for example ``patch_endpoint``.
    :param url: the address asked; its query is never kept, because a query may hold a SAS token.
    :param hint: what to do next; by default looked up by code in :data:`HINTS`.
    """

    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        details: Sequence[Detail] = (),
        status: int | None = None,
        request_id: str | None = None,
        verb: str | None = None,
        url: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.message = without_secrets(message)
        super().__init__(self.message)
        self.code = code
        self.details = tuple(replace(detail, message=without_secrets(detail.message)) for detail in details)
        self.status = status
        self.request_id = request_id
        self.verb = verb
        self.url = without_query(url) if url else None
        self._hint = hint

    @property
    def detail_code(self) -> str | None:
        """Code of the first detail, else the class code."""
        return self.details[0].code if self.details else self.code

    @property
    def hint(self) -> str | None:
        """What to do next, if anything is known."""
        return self._hint or HINTS.get(self.detail_code or "")

    def __str__(self) -> str:
        said = self.message
        for detail in self.details:
            if detail.message and detail.message not in said:
                said = f"{said.rstrip('.')}: {detail.message}"
        where = " ".join(filter(None, (self.verb, self.url)))
        codes = "/".join(dict.fromkeys(filter(None, (self.code, self.detail_code))))
        facts = [f"HTTP {self.status}" if self.status else "", codes]
        facts.append(f"request id {self.request_id}" if self.request_id else "")
        tail = ", ".join(filter(None, facts))
        sentence = f"{where}: {said}" if where else said
        sentence = f"{sentence.rstrip()} [{tail}]" if tail else sentence
        if self.hint and self.hint not in said:
            sentence = f"{sentence} {self.hint}" if tail else f"{_ended(sentence)} {self.hint}"
        return sentence

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders (training workers); the default would drop the keyword arguments.
        return _rebuild, (type(self), self.message, {**self.__dict__})


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith("?") else f"{sentence.rstrip('.')}."


def without_secrets(text: str) -> str:
    """``text`` with signatures and account keys blotted out.

    :param text: what may be shown.
    """
    return _SECRET.sub(r"\1=***", text)


def _rebuild(kind: type[AzureMLClassicError], message: str, state: dict[str, object]) -> AzureMLClassicError:
    error = kind(message)
    error.__dict__.update(state)
    return error


class RequestRejected(AzureMLClassicError):
    """The request is wrong and stays wrong: HTTP 400, 405, 409, 411, 412, 413, 431."""


class AccessDenied(AzureMLClassicError):
    """The workspace token or the endpoint key was refused: HTTP 401, 403."""


class NotFound(AzureMLClassicError):
    """No such workspace, web service, endpoint, job or blob: HTTP 404."""


class ServiceUnavailable(AzureMLClassicError):
    """The service could not answer now: HTTP 408, 429, 5xx, or no answer at all (``status`` is ``None``)."""

    retryable = True


class ProtocolError(AzureMLClassicError):
    """The answer does not follow the protocol: a proxy's HTML page, a missing member, an unknown job status."""

    retryable = True


class JobFailed(AzureMLClassicError):
    """The batch job ended ``Failed``; the message is the service's ``Details``. A retry submits a new job."""

    retryable = True


class JobCancelled(AzureMLClassicError):
    """The batch job ended ``Cancelled``: somebody stopped it on purpose."""


class WaitTimeout(AzureMLClassicError):
    """What was waited for did not happen before the deadline; the message names it."""


class UpdateNotProved(AzureMLClassicError):
    """The service answered 2xx to a PATCH, but the new model was not seen to be live in the time allowed.

    :param put_back: the previous model was put back.
    """

    def __init__(self, message: str, *, put_back: bool = False, **options: Any) -> None:
        super().__init__(message, **options)
        self.put_back = put_back


def is_stale(error: AzureMLClassicError) -> bool:
    """Whether an update was refused because the endpoint changed since it was read.

    :param error: what the service answered.
    """
    return isinstance(error, RequestRejected) and error.status == 412


#: Published codes: class of error -> (HTTP status, detail codes).
PUBLISHED: Mapping[str, tuple[int, str]] = MappingProxyType(
    {
        "BadArgument": (
            400,
            "BadParameterValue BadSubscriptionId BadVersionCall BatchJobInputsNotSpecified "
            "BatchJobInputsTooManySpecified BlobNameTooLong BlobNotFound ContainerIsEmpty ContainerSegmentInvalid "
            "ContainerValidationFailed DataTypeNotSupported DuplicateInputInBatchCall ExpiryTimeInThePast "
            "IncompleteSettings InputBlobRelativeLocationInvalid InvalidBlob InvalidBlobConnectionString "
            "InvalidBlobExtension InvalidInputNames InvalidOutputOverrideName InvalidQueryParameter "
            "MissingInputBlobInformation MissingJobId MissingKeys MissingModelPackage "
            "MissingOutputOverrideSpecification MissingRequestInput MissingRequiredGlobalParameters "
            "MissingRequiredOutputOverrides MissingWebServiceGroupId MissingWebServiceId MissingWebServicePackage "
            "MissingWorkspaceId ModelConfigurationInvalid ModelPackageIdInvalid RequestBodyInvalid RequestIsEmpty "
            "UnexpectedParameter UserParameterInvalid WebServiceConcurrentRequestRequirementInvalid "
            "WebServiceIdInvalid WebServiceTooManyConcurrentRequestRequirement WebServiceTypeInvalid",
        ),
        "BadUserArgument": (400, "InputMismatchError InputParseError"),
        "InvalidOperation": (400, "CannotStartJob IncompatibleModel MultipleInputsNotAllowed"),
        "LibraryExecutionError": (400, "TableSchemaColumnCountMismatch"),
        "ModuleExecutionError": (400, "FailedToEvaluateRScript"),
        "WebServicePackageError": (400, "FormatError RuntimesError ValidationError"),
        "Unauthorized": (401, "AdminRequestUnauthorized ManagementRequestUnauthorized ScoreRequestUnauthorized"),
        "NotFound": (
            404,
            "ModelPackageNotFound WebServiceIdNotFoundInWorkspace WebServiceNotFound WorkspaceNotFound",
        ),
        "RequestTimeout": (408, "RequestCanceled ScoreRequestTimeout"),
        "Conflict": (409, "ModelOutputMetadataMismatch"),
        "MemoryQuotaViolation": (413, "OutOfMemoryLimit"),
        "InternalError": (500, "UnknownError ResourceDownload ResourceLoadFailed UpdateWebServiceResourceFailed"),
        "InitializingContainers": (503, ""),
        "ServiceUnavailable": (503, "NoMoreResources RequestThrottled TooManyConcurrentRequests"),
        "GatewayTimeout": (504, "BackendInitializationTimeout BackendScoreTimeout"),
    }
)

#: Codes of our server where the published table has none that fits: class of error -> (HTTP status, detail codes).
OURS: Mapping[str, tuple[int, str]] = MappingProxyType(
    {
        "BadArgument": (
            400,
            "EndpointNameInvalid ResourceNameInvalid LocationNotAllowed LocationOutsideFolder ModelInvalid",
        ),
        "InvalidOperation": (
            400,
            "DefaultEndpointReadOnly EndpointUpdatePrevented EndpointLimitReached NoUpdatableResources "
            "BatchExecutionOnly OperationNotSupported",
        ),
        "QuotaExceeded": (403, "JobQuotaExceeded ByteQuotaExceeded"),
        "NotFound": (404, "EndpointNotFound JobNotFound PageNotFound"),
        "MethodNotAllowed": (405, ""),
        "PreconditionFailed": (412, "EndpointChanged"),
        "RequestEntityTooLarge": (413, "RequestBodyTooLarge"),
        "RequestHeaderFieldsTooLarge": (431, "RequestHeadTooLarge"),
    }
)


def _by_detail() -> dict[str, tuple[str, int]]:
    table: dict[str, tuple[str, int]] = {}
    for group in (PUBLISHED, OURS):
        for code, (status, details) in group.items():
            for detail in (*details.split(), code):
                table.setdefault(detail, (code, status))
    return table


#: Detail code (or class code) -> (class code, HTTP status).
CODES: Mapping[str, tuple[str, int]] = MappingProxyType(_by_detail())

#: What to do next, by detail code. Shown by the client whatever server answered.
HINTS: Mapping[str, str] = MappingProxyType(
    {
        "AdminRequestUnauthorized": "Use the workspace authorization token.",
        "BatchExecutionOnly": "A training web service has no request/response call: submit a batch job to it.",
        "BlobNotFound": "Check container, path and account; upload the file before the job is submitted.",
        "DefaultEndpointReadOnly": "Add an endpoint to the scoring web service and update that one.",
        "EndpointChanged": "Read the endpoint again and decide anew.",
        "EndpointNameInvalid": "Use 1 to 24 lower-case letters and digits.",
        "ExpiryTimeInThePast": (
            "GET the job again: each answer carries a fresh SAS token. For a blob of your own, sign a new one."
        ),
        "InvalidBlob": "Give ConnectionString + RelativeLocation, or BaseLocation + RelativeLocation + SasBlobToken.",
        "InvalidBlobExtension": "Data ends in .csv, .tsv or .arff, a trained model in .ilearner.",
        "LocationNotAllowed": "Start the server with --allow-host HOST, --allow-private-host HOST inside your network.",
        "ManagementRequestUnauthorized": (
            "Check the workspace id and the workspace token of the connection, or the endpoint's key."
        ),
        "NoUpdatableResources": (
            "This looks like the training web service: add and update an endpoint of the scoring web service instead."
        ),
        "ScoreRequestUnauthorized": (
            "Scoring and batch jobs take the endpoint's own primary or secondary key, not the workspace token."
        ),
        "WebServiceNotFound": "List the web services of the workspace and compare names and ids.",
    }
)

_CLASS_BY_STATUS: Mapping[int, type[AzureMLClassicError]] = MappingProxyType(
    {401: AccessDenied, 403: AccessDenied, 404: NotFound, 408: ServiceUnavailable, 429: ServiceUnavailable}
)


def error_class(status: int) -> type[AzureMLClassicError]:
    """Class of error for an HTTP status of 300 or more.

    :param status: HTTP status of the answer.
    """
    if status in _CLASS_BY_STATUS:
        return _CLASS_BY_STATUS[status]
    if status >= 500:
        return ServiceUnavailable
    return RequestRejected if status >= 400 else ProtocolError


def rejection(detail: str, message: str, *, target: str | None = None) -> AzureMLClassicError:
    """The error with the code ``detail``, ready to be raised: class, HTTP status and class code come from the tables.

    :param detail: a detail code of :data:`CODES`.
    :param message: one sentence that names the offending input and what was expected.
    :param target: the input, column or module at fault.
    :raises KeyError: the code is in neither table (a mistake of the caller's author).
    """
    code, status = CODES[detail]
    message, target = _cut(message), target and _cut(target)
    return error_class(status)(message, code=code, details=(Detail(detail, message, target),), status=status)


def _cut(text: str) -> str:
    """What is repeated of a request is not as long as the request may be: it goes into logs and answers."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"


#: Letters of a name that is compared with others, and how many others.
_LONGEST_NAME, MOST_COMPARED = 255, 10_000
#: Letters of a message.
_LONGEST = 4096


def nearest(
    name: str, known: Iterable[str], plain: Callable[[str], str] = str.casefold, cutoff: float = 0.6
) -> str | None:
    """The name that is meant where one is misspelt, if any looks like it. Of very many, the first ones are compared.

    :param name: as it was given.
    :param known: the names that there are.
    :param plain: what is compared of a name.
    :param cutoff: how alike two must be, from 0 to 1.
    """
    by_plain = {plain(one[:_LONGEST_NAME]): one for one in islice(known, MOST_COMPARED)}
    near = get_close_matches(plain(name[:_LONGEST_NAME]), by_plain, 1, cutoff)
    return by_plain[near[0]] if near else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question, after a blank, to who has misspelt a name; empty where none is like it.

    :param name: as it was given.
    :param known: the names that there are.
    """
    near = nearest(name, known)
    return f" Did you mean {near!r}?" if near else ""


def cause(error: BaseException) -> str:
    """What an error says, to stand within a sentence: without an error number, without a full stop at its end.

    :param error: of the system or a library, in whose form its text is.
    """
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return text.strip().rstrip(".")


def without_query(url: str) -> str:
    """``url`` without its query and fragment, which may hold a SAS token.

    :param url: an absolute or relative URL.
    """
    # By hand: urlsplit refuses some malformed URLs, and those are the ones that errors are about.
    scheme, separator, rest = re.split(r"[?#]", url, maxsplit=1)[0].rpartition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}" if separator else rest
