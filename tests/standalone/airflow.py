"""A real Airflow instance of one's own: ``airflow standalone`` in a private home, on free ports, in its own session."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import psutil
import requests

T = TypeVar("T")

#: Deadline of every wait, in seconds: generous, because the machine may be busy; no test asserts how long it took.
PATIENCE = 600
#: Seconds to end in at Ctrl-C. The DAG processor often takes longer; nothing of the instance is needed any more.
_GRACE = 5


def wait_for(what: str, look: Callable[[], T | None], patience: float = PATIENCE) -> T:
    """The first true answer of ``look``."""
    deadline = time.monotonic() + patience
    while not (answer := look()):
        assert time.monotonic() < deadline, f"waited {patience:g} s in vain: {what}"
        time.sleep(0.25)
    return answer


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in taken:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in taken]


class Airflow:
    """A running instance.

    :param home: its ``AIRFLOW_HOME``; ``home/dags`` holds its DAGs.
    :param database: address of an empty PostgreSQL database; on SQLite its processes block each other.
    :param environment: further environment variables: connections, paths.
    """

    def __init__(self, home: Path, database: str, environment: Mapping[str, str]) -> None:
        self.home = home
        self.output = home.parent / f"{home.name}.log"
        api, worker_logs, trigger_logs = free_ports(3)
        self.url = f"http://127.0.0.1:{api}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "10",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(api),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(worker_logs),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(trigger_logs),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database.replace("postgresql:", "postgresql+psycopg:"),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": database.replace("postgresql:", "postgresql+psycopg_async:"),
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            # What a crash costs in waiting, made short; in production these are minutes.
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "12",
            **environment,
        }
        self._leaders: list[subprocess.Popen[bytes]] = []
        self._http = requests.Session()

    # -- processes -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start all components and wait until they are healthy."""
        self._start("standalone")
        wait_for("Airflow is healthy", self._healthy)
        token = self._http.get(f"{self.url}/auth/token", timeout=30).json()["access_token"]
        self._http.headers["Authorization"] = f"Bearer {token}"

    def start_triggerer(self) -> None:
        """Start another triggerer, as a supervisor of services would after a crash."""
        self._start("triggerer")

    def _start(self, command: str) -> None:
        with self.output.open("ab") as log:
            # Tasks have process groups of their own: what belongs to the instance is known by its session.
            self._leaders.append(
                subprocess.Popen(
                    [sys.executable, "-m", "airflow", command],
                    start_new_session=True,
                    cwd=self.home,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            )

    def _healthy(self) -> bool:
        assert self._leaders[0].poll() is None, f"airflow standalone ended:\n{self.output.read_text()[-3000:]}"
        try:
            said = self._http.get(f"{self.url}/api/v2/monitor/health", timeout=30).json()
        except (requests.RequestException, ValueError):
            return False
        parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return all(said[part]["status"] == "healthy" for part in parts)

    def processes(self) -> list[psutil.Process]:
        """All processes of this instance, and no others."""
        sessions = {leader.pid for leader in self._leaders}
        ours = [process for process in psutil.process_iter() if _session(process.pid) in sessions]
        return [process for process in ours if _is_alive(process)]

    def kill(self, process: psutil.Process) -> None:
        """``kill -9`` a process of this instance.

        :param process: one of :meth:`processes`.
        """
        assert process in self.processes(), f"{process} is not ours"
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()

    def terminate(self, process: psutil.Process) -> None:
        """SIGTERM to a process of this instance.

        :param process: one of :meth:`processes`.
        """
        assert process in self.processes(), f"{process} is not ours"
        process.terminate()

    def triggerers(self) -> list[psutil.Process]:
        """The processes of all triggerers."""
        mains = [process for process in self.processes() if "triggerer" in _words(process)]
        assert mains, "there is no triggerer"
        found = {process: None for main in mains for process in (main, *_children(main))}
        return [process for process in self.processes() if process in found]

    def kill_triggerers(self) -> None:
        """``kill -9`` all of them."""
        for process in self.triggerers():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    @contextlib.contextmanager
    def triggerers_suspended(self) -> Iterator[None]:
        """Those that run now hang."""
        hanging = self.triggerers()
        for process in hanging:
            process.suspend()
        try:
            yield
        finally:
            for process in hanging:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()

    def stop(self) -> None:
        """End it as Ctrl-C would, then whatever is left."""
        for leader in self._leaders:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(leader.pid, signal.SIGINT)
        psutil.wait_procs(self.processes(), timeout=_GRACE)
        while left := self.processes():
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, timeout=5)
        for leader in self._leaders:
            leader.wait()
        self._http.close()

    def cli(self, *arguments: str) -> str:
        """What an ``airflow`` command prints."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"airflow {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def cli_fails(self, *arguments: str) -> str:
        """What an ``airflow`` command prints that is to fail."""
        done = self.run(*arguments)
        assert done.returncode != 0, f"airflow {' '.join(arguments)} did not fail:\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """An ``airflow`` command, however it ends."""
        return subprocess.run(
            [sys.executable, "-m", "airflow", *arguments],
            cwd=self.home,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    # -- the REST API --------------------------------------------------------------------------------------------------

    def api(self, method: str, path: str, **options: Any) -> Any:
        """The answer of a REST call."""
        answer = self._http.request(method, f"{self.url}{path}", timeout=60, **options)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def knows(self, dag_id: str) -> bool:
        """Whether the DAG has been parsed."""
        return bool(self._http.get(f"{self.url}/api/v2/dags/{dag_id}", timeout=60).ok)

    def trigger(self, dag_id: str, run_id: str, **conf: Any) -> None:
        """Start a run."""
        data = {"dag_run_id": run_id, "logical_date": None, "conf": conf}

        def post() -> bool:
            answer = self._http.post(f"{self.url}/api/v2/dags/{dag_id}/dagRuns", json=data, timeout=60)
            # A DAG that is known is not there yet for a moment, on a busy machine.
            assert answer.ok or answer.status_code == 404, f"{dag_id}: {answer.status_code} {answer.text}"
            return bool(answer.ok)

        wait_for(f"{dag_id} is parsed", lambda: self.knows(dag_id) and post())

    def task(self, dag_id: str, run_id: str, task_id: str = "train") -> dict[str, Any]:
        """A task instance."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        return dict(self.api("GET", path))

    def wait_for_task(self, dag_id: str, run_id: str, *states: str) -> dict[str, Any]:
        """The task instance once it is in one of these states."""

        def look() -> dict[str, Any] | None:
            found = self.task(dag_id, run_id)
            if found["state"] in ("success", "failed") and found["state"] not in states:
                raise AssertionError(f"{dag_id} {run_id} ended {found['state']}:\n{self.log(dag_id, run_id)[-4000:]}")
            return found if found["state"] in states else None

        return wait_for(f"{dag_id} {run_id} is {' or '.join(states)}", look)

    def wait_for_run(self, dag_id: str, run_id: str, state: str) -> None:
        """Until the whole run has this state: it comes some moments after its last task's."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}"
        wait_for(f"the run {run_id} is {state}", lambda: self.api("GET", path)["state"] == state)

    def clear(self, dag_id: str, run_id: str) -> None:
        """Clear the task, as the button in the UI does."""
        data = {"dry_run": False, "dag_run_id": run_id, "task_ids": ["train"], "only_failed": False}
        self.api("POST", f"/api/v2/dags/{dag_id}/clearTaskInstances", json=data)

    def mark_failed(self, dag_id: str, run_id: str) -> None:
        """Mark the task failed, as the button in the UI does."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/train"
        self.api("PATCH", path, json={"new_state": "failed"})

    def returned(self, dag_id: str, run_id: str, task_id: str = "train") -> Any:
        """What a task returned."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
        return self.api("GET", path, params={"stringify": False})["value"]

    def log(self, dag_id: str, run_id: str, task_id: str = "train") -> str:
        """The logs of all attempts at a task."""
        folder = self.home / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task_id}"
        return "".join(path.read_text(errors="replace") for path in sorted(folder.glob("attempt=*")))


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _words(process: psutil.Process) -> list[str]:
    try:
        return " ".join(process.cmdline()).replace("/", " ").split()
    except psutil.Error:
        return []


@contextlib.contextmanager
def running(home: Path, database: str, environment: Mapping[str, str]) -> Iterator[Airflow]:
    """An instance that leaves nothing behind, however its start ends.

    :param home: see :class:`Airflow`.
    :param database: see :class:`Airflow`.
    :param environment: see :class:`Airflow`.
    """
    instance = Airflow(home, database, environment)
    try:
        instance.start()
        yield instance
    finally:
        instance.stop()
