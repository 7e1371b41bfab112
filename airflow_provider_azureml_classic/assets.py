"""Endpoints as Airflow assets: ``azureml-classic://{management host}/{workspace id}/{web service}/{endpoint}``.

An event of such an asset means that a model was put live and proved. ``UpdateTrainedModelOperator`` emits it through
the alias :data:`ENDPOINTS`, so that no DAG has to know its host or workspace; the asset itself is created with the
first event. A DAG with the asset or the alias as its schedule runs after each update.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

from airflow.sdk import Asset, AssetAlias, conf

if TYPE_CHECKING:
    from pydantic import JsonValue

    from airflow_provider_azureml_classic.hooks import ConnectionSettings
    from airflow_provider_azureml_classic.protocol.values import Endpoint, WebService

log = logging.getLogger(__name__)

SCHEME = "azureml-classic"
#: Every endpoint that a task updates is an asset of this alias, unless the task has such outlets of its own.
ENDPOINTS = AssetAlias("azureml_classic_endpoints")
#: Group of the assets of web services.
WEB_SERVICE_GROUP = "azureml_classic_web_service"
#: Partition keys of one task for each second of Airflow's patience, see :func:`max_partition_keys`.
_KEYS_A_SECOND = 100
_FORM = f"{SCHEME}://{{management host}}/{{workspace id}}/{{web service}}/{{endpoint}}"


def endpoint_asset(
    *,
    management_url: str,
    workspace_id: str,
    web_service: str,
    endpoint: str,
    extra: dict[str, JsonValue] | None = None,
) -> Asset:
    """The asset of an endpoint of a scoring web service.

    :param management_url: as in the connection's host.
    :param workspace_id: as in the connection's login.
    :param web_service: name or id, as the updating task names it: the two make different assets.
    :param endpoint: name of the endpoint.
    :param extra: the asset's own, not that of its events.
    :raises ValueError: one of them is missing or invalid.
    """
    parts = (workspace_id, web_service, endpoint)
    path = "/".join(quote(part.strip(), safe="") for part in parts)
    uri = sanitize_uri(urlsplit(f"{SCHEME}://{host_of(management_url)}/{path}")).geturl()
    return Asset(name=uri, uri=uri, extra=extra)


#: Under this name Airflow finds the factory of a scheme.
create_asset = endpoint_asset


def web_service_asset(web_service: str, *, name: str | None = None) -> Asset:
    """The asset of all endpoints of a scoring web service, of which each is a partition.

    As an outlet of an update, a rollback or a fleet it has an event for each endpoint that was updated, whose partition
    key is the endpoint's name.

    :param web_service: name or id of the web service whose endpoints are updated.
    :param name: of the asset, if the same web service is in several workspaces; by default made of the service's.
    """
    service = web_service.strip()
    return Asset(
        name=name or f"azureml-classic endpoints of {service}", group=WEB_SERVICE_GROUP, extra={"web_service": service}
    )


def host_of(management_url: str) -> str:
    """Host and port of a management URL; the default port is left out.

    :param management_url: with or without scheme.
    :raises ValueError: it names no host.
    """
    parts = urlsplit(management_url.strip() if "://" in management_url else f"https://{management_url.strip()}")
    if not parts.hostname:
        raise ValueError(f"The management URL {management_url!r} names no host.")
    default = {"http": 80, "https": 443}.get(parts.scheme)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{parts.port}" if parts.port not in (None, default) else host


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """The one spelling of an endpoint's URI; Airflow calls this for each URI of the scheme.

    :param uri: with any encoding of its parts, and any case of its host.
    :raises ValueError: it does not have exactly three parts after the host, or it has something besides.
    """
    text = f"{uri.scheme}://{uri.netloc.rpartition('@')[2]}{uri.path}"
    parts = [unquote(part).strip() for part in uri.path.removeprefix("/").split("/")]
    if not uri.hostname:
        raise ValueError(f"{text!r} names no management host; an endpoint's URI is {_FORM}.")
    if len(parts) != 3 or not all(parts):
        count = len([part for part in parts if part])
        raise ValueError(f"{text!r} has {count} of the 3 parts after the host; an endpoint's URI is {_FORM}.")
    if "@" in uri.netloc or uri.query or uri.fragment:
        raise ValueError(f"{text!r} must have no user, query or fragment; an endpoint's URI is {_FORM}.")
    path = "/".join(quote(part, safe="") for part in parts)
    return uri._replace(scheme=SCHEME, netloc=uri.netloc.lower(), path=f"/{path}")


def convert_asset_to_openlineage(asset: Asset, lineage_context: Any) -> Any:
    """The OpenLineage dataset of an endpoint.

    :param asset: the endpoint's.
    :param lineage_context: not used.
    """
    from airflow.providers.common.compat.openlineage.facet import Dataset

    parts = urlsplit(asset.uri)
    return Dataset(namespace=f"{SCHEME}://{parts.netloc}", name=unquote(parts.path.lstrip("/")))


# -- events --------------------------------------------------------------------------------------------------------


def with_endpoint_outlet(outlets: Iterable[Any]) -> list[Any]:
    """A task's outlets, with the alias of all endpoints unless the user named an endpoint or an alias.

    :param outlets: those that the user set.
    """
    own = list(outlets)
    has_endpoint = any(isinstance(outlet, AssetAlias) or _is_endpoint(outlet) for outlet in own)
    return own if has_endpoint else [*own, ENDPOINTS]


def spellings(settings: ConnectionSettings, name_or_id: str, service: WebService, endpoint: Endpoint) -> list[Asset]:
    """The assets that an endpoint may be declared as; the first has the web service as the task names it.

    :param settings: of the task's connection.
    :param name_or_id: the web service as the task names it.
    :param service: the same, as the service describes it.
    :param endpoint: its endpoint.
    """
    names = dict.fromkeys(filter(None, (name_or_id.strip(), service.name.strip(), service.id)))
    url, workspace = settings.management_url, settings.workspace_id
    return [
        endpoint_asset(management_url=url, workspace_id=workspace, web_service=name, endpoint=endpoint.name)
        for name in names
    ]


def record_update(
    context: Mapping[str, Any], outlets: Iterable[Any], receipt: Mapping[str, Any], assets: Sequence[Asset]
) -> None:
    """Add the receipt to the events that Airflow records if the task succeeds; a skipped one records none.

    :param context: Airflow's task context.
    :param outlets: of the task.
    :param receipt: what ``UpdateTrainedModelOperator`` returns.
    :param assets: the endpoint's, see :func:`spellings`.
    """
    events = context.get("outlet_events")
    if events is None:
        return
    uris = {asset.uri for asset in assets}
    for outlet in outlets:
        if isinstance(outlet, AssetAlias):
            events[outlet].add(assets[0], extra=event_extra(receipt))
        elif _is_endpoint(outlet) and outlet.uri in uris:
            events[outlet].extra.update(event_extra(receipt))
        elif _is_endpoint(outlet):
            log.warning(
                "The task's outlet %s is not the endpoint that was updated, %s; Airflow records an event for it "
                "nevertheless.",
                outlet.uri,
                assets[0].uri,
            )


def check_partitions(outlets: Iterable[Any], assets: str, service: WebService) -> None:
    """Refuse, before anything is changed, outlets with which events would be lost or be another web service's.

    :param outlets: of the task.
    :param assets: ``both`` or ``partitions``.
    :param service: the web service whose endpoints are updated.
    :raises ValueError: partitions are wanted and no asset is declared for them, or one of another web service is.
    """
    if assets not in ("both", "partitions"):
        raise ValueError(f"assets is {assets!r}; it must be 'both' or 'partitions'.")
    # Loaded in a worker anyway; a DAG file has no use for it.
    from airflow.sdk.execution_time.context import OutletEventAccessor

    declared = _web_services(outlets)
    if assets == "partitions" and not declared:
        raise ValueError(
            "assets='partitions' needs the asset of the web service among the task's outlets: Airflow loses events of "
            f"an asset that is not declared. Set outlets=[web_service_asset({service.name!r})]."
        )
    if declared and not hasattr(OutletEventAccessor, "add_partitions"):
        raise ValueError("Partitions of an asset need Airflow 3.3 or later.")
    for asset in declared:
        if asset.extra.get("web_service") not in (service.name, service.id):
            raise ValueError(
                f"The task's outlet {asset.name!r} is of web service {asset.extra.get('web_service')!r}, and the task "
                f"updates {service.name!r}. Set outlets=[web_service_asset({service.name!r})]."
            )


def has_partitions(outlets: Iterable[Any]) -> bool:
    """Whether a task has the asset of a web service as an outlet.

    :param outlets: of the task.
    """
    return bool(_web_services(outlets))


def max_partition_keys() -> int:
    """Partition keys that one task may record. Airflow records them one after the other in the one call with which a
    task reports its success, and repeats a call that takes longer than ``[workers] execution_api_timeout``, 5 s unless
    set. A key took 3 to 6 ms on two cores (3.3.2). Where eight processes waited for each core it took 20 to 75 ms, and
    calls with 500 keys were repeated, which records nothing twice.
    """
    return max(1, int(_KEYS_A_SECOND * conf.getfloat("workers", "execution_api_timeout", fallback=5.0)))


def record_partitions(context: Mapping[str, Any], outlets: Iterable[Any], endpoints: Sequence[str]) -> None:
    """Add an event for each updated endpoint to the assets of their web service.

    :param context: Airflow's task context.
    :param outlets: of the task.
    :param endpoints: names of those that were updated.
    """
    events = context.get("outlet_events")
    if events is None or not endpoints:
        return
    for asset in _web_services(outlets):
        events[asset].add_partitions(list(endpoints))


def _web_services(outlets: Iterable[Any]) -> list[Asset]:
    return [outlet for outlet in outlets if isinstance(outlet, Asset) and outlet.group == WEB_SERVICE_GROUP]


def event_extra(receipt: Mapping[str, Any]) -> dict[str, JsonValue]:
    """The extra of an event: plain JSON, and nothing secret.

    :param receipt: what ``UpdateTrainedModelOperator`` returns.
    """
    model, replaced = receipt["model"], receipt["replaced"]
    return {
        "web_service": receipt["web_service"],
        "endpoint": receipt["endpoint"],
        "resource": receipt["resource"],
        "job": receipt["job_id"],
        "window": receipt["window"],
        "metrics": finite(receipt.get("metrics")),
        "model": model["location"],
        "sha256": model["sha256"],
        "content": model.get("content"),
        "replaced": replaced["location"],
        "replaced_content": replaced.get("content"),
        "proof": receipt["proof"]["level"],
        "approval": receipt.get("approval"),
        "rehearsal": (receipt.get("rehearsal") or {}).get("text"),
    }


def finite(metrics: Mapping[str, float] | None) -> dict[str, JsonValue]:
    """The metrics that JSON can hold.

    :param metrics: numbers by name.
    """
    return {name: number for name, number in (metrics or {}).items() if math.isfinite(number)}


def _is_endpoint(outlet: Any) -> bool:
    return isinstance(outlet, Asset) and urlsplit(outlet.uri).scheme == SCHEME
