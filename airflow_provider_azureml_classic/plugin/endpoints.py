"""The content of the page: endpoints as the service describes them, and the runs that updated them."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from airflow.models.asset import AssetEvent, AssetModel
from airflow.models.connection import Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from sqlalchemy.orm import Session

from airflow_provider_azureml_classic.assets import spellings
from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.hooks import AzureMLClassicHook, ConnectionSettings
from airflow_provider_azureml_classic.protocol.moments import age_text
from airflow_provider_azureml_classic.protocol.operations import portal_page
from airflow_provider_azureml_classic.protocol.values import Endpoint, WebService, is_check_endpoint

#: A model whose training data end longer ago is stale, unless the reader or the endpoint says otherwise.
MAX_AGE = timedelta(days=7)
#: Endpoints on one page.
PAGE_SIZE = 50
#: Seconds that a person waits for the service, at most.
_TIMEOUT = 10.0
_FROM_ENVIRONMENT = "AIRFLOW_CONN_"


@dataclass(frozen=True)
class Update:
    """A run that updated an endpoint, as its asset's last event says.

    :param dag_id: the DAG.
    :param run_id: its run.
    :param at: when the event was recorded.
    """

    dag_id: str
    run_id: str
    at: datetime


@dataclass(frozen=True)
class EndpointLine:
    """A line of the page.

    :param service: name of the web service.
    :param endpoint: name of the endpoint.
    :param model: path of the live model, without account and token; empty if the service does not say.
    :param window_end: end of its training window, if its path says so.
    :param age: how long that is ago, in words; empty if unknown.
    :param state: ``fresh``, ``stale`` or ``unknown``.
    :param update: the run that updated it last, if Airflow knows one that the user may see.
    :param url: the endpoint in the server's portal, else its help page; empty if the service names none.
    """

    service: str
    endpoint: str
    model: str
    window_end: datetime | None
    age: str
    state: str
    update: Update | None
    url: str


@dataclass(frozen=True)
class Listing:
    """One page of lines.

    :param lines: as shown.
    :param total: endpoints that fit the search, on all pages.
    :param stale: those of them that are older than the limit, on all pages.
    """

    lines: Sequence[EndpointLine]
    total: int
    stale: int


def connections(session: Session) -> list[str]:
    """Ids of the connections of our type, in the database and in the environment.

    :param session: of Airflow's metadata database.
    """
    kind = AzureMLClassicHook.conn_type
    ids = set(session.scalars(sa.select(Connection.conn_id).where(Connection.conn_type == kind)))
    for name in os.environ:
        if name.startswith(_FROM_ENVIRONMENT):
            conn_id = name.removeprefix(_FROM_ENVIRONMENT).lower()
            try:
                if Connection.get_connection_from_secrets(conn_id).conn_type == kind:
                    ids.add(conn_id)
            except Exception:  # noqa: S112 - somebody else's connection, which may be malformed in any way
                continue
    return sorted(ids)


def settings_of(conn_id: str) -> ConnectionSettings:
    """The fields of a connection, wherever Airflow keeps it.

    :param conn_id: its id.
    :raises ValueError: it is unknown, or lacks something.
    """
    try:
        connection: Any = Connection.get_connection_from_secrets(conn_id)
    except AirflowNotFoundException:
        raise ValueError(f"There is no connection {conn_id!r}.") from None
    return ConnectionSettings.of(connection)


def listing(
    settings: ConnectionSettings,
    session: Session,
    *,
    search: str,
    page: int,
    max_age: timedelta | None,
    now: datetime,
    readable_dags: Collection[str],
) -> Listing:
    """The scoring endpoints of a workspace: those that have a model which can be replaced, the stalest first.

    :param settings: of the connection.
    :param session: of Airflow's metadata database.
    :param search: part of the name of endpoint or web service, in any case.
    :param page: from 1.
    :param max_age: a model whose window ended longer ago is stale; ``None``: as the endpoint says, else
        :data:`MAX_AGE`.
    :param now: the present time.
    :param readable_dags: DAGs that the user may see.
    :raises AzureMLClassicError: the service does not answer, or refuses.
    """
    matches = [
        (service, endpoint)
        for service, endpoint in _endpoints(settings)
        if search.casefold() in f"{service.name} {endpoint.name}".casefold()
    ]
    matches.sort(key=lambda pair: (_window_end(pair[1]) or datetime.max.replace(tzinfo=now.tzinfo), pair[1].name))
    stale = sum(1 for _, endpoint in matches if _state(endpoint, max_age, now) == "stale")
    shown = matches[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]
    updates = _updates(session, settings, shown, readable_dags)
    lines = [_line(service, row, updates.get(row.api_location), max_age, now) for service, row in shown]
    return Listing(lines, len(matches), stale)


def _endpoints(settings: ConnectionSettings) -> list[tuple[WebService, Endpoint]]:
    options = {**settings.client_options, "timeout": min(settings.timeout, _TIMEOUT)}
    with Client(**options) as client:
        return [
            (service, endpoint)
            for service in client.list_web_services()
            for endpoint in client.list_endpoints(service.id)
            if endpoint.resources and endpoint.name != service.default_endpoint_name
            if not is_check_endpoint(endpoint.name)
        ]


def _window_end(endpoint: Endpoint) -> datetime | None:
    return endpoint.resources[0].data_end


def _state(endpoint: Endpoint, max_age: timedelta | None, now: datetime) -> str:
    window_end = _window_end(endpoint)
    if window_end is None:
        return "unknown"
    return "fresh" if now - window_end <= (max_age or endpoint.stale_after or MAX_AGE) else "stale"


def _line(
    service: WebService, endpoint: Endpoint, update: Update | None, max_age: timedelta | None, now: datetime
) -> EndpointLine:
    window_end, live = _window_end(endpoint), endpoint.resources[0].location
    return EndpointLine(
        service=service.name,
        endpoint=endpoint.name,
        model=live.relative_location if live else "",
        window_end=window_end,
        age=age_text(now - window_end) if window_end else "",
        state=_state(endpoint, max_age, now),
        update=update,
        url=_page_of(service, endpoint),
    )


def _page_of(service: WebService, endpoint: Endpoint) -> str:
    """Only a web page: an address of another kind would run in the reader's session with Airflow."""
    if not endpoint.help_location.startswith(("http://", "https://")):
        return ""
    return portal_page(endpoint.help_location, service.id, endpoint.name) or endpoint.help_location


def _updates(
    session: Session,
    settings: ConnectionSettings,
    shown: Sequence[tuple[WebService, Endpoint]],
    readable_dags: Collection[str],
) -> Mapping[str, Update]:
    """The last update of each endpoint by its address, from the events of its assets."""
    owner = {
        asset.uri: endpoint.api_location
        for service, endpoint in shown
        for asset in spellings(settings, service.name, service, endpoint)
    }
    last = (
        sa.select(AssetModel.uri, sa.func.max(AssetEvent.id).label("event"))
        .join(AssetEvent, AssetEvent.asset_id == AssetModel.id)
        .where(AssetModel.uri.in_(owner), AssetEvent.source_dag_id.in_(readable_dags))
        .group_by(AssetModel.uri)
        .subquery()
    )
    query = (
        sa.select(last.c.uri, AssetEvent.source_dag_id, AssetEvent.source_run_id, AssetEvent.timestamp)
        .join(AssetEvent, AssetEvent.id == last.c.event)
        .order_by(AssetEvent.id)
    )
    # Of an endpoint with events under name and id, the later one stays.
    return {owner[uri]: Update(dag_id, run_id, at) for uri, dag_id, run_id, at in session.execute(query)}
