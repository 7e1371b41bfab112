"""Training on a Dask cluster (extra ``dask``).

Dask's own protocol between server, scheduler and workers is trusted: whoever reaches the scheduler can run code there.
``tls://`` addresses take certificates from Dask's configuration (``DASK_DISTRIBUTED__COMM__TLS__*``).

Rule: a connection that is lost fails what runs, with the reason; the next piece of work connects anew.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError
from airflow_provider_azureml_classic.server.parcels import carry_out, pack, unpack
from airflow_provider_azureml_classic.server.tasks import Task, TaskExecutor

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger(__name__)

#: Seconds to wait for the scheduler.
CONNECT_SECONDS = 10


class Cluster(TaskExecutor):
    """Sends work to the workers of a Dask scheduler.

    :param address: ``tcp://host:port`` or ``tls://host:port``.
    :param size: pieces of work sent at a time.
    :raises ValueError: the scheduler cannot be used; the message says why.
    """

    def __init__(self, address: str, size: int) -> None:
        if not address.startswith(("tcp://", "tls://")):
            raise ValueError(f"--scheduler {address!r} must be tcp://HOST:PORT or tls://HOST:PORT.")
        super().__init__(size)
        self._address = address
        self._lock = threading.Lock()
        self._client: Client | None = None
        try:
            workers = len(self._connected().scheduler_info()["workers"])
        except BrokenExecutor as error:
            raise ValueError(f"--scheduler {address}: {error}") from None
        log.info("the Dask scheduler %s has %d workers", address, workers)

    def run(self, task: Task, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """Carry out one piece of work on a worker; Dask begins it again on another one if that dies.

        :param task: is told what stops the work.
        :param function: what to call.
        :param arguments: with what; a path is a file, see :mod:`.parcels`.
        :raises BrokenExecutor: worker after worker died, or the scheduler is gone.
        """
        from distributed import CancelledError, KilledWorker

        parcel = pack(function, arguments)
        client = self._connected()
        future = client.submit(carry_out, parcel, pure=False)
        task.stop_with(lambda: future.cancel(reason="the job was cancelled"))
        try:
            result, written = future.result()
        except KilledWorker:
            raise BrokenExecutor(
                "Worker after worker of the Dask cluster died in this training, perhaps for lack of memory: give them "
                "more, then submit again."
            ) from None
        except AzureMLClassicError:
            raise
        except (CancelledError, OSError, RuntimeError) as error:
            if client.status == "running" and not isinstance(error, CancelledError):
                raise
            raise BrokenExecutor(
                f"The connection to the Dask scheduler {self._address} was lost: see that it runs, then submit again."
            ) from None
        finally:
            task.stop_with(None)
            future.release()
        unpack(arguments, written)
        return result

    def _connected(self) -> Client:
        try:
            from dask import config
            from distributed import Client
        except ImportError:
            raise BrokenExecutor(
                "Dask is missing. Install the package with its extra: pip install '.[server,dask]' in its folder."
            ) from None
        with self._lock:
            if self.closed:
                raise BrokenExecutor("the training processes have ended")
            if self._client is not None and self._client.status != "running":
                self._drop(self._client)
                self._client = None
            if self._client is None:
                # The data of a training is sent as a part of its task on purpose, see parcels.
                config.set({"distributed.admin.large-graph-warning-threshold": "1GiB"})
                try:
                    self._client = Client(
                        self._address, timeout=CONNECT_SECONDS, set_as_default=False, name="azureml-classic-server"
                    )
                except (OSError, ValueError, TypeError, RuntimeError) as error:
                    raise BrokenExecutor(
                        f"The Dask scheduler {self._address} cannot be reached ({type(error).__name__}): see that it "
                        "runs and that this is its address."
                    ) from None
            return self._client

    def _drop(self, client: Client) -> None:
        with suppress(Exception):
            client.close(timeout=2)

    def close(self) -> None:
        """Let go of the cluster; what is being done there is lost, and is done again at the next start."""
        super().close()
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            self._drop(client)
