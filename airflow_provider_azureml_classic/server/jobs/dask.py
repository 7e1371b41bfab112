"""Training on a Dask cluster (extra ``dask``): the engine, and what is done on a worker.

Dask's own protocol between server, scheduler and workers is trusted: whoever reaches the scheduler can run code there.
``tls://`` addresses take certificates from Dask's configuration (``DASK_DISTRIBUTED__COMM__TLS__*``).

Rule 1: a connection that is lost fails what runs, with the reason; the next piece of work connects anew.
Rule 2: nothing on a shared disk is needed, and no data go through the scheduler: a task holds addresses, each of which
opens one blob for a day. Inputs are read where they are; what only this server has is lent to the workers as a blob,
and what they make is fetched from one.
Rule 3: a worker does its work in a process of its own, which is killed when the work is not wanted any more.
"""

from __future__ import annotations

import logging
import multiprocessing
import platform
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.server.blobs.names import WORK_CONTAINER
from airflow_provider_azureml_classic.server.clock import system_clock
from airflow_provider_azureml_classic.server.experiments import conversion
from airflow_provider_azureml_classic.server.jobs.executor import Input, Output, Task, TaskExecutor, patiently
from airflow_provider_azureml_classic.server.jobs.processes import ProcessExecutor
from airflow_provider_azureml_classic.server.storage.lending import WORK_LIFE, Lending
from airflow_provider_azureml_classic.server.storage.locations import WRITE, UrlLocation, naming
from airflow_provider_azureml_classic.server.storage.scope import WHOLE_STORE

if TYPE_CHECKING:
    from distributed import Client, Worker

log = logging.getLogger(__name__)

#: Seconds to wait for the scheduler.
CONNECT_SECONDS = 10
#: Seconds between two looks of a worker whether its work is wanted.
LOOK_SECONDS = 0.2
#: Seconds between two looks for what killed servers have lent.
SWEEP_SECONDS = 3600.0
_DISTRIBUTION = "airflow-provider-azureml-classic"
#: When a folder of lent blobs may be removed, whatever became of its work: the beginning of its name.
_UNTIL = "%Y%m%dT%H%M%SZ"


