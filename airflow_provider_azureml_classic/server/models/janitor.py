"""Removes files that nobody needs any more: half-written ones of servers that died, models of no endpoint; and mends
those of models in place.

A model is removed when two looks, a minute apart, found it in no endpoint: who read an endpoint before its model was
replaced has loaded it by then. It waits in a trash for a day. Nothing is removed at a start, nor while it is not
certain that data directory and database are those that the server began with.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError
from airflow_provider_azureml_classic.server.blobs.store import BlobStore
from airflow_provider_azureml_classic.server.clock import system_clock
from airflow_provider_azureml_classic.server.models.pins import Pins
from airflow_provider_azureml_classic.server.models.store import ModelStore
from airflow_provider_azureml_classic.server.state.endpoint_store import Store
from airflow_provider_azureml_classic.server.state.peers import Peers

log = logging.getLogger(__name__)

INTERVAL, VAULT_INTERVAL = 60.0, 3600.0


class Janitor:
    """Cleans once a minute, and when a server has died.

    :param store: which models are in place.
    :param models: the model files.
    :param blobs: the own store.
    :param pins: what must not be removed.
    :param peers: who lives.
    :param whole: see :meth:`.pair.Pair.is_whole`.
    """

    def __init__(
        self,
        store: Store,
        models: ModelStore,
        blobs: BlobStore,
        pins: Pins,
        peers: Peers,
        whole: Callable[[], bool],
    ) -> None:
        self._whole = whole
        self._store = store
        self._models = models
        self._blobs = blobs
        self._pins = pins
        self._peers = peers
        self._unused: set[str] = set()
        self._compared = -INTERVAL
        self._compared_with_vault = time.monotonic()
        self._closing = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="janitor", daemon=True)

    def start(self) -> None:
        """Clean in the background from now on."""
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout=10)

    def wake(self) -> None:
        """A server has died: clean what it has left."""
        self._wake.set()

    def clean(self) -> None:
        """Remove what may be removed now."""
        if not self._whole():
            return
        self._blobs.clean(self._peers.living)
        self._models.clean(self._peers.living)
        if time.monotonic() - self._compared >= INTERVAL:
            self._compared = time.monotonic()
            self._remove_models()
            self._models.empty_trash(time.time())
            self._models.mend(self._store.digests_in_place())
        if self._models.vault and time.monotonic() - self._compared_with_vault >= VAULT_INTERVAL:
            self._compared_with_vault = time.monotonic()
            # Ages of blobs are by the account's clock, whatever clock the service is given.
            self._models.vault.clean(self._store.digests(), system_clock())

    def _remove_models(self) -> None:
        # In this order: a model that is put in place in between is in no list.
        digests = self._models.digests()
        unused = digests - self._store.digests()
        for digest in unused & self._unused:
            if self._pins.remove_unused(digest, self._models.remove):
                log.info("removed the model %s, which no endpoint has", digest)
        self._unused = unused

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(INTERVAL)
            self._wake.clear()
            try:
                if not self._closing:
                    self.clean()
            except (AzureMLClassicError, OSError) as error:
                log.warning("cleaning up is postponed: %s", error)
            except Exception:
                # Whatever it is, models are mended and removed the next time.
                log.exception("cleaning up is postponed")
