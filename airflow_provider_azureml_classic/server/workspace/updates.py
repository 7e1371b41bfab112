"""Putting a retrained model in place: fetch, check, load, then switch in one step; and asking one that is not in place.

Whatever fails before the switch changes nothing, and the cost does not depend on how many endpoints there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.approval import Approval, known_approval
from airflow_provider_azureml_classic.protocol.digests import Digests, same_model
from airflow_provider_azureml_classic.protocol.errors import repeated
from airflow_provider_azureml_classic.protocol.model_history import ModelPage, PastModel
from airflow_provider_azureml_classic.protocol.model_scoring import ModelAnswers, ModelCall
from airflow_provider_azureml_classic.protocol.references import (
    MODEL_EXTENSION,
    BlobReference,
    ToldWindow,
    window_end_of,
)
from airflow_provider_azureml_classic.protocol.rehearsal import Rehearsal
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.protocol.values import Endpoint, EndpointSettings, Resource
from airflow_provider_azureml_classic.server.blobs.names import is_first_model
from airflow_provider_azureml_classic.server.experiments.scorer import Scorer
from airflow_provider_azureml_classic.server.experiments.trial import Question
from airflow_provider_azureml_classic.server.folders import open_file
from airflow_provider_azureml_classic.server.models.facts import model_row
from airflow_provider_azureml_classic.server.models.pins import Pin, Pins
from airflow_provider_azureml_classic.server.models.store import ModelStore
from airflow_provider_azureml_classic.server.models.trials import Trials
from airflow_provider_azureml_classic.server.state.endpoint_store import Store
from airflow_provider_azureml_classic.server.state.history import How
from airflow_provider_azureml_classic.server.state.overview import ModelLine, Queries
from airflow_provider_azureml_classic.server.state.tables import (
    EndpointRow,
    ModelRow,
    PlacementRow,
    ResourceRow,
    ServiceRow,
)
from airflow_provider_azureml_classic.server.storage.http import PATCH_SECONDS
from airflow_provider_azureml_classic.server.storage.locations import Location, Locations
from airflow_provider_azureml_classic.server.storage.scope import WHOLE_STORE, Scope
from airflow_provider_azureml_classic.server.workspace.endpoints import check_settings, check_updatable, etag
from airflow_provider_azureml_classic.server.workspace.workspace import Caller, Workspace


class Updates:
    """Patches endpoints.

    :param workspace: the endpoints.
    :param models: the model files.
    :param locations: where new models come from.
    :param pins: keep model files while they are put in place.
    :param store: the models that endpoints had.
    :param trials: asks models in other processes.
    :param queries: the same, with what is known of each.
    """

    def __init__(
        self,
        workspace: Workspace,
        models: ModelStore,
        locations: Locations,
        pins: Pins,
        store: Store,
        trials: Trials,
        queries: Queries,
    ) -> None:
        self._trials = trials
        self._store = store
        self._queries = queries
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
        approval: Approval | None = None,
        window_end: datetime | None = None,
    ) -> Endpoint:
        """Change an endpoint's settings and models, all or nothing.

        :param caller: who asks.
        :param service_id: id of the web service.
        :param name: the endpoint's name.
        :param settings: what to change.
        :param if_match: ``ETag`` that the endpoint must still have.
        :param digest: SHA-256 of the file that is meant, if the caller says so: of the one model that is put in place.
        :param approval: who has agreed to it, as the caller says.
        :param window_end: of the training that is meant, where jobs of several windows wrote the same file.
        """
        service, row = self._workspace.endpoint(caller, service_id, name)
        check_settings(caller.scope, settings)
        # A patch that lifts PreventUpdate may carry the update itself.
        if settings.resources and settings.prevent_update is not False:
            check_updatable(row, "updated")
        with self._pinned() as pin:
            models = [
                self._model(caller, service, row, resource, pin, digest, window_end)
                for resource in settings.resources or ()
            ]
            _check_different([model.name for model, _ in models])
            placed, files = tuple(model for model, _ in models), tuple(file for _, file in models)
            _check_approved(placed, approval)
            changed = self._workspace.change(row, settings, placed, if_match, files=files, approval=approval)
            return self._workspace.view(changed, caller)

    def models(self, caller: Caller, service_id: str, name: str, limit: int, before: int | None) -> ModelPage:
        """The models that an endpoint had, those put live last first.

        :param caller: who asks.
        :param service_id: id of the web service.
        :param name: the endpoint's name.
        :param limit: the most that are wanted.
        :param before: number of the entry after which the page before this one ended.
        """
        _, row = self._workspace.endpoint(caller, service_id, name)
        lines = self._queries.history(row.id, limit + 1, before)
        kept = self._models.kept({line.digest for line in lines[:limit]})
        models = tuple(self._past(line, line.digest in kept) for line in lines[:limit])
        return ModelPage(models, models[-1].number if len(lines) > limit else None)

    def _past(self, line: ModelLine, is_kept: bool) -> PastModel:
        reference = BlobReference.at(line.base_location, line.relative_location)
        end, is_first = line.told_end or window_end_of(reference), is_first_model(line.relative_location)
        return PastModel(
            line.number or 0,
            line.resource or "",
            self._locations.published(reference, signed=False),
            Digests(line.digest, line.content),
            ToldWindow(end, is_first, line.last_time, line.created_at),
            line.placed_at,
            line.how or "",
            line.live,
            line.job_id,
            line.metrics,
            line.length,
            is_kept,
            known_approval(line.approval),
        )

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
                self._fetch_again(row, before, pin)
            self._models.check(before.digest)
            content = self._models.scorer(before.digest, load=self._workspace.answers(row.id)).content
            places = before.base_location, before.relative_location
            model = ResourceRow(row.id, before.resource, *places, before.digest, content, before.window_end)
            changed = self._workspace.change(row, EndpointSettings(), (model,), etag(row), how=How.ROLLED_BACK)
            return self._workspace.view(changed)

    def score(self, caller: Caller, service_id: str, name: str, call: ModelCall) -> ModelAnswers:
        """Ask a model that could be put in place on an endpoint, without putting it there or loading it here.

        :param caller: who asks.
        :param service_id: id of the web service.
        :param name: the endpoint's name.
        :param call: what is asked.
        :raises RequestRejected: as :meth:`patch`; or the model cannot score the rows.
        """
        service, row = self._workspace.endpoint(caller, service_id, name)
        if not row.resources:
            raise rejection("NoUpdatableResources", f"Endpoint {name!r} has no models.", target=name)
        with self._pinned() as pin, TemporaryDirectory() as folder:
            model, trusted = self._meant_file(caller, row, call, pin, Path(folder))
            samples = None if call.rows else self._samples(row, Path(folder))
            question = Question(model, service.experiment, call.rows, samples, trusted)
            with _naming(call.location):
                answers = self._trials.ask(question)
            file, live = answers.model and answers.model.file, row.resources[0]
            if call.file not in (None, file):
                raise _another(call.location, call.file)
            told = answers.held_out and replace(answers.held_out, model=Digests(live.digest, live.content))
            return replace(answers, held_out=told)

    def rehearse(
        self,
        caller: Caller,
        row: EndpointRow,
        experiment: str,
        model: ModelCall,
        calls: Sequence[Table],
        threshold: float | None,
    ) -> tuple[Rehearsal, str]:
        """Answer calls with the live model of an endpoint and with another, which is fetched as for an update.

        :param caller: who asks.
        :param row: the endpoint.
        :param experiment: of the endpoint.
        :param model: the other model.
        :param calls: rows, newest first.
        :param threshold: see :meth:`~.scorer.Scorer.score`.
        :return: figures, and the SHA-256 of the other model's file.
        :raises RequestRejected: as :meth:`patch`.
        """
        with self._pinned() as pin, TemporaryDirectory() as folder:
            new, trusted = self._meant_file(caller, row, model, pin, Path(folder))
            with open_file(new) as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if model.file not in (None, digest):
                raise _another(model.location, model.file)
            live = self._models.file(row.resources[0].digest)
            question = Question(new, experiment, trusted=trusted, live=live, calls=calls, threshold=threshold)
            with _naming(model.location):
                return self._trials.rehearse(question), digest

    def _samples(self, row: EndpointRow, folder: Path) -> Path | None:
        """The samples of an endpoint's live model, as a file; ``None``: the server has none."""
        content = row.resources[0].content
        path, scope = content and self._store.samples_of(content, row.customer), Scope(row.customer)
        # Those of the first model are rows of the workspace's own data.
        if not path or not scope.admits(path):
            return None
        target = folder / "samples.json"
        try:
            self._locations.resolve(scope, BlobReference(path)).fetch(target, PATCH_SECONDS)
        except AzureMLClassicError as error:
            if error.detail_code != "BlobNotFound":
                raise
            return None
        return target

    def _fetch_again(self, row: EndpointRow, before: PlacementRow, pin: Pin) -> None:
        reference = BlobReference.at(before.base_location, before.relative_location)
        # The endpoint has had it: whoever may put a model in place there may put this one back.
        if self._fetch(row, self._locations.resolve(WHOLE_STORE, reference), pin)[0].digest != before.digest:
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
        window_end: datetime | None,
    ) -> tuple[ResourceRow, ModelRow]:
        # Raises with the list of resources where the name is wrong, or the service is a training service.
        name = self._workspace.view(row).resource(resource.name).name
        reference = resource.location
        if reference is None:
            raise rejection("MissingInputBlobInformation", f"The resource {name!r} has no Location.", target=name)
        if before := self._put_back(caller, row, name, reference, pin, digest):
            return before
        location = self._resolved(caller, row, reference, name)
        scorer, length = self._meant(row, location, digest, pin) if digest else self._fetch(row, location, pin)
        if scorer.manifest.experiment != service.experiment:
            raise rejection(
                "ModelInvalid",
                f"{reference.location!r} was trained by the experiment {scorer.manifest.experiment!r}; this endpoint "
                f"serves {service.experiment!r}.",
                target=name,
            )
        origin = location.origin
        places = origin.base_location, origin.address_path
        end = self._store.trained_to(scorer.digest, origin.address_path, row.id, window_end)
        model = ResourceRow(row.id, name, *places, scorer.digest, scorer.content, end)
        return model, model_row(scorer.manifest, scorer.digest, length, scorer.content)

    def _put_back(
        self, caller: Caller, row: EndpointRow, name: str, reference: BlobReference, pin: Pin, digest: str | None
    ) -> tuple[ResourceRow, ModelRow] | None:
        """A model that the endpoint has had and whose place its caller does not reach, such as the first one: the
        server's own copy, whatever lies there by now. The place itself is not read, and not looked at.
        """
        path = None if caller.scope.customer is None else self._locations.path_in_store(reference)
        if path is None or caller.scope.admits(path):
            return None
        before = self._store.last_at(row.id, name, path)
        kept = self._kept(row, digest or before.digest, pin) if before else None
        if before is None or kept is None:
            return None
        scorer, length = kept
        places = before.base_location, before.relative_location
        model = ResourceRow(row.id, name, *places, scorer.digest, scorer.content, before.window_end)
        return model, model_row(scorer.manifest, scorer.digest, length, scorer.content)

    def _resolved(self, caller: Caller, row: EndpointRow, reference: BlobReference, name: str) -> Location:
        """Where a model is, if this caller may have it on this endpoint."""
        if reference.extension != MODEL_EXTENSION:
            raise rejection(
                "InvalidBlobExtension",
                f"{reference.relative_location!r} does not end in {MODEL_EXTENSION}, so it is not a trained model.",
                target=name,
            )
        location = self._locations.resolve(caller.scope, reference)
        if caller.endpoint is not None and location.guarded:
            _check_own_model(row, location)
        return location

    def _meant_file(
        self, caller: Caller, row: EndpointRow, call: ModelCall, pin: Pin, folder: Path
    ) -> tuple[Path, bool]:
        """The file of the model that is asked, and whether the endpoint has had it."""
        location = self._resolved(caller, row, call.location, call.location.location) if call.location else None
        if call.file and self._has_kept(row, call.file, pin):
            return self._models.path(call.file), True
        if location is None:
            raise rejection(
                "ModelInvalid",
                f"The server keeps no model with the SHA-256 {call.file} that endpoint {row.name!r} has had. Give the "
                "Location of the model as well.",
            )
        path = folder / f"model{MODEL_EXTENSION}"
        location.fetch(path, PATCH_SECONDS)
        return path, False

    def _meant(self, row: EndpointRow, location: Location, digest: str, pin: Pin) -> tuple[Scorer, int]:
        """The model of a digest: the server's own copy if the endpoint has had it, else what lies at the place."""
        scorer, length = self._kept(row, digest, pin) or self._fetch(row, location, pin)
        if scorer.digest != digest:
            raise _another(location.sent, digest)
        return scorer, length

    def _kept(self, row: EndpointRow, digest: str, pin: Pin) -> tuple[Scorer, int] | None:
        """A model that the endpoint had before, from the server's own copy, whatever lies in the store by now."""
        if not self._has_kept(row, digest, pin):
            return None
        self._models.check(digest)
        scorer = self._models.scorer(digest, load=self._workspace.answers(row.id))
        return scorer, self._models.path(digest).stat().st_size

    def _has_kept(self, row: EndpointRow, digest: str, pin: Pin) -> bool:
        """Whether the server has a copy of a model that the endpoint had before."""
        if digest not in {model.digest for model in row.resources} and not self._store.has_had(row.id, digest):
            return False
        pin(digest)
        return self._models.is_kept(digest)

    def _fetch(self, row: EndpointRow, location: Location, pin: Pin) -> tuple[Scorer, int]:
        with TemporaryDirectory() as folder:
            path = Path(folder) / f"model{MODEL_EXTENSION}"
            location.fetch(path, PATCH_SECONDS)
            with _naming(location.sent):
                load = self._workspace.answers(row.id)
                return self._models.put(path, pin, load=load), path.stat().st_size


