"""Blobs uploaded in blocks: staged under ``root/.blocks`` until a list of their ids makes them a blob.

Facts: Microsoft, "Put Block", "Put Block List" and "Get Block List" (``rest/api/storageservices``). The ids and lengths
of a blob's blocks are kept beside it, so that a later list can name them again (``Committed``).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import itertools
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError
from airflow_provider_azureml_classic.server.blobs.files import publish
from airflow_provider_azureml_classic.server.blobs.notes import BLOCKS, Notes
from airflow_provider_azureml_classic.server.blobs.store import BLOCKS_FOLDER, BlobProperties, BlobStore, BlobWriter
from airflow_provider_azureml_classic.server.folders import open_file

_MAX_BLOCK_ID_BYTES = 64
_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class _Block:
    """One block of a blob that is put together.

    :param id: its id.
    :param length: bytes.
    :param staged: its file; ``None`` for a block of the blob as it is.
    :param start: of the latter, where it begins in the blob.
    """

    id: str
    length: int
    staged: Path | None = None
    start: int = 0


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
        self,
        container: str,
        blob: str,
        listed: Sequence[tuple[str, str]],
        *,
        max_length: int,
        overwrite: bool = True,
        notes: Notes | None = None,
    ) -> BlobProperties:
        """Make the blob from staged blocks and its present ones, in this order; other blocks staged for it are dropped.

        :param container: name of the container, made if need be.
        :param blob: path in it.
        :param listed: where to look for a block (``Uncommitted``, ``Committed``, or ``Latest``: both, in this order),
            and its id.
        :param max_length: bytes that the blob may have.
        :param overwrite: ``False`` lets nothing that exists be replaced.
        :param notes: what else to keep of the blob.
        :raises LookupError: a block is not there.
        :raises OverflowError: the blob would be longer than ``max_length``.
        :raises FileExistsError: the blob exists and may not be replaced.
        """
        folder = self._folder(container, blob)
        with self._present(container, blob) as (present, committed):
            try:
                blocks = [_block(folder, place, block_id, committed) for place, block_id in listed]
                if sum(block.length for block in blocks) > max_length:
                    raise OverflowError("the blocks make a blob longer than is allowed")
                kept = {**(notes or {}), BLOCKS: [(block.id, block.length) for block in blocks]}
                with self._store.open_write(container, blob, overwrite=overwrite, notes=kept) as writer:
                    for block in blocks:
                        _copy(block, present, writer)
            except FileNotFoundError:
                self._store.check_here()
                raise LookupError("a block is not there") from None
        shutil.rmtree(folder, ignore_errors=True)
        return writer.committed

    def committed(self, container: str, blob: str) -> tuple[BlobProperties | None, list[tuple[str, int]]]:
        """A blob, and the ids and lengths of its blocks, in order; none of one that was uploaded whole.

        :param container: name of the container.
        :param blob: path in it.
        """
        try:
            properties = self._store.properties(container, blob)
        except AzureMLClassicError as error:
            if error.detail_code != "BlobNotFound":
                raise
            return None, []
        kept = self._store.notes.read(container, blob, properties.sha256, BLOCKS) or []
        return properties, [(block_id, length) for block_id, length in kept]

    def staged(self, container: str, blob: str) -> list[tuple[str, int]]:
        """Ids and lengths of the blocks that wait to become a blob, in the order of their ids.

        :param container: name of the container.
        :param blob: path in it.
        """
        blocks = []
        with suppress(FileNotFoundError):
            for file in self._folder(container, blob).iterdir():
                with suppress(FileNotFoundError):  # committed since
                    blocks.append((base64.b64encode(bytes.fromhex(file.name)).decode(), file.stat().st_size))
        return sorted(blocks)

    @contextmanager
    def _present(self, container: str, blob: str) -> Iterator[tuple[BinaryIO | None, Mapping[str, tuple[int, int]]]]:
        """The open file of the blob as it is, and its blocks: id -> start and length."""
        properties: BlobProperties | None = None
        blocks: list[tuple[str, int]] = []
        if self._store.notes.has(container, blob):
            properties, blocks = self.committed(container, blob)
        if properties is None or not blocks:
            yield None, {}
            return
        file, opened = self._store.open_read(container, blob)
        with file:
            if opened.sha256 != properties.sha256:  # replaced in between
                blocks = []
            starts = itertools.accumulate((length for _, length in blocks), initial=0)
            yield file, {block_id: (start, length) for (block_id, length), start in zip(blocks, starts, strict=False)}

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


def _block(folder: Path, place: str, block_id: str, committed: Mapping[str, tuple[int, int]]) -> _Block:
    file = folder / _file_name(block_id)
    if place != "Committed" and file.is_file():
        return _Block(block_id, file.stat().st_size, file)
    if place != "Uncommitted" and block_id in committed:
        start, length = committed[block_id]
        return _Block(block_id, length, start=start)
    raise FileNotFoundError


def _copy(block: _Block, present: BinaryIO | None, writer: BlobWriter) -> None:
    if block.staged is not None:
        with open_file(block.staged) as file:
            shutil.copyfileobj(file, writer, _CHUNK)
    elif present is not None:
        present.seek(block.start)
        for done in range(0, block.length, _CHUNK):
            writer.write(present.read(min(_CHUNK, block.length - done)))
