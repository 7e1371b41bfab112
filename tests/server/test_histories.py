"""Histories of all calls while servers, trainings, PostgreSQL and Azurite are killed: all fits into one order.

`make crash` does 200 rounds; HISTORY_ROUNDS and HISTORY_SEED say how many, and which. `make soak` asks for as long as
SOAK_SECONDS says, and kills nothing.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.client.retries import NO_RETRIES
from airflow_provider_azureml_classic.exceptions import ServiceUnavailable
from airflow_provider_azureml_classic.server.state.peers import FRESH_SECONDS
from tests.support.azurite import Azurite
from tests.support.histories import READ, UNTOLD, WEAK, WRITE, Call, History, Refused, Unanswered, Unreached
from tests.support.history_clients import ELSEWHERE, MODELS, SELDOM, HistoryClient, Shared
from tests.support.postgres import cluster
from tests.support.processes import default_of, files, group, memory, until
from tests.support.service import SCORING, TRAINING, declaration, line
from tests.support.two_servers import Pair

ROUNDS = int(os.environ.get("HISTORY_ROUNDS", "1"))
SEED = int(os.environ.get("HISTORY_SEED", str(random.SystemRandom().randrange(10**6))))
CLIENTS = 4
SOAK = float(os.environ.get("SOAK_SECONDS", "30"))
#: What a server may hold more at the end than after a third of the time, in MiB, and files that it may have open more.
GROWTH, OPENED = 64, 40


# -- the checker -----------------------------------------------------------------------------------------------------


def history(*calls: tuple[str, Any, float, float], lost: tuple[tuple[Any, float, float], ...] = ()) -> History:
    """A history of one register: answered calls, and writes that were not answered."""
    made = History()
    made.calls = [Call(kind, "it", value, "a", begun, ended, True) for kind, value, begun, ended in calls]
    made.calls += [Call(WRITE, "it", value, "a", begun, ended) for value, begun, ended in lost]
    return made


def holds(made: History, stale: float = 0) -> bool:
    """Whether the checker finds nothing; the register was 0 at first."""
    try:
        made.check(lambda register: 0, stale)
    except AssertionError:
        return False
    return True


def test_what_can_be_true_is_found_to_be() -> None:
    """Calls at the same time in either order, writes without an answer that happened, happened late, or did not."""
    one = (WRITE, 1, 0.0, 1.0)
    assert holds(history(one, (READ, 0, 0.1, 0.9), (READ, 1, 0.2, 0.8), (READ, 1, 2, 3)))
    assert holds(history(one, (READ, 1, 2, 3), lost=((2, 0, 5),)))
    assert holds(history(one, (READ, 1, 2, 3), (READ, 2, 4, 4.5), lost=((2, 0, 5),)))
    assert holds(history((WRITE, UNTOLD, 0, 1), (READ, "key", 2, 3), (READ, "key", 4, 5)))
    assert holds(history(one, (WEAK, 0, 0.5, 2), (WEAK, 1, 0.1, 0.2)))
    assert holds(history(one, (WEAK, 2, 2, 3), (READ, 1, 6, 7), lost=((2, 0, 5),)))


def test_what_cannot_be_true_is_found() -> None:
    """Each kind of loss: an answered write, an order that turns round, a key, a model, a write that comes too late."""
    one = (WRITE, 1, 0.0, 1.0)
    assert not holds(history(one, (READ, 0, 2, 3)))
    assert not holds(history(one, (READ, 1, 0.1, 0.3), (READ, 0, 0.5, 0.6)))
    assert not holds(history(one, (READ, 7, 2, 3)))
    assert not holds(history(one, (READ, 2, 2, 3), (READ, 1, 4, 5), lost=((2, 0, 5),)))
    assert not holds(history(one, (READ, 1, 5.5, 6), (READ, 2, 7, 8), lost=((2, 0, 5),)))
    assert not holds(history((WRITE, UNTOLD, 0, 1), (READ, "key", 2, 3), (READ, "other", 4, 5)))
    assert not holds(history(one, (READ, 1, 2, 3), (READ, 0, 4, 5), lost=((UNTOLD, 0, 5),)))
    assert not holds(history(one, (WEAK, 0, 1.5, 2)))
    assert not holds(history(one, (WEAK, 3, 0.5, 2)))
    assert not holds(history(one, (WEAK, 1, -2, -1)))


def test_another_server_may_be_late_for_a_while() -> None:
    """And no longer."""
    made = history((WRITE, 1, 0.0, 1.0), (WEAK, 0, 2.5, 2.6))
    made.calls[1].server = "b"
    assert not holds(made)
    assert holds(made, stale=2)


@pytest.mark.parametrize("seed", range(20))
def test_a_tampered_history_is_caught(seed: int) -> None:
    """A true history holds, however its calls overlap; with one answer changed to an older value it does not."""
    choices = random.Random(seed)  # noqa: S311 - to be repeated, not kept secret
    made, value, moment = History(), 0, 0.0
    for number in range(1, 60):
        moment += 1
        write = choices.random() < 0.4
        value = number if write else value
        begun, ended = moment - choices.uniform(0, 2), moment + choices.uniform(0, 2)
        made.calls.append(Call(WRITE if write else READ, "it", value, "a", begun, ended, True))
    assert holds(made)
    late = choices.choice([call for call in made.calls[20:] if call.kind == READ])
    older = [call.value for call in made.calls if call.kind == WRITE and call.returned < late.invoked - 4]
    late.value = older[-2] if len(older) > 1 else -1
    assert not holds(made)


def test_calls_are_noted_as_they_ended() -> None:
    """An answer, an error that tells that nothing happened, and none at all."""
    clock = iter(range(100))
    made = History(clock=lambda: float(next(clock)))
    with made.call(WRITE, "it", "a", 1):
        pass
    with made.call(WRITE, "it", "a", 2):
        raise Refused
    with pytest.raises(Unanswered), made.call(WRITE, "it", "a", 3):
        raise Unanswered
    with pytest.raises(Unreached), made.call(WRITE, "it", "a", 4):
        raise Unreached
    with pytest.raises(Unanswered), made.call(READ, "it", "a"):
        raise Unanswered
    with pytest.raises(AssertionError, match="could not be read"), made.call(READ, "it", "a"):
        raise Refused
    assert [(call.value, call.answered) for call in made.calls] == [(1, True), (3, False)]


# -- what is killed --------------------------------------------------------------------------------------------------


class Killed:
    """Two servers, their PostgreSQL and a storage account, and clients; something is killed in each round.

    :param pair: the servers.
    :param azurite: the account.
    :param contents: model files, by what they answer.
    """

    def __init__(self, pair: Pair, azurite: Azurite, contents: dict[float, bytes]) -> None:
        self.pair, self.azurite = pair, azurite
        self.random = random.Random(SEED)  # noqa: S311 - to be repeated, not kept secret
        self.counts: Counter[str] = Counter()
        #: Those of the next rounds: of seven, each comes once, and a server's end twice.
        self._faults: list[Callable[[], None]] = []
        with pair.client("a") as client:
            service = client.find_web_service(SCORING).id
            endpoints = {name: client.add_endpoint(service, name) for name in ("e0", "e1", SELDOM)}
            keyed = client.add_endpoint(service, "k")
            trainer = default_of(client, TRAINING)
            place = pair.servers["a"].sas
            client.store_blob(place("data/line.csv", "cw"), line(5).encode())
        clients = {name: pair.client(name, retries=NO_RETRIES, timeout=60) for name in "ab"}
        urls = {name: pair.url(name) for name in "ab"}
        self.shared = Shared(History(), clients, urls, place, azurite.sas, trainer, endpoints, keyed, contents)
        self.clients = [HistoryClient(number, self.shared, SEED) for number in range(CLIENTS)]
        for one in self.clients:
            one.start()

    def first(self, register: Hashable) -> Any:
        """What was there at first."""
        kind, name = register  # type: ignore[misc]
        if kind == "model":
            return self.shared.first(name)
        return {"there": False, "key": self.shared.keyed.secondary_key}.get(kind)

    def load(self) -> None:
        """Let the clients ask."""
        for one in self.clients:
            one.load.set()

    def round(self) -> None:
        """Load, one fault under it, a while in which it lasts, and its end."""
        self.load()
        time.sleep(self.random.uniform(0.2, 1.5))
        if not self._faults:
            others = [self.both, self.training, self.database, self.storage, self.pause]
            self._faults = self.random.sample([self.server, self.server, *others], 7)
        fault = self._faults.pop()
        self.counts[fault.__name__] += 1
        fault()
        time.sleep(self.random.uniform(0, 0.5))
        self.raise_errors()

    def raise_errors(self) -> None:
        """Raise what a client found."""
        for one in self.clients:
            if one.error:
                raise one.error

    def ask(self, seconds: float) -> int:
        """Let the clients ask for a while; how many calls were answered."""
        self.load()
        answered, ends = 0, time.monotonic() + seconds
        while time.monotonic() < ends:
            time.sleep(0.5)
            self.raise_errors()
            answered += self.shared.history.forget()
        return answered

    def server(self) -> None:
        """One server is killed, and started again while the other one goes on."""
        name = self.random.choice("ab")
        self.pair.servers[name].kill()
        time.sleep(self.random.uniform(0, 1))
        self.pair.start(name)

    def both(self) -> None:
        """Both servers are killed."""
        for name in "ab":
            self.pair.servers[name].kill()
        for name in "ab":
            self.pair.start(name)

    def training(self) -> None:
        """A training process is killed, if there is one."""
        server = self.pair.servers[self.random.choice("ab")].process.pid
        family = group(server)
        trainings = [process for process, parent in family.items() if parent not in (server, 1) and process != server]
        if trainings:
            os.kill(self.random.choice(trainings), signal.SIGKILL)

    def database(self) -> None:
        """PostgreSQL ends as in a crash, and is started again."""
        self.pair.cluster.stop()
        time.sleep(self.random.uniform(0, 1))
        self.pair.cluster.start()

    def storage(self) -> None:
        """Azurite ends in the middle of its calls, and is started again."""
        self.azurite.stop(orderly=True)
        time.sleep(self.random.uniform(0, 2))
        self.azurite.start()

    def pause(self) -> None:
        """One server stands still for longer than what it remembers is good for."""
        process = self.pair.servers[self.random.choice("ab")].process
        process.send_signal(signal.SIGSTOP)
        time.sleep(self.random.uniform(0.5, FRESH_SECONDS + 1))
        process.send_signal(signal.SIGCONT)

    def finish(self) -> None:
        """When all is quiet everything is read through both servers, and all jobs that were started end."""
        for one in self.clients:
            one.load.clear()
            one.over.set()
            one.join(90)
            assert not one.is_alive()
            assert one.error is None
        for name in "ab":
            client = self.shared.clients[name]
            until("it is ready", lambda client=client: answers(client), 60)
        for one in self.clients:
            until("all can be read", lambda one=one: self.was_read(one), 60)
            started = [job for job in one.jobs.values() if "start" in job.answered]
            until("its jobs have ended", lambda one=one, started=started: self.have_ended(one, started), 120)
        self.shared.history.check(self.first, FRESH_SECONDS, lambda value: self.shared.slopes.get(value, value))

    @staticmethod
    def was_read(client: HistoryClient) -> bool:
        """Read everything through both."""
        try:
            client.read_all()
        except Unanswered:
            return False
        return True

    def have_ended(self, client: HistoryClient, jobs: list[Any]) -> bool:
        """Whether they have."""
        return self.was_read(client) and all(job.end is not None for job in jobs)


def answers(client: Client) -> bool:
    """Whether the server has the database again."""
    try:
        return bool(client.list_web_services())
    except ServiceUnavailable:
        return False


@pytest.fixture
def killed(trained: Path, tmp_path: Path) -> Iterator[Killed]:
    """Two servers on a PostgreSQL and beside a storage account of their own, and clients."""
    declaration(tmp_path, TRAINING)
    models = trained / "data" / "blobs" / "models"
    with ExitStack() as stack:
        azurite = Azurite(tmp_path / "azurite")
        stack.callback(azurite.stop)
        azurite.put(ELSEWHERE[1], (models / "twenty.ilearner").read_bytes())
        azurite.put("out/any", b"")
        pair = Pair(tmp_path, stack.enter_context(cluster()), *azurite.mapped)
        stack.callback(pair.close)
        contents = {slope: (models / f"{name}.ilearner").read_bytes() for slope, name in MODELS.items()}
        yield Killed(pair, azurite, contents)


@pytest.mark.long
@pytest.mark.slow
def test_there_is_one_order(killed: Killed, capsys: pytest.CaptureFixture[str]) -> None:
    """No answered write is lost, no model answers that was not live then, and no job has two ends or outputs."""
    print(f"HISTORY_ROUNDS={ROUNDS} HISTORY_SEED={SEED}")
    for _ in range(ROUNDS):
        killed.round()
    killed.finish()
    calls = killed.shared.history.calls
    ends = Counter(job.end.value for one in killed.clients for job in one.jobs.values() if job.end)
    with capsys.disabled():
        faults = ", ".join(f"{count} {what}" for what, count in sorted(killed.counts.items()))
        unanswered = sum(not call.answered for call in calls)
        jobs = ", ".join(f"{count} {what}" for what, count in sorted(ends.items()))
        sys.stdout.write(
            f"\nseed {SEED}: {faults}; {len(calls)} calls, {unanswered} writes not answered; jobs: {jobs}\n"
        )


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_nothing_grows(killed: Killed, capsys: pytest.CaptureFixture[str]) -> None:
    """However long all verbs are asked of two servers, they hold no more memory and have no more files open."""
    processes = [server.process.pid for server in killed.pair.servers.values()]
    killed.ask(SOAK / 3)
    at_first = [(memory(process), files(process)) for process in processes]
    answered = killed.ask(SOAK * 2 / 3)
    told = [f"{answered} calls"]
    for process, (mib, opened) in zip(processes, at_first, strict=True):
        grown, more = memory(process) - mib, files(process) - opened
        told.append(f"{mib:.0f} MiB {grown:+.0f}, {more:+d} files")
        assert grown < GROWTH
        assert more < OPENED
    with capsys.disabled():
        sys.stdout.write(f"\n{'; '.join(told)}\n")
