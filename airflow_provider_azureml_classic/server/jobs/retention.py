"""Removes what old jobs have left, as far as nobody needs it.

Rule 1: only what jobs of this service wrote into its own store, or its account, is removed; never what clients put
there, nor what was written over it since, nor the models that web services began with.
Rule 2: a job's model stays, with evaluation and samples, while an equal model is live somewhere, was live within the
time that is kept, or is one of those that an endpoint's own copies can be put back of. So does what a job reads that
has not ended.
Rule 3: what is to go is noted, and goes a day later, if it still may. Where it was, is written down.
Rule 4: one server of several does this at a time, a bounded number of jobs a round; not at a start, nor while it is not
certain that data directory and database belong together.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.server.blobs.names import DIAGNOSTICS_CONTAINER
from airflow_provider_azureml_classic.server.blobs.store import BlobStore
from airflow_provider_azureml_classic.server.clock import Clock
from airflow_provider_azureml_classic.server.models.pins import Pins
from airflow_provider_azureml_classic.server.settings import Retention
from airflow_provider_azureml_classic.server.state.endpoint_store import Store
from airflow_provider_azureml_classic.server.state.retention_store import EndedJob, Removal, RetentionStore
from airflow_provider_azureml_classic.server.storage.locations import Locations
from airflow_provider_azureml_classic.server.workspace.audit import Audit

log = logging.getLogger(__name__)

#: Seconds between two rounds.
INTERVAL = 600.0
#: Jobs that are looked at in one round, by each rule; and diagnostics logs that are removed in one.
MOST = 500
#: From when it is noted that something may go until it goes.
GRACE = timedelta(days=1)
#: Outputs are written before their job ends; clocks of accounts may differ by so much.
_SLACK = timedelta(minutes=5)
#: Jobs of one round whose outputs could not be removed, after which it ends: an account that is away, perhaps.
_MOST_FAILURES = 10
#: Who removes, in the audit list.
WHO = "retention"


@dataclass(frozen=True)
class Rule:
    """How long the outputs of some jobs are kept.

    :param option: that says so.
    :param days: as it says.
    :param trained: the jobs are those that trained a model, or those that did not.
    """

    option: str
    days: int
    trained: bool

    @property
    def text(self) -> str:
        """As it is written down."""
        return f"{self.option} {self.days}"


@dataclass(frozen=True)
class Due:
    """A job whose outputs may go.

    :param job: the job.
    :param rule: that says so.
    :param at: when they go, if they still may.
    """

    job: EndedJob
    rule: Rule
    at: datetime


class Selection:
    """Tells which outputs may go.

    :param retention: what the configuration says.
    :param store: models in place.
    :param entries: jobs.
    :param locations: places of what jobs read and write.
    :param clock: gives the present time.
    """

    def __init__(
        self, retention: Retention, store: Store, entries: RetentionStore, locations: Locations, clock: Clock
    ) -> None:
        self.retention, self.entries = retention, entries
        self._store, self.locations, self.clock = store, locations, clock
        options = (("--model-days", retention.model_days, True), ("--output-days", retention.output_days, False))
        self.rules = tuple(Rule(option, days, trained) for option, days, trained in options if days is not None)

    def due(self) -> Iterator[Due]:
        """All of them, those that ended first first, rule by rule."""
        for rule in self.rules:
            after: tuple[datetime, str] | None = None
            while jobs := self.page(rule, after):
                yield from (self.of(rule, job) for job in self.free(rule, jobs))
                after = jobs[-1].place

    def page(self, rule: Rule, after: tuple[datetime, str] | None) -> list[EndedJob]:
        """Some jobs that are old enough.

        :param rule: of these.
        :param after: see :meth:`RetentionStore.ended`.
        """
        return self.entries.ended(self._begin(rule), MOST, after, trained=rule.trained)

    def old_logs(self, most: int | None = None) -> Sequence[str]:
        """Jobs whose logs are old enough.

        :param most: the most that are wanted; ``None``: all.
        """
        days = self.retention.log_days
        return [] if days is None else self.entries.old_logs(self.clock() - timedelta(days=days), most)

    def of(self, rule: Rule, job: EndedJob) -> Due:
        """When the outputs of a job go.

        :param rule: that says that they may.
        :param job: the job.
        """
        return Due(job, rule, (job.noted_at or self.clock()) + GRACE)

    def _begin(self, rule: Rule) -> datetime:
        return self.clock() - timedelta(days=rule.days)

    def free(self, rule: Rule, jobs: Collection[EndedJob]) -> list[EndedJob]:
        """Those of some old jobs whose outputs nobody needs.

        :param rule: that says that they are old.
        :param jobs: the jobs.
        """
        digests = self._store.digests() | self.entries.placed_since(self._begin(rule)) if rule.trained else set()
        contents = self.entries.contents(digests, {job.content for job in jobs if job.content})
        to_read = self._paths(self.entries.inputs_to_read())

        def is_free(job: EndedJob) -> bool:
            if not rule.trained and job.wrote_a_model:
                # Of earlier versions, which did not write down which model it was.
                return False
            is_needed = job.digest in digests or job.content in contents
            return not is_needed and not self._paths(job.outputs) & to_read

        return [job for job in jobs if is_free(job)]

    def _paths(self, references: Collection[BlobReference]) -> set[str | None]:
        """Container and name of those that are, or may be, in the service's store."""
        return {self.locations.path_in_store(reference) for reference in references} - {None}


