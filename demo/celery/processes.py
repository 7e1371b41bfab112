"""The processes of an Airflow with the CeleryExecutor, and one of its workers killed with all that it runs."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil

from demo.celery.services import free_port
from demo.processes import ROOT, started

WORKERS = ("worker-1", "worker-2")
_COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
#: Seconds without a sign of life after which a task is taken for dead: short, for those who watch.
_SIGN_OF_LIFE = 45


def settings(home: Path, database: str, broker: str, connection: Mapping[str, str]) -> dict[str, str]:
    """Environment of every process of this Airflow.

    :param home: ``AIRFLOW_HOME``.
    :param database: URL of the metadata database, without driver.
    :param broker: URL of the Redis.
    :param connection: the server's ``connection.json``.
    """
    url = f"http://127.0.0.1:{free_port()}"
    driver = f"postgresql+psycopg:{database}"
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "demo" / "celery" / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__HOSTNAME_CALLABLE": "demo.celery.worker_name.worker_name",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__FERNET_KEY": _fernet_key(),
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "AIRFLOW__API__SECRET_KEY": secrets.token_hex(32),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": url.rpartition(":")[2],
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": driver,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": driver,
        "AIRFLOW__CELERY__BROKER_URL": broker,
        "AIRFLOW__CELERY__RESULT_BACKEND": broker.replace("/0", "/1"),
        "AIRFLOW__CELERY__WORKER_CONCURRENCY": "1",
        "AIRFLOW__CELERY__WORKER_PREFETCH_MULTIPLIER": "1",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(_SIGN_OF_LIFE),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT": connection["airflow_conn"],
    }


def _fernet_key() -> str:
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode()


class Components:
    """Scheduler, DAG processor, API server, triggerer and two workers; they end with the stack.

    :param stack: they are entered into.
    :param home: where they log.
    :param environment: see :func:`settings`.
    """

    def __init__(self, stack: contextlib.ExitStack, home: Path, environment: Mapping[str, str]) -> None:
        self._stack, self._home, self._environment = stack, home, environment
        self._workers: dict[str, subprocess.Popen[bytes]] = {}
        for name in _COMPONENTS:
            self._start(name, name)
        self.start_workers()

    def start_workers(self) -> None:
        """Start those that do not run."""
        for name in WORKERS:
            if name not in self._workers:
                words = ("celery", "worker", "--celery-hostname", f"{name}@%h", "--concurrency", "1")
                self._workers[name] = self._start(name, *words)

    def _start(self, name: str, *words: str) -> subprocess.Popen[bytes]:
        log = self._stack.enter_context((self._home / f"{name}.log").open("ab"))
        ports = {f"AIRFLOW__LOGGING__{kind}_LOG_SERVER_PORT": str(free_port()) for kind in ("WORKER", "TRIGGER")}
        environment = {**self._environment, "WORKER_NAME": name, **ports}
        command = [sys.executable, "-m", "airflow", *words]
        return self._stack.enter_context(started(command, stdout=log, stderr=log, env=environment))

    def kill(self, name: str) -> None:
        """``kill -9`` a worker and all that it runs, as if its machine were gone.

        :param name: of the worker.
        """
        leader = psutil.Process(self._workers.pop(name).pid)
        # The leader first: it would start its children again. A task has a process group of its own.
        family = [leader, *leader.children(recursive=True)]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
