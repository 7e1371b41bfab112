"""Real server processes: how one starts, says so, stops, is killed, and what is there when it starts again."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.exceptions import NotFound
from airflow_provider_azureml_classic.protocol.jobs import JobRequest, JobStatus
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import EndpointSettings
from airflow_provider_azureml_classic.server import __main__ as server_main
from tests.support import CENSUS, CENSUS_SCORING, DATA_SETS, ServerProcess, wait_for_job
from tests.support.processes import HELD, HELD_ESTIMATOR, command, default_of, group, patch, slope, trained, until
from tests.support.service import SCORING, TRAINING, declaration, line

pytestmark = pytest.mark.slow

Start = Callable[..., ServerProcess]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with declarations and the data directory of a server that was started with them, and stopped."""
    folder = tmp_path_factory.mktemp("prepared")
    declared = declaration(folder, TRAINING)
    declared.write_text(declared.read_text() + HELD)
    (folder / "held_estimator.py").write_text(HELD_ESTIMATOR)
    server = ServerProcess(folder / "data", "--experiments", str(declared))
    assert server.stop() == 0
    (folder / "reached").unlink()
    server.log.unlink()
    return folder


@pytest.fixture
def folder(prepared: Path, tmp_path: Path) -> Path:
    """A copy of what is prepared, to be changed by one test."""
    return Path(shutil.copytree(prepared, tmp_path / "server"))


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Starts a server on the test's folder; whatever is left of it is killed at the end."""
    started: list[ServerProcess] = []

    def begin(*arguments: str, **more: Any) -> ServerProcess:
        declared = str(folder / "experiments.toml")
        started.append(ServerProcess(folder / "data", "--experiments", declared, *arguments, **more))
        return started[-1]

    yield begin
    for server in started:
        server.stop()


# -- starting --------------------------------------------------------------------------------------------------------


def test_a_ready_server_says_where_it_is(start: Start, folder: Path) -> None:
    """One line on standard output, and ``connection.json`` that only its owner may read."""
    server = start()
    assert server.first_line == f"azureml-classic-server is ready at {server.url}\n"
    file = folder / "data" / "connection.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "data" / "secrets.json").stat().st_mode) == 0o600
    assert sorted(server.connection) == ["airflow_conn", "management_url", "read_token", "token", "workspace_id"]
    airflow = json.loads(server.connection["airflow_conn"])
    assert (airflow["conn_type"], airflow["host"]) == ("azureml_classic", server.url)
    assert (airflow["login"], airflow["password"]) == (server.connection["workspace_id"], server.connection["token"])
    assert f"BlobEndpoint={server.url}/mlclassic" in airflow["extra"]["storage_connection_string"]
    with server.client() as client:
        assert {s.name for s in client.list_web_services()} >= {TRAINING, SCORING, CENSUS, CENSUS_SCORING}


def test_the_environment_gives_workspace_and_token(start: Start) -> None:
    """Both are used instead of those kept, and no other token is."""
    token = "a-token-of-my-own"
    server = start(environment={"AZUREML_CLASSIC_WORKSPACE": "f" * 32, "AZUREML_CLASSIC_TOKEN": token})
    assert (server.connection["workspace_id"], server.connection["token"]) == ("f" * 32, token)
    with Client(server.url, "f" * 32, token) as client:
        assert client.list_web_services()


def test_a_second_start_trains_nothing(start: Start) -> None:
    """What is set up stays set up."""
    server = start()
    assert "training the first model" not in server.log.read_text()
    family = group(server.process.pid)
    workers = [process for process, parent in family.items() if parent != server.process.pid and parent in family]
    assert workers == []


def refused(*arguments: str) -> str:
    """Standard error of a server that must not start: exit status 2, one sentence, no traceback."""
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    """Before anything is made or trained."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = refused(tmp_path / "data", "--port", port)
    assert f"cannot listen on 127.0.0.1 port {port}" in said
    assert "--port 0" in said
    assert not (tmp_path / "data").exists()


def test_missing_libraries_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the extra ``server`` it does not start, and says what to install."""
    monkeypatch.setattr(server_main, "_LIBRARIES", ("json", "no_such_library"))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(server_main.os, "umask", lambda _: None)
    assert server_main.main(["--data-dir", str(tmp_path / "data")]) == 2
    said = capsys.readouterr().err
    assert "no_such_library is missing" in said
    assert "[server]" in said


@pytest.mark.parametrize("url", ["ml.example.com", "https://", "https://ml.example.com/?a=b", "ftp://ml.example.com"])
def test_a_public_url_that_no_client_can_use(tmp_path: Path, url: str) -> None:
    """Every URL that the server hands out begins with it, so it is looked at before the start."""
    said = refused(tmp_path / "data", "--port", "0", "--public-url", url)
    assert "--public-url is " in said
    assert "as in https://ml.example.com" in said


def test_declarations_that_are_not_there(tmp_path: Path) -> None:
    """The path, the reason, and what would do: a path that is mistyped, or a file that another user owns."""
    said = refused(tmp_path / "data", "--experiments", str(tmp_path / "none.toml"))
    assert f"{tmp_path / 'none.toml'} cannot be read: No such file or directory. Expected a TOML file" in said


