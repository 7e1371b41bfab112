"""The peers that serve models: their environments, how each is started, and how each is asked."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, WORK, say
from benchmarks.processes import free_port, process, wait_until_answered

PEERS = ROOT / "benchmarks" / "peers"
#: What each environment holds besides scikit-learn, numpy and pandas; MLServer does not start with uvloop 0.22.
_PACKAGES = {
    "mlserver": ("mlserver==1.7.1", "mlserver-sklearn==1.7.1", "uvloop<0.22"),
    "bentoml": ("bentoml==1.4.39",),
    "mlflow": ("mlflow==3.17.2",),
}
#: OpenMP threads that wait for the one core would spin: a favour to the peers.
VARIABLES = {"OMP_NUM_THREADS": "1", "BENTOML_DO_NOT_TRACK": "True", "MLFLOW_DISABLE_TELEMETRY": "true"}

#: Seconds that the last fitting for a peer took.
LAST_FIT: dict[str, float] = {}

Rows = Sequence[Sequence[Any]]


def uv() -> list[str]:
    """The ``uv`` command; behind a proxy with its own authority it needs the certificates of the system.

    :raises RuntimeError: it is not installed.
    """
    beside = Path(sys.executable).with_name("uv")
    found = os.environ.get("UV") or (str(beside) if beside.exists() else shutil.which("uv"))
    if found is None:
        raise RuntimeError("uv is not installed. `make bench` installs it; or set UV=/path/to/uv.")
    return [found, *(["--system-certs"] if Path("/etc/ssl/certs/ca-certificates.crt").exists() else [])]


def environment(name: str, packages: Sequence[str]) -> Path:
    """The Python of an environment of its own, made if it is not there yet.

    :param name: of the environment.
    :param packages: what it holds.
    """
    home = WORK / "environments" / name
    python, done = home / "bin" / "python", home / "packages.json"
    wanted = json.dumps(sorted(packages))
    if not done.exists() or done.read_text() != wanted:
        say(f"installing {', '.join(packages)} into {home.relative_to(ROOT)}")
        plain = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
        for words in (
            ["venv", "--quiet", "--clear", "--python", sys.executable, str(home)],
            ["pip", "install", "--quiet", "--compile-bytecode", "--python", str(python), *packages],
        ):
            subprocess.run([*uv(), *words], check=True, env=plain)
        done.write_text(wanted)
    return python


def peer_environment(name: str) -> Path:
    """The Python of a peer, with the scikit-learn that the server has.

    :param name: ``mlserver``, ``bentoml`` or ``mlflow``.
    """
    same = [f"{package}=={version(package)}" for package in ("scikit-learn", "numpy")]
    return environment(name, [*_PACKAGES[name], *same, "pandas"])


@dataclass(frozen=True)
class Target:
    """A server that can be asked to score.

    :param name: as in the tables.
    :param url: of a scoring call.
    :param headers: of a scoring call.
    :param body: of a scoring call, made of columns and rows.
    :param read: probabilities of the second class, made of an answer.
    :param pid: of its first process.
    """

    name: str
    url: str
    headers: dict[str, str]
    body: Callable[[Sequence[str], Rows], Any]
    read: Callable[[Any], list[float]]
    pid: int


def fit(name: str, data: Path, target: Path, form: str = "") -> None:
    """Fit the pipeline in a peer's environment.

    :param name: of the peer.
    :param data: CSV.
    :param target: what to write.
    :param form: see ``peers/pipeline.py``; the peer's own by default.
    """
    command = [peer_environment(name), PEERS / "pipeline.py", data, target, form or name]
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **VARIABLES})
    LAST_FIT[name] = time.perf_counter() - start


def mlserver_body(columns: Sequence[str], rows: Rows) -> Any:
    """A request of the V2 protocol: a tensor a column.

    :param columns: names.
    :param rows: cells.
    """
    inputs = []
    for name, cells in zip(columns, zip(*rows, strict=True), strict=True):
        text = isinstance(cells[0], str)
        tensor = {"name": name, "shape": [len(cells), 1], "datatype": "BYTES" if text else "INT64", "data": cells}
        inputs.append({**tensor, **({"parameters": {"content_type": "str"}} if text else {})})
    return {"parameters": {"content_type": "pd"}, "inputs": inputs, "outputs": [{"name": "predict_proba"}]}


def mlserver_settings(home: Path, ports: Sequence[int], **further: Any) -> None:
    """Write ``settings.json``.

    :param home: where MLServer starts.
    :param ports: of HTTP, gRPC and metrics.
    :param further: settings.
    """
    names = ("http_port", "grpc_port", "metrics_port")
    # In one process, which is what it is fastest with on one core.
    settings = {"host": "127.0.0.1", "parallel_workers": 0, "debug": False, **dict(zip(names, ports, strict=True))}
    (home / "settings.json").write_text(json.dumps({**settings, **further}))


def mlserver_model(folder: Path, name: str, model: Path) -> None:
    """Write the settings of one model.

    :param folder: of the model, below the repository.
    :param name: of the model.
    :param model: fitted pipeline.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parameters = {"uri": str(model), "version": "1"}
    settings = {"name": name, "implementation": "mlserver_sklearn.SKLearnModel", "parameters": parameters}
    (folder / "model-settings.json").write_text(json.dumps(settings))


