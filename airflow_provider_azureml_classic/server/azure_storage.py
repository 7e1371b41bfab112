"""Azure Storage by connection string, through its own SDK (extra ``azure``)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_azureml_classic.exceptions import rejection
from airflow_provider_azureml_classic.protocol.references import BlobReference

if TYPE_CHECKING:
    from azure.storage.blob import BlobClient

_TIMEOUT = 60


@contextmanager
def _client(reference: BlobReference) -> Iterator[BlobClient]:
    try:
        from azure.core.exceptions import AzureError, ResourceNotFoundError
        from azure.storage.blob import BlobClient
    except ImportError:
        raise rejection(
            "InvalidBlob",
            "This server cannot use Azure Storage connection strings: it was installed without the extra 'azure'.",
        ) from None
    container, _, blob = reference.relative_location.partition("/")
    try:
        with BlobClient.from_connection_string(
            reference.connection_string, container, blob, connection_timeout=10, read_timeout=_TIMEOUT, retry_total=2
        ) as client:
            yield client
    except ResourceNotFoundError:
        raise rejection("BlobNotFound", f"There is no blob {reference.relative_location!r} in the account.") from None
    except (AzureError, ValueError) as error:
        # The SDK's text may repeat the address with its token.
        code = getattr(error, "error_code", None) or type(error).__name__
        raise rejection("InvalidBlob", f"Azure Storage refused {reference.relative_location!r}: {code}.") from None


def download(reference: BlobReference, target: Path, limit: int) -> None:
    """Copy a blob to a file.

    :param reference: with a connection string.
    :param target: the file to write.
    :param limit: largest size in bytes.
    """
    with _client(reference) as client:
        stream = client.download_blob()
        if stream.size > limit:
            raise rejection("OutOfMemoryLimit", f"{reference.relative_location!r} is over {limit} bytes.")
        with target.open("wb") as out:
            stream.readinto(out)


def upload(source: Path, reference: BlobReference) -> None:
    """Write a blob, making its container if need be.

    :param source: the file.
    :param reference: with a connection string.
    """
    from azure.core.exceptions import ResourceExistsError
    from azure.storage.blob import ContainerClient

    with _client(reference) as client:
        container = ContainerClient.from_connection_string(reference.connection_string, client.container_name)
        with container, suppress(ResourceExistsError):
            container.create_container()
        with source.open("rb") as body:
            client.upload_blob(body, overwrite=True)
