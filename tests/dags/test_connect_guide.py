"""The connection is made as the guides say, in a real Airflow, and its secrets are nowhere in clear afterwards."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from airflow_provider_azureml_classic.protocol.sas import StorageAccount
from airflow_provider_azureml_classic.server.__main__ import announce
from airflow_provider_azureml_classic.server.settings import Settings
from tests.support import ROOT
from tests.support.leaks import leaks

GUIDES = ("connect.md", "first-retrain.md")
COMMAND = re.compile(r"^\$ (airflow connections (?:add|import)(?:.*\\\n)*.*)$", re.MULTILINE)
TOKEN, KEY = "workspace-token/of+the+guide==", "YWNjb3VudCBrZXkgb2YgdGhlIGd1aWRlIGFuZCBubyBvdGhlcg=="


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A server's data directory, with what it writes when it is ready."""
    folder = tmp_path / "azureml-classic" / "data"
    folder.mkdir(parents=True)
    announce(
        Settings(
            data_dir=folder,
            public_url="http://127.0.0.1:8080",
            workspace_id="workspace",
            token=TOKEN,
            account_key=KEY,
            cipher_key="c",
        )
    )
    return folder


def test_the_guides_make_it_in_one_way() -> None:
    """All of them name the same command."""
    commands = {command for name in GUIDES for command in COMMAND.findall((ROOT / "docs" / name).read_text())}
    assert len(commands) == 1


def test_the_file_is_the_owners(data_dir: Path) -> None:
    """Nobody else reads it, and it has what the other file has."""
    path = data_dir / "airflow_connections.json"
    assert path.stat().st_mode & 0o777 == 0o600
    (connection,) = json.loads(path.read_text()).values()
    other = json.loads(json.loads((data_dir / "connection.json").read_text())["airflow_conn"])
    assert {**connection, "extra": json.loads(connection["extra"])} == other


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_connection_made_as_the_guide_says_leaks_nothing(data_dir: Path, tmp_path: Path) -> None:
    """Not into the audit log, which everybody reads who may see Airflow's events, nor into any file or what is printed;
    the connection itself is encrypted, and has both secrets.
    """
    (command,) = {*COMMAND.findall((ROOT / "docs" / GUIDES[0]).read_text())}
    home, fernet = tmp_path / "airflow", Fernet.generate_key().decode()
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__FERNET_KEY": fernet,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
    }
    script = f"set -e\nairflow db migrate\n{command}\n"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    with closing(sqlite3.connect(home / "airflow.db")) as database:
        events = database.execute("SELECT event, extra FROM log").fetchall()
        password, extra = database.execute("SELECT password, extra FROM connection").fetchone()
    files = {str(path): path.read_bytes() for path in home.rglob("*") if path.is_file()}
    found = {
        name: leaks(content, [TOKEN, KEY]) for name, content in {**files, "out": done.stdout + done.stderr}.items()
    }
    assert {name: what for name, what in found.items() if what} == {}
    assert any("connections" in f"{event} {said}" for event, said in events), events
    assert any("airflow_connections.json" in str(said) for _, said in events), events
    cipher = Fernet(fernet)
    assert cipher.decrypt(password.encode()).decode() == TOKEN
    kept = json.loads(cipher.decrypt(extra.encode()))["storage_connection_string"]
    assert StorageAccount.from_connection_string(kept).key == KEY
