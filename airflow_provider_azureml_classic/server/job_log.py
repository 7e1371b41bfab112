"""The log of a job while it runs.

Rule: the log of a job never stops it.
"""

from __future__ import annotations

import logging

from airflow_provider_azureml_classic.protocol.job_history import LogLine
from airflow_provider_azureml_classic.server.database import DatabaseDown
from airflow_provider_azureml_classic.server.job_store import JobStore

log = logging.getLogger(__name__)


class JobLog:
    """Lines that are written together: each transaction is forced to the disk, and most jobs are soon over.

    :param jobs: where they are kept.
    :param job_id: the job.
    """

    def __init__(self, jobs: JobStore, job_id: str) -> None:
        self._jobs = jobs
        self._job_id = job_id
        self._lines: list[LogLine] = []

    def note(self, line: str) -> None:
        """Take a line.

        :param line: what happened.
        """
        self._lines.append(self._jobs.stamped(line))

    def taken(self) -> list[LogLine]:
        """The lines that are not written yet; whoever takes them writes them."""
        lines, self._lines = self._lines, []
        return lines

    def write(self) -> None:
        """Let those see the lines who watch the job."""
        lines = self.taken()
        try:
            if lines:
                self._jobs.append_log(self._job_id, lines)
        except DatabaseDown:
            # A line is not worth what was trained.
            for line in lines:
                log.warning("job %s: %s", self._job_id, line.text)
