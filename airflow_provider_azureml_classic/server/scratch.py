"""The folder for files that a process needs for a moment, which outlive it only until the next server starts here."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.util import Finalize
from pathlib import Path

# Short, because the sockets of worker processes are below it, and the system allows them 107 letters.
_PREFIX = "azmlc-"


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
