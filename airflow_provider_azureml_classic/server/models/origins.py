"""Where models came from, to fetch one again whose file is missing or damaged."""

from __future__ import annotations

from pathlib import Path

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.server.folders import file_digest
from airflow_provider_azureml_classic.server.state.endpoint_store import Store
from airflow_provider_azureml_classic.server.storage.http import PATCH_SECONDS
from airflow_provider_azureml_classic.server.storage.locations import Locations
from airflow_provider_azureml_classic.server.storage.scope import WHOLE_STORE

#: Places that are asked for one model.
_MOST = 10


class Origins:
    """Fetches models from where they came, without a key of theirs: from the own store and from the accounts that the
    configuration knows.

    :param store: knows the places.
    :param locations: reads them.
    """

    def __init__(self, store: Store, locations: Locations) -> None:
        self._store = store
        self._locations = locations

    def __call__(self, digest: str, target: Path) -> None:
        """Copy a model to a file.

        :param digest: SHA-256 of the model file.
        :param target: the file to write.
        :raises AzureMLClassicError: no place has it any more; the message names the last one asked.
        """
        reason = rejection("BlobNotFound", "It is not known where it came from.")
        for reference in self._store.origins(digest, _MOST):
            try:
                self._locations.resolve(WHOLE_STORE, reference).fetch(target, PATCH_SECONDS)
                if file_digest(target) == digest:
                    return
                reason = rejection("BlobNotFound", f"{reference.location!r} holds another model now.")
            except AzureMLClassicError as error:
                reason = error
        raise reason
