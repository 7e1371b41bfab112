"""Runs started jobs: which one is next, and how each ended. What a job does: :mod:`.work`.

Rule 1: what a job does is taken up again after a crash; a job that was running is run again from the start.
Rule 2: a job is claimed when a worker process is free for it, and some of one endpoint run at a time; the others wait
in the order in which they were started, and the next free server takes the next one. The process is free again while
the outputs of its last job are still being delivered.
Rule 3: a job that is cancelled while it runs has its work stopped, and its slot is free for the next one.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, ThreadPoolExecutor

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.jobs import JobStatus
from airflow_provider_azureml_classic.server.blobs.disk import as_unavailable
from airflow_provider_azureml_classic.server.clock import Clock
from airflow_provider_azureml_classic.server.jobs.work import End, JobLog, JobWork
from airflow_provider_azureml_classic.server.state.database import DatabaseDown
from airflow_provider_azureml_classic.server.state.endpoint_store import Store
from airflow_provider_azureml_classic.server.state.job_store import JobStore
from airflow_provider_azureml_classic.server.state.peers import Peers
from airflow_provider_azureml_classic.server.state.tables import EndpointRow, JobRow
from airflow_provider_azureml_classic.server.workspace.diagnostics import Diagnostics

log = logging.getLogger(__name__)

_PATH = re.compile(r"(?<![\w:/])/(?:[\w.+-]+/)+[\w.+-]*")


class Runner:
    """Runs jobs in the background.

    :param work: does what a job is.
    :param store: endpoints.
    :param jobs: jobs.
    :param slots: worker processes.
    :param clock: gives the present time.
    :param peers: the servers that share the jobs.
    :param diagnostics: writes the logs that endpoints ask for.
    """

    def __init__(
        self,
        work: JobWork,
        store: Store,
        jobs: JobStore,
        slots: int,
        clock: Clock,
        peers: Peers,
        diagnostics: Diagnostics,
    ) -> None:
        self._work = work
        self._store = store
        self._jobs = jobs
        self._clock = clock
        self._peers = peers
        self._diagnostics = diagnostics
        #: Slots of worker processes that no job has, and that nobody looks for a job for.
        self._free = slots
        #: How often a job was said to wait, so that none is missed.
        self._polls = 0
        self._lock = threading.Lock()
        # As many jobs may be delivering as are being worked on.
        self._threads = ThreadPoolExecutor(2 * slots, thread_name_prefix="job")
        self._closing = work.closing

    def poll(self) -> None:
        """Run what waits, as soon as there is room."""
        with self._lock:
            self._polls += 1
            if self._free and not self._closing.is_set():
                self._free -= 1
                self._threads.submit(self._take)

    def stop(self, job_id: str) -> None:
        """Stop the work of a job that was cancelled.

        :param job_id: the job.
        """
        self._work.stop(job_id)

    def close(self) -> None:
        """Stop; jobs that have not ended are taken up at the next start, or by another server."""
        with self._lock:
            self._closing.set()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _take(self) -> None:
        """Run the next job, if one waits, in the slot that was taken for it."""
        server_id = self._peers.id
        while True:
            polls = self._polls
            if (job := self._claimed(server_id)) is not None:
                break
            with self._lock:
                # A poll during this one found no slot for itself.
                if polls == self._polls or self._closing.is_set():
                    self._free += 1
                    return
        slot = _Slot(self._leave)
        # Several may have come at once: the jobs of a dead server are announced once.
        self.poll()
        self._run_safely(job, server_id, slot)
        slot.leave()

    def _claimed(self, server_id: str) -> JobRow | None:
        if self._closing.is_set():
            return None
        try:
            return self._jobs.claim(server_id, self._clock())
        except DatabaseDown:
            return None
        except Exception:
            log.exception("the next job could not be read")
            return None

    def _leave(self) -> None:
        with self._lock:
            self._free += 1
        self.poll()

    def _run_safely(self, job: JobRow, server_id: str, slot: _Slot) -> None:
        while not self._closing.is_set() and self._peers.id == server_id:
            try:
                notes, endpoint = JobLog(self._jobs, job.id), self._store.endpoint(job.endpoint_id)
                self._end(job, server_id, self._outcome(job, endpoint, notes, slot), notes, endpoint)
                return
            except DatabaseDown:
                # The job is still this server's; if it is another's by then, the id has changed.
                self._closing.wait(1)
            except Exception:
                if not self._closing.is_set():
                    log.exception("job %s could not be recorded", job.id)
                    return
        log.warning("job %s is interrupted; it runs again", job.id)

    def _outcome(self, job: JobRow, endpoint: EndpointRow | None, notes: JobLog, slot: _Slot) -> End:
        try:
            if endpoint is None:
                raise rejection("JobNotFound", "The endpoint of this job was deleted.")
            return self._work.run(job, endpoint, notes, slot.leave)
        except DatabaseDown:
            raise
        except AzureMLClassicError as error:
            return End(JobStatus.FAILED, {"details": f"{error.detail_code}: {error.message}"})
        except (BrokenExecutor, CancelledError) as error:
            if self._closing.is_set():
                raise
            return End(JobStatus.FAILED, {"details": f"{error or type(error).__name__}"})
        except Exception as error:
            if told := as_unavailable(error):
                log.error("job %s: %s", job.id, error)
                return End(JobStatus.FAILED, {"details": f"{told.detail_code}: {told.message}"})
            log.exception("job %s failed", job.id)
            return End(JobStatus.FAILED, {"details": _details(error)})

    def _end(self, job: JobRow, server_id: str, end: End, notes: JobLog, endpoint: EndpointRow | None) -> None:
        details = end.values.get("details")
        line = f"{end.status.value}: {details}" if details else f"{end.status.value}."
        values = {**end.values, "end_time": self._clock()}
        if self._jobs.end(job.id, server_id, end.status, values, line, end.trained, notes.take()):
            log.info("job %s %s %s", job.id, end.status.value, details or "")
            if endpoint is not None:
                self._diagnostics.ran(endpoint, job.id, end.status, lambda: self._jobs.log_of(job.id))


def _details(error: Exception) -> str:
    """What a client is told of an error that nobody foresaw: no path of this machine; the log has all of it."""
    if isinstance(error, OSError):
        return f"Internal error: {error.strerror or type(error).__name__}. The server's log has more."
    text = _PATH.sub("(a file of the server)", str(error))
    return f"Internal error: {type(error).__name__}: {text}"


class _Slot:
    """A job's slot in a worker process.

    :param leave: gives it to the next job.
    """

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave: Callable[[], None] | None = leave

    def leave(self) -> None:
        """Give it up; once is enough."""
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()
