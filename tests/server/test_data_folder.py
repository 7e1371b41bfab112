"""The data directory: one server or several that share a database, and nothing left of those that were killed."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_provider_azureml_classic.server import folders as data_folder
from airflow_provider_azureml_classic.server.folders import in_use, open_file, read_file, write_private
from airflow_provider_azureml_classic.server.settings import new_secrets, read_token
from airflow_provider_azureml_classic.server.state.database import Database

#: What a server leaves that is killed while it writes its secrets or its address.
LEFT = (".secrets.json.0123", ".connection.json.4567")


def listening(path: Path) -> None:
    """Leave the address of a socket."""
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


#: What is no file: each would be waited for, or has no end.
NO_FILES: dict[str, Callable[[Path], object]] = {
    "FIFO": os.mkfifo,
    "socket": listening,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": Path.mkdir,
}


def leave(folder: Path) -> None:
    """Make such files, and some that belong to somebody else."""
    for name in (*LEFT, "connection.json", ".hidden", "notes.json.old"):
        (folder / name).write_text("{}")


def names(folder: Path) -> set[str]:
    """The files there."""
    return {path.name for path in folder.iterdir()} - {"lock"}


@pytest.mark.parametrize("shared", [False, True])
def test_files_of_a_killed_server_are_removed(tmp_path: Path, shared: bool) -> None:
    """A half-written file holds a token and would stay for ever."""
    leave(tmp_path)
    with in_use(tmp_path, shared=shared):
        assert names(tmp_path) == {"connection.json", ".hidden", "notes.json.old"}


def test_files_of_a_living_server_stay(tmp_path: Path) -> None:
    """What a server that shares the directory is writing now is not taken from it."""
    with in_use(tmp_path, shared=True):
        leave(tmp_path)
        with in_use(tmp_path, shared=True):
            assert set(LEFT) < names(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), [(False, False), (False, True), (True, False)])
def test_a_second_server_is_kept_out(
    tmp_path: Path, first: bool, second: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only servers that both keep their state in a database for several share a directory."""
    monkeypatch.setattr(data_folder, "_SWEEP_SECONDS", 0.1)
    refused = pytest.raises(OSError, match=r"another server uses .* --data-dir")
    with in_use(tmp_path, shared=first), refused, in_use(tmp_path, shared=second):
        pass


@pytest.mark.slow
def test_one_that_shares_waits_for_another_that_tidies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that start at the same moment both start."""
    tidying, go_on = threading.Event(), threading.Event()

    def tidy(folder: Path) -> None:
        tidying.set()
        go_on.wait(20)

    monkeypatch.setattr(data_folder, "_remove_unfinished", tidy)

    def start_first() -> None:
        with in_use(tmp_path, shared=True):
            pass

    first = threading.Thread(target=start_first, daemon=True)
    first.start()
    assert tidying.wait(20)
    threading.Timer(0.2, go_on.set).start()
    with in_use(tmp_path, shared=True):
        assert go_on.is_set()
    first.join()


def test_a_file_is_whole_and_private(tmp_path: Path) -> None:
    """Readable by its owner alone; a second first start leaves it as it is."""
    path = tmp_path / "secrets.json"
    assert write_private(path, "1")
    assert not write_private(path, "2", overwrite=False)
    assert (path.read_text(), path.stat().st_mode & 0o777, names(tmp_path)) == ("1\n", 0o600, {"secrets.json"})


def test_the_read_only_token() -> None:
    """It follows from the secrets, changes with each of them, is set by its variable, and never is the full token."""
    loaded = new_secrets({})
    token = read_token(loaded, {})
    assert token == read_token(loaded, {})
    assert loaded.token not in token
    assert token != read_token(replace(loaded, token="another"), {})
    assert token != read_token(replace(loaded, cipher_key="another"), {})
    assert read_token(loaded, {"AZUREML_CLASSIC_READ_TOKEN": " mine "}) == "mine"
    with pytest.raises(ValueError, match="AZUREML_CLASSIC_READ_TOKEN is the workspace token"):
        read_token(loaded, {"AZUREML_CLASSIC_READ_TOKEN": loaded.token})


@pytest.mark.parametrize("make", NO_FILES.values(), ids=NO_FILES)
def test_what_is_no_file_is_not_opened(tmp_path: Path, make: Callable[[Path], object]) -> None:
    """It is refused at once, with its name, whoever reads it or has it as a lock."""
    make(path := tmp_path / "lock")
    with pytest.raises(IsADirectoryError) as caught:
        open_file(path)
    assert caught.value.filename == str(path)
    with pytest.raises(OSError, match=r"/lock: .* Move it away, then start again"), in_use(tmp_path, shared=False):
        pass
    path.rename(tmp_path / "connection.json")
    with pytest.raises(OSError, match=r"/connection\.json: .* Move it away"), in_use(tmp_path, shared=False):
        pass


@pytest.mark.parametrize("ending", ["", "-wal", "-shm", "-journal"])
@pytest.mark.parametrize("make", NO_FILES.values(), ids=NO_FILES)
def test_a_database_that_is_no_file(tmp_path: Path, ending: str, make: Callable[[Path], object]) -> None:
    """SQLite itself would wait for it without an end."""
    make(tmp_path / f"state.db{ending}")
    with pytest.raises(ConnectionError, match=rf"state\.db cannot be used: .*state\.db{ending}\. Check"):
        Database(f"sqlite:///{tmp_path / 'state.db'}", new_secrets({}).cipher_key)


def test_a_small_file_that_is_large(tmp_path: Path) -> None:
    """Of a file that somebody puts in the place of a small one, no more is read than that may have."""
    (path := tmp_path / "secrets.json").write_bytes(b"12345")
    assert read_file(path, 5) == b"12345"
    with pytest.raises(ValueError, match="more than 4 bytes"):
        read_file(path, 4)
