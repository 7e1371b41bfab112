"""Servers that share a database: who lives, who runs which job, which model an endpoint has, and what each remembers.

The code is the package's: ``Peers``, ``Runner``, the delivery of ``JobWork``, ``Jobs``, ``Workspace`` and the stores,
on threads of the virtual clock. Servers are killed, stopped and started again, and stand still for longer than a lease;
their clocks are wrong; the database is slow, silent or gone, and its notifications are late or cease; requests are
lost, late and repeated.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import sqlalchemy as sa

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, ServiceUnavailable, rejection
from airflow_provider_azureml_classic.protocol.jobs import Job, JobRequest, JobStatus
from airflow_provider_azureml_classic.protocol.keys import KeyType
from airflow_provider_azureml_classic.protocol.operations import GET_ENDPOINT, SCORE
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import DEFAULT_ENDPOINT, EndpointSettings
from airflow_provider_azureml_classic.server.jobs import executor, runner, work
from airflow_provider_azureml_classic.server.jobs import jobs as jobs_module
from airflow_provider_azureml_classic.server.jobs.jobs import Jobs
from airflow_provider_azureml_classic.server.jobs.work import End, JobWork
from airflow_provider_azureml_classic.server.settings import Settings
from airflow_provider_azureml_classic.server.state import peers
from airflow_provider_azureml_classic.server.state.database import columns
from airflow_provider_azureml_classic.server.state.endpoint_store import Store
from airflow_provider_azureml_classic.server.state.job_store import JobStore
from airflow_provider_azureml_classic.server.state.peers import FRESH_SECONDS, LEASE_SECONDS, Peers
from airflow_provider_azureml_classic.server.state.tables import (
    EndpointRow,
    JobRow,
    ResourceRow,
    ServiceRow,
    jobs,
    placements,
    resources,
    servers,
    web_services,
)
from airflow_provider_azureml_classic.server.workspace.endpoints import etag, new_endpoint
from airflow_provider_azureml_classic.server.workspace.workspace import OWNER, Workspace
from tests.simulation import machines
from tests.simulation.machines import LONGEST, THREADING, Event, Machine, Pool, Work, current, sleep
from tests.simulation.service import digest
from tests.simulation.shared import Blobs, Link, Listener, Postgres
from tests.simulation.world import World
from tests.support.histories import READ, UNTOLD, WEAK, WRITE, Call, History, Refused, Unanswered

T = TypeVar("T")
TRAINER, SCORER = "t" * 32, "s" * 32
TRAINERS, SCORERS, RESOURCE, FIRST = ("t0", "t1"), ("e0", "e1"), "m", "models/first"
#: Jobs of one endpoint at a time; seconds between two beats; of a simulation; until all has ended after it.
MOST, BEAT, SECONDS, REST = 2, 1.0, 240.0, 900.0
CLIENTS = 5
#: What there is before the first call, and how long another server may not know of a change by its clock.
FIRSTS, STALE = {"model": FIRST}, FRESH_SECONDS * 1.1
#: What a job may say that has failed: the data are bad, the store or the process failed.
FAILURES = ("The data are bad.", "The store does not answer.", "The process died.")


class Member(Peers):
    """Knows who is taken for dead, and whether rightly."""

    def __init__(self, server: Server) -> None:
        self._server = server
        super().__init__(server.link)

    def _beat(self) -> None:
        before = self.id
        began = self._server.world.loop.time()
        super()._beat()
        if self.id != before:
            self._server.world.count("taken for dead")
        self._server.simulation.beats[self.id] = began

    def _end(self, *which: sa.ColumnElement[bool]) -> bool:
        simulation, world = self._server.simulation, self._server.world
        before = simulation.members()
        gone = super()._end(*which)
        if self.id not in simulation.members():
            # It has left by itself, and another one that stood still within this function sees it gone, too.
            simulation.beats.pop(self.id, None)
        for server in before - simulation.members() - {self.id}:
            beat = simulation.beats.get(server)
            world.hold(
                beat is None or world.loop.time() - beat > LEASE_SECONDS * 0.7,
                f"{server[:6]} was taken for dead {world.loop.time() - (beat or 0):.1f} s after its beat.",
            )
        return gone


class SimulatedWork(JobWork):
    """A job without its files; it is stopped and delivered as any other."""

    server: Server

    def run(self, job: Any, endpoint: Any, notes: Any, leave: Callable[[], None]) -> End:
        """Do it."""
        with self.server.simulation.at_work(job, self.server):
            self._elsewhere(job, notes, lambda: None)
        leave()
        (reference,) = job.request.outputs.values()
        outputs: Any = {"output1": (f"model of {job.id}", reference)}
        results, delivered = self._deliver(job, None, notes, outputs)  # type: ignore[arg-type]
        return End(JobStatus.FINISHED, {"results": results}, delivered=delivered)


class Server(Machine):
    """A server, from its start to its end."""

    def __init__(self, simulation: Servers, name: str) -> None:
        world = simulation.world
        skew = timedelta(seconds=world.random.choice((0.0, world.random.uniform(-86400, 86400))))
        super().__init__(world, name, skew, world.random.uniform(0.97, 1.03))
        self.simulation, self.link = simulation, Link(simulation.postgres)
        self.is_ready = False
        self.run(self.start)

    def start(self) -> None:
        """As ``service.running`` puts it together."""
        simulation, store = self.simulation, Store(self.link)
        while True:
            try:
                self.peers = Member(self)
                break
            except ServiceUnavailable:
                sleep(1.0)
        self.world.note(self.name, f"begins as {self.peers.id[:6]}")
        job_store, locations = JobStore(self.link, self.clock, MOST), simulation.blobs
        settings = Settings(Path(), "http://ml.example", "w", "token", "", "")
        self.workspace = Workspace(settings, store, locations, self.clock, lambda: self.peers.fresh)  # type: ignore[arg-type]
        pins, pool = (
            SimpleNamespace(pinned=nullcontext),
            SimpleNamespace(submit=simulation.train, poll=Work.done, cancel=Work.cancel),
        )
        parts: Any = (store, job_store, None, None, locations, pool, self.peers, pins)
        done = SimulatedWork(*parts)
        done.server = self
        silent: Any = SimpleNamespace(
            ran=lambda *_: None, check_job=lambda _: None, counted=lambda _: None, checked=lambda *args: args[2]
        )
        self.runner = runner.Runner(done, store, job_store, 2, self.clock, self.peers, silent)
        self.jobs = Jobs(store, job_store, silent, locations, self.runner, self.clock, silent)  # type: ignore[arg-type]
        self.peers.on_change, self.peers.on_job = self.workspace.forget, self.runner.poll
        self.peers.start()
        self.runner.start()
        self.is_ready = True

    def stop(self) -> None:
        """As at SIGTERM."""
        if self.is_ready:
            self.runner.close()
            self.peers.close()


class Servers:
    """Two or three servers, and clients who change and read endpoints, and submit, start twice, watch and cancel jobs.

    :param seed: decides everything.
    """

    def __init__(self, seed: int) -> None:
        self.world = world = World(seed)
        self.bad = world.random.choice((0.0, 1.0, 1.0, 3.0))
        self.postgres, self.blobs = Postgres(world, 0.005 * self.bad), Blobs(world, 0.01 * self.bad)
        self.history = History(clock=lambda: world.loop.time())
        self.servers: dict[str, Server] = {}
        self.endpoints: dict[str, EndpointRow] = {}
        self.clients: list[Client] = []
        self.is_over = False
        #: When each server beat last, by id; who works on a job, by job.
        self.beats: dict[str, float] = {}
        self._works: dict[str, list[tuple[Server, str]]] = {}
        #: Jobs that were done, each with the server that did it under this id.
        self._done: set[tuple[str, str]] = set()
        #: Keys that the endpoint had, as far as clients were told.
        self.keys: list[str] = []
        #: What a model was to take the place of, as its client meant it.
        self.meant: dict[str, str] = {}

    @property
    def hours(self) -> float:
        """Simulated so far."""
        return self.world.loop.time() / 3600

    def run(self) -> None:
        """Run it.

        :raises Violation: something happened that must not.
        """
        with _instead_of_threads(self.world):
            try:
                self.world.run(self._main())
            finally:
                self.postgres.engine.dispose()

    async def _main(self) -> None:
        end = self.world.loop.create_future()
        Machine(self.world, "clients").run(self._story, end)
        await end

    def _story(self, end: Any) -> None:
        """What the clients' machine does."""
        random, lost, clients = self.world.random, (self.postgres.lost, self.blobs.lost), current().machine
        self.postgres.lost = self.blobs.lost = 0.0
        self._set_up(Store(Link(self.postgres)))
        self.postgres.lost, self.blobs.lost = lost
        for number in range(random.choice((2, 3, 3))):
            clients.run(self._machine, f"m{number}")
        clients.run(self._outages)
        for number in range(CLIENTS):
            clients.run(self._client, Client(self, number))
        sleep(SECONDS)
        self.is_over, self.postgres.lost, self.blobs.lost = True, 0.0, 0.0
        self._finish()
        end.set_result(None)

    def _set_up(self, store: Store) -> None:
        now = current().machine.clock()
        services = [ServiceRow(TRAINER, "T", "x", True, now), ServiceRow(SCORER, "S", "x", False, now)]
        with self.postgres.engine.begin() as connection:
            connection.execute(sa.insert(web_services), [columns(service) for service in services])
        model = ResourceRow("", RESOURCE, "", FIRST, digest(FIRST))
        rows = [new_endpoint(TRAINER, name, now) for name in (DEFAULT_ENDPOINT, *TRAINERS)]
        rows += [new_endpoint(SCORER, name, now, models=(model,)) for name in (DEFAULT_ENDPOINT, *SCORERS, "k")]
        rows = [replace(row, id=self.world.uuid4().hex) for row in rows]
        rows = [
            replace(row, resources=tuple(replace(one, endpoint_id=row.id) for one in row.resources)) for row in rows
        ]
        store.add_endpoints(*rows, most=len(rows))
        self.endpoints = {row.name: row for row in rows}

    # -- what happens to servers ---------------------------------------------------------------------------------------

    def _machine(self, name: str) -> None:
        """One server after the other; the last one stays."""
        world, random = self.world, self.world.random
        while True:
            server = self.servers[name] = Server(self, name)
            ends = world.loop.time() + random.expovariate(1 / 200) if self.bad else math.inf
            while not self.is_over and world.loop.time() < ends:
                sleep(1.0)
                if self.bad and world.chance(0.002):
                    server.freeze(random.uniform(0, LONGEST))
            if self.is_over:
                return
            if world.chance(0.4):
                world.count("stopped")
                world.note(name, "stops")
                server.run(server.stop)
                sleep(random.uniform(0, 15))
            world.count("killed")
            world.note(name, "is dead")
            world.later(0.0, server.kill)
            sleep(random.uniform(0.001, 30))

    def _outages(self) -> None:
        world = self.world
        while self.bad and not self.is_over:
            sleep(world.random.expovariate(1 / 120))
            world.count("outages")
            world.note("database", "is gone")
            self.postgres.outage()
            sleep(world.random.choice((2.0, 15.0, 60.0)))
            self.postgres.is_down = False
            world.note("database", "is back")

    def _client(self, client: Client) -> None:
        self.clients.append(client)
        while not self.is_over:
            sleep(self.world.random.expovariate(1 / 3))
            client.act()

    # -- jobs ----------------------------------------------------------------------------------------------------------

    def train(self, function: object) -> Work:
        """What a process of a server does for a job."""
        error: Exception | None = None
        if self.world.chance(0.15):
            bad_data = rejection("BadParameterValue", FAILURES[0])
            error = self.world.random.choice((bad_data, BrokenExecutor(FAILURES[2])))
        return Work(self.world.random.choice((5.0, 30.0, 60.0)) * self.world.random.random(), error)

    @contextmanager
    def at_work(self, job: JobRow, server: Server) -> Iterator[None]:
        """No other server that lives works on the job, nor too many on jobs of its endpoint."""
        others, members = self._works.setdefault(job.id, []), self.members()
        for other, owner in others:
            both = other.is_alive and {owner, job.server_id} <= members
            self.world.hold(not both, f"Job {job.id[:6]} is done by {other.name} and by {server.name}.")
        with self.postgres.engine.begin() as connection:
            running = sa.select(sa.func.count()).where(
                jobs.c.endpoint_id == job.endpoint_id, jobs.c.status == JobStatus.RUNNING.value
            )
            count = connection.execute(running).scalar_one()
        self.world.hold(count <= MOST, f"{count} jobs of an endpoint run at a time.")
        self.world.note(server.name, f"works on {job.id[:6]}")
        mine = server, job.server_id or ""
        others.append(mine)
        try:
            yield
            self.world.hold((job.id, mine[1]) not in self._done, f"{server.name} does job {job.id[:6]} again.")
            self._done.add((job.id, mine[1]))
        finally:
            others.remove(mine)

    def members(self) -> set[str]:
        """Servers that are not known to be dead."""
        with self.postgres.engine.begin() as connection:
            return set(connection.execute(sa.select(servers.c.id)).scalars())

    # -- what must hold ------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """When all is quiet, all that was started ends, and all is read through each server."""
        started = [job.id for client in self.clients for job in client.jobs if "start" in job.answered]
        query = sa.select(jobs.c.id).where(jobs.c.id.in_(started), jobs.c.end_time.is_(None))
        for _ in range(int(REST / 10)):
            sleep(10.0)
            with self.postgres.engine.begin() as connection:
                left = list(connection.execute(query).scalars())
            # One that stood still when quiet began was taken for dead, and becomes a member again when it goes on.
            away = [name for name, server in self.servers.items() if not server.is_ready or not self._has(server)]
            if not left and not away:
                break
        else:
            self.world.fail(f"Jobs {[job[:6] for job in left]} have not ended, {away} are away: all is quiet.")
        for client in self.clients:
            for name in self.servers:
                self._read_all(client, name)
        self.history.check(lambda register: FIRSTS.get(register[0]) if register[0] != "key" else self.key, STALE)
        self._check_order()

    def _has(self, server: Server) -> bool:
        return server.peers.id in self.members()

    def _read_all(self, client: Client, server: str) -> None:
        for _ in range(30):
            with suppress(Unanswered):
                client.read_all(server)
                return
            sleep(10.0)
        self.world.fail(f"{server} does not answer, though all is quiet.")

    @property
    def key(self) -> str:
        """The key that is regenerated, as it was at first."""
        return self.endpoints["k"].secondary_key

    def _check_order(self) -> None:
        """A change that was to follow another one follows it, and nothing came between."""
        query = sa.select(placements.c.endpoint_id, placements.c.relative_location).order_by(placements.c.id)
        before: dict[str, str] = {}
        with self.postgres.engine.begin() as connection:
            for endpoint, model in connection.execute(query):
                meant = self.meant.get(model)
                text = f"{model} was to take the place of {meant}, and took that of {before.get(endpoint)}."
                self.world.hold(meant in (None, before.get(endpoint)), text)
                before[endpoint] = model
            for endpoint, model in connection.execute(
                sa.select(resources.c.endpoint_id, resources.c.relative_location)
            ):
                self.world.hold(before[endpoint] == model, f"{model} is live, and {before[endpoint]} came last.")


