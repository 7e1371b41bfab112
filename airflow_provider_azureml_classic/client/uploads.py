"""Blobs of any size, written in blocks, and what opens them. No I/O of its own."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable
from typing import Any

from airflow_provider_azureml_classic.client.answers import BlobFacts, ask, ask_addition, decoded, encoded
from airflow_provider_azureml_classic.client.retries import Steps
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, ServiceUnavailable, rejection
from airflow_provider_azureml_classic.protocol import operations as ops
from airflow_provider_azureml_classic.protocol.blocks import (
    MAX_BLOCKS,
    block_id,
    block_list,
    block_list_url,
    block_url,
    in_blocks,
)
from airflow_provider_azureml_classic.protocol.messages import Request
from airflow_provider_azureml_classic.protocol.references import BlobReference


def upload_in_blocks(reference: BlobReference, pieces: Iterable[bytes], timeout: float) -> Steps[BlobFacts]:
    """See :meth:`~.verbs.Verbs.store_stream`.

    :param reference: location with a token that allows creating or writing.
    :param pieces: the content in pieces of any size.
    :param timeout: seconds allowed for one call.
    """
    upload, identifiers = uuid.uuid4().hex, list[str]()
    digest, length = hashlib.sha256(), 0
    for block in in_blocks(pieces):
        identifiers.append(block_id(upload, len(identifiers)))
        if len(identifiers) > MAX_BLOCKS:
            raise rejection("OutOfMemoryLimit", f"{reference.location} would be over {MAX_BLOCKS} blocks long.")
        digest.update(block)
        length += len(block)
        url = block_url(reference, identifiers[-1])
        yield from ask(Request(ops.PUT_BLOCK, url, {}, block, timeout))
    facts = BlobFacts(length, digest.hexdigest())
    headers = {"content-type": "application/xml", ops.BLOB_SHA256: facts.sha256}
    url = block_list_url(reference)
    try:
        yield from ask(Request(ops.PUT_BLOCK_LIST, url, headers, block_list(identifiers), timeout))
    except AzureMLClassicError as error:
        raise _overtaken(reference, error) from error
    return facts


def _overtaken(reference: BlobReference, error: AzureMLClassicError) -> AzureMLClassicError:
    """Another upload to the same blob drops the blocks of this one: trying again may succeed."""
    if error.detail_code != "InvalidBlockList":
        return error
    return ServiceUnavailable(
        f"{reference.location} was written by somebody else at the same time; nothing of this upload is left.",
        code=error.code,
        status=error.status,
        verb=ops.PUT_BLOCK_LIST.name,
        url=reference.location,
    )


def sign_blob(self: Any, reference: BlobReference) -> Steps[BlobReference]:
    """A blob of the service's own store with a token that reads and writes it, for an hour. Our addition.

    :param self: the client.
    :param reference: container and name, or a URL in the store; what opens it already is left out.
    :raises RequestRejected: ``OperationNotSupported``: the service does not have this call; or it is not in the store.
    """
    place = BlobReference(reference.relative_location, reference.base_location)
    url = ops.SIGN_BLOB.url(self.management_url, {"workspace": self.workspace_id})
    request = self._request(ops.SIGN_BLOB, url, self._token, encoded(place.to_wire()))
    instead = "Give a storage connection string, or a SAS URL."
    response = yield from ask_addition(request, "opens its store to the workspace token", instead)
    signed = BlobReference.from_wire(decoded(request, response))
    self._mask(signed.secrets)
    return signed
