"""What is kept of a blob beside its bytes: the headers of its metadata and of its copy, and the ids of its blocks.

Rule: a note belongs to the bytes that it was written with, by their digest. What else replaced the blob, a job or a
file put into the folder, has no notes; and a note is written before its blob appears. Of two uploads of one blob at the
same moment the later may end without notes.

Facts: Microsoft, "Setting and retrieving properties and metadata for Blob Storage" (``rest/api/storageservices``).
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from airflow_provider_azureml_classic.protocol.messages import read_json
from airflow_provider_azureml_classic.server.blobs.files import publish
from airflow_provider_azureml_classic.server.folders import read_file

log = logging.getLogger(__name__)

#: Kinds of notes: headers of the answer to a GET (name -> value); pairs of a block's id and its length.
HEADERS, BLOCKS = "headers", "blocks"
_TYPES = {HEADERS: dict, BLOCKS: list}
#: Bytes of a note: of 50,000 blocks with the longest ids, and a half more.
_MOST = 8 << 20
Notes = Mapping[str, Any]


class NoteBook:
    """Notes of all blobs, in files.

    :param folder: where they are; made at the first note.
    :param temporary_file: opens a new file of the same file system, removed at the end unless it was moved.
    """

    def __init__(
        self, folder: Path, temporary_file: Callable[[], AbstractContextManager[tuple[BinaryIO, Path]]]
    ) -> None:
        self._folder = folder
        self._temporary_file = temporary_file

    def read(self, container: str, blob: str, sha256: str | None, kind: str) -> Any:
        """One note of a blob; ``None`` if there is none.

        :param container: name of the container.
        :param blob: path in it.
        :param sha256: of the blob's bytes.
        :param kind: which note.
        """
        try:
            note = read_json(read_file(self._of(container, blob) / f"{sha256}.{kind}", _MOST))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, IsADirectoryError):
            note = None
        if isinstance(note, _TYPES[kind]):
            return note
        # The bytes of the blob are whole all the same.
        log.warning("the %s of %s/%s are damaged, and passed over", kind, container, blob)
        return None

    def has(self, container: str, blob: str) -> bool:
        """Whether there may be a note of a blob.

        :param container: name of the container.
        :param blob: path in it.
        """
        return self._of(container, blob).is_dir()

    def write(self, container: str, blob: str, sha256: str, notes: Notes) -> None:
        """Write the notes of bytes that are, or will be, a blob.

        :param container: name of the container.
        :param blob: path in it.
        :param sha256: of the bytes.
        :param notes: kind -> what is noted.
        """
        for kind, note in notes.items():
            with self._temporary_file() as (file, temporary):
                file.write(json.dumps(note).encode())
                file.close()
                publish(temporary, self._of(container, blob) / f"{sha256}.{kind}", overwrite=True)

    def drop(self, container: str, blob: str, but: str | None = None, kinds: Notes | None = None) -> None:
        """Remove the notes of a blob that is gone or replaced.

        :param container: name of the container.
        :param blob: path in it.
        :param but: digest of the bytes that are there now.
        :param kinds: kinds that these have.
        """
        folder = self._of(container, blob)
        current = {f"{but}.{kind}" for kind in kinds or {}}
        with suppress(FileNotFoundError):
            for note in folder.iterdir():
                if note.name not in current:
                    note.unlink(missing_ok=True)
        with suppress(OSError):  # not there, or not empty
            folder.rmdir()

    def drop_container(self, container: str) -> None:
        """Remove all notes of a container.

        :param container: its name.
        """
        shutil.rmtree(self._folder / container, ignore_errors=True)

    def _of(self, container: str, blob: str) -> Path:
        return self._folder / container / hashlib.sha256(blob.encode()).hexdigest()
