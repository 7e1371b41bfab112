"""Rows of the database as clients see them."""

from __future__ import annotations

from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import DEFAULT_ENDPOINT, Endpoint, Resource, WebService
from airflow_provider_azureml_classic.server.endpoints import etag, stamp
from airflow_provider_azureml_classic.server.locations import Locations
from airflow_provider_azureml_classic.server.settings import Settings
from airflow_provider_azureml_classic.server.tables import EndpointRow, ResourceRow, ServiceRow


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
        return Endpoint(
            name=row.name,
            web_service_id=row.service_id,
            workspace_id=workspace,
            description=row.description,
            creation_time=stamp(row.created_at),
            help_location=f"{base}/apihelp/workspaces/{workspace}/webservices/{row.service_id}/endpoints/{row.id}",
            api_location=f"{base}/workspaces/{workspace}/services/{row.id}",
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
        )

    def _resource(self, model: ResourceRow) -> Resource:
        place = BlobReference(model.relative_location, model.base_location)
        return Resource(model.name, self._locations.published(place, signed=False))
