"""Blobs written in blocks: staged one by one, then put together by a list. The wire format of Azure Storage.

Facts: Microsoft, "Put Block" and "Put Block List" (``rest/api/storageservices``). All ids of one blob have the same
length; a list drops every staged block that it does not name.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from urllib.parse import quote

from airflow_provider_azureml_classic.protocol.references import BlobReference

#: Bytes of one block: what one upload holds in memory, times a small number.
BLOCK_SIZE = 4 << 20
#: Blocks that a blob may have.
MAX_BLOCKS = 50_000


def block_id(upload: str, number: int) -> str:
    """Id of one block, in Base64.

    :param upload: tells the blocks of one upload from those of another to the same blob; always of the same length.
    :param number: from 0.
    """
    return base64.b64encode(f"{upload}{number:06d}".encode()).decode()


def block_url(reference: BlobReference, identifier: str) -> str:
    """Where one block is put: a secret, as it holds the token.

    :param reference: location of the blob, with its token.
    :param identifier: see :func:`block_id`.
    """
    return _with(reference, f"comp=block&blockid={quote(identifier, safe='')}")


def block_list_url(reference: BlobReference) -> str:
    """Where the list is put: a secret, as it holds the token.

    :param reference: location of the blob, with its token.
    """
    return _with(reference, "comp=blocklist")


def block_list(identifiers: Iterable[str]) -> bytes:
    """The body that puts the blocks together.

    :param identifiers: in order; Base64 needs no escapes in XML.
    """
    listed = "".join(f"<Latest>{identifier}</Latest>" for identifier in identifiers)
    return f'<?xml version="1.0" encoding="utf-8"?><BlockList>{listed}</BlockList>'.encode()


def _with(reference: BlobReference, query: str) -> str:
    return f"{reference.url}{'&' if reference.sas_token else '?'}{query}"


def in_blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Content in blocks of :data:`BLOCK_SIZE`, the last one shorter.

    :param pieces: of any size.
    """
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
