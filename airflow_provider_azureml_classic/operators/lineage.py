"""Lineage for OpenLineage: which data trained which model, and which model an endpoint serves.

Nothing of OpenLineage is imported before Airflow's OpenLineage provider, which may not be installed, asks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_azureml_classic.assets import SCHEME, convert_asset_to_openlineage, host_of
from airflow_provider_azureml_classic.protocol.digests import Digests
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.sas import StorageAccount

if TYPE_CHECKING:
    from airflow.sdk import Asset

    from airflow_provider_azureml_classic.hooks import ConnectionSettings

_AZURE = ".blob.core."


def lineage(
    settings: ConnectionSettings,
    inputs: Iterable[BlobReference],
    outputs: Iterable[BlobReference] = (),
    *,
    endpoint: Asset | None = None,
    model: tuple[BlobReference, Digests] | None = None,
) -> Any:
    """An ``OperatorLineage``, or ``None`` where the OpenLineage provider is not installed.

    :param settings: of the task's connection.
    :param inputs: blobs that were read.
    :param outputs: blobs that were written.
    :param endpoint: the endpoint that was updated.
    :param model: where the model is among these blobs, and its digests: the version of its blob is that of the file,
        the version of the endpoint that of what answers.
    """
    try:
        from airflow.providers.openlineage.extractors import OperatorLineage
    except ImportError:
        return None
    from airflow.providers.common.compat.openlineage.facet import Dataset

    place, digests = model or (None, Digests())

    def dataset(blob: BlobReference) -> Any:
        is_model = place is not None and blob.same_place(place)
        return Dataset(*dataset_of(blob, settings), facets=_version(digests.file if is_model else None))

    read, written = ([dataset(blob) for blob in blobs] for blobs in (inputs, outputs))
    if endpoint is not None:
        updated = convert_asset_to_openlineage(endpoint, None)
        written.append(Dataset(updated.namespace, updated.name, facets=_version(digests.content or digests.file)))
    return OperatorLineage(inputs=read, outputs=written)


def _version(digest: str | None) -> dict[str, Any]:
    """The facet that tells which version of a dataset is meant; none where that is not known."""
    from openlineage.client.facet_v2 import dataset_version_dataset

    return {"version": dataset_version_dataset.DatasetVersionDatasetFacet(digest)} if digest else {}


def dataset_of(blob: BlobReference, settings: ConnectionSettings) -> tuple[str, str]:
    """Namespace and name of a blob, by OpenLineage's naming rules; no token.

    :param blob: where it is.
    :param settings: of the connection; a bare path is in its account, else in the service's own store.
    """
    base, account = blob.base_location, blob.connection_string or settings.storage_connection_string
    if not base and account:
        base = StorageAccount.from_connection_string(account).endpoint
    if not base:
        return f"{SCHEME}://{host_of(settings.management_url)}", blob.relative_location
    parts = urlsplit(base)
    path = f"{parts.path.strip('/')}/{blob.relative_location}".lstrip("/")
    if _AZURE in parts.netloc:
        container, _, name = path.partition("/")
        return f"wasbs://{container}@{parts.netloc}", name
    return f"{parts.scheme}://{parts.netloc}", path
