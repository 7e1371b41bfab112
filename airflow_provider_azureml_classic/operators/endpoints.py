"""Endpoints: add, delete, refresh and list them, and regenerate their keys."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_azureml_classic.exceptions import NotFound, cause, rejection
from airflow_provider_azureml_classic.links import EndpointHelpLink, PortalLink, push_help
from airflow_provider_azureml_classic.operators.base import DEFAULT_ENDPOINT, AzureMLClassicOperator, airflow_errors
from airflow_provider_azureml_classic.protocol.keys import KeyType
from airflow_provider_azureml_classic.protocol.values import (
    Endpoint,
    EndpointSettings,
    ThrottleLevel,
    WebService,
    check_endpoint_name,
    is_check_endpoint,
)

if TYPE_CHECKING:
    from airflow.sdk import Context


class AddEndpointOperator(AzureMLClassicOperator):
    """Adds an endpoint to a web service.

    Returns a dict: ``web_service``, ``web_service_id``, ``endpoint``, ``outcome`` (``added``, ``kept`` or
    ``updated``), ``api_location``, ``help_location`` and the names of its updatable ``resources``; where customers
    are kept apart, the ``folder`` of the service's store that is the customer's. No keys.

    :param web_service: name or id of the scoring web service. (templated)
    :param endpoint: name of the endpoint: 1 to 24 lower-case letters and digits. (templated)
    :param description: free text. (templated)
    :param throttle_level: ``Low`` (4 concurrent calls) or ``High``; ``None`` leaves it, a new endpoint has ``Low``.
    :param max_concurrent_calls: 1 to 200; with ``High`` only.
    :param prevent_update: refuse later updates of the model.
    :param stale_after: a model whose training data end longer ago is stale, for the portal, the metrics,
        ``ModelFreshnessSensor`` and ``StaleModelTrigger``; of no length: as the web service says. Of the self-hosted
        server; others refuse it.
    :param if_exists: ``skip`` leaves an endpoint of that name as it is, ``update`` changes its settings, ``fail``
        fails the task.
    :param azureml_classic_conn_id: connection of type ``azureml_classic``. (templated)
    """

    template_fields: Sequence[str] = ("azureml_classic_conn_id", "web_service", "endpoint", "description")
    ui_color = "#dbeafe"
    operator_extra_links = (EndpointHelpLink(), PortalLink())

    def __init__(
        self,
        *,
        web_service: str,
        endpoint: str,
        description: str | None = None,
        throttle_level: Literal["Low", "High"] | None = None,
        max_concurrent_calls: int | None = None,
        prevent_update: bool | None = None,
        stale_after: timedelta | None = None,
        if_exists: Literal["skip", "update", "fail"] = "skip",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.web_service = web_service
        self.endpoint = endpoint
        self.description = description
        self.throttle_level = throttle_level
        self.max_concurrent_calls = max_concurrent_calls
        self.prevent_update = prevent_update
        self.stale_after = stale_after
        self.if_exists = if_exists

    def execute(self, context: Context) -> dict[str, Any]:
        """Add the endpoint, or leave it, as ``if_exists`` says."""
        with airflow_errors():
            settings, name = self._settings(), check_endpoint_name(self.endpoint)
            service = self.hook.client.find_web_service(self.web_service)
            endpoint = self._existing(service.id, name)
            outcome = "added" if endpoint is None else "kept" if self.if_exists == "skip" else "updated"
            if endpoint is not None and self.if_exists == "fail":
                raise rejection(
                    "BadArgument",
                    f"Web service {service.name!r} already has an endpoint {name!r}, and if_exists='fail'.",
                )
            if endpoint is None or outcome != "kept":
                endpoint = self.hook.client.add_endpoint(service.id, name, settings)
        push_help(context, endpoint)
        self.log.info("Endpoint %r of %r: %s.", name, service.name, outcome)
        return {"web_service": service.name, "web_service_id": service.id, "outcome": outcome, **_description(endpoint)}

    def _settings(self) -> EndpointSettings:
        if self.if_exists not in ("skip", "update", "fail"):
            raise ValueError(f"if_exists is {self.if_exists!r}; it must be 'skip', 'update' or 'fail'.")
        if self.throttle_level not in (None, *(level.value for level in ThrottleLevel)):
            raise ValueError(f"throttle_level is {self.throttle_level!r}; it must be 'Low' or 'High'.")
        return EndpointSettings(
            description=self.description,
            throttle_level=ThrottleLevel(self.throttle_level) if self.throttle_level else None,
            max_concurrent_calls=self.max_concurrent_calls,
            prevent_update=self.prevent_update,
            stale_after=self.stale_after,
        )

    def _existing(self, service_id: str, name: str) -> Endpoint | None:
        try:
            return self.hook.client.get_endpoint(service_id, name)
        except NotFound:
            return None


class _EndpointOperator(AzureMLClassicOperator):
    """An operator on one endpoint of a web service.

    :param web_service: name or id of the web service.
    :param endpoint: its endpoint.
    """

    template_fields: Sequence[str] = ("azureml_classic_conn_id", "web_service", "endpoint")
    ui_color = "#dbeafe"

    def __init__(self, *, web_service: str, endpoint: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.web_service = web_service
        self.endpoint = endpoint

    def _service(self, action: str) -> tuple[WebService, str]:
        """The web service, and the endpoint's name if it is not the default one.

        :param action: what cannot be done to that, as a past participle.
        """
        service, name = self.hook.client.find_web_service(self.web_service), self.endpoint.strip()
        if name in (DEFAULT_ENDPOINT, service.default_endpoint_name):
            raise rejection(
                "InvalidOperation",
                f"{name!r} is the default endpoint of {service.name!r}, which cannot be {action}: all others are "
                "made from it. Name an endpoint that was added.",
                target=name,
            )
        return service, name


def _result(service: WebService, name: str, **facts: Any) -> dict[str, Any]:
    return {"web_service": service.name, "web_service_id": service.id, "endpoint": name, **facts}


class DeleteEndpointOperator(_EndpointOperator):
    """Deletes an endpoint with its jobs; usable as a teardown task: ``DeleteEndpointOperator(...).as_teardown(...)``.

    Returns a dict: ``web_service``, ``web_service_id``, ``endpoint``, ``outcome`` (``deleted`` or ``missing``).

    :param web_service: name or id of the web service. (templated)
    :param endpoint: its endpoint, not the default one. (templated)
    :param missing_ok: an endpoint that does not exist counts as deleted; ``False`` fails the task.
    :param azureml_classic_conn_id: connection of type ``azureml_classic``. (templated)
    """

    def __init__(self, *, missing_ok: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.missing_ok = missing_ok

    def execute(self, context: Context) -> dict[str, Any]:
        """Delete the endpoint, if it exists."""
        with airflow_errors():
            service, name = self._service("deleted")
            outcome = "deleted" if self._delete(service.id, name) else "missing"
        self.log.info("Endpoint %r of %r: %s.", name, service.name, outcome)
        return _result(service, name, outcome=outcome)

    def _delete(self, service_id: str, name: str) -> bool:
        try:
            self.hook.client.get_endpoint(service_id, name)
        except NotFound:
            if not self.missing_ok:
                raise
            return False
        try:
            self.hook.client.delete_endpoint(service_id, name)
        except NotFound:
            self.log.info(
                "Endpoint %r no longer exists: the answer to this call was lost, or somebody else deleted it.", name
            )
        return True


class RefreshEndpointOperator(_EndpointOperator):
    """Brings an endpoint to the state of its web service's default endpoint.

    Returns a dict: ``web_service``, ``web_service_id``, ``endpoint``, ``changed`` (whether anything changed).

    :param web_service: name or id of the scoring web service. (templated)
    :param endpoint: its endpoint, not the default one. (templated)
    :param overwrite_resources: replace its trained models too, which undoes all their updates.
    :param azureml_classic_conn_id: connection of type ``azureml_classic``. (templated)
    """

    def __init__(self, *, overwrite_resources: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.overwrite_resources = overwrite_resources

    def execute(self, context: Context) -> dict[str, Any]:
        """Refresh the endpoint."""
        with airflow_errors():
            service, name = self._service("refreshed")
            changed = self.hook.client.refresh_endpoint(service.id, name, overwrite_resources=self.overwrite_resources)
        self.log.info("Endpoint %r of %r: %s.", name, service.name, "refreshed" if changed else "nothing to refresh")
        return _result(service, name, changed=changed)


class RegenerateKeysOperator(_EndpointOperator):
    """Replaces one of an endpoint's two keys; the other one stays valid, so that clients can move over one by one.

    The new key is neither returned nor logged: whoever needs it reads the endpoint with the workspace token, as tasks
    of this provider do. The call is an addition of the self-hosted server; with a service that does not offer it the
    task fails. A retry regenerates the key once more.

    Returns a dict: ``web_service``, ``web_service_id``, ``endpoint``, ``regenerated`` (``primary`` or ``secondary``).

    :param web_service: name or id of the web service. (templated)
    :param endpoint: its endpoint; the default one has keys, too. (templated)
    :param which: ``primary`` or ``secondary``. (templated)
    :param azureml_classic_conn_id: connection of type ``azureml_classic``. (templated)
    """

    template_fields: Sequence[str] = (*_EndpointOperator.template_fields, "which")

    def __init__(self, *, which: Literal["primary", "secondary"] | str = "primary", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.which = which

    def execute(self, context: Context) -> dict[str, Any]:
        """Replace the key, and check that it has changed."""
        with airflow_errors():
            which = KeyType.of(self.which)
            service, before = self.hook.find(self.web_service, self.endpoint)
            after = self.hook.client.regenerate_key(service.id, before.name, which)
            if _key(after, which) == _key(before, which):
                raise rejection(
                    "UnknownError",
                    f"The service accepted the call, but endpoint {before.name!r} still has its old key.",
                )
        self.log.info("Endpoint %r of %r: %s key regenerated.", before.name, service.name, which.value.lower())
        return _result(service, before.name, regenerated=which.value.lower())


def _key(endpoint: Endpoint, which: KeyType) -> str:
    return endpoint.primary_key if which is KeyType.PRIMARY else endpoint.secondary_key


class ListEndpointsOperator(AzureMLClassicOperator):
    """Lists the endpoints of a scoring web service, for dynamic task mapping; not those that gates make for themselves.

    Returns a list of dicts, sorted by name: ``name``, ``resource``, ``location`` of the live model and ``window_end``,
    the end of the data that it was trained on (ISO 8601, ``None`` if its path does not say). No keys. To retrain all
    of them::

        UpdateTrainedModelOperator.partial(...).expand_kwargs(endpoints.output.map(lambda e: {"endpoint": e["name"]}))

    :param web_service: name or id of the web service. (templated)
    :param name_pattern: regular expression that a name must match from its beginning to its end. (templated)
    :param resource: name of the updatable resource; ``None`` means the only one. (templated)
    :param include_default: list the default endpoint too, whose model cannot be updated.
    :param azureml_classic_conn_id: connection of type ``azureml_classic``. (templated)
    """

    template_fields: Sequence[str] = ("azureml_classic_conn_id", "web_service", "name_pattern", "resource")
    ui_color = "#dbeafe"

    def __init__(
        self,
        *,
        web_service: str,
        name_pattern: str | None = None,
        resource: str | None = None,
        include_default: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.web_service = web_service
        self.name_pattern = name_pattern
        self.resource = resource
        self.include_default = include_default

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Read them all with one call."""
        with airflow_errors():
            pattern = self._pattern()
            service = self.hook.client.find_web_service(self.web_service)
            hidden = set() if self.include_default else {DEFAULT_ENDPOINT, service.default_endpoint_name}
            endpoints = [
                endpoint
                for endpoint in self.hook.client.list_endpoints(service.id)
                if endpoint.name not in hidden and not is_check_endpoint(endpoint.name)
            ]
            lines = [self._line(e) for e in sorted(endpoints, key=lambda e: e.name) if pattern.fullmatch(e.name)]
        self.log.info("%d of the %d endpoints of %r match.", len(lines), len(endpoints), service.name)
        return lines

    def _pattern(self) -> re.Pattern[str]:
        try:
            return re.compile(".*" if self.name_pattern is None else self.name_pattern)
        except re.error as error:
            raise ValueError(
                f"name_pattern {self.name_pattern!r} is not a regular expression: {cause(error)}."
            ) from None

    def _line(self, endpoint: Endpoint) -> dict[str, Any]:
        resource = endpoint.resource(self.resource) if endpoint.resources else None
        location = resource.location if resource else None
        end = resource.window_end if resource else None
        return {
            "name": endpoint.name,
            "resource": resource.name if resource else None,
            "location": location.location if location else None,
            "window_end": end.isoformat() if end else None,
        }


def _description(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "endpoint": endpoint.name,
        "api_location": endpoint.api_location,
        "help_location": endpoint.help_location,
        "resources": [resource.name for resource in endpoint.resources],
        **({"folder": endpoint.folder} if endpoint.folder else {}),
    }
