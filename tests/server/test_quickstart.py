"""How a server starts: ``quickstart``, a configuration file, JSON logs, own experiments only."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from pathlib import Path

import pytest

from airflow_provider_azureml_classic.server import __main__ as server
from airflow_provider_azureml_classic.server import quickstart

PROGRAM = [sys.executable, "-m", "airflow_provider_azureml_classic.server"]


@pytest.mark.slow
def test_quickstart_leaves_other_files_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that somebody uses for something else stays as it is; so does a file."""
    (tmp_path / "mine.txt").touch()
    for folder, wanted in ((tmp_path, "has files in it"), (tmp_path / "mine.txt", "is a file")):
        assert server.main(["quickstart", str(folder)]) == server.USAGE
        assert wanted in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["mine.txt"]
    quickstart.prepare(tmp_path / "new")
    quickstart.prepare(tmp_path / "new")


def test_what_can_be_done_is_told_first(capsys: pytest.CaptureFixture[str]) -> None:
    """Who types the name alone is led to quickstart; of a misspelt command the nearest is named."""
    with pytest.raises(SystemExit):
        server.main([])
    assert capsys.readouterr().err.startswith("usage: azureml-classic-server quickstart [FOLDER] ")
    assert server.main(["quickstrat"]) == server.USAGE
    assert "there is no command 'quickstrat'. Did you mean 'quickstart'?" in capsys.readouterr().err


def options(tmp_path: Path, text: str, *more: str) -> server.argparse.Namespace:
    """The options of a configuration file and a command line."""
    file = tmp_path / "server.toml"
    file.write_text(text)
    return server.parsed(["--config", str(file), *more])


def test_a_configuration_file(tmp_path: Path) -> None:
    """It holds the options by their names; the command line counts where both are there, and adds to lists."""
    text = 'data-dir = "/x"\nport = 9000\nallow-host = ["a", "b"]\naccess-log = true\nno-samples = false\nworkers = 3'
    parsed = options(tmp_path, text, "--port", "1", "--allow-host", "c")
    assert (str(parsed.data_dir), parsed.port, parsed.allow_host) == ("/x", 1, ["a", "b", "c"])
    assert (parsed.access_log, parsed.no_samples, parsed.workers) == (True, False, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot = 1", "'prot' is no option of the server. Did you mean 'port'?"),
        ("config = 'x'", "'config' is no option"),
        ("access-log = 'yes'", "access-log is 'yes'; it must be true or false"),
        ("database = ['postgresql://u:s3cret@h/d']", "database must be a text or a number."),
        ("allow-host = [true]", "allow-host must be a text, a number, or a list of them"),
        ("port = ", "is not TOML"),
    ],
)
def test_a_configuration_file_with_a_mistake(tmp_path: Path, text: str, message: str) -> None:
    """The message names the file and the option, and shows no value that may be a secret."""
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        options(tmp_path, text)
    assert "server.toml" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_checking_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``--check-config`` tells what would be served, or what is wrong, and makes no data directory."""
    file = tmp_path / "server.toml"
    file.write_text(f'data-dir = "{tmp_path}/data"')
    assert server.main(["--config", str(file), "--check-config"]) == 0
    assert server.main(["check", str(file)]) == 0
    assert capsys.readouterr().out.count("2 experiments: Census Model, Bike Rental") == 2
    assert server.main(["--config", str(file), "--check-config", "--no-samples"]) == server.USAGE
    assert "nothing to serve" in capsys.readouterr().err
    assert server.main(["--config", str(file), "--check-config", "--public-url", "x"]) == server.USAGE
    assert server.main(["--config", str(tmp_path / "none.toml")]) == server.USAGE
    assert "cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_a_log_of_json() -> None:
    """One line a record, whatever is in it."""
    try:
        raise ValueError("two\nlines")
    except ValueError:
        record = logging.LogRecord("a.b", logging.ERROR, "x.py", 1, "it %s\n", ("failed",), sys.exc_info())
    line = server.JsonFormatter().format(record)
    assert "\n" not in line
    data = json.loads(line)
    assert (data["level"], data["logger"], data["message"]) == ("ERROR", "a.b", "it failed\n")
    assert "ValueError: two" in data["exception"]
    assert data["time"].endswith("+00:00")
