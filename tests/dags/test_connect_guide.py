"""The file that makes the connection; ``tests/test_guides.py`` imports it into a real Airflow."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from airflow_provider_azureml_classic.server.__main__ import announce
from airflow_provider_azureml_classic.server.settings import Settings
from tests.support import ROOT

GUIDES = ("connect.md", "first-retrain.md")
COMMAND = re.compile(r"^\$ (airflow connections (?:add|import)(?:.*\\\n)*.*)$", re.MULTILINE)
TOKEN, KEY = "workspace-token/of+the+guide==", "YWNjb3VudCBrZXkgb2YgdGhlIGd1aWRlIGFuZCBubyBvdGhlcg=="


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A server's data directory, with what it writes when it is ready."""
    folder = tmp_path / "data"
    folder.mkdir()
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
