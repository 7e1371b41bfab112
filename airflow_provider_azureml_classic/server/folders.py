"""The data directory: who may use it, and files in it that are whole or not there; and the folder of temporary files.

Rule 1: what a killed server left is removed by the next one, and by nobody while it lives.
Rule 2: whatever gets its name in a data directory gets it by :func:`move`, and has it after a loss of power too.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.util import Finalize
from pathlib import Path
from typing import TextIO

#: File of a data directory that the server holds which uses it.
LOCK = "lock"
# Short, because the sockets of worker processes are below it, and the system allows them 107 letters.
_PREFIX = "azmlc-"
#: Seconds in which a server that starts beside others looks for files of killed ones: another that starts meanwhile
#: waits so long.
_SWEEP_SECONDS = 5.0
#: What systems say that cannot force a folder to the disk, or need not.
_NOT_FOR_FOLDERS = (errno.EINVAL, errno.EBADF, errno.ENOTSUP)


def sync(path: Path) -> None:
    """Force a file's bytes, or the names in a folder, to the disk.

    :param path: of either.
    :raises OSError: that failed, or it is gone.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_FOR_FOLDERS:
            raise
    finally:
        os.close(descriptor)


def move(source: Path, target: Path, *, overwrite: bool = True) -> None:
    """Give a finished file, or a folder with its files, its place in one step, for good.

    When this returns, a loss of power leaves it there, whole; while it does not, what was there or what is to be.

    :param source: on the same file system; gone afterwards.
    :param target: its place, in a folder that exists.
    :param overwrite: ``False`` lets no file that exists be replaced.
    :raises FileExistsError: the target exists and may not be replaced.
    """
    sync(source)
    if overwrite:
        os.replace(source, target)
    else:
        # A hard link, unlike a rename, fails if the target exists: the check and the act are one.
        os.link(source, target)
        source.unlink()
    # It may have been deleted by somebody since, with its folder.
    with suppress(FileNotFoundError):
        sync(target.parent)


def make_folder(folder: Path) -> None:
    """Make a folder that only this user can enter, and its parents likewise, for good.

    :param folder: may exist already.
    """
    # Not ``mkdir(parents=True)``: that gives the parents the default mode.
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        sync(folder.parent)


@contextmanager
def usable(data_dir: Path) -> Iterator[None]:
    """Say what to do where the data directory cannot be read or written.

    :param data_dir: the data directory.
    :raises OSError: the message names what stands in the way and what to do.
    """
    try:
        yield
    except OSError as error:
        raise OSError(
            f"the data directory {data_dir} cannot be used: {error.filename}: {error.strerror}. Choose a folder with "
            "--data-dir that the user who runs the server can write to."
        ) from None


@contextmanager
def in_use(data_dir: Path, *, shared: bool) -> Iterator[TextIO]:
    """Keep a second server out of a data directory, unless both keep their state in a database for several.

    The directory is made if need be.

    :param data_dir: the data directory.
    :param shared: whether the state is in such a database.
    :return: the open file that is the lock.
    :raises OSError: another server uses it, or it cannot be used; the message says so.
    """
    with usable(data_dir):
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (data_dir / LOCK).open("a")
    with lock:
        # Alone in any case, the files of servers that were killed are removed: nobody else writes any.
        alone = _locked(lock, fcntl.LOCK_EX)
        if alone:
            _remove_unfinished(data_dir)
        if not (_shared(lock) if shared else alone):
            raise OSError(
                f"another server uses {data_dir}. Stop it, or choose another --data-dir; servers that share one "
                "share a --database too."
            )
        yield lock


def _shared(lock: TextIO) -> bool:
    until = time.monotonic() + _SWEEP_SECONDS
    while not (locked := _locked(lock, fcntl.LOCK_SH)) and time.monotonic() < until:
        time.sleep(0.05)
    return locked


def _locked(lock: TextIO, kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove_unfinished(data_dir: Path) -> None:
    for path in data_dir.glob(".*.json.*"):
        path.unlink(missing_ok=True)


def write_private(path: Path, text: str, *, overwrite: bool = True) -> bool:
    """Write a file of the data directory that only its owner may read, whole or not at all.

    :param path: the file, ``*.json``.
    :param text: its content.
    :param overwrite: ``False`` leaves a file that is there as it is.
    :return: whether the file has ``text`` now.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")
    try:
        move(temporary, path, overwrite=overwrite)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Let temporary files of this process and its children go to a folder of its own; those of killed ones are removed.

    A folder belongs to who has its lock, which the system takes from a process that is killed.
    """
    base = Path(tempfile.gettempdir())
    for old in base.glob(f"{_PREFIX}*"):
        _remove_if_left(old)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
    before = os.environ.get("TMPDIR")
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
        try:
            yield folder
        finally:
            tempfile.tempdir = None
            os.environ.pop("TMPDIR")
            if before is not None:
                os.environ["TMPDIR"] = before
            # Not now: at the very end the library removes its own folder in it, and would miss it.
            Finalize(None, shutil.rmtree, (folder,), {"ignore_errors": True}, exitpriority=-1000)


def _remove_if_left(folder: Path) -> None:
    # Gone meanwhile, another user's, or in use: none of these is ours to remove.
    with suppress(OSError), (folder / "lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)


def file_digest(path: Path) -> str:
    """SHA-256 of a file.

    :param path: of the file.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
