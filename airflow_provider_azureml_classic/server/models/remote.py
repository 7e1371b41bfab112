"""Model files in the storage account that the service's outputs go to, so that they outlive a server's disk.

Rule 1: a model is uploaded before any endpoint names it; Azure shows a blob whole or not at all.
Rule 2: several servers may share the account and the database. What one of them uploads is named by an endpoint a
moment later, so a model that nobody names is removed only when it has been left alone for :data:`GRACE`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.references import MODEL_EXTENSION
from airflow_provider_azureml_classic.protocol.sas import StorageAccount
from airflow_provider_azureml_classic.server.storage.accounts import MODELS_CONTAINER
from airflow_provider_azureml_classic.server.storage.azure import download, explained, make_container, service_client

#: How long a model that no endpoint names is kept.
GRACE = timedelta(days=1)


class Vault:
    """The models of a storage account, by digest.

    :param account: with a key.
    :param limit: largest model that is read, in bytes.
    """

    def __init__(self, account: StorageAccount, limit: int) -> None:
        self._account = account
        self._limit = limit

    def prepare(self) -> None:
        """Make the container; called at start, so that an account that cannot be used is known at once.

        :raises AzureMLClassicError: the account cannot be used; the message says why.
        """
        with service_client(self._account) as client, explained(self._account, MODELS_CONTAINER):
            make_container(client, MODELS_CONTAINER)

    def put(self, digest: str, source: Path) -> None:
        """Keep a model file.

        :param digest: its SHA-256.
        :param source: the file.
        :raises ServiceUnavailable: ``UpdateWebServiceResourceFailed``: the account cannot be written now.
        """
        try:
            self._put(blob_name(digest), source)
        except AzureMLClassicError as error:
            message = f"The model cannot be kept: {error.message}"
            raise rejection("UpdateWebServiceResourceFailed", message) from None

    def _put(self, name: str, source: Path) -> None:
        from azure.core.exceptions import ResourceNotFoundError

        with service_client(self._account) as client, explained(self._account, f"{MODELS_CONTAINER}/{name}"):
            blob = client.get_blob_client(MODELS_CONTAINER, name)
            try:
                # A change of its time keeps a clean-up of another server, which may be about to remove it, away.
                blob.set_blob_metadata({})
            except ResourceNotFoundError:
                with source.open("rb") as body:
                    blob.upload_blob(body, overwrite=True)

    def lacking(self, digests: set[str]) -> set[str]:
        """Those of some models that are not here.

        :param digests: SHA-256 of each.
        :raises AzureMLClassicError: the account cannot be read.
        """
        with service_client(self._account) as client, explained(self._account, MODELS_CONTAINER):
            names = client.get_container_client(MODELS_CONTAINER).list_blob_names()
            return digests - {name.removesuffix(MODEL_EXTENSION) for name in names}

    def fetch(self, digest: str, target: Path) -> None:
        """Copy a model to a local file; the caller compares its digest.

        :param digest: SHA-256 of the model.
        :param target: the file to write.
        :raises ServiceUnavailable: ``ResourceDownload``: it cannot be read now.
        """
        try:
            download(self._account, MODELS_CONTAINER, blob_name(digest), target, self._limit)
        except AzureMLClassicError as error:
            raise rejection("ResourceDownload", f"The endpoint's model cannot be read: {error.message}") from None

    def clean(self, in_use: set[str], now: datetime) -> None:
        """Remove models that no endpoint names.

        :param in_use: digests to keep.
        :param now: the present time.
        """
        from azure.core import MatchConditions
        from azure.core.exceptions import ResourceModifiedError, ResourceNotFoundError

        with service_client(self._account) as client, explained(self._account, MODELS_CONTAINER):
            container = client.get_container_client(MODELS_CONTAINER)
            for blob in container.list_blobs():
                if blob.name.removesuffix(MODEL_EXTENSION) in in_use or blob.last_modified > now - GRACE:
                    continue
                try:
                    container.delete_blob(blob.name, etag=blob.etag, match_condition=MatchConditions.IfNotModified)
                except (ResourceModifiedError, ResourceNotFoundError):
                    continue


def blob_name(digest: str) -> str:
    """Name of a model's blob.

    :param digest: SHA-256 of the model.
    """
    return f"{digest}{MODEL_EXTENSION}"
