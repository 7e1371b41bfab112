"""The server's own store: blobs are plain files under ``root/{container}/{path}``.

Rule 1: a blob is seen whole or not at all: what is written goes to ``root/.tmp`` and is moved into place at the end.
Rule 2: a name from outside becomes a path in :meth:`BlobStore.path` and nowhere else.
Rule 3: no HTTP here; every method blocks, so the event loop calls them in a thread.

Limits of files compared with Azure: a blob cannot be called like the folder of other blobs, and the content type is not
kept (it follows from the extension).
"""

from __future__ import annotations

import errno
import hashlib
import mimetypes
import os
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.sas import StorageAccount
from airflow_provider_azureml_classic.server.blobs.disk import unavailable
from airflow_provider_azureml_classic.server.blobs.files import files_below, publish, remove
from airflow_provider_azureml_classic.server.blobs.names import check_blob, check_container, name_of, path_on_disk
from airflow_provider_azureml_classic.server.blobs.notes import HEADERS, NoteBook, Notes
from airflow_provider_azureml_classic.server.folders import copy_file, make_folder, move, open_file, sync

TEMPORARY_FOLDER = ".tmp"
BLOCKS_FOLDER = ".blocks"
NOTES_FOLDER = ".notes"
#: Blocks of one blob.
MAX_BLOCKS = 50_000
#: Blocks that nobody committed are dropped after this time, as Azure does.
BLOCK_LIFETIME_SECONDS = 7 * 24 * 3600
_CHUNK = 1024 * 1024
_REMEMBERED_DIGESTS = 10_000


@dataclass(frozen=True)
class BlobProperties:
    """What is known of a blob.

    :param name: its path in the container.
    :param length: bytes.
    :param etag: quoted, as in the header; changes whenever the blob is written.
    :param last_modified: UTC.
    :param content_type: guessed from the extension.
    :param sha256: in hex, ``None`` in listings.
    :param metadata: headers of user metadata, in listings that ask for it.
    """

    name: str
    length: int
    etag: str
    last_modified: datetime
    content_type: str
    sha256: str | None = None
    metadata: Mapping[str, str] | None = None