def _flat(answer: Any) -> list[float]:
    return list(answer["outputs"][0]["data"][1::2])


@contextlib.contextmanager
def mlserver(home: Path, data: Path, core: int | None) -> Iterator[Target]:
    """MLServer with one model.

    :param home: a folder for it.
    :param data: CSV that the model is fitted on.
    :param core: the one core that it may use.
    """
    home.mkdir()
    fit("mlserver", data, home / "model.joblib")
    ports = [free_port() for _ in range(3)]
    mlserver_settings(home, ports)
    mlserver_model(home / "census", "census", home / "model.joblib")
    python = peer_environment("mlserver")
    log = home / "log"
    url = f"http://127.0.0.1:{ports[0]}/v2/models/census/infer"
    with process([python.with_name("mlserver"), "start", home], log, core=core, environment=VARIABLES) as started:
        target = Target("MLServer", url, {"content-type": "application/json"}, mlserver_body, _flat, started.pid)
        with _ready(target, started, data, log):
            yield target


@contextlib.contextmanager
def bentoml(home: Path, data: Path, core: int | None) -> Iterator[Target]:
    """BentoML with one model.

    :param home: a folder for it.
    :param data: CSV that the model is fitted on.
    :param core: the one core that it may use.
    """
    home.mkdir()
    fit("bentoml", data, home / "model.joblib")
    (home / "service.py").write_text((PEERS / "bento.py").read_text())
    port, log = free_port(), home / "log"
    bin_ = peer_environment("bentoml").parent
    variables = {**VARIABLES, "CENSUS_MODEL": str(home / "model.joblib"), "BENTOML_HOME": str(home / "store")}
    variables["PATH"] = f"{bin_}{os.pathsep}{os.environ['PATH']}"
    command = [bin_ / "bentoml", "serve", "service:Census", "--host", "127.0.0.1", "--port", str(port)]
    with process(command, log, core=core, environment=variables, cwd=home) as started:
        target = Target(
            "BentoML",
            f"http://127.0.0.1:{port}/predict",
            {"content-type": "application/json"},
            lambda columns, rows: {"table": {"columns": list(columns), "data": rows}},
            lambda answer: [row[1] for row in answer],
            started.pid,
        )
        with _ready(target, started, data, log):
            yield target


@contextlib.contextmanager
def mlflow(home: Path, data: Path, core: int | None) -> Iterator[Target]:
    """``mlflow models serve``.

    :param home: a folder for it.
    :param data: CSV that the model is fitted on.
    :param core: the one core that it may use.
    """
    home.mkdir()
    fit("mlflow", data, home / "model")
    port, log = free_port(), home / "log"
    bin_ = peer_environment("mlflow").parent
    command = [bin_ / "mlflow", "models", "serve", "-m", home / "model", "-p", str(port), "--workers", "1"]
    variables = {**VARIABLES, "PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}"}
    with process([*command, "--env-manager", "local"], log, core=core, environment=variables, cwd=home) as started:
        target = Target(
            "mlflow models serve",
            f"http://127.0.0.1:{port}/invocations",
            {"content-type": "application/json"},
            lambda columns, rows: {"dataframe_split": {"columns": list(columns), "data": rows}},
            lambda answer: [row[1] for row in answer["predictions"]],
            started.pid,
        )
        with _ready(target, started, data, log):
            yield target


@contextlib.contextmanager
def _ready(target: Target, started: subprocess.Popen[bytes], data: Path, log: Path) -> Iterator[None]:
    columns, rows = read_rows(data, 1)
    wait_until_answered(target.url, json.dumps(target.body(columns, rows)).encode(), started, log)
    yield


def read_rows(data: Path, count: int) -> tuple[list[str], list[list[Any]]]:
    """Columns and first rows of the census, without the label; numbers as numbers.

    :param data: CSV.
    :param count: how many rows; the file is read again from its start where it has fewer.
    """
    lines = [line.split(",") for line in data.read_text().splitlines()]
    rows = [[int(cell) if cell.strip().isdigit() else cell.strip() for cell in line[:-1]] for line in lines[1:]]
    return [name.strip() for name in lines[0][:-1]], [rows[i % len(rows)] for i in range(count)]
