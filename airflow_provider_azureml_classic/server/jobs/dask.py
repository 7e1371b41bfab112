"""Training on a Dask cluster (extra ``dask``): the executor, and what is sent to a worker and back.

Dask's own protocol between server, scheduler and workers is trusted: whoever reaches the scheduler can run code there.
``tls://`` addresses take certificates from Dask's configuration (``DASK_DISTRIBUTED__COMM__TLS__*``).

Rule 1: a connection that is lost fails what runs, with the reason; the next piece of work connects anew.
Rule 2: nothing on a shared disk is needed: files go with the work, compressed, within a limit.
"""

from __future__ import annotations

import logging
import platform
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.server.experiments import conversion
from airflow_provider_azureml_classic.server.jobs.executor import Task, TaskExecutor

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger(__name__)

#: Seconds to wait for the scheduler.
CONNECT_SECONDS = 10
#: Largest size of what one piece of work sends or brings back, compressed, in bytes.
MAX_PAYLOAD = 1 << 30
_DISTRIBUTION = "airflow-provider-azureml-classic"
# CSV shrinks to a fifth at the fastest level already.
_LEVEL = 1


class DaskExecutor(TaskExecutor):
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
        :param arguments: with what; a path is a file that goes with it.
        :raises BrokenExecutor: worker after worker died, or the scheduler is gone.
        """
        from distributed import CancelledError, KilledWorker

        payload = pack(function, arguments)
        client = self._connected()
        future = client.submit(carry_out, payload, pure=False)
        task.stop_with(lambda: future.cancel(reason="the job was cancelled"))
        try:
            result, contents = future.result()
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
                f"The connection to the Dask scheduler {self._address} was lost: check that it runs, then submit again."
            ) from None
        finally:
            task.stop_with(None)
            future.release()
        unpack(arguments, contents)
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
                # The data of a training is sent as a part of its task on purpose.
                config.set({"distributed.admin.large-graph-warning-threshold": "1GiB"})
                try:
                    self._client = Client(
                        self._address, timeout=CONNECT_SECONDS, set_as_default=False, name="azureml-classic-server"
                    )
                except (OSError, ValueError, TypeError, RuntimeError) as error:
                    raise BrokenExecutor(
                        f"The Dask scheduler {self._address} cannot be reached ({type(error).__name__}): check that it "
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


@dataclass(frozen=True)
class File:
    """A file among the arguments of a piece of work.

    :param name: its name, which its extension is read from.
    :param content: compressed; ``None`` for one that the work writes.
    """

    name: str
    content: bytes | None = field(repr=False)


@dataclass(frozen=True)
class Payload:
    """A piece of work as it is sent.

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


def pack(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Payload:
    """A piece of work with the files that it reads.

    :param function: what to call.
    :param arguments: with what.
    :raises RequestRejected: ``OutOfMemoryLimit``: the files are larger than :data:`MAX_PAYLOAD`.
    """
    packed, size = [], 0
    for argument in arguments:
        if isinstance(argument, Path):
            content = zlib.compress(argument.read_bytes(), _LEVEL) if argument.exists() else None
            size += len(content or b"")
            argument = File(argument.name, content)
        packed.append(argument)
    if size > MAX_PAYLOAD:
        raise rejection(
            "OutOfMemoryLimit",
            f"The data has {size} bytes when compressed; at most {MAX_PAYLOAD} are sent to another machine. Send fewer "
            "rows or columns, or start the server without --scheduler.",
        )
    return Payload(function, tuple(packed), versions())


def carry_out(payload: Payload) -> tuple[Any, dict[int, bytes]]:
    """Do the work; called on the other machine.

    :param payload: the work.
    :return: what the function returned, and the files that it wrote: position of the argument -> content, compressed.
    :raises RequestRejected: this machine's libraries are not those of the sender.
    """
    _check(payload.versions)
    with TemporaryDirectory(prefix="azureml-classic-") as folder:
        arguments, contents = [], {}
        for number, argument in enumerate(payload.arguments):
            if isinstance(argument, File):
                path = Path(folder) / str(number) / argument.name
                path.parent.mkdir()
                if argument.content is None:
                    contents[number] = path
                else:
                    path.write_bytes(zlib.decompress(argument.content))
                argument = path
            arguments.append(argument)
        result = payload.function(*arguments)
        return result, {
            number: zlib.compress(path.read_bytes(), _LEVEL) for number, path in contents.items() if path.exists()
        }


def _check(required: dict[str, str]) -> None:
    here = versions()
    other = [
        f"{name} {here.get(name)} instead of {version}" for name, version in required.items() if here[name] != version
    ]
    if other:
        raise rejection(
            "OperationNotSupported",
            f"The Dask worker on {platform.node()} has {', '.join(other)}: install the same versions there as on the "
            "server, then submit again.",
        )


def unpack(arguments: tuple[Any, ...], contents: dict[int, bytes]) -> None:
    """Put the files that were brought back where the caller wants them.

    :param arguments: as given to :func:`pack`.
    :param contents: as returned by :func:`carry_out`.
    """
    for number, content in contents.items():
        arguments[number].write_bytes(zlib.decompress(content))
