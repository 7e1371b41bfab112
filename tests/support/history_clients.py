"""Clients that change and read the same things through two servers, and note it all in one history."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import cycle
from typing import TypeVar

import requests
from urllib3.exceptions import NewConnectionError

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
from airflow_provider_azureml_classic.server.state.peers import FRESH_SECONDS
from tests.support.histories import READ, UNTOLD, WEAK, WRITE, Call, History, Refused, Unanswered, Unreached
from tests.support.service import RESOURCE
from tests.support.two_servers import BODY

T = TypeVar("T")
#: Names of models, by what they answer.
MODELS = {3.0: "three", 10.0: "ten"}
#: An endpoint that is changed so seldom, from one model to the next, that no old answer passes for a new one; and the
#: seconds between two changes.
SELDOM, PAUSE = "seldom", 2 * FRESH_SECONDS
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
    :param keyed: the endpoint whose secondary key is regenerated.
    :param contents: model files, by what they answer.
    :ivar slopes: what models answer, by the places that they were put live from.
    :ivar keys: those that the endpoint had, as far as they are known.
    :ivar turn: held while :data:`SELDOM` is changed, and for :data:`PAUSE` afterwards.
    :ivar turns: the models that it gets.
    """

    history: History
    clients: dict[str, Client]
    urls: dict[str, str]
    place: Callable[[str, str], BlobReference]
    elsewhere: Callable[[str, str], BlobReference]
    trainer: Endpoint
    endpoints: dict[str, Endpoint]
    keyed: Endpoint
    contents: dict[float, bytes]
    slopes: dict[str, float] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)
    turn: threading.Lock = field(default_factory=threading.Lock)
    turns: Iterator[float] = field(default_factory=lambda: cycle((*MODELS, ELSEWHERE[0])))

    def __post_init__(self) -> None:
        self.slopes.update({ELSEWHERE[1]: ELSEWHERE[0], **{self.first(name): 2.0 for name in self.endpoints}})
        self.keys.append(self.keyed.secondary_key)

    def first(self, name: str) -> str:
        """The place of the model that an endpoint had at first."""
        return path_of(self.endpoints[name])

    @property
    def service(self) -> str:
        """Id of the scoring service."""
        return next(iter(self.endpoints.values())).web_service_id


def path_of(endpoint: Endpoint) -> str:
    """Where the model of an endpoint lies."""
    location = endpoint.resources[0].location
    assert location is not None
    return location.relative_location


def was_sent(error: BaseException) -> bool:
    """Whether a request that was not answered may have reached a server.

    :param error: of the client, or of :mod:`requests`.
    """
    refusal = error if isinstance(error, requests.ConnectionError) else error.__context__
    if not isinstance(refusal, requests.ConnectionError) or not refusal.args:
        return True
    return not isinstance(getattr(refusal.args[0], "reason", None), NewConnectionError)


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
        actions = [
            self._patch,
            self._patch_seldom,
            self._describe,
            self._get,
            self._score,
            self._score,
            self._refresh,
            self._list,
        ]
        actions += [self._add, self._drop, self._regenerate, self._use_key, self._call_with_key]
        actions += [self._upload, self._fetch, self._remove]
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
            raise Unanswered if was_sent(error) else Unreached from error
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

    def _some(self, *besides: str) -> str:
        return self._random.choice([name for name in self._shared.endpoints if name not in besides])

    # -- endpoints ---------------------------------------------------------------------------------------------------

    def _change(self, name: str, settings: EndpointSettings) -> None:
        endpoint = self._shared.endpoints[name]
        self._ask(lambda client: client.patch_endpoint(endpoint, settings))

    def _patch(self) -> None:
        self._put(self._some(SELDOM), self._random.choice([*MODELS, ELSEWHERE[0]]))

    def _patch_seldom(self) -> None:
        if self._shared.turn.acquire(blocking=False):
            try:
                self._put(SELDOM, next(self._shared.turns))
            finally:
                threading.Timer(PAUSE, self._shared.turn.release).start()

    def _put(self, name: str, slope: float) -> None:
        if slope == ELSEWHERE[0]:
            path, place = ELSEWHERE[1], self._shared.elsewhere(ELSEWHERE[1], "r")
        else:
            # Each from a place of its own, so that one is not taken for another.
            path = f"models/{self._text()}.ilearner"
            content = self._shared.contents[slope]
            self._ask(lambda client: client.store_blob(self._place(path, "cw"), content))
            place, self._shared.slopes[path] = BlobReference(path), slope
        with self._history.call(WRITE, ("model", name), self._server, path):
            self._change(name, EndpointSettings(resources=(Resource(RESOURCE, place),)))
        self._get(name)

    def _describe(self) -> None:
        name, text = self._some(SELDOM), self._text()
        with self._history.call(WRITE, ("description", name), self._server, text):
            self._change(name, EndpointSettings(description=text))
        self._get(name)

    def _refresh(self) -> None:
        name = self._some(SELDOM)
        with self._history.call(WRITE, ("model", name), self._server, self._shared.first(name)):
            self._ask(lambda client: client.refresh_endpoint(self._shared.service, name, overwrite_resources=True))

    def _get(self, name: str = "") -> None:
        name = name or self._some()
        with (
            self._history.call(READ, ("model", name), self._server) as model,
            self._history.call(READ, ("description", name), self._server) as description,
        ):
            seen = self._ask(lambda client: client.get_endpoint(self._shared.service, name))
            model.value, description.value = path_of(seen), seen.description

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

    def _drop(self) -> None:
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
        assert after.secondary_key not in self._shared.keys, "a key that was replaced is the endpoint's again"
        self._shared.keys.append(after.secondary_key)
        self._use_key()

    def _use_key(self) -> None:
        with self._history.call(READ, ("key", "k"), self._server) as call:
            seen = self._ask(lambda client: client.get_endpoint(self._shared.service, "k"))
            call.value = seen.secondary_key

    def _call_with_key(self) -> None:
        """A key that opens is the endpoint's own, or was it not long ago."""
        key, url = self._random.choice(self._shared.keys[-3:]), self._here(self._shared.keyed).api_location
        call = Call(WEAK, ("key", "k"), key, self._server, self._history.clock())
        try:
            # A client of ours would ask for the new one.
            headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
            answer = requests.post(f"{url}/execute?api-version=2.0", BODY, headers=headers, timeout=60)
        except requests.RequestException as error:
            raise Unanswered from error
        assert answer.status_code in (200, 401, 503), answer.text
        if answer.status_code == 200:
            call.returned, call.answered = self._history.clock(), True
            self._history.add(call)

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
                raise Unanswered if was_sent(error) else Unreached from error
            if answer.status_code != 202:
                assert answer.status_code in (404, 503), answer.text
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
        if job and job.end is None and self._random.random() < 0.4:
            self._tell(job, "cancel", lambda client, trainer: client.cancel_job(trainer, job.id))
            self._see(job)

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
            assert now.model is None or now.model.file == digest, f"{job} wrote another model than it tells"
            job.digest = digest
        job.end = now.status if now.status.terminal else None
