"""Training processes: the death of one, or a cancelled job, touches no other job."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, CancelledError
from pathlib import Path
from unittest.mock import Mock

import pytest

from airflow_provider_azureml_classic.protocol.jobs import JobRequest, JobStatus
from airflow_provider_azureml_classic.server.jobs import processes
from airflow_provider_azureml_classic.server.jobs.processes import ProcessExecutor
from tests.support import wait_for_job
from tests.support.held_server import HeldServer
from tests.support.processes import until
from tests.support.service import line

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workers() -> Iterator[ProcessExecutor]:
    """Two training processes."""
    made = ProcessExecutor(2)
    yield made
    made.close()


def mark_and_wait(folder: Path) -> int:
    """Say which process this is, and wait for the file ``go``."""
    (folder / str(os.getpid())).touch()
    while not (folder / "go").exists():
        time.sleep(0.02)
    return os.getpid()


def marks(folder: Path) -> set[int]:
    """The processes that said so."""
    return {int(path.name) for path in folder.iterdir() if path.name.isdigit()}


def test_a_killed_process_repeats_its_own_work_only(workers: ProcessExecutor, tmp_path: Path) -> None:
    """The other one goes on in its process; what was lost is begun once more."""
    lost, other = tmp_path / "lost", tmp_path / "other"
    lost.mkdir(), other.mkdir()
    futures = [workers.submit(mark_and_wait, folder) for folder in (lost, other)]
    until("both have begun", lambda: marks(lost) and marks(other))
    (first,), (undisturbed,) = marks(lost), marks(other)
    os.kill(first, signal.SIGKILL)
    until("it is begun again", lambda: len(marks(lost)) == 2)
    for folder in (lost, other):
        (folder / "go").touch()
    assert futures[0].result(30) in marks(lost) - {first}
    assert (futures[1].result(30), marks(other)) == (undisturbed, {undisturbed})


def test_work_that_kills_its_process_twice_fails(workers: ProcessExecutor) -> None:
    """Memory that is short stays short: it is not begun for ever, and the next work is done."""
    with pytest.raises(BrokenExecutor):
        workers.submit(os._exit, 1).result(30)
    assert workers.submit(abs, -3).result(30) == 3


def test_a_process_that_is_killed_while_idle_is_replaced(workers: ProcessExecutor) -> None:
    """Nothing waits in it, so nothing fails."""
    for _ in range(3):
        os.kill(workers.submit(os.getpid).result(30), signal.SIGKILL)
        assert workers.submit(abs, -3).result(30) == 3


def test_cancelled_work_is_stopped_and_its_place_is_free(workers: ProcessExecutor, tmp_path: Path) -> None:
    """Both places are taken by work that would last for ever; a third waits until one of them is cancelled."""
    folders = [tmp_path / str(name) for name in "ab"]
    for folder in folders:
        folder.mkdir()
    futures = [workers.submit(mark_and_wait, folder) for folder in folders]
    until("both have begun", lambda: all(marks(folder) for folder in folders))
    third = workers.submit(abs, -3)
    assert futures[0].cancel()
    with pytest.raises(CancelledError):
        futures[0].result(30)
    assert third.result(30) == 3
    (stopped,) = marks(folders[0])
    with pytest.raises(ProcessLookupError):
        os.kill(stopped, 0)
    (folders[1] / "go").touch()
    assert futures[1].result(30) in marks(folders[1])
    assert not futures[1].cancel()


def test_work_that_is_cancelled_as_it_begins_does_not_stay(workers: ProcessExecutor, tmp_path: Path) -> None:
    """Whatever moment it is at: no cancelled work keeps its place, and none takes another's process with it."""
    results = []
    for number in range(20):
        (tmp_path / str(number)).mkdir()
        doomed = workers.submit(mark_and_wait, tmp_path / str(number))
        threading.Timer(number / 500, doomed.cancel).start()
        results.append(workers.submit(abs, -number))
        with pytest.raises(CancelledError):
            doomed.result(30)
    assert [future.result(30) for future in results] == list(range(20))


def test_an_error_of_the_work_is_its_own(workers: ProcessExecutor) -> None:
    """It is raised where the result is asked for, and the process goes on."""
    process = workers.submit(os.getpid)
    with pytest.raises(ZeroDivisionError):
        workers.submit(divmod, 1, 0).result(30)
    assert os.kill(process.result(30), 0) is None


def test_nothing_is_begun_after_the_end() -> None:
    """And what runs is ended with its process."""
    pool = ProcessExecutor(1)
    assert pool.submit(abs, -1).result(30) == 1
    held, waiting = pool.submit(time.sleep, 3600), pool.submit(abs, -1)
    until("it runs", held.running)
    pool.close()
    with pytest.raises((BrokenExecutor, CancelledError)):
        held.result(30)
    with pytest.raises((BrokenExecutor, CancelledError)):
        waiting.result(30)
    with pytest.raises(BrokenExecutor):
        pool.submit(abs, -1)


