"""Model files in the storage account that the service's outputs go to, so that they outlive a server's disk.

Rule 1: a model is uploaded before any endpoint names it; Azure shows a blob whole or not at all.
Rule 2: several servers may share the account and the database. What one of them uploads is named by an endpoint a
moment later, so a model that nobody names is removed only when it has been left alone for :data:`GRACE`.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.references import MODEL_EXTENSION
from airflow_provider_azureml_classic.protocol.sas import StorageAccount
from airflow_provider_azureml_classic.server.folders import open_file
from airflow_provider_azureml_classic.server.storage.accounts import MODELS_CONTAINER
from airflow_provider_azureml_classic.server.storage.azure import download, explained, make_container, service_client

#: How long a model that no endpoint names is kept, from when that was first seen.
GRACE = timedelta(days=1)
#: Metadata of such a model; blob that says which database all of them are of.
_UNUSED, _REMEMBERED = {"unused": "yes"}, "database.json"


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

    def put(self, digest: str, source: Path, *, anew: bool = False) -> None:
        """Keep a model file.

        :param digest: its SHA-256.
        :param source: the file.
        :param anew: what is there is damaged.
        :raises ServiceUnavailable: ``UpdateWebServiceResourceFailed``: the account cannot be written now.
        """
        try:
            self._put(blob_name(digest), source, anew)
        except AzureMLClassicError as error:
            message = f"The model cannot be kept: {error.message}"
            raise rejection("UpdateWebServiceResourceFailed", message) from None

    def _put(self, name: str, source: Path, anew: bool) -> None:
        from azure.core.exceptions import ResourceNotFoundError

        with service_client(self._account) as client, explained(self._account, f"{MODELS_CONTAINER}/{name}"):
            blob = client.get_blob_client(MODELS_CONTAINER, name)
            try:
                # A change of its time keeps a clean-up of another server, which may be about to remove it, away.
                blob.set_blob_metadata({})
                whole = not anew and blob.get_blob_properties().size == source.stat().st_size
            except ResourceNotFoundError:
                whole = False
            if not whole:
                with open_file(source) as body:
                    blob.upload_blob(body, overwrite=True)

    def digests(self) -> set[str]:
        """SHA-256 of each model that is here.

        :raises AzureMLClassicError: the account cannot be read.
        """
        with service_client(self._account) as client, explained(self._account, MODELS_CONTAINER):
            names = client.get_container_client(MODELS_CONTAINER).list_blob_names()
            return {name.removesuffix(MODEL_EXTENSION) for name in names if name.endswith(MODEL_EXTENSION)}

    def remembered(self) -> str | None:
        """What was remembered with :meth:`remember`.

        :raises AzureMLClassicError: the account cannot be read.
        """
        from azure.core.exceptions import ResourceNotFoundError

        with service_client(self._account) as client, explained(self._account, MODELS_CONTAINER):
            try:
                content: bytes = client.get_blob_client(MODELS_CONTAINER, _REMEMBERED).download_blob().readall()
            except ResourceNotFoundError:
                return None
            return content.decode(errors="replace")

    def remember(self, text: str) -> None:
        """Keep which database these models are of.

        :param text: what to keep.
        :raises AzureMLClassicError: the account cannot be written.
        """
        with service_client(self._account) as client, explained(self._account, MODELS_CONTAINER):
            client.get_blob_client(MODELS_CONTAINER, _REMEMBERED).upload_blob(text.encode(), overwrite=True)

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
        """Mark models that no endpoint names, and remove those that were marked :data:`GRACE` ago.

        :param in_use: digests to keep.
        :param now: the present time.
        """
        from azure.core import MatchConditions
        from azure.core.exceptions import ResourceModifiedError, ResourceNotFoundError

        with service_client(self._account) as client, explained(self._account, MODELS_CONTAINER):
            container = client.get_container_client(MODELS_CONTAINER)
            for blob in container.list_blobs(include=["metadata"]):
                unused, marked = blob.name.removesuffix(MODEL_EXTENSION) not in in_use, bool(blob.metadata)
                unchanged: dict[str, Any] = {"etag": blob.etag, "match_condition": MatchConditions.IfNotModified}
                with suppress(ResourceModifiedError, ResourceNotFoundError):
                    if not blob.name.endswith(MODEL_EXTENSION):
                        continue
                    if unused != marked:
                        # Its time is that of the mark from now on.
                        mark = _UNUSED if unused else {}
                        container.get_blob_client(blob.name).set_blob_metadata(mark, **unchanged)
                    elif unused and blob.last_modified <= now - GRACE:
                        container.delete_blob(blob.name, **unchanged)


def blob_name(digest: str) -> str:
    """Name of a model's blob.

    :param digest: SHA-256 of the model.
    """
    return f"{digest}{MODEL_EXTENSION}"