@contextmanager
def _naming(reference: BlobReference | None) -> Iterator[None]:
    """Put the place of a model before the message that it is none, or another one."""
    try:
        yield
    except AzureMLClassicError as error:
        if error.detail_code != "ModelInvalid" or reference is None:
            raise
        raise rejection("ModelInvalid", f"{reference.location!r}: {error.message}") from None


def _another(reference: BlobReference | None, digest: str | None) -> AzureMLClassicError:
    place = repr(reference.location) if reference else "The server"
    return rejection(
        "ModelInvalid",
        f"{place} holds another model than the one that is meant (SHA-256 {digest}), and the server keeps no copy of "
        "that one. Nothing was changed. Train it again.",
    )


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


def _check_approved(models: Sequence[ResourceRow], approval: Approval | None) -> None:
    """Refuse an approval of another model: the history would tell of a person what that person never agreed to."""
    for model in models:
        if approval and same_model(approval.model, Digests(model.digest, model.content)) is False:
            raise rejection(
                "InvalidOperation",
                f"The approval is for another model than {model.relative_location!r}. Nothing was changed.",
                target=model.name,
            )


def _check_different(names: list[str]) -> None:
    twice = repeated(names)
    if twice is not None:
        raise rejection("BadParameterValue", f"Resources names {twice!r} twice; give it one Location.", target=twice)
