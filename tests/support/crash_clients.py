"""Clients that know every answer they got, and hold the server to it after it was killed."""

from __future__ import annotations

import io
import random
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.client.retries import NO_RETRIES
from airflow_provider_azureml_classic.exceptions import (
    AccessDenied,
    NotFound,
    ProtocolError,
    RequestRejected,
    ServiceUnavailable,
)
from airflow_provider_azureml_classic.protocol.jobs import Job, JobRequest, JobStatus
from airflow_provider_azureml_classic.protocol.keys import KeyType
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint, EndpointSettings, Resource
from tests.support.service import RESOURCE, SCORING, TRAINING, line

T = TypeVar("T")
MODELS = {3.0: BlobReference("models/three.ilearner"), 10.0: BlobReference("models/ten.ilearner")}


class Unanswered(Exception):
    """The server did not answer: what was asked may have happened, or not."""


class Rounds:
    """The rounds between two starts of a server: first everything is checked, then there is load until the kill."""

    def __init__(self, clients: int) -> None:
        self.number = 0
        self.up, self.load, self.over = threading.Event(), threading.Event(), threading.Event()
        self._checked: set[tuple[int, int]] = set()
        self._clients = clients
        self.errors: list[BaseException] = []
        #: Calls by what became of them.
        self.counts: Counter[str] = Counter()

    def begin(self) -> None:
        """The server is up again: check."""
        self.number += 1
        self.up.set()

    def checked(self, client: int, number: int) -> None:
        """A client has found everything as it should be."""
        self._checked.add((client, number))

    def all_checked(self) -> bool:
        """Whether all have, since the last start."""
        if self.errors:
            raise self.errors[0]
        return sum(number == self.number for _, number in tuple(self._checked)) == self._clients


@dataclass
class Known:
    """What may be true of one endpoint."""

    name: str
    present: set[bool]
    slopes: set[float] = field(default_factory=lambda: {2.0})
    descriptions: set[str | None] = field(default_factory=lambda: {None})
    #: By which it is; a key is not there while its regeneration was not answered.
    keys: dict[KeyType, str] = field(default_factory=dict)
    old_keys: list[str] = field(default_factory=list)
    seen: Endpoint | None = None
    #: As it was when its deletion was answered.
    gone: Endpoint | None = None


@dataclass
class KnownJob:
    """What may be true of one job."""

    id: str
    slope: float
    started: set[bool] = field(default_factory=lambda: {False})
    cancelled: set[bool] = field(default_factory=lambda: {False})
    end: JobStatus | None = None