def test_a_data_directory_that_is_a_file(tmp_path: Path) -> None:
    """It is said that --data-dir is at fault, and what is in the way."""
    (tmp_path / "data").touch()
    said = refused(tmp_path / "data", "--port", "0")
    assert f"the data directory {tmp_path / 'data'} cannot be used" in said
    assert "File exists. Choose a folder with --data-dir" in said


def test_a_data_directory_has_one_server(start: Start) -> None:
    """A second server on the same data directory is refused; the first goes on."""
    server = start()
    said = refused(server.data_dir, "--port", "0")
    assert f"another server uses {server.data_dir}" in said
    with server.client() as client:
        assert client.list_web_services()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--port", "70000"), ("70000", "0-65535")),
        (("--host", "no.such.host.invalid"), ("no.such.host.invalid",)),
        (("--experiments", "/nowhere/e.toml"), ("/nowhere/e.toml",)),
        (("--port", "0", "--data-dir", "/dev/null/data"), ("/dev/null/data",)),
    ],
)
def test_an_impossible_argument_is_told(tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    """The argument is named; no traceback."""
    said = refused(tmp_path / "data", *arguments)
    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("label", "lable"), ("'lable'", "label")),
        (('label = "y"', 'label = "z"'), ("'z'", "x, y")),
        (("linear-regressor", "linear-regresor"), ("linear-regresor",)),
        (("[[experiment]]", "[experiment]"), ("[[experiment]]",)),
        (("line.csv", "lines.csv"), ("lines.csv",)),
    ],
)
def test_a_bad_declaration_is_told(tmp_path: Path, change: tuple[str, str], words: tuple[str, ...]) -> None:
    """File and key, before the port is taken."""
    file = declaration(tmp_path, TRAINING)
    file.write_text(file.read_text().replace(*change))
    said = refused(tmp_path / "data", "--port", "0", "--experiments", str(file))
    assert all(word in said for word in (str(file), *words)), said


# -- stopping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_without_a_trace(start: Start, folder: Path, number: signal.Signals) -> None:
    """Exit status 0, also in the middle of a training; no process is left and the port is free. A token that a client
    has taken for the workspace's id is not in the log."""
    server = start()
    token = server.connection["token"]
    with server.client() as client:
        with pytest.raises(NotFound), Client(server.url, token, token) as confused:
            confused.list_web_services()
        trainer = default_of(client, "Held")
        (folder / "hold").touch()
        source = server.upload("data/five.csv", line(5))
        job_id = client.submit_job(trainer, JobRequest({"input1": source}))
        client.start_job(trainer, job_id)
        until("the training has begun", (folder / "reached").exists)
    server.process.send_signal(number)
    assert server.process.wait(20) == 0
    until("all of its processes have ended", lambda: not group(server.process.pid))
    port = int(server.url.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)):
        pass
    log = server.log.read_text()
    assert "Traceback" not in log
    assert "/workspaces/***/webservices" in log
    assert token not in log
    (folder / "hold").unlink()
    again = start()
    with again.client() as client:
        assert wait_for_job(client, default_of(client, "Held"), job_id).status is JobStatus.FINISHED


# -- starting again --------------------------------------------------------------------------------------------------


def test_a_restart_keeps_everything(start: Start) -> None:
    """Endpoints, keys, the patched model and finished jobs; the address may be another one."""
    first = start()
    with first.client() as client:
        mine = client.add_endpoint(client.find_web_service(SCORING).id, "mine", EndpointSettings(description="kept"))
        trainer = default_of(client, TRAINING)
        source = first.upload("data/six.csv", line(6))
        target = first.sas("models/six.ilearner", "cw")
        job_id = client.submit_job(trainer, JobRequest({"input1": source}, {"output1": target}))
        client.start_job(trainer, job_id)
        patch(client, mine, wait_for_job(client, trainer, job_id).results["output1"])
        before = client.get_endpoint(mine.web_service_id, "mine")
    assert first.stop() == 0
    second = start()
    with second.client() as client:
        after = client.get_endpoint(mine.web_service_id, "mine")
        kept = ("name", "description", "primary_key", "secondary_key", "version", "etag", "creation_time")
        assert [getattr(after, name) for name in kept] == [getattr(before, name) for name in kept]
        assert slope(client, after) == 6
        job = client.get_job(default_of(client, TRAINING), job_id)
        assert job.status is JobStatus.FINISHED
        assert client.fetch_blob(job.results["output1"]).startswith(b"PK")
        assert after.resources[0].location.same_place(job.results["output1"])


