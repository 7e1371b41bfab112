"""Model files by their digest, and the ones that are loaded.

Files are named by their SHA-256, so equal models are stored and loaded once, whatever number of endpoints uses them.
Where there is a vault, the folder is a cache of it.

Rule 1: loaded models take so much memory and no more. Where that is reached, those that were not asked for longest do
without what makes them faster, see :meth:`~.scorer.Scorer.slim`; then they go, and the next call reads their file.
Rule 2: what is in a file is compared with its name whenever it is read or put in place. One that is missing or damaged
is written again: from the trash, the vault, or where the model came from.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, RequestRejected, rejection
from airflow_provider_azureml_classic.protocol.references import MODEL_EXTENSION
from airflow_provider_azureml_classic.server.blobs import files
from airflow_provider_azureml_classic.server.experiments.graph import LIMIT_SECONDS
from airflow_provider_azureml_classic.server.experiments.scorer import Scorer
from airflow_provider_azureml_classic.server.folders import copy_file, make_folder, move, open_file
from airflow_provider_azureml_classic.server.models.remote import Vault

log = logging.getLogger(__name__)

#: Where removed models wait, and how long.
TRASH, TRASH_SECONDS = ".trash", 24 * 3600
#: A model that could not be written again is tried again after so long, in seconds.
MEND_AGAIN = 10.0
#: Damaged files that are read anew whenever somebody asks whether all is well; a minute later all of them are.
_LOOKED_AT = 20
MISSING, DAMAGED = "missing", "damaged"

#: Copies a model again from where it came to a file, or raises an error that says why that cannot be done; its
#: arguments are the digest and the file.
Origin = Callable[[str, Path], object]


class ModelStore:
    """The models of a data directory.

    :param root: folder of the model files.
    :param owner: gives the id of this server, with which the names of half-written files begin.
    :param memory: bytes that loaded models may take; the last one that was asked is kept whatever it takes.
    :param vault: keeps every model as well, so that they outlive the folder.
    :param whole: whether this is still the folder of its database.
    :param trial: tries a model file before it is loaded, where nothing else is at stake; raises what :meth:`put` does.
    """

    def __init__(
        self,
        root: Path,
        owner: Callable[[], str] = lambda: "server",
        *,
        memory: int = 1 << 30,
        vault: Vault | None = None,
        trial: Callable[[Path], object] = lambda path: None,
        whole: Callable[[], bool] = lambda: True,
    ) -> None:
        self.origin: Origin | None = None
        self._broken: dict[str, str] = {}
        self._tried: dict[str, float] = {}
        self._sound: dict[str, tuple[int, int, int]] = {}
        self._whole = whole
        self._trash = root / TRASH
        self._trial = trial
        self._root = root
        self.vault = vault
        make_folder(root)
        self._owner = owner
        self._memory = memory
        #: All, and those that could take less; of both, those come first that were not asked for longest.
        self._loaded: OrderedDict[str, Scorer] = OrderedDict()
        self._ample: OrderedDict[str, Scorer] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def put(self, source: Path, pin: Callable[[str], object], *, load: bool = True) -> Scorer:
        """Check, load and keep a model file; it serves nobody yet.

        :param source: an ``.ilearner`` file.
        :param pin: called with its digest before its file is looked for, so that nobody removes it.
        :param load: keep it in memory as well, for calls that come here.
        :raises RequestRejected: ``ModelInvalid``, saying what was found.
        """
        if not self._whole():
            raise rejection("NoMoreResources", "The server's data directory was replaced. Try again after its restart.")
        self._trial(source)
        scorer = Scorer.load(source, self.file)
        pin(scorer.digest)
        if not self._is_sound(scorer.digest):
            self._write(scorer.digest, lambda temporary: copy_file(source, temporary))
        if self.vault:
            self.vault.put(scorer.digest, self.path(scorer.digest))
        if load:
            self._keep(scorer)
        return scorer

    def scorer(self, digest: str, *, load: bool = True) -> Scorer:
        """The loaded model; read from its file at first use.

        :param digest: SHA-256 of the model file.
        :param load: see :meth:`put`.
        :raises ServiceUnavailable: see :meth:`file`; or a file from before cannot be read any more.
        """
        with self._lock:
            loaded = self._loaded.get(digest)
            if loaded is not None:
                self._touch(loaded)
                return loaded
        try:
            scorer = Scorer.load(self._content(digest), self.file)
        except RequestRejected as error:
            # Whoever asks for an answer has sent no model.
            raise rejection("ResourceLoadFailed", f"The endpoint's model {digest}: {error.message}") from None
        if scorer.problem:
            log.warning(
                "the model %s of %r would not be put in place today: %s. It goes on answering, slower and for at most "
                "%g s a call; train it again.",
                *(digest, scorer.manifest.experiment, scorer.problem, LIMIT_SECONDS),
            )
        if load:
            self._keep(scorer)
        return scorer

    def check(self, digest: str) -> None:
        """Try a model that is here, before it is put in place again.

        :param digest: SHA-256 of the model file.
        :raises RequestRejected: ``ModelInvalid``.
        """
        self._trial(self.file(digest))

    def _write(self, digest: str, write: Callable[[Path], object]) -> None:
        """Put a file in place, if it is what it should be."""
        temporary = self._temporary()
        try:
            write(temporary)
            with open_file(temporary) as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    raise rejection("ResourceLoadFailed", f"The file of the model {digest} was changed or damaged.")
                seen = _state(file)
            self._clear(self.path(digest))
            move(temporary, self.path(digest))
            self._believe(digest, seen)
        finally:
            temporary.unlink(missing_ok=True)

    def _temporary(self) -> Path:
        """A new file that no clean-up removes while this server lives."""
        return self._root / f".{self._owner()}-{uuid.uuid4().hex}"

    def _clear(self, path: Path) -> None:
        """A folder that lies where a file belongs waits in the trash: somebody may look for what is in it."""
        if path.is_dir():
            make_folder(self._trash)
            os.utime(path)
            move(path, self._trash / uuid.uuid4().hex)

    @property
    def loaded(self) -> int:
        """Models in memory."""
        return len(self._loaded)

    @property
    def loaded_bytes(self) -> int:
        """Bytes that they take, about."""
        return self._bytes

    def check_writable(self) -> None:
        """Write and remove a file.

        :raises OSError: that cannot be done, or the folder is another one now.
        """
        if not self._whole():
            raise OSError("the data directory or its database was replaced")
        probe = self._temporary()
        probe.write_bytes(b"?")
        probe.unlink()

    def is_loaded(self, digest: str) -> bool:
        """Whether :meth:`scorer` answers without reading a file.

        :param digest: SHA-256 of the model file.
        """
        return digest in self._loaded

    def answers_at_once(self, digest: str) -> bool:
        """Whether a model is loaded, and so fast that others may wait for a few rows.

        :param digest: SHA-256 of the model file.
        """
        scorer = self._loaded.get(digest)
        return scorer is not None and scorer.at_once

    def digests(self) -> set[str]:
        """Digests of the model files that are there."""
        return _models_in(self._root)

    def everywhere(self) -> set[str]:
        """Digests of the model files that are there, in the trash or in the vault."""
        thrown = _models_in(self._trash) if self._trash.exists() else set()
        return self.digests() | thrown | (self.vault.digests() if self.vault else set())

    def kept(self, digests: Collection[str]) -> set[str]:
        """Those whose files are there, or in the vault; none is read.

        :param digests: SHA-256 of model files.
        :raises AzureMLClassicError: the vault cannot be asked.
        """
        here = {digest for digest in digests if self.path(digest).exists()}
        return here | (self.vault.digests() & set(digests) if self.vault and here != set(digests) else set())

    def remove(self, digest: str) -> None:
        """Put a model file into the trash, if it is there; who has loaded it can go on with it.

        :param digest: SHA-256 of the model file.
        """
        make_folder(self._trash)
        with suppress(FileNotFoundError):
            # It waits from now on, however old it is.
            os.utime(self.path(digest))
            move(self.path(digest), self._trash / self.path(digest).name)

    def _is_here(self, digest: str) -> bool:
        """Whether a model file is there; from the trash it is taken back."""
        path = self.path(digest)
        with suppress(FileNotFoundError):
            if not path.exists():
                move(self._trash / path.name, path)
        return path.exists()

    def _is_sound(self, digest: str, *, known: bool = False) -> bool:
        """Whether a model file is there, with what its name says.

        :param known: believe what was read before of a file that did not change.
        """
        if not self._is_here(digest):
            self._broken[digest] = MISSING
            return False
        with _unless_unreadable(), open_file(self.path(digest)) as file:
            seen = _state(file)
            believed = known and self._sound.get(digest) == seen
            if believed or hashlib.file_digest(file, "sha256").hexdigest() == digest:
                self._believe(digest, seen)
                return True
        self._sound.pop(digest, None)
        self._broken[digest] = DAMAGED
        return False

    def _believe(self, digest: str, seen: tuple[int, int, int]) -> None:
        self._sound[digest] = seen
        self._broken.pop(digest, None)

    def empty_trash(self, now: float) -> None:
        """Remove what has been in the trash for :data:`TRASH_SECONDS`.

        :param now: the present time, in seconds since the epoch.
        """
        for path in self._trash.iterdir() if self._trash.exists() else ():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < now - TRASH_SECONDS:
                    files.remove(path)

    def clean(self, living: Callable[[], Collection[str]]) -> None:
        """Remove what servers that are gone have left half written.

        :param living: gives the ids of those that live.
        """
        # In this order: who writes a file was there before it.
        hidden = [path for path in self._root.iterdir() if path.name.startswith(".") and path.is_file()]
        keep = tuple(f".{owner}-" for owner in living())
        for path in hidden:
            if not path.name.startswith(keep):
                path.unlink(missing_ok=True)

    def fill_vault(self, in_use: set[str]) -> None:
        """Take models that were put in place before there was a vault into it.

        :param in_use: digests of the models in place.
        """
        if self.vault:
            for digest in self.digests() & in_use - self.vault.digests():
                self.vault.put(digest, self.path(digest))

    def _keep(self, scorer: Scorer) -> None:
        with self._lock:
            self._loaded[scorer.digest] = scorer
            self._bytes -= self._sizes.pop(scorer.digest, 0)
            self._touch(scorer)

    def _touch(self, scorer: Scorer) -> None:
        """A loaded model is asked: it is the last to go. It may have grown meanwhile."""
        digest = scorer.digest
        self._loaded.move_to_end(digest)
        if digest in self._ample:
            self._ample.move_to_end(digest)
        if scorer.size != self._sizes.get(digest):
            self._ample[digest] = scorer
            self._weigh(scorer)
            self._shrink()

    def _weigh(self, scorer: Scorer) -> None:
        size = scorer.size
        self._bytes += size - self._sizes.get(scorer.digest, 0)
        self._sizes[scorer.digest] = size

    def _shrink(self) -> None:
        while self._bytes > self._memory and self._ample:
            _, scorer = self._ample.popitem(last=False)
            if scorer.slim():
                self._weigh(scorer)
        while self._bytes > self._memory and len(self._loaded) > 1:
            digest, _ = self._loaded.popitem(last=False)
            self._bytes -= self._sizes.pop(digest)

    def _content(self, digest: str) -> bytes:
        """What is in the file of a model, read once where it is whole."""
        with _unless_unreadable(), open_file(self.path(digest)) as file:
            seen, content = _state(file), file.read()
            if hashlib.sha256(content).hexdigest() == digest:
                self._believe(digest, seen)
                return content
        with open_file(self.file(digest)) as file:
            return file.read()

    def file(self, digest: str) -> Path:
        """The file of a model; one that is missing or damaged is written again.

        :param digest: SHA-256 of the model file.
        :raises ServiceUnavailable: ``ResourceDownload``, ``ResourceLoadFailed``: that cannot be done; the message says
            why.
        """
        if not self.is_kept(digest):
            self._fetch_again(digest)
        return self.path(digest)

    def is_kept(self, digest: str) -> bool:
        """Whether the file of a model is here and whole, or could be fetched from the vault.

        :param digest: SHA-256 of the model file.
        :raises ServiceUnavailable: ``ResourceDownload``: the vault does not give it, and nobody else can be asked.
        """
        vault = self.vault
        sound = self._is_sound(digest)
        if sound or vault is None:
            return sound
        try:
            self._write(digest, lambda temporary: vault.fetch(digest, temporary))
        except AzureMLClassicError as error:
            if self.origin is None:
                raise
            log.error("the model %s cannot be had from the storage account: %s", digest, error.message)
            return False
        return True

    def _fetch_again(self, digest: str) -> None:
        """Write a model file from where the model came; one call at a time tries."""
        trouble, advice = self._broken.get(digest, MISSING), "PATCH the endpoint with a model again."
        now = time.monotonic()
        with self._lock:
            if now - self._tried.get(digest, -MEND_AGAIN) < MEND_AGAIN:
                text = f"The file of the model {digest} is {trouble} and is being fetched again. {advice}"
                raise rejection("ResourceLoadFailed", text)
            self._tried[digest] = now
        origin = self.origin
        log.error("the file of the model %s is %s: it is fetched again", digest, trouble)
        try:
            if origin is None:
                raise rejection("BlobNotFound", "It is not known where it came from.")
            self._write(digest, lambda temporary: origin(digest, temporary))
            if self.vault:
                self.vault.put(digest, self.path(digest), anew=True)
        except (AzureMLClassicError, OSError) as error:
            reason = error.message if isinstance(error, AzureMLClassicError) else error.strerror
            log.error("the model %s cannot be fetched again: %s", digest, reason)
            text = f"The file of the model {digest} is {trouble}, and cannot be fetched again: {reason} {advice}"
            raise rejection("ResourceLoadFailed", text) from None
        with self._lock:
            self._tried.pop(digest, None)

    def mend(self, in_use: Collection[str]) -> None:
        """Look at the files of the models in use, and write again what is missing or damaged.

        :param in_use: their digests.
        """
        for digest in in_use:
            # What a vault has is fetched when it is needed.
            if (not self.vault or self.path(digest).exists()) and not self._is_sound(digest, known=True):
                with suppress(AzureMLClassicError):
                    self.file(digest)
        for known in (self._broken, self._sound, self._tried):
            for digest in set(known).difference(in_use):
                known.pop(digest, None)

    def broken(self, in_use: Collection[str]) -> dict[str, str]:
        """Models in use whose files are missing or damaged: :data:`MISSING` or :data:`DAMAGED`, by digest.

        :param in_use: digests of the models in use.
        """
        lacking = set() if self.vault else set(in_use)
        with suppress(FileNotFoundError):  # all of them lack where their folder is away
            lacking -= self.everywhere()
        for digest in list(self._broken)[:_LOOKED_AT]:
            if self.path(digest).exists():
                self._is_sound(digest)
        broken = {digest: trouble for digest, trouble in list(self._broken.items()) if digest in in_use}
        return {**dict.fromkeys(lacking, MISSING), **broken}

    def path(self, digest: str) -> Path:
        """The file of a model.

        :param digest: SHA-256 of the model file.
        """
        return self._root / f"{digest}{MODEL_EXTENSION}"


def _models_in(folder: Path) -> set[str]:
    """Digests of the model files in a folder."""
    return {path.stem for path in folder.iterdir() if path.suffix == MODEL_EXTENSION}


@contextmanager
def _unless_unreadable() -> Iterator[None]:
    """Pass over what cannot be read for its own sake; not over what goes for all files, as too many that are open."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EISDIR, errno.ELOOP, errno.EIO):
            raise


def _state(file: BinaryIO) -> tuple[int, int, int]:
    """What changes with a file's content."""
    state = os.fstat(file.fileno())
    return state.st_ino, state.st_size, state.st_mtime_ns