@pytest.fixture
def held(tmp_path: Path) -> Iterator[HeldServer]:
    """A server with two training processes, whose trainings wait."""
    (tmp_path / "held").mkdir()
    server = HeldServer(tmp_path / "held", "--workers", "2")
    server.hold()
    yield server
    server.let_go()
    server.process.stop()


def test_jobs_of_a_server_do_not_share_their_fate(held: HeldServer) -> None:
    """Of two jobs one loses its process, goes on in another and is cancelled; the other one goes on undisturbed."""
    with held.process.client() as client:
        first = held.start_job(client)
        until("the first training has begun", lambda: len(held.trainings()) == 1)
        (doomed,) = held.trainings()
        second = held.start_job(client)
        until("the second training has begun", lambda: len(held.trainings()) == 2)
        (other,) = held.trainings() - {doomed}
        os.kill(doomed, signal.SIGKILL)
        until("the first is begun again", lambda: len(held.trainings()) == 3)
        (again,) = held.trainings() - {doomed, other}
        trainer = held.trainer(client)
        assert {client.get_job(trainer, job).status for job in (first, second)} == {JobStatus.RUNNING}
        client.cancel_job(trainer, first)
        until("its training process has ended", lambda: not Path(f"/proc/{again}").exists())
        assert Path(f"/proc/{other}").exists()
        third = held.start_job(client)
        until("the third has its place", lambda: len(held.trainings()) == 4)
        held.let_go()
        ended = {job: wait_for_job(client, trainer, job).status for job in (first, second, third)}
    assert ended == {first: JobStatus.CANCELLED, second: JobStatus.FINISHED, third: JobStatus.FINISHED}


def test_deleting_an_endpoint_stops_its_training(held: HeldServer) -> None:
    """Its job is gone from the database, so nothing else would."""
    with held.process.client() as client:
        mine = client.add_endpoint(held.trainer(client).web_service_id, "mine")
        job = client.submit_job(mine, JobRequest({"input1": held.process.upload("data/a.csv", line(5))}))
        client.start_job(mine, job)
        until("the training has begun", held.trainings)
        (process,) = held.trainings()
        client.delete_endpoint(mine.web_service_id, "mine")
        until("its process has ended", lambda: not Path(f"/proc/{process}").exists())


def test_closing_ends_work_that_is_just_beginning(tmp_path: Path) -> None:
    """Whatever moment it is at: work whose process is being started when all end does not hold up the end."""
    for number in range(8):
        folder = tmp_path / str(number)
        folder.mkdir()
        made = ProcessExecutor(2)
        future = made.submit(mark_and_wait, folder)
        time.sleep(number / 100)
        closing = threading.Thread(target=made.close, daemon=True)
        closing.start()
        closing.join(30)
        ended = not closing.is_alive()
        (folder / "go").touch()
        assert ended
        assert isinstance(future.exception(30), BrokenExecutor)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[ProcessExecutor]:
    """One training process, which forks from a process that has loaded nothing and so is soon started again."""
    monkeypatch.setattr(processes, "_PRELOADED", [])
    made = ProcessExecutor(1)
    yield made
    server = made.submit(os.getppid).result(60)
    made.close()
    # The next test's has everything loaded.
    os.kill(server, signal.SIGKILL)


def test_the_process_that_others_fork_from_is_killed(alone: ProcessExecutor, tmp_path: Path) -> None:
    """Nobody is told an ``EOFError``: work is begun again each time, even if its own process dies as well."""
    for _ in range(2):
        os.kill(alone.submit(os.getppid).result(60), signal.SIGKILL)
    future = alone.submit(mark_and_wait, tmp_path)
    lost: set[int] = set()
    for killed in (parent, int, parent):
        until("it is begun", lambda: marks(tmp_path) - lost)
        (process,) = marks(tmp_path) - lost
        lost.add(process)
        os.kill(killed(process), signal.SIGKILL)
    until("it is begun again", lambda: marks(tmp_path) - lost)
    (tmp_path / "go").touch()
    assert {future.result(60)} == marks(tmp_path) - lost


def parent(process: int) -> int:
    """The process that forked it."""
    return int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])


def test_no_process_can_be_started(alone: ProcessExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried several times, not for ever, and the reason is not looked for in the work."""
    refused = Mock(submit=Mock(side_effect=ConnectionRefusedError), _processes={})
    monkeypatch.setattr(processes, "RESTARTS", 2)
    with monkeypatch.context() as patch:
        patch.setattr(alone, "_new", lambda: refused)
        with pytest.raises(BrokenExecutor, match="No training process could be started"):
            alone.submit(abs, -3).result(30)
    assert (refused.submit.call_count, alone.submit(abs, -3).result(60)) == (3, 3)


def lose_connection() -> None:
    """As work does whose data cannot be fetched."""
    raise ConnectionResetError("the store went away")


def test_a_lost_connection_of_the_work_is_no_death_of_its_process(alone: ProcessExecutor) -> None:
    """It is the error of the work, which is not begun again."""
    with pytest.raises(ConnectionResetError, match="the store went away"):
        alone.submit(lose_connection).result(60)
