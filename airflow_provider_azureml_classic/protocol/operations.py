"""The operations of the service, one row each: used by the client to build requests and by the server to route them.

Rule 1: a path, a method, a query parameter or a header of the service is spelled here and nowhere else.
Rule 2: this module does no I/O and does not know which end it runs on.

Source: wire document sections 0, 2, 4 and 5 (azuremlps ``AzureMLSDK.cs``; azure-docs
``manage-web-service-endpoints-using-api-management``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property, lru_cache
from types import MappingProxyType
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

#: Query parameters: the version that every job and scoring call carries, and the two switches of a scoring call.
VERSION_PARAMETER, API_VERSION = "api-version", "2.0"
FORMAT_PARAMETER, SWAGGER_FORMAT = "format", "swagger"
DETAILS_PARAMETER = "details"
#: Query parameter: name of the file that is the body.
FILE_PARAMETER = "file"
REQUEST_ID = "x-ms-request-id"
#: Header of the list of web services: version of this package that the server runs. Other services have none.
SERVER_VERSION = "x-azureml-classic-version"
#: Header of a scoring answer: the content digest of the model that gave it. Our addition.
MODEL_HEADER = "x-azureml-classic-model"
#: Header of a scoring call that is made to see how a model answers, and not for its answers: such calls are not kept
#: for rehearsals. Our addition.
TRIAL = "x-azureml-classic-trial"
#: Header with the workspace token in calls of the Studio API, which do not send ``Authorization``.
STUDIO_TOKEN = "x-ms-metaanalytics-authorizationtoken"  # noqa: S105 - a name
#: Header of an update: the SHA-256 of the file of the model that is meant. Our addition.
MODEL_FILE = "x-azureml-classic-model-file"
RETRY_AFTER = "retry-after"
ALLOW = "allow"
ETAG = "etag"
IF_MATCH = "if-match"
#: Member of a refresh's body.
OVERWRITE_RESOURCES = "OverwriteResources"
#: Header of our own store (and of any Azure blob whose writer set this metadata): SHA-256 of the blob in hex.
BLOB_SHA256 = "x-ms-meta-sha256"
#: Header that Azure Storage wants with a blob written in one piece.
BLOCK_BLOB = MappingProxyType({"x-ms-blob-type": "BlockBlob"})
#: Query parameter of a scoring call: the answer has ``ColumnTypes``.
WITH_TYPES = (DETAILS_PARAMETER, "true")


#: Methods of calls that change nothing.
_READING = frozenset({"GET", "HEAD"})


class Credential(Enum):
    """Which secret an operation takes (wire document, section 1.4)."""

    WORKSPACE = "workspace token"
    EITHER = "workspace token or endpoint key"
    ENDPOINT = "endpoint key"
    LOCATION = "SAS token in the location"
    NONE = "no credential"


@dataclass(frozen=True)
class Operation:
    """One call of the service.

    :param name: the verb, as in messages and logs.
    :param method: HTTP method.
    :param path: template below the base URL; ``{name}`` stands for one segment.
    :param credential: the secret it takes.
    :param idempotent: sending it twice has the effect of sending it once, so an unanswered call may be repeated.
    :param versioned: it carries ``api-version=2.0``.
    :param default_version: what a call without a version means; public clients leave it out of the calls of a job.
    :param reads: it changes nothing, although its method says that it may.
    """

    name: str
    method: str
    path: str
    credential: Credential
    idempotent: bool
    versioned: bool = False
    default_version: str | None = API_VERSION
    reads: bool = False

    @property
    def changes(self) -> bool:
        """Whether it may change something: all that is not said to read only."""
        return self.method not in _READING and not self.reads

    def url(self, base: str, segments: Mapping[str, str], query: Iterable[tuple[str, str]] = ()) -> str:
        """Absolute URL of this operation.

        :param base: scheme, host and any prefix, with or without a trailing slash.
        :param segments: values of the template's names; they are percent-encoded.
        :param query: further query parameters, in order.
        """
        path = self.path.format(**{name: quote(value, safe="") for name, value in segments.items()})
        version = [(VERSION_PARAMETER, API_VERSION)] if self.versioned else []
        pairs = urlencode([*version, *query])
        return f"{base.rstrip('/')}{path}" + (f"?{pairs}" if pairs else "")

    @cached_property
    def below_api(self) -> Operation:
        """The same operation below an endpoint's ``ApiLocation``; for those whose path starts with :data:`API_PATH`."""
        return replace(self, path=self.path.removeprefix(API_PATH))

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Regular expression that a raw (still encoded) path of this operation matches."""
        # The cloud service ran on ASP.NET, which disregards the case of a path's fixed parts.
        return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.path) + r"/?", re.IGNORECASE)


#: Where the management URL ends and the path of everything in a workspace begins.
WORKSPACES = "/workspaces/"
_WS = WORKSPACES + "{workspace}"
_SERVICE = _WS + "/webservices/{service}"
_ENDPOINT = _SERVICE + "/endpoints/{endpoint}"
#: Path of an endpoint's request/response and batch calls below the services host: the end of ``ApiLocation``.
API_PATH = _WS + "/services/{endpoint_id}"
#: First segment of the portal of our server, and the domain of the cloud service, whose portal was elsewhere.
PORTAL, CLOUD_DOMAIN = "/portal", ".azureml.net"
#: Path of an endpoint's help pages: the end of ``HelpLocation``.
_HELP_ROOT = "/apihelp"
_HELP = _HELP_ROOT + _SERVICE + "/endpoints/{endpoint_id}"

LIST_SERVICES = Operation("list_web_services", "GET", _WS + "/webservices", Credential.WORKSPACE, True)
GET_SERVICE = Operation("get_web_service", "GET", _SERVICE, Credential.WORKSPACE, True)
DELETE_SERVICE = Operation("delete_web_service", "DELETE", _SERVICE, Credential.WORKSPACE, True)
LIST_ENDPOINTS = Operation("list_endpoints", "GET", _SERVICE + "/endpoints", Credential.EITHER, True)
GET_ENDPOINT = Operation("get_endpoint", "GET", _ENDPOINT, Credential.EITHER, True)
ADD_ENDPOINT = Operation("add_endpoint", "PUT", _ENDPOINT, Credential.EITHER, True)
PATCH_ENDPOINT = Operation("patch_endpoint", "PATCH", _ENDPOINT, Credential.EITHER, True)
DELETE_ENDPOINT = Operation("delete_endpoint", "DELETE", _ENDPOINT, Credential.EITHER, True)
# Our addition: see `rehearsal`. It changes nothing; its body is that of an update.
REHEARSE_UPDATE = Operation("rehearse_update", "POST", _ENDPOINT + "/rehearse", Credential.EITHER, True, reads=True)
REFRESH_ENDPOINT = Operation("refresh_endpoint", "POST", _ENDPOINT + "/refresh", Credential.EITHER, True)
# Our addition: see `model_history`.
LIST_MODELS = Operation("list_models", "GET", _ENDPOINT + "/models", Credential.EITHER, True)
# Our addition: see `keys`. Sent twice, the key is a new one all the same.
REGENERATE_KEYS = Operation("regenerate_keys", "POST", _ENDPOINT + "/regeneratekeys", Credential.EITHER, True)
# Our addition: see `model_scoring`. Who may put a model live on the endpoint may ask it as well.
SCORE_MODEL = Operation("score_model", "POST", _ENDPOINT + "/scoremodel", Credential.EITHER, True, reads=True)
# Our addition: see `drift`.
GET_DRIFT = Operation("get_drift", "GET", _SERVICE + "/drift", Credential.WORKSPACE, True)
# Our addition: see `audit`.
LIST_AUDIT = Operation("list_audit", "GET", _WS + "/audit", Credential.WORKSPACE, True)
# Our addition: a blob of the service's store with a token that reads and writes it, for those who have not its key.
SIGN_BLOB = Operation("sign_blob", "POST", _WS + "/sign", Credential.WORKSPACE, True)
# Our additions: see `keys` and `customers`. A key that is made anew is another one.
LIST_KEYS = Operation("list_keys", "GET", _ENDPOINT + "/keys", Credential.EITHER, True)
MAKE_KEY = Operation("make_key", "PUT", _ENDPOINT + "/keys/{key}", Credential.EITHER, True)
REVOKE_KEY = Operation("revoke_key", "DELETE", _ENDPOINT + "/keys/{key}", Credential.EITHER, True)
GET_QUOTA = Operation("get_quota", "GET", _ENDPOINT + "/quota", Credential.EITHER, True)
SET_QUOTA = Operation("set_quota", "PUT", _ENDPOINT + "/quota", Credential.WORKSPACE, True)
# What clients of the Studio API read to see whether id and token are right; of it, there is nothing else (`studio`).
GET_WORKSPACE = Operation("get_workspace", "GET", "/api" + _WS, Credential.WORKSPACE, True)
LIST_DATA_SETS = Operation("list_data_sets", "GET", "/api" + _WS + "/datasources", Credential.WORKSPACE, True)
# The paths below are joined to an endpoint's ApiLocation, so for a client they start there; see `below_api`.
SUBMIT_JOB = Operation("submit_job", "POST", API_PATH + "/jobs", Credential.ENDPOINT, False, True)
START_JOB = Operation("start_job", "POST", API_PATH + "/jobs/{job}/start", Credential.ENDPOINT, False, True)
GET_JOB = Operation("get_job", "GET", API_PATH + "/jobs/{job}", Credential.ENDPOINT, True, True)
# Our additions, for those who look after jobs: see `job_history`.
LIST_JOBS = Operation("list_jobs", "GET", API_PATH + "/jobs", Credential.EITHER, True, True)
GET_JOB_LOG = Operation("get_job_log", "GET", API_PATH + "/jobs/{job}/log", Credential.EITHER, True, True)
CANCEL_JOB = Operation("cancel_job", "DELETE", API_PATH + "/jobs/{job}", Credential.ENDPOINT, True, True)
# Our addition: rows of a file as they are sent in a scoring call, for clients that cannot read the file.
_ROWS_END = "/rows"
READ_ROWS = Operation("read_rows", "POST", API_PATH + _ROWS_END, Credential.ENDPOINT, True, True, reads=True)
_SCORE_END = "/execute"
SCORE = Operation("score", "POST", API_PATH + _SCORE_END, Credential.ENDPOINT, True, True, None, reads=True)
# Our additions, for a customer who has his key alone: see `customers`.
_CUSTOMER = "/customer"
_FILE = _CUSTOMER + "/files/{file}"
GET_CUSTOMER = Operation("get_customer", "GET", _CUSTOMER, Credential.ENDPOINT, True)
LIST_FILES = Operation("list_files", "GET", _CUSTOMER + "/files", Credential.ENDPOINT, True)
SIGN_FILE = Operation("sign_file", "POST", _FILE, Credential.ENDPOINT, True)
WRITE_FILE = Operation("write_file", "PUT", _FILE, Credential.ENDPOINT, True)
DELETE_FILE = Operation("delete_file", "DELETE", _FILE, Credential.ENDPOINT, True)
# The Open Inference Protocol; see `inference`. A model's name holds its web service and endpoint.
_MODEL = "/v2/models/{model}"
INFERENCE_LIVE = Operation("inference_live", "GET", "/v2/health/live", Credential.NONE, True)
INFERENCE_READY = Operation("inference_ready", "GET", "/v2/health/ready", Credential.NONE, True)
INFERENCE_SERVER = Operation("inference_server", "GET", "/v2", Credential.NONE, True)
INFERENCE_MODEL = Operation("inference_model", "GET", _MODEL, Credential.ENDPOINT, True)
INFERENCE_MODEL_READY = Operation("inference_model_ready", "GET", _MODEL + "/ready", Credential.ENDPOINT, True)
_INFER_END = "/infer"
INFER = Operation("infer", "POST", _MODEL + _INFER_END, Credential.ENDPOINT, True, reads=True)
_VERSION = _MODEL + "/versions/{version}"
INFERENCE_VERSION = Operation("inference_version", "GET", _VERSION, Credential.ENDPOINT, True)
INFERENCE_VERSION_READY = Operation("inference_version_ready", "GET", _VERSION + "/ready", Credential.ENDPOINT, True)
INFER_VERSION = Operation("infer_version", "POST", _VERSION + _INFER_END, Credential.ENDPOINT, True, reads=True)
# Open to everybody: clients read these before they have a key (wire document, section 6).
HELP_INDEX = Operation("help", "GET", _HELP, Credential.NONE, True)
HELP_SCORE = Operation("help_score", "GET", _HELP + "/score", Credential.NONE, True)
HELP_JOBS = Operation("help_jobs", "GET", _HELP + "/jobs", Credential.NONE, True)
HELP_UPDATE = Operation("help_update", "GET", _HELP + "/update", Credential.NONE, True)
HELP_STYLE = Operation("help_style", "GET", "/static/help.css", Credential.NONE, True)
API_DOCUMENT = Operation("api_document", "GET", _ENDPOINT + "/apidocument", Credential.NONE, True)
# The cloud service had the same document below the management host only; clients that know one host look here.
HELP_DOCUMENT = Operation("help_document", "GET", _HELP + "/apidocument", Credential.NONE, True)
# Our addition: of the cloud service's document of these operations a draft is known, and no address.
MANAGEMENT_DOCUMENT = Operation("management_document", "GET", "/swagger.json", Credential.NONE, True)
# Old clients ask for it with and without api-version, so it is not versioned.
SWAGGER = Operation("swagger", "GET", API_PATH + "/swagger.json", Credential.NONE, True)
# Not routed by the server's app: blobs are addressed by their full location, on whatever host it names.
FETCH_BLOB = Operation("fetch_blob", "GET", "", Credential.LOCATION, True)
PROBE_BLOB = Operation("probe_blob", "HEAD", "", Credential.LOCATION, True)
STORE_BLOB = Operation("store_blob", "PUT", "", Credential.LOCATION, True)
PUT_BLOCK = Operation("put_block", "PUT", "", Credential.LOCATION, True)
PUT_BLOCK_LIST = Operation("put_block_list", "PUT", "", Credential.LOCATION, True)

#: Every operation that is routed by method and path.
OPERATIONS: tuple[Operation, ...] = (
    LIST_SERVICES,
    GET_SERVICE,
    DELETE_SERVICE,
    LIST_ENDPOINTS,
    GET_ENDPOINT,
    ADD_ENDPOINT,
    PATCH_ENDPOINT,
    REHEARSE_UPDATE,
    DELETE_ENDPOINT,
    REFRESH_ENDPOINT,
    LIST_MODELS,
    REGENERATE_KEYS,
    SCORE_MODEL,
    LIST_KEYS,
    MAKE_KEY,
    REVOKE_KEY,
    GET_QUOTA,
    SET_QUOTA,
    GET_WORKSPACE,
    LIST_DATA_SETS,
    GET_DRIFT,
    LIST_AUDIT,
    SIGN_BLOB,
    SUBMIT_JOB,
    START_JOB,
    GET_JOB,
    CANCEL_JOB,
    LIST_JOBS,
    GET_JOB_LOG,
    SCORE,
    READ_ROWS,
    GET_CUSTOMER,
    LIST_FILES,
    SIGN_FILE,
    WRITE_FILE,
    DELETE_FILE,
    INFERENCE_LIVE,
    INFERENCE_READY,
    INFERENCE_SERVER,
    INFERENCE_MODEL,
    INFERENCE_MODEL_READY,
    INFER,
    INFERENCE_VERSION,
    INFERENCE_VERSION_READY,
    INFER_VERSION,
    HELP_INDEX,
    HELP_SCORE,
    HELP_JOBS,
    HELP_UPDATE,
    HELP_STYLE,
    API_DOCUMENT,
    HELP_DOCUMENT,
    MANAGEMENT_DOCUMENT,
    SWAGGER,
)

_SLASHES = re.compile("/{2,}")
#: Operations by the number of slashes in their path: a request is compared with few of them.
_BY_DEPTH = MappingProxyType(
    {
        depth: tuple(operation for operation in OPERATIONS if operation.path.count("/") == depth)
        for depth in {operation.path.count("/") for operation in OPERATIONS}
    }
)


def api_location(base: str, workspace: str, endpoint_id: str) -> str:
    """``ApiLocation`` of an endpoint of our server.

    :param base: public address of the server.
    :param workspace: id of the workspace.
    :param endpoint_id: GUID of the endpoint.
    """
    return base + API_PATH.format(workspace=workspace, endpoint_id=endpoint_id)


def below_api(
    operation: Operation, api_location: str, segments: Mapping[str, str], query: Iterable[tuple[str, str]] = ()
) -> str:
    """URL of a job or scoring call of the endpoint whose ``ApiLocation`` is given.

    ``ApiLocation`` is taken as it is, because its host cannot be derived from the management host
    (wire document, section 1.2).

    :param operation: one of the operations whose path starts with :data:`API_PATH`.
    :param api_location: the endpoint's ``ApiLocation``.
    :param segments: the other values of the template.
    :param query: further query parameters, in order.
    """
    return operation.below_api.url(api_location, segments, query)


def is_score(path: str) -> bool:
    """Whether a path is that of a scoring call, seen at a glance.

    :param path: raw path.
    """
    return _ends_with(path, _SCORE_END)


def is_inference(path: str) -> bool:
    """Whether a path is that of a scoring call of the Open Inference Protocol, seen at a glance.

    :param path: raw path.
    """
    return _ends_with(path, _INFER_END)


def is_read_rows(path: str) -> bool:
    """Whether a path is that of a file that is read as the rows of a scoring call, seen at a glance.

    :param path: raw path.
    """
    return _ends_with(path, _ROWS_END)


def _ends_with(path: str, end: str) -> bool:
    # As patterns match: see Operation.pattern.
    return path.rstrip("/")[-len(end) :].lower() == end


def query_values(query: str) -> Mapping[str, str]:
    """First value of each parameter, by its name in lower case; remembered, as nearly all calls have the same query.

    :param query: raw query.
    """
    return _remembered_values(query) if len(query) <= _LONGEST_REMEMBERED else _values(query)


def _values(query: str) -> Mapping[str, str]:
    values: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        values.setdefault(name.lower(), value)
    return MappingProxyType(values)


_LONGEST_REMEMBERED = 256
_remembered_values = lru_cache(maxsize=64)(_values)


def wants_objects(query: Mapping[str, str]) -> bool:
    """Whether a scoring call is to be answered with a list of objects.

    :param query: its parameters.
    """
    return query.get(FORMAT_PARAMETER, "").lower() == SWAGGER_FORMAT


def wants_types(query: Mapping[str, str]) -> bool:
    """Whether a scoring call is to be answered with ``ColumnTypes``.

    :param query: its parameters.
    """
    return query.get(DETAILS_PARAMETER, "").lower() == "true"


#: The operation or ``None``; the decoded segments; the methods that the path does allow.
Match = tuple[Operation | None, Mapping[str, str], frozenset[str]]


def match(method: str, path: str) -> Match:
    """The operation that a request line names.

    :param method: HTTP method.
    :param path: raw path, still percent-encoded.
    :return: the operation, or ``None``; the decoded segments; the methods that this path does allow.
    """
    # Most calls are for few endpoints; a longer path is none of theirs, and not worth the memory.
    return _remembered(method, path) if len(path) <= _LONGEST_REMEMBERED else _match(method, path)


def _match(method: str, path: str) -> Match:
    allowed: set[str] = set()
    if "//" in path:
        # A base address that ends in a slash, joined with a path that begins with one.
        path = _SLASHES.sub("/", path)
    if method == "HEAD":
        method = "GET"
    for operation in _BY_DEPTH.get(path.count("/") - path.endswith("/"), ()):
        groups = operation.pattern.fullmatch(path)
        if groups is None:
            continue
        if operation.method == method:
            segments = {name: unquote(value) for name, value in groups.groupdict().items()}
            return operation, MappingProxyType(segments), frozenset({method})
        allowed.add(operation.method)
    return None, MappingProxyType({}), frozenset(allowed)


_remembered = lru_cache(maxsize=4096)(_match)


def portal_page(help_location: str, service_id: str, name: str) -> str:
    """Page of an endpoint in the portal of our server; empty for a service that has none.

    :param help_location: of the endpoint.
    :param service_id: of its web service.
    :param name: of the endpoint.
    """
    root = _portal(help_location)
    page = f"{root}/services/{quote(service_id, safe='')}/endpoints/{quote(name, safe='')}"
    return page if root and service_id else ""


def portal_job(help_location: str, job_id: str) -> str:
    """Page of a job in the portal of our server; empty for a service that has none.

    :param help_location: of the endpoint that ran it.
    :param job_id: the job.
    """
    root = _portal(help_location)
    return f"{root}/jobs/{quote(job_id, safe='')}" if root else ""


def _portal(help_location: str) -> str:
    base, separator, _ = help_location.rpartition(_HELP_ROOT + "/")
    host = urlsplit(base).hostname or ""
    return f"{base}{PORTAL}" if separator and not host.endswith(CLOUD_DOMAIN) else ""
