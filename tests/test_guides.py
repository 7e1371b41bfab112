"""The guides, followed word for word: what is a command runs as it stands, or is listed with the reason why not."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from textwrap import dedent

import pytest
import requests
from cryptography.fernet import Fernet

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.protocol.sas import StorageAccount
from tests.support import BIKES_SCORING, CENSUS, ROOT
from tests.support.leaks import leaks
from tests.support.warm import WarmPrograms

DOCUMENTS = {path.name: path for path in [*ROOT.glob("*.md"), *sorted((ROOT / "docs").glob("*.md"))]}
_BLOCK = re.compile(r"^ *```(?:console|bash|sh|shell)\n(.*?)^ *```", re.M | re.S)

#: Pages whose commands run here, in this order, in the folder and the shell of one person.
WALK = (
    "first-retrain.md",
    "connect.md",
    "cli.md",
    "backfill.md",
    "fleet.md",
    "roll-back.md",
    "upgrade.md",
    "deploy.md",
)
#: Blocks that do not, by their first command.
_PIP, _CONTAINERS = "takes packages from a registry; `make matrix` installs all extras", "needs a container engine"
_LONG = "takes minutes; it is run by hand before a release"
NOT_RUN = {
    "README.md": {
        "make demo": _LONG,
        "python3 -m venv": _PIP,
        "pip install": _PIP,
        "make serve": "installs the locked dependencies; every test of a server starts the same program",
    },
    "benchmarks.md": {"make bench": _LONG},
    "connect.md": {"export AIRFLOW_CONN": "has made-up values; tests/test_hooks.py reads this form"},
    "compose.md": {"umask": _CONTAINERS},
    "customers-apart.md": {"AUTH=": "needs customers who are kept apart: tests/server/test_customers.py"},
    "deploy.md": {
        "/usr/bin/python3.11": "needs systemd",
        "podman": _CONTAINERS,
    },
    "first-retrain.md": {
        "python3 -m venv": _PIP,
        "azureml-classic-server quickstart": "runs beside the walk, on a free port",
        "airflow standalone": "does not end; `make standalone` starts it",
    },
    "install.md": {
        "pip install .": _PIP,
        'pip install "apache-airflow': _PIP,
        'pip install ".[server]"': _PIP,
        "make install": "was done before any test ran",
    },
    "leaving.md": {
        "pip install": "see tests/exporting/test_command.py, which exports in each form",
        "azureml-classic export": "see tests/exporting/test_command.py, which exports in each form",
    },
    "move-from-data-factory.md": {"azureml-classic import": "needs pipelines: tests/importing/test_pipelines.py"},
    "move-web-service.md": {"azureml-classic import": "needs API documents: tests/importing/test_swagger.py"},
    "server.md": {
        "azureml-classic-server": "runs beside the walk, on a free port; the synopsis is compared with the program",
        "dask": "is run by tests/server/jobs, on free ports",
    },
    "server-state.md": {"azureml-classic-server": "needs old jobs: tests/server/jobs/test_retention.py"},
    "storage.md": {
        "export AZUREML": "needs an account: tests/server/storage runs it with Azurite",
        "npm": "takes a package from a registry; tests/server/storage starts Azurite with these options",
    },
}


def blocks(name: str) -> list[str]:
    """The blocks of commands on a page, without prompts."""
    text = DOCUMENTS[name].read_text()
    return [re.sub(r"^[$#] ", "", dedent(block), flags=re.M) for block in _BLOCK.findall(text)]


def runs(name: str, block: str) -> bool:
    """Whether a block runs here."""
    return name in WALK and not any(block.startswith(start) for start in NOT_RUN.get(name, ()))


def test_every_block_runs_or_has_a_reason() -> None:
    """No page has commands that nobody tries; reasons are those of blocks that are there."""
    unknown, used = [], set()
    for name in DOCUMENTS:
        for block in blocks(name):
            starts = [start for start in NOT_RUN.get(name, ()) if block.startswith(start)]
            used |= {(name, start) for start in starts}
            if not starts and name not in WALK:
                unknown.append((name, block.partition("\n")[0]))
    assert unknown == []
    listed = {(name, start) for name, starts in NOT_RUN.items() for start in starts}
    assert listed - used == set()
    assert [name for name in WALK if not any(runs(name, block) for block in blocks(name))] == []


@contextmanager
def quickstart(folder: Path) -> Iterator[str]:
    """A quickstart in this folder; what it prints."""
    command = [sys.executable, "-m", "airflow_provider_azureml_classic.server", "quickstart", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C"):
                break
        try:
            yield "".join(lines)
        finally:
            process.send_signal(signal.SIGINT)


class Person:
    """Somebody at a shell, in one folder.

    :param folder: where the quickstart is.
    :param bin: the programs.
    :param environment: of the shell.
    """

    def __init__(self, folder: Path, bin: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, {**environment, "HOME": str(folder)}
        self.environment["PATH"] = os.pathsep.join([str(bin), str(Path(sys.executable).parent), os.environ["PATH"]])
        self.printed = ""

    def types(self, where: str, commands: str, stdin: str = "") -> str:
        """Commands, all of which must succeed.

        :param where: said when one does not.
        :param commands: for bash.
        :param stdin: what is typed besides.
        :return: what is printed.
        """
        # What is exported holds for the next page, too.
        script = f"set -eo pipefail\n{commands}\nenv -0 > environment"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, f"{where}:\n{commands}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        pairs = (self.folder / "environment").read_text().split("\0")
        self.environment = dict(pair.split("=", 1) for pair in pairs if pair)
        self.printed += done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_pages_are_right_word_for_word(tmp_path: Path) -> None:
    """From what a quickstart prints over the pages that go on with it: each command succeeds as it stands, in a real
    Airflow with connections in its database; of the secrets nothing is left in clear in it or on the screen.
    """
    home, fernet = tmp_path / "airflow", Fernet.generate_key().decode()
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "AZUREML"))}
    environment = {**clean, "AIRFLOW_HOME": str(home), "AIRFLOW__CORE__FERNET_KEY": fernet,
                   "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "AIRFLOW__OPENLINEAGE__DISABLED": "True"}  # fmt: skip
    folder = tmp_path / "person"
    folder.mkdir()
    with quickstart(folder) as printed, WarmPrograms(tmp_path / "warm", environment) as warm:
        person = Person(folder, warm.bin, environment)
        # The environment of these tests is the one that the person has made.
        activate = folder / ".venv" / "bin" / "activate"
        activate.parent.mkdir(parents=True)
        activate.touch()
        link = re.search(r"http\S+/sign-in/\S+", printed)
        assert link
        first, second = requests.get(link[0], timeout=60), requests.get(link[0], timeout=60)
        assert (first.status_code, CENSUS in first.text) == (200, True)
        assert (second.status_code, "was used before" in second.text) == (401, True)
        steps = re.findall(r"^  ((?:export|azureml-classic|airflow) .*)", printed, re.M)
        assert len(steps) == 7
        assert "Proved by content" in person.types("quickstart", "\n".join(steps[:3]))
        data = folder / "azureml-classic" / "data"
        secrets = json.loads((data / "connection.json").read_text())
        connection = json.loads((data / "airflow_connections.json").read_text())["azureml_classic_default"]
        for name in WALK:
            follow(person, name, secrets)
        account = StorageAccount.from_connection_string(json.loads(connection["extra"])["storage_connection_string"])
    assert "Connection success!" in person.printed
    assert "3 endpoints: 3 updated." in person.printed
    assert "Wave 1: 1 of 3 endpoints." in person.printed
    assert person.printed.count("running trigger in line") == 2
    hidden = [secrets["token"], account.key]
    files = {str(path): path.read_bytes() for path in home.rglob("*") if path.is_file()}
    found = {name: leaks(content, hidden) for name, content in {**files, "out": person.printed.encode()}.items()}
    assert {name: what for name, what in found.items() if what} == {}
    check_database(home, fernet, hidden)


def follow(person: Person, name: str, secrets: dict[str, str]) -> None:
    """The commands of a page, with the ids and addresses of this server in the place of those in the text."""
    text = "\n".join(block for block in blocks(name) if runs(name, block))
    with Client(secrets["management_url"], secrets["workspace_id"], secrets["token"]) as client:
        if name == "backfill.md":
            # What the scheduler does within a minute.
            person.types(name, "airflow dags reserialize")
        elif name == "roll-back.md":
            put_two_models_live(person)
            _, before, *_ = client.list_models(client.find_web_service(BIKES_SCORING).id, "bikes").models
            # The first goes back to the model before; then forth by the window, and back by the digest.
            text = text.replace("2026-01-15", "2026-01-16").replace("3f6a1c0b9d72", before.digests.file[:12])
        elif name == "upgrade.md":
            text = text.replace("/var/lib/azureml-classic", "azureml-classic/data", 1)
            text = text.replace("/var/lib/azureml-classic", "restored").replace("/backup", str(person.folder))
        elif name == "deploy.md":
            text = text.replace("/var/lib/azureml-classic", "azureml-classic/data").rstrip() + " > variables"
        elif name == "cli.md":
            text = text.replace(
                "http://127.0.0.1:8090 WORKSPACE", f"{secrets['management_url']} {secrets['workspace_id']}"
            )
            person.environment.pop("AZUREML_CLASSIC_CONNECTION", None)
            before, submit, after = text.partition("azureml-classic jobs list")
            person.types(name, before, secrets["token"])
            trainer = client.get_endpoint(client.find_web_service(CENSUS).id, "default")
            text = (submit + after).replace("JOB", client.list_jobs(trainer).jobs[0].id)
    person.types(name, text)


def put_two_models_live(person: Person) -> None:
    """What the page on rolling back begins with: an endpoint that had two models."""
    days = sorted((person.folder / "azureml-classic" / "bike-rental").iterdir())[:2]
    train = 'azureml-classic train "Bike Rental" bikes {} --put-live --data-check off --window-end {}'
    ends = ("2026-01-15", "2026-01-16")
    lines = [f'azureml-classic endpoints add "{BIKES_SCORING}" bikes --if-exists keep']
    person.types(
        "before rolling back", "\n".join(lines + [train.format(*pair) for pair in zip(days, ends, strict=True)])
    )


def check_database(home: Path, fernet: str, hidden: list[str]) -> None:
    """Each customer's update is an event of an asset; the connection has both secrets, encrypted, and the audit log
    tells that it was made.
    """
    with closing(sqlite3.connect(home / "airflow.db")) as database:
        query = "SELECT extra FROM asset_event WHERE source_dag_id = 'fleet_retrain'"
        updates = [json.loads(extra) for (extra,) in database.execute(query)]
        events = [f"{event} {extra}" for event, extra in database.execute("SELECT event, extra FROM log")]
        password, extra = database.execute("SELECT password, extra FROM connection").fetchone()
    assert sorted(update["endpoint"] for update in updates) == ["contoso", "fabrikam", "northwind"]
    assert {update["proof"] for update in updates} == {"content"}
    assert any("connections" in event and "airflow_connections.json" in event for event in events)
    cipher = Fernet(fernet)
    kept = json.loads(cipher.decrypt(extra.encode()))["storage_connection_string"]
    assert [cipher.decrypt(password.encode()).decode(), StorageAccount.from_connection_string(kept).key] == hidden
