"""Azure Storage by account key, through its own SDK (extra ``azure``).

Rule 1: what the SDK says goes into no message but for its error code: its text may repeat an address with its token.
Rule 2: a call ends within about 20 seconds if nothing answers, and a redirect is not followed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, ServiceUnavailable, error_class, rejection
from airflow_provider_azureml_classic.protocol.sas import StorageAccount
from airflow_provider_azureml_classic.server.storage.http import leads_nowhere

if TYPE_CHECKING:
    from azure.storage.blob import BlobServiceClient
    from requests import Session

#: Seconds to connect, and between two pieces of an answer.
_CONNECT, _READ = 5, 60
_RETRIES = 2
#: What the service answers -> our code, and what to do.
_MEANING = {
    "BlobNotFound": ("BlobNotFound", "There is no such blob."),
    "ContainerNotFound": ("BlobNotFound", "There is no such container."),
    "AuthenticationFailed": (
        "InvalidBlobConnectionString",
        "The account refused the AccountKey: copy it again, and compare AccountName.",
    ),
    "AuthorizationFailure": (
        "InvalidBlobConnectionString",
        "The account refused this server: compare AccountName and AccountKey, then look at the account's firewall.",
    ),
    "InvalidResourceName": ("ContainerSegmentInvalid", "The account does not take this container's name."),
    "ContainerBeingDeleted": ("InvalidBlob", "The container is being deleted: try again in a minute."),
}


@contextmanager
def service_client(account: StorageAccount, session: Session | None = None) -> Iterator[BlobServiceClient]:
    """A client of an account's blobs.

    :param account: with a key.
    :param session: what the requests go through; ``None`` where the account is one of the configuration.
    :raises RequestRejected: the extra is not installed.
    """
    try:
        from azure.core.pipeline.transport import RequestsTransport
        from azure.storage.blob import BlobServiceClient, ExponentialRetry
    except ImportError:
        raise rejection(
            "InvalidBlob",
            "This server cannot use Azure Storage accounts: install the package with its extra, "
            "pip install '.[server,azure]' in its folder.",
        ) from None
    with BlobServiceClient(
        account.endpoint,
        credential={"account_name": account.name, "account_key": account.key},
        connection_timeout=_CONNECT,
        read_timeout=_READ,
        # The SDK's own default waits for 15 s and more before it asks again.
        retry_policy=ExponentialRetry(initial_backoff=1, increment_base=2, retry_total=_RETRIES),
        permit_redirects=False,
        **({"transport": RequestsTransport(session=session, session_owner=False)} if session else {}),
    ) as client:
        yield client


@contextmanager
def explained(account: StorageAccount, location: str) -> Iterator[None]:
    """Turn what the SDK raises into an error that names the place, the reason and what to do.

    :param account: the account asked.
    :param location: container and path, for messages.
    """
    from azure.core.exceptions import AzureError

    try:
        yield
    except AzureMLClassicError:
        raise
    except (AzureError, ValueError) as error:
        raise _error(account, location, error) from None


def _error(account: StorageAccount, location: str, error: Any) -> AzureMLClassicError:
    from azure.core.exceptions import AzureError, HttpResponseError

    where = f"{location!r} in the storage account {account.name!r} ({account.endpoint})"
    if not isinstance(error, HttpResponseError) or error.status_code is None:
        reason = f"{type(error).__name__}; check the account's name, its address and the network"
        is_away = isinstance(error, AzureError) and not leads_nowhere(error)
        detail = "NoMoreResources" if is_away else "InvalidBlob"
        return rejection(detail, f"{where}: the account cannot be reached: {reason}.")
    error_code = getattr(error, "error_code", None)
    answer = str(getattr(error_code, "value", error_code) or f"HTTP {error.status_code}")
    code = "NoMoreResources" if error_class(error.status_code) is ServiceUnavailable else "InvalidBlob"
    code, meaning = _MEANING.get(answer, (code, f"HTTP {error.status_code}."))
    return rejection(code, f"{where}: {answer}. {meaning}")


def download(
    account: StorageAccount, container: str, blob: str, target: Path, limit: int, session: Session | None = None
) -> None:
    """Copy a blob to a file.

    :param account: with a key.
    :param container: container's name.
    :param blob: path of the blob.
    :param target: the file to write.
    :param limit: largest size in bytes.
    :param session: what the requests go through.
    :raises AzureMLClassicError: it cannot be read; the message says why.
    """
    location = f"{container}/{blob}"
    with service_client(account, session) as client, explained(account, location):
        stream = client.get_blob_client(container, blob).download_blob()
        if stream.size > limit:
            raise rejection("OutOfMemoryLimit", f"{location!r} has {stream.size} bytes; at most {limit} are read.")
        with target.open("wb") as out:
            stream.readinto(out)


def upload(source: Path, account: StorageAccount, container: str, blob: str, session: Session | None = None) -> None:
    """Write a blob, making its container if need be; it is seen whole or not at all.

    :param source: the file.
    :param account: with a key.
    :param container: container's name.
    :param blob: path of the blob.
    :param session: what the requests go through.
    :raises AzureMLClassicError: it cannot be written; the message says why.
    """
    with service_client(account, session) as client, explained(account, f"{container}/{blob}"):
        make_container(client, container)
        with source.open("rb") as body:
            client.get_blob_client(container, blob).upload_blob(body, overwrite=True)


def exists(account: StorageAccount, container: str, blob: str, session: Session | None = None) -> bool:
    """Whether there is such a blob.

    :param account: with a key.
    :param container: container's name.
    :param blob: path of the blob.
    :param session: what the requests go through.
    :raises AzureMLClassicError: that cannot be told.
    """
    with service_client(account, session) as client, explained(account, f"{container}/{blob}"):
        return bool(client.get_blob_client(container, blob).exists())


def listed(account: StorageAccount, container: str, prefix: str) -> Iterator[tuple[str, int]]:
    """Name and length of the blobs of a container whose names begin with a prefix; none where there is no container.

    :param account: with a key.
    :param container: container's name.
    :param prefix: of the names.
    :raises AzureMLClassicError: they cannot be listed.
    """
    with service_client(account) as client, explained(account, f"{container}/{prefix}"):
        folder = client.get_container_client(container)
        if folder.exists():
            for blob in folder.list_blobs(name_starts_with=prefix):
                yield blob.name, blob.size


def remove(account: StorageAccount, container: str, blob: str) -> None:
    """Remove a blob.

    :param account: with a key.
    :param container: container's name.
    :param blob: path of the blob.
    :raises AzureMLClassicError: it is not there, or cannot be removed.
    """
    with service_client(account) as client, explained(account, f"{container}/{blob}"):
        client.get_blob_client(container, blob).delete_blob()


def remove_unchanged(account: StorageAccount, container: str, blob: str, since: datetime) -> bool:
    """Remove a blob, unless it is not there or was written after a moment; whether it was removed.

    :param account: with a key.
    :param container: container's name.
    :param blob: path of the blob.
    :param since: the moment.
    :raises AzureMLClassicError: it cannot be removed.
    """
    with service_client(account) as client, explained(account, f"{container}/{blob}"):
        from azure.core.exceptions import ResourceModifiedError, ResourceNotFoundError  # the extra is there

        try:
            client.get_blob_client(container, blob).delete_blob(if_unmodified_since=since)
        except (ResourceNotFoundError, ResourceModifiedError):
            return False
    return True


def make_container(client: BlobServiceClient, container: str) -> None:
    """Make a container if it is not there.

    :param client: of the account.
    :param container: its name.
    """
    from azure.core.exceptions import ResourceExistsError

    container_client = client.get_container_client(container)
    if not container_client.exists():
        try:
            container_client.create_container()
        except ResourceExistsError:
            return  # another server was faster
