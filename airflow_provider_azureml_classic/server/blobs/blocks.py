"""Blobs uploaded in blocks: staged under ``root/.blocks`` until a list of their ids makes them a blob.

Facts: Microsoft, "Put Block" and "Put Block List" (``rest/api/storageservices``). The blocks of a committed blob are
not kept apart, so a later list cannot refer to them (``<Committed>``).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from airflow_provider_azureml_classic.server.blobs.files import publish
from airflow_provider_azureml_classic.server.blobs.store import BLOCKS_FOLDER, BlobProperties, BlobStore, BlobWriter

_MAX_BLOCK_ID_BYTES = 64
_CHUNK = 1024 * 1024


class BlockStage:
    """Blocks waiting to become blobs.

    :param store: the store that the blobs go to.
    """

    def __init__(self, store: BlobStore) -> None:
        self._store = store

    @contextmanager
    def open_block(self, container: str, blob: str, block_id: str) -> Iterator[BlobWriter]:
        """Write one block; it counts only if the block of code ends without an error.

        :param container: name of the container.
        :param blob: path in it.
        :param block_id: at most 64 bytes in Base64.
        :raises ValueError: the id is not that.
        """
        target = self._folder(container, blob) / _file_name(block_id)
        with self._store.temporary_file() as (file, temporary):
            yield BlobWriter(file)
            file.close()
            publish(temporary, target, overwrite=True)

    def commit(
        self, container: str, blob: str, block_ids: Sequence[str], *, max_length: int, overwrite: bool = True
    ) -> BlobProperties:
        """Make the blob from staged blocks, in this order; all other blocks staged for it are dropped.

        :param container: name of the container, made if need be.
        :param blob: path in it.
        :param block_ids: ids as they were staged.
        :param max_length: bytes that the blob may have.
        :param overwrite: ``False`` lets nothing that exists be replaced.
        :raises LookupError: a block is not staged.
        :raises OverflowError: the blob would be longer than ``max_length``.
        :raises FileExistsError: the blob exists and may not be replaced.
        """
        folder = self._folder(container, blob)
        files = [folder / _file_name(block_id) for block_id in block_ids]
        try:
            if sum(file.stat().st_size for file in files) > max_length:
                raise OverflowError("the blocks make a blob longer than is allowed")
            with self._store.open_write(container, blob, overwrite=overwrite) as writer:
                for file in files:
                    with file.open("rb") as block:
                        shutil.copyfileobj(block, writer, _CHUNK)
        except FileNotFoundError:
            self._store.check_here()
            raise LookupError("a block is not staged") from None
        shutil.rmtree(folder, ignore_errors=True)
        return writer.committed

    def _folder(self, container: str, blob: str) -> Path:
        self._store.path(container, blob)
        key = hashlib.sha256(f"{container}/{blob}".encode()).hexdigest()
        return self._store.root / BLOCKS_FOLDER / key


def _file_name(block_id: str) -> str:
    try:
        raw = base64.b64decode(block_id, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("a block id must be in Base64") from None
    if not 0 < len(raw) <= _MAX_BLOCK_ID_BYTES:
        raise ValueError("a block id has 1 to 64 bytes")
    return raw.hex()
