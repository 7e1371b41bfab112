"""The data directory: who may use it, and files in it that are whole or not there; and the folder of temporary files.

Rule 1: what a killed server left is removed by the next one, and by nobody while it lives.
Rule 2: whatever gets its name in a data directory gets it by :func:`move`, and has it after a loss of power too.
Rule 3: whatever is read there is opened by :func:`open_file`: a FIFO, a socket or a device would be waited for without
an end, or has none. Where a file belongs, each of them is what a folder is: ``IsADirectoryError``.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import os
import shutil
import stat
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
#: Bytes of the small files of a data directory.
SMALL = 1 << 20
_CHUNK = 1 << 20


def open_file(path: Path) -> io.BufferedReader:
    """Open a file to read it.

    :param path: of the file, or a link to it.
    :raises IsADirectoryError: it is something else, also a FIFO, a socket or a device.
    :raises OSError: it cannot be opened.
    """
    return open(path, "rb", opener=_regular)


def _regular(path: str, flags: int) -> int:
    """A descriptor of a file, and of nothing that lets one wait."""
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK, 0o666)
    except OSError as error:
        # A socket, a FIFO without a reader, a device without a driver.
        raise _no_file(path) if error.errno in (errno.ENXIO, errno.ENODEV) else error from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _no_file(path)
    return descriptor


def _no_file(path: str | Path) -> OSError:
    return IsADirectoryError(errno.EISDIR, "something lies there that is not a file", str(path))


def check_file(path: Path) -> None:
    """Refuse what others, who open it by its name, would wait for.

    :param path: of a file that may be absent.
    :raises IsADirectoryError: there is something else.
    """
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(path.stat().st_mode):
            raise _no_file(path)


def read_file(path: Path, most: int = SMALL) -> bytes:
    """What is in a file of the data directory that is never large.

    :param path: of the file.
    :param most: bytes that it may have.
    :raises ValueError: it has more.
    :raises OSError: see :func:`open_file`.
    """
    with open_file(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most:,} bytes")
    return content


def copy_file(source: Path, target: Path) -> None:
    """Copy what is in a file.

    :param source: of it.
    :param target: a file that is written anew.
    :raises OSError: see :func:`open_file`; or ``target`` cannot be written.
    """
    with open_file(source) as file, target.open("wb") as out:
        shutil.copyfileobj(file, out, _CHUNK)


def sync(path: Path) -> None:
    """Force a file's bytes, or the names in a folder, to the disk.

    :param path: of either.
    :raises OSError: that failed, or it is gone.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
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
    :raises NotADirectoryError: something else lies there.
    """
    # Not ``mkdir(parents=True)``: that gives the parents the default mode.
    if not folder.is_dir():
        make_folder(folder.parent)
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except FileExistsError:
            raise NotADirectoryError(errno.ENOTDIR, "something lies there that is not a folder", str(folder)) from None
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
        what = "Choose a folder with --data-dir that the user who runs the server can write to"
        if isinstance(error, IsADirectoryError):
            what = "Move it away, then start again"
        raise OSError(
            f"the data directory {data_dir} cannot be used: {error.filename or data_dir}: {error.strerror}. {what}."
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
        for path in data_dir.glob("*.json"):
            check_file(path)
        lock = open(data_dir / LOCK, "a", opener=_regular)  # noqa: SIM115 - closed below
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
        with suppress(IsADirectoryError):
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
    with suppress(OSError), open(folder / "lock", "r+", opener=_regular) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)


def file_digest(path: Path) -> str:
    """SHA-256 of a file.

    :param path: of the file.
    """
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