def test_a_killed_server_leaves_no_process_and_loses_no_job(start: Start, folder: Path) -> None:
    """kill -9 in the middle of a training: its workers end; the job runs again; nothing half-done is added to what is
    removed a minute later.
    """
    first = start()
    (folder / "hold").touch()
    with first.client() as client:
        trainer = default_of(client, "Held")
        source = first.upload("data/five.csv", line(5))
        outputs = {"output1": BlobReference("models/x.ilearner")}
        job_id = client.submit_job(trainer, JobRequest({"input1": source}, outputs))
        waiting = client.submit_job(trainer, JobRequest({"input1": source}))
        client.start_job(trainer, job_id)
        until("the training has begun", (folder / "reached").exists)
        assert client.get_job(trainer, job_id).status is JobStatus.RUNNING
    assert len(group(first.process.pid)) > 1
    first.kill()
    until("its worker processes have ended", lambda: not group(first.process.pid))
    (folder / "data" / "models" / ".half-written").write_bytes(b"PK")
    (folder / "hold").unlink()
    second = start()
    with second.client() as client:
        trainer = default_of(client, "Held")
        job = wait_for_job(client, trainer, job_id)
        assert (job.status, job.details) == (JobStatus.FINISHED, None)
        assert client.get_job(trainer, waiting).status is JobStatus.NOT_STARTED
        mine = client.add_endpoint(client.find_web_service("Held [predictive exp.]").id, "mine")
        patch(client, mine, job.results["output1"], "Held [trained model]")
        assert slope(client, mine) == 5
    assert second.stop() == 0
    left = [path.name for path in (folder / "data").rglob("*") if path.is_file() and path.name.startswith(".")]
    assert left == [".half-written"]


def test_jobs_of_a_killed_server_run_side_by_side_again(start: Start, folder: Path) -> None:
    """Two jobs were running: both are, once the server is there again, though neither can end."""
    first = start("--workers", "2")
    (folder / "hold").touch()
    with first.client() as client:
        trainer = default_of(client, "Held")
        source = first.upload("data/five.csv", line(5))
        ids = [client.submit_job(trainer, JobRequest({"input1": source})) for _ in range(2)]
        for job_id in ids:
            client.start_job(trainer, job_id)
        until("both run", lambda: {client.get_job(trainer, job_id).status for job_id in ids} == {JobStatus.RUNNING})
    first.kill()
    second = start("--workers", "2")
    with second.client() as client:
        trainer = default_of(client, "Held")
        until("both run", lambda: {client.get_job(trainer, job_id).status for job_id in ids} == {JobStatus.RUNNING})
    assert second.stop() == 0


def test_a_killed_worker_costs_no_job(start: Start, folder: Path) -> None:
    """What the system does when memory runs out: the training is begun once more, and the next job runs too."""
    server = start("--workers", "1")
    (folder / "hold").touch()
    with server.client() as client:
        trainer = default_of(client, "Held")
        source = server.upload("data/five.csv", line(5))
        job_id = client.submit_job(trainer, JobRequest({"input1": source}))
        client.start_job(trainer, job_id)
        until("the training has begun", (folder / "reached").exists)
        (folder / "hold").unlink()
        # The workers' parent is the process that they are forked from, not the server itself.
        family = group(server.process.pid)
        workers = [process for process, parent in family.items() if parent != server.process.pid and parent in family]
        assert workers
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        assert wait_for_job(client, trainer, job_id).status is JobStatus.FINISHED
        assert trained(server, client, line(4), "four").extension == ".ilearner"


# -- end to end ------------------------------------------------------------------------------------------------------


def test_five_declared_lines_are_a_service(start: Start, folder: Path) -> None:
    """Declare, train on other data, put the model in place, score."""
    declared, _, _ = (folder / "experiments.toml").read_text().partition("\n\n")
    assert len(declared.splitlines()) == 5
    server = start()
    with server.client() as client:
        mine = client.add_endpoint(client.find_web_service(SCORING).id, "mine")
        assert slope(client, mine) == 2
        patch(client, mine, trained(server, client, line(9), "nine"))
        assert slope(client, mine) == 9
        assert slope(client, default_of(client, SCORING)) == 2


@pytest.mark.parametrize("size", DATA_SETS)
def test_the_census_model_is_as_good_as_it_should_be(start: Start, size: str) -> None:
    """``adult.data`` through a job, ``adult.test`` through the endpoint after its PATCH: area under the curve 0.90."""
    from sklearn.metrics import roc_auc_score

    with (DATA_SETS[size] / "census" / "adult.test").open(newline="") as file:
        names, *rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
    server = start()
    with server.client(timeout=120) as client:
        trainer = default_of(client, CENSUS)
        source = server.upload("data/adult.csv", DATA_SETS[size] / "census" / "adult.data")
        job_id = client.submit_job(trainer, JobRequest({"input1": source}))
        client.start_job(trainer, job_id)
        job = wait_for_job(client, trainer, job_id, timeout=120)
        job.raise_unless_finished()
        mine = client.add_endpoint(client.find_web_service(CENSUS_SCORING).id, "mine")
        patch(client, mine, job.results["output1"], f"{CENSUS} [trained model]")
        probabilities: list[float] = []
        for begin in range(0, len(rows), 4000):
            part = [dict(zip(names[:14], row, strict=False)) for row in rows[begin : begin + 4000]]
            probabilities += map(float, client.score(mine, part).column("Scored Probabilities"))
    truth = [row[14].startswith(">50K") for row in rows]
    people, area = {"sample": (408, 0.85), "whole": (16281, 0.90)}[size]
    assert len(truth) == people
    assert roc_auc_score(truth, probabilities) >= area
