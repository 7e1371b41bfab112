"""The page: who may see it, its query, and its HTML."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_asset, requires_access_connection
from fastapi import Depends, FastAPI, Query
from fastapi.responses import FileResponse, HTMLResponse, Response

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError
from airflow_provider_azureml_classic.plugin.endpoints import (
    MAX_AGE,
    PAGE_SIZE,
    Listing,
    connections,
    listing,
    settings_of,
)

#: Days of the longest limit that can be asked for.
_MOST_DAYS = 36_500
_PAGES = Path(__file__).with_name("pages")
_POLICY = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'"
_HEADERS = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}

_allowed = [Depends(requires_access_connection("GET")), Depends(requires_access_asset("GET"))]


def make_app() -> FastAPI:
    """The application that Airflow mounts."""
    app = FastAPI(title="Azure ML Studio (classic)", openapi_url=None)
    app.get("/", dependencies=_allowed, response_class=HTMLResponse)(show)
    app.get("/style.css", include_in_schema=False)(_style)
    app.get("/icon.svg", include_in_schema=False)(_icon)
    return app


def _style() -> Response:
    return FileResponse(_PAGES / "style.css", media_type="text/css")


def _icon() -> Response:
    return FileResponse(_PAGES / "icon.svg", media_type="image/svg+xml")


def show(
    session: SessionDep,
    user: GetUserDep,
    conn_id: str = "",
    search: str = "",
    page: Annotated[int, Query(ge=1)] = 1,
    max_age: Annotated[str, Query(max_length=20)] = "",
) -> HTMLResponse:
    """The endpoints of one connection.

    :param session: of Airflow's metadata database.
    :param user: who asks.
    :param conn_id: the connection; the first one that the user may read by default.
    :param search: part of a name.
    :param page: from 1.
    :param max_age: days after which a model is called stale; empty: as each endpoint says.
    """
    manager = get_auth_manager()
    ids = sorted(manager.filter_authorized_connections(conn_ids=set(connections(session)), user=user))
    chosen = conn_id if conn_id in ids else (ids[0] if ids and not conn_id else "")
    result, error = Listing((), 0, 0), ""
    if conn_id and not chosen:
        error = f"There is no connection {conn_id!r} of type azureml_classic that you may read."
    elif chosen:
        dags = manager.get_authorized_dag_ids(user=user, session=session)
        try:
            result = listing(
                settings_of(chosen),
                session,
                search=search.strip(),
                page=page,
                max_age=_age(max_age),
                now=datetime.now(UTC),
                readable_dags=dags,
            )
        except (AzureMLClassicError, ValueError) as problem:
            error = str(problem)
    return _html(ids=ids, chosen=chosen, search=search, page=page, max_age=max_age, listing=result, error=error)


def _age(days: str) -> timedelta | None:
    """What the form says.

    :raises ValueError: it is no number of days.
    """
    if not days:
        return None
    try:
        number = float(days)
    except ValueError:
        number = 0.0
    if not 0 < number <= _MOST_DAYS:
        raise ValueError(
            f"Stale after {days!r} days: expected a number over 0, or nothing for the endpoints' own limits."
        )
    return timedelta(days=number)


def _html(**values: Any) -> HTMLResponse:
    # Heavy, and needed for this page only.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(_PAGES), autoescape=True, undefined=StrictUndefined)
    pages = max(1, -(-values["listing"].total // PAGE_SIZE))
    text = environment.get_template("endpoints.html").render(pages=pages, usual=MAX_AGE.days, **values)
    return HTMLResponse(text, headers=_HEADERS)