class Remover:
    """Removes what may go, in the background.

    :param selection: tells what may go.
    :param blobs: the own store, which has the diagnostics logs.
    :param pins: models that are being put in place.
    :param audit: takes an entry of each round that removes anything.
    :param whole: see :meth:`.pair.Pair.is_whole`.
    """

    def __init__(
        self,
        selection: Selection,
        blobs: BlobStore,
        pins: Pins,
        audit: Audit,
        whole: Callable[[], bool] = lambda: True,
    ) -> None:
        self._selection, self._entries, self._log_days = selection, selection.entries, selection.retention.log_days
        self._locations, self._clock = selection.locations, selection.clock
        self._blobs, self._pins, self._audit, self._whole = blobs, pins, audit, whole
        self._places: dict[Rule, tuple[datetime, str]] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)

    def start(self) -> None:
        """Remove in the background from now on, if there is anything to remove ever."""
        if self._selection.rules or self._log_days is not None:
            self._thread.start()

    def close(self) -> None:
        """Stop; what is being removed is."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def _run(self) -> None:
        while not self._closing.wait(INTERVAL):
            try:
                self.round()
            except (AzureMLClassicError, OSError) as error:
                log.warning("removing what is old is postponed: %s", error)

    def round(self) -> None:
        """Look at some jobs, and remove what may go now; nothing while another server does."""
        with self._entries.alone() as alone:
            if not alone or not self._whole():
                return
            for rule in self._selection.rules:
                self._remove_outputs(rule)
            if self._log_days is not None:
                self._remove_logs(self._log_days)

    def _remove_outputs(self, rule: Rule) -> None:
        jobs = self._selection.page(rule, self._places.get(rule))
        self._places.pop(rule, None)
        if len(jobs) == MOST:
            self._places[rule] = jobs[-1].place
        free, now = self._selection.free(rule, jobs), self._clock()
        ids = {job.id for job in free}
        self._entries.note([job.id for job in jobs if job.noted_at and job.id not in ids], None)
        self._entries.note([job.id for job in free if job.noted_at is None], now)
        due = [job for job in free if job.noted_at and job.noted_at + GRACE <= now]
        if due:
            with self._audit.entry(WHO, "RemoveOutputs", f"{_told(due)} ({rule.text})") as outcome:
                self._remove(due, Removal(now, rule.text))
                outcome.status = 200

    def _remove(self, jobs: Collection[EndedJob], removal: Removal) -> None:
        count = failed = 0
        for job in jobs:
            if self._closing.is_set() or failed == _MOST_FAILURES:
                break
            if job.digest and self._pins.is_used(job.digest):
                continue
            try:
                count += self._remove_of(job, removal)
            except (AzureMLClassicError, OSError) as error:
                failed += 1
                log.warning("what the job %s wrote is not removed yet: %s", job.id, error)
        self._entries.forget_removals()
        log.info("removed %d blobs of old jobs (%s)", count, removal.rule)

    def _remove_of(self, job: EndedJob, removal: Removal) -> int:
        """Remove the outputs of a job; how many there were."""
        paths = [self._locations.remove_unchanged(output, job.ended_at + _SLACK) for output in job.outputs]
        removed = [path for path in paths if path]
        self._entries.record(job.id, removed, removal)
        return len(removed)

    def _remove_logs(self, days: int) -> None:
        now = self._clock()
        before, removal = now - timedelta(days=days), Removal(now, f"--log-days {days}")
        jobs = self._selection.old_logs(MOST)
        if jobs:
            with self._audit.entry(WHO, "RemoveLogs", f"{_told(jobs)} ({removal.rule})") as outcome:
                self._entries.remove_logs(jobs, removal)
                outcome.status = 200
        count = self._blobs.delete_old(DIAGNOSTICS_CONTAINER, before, MOST)
        if jobs or count:
            log.info("removed the logs of %d jobs, and %d diagnostics logs (%s)", len(jobs), count, removal.rule)


def _told(jobs: Sequence[str | EndedJob]) -> str:
    first = jobs[0] if isinstance(jobs[0], str) else jobs[0].id
    return f"{len(jobs)} jobs, first {first}"


def why_gone(entries: RetentionStore) -> Callable[[str, str], str]:
    """What is told of a blob that is not there because it was removed.

    :param entries: what was removed.
    :return: takes container and name; gives a sentence after a blank, or nothing.
    """

    def sentence(container: str, blob: str) -> str:
        try:
            removal = entries.removal(f"{container}/{blob}")
        except AzureMLClassicError:
            return ""
        return f" The server removed it on {removal.removed_at:%Y-%m-%d %H:%M} UTC ({removal.rule})." if removal else ""

    return sentence