class BlobWriter:
    """Takes the bytes of one blob.

    :param file: where they go.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._properties: BlobProperties | None = None
        self.length = 0

    def write(self, data: bytes) -> int:
        """Append.

        :param data: any number of bytes.
        """
        self._hash.update(data)
        self.length += len(data)
        return self._file.write(data)

    @property
    def sha256(self) -> str:
        """SHA-256 of what was written so far, in hex."""
        return self._hash.hexdigest()

    @property
    def committed(self) -> BlobProperties:
        """Properties of the blob that was written.

        :raises RuntimeError: it is not in place yet.
        """
        if self._properties is None:
            raise RuntimeError("The blob is not in place yet.")
        return self._properties

    @committed.setter
    def committed(self, properties: BlobProperties) -> None:
        self._properties = properties


class BlobStore:
    """Containers and blobs in a folder, readable by this user only.

    :param root: the folder; made if it is not there.
    :param account: the storage account that this folder is served as.
    :param owner: gives the id of this server, with which the names of half-written files begin.
    """

    def __init__(self, root: Path, account: StorageAccount, owner: Callable[[], str] = lambda: "server") -> None:
        self.root = root.resolve()
        self.account = account
        self._owner = owner
        self._etag_key = hashlib.sha256(account.key.encode()).digest()
        self.notes = NoteBook(self.root / NOTES_FOLDER, self.temporary_file)
        self._digests: dict[tuple[str, int, int, int], str] = {}
        self._lock = threading.Lock()
        #: Says, of a container and a name, why the service has removed the blob; nothing of others.
        self.why_gone: Callable[[str, str], str] = lambda container, blob: ""
        for folder in (self.root, self.root / TEMPORARY_FOLDER, self.root / BLOCKS_FOLDER):
            make_folder(folder)

    def clean(self, living: Callable[[], Collection[str]]) -> None:
        """Remove what servers that are gone have left half written.

        :param living: gives the ids of those that live.
        """
        # In this order: who writes a file was there before it.
        files = list((self.root / TEMPORARY_FOLDER).iterdir())
        keep = tuple(f"{owner}-" for owner in living())
        for leftover in files:
            if not leftover.name.startswith(keep):
                remove(leftover)
        too_old = time.time() - BLOCK_LIFETIME_SECONDS
        for folder in (self.root / BLOCKS_FOLDER).iterdir():
            if folder.stat().st_mtime < too_old:
                remove(folder)

    def check_here(self) -> None:
        """Tell a store that is away from blobs that are not there.

        :raises ServiceUnavailable: its folder is not there, as when its disk is away: nothing is known of its blobs,
            and a new folder would be in the way of the old one.
        """
        if not (self.root / TEMPORARY_FOLDER).is_dir():
            raise unavailable("The blobs of the server are not where they were: is their disk there? Then try again.")

    # Containers

    def create_container(self, container: str) -> bool:
        """Make a container; ``False`` if it is there already.

        :param container: its name.
        """
        folder = self.root / check_container(container)
        self.check_here()
        if folder.is_dir():
            return False
        make_folder(folder)
        return True

    def container_properties(self, container: str) -> BlobProperties | None:
        """Properties of a container (its length means nothing); ``None`` if it is not there.

        :param container: its name.
        """
        try:
            return self._properties(container, (self.root / check_container(container)).stat(), None)
        except FileNotFoundError:
            self.check_here()
            return None

    def containers(self) -> Iterator[BlobProperties]:
        """Properties of all containers (their lengths mean nothing), in the order of their names."""
        self.check_here()
        for name in sorted(folder.name for folder in self.root.iterdir() if not folder.name.startswith(".")):
            container = self.container_properties(name)
            if container is not None:
                yield container

    def delete_container(self, container: str) -> bool:
        """Remove a container and all its blobs at once; ``False`` if it is not there.

        :param container: its name.
        """
        grave = self.root / TEMPORARY_FOLDER / f"{self._owner()}-{uuid.uuid4().hex}"
        try:
            move(self.root / check_container(container), grave)
            sync(self.root)
        except FileNotFoundError:
            self.check_here()
            return False
        shutil.rmtree(grave)
        self.notes.drop_container(container)
        return True

    # Reading

    def path(self, container: str, blob: str) -> Path:
        """Where a blob's bytes are, or would be.

        :param container: name of the container.
        :param blob: path in it.
        :raises RequestRejected: a name is not allowed.
        """
        return self.root / check_container(container) / path_on_disk(check_blob(blob))

    def exists(self, container: str, blob: str) -> bool:
        """Whether there is such a blob.

        :param container: name of the container.
        :param blob: path in it.
        """
        there = self.path(container, blob).is_file()
        if not there:
            self.check_here()
        return there

    def open_read(self, container: str, blob: str) -> tuple[BinaryIO, BlobProperties]:
        """A blob's bytes and properties, of one version even if it is overwritten meanwhile; the caller closes it.

        :param container: name of the container.
        :param blob: path in it.
        :raises RequestRejected: ``BlobNotFound``.
        """
        path = self.path(container, blob)
        try:
            file = open_file(path)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise self._not_found(container, blob) from None
        try:
            status = os.fstat(file.fileno())
            return file, self._properties(blob, status, self._digest(path, status, file))
        except BaseException:
            file.close()
            raise

    def copy(self, container: str, blob: str, target: Path) -> None:
        """Copy a blob to a file, of one version even if it is overwritten meanwhile.

        :param container: name of the container.
        :param blob: path in it.
        :param target: the file to write.
        :raises RequestRejected: ``BlobNotFound``.
        """
        try:
            copy_file(self.path(container, blob), target)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise self._not_found(container, blob) from None

    def properties(self, container: str, blob: str) -> BlobProperties:
        """A blob's properties.

        :param container: name of the container.
        :param blob: path in it.
        :raises RequestRejected: ``BlobNotFound``.
        """
        file, properties = self.open_read(container, blob)
        file.close()
        return properties

    def list(self, container: str, prefix: str = "") -> Iterator[BlobProperties]:
        """Blobs of a container in the order of their names; empty if there is no such container.

        :param container: its name.
        :param prefix: beginning of the names wanted.
        """
        folder = self.root / check_container(container)
        self.check_here()
        named = sorted((name_of(path.relative_to(folder).as_posix()), path) for path in files_below(folder))
        for name, path in named:
            if name.startswith(prefix):
                with suppress(FileNotFoundError):  # deleted since the walk
                    yield self._properties(name, path.stat(), None)

    # Writing

    @contextmanager
    def open_write(
        self, container: str, blob: str, *, overwrite: bool = True, notes: Notes | None = None
    ) -> Iterator[BlobWriter]:
        """Write a blob; it appears, whole, when the block ends without an error, and not at all otherwise.

        :param container: name of the container, made if need be.
        :param blob: path in it.
        :param overwrite: ``False`` lets nothing that exists be replaced.
        :param notes: what to keep of it beside its bytes; those of a blob that it replaces are dropped.
        :raises FileExistsError: the blob exists and may not be replaced.
        """
        target = self.path(container, blob)
        with self.temporary_file() as (file, temporary):
            writer = BlobWriter(file)
            yield writer
            file.flush()
            status = os.fstat(file.fileno())
            file.close()
            self.notes.write(container, blob, writer.sha256, notes or {})
            publish(temporary, target, overwrite=overwrite)
        self.notes.drop(container, blob, writer.sha256, notes)
        self._remember(target, status, writer.sha256)
        writer.committed = self._properties(blob, status, writer.sha256)

    @contextmanager
    def temporary_file(self) -> Iterator[tuple[BinaryIO, Path]]:
        """A new file of the store's own file system, removed at the end of the block unless it was moved away."""
        self.check_here()
        handle, name = tempfile.mkstemp(dir=self.root / TEMPORARY_FOLDER, prefix=f"{self._owner()}-")
        try:
            with os.fdopen(handle, "wb") as file:
                yield file, Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    def commit_file(self, container: str, blob: str, source: Path, *, overwrite: bool = True) -> None:
        """Move a finished file into the store; copied first if it is on another file system.

        :param container: name of the container, made if need be.
        :param blob: path in it.
        :param source: the file; gone afterwards.
        :param overwrite: ``False`` lets nothing that exists be replaced.
        :raises FileExistsError: the blob exists and may not be replaced.
        """
        target = self.path(container, blob)
        self.check_here()
        source.chmod(0o600)
        try:
            publish(source, target, overwrite=overwrite)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            with open_file(source) as file, self.open_write(container, blob, overwrite=overwrite) as writer:
                shutil.copyfileobj(file, writer, _CHUNK)
            source.unlink()
        else:
            self.notes.drop(container, blob)

    def set_headers(
        self, container: str, blob: str, change: Callable[[BlobProperties, Mapping[str, str]], Mapping[str, str]]
    ) -> BlobProperties:
        """Change the headers that are kept of a blob, and with them its ``ETag``.

        :param container: name of the container.
        :param blob: path in it.
        :param change: makes the new headers from the blob's properties and its present headers; may raise.
        :return: the properties that the blob has then.
        :raises RequestRejected: ``BlobNotFound``.
        """
        path = self.path(container, blob)
        file, properties = self.open_read(container, blob)
        with file:
            sha256 = properties.sha256 or ""
            headers = change(properties, self.headers(container, blob, sha256))
            self.notes.write(container, blob, sha256, {HEADERS: dict(headers)})
            # By the open file, so that a blob which has replaced this one keeps its own time; whole microseconds,
            # which every file system keeps, and later than before whatever the clock says.
            after = max(time.time_ns() // 1000, os.fstat(file.fileno()).st_mtime_ns // 1000 + 1) * 1000
            os.utime(file.fileno() if os.utime in os.supports_fd else path, ns=(after, after))
            status = os.fstat(file.fileno())
        self._remember(path, status, sha256)
        return self._properties(blob, status, sha256)

    def headers(self, container: str, blob: str, sha256: str | None) -> Mapping[str, str]:
        """Headers that are kept of a blob: its metadata, and where it was copied from.

        :param container: name of the container.
        :param blob: path in it.
        :param sha256: of its bytes.
        """
        return self.notes.read(container, blob, sha256, HEADERS) or {}

    def delete(self, container: str, blob: str) -> None:
        """Remove a blob, and the folders that it leaves empty.

        :param container: name of the container.
        :param blob: path in it.
        :raises RequestRejected: ``BlobNotFound``.
        """
        path = self.path(container, blob)
        try:
            path.unlink()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError):
            if path.is_file():
                raise
            raise self._not_found(container, blob) from None
        self.notes.drop(container, blob)
        with suppress(FileNotFoundError):  # the folder went with another blob of it
            sync(path.parent)
        with suppress(OSError):  # up to the first folder that is not empty
            for folder in path.relative_to(self.root / container).parents[:-1]:
                (self.root / container / folder).rmdir()

    def delete_unchanged(self, container: str, blob: str, since: datetime) -> bool:
        """Remove a blob, unless it is not there or was written after a moment; whether it was removed.

        :param container: name of the container.
        :param blob: path in it.
        :param since: the moment.
        """
        path = self.path(container, blob)
        try:
            unchanged = path.is_file() and path.stat().st_mtime <= since.timestamp()
        except FileNotFoundError:
            unchanged = False
        if unchanged:
            self.delete(container, blob)
        return unchanged

    def delete_old(self, container: str, before: datetime, most: int) -> int:
        """Remove blobs that were written before a moment; how many there were.

        :param container: name of the container.
        :param before: the moment.
        :param most: how many are removed at most.
        """
        folder, removed = self.root / check_container(container), 0
        for path in files_below(folder):
            if removed >= most:
                break
            blob = name_of(path.relative_to(folder).as_posix())
            removed += self.delete_unchanged(container, blob, before)
        return removed

    def _not_found(self, container: str, blob: str) -> AzureMLClassicError:
        self.check_here()
        why = self.why_gone(container, blob)
        return rejection("BlobNotFound", f"There is no blob {blob!r} in the container {container!r}.{why}")

    # Digests

    def _digest(self, path: Path, status: os.stat_result, file: BinaryIO) -> str:
        digest = self._digests.get(_version(path, status))
        if digest:
            return digest
        sha256 = hashlib.sha256()
        while chunk := file.read(_CHUNK):
            sha256.update(chunk)
        file.seek(0)
        self._remember(path, status, sha256.hexdigest())
        return sha256.hexdigest()

    def _properties(self, name: str, status: os.stat_result, sha256: str | None) -> BlobProperties:
        # In plain, the numbers would tell one customer how many files all the others have written since his last one.
        version = f"{status.st_mtime_ns} {status.st_ino}".encode()
        etag = hashlib.blake2b(version, key=self._etag_key, digest_size=8).hexdigest().upper()
        return BlobProperties(
            name=name,
            length=status.st_size,
            etag=f'"0x{etag}"',
            last_modified=datetime.fromtimestamp(status.st_mtime, UTC),
            content_type=mimetypes.guess_type(name)[0] or "application/octet-stream",
            sha256=sha256,
        )

    def _remember(self, path: Path, status: os.stat_result, digest: str) -> None:
        with self._lock:
            if len(self._digests) >= _REMEMBERED_DIGESTS:
                del self._digests[next(iter(self._digests))]
            self._digests[_version(path, status)] = digest


def _version(path: Path, status: os.stat_result) -> tuple[str, int, int, int]:
    # The inode tells two writes within one tick of the clock apart: the new file exists before the old one goes.
    return str(path), status.st_ino, status.st_mtime_ns, status.st_size
