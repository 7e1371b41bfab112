"""What a view is given, and what it may answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlencode

from anyio import CapacityLimiter
from starlette.datastructures import FormData, UploadFile

from airflow_provider_azureml_classic.exceptions import rejection
from airflow_provider_azureml_classic.protocol.operations import OPERATIONS, PORTAL
from airflow_provider_azureml_classic.server.clock import Clock
from airflow_provider_azureml_classic.server.counters.drift import Drift
from airflow_provider_azureml_classic.server.counters.traffic import Traffic
from airflow_provider_azureml_classic.server.help.description import Describer
from airflow_provider_azureml_classic.server.jobs.jobs import Jobs
from airflow_provider_azureml_classic.server.models.store import ModelStore
from airflow_provider_azureml_classic.server.portal.sessions import Session
from airflow_provider_azureml_classic.server.settings import Settings
from airflow_provider_azureml_classic.server.state.database import Database
from airflow_provider_azureml_classic.server.state.job_overview import JobQueries
from airflow_provider_azureml_classic.server.state.overview import Queries
from airflow_provider_azureml_classic.server.state.tables import EndpointRow, ServiceRow
from airflow_provider_azureml_classic.server.storage.locations import Locations
from airflow_provider_azureml_classic.server.workspace.audit import Audit
from airflow_provider_azureml_classic.server.workspace.customers import Customer, Customers
from airflow_provider_azureml_classic.server.workspace.keys import Keys
from airflow_provider_azureml_classic.server.workspace.rights import opens
from airflow_provider_azureml_classic.server.workspace.scoring import Scoring
from airflow_provider_azureml_classic.server.workspace.updates import Updates
from airflow_provider_azureml_classic.server.workspace.workspace import Caller, Workspace

#: Whoever has presented the workspace token.
OWNER = Caller()
BY_NAME = {operation.name: operation for operation in OPERATIONS}


@dataclass(frozen=True)
class Core:
    """The service behind the pages: the same parts as behind the API.

    :param threads: of those who may wait for the database, shared with the API.
    """

    settings: Settings
    workspace: Workspace
    updates: Updates
    jobs: Jobs
    scoring: Scoring
    describer: Describer
    drift: Drift
    customers: Customers
    keys: Keys
    audit: Audit
    locations: Locations
    models: ModelStore
    database: Database
    clock: Clock
    threads: CapacityLimiter

    @cached_property
    def traffic(self) -> Traffic:
        """The calls of the last hour."""
        return Traffic()

    @cached_property
    def queries(self) -> Queries:
        """Web services, endpoints and models."""
        return Queries(self.database)

    @cached_property
    def job_queries(self) -> JobQueries:
        """Jobs."""
        return JobQueries(self.database)


@dataclass(frozen=True)
class Page:
    """A page to show.

    :param template: its name.
    :param values: for the template.
    :param status: HTTP status.
    """

    template: str
    values: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200


@dataclass(frozen=True)
class Go:
    """Another page to go to.

    :param path: from :meth:`Visit.path`.
    :param said: what that page is to say.
    :param kind: ``good``, or ``bad``: nothing was done.
    """

    path: str
    said: str = ""
    kind: str = "good"


@dataclass(frozen=True)
class Visit:
    """One request of somebody who is signed in.

    :param core: the service.
    :param session: of the browser.
    :param prefix: path of the public address.
    :param segments: values of the path.
    :param query: first value of each query parameter.
    :param form: what was sent; empty but for POST.
    :param by_script: the script asks, and wants JSON where there is any.
    :param customer: who is signed in with a key, and reaches his own alone; ``None``: somebody with a token.
    """

    core: Core
    session: Session
    prefix: str
    segments: Mapping[str, str]
    query: Mapping[str, str]
    form: FormData
    by_script: bool = False
    customer: Customer | None = None

    def path(self, *segments: str, **query: object) -> str:
        """Path of a page.

        :param segments: below :data:`PORTAL`.
        :param query: parameters; what is empty is left out.
        """
        given = urlencode({name: str(value) for name, value in query.items() if value not in (None, "")})
        below = "".join(f"/{quote(segment, safe='')}" for segment in segments)
        return f"{self.prefix}{PORTAL}{below}" + (f"?{given}" if given else "")

    @property
    def home(self) -> str:
        """Path of the first page."""
        return self.path("customer" if self.session.key else "services")

    def at(self, service: ServiceRow, row: EndpointRow, *segments: str, **query: object) -> str:
        """Path of an endpoint's page, or of one below it.

        :param service: its web service.
        :param row: the endpoint.
        :param segments: below its page.
        :param query: parameters.
        """
        place = ("customer",) if self.customer else ("services", service.id, "endpoints", row.name)
        return self.path(*place, *segments, **query)

    def job_at(self, *segments: str) -> str:
        """Path of a job's page, or of one below it.

        :param segments: the job, and below its page.
        """
        return self.path(*(("customer",) if self.customer else ()), "jobs", *segments)

    @property
    def caller(self) -> Caller:
        """Who asks."""
        return self.customer.caller if self.customer else OWNER

    def may(self, name: str) -> bool:
        """Whether the key that was presented opens an operation; a token of the workspace is asked for elsewhere.

        :param name: of the operation.
        """
        return self.customer is None or opens(self.customer.key, BY_NAME[name], self.now)

    @property
    def now(self) -> datetime:
        """The present time."""
        return self.core.clock()

    def service(self) -> ServiceRow:
        """The web service that the path names."""
        return self.core.workspace.service_row(self.segments["service"])

    def endpoint(self) -> tuple[ServiceRow, EndpointRow]:
        """The endpoint that the path names; a customer's is the one that scores."""
        if self.customer is None:
            return self.core.workspace.endpoint(OWNER, self.segments["service"], self.segments["endpoint"])
        row = self.customer.scoring
        if row is None:
            raise rejection("EndpointNotFound", "Your scoring endpoint was deleted: ask the owner of the service.")
        return self.core.workspace.endpoint(self.caller, row.service_id, row.name)

    def text(self, name: str) -> str:
        """A field of the form without blanks around it; empty if it is absent.

        :param name: of the field.
        """
        value = self.form.get(name)
        return value.strip() if isinstance(value, str) else ""

    def number(self, name: str) -> int | None:
        """A whole number of the form; ``None`` if the field is empty.

        :param name: of the field.
        :raises RequestRejected: it is none.
        """
        text = self.text(name)
        if not text:
            return None
        try:
            return int(text)
        except ValueError:
            raise rejection("BadParameterValue", f"{text!r} is not a whole number.", target=name) from None

    def file(self, name: str) -> UploadFile | None:
        """An uploaded file; ``None`` if none was chosen.

        :param name: of the field.
        """
        value = self.form.get(name)
        return value if isinstance(value, UploadFile) and value.filename else None

    def page_number(self) -> int:
        """Which page of a list is asked for; the first is 1."""
        text = self.query.get("page", "")
        return max(1, int(text)) if text.isascii() and text.isdigit() and len(text) < 7 else 1
