"""Web services and endpoints: the rules, with no HTTP.

Rule 1: an endpoint key opens its own endpoint only, and adds endpoints to its own web service; keys of other endpoints
are shown to the workspace token only. Where customers are kept apart, a key opens the two endpoints of its customer and
nothing else: what is somebody else's is refused as what does not exist is, before anything is looked up.
Rule 2: the default endpoint's model cannot be replaced and it cannot be deleted (wire document, sections 2.4 to 2.6).
"""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from threading import Lock

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, did_you_mean, rejection
from airflow_provider_azureml_classic.protocol.approval import Approval
from airflow_provider_azureml_classic.protocol.inference import SEPARATOR
from airflow_provider_azureml_classic.protocol.keys import KeyType
from airflow_provider_azureml_classic.protocol.limits import MAX_KEPT_CALLS
from airflow_provider_azureml_classic.protocol.operations import Operation
from airflow_provider_azureml_classic.protocol.pages import Place
from airflow_provider_azureml_classic.protocol.values import (
    DEFAULT_ENDPOINT,
    Endpoint,
    EndpointSettings,
    WebService,
    check_endpoint_name,
)
from airflow_provider_azureml_classic.server.clock import Clock
from airflow_provider_azureml_classic.server.settings import Settings, new_key
from airflow_provider_azureml_classic.server.state.endpoint_store import Store, key_hash
from airflow_provider_azureml_classic.server.state.history import How
from airflow_provider_azureml_classic.server.state.tables import EndpointRow, ModelRow, ResourceRow, ServiceRow
from airflow_provider_azureml_classic.server.storage.locations import Locations
from airflow_provider_azureml_classic.server.storage.scope import WHOLE_STORE, Scope
from airflow_provider_azureml_classic.server.workspace.endpoints import (
    Views,
    check_settings,
    check_updatable,
    etag,
    new_endpoint,
    settings_values,
    with_key,
    without_keys,
)
from airflow_provider_azureml_classic.server.workspace.rights import opens, opens_to_readers

#: Endpoints of one web service (azure-docs ``studio/faq``).
MAX_ENDPOINTS = 10_000
#: Endpoints that are remembered, so that their calls need not ask the database; one takes about 2 KB.
MAX_CACHED = 1 << 15
#: Endpoints that a message names, and those among which one of a similar name is looked for.
_NAMED, _COMPARED = 10, 2_000
#: Attempts at a change that somebody else's change got in front of.
_ATTEMPTS = 20


@dataclass(frozen=True)
class Caller:
    """Who asks: the holder of the workspace token, or of one endpoint's key.

    :param endpoint: ``None`` for the workspace token, and for the read-only one.
    :param named: the key is one with a name, or the read-only token: its holder is shown no other key.
    """

    endpoint: EndpointRow | None = None
    named: bool = False

    @property
    def scope(self) -> Scope:
        """What of the service's store the caller reaches."""
        return WHOLE_STORE if self.endpoint is None else Scope(self.endpoint.customer)


#: Who has the workspace token, and who has the read-only one.
OWNER, READER = Caller(), Caller(named=True)


