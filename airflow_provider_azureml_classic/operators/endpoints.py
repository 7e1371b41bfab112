"""Adding endpoints to a scoring web service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_azureml_classic.exceptions import NotFound, rejection
from airflow_provider_azureml_classic.hooks import airflow_errors
from airflow_provider_azureml_classic.links import EndpointHelpLink, push_help
from airflow_provider_azureml_classic.operators.base import AzureMLClassicOperator
from airflow_provider_azureml_classic.protocol.values import (
    Endpoint,
    EndpointSettings,
    ThrottleLevel,
    check_endpoint_name,
)

if TYPE_CHECKING:
    from airflow.sdk import Context


class AddEndpointOperator(AzureMLClassicOperator):
    """Adds an endpoint to a web service.

    Returns a dict: ``web_service``, ``web_service_id``, ``endpoint``, ``outcome`` (``added``, ``kept`` or
    ``updated``), ``api_location``, ``help_location`` and the names of its updatable ``resources``. No keys.

    :param web_service: name or id of the scoring web service. (templated)
    :param endpoint: name of the endpoint: 1 to 24 lower-case letters and digits. (templated)
    :param description: free text. (templated)
    :param throttle_level: ``Low`` (4 concurrent calls) or ``High``; ``None`` leaves it, a new endpoint has ``Low``.
    :param max_concurrent_calls: 1 to 200; with ``High`` only.
    :param prevent_update: refuse later updates of the model.
    :param if_exists: ``skip`` leaves an endpoint of that name as it is, ``update`` changes its settings, ``fail``
        fails the task.
    :param azureml_classic_conn_id: connection of type ``azureml_classic``. (templated)
    """

    template_fields: Sequence[str] = ("azureml_classic_conn_id", "web_service", "endpoint", "description")
    ui_color = "#dbeafe"
    operator_extra_links = (EndpointHelpLink(),)

    def __init__(
        self,
        *,
        web_service: str,
        endpoint: str,
        description: str | None = None,
        throttle_level: Literal["Low", "High"] | None = None,
        max_concurrent_calls: int | None = None,
        prevent_update: bool | None = None,
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
        self.if_exists = if_exists

    def execute(self, context: Context) -> dict[str, Any]:
        """Add the endpoint, or leave it, as ``if_exists`` says."""
        with airflow_errors():
            settings, name = self._settings(), check_endpoint_name(self.endpoint)
            service = self.hook.client.find_web_service(self.web_service)
            found = self._existing(service.id, name)
            outcome = "added" if found is None else "kept" if self.if_exists == "skip" else "updated"
            if found is not None and self.if_exists == "fail":
                raise rejection(
                    "BadArgument",
                    f"Web service {service.name!r} has an endpoint {name!r} already, and if_exists='fail'.",
                )
            if outcome != "kept":
                found = self.hook.client.add_endpoint(service.id, name, settings)
        push_help(context, found)
        self.log.info("Endpoint %r of %r: %s.", name, service.name, outcome)
        return {"web_service": service.name, "web_service_id": service.id, "outcome": outcome, **_shown(found)}

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
        )

    def _existing(self, service_id: str, name: str) -> Endpoint | None:
        try:
            return self.hook.client.get_endpoint(service_id, name)
        except NotFound:
            return None


def _shown(endpoint: Endpoint | None) -> dict[str, Any]:
    if endpoint is None:
        return {}
    return {
        "endpoint": endpoint.name,
        "api_location": endpoint.api_location,
        "help_location": endpoint.help_location,
        "resources": [resource.name for resource in endpoint.resources],
    }
