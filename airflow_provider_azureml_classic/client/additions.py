"""Verbs that are not the service's own: blobs in blocks (Azure Storage), and what our server adds to the protocol."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from airflow_provider_azureml_classic.client.answers import ask, check, decoded, encoded
from airflow_provider_azureml_classic.client.retries import Steps
from airflow_provider_azureml_classic.client.verb import verb
from airflow_provider_azureml_classic.client.verbs import BlobFacts, Verbs
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, ServiceUnavailable, rejection
from airflow_provider_azureml_classic.protocol import operations as ops
from airflow_provider_azureml_classic.protocol.blocks import (
    BLOCK_SIZE,
    MAX_BLOCKS,
    block_id,
    block_list,
    block_list_url,
    block_url,
)
from airflow_provider_azureml_classic.protocol.errors import from_response
from airflow_provider_azureml_classic.protocol.job_history import (
    BEFORE_PARAMETER,
    LIMIT_PARAMETER,
    PAGE,
    JobPage,
    LogLine,
    read_log,
)
from airflow_provider_azureml_classic.protocol.keys import KeyType
from airflow_provider_azureml_classic.protocol.messages import Request
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint

#: Details of a 404 that are about what was asked for; any other one is about the call itself.
_ABSENT = frozenset(
    {"WorkspaceNotFound", "WebServiceNotFound", "WebServiceIdNotFoundInWorkspace", "EndpointNotFound", "JobNotFound"}
)
_UNKNOWN_CALL = frozenset({404, 405, 501})


class AllVerbs(Verbs):
    """What both clients can do; see :class:`~airflow_provider_azureml_classic.client.verbs.Verbs`."""

    @verb
    def regenerate_key(self, service_id: str, name: str, which: KeyType) -> Steps[Endpoint]:
        """Replace one of an endpoint's keys; the other one stays valid.

        Our addition to the protocol: servers that do not know it are told apart from a missing endpoint.

        :param service_id: 32 hex digits.
        :param name: the endpoint's name.
        :param which: the key.
        :return: the endpoint with its keys as they are now.
        :raises RequestRejected: ``OperationNotSupported``.
        """
        request = self._management(
            ops.REGENERATE_KEYS, encoded(which.to_wire()), service=service_id, endpoint=name.strip()
        )
        response = yield request
        if response.status in _UNKNOWN_CALL and from_response(request, response).detail_code not in _ABSENT:
            raise rejection(
                "OperationNotSupported",
                f"This service offers no call that regenerates keys (it answered HTTP {response.status}); it is an "
                "addition of azureml-classic-server. Regenerate the key where the service is administered.",
            )
        check(request, response)
        return self._seen(Endpoint.from_wire(decoded(request, response), etag=response.headers.get(ops.ETAG)))

    @verb
    def list_jobs(self, endpoint: Endpoint, *, limit: int = PAGE, before: str | None = None) -> Steps[JobPage]:
        """Jobs of an endpoint, newest first, without their results.

        Our addition to the protocol.

        :param endpoint: the endpoint that they were submitted to.
        :param limit: the most that are wanted, up to 500.
        :param before: ``next`` of the page before this one.
        :raises RequestRejected: ``OperationNotSupported``: the service does not have this call.
        """
        query = [(LIMIT_PARAMETER, str(limit)), *([(BEFORE_PARAMETER, before)] if before else [])]
        return JobPage.from_wire((yield from self._looked(endpoint, ops.LIST_JOBS, query)))

    @verb
    def job_log(self, endpoint: Endpoint, job_id: str) -> Steps[tuple[LogLine, ...]]:
        """What happened to a job, oldest line first.

        Our addition to the protocol.

        :param endpoint: the endpoint it was submitted to.
        :param job_id: the job.
        :raises RequestRejected: ``OperationNotSupported``: the service does not have this call.
        """
        return read_log((yield from self._looked(endpoint, ops.GET_JOB_LOG, job=job_id)))

    def _looked(
        self, endpoint: Endpoint, operation: ops.Operation, query: Sequence[tuple[str, str]] = (), **segments: str
    ) -> Steps[Any]:
        try:
            request, response = yield from self._call(endpoint, operation, b"", query=query, **segments)
        except AzureMLClassicError as error:
            if error.status not in _UNKNOWN_CALL or error.detail_code in _ABSENT:
                raise
            raise rejection(
                "OperationNotSupported",
                f"This service does not list jobs or their logs (it answered HTTP {error.status}); that is an "
                "addition of azureml-classic-server.",
            ) from error
        return decoded(request, response)

    @verb
    def store_stream(self, reference: BlobReference, pieces: Iterable[bytes]) -> Steps[BlobFacts]:
        """Write a blob of any size in blocks: at most a few blocks are in memory, and nothing is seen of the blob, nor
        is an older one replaced, until all of it is there.

        An asynchronous client waits for ``pieces`` on the event loop.

        :param reference: location with a token that allows creating or writing.
        :param pieces: the content in pieces of any size; an error that they raise leaves the blob as it was.
        :return: length and SHA-256 of what was written.
        """
        self._mask(reference.secrets)
        upload, identifiers = uuid.uuid4().hex, list[str]()
        digest, length = hashlib.sha256(), 0
        for block in _blocks(pieces):
            identifiers.append(block_id(upload, len(identifiers)))
            if len(identifiers) > MAX_BLOCKS:
                raise rejection("OutOfMemoryLimit", f"{reference.location} would be over {MAX_BLOCKS} blocks long.")
            digest.update(block)
            length += len(block)
            url = block_url(reference, identifiers[-1])
            yield from ask(Request(ops.PUT_BLOCK, url, {}, block, self.timeout))
        facts = BlobFacts(length, digest.hexdigest())
        headers = {"content-type": "application/xml", ops.BLOB_SHA256: facts.sha256}
        url = block_list_url(reference)
        try:
            yield from ask(Request(ops.PUT_BLOCK_LIST, url, headers, block_list(identifiers), self.timeout))
        except AzureMLClassicError as error:
            raise _overtaken(reference, error) from error
        return facts


def _blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    buffer = bytearray()
    for piece in pieces:
        buffer += piece
        while len(buffer) >= BLOCK_SIZE:
            with memoryview(buffer) as view:
                block = bytes(view[:BLOCK_SIZE])
            del buffer[:BLOCK_SIZE]
            yield block
    if buffer:
        yield bytes(buffer)


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