class Workspace:
    """The one workspace of a server.

    :param settings: ids, token and public address.
    :param store: its state.
    :param locations: places of models.
    :param clock: gives the present time.
    :param fresh: whether changes through other servers are known here.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        locations: Locations,
        clock: Clock,
        fresh: Callable[[], bool] = lambda: True,
    ) -> None:
        self._settings = settings
        self._store = store
        self._views = Views(settings, locations)
        self._clock = clock
        self._fresh = fresh
        # Scoring must not ask the database; every change of an endpoint drops its entry.
        self._cache: dict[str, EndpointRow] = {}
        self._changes = 0
        # Which endpoint the name of a model and a key led to; its entry above decides whether they still do.
        self._models: dict[tuple[str, str], str] = {}
        self._lock = Lock()

    # -- who may -----------------------------------------------------------------------------------------------------

    def caller(self, workspace_id: str, key: str, operation: Operation) -> Caller:
        """Who presents ``key``.

        :param workspace_id: as in the path.
        :param key: what follows ``Bearer``.
        :param operation: what is asked.
        :raises AccessDenied: nobody's key, or one that does not open the operation.
        :raises NotFound: another workspace.
        """
        if self._settings.is_token(key):
            caller = OWNER
        elif self._settings.is_read_token(key):
            if not opens_to_readers(operation):
                raise rejection(
                    "ManagementRequestUnauthorized", "The read-only token changes nothing; use the workspace token."
                )
            caller = READER
        else:
            caller = self._holder(key, operation)
        self.check_id(workspace_id)
        return caller

    def _holder(self, key: str, operation: Operation) -> Caller:
        holder = self._store.endpoint_with_key(key)
        if holder is None or not opens(holder[1], operation, self._clock()):
            raise rejection("ManagementRequestUnauthorized", "Invalid credentials provided.")
        return Caller(holder[0], holder[1].kind is not None)

    def check_id(self, workspace_id: str) -> None:
        """Refuse another workspace's id.

        :param workspace_id: as in the path.
        """
        if workspace_id != self._settings.workspace_id:
            raise rejection("WorkspaceNotFound", f"There is no workspace {workspace_id!r} here.", target=workspace_id)

    def endpoint_for_call(self, workspace_id: str, endpoint_id: str, key: str, operation: Operation) -> EndpointRow:
        """The endpoint of a job or scoring call, if the key is one of its two, or another that opens the call.

        :param workspace_id: as in the path.
        :param endpoint_id: GUID, as in the path.
        :param key: what follows ``Bearer``.
        :param operation: what is asked.
        :raises AccessDenied: also for an unknown endpoint, so that GUIDs cannot be probed.
        """
        row = self.cached(endpoint_id) or self._read(endpoint_id)
        opened = self._is_opened(row, key, operation)
        if row is None or not opened or workspace_id != self._settings.workspace_id:
            raise rejection("ScoreRequestUnauthorized", "Invalid credentials provided.")
        return row

    def _is_opened(self, row: EndpointRow | None, key: str, operation: Operation) -> bool:
        presented = key.encode()
        keys = (row.primary_key, row.secondary_key) if row else ("", "")
        good = [hmac.compare_digest(presented, candidate.encode()) for candidate in keys]
        return any(good) or (row is not None and self._has_other(row, key, operation))

    def _has_other(self, row: EndpointRow, key: str, operation: Operation) -> bool:
        found = key_hash(key) if row.other_keys else ""
        return any(one.hash == found and opens(one, operation, self._clock()) for one in row.other_keys)

    def opens(self, row: EndpointRow, key: str, operation: Operation) -> bool:
        """Whether a key is one that an endpoint's calls take, or a token of the workspace.

        :param row: the endpoint.
        :param key: what follows ``Bearer``.
        :param operation: what is asked.
        """
        if self._settings.is_token(key) or (self._settings.is_read_token(key) and opens_to_readers(operation)):
            return True
        try:
            return self.endpoint_for_call(self._settings.workspace_id, row.id, key, operation).id == row.id
        except AzureMLClassicError:
            return False

    def endpoint_of_model(self, model: str, key: str, operation: Operation) -> EndpointRow:
        """The endpoint that clients of the Open Inference Protocol call a model, if the key is one of its two.

        :param model: ``WEB SERVICE~ENDPOINT``, by the service's name or id.
        :param key: what follows ``Bearer``.
        :param operation: what is asked.
        :raises AccessDenied: also for a model that is not there, so that names cannot be probed.
        """
        presented = (model, key_hash(key))
        row = self.cached(self._models.get(presented, ""))
        if row is not None and self._is_opened(row, key, operation):
            return row
        row = self._look_up_model(model, key, operation)
        if len(self._models) >= MAX_ENDPOINTS:
            self._models.clear()
        self._models[presented] = row.id
        return self._read(row.id) or row

    def _look_up_model(self, model: str, key: str, operation: Operation) -> EndpointRow:
        holder = self._store.endpoint_with_key(key)
        row = holder[0] if holder and opens(holder[1], operation, self._clock()) else None
        if row is not None and row.customer is not None:
            row = self.scoring_endpoint(row.customer)
        service = row and self._store.service(row.service_id)
        names = {f"{named}{SEPARATOR}{row.name}" for named in (service.id, service.name)} if row and service else set()
        if row is None or model not in names:
            raise rejection(
                "ScoreRequestUnauthorized",
                "Invalid credentials provided. A model is WEB SERVICE~ENDPOINT, and its key is that endpoint's.",
            )
        return row

    def endpoint_for_reading(self, workspace_id: str, endpoint_id: str, key: str, operation: Operation) -> EndpointRow:
        """The endpoint whose jobs are looked at, for its own keys and for the workspace token.

        :param workspace_id: as in the path.
        :param endpoint_id: GUID, as in the path.
        :param key: what follows ``Bearer``.
        :param operation: what is asked.
        :raises AccessDenied: neither.
        :raises NotFound: no such endpoint, told to the workspace token only.
        """
        own = self.caller(workspace_id, key, operation).endpoint
        theirs = {row.id: row for row in self._of_one(own)} if own else {}
        if own is not None and endpoint_id not in theirs:
            raise rejection("ManagementRequestUnauthorized", "This endpoint key opens its own endpoint only.")
        row = theirs.get(endpoint_id) or self._store.endpoint(endpoint_id)
        if row is None:
            raise rejection("EndpointNotFound", f"There is no endpoint {endpoint_id!r} here.", target=endpoint_id)
        return row

    def _of_one(self, row: EndpointRow) -> list[EndpointRow]:
        """The endpoint, with the other one of its customer where customers are kept apart."""
        return [row] if row.customer is None else self._store.endpoints_of_customer(row.customer)

    def scoring_endpoint(self, customer: str) -> EndpointRow | None:
        """The endpoint of a customer that scores.

        :param customer: his id.
        """
        return next((row for row in self._store.endpoints_of_customer(customer) if row.resources), None)

    def _read(self, endpoint_id: str) -> EndpointRow | None:
        before = self._changes
        row = self._store.endpoint(endpoint_id)
        with self._lock:
            # What was read before a change must not be kept after it: the endpoint would stay as it was for ever.
            if row is not None and self._changes == before:
                if len(self._cache) >= MAX_CACHED:
                    # The one that was read longest ago: to know who was called last would cost each call.
                    self._cache.pop(next(iter(self._cache)))
                self._cache[endpoint_id] = row
        return row

    def forget(self, *endpoint_ids: str) -> None:
        """Read endpoints anew before they are used again.

        :param endpoint_ids: GUIDs; all without any.
        """
        with self._lock:
            self._changes += 1
            for endpoint_id in endpoint_ids or tuple(self._cache):
                self._cache.pop(endpoint_id, None)

    def cached(self, endpoint_id: str) -> EndpointRow | None:
        """The endpoint, if it was called since it last changed, and every change is known.

        :param endpoint_id: GUID.
        """
        return self._cache.get(endpoint_id) if self._fresh() else None

    def answers(self, endpoint_id: str) -> bool:
        """Whether an endpoint's calls come here: there is no other server, or one came since the endpoint last changed.

        :param endpoint_id: GUID.
        """
        return not self._store.shared or endpoint_id in self._cache

    def _allow(self, caller: Caller, service: ServiceRow, name: str | None = None) -> None:
        own = caller.endpoint
        if own is None or (own.service_id == service.id and name in (None, own.name, own.id)):
            return
        raise _not_own()

    def _opened(self, caller: Caller, service_id: str, name: str | None = None) -> ServiceRow:
        """The web service, if the caller may do something there, with one of its endpoints if one is named.

        Who is kept apart is told nothing of what is there: it is asked for his own endpoints only.
        """
        own = caller.endpoint
        if own is None or own.customer is None:
            service = self.service_row(service_id)
            self._allow(caller, service, name)
            return service
        mine = next((row for row in self._of_one(own) if row.service_id == service_id), None)
        if mine is None or name not in (None, mine.name, mine.id):
            raise _not_own()
        return self.service_row(mine.service_id)

    # -- web services ------------------------------------------------------------------------------------------------

    def services(self) -> list[WebService]:
        """All web services."""
        return self._counted(self._store.services())

    def service_page(self, limit: int, after: Place | None = None) -> tuple[list[WebService], Place | None]:
        """Web services, oldest first.

        :param limit: the most that are wanted.
        :param after: where the page before ended; ``None``: from the first on.
        :return: also where this page ends; ``None``: there are no more.
        """
        rows = self._store.services(limit + 1, (after.created_at, after.name) if after else None)
        return self._counted(rows[:limit]), _end_of(rows, limit)

    def _counted(self, rows: Sequence[ServiceRow]) -> list[WebService]:
        counts = self._store.endpoint_counts([row.id for row in rows])
        return [self._views.service(row, counts.get(row.id, 0)) for row in rows]

    def service(self, service_id: str) -> WebService:
        """One web service.

        :param service_id: its id.
        """
        row = self.service_row(service_id)
        return self._views.service(row, self._store.endpoint_count(row.id))

    def service_row(self, service_id: str) -> ServiceRow:
        """The web service with this id.

        :param service_id: its id.
        :raises NotFound: there is none.
        """
        row = self._store.service(service_id)
        if row is None:
            raise rejection(
                "WebServiceNotFound",
                # The cloud's sentence, which clients compare; then what is wrong.
                "Invalid web service ID provided. Verify the web service ID is correct and try again. There is no web "
                f"service {service_id!r} in this workspace; a name is not an id.",
                target=service_id,
            )
        return row

    def delete_service(self, service_id: str) -> None:
        """Delete a web service with its endpoints.

        :param service_id: its id.
        """
        self._store.delete_service(self.service_row(service_id).id)
        self.forget()

    # -- endpoints ---------------------------------------------------------------------------------------------------

    def endpoint_page(
        self, caller: Caller, service_id: str, limit: int, after: Place | None = None
    ) -> tuple[list[Endpoint], Place | None]:
        """Endpoints of a web service, oldest first; for an endpoint key, without the other endpoints' keys.

        :param caller: who asks.
        :param service_id: its id.
        :param limit: the most that are wanted.
        :param after: where the page before ended; ``None``: from the first on.
        :return: also where this page ends; ``None``: there are no more.
        """
        service, own = self._opened(caller, service_id), caller.endpoint
        if own is not None and own.customer is not None:
            return [self.view(row, caller) for row in self._of_one(own) if row.service_id == service.id], None
        rows = self._store.endpoints_of(service.id, limit + 1, (after.created_at, after.name) if after else None)
        views = [self.view(row) for row in rows[:limit]]
        if caller != OWNER:
            own_name = own.name if own and not caller.named else None
            views = [v if v.name == own_name else without_keys(v) for v in views]
        return views, _end_of(rows, limit)

    def endpoint(self, caller: Caller, service_id: str, name: str) -> tuple[ServiceRow, EndpointRow]:
        """One endpoint that the caller may manage.

        :param caller: who asks.
        :param service_id: id of its web service.
        :param name: its name, or its GUID.
        :raises NotFound: the message names the endpoints that are there.
        """
        service = self._opened(caller, service_id, name)
        row = self._store.endpoint_named(service.id, name)
        if row is None:
            raise self._no_endpoint(service, name) if caller.endpoint is None else _not_own()
        return service, row

    def _no_endpoint(self, service: ServiceRow, name: str) -> AzureMLClassicError:
        names, count = self._store.endpoint_names(service.id, _COMPARED), self._store.endpoint_count(service.id)
        near = did_you_mean(name, names)
        more = f" and {count - _NAMED} more" if count > _NAMED else ""
        return rejection(
            "EndpointNotFound",
            f"Web service {service.name!r} has no endpoint {name!r}; it has: {', '.join(names[:_NAMED])}{more}.{near}",
            target=name,
        )

    def add_endpoint(
        self, caller: Caller, service_id: str, name: str, settings: EndpointSettings
    ) -> tuple[Endpoint, bool]:
        """Add an endpoint, or change the settings of the one that has this name.

        :param caller: who asks.
        :param service_id: id of the web service.
        :param name: wanted name.
        :param settings: wanted settings.
        :return: the endpoint, and whether it is new.
        """
        own = caller.endpoint
        service = self._opened(caller, service_id, name if own is not None and own.customer else None)
        name = check_endpoint_name(name)
        if settings.resources:
            raise rejection("UnexpectedParameter", "Resources are set by PATCH, after the endpoint was added.")
        if name != DEFAULT_ENDPOINT and self._store.endpoint_named(service.id, name) is None:
            rows = self._new_endpoints(service, name, settings)
            if self._store.add_endpoints(*rows, most=MAX_ENDPOINTS):
                return self.view(rows[0]), True
        _, row = self.endpoint(caller, service.id, name)
        check_settings(caller.scope, settings)
        return self.view(self.change(row, settings)), False

    def _new_endpoints(self, service: ServiceRow, name: str, settings: EndpointSettings) -> list[EndpointRow]:
        """The new endpoint first; where customers are kept apart, then the other one of the new customer."""
        services, customer = [service], uuid.uuid4().hex if service.isolated else None
        if customer:
            experiment = [one for one in self._store.services() if one.experiment == service.experiment]
            services += [one for one in experiment if one.id != service.id]
        rows = []
        for one in services:
            default = self._store.endpoint_named(one.id, DEFAULT_ENDPOINT)
            if default is None:
                raise rejection("WebServiceNotFound", f"Web service {one.name!r} has no default endpoint.")
            row = new_endpoint(one.id, name, self._clock(), customer=customer, models=default.resources)
            rows.append(replace(row, **settings_values(row, settings)))
        return rows

    def change(
        self,
        row: EndpointRow,
        settings: EndpointSettings,
        models: tuple[ResourceRow, ...] = (),
        if_match: str | None = None,
        *,
        how: How = How.PATCHED,
        files: tuple[ModelRow, ...] = (),
        approval: Approval | None = None,
    ) -> EndpointRow:
        """Change settings and models of an endpoint in one step.

        :param row: the endpoint as read.
        :param settings: wanted settings.
        :param models: models that take the place of those of the same name.
        :param if_match: ``ETag`` that it must still have.
        :param how: what puts the models in place.
        :param files: what the models' files say of themselves, where that is not known yet.
        :param approval: who has agreed to the models, as the caller says.
        :raises RequestRejected: 412 ``EndpointChanged``.
        """
        for _ in range(_ATTEMPTS):
            if if_match is not None and if_match.strip() not in ("*", etag(row)):
                raise rejection(
                    "EndpointChanged",
                    f"Endpoint {row.name!r} is at {etag(row)}, not at {if_match}: it was changed in between.",
                )
            values = settings_values(row, settings)
            if not models and all(getattr(row, name) == value for name, value in values.items()):
                # Nothing to change: version and ETag tell of changes.
                return row
            now = self._clock()
            if self._store.change_endpoint(row, values, models, now, how=how, files=files, approval=approval):
                self.forget(row.id)
                break
            again = self._store.endpoint(row.id)
            if again is None:
                raise rejection("EndpointNotFound", f"Endpoint {row.name!r} was deleted meanwhile.", target=row.name)
            row = again
        else:
            raise rejection("UpdateWebServiceResourceFailed", f"Too many clients change endpoint {row.name!r} at once.")
        changed = self._read(row.id)
        if changed is None:
            raise rejection("EndpointNotFound", f"Endpoint {row.name!r} was deleted meanwhile.", target=row.name)
        return changed

    def keep_calls(self, service_id: str, name: str, calls: int | None) -> EndpointRow:
        """Set how many calls an endpoint keeps for rehearsals: a decision of the workspace's owner.

        :param service_id: id of the web service.
        :param name: the endpoint's name.
        :param calls: how many; ``None``: as its experiment declares.
        :raises RequestRejected: ``BadParameterValue``.
        """
        if calls is not None and not 0 <= calls <= MAX_KEPT_CALLS:
            raise rejection(
                "BadParameterValue", f"Calls to keep: {calls}; expected a number from 0 to {MAX_KEPT_CALLS:,}."
            )
        for _ in range(_ATTEMPTS):
            _, row = self.endpoint(Caller(), service_id, name)
            if self._store.change_endpoint(row, {"keep_calls": calls}, (), self._clock()):
                self.forget(row.id)
                return self.endpoint(Caller(), service_id, name)[1]
        raise rejection("UpdateWebServiceResourceFailed", f"Too many clients change endpoint {name!r} at once.")

    def refresh(self, caller: Caller, service_id: str, name: str, *, overwrite: bool) -> bool:
        """Bring an endpoint to the state of the default one: its models too if ``overwrite``.

        :param caller: who asks.
        :param service_id: id of the web service.
        :param name: the endpoint's name.
        :param overwrite: undo patches.
        :return: whether anything changed; published experiments do not change, so only models can.
        """
        service, row = self.endpoint(caller, service_id, name)
        check_updatable(row, "refreshed")
        default = self._store.endpoint_named(service.id, DEFAULT_ENDPOINT)
        models = tuple(replace(model, endpoint_id=row.id) for model in default.resources) if default else ()
        if not overwrite or models == row.resources:
            return False
        self.change(row, EndpointSettings(), models, how=How.REFRESHED)
        return True

    def regenerate(self, caller: Caller, service_id: str, name: str, which: KeyType) -> Endpoint:
        """Replace one key of an endpoint; version and ``ETag`` stay, as they tell of its model and settings.

        :param caller: who asks.
        :param service_id: id of the web service.
        :param name: the endpoint's name.
        :param which: the key.
        """
        key = new_key()
        for _ in range(_ATTEMPTS):
            _, row = self.endpoint(caller, service_id, name)
            changed = with_key(row, which, key)
            if self._store.replace_keys(row, changed):
                self.forget(*(each.id for each in self._of_one(row)))
                # The other key is that of now; this one is what this call has made, whoever has replaced it since.
                return self.view(with_key(self._read(row.id) or changed, which, key))
        raise rejection("UnknownError", f"Too many clients change the keys of endpoint {name!r} at once.")

    def delete_endpoint(self, caller: Caller, service_id: str, name: str) -> None:
        """Delete an endpoint with its jobs; where customers are kept apart, with the customer's other one.

        :param caller: who asks.
        :param service_id: id of the web service.
        :param name: the endpoint's name.
        """
        _, row = self.endpoint(caller, service_id, name)
        if caller.scope.customer is not None:
            raise rejection(
                "ManagementRequestUnauthorized", "The workspace token alone deletes an endpoint of this web service."
            )
        if row.name == DEFAULT_ENDPOINT:
            raise rejection("InvalidOperation", "The default endpoint cannot be deleted; delete the web service.")
        ids = [each.id for each in self._of_one(row)]
        self._store.delete_endpoints(*ids)
        self.forget(*ids)

    def view(self, row: EndpointRow, caller: Caller = OWNER) -> Endpoint:
        """The endpoint as clients see it.

        :param row: the endpoint.
        :param caller: who looks.
        """
        endpoint = self._views.endpoint(row)
        return without_keys(endpoint) if caller.named else endpoint


def _end_of(rows: Sequence[EndpointRow | ServiceRow], limit: int) -> Place | None:
    """Where a page ends whose rows were asked for with one more; ``None``: there are no more."""
    return Place(rows[limit - 1].created_at, rows[limit - 1].name) if len(rows) > limit else None


def _not_own() -> AzureMLClassicError:
    return rejection(
        "ManagementRequestUnauthorized", "This endpoint key opens its own endpoint only; use the workspace token."
    )
