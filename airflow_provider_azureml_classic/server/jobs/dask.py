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
from airflow_provider_azureml_classic.server.experiments import conversion
from airflow_provider_azureml_classic.server.jobs.executor import Task, TaskExecutor

if TYPE_CHECKING:
    from distributed import Client
import platform
import zlib
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

from airflow_provider_azureml_classic.exceptions import rejection

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


#: Largest size of what one piece of work sends or brings back, compressed, in bytes.
MAX_PARCEL = 1 << 30
_DISTRIBUTION = "airflow-provider-azureml-classic"
# CSV shrinks to a fifth at the fastest level already.
_LEVEL = 1


@dataclass(frozen=True)
class File:
    """A file among the arguments of a piece of work.

    :param name: its name, which its extension is read from.
    :param content: compressed; ``None`` for one that the work writes.
    """

    name: str
    content: bytes | None = field(repr=False)


@dataclass(frozen=True)
class Parcel:
    """A piece of work on its way.

    :param function: what to call; a function of this package, which the worker has too.
    :param arguments: with what; a :class:`File` in place of each path.
    :param versions: of the sender.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...] = field(repr=False)
    versions: dict[str, str] = field(default_factory=dict)


def versions() -> dict[str, str]:
    """What must be the same on both sides, or a model may come out differently, or not be understood."""

    python = ".".join(platform.python_version_tuple()[:2])
    return {"Python": python, _DISTRIBUTION: metadata.version(_DISTRIBUTION), **conversion.versions()}


def pack(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Parcel:
    """A piece of work with the files that it reads.

    :param function: what to call.
    :param arguments: with what.
    :raises RequestRejected: ``OutOfMemoryLimit``: the files are larger than :data:`MAX_PARCEL`.
    """
    packed, size = [], 0
    for argument in arguments:
        if isinstance(argument, Path):
            content = zlib.compress(argument.read_bytes(), _LEVEL) if argument.exists() else None
            size += len(content or b"")
            argument = File(argument.name, content)
        packed.append(argument)
    if size > MAX_PARCEL:
        raise rejection(
            "OutOfMemoryLimit",
            f"The data has {size} bytes when compressed; at most {MAX_PARCEL} are sent to another machine. Send fewer "
            "rows or columns, or start the server without --scheduler.",
        )
    return Parcel(function, tuple(packed), versions())


def carry_out(parcel: Parcel) -> tuple[Any, dict[int, bytes]]:
    """Do the work; called on the other machine.

    :param parcel: the work.
    :return: what the function returned, and the files that it wrote: position of the argument -> content, compressed.
    :raises RequestRejected: this machine's libraries are not those of the sender.
    """
    _check(parcel.versions)
    with TemporaryDirectory(prefix="azureml-classic-") as folder:
        arguments, written = [], {}
        for number, argument in enumerate(parcel.arguments):
            if isinstance(argument, File):
                path = Path(folder) / str(number) / argument.name
                path.parent.mkdir()
                if argument.content is None:
                    written[number] = path
                else:
                    path.write_bytes(zlib.decompress(argument.content))
                argument = path
            arguments.append(argument)
        result = parcel.function(*arguments)
        return result, {
            number: zlib.compress(path.read_bytes(), _LEVEL) for number, path in written.items() if path.exists()
        }


def _check(wanted: dict[str, str]) -> None:
    here = versions()
    other = [
        f"{name} {here.get(name)} instead of {version}" for name, version in wanted.items() if here[name] != version
    ]
    if other:
        raise rejection(
            "OperationNotSupported",
            f"The Dask worker on {platform.node()} has {', '.join(other)}: install the same versions there as on the "
            "server, then submit again.",
        )


def unpack(arguments: tuple[Any, ...], written: dict[int, bytes]) -> None:
    """Put the files that were brought back where the caller wants them.

    :param arguments: as given to :func:`pack`.
    :param written: as returned by :func:`carry_out`.
    """
    for number, content in written.items():
        arguments[number].write_bytes(zlib.decompress(content))
