"""Runs started jobs: which one is next, and how each ended. What a job does is :mod:`.job_work`'s.

Rule 1: what a job does is taken up again after a crash; a job that was running is run again from the start.
Rule 2: at most one job a worker process is ``Running``, and some of one endpoint; the others wait in the order in which
they were started, and the next free server takes the next one.
Rule 3: a job that is cancelled while it runs has its work stopped, and its place is free for the next one.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import BrokenExecutor, CancelledError, ThreadPoolExecutor

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError
from airflow_provider_azureml_classic.protocol.jobs import JobStatus
from airflow_provider_azureml_classic.server.clock import Clock
from airflow_provider_azureml_classic.server.database import DatabaseDown
from airflow_provider_azureml_classic.server.diagnostics import Diagnostics
from airflow_provider_azureml_classic.server.job_store import JobStore
from airflow_provider_azureml_classic.server.job_work import End, JobWork
from airflow_provider_azureml_classic.server.peers import Peers
from airflow_provider_azureml_classic.server.store import Store

log = logging.getLogger(__name__)


class Runner:
    """Runs jobs in the background.

    :param work: does what a job is.
    :param store: endpoints.
    :param jobs: jobs.
    :param slots: jobs running at a time.
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
        self._slots = slots
        self._looking = 0
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix="job")
        self._closing = work.closing

    def look(self) -> None:
        """Run what waits, as soon as there is room."""
        with self._lock:
            if self._looking >= self._slots or self._closing.is_set():
                return
            self._looking += 1
        self._threads.submit(self._drain)

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

    def _drain(self) -> None:
        """Run one job after the other until none waits."""
        while not self._closing.is_set():
            with self._lock:
                # Before the look: a job that comes after it finds room for a look of its own.
                self._looking -= 1
            server_id = self._peers.id
            try:
                job = self._jobs.claim(server_id, self._clock())
            except DatabaseDown:
                job = None
            except Exception:
                log.exception("the next job could not be read")
                job = None
            if job is None:
                return
            # Several may have come at once: what a dead server left is told of once.
            self.look()
            self._run_safely(job.id, server_id)
            with self._lock:
                self._looking += 1

    def _run_safely(self, job_id: str, server_id: str) -> None:
        while not self._closing.is_set() and self._peers.id == server_id:
            try:
                self._end(job_id, server_id, self._outcome(job_id, server_id))
                return
            except DatabaseDown:
                # The job is still this server's; if it is another's by then, the id has changed.
                self._closing.wait(1)
            except Exception:
                if not self._closing.is_set():
                    log.exception("job %s could not be recorded", job_id)
                    return
        log.warning("job %s is interrupted; it runs again", job_id)

    def _outcome(self, job_id: str, server_id: str) -> End:
        try:
            return self._work.run(job_id, server_id)
        except DatabaseDown:
            raise
        except AzureMLClassicError as error:
            return End(JobStatus.FAILED, {"details": f"{error.detail_code}: {error.message}"})
        except (BrokenExecutor, CancelledError) as error:
            if self._closing.is_set():
                raise
            return End(JobStatus.FAILED, {"details": f"{error or type(error).__name__}"})
        except Exception as error:
            log.exception("job %s failed", job_id)
            return End(JobStatus.FAILED, {"details": f"Internal error: {type(error).__name__}: {error}"})

    def _end(self, job_id: str, server_id: str, end: End) -> None:
        details = end.values.get("details")
        line = f"{end.status.value}: {details}" if details else f"{end.status.value}."
        values = {**end.values, "end_time": self._clock()}
        if self._jobs.end(job_id, server_id, end.status, values, line, end.trained):
            log.info("job %s %s %s", job_id, end.status.value, details or "")
            job = self._jobs.get(job_id)
            endpoint = self._store.endpoint(job.endpoint_id) if job else None
            if endpoint is not None:
                self._diagnostics.ran(endpoint, job_id, end.status, lambda: self._jobs.log_of(job_id))