@dataclass
class KnownJob:
    """What a client knows of a job of its own."""

    id: str
    output: str
    asked: set[str] = field(default_factory=set)
    answered: set[str] = field(default_factory=set)
    end: JobStatus | None = None


class Client:
    """One client.

    :param simulation: whose servers it asks.
    :param number: which one.
    """

    def __init__(self, simulation: Servers, number: int) -> None:
        self._simulation, self._number, self._world = simulation, number, simulation.world
        self._random, self._serial, self._server = simulation.world.random, 0, ""
        self.jobs: list[KnownJob] = []
        self._trainers: dict[str, EndpointRow] = {}

    def act(self) -> None:
        """Do one thing through one of the servers."""
        self._server = self._random.choice(sorted(self._simulation.servers))
        change = [self._patch, self._patch_what_was_read, self._describe, self._regenerate]
        read = [self._get, self._score, self._score, self._read_key, self._call_with_key]
        of_jobs = [self._submit, self._start, self._start, self._see, self._cancel]
        with suppress(Unanswered, Refused):
            self._random.choice([*change, *read, *of_jobs])()

    def read_all(self, server: str) -> None:
        """Read everything through one server, when nothing else happens."""
        self._server = server
        for name in SCORERS:
            self._get(name)
            self._score(name)
        self._read_key()
        for job in self.jobs:
            self._see(job)

    # -- asking --------------------------------------------------------------------------------------------------------

    def _ask(self, question: Callable[[Server], T], *, repeated: bool = False) -> T:
        """The answer of the server, or none."""
        simulation, chance = self._simulation, self._world.chance
        share = 0.0 if simulation.is_over else 0.02 * simulation.bad
        server, answers, arrived = simulation.servers[self._server], deque[tuple[Any, Any]](), Event()
        self._world.count("calls")
        sleep(self._random.uniform(0.001, 0.1))

        def answer(is_first: bool) -> None:
            try:
                value, error = question(server), None
            except AzureMLClassicError as caught:
                value, error = None, caught
            sleep(self._random.uniform(0.001, 0.1))
            if is_first:
                answers.append((value, error))
                arrived.set()

        def deliver(is_first: bool = True) -> None:
            if server.is_ready:
                server.run(answer, is_first)

        lost, twice = chance(share), repeated and chance(10 * share)
        if lost and chance(0.3):
            self._world.later(self._random.uniform(0.0, 60.0), deliver)
        elif not lost:
            deliver()
            if twice:
                self._world.count("repeated")
                self._world.later(self._random.uniform(0.0, 5.0), lambda: deliver(is_first=False))
        if not arrived.wait(10.0) or lost or chance(share):
            raise Unanswered
        value, error = answers[0]
        if isinstance(error, ServiceUnavailable) or (error is not None and twice):
            # Of a request that came twice the other one may have been carried out.
            raise Unanswered from error
        if error is not None:
            raise Refused from error
        return cast("T", value)

    @contextmanager
    def _noted(self, kind: str, register: tuple[str, str], value: Any = None) -> Iterator[Call]:
        """What was not answered may happen at any time."""
        call = None
        try:
            with self._simulation.history.call(kind, register, self._server, value) as call:
                yield call
        except Unanswered:
            if call:
                call.returned = math.inf
            raise

    def _text(self) -> str:
        self._serial += 1
        return f"{self._number}-{self._serial}"

    # -- endpoints -----------------------------------------------------------------------------------------------------

    def _patch(self) -> None:
        self._change(self._random.choice(SCORERS), None)

    def _patch_what_was_read(self) -> None:
        name = self._random.choice(SCORERS)
        self._change(name, self._ask(lambda server: server.workspace.endpoint(OWNER, SCORER, name)[1]))

    def _change(self, name: str, seen: EndpointRow | None) -> None:
        model, if_match = f"models/{self._text()}", etag(seen) if seen else None
        if seen:
            self._simulation.meant[model] = seen.resources[0].relative_location
        pause = self._random.uniform(0.0, 2.0)

        def change(server: Server) -> None:
            row = server.workspace.endpoint(OWNER, SCORER, name)[1]
            # The model is fetched and tried.
            sleep(pause)
            models = (ResourceRow(row.id, RESOURCE, "", model, digest(model)),)
            server.workspace.change(row, EndpointSettings(), models, if_match)

        with self._noted(WRITE, ("model", name), model):
            self._ask(change, repeated=seen is not None)

    def _describe(self) -> None:
        name, settings = self._random.choice(SCORERS), EndpointSettings(description=self._text())

        def change(server: Server) -> None:
            server.workspace.change(server.workspace.endpoint(OWNER, SCORER, name)[1], settings)

        with self._noted(WRITE, ("description", name), settings.description):
            self._ask(change)

    def _get(self, name: str = "") -> None:
        name = name or self._random.choice(SCORERS)
        with self._noted(READ, ("model", name)) as model, self._noted(READ, ("description", name)) as description:
            row = self._ask(lambda server: server.workspace.endpoint(OWNER, SCORER, name)[1])
            model.value, description.value = row.resources[0].relative_location, row.description

    def _score(self, name: str = "") -> None:
        name = name or self._random.choice(SCORERS)
        own = self._simulation.endpoints[name]

        def live(server: Server) -> str:
            row = server.workspace.endpoint_for_call("w", own.id, own.primary_key, SCORE)
            return row.resources[0].relative_location

        with self._noted(WEAK, ("model", name)) as model:
            model.value = self._ask(live)

    def _regenerate(self) -> None:
        with self._noted(WRITE, ("key", "k"), UNTOLD) as call:
            after = self._ask(lambda server: server.workspace.regenerate(OWNER, SCORER, "k", KeyType.SECONDARY))
            call.value = after.secondary_key
        self._simulation.keys.append(after.secondary_key)

    def _call_with_key(self) -> None:
        """A key that opens is the endpoint's own, or was it not long ago."""
        key = self._random.choice(self._simulation.keys[-3:] or [self._simulation.key])
        own = self._simulation.endpoints["k"].id
        call = Call(WEAK, ("key", "k"), key, self._server, self._simulation.history.clock())
        if self._random.random() < 0.5:
            self._ask(lambda server: server.workspace.endpoint_for_call("w", own, key, SCORE))
        else:
            self._ask(lambda server: server.workspace.caller("w", key, GET_ENDPOINT))
        call.returned, call.answered = self._simulation.history.clock(), True
        self._simulation.history.add(call)

    def _read_key(self) -> None:
        with self._noted(READ, ("key", "k")) as call:
            call.value = self._ask(lambda server: server.workspace.endpoint(OWNER, SCORER, "k")[1]).secondary_key

    # -- jobs ----------------------------------------------------------------------------------------------------------

    def _submit(self) -> None:
        trainer, output = self._simulation.endpoints[self._random.choice(TRAINERS)], f"out/{self._text()}.ilearner"
        request = JobRequest({}, {"output1": BlobReference(output)})
        self.jobs.append(KnownJob(self._ask(lambda server: server.jobs.submit(trainer, request)), output))
        self._trainers[self.jobs[-1].id] = trainer

    def _some_job(self) -> KnownJob | None:
        return self._random.choice(self.jobs) if self.jobs else None

    def _tell(self, job: KnownJob, verb: str, *, repeated: bool = False) -> None:
        job.asked.add(verb)
        trainer = self._trainers[job.id]
        self._ask(lambda server: getattr(server.jobs, verb)(trainer, job.id), repeated=repeated)
        job.answered.add(verb)

    def _start(self) -> None:
        job = next((job for job in self.jobs if not job.asked), None)
        if job:
            self._tell(job, "start", repeated=True)

    def _cancel(self) -> None:
        job = self._some_job()
        if job and job.end is None and self._world.chance(0.5):
            self._tell(job, "cancel")

    def _see(self, job: KnownJob | None = None) -> None:
        job = job or self._some_job()
        if job:
            cancelled, trainer = "cancel" in job.answered, self._trainers[job.id]
            now = self._ask(lambda server: server.jobs.get(trainer, job.id))
            lines = [line.text for line in self._ask(lambda server: server.jobs.lines(job.id))]
            self._check(job, now, lines, cancelled)

    def _check(self, job: KnownJob, now: Job, lines: list[str], cancelled: bool) -> None:
        """A job does what it was told, ends once, and leaves its output once."""
        hold, status, name = self._world.hold, now.status, f"Job {job.id[:6]}"
        hold(job.end in (None, status), f"{name} was {job.end}, and is {status}.")
        hold(bool(job.asked) or status is JobStatus.NOT_STARTED, f"{name} was not started, and is {status}.")
        hold(not cancelled or status.terminal, f"{name} was cancelled, and is {status}.")
        hold(status is not JobStatus.CANCELLED or "cancel" in job.asked, f"{name} was not cancelled, and is.")
        failed = status is JobStatus.FAILED
        hold(not failed or any(why in (now.details or "") for why in FAILURES), f"{name} failed: {now.details}")
        ends = [line for line in lines if line.startswith(("Finished", "Failed", "Cancelled"))]
        hold(len(ends) <= 1 and bool(ends) >= status.terminal, f"{name} is {status}, and says {ends}.")
        if status is JobStatus.FINISHED:
            written = self._simulation.blobs.blobs.get(job.output)
            hold(written == f"model of {job.id}", f"{name} has finished, and its output is {written}.")
        if status.terminal:
            job.end = status


@contextmanager
def _instead_of_threads(world: World) -> Iterator[None]:
    names: list[tuple[Any, str, Any]] = [
        (peers, "time", machines.Time),
        (peers, "uuid", world),
        (peers, "threading", THREADING),
        (peers, "new_listener", Listener),
        (peers, "BEAT_SECONDS", BEAT),
        (runner, "threading", THREADING),
        (runner, "ThreadPoolExecutor", Pool),
        (work, "threading", THREADING),
        (executor, "time", machines.Time),
        (jobs_module, "uuid", world),
    ]
    before = [getattr(module, name) for module, name, _ in names]
    try:
        for module, name, value in names:
            setattr(module, name, value)
        yield
    finally:
        for (module, name, _), value in zip(names, before, strict=True):
            setattr(module, name, value)
