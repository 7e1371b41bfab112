"""Clients that change and read the same things through two servers, and note it all in one history."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TypeVar

import requests

from airflow_provider_azureml_classic.client import Client
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
from tests.support.histories import READ, UNTOLD, WEAK, WRITE, History, Refused, Unanswered
from tests.support.service import RESOURCE

T = TypeVar("T")
MODELS = {3.0: "models/three.ilearner", 10.0: "models/ten.ilearner"}
#: A model that lies in the storage account.
ELSEWHERE = 20.0, "models/twenty.ilearner"
#: What a job says whose process was killed as often as it is begun.
KILLED = "The training process died"
#: And one whose input or output is in a storage account that is away.
AWAY = "NoMoreResources"


@dataclass
class KnownJob:
    """What a client knows of a job of its own."""

    id: str
    is_elsewhere: bool = False
    asked: set[str] = field(default_factory=set)
    answered: set[str] = field(default_factory=set)
    end: JobStatus | None = None
    digest: str = ""


@dataclass(frozen=True)
class Shared:
    """What all clients change and read.

    :param history: where all of it is noted.
    :param clients: of each server, by its name.
    :param urls: of the servers; endpoints and places have that of ``a``.
    :param place: gives a reference to a blob with a token; ``elsewhere``: to one of a storage account.
    :param trainer: the endpoint that trains.
    :param endpoints: by name; their keys stay as they are.
    """

    history: History
    clients: dict[str, Client]
    urls: dict[str, str]
    place: Callable[[str, str], BlobReference]
    elsewhere: Callable[[str, str], BlobReference]
    trainer: Endpoint
    endpoints: dict[str, Endpoint]

    @property
    def service(self) -> str:
        """Id of the scoring service."""
        return next(iter(self.endpoints.values())).web_service_id


class HistoryClient(threading.Thread):
    """One client.

    :param number: which one.
    :param shared: what it changes and reads.
    :param seed: of the choices.
    """

    def __init__(self, number: int, shared: Shared, seed: int) -> None:
        super().__init__(name=f"client-{number}", daemon=True)
        self._number, self._shared, self._history = number, shared, shared.history
        self._random = random.Random(f"{seed}-{number}")  # noqa: S311 - to be repeated, not kept secret
        self._serial = 0
        self._server = "a"
        self.jobs: dict[str, KnownJob] = {}
        self.load, self.over = threading.Event(), threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        """Do one thing after the other while there is load."""
        try:
            while not self.over.is_set():
                if self.load.wait(0.05):
                    self.act()
        except BaseException as error:
            self.error = error

    def act(self) -> None:
        """Do one thing through one of the servers."""
        self._server = self._random.choice("ab")
        actions = [self._patch, self._describe, self._get, self._score, self._score, self._refresh, self._list]
        actions += [self._add, self._delete, self._regenerate, self._use_key, self._upload, self._fetch, self._remove]
        actions += [self._submit, self._start, self._see, self._cancel]
        try:
            with suppress(Refused):  # of a job that has ended
                self._random.choice(actions)()
        except Unanswered:
            # What is down stays so for a while.
            self.over.wait(0.05)

    def read_all(self) -> None:
        """Read everything once, when nothing else happens."""
        for self._server in "ab":
            for name in self._shared.endpoints:
                self._get(name)
                self._score(name)
            self._list()
            for number in range(3):
                self._fetch(f"data/{number}.bin")
            for job in self.jobs.values():
                self._see(job)

    # -- asking ------------------------------------------------------------------------------------------------------

    def _ask(self, what: Callable[[Client], T]) -> T:
        try:
            return what(self._shared.clients[self._server])
        except (ServiceUnavailable, ProtocolError) as error:
            if error.status == 500:
                raise
            raise Unanswered from error
        except (NotFound, AccessDenied, RequestRejected) as error:
            raise Refused from error

    def _may_fail(self, what: Callable[[Client], T]) -> T | None:
        """``None`` where it is not there."""
        try:
            return self._ask(what)
        except Refused as error:
            if isinstance(error.__cause__, AccessDenied):
                raise error.__cause__ from None
            return None

    def _here(self, endpoint: Endpoint) -> Endpoint:
        urls = self._shared.urls
        return replace(endpoint, api_location=endpoint.api_location.replace(urls["a"], urls[self._server]))

    def _place(self, path: str, permissions: str) -> BlobReference:
        place, urls = self._shared.place(path, permissions), self._shared.urls
        return replace(place, base_location=place.base_location.replace(urls["a"], urls[self._server]))

    def _text(self) -> str:
        self._serial += 1
        return f"{self._number}-{self._serial}"

    def _some(self) -> str:
        return self._random.choice([*self._shared.endpoints])

    # -- endpoints ---------------------------------------------------------------------------------------------------

    def _change(self, name: str, settings: EndpointSettings) -> None:
        endpoint = self._shared.endpoints[name]
        self._ask(lambda client: client.patch_endpoint(endpoint, settings))

    def _patch(self) -> None:
        name, (slope, path) = self._some(), self._random.choice([*MODELS.items(), ELSEWHERE])
        place = self._shared.elsewhere(path, "r") if (slope, path) == ELSEWHERE else BlobReference(path)
        with self._history.call(WRITE, ("model", name), self._server, slope):
            self._change(name, EndpointSettings(resources=(Resource(RESOURCE, place),)))

    def _describe(self) -> None:
        name, text = self._some(), self._text()
        with self._history.call(WRITE, ("description", name), self._server, text):
            self._change(name, EndpointSettings(description=text))

    def _refresh(self) -> None:
        name = self._some()
        with self._history.call(WRITE, ("model", name), self._server, 2.0):
            self._ask(lambda client: client.refresh_endpoint(self._shared.service, name, overwrite_resources=True))

    def _get(self, name: str = "") -> None:
        name = name or self._some()
        with (
            self._history.call(READ, ("model", name), self._server) as model,
            self._history.call(READ, ("description", name), self._server) as description,
        ):
            seen = self._ask(lambda client: client.get_endpoint(self._shared.service, name))
            location = str(seen.resources[0].location)
            model.value = next((slope for slope, path in (*MODELS.items(), ELSEWHERE) if path in location), 2.0)
            description.value = seen.description

    def _score(self, name: str = "") -> None:
        name = name or self._some()
        with self._history.call(WEAK, ("model", name), self._server) as call:
            endpoint = self._here(self._shared.endpoints[name])
            (cell,) = self._ask(lambda client: client.score(endpoint, [{"x": 1.0}])).column("Scored Labels")
            call.value = round(float(cell), 2)

    def _add(self) -> None:
        name = f"d{self._random.randrange(3)}"
        with self._history.call(WRITE, ("there", name), self._server, True):
            self._ask(lambda client: client.add_endpoint(self._shared.service, name))

    def _delete(self) -> None:
        name = f"d{self._random.randrange(3)}"
        with self._history.call(WRITE, ("there", name), self._server, False):
            self._ask(lambda client: client.delete_endpoint(self._shared.service, name))

    def _list(self) -> None:
        calls = [self._history.call(READ, ("there", f"d{number}"), self._server) for number in range(3)]
        with calls[0] as first, calls[1] as second, calls[2] as third:
            names = {one.name for one in self._ask(lambda client: client.list_endpoints(self._shared.service))}
            for number, call in enumerate((first, second, third)):
                call.value = f"d{number}" in names

    def _regenerate(self) -> None:
        with self._history.call(WRITE, ("key", "k"), self._server, UNTOLD) as call:
            after = self._ask(lambda client: client.regenerate_key(self._shared.service, "k", KeyType.SECONDARY))
            call.value = after.secondary_key

    def _use_key(self) -> None:
        with self._history.call(READ, ("key", "k"), self._server) as call:
            seen = self._ask(lambda client: client.get_endpoint(self._shared.service, "k"))
            call.value = seen.secondary_key

    # -- blobs -------------------------------------------------------------------------------------------------------

    def _upload(self) -> None:
        path, content = f"data/{self._random.randrange(3)}.bin", self._text().encode() * 1000
        with self._history.call(WRITE, ("blob", path), self._server, hashlib.sha256(content).hexdigest()):
            if self._random.random() < 0.5:
                self._ask(lambda client: client.store_blob(self._place(path, "cw"), content))
            else:
                pieces = [content[:2000], content[2000:]]
                self._ask(lambda client: client.store_stream(self._place(path, "cw"), pieces))

    def _fetch(self, path: str = "") -> None:
        path = path or f"data/{self._random.randrange(3)}.bin"
        with self._history.call(READ, ("blob", path), self._server) as call:
            content = self._may_fail(lambda client: client.fetch_blob(self._place(path, "r")))
            call.value = None if content is None else hashlib.sha256(content).hexdigest()

    def _remove(self) -> None:
        path = f"data/{self._random.randrange(3)}.bin"
        with self._history.call(WRITE, ("blob", path), self._server, None):
            try:
                answer = requests.delete(self._place(path, "d").url, timeout=30)
            except requests.RequestException as error:
                raise Unanswered from error
            if answer.status_code != 202:
                raise Unanswered if answer.status_code == 503 else Refused

    # -- jobs --------------------------------------------------------------------------------------------------------

    def _job(self) -> KnownJob | None:
        return self._random.choice([*self.jobs.values()]) if self.jobs else None

    def _submit(self) -> None:
        if sum(job.end is None for job in self.jobs.values()) > 3:
            return
        path, elsewhere = f"out/{self._text()}.ilearner", self._random.random() < 0.4
        output = self._shared.elsewhere(path, "rcw") if elsewhere else BlobReference(path)
        request = JobRequest({"input1": BlobReference("data/line.csv")}, {"output1": output})
        job = self._ask(lambda client: client.submit_job(self._here(self._shared.trainer), request))
        self.jobs[job] = KnownJob(job, elsewhere)

    def _tell(self, job: KnownJob, verb: str, call: Callable[[Client, Endpoint], object]) -> None:
        job.asked.add(verb)
        self._ask(lambda client: call(client, self._here(self._shared.trainer)))
        job.answered.add(verb)

    def _start(self) -> None:
        job = self._job()
        if job and not job.asked:
            self._tell(job, "start", lambda client, trainer: client.start_job(trainer, job.id))

    def _cancel(self) -> None:
        job = self._job()
        if job and job.end is None and self._random.random() < 0.2:
            self._tell(job, "cancel", lambda client, trainer: client.cancel_job(trainer, job.id))

    def _see(self, job: KnownJob | None = None) -> None:
        job = job or self._job()
        if job:
            cancelled = "cancel" in job.answered
            self.check(
                job, self._ask(lambda client: client.get_job(self._here(self._shared.trainer), job.id)), cancelled
            )

    def check(self, job: KnownJob, now: Job, cancelled: bool = False) -> None:
        """A job does what it was told, ends once, and leaves its output once.

        :param job: as it is known.
        :param now: as it is described.
        :param cancelled: its cancelling was answered before.
        """
        assert job.end in (None, now.status), f"{job} is {now.status}"
        assert job.asked or now.status is JobStatus.NOT_STARTED, f"{job} was not started, and is {now.status}"
        assert not cancelled or now.status.terminal, f"{job} was cancelled, and is {now.status}"
        assert now.status is not JobStatus.CANCELLED or "cancel" in job.asked, f"{job} was not cancelled"
        reasons = (KILLED, AWAY) if job.is_elsewhere else (KILLED,)
        is_known = any(reason in (now.details or "") for reason in reasons)
        assert now.status is not JobStatus.FAILED or is_known, f"{job} failed: {now.details}"
        if now.status.terminal:
            trainer = self._here(self._shared.trainer)
            lines = [line.text for line in self._ask(lambda client: client.job_log(trainer, job.id))]
            assert sum(line.startswith(now.status.value) for line in lines) == 1, f"{job}: {lines}"
        if now.status is JobStatus.FINISHED:
            content = self._ask(lambda client: client.fetch_blob(now.results["output1"]))
            digest = hashlib.sha256(content).hexdigest()
            assert job.digest in ("", digest), f"{job} wrote its output twice"
            job.digest = digest
        job.end = now.status if now.status.terminal else None