class DaskExecutor(TaskExecutor):
    """Sends work to the workers of a Dask scheduler.

    :param address: ``tcp://host:port`` or ``tls://host:port``.
    :param size: pieces of work sent at a time.
    :param lending: lends blobs to the workers.
    :raises ValueError: the scheduler cannot be used; the message says why.
    """

    def __init__(self, address: str, size: int, lending: Lending) -> None:
        if not address.startswith(("tcp://", "tls://")):
            raise ValueError(f"--scheduler {address!r} must be tcp://HOST:PORT or tls://HOST:PORT.")
        super().__init__(size)
        self._address = address
        self._lending = lending
        self._swept = -SWEEP_SECONDS
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
        :param arguments: with what.
        :raises BrokenExecutor: worker after worker died, or the scheduler is gone.
        """
        with self._lent(arguments) as lent:
            try:
                result = self._result(task, Payload(function, lent, versions()))
            except AzureMLClassicError as error:
                if error.detail_code == "BlobNotFound":
                    _look_for(arguments)
                raise
            for argument, loan in zip(arguments, lent, strict=True):
                if isinstance(argument, Output) and loan.name in result.written:
                    self._bring(task, loan, argument.path)
        return result.value

    def _bring(self, task: Task, loan: Loan, path: Path) -> None:
        """Fetch what a worker made."""
        stopped = threading.Event()
        task.stop_with(stopped.set)

        def again(error: AzureMLClassicError) -> None:
            if stopped.wait(LOOK_SECONDS) or self.closed:
                raise BrokenExecutor("The job was stopped while what its training made was fetched.") from error

        location = self._own(loan.location.sent)
        try:
            patiently(location, lambda: location.fetch(path), again)
        finally:
            task.stop_with(None)

    def _result(self, task: Task, payload: Payload) -> Result:
        from distributed import CancelledError, KilledWorker

        client = self._connected()
        future = client.submit(carry_out, payload, pure=False)
        task.stop_with(lambda: future.cancel(reason="the job was cancelled"))
        try:
            result: Result = future.result()
            return result
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

    @contextmanager
    def _lent(self, arguments: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        """The arguments as a worker can follow them, until it has."""
        until = system_clock() + WORK_LIFE
        folder = f"{WORK_CONTAINER}/{until:{_UNTIL}}-{uuid.uuid4().hex}"
        lent: list[Any] = []
        try:
            for number, argument in enumerate(arguments):
                lent.append(self._loan(argument, f"{folder}/{number}"))
            yield tuple(lent)
        finally:
            self._take_back(lent)
            self._sweep()

    def _loan(self, argument: Any, folder: str) -> Any:
        if not isinstance(argument, Input | Output):
            return argument
        name = argument.path.name
        if isinstance(argument, Input) and argument.location is not None:
            return Loan(name, self._lending.lent(argument.location), argument.name)
        location = self._lending.for_work(f"{folder}/{name}")
        if isinstance(argument, Output):
            return Loan(name, location, written=True, made=True)
        with TemporaryDirectory() as copies:
            # What is delivered is moved away.
            copy = shutil.copyfile(argument.path, Path(copies) / name)
            self._own(location.sent).deliver(copy)
        return Loan(name, location, made=True)

    def _own(self, reference: BlobReference) -> Any:
        return self._lending.locations.resolve(WHOLE_STORE, reference, WRITE)

    def _take_back(self, lent: list[Any]) -> None:
        for loan in lent:
            if isinstance(loan, Loan) and loan.made:
                # Of what was written nothing may be there.
                with suppress(AzureMLClassicError, OSError):
                    self._lending.locations.remove(WHOLE_STORE, loan.location.sent.relative_location)

    def _sweep(self) -> None:
        if time.monotonic() - self._swept > SWEEP_SECONDS:
            self._swept = time.monotonic()
            with suppress(AzureMLClassicError, OSError):
                self._lending.take_back(f"{system_clock():{_UNTIL}}")

    def _connected(self) -> Client:
        try:
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
class Loan:
    """A blob that a worker reads or writes, in place of a file.

    :param name: of the file, which its extension is read from.
    :param location: the address, with what opens it.
    :param input: name of the job's input, for messages.
    :param written: the worker writes it.
    :param made: for this piece of work; otherwise it is somebody's.
    """

    name: str
    location: UrlLocation = field(repr=False)
    input: str = ""
    written: bool = False
    made: bool = False


@dataclass(frozen=True)
class Payload:
    """A piece of work as it is sent.

    :param function: what to call; a function of this package, which the worker has too.
    :param arguments: with what; a :class:`Loan` in place of each file.
    :param versions: of the sender.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...] = field(repr=False)
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What came of it.

    :param value: what the function returned.
    :param written: names of the files that it wrote.
    """

    value: Any
    written: frozenset[str]


def versions() -> dict[str, str]:
    """What must be the same on both sides, or a model may come out differently, or not be understood."""

    python = ".".join(platform.python_version_tuple()[:2])
    return {"Python": python, _DISTRIBUTION: metadata.version(_DISTRIBUTION), **conversion.versions()}


def carry_out(payload: Payload) -> Result:
    """Do the work in a process of its own; called on the other machine, by its Dask worker.

    :param payload: the work.
    :raises RequestRejected: this machine's libraries are not those of the sender, or a file cannot be read or written.
    :raises BrokenExecutor: the process died, and so did a second one.
    """
    from distributed import get_worker

    _check(payload.versions)
    worker = get_worker()
    key, engine = worker.get_current_task(), _processes(worker.state.nthreads)
    with TemporaryDirectory(prefix="azureml-classic-") as folder:
        task = engine.submit(perform, payload, Path(folder))
        while not engine.poll(task, LOOK_SECONDS):
            if not _is_wanted(worker, key):
                engine.cancel(task)
        try:
            result: Result = task.result()
        except BrokenExecutor as error:
            raise BrokenExecutor(f"On the Dask worker on {platform.node()}: {error}") from None
        return result


def _is_wanted(worker: Worker, key: Any) -> bool:
    """Whether the scheduler still wants a task from its worker, which cannot stop the thread that it runs in."""
    task = worker.state.tasks.get(key)
    lives = worker.status.name in ("running", "paused", "closing_gracefully")
    return lives and task is not None and task.state in ("executing", "long-running")


_making = threading.Lock()
_made: list[ProcessExecutor] = []


def _processes(size: int) -> ProcessExecutor:
    """The training processes of this Dask worker."""
    with _making:
        if not _made:
            process = multiprocessing.current_process()
            if process.daemon:
                # Those of a nanny are, and then may have no children. Ours end with it all the same.
                process.daemon = False
            _made.append(ProcessExecutor(size))
        return _made[0]


def perform(payload: Payload, folder: Path) -> Result:
    """Read what the work needs, do it, and write what came of it.

    :param payload: the work.
    :param folder: an empty folder for its files.
    :raises RequestRejected: a file cannot be read or written; and what the function raises.
    """
    loans: list[tuple[Loan, Path]] = []
    arguments = []
    for number, argument in enumerate(payload.arguments):
        if isinstance(argument, Loan):
            path = folder / str(number) / argument.name
            path.parent.mkdir(exist_ok=True)
            loans.append((argument, path))
            argument = path
        arguments.append(argument)
    for loan, path in loans:
        if not loan.written:
            with _explained(loan):
                loan.location.fetch(path)
    value = payload.function(*arguments)
    written = [(loan, path) for loan, path in loans if loan.written and path.exists()]
    for loan, path in written:
        with _explained(loan):
            # This process is killed when the work is not wanted any more.
            patiently(loan.location, partial(loan.location.deliver, path), lambda _: time.sleep(LOOK_SECONDS))
    return Result(value, frozenset(loan.name for loan, _ in written))


def _look_for(arguments: Iterable[Any]) -> None:
    """Say of inputs that are not there what this server knows of them, such as when it removed them.

    :raises AzureMLClassicError: one is not there.
    """
    for argument in arguments:
        if isinstance(argument, Input) and argument.location is not None and not argument.location.is_taken():
            argument.fetch()


@contextmanager
def _explained(loan: Loan) -> Iterator[None]:
    try:
        with naming(loan.input or loan.name):
            yield
    except AzureMLClassicError as error:
        advice = f"The Dask worker on {platform.node()} asked: where that is this server, start it with a --public-url"
        text = f"{error.message} {advice} that workers reach."
        raise rejection(error.detail_code or "InvalidBlob", text) from None


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
