"""Rules of a single endpoint: its defaults, what may be set, when its models may be replaced, and what clients see."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from airflow_provider_azureml_classic.exceptions import rejection
from airflow_provider_azureml_classic.protocol.digests import Digests
from airflow_provider_azureml_classic.protocol.keys import KeyType
from airflow_provider_azureml_classic.protocol.limits import MAX_DESCRIPTION
from airflow_provider_azureml_classic.protocol.operations import HELP_INDEX, api_location
from airflow_provider_azureml_classic.protocol.references import BlobReference, ToldWindow, window_end_of
from airflow_provider_azureml_classic.protocol.values import (
    DEFAULT_ENDPOINT,
    HIGH_CONCURRENCY,
    LOW_CONCURRENCY,
    MAX_CONCURRENCY,
    Endpoint,
    EndpointSettings,
    Resource,
    ThrottleLevel,
    TraceLevel,
    WebService,
)
from airflow_provider_azureml_classic.server.blobs.names import is_first_model
from airflow_provider_azureml_classic.server.settings import Settings, new_key
from airflow_provider_azureml_classic.server.state.tables import EndpointRow, ResourceRow, ServiceRow
from airflow_provider_azureml_classic.server.storage.locations import Locations
from airflow_provider_azureml_classic.server.storage.scope import Scope


def new_endpoint(
    service_id: str,
    name: str,
    now: datetime,
    *,
    customer: str | None = None,
    models: tuple[ResourceRow, ...] = (),
) -> EndpointRow:
    """An endpoint with fresh keys and the default settings, not stored yet.

    The default endpoint has 20 concurrent calls, an added one 4 until it asks for more (wire document, sections 2.3
    and 9).

    :param service_id: its web service.
    :param name: its name.
    :param now: the present time.
    :param customer: whose it is, where customers are kept apart.
    :param models: those of the default endpoint.
    """
    is_default, endpoint_id = name == DEFAULT_ENDPOINT, uuid.uuid4().hex
    return EndpointRow(
        id=endpoint_id,
        service_id=service_id,
        name=name,
        description=None,
        created_at=now,
        primary_key=new_key(),
        secondary_key=new_key(),
        throttle_level=(ThrottleLevel.HIGH if is_default else ThrottleLevel.LOW).value,
        max_concurrent_calls=HIGH_CONCURRENCY if is_default else LOW_CONCURRENCY,
        trace_level=TraceLevel.NONE.value,
        prevent_update=False,
        sample_data_enabled=False,
        revision=1,
        changed_at=now,
        keep_calls=None,
        stale_after=None,
        service_stale_after=None,
        customer=customer,
        resources=tuple(replace(model, endpoint_id=endpoint_id) for model in models),
    )


def with_key(row: EndpointRow, which: KeyType, key: str) -> EndpointRow:
    """The endpoint with one key replaced, not stored yet.

    :param row: the endpoint as it is.
    :param which: the key that is replaced.
    :param key: the new one.
    """
    if which is KeyType.PRIMARY:
        return replace(row, primary_key=key)
    return replace(row, secondary_key=key)


def without_keys(endpoint: Endpoint) -> Endpoint:
    """What is seen of an endpoint by those who are not to see its keys.

    :param endpoint: the endpoint.
    """
    return replace(endpoint, primary_key="", secondary_key="")


def settings_values(row: EndpointRow, settings: EndpointSettings) -> dict[str, Any]:
    """Column values for wanted settings; what is not mentioned stays.

    ``Low`` always means 4 concurrent calls (wire document, section 2.3).

    :param row: the endpoint as it is.
    :param settings: what is wanted.
    :raises RequestRejected: a concurrency that ``High`` does not have, or a description that is too long or has the
        character NUL, which not every database stores.
    """
    if "\0" in (settings.description or ""):
        raise rejection("BadParameterValue", "The description has the character NUL.", target="Description")
    if len(settings.description or "") > MAX_DESCRIPTION:
        raise rejection(
            "BadParameterValue",
            f"The description has {len(settings.description or '')} letters; at most {MAX_DESCRIPTION} are kept.",
            target="Description",
        )
    level = settings.throttle_level.value if settings.throttle_level else row.throttle_level
    max_calls = settings.max_concurrent_calls
    if level == ThrottleLevel.LOW.value:
        calls = LOW_CONCURRENCY
    elif max_calls is None:
        calls = row.max_concurrent_calls if row.throttle_level == level else HIGH_CONCURRENCY
    else:
        calls = _checked_concurrency(max_calls)
    values = {
        "description": settings.description,
        "prevent_update": settings.prevent_update,
        "sample_data_enabled": settings.sample_data_enabled,
        "trace_level": settings.diagnostics_trace_level.value if settings.diagnostics_trace_level else None,
    }
    changes: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
    if settings.stale_after is not None:
        changes["stale_after"] = int(settings.stale_after.total_seconds()) or None
    return {"throttle_level": level, "max_concurrent_calls": calls, **changes}


def _checked_concurrency(max_calls: int) -> int:
    if max_calls > MAX_CONCURRENCY:
        raise rejection(
            "WebServiceTooManyConcurrentRequestRequirement",
            f"MaxConcurrentCalls is {max_calls}; at most {MAX_CONCURRENCY} are possible. Add endpoints instead.",
            target="MaxConcurrentCalls",
        )
    if max_calls < 1:
        raise rejection(
            "BadParameterValue",
            f"MaxConcurrentCalls is {max_calls}; it must be 1 or more.",
            target="MaxConcurrentCalls",
        )
    return max_calls


def check_settings(scope: Scope, settings: EndpointSettings) -> None:
    """Refuse settings that are not a customer's to change: what costs the service, or shows the first training data.

    :param scope: of the caller.
    :param settings: what is wanted.
    :raises AccessDenied: naming them.
    """
    others = (settings.throttle_level, settings.max_concurrent_calls)
    if scope.customer is not None and (*others, settings.sample_data_enabled, settings.diagnostics_trace_level) != (
        (None,) * 4
    ):
        raise rejection(
            "ManagementRequestUnauthorized",
            "ThrottleLevel, MaxConcurrentCalls, SampleDataEnabled and DiagnosticsTraceLevel of this endpoint are set "
            "with the workspace token only.",
        )


def check_updatable(row: EndpointRow, participle: str) -> None:
    """Refuse to replace the models of the default endpoint, or of one that forbids it.

    :param row: the endpoint.
    :param participle: past participle of the verb, for the message.
    """
    if row.name == DEFAULT_ENDPOINT:
        raise rejection("DefaultEndpointReadOnly", f"The default endpoint cannot be {participle}.", target=row.name)
    if row.prevent_update:
        raise rejection(
            "EndpointUpdatePrevented",
            f"Endpoint {row.name!r} has PreventUpdate set, so it cannot be {participle}; PATCH PreventUpdate to "
            "false first.",
            target=row.name,
        )


def _limit(row: EndpointRow) -> timedelta | None:
    seconds = row.stale_after or row.service_stale_after
    # A training endpoint has no model that ages.
    return timedelta(seconds=seconds) if seconds and row.resources else None


def etag(row: EndpointRow) -> str:
    """``ETag`` of an endpoint's state: our addition to the protocol.

    :param row: the endpoint.
    """
    return f'"{row.revision}"'


def stamp(moment: datetime) -> str:
    """A time as the service writes it.

    :param moment: in UTC.
    """
    return f"{moment.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


class Views:
    """Makes what clients see.

    :param settings: ids and public address.
    :param locations: addresses of models.
    """

    def __init__(self, settings: Settings, locations: Locations) -> None:
        self._settings = settings
        self._locations = locations

    def service(self, row: ServiceRow, endpoints: int) -> WebService:
        """A web service.

        :param row: the web service.
        :param endpoints: how many it has.
        """
        return WebService(
            id=row.id,
            name=row.name,
            workspace_id=self._settings.workspace_id,
            description=f"{'Training' if row.training else 'Scoring'} of the experiment {row.experiment}",
            creation_time=stamp(row.created_at),
            default_endpoint_name=DEFAULT_ENDPOINT,
            endpoint_count=endpoints,
        )

    def endpoint(self, row: EndpointRow) -> Endpoint:
        """An endpoint with its keys.

        :param row: the endpoint.
        """
        base, workspace = self._settings.public_url, self._settings.workspace_id
        names = {"workspace": workspace, "service": row.service_id, "endpoint_id": row.id}
        return Endpoint(
            name=row.name,
            web_service_id=row.service_id,
            workspace_id=workspace,
            description=row.description,
            creation_time=stamp(row.created_at),
            help_location=HELP_INDEX.url(base, names),
            api_location=api_location(base, workspace, row.id),
            primary_key=row.primary_key,
            secondary_key=row.secondary_key,
            version=stamp(row.changed_at),
            prevent_update=row.prevent_update,
            sample_data_enabled=row.sample_data_enabled,
            max_concurrent_calls=row.max_concurrent_calls,
            diagnostics_trace_level=row.trace_level,
            throttle_level=row.throttle_level,
            resources=tuple(self._resource(model) for model in row.resources),
            etag=etag(row),
            folder=Scope(row.customer).folder,
            stale_after=_limit(row),
        )

    def _resource(self, model: ResourceRow) -> Resource:
        reference = BlobReference.at(model.base_location, model.relative_location)
        digests = Digests(model.digest, model.content)
        is_first = is_first_model(reference.relative_location)
        end = model.window_end or window_end_of(reference)
        window = ToldWindow(end, is_first, model.last_time, model.trained_at)
        published = self._locations.published(reference, signed=False)
        return Resource(model.name, published, digests=digests, window=window)
