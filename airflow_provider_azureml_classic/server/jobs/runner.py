"""Runs started jobs: which one is next, and how each ended. What a job does: :mod:`.work`.

Rule 1: what a job does is taken up again after a crash; a job that was running is run again from the start.
Rule 2: a job is claimed when a worker process is free for it, and some of one endpoint run at a time; the others wait
in the order in which they were started, and the next free server takes the next one. The process is free again while
the outputs of its last job are still being delivered.
Rule 3: a job that is cancelled while it runs has its work stopped, and its slot is free for the next one.
Rule 4: a job that is ``Running`` here is in the hands of a thread. Whatever went wrong, one that is not is found by a
sweep: it ends ``Failed`` if its end could not be recorded, and goes back to the queue if it was never begun.
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
from airflow_provider_azureml_classic.server.state.tables import JobRow
from airflow_provider_azureml_classic.server.workspace.diagnostics import Diagnostics

log = logging.getLogger(__name__)

#: Seconds between two sweeps.
SWEEP_SECONDS = 15.0
#: How often the end of a job is recorded while something unforeseen happens; the last time, it is said to have failed.
RECORDINGS = 3
_PAUSE = 1.0
_UNRECORDED = "Internal error: its end could not be recorded. The server's log has more; submit it again."

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
        #: Held while a job is claimed and while a sweep looks, so that no claim is taken for a lost one.
        self._claims = threading.Lock()
        #: Claims in the hands of a thread, and those of whose job the end is not recorded yet: the server's id with the
        #: job's. Taken for dead, this server may claim a job again while its first thread has not noticed yet.
        self._in_hand: set[tuple[str, str]] = set()
        self._unrecorded: set[tuple[str, str]] = set()
        self._sweeper = threading.Thread(target=self._sweep_again, name="jobs", daemon=True)
        # As many jobs may be delivering as are being worked on.
        self._threads = ThreadPoolExecutor(2 * slots, thread_name_prefix="job")
        self._closing = work.closing

    def start(self) -> None:
        """Run what waits, and look after it from now on."""
        self._sweeper.start()
        self.poll()

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
        if self._sweeper.is_alive():
            self._sweeper.join(10)

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
        try:
            # Several may have come at once: the jobs of a dead server are announced once.
            self.poll()
            self._run(job, server_id, slot)
        finally:
            self._in_hand.discard((server_id, job.id))
            slot.leave()

    def _claimed(self, server_id: str) -> JobRow | None:
        if self._closing.is_set():
            return None
        try:
            with self._claims:
                job = self._jobs.claim(server_id, self._clock())
                if job is not None:
                    self._in_hand.add((server_id, job.id))
                return job
        except DatabaseDown:
            return None
        except Exception:
            log.exception("the next job could not be read")
            return None

    def _leave(self) -> None:
        with self._lock:
            self._free += 1
        self.poll()

    def _run(self, job: JobRow, server_id: str, slot: _Slot) -> None:
        notes, end, troubles = JobLog(self._jobs, job.id), None, 0
        self._unrecorded.add((server_id, job.id))
        while not self._closing.is_set() and self._peers.id == server_id:
            try:
                # What was done is not done again because its end cannot be recorded.
                end = end or self._outcome(job, notes, slot)
                self._record(job, server_id, end, notes)
                return
            except DatabaseDown:
                # The job is still this server's; if it is another's by then, the id has changed.
                self._closing.wait(_PAUSE)
            except Exception:
                if not self._closing.is_set():
                    log.exception("the end of job %s could not be recorded", job.id)
                    troubles += 1
                    if troubles == RECORDINGS:
                        return
                    if troubles == RECORDINGS - 1:
                        # Without what may be what cannot be stored.
                        notes, end = JobLog(self._jobs, job.id), End(JobStatus.FAILED, {"details": _UNRECORDED})
                    self._closing.wait(_PAUSE)
        self._unrecorded.discard((server_id, job.id))
        log.warning("job %s is interrupted; it runs again", job.id)

    def _sweep_again(self) -> None:
        while not self._closing.wait(SWEEP_SECONDS):
            try:
                self.sweep()
            except DatabaseDown:
                continue
            except Exception:
                log.exception("the jobs that nobody has in hand could not be looked for")

    def sweep(self) -> None:
        """Take care of the jobs of this server that no thread has in hand, and run what waits.

        :raises DatabaseDown: it is done the next time.
        """
        server_id = self._peers.id
        with self._claims:
            lost = {(server_id, job_id) for job_id in self._jobs.running(server_id)} - self._in_hand
        for claim in lost & self._unrecorded:
            job_id = claim[1]
            log.error("job %s ends Failed: its end could not be recorded", job_id)
            values = {"details": _UNRECORDED, "end_time": self._clock()}
            self._jobs.end(job_id, server_id, JobStatus.FAILED, values, f"Failed: {_UNRECORDED}")
            self._unrecorded.discard(claim)
        if begun := {job_id for _, job_id in lost - self._unrecorded}:
            self._jobs.give_back(begun, server_id)
        self.poll()

    def _outcome(self, job: JobRow, notes: JobLog, slot: _Slot) -> End:
        try:
            endpoint = self._store.endpoint(job.endpoint_id)
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

    def _record(self, job: JobRow, server_id: str, end: End, notes: JobLog) -> None:
        details = end.values.get("details")
        line = f"{end.status.value}: {details}" if details else f"{end.status.value}."
        values = {**end.values, "end_time": self._clock()}
        ended = self._jobs.end(job.id, server_id, end.status, values, line, end.trained, notes.lines)
        self._unrecorded.discard((server_id, job.id))
        if ended:
            log.info("job %s %s %s", job.id, end.status.value, details or "")
            self._diagnose(job, end)
        else:
            # Cancelled since it was last asked whether it was.
            self._work.take_back(job, notes, end.delivered)

    def _diagnose(self, job: JobRow, end: End) -> None:
        try:
            endpoint = self._store.endpoint(job.endpoint_id)
            if endpoint is not None:
                self._diagnostics.ran(endpoint, job.id, end.status, lambda: self._jobs.log_of(job.id))
        except Exception as error:
            # It has ended, and that is recorded.
            log.warning("job %s has no diagnostics log: %s", job.id, error)


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
