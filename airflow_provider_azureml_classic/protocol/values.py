"""What the service talks about: web services, endpoints, resources, jobs. Pure values with ``from_wire``/``to_wire``.

``from_wire`` accepts every variant that section 14 of the wire document lists; ``to_wire`` emits the careful form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, TypeVar

from airflow_provider_azureml_classic.exceptions import ProtocolError, rejection
from airflow_provider_azureml_classic.protocol.digests import DIGESTS, Digests
from airflow_provider_azureml_classic.protocol.errors import known_members, reading_answer
from airflow_provider_azureml_classic.protocol.references import WINDOW, BlobReference, ToldWindow, window_end_of

#: Endpoint names (azure-docs, ``studio/create-endpoint``): at most 24 lower-case letters and digits.
ENDPOINT_NAME = re.compile(r"[a-z0-9]{1,24}")
ENDPOINT_NAME_RULE = "1 to 24 lower-case letters and digits"
DEFAULT_ENDPOINT = "default"
#: Endpoints that gates make for themselves.
CHECK_PREFIX, CHECK_DIGITS = "gatecheck", 15
CHECK_ENDPOINT = re.compile(rf"{CHECK_PREFIX}[0-9a-f]{{{CHECK_DIGITS}}}")
#: What Studio put behind the name of an experiment to name its scoring web service.
SCORING_SUFFIX = " [predictive exp.]"
API_LOCATION = "ApiLocation"
#: Our addition to endpoints of web services that keep their customers apart.
FOLDER = "Folder"
#: Our addition to endpoints that have a limit: whole seconds after the end of the training window.
STALE_AFTER = "StaleAfter"
#: The longest limit.
MAX_STALE_AFTER = timedelta(days=3660)
#: The one member of a refresh's body: ``"True"`` or ``"False"``, as .NET writes it.
OVERWRITE_RESOURCES = "OverwriteResources"
#: The only value of ``Resources[].Kind`` (azuremlps, ``AmlClient/bes_verbatim/swagger.endpointapi.json``).
TRAINED_MODEL = "TrainedModel"
#: A ``Low`` endpoint always has 4 concurrent calls, a ``High`` one 1 to 200, 20 if nothing is asked for
#: (wire document, section 2.3).
LOW_CONCURRENCY = 4
HIGH_CONCURRENCY = 20
MAX_CONCURRENCY = 200


class ThrottleLevel(str, Enum):
    """``ThrottleLevel`` of an endpoint."""

    LOW = "Low"
    HIGH = "High"


class TraceLevel(str, Enum):
    """``DiagnosticsTraceLevel`` of an endpoint: which calls are logged."""

    NONE = "None"
    ERROR = "Error"
    ALL = "All"


def check_endpoint_name(name: str) -> str:
    """``name`` without blanks around it, if an endpoint may be called that.

    :param name: the wanted name.
    :raises RequestRejected: ``EndpointNameInvalid``.
    """
    stripped = name.strip()
    if not ENDPOINT_NAME.fullmatch(stripped):
        message = f"{name!r} cannot be an endpoint's name: it must be {ENDPOINT_NAME_RULE}."
        raise rejection("EndpointNameInvalid", message, target="endpoint")
    return stripped


def is_check_endpoint(name: str) -> bool:
    """Whether an endpoint serves nobody but a gate: lists that people see leave it out.

    :param name: of the endpoint.
    """
    return CHECK_ENDPOINT.fullmatch(name) is not None


def _member(data: Any, what: str, name: str) -> str:
    if not isinstance(data, Mapping):
        raise ProtocolError(f"{what} is not an object.")
    if data.get(name) is None:
        raise ProtocolError(f"{what} has no {name}.")
    return str(data[name])


@dataclass(frozen=True)
class WebService:
    """A web service of a workspace; its name need not be unique.

    :param id: 32 hex digits.
    :param name: free text.
    :param workspace_id: 32 hex digits.
    :param description: free text, may be absent.
    :param creation_time: ISO 8601.
    :param default_endpoint_name: the endpoint that cannot be patched.
    :param endpoint_count: the default endpoint included.
    """

    id: str
    name: str
    workspace_id: str = ""
    description: str | None = None
    creation_time: str | None = None
    default_endpoint_name: str = DEFAULT_ENDPOINT
    endpoint_count: int = 1

    @classmethod
    @reading_answer("The web service")
    def from_wire(cls, data: Any) -> WebService:
        """A web service as the service describes it.

        :param data: decoded JSON.
        :raises ProtocolError: no ``Id``.
        """
        return cls(
            id=_member(data, "The web service", "Id"),
            name=data.get("Name") or "",
            workspace_id=data.get("WorkspaceId") or "",
            description=data.get("Description"),
            creation_time=data.get("CreationTime"),
            default_endpoint_name=data.get("DefaultEndpointName") or DEFAULT_ENDPOINT,
            endpoint_count=_integer(data, "EndpointCount") or 0,
        )

    def to_wire(self) -> dict[str, Any]:
        """All documented members."""
        return {
            "Id": self.id,
            "Name": self.name,
            "Description": self.description,
            "CreationTime": self.creation_time,
            "WorkspaceId": self.workspace_id,
            "DefaultEndpointName": self.default_endpoint_name,
            "EndpointCount": self.endpoint_count,
        }


@dataclass(frozen=True)
class Resource:
    """An updatable resource of an endpoint: a trained model and where it came from.

    :param name: as the predictive experiment calls it, for example ``Census Model [trained model]``.
    :param location: the blob last put in place; ``None`` if the service does not say.
    :param kind: what it is.
    :param digests: of the model, if the service tells them: our addition.
    :param window: of the model's training data, if the service tells it: our addition.
    """

    name: str
    location: BlobReference | None = None
    kind: str = TRAINED_MODEL
    digests: Digests | None = None
    window: ToldWindow | None = None

    @classmethod
    @reading_answer("The resource")
    def from_wire(cls, data: Any) -> Resource:
        """A resource as an endpoint lists it; its location may be empty.

        :param data: decoded JSON.
        :raises ProtocolError: no ``Name``, or a location that is none.
        """
        name = _member(data, "The resource", "Name")
        location = data.get("Location")
        empty = not location or (isinstance(location, Mapping) and not location.get("RelativeLocation"))
        digests = Digests.from_wire(data.get(DIGESTS))
        reference = None if empty else BlobReference.from_wire(location)
        return cls(name, reference, data.get("Kind") or TRAINED_MODEL, digests, ToldWindow.from_wire(data.get(WINDOW)))

    def to_wire(self) -> dict[str, Any]:
        """Name, kind and location; digests and window where they are known."""
        location = self.location.to_wire() if self.location else None
        digests = {DIGESTS: self.digests.to_wire()} if self.digests else {}
        window = {WINDOW: self.window.to_wire()} if self.window else {}
        return {"Name": self.name, "Kind": self.kind, "Location": location, **digests, **window}

    @property
    def window_end(self) -> datetime | None:
        """End of the live model's training window: as the service tells it, else as the path says."""
        return (self.window.end if self.window else None) or window_end_of(self.location)

    @property
    def data_end(self) -> datetime | None:
        """How far the live model's training data reach, as far as that is known: the end of its window, else the last
        time in the data, if the service tells it.
        """
        return self.window_end or (self.window.last if self.window else None)


