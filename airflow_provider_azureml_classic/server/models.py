"""Model files by their digest, and the ones that are loaded.

Files are named by their SHA-256, so equal models are stored and loaded once, whatever number of endpoints uses them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Collection
from pathlib import Path

from airflow_provider_azureml_classic.server.experiments.scorer import Scorer

#: Loaded models kept at a time; a small one takes well under a megabyte.
MAX_LOADED = 512


class ModelStore:
    """The models of a data directory.

    :param root: folder of the model files.
    :param owner: gives the id of this server, with which the names of half-written files begin.
    :param max_loaded: loaded models kept at a time.
    """

    def __init__(
        self, root: Path, owner: Callable[[], str] = lambda: "server", *, max_loaded: int = MAX_LOADED
    ) -> None:
        self._root = root
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._owner = owner
        self._max_loaded = max_loaded
        self._loaded: OrderedDict[str, Scorer] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, source: Path, pin: Callable[[str], object]) -> Scorer:
        """Check, load and keep a model file; it serves nobody yet.

        :param source: an ``.ilearner`` file.
        :param pin: called with its digest before its file is looked for, so that nobody removes it.
        :raises RequestRejected: ``ModelInvalid``, saying what was found.
        """
        scorer = Scorer.load(source)
        pin(scorer.digest)
        target = self.path(scorer.digest)
        if not target.exists():
            temporary = target.with_name(f".{self._owner()}-{uuid.uuid4().hex}")
            shutil.copyfile(source, temporary)
            with temporary.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != scorer.digest:
                    raise OSError(f"{source} changed while it was read")
                os.fsync(file.fileno())
            os.replace(temporary, target)
        self._keep(scorer)
        return scorer

    def scorer(self, digest: str) -> Scorer:
        """The loaded model; read from its file at first use.

        :param digest: SHA-256 of the model file.
        """
        with self._lock:
            found = self._loaded.get(digest)
            if found is not None:
                self._loaded.move_to_end(digest)
                return found
        scorer = Scorer.load(self.path(digest))
        self._keep(scorer)
        return scorer

    def is_loaded(self, digest: str) -> bool:
        """Whether :meth:`scorer` answers without reading a file.

        :param digest: SHA-256 of the model file.
        """
        return digest in self._loaded

    def digests(self) -> set[str]:
        """Digests of the model files that are there."""
        return {path.stem for path in self._root.iterdir() if not path.name.startswith(".")}

    def remove(self, digest: str) -> None:
        """Remove a model file, if it is there; who has loaded it can go on with it.

        :param digest: SHA-256 of the model file.
        """
        self.path(digest).unlink(missing_ok=True)

    def clean(self, living: Callable[[], Collection[str]]) -> None:
        """Remove what servers have left half written that live no more.

        :param living: gives the ids of those that live.
        """
        # In this order: who writes a file was there before it.
        found = [path for path in self._root.iterdir() if path.name.startswith(".")]
        keep = tuple(f".{owner}-" for owner in living())
        for path in found:
            if not path.name.startswith(keep):
                path.unlink(missing_ok=True)

    def _keep(self, scorer: Scorer) -> None:
        with self._lock:
            self._loaded[scorer.digest] = scorer
            self._loaded.move_to_end(scorer.digest)
            while len(self._loaded) > self._max_loaded:
                self._loaded.popitem(last=False)

    def path(self, digest: str) -> Path:
        """The file of a model.

        :param digest: SHA-256 of the model file.
        """
        return self._root / f"{digest}.ilearner"
