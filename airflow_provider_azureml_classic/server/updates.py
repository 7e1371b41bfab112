"""Putting a retrained model in place: fetch, check, load, then switch in one step.

Whatever fails before the switch changes nothing, and the cost does not depend on how many endpoints there are.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.references import MODEL_EXTENSION, BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint, EndpointSettings, Resource
from airflow_provider_azureml_classic.server.endpoints import check_updatable
from airflow_provider_azureml_classic.server.experiments.scorer import Scorer
from airflow_provider_azureml_classic.server.locations import Locations, kept
from airflow_provider_azureml_classic.server.models import ModelStore
from airflow_provider_azureml_classic.server.pins import Pin, Pins
from airflow_provider_azureml_classic.server.tables import EndpointRow, ResourceRow, ServiceRow
from airflow_provider_azureml_classic.server.workspace import Caller, Workspace


class Updates:
    """Patches endpoints.

    :param workspace: the endpoints.
    :param models: the model files.
    :param locations: where new models come from.
    :param pins: keep model files while they are put in place.
    """

    def __init__(
        self,
        workspace: Workspace,
        models: ModelStore,
        locations: Locations,
        pins: Pins,
    ) -> None:
        self._pinned = pins.pinned
        self._workspace = workspace
        self._models = models
        self._locations = locations

    def patch(
        self, caller: Caller, service_id: str, name: str, settings: EndpointSettings, if_match: str | None
    ) -> Endpoint:
        """Change an endpoint's settings and models, all or nothing.

        :param caller: who asks.
        :param service_id: id of the web service.
        :param name: the endpoint's name.
        :param settings: what to change.
        :param if_match: ``ETag`` that the endpoint must still have.
        """
        service, row = self._workspace.endpoint(caller, service_id, name)
        # A patch that lifts PreventUpdate may carry the update itself.
        if settings.resources and settings.prevent_update is not False:
            check_updatable(row, "updated")
        with self._pinned() as pin:
            models = tuple(self._model(service, row, wanted, pin) for wanted in settings.resources or ())
            return self._workspace.view(self._workspace.change(row, settings, models, if_match))

    def _model(self, service: ServiceRow, row: EndpointRow, wanted: Resource, pin: Pin) -> ResourceRow:
        # Raises with the list of resources where the name is wrong, or the service is a training service.
        name = self._workspace.view(row).resource(wanted.name).name
        location = wanted.location
        if location is None:
            raise rejection("MissingInputBlobInformation", f"The resource {name!r} has no Location.", target=name)
        if location.extension != MODEL_EXTENSION:
            raise rejection(
                "InvalidBlobExtension",
                f"{location.relative_location!r} does not end in {MODEL_EXTENSION}, so it is no trained model.",
                target=name,
            )
        own = self._locations.own(location)
        scorer = self._fetch(location, pin)
        if scorer.manifest.experiment != service.experiment:
            raise rejection(
                "ModelInvalid",
                f"{location.location!r} was trained by the experiment {scorer.manifest.experiment!r}; this endpoint "
                f"serves {service.experiment!r}.",
                target=name,
            )
        place = kept(location, own)
        elsewhere = not own and (location.base_location or location.connection_string)
        base = self._locations.published(location, signed=False).base_location if elsewhere else ""
        return ResourceRow(row.id, name, base, place.relative_location, scorer.digest)

    def _fetch(self, location: BlobReference, pin: Pin) -> Scorer:
        with TemporaryDirectory() as folder:
            path = Path(folder) / f"model{MODEL_EXTENSION}"
            self._locations.fetch(location, path)
            try:
                return self._models.put(path, pin)
            except AzureMLClassicError as error:
                if error.detail_code != "ModelInvalid":
                    raise
                raise rejection("ModelInvalid", f"{location.location!r}: {error.message}") from None