@dataclass(frozen=True)
class Endpoint:
    """An endpoint of a web service, with its keys.

    :param name: path key on the management host.
    :param api_location: absolute URL below which jobs and scoring are; its last segment is the endpoint's GUID.
    :param primary_key: one of two keys; both are accepted.
    :param secondary_key: the other key.
    :param version: stamp of the graph; our server changes it at every update.
    :param etag: ``ETag`` header of the answer, if the server sent one.
    :param folder: where customers are kept apart, the one in the service's store that its keys reach; our addition.
    :param stale_after: the limit of the endpoint, or of its web service: a model whose training data end longer ago is
        stale; our addition.
    """

    name: str
    web_service_id: str = ""
    workspace_id: str = ""
    description: str | None = None
    creation_time: str | None = None
    help_location: str = ""
    api_location: str = ""
    primary_key: str = field(default="", repr=False)
    secondary_key: str = field(default="", repr=False)
    version: str | None = None
    prevent_update: bool = False
    sample_data_enabled: bool = False
    experiment_location: str | None = None
    max_concurrent_calls: int = LOW_CONCURRENCY
    diagnostics_trace_level: str = TraceLevel.NONE.value
    throttle_level: str = ThrottleLevel.LOW.value
    resources: tuple[Resource, ...] = ()
    etag: str | None = None
    folder: str | None = None
    stale_after: timedelta | None = None

    @classmethod
    @reading_answer("The endpoint")
    def from_wire(cls, data: Any, *, etag: str | None = None) -> Endpoint:
        """An endpoint as any server describes it (``HelpLocationURL``, numbers and booleans as text included).

        :param data: decoded JSON.
        :param etag: ``ETag`` header of the answer.
        :raises ProtocolError: no ``Name``, or a member of the wrong type.
        """
        name = _member(data, "The endpoint", "Name")
        return cls(
            name=name,
            web_service_id=data.get("WebServiceId") or "",
            workspace_id=data.get("WorkspaceId") or "",
            description=data.get("Description"),
            creation_time=data.get("CreationTime"),
            help_location=data.get("HelpLocation") or data.get("HelpLocationURL") or "",
            api_location=(_text(data, API_LOCATION) or "").rstrip("/"),
            primary_key=_key(data, "PrimaryKey"),
            secondary_key=_key(data, "SecondaryKey"),
            version=data.get("Version"),
            prevent_update=bool(boolean("PreventUpdate", data.get("PreventUpdate"))),
            sample_data_enabled=bool(boolean("SampleDataEnabled", data.get("SampleDataEnabled"))),
            experiment_location=data.get("ExperimentLocation"),
            max_concurrent_calls=_integer(data, "MaxConcurrentCalls") or 0,
            diagnostics_trace_level=data.get("DiagnosticsTraceLevel") or TraceLevel.NONE.value,
            throttle_level=data.get("ThrottleLevel") or ThrottleLevel.LOW.value,
            resources=tuple(map(Resource.from_wire, _list(data, "Resources"))),
            etag=etag,
            folder=_text(data, FOLDER),
            stale_after=_limit(data) or None,
        )

    def to_wire(self) -> dict[str, Any]:
        """All documented members; booleans and numbers are never null (the .NET client cannot read that)."""
        return {
            "Name": self.name,
            "Description": self.description,
            "CreationTime": self.creation_time,
            "WorkspaceId": self.workspace_id,
            "WebServiceId": self.web_service_id,
            "HelpLocation": self.help_location,
            "PrimaryKey": self.primary_key,
            "SecondaryKey": self.secondary_key,
            API_LOCATION: self.api_location,
            "Version": self.version,
            "PreventUpdate": self.prevent_update,
            "SampleDataEnabled": self.sample_data_enabled,
            "ExperimentLocation": self.experiment_location,
            "MaxConcurrentCalls": self.max_concurrent_calls,
            "DiagnosticsTraceLevel": self.diagnostics_trace_level,
            "ThrottleLevel": self.throttle_level,
            "Resources": [resource.to_wire() for resource in self.resources],
            **({FOLDER: self.folder} if self.folder else {}),
            **({STALE_AFTER: int(self.stale_after.total_seconds())} if self.stale_after else {}),
        }

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be shown."""
        own = (self.primary_key, self.secondary_key)
        located = [r.location.secrets for r in self.resources if r.location]
        return tuple(filter(None, (*own, *(secret for secrets in located for secret in secrets))))

    def resource(self, name: str | None = None) -> Resource:
        """The updatable resource called ``name``, by exact name first, then in any case if that is unique.

        :param name: ``None`` means "the only one".
        :raises RequestRejected: ``NoUpdatableResources`` or ``ResourceNameInvalid``; the message lists what is there.
        """
        if not self.resources:
            raise rejection(
                "NoUpdatableResources", f"Endpoint {self.name!r} has no updatable resources.", target=self.name
            )
        names = ", ".join(repr(resource.name) for resource in self.resources)
        if name is None:
            if len(self.resources) == 1:
                return self.resources[0]
            raise rejection(
                "ResourceNameInvalid", f"Endpoint {self.name!r} has several updatable resources; name one of: {names}."
            )
        exact = [r for r in self.resources if r.name == name]
        folded = [r for r in self.resources if r.name.casefold() == name.strip().casefold()]
        matches = exact or folded
        if len(matches) != 1:
            raise rejection(
                "ResourceNameInvalid",
                f"Endpoint {self.name!r} has no updatable resource {name!r}; it has: {names}.",
                target=name,
            )
        return matches[0]


_SETTINGS = frozenset(
    {"Description", "ThrottleLevel", "MaxConcurrentCalls", "PreventUpdate", "SampleDataEnabled"}
    | {"DiagnosticsTraceLevel", "WebServiceId", "EndpointName", "Name", "Resources", STALE_AFTER}
)


@dataclass(frozen=True)
class EndpointSettings:
    """What a client may set on an endpoint: body of the PUT that adds it, and of a PATCH. ``None`` = not mentioned.

    :param resources: locations to put in place; only in a PATCH.
    :param stale_after: a model whose training data end longer ago is stale; of no length: as the web service says. An
        addition of our server, which others refuse.
    """

    description: str | None = None
    throttle_level: ThrottleLevel | None = None
    max_concurrent_calls: int | None = None
    prevent_update: bool | None = None
    sample_data_enabled: bool | None = None
    diagnostics_trace_level: TraceLevel | None = None
    resources: tuple[Resource, ...] | None = None
    stale_after: timedelta | None = None

    @classmethod
    def from_wire(cls, data: Any) -> EndpointSettings:
        """Settings as any client writes them: concurrency as number, numeric string or null, with or without the
        ``WebServiceId`` and ``EndpointName`` that repeat the path.

        :param data: decoded JSON.
        :raises RequestRejected: naming the member at fault.
        """
        if not isinstance(data, Mapping):
            raise rejection("RequestBodyInvalid", "The body must be a JSON object.")
        data = known_members("The endpoint", data, _SETTINGS)
        return cls(
            description=_text(data, "Description"),
            throttle_level=_choice(data, "ThrottleLevel", ThrottleLevel),
            max_concurrent_calls=_integer(data, "MaxConcurrentCalls"),
            prevent_update=boolean("PreventUpdate", data.get("PreventUpdate")),
            sample_data_enabled=boolean("SampleDataEnabled", data.get("SampleDataEnabled")),
            diagnostics_trace_level=_choice(data, "DiagnosticsTraceLevel", TraceLevel),
            resources=_resources(data.get("Resources")),
            stale_after=_limit(data),
        )

    def to_wire(self) -> dict[str, Any]:
        """The members that are set."""
        members: dict[str, Any] = {
            "Description": self.description,
            "ThrottleLevel": self.throttle_level.value if self.throttle_level else None,
            "MaxConcurrentCalls": self.max_concurrent_calls,
            "PreventUpdate": self.prevent_update,
            "SampleDataEnabled": self.sample_data_enabled,
            "DiagnosticsTraceLevel": self.diagnostics_trace_level.value if self.diagnostics_trace_level else None,
            STALE_AFTER: None if self.stale_after is None else int(self.stale_after.total_seconds()),
        }
        wire = {name: value for name, value in members.items() if value is not None}
        if self.resources is not None:
            wire["Resources"] = [
                {"Name": r.name, "Location": r.location.to_wire() if r.location else None} for r in self.resources
            ]
        return wire


def _bad(name: str, value: Any, expected: str) -> Exception:
    return rejection("BadParameterValue", f"{name} is {value!r}; it must be {expected}.", target=name)


def _text(data: Mapping[str, Any], name: str) -> str | None:
    value = data.get(name)
    if value is not None and not isinstance(value, str):
        raise _bad(name, value, "a string")
    return value


def _key(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name) or ""
    if not isinstance(value, str):
        # Without the value: it may hold the key all the same.
        raise rejection("BadParameterValue", f"{name} is no string.")
    return value


def _list(data: Mapping[str, Any], name: str) -> list[Any]:
    value = data.get(name) or []
    if not isinstance(value, list):
        raise _bad(name, value, "a list")
    return value


def _integer(data: Mapping[str, Any], name: str) -> int | None:
    value = data.get(name)
    if value is None or value == "":
        return None
    try:
        if isinstance(value, bool) or int(value) != float(value):
            raise ValueError
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise _bad(name, value, "a whole number") from None


def _limit(data: Mapping[str, Any]) -> timedelta | None:
    seconds = _integer(data, STALE_AFTER)
    if seconds is not None and not 0 <= seconds <= MAX_STALE_AFTER.total_seconds():
        raise _bad(STALE_AFTER, seconds, f"seconds, of at most {MAX_STALE_AFTER.days:,} days, or 0 for none")
    return None if seconds is None else timedelta(seconds=seconds)


def boolean(name: str, value: Any) -> bool | None:
    """A JSON boolean, or a string ``True``/``False`` in any case, as .NET clients write it.

    :param name: name of the member, for the message.
    :param value: decoded JSON.
    :raises RequestRejected: ``BadParameterValue``.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    raise _bad(name, value, "true or false")


_E = TypeVar("_E", bound=Enum)


def _choice(data: Mapping[str, Any], name: str, kind: type[_E]) -> _E | None:
    value = data.get(name)
    if value is None or value == "":
        return None
    for member in kind:
        if str(value).strip().lower() == str(member.value).lower():
            return member
    raise _bad(name, value, " or ".join(str(member.value) for member in kind))


def _resources(items: Any) -> tuple[Resource, ...] | None:
    if items is None:
        return None
    if not isinstance(items, list) or not all(isinstance(item, Mapping) for item in items):
        raise rejection(
            "BadParameterValue", "Resources must be a list of objects with Name and Location.", target="Resources"
        )
    resources = []
    for item in items:
        item = known_members("The resource", item, frozenset({"Name", "Location", "Kind", DIGESTS, WINDOW}))
        name = item.get("Name")
        if not isinstance(name, str) or not name.strip():
            raise rejection("BadParameterValue", "A resource has no Name.", target="Name")
        location = BlobReference.from_wire(item.get("Location"), what=f"Location of {name!r}", strict=True)
        resources.append(Resource(name, location))
    return tuple(resources)