class CrashClient(threading.Thread):
    """One client with endpoints, blobs and jobs of its own.

    :param number: which one.
    :param rounds: shared by all.
    :param connect: makes a client of the service.
    :param place: makes a reference with a token from a path and permissions.
    :param address: URL of the server, and the token of its workspace.
    :param seed: of the choices.
    """

    def __init__(
        self,
        number: int,
        rounds: Rounds,
        connect: Callable[..., Client],
        place: Callable[[str, str], BlobReference],
        address: tuple[str, str],
        seed: int,
    ) -> None:
        super().__init__(name=f"client-{number}", daemon=True)
        self._number = number
        self._rounds = rounds
        self._connect = connect
        self._place = place
        self.address = address
        self._random = random.Random(f"{seed}-{number}")  # noqa: S311 - to be repeated, not kept secret
        self._endpoints: dict[str, Known] = {}
        self._blobs: dict[str, set[bytes | None]] = {}
        self.jobs: dict[str, KnownJob] = {}
        self._serial = 0
        self.client: Client = None  # type: ignore[assignment]

    def run(self) -> None:
        """Check after every start, then do something until the next kill."""
        checked = 0
        try:
            while not self._rounds.over.is_set():
                number = self._rounds.number
                if not self._rounds.up.wait(0.1):
                    continue
                with suppress(Unanswered):
                    if checked != number:
                        self.check()
                        checked = number
                        self._rounds.checked(self._number, number)
                    elif self._rounds.load.wait(0.05):
                        self._do()
                        continue
                time.sleep(0.02)
        except BaseException as error:
            self._rounds.errors.append(error)

    # -- asking ------------------------------------------------------------------------------------------------------

    def ask(self, what: Callable[[], T], maybe: Callable[[], Any] = lambda: None) -> T:
        """An answer; ``maybe`` notes what may have happened if there is none."""
        try:
            answer = what()
        except (ServiceUnavailable, ProtocolError) as error:
            if isinstance(error, ServiceUnavailable) and error.status == 500:
                raise
            maybe()
            self._rounds.counts["unanswered"] += 1
            raise Unanswered from error
        self._rounds.counts["answered"] += 1
        return answer

    def _services(self) -> None:
        if self.client is None:
            self.client = self._connect(retries=NO_RETRIES)
            self.scoring = self.ask(lambda: self.client.find_web_service(SCORING)).id
            training = self.ask(lambda: self.client.find_web_service(TRAINING)).id
            self.trainer = self.ask(lambda: self.client.get_endpoint(training, "default"))

    def _do(self) -> None:
        self._random.choice(self.actions())()

    def actions(self) -> list[Callable[[], None]]:
        """What a client does; each as often as it is there."""
        actions = [self._add, self._patch, self._patch, self._describe, self._regenerate, self._drop]
        return [*actions, self._upload, self._train, self._train, self._cancel, self._score, self._score]

    def _some(self) -> Known | None:
        there = [known for known in self._endpoints.values() if known.present == {True} and known.seen]
        return self._random.choice(there) if there else None

    # -- changing ----------------------------------------------------------------------------------------------------

    def _add(self) -> None:
        name = f"c{self._number}e{self._random.randrange(4)}"
        known = self._endpoints.get(name)
        if known and known.present != {False}:
            return
        known = self._endpoints[name] = Known(name, {False})
        self._found(
            known, self.ask(lambda: self.client.add_endpoint(self.scoring, name), lambda: known.present.add(True))
        )

    def _found(self, known: Known, seen: Endpoint) -> None:
        known.present, known.seen = {True}, seen
        known.keys = {KeyType.PRIMARY: seen.primary_key, KeyType.SECONDARY: seen.secondary_key}

    def _patch(self) -> None:
        known = self._some()
        if known is None:
            return
        slope, location = self._random.choice([*MODELS.items(), *self._trained()])
        settings = EndpointSettings(resources=(Resource(RESOURCE, location),))
        self.ask(
            lambda: self.client.patch_endpoint(known.seen, settings),  # type: ignore[arg-type]
            lambda: known.slopes.add(slope),
        )
        known.slopes = {slope}

    def _trained(self) -> list[tuple[float, BlobReference]]:
        return [
            (job.slope, BlobReference(f"models/{job.id}.ilearner"))
            for job in self.jobs.values()
            if job.end is JobStatus.FINISHED
        ][-3:]

    def _describe(self) -> None:
        known = self._some()
        if known is None:
            return
        self._serial += 1
        text = f"description {self._serial}"
        self.ask(
            lambda: self.client.patch_endpoint(known.seen, EndpointSettings(description=text)),  # type: ignore[arg-type]
            lambda: known.descriptions.add(text),
        )
        known.descriptions = {text}

    def _regenerate(self) -> None:
        known = self._some()
        if known is None:
            return
        which = self._random.choice([*KeyType])
        old, other = known.keys.pop(which), dict(known.keys)

        def unknown() -> None:
            known.seen = None

        after = self.ask(lambda: self.client.regenerate_key(self.scoring, known.name, which), unknown)
        self._found(known, after)
        assert known.keys[which] != old
        assert other.items() <= known.keys.items(), f"{known.name}: the other key was replaced, too"
        known.old_keys.append(old)

    def _drop(self) -> None:
        known = self._some()
        if known is None or self._random.random() < 0.5:
            return
        self.ask(lambda: self.client.delete_endpoint(self.scoring, known.name), lambda: known.present.add(False))
        known.present, known.gone = {False}, known.seen

    def _upload(self) -> None:
        path = f"data/c{self._number}-{self._random.randrange(5)}.bin"
        # Large enough to be killed in the middle of.
        content = self._random.randbytes(self._random.choice([10, 100_000, 3_000_000]))
        may, place = self._blobs.setdefault(path, {None}), self._place(path, "cw")
        pieces = [content[:1_500_000], content[1_500_000:]]
        if self._random.random() < 0.5:
            self.ask(lambda: self.client.store_stream(place, pieces), lambda: may.add(content))
        else:
            self.ask(lambda: self.client.store_blob(place, content), lambda: may.add(content))
        self._blobs[path] = {content}

    def _train(self) -> None:
        if sum(job.end is None for job in self.jobs.values()) > 4:
            self.see(self._random.choice([job for job in self.jobs.values() if job.end is None]))
            return
        self._serial += 1
        slope = float(self._number * 1000 + self._serial % 900 + 20)
        path = f"data/c{self._number}-{self._serial}.csv"
        self.ask(lambda: self.client.store_blob(self._place(path, "cw"), line(slope).encode()))
        # The output has the id of the job, which nobody knows yet: it is copied there when the job has ended.
        request = JobRequest({"input1": BlobReference(path)})
        job = KnownJob(self.ask(lambda: self.client.submit_job(self.trainer, request)), slope)
        self.jobs[job.id] = job
        if self._random.random() < 0.9:
            self.ask(lambda: self.client.start_job(self.trainer, job.id), lambda: job.started.add(True))
            job.started = {True}

    def _cancel(self) -> None:
        going = [job for job in self.jobs.values() if job.end is None]
        if not going or self._random.random() < 0.95:
            return
        job = self._random.choice(going)
        self.ask(lambda: self.client.cancel_job(self.trainer, job.id), lambda: job.cancelled.add(True))
        job.cancelled = {True}
        self.see(job)

    def _score(self) -> None:
        known = self._some()
        if known is not None:
            self._check_score(known)

    # -- checking ----------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Compare everything that is known with what the server says now."""
        self._services()
        for known in self._endpoints.values():
            self._check_endpoint(known)
        for path, may in self._blobs.items():
            now = self.ask(lambda path=path: self._fetch(self._place(path, "r")))
            assert now in may, f"{path} has {len(now or b'')} bytes; it may have {[len(one or b'') for one in may]}"
            self._blobs[path] = {now}
        for job in self.jobs.values():
            self.see(job)

    def _fetch(self, reference: BlobReference) -> bytes | None:
        try:
            return self.client.fetch_blob(reference)
        except NotFound:
            return None
        except RequestRejected as error:
            if error.detail_code != "BlobNotFound":
                raise
            return None

    def _get(self, known: Known) -> Endpoint | None:
        try:
            return self.client.get_endpoint(self.scoring, known.name)
        except NotFound:
            return None

    def _check_endpoint(self, known: Known) -> None:
        seen = self.ask(lambda: self._get(known))
        assert (seen is not None) in known.present, f"{known.name}: is {seen is not None}, may be {known.present}"
        known.present = {seen is not None}
        if seen is None:
            if known.gone:
                refused = self.ask(lambda: self._refused(known.gone, known.gone.primary_key))
                assert refused, f"{known.name} was deleted, and its key opens it"
            return
        now = {KeyType.PRIMARY: seen.primary_key, KeyType.SECONDARY: seen.secondary_key}
        assert known.keys.items() <= now.items(), f"{known.name} has another key than was answered"
        assert seen.description in known.descriptions, (known.name, seen.description, known.descriptions)
        known.descriptions = {seen.description}
        self._found(known, seen)
        self._check_score(known)
        named = self.slope_of(str(seen.resources[0].location))
        assert known.slopes == {named}, f"{known.name} names the model of {named}, and answers {known.slopes}"
        if known.old_keys:
            refused = self.ask(lambda: self._refused(seen, known.old_keys[-1]))
            assert refused, f"{known.name}: a key that was replaced opens it"

    def _refused(self, seen: Endpoint, key: str) -> bool:
        try:
            # Without the web service: the client would look for the new key there.
            self.client.score(replace(seen, primary_key=key, web_service_id=""), [{"x": 1.0}])
        except AccessDenied:
            return True
        return False

    def _check_score(self, known: Known) -> None:
        seen = known.seen
        assert seen is not None
        (cell,) = self.ask(lambda: self.client.score(seen, [{"x": 1.0}])).column("Scored Labels")
        slope = round(float(cell), 2)
        assert slope in known.slopes, f"{known.name} answers {slope}; it may answer {known.slopes}"
        known.slopes = {slope}

    def slope_of(self, text: str) -> float:
        """The slope of the model whose location is in a text: one of those that were put there, else the first one."""
        named = {place.relative_location: slope for slope, place in MODELS.items()}
        named |= {f"models/{job.id}.ilearner": job.slope for job in self.jobs.values()}
        return next((slope for path, slope in named.items() if path in text), 2.0)

    def see(self, job: KnownJob) -> Job:
        """A job as the service describes it now; one that has ended is as it was."""
        now = self.ask(lambda: self.client.get_job(self.trainer, job.id))
        assert job.end in (None, now.status), f"job {job.id} was {job.end}, and is {now.status}"
        assert False in job.cancelled or now.status.terminal, f"job {job.id} was cancelled, and is {now.status}"
        if job.started == job.cancelled == {False}:
            assert now.status is JobStatus.NOT_STARTED, f"job {job.id} was not started, and is {now.status}"
        assert now.status is not JobStatus.FAILED, f"job {job.id} failed: {now.details}"
        if now.status.terminal and job.end is None:
            if now.status is JobStatus.FINISHED:
                self._keep(job, now)
            log = [text.text for text in self.ask(lambda: self.client.job_log(self.trainer, job.id))]
            assert any(text.startswith(now.status.value) for text in log), f"job {job.id} is {now.status}: {log}"
            job.end = now.status
            self._rounds.counts[f"jobs {now.status.value}"] += 1
        return now

    def _keep(self, job: KnownJob, now: Job) -> None:
        """The outputs of a finished job are there, whole, and the model is put where it is found by the job's id."""
        model = self.ask(lambda: self.client.fetch_blob(now.results["output1"]))
        assert zipfile.ZipFile(io.BytesIO(model)).testzip() is None
        assert self.ask(lambda: self.client.fetch_blob(now.results["output2"]))
        self.ask(lambda: self.client.store_blob(self._place(f"models/{job.id}.ilearner", "cw"), model))
