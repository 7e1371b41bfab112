"""Putting a retrained model in place: fetch, check, load, then switch in one step.

Whatever fails before the switch changes nothing, and the cost does not depend on how many endpoints there are.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.errors import repeated
from airflow_provider_azureml_classic.protocol.references import MODEL_EXTENSION, BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint, EndpointSettings, Resource
from airflow_provider_azureml_classic.server.experiments.scorer import Scorer
from airflow_provider_azureml_classic.server.models.facts import model_row
from airflow_provider_azureml_classic.server.models.pins import Pin, Pins
from airflow_provider_azureml_classic.server.models.store import ModelStore
from airflow_provider_azureml_classic.server.state.endpoint_store import Store
from airflow_provider_azureml_classic.server.state.history import How
from airflow_provider_azureml_classic.server.state.tables import (
    EndpointRow,
    ModelRow,
    PlacementRow,
    ResourceRow,
    ServiceRow,
)
from airflow_provider_azureml_classic.server.storage.http import PATCH_SECONDS
from airflow_provider_azureml_classic.server.storage.locations import Location, Locations
from airflow_provider_azureml_classic.server.workspace.endpoints import check_updatable, etag
from airflow_provider_azureml_classic.server.workspace.workspace import Caller, Workspace


class Updates:
    """Patches endpoints.

    :param workspace: the endpoints.
    :param models: the model files.
    :param locations: where new models come from.
    :param pins: keep model files while they are put in place.
    :param store: the models that endpoints had.
    """

    def __init__(
        self,
        workspace: Workspace,
        models: ModelStore,
        locations: Locations,
        pins: Pins,
        store: Store,
    ) -> None:
        self._store = store
        self._pinned = pins.pinned
        self._workspace = workspace
        self._models = models
        self._locations = locations

    def patch(
        self,
        caller: Caller,
        service_id: str,
        name: str,
        settings: EndpointSettings,
        if_match: str | None,
        digest: str | None = None,
    ) -> Endpoint:
        """Change an endpoint's settings and models, all or nothing.

        :param caller: who asks.
        :param service_id: id of the web service.
        :param name: the endpoint's name.
        :param settings: what to change.
        :param if_match: ``ETag`` that the endpoint must still have.
        :param digest: SHA-256 of the file that is meant, if the caller says so: of the one model that is put in place.
        """
        service, row = self._workspace.endpoint(caller, service_id, name)
        # A patch that lifts PreventUpdate may carry the update itself.
        if settings.resources and settings.prevent_update is not False:
            check_updatable(row, "updated")
        with self._pinned() as pin:
            models = [self._model(caller, service, row, resource, pin, digest) for resource in settings.resources or ()]
            _check_different([model.name for model, _ in models])
            placed, files = tuple(model for model, _ in models), tuple(file for _, file in models)
            return self._workspace.view(self._workspace.change(row, settings, placed, if_match, files=files))

    def roll_back(self, caller: Caller, service_id: str, name: str, placement: int) -> Endpoint:
        """Put a model back that an endpoint had before: from its kept file, else from where it came from.

        :param caller: who asks.
        :param service_id: id of the web service.
        :param name: the endpoint's name.
        :param placement: number of the entry in the endpoint's history.
        :raises NotFound: there is no such entry.
        :raises RequestRejected: the model's file is not kept any more, and another one is where it came from.
        """
        _, row = self._workspace.endpoint(caller, service_id, name)
        check_updatable(row, "updated")
        before = self._store.placement(row.id, placement)
        if before is None:
            raise rejection("BlobNotFound", f"Endpoint {name!r} has no model number {placement} in its history.")
        with self._pinned() as pin:
            pin(before.digest)
            if not self._models.is_kept(before.digest):
                self._fetch_again(before, pin)
            self._models.check(before.digest)
            content = self._models.scorer(before.digest).content
            places = before.base_location, before.relative_location
            model = ResourceRow(row.id, before.resource, *places, before.digest, content, before.window_end)
            changed = self._workspace.change(row, EndpointSettings(), (model,), etag(row), how=How.ROLLED_BACK)
            return self._workspace.view(changed)

    def _fetch_again(self, before: PlacementRow, pin: Pin) -> None:
        reference = BlobReference(before.relative_location, before.base_location)
        if self._fetch(self._locations.resolve(reference), pin)[0].digest != before.digest:
            raise rejection(
                "ModelInvalid",
                f"{reference.location!r} holds another model now than on {before.placed_at:%Y-%m-%d}, and the file "
                "of that one is no longer kept. Train it again.",
                target=before.resource,
            )

    def _model(
        self,
        caller: Caller,
        service: ServiceRow,
        row: EndpointRow,
        resource: Resource,
        pin: Pin,
        digest: str | None,
    ) -> tuple[ResourceRow, ModelRow]:
        # Raises with the list of resources where the name is wrong, or the service is a training service.
        name = self._workspace.view(row).resource(resource.name).name
        reference = resource.location
        if reference is None:
            raise rejection("MissingInputBlobInformation", f"The resource {name!r} has no Location.", target=name)
        if reference.extension != MODEL_EXTENSION:
            raise rejection(
                "InvalidBlobExtension",
                f"{reference.relative_location!r} does not end in {MODEL_EXTENSION}, so it is not a trained model.",
                target=name,
            )
        location = self._locations.resolve(reference)
        if caller.endpoint is not None and location.guarded:
            _check_own_model(row, location)
        scorer, length = self._meant(row, location, digest, pin) if digest else self._fetch(location, pin)
        if scorer.manifest.experiment != service.experiment:
            raise rejection(
                "ModelInvalid",
                f"{reference.location!r} was trained by the experiment {scorer.manifest.experiment!r}; this endpoint "
                f"serves {service.experiment!r}.",
                target=name,
            )
        origin = location.origin
        places, end = (origin.base_location, origin.relative_location), self._store.trained_to(scorer.digest)
        model = ResourceRow(row.id, name, *places, scorer.digest, scorer.content, end)
        return model, model_row(scorer.manifest, scorer.digest, length, scorer.content)

    def _meant(self, row: EndpointRow, location: Location, digest: str, pin: Pin) -> tuple[Scorer, int]:
        """The model of a digest: the server's own copy if the endpoint has had it, else what lies at the place."""
        scorer, length = self._kept(row, digest, pin) or self._fetch(location, pin)
        if scorer.digest != digest:
            raise rejection(
                "ModelInvalid",
                f"{location.sent.location!r} holds another model than the one that is meant (SHA-256 {digest}), and "
                "the server keeps no copy of that one. Nothing was changed. Train it again.",
            )
        return scorer, length

    def _kept(self, row: EndpointRow, digest: str, pin: Pin) -> tuple[Scorer, int] | None:
        """A model that the endpoint had before, from the server's own copy, whatever lies in the store by now."""
        if not self._store.has_had(row.id, digest):
            return None
        pin(digest)
        if not self._models.is_kept(digest):
            return None
        self._models.check(digest)
        return self._models.scorer(digest), self._models.path(digest).stat().st_size

    def _fetch(self, location: Location, pin: Pin) -> tuple[Scorer, int]:
        with TemporaryDirectory() as folder:
            path = Path(folder) / f"model{MODEL_EXTENSION}"
            location.fetch(path, PATCH_SECONDS)
            try:
                return self._models.put(path, pin), path.stat().st_size
            except AzureMLClassicError as error:
                if error.detail_code != "ModelInvalid":
                    raise
                raise rejection("ModelInvalid", f"{location.sent.location!r}: {error.message}") from None


def _check_own_model(row: EndpointRow, location: Location) -> None:
    """Refuse the model of somebody else's job: an endpoint key opens its own endpoint's models only."""
    path = location.reference.relative_location
    if path not in {model.relative_location for model in row.resources}:
        # 401, so that clients who have the workspace token as well come again with it.
        raise rejection(
            "ManagementRequestUnauthorized",
            f"{path!r} was written by a job: an endpoint key alone does not open it. Give the SAS token with which "
            "the answer to GET job names it, or use the workspace token.",
            target=path,
        )


def _check_different(names: list[str]) -> None:
    twice = repeated(names)
    if twice is not None:
        raise rejection("BadParameterValue", f"Resources names {twice!r} twice; give it one Location.", target=twice)
