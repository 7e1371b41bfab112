"""Folders and moves that hold up when others write and delete at the same time."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.server.folders import make_folder, move

_ATTEMPTS = 5


def publish(source: Path, target: Path, *, overwrite: bool) -> None:
    """Move a finished file to its place in one step, for good, whoever deletes folders meanwhile.

    :param source: a file on the same file system; gone afterwards.
    :param target: its place; missing folders are made.
    :param overwrite: ``False`` lets nothing that exists be replaced.
    :raises FileExistsError: the target exists and may not be replaced.
    :raises RequestRejected: the target is a folder, or a folder of the target is a file.
    """
    for attempt in itertools.count(1):
        try:
            make_folder(target.parent)
            move(source, target, overwrite=overwrite)
        except FileNotFoundError:
            # A concurrent delete of a neighbour took the folder away between the two calls.
            if attempt == _ATTEMPTS or not source.exists():
                raise
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            if target.is_file():
                raise
            raise _is_a_folder(target) from None
        else:
            return


def _is_a_folder(target: Path) -> AzureMLClassicError:
    message = f"{target.name!r} or a part before it is both a blob and a folder of blobs, which this store cannot keep."
    return rejection("InputBlobRelativeLocationInvalid", message)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it; another server may do the same at the same time.

    :param path: what to remove.
    """
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def files_below(folder: Path) -> Iterator[Path]:
    """All files in a folder and its folders; a folder that cannot be read is an error, not an empty one.

    :param folder: none is in one that is not there.
    :raises OSError: it cannot be read.
    """
    for base, _, names in os.walk(folder, onerror=_unless_gone):
        yield from (Path(base, name) for name in names)


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
